"""Layers that mostly matter in training ([dropout], [cost]), and [crop], which prepares the picture."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lookonce.darknet.cfg import Section
from lookonce.layers.layer import Layer
from lookonce.layers.ops import Ops, T
from lookonce.layers.shape import Shape

COSTS = ("sse", "masked", "smooth", "L1", "seg", "wgan")


@dataclass(frozen=True)
class Dropout(Layer):
    """[dropout]: zeroes with `probability` and scales the rest while learning; otherwise nothing.

    The fork drops with .2 where the cfg says nothing, the original with .5.
    """

    section = "dropout"
    probability: float

    @classmethod
    def from_cfg(cls, section: Section, index: int) -> Dropout:
        section.know("dropblock", "dropblock_size_rel", "dropblock_size_abs")
        return cls(section.number("probability", default=0.2 if section.fork else 0.5, least=0, most=0.999999))


@dataclass(frozen=True)
class Cost(Layer):
    """[cost]: the loss of the layer before it while learning; otherwise nothing. `type` as in cost_layer.c."""

    section = "cost"
    type: str
    scale: float
    ratio: float
    noobj: float
    thresh: float

    @classmethod
    def from_cfg(cls, section: Section, index: int) -> Cost:
        return cls(
            type=section.word("type", default="sse", among=COSTS),
            scale=section.number("scale", default=1.0),
            ratio=section.number("ratio", default=0.0),
            noobj=section.number("noobj", default=1.0),
            thresh=section.number("thresh", default=0.0),
        )


@dataclass(frozen=True)
class Crop(Layer):
    """[crop]: the middle of the picture, and unless `noadjust` its values from [0, 1] to [-1, 1] (crop_layer.c).

    While learning the place is random, with a flip. Darknet's GPU code also turns pictures and changes their colours.
    """

    section = "crop"
    height: int
    width: int
    noadjust: bool
    flip: bool
    angle: float
    saturation: float
    exposure: float
    shift: float

    @classmethod
    def from_cfg(cls, section: Section, index: int) -> Crop:
        return cls(
            height=section.integer("crop_height", default=1, least=1),
            width=section.integer("crop_width", default=1, least=1),
            noadjust=section.flag("noadjust"),
            flip=section.flag("flip"),
            angle=section.number("angle", default=0.0),
            saturation=section.number("saturation", default=1.0),
            exposure=section.number("exposure", default=1.0),
            shift=section.number("shift", default=0.0),
        )

    def shape(self, source: Shape) -> Shape:
        if self.height > source.height or self.width > source.width:
            raise ValueError(f"crops {self.width} x {self.height} out of {source}, which is smaller")
        return Shape(source.channels, self.height, self.width)

    def forward(self, ops: Ops[T], x: T, weights: Mapping[str, T]) -> T:
        _, _, height, width = x.shape
        top, left = (height - self.height) // 2, (width - self.width) // 2
        x = ops.slice(x, 2, top, top + self.height)
        x = ops.slice(x, 3, left, left + self.width)
        return x if self.noadjust else x * 2.0 - 1.0
