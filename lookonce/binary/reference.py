"""What the compiled kernel computes, in NumPy: the same integers, floats and bits, slowly.

Bits are uint64 words, 64 channels a word: channel i is bit i % 64 of word i // 64, 1 for a value above 0. NaN is not
above 0, so its sign is -1. Bits beyond the last channel are 0. Pictures are (B, H, W, words), filters are
(O, kh, kw, words).
"""

from __future__ import annotations

from typing import Literal

import numpy as np

from lookonce.shapes import Float32, Real

WORD = 64
LEAK = np.float32(0.1)

Border = Literal["zero", "minus"]
Activation = Literal["linear", "leaky", "relu"]
Pair = tuple[int, int]


def words_for(channels: int) -> int:
    """How many words hold so many channels."""
    return -(-channels // WORD)


def pack(x: Float32[np.ndarray, "*shape C"]) -> Real[np.ndarray, "*shape words"]:
    """The signs of values along the last axis, as words."""
    *shape, channels = x.shape
    above = np.zeros((*shape, words_for(channels) * WORD), bool)
    above[..., :channels] = x > 0
    return np.packbits(above, axis=-1, bitorder="little").view("<u8")


def unpack(bits: Real[np.ndarray, "*shape words"], channels: int) -> Float32[np.ndarray, "*shape C"]:
    """The signs that words stand for, -1 or 1."""
    each = np.unpackbits(np.ascontiguousarray(bits, "<u8").view(np.uint8), axis=-1, bitorder="little")
    return each[..., :channels].astype(np.float32) * 2 - 1


def convolve(
    x: Real[np.ndarray, "B H W words"],
    weights: Real[np.ndarray, "O kh kw words"],
    channels: int,
    stride: Pair = (1, 1),
    padding: int = 0,
    dilation: int = 1,
    border: Border = "zero",
) -> Real[np.ndarray, "B H2 W2 O"]:
    """The sums of products of signs. Beyond the edge stands 0, or -1 with `border` minus.

    Floats hold these sums exactly: they are smaller than 2**24.
    """
    signs, kernel = unpack(x, channels), unpack(weights, channels)
    edge = 0 if border == "zero" else -1
    around = (0, 0), (padding, padding), (padding, padding), (0, 0)
    signs = np.pad(signs, around, constant_values=edge)                       # (B, H+2p, W+2p, C)
    batch, height, width, _ = signs.shape
    filters, kernel_height, kernel_width, _ = kernel.shape
    rows = (height - dilation * (kernel_height - 1) - 1) // stride[0] + 1
    columns = (width - dilation * (kernel_width - 1) - 1) // stride[1] + 1
    total = np.zeros((batch, rows, columns, filters), np.float32)
    for r in range(kernel_height):
        for c in range(kernel_width):
            top, left = r * dilation, c * dilation
            seen = signs[:, top : top + stride[0] * rows : stride[0], left : left + stride[1] * columns : stride[1]]
            total += seen @ kernel[:, r, c].T                                 # (B, H', W', O)
    return total.astype(np.int32)


def finish(
    sums: Real[np.ndarray, "*shape O"],
    scale: Float32[np.ndarray, " O"],
    shift: Float32[np.ndarray, " O"],
    activation: Activation,
    factor: Float32[np.ndarray, "*shape"] | None = None,
    residual: Float32[np.ndarray, "*shape O"] | None = None,
) -> Float32[np.ndarray, "*shape O"]:
    """activation(scale times sum, times factor, plus shift) plus residual, each step rounded to a float."""
    value: np.ndarray = sums.astype(np.float32) * scale
    if factor is not None:
        value = value * factor[..., None]
    value = value + shift
    if activation == "leaky":
        value = np.maximum(value, value * LEAK)
    elif activation == "relu":
        value = np.maximum(value, np.float32(0))
    return value if residual is None else value + residual


def magnitude(x: Float32[np.ndarray, "*shape C"]) -> Float32[np.ndarray, "*shape"]:
    """The sum of |x| along the last axis.

    Summed as the kernel does: in 16 parts, part i the channels i, i + 16, ..., then the parts by halves.
    """
    *shape, channels = x.shape
    parts = np.zeros((*shape, 16), np.float32)
    for first in range(0, channels, 16):
        some = np.abs(x[..., first : first + 16])
        parts[..., : some.shape[-1]] += some
    for half in (8, 4, 2, 1):
        parts = parts[..., :half] + parts[..., half : 2 * half]
    return parts[..., 0]


def window_sums(
    x: Float32[np.ndarray, "B H W"], window: Pair, stride: Pair, padding: int, dilation: int, factor: float
) -> Float32[np.ndarray, "B H2 W2"]:
    """The sum of each window, row by row, times factor. Beyond the edge stands 0."""
    x = np.pad(x, ((0, 0), (padding, padding), (padding, padding)))
    rows, columns = (
        (length - dilation * (taps - 1) - 1) // step + 1
        for length, taps, step in zip(x.shape[1:], window, stride, strict=True)
    )
    total = np.zeros((len(x), rows, columns), np.float32)
    for r in range(window[0]):
        for c in range(window[1]):
            top, left = r * dilation, c * dilation
            total += x[:, top : top + stride[0] * rows : stride[0], left : left + stride[1] * columns : stride[1]]
    total *= np.float32(factor)
    return total


def max_pool(
    x: Real[np.ndarray, "B H W words"], size: int, stride: Pair, padding: int
) -> Real[np.ndarray, "B H2 W2 words"]:
    """The largest of each window: 1 where any bit is. `padding` is the sum of both sides, the smaller half first."""
    before = padding // 2
    around = (0, 0), (before, padding - before), (before, padding - before), (0, 0)
    x = np.pad(x, around)
    rows, columns = ((length - size) // step + 1 for length, step in zip(x.shape[1:3], stride, strict=True))
    out = np.zeros((len(x), rows, columns, x.shape[3]), np.uint64)
    for r in range(size):
        for c in range(size):
            out |= x[:, r : r + stride[0] * rows : stride[0], c : c + stride[1] * columns : stride[1]]
    return out
