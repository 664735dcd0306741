"""Anchors: the widths and heights that fit a dataset's boxes best, found by k-means (thesis, 2.2).

Shapes are (N, 2), width and height relative to the network's input.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

import numpy as np

from lookonce import pictures
from lookonce.data.dataset import Dataset
from lookonce.data.views import sizes_of
from lookonce.errors import DataError
from lookonce.shapes import Float64, Int64

Distance = Literal["iou", "sse"]
Fit = Literal["letterbox", "stretch"]

STRIDE = 32                      # of the layer that [region] stands on: its anchors are in cells
RESTARTS = 10
STEPS = 300
PATIENCE = 12                    # steps without coming nearer after which a walk ends
BLOCK = 1 << 15                  # distances that are held at once: more would leave the processor's cache


class Anchors(NamedTuple):
    """K shapes (K, 2), the smallest first, and the mean IOU of the boxes to the one that is closest to each."""

    shapes: Float64[np.ndarray, "K 2"]
    mean_iou: float


class Row(NamedTuple):
    """One k of the thesis's figure 2.2: what each distance leads to."""

    k: int
    iou: Anchors
    sse: Anchors


# ---------------------------------------------------------------------- boxes
def shapes_of(
    dataset: Dataset, input: tuple[int, int], fit: Fit = "letterbox", progress: Callable[[int, int], None] | None = None
) -> Float64[np.ndarray, "N 2"]:
    """The shapes of all boxes with an area, difficult ones too, once each picture is fitted into `input`.

    Crowds are left out: such a box is no object's. A picture of which no size is known is opened. Raises DataError if
    no box is left.
    """
    sizes = sizes_of(dataset, progress)
    parts = [np.zeros((0, 2))]
    for item, size in zip(dataset.items, sizes, strict=True):
        truth = item.truth
        if size is None or not len(truth):
            continue
        sides = truth.xywh[~truth.crowd, 2:]                                              # (M, 2) pixels
        inner = pictures.place(size, input, fit).inner
        parts.append(sides / np.array(size, np.float64) * np.array(inner, np.float64) / np.array(input, np.float64))
    shapes = np.concatenate(parts)
    shapes = shapes[np.isfinite(shapes).all(axis=1) & (shapes > 0).all(axis=1)]
    if not len(shapes):
        raise DataError(f"{dataset.path}: holds no box with an area, wanted some to fit anchors to")
    return shapes


def overlaps(shapes: Float64[np.ndarray, "N 2"], anchors: Float64[np.ndarray, "K 2"]) -> Float64[np.ndarray, "N K"]:
    """The IOU of each shape and each anchor, laid corner on corner."""
    both = np.minimum(shapes[:, None, 0], anchors[:, 0])                                  # (N, K)
    both *= np.minimum(shapes[:, None, 1], anchors[:, 1])
    overlap: np.ndarray = both / (shapes.prod(axis=1)[:, None] + anchors.prod(axis=1) - both)
    return overlap


def mean_iou(shapes: Float64[np.ndarray, "N 2"], anchors: Float64[np.ndarray, "K 2"]) -> float:
    """The mean, over the shapes, of the IOU to the closest anchor: the figure of the thesis's table 2.1."""
    return float(1 - _nearest(shapes, anchors, "iou")[1].mean())


# ---------------------------------------------------------------------- k-means
def cluster(
    shapes: Float64[np.ndarray, "N 2"],
    k: int,
    *,
    distance: Distance = "iou",
    seed: int = 0,
    restarts: int = RESTARTS,
    start: Float64[np.ndarray, "J 2"] | None = None,
) -> Anchors:
    """K-means of shapes under 1 - IOU, or under the sum of squares (the plain one).

    A centre moves to the mean of its members. Under 1 - IOU that need not come nearer to them, so of all steps of all
    restarts the best stays; it is the one of the least mean distance. Each restart draws its first centres as k-means++
    does, far from those drawn; with `start` one more begins with those centres. Raises DataError if there are fewer
    than `k` different shapes.
    """
    kinds = len(np.unique(shapes, axis=0))
    if not 1 <= k <= kinds:
        raise DataError(f"{k} anchors from boxes of {kinds:,} different shapes: wanted 1 to {kinds:,}")
    rng = np.random.default_rng(seed)
    starts = [] if start is None else [_seeded(shapes, k, distance, rng, start)]
    starts += [_seeded(shapes, k, distance, rng, shapes[rng.integers(len(shapes))][None]) for _ in range(restarts)]
    _, centres = min((_walk(shapes, first, distance) for first in starts), key=lambda found: found[0])
    return Anchors(centres[np.argsort(centres.prod(axis=1), kind="stable")], mean_iou(shapes, centres))


