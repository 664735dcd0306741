"""Global AP and AP per picture against loops, and on what the thesis complains of."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import pytest

from lookonce.boxes import to_xywh, to_xyxy
from lookonce.evaluate.columns import Answers, Objects
from lookonce.evaluate.overall import ap_per_image, global_ap, relabelled
from lookonce.evaluate.voc import voc

PICTURES, CLASSES = 4, 3


class Thing(NamedTuple):
    """An object."""

    picture: int
    label: int
    box: list[float]
    difficult: bool
    crowd: bool


class Said(NamedTuple):
    """An answer."""

    picture: int
    label: int
    box: list[float]
    score: float


# ---------------------------------------------------------------------- the oracle
def overlap(a: list[float], b: list[float], crowd: bool) -> float:
    wide = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    high = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    if wide <= 0 or high <= 0:
        return 0
    return wide * high / (a[2] * a[3] if crowd else a[2] * a[3] + b[2] * b[3] - wide * high)


def precision_area(things: list[Thing], answers: list[Said], least: float) -> float:
    """Go through the answers from the surest; each takes the best object left that counts, else one that does not."""
    count = sum(not (thing.difficult or thing.crowd) for thing in things)
    if not count:
        return math.nan
    free = set(range(len(things)))
    hits, precisions, at_hit = 0, [], []
    for said in sorted(answers, key=lambda said: -said.score):
        choice: dict[bool, tuple[float, int]] = {}
        for number in sorted(free):
            thing = things[number]
            if (thing.picture, thing.label) != (said.picture, said.label):
                continue
            share, spared = overlap(said.box, thing.box, thing.crowd), thing.difficult or thing.crowd
            if share >= least and share >= choice.get(spared, (0.0, 0))[0]:
                choice[spared] = (share, number)
        chosen = choice.get(False, choice.get(True))
        if chosen is not None:
            if not things[chosen[1]].crowd:
                free.remove(chosen[1])
            if False not in choice:
                continue
            hits += 1
            at_hit.append(len(precisions))
        precisions.append(hits / (len(precisions) + 1))
    return sum(max(precisions[place:]) for place in at_hit) / count


# ---------------------------------------------------------------------- random sets
def random_set(seed: int) -> tuple[list[Thing], list[Said]]:
    rng = np.random.default_rng(seed)

    def box() -> list[float]:
        return [*rng.integers(0, 5, 2) * 8.0, *rng.integers(1, 5, 2) * 8.0]

    things = [
        Thing(int(rng.integers(PICTURES)), int(rng.integers(CLASSES)), box(), *(rng.random(2) < 0.2).tolist())
        for _ in range(rng.integers(0, 25))
    ]
    answers = []
    for _ in range(rng.integers(0, 60)):
        near = things[rng.integers(len(things))] if things else None
        score = float(rng.random() if seed % 2 else rng.integers(0, 5) / 4)
        if near is None or rng.random() < 0.4:
            answers.append(Said(int(rng.integers(PICTURES)), int(rng.integers(CLASSES)), box(), score))
        else:
            moved = (np.array(near.box) + rng.integers(-1, 2, 4) * 4).tolist()
            answers.append(Said(near.picture, near.label, moved, score))
    return things, answers


def columns(things: list[Thing], answers: list[Said]) -> tuple[Objects, Answers]:
    def column(rows: list[Any], place: int, kind: type) -> np.ndarray:
        return np.array([row[place] for row in rows], kind)

    there, found = (np.array([row.box for row in rows], float).reshape(-1, 4) for rows in (things, answers))
    hard, crowd = column(things, 3, bool), column(things, 4, bool)
    area = there[:, 2] * there[:, 3]
    return (
        Objects(column(things, 0, int), column(things, 1, int), to_xyxy(there), there, hard, crowd, area),
        Answers(column(answers, 0, int), column(answers, 1, int), to_xyxy(found), found, column(answers, 3, float)),
    )


@pytest.mark.parametrize("least", [0.5, 0.75])
@pytest.mark.parametrize("seed", range(150))
def test_random_sets_are_judged_as_loops_judge_them(seed: int, least: float) -> None:
    things, answers = random_set(seed)
    whole = global_ap(*columns(things, answers), iou=least)
    assert whole.ap == pytest.approx(precision_area(things, answers, least), abs=1e-12, nan_ok=True)
    each = ap_per_image(*columns(things, answers), PICTURES, iou=least)
    for number in range(PICTURES):
        own = [thing for thing in things if thing.picture == number]
        expected = precision_area(own, [said for said in answers if said.picture == number], least)
        assert each.ap[number] == pytest.approx(expected, abs=1e-12, nan_ok=True)
    known = [value for value in each.ap.tolist() if not math.isnan(value)]
    assert each.mean == pytest.approx(sum(known) / len(known) if known else math.nan, nan_ok=True)


# ---------------------------------------------------------------------- by hand
def test_two_detectors_that_mean_ap_calls_equal_are_told_apart() -> None:
    """As in figure 3.5: wrong classes do no harm to mean AP while each class ranks its own right box first.

    Picture 0 holds a dog (class 0) and a cat (1), picture 1 a horse (2). The second detector also calls the dog a
    horse, surer than the cat; the horse itself is surer still.
    """
    box = [0.0, 0, 10, 10]
    far = [50.0, 50, 10, 10]
    things = [Thing(0, 0, box, False, False), Thing(0, 1, far, False, False), Thing(1, 2, box, False, False)]
    good = [Said(0, 0, box, 0.9), Said(0, 1, far, 0.5), Said(1, 2, box, 0.8)]
    bad = [*good, Said(0, 2, box, 0.7)]
    for answers, over_all, per_picture in ((good, 1, 1), (bad, (1 + 1 + 3 / 4) / 3, ((1 + 2 / 3) / 2 + 1) / 2)):
        objects, found = columns(things, answers)
        assert voc(objects, found, ["dog", "cat", "horse"], points=None).mean == 1
        assert global_ap(objects, found).ap == pytest.approx(over_all)
        assert ap_per_image(objects, found, 2).mean == pytest.approx(per_picture)


def test_pictures_without_objects_are_left_out_of_the_mean_but_not_of_the_global_figure() -> None:
    box = [0.0, 0, 10, 10]
    objects, answers = columns([Thing(1, 0, box, False, False)], [Said(0, 0, box, 0.9), Said(1, 0, box, 0.8)])
    each = ap_per_image(objects, answers, 3)
    assert np.isnan(each.ap).tolist() == [True, False, True]
    assert each.mean == 1
    assert global_ap(objects, answers).ap == 0.5


def test_nothing_at_all_has_no_figure() -> None:
    objects, answers = columns([], [])
    assert math.isnan(global_ap(objects, answers).ap)
    assert math.isnan(ap_per_image(objects, answers, 0).mean)


def test_a_map_merges_classes_and_leaves_others_out() -> None:
    """Terrier and poodle become dog, cat is left out: its objects are not missed, its answers not wrong."""
    box, far = [0.0, 0, 10, 10], [50.0, 50, 10, 10]
    things = [Thing(0, 0, box, False, False), Thing(0, 2, far, False, False)]
    answers = [Said(0, 1, box, 0.5), Said(0, 2, box, 0.9)]
    objects, found = (relabelled(each, np.array([0, 0, -1])) for each in columns(things, answers))
    assert (objects.label.tolist(), found.label.tolist(), found.score.tolist()) == ([0], [0], [0.5])
    assert np.array_equal(found.xyxy, to_xyxy(np.array([box])))
    assert voc(objects, found, ["dog"], points=None).mean == 1


def test_a_class_that_the_map_does_not_know_is_refused() -> None:
    _, answers = columns([], [Said(0, 2, [0.0, 0, 1, 1], 0.5)])
    with pytest.raises(ValueError, match="row 0: class 2, the map has 2 classes"):
        relabelled(answers, np.array([0, 1]))


def test_numbers_that_cannot_be_are_refused() -> None:
    box = np.ones((1, 4))
    answers = Answers(np.array([3]), np.array([0]), box, to_xywh(box), np.ones(1))
    objects, _ = columns([], [])
    with pytest.raises(ValueError, match="answers: row 0: picture 3, wanted 0 to 2"):
        ap_per_image(objects, answers, 3)
    with pytest.raises(ValueError, match=r"iou=1\.5, wanted more than 0"):
        global_ap(objects, answers, iou=1.5)
