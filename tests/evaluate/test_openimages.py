"""The Open Images figures against its rules as loops over boxes, and each rule by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from lookonce.boxes import to_xyxy
from lookonce.evaluate.columns import Answers, Objects
from lookonce.evaluate.openimages import open_images, to_ancestors, verified_with_ancestors

NAMES = ("a", "b", "c")
PICTURES = 4


class Thing(NamedTuple):
    """An object; `group` if it stands for several."""

    picture: int
    label: int
    box: list[float]
    difficult: bool = False
    group: bool = False


class Said(NamedTuple):
    """An answer."""

    picture: int
    label: int
    box: list[float]
    score: float


# ---------------------------------------------------------------------- the oracle
def shared(a: list[float], b: list[float]) -> float:
    wide = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    high = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    return wide * high if wide > 0 and high > 0 else 0


def in_picture(things: list[Thing], queue: list[Said], count_groups: bool) -> dict[int, bool]:
    """Of the answers to one picture and class that count, by place: hit or miss."""
    singles, bunches = ([thing for thing in things if thing.group == kind] for kind in (False, True))
    verdict: dict[int, bool] = {}
    found: set[int] = set()
    fallen: set[int] = set()
    for place, said in enumerate(queue):
        ious = [
            shared(said.box, thing.box)
            / (said.box[2] * said.box[3] + thing.box[2] * thing.box[3] - shared(said.box, thing.box))
            for thing in singles
        ]
        best = ious.index(max(ious)) if ious else -1
        verdict[place] = False
        if ious and ious[best] >= 0.5:
            if singles[best].difficult:
                fallen.add(place)
            elif best not in found:
                found.add(best)
                verdict[place] = True
    taken: set[int] = set()
    for place, said in enumerate(queue):
        inside = [shared(said.box, bunch.box) / (said.box[2] * said.box[3]) for bunch in bunches]
        if place in fallen or verdict[place] or not inside or max(inside) < 0.5:
            continue
        bunch = inside.index(max(inside))
        if count_groups and bunch not in taken:
            taken.add(bunch)
            verdict[place] = True
        else:
            fallen.add(place)
    return {place: hit for place, hit in verdict.items() if place not in fallen}


def average_precision(
    things: list[Thing], answers: list[Said], verified: list[list[int]], label: int, count_groups: bool
) -> float:
    things = [thing for thing in things if thing.label == label]
    count = sum(not thing.difficult and (count_groups or not thing.group) for thing in things)
    if not count:
        return math.nan
    rows: list[tuple[float, int, bool]] = []
    for picture in range(PICTURES):
        own = [thing for thing in things if thing.picture == picture]
        if not own and [picture, label] not in verified:
            continue
        numbered = [(row, said) for row, said in enumerate(answers) if (said.picture, said.label) == (picture, label)]
        queue = sorted(numbered, key=lambda each: -each[1].score)
        for place, hit in in_picture(own, [said for _, said in queue], count_groups).items():
            rows.append((-queue[place][1].score, queue[place][0], hit))
    hits, precisions, at_hit = 0, [], []
    for _, _, hit in sorted(rows):
        hits += hit
        if hit:
            at_hit.append(len(precisions))
        precisions.append(hits / (len(precisions) + 1))
    return sum(max(precisions[place:]) for place in at_hit) / count


# ---------------------------------------------------------------------- random sets
def random_set(seed: int) -> tuple[list[Thing], list[Said], list[list[int]]]:
    rng = np.random.default_rng(seed)

    def box() -> list[float]:
        return [*rng.integers(0, 5, 2) * 8.0, *rng.integers(1, 5, 2) * 8.0]

    things = []
    for _ in range(rng.integers(0, 25)):
        group = bool(rng.random() < 0.3)
        hard = bool(rng.random() < 0.15) and not group
        things.append(Thing(int(rng.integers(PICTURES)), int(rng.integers(3)), box(), hard, group))
    answers = []
    for _ in range(rng.integers(0, 60)):
        score = float(rng.random() if seed % 2 else rng.integers(1, 5) / 4)
        near = things[rng.integers(len(things))] if things else None
        if near is None or rng.random() < 0.4:
            answers.append(Said(int(rng.integers(PICTURES)), int(rng.integers(3)), box(), score))
        else:
            moved = (np.array(near.box) + rng.integers(-1, 2, 4) * 4).tolist()
            answers.append(Said(near.picture, near.label, moved, score))
    verified = [[picture, label] for picture in range(PICTURES) for label in range(3) if rng.random() < 0.4]
    return things, answers, verified


def columns(things: list[Thing], answers: list[Said]) -> tuple[Objects, Answers]:
    def column(rows: list[Any], place: int, kind: type) -> np.ndarray:
        return np.array([row[place] for row in rows], kind)

    there, found = (np.array([row.box for row in rows], float).reshape(-1, 4) for rows in (things, answers))
    hard, group = column(things, 3, bool), column(things, 4, bool)
    area = there[:, 2] * there[:, 3]
    return (
        Objects(column(things, 0, int), column(things, 1, int), to_xyxy(there), there, hard, group, area),
        Answers(column(answers, 0, int), column(answers, 1, int), to_xyxy(found), found, column(answers, 3, float)),
    )


def pairs_of(rows: list[list[int]]) -> np.ndarray:
    return np.array(rows, np.int64).reshape(-1, 2)


@pytest.mark.parametrize("count_groups", [True, False])
@pytest.mark.parametrize("seed", range(200))
def test_random_sets_are_judged_as_loops_judge_them(seed: int, count_groups: bool) -> None:
    things, answers, verified = random_set(seed)
    figures = open_images(*columns(things, answers), pairs_of(verified), NAMES, count_groups=count_groups)
    expected = [average_precision(things, answers, verified, label, count_groups) for label in range(3)]
    assert figures.ap == pytest.approx(expected, abs=1e-12, nan_ok=True)
    known = [value for value in expected if not math.isnan(value)]
    assert figures.mean == pytest.approx(sum(known) / len(known) if known else math.nan, nan_ok=True)


# ---------------------------------------------------------------------- by hand
NONE = pairs_of([])
BIG, PART, OTHER, AWAY = [0.0, 0, 100, 100], [10.0, 10, 20, 20], [60.0, 60, 20, 20], [300.0, 300, 20, 20]


def test_all_answers_in_a_group_are_one_hit_at_the_score_of_the_surest() -> None:
    """None of them covers half of the group; a miss in between and nothing more after it."""
    answers = [Said(0, 0, OTHER, 0.6), Said(0, 0, PART, 0.9), Said(0, 0, PART, 0.5), Said(0, 0, AWAY, 0.7)]
    figures = open_images(*columns([Thing(0, 0, BIG, group=True)], answers), NONE, ["a"])
    assert figures.curves[0].score.tolist() == [0.9, 0.7]
    assert figures.curves[0].precision.tolist() == [1, 0.5]
    assert figures.mean == 1


def test_a_group_that_nobody_finds_is_missed() -> None:
    things = [Thing(0, 0, BIG, group=True), Thing(1, 0, BIG)]
    assert open_images(*columns(things, [Said(1, 0, BIG, 0.9)]), NONE, ["a"]).mean == 0.5
    assert open_images(*columns(things, [Said(1, 0, BIG, 0.9)]), NONE, ["a"], count_groups=False).mean == 1


def test_before_the_challenges_answers_in_a_group_did_not_count() -> None:
    things = [Thing(0, 0, BIG, group=True), Thing(1, 0, BIG)]
    answers = [Said(0, 0, PART, 0.9), Said(1, 0, BIG, 0.8)]
    figures = open_images(*columns(things, answers), NONE, ["a"], count_groups=False)
    assert figures.curves[0].score.tolist() == [0.8]


def test_a_second_answer_on_an_object_is_forgiven_inside_a_group() -> None:
    things = [Thing(0, 0, PART), Thing(0, 0, BIG, group=True)]
    figures = open_images(*columns(things, [Said(0, 0, PART, 0.9), Said(0, 0, PART, 0.8)]), NONE, ["a"])
    assert figures.curves[0].precision.tolist() == [1, 1]


def test_answers_of_a_class_that_nobody_looked_for_are_not_judged() -> None:
    """Picture 1 has no box of class a. Only once its absence is verified is the answer there wrong."""
    columns_of_it = columns([Thing(0, 0, BIG)], [Said(1, 0, BIG, 0.9), Said(0, 0, BIG, 0.8)])
    assert open_images(*columns_of_it, NONE, ["a"]).mean == 1
    assert open_images(*columns_of_it, pairs_of([[1, 0]]), ["a"]).mean == 0.5


# ---------------------------------------------------------------------- the hierarchy
PARENTS = {0: [1], 1: [2], 3: [1, 4], 4: [2]}          # 3 stands under 2 by two ways


def test_an_object_is_also_one_of_every_class_above_its_own() -> None:
    objects, _ = columns([Thing(0, 0, BIG), Thing(1, 3, PART), Thing(2, 2, AWAY)], [])
    above = to_ancestors(objects, PARENTS)
    assert sorted(zip(above.picture.tolist(), above.label.tolist(), strict=True)) == [
        (0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (1, 3), (1, 4), (2, 2),
    ]  # fmt: skip
    assert np.array_equal(above.xywh[above.picture == 1], np.array([PART] * 4))


def test_what_is_present_is_so_upwards_and_what_is_absent_downwards() -> None:
    known = verified_with_ancestors(pairs_of([[0, 0]]), pairs_of([[1, 1], [2, 2]]), PARENTS)
    assert known.tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 3], *([2, number] for number in range(5))]


def test_a_hierarchy_that_goes_round_in_circles_ends() -> None:
    objects, _ = columns([Thing(0, 0, BIG)], [])
    assert to_ancestors(objects, {0: [1], 1: [0, 0]}).label.tolist() == [0, 1]


def test_without_objects_there_is_nothing_to_spread() -> None:
    objects, answers = columns([], [])
    assert len(to_ancestors(objects, PARENTS).label) == len(to_ancestors(answers, PARENTS).label) == 0
    assert verified_with_ancestors(NONE, NONE, PARENTS).shape == (0, 2)
    assert math.isnan(open_images(objects, answers, NONE, NAMES).mean)


@pytest.mark.shared
def test_the_published_hierarchy_is_climbed_to_its_top(shared: Path) -> None:
    """The 600 boxable classes; the oracle walks the file itself. Some classes stand in it at two places."""
    document = json.loads((shared / "data" / "lists" / "bbox_labels_600_hierarchy.json").read_text())
    number: dict[str, int] = {}
    parents: dict[int, set[int]] = {}
    expected: dict[int, set[int]] = {}

    def walk(node: dict[str, Any], way: list[int]) -> None:
        here = number.setdefault(node["LabelName"], len(number))
        expected.setdefault(here, set()).update([*way, here])
        if way:
            parents.setdefault(here, set()).add(way[-1])
        for child in node.get("Subcategory", []):
            walk(child, [*way, here])

    walk(document, [])
    objects, _ = columns([Thing(label, label, BIG) for label in range(len(number))], [])
    above = to_ancestors(objects, parents)
    for label in range(len(number)):
        assert set(above.label[above.picture == label].tolist()) == expected[label]
    assert any(len(each) > 1 for each in parents.values())
