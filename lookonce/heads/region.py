"""[region]: the head of YOLOv2 and YOLO9000 (thesis 2.2-2.4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lookonce.arrays import namespace
from lookonce.darknet.cfg import Section
from lookonce.heads.classify import grouped_softmax, read_tree
from lookonce.heads.head import (
    FARTHEST,
    LOCATIONS,
    MAX_ANCHORS,
    Array,
    Candidates,
    DecodeOptions,
    Head,
    anchor_pairs,
    cell_corners,
    every_class,
    finite_exp,
    finite_exp_op,
    flat_cells,
    logit,
    passing_cells,
    sigmoid,
)
from lookonce.heads.tree import down_the_tree
from lookonce.layers.ops import Ops, T
from lookonce.layers.shape import Shape
from lookonce.wordtree import WordTree


@dataclass(frozen=True)
class Region(Head):
    """Channels are, for each anchor, x, y, w, h, (coords - 4 others), objectness and one logit a class.

    `anchors` are in cells. Classes are a softmax, a softmax over each set of siblings of `tree`, or independent. With
    `background` there is no objectness: it is one class more in the softmax, the first.

    `location`, an option of our own, is what x and y mean: `direct` a place in the cell through a sigmoid; `linear` the
    same without one; `anchor` how far from the cell's middle, in widths and heights of the anchor, without one, as
    region proposals have it (thesis 2.2, the step "location prediction" of table 2.2).

    For learning the fork has `focal`, for classes that are one softmax.
    """

    section = "region"
    classes: int
    coords: int
    anchors: tuple[tuple[float, float], ...]
    softmax: bool
    background: bool
    tree: WordTree | None
    location: str = "direct"
    # for learning
    jitter: float = 0.2
    random: float = 0.0
    rescore: bool = False
    bias_match: bool = False
    threshold: float = 0.5
    coord_scale: float = 1.0
    object_scale: float = 1.0
    noobject_scale: float = 1.0
    mask_scale: float = 1.0
    class_scale: float = 1.0
    focal: bool = False

    @classmethod
    def from_cfg(cls, section: Section, index: int) -> Region:
        count = section.integer("num", default=1, least=1, most=MAX_ANCHORS)
        classes = section.integer("classes", default=20, least=1, most=1 << 20)
        if section.flag("background") and section.has("tree"):
            section.refuse("background", "stands beside tree=; wanted one of the two")
        section.know("log", "sqrt", "classfix", "absolute", "map", "resize", "max")
        return cls(
            classes=classes,
            coords=section.integer("coords", default=4, least=4, most=1 << 12),
            anchors=anchor_pairs(section, count),
            softmax=section.flag("softmax"),
            background=section.flag("background"),
            tree=read_tree(section, classes),
            location=section.word("location", default="direct", among=LOCATIONS),
            jitter=section.number("jitter", default=0.2),
            random=section.number("random", default=0.0),
            rescore=section.flag("rescore"),
            bias_match=section.flag("bias_match"),
            threshold=section.number("thresh", default=0.5),
            coord_scale=section.number("coord_scale", default=1.0),
            object_scale=section.number("object_scale", default=1.0),
            noobject_scale=section.number("noobject_scale", default=1.0),
            mask_scale=section.number("mask_scale", default=1.0),
            class_scale=section.number("class_scale", default=1.0),
            focal=section.flag("focal_loss"),
        )

    @property
    def entries(self) -> int:
        """Values a box."""
        return self.coords + 1 + self.classes

    def shape(self, source: Shape) -> Shape:
        wanted = len(self.anchors) * self.entries
        if source.channels != wanted:
            raise ValueError(
                f"wants filters={wanted} in the layer before ({len(self.anchors)} anchors x ({self.classes} classes + "
                f"{self.coords} coords + 1)); it has {source.channels}"
            )
        return source

    def forward(self, ops: Ops[T], x: T, weights: Mapping[str, T]) -> T:
        """Darknet's output: everything activated but width and height."""
        parts: list[T] = []
        for anchor in range(len(self.anchors)):
            parts += self._activated(ops, x, anchor)
        return ops.concat(parts, 1)

    def decode(self, raw: Array, options: DecodeOptions) -> Candidates:
        """The box equations for the cells whose objectness passes; then their classes, or their way down the tree."""
        xp = namespace(raw)
        least = -np.inf if self.background else logit(options.threshold)
        cells = passing_cells(raw, len(self.anchors), self.coords, least)
        cell = cells.values                                                # (N, E)
        prior = xp.asarray(np.array(self.anchors, np.float32), dtype=cell.dtype, device=cell.device)[cells.anchor]
        inside = sigmoid(cell[:, 0:2]) if self.location == "direct" else xp.clip(cell[:, 0:2], -FARTHEST, FARTHEST)
        centre = self.centre(inside, cells.corner, cells.size, prior)                       # (N, 2)
        extent = finite_exp(cell[:, 2:4]) * prior / cells.size                              # (N, 2)
        xyxy = xp.concat([centre - extent / 2, centre + extent / 2], axis=1)                # (N, 4)
        if self.background:
            objectness = xp.ones_like(cell[:, 0])
        else:
            objectness = sigmoid(cell[:, self.coords])
            objectness = xp.where(objectness > options.threshold, objectness, 0 * objectness)
        if self.tree is not None:
            logits = cell[:, self.coords + 1 :]
            return down_the_tree(self.tree, cells.picture, xyxy, objectness, logits, options)
        score = objectness[:, None] * self._classes(xp, cell)              # (N, K)
        return every_class(cells.picture, xyxy, objectness, score, options.threshold)

    def dense(self, ops: Ops[T], x: T, input: tuple[int, int]) -> tuple[T, T]:
        _, _, rows, columns = x.shape
        corner = ops.constant(cell_corners(rows, columns))
        size = ops.constant(np.array([columns, rows], np.float32).reshape(1, 2, 1, 1))
        boxes, scores = [], []
        for anchor, pair in enumerate(self.anchors):
            centre, extent, _, objectness, classes = self._activated(ops, x, anchor)
            if self.location != "direct":
                centre = ops.clip(centre, -FARTHEST, FARTHEST)
            prior = ops.constant(np.array(pair, np.float32).reshape(1, 2, 1, 1))
            centre = self.centre(centre, corner, size, prior)
            extent = finite_exp_op(ops, extent) * prior / size
            boxes.append(flat_cells(ops, ops.concat([centre - extent * 0.5, centre + extent * 0.5], 1)))
            scores.append(flat_cells(ops, classes if self.background else classes * objectness))
        return ops.concat(boxes, 1), ops.concat(scores, 1)

    # ------------------------------------------------------------------ pieces
    def centre(self, inside: Any, corner: Any, size: Any, prior: Any) -> Any:
        """The centre of boxes, relative to the picture: b = (σ(t) + c) / grid.

        `inside` is σ(t), or t where no sigmoid is; `corner` the cell's column and row, `size` the grid's columns and
        rows, `prior` the anchor in cells. By `linear` b = (t + c) / grid, by `anchor` b = (c + 1/2 + t·p) / grid.
        """
        if self.location == "anchor":
            return (inside * prior + (corner + 0.5)) / size
        return (inside + corner) / size

    def _activated(self, ops: Ops[T], x: T, anchor: int) -> list[T]:
        """One anchor's centre, extent, other coordinates, objectness and classes, as Darknet activates them.

        Of the other coordinates (masks) the CPU leaves alone what the GPU activates; they are left alone.
        """
        first, coords = anchor * self.entries, self.coords
        centre = ops.slice(x, 1, first, first + 2)
        centre = ops.sigmoid(centre) if self.location == "direct" else centre
        extent = ops.slice(x, 1, first + 2, first + 4)
        others = ops.slice(x, 1, first + 4, first + coords)
        objectness = ops.slice(x, 1, first + coords, first + coords + 1)
        classes = ops.slice(x, 1, first + coords + 1, first + self.entries)
        if self.background:
            both = ops.softmax(ops.slice(x, 1, first + coords, first + self.entries), 1)
            objectness, classes = ops.slice(both, 1, 0, 1), ops.slice(both, 1, 1, 1 + self.classes)
        else:
            objectness = ops.sigmoid(objectness)
            if self.tree is not None:
                classes = grouped_softmax(ops, classes, self.tree)
            else:
                classes = ops.softmax(classes, 1) if self.softmax else ops.sigmoid(classes)
        return [centre, extent, others, objectness, classes]

    def _classes(self, xp: Any, cell: Array) -> Array:
        """Class probabilities (N, K) of cells (N, E)."""
        if not (self.softmax or self.background):
            return sigmoid(cell[:, self.coords + 1 :])
        first = self.coords if self.background else self.coords + 1
        power = xp.exp(cell[:, first:] - xp.max(cell[:, first:], axis=1, keepdims=True))
        probability = power / xp.sum(power, axis=1, keepdims=True)
        return probability[:, 1:] if self.background else probability
