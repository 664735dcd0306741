"""The loss of [region] against Darknet's rules, place by place and truth by truth, in the order of region_layer.c."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
import pytest
import torch

from lookonce.errors import DataError
from lookonce.heads.region import Region
from lookonce.losses.region import region_loss
from lookonce.losses.terms import LossTerms, Moment
from lookonce.truth import Targets
from lookonce.wordtree import WordTree

ROWS, COLUMNS, CLASSES = 3, 4, 10
ANCHORS = ((1.08, 1.19), (2.42, 1.41), (0.66, 0.71))             # in cells
# animal (dog (poodle, beagle), cat, bird), vehicle (car (taxi), bus): two roots, and a node with one child
PARENTS = [-1, -1, 0, 0, 0, 1, 1, 2, 2, 5]
WORDS = WordTree.parse([f"n{number} {parent}" for number, parent in enumerate(PARENTS)])
EARLY, LATER = Moment((128, 96), seen=12_799), Moment((128, 96), seen=12_800)

FLAT = Region(
    classes=CLASSES, coords=4, anchors=ANCHORS, softmax=True, background=False, tree=None, rescore=True,
    bias_match=True, threshold=0.3, coord_scale=1.3, object_scale=5.0, noobject_scale=0.8, class_scale=0.7,
)  # fmt: skip
TREE = replace(FLAT, tree=WORDS)
HEADS = {
    "flat": FLAT,
    "shapes as the network says": replace(FLAT, bias_match=False),
    "objectness toward 1": replace(FLAT, rescore=False),
    "independent classes": replace(FLAT, softmax=False),
    "tree": TREE,
    "background": replace(FLAT, background=True),
    "more coords": replace(FLAT, coords=7),
    "linear": replace(FLAT, location="linear"),
    "anchor": replace(TREE, location="anchor"),
    "focal": replace(FLAT, focal=True),
}
Row = tuple[list[float], int]                     # x, y, w, h, relative to the picture, or four NaN; and the class
NOWHERE = [math.nan] * 4


def said(seed: int, head: Region = FLAT, batch: int = 4) -> torch.Tensor:
    """What flows in. By odd seeds the second picture has little objectness."""
    rng = np.random.default_rng(seed)
    raw = rng.normal(0, 0.8, (batch, len(ANCHORS), head.coords + 1 + CLASSES, ROWS, COLUMNS))
    raw[1:2, :, head.coords] -= 5 * (seed % 2)
    return torch.from_numpy(raw.reshape(batch, -1, ROWS, COLUMNS)).requires_grad_()


def box_of(rng: np.random.Generator) -> list[float]:
    """x, y, w, h, each a float32."""
    x, y = rng.uniform(0.01, 0.99, 2).astype(np.float32)
    w, h = rng.uniform(0.05, 0.8, 2).astype(np.float32)
    return [float(x), float(y), float(w), float(h)]


def scene(seed: int) -> list[list[Row]]:
    """A picture without truths, one of which only the class is known, and two with so many that places are shared."""
    rng = np.random.default_rng(seed)
    crowded = [[(box_of(rng), int(rng.integers(CLASSES))) for _ in range(int(rng.integers(1, 25)))] for _ in range(2)]
    return [[], [(NOWHERE, int(rng.integers(CLASSES)))], *crowded]


def targets_of(pictures: list[list[Row]]) -> Targets:
    return Targets.of([
        (np.array([box for box, _ in rows]), np.array([label for _, label in rows])) for rows in pictures
    ])  # fmt: skip


# ---------------------------------------------------------------------- the oracle
def sigma(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def softmax(values: Sequence[float]) -> list[float]:
    powers = [math.exp(value) for value in values]
    return [power / sum(powers) for power in powers]


def overlap(a: Sequence[float], b: Sequence[float]) -> float:
    """Intersection over union of two boxes x, y, w, h."""
    sides = [
        min(a[i] + a[i + 2] / 2, b[i] + b[i + 2] / 2) - max(a[i] - a[i + 2] / 2, b[i] - b[i + 2] / 2) for i in (0, 1)
    ]
    if min(sides) < 0:
        return 0.0
    return sides[0] * sides[1] / (a[2] * a[3] + b[2] * b[3] - sides[0] * sides[1])


class Place(NamedTuple):
    """One anchor in one cell: what the network says there, activated, and the delta of each number."""

    anchor: int
    row: int
    column: int
    t: list[float]                    # as it flows in
    said: list[float]                 # activated
    delta: list[float]

    def box(self, head: Region) -> list[float]:
        wide, high = ANCHORS[self.anchor]
        if head.location == "anchor":
            x, y = self.column + 0.5 + self.t[0] * wide, self.row + 0.5 + self.t[1] * high
        else:
            x, y = self.column + self.said[0], self.row + self.said[1]
        return [x / COLUMNS, y / ROWS, wide * math.exp(self.t[2]) / COLUMNS, high * math.exp(self.t[3]) / ROWS]

    def toward(self, head: Region, truth: Sequence[float], scale: float) -> None:
        """The deltas of a box that is to be `truth`."""
        wide, high = ANCHORS[self.anchor]
        x, y = truth[0] * COLUMNS - self.column, truth[1] * ROWS - self.row
        if head.location == "anchor":
            x, y = (x - 0.5) / wide, (y - 0.5) / high
        wanted = x, y, math.log(truth[2] * COLUMNS / wide), math.log(truth[3] * ROWS / high)
        for i in range(4):
            self.delta[i] = scale * (wanted[i] - self.said[i])


def places_of(head: Region, raw: np.ndarray) -> list[Place]:
    """Every place of one picture: anchor by anchor, row by row."""
    first = head.coords + 1
    grid = raw.reshape(len(ANCHORS), first + CLASSES, ROWS, COLUMNS)
    places = []
    for anchor in range(len(ANCHORS)):
        for row in range(ROWS):
            for column in range(COLUMNS):
                t = grid[anchor, :, row, column].tolist()
                says = list(t)
                if head.location == "direct":
                    says[:2] = [sigma(t[0]), sigma(t[1])]
                says[head.coords] = sigma(t[head.coords])
                if head.background:
                    says[head.coords :] = softmax(t[head.coords :])
                elif head.tree is not None:
                    for parent in set(PARENTS):
                        siblings = [first + node for node in range(CLASSES) if PARENTS[node] == parent]
                        for at, p in zip(siblings, softmax([t[at] for at in siblings]), strict=True):
                            says[at] = p
                else:
                    says[first:] = softmax(t[first:]) if head.softmax else [sigma(value) for value in t[first:]]
                places.append(Place(anchor, row, column, t, says, [0.0] * len(t)))
    return places


def learn_class(head: Region, place: Place, label: int) -> None:
    first = head.coords + 1
    said, delta = place.said, place.delta
    if head.tree is not None:
        while label >= 0:
            for node in range(CLASSES):
                if PARENTS[node] == PARENTS[label]:
                    delta[first + node] = head.class_scale * ((node == label) - said[first + node])
            label = PARENTS[label]
    elif delta[first] and not head.softmax:
        delta[first + label] = head.class_scale * (1 - said[first + label])
    else:
        p = said[first + label]
        focus = -0.5 * (1 - p) * (2 * p * math.log(p) + p - 1) if head.focal else 1
        for k in range(CLASSES):
            delta[first + k] = focus * head.class_scale * ((k == label) - said[first + k])


def chance(head: Region, place: Place, label: int) -> float:
    """Objectness times the probability of a class."""
    product = 1.0 if head.background else place.said[head.coords]
    while label >= 0:
        product *= place.said[head.coords + 1 + label]
        label = PARENTS[label] if head.tree is not None else -1
    return product


def darknets_deltas(
    head: Region, raw: np.ndarray, pictures: list[list[Row]], moment: Moment, seen: Counter
) -> np.ndarray:
    """Truth minus answer at each place, of x, y and objectness before the sigmoid; `seen` counts what occurs."""
    deltas = np.zeros((len(raw), len(ANCHORS), head.entries, ROWS, COLUMNS))
    at = head.coords
    for one, rows in enumerate(pictures):
        places = places_of(head, raw[one])
        if any(math.isnan(box[0]) for box, _ in rows):
            for place in places:
                place.delta[at] = head.noobject_scale * ((1 if head.background else 0) - place.said[at])
            (label,) = [label for _, label in rows]
            best = max(places, key=lambda place: chance(head, place, label))
            learn_class(head, best, label)
            best.delta[at] = 0
            if not moment.compat and not head.background and best.said[at] < 0.3:
                best.delta[at] = head.object_scale * (0.3 - best.said[at])
                seen["shown, less than .3"] += 1
        else:
            for place in places:
                place.delta[at] = head.noobject_scale * ((1 if head.background else 0) - place.said[at])
                if max((overlap(place.box(head), box) for box, _ in rows), default=0) > head.threshold:
                    place.delta[at] = 0
                    seen["no background"] += 1
                if moment.seen < 12800:
                    wide, high = ANCHORS[place.anchor]
                    middle = (place.column + 0.5) / COLUMNS, (place.row + 0.5) / ROWS
                    place.toward(head, [*middle, wide / COLUMNS, high / ROWS], 0.01)
            taken = set()
            for box, label in rows:
                column, row = int(box[0] * COLUMNS), int(box[1] * ROWS)
                here = [place for place in places if (place.row, place.column) == (row, column)]
                shapes = [place.box(head)[2:] for place in here]
                if head.bias_match:
                    shapes = [[wide / COLUMNS, high / ROWS] for wide, high in ANCHORS]
                fit = [overlap([0, 0, *shape], [0, 0, *box[2:]]) for shape in shapes]
                place = here[fit.index(max(fit))]
                seen["shared"] += (place.anchor, row, column) in taken
                taken.add((place.anchor, row, column))
                place.toward(head, box, head.coord_scale * (2 - box[2] * box[3]))
                aim = overlap(place.box(head), box) if head.rescore else 1
                place.delta[at] = head.object_scale * ((0 if head.background else aim) - place.said[at])
                learn_class(head, place, label)
        for place in places:
            deltas[one, place.anchor, :, place.row, place.column] = place.delta
    return deltas


def with_slope(head: Region, deltas: np.ndarray, raw: np.ndarray) -> np.ndarray:
    """The deltas as the GPU hands them on: of x, y and objectness times the sigmoid's slope, where there is one."""
    deltas = deltas.copy()
    squashed = ([0, 1] if head.location == "direct" else []) + ([] if head.background else [head.coords])
    p = 1 / (1 + np.exp(-raw.reshape(deltas.shape)[:, :, squashed]))
    deltas[:, :, squashed] *= p * (1 - p)
    return deltas


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("moment", [EARLY, LATER, LATER._replace(compat=True)], ids=["early", "later", "compat"])
@pytest.mark.parametrize("name", HEADS)
def test_gradients_and_cost_are_those_of_darknets_deltas(name: str, moment: Moment, seed: int) -> None:
    head, pictures = HEADS[name], scene(seed)
    raw = said(seed, head)
    terms = region_loss(head, raw, targets_of(pictures), moment)
    terms.total.backward()
    answer = raw.detach().numpy()
    deltas = darknets_deltas(head, answer, pictures, moment, Counter())
    wanted = with_slope(head, deltas, answer)
    np.testing.assert_allclose(-raw.grad.reshape(wanted.shape), wanted, rtol=1e-6, atol=1e-9)
    assert terms.printed.item() == pytest.approx(float((deltas**2).sum()), rel=1e-6)


