"""Layers that multiply by weights: [convolutional], [connected] and [local]."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from lookonce.darknet.cfg import Section
from lookonce.layers.activation import activate, activation_of
from lookonce.layers.binary import Bits
from lookonce.layers.layer import LARGEST_WINDOW, Junction, Layer
from lookonce.layers.ops import Ops, Pair, T
from lookonce.layers.shape import Parameter, Shape, batch_norm_parameters

LARGEST_LOCAL_WINDOW = 32           # it takes an operation a pixel; YOLO version 1 has 3


@dataclass(frozen=True)
class Convolution(Layer):
    """[convolutional]: convolution (a cross-correlation, zero padding), batch norm or bias, activation.

    `padding` is in pixels a side, for a dilation of 1. `binary` and `xnor` mark weights of single bits times their
    mean, `xnor` inputs of single bits too (thesis 4.3), as `bits` has it: the weights reach `forward` already
    binarized. What is padded stays 0, as in Darknet, and neither -1 nor 1.
    """

    section = "convolutional"
    filters: int
    size: int
    stride: Pair                        # (vertical, horizontal)
    padding: int
    dilation: int
    groups: int
    batch_normalize: bool
    activation: str
    binary: bool = False
    xnor: bool = False
    bits: Bits = field(default_factory=Bits)

    @classmethod
    def from_cfg(cls, section: Section, index: int) -> Convolution:
        size = section.integer("size", default=1, least=1, most=LARGEST_WINDOW)
        stride = section.integer("stride", default=1, least=1)
        pad, padding = section.flag("pad"), section.integer("padding", default=0, least=0, most=LARGEST_WINDOW)
        section.unsupported("flipped", "antialiasing", "coordconv", "bin_output")
        if section.has("share_index"):
            section.refuse("share_index", "is not supported: the layer would need the weights of another")
        section.know("dot", "cbn", "sway", "rotate", "stretch", "stretch_sway", "angle", "grad_centr", "reverse",
                     "assisted_excitation", "stream", "wait_stream")  # fmt: skip
        binary, xnor = section.flag("binary"), section.flag("xnor")
        layer = cls(
            filters=section.integer("filters", default=1, least=1),
            size=size,
            stride=(section.integer("stride_y", stride, least=1), section.integer("stride_x", stride, least=1)),
            padding=size // 2 if pad else padding,
            dilation=section.integer("dilation", default=1, least=1, most=LARGEST_WINDOW) if size > 1 else 1,
            groups=section.integer("groups", default=1, least=1),
            batch_normalize=section.flag("batch_normalize"),
            # Nobody means Darknet's default of logistic, but files rely on what is written, so it holds.
            activation=activation_of(section, default="logistic"),
            binary=binary,
            xnor=xnor,
            bits=Bits.from_cfg(section, binary=binary, xnor=xnor),
        )
        section.know("dilation")
        if layer.filters % layer.groups:
            section.refuse("groups", f"does not divide the {layer.filters} filters")
        return layer

    def shape(self, source: Shape) -> Shape:
        if source.channels % self.groups:
            raise ValueError(f"groups={self.groups} does not divide its {source.channels} input channels")
        self.bits.check(source.channels // self.groups)
        window = self.dilation * (self.size - 1) + 1
        space = 2 * self.padding * self.dilation - window
        height, width = (source.height + space) // self.stride[0] + 1, (source.width + space) // self.stride[1] + 1
        if height < 1 or width < 1:
            raise ValueError(f"its window of {window} does not fit into {source} with padding {self.padding}")
        return Shape(self.filters, height, width)

    def parameters(self, source: Shape) -> list[Parameter]:
        kernel = (self.filters, source.channels // self.groups, self.size, self.size)
        return [
            Parameter("biases", (self.filters,)),
            *(batch_norm_parameters(self.filters) if self.batch_normalize else []),
            Parameter("weights", kernel, fan_in=kernel[1] * self.size**2),
            *self.bits.parameters(self.filters, kernel[1] * self.size**2),
        ]

    def operations(self, source: Shape) -> int:
        target = self.shape(source)
        return 2 * target.size * (source.channels // self.groups) * self.size**2

    def forward(self, ops: Ops[T], x: T, weights: Mapping[str, T]) -> T:
        scale = self._input_scale(ops, x) if self.bits.input_scale else None
        if self.xnor:
            x = ops.quantize(x, self.bits.inputs, self.bits.gradient)
        bias = None if self.batch_normalize or scale is not None else weights["biases"]
        pad = self.padding * self.dilation
        x = ops.conv(
            x, weights["weights"], bias, self.stride, (pad, pad), self.dilation, self.groups,
            self.bits.binary_gradient,
        )  # fmt: skip
        if scale is not None:
            x = self._scaled(ops, x, scale)
            if not self.batch_normalize:
                x = x + ops.reshape(weights["biases"], (1, self.filters, 1, 1))
        if self.batch_normalize:
            x = ops.batch_norm(x, weights["scales"], weights["biases"], weights["mean"], weights["variance"])
        return activate(ops, x, self.activation)

    def _input_scale(self, ops: Ops[T], x: T) -> T:
        """K = A * k (B, groups, H', W'): the mean magnitude of all that a window sees of its group, 0 outside.

        A is the mean over the channels, each element of k one over their number (thesis 4.3.2).
        """
        _, channels, height, width = x.shape
        each, pad = channels // self.groups, self.padding * self.dilation
        a = ops.sum(ops.reshape(_magnitude(ops, x), (-1, self.groups, each, height, width)), 2)
        a = ops.reshape(a, (-1, self.groups, height, width)) * (1 / (each * self.size**2))
        k = ops.constant(np.ones((self.groups, 1, self.size, self.size), np.float32))
        return ops.conv(a, k, None, self.stride, (pad, pad), self.dilation, self.groups)

    def _scaled(self, ops: Ops[T], x: T, scale: T) -> T:
        """What the filters of each group put out, times its K."""
        _, filters, height, width = x.shape
        if self.groups in (1, filters):
            return x * scale
        parts = ops.reshape(x, (-1, self.groups, filters // self.groups, height, width))
        parts = parts * ops.reshape(scale, (-1, self.groups, 1, height, width))
        return ops.reshape(parts, (-1, filters, height, width))


@dataclass(frozen=True)
class Connected(Layer):
    """[connected]: a matrix times the flattened picture (channels, rows, columns), batch norm or bias, activation.

    Its weights and inputs may be of single bits as those of Convolution; Darknet has that for convolutions alone.
    """

    section = "connected"
    output: int
    batch_normalize: bool
    activation: str
    binary: bool = False
    xnor: bool = False
    bits: Bits = field(default_factory=Bits)

    @classmethod
    def from_cfg(cls, section: Section, index: int) -> Connected:
        binary, xnor = section.flag("binary"), section.flag("xnor")
        return cls(
            output=section.integer("output", default=1, least=1),
            batch_normalize=section.flag("batch_normalize"),
            activation=activation_of(section, default="logistic"),
            binary=binary,
            xnor=xnor,
            bits=Bits.from_cfg(section, binary=binary, xnor=xnor),
        )

    def shape(self, source: Shape) -> Shape:
        self.bits.check(source.size)
        return Shape(self.output, 1, 1)

    def parameters(self, source: Shape) -> list[Parameter]:
        return [
            Parameter("biases", (self.output,)),
            Parameter("weights", (self.output, source.size), fan_in=source.size, matrix=True),
            *(batch_norm_parameters(self.output) if self.batch_normalize else []),
            *self.bits.parameters(self.output, source.size),
        ]

    def operations(self, source: Shape) -> int:
        return 2 * source.size * self.output

    def forward(self, ops: Ops[T], x: T, weights: Mapping[str, T]) -> T:
        _, c, h, w = x.shape
        x = ops.reshape(x, (-1, c * h * w))
        scale = ops.sum(_magnitude(ops, x), 1) * (1 / (c * h * w)) if self.bits.input_scale else None    # (B, 1)
        if self.xnor:
            x = ops.quantize(x, self.bits.inputs, self.bits.gradient)
        bias = None if self.batch_normalize or scale is not None else weights["biases"]
        x = ops.linear(x, weights["weights"], bias, self.bits.binary_gradient)                       # (B, O)
        if scale is not None:
            x = x * scale if self.batch_normalize else x * scale + weights["biases"]
        x = ops.reshape(x, (-1, self.output, 1, 1))
        if self.batch_normalize:
            x = ops.batch_norm(x, weights["scales"], weights["biases"], weights["mean"], weights["variance"])
        return activate(ops, x, self.activation)


@dataclass(frozen=True)
class Local(Layer):
    """[local]: a convolution whose weights differ at every position.

    Darknet's `pad` is both a switch and a number of pixels (local_layer.c): with pad=1 the output is as large as if
    the window were one pixel, while one pixel is padded. Only size 3 means what it says. For other sizes Darknet mixes
    positions up; here they are windows that begin `pad` pixels outside, and what lies beyond the end is 0.
    """

    section = "local"
    filters: int
    size: int
    stride: int
    pad: int
    activation: str

    @classmethod
    def from_cfg(cls, section: Section, index: int) -> Local:
        return cls(
            filters=section.integer("filters", default=1, least=1),
            size=section.integer("size", default=1, least=1, most=LARGEST_LOCAL_WINDOW),
            stride=section.integer("stride", default=1, least=1),
            pad=section.integer("pad", default=0, least=0, most=LARGEST_WINDOW),
            activation=activation_of(section, default="logistic"),
        )

    def shape(self, source: Shape) -> Shape:
        window = 1 if self.pad else self.size
        height, width = (source.height - window) // self.stride + 1, (source.width - window) // self.stride + 1
        if height < 1 or width < 1:
            raise ValueError(f"its window of {self.size} does not fit into {source}")
        return Shape(self.filters, height, width)

    def parameters(self, source: Shape) -> list[Parameter]:
        n, h, w = self.shape(source)
        patch = source.channels * self.size**2
        kernel = (h * w, n, source.channels, self.size, self.size)
        return [Parameter("biases", (n, h, w)), Parameter("weights", kernel, fan_in=patch)]

    def operations(self, source: Shape) -> int:
        """Counted as a convolution of the same shape; Darknet's own count leaves these layers out."""
        return 2 * self.shape(source).size * source.channels * self.size**2

    def forward(self, ops: Ops[T], x: T, weights: Mapping[str, T]) -> T:
        _, c, h, w = x.shape
        n, rows, columns = self.shape(Shape(c, h, w))
        s, k, places = self.stride, self.size, rows * columns
        reach = [(out - 1) * s + k - self.pad - length for out, length in ((rows, h), (columns, w))]
        x = ops.pad(x, self.pad, self.pad, max(0, reach[0]), max(0, reach[1]))
        taps = []
        for dy in range(k):
            strip = ops.slice(x, 2, dy, dy + (rows - 1) * s + 1, s)
            for dx in range(k):
                tap = ops.slice(strip, 3, dx, dx + (columns - 1) * s + 1, s)              # (B, C, R, S)
                taps.append(ops.reshape(tap, (-1, c, 1, places)))
        patches = ops.concat(taps, 2)                                                     # (B, C, k², L)
        patches = ops.reshape(patches, (-1, c * k * k, places))                           # (B, Ck², L)
        patches = ops.permute_dims(patches, (2, 1, 0))                                    # (L, Ck², B)
        kernel = ops.reshape(weights["weights"], (places, n, c * k * k))                  # (L, N, Ck²)
        x = ops.permute_dims(ops.matmul(kernel, patches), (2, 1, 0))                      # (B, N, L)
        x = ops.reshape(x, (-1, n, rows, columns))
        return activate(ops, x + weights["biases"], self.activation)


def bits_of(layer: Layer | Junction, *, compat: bool = False) -> Bits | None:
    """How few bits a layer's weights have, None for real ones. With `compat` as Darknet's CPU: not of `binary=1`."""
    if isinstance(layer, Convolution | Connected) and (layer.xnor or (layer.binary and not compat)):
        return layer.bits
    return None


def _magnitude(ops: Ops[T], x: T) -> T:
    """|x|."""
    return ops.maximum(x, x * -1.0)
