"""One sample: a picture placed, mirrored and coloured at random for a network to learn from, with its objects.

All that is random follows from the run's seed, the mini-batch's number and the place in it.
"""

from __future__ import annotations

import bisect
from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple

import numpy as np

from lookonce import boxes, pictures
from lookonce.data import colour, placing, turning
from lookonce.data.batches import Augmentation, Plan
from lookonce.data.dataset import Item
from lookonce.data.placing import Axis
from lookonce.shapes import Float32, Int64
from lookonce.truth import Truth

Look = Callable[[Item], np.ndarray]                      # the decoded picture of an item, (H, W, 3) uint8

LEAST_SEEN = 0.2                 # of a box that a mosaic cuts; with less left it is dropped
NEAREST, FARTHEST = 0.2, 0.8     # where a mosaic is cut, as shares of the input
PICK = 4                         # the seed's stream for pictures that no plan names; the sampler has those before it


class Sample(NamedTuple):
    """A picture (3, h, w) in [0, 1], and its m objects: centre and size relative to the input, and class."""

    picture: Float32[np.ndarray, "3 h w"]
    cxcywh: Float32[np.ndarray, "m 4"]
    label: Int64[np.ndarray, " m"]


def sample(
    items: Sequence[Item],
    look: Look,
    augmentation: Augmentation,
    plan: Plan,
    place: int,
    seed: int,
    out: Float32[np.ndarray, "3 h w"] | None = None,
) -> Sample:
    """The sample at `place` of a mini-batch of pictures among `items`, written onto `out` if it is given.

    Objects come in random order, since a loss may keep only the first in a cell. Difficult ones are learned, crowds are
    not. A picture that has only classes gives rows of NaN. Raises what `look` raises: InputError.
    """
    canvas = np.empty((3, plan.height, plan.width), np.float32) if out is None else out
    four = [items[index] for index in picked(augmentation, plan, place, seed, len(items))]
    return compose(four, look, augmentation, plan.number, place, seed, canvas)


def picked(
    augmentation: Augmentation,
    plan: Plan,
    place: int,
    seed: int,
    count: int,
    bad: Collection[int] = (),
    parts: Sequence[int] = (),
) -> tuple[int, ...]:
    """The pictures, among `count`, that a sample is made of: one, or four for a mosaic, others in place of `bad` ones.

    Of a mixed dataset they are of one of its `parts`, so that shares hold and boxes are beside boxes.

    What is drawn does not depend on bad ones that it does not meet.
    """
    indices = [plan.indices[place]]
    ends = [sum(parts[: number + 1]) for number in range(len(parts))] or [count]
    part = bisect.bisect_right(ends, indices[0])
    begin, end = ends[part - 1] if part else 0, ends[part]
    until = augmentation.mosaic_until
    over = augmentation.placing == "rotate" or (until is not None and plan.number >= until)
    share = 0.0 if over else augmentation.mosaic
    if not share and indices[0] not in bad:
        return tuple(indices)
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(PICK, plan.number, place)))
    if rng.uniform() < share:
        indices += rng.integers(begin, end, 3).tolist()
    for at, index in enumerate(indices):
        while index in bad:
            index = int(rng.integers(begin, end))
        indices[at] = index
    return tuple(indices)


def compose(
    items: Sequence[Item],
    look: Look,
    augmentation: Augmentation,
    number: int,
    place: int,
    seed: int,
    canvas: Float32[np.ndarray, "3 h w"],
) -> Sample:
    """The sample at `place` of mini-batch `number`, made of one picture or of four, on `canvas`.

    A picture that has only classes is in no mosaic, which would show little of it: then the first stands alone.
    By `place` and `crop` one that is smaller than the input is shown somewhere at a size between its own and the whole:
    its class holds wherever it lies, and enlarged as far as it goes it would teach what blur looks like.
    """
    rng = np.random.default_rng((seed, number, place))
    if len(items) == 4 and all(len(item.truth) or not item.truth.classes for item in items):
        cxcywh, label = _mosaic(items, look, augmentation, canvas, rng)
    else:
        cxcywh, label = _single(items[0], look, augmentation, canvas, rng)
    kept = ~(np.minimum(cxcywh[:, 2], cxcywh[:, 3]) < augmentation.smallest)       # NaN is kept
    order = rng.permutation(np.flatnonzero(kept))
    return Sample(canvas, cxcywh[order].astype(np.float32), label[order])


