"""What single bits save, in bytes and in time: figure 4.4 of the thesis, with the numbers of this machine.

Memory is counted from cfgs; the thesis begins from 64 bits a weight, here it is 32. Speed is that of one convolution,
from floats to floats, one picture, one thread: the kernel of single bits beside the same convolution as an engine runs
it, and beside im2col and a matrix product. All take turns; what counts is processor time, which other programs that
want the same core do not add to.
"""

from __future__ import annotations

import ctypes
import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from lookonce.benchmark import in_turn
from lookonce.binary import BinaryConvolution, Choice, choose, pack
from lookonce.binary.kernel import REFERENCE
from lookonce.darknet.cfg import Cfg
from lookonce.engines import EngineKind, available_engines, available_precisions, open_engine
from lookonce.errors import EngineError
from lookonce.graph import build
from lookonce.layers.convolution import Connected, Convolution
from lookonce.model import Model, open_network
from lookonce.network import Network
from lookonce.report import bits

NETWORKS = ("alexnet", "vgg19", "resnet18")
CHANNELS = (16, 32, 64, 128, 256, 512, 1024)
WINDOWS = (1, 3, 5, 7, 9, 11)
USUAL = 256, 3                          # channels and window where the other varies, as in the thesis
FILTERS, SIDE = 256, 14
PEERS: tuple[EngineKind, ...] = ("openvino", "onnxruntime")
KERNEL = "kernel"
NUMPY = "im2col and NumPy's product"    # of the library that NumPy multiplies with, on as many cores as it likes
PLAIN = "im2col and gemm"               # of the library that is given


@dataclass(frozen=True)
class Memory:
    """Bytes of a network's weights as floats, and with single bits in all layers but the first and the last.

    `layers` is how many times smaller those layers become that have bits.
    """

    network: str
    floats: int
    bits: int
    layers: float


@dataclass(frozen=True)
class Speed:
    """One convolution of FILTERS filters on SIDE x SIDE: microseconds of processor time by who ran it, KERNEL first.

    Whoever else runs can still fill the caches that a call wants, and share its core: the fastest call shows the least
    of that.
    """

    channels: int
    window: int
    median: Mapping[str, float]
    fastest: Mapping[str, float]

    @property
    def times(self) -> Mapping[str, tuple[float, float]]:
        """How many times as much each other takes, by medians and by the fastest calls."""
        return {
            name: (taken / self.median[KERNEL], self.fastest[name] / self.fastest[KERNEL])
            for name, taken in self.median.items()
            if name != KERNEL
        }


@dataclass(frozen=True)
class Savings:
    """Figure 4.4: memory, speed against channels, and speed against the window's side."""

    kernel: Choice
    memory: tuple[Memory, ...]
    by_channels: tuple[Speed, ...]
    by_window: tuple[Speed, ...]

    @property
    def is_compiled(self) -> bool:
        """Whether it was the kernel that was measured; else it was its reference, which is no measure of it."""
        return self.kernel.path != REFERENCE

    @property
    def runner(self) -> str:
        return f"kernel ({self.kernel.path})" if self.is_compiled else "reference (NumPy)"

    def as_json(self) -> dict[str, Any]:
        def row(speed: Speed) -> dict[str, Any]:
            times = {name: {"median": median, "fastest": fastest} for name, (median, fastest) in speed.times.items()}
            return {**asdict(speed), "times": times}

        return {
            "path": self.kernel.path,
            "compiled": self.is_compiled,
            "memory": [asdict(each) for each in self.memory],
            "by channels": [row(each) for each in self.by_channels],
            "by window": [row(each) for each in self.by_window],
        }


