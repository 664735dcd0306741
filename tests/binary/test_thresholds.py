"""Limits of sums, against the values of all sums."""

from __future__ import annotations

import numpy as np

from lookonce.binary import reference
from lookonce.binary.prepare import Affine
from lookonce.binary.thresholds import find_thresholds

MOST = 40


def test_a_limit_says_what_the_floats_say_for_every_sum() -> None:
    """Rising, falling and flat values, a leaky ReLU and a second batch norm between, some of them exactly 0."""
    rng = np.random.default_rng(0)
    count = 2000
    scale, then = (rng.choice([-1.5, -0.1, 0, 1e-30, 0.3, 2], count).astype(np.float32) for _ in range(2))
    shift = -scale * rng.integers(-MOST, MOST, count).astype(np.float32)
    after = Affine(then, np.where(rng.random(count) < 0.5, 0, rng.standard_normal(count)).astype(np.float32))
    inverted = rng.random(count) < 0.5

    def value(sums: np.ndarray) -> np.ndarray:
        return after(reference.finish(sums, scale, shift, "leaky"))

    found = find_thresholds(MOST, (scale < 0) != (then < 0), value, inverted)
    for total in range(-MOST, MOST + 1):
        sums = np.full(count, total, np.int32)
        np.testing.assert_array_equal((sums ^ found.flip) >= found.limit, (value(sums) > 0) != inverted)
