"""What every engine does, and which one runs where."""

from __future__ import annotations

import importlib.util
from typing import Literal, Protocol, runtime_checkable

import numpy as np

from lookonce.errors import EngineError
from lookonce.graph import Graph
from lookonce.shapes import Float32

EngineKind = Literal["auto", "openvino", "onnxruntime"]
Precision = Literal["auto", "f32", "bf16"]

# In order of preference: OpenVINO is 0 to 28 % ahead on x86-64 and knows bf16.
ENGINES: tuple[EngineKind, ...] = ("openvino", "onnxruntime")


@runtime_checkable
class Engine(Protocol):
    """A compiled graph. Calls from different threads do not disturb each other."""

    name: str
    version: str
    precision: Literal["f32", "bf16"]

    def __call__(self, pictures: Float32[np.ndarray, "B C H W"]) -> list[Float32[np.ndarray, ...]]:
        """The graph's outputs for a batch with values in [0, 1].

        The arrays may be the engine's own buffers: they hold until the same thread calls again.
        """
        ...


def available_engines() -> tuple[EngineKind, ...]:
    """The engines that are installed, the preferred one first."""
    return tuple(name for name in ENGINES if importlib.util.find_spec(name) is not None)


def open_engine(
    graph: Graph, engine: EngineKind = "auto", precision: Precision = "auto", threads: int | None = None
) -> Engine:
    """`graph` compiled by the named engine, or the best that is installed.

    `precision` is that of the arithmetic; `auto` is f32, since bf16 moves scores (median .007, 1 % of them by .08 or
    more). `threads` is how many cores one call may use, all if None. Raises EngineError.
    """
    installed = available_engines()
    if engine != "auto" and engine not in ENGINES:
        raise EngineError(f"engine {str(engine)[:40]!r} is not known; there are auto, {', '.join(ENGINES)}")
    if not installed:
        raise EngineError("no engine is installed; `pip install openvino` or `pip install onnxruntime` brings one")
    if engine != "auto" and engine not in installed:
        raise EngineError(f"engine {engine} is not installed: `pip install {engine}` brings it")
    if threads is not None and threads < 1:
        raise EngineError(f"threads={threads}: wanted at least 1")
    wanted: Literal["f32", "bf16"] = "f32" if precision == "auto" else precision
    chosen = installed[0] if engine == "auto" else engine
    if chosen == "openvino":
        from lookonce.engines.openvino import OpenVino

        return OpenVino(graph, wanted, threads)
    from lookonce.engines.onnxruntime import OnnxRuntime

    return OnnxRuntime(graph, wanted, threads)
