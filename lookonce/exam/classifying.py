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


class ClassExam:
    """Pictures with one class each. `label` (P,) numbers the classifier's classes.

    Raises DataError if a picture has no class or several, or one that the classifier does not know.
    """

    def __init__(self, dataset: Dataset, theirs: Sequence[str]) -> None:
        if not dataset.items:
            raise DataError(f"{dataset.path}: holds no picture, so there is nothing to judge")
        if any(len(item.truth) for item in dataset.items):
            raise DataError(f"{dataset.path}: has boxes; a classifier is judged by classes of whole pictures")
        shared = shared_names(theirs, dataset.names)
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
        self.label = np.array(labels, np.int64)

    def run(
        self, classifier: Classifier, complain: Complain = warn, progress: Progress = lambda done, total: None
    ) -> tuple[ClassifyFigures, DepthFigures | None]:
        """Top-1 and top-5, with a tree the accuracy at each depth. A picture that cannot be read counts as wrong."""
        classes, tree = len(classifier.names), classifier.tree
        unknown = np.full(classes, np.nan, np.float32)
        place, answer = [], []
        # Of each picture only its class's place and the deepest answer are kept: thousands of classes add up.
        paper = read_all(self.dataset, complain, progress, upright=not classifier.runner.compat)
        for picture, label in zip(paper, self.label, strict=True):
            probability = unknown if picture is None else classifier.probabilities(picture)
            place.append(int(ranks(probability[None], label[None])[0]))
            if tree is not None:
                leaf = int(np.argmax(np.where(tree.leaf, np.nan_to_num(probability), 0)))
                answer.append(leaf if probability[leaf] > 0 else -1)
        figures = of_ranks(np.array(place), self.label, classes)
        return figures, None if tree is None else by_depth(tree, np.array(answer), self.label)
