"""OpenVINO: the default engine on the CPU."""

from __future__ import annotations

import sys
import threading
from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np

from lookonce.engines.engine import Arithmetic
from lookonce.errors import EngineError
from lookonce.graph import Graph
from lookonce.graph.build import INPUT
from lookonce.shapes import Float32


def import_openvino() -> ModuleType:
    """The openvino module, without its telemetry.

    Its converter, which nothing here needs, starts `openvino_telemetry` on import; that writes an identifier into the
    home folder and may call out. With the converter marked as absent openvino imports without either.
    """
    if "openvino" not in sys.modules:
        converter = "openvino.tools.ovc"
        sys.modules[converter] = None                   # type: ignore[assignment]
        try:
            import openvino
        except ImportError as problem:
            raise EngineError(f"openvino is installed but does not load: {problem}") from None
        finally:
            del sys.modules[converter]                  # a program that wants it can still import it
        return openvino
    return sys.modules["openvino"]


def has_bf16() -> bool:
    """Whether this processor computes in bf16."""
    return "BF16" in import_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


class OpenVino:
    """One graph on OpenVINO's CPU plugin.

    A compiled model's own request is shared by its callers, so that one overwrites the other's answer without an
    error. Here each thread has a request of its own, and with it buffers that are kept.

    One picture runs on a graph compiled for just that, which is up to 13 % faster for small networks; the first larger
    batch compiles another, for any size.
    """

    name = "openvino"

    def __init__(self, graph: Graph, precision: Arithmetic, threads: int | None) -> None:
        self._ov = import_openvino()
        self.version: str = self._ov.get_version().split("-")[0]
        self.precision: Arithmetic = precision
        self._graph = graph
        self._core = self._ov.Core()
        if precision == "bf16" and not has_bf16():
            raise EngineError("this processor has no bf16 arithmetic; wanted precision f32, or auto")
        self._options: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "NUM_STREAMS": 1,
            "INFERENCE_PRECISION_HINT": precision,
        }
        if threads is not None:
            self._options["INFERENCE_NUM_THREADS"] = threads
        self._lock = threading.Lock()
        self._compiled: dict[bool, Any] = {}            # for one picture or for any number
        self._local = threading.local()
        self._compile(single=True)

    def __call__(self, pictures: Float32[np.ndarray, "B C H W"]) -> list[Float32[np.ndarray, ...]]:
        return self.run({INPUT: pictures})

    def run(self, inputs: Mapping[str, Float32[np.ndarray, B *shape]]) -> list[Float32[np.ndarray, ...]]:
        """The same for a graph with other inputs, by name."""
        request = self._request(single=all(len(value) == 1 for value in inputs.values()))
        for name, value in inputs.items():
            request.set_tensor(name, self._ov.Tensor(np.ascontiguousarray(value), shared_memory=True))
        request.infer()
        return [request.get_output_tensor(number).data for number in range(len(request.model_outputs))]

    def _request(self, single: bool) -> Any:
        """This thread's own request."""
        requests: dict[bool, Any] = self._local.__dict__.setdefault("requests", {})
        if single not in requests:
            requests[single] = self._compile(single).create_infer_request()
        return requests[single]

    def _compile(self, single: bool) -> Any:
        with self._lock:
            if single not in self._compiled:
                try:
                    model = _bound(self._ov, self._core, self._graph)
                    if single:
                        shapes = {port: port.partial_shape for port in model.inputs}
                        for shape in shapes.values():
                            shape[0] = 1
                        model.reshape(shapes)
                    self._compiled[single] = self._core.compile_model(model, "CPU", self._options)
                except RuntimeError as problem:
                    reason = _last_line(problem)
                    raise EngineError(f"openvino {self.version} cannot compile this network: {reason}") from None
            return self._compiled[single]


def _bound(ov: ModuleType, core: Any, graph: Graph) -> Any:
    """The graph as OpenVINO's model, its weights bound in place: they are never copied into a file's form."""
    model = core.read_model(graph.nodes.SerializeToString())
    weights: Mapping[str, np.ndarray] = graph.weights
    for parameter in model.get_parameters():
        name = parameter.get_friendly_name()
        if name in weights:
            constant = ov.opset13.constant(np.ascontiguousarray(weights[name]), shared_memory=True)
            parameter.output(0).replace(constant.output(0))
            model.remove_parameter(parameter)
    return model


def _last_line(problem: Exception) -> str:
    """The last of OpenVINO's several lines: the one that says what is wrong."""
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    return lines[-1][:300] if lines else type(problem).__name__