def test_the_scenes_have_what_they_are_meant_to_have() -> None:
    seen: Counter = Counter()
    for seed in range(3):
        for head in (FLAT, TREE):
            darknets_deltas(head, said(seed, head).detach().numpy(), scene(seed), LATER, seen)
    assert seen["shared"] > 10
    assert seen["no background"] > 10
    assert seen["shown, less than .3"] > 0


# ---------------------------------------------------------------------- by arithmetic
def alone(head: Region, raw: torch.Tensor, rows: list[Row], moment: Moment = LATER) -> LossTerms:
    return region_loss(head, raw, targets_of([rows]), moment)


def test_each_term_by_hand() -> None:
    """Nothing said: sigmoids are one half, boxes as their anchors in the middle of their cells, classes all alike.

    A truth as large as the second anchor, a quarter of a cell right of the middle of cell (1, 1).
    """
    head = replace(FLAT, rescore=False, threshold=0.99)
    wide, high = 2.42 / COLUMNS, 1.41 / ROWS
    terms = alone(head, torch.zeros(1, 45, ROWS, COLUMNS), [([1.75 / COLUMNS, 1.5 / ROWS, wide, high], 3)])
    scale = 1.3 * (2 - wide * high)
    assert terms.centre.item() == pytest.approx(scale * 0.25**2 / 2)
    assert terms.extent.item() == pytest.approx(0, abs=1e-9)
    assert terms.objects.item() == pytest.approx(5 * 0.5**2 / 2)
    assert terms.background.item() == pytest.approx((ROWS * COLUMNS * 3 - 1) * 0.8 * 0.5**2 / 2)
    assert terms.classes.item() == pytest.approx(0.7 * math.log(10))
    assert terms.priors is None


