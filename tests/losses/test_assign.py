"""Assignment against loops over all boxes and truths."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lookonce.losses import assign
from lookonce.truth import Targets

Box = list[float]


def iou(a: Box, b: Box) -> float:
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = wide * high if wide > 0 and high > 0 else 0.0
    return both / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both)


def scene(seed: int, counts: list[int], boxes: int = 50) -> tuple[torch.Tensor, Targets]:
    """`boxes` predictions in each picture, and so many truths in each, as float64 tensors."""
    rng = np.random.default_rng(seed)
    first = rng.uniform(0, 0.7, (len(counts), boxes, 2))
    xyxy = np.concatenate([first, first + rng.uniform(0.05, 0.5, first.shape)], 2)
    truths = [
        (np.c_[rng.uniform(0.2, 0.8, (n, 2)), rng.uniform(0.05, 0.5, (n, 2))], rng.integers(0, 3, n)) for n in counts
    ]
    predicted = torch.from_numpy(xyxy)
    return predicted, assign.as_tensors(Targets.of(truths), predicted)


@pytest.mark.parametrize("block", [1, 130, 1 << 20])
@pytest.mark.parametrize("counts", [[5], [0], [0, 7, 0, 90, 1], [3, 3], [0, 0]])
def test_the_best_truth_is_that_of_a_loop(counts: list[int], block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many pairs are compared at once."""
    monkeypatch.setattr(assign, "BLOCK", block)
    boxes, targets = scene(len(counts), counts)
    best = assign.best_truths(boxes, targets)
    truths = assign.xyxy_of(targets.cxcywh).tolist()
    for picture in range(len(counts)):
        rows = [row for row, owner in enumerate(targets.picture.tolist()) if owner == picture]
        for number, box in enumerate(boxes[picture].tolist()):
            most, wanted = 0.0, -1
            for row in rows:
                if iou(box, truths[row]) > most:
                    most, wanted = iou(box, truths[row]), row
            assert best.iou[picture, number].item() == pytest.approx(most, abs=1e-12)
            assert best.row[picture, number].item() == wanted


@pytest.mark.parametrize("block", [1, 1 << 20])
def test_of_equal_truths_the_first_is_the_best(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(assign, "BLOCK", block)
    box = np.array([[0.1, 0.1, 0.1, 0.1], [0.5, 0.5, 0.2, 0.2], [0.5, 0.5, 0.2, 0.2], [0.5, 0.5, 0.2, 0.2]])
    targets = assign.as_tensors(Targets.of([(box, np.zeros(4))]), torch.zeros(1, dtype=torch.float64))
    best = assign.best_truths(torch.tensor([[[0.4, 0.4, 0.6, 0.6]]], dtype=torch.float64), targets)
    assert best.row.tolist() == [[1]]
    assert best.iou.tolist() == [[pytest.approx(1)]]


def test_absurd_boxes_have_no_best_truth_and_hurt_no_other() -> None:
    boxes = torch.tensor([[[-1e17] * 2 + [1e17] * 2, [0.5] * 4, [float("nan")] * 4, [0.4, 0.4, 0.6, 0.6]]])
    targets = assign.as_tensors(Targets.of([(np.array([[0.5, 0.5, 0.2, 0.2]]), np.zeros(1))]), boxes)
    best = assign.best_truths(boxes, targets)
    assert best.iou[0].tolist() == pytest.approx([0, 0, 0, 1], abs=1e-6)
    assert best.row[0, 1:].tolist() == [-1, -1, 0]


def test_best_truths_needs_little_memory_for_many_truths(monkeypatch: pytest.MonkeyPatch) -> None:
    """At no time more pairs than BLOCK, here 22 boxes and truths at a time of 90."""
    monkeypatch.setattr(assign, "BLOCK", 4 * 50 * 22)
    sizes: list[int] = []
    compare = assign._iou
    monkeypatch.setattr(assign, "_iou", lambda a, b: (sizes.append(a.left.numel() * b.left.shape[1]), compare(a, b))[1])
    assign.best_truths(*scene(0, [90, 90, 90, 90]))
    assert sizes == [4 * 50 * 22] * 4 + [4 * 50 * 2]


def test_shapes_are_compared_at_one_centre() -> None:
    sizes = torch.tensor([[2.0, 2.0], [1.0, 4.0], [0.0, 0.0]], dtype=torch.float64)
    shapes = torch.tensor([[1.0, 4.0], [2.0, 2.0], [4.0, 4.0]], dtype=torch.float64)
    found = assign.shape_iou(sizes, shapes)
    assert found.tolist() == [[2 / 6, 1, 4 / 16], [1, 2 / 6, 4 / 16], [0, 0, 0]]
    assert assign.shape_iou(sizes, shapes.expand(3, 3, 2)).tolist() == found.tolist()
    assert assign.shape_iou(torch.zeros(1, 2), torch.zeros(1, 2)).tolist() == [[0]]


def test_a_centre_on_the_edge_is_in_the_last_cell() -> None:
    """Of 4 x 2 cells: 0, just below and on the line between cells, and the picture's far edge and beyond."""
    centre = [[0, 0], [0.2499, 0.4999], [0.25, 0.5], [0.999, 0.999], [1, 1], [1.01, 2], [-0.1, -3]]
    box = np.c_[np.array(centre), np.full((7, 2), 0.1)]
    targets = assign.as_tensors(Targets.of([(box, np.zeros(7))]), torch.zeros(1))
    column, row = assign.cell_of(targets, columns=4, rows=2)
    assert column.tolist() == [0, 0, 1, 3, 3, 3, 0]
    assert row.tolist() == [0, 0, 1, 1, 1, 1, 0]


@pytest.mark.parametrize("count", [0, 1, 7, 5000])
def test_the_last_truth_of_a_place_wins(count: int) -> None:
    """5000 truths in 40 places: whatever is written in parallel, the last one counts."""
    place = np.random.default_rng(count).integers(0, 40, count)
    winner = {int(where): number for number, where in enumerate(place)}
    slots = assign.places(torch.from_numpy(place))
    assert len(slots.last) == len(winner)
    assert sorted(slots.last.tolist()) == sorted(winner.values())
    for number, where in enumerate(place):
        assert slots.last[slots.slot[number]].item() == winner[int(where)]


def test_rows_without_a_place_are_told_apart() -> None:
    nan = float("nan")
    box = np.array([[0.5, 0.5, 0.1, 0.1], [nan] * 4, [0.1, 0.2, 0.3, 0.4]])
    targets = assign.as_tensors(Targets.of([(box, np.array([4, 5, 6]))]), torch.zeros(1, dtype=torch.float64))
    known = assign.with_boxes(targets)
    assert known.tolist() == [True, False, True]
    some = assign.take(targets, known)
    assert (some.label.tolist(), some.picture.tolist(), some.pictures) == ([4, 6], [0, 0], 1)
    assert some.cxcywh.dtype == torch.float64
    assert assign.take(targets, torch.tensor([2, 0])).label.tolist() == [6, 4]
