"""How weights and inputs of few bits learn (thesis 4.3): what the sign hands back.

Forward, a filter W is W~ = alpha q(W) and an input I is q(I), q being the sign or q_k (layers.binary). Backward, for
the `gradient` of the cfg, with the n weights of a filter and the s input channels that it sees:

    darknet   dC/dW_i = dC/dW~_i                                dC/dI = dC/dq 1(|I| < 1)
    thesis    dC/dW_i = dC/dW~_i (1/n + alpha 1(|W_i| <= 1))    dC/dI = dC/dq 1(|I| <= 1)
    printed   as thesis, with r 1(|r| <= 1) in place of 1(|r| <= 1)
    allenai   dC/dW_i = dC/dW~_i (1/n + alpha 1(|W_i| < 1)) (1 - 1/s) n     dC/dI as darknet

`darknet` is what its GPU code does (convolutional_kernels.cu); its CPU code goes back through the real weights.
`printed` is the sign's gradient as the thesis has it in print. It says that it follows BinaryNet, which has no r, and r
turns the gradient of what is negative round: `thesis` is what is meant. The derivative is taken at W_i, not at W~_i.
allenai's (1 - 1/s) belongs to its `zero_mean=1`, and its n is that of its SGD; Adam does not feel it.
1/n is what alpha = mean |W| adds, and is left out for other alphas. With q_k of weights divided by their reach m,
alpha 1(|W_i| <= 1) becomes (alpha / m) 1(|W_i / m| <= 1), and dC/dI is the same. K, where it is asked for, is
differentiated as it stands, beside the sign.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor

from lookonce.layers.binary import Bits, encode, quantize
from lookonce.layers.convolution import bits_of
from lookonce.layers.ops import Pair
from lookonce.network import Node


def slope(x: Tensor, gradient: str) -> Tensor:
    """What the sign lets back at each `x`: 1 near 0, nothing where |x| is more than 1; `printed` x itself near 0."""
    size = x.detach().abs()
    near = (size < 1 if gradient in ("darknet", "allenai") else size <= 1).to(x.dtype)
    return x * near if gradient == "printed" else near


def few_levels(x: Tensor, bits: int, gradient: str) -> Tensor:
    """q_k(x), with one bit sign(x), of any shape; backward dC/dx = dC/dq slope(x)."""
    found: Tensor = _FewLevels.apply(x, bits, gradient)  # type: ignore[no-untyped-call]
    return found


def few_bits(weights: Tensor, bits: Bits, learned: Tensor | None = None) -> Tensor:
    """W~ = alpha q(W) of weights (O, ...); `learned` are the alphas (O,) of `alpha=learned`, with dC/da = sum dC/dW~ q.

    Backward by the formulas above.
    """
    found: Tensor = _FewBits.apply(weights, learned, bits)  # type: ignore[no-untyped-call]
    return found


def in_few_bits(node: Node, arrays: Mapping[str, Tensor], compat: bool) -> Mapping[str, Tensor]:
    """A layer's arrays as its forward takes them; with `compat` as Darknet's CPU code, which ignores `binary=1`."""
    bits = bits_of(node.layer, compat=compat)
    if bits is None:
        return arrays
    return {**arrays, "weights": few_bits(arrays["weights"], bits, arrays.get("alpha"))}


def one_bit(gradient: Tensor) -> Tensor:
    """g~ = sign(g) max|g|, the largest of each picture; what is exactly 0, as beside a maximum, stays 0."""
    most = gradient.abs().amax(dim=tuple(range(1, gradient.ndim)), keepdim=True)
    return gradient.sign() * most


def convolve(
    x: Tensor, weights: Tensor, bias: Tensor | None, stride: Pair, padding: Pair, dilation: int, groups: int
) -> Tensor:
    """A convolution through which only g~ flows back to `x`; weights and biases learn from g itself."""
    found: Tensor = _Convolve.apply(x, weights, bias, stride, padding, dilation, groups)  # type: ignore[no-untyped-call]
    return found


def linear(x: Tensor, weights: Tensor, bias: Tensor | None) -> Tensor:
    """x (B, I) times weights (O, I), of which only g~ flows back to `x`."""
    found: Tensor = _Linear.apply(x, weights, bias)  # type: ignore[no-untyped-call]
    return found


class _FewLevels(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, bits: int, gradient: str) -> Tensor:
        ctx.save_for_backward(x)
        ctx.gradient = gradient
        levels: Tensor = quantize(x, bits)
        return levels

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (x,) = ctx.saved_tensors
        return gradients[0] * slope(x, ctx.gradient), None, None


class _FewBits(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, weights: Tensor, learned: Tensor | None, bits: Bits) -> Tensor:
        ctx.save_for_backward(weights, learned)
        ctx.bits = bits
        coded = encode(weights, bits, learned)
        return coded.codes * coded.alpha  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor | None, None]:
        (gradient,) = gradients
        weights, learned = ctx.saved_tensors
        bits: Bits = ctx.bits
        coded = encode(weights, bits, learned)
        of_learned = None
        if learned is not None:
            of_learned = (gradient * coded.codes).sum(dim=tuple(range(1, weights.ndim)))
        if bits.gradient == "darknet":
            return gradient, of_learned, None
        factor = slope(weights / coded.reach, bits.gradient) * (coded.alpha / coded.reach)
        count = weights[0].numel()
        if bits.alpha == "mean":
            factor = factor + 1 / count
        if bits.gradient == "allenai":
            factor = factor * (count * (1 - 1 / weights.shape[1]))
        return gradient * factor, of_learned, None


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weights: Tensor, bias: Tensor | None, stride: Pair, padding: Pair, dilation: int,
        groups: int,
    ) -> Tensor:  # fmt: skip
        ctx.save_for_backward(x, weights)
        ctx.shape = stride, padding, (dilation, dilation), False, (0, 0), groups
        return F.conv2d(x, weights, bias, stride, padding, dilation, groups)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        x, weights = (tensor.to(gradient.dtype) for tensor in ctx.saved_tensors)
        back = torch.ops.aten.convolution_backward
        of_x = of_weights = of_bias = None
        if ctx.needs_input_grad[0]:
            of_x, _, _ = back(one_bit(gradient), x, weights, None, *ctx.shape, (True, False, False))
        if ctx.needs_input_grad[1]:
            _, of_weights, _ = back(gradient, x, weights, None, *ctx.shape, (False, True, False))
        if ctx.needs_input_grad[2]:
            of_bias = gradient.sum(dim=(0, 2, 3))
        return *_as_saved(ctx, of_x, of_weights), of_bias, None, None, None, None


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weights: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weights)
        return F.linear(x, weights, bias)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        x, weights = (tensor.to(gradient.dtype) for tensor in ctx.saved_tensors)
        of_bias = gradient.sum(dim=0) if ctx.needs_input_grad[2] else None
        return *_as_saved(ctx, one_bit(gradient) @ weights, gradient.T @ x), of_bias


def _as_saved(ctx: Any, *gradients: Tensor | None) -> tuple[Tensor | None, ...]:
    """Gradients in the precision of what they are of: under autocast that of outputs is lower."""
    pairs = zip(gradients, ctx.saved_tensors, strict=True)
    return tuple(None if gradient is None else gradient.to(saved.dtype) for gradient, saved in pairs)
