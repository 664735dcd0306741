"""What learning asks of a dataset and what it gets: plans of mini-batches, and batches."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from lookonce.shapes import Float32
from lookonce.truth import Targets

Placing = Literal["place", "crop", "rotate", "fit"]


@dataclass(frozen=True)
class Augmentation:
    """How pictures are changed before a network learns from them; the defaults change nothing.

    `placing` is how a picture gets into the input:

        place    whole, at a random place and with a random aspect by `jitter`, on grey (YOLOv2 and v3)
        crop     cut or widened at each side by up to `jitter` of its length, stretched to the input (YOLO, the fork)
        rotate   for classifiers: turned by up to `angle` degrees, aspect by `aspect`, its shorter side scaled to
                 `least` to `most` pixels of an input of width `base`, cut from a random place
        fit      as it is judged: by `resize`

    `flip` mirrors half of them; `hue` shifts by up to that share of the circle, `saturation` and `exposure` multiply by
    up to that factor or its inverse. `mosaic` is the share of samples made of four pictures, none with `rotate`, and
    none in mini-batches from number `mosaic_until` on, so that the last ones are pictures as they will be judged.
    `smallest` drops boxes whose width or height is a smaller share of the input.
    """

    placing: Placing = "fit"
    resize: Literal["letterbox", "stretch", "crop"] = "letterbox"
    jitter: float = 0.0
    flip: bool = False
    hue: float = 0.0
    saturation: float = 1.0
    exposure: float = 1.0
    angle: float = 0.0
    aspect: float = 1.0
    least: int = 0
    most: int = 0
    base: int = 0
    mosaic: float = 0.0
    mosaic_until: int | None = None
    smallest: float = 0.001


class Plan(NamedTuple):
    """One mini-batch to make: its number, counted over the whole run, its pictures' places in the dataset, its input.

    All that is random about sample i follows from the run's seed, `number` and i, so that neither the number of
    workers nor their order matters.
    """

    number: int
    indices: tuple[int, ...]
    width: int
    height: int


class Batch(NamedTuple):
    """One mini-batch: pictures (B, 3, H, W) float32 in [0, 1], their truths, and the plan that it was made by."""

    pictures: Float32[np.ndarray, "B C H W"]
    targets: Targets
    plan: Plan
