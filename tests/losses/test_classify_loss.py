"""The losses of [softmax], [logistic] and [cost] against sums over classes, and a tree's against wordtree.py."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from lookonce.errors import CfgError, DataError
from lookonce.heads.classify import Softmax
from lookonce.layers.activation import Logistic
from lookonce.layers.plain import Cost
from lookonce.losses.classify import Family, cost_loss, logistic_loss, softmax_loss, ways
from lookonce.losses.terms import LossTerms, Moment
from lookonce.truth import Targets
from lookonce.wordtree import WordTree

MOMENT, COMPAT = Moment((8, 8)), Moment((8, 8), compat=True)
FLAT = Softmax(groups=1, temperature=1.0, spatial=False, tree=None)
SSE = Cost(type="sse", scale=1.0, ratio=0.0, noobj=1.0, thresh=0.0)
# animal (dog (poodle, beagle), cat, bird), vehicle (car (taxi), bus): two roots, and a node with one child
PARENTS = [-1, -1, 0, 0, 0, 1, 1, 2, 2, 5]
WORDS = WordTree.parse([f"n{number} {parent}" for number, parent in enumerate(PARENTS)])
TREE = replace(FLAT, tree=WORDS)


def said(batch: int, classes: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(0, 2, (batch, classes, 1, 1))).requires_grad_()


def shows(*labels: Sequence[int]) -> Targets:
    """The classes of each picture."""
    return Targets.of([(np.full((len(each), 4), np.nan), np.array(each, int)) for each in labels])


def softmax(values: Sequence[float]) -> list[float]:
    powers = [math.exp(value) for value in values]
    return [power / sum(powers) for power in powers]


def sigma(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def delta(terms: LossTerms, raw: torch.Tensor) -> np.ndarray:
    terms.total.backward()
    return -raw.grad.numpy().reshape(len(raw), -1)


# ---------------------------------------------------------------------- [softmax], flat
def test_the_delta_is_truth_minus_probability_and_the_cost_minus_its_logarithm() -> None:
    raw, labels = said(3, 5), (4, 0, 2)
    terms = softmax_loss(FLAT, raw, shows(*([label] for label in labels)), MOMENT)
    found = delta(terms, raw)
    cost = 0.0
    for one, label in enumerate(labels):
        p = softmax(raw[one].detach().reshape(-1).tolist())
        assert found[one].tolist() == pytest.approx([(k == label) - p[k] for k in range(5)])
        cost -= math.log(p[label])
    assert terms.total.item() == terms.classes.item() == pytest.approx(cost)
    assert terms.printed.item() == pytest.approx(cost)


def test_a_map_of_any_shape_is_read_as_a_vector() -> None:
    raw = said(2, 12)
    flat = softmax_loss(FLAT, raw, shows([3], [11]), MOMENT)
    shaped = softmax_loss(FLAT, raw.reshape(2, 3, 2, 2), shows([3], [11]), MOMENT)
    assert shaped.total.item() == flat.total.item()


@pytest.mark.parametrize("smooth", [0.1, 1.0])
def test_label_smoothing_gives_a_share_of_the_truth_to_all_classes(smooth: float) -> None:
    raw = said(1, 5)
    terms = softmax_loss(FLAT, raw, shows([3]), MOMENT, smooth)
    p = softmax(raw.detach().reshape(-1).tolist())
    truth = [(1 - smooth) * (k == 3) + smooth / 5 for k in range(5)]
    assert terms.total.item() == pytest.approx(-sum(t * math.log(q) for t, q in zip(truth, p, strict=True)))
    assert delta(terms, raw)[0].tolist() == pytest.approx([t - q for t, q in zip(truth, p, strict=True)])
    assert terms.printed.item() == pytest.approx(-sum(math.log(q) for q in p))       # every truth is above 0


def test_of_the_temperature_the_delta_knows_only_the_probability() -> None:
    """As in Darknet, where nothing divides the delta by it."""
    raw = said(1, 5)
    p = softmax([value / 3 for value in raw.detach().reshape(-1).tolist()])
    terms = softmax_loss(replace(FLAT, temperature=3.0), raw, shows([1]), MOMENT)
    assert delta(terms, raw)[0].tolist() == pytest.approx([(k == 1) - p[k] for k in range(5)])
    assert terms.printed.item() == pytest.approx(-math.log(p[1]))


def test_groups_are_softmaxes_of_their_own_and_one_without_a_class_learns_nothing() -> None:
    """Two groups of three: of the first picture each has a class, of the second only the second group."""
    raw = said(2, 6)
    found = delta(softmax_loss(replace(FLAT, groups=2), raw, shows([1, 3], [5]), MOMENT), raw)
    values = raw.detach().reshape(2, 2, 3).tolist()
    wanted = np.zeros((2, 2, 3))
    for one, group, label in ((0, 0, 1), (0, 1, 0), (1, 1, 2)):
        p = softmax(values[one][group])
        wanted[one, group] = [(k == label) - p[k] for k in range(3)]
    np.testing.assert_allclose(found, wanted.reshape(2, 6), atol=1e-12)


def test_several_classes_share_the_truth_and_none_teaches_nothing() -> None:
    raw = said(2, 4)
    p = softmax(raw[0].detach().reshape(-1).tolist())
    found = delta(softmax_loss(FLAT, raw, shows([0, 2, 2], []), MOMENT), raw)
    assert found[0].tolist() == pytest.approx([0.5 - p[0], -p[1], 0.5 - p[2], -p[3]])
    assert found[1].tolist() == [0] * 4


def test_with_compat_a_picture_without_a_class_is_pushed_down() -> None:
    raw = said(1, 4)
    p = softmax(raw.detach().reshape(-1).tolist())
    assert delta(softmax_loss(FLAT, raw, shows([]), COMPAT), raw)[0].tolist() == pytest.approx([-q for q in p])


# ---------------------------------------------------------------------- [softmax], down a tree
@pytest.mark.parametrize("compat", [False, True])
def test_each_set_of_siblings_on_the_way_learns_and_no_other(compat: bool) -> None:
    """Of the sets off the way Darknet's GPU code masks the delta, its CPU code takes the truth for 0."""
    labels = [7, 2, 9, 1, 4, 0]
    raw = said(len(labels), 10)
    found = delta(softmax_loss(TREE, raw, shows(*([label] for label in labels)), COMPAT if compat else MOMENT), raw)
    for one, label in enumerate(labels):
        values, way = raw[one].detach().reshape(-1).tolist(), set()
        while label >= 0:
            way.add(label)
            label = PARENTS[label]
        for parent in set(PARENTS):
            siblings = [node for node in range(10) if PARENTS[node] == parent]
            p = softmax([values[node] for node in siblings])
            learnt = any(node in way for node in siblings) or compat
            wanted = [((node in way) - q) * learnt for node, q in zip(siblings, p, strict=True)]
            assert found[one, siblings].tolist() == pytest.approx(wanted, abs=1e-12)


