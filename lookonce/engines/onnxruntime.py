"""ONNX Runtime: the engine where OpenVINO has no wheel."""

from __future__ import annotations

import os
from collections.abc import Mapping

import numpy as np

from lookonce.engines.engine import Arithmetic
from lookonce.errors import EngineError
from lookonce.graph import Graph
from lookonce.graph.build import INPUT
from lookonce.shapes import Float32


class OnnxRuntime:
    """One graph on ONNX Runtime's CPU provider. A session may be run by many threads at once."""

    name = "onnxruntime"

    def __init__(self, graph: Graph, precision: Arithmetic, threads: int | None) -> None:
        # Its telemetry writes an identifier into the home folder on import, and sends it home.
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
        try:
            from onnxruntime import InferenceSession, SessionOptions, __version__
        except ImportError as problem:
            raise EngineError(f"onnxruntime is installed but does not load: {problem}") from None
        if precision != "f32":
            raise EngineError("onnxruntime has no bf16 on the CPU; wanted precision f32, or engine openvino")
        self.version: str = __version__
        self.precision: Arithmetic = precision
        options = SessionOptions()
        options.log_severity_level = 3
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            self._session = InferenceSession(
                graph.proto().SerializeToString(), options, providers=["CPUExecutionProvider"]
            )
        except Exception as problem:                    # its errors share no base class but this
            raise EngineError(f"onnxruntime {self.version} cannot compile this network: {problem}"[:400]) from None

    def __call__(self, pictures: Float32[np.ndarray, "B C H W"]) -> list[Float32[np.ndarray, ...]]:
        return self.run({INPUT: pictures})

    def run(self, inputs: Mapping[str, Float32[np.ndarray, B *shape]]) -> list[Float32[np.ndarray, ...]]:
        """The same for a graph with other inputs, by name."""
        return [np.asarray(output) for output in self._session.run(None, dict(inputs))]
