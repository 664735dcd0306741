"""Layers that only move and join values of one source: [reorg], [reorg3d], [upsample]."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lookonce.darknet.cfg import Section
from lookonce.layers.layer import Layer
from lookonce.layers.ops import Ops, T
from lookonce.layers.shape import Shape

LARGEST_FACTOR = 64


@dataclass(frozen=True)
class Reorg(Layer):
    """[reorg]: fold each s x s patch into channels, in the order that the published weights need.

    Darknet reads its (C, H, W) buffer as (C/s², H·s, W·s) before it folds (blas.c, reorg_cpu), so this is not a plain
    space-to-depth; the fork's [reorg3d] is one. `reverse` unfolds. `extra` instead flattens the picture and appends
    that many zeros; `flatten` turns channels-first into channels-last, or back with `reverse`.
    """

    section = "reorg"
    stride: int
    reverse: bool
    flatten: bool
    extra: int

    @classmethod
    def from_cfg(cls, section: Section, index: int) -> Reorg:
        layer = cls(
            stride=section.integer("stride", default=1, least=1, most=LARGEST_FACTOR),
            reverse=section.flag("reverse"),
            flatten=section.flag("flatten"),
            extra=section.integer("extra", default=0, least=0, most=1 << 20),
        )
        if layer.flatten and layer.stride > 1:
            section.refuse("flatten", "stands beside stride=, and would declare another shape than it makes")
        return layer

    def shape(self, source: Shape) -> Shape:
        (c, h, w), s = source, self.stride
        if self.extra:
            return Shape(source.size + self.extra, 1, 1)
        if self.flatten:
            return source
        if c % s**2:
            raise ValueError(f"folds by {s}, which needs channels in multiples of {s**2}; its input has {c}")
        if self.reverse:
            return Shape(c // s**2, h * s, w * s)
        if h % s or w % s:
            raise ValueError(f"folds by {s}, which must divide the {w} x {h} of its input")
        return Shape(c * s**2, h // s, w // s)

    def forward(self, ops: Ops[T], x: T, weights: Mapping[str, T]) -> T:
        s, (_, c, h, w) = self.stride, x.shape
        target = self.shape(Shape(c, h, w))
        if self.extra:
            flat = ops.reshape(x, (-1, c * h * w, 1, 1))
            return ops.pad_axis(flat, 1, 0, self.extra)
        if self.flatten:
            planes = ops.reshape(x, (-1, h * w, c) if self.reverse else (-1, c, h * w))
            return ops.reshape(ops.permute_dims(planes, (0, 2, 1)), (-1, c, h, w))
        if self.reverse:
            x = ops.reshape(x, (-1, s, s, c // s**2, h, w))           # (B, dy, dx, C', H, W)
            x = ops.permute_dims(x, (0, 3, 4, 1, 5, 2))               # (B, C', H, dy, W, dx)
        else:
            x = ops.reshape(x, (-1, c // s**2, h, s, w, s))           # (B, C', H, dy, W, dx)
            x = ops.permute_dims(x, (0, 3, 5, 1, 2, 4))               # (B, dy, dx, C', H, W)
        return ops.reshape(x, (-1, *target))


@dataclass(frozen=True)
class Reorg3d(Layer):
    """[reorg3d] of the fork: space-to-depth, channel (dy·s + dx)·C + c."""

    section = "reorg3d"
    stride: int

    @classmethod
    def from_cfg(cls, section: Section, index: int) -> Reorg3d:
        section.unsupported("reverse")
        return cls(section.integer("stride", default=1, least=1, most=LARGEST_FACTOR))

    def shape(self, source: Shape) -> Shape:
        (c, h, w), s = source, self.stride
        if h % s or w % s:
            raise ValueError(f"folds by {s}, which must divide the {w} x {h} of its input")
        return Shape(c * s**2, h // s, w // s)

    def forward(self, ops: Ops[T], x: T, weights: Mapping[str, T]) -> T:
        s, (_, c, h, w) = self.stride, x.shape
        x = ops.reshape(x, (-1, c, h // s, s, w // s, s))             # (B, C, H', dy, W', dx)
        x = ops.permute_dims(x, (0, 3, 5, 1, 2, 4))                   # (B, dy, dx, C, H', W')
        return ops.reshape(x, (-1, c * s**2, h // s, w // s))


@dataclass(frozen=True)
class Upsample(Layer):
    """[upsample]: every pixel `stride` times a side, times `scale`; a negative stride sums blocks instead."""

    section = "upsample"
    stride: int
    scale: float

    @classmethod
    def from_cfg(cls, section: Section, index: int) -> Upsample:
        stride = section.integer("stride", default=2, least=-LARGEST_FACTOR, most=LARGEST_FACTOR)
        if stride == 0:
            section.refuse("stride", "must not be 0; wanted the factor, or minus the factor to shrink")
        return cls(stride, section.number("scale", default=1.0))

    def shape(self, source: Shape) -> Shape:
        (c, h, w), s = source, self.stride
        if s > 0:
            return Shape(c, h * s, w * s)
        if h % -s or w % -s:
            raise ValueError(f"shrinks by {-s}, which must divide the {w} x {h} of its input")
        return Shape(c, h // -s, w // -s)

    def forward(self, ops: Ops[T], x: T, weights: Mapping[str, T]) -> T:
        s, (_, c, h, w) = self.stride, x.shape
        if s > 0:
            x = ops.upsample(x, s)
        else:
            x = ops.reshape(x, (-1, c, h // -s, -s, w // -s, -s))
            x = ops.reshape(ops.sum(ops.sum(x, 3), 5), (-1, c, h // -s, w // -s))
        return x if self.scale == 1 else x * self.scale
