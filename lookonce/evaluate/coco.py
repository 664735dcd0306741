"""COCO's judgement of boxes: the twelve numbers of pycocotools, exactly, and those of every class.

Everything that decides is as in pycocotools 2.0 (cocoeval.py, maskApi.c). In each picture and class the 100 surest
answers count. They choose objects in falling order of score; a crowd takes any number of answers, and overlaps by the
share of the answer that lies in it. Objects that are crowds or whose area is out of range, and answers that get such
an object, or get none and are out of range themselves, neither help nor harm. Difficult objects count like others.

Ties: in a picture the answer of the lower row comes first, then the picture of the lower number. pycocotools sorts
pictures by id, so pictures are to be numbered in that order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lookonce.evaluate import matching
from lookonce.evaluate.columns import Answers, Objects
from lookonce.shapes import Bool, Float64, Int64

IOUS = np.linspace(0.5, 0.95, 10)
RECALLS = np.linspace(0, 1, 101)
AREAS = {"all": (0, 1e5**2), "small": (0, 32**2), "medium": (32**2, 96**2), "large": (96**2, 1e5**2)}
MOST = (1, 10, 100)          # answers of one class in one picture
NUMBERS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


@dataclass(frozen=True, eq=False)
class CocoFigures:
    """The twelve numbers, and what they are the means of. -1 stands for what no object was there to measure.

    `numbers` (12,) are in the order of NUMBERS. Of each class, over all areas: `objects` (K,) that are no crowds,
    `ap`, `ap50` and `ap75` (K,). `precision` (T, R, K) over all areas is at the overlaps IOUS and the recalls RECALLS
    with 100 answers; `recall` (T, K, A, M) at the overlaps, in the AREAS, with MOST answers.
    """

    names: tuple[str, ...]
    pictures: int
    numbers: Float64[np.ndarray, " 12"]
    objects: Int64[np.ndarray, " K"]
    ap: Float64[np.ndarray, " K"]
    ap50: Float64[np.ndarray, " K"]
    ap75: Float64[np.ndarray, " K"]
    precision: Float64[np.ndarray, "T R K"]
    recall: Float64[np.ndarray, "T K A M"]

    def named(self) -> dict[str, float]:
        """The twelve numbers by name."""
        return dict(zip(NUMBERS, self.numbers.tolist(), strict=True))


class _Ranked(NamedTuple):
    """Answers in order of class and falling score, and what became of those that reach an object.

    `label` and `rank` (N,), the rank among the answers of its picture and class; `outside` (A, N): out of the area.
    `where` (E,) are the places of the answers that reach any object; `hit` and `counts` (A, E, T) of them: it got an
    object that counts; it is a hit or a miss.
    """

    label: np.ndarray
    rank: np.ndarray
    outside: np.ndarray
    where: np.ndarray
    hit: np.ndarray
    counts: np.ndarray


def coco(objects: Objects, answers: Answers, pictures: int, names: Sequence[str]) -> CocoFigures:
    """The figures of all `answers` to a dataset of so many pictures and the classes `names`.

    Raises ValueError if a picture or class is none of these.
    """
    matching.check(objects, answers, len(names), pictures)
    ignored = objects.crowd | _outside(objects.area)                              # (A, M)
    ranked = _ranked(objects, answers, ignored)
    judged = np.stack([np.bincount(objects.label[~view], minlength=len(names)) for view in ignored])       # (A, K)
    precision = [_precision(ranked, area, judged[area]) for area in range(len(AREAS))]
    recall = _recall(ranked, judged)
    every = precision[0]
    numbers = [_mean(every), _mean(every[IOUS == 0.5]), _mean(every[IOUS == 0.75]), *map(_mean, precision[1:])]
    numbers += [_mean(recall[:, :, 0, most]) for most in range(len(MOST))]
    numbers += [_mean(recall[:, :, area, -1]) for area in range(1, len(AREAS))]
    by_class = every.mean(axis=1)                                                 # (T, K)
    ap50, ap75 = by_class[IOUS == 0.5][0], by_class[IOUS == 0.75][0]
    return CocoFigures(
        tuple(names), pictures, np.array(numbers), judged[0], by_class.mean(axis=0), ap50, ap75, every, recall
    )


def _outside(area: Float64[np.ndarray, " N"]) -> Bool[np.ndarray, "A N"]:
    """Whether an area is out of each of the AREAS. A border belongs to both."""
    least, most = np.array(list(AREAS.values())).T[..., None]                     # (A, 1) each
    outside: np.ndarray = (area < least) | (area > most)
    return outside


def _ranked(objects: Objects, answers: Answers, ignored: Bool[np.ndarray, "A M"]) -> _Ranked:
    """The answers that count by their number, sorted and matched."""
    order = np.lexsort((-answers.score, answers.picture, answers.label))
    answers = matching.at(answers, order)
    _, group = matching.groups(objects, answers)
    rank = matching.place_in_run(group)
    first = rank < MOST[-1]
    answers, group, rank = matching.at(answers, first), group[first], rank[first]
    order = np.lexsort((-answers.score, answers.label))          # stable: the pictures stay in order among equals
    answers, group, rank = matching.at(answers, order), group[order], rank[order]

    def measure(answer: np.ndarray, object: np.ndarray) -> np.ndarray:
        return matching.share(answers.xywh[answer], objects.xywh[object], objects.crowd[object])

    found = matching.pairs(objects, answers, measure, IOUS[0])
    taken = matching.greedy(found, group, rank, ignored, objects.crowd, IOUS)
    outside = _outside(answers.xywh[:, 2] * answers.xywh[:, 3])
    counts = ~taken.ignored & (taken.matched | ~outside[:, taken.row, None])
    return _Ranked(answers.label, rank, outside, taken.row, taken.matched & ~taken.ignored, counts)


def _precision(ranked: _Ranked, area: int, judged: Int64[np.ndarray, " K"]) -> Float64[np.ndarray, "T R K"]:
    """The best precision from each recall on; 0 at a recall that is not reached, -1 without objects.

    Only where there is a hit does recall rise and may precision, so only hits are looked at.
    """
    hit, counts = ranked.hit[area].T, ranked.counts[area].T                       # (T, E)
    alone = ~ranked.outside[area]                # answers that reach no object count if they are of the area
    alone[ranked.where] = False
    sofar = np.cumsum(alone)[ranked.where] + np.cumsum(counts, axis=1)            # (T, E) all that count, up to each
    classes = np.arange(len(judged) + 1)
    split = np.searchsorted(ranked.label[ranked.where], classes)
    earlier = np.append(0, np.cumsum(alone))[np.searchsorted(ranked.label, classes)]
    earlier = earlier + np.pad(np.cumsum(counts, axis=1), ((0, 0), (1, 0)))[:, split]       # (T, K+1) in classes before
    precision = np.full((len(IOUS), len(RECALLS), len(judged)), -1.0)
    for k in np.flatnonzero(judged).tolist():
        needed = np.searchsorted(np.arange(1, judged[k] + 1) / judged[k], RECALLS)          # (R,) hits, less one
        part = slice(split[k], split[k + 1])
        for t in range(len(IOUS)):
            answered = sofar[t, part][hit[t, part]] - earlier[t, k]
            curve = np.arange(1, len(answered) + 1) / (answered + np.spacing(1))
            curve = np.maximum.accumulate(curve[::-1])[::-1]
            reached = np.searchsorted(needed, len(curve))
            precision[t, :reached, k] = curve[needed[:reached]]
            precision[t, reached:, k] = 0
    return precision


def _recall(ranked: _Ranked, judged: Int64[np.ndarray, "A K"]) -> Float64[np.ndarray, "T K A M"]:
    """The share of the objects that is found, -1 without objects."""
    areas, classes = judged.shape
    hits = np.zeros((len(IOUS), classes, areas, len(MOST)))
    label, rank = ranked.label[ranked.where], ranked.rank[ranked.where]
    for m, most in enumerate(MOST):
        for a in range(areas):
            which, t = np.nonzero(ranked.hit[a] & (rank < most)[:, None])
            found = np.bincount(t * classes + label[which], minlength=len(IOUS) * classes)
            hits[:, :, a, m] = found.reshape(-1, classes)
    objects = judged.T[..., None]                                                 # (K, A, 1)
    return np.where(objects > 0, hits / np.maximum(objects, 1), -1.0)


def _mean(values: np.ndarray) -> float:
    """The mean of what could be measured, -1 if nothing could."""
    known = values[values > -1]
    return float(known.mean()) if len(known) else -1.0
