"""Why detections are wrong (thesis 1.4.2, after Hoiem et al.): wrong place, wrong class, or nothing there."""

from __future__ import annotations

from enum import IntEnum
from typing import Literal, NamedTuple

import numpy as np

from lookonce.boxes import area, iou
from lookonce.evaluate import matching
from lookonce.evaluate.columns import Answers, Objects
from lookonce.shapes import Bool, Float64, Int64

Rule = Literal["voc", "coco"]

FOUND = 0.5                          # the overlap from which on a box is right
TOUCHED = 0.1                        # and from which on it has to do with an object at all


class Pairs(NamedTuple):
    """Boxes of one list that overlap boxes of another: rows of both, and the overlap of each pair."""

    first: np.ndarray
    second: np.ndarray
    overlap: np.ndarray


class Match(NamedTuple):
    """What each of N answers finds: the row of its `object`, -1 if none.

    Those `ignored` count neither as right nor as wrong: they are on an object that is difficult or a crowd.
    """

    object: np.ndarray
    ignored: np.ndarray


class Kind(IntEnum):
    """What a detection is. The thesis's five, and what is not counted."""

    CORRECT = 0                      # the right class, overlap at least .5, and the first to find its object
    LOCALIZATION = 1                 # the right class, overlap at least .1; also one more box on a found object
    SIMILAR = 2                      # overlap at least .1 with an object of a similar class
    OTHER = 3                        # overlap at least .1 with an object of another class
    BACKGROUND = 4                   # overlap below .1 with every object
    IGNORED = 5                      # on an object that is difficult or a crowd


class Diagnosis(NamedTuple):
    """N detections: the `kind` of each, and the object that decided it with their overlap.

    `object` (N,) is a row of the objects, -1 for background. `duplicate` (N,) bool: a localization error that would
    be correct if another box had not found the object before.
    """

    kind: np.ndarray
    object: np.ndarray
    overlap: np.ndarray
    duplicate: np.ndarray


class Breakdown(NamedTuple):
    """The top N detections of each of K classes, where N is the number of its objects.

    `counts` (K, 5) int64 by Kind, `missing` (K,) how many fewer than N detections there are, `objects` (K,) is N: each
    row of counts with its missing sums to N.
    """

    counts: np.ndarray
    missing: np.ndarray
    objects: np.ndarray

    def shares(self) -> Float64[np.ndarray, "K 6"]:
        """Of each class's N the share of the five kinds and of what is missing; NaN for a class without objects."""
        parts = np.column_stack([self.counts, self.missing])
        some = np.where(self.objects > 0, self.objects, 1)[:, None]
        return np.where(self.objects[:, None] > 0, parts / some, np.nan)

    def mean(self) -> Float64[np.ndarray, " 6"]:
        """The shares averaged over the classes that have objects, as in figure 1.4; NaN if none has."""
        shares = self.shares()[self.objects > 0]
        return shares.mean(0) if len(shares) else np.full(6, np.nan)


def pairs(
    first_key: Int64[np.ndarray, " N"],
    first: Float64[np.ndarray, "N 4"],
    second_key: Int64[np.ndarray, " M"],
    second: Float64[np.ndarray, "M 4"],
    least: float,
    crowd: Bool[np.ndarray, " M"] | None = None,
) -> Pairs:
    """All pairs of boxes (xyxy) of equal key (picture, or picture and class) whose overlap is at least `least` and > 0.

    The overlap is intersection over union; with a `crowd` of the second, over the area of the first (COCO).
    """

    def measure(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        a, b = first[one], second[other]
        overlap = iou(a, b)
        if crowd is not None and crowd[other].any():
            sides = np.maximum(np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]), 0)
            whole = area(a)
            inside = sides.prod(1) / np.where(whole > 0, whole, 1)
            overlap = np.where(crowd[other], inside, overlap)
        return np.asarray(overlap)

    return Pairs(*matching.near(first_key, second_key, measure, least))


def match(
    objects: Objects, answers: Answers, threshold: float = FOUND, *, rule: Rule = "voc", by_class: bool = True
) -> Match:
    """Which object each answer finds, the surest answer first; rows of equal score in their order.

    By VOC's rule an answer claims the object that it overlaps most, and is wrong if that is found already; it is
    ignored if that is difficult. By COCO's it takes the best one that is still free, and is ignored if there is none
    but one that is difficult or a crowd. Objects that are difficult or a crowd are never found. With `by_class` only
    objects of the answer's class count.
    """
    first_key, second_key = answers.picture, objects.picture
    if by_class:
        classes = 1 + max(answers.label.max(initial=0), objects.label.max(initial=0))
        first_key, second_key = first_key * classes + answers.label, second_key * classes + objects.label
    near = pairs(first_key, answers.xyxy, second_key, objects.xyxy, threshold, objects.crowd)
    spared = objects.difficult | objects.crowd
    count = len(answers.score)
    rank = np.empty(count, np.int64)
    rank[np.argsort(-answers.score, kind="stable")] = np.arange(count)
    if rule == "voc":
        best = _best(near, objects.crowd[near.second])
        near = Pairs(*(column[best] for column in near))
        free = Pairs(*(column[~spared[near.second]] for column in near))
    else:
        free = Pairs(*(column[~spared[near.second]] for column in near))
    found = _assigned(free, rank, len(objects.label))
    ignored = np.zeros(count, bool)
    ignored[near.first[spared[near.second]]] = True
    return Match(found, ignored & (found < 0))


