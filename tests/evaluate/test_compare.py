from __future__ import annotations

import contextlib
import io
import itertools
import time

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from scenes import K, answers_of, matched, objects_of, scene

from lookonce.evaluate.columns import Answers, Objects
from lookonce.evaluate.compare import AveragePrecision, Comparison, compare
from lookonce.evaluate.voc import voc

P = 12


def by_pycocotools(truth: Objects, given: Answers, pictures: int) -> float:
    """COCO's AP. Difficult objects are crowds to it."""
    crowd = truth.crowd | truth.difficult
    coco = COCO()
    coco.dataset = {
        "images": [{"id": n + 1} for n in range(pictures)],
        "categories": [{"id": n + 1} for n in range(K)],
        "annotations": [
            {"id": n + 1, "image_id": int(p) + 1, "category_id": int(c) + 1, "bbox": b.tolist(), "area": 50.0,
             "iscrowd": int(w)}
            for n, (p, c, b, w) in enumerate(zip(truth.picture, truth.label, truth.xywh, crowd, strict=True))
        ],
    }  # fmt: skip
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
        rows = [
            {"image_id": int(p) + 1, "category_id": int(c) + 1, "bbox": b.tolist(), "score": float(s)}
            for p, c, b, s in zip(given.picture, given.label, given.xywh, given.score, strict=True)
        ]
        judge = COCOeval(coco, coco.loadRes(rows), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return float(judge.stats[0])


def repeated(truth: Objects, given: Answers, drawn: np.ndarray) -> tuple[Objects, Answers]:
    """The drawn pictures as a dataset, row by row."""

    def rows(picture: np.ndarray) -> tuple[list[int], list[int]]:
        pairs = [(n, row) for n, one in enumerate(drawn) for row in range(len(picture)) if picture[row] == one]
        return [n for n, _ in pairs], [row for _, row in pairs]

    number, which = rows(truth.picture)
    objects = Objects(*(column[which] for column in truth))._replace(picture=np.array(number, np.int64))
    number, which = rows(given.picture)
    return objects, Answers(*(column[which] for column in given))._replace(picture=np.array(number, np.int64))


@pytest.mark.parametrize("seed", range(4))
def test_cocos_ap_is_that_of_pycocotools_on_all_pictures_and_on_drawn_ones(seed):
    """A picture drawn twice is two pictures to pycocotools. No two scores are equal but those of such twins."""
    truth, given = scene(seed)
    truth = truth._replace(crowd=truth.crowd | truth.difficult)
    rng = np.random.default_rng(seed)
    given = given._replace(score=rng.permutation(len(given.score)) / len(given.score))
    metric = AveragePrecision(truth, given, P, K)
    assert metric(np.arange(P)) == pytest.approx(by_pycocotools(truth, given, P), abs=1e-12)
    for _ in range(3):
        drawn = rng.integers(0, P, P)
        assert metric(drawn) == pytest.approx(by_pycocotools(*repeated(truth, given, drawn), P), abs=1e-12)


def test_only_the_surest_hundred_of_a_picture_and_class_count():
    truth = objects_of([(0, 0, (0, 0, 10, 10))])
    given = answers_of([(0, 0, (50, 50, 60, 60), 0.9)] * 100 + [(0, 0, (0, 0, 10, 10), 0.5)])
    assert AveragePrecision(truth, given, 1, 1)(np.arange(1)) == 0
    assert AveragePrecision(truth, given, 1, 1, most=None)(np.arange(1)) == pytest.approx(1 / 101)


@pytest.mark.parametrize("points", [11, None])
@pytest.mark.parametrize("seed", range(3))
def test_vocs_ap_is_that_of_a_loop(points, seed):
    truth, given = scene(seed)
    rng = np.random.default_rng(seed)
    given = given._replace(score=rng.permutation(len(given.score)) / len(given.score))
    found, ignored = matched(truth, given, "voc")
    metric = AveragePrecision(truth, given, P, K, thresholds=(0.5,), rule="voc", points=points, most=None)
    for label, got in enumerate(metric.by_class(np.arange(P))):
        total = sum((truth.label == label) & ~truth.difficult & ~truth.crowd)
        right = wrong = 0
        curve = []
        for row in sorted(range(len(found)), key=lambda row: -given.score[row]):
            if given.label[row] == label and not ignored[row]:
                right, wrong = right + (found[row] >= 0), wrong + (found[row] < 0)
                curve.append((right / total, right / (right + wrong)))
        if points:
            steps = np.linspace(0, 1, points)
            wanted = np.mean([max((p for r, p in curve if r >= step), default=0) for step in steps])
        else:
            recalls = [0, *sorted({r for r, _ in curve})]
            wanted = sum(
                (high - low) * max(p for r, p in curve if r >= high)
                for low, high in itertools.pairwise(recalls)
            )
        assert got == pytest.approx(wanted)


@pytest.mark.parametrize("points", [11, None])
def test_vocs_ap_is_that_of_vocs_judge(points):
    """Without crowds, which VOC has not, and without equal scores, whose order is that of the rows."""
    truth, given = scene(5)
    truth = truth._replace(crowd=np.zeros(60, bool))
    given = given._replace(score=np.random.default_rng(5).permutation(len(given.score)) / len(given.score))
    metric = AveragePrecision(truth, given, P, K, thresholds=(0.5,), rule="voc", points=points, most=None)
    names = [str(label) for label in range(K)]
    for seed in range(5):
        drawn = np.unique(np.random.default_rng(seed).integers(0, P, P))
        wanted = voc(*repeated(truth, given, drawn), names, points=points).mean
        assert metric(drawn) == pytest.approx(wanted, abs=1e-12)


def test_a_class_without_objects_has_no_ap_and_no_objects_no_figure():
    here = (0, 0, 9, 9)
    truth, given = objects_of([(0, 1, here)]), answers_of([(0, 0, here, 0.5), (0, 1, here, 0.5)])
    metric = AveragePrecision(truth, given, 2, 3)
    assert np.isnan(metric.by_class(np.array([0, 1]))[[0, 2]]).all()
    assert metric(np.array([0, 1])) == pytest.approx(1)
    assert np.isnan(metric(np.array([1, 1])))
    assert np.isnan(AveragePrecision(objects_of([]), answers_of([]), 2, 3)(np.array([0, 1])))


def test_the_interval_of_a_mean_is_that_of_its_standard_error():
    """The bootstrap of a mean of n is normal with the deviation over root n: here 1 / 20, and 1.96 of it each way."""
    rng = np.random.default_rng(0)
    figures = rng.normal(0, 1, 400)
    figures = (figures - figures.mean()) / figures.std()
    got = compare(lambda some: figures[some].mean(), lambda some: 0.0, 400, resamples=4000)
    assert got.difference == pytest.approx(0, abs=1e-12)
    assert got.high == pytest.approx(1.96 / 20, rel=0.06)
    assert got.low == pytest.approx(-1.96 / 20, rel=0.06)
    assert got.better == pytest.approx(0.5, abs=0.03)
    assert got.better + got.worse == 1


def test_pictures_are_paired():
    """A is better by .1 on every picture, though pictures differ by much more."""
    figures = np.random.default_rng(0).normal(0, 10, 50)
    got = compare(lambda some: figures[some].mean() + 0.1, lambda some: figures[some].mean(), 50)
    assert (got.low, got.high) == (pytest.approx(0.1), pytest.approx(0.1))
    assert (got.better, got.worse, got.resamples) == (1, 0, 1000)


def test_the_seed_decides():
    truth, given = scene(0)
    one, other = AveragePrecision(truth, given, P, K), AveragePrecision(truth, scene(7)[1], P, K)
    first = compare(one, other, P, resamples=50, seed=3)
    assert first == compare(one, other, P, resamples=50, seed=3)
    assert first != compare(one, other, P, resamples=50, seed=4)
    assert first.difference == first.a - first.b
    same = compare(one, one, P, resamples=50)
    assert (same.low, same.high, same.better, same.worse) == (0, 0, 0, 0)


def test_without_figures_there_is_no_interval():
    got = compare(lambda some: np.nan, lambda some: 1.0, 3, resamples=5)
    assert isinstance(got, Comparison)
    assert got.resamples == 0
    assert np.isnan(got.low)
    assert compare(lambda some: np.nan, lambda some: np.nan, 0).resamples == 0


def test_a_thousand_resamples_of_128_pictures_take_seconds():
    """80 classes, 900 objects, 100 answers a picture, COCO's ten overlaps. The bound is for a busy core."""
    rng = np.random.default_rng(0)

    def boxes(count: int) -> np.ndarray:
        corner = rng.uniform(0, 400, (count, 2))
        return np.concatenate([corner, corner + rng.uniform(10, 200, (count, 2))], axis=1)

    place = boxes(900)
    picture, label = rng.integers(0, 128, 900), rng.integers(0, 80, 900)
    truth = objects_of(list(zip(picture, label, place, strict=True)))
    metrics = []
    for _ in range(2):
        of = rng.integers(0, 900, 12_800)
        near = np.where(rng.random((12_800, 1)) < 0.3, place[of] + rng.normal(0, 5, (12_800, 4)), boxes(12_800))
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        given = answers_of(list(zip(picture[of], label[of], near, rng.random(12_800), strict=True)))
        metrics.append(AveragePrecision(truth, given, 128, 80))
    start = time.perf_counter()
    got = compare(*metrics, 128)
    assert time.perf_counter() - start < 30
    assert got.low <= got.difference <= got.high
