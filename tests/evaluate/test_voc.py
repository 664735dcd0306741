"""VOC's figures against the devkit's steps, written as loops over boxes in its own corners."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from lookonce.boxes import to_xywh
from lookonce.evaluate.columns import Answers, Objects
from lookonce.evaluate.voc import ELEVEN, voc
from lookonce.truth import Truth

SETS = 300
NAMES = ("a", "b", "c")


# ---------------------------------------------------------------------- the oracle
def devkit(objects: list[dict[str, Any]], answers: list[dict[str, Any]], name: int, least: float) -> dict[str, Any]:
    """What VOCevaldet.m does for one class. Boxes are xmin, ymin, xmax, ymax, from 1."""
    own = [thing for thing in objects if thing["label"] == name]
    for thing in own:
        thing["found"] = False
    count = sum(not thing["difficult"] for thing in own)
    queue = sorted((answer for answer in answers if answer["label"] == name), key=lambda answer: -answer["score"])
    recall, precision, scores, hits, misses = [], [], [], 0, 0
    for answer in queue:
        most, best = -math.inf, None
        for thing in own:
            if thing["picture"] != answer["picture"]:
                continue
            a, b = answer["box"], thing["box"]
            wide = min(a[2], b[2]) - max(a[0], b[0]) + 1
            high = min(a[3], b[3]) - max(a[1], b[1]) + 1
            if wide <= 0 or high <= 0:
                continue
            both = wide * high
            area_a = (a[2] - a[0] + 1) * (a[3] - a[1] + 1)
            area_b = (b[2] - b[0] + 1) * (b[3] - b[1] + 1)
            share = both / (area_a + area_b - both)
            if share > most:
                most, best = share, thing
        if best is not None and most >= least:
            if best["difficult"]:
                continue
            if best["found"]:
                misses += 1
            else:
                hits += 1
                best["found"] = True
        else:
            misses += 1
        recall.append(hits / count if count else math.nan)
        precision.append(hits / (hits + misses))
        scores.append(answer["score"])
    return {"recall": recall, "precision": precision, "score": scores, "objects": count}


def eleven(recall: list[float], precision: list[float]) -> float:
    """VOC 2007: eleven recalls, each as near to a tenth as MATLAB makes it."""
    total = 0.0
    for step in range(11):
        least = step * 0.1 if step <= 5 else 1 - (10 - step) * 0.1
        total += max((p for r, p in zip(recall, precision, strict=True) if r >= least), default=0) / 11
    return total


def area(recall: list[float], precision: list[float]) -> float:
    """VOCap.m: pad, make precision fall, add up where recall changes."""
    r, p = [0.0, *recall, 1.0], [0.0, *precision, 0.0]
    for i in range(len(p) - 2, -1, -1):
        p[i] = max(p[i], p[i + 1])
    return sum((r[i] - r[i - 1]) * p[i] for i in range(1, len(r)) if r[i] != r[i - 1])


# ---------------------------------------------------------------------- random sets
def random_set(seed: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Objects and answers in the devkit's corners: whole numbers, few of them, so that overlaps tie and are .5."""
    rng = np.random.default_rng(seed)
    pictures, coarse = int(rng.integers(1, 5)), seed % 2 == 0

    def box() -> np.ndarray:
        if coarse:
            corner, side = rng.integers(1, 8, 2), rng.integers(0, 6, 2)
            return np.concatenate([corner, corner + side]).astype(float)
        corner, side = rng.random(2) * 60 + 1, rng.random(2) * 60
        return np.concatenate([corner, corner + side])

    objects = [
        {
            "picture": int(rng.integers(pictures)), "label": int(rng.integers(3)), "box": box(),
            "difficult": bool(rng.random() < 0.25),
        }
        for _ in range(rng.integers(0, 25))
    ]  # fmt: skip
    answers = []
    for _ in range(rng.integers(0, 60)):
        answer = {"picture": int(rng.integers(pictures)), "label": int(rng.integers(3)), "box": box()}
        if objects and rng.random() < 0.7:
            near = objects[rng.integers(len(objects))]
            moved = near["box"] + (rng.integers(-1, 2, 4) if coarse else rng.normal(0, 5, 4))
            moved[2:] = np.maximum(moved[:2], moved[2:])
            answer = {"picture": near["picture"], "label": near["label"], "box": moved}
        answers.append({**answer, "score": float(rng.integers(0, 5) / 4 if seed % 3 == 0 else rng.random())})
    return objects, answers


