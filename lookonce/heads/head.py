"""What every head has in common: it turns raw network output into candidate boxes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from lookonce.arrays import namespace
from lookonce.darknet.cfg import Section
from lookonce.layers.layer import Layer
from lookonce.layers.ops import Ops, T
from lookonce.wordtree import Subset

Array = Any                # numpy's or torch's, through the array API

MAX_ANCHORS = 1 << 12      # far more than any network has
LARGEST_POWER = 40.0       # e^40 is far beyond any box, and its square still a number
FARTHEST = 1e6             # cells or anchors, for centres that no sigmoid holds
LOCATIONS = ("direct", "linear", "anchor")      # what x and y may mean


class DecodeOptions(NamedTuple):
    """How a head's output is read.

    `input` is the width and height of the network's input; `threshold` is for scores, `hierarchy` for steps down a
    tree; `compat` reproduces Darknet's accidents. Down a tree `deepest` is the most steps, `only` and `below` are
    classes chosen from it (heads.tree).
    """

    input: tuple[int, int]
    threshold: float = 0.25
    hierarchy: float = 0.5
    compat: bool = False
    deepest: int | None = None
    only: Subset | None = None
    below: Subset | None = None


@dataclass(frozen=True)
class Candidates:
    """Answers of one head for a whole batch, one row a box and class, before NMS.

    `picture` (N,) and `box` (N,) number the picture of the batch and the box, which has one row for each class that
    passes; `xyxy` (N, 4) is relative to the network's input; `objectness` (N,); `label` (N,); `score` (N,).
    """

    picture: Array
    box: Array
    xyxy: Array
    objectness: Array
    label: Array
    score: Array

    @classmethod
    def concat(cls, parts: Sequence[Candidates]) -> Candidates:
        """All rows of several heads, boxes numbered anew."""
        parts = [part for part in parts if part.box.shape[0]] or parts[:1]
        if len(parts) == 1:
            return parts[0]
        xp = namespace(parts[0].score)
        boxes, first = [], 0
        for part in parts:
            boxes.append(part.box + first)
            first += int(xp.max(part.box)) + 1
        names = ("picture", "xyxy", "objectness", "label", "score")
        columns = {name: xp.concat([getattr(part, name) for part in parts]) for name in names}
        return cls(box=xp.concat(boxes), **columns)


class Head(Layer):
    """A layer that says where things are. `decode` is for running, `forward` is the activated output of Darknet."""

    classes: int

    def decode(self, raw: Array, options: DecodeOptions) -> Candidates:
        """The boxes and classes whose score passes, for `raw` as it flows into this layer, (B, C, H, W)."""
        raise NotImplementedError

    def dense(self, ops: Ops[T], x: T, input: tuple[int, int]) -> tuple[T, T]:
        """Every box, (B, N, 4) as xyxy relative to the network's input, and every score, (B, N, K), as primitives.

        `input` is the width and height of the network's input.
        """
        raise NotImplementedError


class Cells(NamedTuple):
    """The N cells and anchors of a grid that are worth decoding.

    `picture` and `anchor` (N,) number them; `values` (N, E) are what the network says of each; `corner` (N, 2) the
    cell's column and row; `size` (1, 2) the grid's columns and rows.
    """

    picture: Array
    anchor: Array
    values: Array
    corner: Array
    size: Array


def passing_cells(raw: Array, anchors: int, entry: int, least: float) -> Cells:
    """The cells of `raw` (B, anchors·E, H, W) whose value number `entry` is above `least`: few of many."""
    xp = namespace(raw)
    batch, channels, rows, columns = raw.shape
    grid = xp.reshape(raw, (batch, anchors, channels // anchors, rows, columns))
    p, a, r, c = xp.nonzero(grid[:, :, entry] > least)                     # (N,) each
    values = grid[p, a, :, r, c]                                           # (N, E)
    corner = xp.astype(xp.stack([c, r], axis=1), values.dtype)             # (N, 2)
    size = xp.asarray([[columns, rows]], dtype=values.dtype, device=values.device)
    return Cells(p, a, values, corner, size)


def every_class(picture: Array, xyxy: Array, objectness: Array, score: Array, threshold: float) -> Candidates:
    """One row for each score (N, K) above the threshold, of boxes (N, 4)."""
    xp = namespace(score)
    box, label = xp.nonzero(score > threshold)
    return Candidates(picture[box], box, xyxy[box], objectness[box], label, score[box, label])


def sigmoid(x: Array) -> Array:
    """1 / (1 + e^-x), as the hyperbolic tangent that it is: no exponential that could overflow."""
    return 0.5 * namespace(x).tanh(0.5 * x) + 0.5


def finite_exp(x: Array) -> Array:
    """e^x, but no more than e^40: a box may be absurd, but not infinite."""
    xp = namespace(x)
    return xp.exp(xp.where(x < LARGEST_POWER, x, xp.full_like(x, LARGEST_POWER)))


def finite_exp_op(ops: Ops[T], x: T) -> T:
    """finite_exp as primitives."""
    return ops.exp(ops.clip(x, -LARGEST_POWER, LARGEST_POWER))


def logit(probability: float) -> float:
    """The x whose sigmoid is `probability`, a little lower, so that rounding never drops a box that passes."""
    if probability <= 0:
        return -math.inf
    if probability >= 1:
        return math.inf
    return math.log(probability / (1 - probability)) - 1e-3


def cell_corners(rows: int, columns: int) -> np.ndarray:
    """The column and row of each cell of a grid, (1, 2, rows, columns) float32."""
    r, c = np.mgrid[:rows, :columns]
    return np.stack([c, r])[None].astype(np.float32)


def flat_cells(ops: Ops[T], x: T) -> T:
    """(B, C, H, W) as one row a cell, (B, HW, C)."""
    _, c, h, w = x.shape
    return ops.permute_dims(ops.reshape(x, (-1, c, h * w)), (0, 2, 1))


def anchor_pairs(section: Section, count: int) -> tuple[tuple[float, float], ...]:
    """The (width, height) pairs of `anchors`, `count` of them; Darknet's .5 where the cfg gives none.

    Raises CfgError for an odd number of values, or for other than `count` pairs, which Darknet reads past its memory.
    """
    values = section.numbers("anchors", default=(0.5,) * (2 * count))
    if len(values) != 2 * count:
        section.refuse("anchors", f"has {len(values)} values; num={count} wants {2 * count}")
    if any(value <= 0 for value in values):
        section.refuse("anchors", "has a value that is not above 0")
    return tuple(zip(values[::2], values[1::2], strict=True))
