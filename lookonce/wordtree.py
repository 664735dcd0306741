"""WordTree (thesis 2.4): classes as a tree, with a softmax over each set of siblings.

A Darknet tree file has one node a line, `id parent`, the parent as a line number or -1. Parents stand before their
children and the children of one parent stand together, so that the siblings of a set are a slice. Darknet reads two
columns and leaves the rest of a line alone (tree.c); a third column, if there is one, is the node's display name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from lookonce import files
from lookonce.errors import DataError
from lookonce.shapes import Bool, Float32, Int64, Real

MAX_BYTES = 256 << 20
LINE = re.compile(r"(\S+)[ \t]+(-1|[0-9]{1,9})(?:[ \t]+([^ \t].*))?")


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
        data = files.read_bytes(path, MAX_BYTES, DataError).removeprefix(b"\xef\xbb\xbf")
        try:
            lines = data.decode().splitlines()
        except UnicodeDecodeError as problem:
            raise DataError(f"{path}: byte {problem.start:,} is not UTF-8, wanted one `id parent` a line") from None
        return cls.parse(lines, str(path))

    @classmethod
    def parse(cls, lines: Iterable[str], path: str = "<tree>") -> WordTree:
        """The tree in the lines of a tree file; `path` only names it in messages. Raises DataError."""
        ids: list[str] = []
        names: list[str] = []
        parents: list[int] = []
        seen: set[int] = set()
        for number, line in enumerate(lines):
            found = LINE.fullmatch(line.rstrip(" \t"))
            if found is None:
                raise DataError(f"{path}:{number + 1}: {line[:40]!r} is not `id parent`, the parent a line or -1")
            parent = int(found[2])
            if parent >= number:
                raise DataError(f"{path}:{number + 1}: parent {parent} does not stand before its child {number}")
            if (not parents or parents[-1] != parent) and parent in seen:
                raise DataError(f"{path}:{number + 1}: the children of node {parent} do not stand together")
            seen.add(parent)
            ids.append(found[1])
            names.append(found[3] or found[1])
            parents.append(parent)
        if not ids:
            raise DataError(f"{path}: holds no node, wanted one `id parent` a line")
        return cls(tuple(ids), tuple(names), np.array(parents, np.int64))

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
        for start, size in zip(self.starts[1:].tolist(), self.sizes[1:].tolist(), strict=True):
            depth[start : start + size] = depth[self.parent[start]] + 1
        return depth

    def path(self, node: int) -> list[int]:
        """The nodes from a root down to `node`."""
        nodes = [node]
        while self.parent[nodes[-1]] >= 0:
            nodes.append(int(self.parent[nodes[-1]]))
        return nodes[::-1]

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
        for level in self._levels[1:]:
            product[:, level] *= product[:, self.parent[level]]
        return product

    def descend(
        self, logits: Real[np.ndarray, "N K"], threshold: float, *, compat: bool = False
    ) -> tuple[Int64[np.ndarray, " N"], Float32[np.ndarray, " N"]]:
        """Walk down from the roots, always to the likeliest child, while the node is likely enough.

        Returns the node where each row stops and that node's own probability. A child is entered if its own
        probability passes `threshold`; with `compat`, if the product of the own probabilities of all nodes on the way
        does, as in Darknet (tree.c, hierarchy_top_prediction). The likeliest root is the answer even below it. Only
        the sets of siblings that are visited are ever computed.
        """
        count = len(logits)
        node = np.full(count, -1, np.int64)
        own = np.ones(count, np.float32)            # the node's own probability
        walked = np.ones(count, np.float32)         # Darknet's product of own probabilities
        active = np.arange(count)
        group = np.zeros(count, np.int64)
        while len(active):
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

    @cached_property
    def _levels(self) -> list[Int64[np.ndarray, " L"]]:
        return [np.flatnonzero(self.depth == d) for d in range(1, int(self.depth.max()) + 1)]
