"""Weights and inputs of few bits (thesis 4.3): what a section says of them, and what weights become.

`binary=1` is Darknet's Binary-Weight-Network: each filter W becomes alpha B, B = sign(W), alpha = mean |W| (eq. 4.6).
`xnor=1` is its XNOR-Network: the input I becomes sign(I) too. Everywhere sign(0) = -1, as in Darknet's CPU code; the
thesis has +1. Files and learning keep the real W.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

from lookonce.arrays import namespace
from lookonce.darknet.cfg import Section
from lookonce.layers.shape import Parameter

Array = Any

ALPHAS = ("mean", "none", "learned")
GRADIENTS = ("darknet", "thesis", "printed", "allenai")
MOST_BITS = 8
OPTIONS = ("alpha", "weight_bits", "input_bits", "input_scale", "gradient", "binary_gradient", "zero_mean")


@dataclass(frozen=True)
class Bits:
    """The options of a layer with `binary=1` or `xnor=1`, by default Darknet's; Darknet itself has none of them.

    `alpha` is what the signs of a filter are multiplied by: the `mean` magnitude of its weights; `none`, that is 1, as
    in BinaryConnect and BinaryNet; or `learned`, a number a filter in an array of its own, last in the file.
    `weights` and `inputs` are bits: with more than one q_k takes the place of the sign. `input_scale` multiplies the
    outputs by K, the mean magnitude of what each window sees (eq. 4.11). `gradient` says how signs learn (nn.binary);
    with `binary_gradient` what flows back to the input is made of sign(g) max|g|. `zero_mean` takes from the real
    weights, after each update, their mean over the input channels, as allenai's XNOR-Net does.
    """

    alpha: str = "mean"
    weights: int = 1
    inputs: int = 1
    input_scale: bool = False
    gradient: str = "darknet"
    binary_gradient: bool = False
    zero_mean: bool = False

    @classmethod
    def from_cfg(cls, section: Section, *, binary: bool, xnor: bool) -> Bits:
        """What a section with these two flags says. Raises CfgError for options that do not go with them."""
        if binary and xnor:
            section.refuse("xnor", "stands beside binary=1; wanted one of the two (xnor=1 binarizes the weights too)")
        for key in OPTIONS:
            if section.has(key) and not (binary or xnor):
                section.refuse(key, "stands without binary=1 or xnor=1, whose option it is")
        for key in ("input_bits", "input_scale"):
            if section.has(key) and not xnor:
                section.refuse(key, "stands beside binary=1, whose inputs are real; wanted xnor=1")
        found = cls(
            alpha=section.word("alpha", default="mean", among=ALPHAS),
            weights=section.integer("weight_bits", default=1, least=1, most=MOST_BITS),
            inputs=section.integer("input_bits", default=1, least=1, most=MOST_BITS),
            input_scale=section.flag("input_scale"),
            gradient=section.word("gradient", default="darknet", among=GRADIENTS),
            binary_gradient=section.flag("binary_gradient"),
            zero_mean=section.flag("zero_mean"),
        )
        if found.input_scale and found.inputs > 1:
            section.refuse("input_scale", f"stands beside input_bits={found.inputs}; K is the scale of signs alone")
        return found

    def parameters(self, filters: int, fan_in: int) -> list[Parameter]:
        """The array of learned alphas. It starts at the mean magnitude that random weights have."""
        start = math.sqrt(2 / fan_in) * math.sqrt(2 / math.pi)
        return [Parameter("alpha", (filters,), start=start)] if self.alpha == "learned" else []

    def check(self, channels: int) -> None:
        """Raise ValueError, in words, if `channels` input channels are too few."""
        if self.zero_mean and channels == 1:
            raise ValueError("has zero_mean=1 and weights for one input channel, which would all be 0")


class Coded(NamedTuple):
    """Weights (O, ...) as `alpha` times `codes`, which are -1 to 1: q_k of the weights divided by `reach`.

    `alpha` and `reach` have one value a filter, or are 1.
    """

    codes: Array
    alpha: Array | float
    reach: Array | float


def quantize(x: Array, bits: int) -> Array:
    """q_k of the thesis: the nearest of 2^k even steps from -1 to 1, between two the lower; with one bit the sign.

    q_k(x) = 2 ([(2^k - 1)(x + 1)/2] / (2^k - 1) - 1/2), of an array of any shape; what lies outside -1 to 1 is taken
    for that.
    """
    xp = namespace(x)
    if bits == 1:
        return xp.astype(x > 0, x.dtype) * 2 - 1
    steps = 2**bits - 1
    place = (xp.clip(x, -1.0, 1.0) + 1.0) * (steps / 2)
    return xp.floor(place * -1.0 + 0.5) * (-2 / steps) - 1.0


def encode(weights: Array, bits: Bits, learned: Array | None = None) -> Coded:
    """Weights (O, ...) in few bits; `learned` are the alphas (O,) of `alpha=learned`.

    alpha = (W . B) / (B . B), which is nearest to W (eq. 4.5), and for one bit mean |W|. More bits need to know how far
    weights reach: as far as the largest of a filter; with `alpha=none` to 1, and larger ones count as 1.
    """
    xp = namespace(weights)
    axes = tuple(range(1, weights.ndim))
    reach: Array | float = 1.0
    if bits.weights > 1 and bits.alpha != "none":
        most = xp.max(xp.abs(weights), axis=axes, keepdims=True)
        reach = most + xp.astype(most == 0, most.dtype)
    codes = quantize(weights / reach, bits.weights)
    if learned is not None:
        return Coded(codes, xp.reshape(learned, (-1, *[1] * len(axes))), reach)
    if bits.alpha == "none":
        return Coded(codes, 1.0, reach)
    if bits.weights == 1:
        return Coded(codes, xp.mean(xp.abs(weights), axis=axes, keepdims=True), reach)
    product, square = (xp.sum(value, axis=axes, keepdims=True) for value in (weights * codes, codes * codes))
    return Coded(codes, product / square, reach)
