"""What every engine does, and which one runs where."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Literal, Protocol, get_args, runtime_checkable

import numpy as np

from lookonce.engines.options import check_word, is_count
from lookonce.errors import EngineError, shown
from lookonce.graph import Graph, build
from lookonce.model import Model
from lookonce.shapes import Float32

EngineKind = Literal["auto", "openvino", "onnxruntime", "binary"]
Arithmetic = Literal["f32", "bf16"]
Precision = Literal["auto", Arithmetic]

# Those that run any network, in order of preference: OpenVINO is 0 to 28 % ahead on x86-64 and knows bf16.
ENGINES: tuple[EngineKind, ...] = ("openvino", "onnxruntime")

MOST_THREADS = 1024              # ONNX Runtime starts as many as it is told, and hangs over 100,000


@runtime_checkable
class Engine(Protocol):
    """A network made ready to run. Calls from different threads do not disturb each other."""

    name: str
    version: str
    precision: Arithmetic

    def __call__(self, pictures: Float32[np.ndarray, "B C H W"]) -> list[Float32[np.ndarray, ...]]:
        """The outputs, as of graph.build, for a batch with values in [0, 1].

        The arrays may be the engine's own buffers: they hold until the same thread calls again.
        """
        ...


class GraphEngine(Engine, Protocol):
    """A compiled graph, whose inputs need not be pictures."""

    def run(self, inputs: Mapping[str, Float32[np.ndarray, B *shape]]) -> list[Float32[np.ndarray, ...]]:
        """The graph's outputs for its inputs by name; the arrays hold as those of a call do."""
        ...


def available_engines(model: Model | None = None) -> tuple[EngineKind, ...]:
    """The engines of floats that are installed, the preferred one first; then `binary` if it runs `model` well."""
    floats = tuple(name for name in ENGINES if importlib.util.find_spec(name) is not None)
    return (*floats, "binary") if model is not None and _is_for_bits(model) else floats


def available_precisions(engine: EngineKind) -> tuple[Arithmetic, ...]:
    """What an engine can compute in on this processor, the exact one first. Raises EngineError if it is missing."""
    if engine != "binary" and _installed(engine) == "openvino":
        from lookonce.engines.openvino import has_bf16

        return ("f32", "bf16") if has_bf16() else ("f32",)
    return ("f32",)


def engine_of(
    model: Model,
    engine: EngineKind = "auto",
    precision: Precision = "auto",
    threads: int | None = None,
    *,
    compat: bool = False,
) -> Engine:
    """`model` on the named engine, or the best that is installed and runs any network.

    `precision` is that of the arithmetic; `auto` is f32, since bf16 moves scores (README, Figures). `threads` is how
    many cores one call may use, all if None. With `compat` the arithmetic is that of Darknet. Raises EngineError.
    """
    if engine != "binary":
        return open_engine(build(model, compat=compat), engine, precision, threads)
    from lookonce.engines.binary import Binary

    return Binary(model, *_checked(precision, threads), compat=compat)


def open_engine(
    graph: Graph, engine: EngineKind = "auto", precision: Precision = "auto", threads: int | None = None
) -> GraphEngine:
    """`graph` compiled by the named engine of floats, or the best that is installed; the rest is as in engine_of."""
    wanted, threads = _checked(precision, threads)
    if engine == "binary":
        raise EngineError("engine binary runs a model, not its graph of floats; wanted openvino, onnxruntime or auto")
    if _installed(engine) == "openvino":
        from lookonce.engines.openvino import OpenVino

        return OpenVino(graph, wanted, threads)
    from lookonce.engines.onnxruntime import OnnxRuntime

    return OnnxRuntime(graph, wanted, threads)


def _checked(precision: Precision, threads: int | None) -> tuple[Arithmetic, int | None]:
    """Both options as an engine takes them. Raises EngineError."""
    check_word("precision", precision, get_args(Precision))
    if threads is not None and not (is_count(threads) and threads <= MOST_THREADS):
        found = shown(repr(threads))
        raise EngineError(f"threads={found}: wanted a whole number from 1 to {MOST_THREADS}, or None for all cores")
    return "f32" if precision == "auto" else precision, None if threads is None else int(threads)


def _is_for_bits(model: Model) -> bool:
    """Whether a model has layers of single bits and the kernel for them was built."""
    from lookonce.binary import has_single_bits, kernel

    return kernel.compiled().module is not None and has_single_bits(model.network)


def _installed(engine: EngineKind) -> EngineKind:
    """The engine that is meant, if it is installed."""
    check_word("engine", engine, get_args(EngineKind))
    installed = available_engines()
    if not installed:
        raise EngineError("no engine is installed; `pip install openvino` or `pip install onnxruntime` brings one")
    if engine not in ("auto", *installed):
        raise EngineError(f"engine {engine} is not installed: `pip install {engine}` brings it")
    return installed[0] if engine == "auto" else engine
