"""Is one detector better than another, or is it the pictures? The paired bootstrap says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from lookonce.evaluate.columns import Answers, Objects
from lookonce.evaluate.diagnose import Rule, match
from lookonce.evaluate.voc import ELEVEN
from lookonce.shapes import Bool, Float64, Int64

COCO_THRESHOLDS = tuple(np.linspace(0.5, 0.95, 10).tolist())
COCO_POINTS = 101

# From pictures by number (P,), one as often as it is there, to one figure.
Metric = Callable[[np.ndarray], float]


class Comparison(NamedTuple):
    """Two detectors, A and B, by one metric on the same pictures.

    `a` and `b` on all pictures, and their `difference` a - b; `low` and `high` enclose that of so many resamples as the
    level says. `better` is the share of `resamples` in which A is better than B, `worse` in which it is worse.
    Resamples without a figure (no object at all) are left out.
    """

    a: float
    b: float
    difference: float
    low: float
    high: float
    better: float
    worse: float
    resamples: int


def compare(
    a: Metric, b: Metric, pictures: int, *, resamples: int = 1000, seed: int = 0, level: float = 0.95
) -> Comparison:
    """The difference of two detectors, and how sure it is, by the paired bootstrap over `pictures` pictures.

    Each resample draws as many pictures as there are, with replacement, and measures both detectors on the same ones.
    The interval is that of the percentiles. The same seed gives the same figures. NaN where there is no figure.
    """
    rng = np.random.default_rng(seed)
    everything = np.arange(pictures)
    first, second = a(everything), b(everything)
    drawn = (rng.integers(0, pictures, pictures) for _ in range(resamples if pictures else 0))
    differences = np.array([a(some) - b(some) for some in drawn])
    differences = differences[np.isfinite(differences)]
    if not len(differences):
        return Comparison(first, second, first - second, np.nan, np.nan, np.nan, np.nan, 0)
    low, high = np.quantile(differences, [(1 - level) / 2, (1 + level) / 2]).tolist()
    better, worse = float((differences > 0).mean()), float((differences < 0).mean())
    return Comparison(first, second, first - second, low, high, better, worse, len(differences))


class AveragePrecision:
    """Mean average precision as a Metric: matched once, then only counted.

    What an answer finds depends on its picture alone. So a picture that is drawn twice makes its answers count twice,
    and nothing is matched again.
    """

    def __init__(
        self,
        objects: Objects,
        answers: Answers,
        pictures: int,
        classes: int,
        *,
        thresholds: Sequence[float] = COCO_THRESHOLDS,
        rule: Rule = "coco",
        points: int | None = COCO_POINTS,
        most: int | None = 100,
    ) -> None:
        """AP averaged over classes and overlaps (`thresholds`), matched by a `rule`.

        AP is the mean precision at so many `points` of recall from 0 to 1 (COCO 101, VOC 2007 11), with None the area
        under the curve (VOC 2010). In each picture and class at most so many answers count. The defaults are COCO's
        AP, `thresholds=(0.5,), rule="voc", most=None` with `points` 11 or None are VOC's. Classes without objects
        have no AP. Difficult objects and crowds are not counted.
        """
        group = answers.picture * classes + answers.label
        order = np.lexsort((-answers.score, group))
        place = np.arange(len(order)) - np.searchsorted(group[order], group[order], "left")
        kept = np.sort(order[place < (len(order) if most is None else most)])
        kept = kept[np.lexsort((-answers.score[kept], answers.label[kept]))]
        answers = Answers(*(column[kept] for column in answers))
        counted = ~(objects.difficult | objects.crowd)
        self._objects = np.zeros((pictures, classes), np.int64)
        np.add.at(self._objects, (objects.picture[counted], objects.label[counted]), 1)
        self._picture = answers.picture
        self._curves = [_Curve.of(answers, *_judged(objects, answers, each, rule)) for each in thresholds]
        # As pycocotools and MATLAB round them: some are not k / 100 or k / 10.
        even = None if points is None else np.linspace(0, 1, points)
        self._points = ELEVEN if points == len(ELEVEN) else even

    def __call__(self, drawn: Int64[np.ndarray, " P"]) -> float:
        return float(np.nanmean(found)) if np.isfinite(found := self.by_class(drawn)).any() else np.nan

    def by_class(self, drawn: Int64[np.ndarray, " P"]) -> Float64[np.ndarray, " K"]:
        """AP of each class on the drawn pictures, NaN for one without objects there."""
        times = np.bincount(drawn, minlength=len(self._objects))
        objects = times @ self._objects                                   # (K,)
        weight = times[self._picture]
        ap = np.mean([curve.ap(weight, objects, self._points) for curve in self._curves], axis=0)
        return np.where(objects > 0, ap, np.nan)


class _Curve(NamedTuple):
    """The answers of all classes at one overlap, class by class and the surest first; H of N are hits.

    `counts` (N,) those that are right or wrong, `hit` (H,) rows, `label` (H,), `before` (H,) the row at which the hit's
    class begins, `first` (H,) the number of its class's first hit.
    """

    counts: np.ndarray
    hit: np.ndarray
    label: np.ndarray
    before: np.ndarray
    first: np.ndarray

    @classmethod
    def of(cls, answers: Answers, right: np.ndarray, ignored: np.ndarray) -> _Curve:
        (hit,) = np.nonzero(right)
        label = answers.label[hit]
        before = np.searchsorted(answers.label, label, "left")
        return cls(~ignored, hit, label, before, np.searchsorted(label, label, "left"))

    def ap(self, weight: np.ndarray, objects: np.ndarray, points: np.ndarray | None) -> np.ndarray:
        """AP (K,) when each answer (N,) counts `weight` times; 0 for a class without hits."""
        shown = np.append(0, np.cumsum(weight * self.counts))             # (N + 1,) answers up to each row
        gained = weight[self.hit]                                         # (H,)
        hits = np.append(0, np.cumsum(gained))
        right = hits[1:] - hits[self.first]
        precision = right / np.maximum(shown[self.hit + 1] - shown[self.before], 1)
        # The best precision from here on: from behind, and each class two higher than the one behind it.
        step = 2.0 * (len(objects) - self.label)
        best = np.maximum.accumulate((precision + step)[::-1])[::-1] - step
        whole = np.maximum(objects, 1)[self.label]
        if points is None:
            share = gained / whole
        else:
            # How many points of recall each hit is the first to reach; the first hit reaches 0 too.
            reached = np.searchsorted(points, right / whole, "right")
            fresh = np.append(True, self.label[1:] != self.label[:-1])[: len(reached)]
            share = np.diff(reached, prepend=0)
            share[fresh] = reached[fresh]
            share = share / len(points)
        return np.bincount(self.label, best * share, len(objects))


def _judged(
    objects: Objects, answers: Answers, threshold: float, rule: Rule
) -> tuple[Bool[np.ndarray, " N"], Bool[np.ndarray, " N"]]:
    """Which answers are right, and which are ignored."""
    found, ignored = match(objects, answers, threshold, rule=rule)
    return found >= 0, ignored
