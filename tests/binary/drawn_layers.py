"""Random small binary convolutions, and the comparison of the compiled kernel with the reference on them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lookonce.binary import BinaryConvolution, kernel, reference
from lookonce.binary.thresholds import Thresholds

MOST_CHANNELS = 130                    # past two words
ODD_VALUES = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, -1e-45], np.float32)
ACTIVATIONS = ("linear", "leaky", "relu")


def compare(number: int, rng: np.random.Generator, paths: Sequence[str]) -> None:
    """One drawn layer on every path, by one and by two threads: sums, floats and bits are those of the reference.

    The count of channels goes round from 1 to 130; what else there is is drawn. One layer in 200 is large enough that
    threads share it. Raises AssertionError.
    """
    channels = number % MOST_CHANNELS + 1
    batch, height, width = (int(n) for n in rng.integers(1, (3, 7, 7)))
    filters = int(rng.choice([1, 2, 7, 8, 15, 16, 17, 33, 48, 63, 64, 65, 80]))
    window = tuple(int(n) for n in rng.choice([1, 1, 2, 3, 3, 3, 4, 5], 2))
    stride = tuple(int(n) for n in rng.integers(1, 4, 2))
    padding, dilation = int(rng.integers(0, 4)), int(rng.choice([1, 1, 2, 3]))
    # A picture that the window fits into.
    height, width = (
        max(length, dilation * (taps - 1) + 1 - 2 * padding)
        for length, taps in zip((height, width), window, strict=True)
    )
    if number % 200 == 0:
        height, width, filters = 3 * height + 20, 2 * width + 17, filters + 60
    border = "zero" if rng.random() < 0.6 else "minus"
    activation = ACTIVATIONS[number % 3]
    x = rng.standard_normal((batch, height, width, channels), np.float32)
    if number % 4 == 0:
        odd = rng.random(x.shape) < 0.2
        x[odd] = rng.choice(ODD_VALUES, int(odd.sum()))
    weights = reference.pack(rng.standard_normal((filters, *window, channels), np.float32))
    scale = rng.standard_normal(filters, np.float32) * np.float32(0.1)
    shift = rng.standard_normal(filters, np.float32)
    if number % 5 == 0:
        scale[rng.random(filters) < 0.3] = 0                         # the sum does not matter
        shift[rng.random(filters) < 0.3] = 0

    norm = [values(rng, channels) for _ in range(2)] if number % 2 else [None, None]
    value = x if norm[0] is None else x * norm[0] + norm[1]
    magnitude = reference.magnitude(value)
    packed = reference.pack(x)
    sums = reference.convolve(packed, weights, channels, stride, padding, dilation, border)
    reals = reference.finish(sums, scale, shift, activation)
    bits = reference.pack(reals)
    factor, residual = values(rng, *sums.shape[:3]), values(rng, *sums.shape)
    factor[rng.random(factor.shape) < 0.05] = np.nan
    joined = reference.finish(sums, scale, shift, activation, factor, residual)
    k = reference.window_sums(magnitude, window, stride, padding, dilation, 0.3)
    # Limits among the sums that there are, both ways round.
    limit = rng.integers(sums.min() - 1, sums.max() + 2, filters).astype(np.int32)
    thresholds = Thresholds(-rng.integers(0, 2, filters).astype(np.int32), limit)
    reached = reference.pack(((sums ^ thresholds.flip) >= thresholds.limit).astype(np.float32))
    for path in paths:
        what = (path, number, x.shape, weights.shape, stride, padding, dilation, border, activation)
        assert np.array_equal(kernel.pack(x, path=path), packed), what
        layer = BinaryConvolution(
            weights, channels, stride=stride, padding=padding, dilation=dilation, border=border, scale=scale,
            shift=shift, activation=activation, path=path,
        )  # fmt: skip
        threads = 1 + number % 2
        assert np.array_equal(layer.counts(packed, threads=threads), sums), what
        assert np.array_equal(layer.reals(x, threads=3 - threads), reals), what
        assert np.array_equal(layer.bits(packed, threads=threads), bits), what
        found = layer.reals(packed, factor=factor, residual=residual, threads=threads)
        assert np.array_equal(found, joined, equal_nan=True), what
        limited = BinaryConvolution(
            weights, channels, stride=stride, padding=padding, dilation=dilation, border=border, thresholds=thresholds,
            path=path,
        )  # fmt: skip
        assert np.array_equal(limited.bits(packed, threads=threads), reached), what
        out = np.empty(x.shape[:3], np.float32)
        signs = kernel.pack(x, scale=norm[0], shift=norm[1], magnitude=out, threads=threads, path=path)
        assert np.array_equal(signs, reference.pack(value)), what
        assert np.array_equal(out, magnitude, equal_nan=True), what
        planes = np.empty_like(k)
        kernel.window_sums(magnitude, window, stride, padding, dilation, 0.3, planes, path=path)
        assert np.array_equal(planes, k, equal_nan=True), what


def values(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return rng.standard_normal(shape, np.float32)
