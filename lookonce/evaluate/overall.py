"""What the thesis proposes instead of mean AP (3, Rebuttal): one AP over all classes, and AP picture by picture.

"What about getting rid of the per-class AP and just doing a global average precision? Or doing an AP calculation
per-image and averaging over that?" The text leaves open how. Here:

- An answer still needs the object's class and picture; what is dropped is that each class is ranked on its own.
- One overlap, .5: the same chapter argues against judging boxes more strictly.
- The area under the curve, which needs no choice of recalls: one picture holds too few objects to sample 101.
- Matching as COCO's, and so fair to both kinds of data: an answer takes the best object that is still free; crowds and
  difficult objects are neither to be found nor wrong to be found. No answer is cut off.
- A picture without objects has no AP, as a class without objects has none, and is left out of the mean.

Among equal scores the answer of the lower row comes first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lookonce.evaluate import matching
from lookonce.evaluate.columns import Answers, Objects
from lookonce.evaluate.matching import Columns
from lookonce.evaluate.voc import Curve, area
from lookonce.shapes import Bool, Float64, Int64


@dataclass(frozen=True, eq=False)
class GlobalFigures:
    """`ap` over all answers at once, NaN without objects; how many `objects` count; the curve."""

    ap: float
    objects: int
    curve: Curve


@dataclass(frozen=True, eq=False)
class PictureFigures:
    """`mean` of the pictures' AP, NaN if none has any; `ap` (P,), NaN without objects; `objects` (P,) that count."""

    mean: float
    ap: Float64[np.ndarray, " P"]
    objects: Int64[np.ndarray, " P"]


def global_ap(objects: Objects, answers: Answers, *, iou: float = 0.5) -> GlobalFigures:
    """One average precision over the answers of all classes in one order. Raises ValueError for a negative number."""
    matching.check(objects, answers, _highest(objects, answers))
    hit, counts = _verdicts(objects, answers, iou)
    order = np.argsort(-answers.score, kind="stable")
    order = order[counts[order]]
    total = int((~_spared(objects)).sum())
    curve = Curve.of(hit[order], answers.score[order], total)
    return GlobalFigures(area(curve) if total else np.nan, total, curve)


def ap_per_image(objects: Objects, answers: Answers, pictures: int, *, iou: float = 0.5) -> PictureFigures:
    """Average precision within each of so many pictures, over its answers of all classes, and the mean.

    Raises ValueError if a picture is none of these.
    """
    matching.check(objects, answers, _highest(objects, answers), pictures)
    hit, counts = _verdicts(objects, answers, iou)
    order = np.lexsort((-answers.score, answers.picture))
    order = order[counts[order]]
    total = np.bincount(objects.picture[~_spared(objects)], minlength=pictures)
    split = np.searchsorted(answers.picture[order], np.arange(1, pictures))
    ap = np.full(pictures, np.nan)
    for number, rows in enumerate(np.split(order, split)[:pictures]):
        if total[number]:
            ap[number] = area(Curve.of(hit[rows], answers.score[rows], int(total[number])))
    return PictureFigures(float(ap[total > 0].mean()) if total.any() else np.nan, ap, total)


def relabelled(columns: Columns, map: Int64[np.ndarray, " K"]) -> Columns:
    """Objects or answers with each class replaced by its new number; those of a class that maps to -1 are left out.

    So a detector of many classes is judged on some, as YOLO9000 on ImageNet's detection task (thesis 2.4). Answers that
    become one class are not merged: the second on an object is a miss. Raises ValueError if a class has no place in the
    map.
    """
    wrong = np.flatnonzero((columns.label < 0) | (columns.label >= len(map)))
    if len(wrong):
        raise ValueError(f"row {wrong[0]}: class {columns.label[wrong[0]]}, the map has {len(map)} classes")
    label = map[columns.label]
    kept = label >= 0
    return matching.at(columns, kept)._replace(label=label[kept])


def _highest(objects: Objects, answers: Answers) -> int:
    return 1 + int(max(objects.label.max(initial=0), answers.label.max(initial=0)))


def _spared(objects: Objects) -> Bool[np.ndarray, " M"]:
    """The objects that need not be found."""
    spared: np.ndarray = objects.difficult | objects.crowd
    return spared


def _verdicts(objects: Objects, answers: Answers, iou: float) -> tuple[Bool[np.ndarray, " N"], Bool[np.ndarray, " N"]]:
    """Whether each answer is a hit, and whether it is a hit or a miss."""
    if not 0 < iou <= 1:
        raise ValueError(f"iou={iou!r}, wanted more than 0 and at most 1")

    def measure(answer: np.ndarray, object: np.ndarray) -> np.ndarray:
        return matching.share(answers.xywh[answer], objects.xywh[object], objects.crowd[object])

    count = len(answers.label)
    _, group = matching.groups(objects, answers)
    position = np.empty(count, np.int64)
    position[np.argsort(-answers.score, kind="stable")] = np.arange(count)
    found = matching.pairs(objects, answers, measure, iou)
    taken = matching.greedy(found, group, position, _spared(objects)[None], objects.crowd, np.array([iou]))
    hit, counts = np.zeros(count, bool), np.ones(count, bool)
    counts[taken.row] = ~taken.ignored[0, :, 0]
    hit[taken.row] = taken.matched[0, :, 0] & counts[taken.row]
    return hit, counts
