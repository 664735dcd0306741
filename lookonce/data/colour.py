"""Colours changed as Darknet does: hue, saturation and exposure of values in [0, 1], in place."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lookonce.data.batches import Augmentation
from lookonce.shapes import Float32

ROWS = 48                        # so many are changed at once: their scratch stays in the processor's cache
SIGN = np.int32(-(1 << 31))      # a float's


class Change(NamedTuple):
    """`hue` is added, as a share of the circle; `saturation` and `exposure` multiply."""

    hue: float = 0.0
    saturation: float = 1.0
    exposure: float = 1.0

    def grey(self, value: float) -> float:
        """What becomes of a grey value."""
        return min(max(value * self.exposure, 0.0), 1.0)


NONE = Change()


def draw(augmentation: Augmentation, rng: np.random.Generator) -> Change:
    """A random change: by up to ± the hue, by a factor of up to the other two or the inverse of such a one."""
    hue = rng.uniform(-1, 1) * augmentation.hue
    return Change(float(hue), random_scale(augmentation.saturation, rng), random_scale(augmentation.exposure, rng))


def random_scale(most: float, rng: np.random.Generator) -> float:
    """A factor between 1 and `most`, or its inverse, as often (Darknet's rand_scale: .75 stands for 1/.75 to .75)."""
    scale = 1 + rng.uniform() * (most - 1)
    return float(scale if rng.uniform() < 0.5 else 1 / scale)


def distort(canvas: Float32[np.ndarray, "3 h w"], change: Change) -> None:
    """Change the colours of `canvas` by way of hue, saturation and value; what leaves [0, 1] is cut."""
    if change == NONE:
        return
    _, height, width = canvas.shape
    planes = np.empty((8, min(ROWS, height), width), np.float32)
    planes[7] = 0                                           # numpy compares arrays many times faster than with a number
    for top in range(0, height, ROWS):
        block = canvas[:, top : top + ROWS]
        scratch = planes[:, : block.shape[1]]
        if change.hue:
            _turn(block, scratch, change)
        else:
            _scale(block, scratch, change)
        if change.saturation > 1:
            for plane in block:
                np.maximum(plane, scratch[7], out=plane)
        if change.exposure > 1:
            scratch[0] = 1
            for plane in block:
                np.minimum(plane, scratch[0], out=plane)


def _scale(block: np.ndarray, scratch: np.ndarray, change: Change) -> None:
    """Saturation and exposure alone: with v the largest channel each one x becomes e·(v - s·(v - x))."""
    value, other = scratch[:2]
    np.maximum(block[1], block[2], out=value)
    np.maximum(value, block[0], out=value)
    value *= np.float32(change.exposure * (1 - change.saturation))
    for plane in block:
        np.multiply(plane, np.float32(change.exposure * change.saturation), out=other)
        np.add(other, value, out=plane)


def _turn(block: np.ndarray, scratch: np.ndarray, change: Change) -> None:
    """All three. With value v, chroma c and hue x, in sextants times c so that nothing is divided.

    A channel is v - c plus what its trapezoid has over x, between 0 and c. Masks are slow, so x comes without any: its
    distance from red is (v - r) + |g - b| + 2·min(v - r, c - |g - b|), its sign that of g - b. Whole thirds of the
    circle exchange channels; the rest is at most a sextant, which needs no wrapping.
    """
    thirds = round(3 * change.hue)
    sextants = np.float32(6 * change.hue - 2 * thirds)
    r, g, b = block
    value, chroma, twice, thrice, x, y, z, zero = scratch
    np.maximum(g, b, out=z)
    np.maximum(r, z, out=value)
    np.minimum(g, b, out=z)
    np.minimum(r, z, out=chroma)
    np.subtract(value, chroma, out=chroma)
    np.subtract(g, b, out=y)
    np.abs(y, out=x)
    np.subtract(chroma, x, out=z)
    np.subtract(value, r, out=twice)
    np.minimum(z, twice, out=z)
    x += twice
    x += z
    x += z
    sign, bits = y.view(np.int32), x.view(np.int32)
    sign &= SIGN
    bits |= sign
    np.multiply(chroma, sextants, out=y)
    x += y                                                  # in [-4c, 4c]
    factor = np.float32(change.saturation * change.exposure)
    x *= factor
    chroma *= factor
    value *= np.float32(change.exposure)
    value -= chroma
    np.add(chroma, chroma, out=twice)
    np.add(twice, chroma, out=thrice)
    for channel, plane in enumerate((x, np.subtract(x, twice, out=y), np.add(x, twice, out=z))):
        np.abs(plane, out=plane)                            # from red, green or blue
        plane -= thrice
        np.abs(plane, out=plane)
        plane -= chroma
        np.maximum(plane, zero, out=plane)
        np.minimum(plane, chroma, out=plane)
        np.add(value, plane, out=block[(channel + thirds) % 3])
