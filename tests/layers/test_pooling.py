"""[maxpool] with every padding it can have, and [avgpool], against loops over windows."""

from __future__ import annotations

import math

import numpy as np
import pytest
from conftest import model_of, network_of, run_layers

from lookonce.engines import EngineKind, available_engines
from lookonce.errors import CfgError


def net(section: str, shape: tuple[int, ...]) -> str:
    """A cfg of one layer for an input of (channels, height, width)."""
    channels, height, width = shape[-3:]
    return f"[net]\nchannels={channels}\nheight={height}\nwidth={width}\n" + section.replace(" ", "\n")


def run(section: str, x: np.ndarray, engine: EngineKind = "onnxruntime") -> np.ndarray:
    return run_layers(model_of(net(section, x.shape)), x, engine=engine)[0]


def below_zero(*shape: int) -> np.ndarray:
    """All values negative, so that a padding of zeros would win everywhere it can be seen."""
    return np.random.default_rng(0).uniform(-9, -1, shape).astype(np.float32)


def maxima(x: np.ndarray, size: int, stride: tuple[int, int], padding: int) -> np.ndarray:
    """Windows begin padding // 2 outside, `padding` being the sum of both sides; what lies outside never wins."""
    batch, channels, height, width = x.shape
    rows, columns = (height + padding - size) // stride[0] + 1, (width + padding - size) // stride[1] + 1
    out = np.zeros((batch, channels, rows, columns), np.float32)
    for place in np.ndindex(out.shape):
        one, channel, row, column = place
        best = -math.inf
        for y in range(row * stride[0] - padding // 2, row * stride[0] - padding // 2 + size):
            for i in range(column * stride[1] - padding // 2, column * stride[1] - padding // 2 + size):
                if 0 <= y < height and 0 <= i < width:
                    best = max(best, float(x[one, channel, y, i]))
        out[place] = best
    return out


EVERY = [(size, stride, padding) for size in range(1, 6) for stride in range(1, 4) for padding in range(2 * size - 1)]


@pytest.mark.parametrize(("size", "stride", "padding"), EVERY)
def test_the_largest_value_of_each_window_wins(size: int, stride: int, padding: int) -> None:
    x = below_zero(2, 2, 7, 5)
    found = run(f"[maxpool] size={size} stride={stride} padding={padding}", x)
    assert np.array_equal(found, maxima(x, size, (stride, stride), padding))


@pytest.mark.parametrize("engine", available_engines())
@pytest.mark.parametrize(
    ("options", "size", "stride", "padding"),
    [
        ("size=2 stride=2", 2, (2, 2), 1),
        ("stride=2", 2, (2, 2), 1),                  # the size is the stride's
        ("size=2 stride=1", 2, (1, 1), 1),
        ("size=3 stride=2", 3, (2, 2), 2),
        ("size=5", 5, (1, 1), 4),
        ("size=9", 9, (1, 1), 8),                    # windows larger than the picture, as in a pyramid
        ("size=13", 13, (1, 1), 12),
        ("", 1, (1, 1), 0),
        ("size=2 stride=2 stride_x=1", 2, (2, 1), 1),
        ("size=3 stride=1 stride_y=3", 3, (3, 1), 2),
    ],
)
def test_padding_is_one_less_than_the_size_unless_said(
    options: str, size: int, stride: tuple[int, int], padding: int, engine: EngineKind
) -> None:
    x = below_zero(2, 3, 7, 6)
    assert np.array_equal(run(f"[maxpool] {options}", x, engine), maxima(x, size, stride, padding))


def test_two_by_two_rounds_up_and_sees_only_to_the_right_and_below() -> None:
    x = np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]], np.float32)[None, None]
    assert run("[maxpool] size=2 stride=2", x)[0, 0].tolist() == [[5, 6], [8, 9]]
    assert run("[maxpool] size=2 stride=1", x)[0, 0].tolist() == [[5, 6, 6], [8, 9, 9], [8, 9, 9]]


@pytest.mark.parametrize("engine", available_engines())
def test_avgpool_is_the_mean_of_each_plane(engine: EngineKind) -> None:
    x = below_zero(3, 4, 5, 7)
    found = run("[avgpool]", x, engine)
    assert found.shape == (3, 4, 1, 1)
    for one in range(3):
        for channel in range(4):
            values = [float(value) for value in x[one, channel].flat]
            assert found[one, channel, 0, 0] == pytest.approx(sum(values) / 35, rel=1e-6)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("[maxpool] size=3 padding=5", "padding=5 .* windows of 3 .* at most 4"),
        ("[maxpool] size=3 padding=-1", "padding=-1 .* at least 0"),
        ("[maxpool] size=8 padding=0", r"window of 8 .* 5 x 6 x 4 with padding 0"),
        ("[maxpool] size=6 padding=0", r"window of 6 .* 5 x 6 x 4"),
        ("[maxpool] size=0", "size=0 .* 1 to "),
        ("[maxpool] stride=0", "stride=0 .* at least 1"),
        ("[maxpool] maxpool_depth=1", "maxpool_depth=1 is not supported"),
    ],
)
def test_what_cannot_be_pooled_is_refused_with_its_numbers(section: str, message: str) -> None:
    with pytest.raises(CfgError, match=message):
        network_of(net(section, (4, 6, 5)))


@pytest.mark.parametrize("section", ["[maxpool] size=2", "[avgpool]"])
def test_pooling_owns_nothing_and_is_not_counted(section: str) -> None:
    network = network_of(net(section, (4, 6, 5)))
    assert network.entries() == []
    assert network.operations == 0
