"""Truth: what is in one picture, as whoever labelled it says; Targets: the truths of a batch, as losses take them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lookonce.boxes import to_xywh, to_xyxy
from lookonce.shapes import Bool, Float64, Int64


@dataclass(frozen=True)
class Truth:
    """The M objects of one picture, and what is known of it as a whole.

    `xyxy` (M, 4) are pixels from 0: left, top, right, bottom, so that a width is right - left. `xywh` (M, 4) says the
    same as left, top, width, height: the form that a file has is kept exactly, the other one is computed. `label`
    (M,) numbers the dataset's classes. `difficult` (M,) objects are not counted by VOC's judges; a `crowd` (M,) box
    holds several objects that need not be told apart (COCO). `area` (M,) in square pixels is the labeller's where
    there is one (COCO measures masks), else width x height. `classes` are labels of the picture as a whole.
    """

    xyxy: Float64[np.ndarray, "M 4"]
    xywh: Float64[np.ndarray, "M 4"]
    label: Int64[np.ndarray, " M"]
    difficult: Bool[np.ndarray, " M"]
    crowd: Bool[np.ndarray, " M"]
    area: Float64[np.ndarray, " M"]
    classes: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.label)

    @classmethod
    def of(
        cls,
        label: np.ndarray,
        *,
        xyxy: np.ndarray | None = None,
        xywh: np.ndarray | None = None,
        difficult: np.ndarray | None = None,
        crowd: np.ndarray | None = None,
        area: np.ndarray | None = None,
        classes: tuple[int, ...] = (),
    ) -> Truth:
        """A Truth from boxes in one form or the other, with what is usual where nothing is given."""
        label = np.asarray(label, np.int64).reshape(-1)
        if xyxy is not None:
            corners = np.asarray(xyxy, np.float64).reshape(-1, 4)
            sides = to_xywh(corners)
        else:
            sides = np.asarray(() if xywh is None else xywh, np.float64).reshape(-1, 4)
            corners = to_xyxy(sides)
        none = np.zeros(len(label), bool)
        return cls(
            corners,
            sides,
            label,
            none if difficult is None else np.asarray(difficult, bool),
            none if crowd is None else np.asarray(crowd, bool),
            sides[:, 2] * sides[:, 3] if area is None else np.asarray(area, np.float64),
            classes,
        )


@dataclass(frozen=True)
class Targets:
    """The truths of a batch of B `pictures`, one row an object. The arrays are numpy's or torch's.

    `picture` (M,) int64 numbers the picture of the batch, in rising order; `cxcywh` (M, 4) float32 is its centre and
    size relative to the network's input; `label` (M,) int64 its class. A row that says what a picture shows and not
    where, as those of a classifier and YOLO9000's classification pictures, has NaN for its four numbers.
    """

    picture: Any
    cxcywh: Any
    label: Any
    pictures: int

    def __len__(self) -> int:
        return int(self.label.shape[0])

    def map(self, function: Callable[[Any], Any]) -> Targets:
        """The same rows with each of the three arrays as `function` makes it."""
        return Targets(function(self.picture), function(self.cxcywh), function(self.label), self.pictures)

    @classmethod
    def of(cls, truths: Sequence[tuple[np.ndarray, np.ndarray]]) -> Targets:
        """From one (cxcywh, label) a picture, (m, 4) and (m,) each."""
        boxes = [np.asarray(box, np.float32).reshape(-1, 4) for box, _ in truths]
        labels = [np.asarray(label, np.int64).reshape(-1) for _, label in truths]
        picture = np.repeat(np.arange(len(truths), dtype=np.int64), [len(label) for label in labels])
        none = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)
        return cls(picture, np.concatenate([none[0], *boxes]), np.concatenate([none[1], *labels]), len(truths))
