"""Layers that look through a window without weights: [maxpool] and [avgpool]."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lookonce.darknet.cfg import Section
from lookonce.layers.layer import LARGEST_WINDOW, Layer
from lookonce.layers.ops import Ops, Pair, T
from lookonce.layers.shape import Shape


@dataclass(frozen=True)
class MaxPool(Layer):
    """[maxpool]: `padding` is the sum of both sides, the smaller half first; what lies outside never wins.

    Darknet's default padding of size - 1 makes 2/2 round up, 2/1 keep the size by one pixel at the right and bottom,
    and the odd sizes of a pyramid (5, 9, 13 at stride 1) keep it by symmetric padding (maxpool_layer.c).
    """

    section = "maxpool"
    size: int
    stride: Pair                        # (vertical, horizontal)
    padding: int

    @classmethod
    def from_cfg(cls, section: Section, index: int) -> MaxPool:
        stride = section.integer("stride", default=1, least=1)
        size = section.integer("size", default=stride, least=1, most=LARGEST_WINDOW)
        padding = section.integer("padding", default=size - 1, least=0)
        if padding > 2 * (size - 1):
            section.refuse("padding", f"leaves windows of {size} that see no pixel; wanted at most {2 * (size - 1)}")
        section.unsupported("maxpool_depth", "antialiasing", "maxpool_zero_nonmax")
        section.know("out_channels")
        pair = section.integer("stride_y", stride, least=1), section.integer("stride_x", stride, least=1)
        return cls(size, pair, padding)

    def shape(self, source: Shape) -> Shape:
        height = (source.height + self.padding - self.size) // self.stride[0] + 1
        width = (source.width + self.padding - self.size) // self.stride[1] + 1
        if height < 1 or width < 1:
            raise ValueError(f"its window of {self.size} does not fit into {source} with padding {self.padding}")
        return Shape(source.channels, height, width)

    def forward(self, ops: Ops[T], x: T, weights: Mapping[str, T]) -> T:
        before = self.padding // 2
        after = self.padding - before
        return ops.max_pool(x, self.size, self.stride, before, (after, after))


@dataclass(frozen=True)
class AveragePool(Layer):
    """[avgpool]: the mean over the whole plane."""

    section = "avgpool"

    @classmethod
    def from_cfg(cls, section: Section, index: int) -> AveragePool:
        return cls()

    def shape(self, source: Shape) -> Shape:
        return Shape(source.channels, 1, 1)

    def forward(self, ops: Ops[T], x: T, weights: Mapping[str, T]) -> T:
        return ops.mean_pool(x)
