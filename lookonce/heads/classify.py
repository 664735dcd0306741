"""[softmax]: what a classifier says, flat or down a WordTree (thesis 2.3, 2.4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from lookonce.darknet.cfg import Section
from lookonce.layers.layer import Layer
from lookonce.layers.ops import Ops, T
from lookonce.layers.shape import Shape
from lookonce.wordtree import WordTree


@dataclass(frozen=True)
class Softmax(Layer):
    """[softmax]: over `groups` equal slices, over each set of siblings of `tree`, or with `spatial` over channels."""

    section = "softmax"
    groups: int
    temperature: float
    spatial: bool
    tree: WordTree | None
    noloss: bool = False

    @classmethod
    def from_cfg(cls, section: Section, index: int) -> Softmax:
        return cls(
            groups=section.integer("groups", default=1, least=1),
            temperature=section.number("temperature", default=1.0, least=1e-6),
            spatial=section.flag("spatial"),
            tree=read_tree(section),
            noloss=section.flag("noloss"),
        )

    def shape(self, source: Shape) -> Shape:
        if self.tree is not None and len(self.tree) != source.size:
            raise ValueError(f"has a tree of {len(self.tree):,} nodes for {source.size:,} values; wanted one a node")
        if source.size % self.groups:
            raise ValueError(f"groups={self.groups} does not divide its {source.size} values")
        return source if self.spatial else Shape(source.size, 1, 1)

    def forward(self, ops: Ops[T], x: T, weights: Mapping[str, T]) -> T:
        _, c, h, w = x.shape
        if self.temperature != 1:
            x = x * (1 / self.temperature)
        if self.spatial:
            return ops.softmax(x, 1)
        if self.tree is not None:
            return grouped_softmax(ops, ops.reshape(x, (-1, c * h * w, 1, 1)), self.tree)
        rows = ops.reshape(x, (-1, self.groups, c * h * w // self.groups))
        return ops.reshape(ops.softmax(rows, 2), (-1, c * h * w, 1, 1))


def read_tree(section: Section, classes: int | None = None) -> WordTree | None:
    """The WordTree that `tree=` names, or None. Raises CfgError or DataError, also if it has not `classes` nodes."""
    found = section.lines("tree")
    if found is None:
        return None
    tree = WordTree.parse(*found)
    if classes is not None and len(tree) != classes:
        section.refuse("tree", f"has {len(tree):,} nodes for classes={classes:,}; wanted one a class")
    return tree


def grouped_softmax(ops: Ops[T], x: T, tree: WordTree) -> T:
    """A softmax over each set of siblings, along axis 1 of (B, K, H, W).

    The sets are gathered into rows of one length, filled up with minus infinity, and gathered back.
    """
    _, k, h, w = x.shape
    longest, sets = int(tree.sizes.max()), len(tree.starts)
    slot = np.arange(longest)
    rows = np.where(slot < tree.sizes[:, None], tree.starts[:, None] + slot, k)                # (G, S), k a filling
    back = np.concatenate([i * longest + np.arange(size) for i, size in enumerate(tree.sizes)])
    filled = ops.pad_axis(x, 1, 0, 1, value=-1e30)                                             # (B, K+1, H, W)
    x = ops.reshape(ops.take(filled, rows.reshape(-1), 1), (-1, sets, longest, h, w))
    x = ops.reshape(ops.softmax(x, 2), (-1, sets * longest, h, w))
    return ops.take(x, back, 1)                                                                # (B, K, H, W)
