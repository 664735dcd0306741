"""The Open Images judgement of boxes: AP at an overlap of .5, by the rules of the challenges of 2018 and 2019.

It is VOC's of 2010 with three differences (storage.googleapis.com/openimages/web/evaluation.html; ties and borders as
in the published judge, TensorFlow's object_detection/utils/per_image_evaluation.py):

- What nobody looked for is not judged. A picture's answers count for the classes that were verified in it, present or
  absent, and for those of its boxes.
- A group-of box (here: `crowd`) stands for several objects. Answers first look at the other boxes, as in VOC. One that
  is no hit there and lies in a group, by at least .5 of its own area, goes to the group that holds most of it, the
  first among equals. Each group makes one hit of the surest of its answers and one object to be found; the others
  are neither hit nor miss. Before the challenges (the metric of Open Images V2) all of them were, and groups were no
  objects: `count_groups=False`.
- An object is also one of each class above its own: `to_ancestors` before judging. A detector is expected to name
  these classes too, so it goes for the answers as well, if they name the lowest class only.

Boxes have no width of + 1 here. Among equal scores the lower row comes first (the published judge leaves that to
numpy's unstable sort).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

import numpy as np

from lookonce.evaluate import matching
from lookonce.evaluate.columns import Answers, Objects
from lookonce.evaluate.matching import Columns, Pairs
from lookonce.evaluate.voc import Curve, VocFigures, area
from lookonce.shapes import Bool, Int64

LEAST = 0.5

Parents = Mapping[int, Collection[int]]          # a class -> those right above it; a class may stand under several


def open_images(
    objects: Objects,
    answers: Answers,
    verified: Int64[np.ndarray, "V 2"],
    names: Sequence[str],
    *,
    count_groups: bool = True,
) -> VocFigures:
    """The figures of all `answers` for the classes `names`.

    `verified` (V, 2) are picture and class of what was looked for, found or not; those of the objects are added.
    Difficult objects are neither to be found nor wrong to be found. `ap` is NaN for a class without objects that
    count. Raises ValueError if a class is none of `names`.
    """
    matching.check(objects, answers, len(names))
    answers = matching.at(answers, _judged(objects, answers, verified))
    order = np.lexsort((-answers.score, answers.label))
    answers = matching.at(answers, order)
    hit, counts = _verdicts(objects, answers, count_groups)
    objects_that_count = ~objects.difficult & (~objects.crowd | count_groups)
    total = np.bincount(objects.label[objects_that_count], minlength=len(names))
    split = np.searchsorted(answers.label, np.arange(1, len(names)))
    curves = [
        Curve.of(hit[rows][counts[rows]], answers.score[rows][counts[rows]], count)
        for rows, count in zip(np.split(np.arange(len(order)), split)[: len(names)], total.tolist(), strict=True)
    ]
    ap = np.array([area(curve) if count else np.nan for curve, count in zip(curves, total, strict=True)])
    mean = float(ap[total > 0].mean()) if total.any() else np.nan
    return VocFigures(tuple(names), mean, ap, total, tuple(curves))


def to_ancestors(columns: Columns, parents: Parents) -> Columns:
    """Objects or answers, each repeated for every class above its own.

    What stands under one class by two ways is repeated once.
    """
    rows, label = _spread(columns.label, parents)
    return matching.at(columns, rows)._replace(label=label)


def verified_with_ancestors(
    present: Int64[np.ndarray, "P 2"], absent: Int64[np.ndarray, "Q 2"], parents: Parents
) -> Int64[np.ndarray, "V 2"]:
    """Picture and class of all that is known of pictures, given what was seen to be present and absent.

    With a class those above it are present, and those below an absent class are absent.
    """
    children: dict[int, list[int]] = {}
    for child, above in parents.items():
        for parent in above:
            children.setdefault(parent, []).append(child)
    known = [np.zeros((0, 2), np.int64)]
    for pairs, onward in ((present, parents), (absent, children)):
        rows, label = _spread(pairs[:, 1], onward)
        known.append(np.stack([pairs[rows, 0], label], axis=1))
    return np.unique(np.concatenate(known), axis=0)


def _spread(label: Int64[np.ndarray, " N"], onward: Parents) -> tuple[Int64[np.ndarray, " R"], Int64[np.ndarray, " R"]]:
    """The rows that each repetition comes from, and its class: all that can be reached from the row's own."""
    reached: dict[int, list[int]] = {}
    for start in np.unique(label).tolist():
        found = [start]
        for each in found:                                        # grows while it is gone through
            found += [other for other in dict.fromkeys(onward.get(each, ())) if other not in found]
        reached[start] = found
    rows = np.repeat(np.arange(len(label)), [len(reached[number]) for number in label.tolist()])
    labels = [other for number in label.tolist() for other in reached[number]]
    return rows, np.array(labels, np.int64)


def _judged(objects: Objects, answers: Answers, verified: Int64[np.ndarray, "V 2"]) -> Bool[np.ndarray, " N"]:
    """Whether each answer's class was verified in its picture."""
    classes = 1 + int(max(column.max(initial=0) for column in (objects.label, answers.label, verified[:, 1])))
    known = np.append(verified[:, 0] * classes + verified[:, 1], objects.picture * classes + objects.label)
    return np.isin(answers.picture * classes + answers.label, known)


def _verdicts(
    objects: Objects, answers: Answers, count_groups: bool
) -> tuple[Bool[np.ndarray, " N"], Bool[np.ndarray, " N"]]:
    """Whether each answer is a hit, and whether it is a hit or a miss; the answers in falling order of score."""

    def measure(answer: np.ndarray, object: np.ndarray) -> np.ndarray:
        return matching.share(answers.xywh[answer], objects.xywh[object], objects.crowd[object])

    found = matching.pairs(objects, answers, measure, LEAST)
    group = objects.crowd[found.object]
    single, of_group = (Pairs(*(column[rows] for column in found)) for rows in (~group, group))
    hit, counts = np.zeros(len(answers.label), bool), np.ones(len(answers.label), bool)

    row, object = matching.best(single)
    counts[row] = ~objects.difficult[object]
    first = _surest(row, object)
    hit[first] = counts[first]

    row, object = matching.best(of_group)
    left = ~hit[row] & counts[row]
    row, object = row[left], object[left]
    counts[row] = False
    if count_groups:
        sure = ~objects.difficult[object]
        first = _surest(row[sure], object[sure])
        hit[first] = counts[first] = True
    return hit, counts


def _surest(row: Int64[np.ndarray, " E"], object: Int64[np.ndarray, " E"]) -> Int64[np.ndarray, " S"]:
    """The first answer of each object."""
    order = np.lexsort((row, object))
    first: np.ndarray = row[order[matching.starts(object[order])]]
    return first