def curve(
    shapes: Float64[np.ndarray, "N 2"],
    ks: Sequence[int] = range(1, 16),
    *,
    seed: int = 0,
    restarts: int = RESTARTS,
    progress: Callable[[int, int], None] | None = None,
) -> list[Row]:
    """Both distances for several k: the left half of figure 2.2.

    One restart of each k begins with the centres of the k before, so under 1 - IOU more anchors never fit worse. A k
    beyond the number of different shapes is left out.
    """
    rows: list[Row] = []
    kinds = len(np.unique(shapes, axis=0))
    ks = [k for k in ks if k <= kinds]
    for k in ks:
        before = rows[-1] if rows and rows[-1].k <= k else None
        iou = cluster(shapes, k, distance="iou", seed=seed, restarts=restarts, start=before and before.iou.shapes)
        sse = cluster(shapes, k, distance="sse", seed=seed, restarts=restarts, start=before and before.sse.shapes)
        rows.append(Row(k, iou, sse))
        if progress is not None:
            progress(len(rows), len(ks))
    return rows


def _seeded(
    shapes: np.ndarray, k: int, distance: Distance, rng: np.random.Generator, centres: np.ndarray
) -> Float64[np.ndarray, "K 2"]:
    """`centres` and further shapes up to `k`, each drawn by how far it is from the closest before it, squared."""
    while len(centres) < k:
        _, far = _nearest(shapes, centres, distance)
        weight = far**2 if distance == "iou" else far                                     # the latter is squared
        drawn = rng.choice(len(shapes), p=weight / weight.sum())
        centres = np.concatenate([centres, shapes[drawn][None]])
    return centres


def _walk(shapes: np.ndarray, centres: np.ndarray, distance: Distance) -> tuple[float, np.ndarray]:
    """The least mean distance on the way from `centres` to where they rest, and the centres there."""
    best, least, found = centres, np.inf, 0
    before: np.ndarray | None = None
    for step in range(STEPS):
        owner, near = _nearest(shapes, centres, distance)
        if near.mean() < least:
            best, least, found = centres, float(near.mean()), step
        if step - found > PATIENCE or (before is not None and np.array_equal(owner, before)):
            break
        before = owner
        centres = _means(shapes, owner, near, len(centres))
    return least, best


def _nearest(
    shapes: np.ndarray, centres: np.ndarray, distance: Distance
) -> tuple[Int64[np.ndarray, " N"], Float64[np.ndarray, " N"]]:
    """The number of the closest centre to each shape, and how far it is."""
    owner, near = np.empty(len(shapes), np.int64), np.empty(len(shapes))
    size = max(1, BLOCK // len(centres))
    for start in range(0, len(shapes), size):
        rows = slice(start, start + size)
        far = _distances(shapes[rows], centres, distance)                                 # (n, K)
        owner[rows] = far.argmin(axis=1)
        near[rows] = far[np.arange(len(far)), owner[rows]]
    return owner, near


def _means(
    shapes: np.ndarray, owner: Int64[np.ndarray, " N"], near: np.ndarray, k: int
) -> Float64[np.ndarray, "K 2"]:
    """The mean shape of each centre's members. A centre without any takes a shape that is farthest from its own."""
    count = np.bincount(owner, minlength=k)
    sums = np.stack([np.bincount(owner, shapes[:, side], minlength=k) for side in (0, 1)], axis=1)
    means = sums / np.maximum(count, 1)[:, None]
    (idle,) = np.nonzero(count == 0)
    means[idle] = shapes[np.argsort(-near, kind="stable")[: len(idle)]]
    return means


def _distances(shapes: np.ndarray, centres: np.ndarray, distance: Distance) -> Float64[np.ndarray, "N K"]:
    if distance == "iou":
        return 1 - overlaps(shapes, centres)
    across = shapes[:, None, 0] - centres[:, 0]
    down = shapes[:, None, 1] - centres[:, 1]
    squares: np.ndarray = across * across + down * down
    return squares


# ---------------------------------------------------------------------- for a cfg
def region_line(anchors: Float64[np.ndarray, "K 2"], input: tuple[int, int]) -> str:
    """The line of a cfg's [region]: in cells of its stride."""
    cells = anchors * np.array(input, np.float64) / STRIDE
    return "anchors = " + ", ".join(f"{w:.4f},{h:.4f}" for w, h in cells)


def yolo_line(anchors: Float64[np.ndarray, "K 2"], input: tuple[int, int]) -> str:
    """The line of a cfg's [yolo]: in pixels of the input, to a tenth."""
    cells = anchors * np.array(input, np.float64)
    return "anchors = " + ", ".join(f"{w:.1f},{h:.1f}" for w, h in cells)
