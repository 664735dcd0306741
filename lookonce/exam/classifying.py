"""ClassExam: a dataset of classified pictures, and how often a classifier is right, flat and down a tree."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lookonce.classifier import Classifier
from lookonce.data import Dataset
from lookonce.errors import DataError, warn
from lookonce.evaluate.classify import ClassifyFigures, DepthFigures, by_depth, of_ranks, ranks
from lookonce.evaluate.mapping import shared_names
from lookonce.exam.paper import Complain, Progress, read_all
from lookonce.wordtree import Subset


class ClassExam:
    """Pictures with one class each. `label` (P,) numbers the classifier's classes, or those `chosen` from its tree.

    Raises DataError if a picture has no class or several, or one that the classifier does not know.
    """

    def __init__(self, dataset: Dataset, theirs: Sequence[str], chosen: Subset | None = None) -> None:
        if not dataset.items:
            raise DataError(f"{dataset.path}: holds no picture, so there is nothing to judge")
        if any(len(item.truth) for item in dataset.items):
            raise DataError(f"{dataset.path}: has boxes; a classifier is judged by classes of whole pictures")
        shared = shared_names(theirs if chosen is None else chosen.names, dataset.names)
        if shared.only_ours:
            raise DataError(
                f"{dataset.path}: {len(shared.only_ours)} of its classes are none of the classifier's: "
                f"{', '.join(shared.only_ours[:3])}; wanted names of its classes"
            )
        number = {int(ours): theirs for theirs, ours in enumerate(shared.to.tolist()) if ours >= 0}
        labels = []
        for item in dataset.items:
            if len(item.truth.classes) != 1:
                raise DataError(f"{item.path}: has {len(item.truth.classes)} classes, wanted one a picture")
            labels.append(number[item.truth.classes[0]])
        self.dataset = dataset
        self.chosen = chosen
        self.label = np.array(labels, np.int64)

    def run(
        self, classifier: Classifier, complain: Complain = warn, progress: Progress = lambda done, total: None
    ) -> tuple[ClassifyFigures, DepthFigures | None]:
        """Top-1 and top-5; down a tree among the chosen classes, and the accuracy at each depth.

        A picture that cannot be read counts as wrong.
        """
        tree, chosen = classifier.tree, self.chosen
        assert (tree is None) == (chosen is None)
        unknown = np.full(len(classifier.names), np.nan, np.float32)
        place, answer = [], []
        # Of each picture only its class's place and the deepest answer are kept: thousands of classes add up.
        paper = read_all(self.dataset, complain, progress, upright=not classifier.runner.compat)
        for picture, label in zip(paper, self.label, strict=True):
            probability = unknown if picture is None else classifier.probabilities(picture)
            competing = probability if chosen is None else chosen.probability(probability[None])[0]
            place.append(int(ranks(competing[None], label[None])[0]))
            if tree is not None:
                leaf = int(np.argmax(np.where(tree.leaf, np.nan_to_num(probability), 0)))
                answer.append(leaf if probability[leaf] > 0 else -1)
        classes = len(classifier.names if chosen is None else chosen.names)
        figures = of_ranks(np.array(place), self.label, classes)
        if tree is None or chosen is None:
            return figures, None
        node = np.array([nodes[0] for nodes in chosen.nodes], np.int64)[self.label]
        return figures, by_depth(tree, np.array(answer), node)