def lines(savings: Savings) -> Iterator[str]:
    """The figure as text, a table a part."""
    yield f"{'memory of weights, MB':24}{'32 bits':>10}{'single bits':>14}{'times':>8}{'times where bits are':>23}"
    for network in savings.memory:
        times = network.floats / network.bits
        sizes = f"{network.floats / 1e6:10.1f}{network.bits / 1e6:14.2f}"
        yield f"{network.network:24}{sizes}{times:8.1f}{network.layers:23.1f}"
    yield ""
    yield f"one convolution of {FILTERS} filters on {SIDE} x {SIDE}, floats to floats, one thread:"
    yield "microseconds of the processor, and how many times as many others take: medians (the fastest calls)"
    for speeds, name in ((savings.by_channels, "{0.channels} channels"), (savings.by_window, "window {0.window}")):
        yield from _table(speeds, [name.format(each) for each in speeds], savings.runner)


def _table(speeds: Sequence[Speed], names: Sequence[str], runner: str) -> Iterator[str]:
    columns = [runner, *speeds[0].times]
    yield ""
    yield " " * 15 + "".join(f"  {column:>17}" for column in columns)
    for name, speed in zip(names, speeds, strict=True):
        pairs = [(speed.median[KERNEL], speed.fastest[KERNEL]), *speed.times.values()]
        cells = (f"{median:.1f} ({fastest:.1f})" for median, fastest in pairs)
        columned = zip(cells, columns, strict=True)
        yield f"{name:15}" + "".join(f"  {cell:>{max(17, len(column))}}" for cell, column in columned)


def measure(seconds: float = 0.3, baseline: Path | None = None) -> Savings:
    """The whole figure. Each convolution is run for so many `seconds` by everyone in turn.

    `baseline` is the library that `native/CMakeLists.txt` builds with LOOKONCE_BENCH=ON: im2col and gemm in plain
    loops, compiled as Darknet's; without it NumPy's product stands there. Raises EngineError if it cannot be loaded.
    """
    plain = None if baseline is None else _library(baseline)
    usual_channels, usual_window = USUAL
    return Savings(
        kernel=choose(),
        memory=tuple(memory(name) for name in NETWORKS),
        by_channels=tuple(speed(channels, usual_window, seconds, plain) for channels in CHANNELS),
        by_window=tuple(speed(usual_channels, window, seconds, plain) for window in WINDOWS),
    )


def draw(savings: Savings, path: Path) -> None:
    """The figure as a PNG, or as an HTML page with its table. Raises as report.bits.draw does."""
    sizes = [(each.network, each.floats, each.bits) for each in savings.memory]
    others = tuple(savings.by_channels[0].times)
    channels = {name: [(each.channels, each.times[name][0]) for each in savings.by_channels] for name in others}
    windows = {name: [(each.window, each.times[name][0]) for each in savings.by_window] for name in others}
    bits.draw(path, sizes, channels, windows, savings.runner, "\n".join(lines(savings)))


# ---------------------------------------------------------------------- memory
def memory(name: str) -> Memory:
    """What a network of the zoo takes."""
    network = open_network(name)
    real, packed = packed_bytes(network)
    whole = sum(4 * entry.size for entry in network.entries())
    return Memory(name, whole, whole - real + packed, real / packed)