def columns(objects: list[dict[str, Any]], answers: list[dict[str, Any]]) -> tuple[Objects, Answers]:
    """As the package has them: from 0, the last pixel's end as the corner."""
    def column(rows: list[dict[str, Any]], key: str, kind: type) -> np.ndarray:
        return np.array([row[key] for row in rows], kind)

    shift = np.array([1, 1, 0, 0])
    there, found = (np.array([row["box"] for row in rows]).reshape(-1, 4) - shift for rows in (objects, answers))
    no = np.zeros(len(objects), bool)
    return (
        Objects(
            column(objects, "picture", int), column(objects, "label", int), there, to_xywh(there),
            column(objects, "difficult", bool), no, np.zeros(len(objects)),
        ),
        Answers(
            column(answers, "picture", int), column(answers, "label", int), found, to_xywh(found),
            column(answers, "score", float),
        ),
    )  # fmt: skip


@pytest.mark.parametrize("seed", range(SETS))
def test_random_sets_are_judged_as_the_devkit_judges_them(seed: int) -> None:
    objects, answers = random_set(seed)
    for points, average in ((11, eleven), (None, area)):
        for least in (0.5, 0.3):
            figures = voc(*columns(objects, answers), NAMES, points=points, iou=least)
            expected = []
            for number in range(3):
                one = devkit(objects, answers, number, least)
                curve = figures.curves[number]
                assert figures.objects[number] == one["objects"]
                np.testing.assert_allclose(curve.recall, one["recall"], rtol=0, atol=1e-12)
                np.testing.assert_allclose(curve.precision, one["precision"], rtol=0, atol=1e-12)
                assert curve.score.tolist() == one["score"]
                if one["objects"]:
                    expected.append(average(one["recall"], one["precision"]))
                    assert figures.ap[number] == pytest.approx(expected[-1], abs=1e-12)
                else:
                    assert math.isnan(figures.ap[number])
            mean = sum(expected) / len(expected) if expected else math.nan
            assert figures.mean == pytest.approx(mean, abs=1e-12, nan_ok=True)


def test_the_random_sets_hold_what_they_are_to_hold() -> None:
    """Difficult objects, tied scores, and answers at an overlap of exactly .5, which >= and > tell apart."""
    sets = [random_set(seed) for seed in range(SETS)]
    assert sum(any(thing["difficult"] for thing in objects) for objects, _ in sets) > 100
    assert sum(len({answer["score"] for answer in answers}) < len(answers) / 2 for _, answers in sets) > 50
    apart = 0
    for objects, answers in sets:
        there, found = columns(objects, answers)
        at, above = (voc(there, found, NAMES, points=None, iou=least).ap for least in (0.5, 0.5 + 1e-9))
        apart += not np.array_equal(at, above, equal_nan=True)
    assert apart > 30


# ---------------------------------------------------------------------- by hand
def one_picture(boxes: list[list[float]], difficult: list[bool] | None = None) -> Objects:
    hard = np.zeros(len(boxes), bool) if difficult is None else np.array(difficult)
    return Objects.of([Truth.of(np.zeros(len(boxes), int), xyxy=np.array(boxes), difficult=hard)])


def answers_of(boxes: list[list[float]], scores: list[float]) -> Answers:
    box = np.array(boxes, float).reshape(-1, 4)
    zeros = np.zeros(len(boxes), int)
    return Answers(zeros, zeros, box, to_xywh(box), np.array(scores, float))


def test_an_overlap_of_exactly_half_is_a_hit() -> None:
    """10 x 10 pixels within 10 x 20: the MATLAB devkit says >=."""
    figures = voc(one_picture([[0, 0, 10, 20]]), answers_of([[0, 0, 10, 10]], [0.9]), ["a"], points=None)
    assert figures.mean == 1


