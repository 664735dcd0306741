"""WordTree (thesis 2.4): classes as a tree, with a softmax over each set of siblings.

A Darknet tree file has one node a line, `id parent`, the parent as a line number or -1. Parents stand before their
children and the children of one parent stand together, so that the siblings of a set are a slice. Darknet reads two
columns and leaves the rest of a line alone (tree.c); a third column, if there is one, is the node's display name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from lookonce import files
from lookonce.errors import DataError, nearest, shown
from lookonce.shapes import Bool, Float32, Int64, Real

MAX_BYTES = 256 << 20
# Id, parent and name; or else the whole line, which is no node.
LINES = re.compile(r"^(?:(\S+)[ \t]+(-1|[0-9]{1,9})(?:[ \t]+([^ \t\n].*))?|(.*))$", re.MULTILINE)
BETWEEN = re.compile(r"[\s_-]+")


@dataclass(frozen=True, eq=False)
class WordTree:
    """A tree of classes; node numbers are the class numbers of the network.

    `parent` is -1 at the roots. `names` are display names, the ids where the file gave none.
    """

    ids: tuple[str, ...]
    names: tuple[str, ...]
    parent: Int64[np.ndarray, " K"]

    # ------------------------------------------------------------------ files
    @classmethod
    def read(cls, path: Path) -> WordTree:
        """The tree in a Darknet tree file. Raises DataError with the line of the first fault."""
        return cls.parse(read_lines(path), str(path))

    @classmethod
    def parse(cls, lines: Iterable[str], path: str = "<tree>") -> WordTree:
        """The tree in the lines of a tree file; `path` only names it in messages. Raises DataError."""
        rows, bad = split_lines(lines)
        unread = rows[bad[0]][3] if bad else ""
        rows = rows[: bad[0]] if bad else rows
        parent = np.array([int(row[1]) for row in rows], np.int64)
        number, problem = _first_fault(parent)
        if number < len(rows):
            raise DataError(f"{path}:{number + 1}: {problem}")
        if bad:
            raise DataError(f"{path}:{bad[0] + 1}: {unreadable(unread)}")
        if not rows:
            raise DataError(f"{path}: holds no node, wanted one `id parent` a line")
        ids = tuple([row[0] for row in rows])
        return cls(ids, tuple([row[2] or row[0] for row in rows]), parent)

    def to_lines(self) -> list[str]:
        """The lines of a tree file that `parse` gives back."""
        rows = zip(self.ids, self.parent.tolist(), self.names, strict=True)
        return [f"{id} {parent}" + (f" {name}" if name != id else "") for id, parent, name in rows]

    # ------------------------------------------------------------------ shape
    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def starts(self) -> Int64[np.ndarray, " G"]:
        """The first node of each set of siblings. Set 0 is the roots."""
        first = np.concatenate(([True], self.parent[1:] != self.parent[:-1]))
        return np.flatnonzero(first).astype(np.int64)

    @cached_property
    def sizes(self) -> Int64[np.ndarray, " G"]:
        """How many siblings each set has."""
        return np.diff(np.append(self.starts, len(self))).astype(np.int64)

    @cached_property
    def children(self) -> Int64[np.ndarray, " K"]:
        """The set that holds each node's children, -1 for a leaf."""
        of = np.full(len(self), -1, np.int64)
        owner = self.parent[self.starts]
        of[owner[1:]] = np.arange(1, len(self.starts))
        return of

    @cached_property
    def leaf(self) -> Bool[np.ndarray, " K"]:
        return self.children < 0

    @cached_property
    def depth(self) -> Int64[np.ndarray, " K"]:
        """How many nodes lie between each node and the top, itself included: 1 at the roots."""
        depth = np.ones(len(self), np.int64)
        above = self.parent                         # twice as far up at every turn
        while (has := above >= 0).any():
            depth[has] += depth[above[has]]
            above = np.where(has, above[above], -1)
        return depth

    def path(self, node: int) -> list[int]:
        """The nodes from a root down to `node`."""
        nodes = [node]
        while self.parent[nodes[-1]] >= 0:
            nodes.append(int(self.parent[nodes[-1]]))
        return nodes[::-1]

    def ancestors(self, nodes: Int64[np.ndarray, " N"]) -> Bool[np.ndarray, "N K"]:
        """Which nodes lie on the way from a root down to each of `nodes`, both ends included."""
        mask = np.zeros((len(nodes), len(self)), bool)
        rows = np.arange(len(nodes))
        while len(rows):
            mask[rows, nodes] = True
            nodes = self.parent[nodes]
            rows, nodes = rows[nodes >= 0], nodes[nodes >= 0]
        return mask

    def at_depth(self, nodes: Int64[np.ndarray, " N"], depth: int) -> Int64[np.ndarray, " N"]:
        """The ancestor of each node at a `depth`, 1 for its root; the node itself if it does not lie so deep.

        -1, which is no node, stays. `depth` is at least 1.
        """
        nodes = nodes.copy()
        while (deeper := (nodes >= 0) & (self.depth[nodes] > depth)).any():
            nodes[deeper] = self.parent[nodes[deeper]]
        return nodes

    # ------------------------------------------------------------------ names
    def find(self, name: str) -> tuple[int, ...]:
        """The nodes that `name` means: the one of this id, else all of this name but for case, blanks, `_` and `-`."""
        return self._numbers.get(name) or tuple(self._called.get(plain(name), ()))

    def subset(self, names: Sequence[str]) -> Subset:
        """Some classes of the tree, by ids or names. A name that several nodes have is all of them.

        Raises DataError for a name that no node has, and for two that are one node.
        """
        found = [self.find(name) for name in names]
        for name, nodes in zip(names, found, strict=True):
            if not nodes:
                raise DataError(f"no node of the tree is called {shown(name)}{nearest(plain(name), self._called)}")
        return self.subset_of(names, found)

    def subset_of(self, names: Sequence[str], found: Sequence[Sequence[int]]) -> Subset:
        """Some classes of the tree with the nodes that each is. Raises DataError for two that are one node."""
        own = np.full(len(self), -1, np.int64)
        tops: list[Int64[np.ndarray, " M"]] = []
        for number, (name, nodes) in enumerate(zip(names, found, strict=True)):
            for node in nodes:
                if own[node] >= 0:
                    other = shown(names[int(own[node])])
                    raise DataError(f"{shown(name)} and {other} are the same node of the tree, {self.ids[node]}")
            own[list(nodes)] = number
            tops.append(np.array([node for node in nodes if (own[self.path(node)[:-1]] != number).all()], np.int64))
        for level in self.levels[1:]:
            own[level] = np.where(own[level] >= 0, own[level], own[self.parent[level]])
        return Subset(tuple(names), tuple(tops), own)

    @cached_property
    def _numbers(self) -> dict[str, tuple[int, ...]]:
        return {id: (node,) for node, id in reversed(list(enumerate(self.ids)))}

    @cached_property
    def _called(self) -> dict[str, list[int]]:
        called: dict[str, list[int]] = {}
        for node, name in enumerate(self.names):
            called.setdefault(plain(name), []).append(node)
        return called

    # ------------------------------------------------------------------ probabilities
    def softmax(self, logits: Real[np.ndarray, "N K"]) -> Float32[np.ndarray, "N K"]:
        """Each node's probability given its parent: a softmax over every set of siblings."""
        top = np.maximum.reduceat(logits, self.starts, axis=1)                    # (N, G)
        power: np.ndarray = np.exp((logits - np.repeat(top, self.sizes, axis=1)).astype(np.float32))
        total = np.add.reduceat(power, self.starts, axis=1)                       # (N, G)
        power /= np.repeat(total, self.sizes, axis=1)                             # (N, K)
        return power

    def absolute(self, conditional: Float32[np.ndarray, "N K"]) -> Float32[np.ndarray, "N K"]:
        """Each node's own probability: the product of the conditional ones from its root down (thesis 2.4.1)."""
        product = conditional.copy()
        for level in self.levels[1:]:
            product[:, level] *= product[:, self.parent[level]]
        return product

    def least(self, probability: Float32[np.ndarray, "N K"]) -> Float32[np.ndarray, "N K"]:
        """Each node's own probability where nodes are judged independently: the least from its root down.

        Nobody is surer of a terrier than of a dog.
        """
        least = probability.copy()
        for level in self.levels[1:]:
            least[:, level] = np.minimum(least[:, level], least[:, self.parent[level]])
        return least

    def descend(
        self, logits: Real[np.ndarray, "N K"], threshold: float, *, compat: bool = False, deepest: int | None = None
    ) -> tuple[Int64[np.ndarray, " N"], Float32[np.ndarray, " N"]]:
        """Walk down from the roots, always to the likeliest child, while the node is likely enough.

        Returns the node where each row stops and that node's own probability. A child is entered if its own
        probability passes `threshold`; with `compat`, if the product of the own probabilities of all nodes on the way
        does, as in Darknet (tree.c, hierarchy_top_prediction). The likeliest root is the answer even below it. No node
        deeper than `deepest` is entered, 1 for the roots. Only the sets of siblings that are visited are computed.
        """
        count = len(logits)
        node = np.full(count, -1, np.int64)
        own = np.ones(count, np.float32)            # the node's own probability
        walked = np.ones(count, np.float32)         # Darknet's product of own probabilities
        active = np.arange(count)
        group = np.zeros(count, np.int64)
        depth = 0
        while len(active) and depth != deepest:
            depth += 1
            size = self.sizes[group]
            slot = np.arange(size.max())
            inside = slot < size[:, None]                                         # (A, S)
            member = self.starts[group][:, None] + np.where(inside, slot, 0)      # (A, S)
            value = np.where(inside, logits[active[:, None], member], -np.inf).astype(np.float32)
            power = np.exp(value - value.max(axis=1, keepdims=True))
            best = power.argmax(axis=1)
            rows = np.arange(len(active))
            reached = own[active] * power[rows, best] / power.sum(axis=1)         # (A,) own probability of the best
            product = walked[active] * reached
            enters = (product if compat else reached) > threshold
            enters_or_root = enters | (group == 0)
            child = member[rows, best]
            chosen = active[enters_or_root]
            node[chosen] = child[enters_or_root]
            own[chosen] = reached[enters_or_root]
            walked[chosen] = product[enters_or_root]
            below = self.children[child]
            onward = enters & (below >= 0)
            active, group = active[onward], below[onward]
        return node, own

    def walk(
        self, own: Float32[np.ndarray, "N K"], threshold: float, *, deepest: int | None = None
    ) -> Int64[np.ndarray, " N"]:
        """The node where each row stops that walks down as in `descend`, by each node's `own` probability."""
        node = np.full(len(own), -1, np.int64)
        active = np.arange(len(own))
        group = np.zeros(len(own), np.int64)
        depth = 0
        while len(active) and depth != deepest:
            depth += 1
            slot = np.arange(self.sizes[group].max())
            inside = slot < self.sizes[group][:, None]                            # (A, S)
            member = self.starts[group][:, None] + np.where(inside, slot, 0)      # (A, S)
            value = np.where(inside, own[active[:, None], member], -np.inf)
            rows, best = np.arange(len(active)), value.argmax(axis=1)
            enters = value[rows, best] > threshold
            child = member[rows, best]
            goes = enters | (depth == 1)
            node[active[goes]] = child[goes]
            below = self.children[child]
            onward = enters & (below >= 0)
            active, group = active[onward], below[onward]
        return node

    @cached_property
    def levels(self) -> list[Int64[np.ndarray, " L"]]:
        """The nodes of each depth, the roots first."""
        order = np.argsort(self.depth, kind="stable")
        return np.split(order, np.searchsorted(self.depth[order], np.arange(2, int(self.depth.max()) + 1)))


