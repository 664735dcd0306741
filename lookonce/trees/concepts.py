"""A graph of concepts: what is a kind of what, where one may be a kind of several."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lookonce.wordtree import plain


@dataclass(frozen=True, eq=False)
class Concepts:
    """Concepts in the order of their source; the `parents` of each are numbers of concepts, in that order too.

    `names` are display names. `senses` are the numbers of the concepts that a name may mean, by `plain` names, the
    commonest first where the source says so. `path` is the source.
    """

    path: Path
    ids: tuple[str, ...]
    names: tuple[str, ...]
    parents: tuple[tuple[int, ...], ...]
    senses: Mapping[str, Sequence[int]]

    def __len__(self) -> int:
        return len(self.ids)


def senses_of(names: Iterable[str]) -> dict[str, list[int]]:
    """The numbers of all concepts of a name, by plain names."""
    senses: dict[str, list[int]] = {}
    for number, name in enumerate(names):
        senses.setdefault(plain(name), []).append(number)
    return senses