def test_the_cost_of_a_tree_is_minus_the_logarithm_of_the_nodes_own_probability() -> None:
    """Which wordtree.py knows: the product of the conditional ones on its way."""
    raw, labels = said(10, 10), list(range(10))
    terms = softmax_loss(TREE, raw, shows(*([label] for label in labels)), MOMENT)
    own = WORDS.absolute(WORDS.softmax(raw.detach().numpy().reshape(10, 10).astype(np.float32)))
    wanted = -np.log(own[labels, labels]).sum()
    assert terms.total.item() == pytest.approx(float(wanted), rel=1e-5)
    assert terms.printed.item() == pytest.approx(float(wanted), rel=1e-5)


def test_with_a_tree_smoothing_stays_within_a_set_of_siblings() -> None:
    raw = said(1, 10)
    values = raw.detach().reshape(-1).tolist()
    terms = softmax_loss(TREE, raw, shows([3]), MOMENT, 0.3)
    wanted = np.zeros(10)
    for siblings, right in (([0, 1], 0), ([2, 3, 4], 3)):
        for node, p in zip(siblings, softmax([values[node] for node in siblings]), strict=True):
            wanted[node] = 0.7 * (node == right) + 0.3 / len(siblings) - p
    np.testing.assert_allclose(delta(terms, raw)[0], wanted, atol=1e-12)


