from __future__ import annotations

import numpy as np
import pytest

from lookonce.binary import reference


def sign(value: float) -> int:
    return 1 if value > 0 else -1


def loops(x: np.ndarray, w: np.ndarray, stride: tuple[int, int], padding: int, dilation: int, edge: int) -> np.ndarray:
    """The convolution of signs as a child would do it. x (H, W, C), w (O, kh, kw, C)."""
    height, width, channels = x.shape
    filters, kernel_height, kernel_width, _ = w.shape
    rows = (height + 2 * padding - dilation * (kernel_height - 1) - 1) // stride[0] + 1
    columns = (width + 2 * padding - dilation * (kernel_width - 1) - 1) // stride[1] + 1
    out = np.zeros((rows, columns, filters), int)
    for y in range(rows):
        for z in range(columns):
            for o in range(filters):
                for r in range(kernel_height):
                    for c in range(kernel_width):
                        row, column = y * stride[0] - padding + r * dilation, z * stride[1] - padding + c * dilation
                        for i in range(channels):
                            inside = 0 <= row < height and 0 <= column < width
                            seen = sign(x[row, column, i]) if inside else edge
                            out[y, z, o] += seen * sign(w[o, r, c, i])
    return out


@pytest.mark.parametrize(
    ("shape", "window", "stride", "padding", "dilation"),
    [
        ((3, 4, 5), (3, 3), (1, 1), 1, 1),
        ((4, 3, 65), (3, 2), (2, 1), 0, 1),                      # one channel more than a word
        ((1, 1, 64), (1, 1), (1, 1), 0, 1),
        ((1, 1, 3), (3, 3), (1, 1), 1, 1),                       # eight of nine taps lie outside
        ((5, 5, 2), (3, 3), (1, 2), 2, 2),
        ((2, 2, 1), (2, 2), (3, 3), 3, 1),                       # windows that see nothing of the picture
    ],
)
def test_sums_are_those_of_six_loops(
    shape: tuple[int, int, int], window: tuple[int, int], stride: tuple[int, int], padding: int, dilation: int
) -> None:
    rng = np.random.default_rng(sum(shape))
    x = rng.standard_normal(shape).astype(np.float32)
    w = rng.standard_normal((3, *window, shape[2])).astype(np.float32)
    for border, edge in (("zero", 0), ("minus", -1)):
        found = reference.convolve(
            reference.pack(x[None]), reference.pack(w), shape[2], stride, padding, dilation, border  # type: ignore[arg-type]
        )
        assert found.dtype == np.int32
        np.testing.assert_array_equal(found[0], loops(x, w, stride, padding, dilation, edge))


def test_channel_i_is_bit_i() -> None:
    x = np.full((1, 1, 1, 70), -1, np.float32)
    x[..., [0, 3, 63, 64, 69]] = 1
    words = reference.pack(x)[0, 0, 0]
    assert [int(word) for word in words] == [1 + 8 + 2**63, 1 + 2**5]


def test_nothing_and_what_is_no_number_count_as_negative() -> None:
    x = np.array([np.nan, 0.0, -0.0, -1.0, -np.inf, np.inf, 1e-45, 2.0], np.float32)
    assert int(reference.pack(x)[0]) == 0b11100000


@pytest.mark.parametrize("channels", [1, 63, 64, 65, 130])
def test_unpacking_gives_the_signs_back(channels: int) -> None:
    x = np.random.default_rng(channels).standard_normal((2, 3, channels)).astype(np.float32)
    np.testing.assert_array_equal(reference.unpack(reference.pack(x), channels), np.where(x > 0, 1, -1))


def test_the_largest_of_a_window_is_one_where_any_bit_is() -> None:
    """Against the largest value of each window, a loop over all; what lies outside never wins."""
    x = np.random.default_rng(0).standard_normal((5, 4, 3)).astype(np.float32) - 1
    for size, stride, padding in ((2, (2, 2), 1), (3, (1, 2), 2), (2, (1, 1), 0), (1, (1, 1), 0), (3, (2, 2), 4)):
        before = padding // 2
        rows, columns = (5 + padding - size) // stride[0] + 1, (4 + padding - size) // stride[1] + 1
        want = np.full((rows, columns, 3), -np.inf)
        for y in range(rows):
            for z in range(columns):
                for r in range(5):
                    for c in range(4):
                        top, left = y * stride[0] - before, z * stride[1] - before
                        if top <= r < top + size and left <= c < left + size:
                            want[y, z] = np.maximum(want[y, z], x[r, c])
        found = reference.max_pool(reference.pack(x[None]), size, stride, padding)
        np.testing.assert_array_equal(reference.unpack(found, 3)[0], np.where(want > 0, 1, -1))


def test_windows_of_a_plane_are_summed() -> None:
    rng = np.random.default_rng(0)
    x = rng.integers(0, 9, (2, 5, 6)).astype(np.float32)
    found = reference.window_sums(x, (3, 2), (2, 1), 1, 2, 0.5)                       # (2, 2, 6)
    for b, row, column in np.ndindex(found.shape):
        total = 0.0
        for r in range(3):
            for c in range(2):
                y, at = 2 * row + 2 * r - 1, column + 2 * c - 1
                total += x[b, y, at] if 0 <= y < 5 and 0 <= at < 6 else 0
        assert found[b, row, column] == total / 2


def test_magnitudes_are_summed_over_the_channels() -> None:
    x = np.random.default_rng(0).integers(-9, 9, (2, 3, 4, 37)).astype(np.float32)
    np.testing.assert_array_equal(reference.magnitude(x), np.abs(x).sum(axis=-1))


def test_results_are_scaled_shifted_and_activated() -> None:
    sums = np.array([[10, -10]], np.int32)
    scale, shift = np.array([0.5, 2], np.float32), np.array([1, -1], np.float32)
    np.testing.assert_array_equal(reference.finish(sums, scale, shift, "linear"), [[6, -21]])
    np.testing.assert_array_equal(reference.finish(sums, scale, shift, "relu"), [[6, 0]])
    leaked = np.float32(-21) * np.float32(0.1)
    np.testing.assert_array_equal(reference.finish(sums, scale, shift, "leaky"), [[6, leaked]])
