from __future__ import annotations

import time

import numpy as np
import pytest

from lookonce.boxes import PLAIN, NmsKind, area, iou, nms, nms_kind


def random_boxes(count: int, classes: int, seed: int, size: float = 0.3) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes (N, 4) in clusters, so that many overlap; scores; labels."""
    rng = np.random.default_rng(seed)
    middle = rng.random((max(1, count // 12), 2))[rng.integers(0, max(1, count // 12), count)]
    centre = middle + rng.normal(0, 0.02, (count, 2))
    extent = size * np.exp(rng.normal(-1, 0.3, (count, 2)))
    box = np.concatenate([centre - extent / 2, centre + extent / 2], axis=1).astype(np.float32)
    return box, rng.random(count).astype(np.float32), rng.integers(0, classes, count)


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boxes, 0 for two empty ones."""
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if wide <= 0 or high <= 0:
        return 0.0
    both = wide * high
    return float(both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both))


def distance(a: np.ndarray, b: np.ndarray) -> float:
    """Centre distance squared over the diagonal squared of the box around both."""
    across, down = (a[0] + a[2] - b[0] - b[2]) / 2, (a[1] + a[3] - b[1] - b[3]) / 2
    wide, high = max(a[2], b[2]) - min(a[0], b[0]), max(a[3], b[3]) - min(a[1], b[1])
    return float((across**2 + down**2) / (wide**2 + high**2)) if wide or high else 0.0


def plain_nms(box: np.ndarray, score: np.ndarray, label: np.ndarray, threshold: float, kind: NmsKind) -> list[int]:
    """Greedy suppression, one box after the other."""
    kept: list[int] = []
    for candidate in sorted(range(len(score)), key=lambda i: (-score[i], i)):
        for rival in kept:
            if label[rival] != label[candidate] and not kind.across_classes:
                continue
            value = overlap(box[rival].astype(float), box[candidate].astype(float))
            if kind.beta is not None:
                value -= distance(box[rival].astype(float), box[candidate].astype(float)) ** kind.beta
            if value > threshold:
                break
        else:
            kept.append(candidate)
    return kept


@pytest.mark.parametrize("kind", [PLAIN, NmsKind(0.6), NmsKind(1.2), NmsKind(None, across_classes=True)], ids=str)
@pytest.mark.parametrize(("count", "classes"), [(1, 1), (2, 1), (33, 1), (64, 2), (200, 5), (300, 80), (400, 3)])
def test_nms_keeps_what_a_plain_loop_keeps(count: int, classes: int, kind: NmsKind) -> None:
    """33 and 64 cross the block of 32; 5 and 80 classes go through the rounds of all classes, then few."""
    for seed in range(4):
        box, score, label = random_boxes(count, classes, seed)
        assert nms(box, score, label, 0.45, kind).tolist() == plain_nms(box, score, label, 0.45, kind)


def test_nms_of_nothing_is_nothing() -> None:
    none = nms(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), 0.45)
    assert none.shape == (0,)


def test_of_equal_scores_the_first_stays() -> None:
    box = np.array([[0, 0, 1, 1]] * 3, np.float32)
    assert nms(box, np.ones(3, np.float32), np.zeros(3, np.int64), 0.45).tolist() == [0]


def test_an_overlap_of_exactly_the_threshold_does_not_suppress() -> None:
    """Two boxes of area 2 that share 1: 1 / 3. Halves and thirds of small numbers: .25 is exact in floats."""
    box = np.array([[0, 0, 5, 1], [3, 0, 8, 1]], np.float32)          # 2 / 8 = .25
    score, label = np.array([0.9, 0.8], np.float32), np.zeros(2, np.int64)
    assert len(nms(box, score, label, 0.25)) == 2
    assert len(nms(box, score, label, 0.2499)) == 1


def test_empty_boxes_suppress_nothing() -> None:
    """Darknet divides 0 by 0 there, and NaN is above no threshold."""
    box = np.zeros((3, 4), np.float32)
    assert len(nms(box, np.ones(3, np.float32), np.zeros(3, np.int64), 0.45)) == 3


def test_classes_do_not_disturb_each_other_unless_asked() -> None:
    box = np.array([[0, 0, 1, 1]] * 2, np.float32)
    score, label = np.array([0.9, 0.8], np.float32), np.array([0, 1])
    assert nms(box, score, label, 0.45).tolist() == [0, 1]
    assert nms(box, score, label, 0.45, NmsKind(across_classes=True)).tolist() == [0]


def test_the_words_of_the_fork_mean_its_kinds() -> None:
    assert nms_kind("default", 0.6) == PLAIN
    assert nms_kind("greedynms", 0.9).beta == 0.6
    assert nms_kind("diounms", 0.9).beta == 0.9


def test_iou_equals_the_loop_and_broadcasts() -> None:
    a, _, _ = random_boxes(20, 1, 0)
    b, _, _ = random_boxes(30, 1, 1)
    expected = [[overlap(x.astype(float), y.astype(float)) for y in b] for x in a]
    np.testing.assert_allclose(iou(a[:, None], b[None]), expected, atol=1e-5)
    assert iou(np.zeros(4, np.float32), np.zeros(4, np.float32)) == 0


def test_an_area_is_width_times_height() -> None:
    np.testing.assert_allclose(area(np.array([[0.4, 0.3, 0.6, 0.7]])), [0.08])


def test_eight_thousand_candidates_in_eighty_classes_take_milliseconds() -> None:
    """10 ms on an idle core (bench/overhead.py); four times that here, where other tests run beside."""
    box, score, label = random_boxes(8000, 80, 0)
    taken = []
    for _ in range(7):
        start = time.perf_counter()
        nms(box, score, label, 0.45)
        taken.append(time.perf_counter() - start)
    assert min(taken) < 0.040