def packed_bytes(network: Network) -> tuple[int, int]:
    """Bytes of the weights of all layers but the first and the last that have any, as floats and packed.

    Packed as model.packed has it: each filter begins a byte, and keeps the mean magnitude of its weights.
    """
    inner = [node.index for node in network.nodes if isinstance(node.layer, Convolution | Connected)][1:-1]
    shapes = [entry.shape for entry in network.entries() if entry.layer in inner and entry.name == "weights"]
    counts = [(filters, math.prod(rest)) for filters, *rest in shapes]
    floats = sum(4 * filters * count for filters, count in counts)
    return floats, sum(filters * (-(-count // 8) + 4) for filters, count in counts)


# ---------------------------------------------------------------------- speed
def speed(channels: int, window: int, seconds: float, plain: ctypes.CDLL | None = None) -> Speed:
    """One convolution by everyone."""
    rng = np.random.default_rng(0)
    others = _engines(channels, window)
    others |= {NUMPY: _numpy(channels, window, rng)} if plain is None else {PLAIN: _plain(channels, window, rng, plain)}
    calls = {KERNEL: _kernel(channels, window, rng), **others}
    taken = dict(zip(calls, in_turn(list(calls.values()), seconds, time.process_time), strict=True))  # ms
    return Speed(
        channels,
        window,
        {name: 1e3 * statistics.median(each) for name, each in taken.items()},
        {name: 1e3 * min(each) for name, each in taken.items()},
    )


def _kernel(channels: int, window: int, rng: np.random.Generator) -> Callable[[], Any]:
    layer = BinaryConvolution(
        pack(rng.standard_normal((FILTERS, window, window, channels), np.float32)),
        channels,
        padding=window // 2,
        scale=rng.standard_normal(FILTERS, np.float32),
        shift=rng.standard_normal(FILTERS, np.float32),
        activation="leaky",
    )
    x = rng.standard_normal((1, SIDE, SIDE, channels), np.float32)
    out = layer.reals(x)
    return lambda: layer.reals(x, out)


def _engines(channels: int, window: int) -> dict[str, Callable[[], Any]]:
    """The convolution, with the bias and leaky ReLU that the kernel's has too, by every engine and precision here."""
    text = (
        f"[net]\nwidth={SIDE}\nheight={SIDE}\nchannels={channels}\n"
        f"[convolutional]\nfilters={FILTERS}\nsize={window}\npad=1\nactivation=leaky\n"
    )
    model = Model.random(Network.build(Cfg.parse(text, "convolution.cfg")))
    graph, x = build(model), np.random.default_rng(0).standard_normal((1, channels, SIDE, SIDE), np.float32)
    here = [name for name in PEERS if name in available_engines()]
    opened = [open_engine(graph, name, each, 1) for name in here for each in available_precisions(name)]
    return {f"{engine.name} {engine.precision}": partial(engine, x) for engine in opened}


def _numpy(channels: int, window: int, rng: np.random.Generator) -> Callable[[], Any]:
    x = rng.standard_normal((channels, SIDE, SIDE), np.float32)
    weights = rng.standard_normal((FILTERS, channels, window, window), np.float32)
    return partial(im2col_product, x, weights, np.empty((channels, window, window, SIDE, SIDE), np.float32))


def im2col_product(x: np.ndarray, weights: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """A convolution (O, H, W) of x (C, H, W) with weights (O, C, k, k), k odd: im2col into `columns`, and a product."""
    channels, height, width = x.shape
    filters, window = len(weights), weights.shape[2]
    pad = window // 2
    around = np.pad(x, ((0, 0), (pad, pad), (pad, pad)))
    for row in range(window):
        for column in range(window):
            columns[:, row, column] = around[:, row : row + height, column : column + width]
    product: np.ndarray = weights.reshape(filters, -1) @ columns.reshape(channels * window**2, -1)
    return product.reshape(filters, height, width)


def _plain(channels: int, window: int, rng: np.random.Generator, library: ctypes.CDLL) -> Callable[[], Any]:
    patch = channels * window**2
    shapes = (channels, SIDE**2), (FILTERS, patch), (patch, SIDE**2), (FILTERS, SIDE**2)
    x, weights, columns, out = arrays = [rng.standard_normal(shape, np.float32) for shape in shapes]
    pointers = [ctypes.c_void_p(array.ctypes.data) for array in (x, weights, columns, out)]
    numbers = (channels, SIDE, SIDE, FILTERS, window, 1, window // 2)

    def convolve() -> Any:
        assert len(arrays) == len(shapes)                       # they live as long as this function does
        return library.im2col_gemm(*pointers[:2], *numbers, *pointers[2:])

    return convolve


def _library(path: Path) -> ctypes.CDLL:
    """The baseline, loaded. Raises EngineError."""
    wanted = "wanted the library that `cmake -DLOOKONCE_BENCH=ON` builds (native/CMakeLists.txt)"
    try:
        library = ctypes.CDLL(str(path.resolve()))
        library.im2col_gemm.restype = None
    except (OSError, AttributeError) as problem:
        raise EngineError(f"{path}: cannot be loaded as im2col and gemm: {problem}; {wanted}") from None
    return library