def test_two_classes_of_one_tree_share_the_sets_where_they_part() -> None:
    """Poodle and cat are both animals; then they share dog, cat and bird; then poodle has its own set."""
    raw = said(1, 10)
    values = raw.detach().reshape(-1).tolist()
    truth = {0: 1.0, 2: 0.5, 3: 0.5, 7: 1.0}
    wanted = np.zeros(10)
    for siblings in ([0, 1], [2, 3, 4], [7, 8]):
        for node, p in zip(siblings, softmax([values[node] for node in siblings]), strict=True):
            wanted[node] = truth.get(node, 0.0) - p
    np.testing.assert_allclose(delta(softmax_loss(TREE, raw, shows([7, 3]), MOMENT), raw)[0], wanted, atol=1e-12)


def test_ways_and_families_of_nodes() -> None:
    row, node = ways(WORDS, torch.tensor([7, 1, 9]))
    assert row.tolist() == [0, 0, 0, 1, 2, 2, 2]
    assert node.tolist() == [7, 2, 0, 1, 9, 5, 1]
    family = Family.of(WORDS, torch.tensor([3, 9, 1]))
    assert [row[inside].tolist() for row, inside in zip(family.members, family.inside, strict=True)] == [
        [2, 3, 4], [9], [0, 1],
    ]  # fmt: skip
    assert family.place.tolist() == [1, 0, 1]
    assert [int(WORDS.starts[group]) for group in family.group] == [2, 9, 0]
    assert [part.tolist() for part in ways(WORDS, torch.tensor([], dtype=torch.int64))] == [[], []]


# ---------------------------------------------------------------------- [logistic]
@pytest.mark.parametrize("smooth", [0.0, 0.2])
def test_logistic_is_binary_cross_entropy_of_any_number_of_classes(smooth: float) -> None:
    raw, labels = said(3, 4), ([0, 3], [], [1])
    terms = logistic_loss(Logistic(), raw, shows(*labels), MOMENT, smooth)
    cost, wanted = 0.0, np.zeros((3, 4))
    for one, values in enumerate(raw.detach().reshape(3, 4).tolist()):
        for k, value in enumerate(values):
            t, p = (1 - smooth) * (k in labels[one]) + smooth / 4, sigma(value)
            cost -= t * math.log(p) + (1 - t) * math.log(1 - p)
            wanted[one, k] = t - p
    assert terms.total.item() == pytest.approx(cost)
    assert terms.printed.item() == pytest.approx(cost)
    np.testing.assert_allclose(delta(terms, raw), wanted, atol=1e-12)


# ---------------------------------------------------------------------- [cost]
@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("kind", ["sse", "smooth", "L1"])
def test_costs_and_deltas_of_each_type(kind: str, dense: bool) -> None:
    """The factor `scale` is of the delta, not of the cost that Darknet prints."""
    raw = said(4, 3)
    labels = ([2], [0], [1], [])
    truth = [[float(k in each) for k in range(3)] for each in labels]
    terms = cost_loss(
        replace(SSE, type=kind, scale=2.5), raw, torch.tensor(truth) if dense else shows(*labels), MOMENT
    )  # fmt: skip
    cost, wanted = 0.0, np.zeros((4, 3))
    for one, values in enumerate(raw.detach().reshape(4, 3).tolist()):
        for k, value in enumerate(values):
            away = truth[one][k] - value
            sign = 1 if away > 0 else -1
            if kind == "sse":
                cost, wanted[one, k] = cost + away**2, away
            elif kind == "L1":
                cost, wanted[one, k] = cost + abs(away), sign
            elif abs(away) < 1:
                cost, wanted[one, k] = cost + away**2, away
            else:
                cost, wanted[one, k] = cost + 2 * abs(away) - 1, sign
    assert terms.printed.item() == pytest.approx(cost)
    np.testing.assert_allclose(delta(terms, raw), 2.5 * wanted, atol=1e-7)


