"""[reorg], [reorg3d] and [upsample], against Darknet's index maps."""

from __future__ import annotations

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


def numbered(*shape: int) -> np.ndarray:
    """Every value another one, so that each shows where it came from."""
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def index_map(channels: int, height: int, width: int, stride: int) -> list[tuple[int, int]]:
    """Pairs of places in two flat buffers: one read as (C, H, W), the other as (C / s², H s, W s)."""
    pairs = []
    few = channels // stride**2
    for k in range(channels):
        for j in range(height):
            for i in range(width):
                row = j * stride + k // few // stride
                column = i * stride + k // few % stride
                there = column + width * stride * (row + height * stride * (k % few))
                pairs.append((i + width * (j + height * k), there))
    return pairs


FOLDS = [(4, 2, 2, 2), (8, 4, 6, 2), (12, 6, 2, 2), (9, 3, 6, 3), (18, 9, 3, 3), (3, 4, 5, 1)]


@pytest.mark.parametrize("engine", available_engines())
@pytest.mark.parametrize(("channels", "height", "width", "stride"), FOLDS)
def test_reorg_follows_darknets_index_map(
    channels: int, height: int, width: int, stride: int, engine: EngineKind
) -> None:
    x = numbered(2, channels, height, width)
    found = run(f"[reorg] stride={stride}", x, engine)
    wanted = np.zeros((2, x[0].size), np.float32)
    for one in range(2):
        for here, there in index_map(channels, height, width, stride):
            wanted[one, here] = x[one].reshape(-1)[there]
    shape = (2, channels * stride**2, height // stride, width // stride)
    assert np.array_equal(found, wanted.reshape(shape))


@pytest.mark.parametrize("engine", available_engines())
@pytest.mark.parametrize(("channels", "height", "width", "stride"), [*FOLDS, (4, 3, 5, 2)])
def test_reverse_reorg_walks_the_index_map_backwards(
    channels: int, height: int, width: int, stride: int, engine: EngineKind
) -> None:
    x = numbered(2, channels, height, width)
    found = run(f"[reorg] reverse=1 stride={stride}", x, engine)
    wanted = np.zeros((2, x[0].size), np.float32)
    for one in range(2):
        for here, there in index_map(channels, height, width, stride):
            wanted[one, there] = x[one].reshape(-1)[here]
    shape = (2, channels // stride**2, height * stride, width * stride)
    assert np.array_equal(found, wanted.reshape(shape))


def test_reorg_is_not_space_to_depth() -> None:
    """The published YOLOv2 weights need Darknet's odd order; a plain fold of each patch would give another."""
    x = numbered(1, 4, 4, 4)
    plain = np.stack([x[0, c, dy::2, dx::2] for dy in range(2) for dx in range(2) for c in range(4)])
    assert not np.array_equal(run("[reorg] stride=2", x)[0], plain)


@pytest.mark.parametrize("engine", available_engines())
def test_flatten_puts_the_channels_of_each_pixel_together(engine: EngineKind) -> None:
    x = numbered(2, 3, 2, 4)
    found = run("[reorg] flatten=1", x, engine)
    assert found.shape == x.shape
    for one in range(2):
        wanted = [x[one, c, y, i] for y in range(2) for i in range(4) for c in range(3)]
        assert found[one].reshape(-1).tolist() == wanted


def test_reverse_flatten_takes_the_channels_of_each_pixel_apart() -> None:
    """reorg_layer.c hands `reverse` to flatten(): the buffer is read as pixels of channels."""
    x = numbered(2, 3, 2, 4)
    found = run("[reorg] flatten=1 reverse=1", x)
    for one in range(2):
        flat = x[one].reshape(-1)
        wanted = [flat[3 * pixel + c] for c in range(3) for pixel in range(8)]
        assert found[one].reshape(-1).tolist() == wanted


@pytest.mark.parametrize("engine", available_engines())
def test_extra_appends_zeros_to_the_flat_picture(engine: EngineKind) -> None:
    x = numbered(2, 1, 3, 5) + 1
    found = run("[reorg] extra=2", x, engine)
    assert found.shape == (2, 17, 1, 1)
    assert np.array_equal(found[:, :15, 0, 0], x.reshape(2, 15))
    assert not found[:, 15:].any()


@pytest.mark.parametrize("engine", available_engines())
@pytest.mark.parametrize(("channels", "height", "width", "stride"), [(1, 2, 4, 2), (3, 4, 6, 2), (2, 6, 3, 3)])
def test_reorg3d_is_space_to_depth(channels: int, height: int, width: int, stride: int, engine: EngineKind) -> None:
    x = numbered(2, channels, height, width)
    found = run(f"[reorg3d] stride={stride}", x, engine)
    assert found.shape == (2, channels * stride**2, height // stride, width // stride)
    for one, c, y, i in np.ndindex(x.shape):
        channel = (y % stride * stride + i % stride) * channels + c
        assert found[one, channel, y // stride, i // stride] == x[one, c, y, i]


@pytest.mark.parametrize("engine", available_engines())
@pytest.mark.parametrize(("options", "stride", "scale"), [
    ("", 2, 1.0), ("stride=1", 1, 1.0), ("stride=3", 3, 1.0), ("stride=4 scale=.5", 4, 0.5), ("scale=-2", 2, -2.0),
])  # fmt: skip
def test_upsample_repeats_every_pixel(options: str, stride: int, scale: float, engine: EngineKind) -> None:
    x = numbered(2, 3, 3, 5)
    found = run(f"[upsample] {options}", x, engine)
    assert found.shape == (2, 3, 3 * stride, 5 * stride)
    for one, c, y, i in np.ndindex(found.shape):
        assert found[one, c, y, i] == scale * x[one, c, y // stride, i // stride]


@pytest.mark.parametrize("engine", available_engines())
@pytest.mark.parametrize(("options", "stride", "scale"), [("stride=-2", 2, 1.0), ("stride=-3 scale=.5", 3, 0.5)])
def test_upsample_by_a_negative_stride_sums_blocks(options: str, stride: int, scale: float, engine: EngineKind) -> None:
    x = numbered(2, 3, 2 * stride, 3 * stride)
    wanted = np.zeros((2, 3, 2, 3), np.float32)
    for one, c, y, i in np.ndindex(x.shape):
        wanted[one, c, y // stride, i // stride] += scale * x[one, c, y, i]
    assert np.array_equal(run(f"[upsample] {options}", x, engine), wanted)


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("[reorg] stride=2", r"channels in multiples of 4; its input has 6"),
        ("[reorg] stride=2 reverse=1", r"channels in multiples of 4; its input has 6"),
        ("[reorg] stride=0", "stride=0 .* 1 to "),
        ("[reorg3d] stride=2", r"folds by 2, which must divide the 6 x 9"),
        ("[reorg3d] stride=3 reverse=1", "reverse=1 is not supported"),
        ("[upsample] stride=0", "stride=0 must not be 0"),
        ("[upsample] stride=-2", r"shrinks by 2, which must divide the 6 x 9"),
    ],
)
def test_what_cannot_be_moved_is_refused_with_its_numbers(section: str, message: str) -> None:
    with pytest.raises(CfgError, match=message):
        network_of(net(section, (6, 9, 6)))


def test_reorg_refuses_a_plane_that_it_cannot_fold() -> None:
    with pytest.raises(CfgError, match="folds by 2, which must divide the 7 x 6 of its input"):
        network_of(net("[reorg] stride=2", (4, 6, 7)))


@pytest.mark.parametrize("section", ["[reorg] stride=2", "[reorg3d] stride=2", "[upsample]"])
def test_moving_values_owns_nothing_and_is_not_counted(section: str) -> None:
    network = network_of(net(section, (4, 6, 8)))
    assert network.entries() == []
    assert network.operations == 0