@dataclass(frozen=True, eq=False)
class Subset:
    """C classes chosen from a tree; of two that are one below the other both count.

    `nodes` are the nodes of each class, without those below another of its own. `own` is the class at or above each
    node of the tree, the deepest if there are several, -1 if there is none.
    """

    names: tuple[str, ...]
    nodes: tuple[Int64[np.ndarray, " _"], ...]
    own: Int64[np.ndarray, " K"]

    def probability(self, absolute: Float32[np.ndarray, "N K"]) -> Float32[np.ndarray, "N C"]:
        """Each class's probability: the sum over its nodes, which exclude one another, of their own probabilities."""
        total = np.zeros((len(absolute), len(self.nodes)), np.float32)
        for number, nodes in enumerate(self.nodes):
            total[:, number] = absolute[:, nodes].sum(axis=1)
        return total

    def of(self, nodes: Int64[np.ndarray, " N"]) -> Int64[np.ndarray, " N"]:
        """The class that each node is one of, e.g. a dog for where `descend` stopped at a terrier; -1 for none."""
        return np.where(nodes >= 0, self.own[nodes], -1)


def plain(name: str) -> str:
    """A name without what people write differently: case, and blanks, underscores or hyphens between its words."""
    return BETWEEN.sub(" ", name.casefold()).strip()


