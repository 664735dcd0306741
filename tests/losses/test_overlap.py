"""IoU and its heirs against arithmetic and against slopes by differences."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from lookonce.losses.overlap import limited, overlap, overlaps

KINDS = ("iou", "giou", "diou", "ciou")


def by_hand(kind: str, box: list[float], truth: list[float], balance: float | None = None) -> float:
    """One pair, written out. `balance` is CIoU's weight of the angles if it is not to be computed."""
    wide, high = box[2] - box[0], box[3] - box[1]
    truth_wide, truth_high = truth[2] - truth[0], truth[3] - truth[1]
    both_wide = min(box[2], truth[2]) - max(box[0], truth[0])
    both_high = min(box[3], truth[3]) - max(box[1], truth[1])
    both = both_wide * both_high if both_wide > 0 and both_high > 0 else 0.0
    union = wide * high + truth_wide * truth_high - both
    around_wide = max(box[2], truth[2]) - min(box[0], truth[0])
    around_high = max(box[3], truth[3]) - min(box[1], truth[1])
    iou = both / union
    if kind == "iou":
        return iou
    if kind == "giou":
        return iou - (around_wide * around_high - union) / (around_wide * around_high)
    across = (box[0] + box[2]) / 2 - (truth[0] + truth[2]) / 2
    down = (box[1] + box[3]) / 2 - (truth[1] + truth[3]) / 2
    diou = iou - (across**2 + down**2) / (around_wide**2 + around_high**2)
    if kind == "diou":
        return diou
    v = 4 / math.pi**2 * (math.atan(truth_wide / truth_high) - math.atan(wide / high)) ** 2
    return diou - (v / (1 - iou + v) if balance is None else balance) * v


def balance(box: list[float], truth: list[float]) -> float:
    """CIoU's weight of the angles for a pair."""
    v = by_hand("diou", box, truth) - by_hand("ciou", box, truth, balance=1.0)
    return v / (1 - by_hand("iou", box, truth) + v)


def pairs(seed: int = 0, count: int = 40) -> tuple[torch.Tensor, torch.Tensor]:
    """Pairs that overlap, that are apart, and that lie in each other, float64."""
    rng = np.random.default_rng(seed)
    first, size = rng.uniform(0, 0.6, (2, count, 2)), rng.uniform(0.05, 0.5, (2, count, 2))
    a, b = (torch.from_numpy(np.concatenate([first[i], first[i] + size[i]], 1)) for i in (0, 1))
    a[0] = torch.tensor([0.2, 0.2, 0.4, 0.5])
    b[0] = torch.tensor([0.1, 0.1, 0.6, 0.9])
    return a, b


def test_two_squares_a_quarter_over_each_other() -> None:
    """Sides 2, moved by (1, 1): 1 of 7 in common, 7 of 9 of the square around, centres √2 of a diagonal of √18."""
    a, b = torch.tensor([[0.0, 0, 2, 2]]), torch.tensor([[1.0, 1, 3, 3]])
    assert overlaps(a, b).item() == pytest.approx(1 / 7)
    assert overlaps(a, b, "giou").item() == pytest.approx(1 / 7 - 2 / 9)
    assert overlaps(a, b, "diou").item() == pytest.approx(1 / 7 - 2 / 18)
    assert overlaps(a, b, "ciou").item() == pytest.approx(1 / 7 - 2 / 18)


def test_upright_on_flat() -> None:
    """4 x 1 on 1 x 4, one middle: 1 of 7 in common; the angles of their diagonals differ by atan 4 - atan 1/4."""
    a, b = torch.tensor([[-2, -0.5, 2, 0.5]]), torch.tensor([[-0.5, -2, 0.5, 2]])
    v = 4 / math.pi**2 * (math.atan(4) - math.atan(0.25)) ** 2
    assert overlaps(a, b, "diou").item() == pytest.approx(1 / 7)
    assert overlaps(a, b, "ciou").item() == pytest.approx(1 / 7 - v * v / (6 / 7 + v))