def test_smoothing_of_a_cost() -> None:
    raw = said(1, 4)
    terms = cost_loss(SSE, raw, shows([2]), MOMENT, 0.2)
    wanted = [0.8 * (k == 2) + 0.05 - value for k, value in enumerate(raw.detach().reshape(-1).tolist())]
    assert delta(terms, raw)[0].tolist() == pytest.approx(wanted)


# ---------------------------------------------------------------------- what cannot be
@pytest.mark.parametrize("kind", ["masked", "seg", "wgan"])
def test_costs_that_need_more_than_labels_are_refused(kind: str) -> None:
    with pytest.raises(CfgError, match=rf"^\[cost\] type={kind} cannot be learnt here; wanted sse, smooth or L1$"):
        cost_loss(replace(SSE, type=kind), said(1, 2), shows([0]), MOMENT)


@pytest.mark.parametrize("option", ["ratio", "thresh"])
def test_costs_that_leave_differences_out_are_refused(option: str) -> None:
    with pytest.raises(CfgError, match=rf"^\[cost\] {option}=0.5 cannot be learnt here; wanted 0, .* difference$"):
        cost_loss(replace(SSE, **{option: 0.5}), said(1, 2), shows([0]), MOMENT)


def test_a_softmax_at_every_place_is_refused() -> None:
    with pytest.raises(CfgError, match=r"^\[softmax\] spatial=1 cannot be learnt"):
        softmax_loss(replace(FLAT, spatial=True), said(1, 2), shows([0]), MOMENT)


@pytest.mark.parametrize("label", [-1, 10, 999])
def test_a_class_that_there_is_not_is_refused(label: int) -> None:
    for where, loss in (("softmax", lambda *given: softmax_loss(FLAT, *given)),
                        ("softmax", lambda *given: softmax_loss(TREE, *given)),
                        ("logistic", lambda *given: logistic_loss(Logistic(), *given)),
                        ("cost", lambda *given: cost_loss(SSE, *given))):
        with pytest.raises(DataError, match=rf"^a truth is of class {label}, wanted 0 to 9: \[{where}\] has 10 "):
            loss(said(2, 10), shows([3], [label]), MOMENT)


# ---------------------------------------------------------------------- gradients
@pytest.mark.parametrize(
    "labels", [([], [], []), ([1], [9], [7]), (range(10), [], [4, 4, 8])], ids=["none", "one", "many"]
)  # fmt: skip
@pytest.mark.parametrize(
    "loss",
    [
        lambda x, t: softmax_loss(FLAT, x, t, MOMENT, 0.1),
        lambda x, t: softmax_loss(replace(FLAT, groups=2, temperature=2.0), x, t, COMPAT),
        lambda x, t: softmax_loss(TREE, x, t, MOMENT),
        lambda x, t: softmax_loss(TREE, x, t, COMPAT, 0.2),
        lambda x, t: logistic_loss(Logistic(), x, t, MOMENT),
        lambda x, t: cost_loss(SSE, x, t, MOMENT),
        lambda x, t: cost_loss(replace(SSE, type="smooth"), x, t, MOMENT),
        lambda x, t: cost_loss(replace(SSE, type="L1"), x, t, MOMENT),
    ],
    ids=["flat", "groups", "tree", "tree, compat", "logistic", "sse", "smooth", "L1"],
)
def test_gradients_are_those_of_the_terms(loss, labels: Sequence[Sequence[int]]) -> None:
    targets = shows(*(list(each) for each in labels))
    assert torch.autograd.gradcheck(lambda x: loss(x, targets).total, said(3, 10, seed=2))