def test_the_second_answer_on_an_object_is_a_miss_though_another_object_would_do() -> None:
    """Both lie on the first object most; the second overlaps the other object by 80/120 > .5."""
    objects = one_picture([[0, 0, 10, 10], [2, 0, 12, 10]])
    figures = voc(objects, answers_of([[0, 0, 10, 10], [0.5, 0, 10.5, 10]], [0.9, 0.8]), ["a"], points=None)
    assert figures.curves[0].precision.tolist() == [1, 0.5]
    assert figures.mean == 0.5


def test_an_answer_on_a_difficult_object_is_neither_hit_nor_miss() -> None:
    objects = one_picture([[0, 0, 10, 10], [50, 50, 60, 60]], [True, False])
    figures = voc(objects, answers_of([[0, 0, 10, 10], [0, 0, 10, 10], [50, 50, 60, 60]], [0.9, 0.8, 0.7]), ["a"])
    assert figures.objects.tolist() == [1]
    assert figures.curves[0].score.tolist() == [0.7]
    assert figures.mean == 1


def test_answers_on_difficult_objects_only_give_nought_where_others_count() -> None:
    objects = one_picture([[0, 0, 10, 10], [50, 50, 60, 60]], [True, False])
    assert voc(objects, answers_of([[0, 0, 10, 10]], [0.9]), ["a"]).mean == 0


def test_among_equal_scores_the_first_answer_is_the_hit() -> None:
    objects = one_picture([[0, 0, 10, 10]])
    exact, off = [0, 0, 10, 10], [90, 90, 99, 99]
    first = voc(objects, answers_of([exact, off], [0.5, 0.5]), ["a"], points=None)
    last = voc(objects, answers_of([off, exact], [0.5, 0.5]), ["a"], points=None)
    assert (first.mean, last.mean) == (1, 0.5)


def test_corners_of_a_result_file_are_taken_as_they_are() -> None:
    """Pixels 1 to 10 against 6 to 20: 5 shared of 20, as the devkit counts. A file with xmax + 1 shares 6 of 20."""
    objects = one_picture([[5, 0, 20, 10]])
    answers = answers_of([[0, 0, 10, 10]], [0.9])
    for corners, share in (([1.0, 1, 10, 10], 5 / 20), ([1.0, 1, 11, 10], 6 / 20)):
        for iou, mean in ((share, 1), (share + 1e-9, 0)):
            assert voc(objects, answers, ["a"], iou=iou, corners=np.array([corners])).mean == mean
    assert voc(objects, answers, ["a"], iou=0.25).mean == 1
    assert voc(objects, answers, ["a"], iou=0.25 + 1e-9).mean == 0


def test_a_recall_of_exactly_three_tenths_does_not_reach_the_third_point() -> None:
    """0:0.1:1 holds 3 * .1, a little more than 3 / 10; of the other ten none is above its tenth."""
    assert [point > step / 10 for step, point in enumerate(ELEVEN.tolist())] == [step == 3 for step in range(11)]
    boxes = [[20.0 * number, 0, 20.0 * number + 10, 10] for number in range(10)]
    assert voc(one_picture(boxes), answers_of(boxes[:3], [0.9, 0.8, 0.7]), ["a"]).mean == pytest.approx(3 / 11)
    assert voc(one_picture(boxes), answers_of(boxes[:6], [0.9] * 6), ["a"]).mean == pytest.approx(7 / 11)


def test_a_class_without_objects_is_left_out_of_the_mean() -> None:
    figures = voc(one_picture([[0, 0, 10, 10]]), answers_of([[0, 0, 10, 10]], [0.9]), NAMES)
    assert figures.mean == 1
    assert np.isnan(figures.ap).tolist() == [False, True, True]


@pytest.mark.parametrize(
    ("options", "wrong"),
    [
        ({"points": 101}, "points"),                     # the tests' check of types is the first to refuse it
        ({"iou": 0.0}, "iou=0.0, wanted more than 0 and at most 1"),
        ({"corners": np.zeros((2, 4))}, "corners of 2 answers, wanted 1: one an answer"),
    ],
)
def test_what_cannot_be_used_is_refused(options: dict[str, Any], wrong: str) -> None:
    with pytest.raises(Exception, match=wrong):
        voc(one_picture([[0, 0, 1, 1]]), answers_of([[0, 0, 1, 1]], [1]), ["a"], **options)