@pytest.mark.parametrize(("location", "off"), [("direct", 0.0), ("linear", 0.5), ("anchor", 0.0)])
def test_at_first_boxes_without_a_truth_are_drawn_to_their_anchors(location: str, off: float) -> None:
    """A logit of .4 for width alone. Without a sigmoid an x and y of 0 are the corner of the cell, or its middle."""
    head = replace(FLAT, location=location)
    raw = torch.zeros(1, 45, ROWS, COLUMNS)
    raw[0, 2::15] = 0.4
    terms = alone(head, raw, [], EARLY)
    assert terms.priors.item() == pytest.approx(36 * 0.01 * (2 * off**2 + 0.4**2) / 2)
    assert alone(head, raw, [], LATER).priors is None


def test_a_place_with_a_truth_is_not_drawn_to_its_anchor() -> None:
    raw = torch.full((1, 45, ROWS, COLUMNS), 0.3)
    nothing, something = (alone(FLAT, raw, rows, EARLY).priors.item() for rows in ([], [([0.5, 0.5, 0.3, 0.3], 1)]))
    assert something == pytest.approx(nothing * 35 / 36)


@pytest.mark.parametrize(("logit", "objects"), [(-2.0, 5 * (0.3 - sigma(-2.0)) ** 2 / 2), (0.0, 0.0)])
def test_the_likeliest_place_of_a_shown_class_is_raised_to_three_tenths(logit: float, objects: float) -> None:
    raw = torch.full((1, 45, ROWS, COLUMNS), -3.0)
    raw[0, 15 + 4, 1, 2] = logit                          # of the second anchor
    assert alone(TREE, raw, [(NOWHERE, 7)]).objects.item() == pytest.approx(objects)
    assert alone(TREE, raw, [(NOWHERE, 7)], LATER._replace(compat=True)).objects.item() == 0