def _single(
    item: Item, look: Look, augmentation: Augmentation, canvas: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """One picture on the whole canvas: its objects' cxcywh, cut at the canvas's edges, and classes."""
    picture = look(item)
    corners, label = _objects(item, picture)
    size = canvas.shape[2], canvas.shape[1]
    if augmentation.placing == "rotate":
        turn = turning.draw(augmentation, (picture.shape[1], picture.shape[0]), size, rng)
        corners = turn.moved(corners, size[0])
        turning.put(picture, canvas, turn)
        colour.distort(canvas, colour.draw(augmentation, rng))
    else:
        across, down = _axes(picture, canvas, augmentation, rng, shrinks=not len(item.truth) and len(label) > 0)
        corners = _moved(corners, across, down)
        _fill(picture, canvas, across, down, colour.draw(augmentation, rng))
    return _cxcywh(np.clip(corners / np.array(size * 2), 0, 1)), label


def _mosaic(
    four: Sequence[Item], look: Look, augmentation: Augmentation, canvas: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Four pictures around a random point; each shows a random part of what it would show alone."""
    _, height, width = canvas.shape
    x, y = (round(rng.uniform(NEAREST, FARTHEST) * side) for side in (width, height))
    cxcywh, labels = [], []
    quarters = ((0, 0, x, y), (x, 0, width, y), (0, y, x, height), (x, y, width, height))
    for item, (left, top, right, bottom) in zip(four, quarters, strict=True):
        picture = look(item)
        corners, label = _objects(item, picture)
        across, down = _axes(picture, canvas, augmentation, rng)
        w, h = right - left, bottom - top
        from_x, from_y = (int(rng.integers(0, more + 1)) for more in (width - w, height - h))
        across, down = across.window(from_x, from_x + w), down.window(from_y, from_y + h)
        _fill(picture, canvas[:, top:bottom, left:right], across, down, colour.draw(augmentation, rng))
        whole = _moved(corners, across, down)
        cut = np.clip(whole, 0, [w, h, w, h])
        seen = boxes.area(cut) >= LEAST_SEEN * boxes.area(whole)
        cxcywh.append(_cxcywh((cut[seen] + [left, top, left, top]) / [width, height, width, height]))
        labels.append(label[seen])
    return np.concatenate(cxcywh), np.concatenate(labels)


def _axes(
    picture: np.ndarray,
    canvas: np.ndarray,
    augmentation: Augmentation,
    rng: np.random.Generator,
    *,
    shrinks: bool = False,
) -> tuple[Axis, Axis]:
    _, height, width = canvas.shape
    own = max(picture.shape[1] / width, picture.shape[0] / height)
    least = min(own, 1.0) if shrinks else 1.0
    across, down = placing.draw(augmentation, (picture.shape[1], picture.shape[0]), (width, height), rng, least)
    mirrored = rng.uniform() < 0.5 and augmentation.flip
    return across.mirrored(width) if mirrored else across, down


def _fill(picture: np.ndarray, canvas: np.ndarray, across: Axis, down: Axis, change: colour.Change) -> None:
    """The picture, coloured, and around it what becomes of Darknet's grey."""
    grey = change.grey(pictures.GREY)
    canvas[:, : down.begin] = grey
    canvas[:, down.end :] = grey
    canvas[:, down.begin : down.end, : across.begin] = grey
    canvas[:, down.begin : down.end, across.end :] = grey
    colour.distort(placing.put(picture, canvas, across, down), change)


def _objects(item: Item, picture: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners (m, 4) in pixels of the decoded picture, NaN where there are only classes, and classes (m,).

    A label file that was made for another size is right relative to it.
    """
    truth: Truth = item.truth
    if not len(truth) and truth.classes:
        return np.full((len(truth.classes), 4), np.nan), np.array(truth.classes, np.int64)
    kept = ~truth.crowd
    corners = truth.xyxy[kept]
    size = picture.shape[1], picture.shape[0]
    if item.size is not None and item.size != size and min(item.size) > 0:
        corners = corners * (np.array(size * 2) / np.array(item.size * 2))
    return corners, truth.label[kept]


def _moved(corners: np.ndarray, across: Axis, down: Axis) -> np.ndarray:
    """Corners in pixels of the picture as those of the canvas."""
    scale = np.array([across.scale, down.scale] * 2)
    moved: np.ndarray = corners * scale + np.array([across.shift, down.shift] * 2)
    return moved if across.scale > 0 else moved[:, [2, 1, 0, 3]]


def _cxcywh(xyxy: np.ndarray) -> np.ndarray:
    low, high = xyxy[:, :2], xyxy[:, 2:]
    return np.concatenate([(low + high) / 2, high - low], axis=1)
