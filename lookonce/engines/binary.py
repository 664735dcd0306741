"""Networks of single bits: their layers on packed bits, real layers beside them on an engine of floats.

What stands between layers of single bits runs here too, channels last, in as few passes as can be; the engine of floats
has one call before and one after (binary.plan). The other way would be one graph on ONNX Runtime, with an operator of
our own for convolutions of single bits. On resnet18-xnor that loses whatever such an operator takes: on one core of an
AMD EPYC (Zen 4, 2026-11-29) ONNX Runtime takes 6.4 ms for the first layer and its pool alone, where all of this takes
5.6 ms, 1.9 ms of it in convolutions of single bits.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from lookonce.binary import Plan, plan
from lookonce.binary.kernel import ALIGNMENT, REFERENCE
from lookonce.binary.steps import Real, Step
from lookonce.engines.engine import Arithmetic, GraphEngine, open_engine
from lookonce.errors import EngineError
from lookonce.graph import Graph, build_segment
from lookonce.graph.build import INPUT
from lookonce.model import Model
from lookonce.shapes import Float32

ALL_CORES = 1 << 16                     # more than the kernel takes, which is as many as there are


class Binary:
    """A model with layers of single bits (`xnor=1`). Each thread has buffers of its own.

    The sign of what is not a number is -1. Where `input_scale=1` wants its magnitude too, what is not a number goes on
    to all windows that see it. Raises EngineError for a model without such layers.
    """

    name = "binary"

    def __init__(self, model: Model, precision: Arithmetic, threads: int | None, *, compat: bool = False) -> None:
        if precision != "f32":
            raise EngineError("engine binary has no bf16, which turns signs round; wanted precision f32, or auto")
        self.precision: Arithmetic = precision
        self.plan: Plan = plan(model, compat=compat)
        self._threads = threads or ALL_CORES
        self._real: dict[Real, GraphEngine] = {
            step: open_engine(_graph(model, self.plan, step, compat), "auto", precision, threads)
            for step in self.plan.steps
            if isinstance(step, Real)
        }
        self._regions, self._sizes = _regions(self.plan)
        self._local = threading.local()
        path = self.plan.path
        kernel = path if path != REFERENCE else f"by the reference in NumPy, slowly ({self.plan.reason}),"
        beside = next(iter(self._real.values()))
        self.version = f"{kernel} beside {beside.name} {beside.version}"

    def __call__(self, pictures: Float32[np.ndarray, "B C H W"]) -> list[Float32[np.ndarray, ...]]:
        outputs: dict[int, np.ndarray] = {}
        for _ in self.walk(pictures, outputs):
            pass
        return [outputs[layer] for layer in self.plan.outputs]

    def walk(
        self, pictures: Float32[np.ndarray, "B C H W"], outputs: dict[int, np.ndarray]
    ) -> Iterator[Step | Real]:
        """The same step by step: each is handed out after it has run. `outputs` come to hold those of each layer."""
        buffers = self.buffers(len(pictures))
        for step in self.plan.steps:
            if isinstance(step, Real):
                self._run_real(step, pictures, buffers, outputs)
            else:
                step.run(buffers, self._threads)
            yield step

    def _run_real(
        self, step: Real, pictures: np.ndarray, buffers: list[np.ndarray], outputs: dict[int, np.ndarray]
    ) -> None:
        given = {f"layer_{index}": buffers[source] for index, source in zip(step.entering, step.sources, strict=True)}
        if step.pictures:
            given[INPUT] = pictures
        found = self._real[step].run(given)
        for target, value in zip(step.targets, found, strict=False):
            buffers[target] = value                                     # the engine's own memory, read where it is
        outputs.update(zip(step.outputs, found[len(step.targets) :], strict=True))

    def buffers(self, batch: int) -> list[np.ndarray]:
        """This thread's buffers for so many pictures, those of the last call if it had as many."""
        kept: tuple[int, list[np.ndarray]] | None = getattr(self._local, "kept", None)
        if kept is None or kept[0] != batch:
            starts = np.cumsum([0, *(-(-batch * size // ALIGNMENT) * ALIGNMENT for size in self._sizes)])
            memory = np.zeros(int(starts[-1]) + ALIGNMENT, np.uint8)
            memory = memory[-memory.ctypes.data % ALIGNMENT :]
            areas = [memory[start:end] for start, end in pairwise(starts)]
            buffers: list[np.ndarray] = []
            for buffer, region in zip(self.plan.buffers, self._regions, strict=True):
                area = areas[region] if region is not None else memory[:0]
                shape = (batch, *buffer.shape) if region is not None else (0, *buffer.shape)
                buffers.append(area.view(buffer.kind)[: int(np.prod(shape))].reshape(shape))
            kept = self._local.kept = batch, buffers
        return kept[1]


def _graph(model: Model, plan: Plan, step: Real, compat: bool) -> Graph:
    return build_segment(
        model, [plan.wanted.nodes[index] for index in step.layers], pictures=step.pictures, entering=step.entering,
        leaving=step.leaving, outputs=step.outputs, compat=compat,
    )  # fmt: skip


def _regions(plan: Plan) -> tuple[list[int | None], list[int]]:
    """The region of memory of each buffer, and the bytes a picture of each region.

    A region is used again when nobody reads what it holds any more: fewer of them stay in the cache. What an engine of
    floats fills has none.
    """
    last: dict[int, int] = {}
    for number, step in enumerate(plan.steps):
        last.update(dict.fromkeys((*step.sources, *step.targets), number))
    regions: list[int | None] = [None] * len(plan.buffers)
    sizes: list[int] = []
    free: list[int] = []
    for number, step in enumerate(plan.steps):
        for target in () if isinstance(step, Real) else step.targets:
            buffer = plan.buffers[target]
            size = int(np.prod(buffer.shape)) * np.dtype(buffer.kind).itemsize
            fitting = [region for region in free if sizes[region] >= size]
            if fitting:
                region = min(fitting, key=sizes.__getitem__)
            elif free:
                region = max(free, key=sizes.__getitem__)
                sizes[region] = size
            else:
                region = len(sizes)
                sizes.append(size)
                free.append(region)
            free.remove(region)
            regions[target] = region
        for buffer_number in {*step.sources, *step.targets}:
            region_or_none = regions[buffer_number]
            if last[buffer_number] == number and region_or_none is not None:
                free.append(region_or_none)
    return regions, sizes
