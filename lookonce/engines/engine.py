"""What every engine does, and which one runs where."""

from __future__ import annotations

import importlib.util
from typing import Literal, Protocol, get_args, runtime_checkable

import numpy as np

from lookonce.engines.options import check_word, is_count
from lookonce.errors import EngineError, shown
from lookonce.graph import Graph
from lookonce.shapes import Float32

EngineKind = Literal["auto", "openvino", "onnxruntime"]
Arithmetic = Literal["f32", "bf16"]
Precision = Literal["auto", Arithmetic]

# In order of preference: OpenVINO is 0 to 28 % ahead on x86-64 and knows bf16.
ENGINES: tuple[EngineKind, ...] = ("openvino", "onnxruntime")

MOST_THREADS = 1024              # ONNX Runtime starts as many as it is told, and hangs over 100,000


@runtime_checkable
class Engine(Protocol):
    """A compiled graph. Calls from different threads do not disturb each other."""

    name: str
    version: str
    precision: Arithmetic

    def __call__(self, pictures: Float32[np.ndarray, "B C H W"]) -> list[Float32[np.ndarray, ...]]:
        """The graph's outputs for a batch with values in [0, 1].

        The arrays may be the engine's own buffers: they hold until the same thread calls again.
        """
        ...


def available_engines() -> tuple[EngineKind, ...]:
    """The engines that are installed, the preferred one first."""
    return tuple(name for name in ENGINES if importlib.util.find_spec(name) is not None)


def available_precisions(engine: EngineKind) -> tuple[Arithmetic, ...]:
    """What an engine can compute in on this processor, the exact one first. Raises EngineError if it is missing."""
    if _installed(engine) == "openvino":
        from lookonce.engines.openvino import has_bf16

        return ("f32", "bf16") if has_bf16() else ("f32",)
    return ("f32",)


def open_engine(
    graph: Graph, engine: EngineKind = "auto", precision: Precision = "auto", threads: int | None = None
) -> Engine:
    """`graph` compiled by the named engine, or the best that is installed.

    `precision` is that of the arithmetic; `auto` is f32, since bf16 moves scores (README, Figures). `threads` is how
    many cores one call may use, all if None. Raises EngineError.
    """
    check_word("precision", precision, get_args(Precision))
    if threads is not None and not (is_count(threads) and threads <= MOST_THREADS):
        found = shown(repr(threads))
        raise EngineError(f"threads={found}: wanted a whole number from 1 to {MOST_THREADS}, or None for all cores")
    chosen = _installed(engine)
    wanted: Arithmetic = "f32" if precision == "auto" else precision
    threads = None if threads is None else int(threads)
    if chosen == "openvino":
        from lookonce.engines.openvino import OpenVino

        return OpenVino(graph, wanted, threads)
    from lookonce.engines.onnxruntime import OnnxRuntime

    return OnnxRuntime(graph, wanted, threads)


def _installed(engine: EngineKind) -> EngineKind:
    """The engine that is meant, if it is installed."""
    check_word("engine", engine, get_args(EngineKind))
    installed = available_engines()
    if not installed:
        raise EngineError("no engine is installed; `pip install openvino` or `pip install onnxruntime` brings one")
    if engine not in ("auto", *installed):
        raise EngineError(f"engine {engine} is not installed: `pip install {engine}` brings it")
    return installed[0] if engine == "auto" else engine
