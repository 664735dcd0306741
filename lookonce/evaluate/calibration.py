"""Calibration: whether of the boxes with a score of .8 eight in ten are right."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lookonce.evaluate.columns import Answers, Objects
from lookonce.evaluate.diagnose import FOUND, Rule, match
from lookonce.shapes import Bool, Float64


class Calibration(NamedTuple):
    """Boxes sorted by score into B bins of equal width, from 0 to 1.

    `edges` (B + 1,); `boxes` (B,) int64 how many from an edge to below the next (the last bin has 1 too); `score` (B,)
    their mean score and `precision` (B,) the share of them that are right, NaN for an empty bin. `error` is the
    expected calibration error: |precision - score| averaged over all boxes, by bins; NaN without boxes. `worst` is the
    largest of those differences.
    """

    edges: np.ndarray
    boxes: np.ndarray
    score: np.ndarray
    precision: np.ndarray
    error: float
    worst: float


def calibrated(score: Float64[np.ndarray, " N"], right: Bool[np.ndarray, " N"], bins: int = 10) -> Calibration:
    """How the scores of N boxes agree with which of them are right. Scores outside 0 to 1 go to the outer bins."""
    nth = np.clip((score * bins).astype(np.int64), 0, bins - 1)
    count = np.bincount(nth, minlength=bins)
    some = np.where(count > 0, count, 1)
    mean = np.where(count > 0, np.bincount(nth, score, bins) / some, np.nan)
    precision = np.where(count > 0, np.bincount(nth, right, bins) / some, np.nan)
    gap = np.abs(precision - mean)[count > 0]
    if not len(gap):
        return Calibration(np.linspace(0, 1, bins + 1), count, mean, precision, np.nan, np.nan)
    error = float((gap * count[count > 0]).sum() / count.sum())
    return Calibration(np.linspace(0, 1, bins + 1), count, mean, precision, error, float(gap.max()))


def calibration(
    objects: Objects,
    answers: Answers,
    classes: int,
    *,
    bins: int = 10,
    score: float = 0.0,
    threshold: float = FOUND,
    rule: Rule = "voc",
) -> tuple[Calibration, list[Calibration]]:
    """The calibration of the answers of at least `score`, of all together and of each of `classes` classes.

    An answer is right from an overlap of `threshold` on, as `match` says by its `rule`; ignored ones are left out.
    """
    hit, ignored = match(objects, answers, threshold, rule=rule)
    counts = ~ignored & (answers.score >= score)
    scores, right, label = answers.score[counts], hit[counts] >= 0, answers.label[counts]
    each = [calibrated(scores[label == one], right[label == one], bins) for one in range(classes)]
    return calibrated(scores, right, bins), each
