"""Where a picture lies in a network's input when the network learns: along each axis by itself, or turned.

Along one axis every place of the input lies between two places of the picture: an Axis says which, and the share of
each. So a picture is placed, cropped, mirrored and cut by tables, and resampled once.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lookonce import pictures
from lookonce.data.batches import Augmentation
from lookonce.shapes import Float32, UInt8

Tables = tuple[np.ndarray, ...]  # for each place: the first and the second pixel beside it, and the share of each


class Axis(NamedTuple):
    """One axis: the input's places `begin` to `end` show the picture, as `tables` say.

    Pixel x of the picture lies at `scale`·x + `shift` of the input, in pixels.
    """

    begin: int
    end: int
    tables: Tables
    scale: float
    shift: float

    def mirrored(self, length: int) -> Axis:
        """The same in an input of `length` that is seen in a mirror."""
        tables = tuple(table[::-1] for table in self.tables)
        return Axis(length - self.end, length - self.begin, tables, -self.scale, length - self.shift)

    def window(self, start: int, stop: int) -> Axis:
        """The input's places from `start` to `stop` alone, counted from there."""
        begin, end = (min(max(place, start), stop) for place in (self.begin, self.end))
        tables = tuple(table[begin - self.begin : end - self.begin] for table in self.tables)
        return Axis(begin - start, end - start, tables, self.scale, self.shift - start)


def placed(source: int, size: int, start: int, length: int) -> Axis:
    """`source` pixels shown as `size`, from `start` on, in an input of `length` (Darknet's place_image).

    Place i shows pixel i/size·source. What lies beyond the last pixel is 0: an enlarged picture has a dark edge.
    """
    at = np.arange(size, dtype=np.float32) / np.float32(size) * np.float32(source)
    first = np.minimum(at.astype(np.int64), source - 1)
    share = (at - first).astype(np.float32)
    last = first == source - 1
    second, share_second = np.where(last, first, first + 1), np.where(last, np.float32(0), share)
    whole = Axis(start, start + size, (first, second, 1 - share, share_second), size / source, float(start))
    return whole.window(0, length)


def fitted(source: int, size: int, start: int, length: int) -> Axis:
    """`source` pixels resized to `size`, the first at the first and the last at the last, from `start` on.

    So pictures are judged (Darknet's resize_image).
    """
    tables = pictures.steps(source, size, 1, 1.0)
    return Axis(start, start + size, tables, size / source, float(start)).window(0, length)


def cropped(source: int, start: int, size: int, length: int) -> Axis:
    """`size` pixels from `start` on, stretched over an input of `length`; the edge goes on outside (crop_image)."""
    axis = fitted(size, length, 0, length)
    first, second = (np.clip(table + start, 0, source - 1) for table in axis.tables[:2])
    return axis._replace(tables=(first, second, *axis.tables[2:]), shift=-start * axis.scale)


def draw(
    augmentation: Augmentation,
    picture: tuple[int, int],
    input: tuple[int, int],
    rng: np.random.Generator,
    least: float = 1.0,
) -> tuple[Axis, Axis]:
    """Where a picture of (width, height) lies in an input of (width, height), across and down.

    With `least` below 1 it is shown whole and somewhere, by `crop` too, at between this share of the largest size that
    fits and all of it.

    Boxes follow the pixels. Darknet takes them from the numbers before those are cut to whole pixels, so that they may
    be up to one pixel off.
    """
    (w, h), (width, height) = picture, input
    jitter = augmentation.jitter
    if augmentation.placing == "place" or (augmentation.placing == "crop" and least < 1):
        aspect = (w + rng.uniform(-jitter, jitter) * w) / (h + rng.uniform(-jitter, jitter) * h)
        inner = (height * aspect, 1.0 * height) if aspect < 1 else (1.0 * width, width / aspect)
        if least < 1:
            share = rng.uniform(least, 1)
            inner = (inner[0] * share, inner[1] * share)
        left, top = (int(rng.uniform() * (side - part)) for side, part in zip(input, inner, strict=True))
        return placed(w, max(1, int(inner[0])), left, width), placed(h, max(1, int(inner[1])), top, height)
    if augmentation.placing == "crop":
        left, right = (int(rng.uniform(-1, 1) * int(w * jitter)) for _ in range(2))
        top, bottom = (int(rng.uniform(-1, 1) * int(h * jitter)) for _ in range(2))
        across, down = max(1, w - left - right), max(1, h - top - bottom)
        return cropped(w, left, across, width), cropped(h, top, down, height)
    placement = pictures.place(picture, input, augmentation.resize)
    (inner_w, inner_h), (left, top) = placement.inner, placement.offset
    return fitted(w, inner_w, left, width), fitted(h, inner_h, top, height)


def put(
    picture: UInt8[np.ndarray, "H W C"], canvas: Float32[np.ndarray, "C h w"], across: Axis, down: Axis
) -> Float32[np.ndarray, "C hh ww"]:
    """Write a picture onto the part of `canvas` that its axes name, with values in [0, 1], and return that part."""
    part = canvas[:, down.begin : down.end, across.begin : across.end]
    if not part.size:
        return part
    picture, columns = _within(picture, across, 1)
    picture, rows = _within(picture, down, 0)
    channels = picture.shape[2]
    interleave = np.arange(channels)
    places = [(table[:, None] * channels + interleave).reshape(-1) for table in columns[:2]]
    shares = [np.repeat(share * np.float32(1 / 255), channels) for share in columns[2:]]
    pictures.resample(picture, part, rows, (*places, *shares))
    return part


def _within(picture: np.ndarray, axis: Axis, along: int) -> tuple[np.ndarray, Tables]:
    """The part of a picture that an axis shows, if that is much less than the whole, and the axis's tables for it."""
    first, second, *shares = axis.tables
    low, high = min(first.min(), second.min()), max(first.max(), second.max()) + 1
    if high - low > 0.8 * picture.shape[along]:
        return picture, axis.tables
    part = picture[low:high] if along == 0 else picture[:, low:high]
    return part, (first - low, second - low, *shares)
