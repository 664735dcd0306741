"""Classifiers' figures against sorting each picture's classes, and walks up the tree."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lookonce.evaluate.classify import by_depth, classify, of_ranks, ranks
from lookonce.wordtree import WordTree

#                 0          1          2           3         4          5         6           7
TREE = WordTree.parse(["root -1", "rock -1", "animal 0", "plant 0", "dog 2", "cat 2", "pebble 1", "terrier 4"])


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_top_1_and_top_5_are_those_of_the_sorted_classes(seed: int, kind: type) -> None:
    """Among equal probabilities (of eight values only) the lower class comes first, as `sorted` leaves them."""
    rng = np.random.default_rng(seed)
    pictures, classes = 60, int(rng.integers(2, 12))
    probability = (rng.integers(0, 8, (pictures, classes)) / 8).astype(kind)
    label = rng.integers(0, classes, pictures)
    order = [sorted(range(classes), key=lambda number: -row[number]) for row in probability.tolist()]
    place = [each.index(own) for each, own in zip(order, label.tolist(), strict=True)]
    figures = classify(probability, label)
    assert figures.rank.tolist() == place
    for most, all_of_them, each in ((1, figures.top1, figures.top1_of), (5, figures.top5, figures.top5_of)):
        assert all_of_them == sum(rank < most for rank in place) / pictures
        for number in range(classes):
            own_places = [rank for rank, own in zip(place, label.tolist(), strict=True) if own == number]
            assert figures.pictures[number] == len(own_places)
            share = sum(rank < most for rank in own_places) / len(own_places) if own_places else math.nan
            assert each[number] == pytest.approx(share, nan_ok=True)


def test_a_probability_that_is_no_number_is_never_right() -> None:
    """Two classes: any number of them is among the five likeliest, but not NaN."""
    probability = np.array([[np.nan, 0.5], [np.nan, 0.5], [np.nan, np.nan]])
    figures = classify(probability, np.array([0, 1, 0]))
    assert figures.rank.tolist() == [5, 0, 5]
    assert figures.top1 == figures.top5 == pytest.approx(1 / 3)


def test_figures_can_be_made_from_batches_of_ranks() -> None:
    rng = np.random.default_rng(0)
    probability, label = rng.random((50, 9)), rng.integers(0, 9, 50)
    parts = [ranks(probability[i : i + 7], label[i : i + 7]) for i in range(0, 50, 7)]
    whole, joined = classify(probability, label), of_ranks(np.concatenate(parts), label, 9)
    assert (whole.top1, whole.top5) == (joined.top1, joined.top5)
    assert np.array_equal(whole.rank, joined.rank)


def test_no_picture_has_no_figure() -> None:
    figures = classify(np.zeros((0, 3), np.float32), np.zeros(0, np.int64))
    assert np.isnan([figures.top1, figures.top5, *figures.top1_of]).all()


@pytest.mark.parametrize("seed", range(10))
def test_an_answer_is_right_at_a_depth_if_its_path_goes_through_the_same_node(seed: int) -> None:
    rng = np.random.default_rng(seed)
    label, answer = rng.integers(0, len(TREE), 40), rng.integers(-1, len(TREE), 40)
    pictures, right = [0] * 4, [0] * 4
    for said, own in zip(answer.tolist(), label.tolist(), strict=True):
        truth, path = TREE.path(own), TREE.path(said) if said >= 0 else []
        for depth, node in enumerate(truth):
            pictures[depth] += 1
            right[depth] += depth < len(path) and path[depth] == node
    figures = by_depth(TREE, answer, label)
    assert figures.pictures.tolist() == pictures
    assert figures.right.tolist() == right


def test_a_terrier_called_a_cat_is_right_down_to_the_animal() -> None:
    figures = by_depth(TREE, np.array([5]), np.array([7]))
    assert figures.accuracy.tolist() == [1, 1, 0, 0]


def test_depths_that_no_picture_reaches_have_no_accuracy() -> None:
    accuracy = by_depth(TREE, np.array([1, 4]), np.array([6, 6])).accuracy
    assert accuracy[:2].tolist() == [0.5, 0]
    assert np.isnan(accuracy[2:]).all()


def test_a_label_that_is_no_class_is_refused() -> None:
    with pytest.raises(ValueError, match="label 1 is 3, wanted 0 to 2"):
        classify(np.zeros((2, 3)), np.array([0, 3]))
    with pytest.raises(ValueError, match="answer 0 is 8, wanted -1 to 7"):
        by_depth(TREE, np.array([8]), np.array([0]))
    with pytest.raises(ValueError, match="label 0 is -1, wanted 0 to 7"):
        by_depth(TREE, np.array([0]), np.array([-1]))
