"""Random small binary convolutions, and the comparison of the compiled kernel with the reference on them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lookonce.binary import BinaryConvolution, kernel, reference

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

    packed = reference.pack(x)
    sums = reference.convolve(packed, weights, channels, stride, padding, dilation, border)
    reals = reference.finish(sums, scale, shift, activation)
    bits = reference.pack(reals)
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