@pytest.mark.parametrize("kind", KINDS)
def test_many_pairs_as_by_hand(kind: str) -> None:
    a, b = pairs()
    wanted = [by_hand(kind, box, truth) for box, truth in zip(a.tolist(), b.tolist(), strict=True)]
    assert overlaps(a, b, kind).tolist() == pytest.approx(wanted, rel=1e-12)
    assert overlaps(b, a, kind).tolist() == pytest.approx(wanted, rel=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_equal_boxes_overlap_by_one_and_have_no_slope(kind: str) -> None:
    """At equality left and right pull the same way: torch splits the slope of a minimum between equals."""
    a = torch.tensor([[0.1, 0.2, 0.5, 0.4]], dtype=torch.float64, requires_grad=True)
    value = overlaps(a, a.detach(), kind)
    assert value.item() == pytest.approx(1)
    value.sum().backward()
    assert a.grad is not None
    assert a.grad.isfinite().all()


@pytest.mark.parametrize("kind", ["iou", "giou", "diou"])
def test_gradcheck(kind: str) -> None:
    a, b = pairs(1, 12)
    assert torch.autograd.gradcheck(lambda boxes: overlap(boxes, b, kind, 0.7).value, a.requires_grad_())


@pytest.mark.parametrize("kind", KINDS)
def test_slopes_are_those_by_differences(kind: str) -> None:
    """CIoU's weight of the angles is no function of the box here, as its paper has it."""
    a, b = pairs(2)
    a.requires_grad_()
    overlaps(a, b, kind).sum().backward()
    assert a.grad is not None
    step = 1e-6
    for box, truth, slope in zip(a.tolist(), b.tolist(), a.grad.tolist(), strict=True):
        fixed = balance(box, truth)
        for side in range(4):
            up, down = list(box), list(box)
            up[side] += step
            down[side] -= step
            wanted = (by_hand(kind, up, truth, fixed) - by_hand(kind, down, truth, fixed)) / (2 * step)
            assert slope[side] == pytest.approx(wanted, rel=1e-5, abs=1e-7)


def test_apart_only_iou_has_no_slope() -> None:
    a, b = torch.tensor([[0.1, 0.1, 0.2, 0.2]]), torch.tensor([[0.7, 0.5, 0.9, 0.8]])
    for kind in KINDS:
        box = a.clone().requires_grad_()
        overlaps(box, b, kind).sum().backward()
        assert box.grad is not None
        assert bool(box.grad.any()) == (kind != "iou")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_boxes_without_size_give_numbers(kind: str, dtype: torch.dtype) -> None:
    """A point on a box, a line, the same point twice, and a box as large as decoding allows."""
    a = torch.tensor([[0.5, 0.5, 0.5, 0.5], [0.2, 0.3, 0.6, 0.3], [0.1] * 4, [-1e17, -1e17, 1e17, 1e17]], dtype=dtype)
    b = torch.tensor([[0.2, 0.2, 0.7, 0.7], [0.2, 0.2, 0.7, 0.7], [0.1] * 4, [0.2, 0.2, 0.7, 0.7]], dtype=dtype)
    a.requires_grad_()
    term = overlap(a, b, kind)
    term.value.backward()
    assert term.value.isfinite()
    assert a.grad is not None
    assert a.grad.isfinite().all()


def test_the_term_is_the_weighted_sum_of_what_is_missing() -> None:
    a, b = pairs(3)
    term = overlap(a, b, "giou", 0.07)
    wanted = sum(0.07 * (1 - by_hand("giou", *pair)) for pair in zip(a.tolist(), b.tolist(), strict=True))
    assert term.value.item() == pytest.approx(wanted)
    assert term.squares.item() == pytest.approx(wanted)
    assert overlap(a[:0], b[:0], "ciou").value.item() == 0


def test_a_limited_value_has_the_same_value_and_at_most_that_slope() -> None:
    x = torch.tensor([0.5, -3.0, 20.0], dtype=torch.float64, requires_grad=True)
    value = limited(x.square().sum(), x, 4.0)
    assert value.item() == 0.25 + 9 + 400
    (value / 8).backward()                  # whatever comes after
    assert x.grad is not None
    assert x.grad.tolist() == [1 / 8, -4 / 8, 4 / 8]


def test_a_limited_value_has_no_slope_that_is_no_number() -> None:
    x = torch.tensor([0.0, 4.0], requires_grad=True)
    value = limited(x.sqrt().sum() + 0 * x[0].log(), x, 5.0)        # at 0: ∞ + 0·∞
    value.backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0, 0.25]
    with torch.no_grad():
        assert limited(x.square().sum(), x, 5.0).item() == 16
