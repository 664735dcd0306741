"""Which sums of a binary convolution give a bit of 1, where a sign is taken of more than its own result."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from lookonce.shapes import Bool, Real

NEVER = np.int32(2**31 - 1)


class Thresholds(NamedTuple):
    """A bit is 1 where (sum ^ flip) >= limit; flip is 0, or -1 where smaller sums give it."""

    flip: Real[np.ndarray, " O"]
    limit: Real[np.ndarray, " O"]


def find_thresholds(
    most: int,
    falling: Bool[np.ndarray, " O"],
    value: Callable[[Real[np.ndarray, " O"]], np.ndarray],
    inverted: Bool[np.ndarray, " O"],
) -> Thresholds:
    """The thresholds at which `value`, of one sum a filter from -most to most, comes to be above 0.

    However a value is made of a sum by float arithmetic, it only rises, or only falls, with it: rounding keeps the
    order. So a limit says exactly what the floats would, and is found by halving. Where `inverted` the bit is 1 for all
    other sums.
    """
    turn = np.where(falling, np.int32(-1), np.int32(1))
    low, high = np.full(len(turn), -most, np.int32), np.full(len(turn), most + 1, np.int32)
    while (low < high).any():                       # the first place, in rising order of the value, above 0
        middle = low + (high - low) // 2
        above = value(middle * turn) > 0
        searched = low < high
        high = np.where(searched & above, middle, high)
        low = np.where(searched & ~above, middle + 1, low)
    # sum <= -low means ~sum >= low - 1
    never = low > most
    flip = np.where(falling & ~never, np.int32(-1), np.int32(0))
    limit = np.where(never, NEVER, np.where(falling, low - 1, low)).astype(np.int32)
    # Not (x >= limit) means ~x >= -limit.
    return Thresholds(np.where(inverted, ~flip, flip), np.where(inverted, -limit, limit))
