"""The primitives of layers.ops as torch functions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor

from lookonce.layers.normalization import EPSILON
from lookonce.layers.ops import Pair
from lookonce.nn import binary
from lookonce.nn.batchnorm import DarknetBatchNorm, darknet_batch_norm


class Statistics(NamedTuple):
    """What one batch norm saw of one mini-batch: its rolling mean and variance (C,), and the batch's own."""

    rolling_mean: Tensor
    rolling_variance: Tensor
    mean: Tensor
    variance: Tensor  # unbiased: divided by one less than the count


class TorchOps:
    """Every method computes at once. With `learning` batch norm goes by its batch, whose statistics it notes.

    With `compat` batch norm is that of Darknet's CPU code (nn.batchnorm), which makes no gradient of single bits. `new`
    is what a convolution or batch norm of this layer has just made; whoever runs the layers forgets it before the next.
    Constants are made on `device`, those with a point of `dtype`.
    """

    def __init__(self, *, learning: bool = False, compat: bool = False) -> None:
        self.learning = learning
        self.compat = compat
        self.device = torch.device("cpu")
        self.dtype = torch.float32
        self.statistics: list[Statistics] = []
        self.new: Tensor | None = None

    # ------------------------------------------------------------------ linear
    def conv(
        self,
        x: Tensor,
        weights: Tensor,
        bias: Tensor | None,
        stride: Pair,
        padding: Pair,
        dilation: int = 1,
        groups: int = 1,
        binary_gradient: bool = False,
    ) -> Tensor:
        if binary_gradient and not self.compat:
            self.new = binary.convolve(x, weights, bias, stride, padding, dilation, groups)
        else:
            self.new = F.conv2d(x, weights, bias, stride, padding, dilation, groups)
        return self.new

    def linear(self, x: Tensor, weights: Tensor, bias: Tensor | None, binary_gradient: bool = False) -> Tensor:
        if binary_gradient and not self.compat:
            return binary.linear(x, weights, bias)
        return F.linear(x, weights, bias)

    def matmul(self, a: Tensor, b: Tensor) -> Tensor:
        return a @ b

    def batch_norm(self, x: Tensor, scales: Tensor, biases: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        if not self.learning:
            if self.compat:
                return darknet_batch_norm(x, scales, biases, mean, variance)
            self.new = F.batch_norm(x, mean, variance, scales, biases, training=False, eps=EPSILON)
            return self.new
        own_mean, own_variance = torch.zeros_like(mean), torch.ones_like(variance)
        if self.compat:
            x, found_mean, found_variance = DarknetBatchNorm.apply(x, scales, biases)  # type: ignore[no-untyped-call]
            own_mean, own_variance = found_mean.detach(), found_variance.detach()
        else:
            # A momentum of 1 makes torch write the batch's own statistics.
            x = F.batch_norm(x, own_mean, own_variance, scales, biases, training=True, momentum=1.0, eps=EPSILON)
            self.new = x
        self.statistics.append(Statistics(mean, variance, own_mean, own_variance))
        return x

    # ------------------------------------------------------------------ windows and planes
    def max_pool(self, x: Tensor, size: int, stride: Pair, before: int, after: Pair) -> Tensor:
        # Padding that no window reaches costs a copy: of an even length the last window of 2/2 ends at the edge.
        used = [_reached(x.shape[2 + i] + before, size, stride[i], after[i]) for i in (0, 1)]
        if used == [before, before] and before <= size // 2:
            return F.max_pool2d(x, size, stride, before)
        return F.max_pool2d(self.pad(x, before, before, used[0], used[1], float("-inf")), size, stride)

    def mean_pool(self, x: Tensor) -> Tensor:
        return x.mean(dim=(2, 3), keepdim=True)

    def upsample(self, x: Tensor, factor: int) -> Tensor:
        return F.interpolate(x, scale_factor=factor, mode="nearest")

    def pad(self, x: Tensor, top: int, left: int, bottom: int, right: int, value: float = 0.0) -> Tensor:
        return F.pad(x, (left, right, top, bottom), value=value) if any((top, left, bottom, right)) else x

    # ------------------------------------------------------------------ axes
    def reshape(self, x: Tensor, shape: Sequence[int]) -> Tensor:
        return x.reshape(tuple(shape))

    def permute_dims(self, x: Tensor, axes: Sequence[int]) -> Tensor:
        return x.permute(tuple(axes))

    def concat(self, xs: Sequence[Tensor], axis: int) -> Tensor:
        return torch.cat(tuple(xs), axis) if len(xs) > 1 else xs[0]

    def slice(self, x: Tensor, axis: int, start: int, stop: int, step: int = 1) -> Tensor:
        return x[(slice(None),) * axis + (slice(start, stop, step),)]

    def take(self, x: Tensor, indices: np.ndarray, axis: int) -> Tensor:
        flat = torch.from_numpy(indices.reshape(-1).astype(np.int64)).to(x.device)
        return x.index_select(axis, flat).reshape(*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])

    def pad_axis(self, x: Tensor, axis: int, before: int, after: int, value: float = 0.0) -> Tensor:
        sides = [0, 0] * (x.ndim - 1 - axis) + [before, after]
        return F.pad(x, sides, value=value) if before or after else x

    # ------------------------------------------------------------------ elements
    def constant(self, value: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(np.ascontiguousarray(value))
        return tensor.to(self.device, self.dtype if tensor.is_floating_point() else tensor.dtype)

    def exp(self, x: Tensor) -> Tensor:
        return x.exp()

    def log(self, x: Tensor) -> Tensor:
        return x.log()

    def floor(self, x: Tensor) -> Tensor:
        return x.floor()

    def tanh(self, x: Tensor) -> Tensor:
        return x.tanh()

    def sigmoid(self, x: Tensor) -> Tensor:
        return x.sigmoid()

    def softplus(self, x: Tensor) -> Tensor:
        return F.softplus(x)

    def relu(self, x: Tensor) -> Tensor:
        return x.relu()

    def leaky_relu(self, x: Tensor, slope: float) -> Tensor:
        # Nobody else has seen what is new, no activation reads it twice, and what made it does not on the way back:
        # it may be overwritten, and a layer keeps two arrays for the way back where it would keep three.
        return F.leaky_relu(x, slope, inplace=x is self.new)

    def elu(self, x: Tensor) -> Tensor:
        return F.elu(x)

    def clip(self, x: Tensor, least: float, most: float) -> Tensor:
        return x.clamp(least, most)

    def maximum(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.maximum(x, y)

    def minimum(self, x: Tensor, y: Tensor) -> Tensor:
        return torch.minimum(x, y)

    def quantize(self, x: Tensor, bits: int = 1, gradient: str = "darknet") -> Tensor:
        return binary.few_levels(x, bits, gradient)

    def softmax(self, x: Tensor, axis: int) -> Tensor:
        return x.softmax(axis)

    def sum(self, x: Tensor, axis: int) -> Tensor:
        return x.sum(axis, keepdim=True)


def _reached(length: int, size: int, stride: int, after: int) -> int:
    """How far windows reach beyond the end of an axis that has `after` cells of padding there."""
    windows = (length + after - size) // stride
    return max(0, windows * stride + size - length)
