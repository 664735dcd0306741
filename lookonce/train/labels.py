"""One label space for what is learnt together: the union of names, or the nodes of a tree."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping, Sequence

from lookonce.data import Dataset
from lookonce.data.mixed import mixed, renumbered, united
from lookonce.errors import DataError, shown
from lookonce.train.datasets import TrainingData
from lookonce.train.parts import some
from lookonce.trees import Lexicon, join
from lookonce.wordtree import WordTree

Ratio = tuple[float, float]

RATIO = re.compile(r"([0-9]{1,6}(?:\.[0-9]{1,6})?):([0-9]{1,6}(?:\.[0-9]{1,6})?)", re.ASCII)
MOST_RATIO = 500                 # of a thousand pictures each part has one at least (data.sampler)


def together(
    data: TrainingData,
    also: TrainingData | None,
    tree: WordTree | None = None,
    choices: Mapping[str, str] | None = None,
    ratio: Ratio = (1.0, 4.0),
) -> TrainingData:
    """The data to learn, and `also` others beside them at a `ratio` of pictures, in one label space.

    Without a tree that is the union of their names; with one each class is a node of it, and its word becomes the
    node's display name. What judges is that of `data`. Raises DataError for a name that is no node, or may be several
    and has no choice.
    """
    trains = [data.train] if also is None else [data.train, also.train]
    if tree is None:
        names, maps = united([part.names for part in trains])
        val = None if data.val is None else renumbered(data.val, maps[0], names)
        judged = None
    else:
        maps = tuple(_nodes(part, tree, choices or {}) for part in trains)
        tree = _called(tree, trains, maps)
        names, val = tree.names, data.val
        judged = tree.subset_of(data.names, [(node,) for node in maps[0]])
    parts = [renumbered(part, numbers, names) for part, numbers in zip(trains, maps, strict=True)]
    if also is None:
        return dataclasses.replace(data, train=parts[0], val=val, names=names, tree=tree, judged=judged)
    counts = " and ".join(f"{len(part):,} of {shown(part.path.name, 80)}" for part in parts)
    return dataclasses.replace(
        data,
        train=mixed(parts),
        val=val,
        names=names,
        left_out=data.left_out + also.left_out,
        found=data.found + also.found,
        rule=f"{data.rule}; beside them {also.train.path}: {also.rule}; {counts}, learnt {ratio[0]:g}:{ratio[1]:g}",
        weights=ratio,
        tree=tree,
        judged=judged,
    )


def _nodes(dataset: Dataset, tree: WordTree, choices: Mapping[str, str]) -> tuple[int, ...]:
    """The node of each class. As many names as nodes that are other words are these in their order, as in Darknet.

    Raises DataError.
    """
    known = {name: id for name, id in choices.items() if name in dataset.names}
    joined = join(dataset.names, Lexicon.of_tree(tree), known)
    if joined.is_whole:
        return joined.numbers
    if len(dataset.names) == len(tree):
        return tuple(range(len(tree)))
    missing = [dataset.names[place] for place in joined.missing]
    several = [dataset.names[place] for place in joined.open]
    said = [f"{some(missing)} {'is' if len(missing) == 1 else 'are'} no node of the tree"] if missing else []
    said += [f"{some(several)} may be several"] if several else []
    raise DataError(
        f"{dataset.path}: {' and '.join(said)}; `lookonce tree map TREE --data {dataset.path} --choices FILE` lists "
        "what there is to choose, and --choices FILE of lines name = id says which"
    )


def _called(tree: WordTree, trains: Sequence[Dataset], maps: Sequence[Sequence[int]]) -> WordTree:
    """The tree with the datasets' own words as display names, unless these are ids; the first dataset's hold."""
    names = list(tree.names)
    done: set[int] = set()
    for part, nodes in zip(trains, maps, strict=True):
        for name, node in zip(part.names, nodes, strict=True):
            if node not in done and name.partition("\t")[0].strip() != tree.ids[node]:
                names[node] = name
            done.add(node)
    return WordTree(tree.ids, tuple(names), tree.parent)


def parse_ratio(text: str) -> Ratio:
    """`1:4` as two numbers. Raises DataError."""
    if sides := RATIO.fullmatch(text):
        found = float(sides[1]), float(sides[2])
        if min(found) > 0 and max(found) / min(found) <= MOST_RATIO:
            return found
    raise DataError(f"--ratio {shown(text)}: wanted N:M, pictures of --data to those of --also, such as 1:4")
