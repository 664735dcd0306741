"""Layers that bring values to a common size: [batchnorm], [normalization], [l2norm]."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lookonce.darknet.cfg import Section
from lookonce.layers.layer import Layer
from lookonce.layers.ops import Ops, T
from lookonce.layers.shape import Parameter, Shape, batch_norm_parameters

EPSILON = 1e-5                       # inside the root: Darknet on the GPU, the fork, every framework
OUTER_EPSILON = 1e-6                 # outside the root: Darknet on the CPU


@dataclass(frozen=True)
class BatchNorm(Layer):
    """[batchnorm]: batch norm on its own. Redmon's file keeps no bias for it, the fork's does."""

    section = "batchnorm"
    biased: bool

    @classmethod
    def from_cfg(cls, section: Section, index: int) -> BatchNorm:
        return cls(biased=section.fork)

    def parameters(self, source: Shape) -> list[Parameter]:
        bias = [Parameter("biases", (source.channels,))] if self.biased else []
        return bias + batch_norm_parameters(source.channels)

    def forward(self, ops: Ops[T], x: T, weights: Mapping[str, T]) -> T:
        biases = weights["biases"] if self.biased else ops.constant(np.zeros(x.shape[1], np.float32))
        return ops.batch_norm(x, weights["scales"], biases, weights["mean"], weights["variance"])


@dataclass(frozen=True)
class LocalResponse(Layer):
    """[normalization]: x N^-beta, N a sum of squares over neighbouring channels.

    Darknet's running sum (normalization_layer.c) takes the window from (size-1)/2 channels below to size/2 above and
    forgets to add channel size/2 at the start: it is missing from every N. That is reproduced.
    """

    section = "normalization"
    size: int
    alpha: float
    beta: float
    kappa: float

    @classmethod
    def from_cfg(cls, section: Section, index: int) -> LocalResponse:
        return cls(
            size=section.integer("size", default=5, least=1, most=1 << 10),
            alpha=section.number("alpha", default=1e-4, least=0),
            beta=section.number("beta", default=0.75),
            kappa=section.number("kappa", default=1.0, least=1e-6),
        )

    def shape(self, source: Shape) -> Shape:
        if self.size // 2 >= source.channels:
            raise ValueError(f"its window of {self.size} is wider than its {source.channels} input channels")
        return source

    def forward(self, ops: Ops[T], x: T, weights: Mapping[str, T]) -> T:
        channels = x.shape[1]
        below, above = (self.size - 1) // 2, self.size // 2
        square = x * x
        padded = ops.pad_axis(square, 1, below, above)                        # (B, C+size-1, H, W)
        total = ops.slice(padded, 1, 0, channels)
        for shift in range(1, self.size):
            total = total + ops.slice(padded, 1, shift, shift + channels)
        total = total - ops.slice(square, 1, above, above + 1)                # the forgotten channel
        # Where a window does not reach the forgotten channel the sum is negative, by at most alpha x².
        norm = total * self.alpha + self.kappa
        return x * ops.exp(ops.log(norm) * -self.beta)


@dataclass(frozen=True)
class L2Norm(Layer):
    """[l2norm]: each pixel's channels divided by their length."""

    section = "l2norm"

    @classmethod
    def from_cfg(cls, section: Section, index: int) -> L2Norm:
        return cls()

    def forward(self, ops: Ops[T], x: T, weights: Mapping[str, T]) -> T:
        length = ops.sum(x * x, 1)                                            # (B, 1, H, W)
        return x * ops.exp(ops.log(ops.clip(length, 1e-20, 1e38)) * -0.5)
