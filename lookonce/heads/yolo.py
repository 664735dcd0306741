"""[yolo]: the head of YOLOv3 (thesis 3.1-3.3), with what the fork adds at inference."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from lookonce.arrays import namespace
from lookonce.boxes import NMS_KINDS
from lookonce.darknet.cfg import Section
from lookonce.heads.classify import read_tree
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

IOU_LOSSES = ("mse", "iou", "giou", "diou", "ciou")


@dataclass(frozen=True)
class Yolo(Head):
    """Channels are, for each anchor of `mask`, x, y, w, h, objectness and one logit a class.

    `anchors` are all anchors of the network in pixels of its input, (width, height). Of the fork: `scale_x_y` lets a
    centre leave its cell; with `new_coords` the layer before has already activated everything and sizes are squares;
    `nms_kind` and `beta_nms` name the NMS its makers use.

    `location`, an option of our own, is what x and y mean: `direct` a place in the cell through a sigmoid; `linear` the
    same without one; `anchor` how far from the cell's middle, in widths and heights of the anchor, without one (thesis
    2.2 and 3.4, things that were tried). So is `tree`: classes are the nodes of a WordTree, each judged independently,
    and a box is as much of a node as it is of that above (thesis 2.4 has a softmax over siblings there; see [region]).

    For learning `rescore`, our own here and as in [region], lets objectness learn how good its box is. The fork has,
    beside Darknet's thresholds: `iou_loss`, how boxes are drawn to truths; the weights `iou_normalizer` of boxes,
    `obj_normalizer` of objectness and `cls_normalizer` of classes; `iou_threshold`, above which other anchors of a
    truth's cell learn it too; `label_smooth` and `focal` for classes; `max_delta`, the most that an IOU loss changes a
    number of a box by.
    """

    section = "yolo"
    classes: int
    mask: tuple[int, ...]
    anchors: tuple[tuple[float, float], ...]
    scale_x_y: float = 1.0
    new_coords: bool = False
    nms_kind: str = "default"
    beta_nms: float = 0.6
    location: str = "direct"
    tree: WordTree | None = None
    # for learning
    jitter: float = 0.2
    random: float = 0.0
    ignore_threshold: float = 0.5
    truth_threshold: float = 1.0
    rescore: bool = False
    iou_loss: str = "mse"
    iou_normalizer: float = 1.0
    obj_normalizer: float = 1.0
    cls_normalizer: float = 1.0
    iou_threshold: float = 1.0
    label_smooth: float = 0.0
    focal: bool = False
    max_delta: float = math.inf

    @classmethod
    def from_cfg(cls, section: Section, index: int) -> Yolo:
        count = section.integer("num", default=1, least=1, most=MAX_ANCHORS)
        mask = section.integers("mask", default=tuple(range(count)))
        if len(set(mask)) != len(mask) or not all(0 <= item < count for item in mask):
            section.refuse("mask", f"wanted different numbers of anchors, from 0 to {count - 1}")
        location = section.word("location", default="direct", among=LOCATIONS)
        scale_x_y = section.number("scale_x_y", default=1.0, least=0.01, most=100)
        new_coords = section.flag("new_coords")
        if location != "direct" and (new_coords or scale_x_y != 1):
            section.refuse("location", "stands beside scale_x_y= or new_coords=; wanted one way to place a centre")
        section.know("map", "max", "objectness_smooth", "delta_normalizer", "iou_thresh_kind", "resize",
                     "counters_per_class", "show_details", "track_history_size", "sim_thresh", "dets_for_track",
                     "dets_for_show", "track_ciou_norm", "embedding_layer")  # fmt: skip
        classes = section.integer("classes", default=20, least=1, most=1 << 20)
        if new_coords and section.has("tree"):
            section.refuse("tree", "stands beside new_coords=; wanted one of the two")
        return cls(
            classes=classes,
            mask=mask,
            anchors=anchor_pairs(section, count),
            scale_x_y=scale_x_y,
            new_coords=new_coords,
            nms_kind=section.word("nms_kind", default="default", among=NMS_KINDS.keys()),
            beta_nms=section.number("beta_nms", default=0.6),
            location=location,
            tree=read_tree(section, classes),
            jitter=section.number("jitter", default=0.2),
            random=section.number("random", default=0.0),
            ignore_threshold=section.number("ignore_thresh", default=0.5),
            truth_threshold=section.number("truth_thresh", default=1.0),
            rescore=section.flag("rescore"),
            iou_loss=section.word("iou_loss", default="mse", among=IOU_LOSSES),
            iou_normalizer=section.number("iou_normalizer", default=0.75 if section.fork else 1.0, least=0),
            obj_normalizer=section.number("obj_normalizer", default=1.0, least=0),
            cls_normalizer=section.number("cls_normalizer", default=1.0, least=0),
            iou_threshold=section.number("iou_thresh", default=1.0),
            label_smooth=section.number("label_smooth_eps", default=0.0, least=0, most=1),
            focal=section.flag("focal_loss"),
            max_delta=section.number("max_delta", default=math.inf, least=0),
        )

    def shape(self, source: Shape) -> Shape:
        wanted = len(self.mask) * (self.classes + 5)
        if source.channels != wanted:
            raise ValueError(
                f"wants filters={wanted} in the layer before ({len(self.mask)} masks x ({self.classes} classes + 5)); "
                f"it has {source.channels}"
            )
        return source

    def forward(self, ops: Ops[T], x: T, weights: Mapping[str, T]) -> T:
        """Darknet's output: everything activated but width and height."""
        parts: list[T] = []
        for anchor in range(len(self.mask)):
            parts += self._activated(ops, x, anchor)
        return ops.concat(parts, 1)

    def decode(self, raw: Array, options: DecodeOptions) -> Candidates:
        """The box equations for the cells whose objectness passes; every class above the threshold counts."""
        xp = namespace(raw)
        least = options.threshold if self.new_coords else logit(options.threshold)
        cells = passing_cells(raw, len(self.mask), 4, least)
        cell = cells.values                                                # (N, 5+K)
        known = cell if self.new_coords else sigmoid(cell)
        inside = known[:, 0:2] if self.location == "direct" else xp.clip(cell[:, 0:2], -FARTHEST, FARTHEST)
        prior = xp.asarray(self.priors(options.input), dtype=cell.dtype, device=cell.device)[cells.anchor]
        centre = self.centre(inside, cells.corner, cells.size, prior)                       # (N, 2)
        extent = self.extent(finite_exp, cell[:, 2:4], prior)                               # (N, 2)
        xyxy = xp.concat([centre - extent / 2, centre + extent / 2], axis=1)                # (N, 4)
        objectness = xp.where(known[:, 4] > options.threshold, known[:, 4], 0 * known[:, 4])
        if self.tree is not None:
            of = cells.picture, xyxy, objectness, cell[:, 5:]
            return down_the_tree(self.tree, *of, options, independent=True)
        score = objectness[:, None] * known[:, 5:]                                          # (N, K)
        return every_class(cells.picture, xyxy, objectness, score, options.threshold)

    def dense(self, ops: Ops[T], x: T, input: tuple[int, int]) -> tuple[T, T]:
        _, _, rows, columns = x.shape
        corner = ops.constant(cell_corners(rows, columns))
        size = ops.constant(np.array([columns, rows], np.float32).reshape(1, 2, 1, 1))
        boxes, scores = [], []
        for anchor, pair in enumerate(self.priors(input)):
            centre, extent, known = self._activated(ops, x, anchor, scaled=False)           # (B, 2 | 2 | 1+K, H, W)
            if self.location != "direct":
                centre = ops.clip(centre, -FARTHEST, FARTHEST)
            prior = ops.constant(pair.reshape(1, 2, 1, 1))
            centre = self.centre(centre, corner, size, prior)
            extent = self.extent(partial(finite_exp_op, ops), extent, prior)
            boxes.append(flat_cells(ops, ops.concat([centre - extent * 0.5, centre + extent * 0.5], 1)))
            objectness, classes = ops.slice(known, 1, 0, 1), ops.slice(known, 1, 1, 1 + self.classes)
            scores.append(flat_cells(ops, classes * objectness))
        return ops.concat(boxes, 1), ops.concat(scores, 1)

    # ------------------------------------------------------------------ the equations, for arrays and primitives
    def priors(self, input: tuple[int, int]) -> np.ndarray:
        """The anchors of the mask, (A, 2), relative to the network's `input`, its width and height."""
        return np.array([self.anchors[item] for item in self.mask], np.float32) / np.array(input, np.float32)

    def centre(self, inside: Any, corner: Any, size: Any, prior: Any) -> Any:
        """The centre of boxes, relative to the picture: b = (s·σ(t) - (s-1)/2 + c) / grid; s is 1 but in the fork.

        `inside` is σ(t), or t where no sigmoid is; `corner` the cell's column and row, `size` the grid's columns and
        rows, `prior` the anchor, relative to the picture. By `linear` b = (t + c) / grid, by `anchor`
        b = (c + 1/2) / grid + t·p.
        """
        if self.location == "anchor":
            return (corner + 0.5) / size + inside * prior
        if self.scale_x_y != 1:
            inside = inside * self.scale_x_y - (self.scale_x_y - 1) / 2
        return (inside + corner) / size

    def extent(self, exp: Callable[[Any], Any], t: Any, prior: Any) -> Any:
        """Width and height of boxes: b = p·e^t; with new_coords b = p·(2t)², t already activated."""
        return t * t * prior * 4 if self.new_coords else exp(t) * prior

    def _activated(self, ops: Ops[T], x: T, anchor: int, scaled: bool = True) -> list[T]:
        """One anchor's centre, extent, and objectness with classes, as Darknet activates them."""
        first = anchor * (5 + self.classes)
        centre = ops.slice(x, 1, first, first + 2)
        extent = ops.slice(x, 1, first + 2, first + 4)
        known = ops.slice(x, 1, first + 4, first + 5 + self.classes)
        if not self.new_coords:
            centre = ops.sigmoid(centre) if self.location == "direct" else centre
            known = ops.sigmoid(known)
        if scaled and self.scale_x_y != 1:
            centre = centre * self.scale_x_y - (self.scale_x_y - 1) / 2
        return [centre, extent, known]
