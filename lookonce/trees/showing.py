"""A tree for people: a part of it as text, and what is to be known of one node."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from lookonce.errors import DataError, nearest, shown
from lookonce.wordtree import WordTree, plain

LONGEST_NAME = 200
MOST_RELATIVES = 12
SHORT_WORD = 3                   # letters of a word by which nothing is known
ALIKE = 0.8                      # by difflib: one letter of six may be wanting, not two


class Entry(NamedTuple):
    """One node: its way down from a root (both included), the other children of its parent, its children.

    `below` is how many nodes are below it in all.
    """

    node: int
    path: tuple[int, ...]
    siblings: tuple[int, ...]
    children: tuple[int, ...]
    below: int

    @property
    def depth(self) -> int:
        """Steps from its root."""
        return len(self.path) - 1


def children_of(tree: WordTree, node: int) -> range:
    """The numbers of a node's children; of -1 the roots."""
    group = 0 if node < 0 else int(tree.children[node])
    if group < 0:
        return range(0)
    start = int(tree.starts[group])
    return range(start, start + int(tree.sizes[group]))


def below(tree: WordTree) -> list[int]:
    """How many nodes are below each node."""
    count = [0] * len(tree)
    parent = tree.parent.tolist()
    for node in range(len(tree) - 1, -1, -1):  # children stand after their parent
        if parent[node] >= 0:
            count[parent[node]] += count[node] + 1
    return count


def entry(tree: WordTree, node: int) -> Entry:
    """What is to be known of a node."""
    siblings = tuple(other for other in children_of(tree, int(tree.parent[node])) if other != node)
    waiting, count = [node], 0
    while waiting:
        children = children_of(tree, waiting.pop())
        count += len(children)
        waiting += children
    return Entry(node, tuple(tree.path(node)), siblings, tuple(children_of(tree, node)), count)


def find(tree: WordTree, name: str, path: object = "the tree") -> tuple[int, ...]:
    """The nodes of an id or name, or else of a node's number. Raises DataError with the nearest name."""
    found = tree.find(name)
    if not found and name.isascii() and name.isdigit() and len(name) < 10 and int(name) < len(tree):
        found = (int(name),)
    if not found:
        guess = nearest(name, tree.ids) if len(tree) <= 100_000 and any(c.isdigit() for c in name) else ""
        raise DataError(f"{path}: has no node {shown(name)}{guess or _alike(tree, name)}")
    return found


def _alike(tree: WordTree, name: str) -> str:
    """`, did you mean Norfolk terrier?`: a name that is much like it, or has a word that is; nothing if none is."""
    words: dict[str, str] = {}
    for each in tree.names:
        for word in (plain(each), *(plain(part) for part in each.split() if len(part) > SHORT_WORD)):
            words.setdefault(word, each)
    near = difflib.get_close_matches(plain(name)[:64], words, n=1, cutoff=ALIKE)
    near = near or [word for word in words if sorted(word) == sorted(plain(name))]      # letters that changed places
    return f", did you mean {shown(words[near[0]], LONGEST_NAME)}?" if near else ""


def show(tree: WordTree, node: int = -1, depth: int | None = None) -> Iterator[str]:
    """Lines that draw what is below a node, itself first; of -1 the whole tree. `depth` is how many steps down.

    Each says the name, the id if that is another, and how many nodes are below it.
    """
    counts = below(tree)

    def text(number: int) -> str:
        inside = [shown(tree.ids[number])] if tree.ids[number] != tree.names[number] else []
        inside += [f"{counts[number]:,} below"] if counts[number] else []
        return shown(tree.names[number], LONGEST_NAME) + (f" ({', '.join(inside)})" if inside else "")

    for root in children_of(tree, -1) if node < 0 else (node,):
        yield text(root)
        waiting = [] if depth == 0 else _hung(children_of(tree, root), "")
        while waiting:
            number, before, is_last = waiting.pop()
            yield before + ("└── " if is_last else "├── ") + text(number)
            inner = before + ("    " if is_last else "│   ")
            if depth is None or len(inner) // 4 < depth:
                waiting += _hung(children_of(tree, number), inner)


def _hung(children: range, before: str) -> list[tuple[int, str, bool]]:
    """Children to draw, the first one last, with what stands before them and whether they are the last."""
    return [(child, before, child == children[-1]) for child in reversed(children)]


def described(tree: WordTree, found: Entry) -> list[str]:
    """The lines that say what is to be known of a node."""
    deepest = int(tree.depth.max()) - 1
    name, id = tree.names[found.node], tree.ids[found.node]
    head = f"{shown(name, LONGEST_NAME)}: " + (f"{shown(id)}, " if id != name else "") + f"node {found.node}"
    return [
        head,
        f"  path      {' > '.join(shown(tree.names[node]) for node in found.path)}",
        f"  depth     {found.depth} of {deepest}",
        f"  siblings  {_some(tree, found.siblings)}",
        f"  children  {_some(tree, found.children)}",
        f"  below     {found.below:,} nodes",
    ]


def _some(tree: WordTree, nodes: Sequence[int]) -> str:
    names = ", ".join(shown(tree.names[node]) for node in nodes[:MOST_RELATIVES])
    more = len(nodes) - MOST_RELATIVES
    return f"{len(nodes):,}: {names}" + (f", and {more:,} more" if more > 0 else "") if nodes else "none"


def as_json(tree: WordTree, found: Entry) -> dict[str, object]:
    """What is to be known of a node, its relatives by ids."""
    ids = np.array(tree.ids, object)
    return {
        "node": found.node, "id": tree.ids[found.node], "name": tree.names[found.node], "depth": found.depth,
        "path": ids[list(found.path)].tolist(), "siblings": ids[list(found.siblings)].tolist(),
        "children": ids[list(found.children)].tolist(), "below": found.below,
    }  # fmt: skip
