"""Judging classifiers: top-1 and top-5, and how deep down a WordTree the answer is right."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lookonce.shapes import Float64, Int64, Real
from lookonce.wordtree import WordTree


@dataclass(frozen=True, eq=False)
class ClassifyFigures:
    """The share of pictures whose class is the likeliest (`top1`) or among the five likeliest (`top5`); NaN of none.

    Of each class: `pictures` (K,), and `top1_of` and `top5_of` (K,), NaN without pictures. `rank` (P,) is the place
    of each picture's class among the answers, 0 the likeliest.
    """

    top1: float
    top5: float
    pictures: Int64[np.ndarray, " K"]
    top1_of: Float64[np.ndarray, " K"]
    top5_of: Float64[np.ndarray, " K"]
    rank: Int64[np.ndarray, " P"]


@dataclass(frozen=True, eq=False)
class DepthFigures:
    """How far down a tree the answers are right: `right` (D,) of `pictures` (D,) at depths 1, 2, ... D.

    At a depth count the pictures whose class has a node there. An answer is right if it or its ancestor at that depth
    is that node; one that stops higher up is wrong. `accuracy` (D,) is NaN where no picture counts.
    """

    pictures: Int64[np.ndarray, " D"]
    right: Int64[np.ndarray, " D"]

    @property
    def accuracy(self) -> Float64[np.ndarray, " D"]:
        return _shares(self.right, self.pictures)


def classify(probability: Real[np.ndarray, "P K"], label: Int64[np.ndarray, " P"]) -> ClassifyFigures:
    """The figures of the probabilities (P, K) of K classes for pictures of the classes `label` (P,).

    Raises ValueError if a label is none of the K classes.
    """
    return of_ranks(ranks(probability, label), label, probability.shape[1])


def ranks(probability: Real[np.ndarray, "P K"], label: Int64[np.ndarray, " P"]) -> Int64[np.ndarray, " P"]:
    """The place of each picture's class among the K, 0 the likeliest. Raises ValueError as `classify`.

    Among equal probabilities the class of the lower number comes first, as Classifier answers. A class whose
    probability is NaN is never right: it has place K, or 5 if that is more.
    """
    classes = probability.shape[1]
    _check("label", label, 0, classes)
    own = np.take_along_axis(probability, label[:, None], axis=1)                 # (P, 1)
    earlier = np.arange(classes) < label[:, None]
    rank: np.ndarray = ((probability > own) | ((probability == own) & earlier)).sum(axis=1)
    rank[np.isnan(own[:, 0])] = max(classes, 5)
    return rank


def of_ranks(rank: Int64[np.ndarray, " P"], label: Int64[np.ndarray, " P"], classes: int) -> ClassifyFigures:
    """The figures of pictures of which only the class and its place among the answers were kept."""
    pictures = np.bincount(label, minlength=classes)
    top1, top5 = (np.bincount(label[rank < most], minlength=classes) for most in (1, 5))
    all1, all5 = _shares(np.array([top1.sum(), top5.sum()]), np.array([len(label)] * 2)).tolist()
    return ClassifyFigures(all1, all5, pictures, _shares(top1, pictures), _shares(top5, pictures), rank)


def by_depth(tree: WordTree, answer: Int64[np.ndarray, " P"], label: Int64[np.ndarray, " P"]) -> DepthFigures:
    """The figures of the nodes that were answered, -1 for none, to pictures whose classes are the nodes `label`.

    Raises ValueError if one is no node of the tree.
    """
    _check("answer", answer, -1, len(tree))
    _check("label", label, 0, len(tree))
    ancestors = _ancestors(tree)
    truth = ancestors[label]                                                      # (P, D)
    said = np.where(answer[:, None] >= 0, ancestors[answer], -1)
    counts = truth >= 0
    return DepthFigures(counts.sum(axis=0), (counts & (said == truth)).sum(axis=0))


def _ancestors(tree: WordTree) -> Int64[np.ndarray, "K D"]:
    """Each node's ancestor at depths 1, 2, ..., itself at its own depth, -1 below."""
    ancestors = np.full((len(tree), int(tree.depth.max())), -1, np.int64)
    for depth in range(ancestors.shape[1]):
        level = np.flatnonzero(tree.depth == depth + 1)
        ancestors[level] = ancestors[tree.parent[level]] if depth else -1         # parents stand one level higher
        ancestors[level, depth] = level
    return ancestors


def _check(name: str, numbers: Int64[np.ndarray, " P"], least: int, count: int) -> None:
    wrong = np.flatnonzero((numbers < least) | (numbers >= count))
    if len(wrong):
        raise ValueError(f"{name} {wrong[0]} is {numbers[wrong[0]]}, wanted {least} to {count - 1}")


def _shares(part: Int64[np.ndarray, " N"], whole: Int64[np.ndarray, " N"]) -> Float64[np.ndarray, " N"]:
    """Part by part, NaN of nothing."""
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)
