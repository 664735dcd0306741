"""[yolo] learning from labels of whole pictures, and down a tree, against its rules as loops over boxes and nodes."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from lookonce import zoo
from lookonce.darknet.cfg import Cfg
from lookonce.heads.yolo import Yolo
from lookonce.losses.classify import reach
from lookonce.losses.network import NetworkLoss
from lookonce.losses.terms import Moment
from lookonce.losses.yolo import yolo_loss
from lookonce.network import Network
from lookonce.truth import Targets
from lookonce.wordtree import WordTree

ROWS, COLUMNS, CLASSES = 2, 3, 10
ANCHORS = ((12.0, 10.0), (40.0, 24.0))
# animal (dog (poodle, beagle), cat, bird), vehicle (car (taxi), bus)
PARENTS = [-1, -1, 0, 0, 0, 1, 1, 2, 2, 5]
WORDS = WordTree.parse([f"n{number} {parent}" for number, parent in enumerate(PARENTS)])
DOG, POODLE, CAR, TAXI = 2, 7, 5, 9
FLAT = Yolo(classes=CLASSES, mask=(0, 1), anchors=ANCHORS)
TREE = replace(FLAT, tree=WORDS)
MOMENT = Moment((128, 96), 4)
NOWHERE = (math.nan,) * 4
BOX = (0.4, 0.6, 0.3, 0.25)


def sigma(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def said(seed: int, batch: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(0, 1, (batch, 2, 5 + CLASSES, ROWS, COLUMNS))


def delta_of(head: Yolo, grid: np.ndarray, rows: list[tuple[tuple[float, ...], int]]) -> np.ndarray:
    """Minus the gradient of the loss of one picture, as the grid (A, 5+K, H, W)."""
    x = torch.from_numpy(grid.reshape(1, -1, ROWS, COLUMNS)).requires_grad_()
    targets = Targets.of([(np.array([box for box, _ in rows]), np.array([label for _, label in rows]))])
    yolo_loss(head, x, targets, MOMENT).total.backward()
    assert x.grad is not None
    return -x.grad.numpy().reshape(grid.shape[1:])


def path(node: int) -> list[int]:
    """The node and all above it."""
    return [node] if PARENTS[node] < 0 else [*path(PARENTS[node]), node]


def wanted(head: Yolo, labels: list[int]) -> dict[int, float]:
    """What each class is drawn to; a node below a label, of which nothing is known, is drawn nowhere."""
    if head.tree is None:
        return {node: float(node in labels) for node in range(CLASSES)}
    yes = {above for label in labels for above in path(label)}
    return {
        node: float(node in yes)
        for node in range(CLASSES)
        if node in yes or not any(label in path(node) for label in labels)
    }


def likeliest(head: Yolo, grid: np.ndarray, label: int) -> tuple[int, int, int]:
    """The anchor, row and column whose objectness times the least probability on the way is highest."""
    best, at = -1.0, (0, 0, 0)
    for anchor in range(2):
        for row in range(ROWS):
            for column in range(COLUMNS):
                values = grid[0, anchor, :, row, column]
                way = path(label) if head.tree is not None else [label]
                chance = sigma(values[4]) * min(sigma(values[5 + node]) for node in way)
                if chance > best:
                    best, at = chance, (anchor, row, column)
    return at


@pytest.mark.parametrize("head", [FLAT, TREE], ids=["flat", "tree"])
@pytest.mark.parametrize("label", [DOG, POODLE, TAXI, 1])
@pytest.mark.parametrize("low", [0.0, 6.0], ids=["", "little objectness"])
def test_a_label_without_a_box_teaches_the_box_that_is_likeliest_to_show_it(
    head: Yolo, label: int, low: float
) -> None:
    """Its objectness is drawn to .3 if it is less; nothing is background, and no box is drawn anywhere."""
    grid = said(label)
    grid[:, :, 4] -= low
    expected = np.zeros(grid.shape[1:])
    at = likeliest(head, grid, label)
    values = grid[0, at[0], :, at[1], at[2]]
    for node, to in wanted(head, [label]).items():
        expected[at[0], 5 + node, at[1], at[2]] = to - sigma(values[5 + node])
    expected[at[0], 4, at[1], at[2]] = max(0.0, 0.3 - sigma(values[4]))
    assert (expected[:, 4] > 0).any() == (low > 0)
    np.testing.assert_allclose(delta_of(head, grid, [(NOWHERE, label)]), expected, atol=1e-12)


@pytest.mark.parametrize("label", [0, DOG, POODLE, TAXI])
def test_a_box_teaches_its_class_and_all_above_and_nothing_below(label: int) -> None:
    """A dog is an animal and no cat, and may be a poodle. The box is drawn as without a tree."""
    grid = said(20 + label)
    found, flat = delta_of(TREE, grid, [(BOX, label)]), delta_of(FLAT, grid, [(BOX, label)])
    anchor, row, column = np.argwhere(flat[:, 0] != 0)[0]
    np.testing.assert_array_equal(found[:, :5], flat[:, :5])
    drawn = wanted(TREE, [label])
    for node in range(CLASSES):
        value = grid[0, anchor, 5 + node, row, column]
        expected = drawn[node] - sigma(value) if node in drawn else 0.0
        assert found[anchor, 5 + node, row, column] == pytest.approx(expected, abs=1e-12)
    found[anchor, 5:, row, column] = 0
    assert not found[:, 5:].any()


def test_truths_that_share_a_box_add_up_down_the_tree() -> None:
    """A dog and a taxi at one place: poodle is unknown, as below a dog alone; car is known through the taxi."""
    grid = said(3)
    found = delta_of(TREE, grid, [(BOX, DOG), (BOX, TAXI)])
    anchor, row, column = np.argwhere(found[:, 0] != 0)[0]
    drawn = wanted(TREE, [DOG, TAXI])
    assert drawn[CAR] == 1
    assert POODLE not in drawn
    for node in range(CLASSES):
        value = grid[0, anchor, 5 + node, row, column]
        expected = drawn[node] - sigma(value) if node in drawn else 0.0
        assert found[anchor, 5 + node, row, column] == pytest.approx(expected, abs=1e-12)


def test_two_labels_of_one_picture_have_a_box_each_or_share_one() -> None:
    grid = said(4)
    expected = np.zeros(grid.shape[1:])
    places: dict[tuple[int, int, int], list[int]] = {}
    for label in (POODLE, CAR):
        places.setdefault(likeliest(TREE, grid, label), []).append(label)
    for (anchor, row, column), labels in places.items():
        for node, to in wanted(TREE, labels).items():
            expected[anchor, 5 + node, row, column] = to - sigma(grid[0, anchor, 5 + node, row, column])
        expected[anchor, 4, row, column] = max(0.0, 0.3 - sigma(grid[0, anchor, 4, row, column]))
    np.testing.assert_allclose(delta_of(TREE, grid, [(NOWHERE, POODLE), (NOWHERE, CAR)]), expected, atol=1e-12)


HEADS = """[net]
width=32
height=32
channels=30
[yolo]
classes=10
num=4
mask=0,1
anchors=4,4,8,8,16,16,24,24
[maxpool]
size=2
stride=2
[yolo]
classes=10
num=4
mask=2,3
anchors=4,4,8,8,16,16,24,24
"""


@pytest.mark.parametrize("seed", range(6))
def test_of_several_heads_the_one_with_the_likeliest_box_learns_a_label(seed: int) -> None:
    """In half of the pictures the coarse head is the surer one."""
    network = Network.build(Cfg.parse(HEADS))
    loss = NetworkLoss(network)
    rng = np.random.default_rng(seed)
    raws = [torch.from_numpy(rng.normal(0, 1, (2, 30, side, side))).requires_grad_() for side in (4, 2)]
    targets = Targets.of([(np.array([NOWHERE]), np.array([3])), (np.array([NOWHERE]), np.array([6]))])
    outputs = dict(zip(loss.wanted, raws, strict=True))
    loss(outputs, targets, Moment((32, 32), 2)).total.backward()
    for picture, label in enumerate((3, 6)):
        best = []
        for raw in raws:
            grid = raw.detach()[picture].reshape(2, 15, -1)
            best.append(max(
                sigma(float(grid[anchor, 4, at])) * sigma(float(grid[anchor, 5 + label, at]))
                for anchor in range(2) for at in range(grid.shape[2])
            ))  # fmt: skip
        winner = best.index(max(best))
        for number, raw in enumerate(raws):
            assert raw.grad is not None
            assert bool(raw.grad[picture].any()) == (number == winner)


def test_a_label_reaches_up_to_its_root_and_not_below_it_in_yolo9000s_tree() -> None:
    tree = WordTree.read(zoo.bundled_files()["9k.tree"])
    hot = torch.zeros(2, len(tree))
    learnt = reach(tree, torch.tensor([0, 1]), torch.tensor([5000, 17]), hot)
    for row, label in enumerate((5000, 17)):
        assert set(hot[row].nonzero().flatten().tolist()) == set(tree.path(label))
        below = {node for node in range(len(tree)) if label in tree.path(node)} - {label}
        assert set((learnt[row] == 0).nonzero().flatten().tolist()) == below
