"""The loss of [detection] against Darknet's rules, cell by cell and box by box, and against equation 1.3."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from lookonce.errors import DataError
from lookonce.heads.detection import Detection
from lookonce.losses.detection import detection_loss
from lookonce.losses.terms import LossTerms, Moment
from lookonce.truth import Targets

SIDE, BOXES, CLASSES = 3, 2, 4
CELLS = SIDE * SIDE
LENGTH = CELLS * (CLASSES + 5 * BOXES)
LATER = Moment((60, 60), seen=100_000)
PLAIN = Detection(
    classes=CLASSES, coords=4, side=SIDE, num=BOXES, softmax=False, sqrt=False,
    object_scale=1.5, noobject_scale=0.5, class_scale=0.7, coord_scale=5.0,
)  # fmt: skip
HEADS = {
    "plain": PLAIN,
    "sqrt": replace(PLAIN, sqrt=True),
    "sqrt and rescore": replace(PLAIN, sqrt=True, rescore=True),
    "softmax": replace(PLAIN, softmax=True),
    "forced": replace(PLAIN, forced=True, rescore=True),
    "three boxes": replace(PLAIN, num=3, sqrt=True, rescore=True),
    "one box": replace(PLAIN, num=1, rescore=True),
}
Row = tuple[list[float], int]                     # x, y, w, h, relative to the picture, and the class


def length(head: Detection) -> int:
    return CELLS * (CLASSES + 5 * head.num)


def said(seed: int, head: Detection = PLAIN, batch: int = 3) -> torch.Tensor:
    """What flows in: mostly small boxes around the middle of their cells, some of them of negative size."""
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(0.4, 0.4, (batch, length(head), 1, 1))).requires_grad_()


def scene(seed: int, batch: int = 3, most: int = 12) -> list[list[Row]]:
    """So many truths among nine cells that several share one; the first picture has none."""
    rng = np.random.default_rng(seed)
    pictures: list[list[Row]] = [[]]
    for _ in range(batch - 1):
        sizes = rng.uniform(0.02, 0.7, (int(rng.integers(1, most + 1)), 2)).astype(np.float32)
        places = rng.uniform(0.01, 0.99, sizes.shape).astype(np.float32)
        pictures.append([
            ([float(x), float(y), float(w), float(h)], int(rng.integers(CLASSES)))
            for (x, y), (w, h) in zip(places, sizes, strict=True)
        ])  # fmt: skip
    return pictures


def targets_of(pictures: list[list[Row]]) -> Targets:
    return Targets.of([
        (np.array([box for box, _ in rows]), np.array([label for _, label in rows])) for rows in pictures
    ])  # fmt: skip


# ---------------------------------------------------------------------- the oracle
def overlap(a: list[float], b: list[float]) -> float:
    """Intersection over union of two boxes x, y, w, h."""
    sides = [
        min(a[i] + a[i + 2] / 2, b[i] + b[i + 2] / 2) - max(a[i] - a[i + 2] / 2, b[i] - b[i + 2] / 2) for i in (0, 1)
    ]
    if min(sides) < 0:
        return 0.0
    return sides[0] * sides[1] / (a[2] * a[3] + b[2] * b[3] - sides[0] * sides[1])


def darknets_deltas(head: Detection, raw: np.ndarray, pictures: list[list[Row]]) -> np.ndarray:
    """Truth minus answer for each number that flows in, as the rules of detection_layer.c say."""
    deltas = np.zeros_like(raw)
    for answer, delta, rows in zip(raw, deltas, pictures, strict=True):
        owner: dict[int, Row] = {}
        for box, label in rows:
            cell = int(box[1] * SIDE) * SIDE + int(box[0] * SIDE)
            owner.setdefault(cell, (box, label))
        for cell in range(CELLS):
            confidences = [CELLS * CLASSES + cell * head.num + j for j in range(head.num)]
            for at in confidences:
                delta[at] = head.noobject_scale * (0 - answer[at])
            if cell not in owner:
                continue
            (x, y, w, h), label = owner[cell]
            classes = [cell * CLASSES + k for k in range(CLASSES)]
            probability = [answer[at] for at in classes]
            if head.softmax:
                powers = [math.exp(value) for value in probability]
                probability = [power / sum(powers) for power in powers]
            for k, at in enumerate(classes):
                delta[at] = head.class_scale * ((k == label) - probability[k])
            x, y = x * SIDE - cell % SIDE, y * SIDE - cell // SIDE
            truth = [x / SIDE, y / SIDE, w, h]
            best, best_iou, best_rmse = -1, 0.0, 20.0
            found = []
            for j in range(head.num):
                at = CELLS * (CLASSES + head.num) + 4 * (cell * head.num + j)
                box = [answer[at] / SIDE, answer[at + 1] / SIDE, answer[at + 2], answer[at + 3]]
                if head.sqrt:
                    box[2:] = [box[2] ** 2, box[3] ** 2]
                found.append(box)
                iou = overlap(box, truth)
                rmse = math.sqrt(sum((a - b) ** 2 for a, b in zip(box, truth, strict=True)))
                if best_iou > 0 or iou > 0:
                    if iou > best_iou:
                        best, best_iou = j, iou
                elif rmse < best_rmse:
                    best, best_rmse = j, rmse
            if head.forced:
                best = 1 if w * h < 0.1 else 0
            at = confidences[best]
            aim = overlap(found[best], truth) if head.rescore else 1
            delta[at] = head.object_scale * (aim - answer[at])
            at = CELLS * (CLASSES + head.num) + 4 * (cell * head.num + best)
            wanted = [x, y, math.sqrt(w), math.sqrt(h)] if head.sqrt else [x, y, w, h]
            for i in range(4):
                delta[at + i] = head.coord_scale * (wanted[i] - answer[at + i])
    return deltas


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("name", HEADS)
def test_gradients_and_cost_are_those_of_darknets_deltas(name: str, seed: int) -> None:
    head, pictures = HEADS[name], scene(seed)
    raw = said(seed, head)
    terms = detection_loss(head, raw, targets_of(pictures), LATER)
    terms.total.backward()
    wanted = darknets_deltas(head, raw.detach().numpy().reshape(len(pictures), -1), pictures)
    np.testing.assert_allclose(-raw.grad.reshape(wanted.shape), wanted, rtol=1e-5, atol=1e-6)
    assert terms.printed.item() == pytest.approx(float((wanted**2).sum()), rel=1e-5)


def test_the_scenes_have_what_they_are_meant_to_have() -> None:
    """Cells with several truths, and cells where no box overlaps the truth, as well as some where one does."""
    shared = missed = hit = 0
    for seed in range(6):
        raw = said(seed).detach().numpy().reshape(3, -1)
        for answer, rows in zip(raw, scene(seed), strict=True):
            cells = [int(box[1] * SIDE) * SIDE + int(box[0] * SIDE) for box, _ in rows]
            shared += len(cells) - len(set(cells))
            for cell, (box, _) in zip(cells, rows, strict=True):
                x, y = box[0] - (cell % SIDE) / SIDE, box[1] - (cell // SIDE) / SIDE
                first = CELLS * (CLASSES + BOXES) + 4 * cell * BOXES
                best = max(
                    overlap([*(answer[at : at + 2] / SIDE), *answer[at + 2 : at + 4]], [x, y, *box[2:]])
                    for at in (first, first + 4)
                )
                hit, missed = hit + (best > 0), missed + (best == 0)
    assert min(shared, missed, hit) > 10


# ---------------------------------------------------------------------- equation 1.3, by arithmetic
def one_truth(head: Detection, raw: torch.Tensor, box: list[float], label: int = 2) -> LossTerms:
    return detection_loss(head, raw, targets_of([[(box, label)]]), LATER)


def test_each_term_of_equation_1_3_by_hand() -> None:
    """One truth of .36 x .16 in the middle of the middle cell. Its box says .5 too far right, and the roots .5 and .4.

    Halves: 5·(.5² )/2 for the centre; 5·((.6 - .5)² + 0)/2 for the roots; the box's confidence of .25 wants its IOU,
    (.25·.16 shifted by a sixth); the other box of the cell says .3 and wants 0 at half weight.
    """
    head = replace(PLAIN, sqrt=True, rescore=True, object_scale=1, class_scale=1)
    raw = torch.zeros(1, LENGTH, 1, 1, dtype=torch.float64)
    cell = 4
    raw[0, cell * CLASSES + 1] = 0.5                                     # says class 1, by half
    raw[0, CELLS * CLASSES + cell * BOXES : CELLS * CLASSES + cell * BOXES + 2, 0, 0] = torch.tensor([0.25, 0.3])
    first = CELLS * (CLASSES + BOXES) + 4 * cell * BOXES
    raw[0, first : first + 4, 0, 0] = torch.tensor([1.0, 0.5, 0.5, 0.4])
    terms = one_truth(head, raw, [0.5, 0.5, 0.36, 0.16])
    wide = min(0.18, 1 / 6 + 0.125) - max(-0.18, 1 / 6 - 0.125)
    iou = wide * 0.16 / (0.36 * 0.16 + 0.25 * 0.16 - wide * 0.16)
    assert terms.centre.item() == pytest.approx(5 * 0.25 / 2)
    assert terms.extent.item() == pytest.approx(5 * 0.01 / 2)
    assert terms.objects.item() == pytest.approx((iou - 0.25) ** 2 / 2)
    assert terms.background.item() == pytest.approx(0.5 * 0.09 / 2)
    assert terms.classes.item() == pytest.approx((1 + 0.25) / 2)         # class 2 wants 1, class 1 wants 0
    assert terms.priors is None


def test_where_nothing_overlaps_the_nearest_box_learns() -> None:
    """Both boxes have no size, so that neither overlaps; the second is nearer."""
    raw = torch.zeros(1, LENGTH, 1, 1)
    first = CELLS * (CLASSES + BOXES) + 4 * 4 * BOXES
    raw[0, first + 4 : first + 6] = 0.4
    terms = one_truth(PLAIN, raw.requires_grad_(), [0.5, 0.5, 0.1, 0.1])
    terms.total.backward()
    assert (raw.grad[0, first : first + 4] == 0).all()
    assert raw.grad[0, first + 4 : first + 8, 0, 0].tolist() == pytest.approx([-0.5, -0.5, -0.5, -0.5])


def test_a_box_that_overlaps_a_little_beats_one_that_is_nearer() -> None:
    raw = torch.zeros(1, LENGTH, 1, 1)
    first = CELLS * (CLASSES + BOXES) + 4 * 4 * BOXES
    raw[0, first : first + 4, 0, 0] = torch.tensor([0.5, 0.5, 0.1, 0.0])              # right there, but without height
    raw[0, first + 4 : first + 8, 0, 0] = torch.tensor([1.0, 1.0, 0.9, 0.9])          # large and off
    one_truth(PLAIN, raw.requires_grad_(), [0.5, 0.5, 0.1, 0.1]).total.backward()
    assert (raw.grad[0, first : first + 4] == 0).all()
    assert (raw.grad[0, first + 4 : first + 8] != 0).all()


def test_a_centre_on_the_far_edges_belongs_to_the_last_cell() -> None:
    raw = torch.zeros(1, LENGTH, 1, 1, requires_grad=True)
    one_truth(PLAIN, raw, [1.0, 1.0, 0.2, 0.2]).total.backward()
    learns = raw.grad[0, : CELLS * CLASSES].reshape(CELLS, CLASSES).abs().sum(1)
    assert [cell for cell in range(CELLS) if learns[cell]] == [CELLS - 1]


# ---------------------------------------------------------------------- random, and what is not there
@pytest.mark.parametrize(("seen", "both"), [(1, True), (63_999, True), (64_000, False)])
def test_random_chooses_boxes_by_chance_until_64000_pictures(seen: int, both: bool) -> None:
    torch.manual_seed(0)
    head, targets, chosen = replace(PLAIN, random=1), targets_of([[([0.5, 0.5, 0.3, 0.3], 1)]]), set()
    for _ in range(20):
        again = said(1, batch=1)
        detection_loss(head, again, targets, Moment((9, 9), seen)).total.backward()
        boxes = again.grad[0, CELLS * (CLASSES + BOXES) :].reshape(CELLS * BOXES, 4).abs().sum(1)
        (learnt,) = [at for at in range(CELLS * BOXES) if boxes[at]]
        chosen.add(learnt - 4 * BOXES)
    assert chosen == {0, 1} if both else len(chosen) == 1


def test_forced_with_a_single_box_takes_it() -> None:
    """Darknet would write to a box that there is not."""
    head = replace(PLAIN, num=1, forced=True)
    raw = torch.zeros(1, length(head), 1, 1, requires_grad=True)
    one_truth(head, raw, [0.5, 0.5, 0.1, 0.1]).total.backward()
    assert raw.grad[0, CELLS * (CLASSES + 1) + 4 * 4 + 2] != 0


def test_a_picture_without_objects_has_only_background() -> None:
    terms = detection_loss(PLAIN, said(0, batch=2), Targets.of([(np.zeros((0, 4)), np.zeros(0))] * 2), LATER)
    assert terms.background > 0
    assert terms.centre == terms.extent == terms.objects == terms.classes == 0


def test_a_row_without_a_box_teaches_nothing_and_its_picture_has_no_background() -> None:
    raw = said(0, batch=2)
    nowhere = np.full((1, 4), np.nan)
    targets = Targets.of([(nowhere, np.array([1])), (np.zeros((0, 4)), np.zeros(0))])
    detection_loss(PLAIN, raw, targets, LATER).total.backward()
    assert (raw.grad[0] == 0).all()
    assert (raw.grad[1] != 0).any()


@pytest.mark.parametrize("label", [-1, CLASSES])
def test_a_class_that_the_head_does_not_have_is_refused(label: int) -> None:
    with pytest.raises(DataError, match=rf"of class {label}, wanted 0 to 3: \[detection\] has 4 classes"):
        one_truth(PLAIN, said(0, batch=1), [0.5, 0.5, 0.1, 0.1], label)


# ---------------------------------------------------------------------- gradients
@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("count", [0, 3, 90])
def test_gradients_are_those_of_the_terms(name: str, count: int) -> None:
    """By differences, in float64; rescore is left out, as its aim moves with the box but is held fixed."""
    head = replace(HEADS[name], rescore=False)
    rng = np.random.default_rng(count)
    rows = [([*rng.uniform(0, 1, 2), *rng.uniform(0.05, 0.9, 2)], int(rng.integers(CLASSES))) for _ in range(count)]
    raw, targets = said(7, head, batch=1), targets_of([rows])
    assert torch.autograd.gradcheck(lambda x: detection_loss(head, x, targets, LATER).total, raw, fast_mode=True)


def test_the_aim_of_rescore_is_held_fixed() -> None:
    """Of the responsible box only the terms of its place and size reach its numbers."""
    pictures = [[([0.5, 0.5, 0.3, 0.3], 1)]]
    gradients = []
    for rescore in (False, True):
        raw = said(3, batch=1)
        detection_loss(replace(PLAIN, rescore=rescore), raw, targets_of(pictures), LATER).total.backward()
        gradients.append(raw.grad[0, CELLS * (CLASSES + BOXES) :])
    assert torch.equal(*gradients)
