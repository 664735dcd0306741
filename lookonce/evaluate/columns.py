"""What judges compare: the objects of a whole dataset and the answers to it, as columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lookonce.boxes import to_xywh
from lookonce.detections import Detections
from lookonce.truth import Truth


class Objects(NamedTuple):
    """All M objects of a dataset: in which picture (numbered from 0), of which class, where.

    `xyxy` (M, 4) and `xywh` (M, 4) float64 pixels say the same; the form in which a file has it is exact, the other
    one computed. `difficult`, `crowd` (M,) bool; `area` (M,) float64 square pixels.
    """

    picture: np.ndarray
    label: np.ndarray
    xyxy: np.ndarray
    xywh: np.ndarray
    difficult: np.ndarray
    crowd: np.ndarray
    area: np.ndarray

    @classmethod
    def of(cls, truths: Sequence[Truth]) -> Objects:
        """The objects of pictures 0, 1, 2, ..."""
        picture = np.repeat(np.arange(len(truths)), [len(truth) for truth in truths])
        xyxy = _joined([truth.xyxy for truth in truths], (0, 4), np.float64)
        xywh = _joined([truth.xywh for truth in truths], (0, 4), np.float64)
        columns = [
            _joined([getattr(truth, name) for truth in truths], (0,), kind)
            for name, kind in (("label", np.int64), ("difficult", bool), ("crowd", bool), ("area", np.float64))
        ]
        return cls(picture, columns[0], xyxy, xywh, *columns[1:])


class Answers(NamedTuple):
    """All N boxes that a detector gives for a dataset, in any order: picture, class, place and score."""

    picture: np.ndarray
    label: np.ndarray
    xyxy: np.ndarray
    xywh: np.ndarray
    score: np.ndarray

    @classmethod
    def of(cls, found: Sequence[Detections]) -> Answers:
        """The answers to pictures 0, 1, 2, ..."""
        picture = np.repeat(np.arange(len(found)), [len(each) for each in found])
        xyxy = _joined([each.xyxy for each in found], (0, 4), np.float64)
        label = _joined([each.label for each in found], (0,), np.int64)
        score = _joined([each.score for each in found], (0,), np.float64)
        return cls(picture, label, xyxy, to_xywh(xyxy), score)


def _joined(parts: Sequence[np.ndarray], empty: tuple[int, ...], kind: type) -> np.ndarray:
    return np.concatenate([np.zeros(empty, kind), *parts]).astype(kind)
