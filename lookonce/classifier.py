"""Classifier: pictures in, labels out, flat or down a WordTree."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lookonce.engines import EngineKind, Precision
from lookonce.engines.options import share
from lookonce.errors import CfgError
from lookonce.model import Model
from lookonce.runner import Compat, ResizeChoice, Runner, Source
from lookonce.shapes import Float32


class Answer(NamedTuple):
    """One class that a picture may show: its number and name, its probability, and the names on its way down the tree.

    Without a tree the way is the name alone.
    """

    label: int
    name: str
    score: float
    path: tuple[str, ...]


class Classifier:
    """A model ready to classify. It may be shared by any number of threads.

    Options as of Detector. Pictures are fitted as by `darknet classifier predict`: letterboxed for the original's
    networks, the middle cut out (`crop`) for the fork's, unless `resize` says otherwise. `hierarchy` is how likely a
    node of its tree must be to be sure of it. Raises EngineError, or CfgError if the model is no classifier, or has no
    tree for a `hierarchy`.
    """

    def __init__(
        self,
        model: Model,
        *,
        engine: EngineKind = "auto",
        precision: Precision = "auto",
        threads: int | None = None,
        hierarchy: float | None = None,
        resize: ResizeChoice = "auto",
        compat: Compat = None,
    ) -> None:
        network = model.network
        if network.kind != "classifier":
            detects = network.kind == "detector"
            does = "detects: use detect (Detector)" if detects else "puts out neither boxes nor classes"
            raise CfgError(f"{network.cfg.path}: does not end in a [softmax]; it {does}")
        self.names = model.label_names()
        self.tree = model.tree
        if hierarchy is not None and self.tree is None:
            raise CfgError(f"{network.cfg.path}: has no tree to go down, wanted no hierarchy")
        self.hierarchy = model.thresholds.hierarchy if hierarchy is None else share("hierarchy", hierarchy)
        self.runner = Runner(
            model, engine=engine, precision=precision, threads=threads, resize=resize, compat=compat
        )

    def __str__(self) -> str:
        return str(self.runner)

    def __call__(self, picture: Source, top: int = 5) -> list[Answer]:
        """The `top` likeliest classes of one picture, the likeliest first. Down a tree only leaves compete.

        Raises InputError if the picture is not readable.
        """
        return self.likeliest(self.probabilities(picture), top)

    def likeliest(self, probability: Float32[np.ndarray, " K"], top: int = 5) -> list[Answer]:
        """The same of `probabilities`."""
        best = np.argsort(-probability, kind="stable")
        if self.tree is not None:
            best = best[self.tree.leaf[best]]
        best = best[:top]
        return [self._answer(int(label), float(probability[label])) for label in best]

    def sure(self, probability: Float32[np.ndarray, " K"]) -> Answer | None:
        """The deepest node on the likeliest way down whose own probability passes `hierarchy`, of `probabilities`.

        None if not even a root does, and without a tree. So a dog of an unknown breed is a dog (thesis 2.4.1).
        """
        if self.tree is None:
            return None
        node = int(self.tree.walk(probability[None], self.hierarchy)[0])
        return self._answer(node, float(probability[node])) if probability[node] > self.hierarchy else None

    def probabilities(self, picture: Source) -> Float32[np.ndarray, " K"]:
        """Every class's probability; down a tree each node's own, the product of those on its way.

        Raises InputError if the picture is not readable.
        """
        conditional = self.runner([picture]).outputs[0].reshape(1, -1)
        return np.asarray((self.tree.absolute(conditional) if self.tree is not None else conditional.copy())[0])

    def _answer(self, label: int, score: float) -> Answer:
        path = self.tree.path(label) if self.tree is not None else [label]
        return Answer(label, self.names[label], score, tuple(self.names[node] for node in path))
