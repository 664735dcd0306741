"""PASCAL VOC's judgement, as the MATLAB devkit does it (VOCevaldet.m, VOCap.m).

Each class's answers are gone through in falling order of score; among equal scores the lower row comes first, as in
MATLAB's sort. An answer looks only at the object of its class and picture that it overlaps most, the first one among
equals. At an overlap of at least `iou` it is a hit if that object was free, a miss if it was taken, even if another
object would do; on a difficult object it is neither. With less it is a miss. (py-faster-rcnn's voc_eval.py wants more
than `iou`: exactly .5 is a miss there.)

Corners. The devkit's corners are pixels counted from 1, the last one included, so that a width is xmax - xmin + 1.
The same box here is xyxy = (xmin - 1, ymin - 1, xmax, ymax), of width right - left. So what the devkit would be given
for a box is xyxy + (1, 1, 0, 0), for objects and answers alike. Result files hold the devkit's corners, and those that
Darknet and `lookonce.results.VocWriter` write have 1 added on all four sides: one pixel wider than the box that was
meant. The devkit counts that pixel, so for the figure that it gives for such a file pass the file's `corners` as they
are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np

from lookonce.evaluate import matching
from lookonce.evaluate.columns import Answers, Objects
from lookonce.shapes import Bool, Float64, Int64

FROM_ONE = np.array((1.0, 1.0, 0.0, 0.0))        # added to xyxy gives the devkit's corners

# MATLAB counts 0:0.1:1 from both ends. Its .3 is a little more than 3 / 10: a recall of exactly that does not reach it.
ELEVEN = np.concatenate([np.arange(6) * 0.1, 1 - np.arange(4, -1, -1) * 0.1])


class Curve(NamedTuple):
    """Recall, precision and score (N,) after each answer that is a hit or a miss, in falling order of score."""

    recall: np.ndarray
    precision: np.ndarray
    score: np.ndarray

    @classmethod
    def of(cls, hit: Bool[np.ndarray, " N"], score: Float64[np.ndarray, " N"], objects: int) -> Curve:
        """The curve of hits and misses in falling order of score; recall is NaN without objects."""
        hits = np.cumsum(hit)
        recall = hits / objects if objects else np.full(len(hit), np.nan)
        return cls(recall, hits / np.arange(1, len(hit) + 1), score)


@dataclass(frozen=True, eq=False)
class VocFigures:
    """Average precision of each class, and the mean of those that have objects.

    `ap` (K,) is NaN for a class without objects that count, `mean` is NaN if no class has any. `objects` (K,) are
    those that count. `curves` has one Curve a class; an answer on a difficult object has no place in it.
    """

    names: tuple[str, ...]
    mean: float
    ap: Float64[np.ndarray, " K"]
    objects: Int64[np.ndarray, " K"]
    curves: tuple[Curve, ...]


def voc(
    objects: Objects,
    answers: Answers,
    names: Sequence[str],
    *,
    points: Literal[11] | None = 11,
    iou: float = 0.5,
    corners: Float64[np.ndarray, "N 4"] | None = None,
) -> VocFigures:
    """The figures of all `answers` for the classes `names`.

    `points` 11 is the mean precision at eleven recalls (VOC 2007), None the area under the curve (VOC 2010 and later).
    `corners` (N, 4) are the answers' corners as the devkit counts them, in place of their xyxy. Crowds, which VOC does
    not have, are taken as difficult. Where the devkit's eleven points give NaN (each answer lies on a difficult
    object), the AP here is 0. Raises ValueError if a class is none of `names`, or if `points` or `iou` cannot be used.
    """
    if points not in (11, None):
        raise ValueError(f"points={points!r}, wanted 11 or None")
    if not 0 < iou <= 1:
        raise ValueError(f"iou={iou!r}, wanted more than 0 and at most 1")
    matching.check(objects, answers, len(names))
    own = answers.xyxy + FROM_ONE if corners is None else corners
    if len(own) != len(answers.label):
        raise ValueError(f"corners of {len(own)} answers, wanted {len(answers.label)}: one an answer")
    theirs = objects.xyxy + FROM_ONE

    def measure(answer: np.ndarray, object: np.ndarray) -> np.ndarray:
        return overlap(own[answer], theirs[object])

    row, object = matching.best(matching.pairs(objects, answers, measure, iou))
    spared = objects.difficult | objects.crowd
    order = np.lexsort((-answers.score, answers.label))
    hit, counts = _verdicts(row, object, spared, order)
    total = np.bincount(objects.label[~spared], minlength=len(names))
    split = np.searchsorted(answers.label[order], np.arange(1, len(names)))
    curves = []
    for rows, count in zip(np.split(order, split)[: len(names)], total.tolist(), strict=True):
        judged = rows[counts[rows]]
        curves.append(Curve.of(hit[judged], answers.score[judged], count))
    average = eleven_points if points else area
    ap = np.array([average(curve) if count else np.nan for curve, count in zip(curves, total, strict=True)])
    mean = float(ap[total > 0].mean()) if total.any() else np.nan
    return VocFigures(tuple(names), mean, ap, total, tuple(curves))


def overlap(a: Float64[np.ndarray, "N 4"], b: Float64[np.ndarray, "N 4"]) -> Float64[np.ndarray, " N"]:
    """Intersection over union of boxes given by the devkit's corners, 0 where they do not meet."""
    sides = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]) + 1
    both = sides[:, 0] * sides[:, 1]
    areas = [(box[:, 2] - box[:, 0] + 1) * (box[:, 3] - box[:, 1] + 1) for box in (a, b)]
    union = areas[0] + areas[1] - both
    meets = (sides > 0).all(axis=1) & (union > 0)
    return np.where(meets, both / np.where(meets, union, 1), 0)


def eleven_points(curve: Curve) -> float:
    """The mean, over eleven recalls, of the best precision from there on."""
    ahead = np.append(_best_ahead(curve.precision), 0)
    return float(ahead[np.searchsorted(curve.recall, ELEVEN)].sum() / 11)


def area(curve: Curve) -> float:
    """The area under the best precision from each recall on."""
    return float((np.diff(curve.recall, prepend=0) * _best_ahead(curve.precision)).sum())


def _verdicts(
    row: Int64[np.ndarray, " E"],
    object: Int64[np.ndarray, " E"],
    spared: Bool[np.ndarray, " M"],
    order: Int64[np.ndarray, " N"],
) -> tuple[Bool[np.ndarray, " N"], Bool[np.ndarray, " N"]]:
    """Whether each answer is a hit, and whether it is a hit or a miss, given the object it overlaps most."""
    hit, counts = np.zeros(len(order), bool), np.ones(len(order), bool)
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    by_object = np.lexsort((place[row], object))
    first = by_object[matching.starts(object[by_object])]        # of those on one object only the surest is a hit
    hit[row[first]] = ~spared[object[first]]
    counts[row] = ~spared[object]
    return hit, counts


def _best_ahead(precision: Float64[np.ndarray, " N"]) -> Float64[np.ndarray, " N"]:
    """The best precision from each answer on."""
    return np.maximum.accumulate(precision[::-1])[::-1]
