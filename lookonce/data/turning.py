"""Pictures turned, stretched and cut as Darknet does for classifiers (random_augment_image, rotate_crop_image)."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np

from lookonce.data.batches import Augmentation
from lookonce.data.colour import random_scale
from lookonce.shapes import Float32, Float64, UInt8

ROWS = 32                        # so many are made at once: their scratch stays in the processor's cache


class Turn(NamedTuple):
    """Place (x, y) of the input shows `matrix` @ (x, y) + `origin` of the picture, in pixels; `mirrored` after that."""

    matrix: Float64[np.ndarray, "2 2"]
    origin: Float64[np.ndarray, " 2"]
    mirrored: bool

    def moved(self, corners: Float64[np.ndarray, "M 4"], width: int) -> Float64[np.ndarray, "M 4"]:
        """The upright boxes around turned boxes, in pixels of an input of `width`."""
        points = corners[:, [[0, 1], [2, 1], [2, 3], [0, 3]]]                       # (M, 4, 2)
        turned = (points - self.origin) @ np.linalg.inv(self.matrix).T
        if self.mirrored:
            turned[:, :, 0] = width - turned[:, :, 0]
        return np.concatenate([turned.min(axis=1), turned.max(axis=1)], axis=1)


def draw(
    augmentation: Augmentation, picture: tuple[int, int], input: tuple[int, int], rng: np.random.Generator
) -> Turn:
    """How a picture of (width, height) is turned and cut for an input of (width, height).

    Its shorter side becomes `least` to `most` pixels, in proportion where the input is not `base` wide. Without
    `least` that is the input's width.
    """
    (w, h), (width, height) = picture, input
    ratio = width / augmentation.base if augmentation.base and augmentation.least else 1.0
    least = max(1, int((augmentation.least or width) * ratio))
    most = max(least, int((augmentation.most or augmentation.least or width) * ratio))
    aspect = random_scale(augmentation.aspect, rng)
    scale = int(rng.integers(least, most + 1)) / min(h, w * aspect)
    angle = math.radians(rng.uniform(-1, 1) * augmentation.angle)
    away = np.array([w * scale / aspect - width, h * scale - height]) / 2 * rng.uniform(-1, 1, 2)
    mirrored = bool(rng.uniform() < 0.5) and augmentation.flip
    cos, sin = math.cos(angle), math.sin(angle)
    # The aspect stretches across for both: so it stands in Darknet, whatever the angle.
    matrix = np.array([[cos * aspect, -sin], [sin * aspect, cos]]) / scale
    return Turn(matrix, np.array([w, h]) / 2 + matrix @ (away - np.array([width, height]) / 2), mirrored)


def put(picture: UInt8[np.ndarray, "H W C"], canvas: Float32[np.ndarray, "C h w"], turn: Turn) -> None:
    """Write a turned picture onto `canvas`, with values in [0, 1]: bilinear, and 0 outside of the picture."""
    if min(picture.shape[:2]) < 2:                          # two pixels are taken along each side
        picture = np.pad(picture, [(0, 1), (0, 1), (0, 0)])
    h, w, channels = picture.shape
    flat = np.ascontiguousarray(picture).reshape(-1)
    _, height, width = canvas.shape
    matrix = turn.matrix.astype(np.float32)
    x, y = np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32)[:, None]
    if turn.mirrored:
        x = x[::-1]
    across, down = matrix[:, 0, None] * x + turn.origin.astype(np.float32)[:, None], matrix[:, 1, None, None] * y
    zero = np.zeros((min(ROWS, height), width), np.float32)
    for top in range(0, height, ROWS):
        block = slice(top, min(top + ROWS, height))
        left, *shares_across = _between(across[0] + down[0, block], w, zero)
        above, *shares_down = _between(across[1] + down[1, block], h, zero)
        place = (above.astype(np.int64) * w + left) * channels                      # (rows, w)
        total = np.zeros((channels, *place.shape), np.float32)
        for below, share_down in enumerate(shares_down):
            for right, share_across in enumerate(shares_across):
                share = share_down * share_across
                corner = place + (below * w + right) * channels
                for channel in range(channels):
                    value = np.take(flat, corner + channel, mode="clip") * share
                    total[channel] += value
        np.multiply(total, np.float32(1 / 255), out=canvas[:, block])


def _between(at: np.ndarray, count: int, zero: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The first of two neighbours among `count` pixels, and the share of each: 1 less the distance, at least 0."""
    zero = zero[: len(at)]
    first = np.floor(at)
    np.maximum(first, zero, out=first)
    np.minimum(first, np.float32(count - 2), out=first)
    away = at - first
    shares = [1 - np.abs(away), 1 - np.abs(away - np.float32(1))]
    return first.astype(np.int32), np.maximum(shares[0], zero), np.maximum(shares[1], zero)
