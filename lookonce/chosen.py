"""Chosen: which of a model's classes its answers are, and how far down a tree they go."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from lookonce.detections import plain_name
from lookonce.engines.options import is_count
from lookonce.errors import CfgError, DataError, nearest, shown
from lookonce.heads.head import Candidates, DecodeOptions
from lookonce.model import Model
from lookonce.shapes import Int64
from lookonce.wordtree import Subset, WordTree


@dataclass(frozen=True, eq=False)
class Chosen:
    """What a detector may answer: `names` are its classes.

    With a tree `only` or `below` are classes chosen from it, and `depth` is the most steps down; without one `number`
    (K,) is what each class of the network is among `names`, -1 for those that were not chosen. `walks` says that
    answers are where ways down a tree end.
    """

    names: tuple[str, ...]
    walks: bool = False
    only: Subset | None = None
    below: Subset | None = None
    depth: int | None = None
    number: Int64[np.ndarray, " K"] | None = None

    @classmethod
    def of(
        cls,
        model: Model,
        only: Sequence[str] | Subset | None,
        hierarchy: float | None,
        depth: int | None,
        below: Sequence[str] | None,
    ) -> Chosen:
        """What the options of a Detector ask for. Raises CfgError or DataError."""
        names, tree, path = model.label_names(), model.tree, model.network.cfg.path
        for option, given in (("depth", depth), ("below", below)):
            if given is not None and tree is None:
                raise CfgError(f"{option}={shown(repr(given))}: {path} has no tree to go down; wanted one with tree=")
        for option, step in (("hierarchy", hierarchy), ("depth", depth), ("below", below)):
            if step is not None and only is not None and tree is not None:
                raise CfgError(f"{option} stands beside only: the classes of `only` are no steps down; wanted one")
        if depth is not None and not is_count(depth):
            raise CfgError(f"depth={shown(repr(depth))}: wanted a whole number from 1, for the roots")
        if tree is None:
            if only is None:
                return cls(names)
            chosen = list(only.names if isinstance(only, Subset) else only)
            return cls(tuple(chosen), number=_numbers(names, chosen, path))
        if only is not None:
            subset = only if isinstance(only, Subset) else _named(tree, only, path)
            return cls(subset.names, only=subset)
        return cls(names, True, below=None if below is None else _named(tree, below, path), depth=depth)

    def within(self, options: DecodeOptions) -> DecodeOptions:
        """The options of a head's decode with what was chosen from a tree."""
        return options._replace(deepest=self.depth, only=self.only, below=self.below)

    def kept(self, found: Candidates) -> Candidates:
        """Without a tree, the candidates of the chosen classes, numbered as these are."""
        if self.number is None:
            return found
        label = self.number[np.asarray(found.label)]
        rows = np.flatnonzero(label >= 0)
        return Candidates(
            found.picture[rows], found.box[rows], found.xyxy[rows], found.objectness[rows], label[rows],
            found.score[rows],
        )  # fmt: skip

    def settings(self) -> dict[str, Any]:
        """What was asked for, as result files carry it."""
        asked = {
            "only": list(self.names) if self.only is not None or self.number is not None else None,
            "depth": self.depth,
            "below": None if self.below is None else list(self.below.names),
        }
        return {name: value for name, value in asked.items() if value is not None}


def _numbers(names: Sequence[str], chosen: Sequence[str], path: str) -> np.ndarray:
    """What each class is among the chosen ones, -1 if none: by its name, or by a known synonym.

    Raises DataError for one that there is not, and for two that are one.
    """
    exact = {name: number for number, name in reversed(list(enumerate(names)))}
    alike = {plain_name(name): number for name, number in exact.items()}
    number = np.full(len(names), -1, np.int64)
    for at, name in enumerate(chosen):
        found = exact.get(name, alike.get(plain_name(name)))
        if found is None:
            raise DataError(f"{path}: has no class {shown(name)}{nearest(name, names)}")
        if number[found] >= 0:
            other = shown(chosen[int(number[found])])
            raise DataError(f"{path}: {shown(name)} and {other} are the same class, {shown(names[found])}; wanted one")
        number[found] = at
    return number


def _named(tree: WordTree, names: Sequence[str], path: str) -> Subset:
    try:
        return tree.subset(tuple(names))
    except DataError as problem:
        raise DataError(f"{path}: {problem}") from None
