"""Several label spaces as one tree: the union by ids, and where each source's classes are in it."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from lookonce.errors import DataError, shown
from lookonce.trees.building import planted, upwards
from lookonce.trees.concepts import senses_of
from lookonce.trees.joining import Lexicon
from lookonce.trees.tables import one_word
from lookonce.wordtree import WordTree

MOST_NAMED = 3


class Merged(NamedTuple):
    """A tree, and for each source the node of each of its classes."""

    tree: WordTree
    maps: tuple[tuple[int, ...], ...]


def merge(trees: Mapping[str, WordTree], lists: Mapping[str, Sequence[str]], *, prefer_first: bool = False) -> Merged:
    """The union of trees by ids, then of lists of names; the keys name the sources in messages.

    A node's parent is that of the trees that have it. A root in one tree takes the parent that another gives it; of a
    parent and something below that parent the lower one is taken, so that a finer tree refines a coarser one. Anything
    else is a conflict: an error that names it, or with `prefer_first` what the first tree says. Siblings come in the
    order of the sources, display names from the first tree that has one.

    A name of a list is the node of this id or name; one that is neither becomes a root, its blanks underscores in the
    id. Raises DataError for a conflict, and for a name that several nodes have.
    """
    ids: dict[str, int] = {}
    names: list[str] = []
    above: list[dict[int, int]] = []  # each parent, and the number of the first tree to say so
    at: list[list[int]] = []
    for rank, (source, tree) in enumerate(trees.items()):
        if len(set(tree.ids)) < len(tree):
            raise DataError(f"{source}: has ids that stand there twice: `lookonce tree check` names them")
        mine = [ids.setdefault(id, len(ids)) for id in tree.ids]
        for number, id, name in zip(mine, tree.ids, tree.names, strict=True):
            if number == len(names):
                names.append(name)
                above.append({})
            elif names[number] == id:
                names[number] = name
        for number, over in zip(mine, tree.parent.tolist(), strict=True):
            if over >= 0:
                above[number].setdefault(mine[over], rank)
        at.append(mine)
    parent = _agreed(list(ids), above, list(trees), prefer_first=prefer_first)
    for source, words in lists.items():
        at.append(_added(source, words, ids, names, parent))
    tree, node = planted(list(ids), names, parent)
    return Merged(tree, tuple(tuple([node[number] for number in mine]) for mine in at))


def _agreed(
    ids: Sequence[str], above: Sequence[dict[int, int]], sources: Sequence[str], *, prefer_first: bool
) -> list[int]:
    """One parent of each node, -1 for a root, of those that the sources give it. Raises DataError for a conflict."""
    order, ring = upwards(above, range(len(ids)))
    while ring:
        steps = [(above[number][over], number, over) for number, over in itertools.pairwise(ring)]
        rank, number, over = max(steps)
        if not prefer_first:
            text = " < ".join(ids[each] for each in ring)
            raise DataError(
                f"{sources[rank]}: {shown(ids[number])} is under {shown(ids[over])}, but elsewhere it is above it: "
                f"{shown(text, 200)}; --prefer first leaves such a step out"
            )
        del above[number][over]
        order, ring = upwards(above, range(len(ids)))
    parent = [-1] * len(ids)
    conflicts: list[str] = []
    for number in order:  # what is above a node is settled before it
        given = above[number]
        if len(given) > 1:
            over_others = {each for over in given for each in _path(parent, over)[1:]}
            given = {over: rank for over, rank in given.items() if over not in over_others}
        if len(given) > 1 and not prefer_first:
            says = [f"under {shown(ids[over])} in {sources[rank]}" for over, rank in given.items()]
            conflicts.append(f"{shown(ids[number])} is {' and '.join(says)}")
        parent[number] = min(given, key=given.__getitem__, default=-1)
    if conflicts:
        more = f"; and {len(conflicts) - 1:,} more" if len(conflicts) > 1 else ""
        raise DataError(f"{conflicts[0]}{more}: --prefer first takes what the first tree says")
    return parent


def _path(parent: Sequence[int], number: int) -> list[int]:
    """A node and all above it."""
    path = [number]
    while parent[path[-1]] >= 0:
        path.append(parent[path[-1]])
    return path


def _added(source: str, words: Sequence[str], ids: dict[str, int], names: list[str], parent: list[int]) -> list[int]:
    """The number of each name of a list. One that is not known is added as a root."""
    lexicon = Lexicon(tuple(ids), names, parent, senses_of(names), {})
    numbers = []
    for line, word in enumerate(words, start=1):
        id = one_word(word)
        if not id:
            raise DataError(f"{source}:{line}: a class without a name, wanted one")
        how, found, _ = lexicon.candidates(word)
        if len(found) > 1 and how != "nearly":
            which = "; ".join(lexicon.described(number) for number in found[:MOST_NAMED])
            raise DataError(f"{source}:{line}: {shown(word)} may be {shown(which, 300)}: write the id")
        if found and how != "nearly":
            numbers.append(found[0])
            continue
        if id not in ids:
            ids[id] = len(ids)
            names.append(word)
            parent.append(-1)
        numbers.append(ids[id])
    return numbers
