"""Batch norm's numbers, and Darknet's own version of it (batchnorm_layer.c, blas.c).

By default batch norm is torch's: 1e-5 inside the root, the batch normalized by its biased variance. Darknet's CPU code
adds 1e-6 outside the root, normalizes by the unbiased variance, and goes back by formulas of its own: 1e-5 inside the
root, and sums divided by the count as if the variance were the biased one. Both keep rolling statistics, a hundredth
of each new batch, its variance unbiased.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lookonce.layers.normalization import EPSILON, OUTER_EPSILON

if TYPE_CHECKING:
    from lookonce.nn.ops import Statistics

MOMENTUM = 0.01  # the share of the newest batch in the rolling statistics


def roll(statistics: Sequence[Statistics]) -> None:
    """Take what batch norms saw into their rolling statistics, in the order in which they saw it."""
    for turn in _turns(statistics):
        rolling = [tensor for each in turn for tensor in (each.rolling_mean, each.rolling_variance)]
        seen = [tensor for each in turn for tensor in (each.mean, each.variance)]
        with torch.no_grad():
            torch._foreach_mul_(rolling, 1 - MOMENTUM)
            torch._foreach_add_(rolling, seen, alpha=MOMENTUM)


def _turns(statistics: Sequence[Statistics]) -> list[list[Statistics]]:
    """The same in their order, cut before each batch norm that has been in a part already."""
    turns: list[list[Statistics]] = []
    known: set[int] = set()
    for each in statistics:
        if not turns or id(each.rolling_mean) in known:
            turns.append([])
            known.clear()
        turns[-1].append(each)
        known.add(id(each.rolling_mean))
    return turns


def darknet_batch_norm(x: Tensor, scales: Tensor, biases: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """(x - mean) / (sqrt(variance) + 1e-6) * scale + bias; x (B, C, H, W), the others (C,)."""
    factor = scales / (variance.sqrt() + OUTER_EPSILON)
    return (x - _planes(mean)) * _planes(factor) + _planes(biases)


class DarknetBatchNorm(torch.autograd.Function):
    """Darknet's batch norm while it learns: (output, mean, unbiased variance) of x (B, C, H, W), scales and biases."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, scales: Tensor, biases: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean = x.mean(dim=(0, 2, 3))
        variance = (x - _planes(mean)).square().sum(dim=(0, 2, 3)) / (x.numel() // x.shape[1] - 1)
        normal = (x - _planes(mean)) / _planes(variance.sqrt() + OUTER_EPSILON)
        ctx.save_for_backward(x, normal, scales, mean, variance)
        ctx.mark_non_differentiable(mean, variance)
        return normal * _planes(scales) + _planes(biases), mean, variance

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        gradient = gradients[0]
        x, normal, scales, mean, variance = ctx.saved_tensors
        count = x.numel() // x.shape[1]
        inner = gradient * _planes(scales)  # of the normalized x
        root = (variance + EPSILON).sqrt()
        of_mean = -inner.sum(dim=(0, 2, 3)) / root
        away = x - _planes(mean)
        of_variance = -0.5 * (inner * away).sum(dim=(0, 2, 3)) / root**3
        of_x = inner / _planes(root) + away * _planes(of_variance * 2 / count) + _planes(of_mean / count)
        return of_x, (gradient * normal).sum(dim=(0, 2, 3)), gradient.sum(dim=(0, 2, 3))


def _planes(channels: Tensor) -> Tensor:
    """(C,) as (1, C, 1, 1)."""
    return channels.reshape(1, -1, 1, 1)