def test_a_picture_that_shows_several_classes_learns_each_at_its_likeliest_place() -> None:
    raw = torch.zeros(1, 45, ROWS, COLUMNS)
    raw[0, 5 + 3, 0, 0], raw[0, 30 + 5 + 8, 2, 3] = 4, 4
    raw.requires_grad_()
    alone(FLAT, raw, [(NOWHERE, 3), (NOWHERE, 8)]).classes.backward()
    places = raw.grad.reshape(3, 15, ROWS, COLUMNS)[:, 5:].abs().sum(1).nonzero().tolist()
    assert places == [[0, 0, 0], [2, 2, 3]]


def test_boxes_of_a_picture_that_also_shows_a_class_teach_nothing() -> None:
    rows: list[Row] = [(NOWHERE, 7), ([0.5, 0.5, 0.3, 0.3], 2)]
    for moment in (EARLY, LATER):
        one, both = alone(TREE, said(1, batch=1), rows[:1], moment), alone(TREE, said(1, batch=1), rows, moment)
        assert {name: term.item() for name, term in one.named().items()} == {
            name: term.item() for name, term in both.named().items()
        }


def test_two_independent_classes_at_one_place_add_up() -> None:
    raw = torch.zeros(1, 45, ROWS, COLUMNS, requires_grad=True)
    rows = [([0.5, 0.5, 0.3, 0.3], label) for label in (2, 6, 2)]
    alone(replace(FLAT, softmax=False), raw, rows).classes.backward()
    gradient = raw.grad.reshape(3, 15, -1)[:, 5:].sum((0, 2))
    assert gradient.tolist() == pytest.approx([0.7 * (0.5 - (k in (2, 6))) for k in range(10)])