# ---------------------------------------------------------------------- lines
def read_lines(path: Path) -> list[str]:
    """The lines of a tree file. Raises DataError if it is no text."""
    data = files.read_bytes(path, MAX_BYTES, DataError).removeprefix(b"\xef\xbb\xbf")
    try:
        return data.decode().splitlines()
    except UnicodeDecodeError as problem:
        raise DataError(f"{path}: byte {problem.start:,} is not UTF-8, wanted one `id parent` a line") from None


def split_lines(lines: Iterable[str]) -> tuple[list[tuple[str, str, str, str]], list[int]]:
    """Id, parent and name of each line of a tree file, and the numbers, from 0, of the lines that are no node.

    Of these there are no id, parent and name but, as the last, the line.
    """
    texts = [line.rstrip(" \t") for line in lines]
    whole = "\n".join(texts)
    if whole.count("\n") >= max(len(texts), 1):               # no file has a line that holds an end of a line
        whole = "\n".join(["" if "\n" in text else text for text in texts])
    rows = LINES.findall(whole) if texts else []
    return rows, [number for number, row in enumerate(rows) if not row[0]]


def unreadable(line: str) -> str:
    """What is wrong with a line that is no node."""
    return f"{line[:40]!r} is not `id parent`, the parent a line or -1"


def _first_fault(parent: Int64[np.ndarray, " K"]) -> tuple[int, str]:
    """The first node that does not stand where it should, and why; K if all do."""
    number = np.arange(len(parent))
    late = np.flatnonzero(parent >= number)
    starts = np.flatnonzero(np.diff(parent, prepend=-2))
    _, first = np.unique(parent[starts], return_index=True)
    again = np.delete(starts, first)
    node = min([*late[:1].tolist(), *again[:1].tolist()], default=len(parent))
    if node == len(parent):
        return node, ""
    owner = int(parent[node])
    if owner >= node:
        return node, f"parent {owner} does not stand before its child {node}"
    return node, f"the children of node {owner} do not stand together"
