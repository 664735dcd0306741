"""Layers that join several sources: [route], [shortcut], [scale_channels], [sam]."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from lookonce.darknet.cfg import Section
from lookonce.layers.activation import activate, activation_of
from lookonce.layers.layer import Junction, source_layers
from lookonce.layers.ops import Ops, T
from lookonce.layers.shape import Parameter, Shape


@dataclass(frozen=True)
class Route(Junction):
    """[route]: its sources one after the other along the channels; of each, with `groups`, only one slice."""

    section = "route"
    layers: tuple[int, ...]
    groups: int
    group_id: int

    @classmethod
    def from_cfg(cls, section: Section, index: int) -> Route:
        section.know("stream", "wait_stream")
        groups = section.integer("groups", default=1, least=1)
        layers = source_layers(section, "layers", index)
        return cls(layers, groups, section.integer("group_id", default=0, least=0, most=groups - 1))

    def sources(self, index: int) -> tuple[int, ...]:
        return self.layers

    def shape(self, sources: Sequence[Shape]) -> Shape:
        first = sources[0]
        for layer, source in zip(self.layers, sources, strict=True):
            if source[1:] != first[1:]:
                raise ValueError(
                    f"joins layer {self.layers[0]} of {first} with layer {layer} of {source}; "
                    "wanted one width and height"
                )
            if source.channels % self.groups:
                raise ValueError(f"groups={self.groups} does not divide layer {layer}'s {source.channels} channels")
        return Shape(sum(source.channels // self.groups for source in sources), first.height, first.width)

    def forward(self, ops: Ops[T], xs: Sequence[T], weights: Mapping[str, T]) -> T:
        if self.groups > 1:
            xs = [self._slice(ops, x) for x in xs]
        return xs[0] if len(xs) == 1 else ops.concat(xs, 1)

    def _slice(self, ops: Ops[T], x: T) -> T:
        share = x.shape[1] // self.groups
        return ops.slice(x, 1, self.group_id * share, (self.group_id + 1) * share)


def _ratio(here: int, there: int) -> tuple[int, int]:
    """How Darknet steps through two sizes: every n-th of the other's pixels, added at every m-th of this one's."""
    return max(1, there // here), max(1, here // there)


@dataclass(frozen=True)
class Shortcut(Junction):
    """[shortcut]: the layer before plus others, then an activation.

    Shapes need not match (blas.c, shortcut_cpu): only the channels that both have are added; of a larger layer every
    n-th pixel is taken, a smaller one is added at every n-th pixel. Darknet's ResNets rely on it in place of
    projections. `alpha` scales the layer before, `beta` the others, where they meet.

    The fork allows several sources and weights them, each as a whole or by channel, optionally normalized.
    """

    section = "shortcut"
    layers: tuple[int, ...]
    activation: str
    alpha: float
    beta: float
    weights_type: str
    weights_normalization: str

    @classmethod
    def from_cfg(cls, section: Section, index: int) -> Shortcut:
        weights_type = section.word("weights_type", "none", ("none", "per_feature", "per_layer", "per_channel"))
        normalization = section.word("weights_normalization", "none", ("none", "relu", "avg_relu", "softmax"))
        layers = source_layers(section, "from", index)
        return cls(
            layers=layers,
            activation=activation_of(section, default="linear"),
            alpha=section.number("alpha", default=1.0),
            beta=section.number("beta", default=1.0),
            weights_type="per_feature" if weights_type == "per_layer" else weights_type,
            weights_normalization="relu" if normalization == "avg_relu" else normalization,
        )

    def sources(self, index: int) -> tuple[int, ...]:
        return (index - 1, *self.layers)

    def shape(self, sources: Sequence[Shape]) -> Shape:
        here = sources[0]
        for layer, there in zip(self.layers, sources[1:], strict=True):
            if _ratio(here.height, there.height) != _ratio(here.width, there.width):
                raise ValueError(f"adds layer {layer} of {there} to {here}; wanted one ratio of widths and heights")
            if self.weights_type != "none" and there[1:] != here[1:]:
                raise ValueError(f"weights layer {layer} of {there} beside {here}; wanted one width and height")
        return here

    def parameters(self, sources: Sequence[Shape]) -> list[Parameter]:
        if self.weights_type == "none":
            return []
        each = sources[0].channels if self.weights_type == "per_channel" else 1
        return [Parameter("weights", (len(sources), each), start=1.0)]

    def forward(self, ops: Ops[T], xs: Sequence[T], weights: Mapping[str, T]) -> T:
        here = Shape(*xs[0].shape[1:])
        total = xs[0]
        if self.weights_type != "none":
            share = self._shares(ops, weights["weights"])
            total = total * self._row(ops, share, 0)
        elif self.alpha != 1:
            total = total * ops.constant(self._alpha(here, Shape(*xs[1].shape[1:])))
        for number, x in enumerate(xs[1:], start=1):
            met = self._fit(ops, x, here)
            if self.weights_type != "none":
                met = met * self._row(ops, share, number)
            elif self.beta != 1:
                met = met * self.beta
            total = total + met
        return activate(ops, total, self.activation)

    @staticmethod
    def _fit(ops: Ops[T], x: T, here: Shape) -> T:
        """`x` as it is added to a layer of shape `here`: thinned or spread, cut or filled up with zeros."""
        channels = x.shape[1]
        if channels > here.channels:
            x = ops.slice(x, 1, 0, here.channels)
        for axis, length in ((2, here.height), (3, here.width)):
            there = x.shape[axis]
            thin, spread = _ratio(length, there)
            if there > length:
                x = ops.slice(x, axis, 0, (length - 1) * thin + 1, thin)
            elif there < length:
                split = [*x.shape[:axis], there, 1, *x.shape[axis + 1 :]]
                x = ops.pad_axis(ops.reshape(x, [-1, *split[1:]]), axis + 1, 0, spread - 1)
                joined = [*split[:axis], there * spread, *split[axis + 2 :]]
                x = ops.pad_axis(ops.reshape(x, [-1, *joined[1:]]), axis, 0, length - there * spread)
        return ops.pad_axis(x, 1, 0, here.channels - channels) if channels < here.channels else x

    def _alpha(self, here: Shape, there: Shape) -> np.ndarray:
        """Alpha where the two layers meet, 1 elsewhere."""
        scale = np.ones((1, *here), np.float32)
        rows, columns = (
            slice(0, min(a, b) * _ratio(a, b)[1], _ratio(a, b)[1])
            for a, b in ((here.height, there.height), (here.width, there.width))
        )
        scale[:, : there.channels, rows, columns] = self.alpha
        return scale

    def _shares(self, ops: Ops[T], weights: T) -> T:
        """The fork's weights, (sources, 1 or C), normalized over the sources.

        Its "relu" leaves at least .001 (network.c, lrelu), and the sum is a little larger than it is.
        """
        if self.weights_normalization == "none":
            return weights
        if self.weights_normalization == "relu":
            share = ops.clip(weights, 1e-3, 1e38)
        else:
            rows = [ops.slice(weights, 0, row, row + 1) for row in range(weights.shape[0])]
            share = ops.exp(weights - reduce(ops.maximum, rows))
        return share / (ops.sum(share, 0) + 1e-4)

    @staticmethod
    def _row(ops: Ops[T], share: T, number: int) -> T:
        each = share.shape[1]
        return ops.reshape(ops.slice(share, 0, number, number + 1), (1, each, 1, 1))


@dataclass(frozen=True)
class ScaleChannels(Junction):
    """[scale_channels] of the fork: layer `layer` times the layer before, which has one value a channel.

    With `scale_wh` the layer before has one value a pixel instead.
    """

    section = "scale_channels"
    layer: int
    scale_wh: bool
    activation: str

    @classmethod
    def from_cfg(cls, section: Section, index: int) -> ScaleChannels:
        return cls(
            layer=source_layers(section, "from", index, most=1)[0],
            scale_wh=section.flag("scale_wh"),
            activation=activation_of(section, default="linear"),
        )

    def sources(self, index: int) -> tuple[int, ...]:
        return (index - 1, self.layer)

    def shape(self, sources: Sequence[Shape]) -> Shape:
        scale, scaled = sources
        wanted = Shape(1, *scaled[1:]) if self.scale_wh else Shape(scaled.channels, 1, 1)
        if scale != wanted:
            raise ValueError(f"scales layer {self.layer} of {scaled} by {scale}; wanted {wanted}")
        return scaled

    def forward(self, ops: Ops[T], xs: Sequence[T], weights: Mapping[str, T]) -> T:
        return activate(ops, xs[1] * xs[0], self.activation)


@dataclass(frozen=True)
class Sam(Junction):
    """[sam] of the fork, spatial attention: the layer before times layer `layer`, element by element."""

    section = "sam"
    layer: int
    activation: str

    @classmethod
    def from_cfg(cls, section: Section, index: int) -> Sam:
        (layer,) = source_layers(section, "from", index, most=1)
        return cls(layer, activation_of(section, default="linear"))

    def sources(self, index: int) -> tuple[int, ...]:
        return (index - 1, self.layer)

    def shape(self, sources: Sequence[Shape]) -> Shape:
        if sources[0] != sources[1]:
            raise ValueError(f"multiplies {sources[0]} with layer {self.layer} of {sources[1]}; wanted one shape")
        return sources[0]

    def forward(self, ops: Ops[T], xs: Sequence[T], weights: Mapping[str, T]) -> T:
        return activate(ops, xs[0] * xs[1], self.activation)