def test_the_focal_loss_of_a_class_half_known() -> None:
    """p = 1/2 of one class of two: (1/2)² / 2 times the cross-entropy, ln 2."""
    head = replace(FLAT, classes=2, focal=True)
    terms = alone(head, torch.zeros(1, 21, ROWS, COLUMNS), [([0.5, 0.5, 0.3, 0.3], 1)])
    assert terms.classes.item() == pytest.approx(0.7 * math.log(2) / 8)


def test_a_centre_on_the_far_edges_belongs_to_the_last_cell() -> None:
    raw = torch.zeros(1, 45, ROWS, COLUMNS, requires_grad=True)
    alone(FLAT, raw, [([1.0, 1.0, 0.3, 0.3], 1)]).centre.backward()
    assert raw.grad.abs().sum((0, 1)).nonzero().tolist() == [[ROWS - 1, COLUMNS - 1]]


@pytest.mark.parametrize("name", HEADS)
@pytest.mark.parametrize("size", [(0.0, 0.3), (0.3, 0.0)])
def test_a_truth_without_size_teaches_nothing(name: str, size: tuple[float, float]) -> None:
    head = HEADS[name]
    given = [alone(head, said(2, head, batch=1), rows) for rows in ([], [([0.5, 0.5, *size], 3)])]
    assert given[0].total.item() == given[1].total.item()


@pytest.mark.parametrize("label", [-1, CLASSES])
def test_a_class_that_the_head_does_not_have_is_refused(label: int) -> None:
    with pytest.raises(DataError, match=rf"of class {label}, wanted 0 to 9: \[region\] has 10 classes"):
        alone(FLAT, said(0, batch=1), [([0.5, 0.5, 0.1, 0.1], label)])


@pytest.mark.parametrize("value", [60.0, -60.0, 1e4, -1e4])
@pytest.mark.parametrize("name", HEADS)
def test_huge_logits_have_finite_terms_and_gradients(name: str, value: float) -> None:
    head = HEADS[name]
    raw = torch.full((4, 3 * head.entries, ROWS, COLUMNS), value, requires_grad=True)
    terms = region_loss(head, raw, targets_of(scene(0)), EARLY)
    terms.total.backward()
    assert all(torch.isfinite(term) for term in terms.named().values())
    assert torch.isfinite(raw.grad).all()


# ---------------------------------------------------------------------- gradients
@pytest.mark.parametrize("name", [name for name in HEADS if name != "background"])
@pytest.mark.parametrize("count", [0, 3, 90])
def test_gradients_are_those_of_the_terms(name: str, count: int) -> None:
    """By differences, in float64. Left out: rescore, whose aim moves with the box but is held fixed, and a background,
    whose deltas are the gradient of no one function."""
    head = replace(HEADS[name], rescore=False)
    rng = np.random.default_rng(count)
    rows = [(box_of(rng), int(rng.integers(CLASSES))) for _ in range(count)]
    targets = targets_of([rows, [(NOWHERE, 7)]])
    for moment in (EARLY, LATER):
        total: Callable[[torch.Tensor], torch.Tensor] = lambda x, m=moment: region_loss(head, x, targets, m).total  # noqa: E731
        assert torch.autograd.gradcheck(total, said(11, head, batch=2), fast_mode=True)


def test_the_aim_of_rescore_is_held_fixed() -> None:
    """The terms of objectness do not reach the numbers of any box."""
    raw = said(3)
    terms = region_loss(FLAT, raw, targets_of(scene(3)), LATER)
    (terms.objects + terms.background).backward()
    grid = raw.grad.reshape(4, 3, 15, ROWS, COLUMNS)
    assert (grid[:, :, 4] != 0).any()
    assert (grid[:, :, :4] == 0).all()