def diagnose(
    objects: Objects, answers: Answers, similar: Bool[np.ndarray, "K K"], *, rule: Rule = "voc"
) -> Diagnosis:
    """The kind of every detection. `similar` says which classes are alike.

    The first kind that holds counts, in the order of Kind, as Hoiem's analysis does: a box that overlaps an object of
    its class by .1 is a localization error, however much it overlaps an object of another class. So is a duplicate.
    Objects that are difficult or crowds are objects here: a box that overlaps one is not of the background.
    """
    found, ignored = match(objects, answers, rule=rule)
    near = pairs(answers.picture, answers.xyxy, objects.picture, objects.xyxy, TOUCHED, objects.crowd)
    ours, truth = answers.label[near.first], objects.label[near.second]
    kind = np.where(ours == truth, Kind.LOCALIZATION, np.where(similar[ours, truth], Kind.SIMILAR, Kind.OTHER))
    # The pair with what was found goes before all others.
    kind = np.where(found[near.first] == near.second, Kind.CORRECT, kind)
    best = _best(near, kind)
    who = near.first[best]
    count = len(answers.score)
    out = Diagnosis(np.full(count, int(Kind.BACKGROUND)), np.full(count, -1), np.zeros(count), np.zeros(count, bool))
    out.kind[who] = kind[best]
    out.object[who] = near.second[best]
    out.overlap[who] = near.overlap[best]
    out.kind[ignored] = Kind.IGNORED
    out.duplicate[:] = (out.kind == Kind.LOCALIZATION) & (out.overlap >= FOUND)
    return out


def breakdown(objects: Objects, answers: Answers, kind: Int64[np.ndarray, " N"], classes: int) -> Breakdown:
    """The `kind`s of each class's top N answers by score (N: its objects that are neither difficult nor crowds).

    An ignored answer does not count among the N; the next one takes its place.
    """
    objects_of = np.bincount(objects.label[~(objects.difficult | objects.crowd)], minlength=classes)
    (rows,) = np.nonzero(kind != Kind.IGNORED)
    rows = rows[np.lexsort((-answers.score[rows], answers.label[rows]))]
    label = answers.label[rows]
    place = np.arange(len(rows)) - np.searchsorted(label, label, "left")              # 0 for a class's surest
    top = place < objects_of[label]
    counts = np.bincount(label[top] * 5 + kind[rows[top]], minlength=5 * classes).reshape(classes, 5)
    return Breakdown(counts, objects_of - counts.sum(1), objects_of)


def confusion(
    objects: Objects, answers: Answers, classes: int, *, score: float = 0.25, threshold: float = FOUND
) -> Int64[np.ndarray, "K1 K1"]:
    """How often an object of one class (row) was taken for another (column), by the answers of at least `score`.

    The last row are boxes on no object, the last column objects that no box found. The surest answer goes first and
    takes the free object, of any class, that it overlaps most. What is difficult or a crowd counts nowhere.
    """
    sure = Answers(*(column[answers.score >= score] for column in answers))
    found, ignored = match(objects, sure, threshold, rule="coco", by_class=False)
    truth = np.where(found >= 0, np.append(objects.label, classes)[found], classes)
    missed = ~(objects.difficult | objects.crowd)
    missed[found[found >= 0]] = False
    out = np.zeros((classes + 1, classes + 1), np.int64)
    np.add.at(out, (truth[~ignored], sure.label[~ignored]), 1)
    np.add.at(out, (objects.label[missed], classes), 1)
    return out


def _best(near: Pairs, before: np.ndarray) -> np.ndarray:
    """One pair (rows of `near`) for each first: of least `before`, then of most overlap, then the first."""
    order = np.lexsort((near.second, -near.overlap, before, near.first))
    first = near.first[order]
    return order[np.append(True, first[1:] != first[:-1])] if len(order) else order


def _assigned(near: Pairs, rank: np.ndarray, count: int) -> np.ndarray:
    """The second (N,) that each first gets, -1 if none: by `rank`, each takes the one left that it overlaps most.

    In rounds: everyone asks for the best that has not refused them, and each of the second keeps the one of least
    rank. That ends where going through the ranks one by one would. Of equal overlaps the last is taken (COCO).
    """
    order = np.lexsort((-near.second, -near.overlap, near.first))
    first, second = near.first[order], near.second[order]
    at = np.searchsorted(first, np.arange(len(rank)), "left")
    end = np.searchsorted(first, np.arange(len(rank)), "right")
    by_rank = np.empty_like(rank)
    by_rank[rank] = np.arange(len(rank))
    holder = np.full(count, len(rank))                                                # ranks; the largest: nobody
    (asking,) = np.nonzero(at < end)
    while len(asking):
        wanted = second[at[asking]]
        before = holder[wanted]
        np.minimum.at(holder, wanted, rank[asking])
        displaced = np.unique(before[(before < len(rank)) & (holder[wanted] < before)])
        refused = np.concatenate([asking[holder[wanted] != rank[asking]], by_rank[displaced]])
        at[refused] += 1
        asking = refused[at[refused] < end[refused]]
    found = np.full(len(rank), -1)
    (held,) = np.nonzero(holder < len(rank))
    found[by_rank[holder[held]]] = held
    return found
