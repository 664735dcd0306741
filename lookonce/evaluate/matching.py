"""Matching: which answer is which object. The rules differ from judge to judge; what they share stands here."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple, TypeVar

import numpy as np

from lookonce.evaluate.columns import Answers, Objects
from lookonce.shapes import Bool, Float64, Int64

AT_ONCE = 1 << 20            # pairs of an answer and an object that are measured together

Columns = TypeVar("Columns", Objects, Answers)
# Rows (N,) of answers and of objects (or any other two lists) -> how far each two overlap (N,), 0 to 1.
Measure = Callable[[np.ndarray, np.ndarray], np.ndarray]


class Pairs(NamedTuple):
    """N pairs of an answer and an object of its picture and class: their rows (N,), and how far they overlap (N,).

    They are in order of the answers, and for each answer in order of the objects.
    """

    answer: np.ndarray
    object: np.ndarray
    overlap: np.ndarray


class Taken(NamedTuple):
    """What the E answers `row` (E,) that reach any object get, in A views of the objects and at T thresholds.

    `matched` (A, E, T): the answer has an object. `ignored` (A, E, T): it has one that does not count.
    """

    row: np.ndarray
    matched: np.ndarray
    ignored: np.ndarray


def at(columns: Columns, rows: np.ndarray) -> Columns:
    """Some rows of the columns: numbers (R,), or a choice (N,)."""
    return type(columns)(*(column[rows] for column in columns))


def check(objects: Objects, answers: Answers, classes: int, pictures: int | None = None) -> None:
    """Raises ValueError if a class or picture number is negative or too high."""
    for kind, columns in (("objects", objects), ("answers", answers)):
        for name, numbers, count in (("class", columns.label, classes), ("picture", columns.picture, pictures)):
            high = np.iinfo(np.int64).max if count is None else count
            wrong = np.flatnonzero((numbers < 0) | (numbers >= high))
            if len(wrong):
                found = f"{kind}: row {wrong[0]}: {name} {numbers[wrong[0]]}"
                raise ValueError(f"{found}, wanted " + ("0 or more" if count is None else f"0 to {count - 1}"))


def groups(objects: Objects, answers: Answers) -> tuple[Int64[np.ndarray, " M"], Int64[np.ndarray, " N"]]:
    """One number for each picture and class, of every object (M,) and every answer (N,)."""
    classes = 1 + max(objects.label.max(initial=0), answers.label.max(initial=0))
    return objects.picture * classes + objects.label, answers.picture * classes + answers.label


def pairs(objects: Objects, answers: Answers, measure: Measure, least: float) -> Pairs:
    """Every answer with every object of its picture and class that it overlaps by at least `least`, and at all."""
    of_object, of_answer = groups(objects, answers)
    return Pairs(*near(of_answer, of_object, measure, least))


def near(
    of_first: Int64[np.ndarray, " N"], of_second: Int64[np.ndarray, " M"], measure: Measure, least: float
) -> tuple[Int64[np.ndarray, " P"], Int64[np.ndarray, " P"], Float64[np.ndarray, " P"]]:
    """The rows of first and second boxes of one group (as `of_first` and `of_second` number it), and how they overlap.

    Of those that do by at least `least`, and at all. In order of the first, and for each of these of the second.
    """
    by_group = np.argsort(of_second, kind="stable")
    grouped = of_second[by_group]
    start = np.searchsorted(grouped, of_first, "left")
    count = np.searchsorted(grouped, of_first, "right") - start
    rows = np.flatnonzero(count)
    part = (np.cumsum(count[rows]) - 1) // AT_ONCE
    found = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    for some in np.split(rows, np.flatnonzero(np.diff(part)) + 1):
        first = np.repeat(some, count[some])                                      # (P,)
        second = by_group[start[first] + place_in_run(first)]
        overlap = measure(first, second)
        kept = (overlap >= least) & (overlap > 0)
        found.append((first[kept], second[kept], overlap[kept]))
    first, second, overlap = (np.concatenate(column) for column in zip(*found, strict=True))
    return first, second, overlap


def share(
    answer: Float64[np.ndarray, "N 4"], object: Float64[np.ndarray, "N 4"], crowd: Bool[np.ndarray, " N"]
) -> Float64[np.ndarray, " N"]:
    """Intersection over union of boxes given as left, top, width, height; over the answer's area where `crowd`.

    In the order of operations of pycocotools (maskApi.c, bbIou), so that the figures round alike.
    """
    (x, y, w, h), (left, top, width, height) = answer.T, object.T
    across = np.minimum(w + x, width + left) - np.maximum(x, left)
    down = np.minimum(h + y, height + top) - np.maximum(y, top)
    both = across * down
    own = w * h
    union = np.where(crowd, own, own + width * height - both)
    overlap = np.zeros(len(both))
    np.divide(both, union, out=overlap, where=(across > 0) & (down > 0) & (union > 0))
    return overlap


def best(found: Pairs) -> tuple[Int64[np.ndarray, " E"], Int64[np.ndarray, " E"]]:
    """The answers (E,) that reach any object, and the object (E,) that each overlaps most; the first among equals."""
    order = np.lexsort((-found.overlap, found.answer))
    order = order[starts(found.answer[order])]
    return found.answer[order], found.object[order]


def greedy(
    found: Pairs,
    group: Int64[np.ndarray, " N"],
    position: Int64[np.ndarray, " N"],
    ignored: Bool[np.ndarray, "A M"],
    again: Bool[np.ndarray, " M"],
    ious: Float64[np.ndarray, " T"],
) -> Taken:
    """COCO's matching: answers choose one after the other, each the best object that is left to it.

    `group` (N,) tells apart the answers' pictures and classes, `position` (N,) is the order in which those of a group
    choose. Objects that do not count (`ignored`, in each of A views) are chosen only if no other is left; those of
    `again` (M,) may be chosen any number of times. Among objects that overlap alike the last one is chosen.

    Which object an answer would rather have depends neither on the threshold nor on what is left. So its pairs are
    sorted once, and then all groups, views and thresholds take their turns together: the number of steps is that of
    the answers that compete in the busiest picture.
    """
    views, objects = ignored.shape
    sure = np.lexsort((-found.object, -found.overlap, found.answer))
    found = Pairs(*(column[sure] for column in found))
    first = starts(found.answer)
    row, length = found.answer[first], np.diff(np.append(first, len(found.answer)))
    number = np.repeat(np.arange(len(row)), length)                               # (P,) of the pair's answer in `row`
    order = [np.argsort(2 * number + view[found.object], kind="stable") for view in ignored]
    which = np.concatenate([view * objects + found.object[rows] for view, rows in enumerate(order)])       # (A·P,)
    overlap = np.concatenate([found.overlap[rows] for rows in order])
    once, spare = np.tile(~again, views)[which, None], ignored.reshape(-1)[which, None]

    by_turn = np.lexsort((position[row], group[row]))
    turn = np.empty(len(row), np.int64)
    turn[by_turn] = place_in_run(group[row][by_turn])
    turn, length = np.tile(turn, views), np.tile(length, views)                   # (A·E,)
    start = (np.arange(views)[:, None] * len(found.answer) + first).reshape(-1)
    queue = np.lexsort((-length, turn))                                           # the longest lists first
    taken = np.zeros((views * objects, len(ious)), bool)
    matched, without = np.zeros((2, len(queue), len(ious)), bool)
    for begin, end in pairwise(np.append(starts(turn[queue]), len(queue)).tolist()):
        now = queue[begin:end]
        free = np.ones((len(now), len(ious)), bool)
        for slot in range(int(length[now[0]])):
            now = now[: np.count_nonzero(length[now] > slot)]
            pair = start[now] + slot
            target = which[pair]                       # each one once: no two of a turn are of one group and view
            fits = (overlap[pair, None] >= ious) & free[: len(now)] & ~taken[target]
            taken[target] |= fits & once[pair]
            matched[now] |= fits
            without[now] |= fits & spare[pair]
            free[: len(now)] &= ~fits
    shape = (views, len(row), len(ious))
    return Taken(row, matched.reshape(shape), without.reshape(shape))


def starts(sorted: Int64[np.ndarray, " N"]) -> Int64[np.ndarray, " R"]:
    """Where the runs of equal values begin."""
    return np.flatnonzero(np.append(True, sorted[1:] != sorted[:-1])[: len(sorted)])


def place_in_run(sorted: Int64[np.ndarray, " N"]) -> Int64[np.ndarray, " N"]:
    """How many equal values stand before each."""
    first = starts(sorted)
    place: np.ndarray = np.arange(len(sorted)) - np.repeat(first, np.diff(np.append(first, len(sorted))))
    return place
