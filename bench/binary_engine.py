"""How fast networks of single bits are as a whole: python bench/binary_engine.py [NETWORK...]

For each network (resnet18-xnor and yolov3-tiny-xnor if none is named), with random weights, by one thread:

- the engine of bits against OpenVINO in f32 and bf16, call after call in turn; medians, and the fastest of many, which
  is the fairer figure while other programs run;
- where its time goes, step by step;
- how many of the signs that flow into layers of single bits are others than in the graph of floats on ONNX Runtime: a
  value within rounding of 0 may come out on the other side, and so may what comes after it;
- the most memory that a process takes that runs it (resident, on Linux).
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from lookonce.binary import reference
from lookonce.binary.steps import Convolve, Real
from lookonce.engines import EngineKind, Precision, available_engines, available_precisions, engine_of, open_engine
from lookonce.engines.binary import Binary
from lookonce.graph import build
from lookonce.model import Model, open_network

NETWORKS = ("resnet18-xnor", "yolov3-tiny-xnor")
ROUNDS, EACH = 12, 4                    # calls of one kind in a row: the first of them finds cold caches
PROFILED = 40
SEVERAL = 8                             # pictures whose signs are compared
SLOWEST = 8                             # steps that are shown by themselves


def shaken(name: str) -> Model:
    """A network with random weights whose batch norms do something: some fall."""
    model, rng = Model.random(open_network(name)), np.random.default_rng(1)
    for arrays in model.weights:
        for key, array in arrays.items():
            if key in ("biases", "mean"):
                array[...] = rng.normal(0, 0.3, array.shape)
            elif key == "variance":
                array[...] = rng.uniform(0.5, 2, array.shape)
            elif key == "scales":
                array[...] = rng.uniform(0.5, 2, array.shape) * rng.choice([-1, 1, 1, 1], array.shape)
    return model


def compared(model: Model, pictures: np.ndarray) -> None:
    kinds: list[tuple[EngineKind, Precision]] = [("binary", "f32")]
    kinds += [(engine, each) for engine in available_engines()[:1] for each in available_precisions(engine)]
    engines = {kind: engine_of(model, *kind, threads=1) for kind in kinds}
    times: dict[tuple[EngineKind, Precision], list[float]] = defaultdict(list)
    for _ in range(ROUNDS):
        for kind, run in engines.items():
            run(pictures)
            for _ in range(EACH):
                start = time.perf_counter()
                run(pictures)
                times[kind].append(1e3 * (time.perf_counter() - start))
    base = times["binary", "f32"]
    for kind, taken in times.items():
        median, fastest = statistics.median(taken), min(taken)
        named = f"{engines[kind].name} {engines[kind].version} {kind[1]}"
        ratio = f"{median / statistics.median(base):.2f} times (fastest {fastest / min(base):.2f})"
        print(f"  {named}: {median:.2f} ms, fastest {fastest:.2f}; {ratio}")


def profiled(model: Model, pictures: np.ndarray) -> None:
    run = engine_of(model, "binary", threads=1)
    assert isinstance(run, Binary)
    times: list[list[float]] = [[] for _ in run.plan.steps]
    for _ in range(PROFILED):
        start = time.perf_counter()
        for number, _ in enumerate(run.walk(pictures, {})):
            end = time.perf_counter()
            times[number].append(1e3 * (end - start))
            start = time.perf_counter()
    medians = [statistics.median(taken) for taken in times]
    kinds: dict[str, float] = defaultdict(float)
    for step, median in zip(run.plan.steps, medians, strict=True):
        kinds[type(step).__name__] += median
    whole = sum(medians)
    parts = ", ".join(f"{kind} {taken:.2f}" for kind, taken in sorted(kinds.items(), key=lambda pair: -pair[1]))
    print(f"  steps, {whole:.2f} ms in all: {parts}")
    for number in sorted(range(len(times)), key=lambda number: -medians[number])[:SLOWEST]:
        step = run.plan.steps[number]
        where = f"layers {step.layers}" if isinstance(step, Real) else str(model.network.nodes[step.layer])
        share = medians[number] / whole
        print(f"    {medians[number]:6.3f} ms, {share:4.0%}: {type(step).__name__} {where}")


def flipped(model: Model, pictures: np.ndarray) -> None:
    run = engine_of(model, "binary", threads=1)
    assert isinstance(run, Binary)
    layers = [step.layer for step in run.plan.steps if isinstance(step, Convolve)]
    taps = [model.network.nodes[layer].sources[0] for layer in layers]
    graph = build(model, taps=taps)
    floats = dict(zip(layers, open_engine(graph, "onnxruntime")(pictures)[-len(taps) :], strict=True))
    others, signs, first = 0, 0, ""
    buffers = run.buffers(len(pictures))
    for step in run.walk(pictures, {}):
        if not isinstance(step, Convolve):
            continue
        source, weights = model.network.nodes[step.layer].given[0], model.weights[step.layer]["weights"]
        weights = weights.reshape(len(weights), source.channels, *step.convolution.window)
        # The bits of some channels come in inverted, and so are their weights'.
        usual = reference.pack(np.ascontiguousarray(np.moveaxis(weights, 1, -1)))
        bits = buffers[step.sources[0]] ^ (usual ^ step.convolution.weights)[0, 0, 0]
        found = reference.unpack(bits, weights.shape[1]) > 0
        above = floats[step.layer].reshape(-1, *source) > 0                             # (B, C, H, W)
        wrong = int((found != above.transpose(0, 2, 3, 1)).sum())
        others, signs = others + wrong, signs + found.size
        if wrong and not first:
            first = f", the first {wrong} of {found.size:,} before layer {step.layer}"
    print(f"  signs that are others than ONNX Runtime's: {others:,} of {signs:,}, {others / signs:.2e}{first}")


def memory(name: str, engine: EngineKind) -> None:
    """Run in a process of its own: the most memory after three pictures."""
    model = shaken(name)
    run = engine_of(model, engine, threads=1)
    for _ in range(3):
        run(np.zeros((1, *model.network.input), np.float32))
    # Not getrusage: what that says begins with the parent's.
    most = next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line)
    print(f"  most memory with {engine}: {int(most) / 1024:.0f} MiB")


def main() -> None:
    words: list[Any] = sys.argv[1:]
    if words[:1] == ["memory"]:
        memory(*words[1:])
        return
    print(f"load {os.getloadavg()[0]:.1f}")
    for name in words or NETWORKS:
        model = shaken(name)
        pictures = np.random.default_rng(0).random((1, *model.network.input), np.float32)
        print(f"\n{name}: {model.network.input}, {model.network.operations / 1e9:.2f} billion operations")
        compared(model, pictures)
        profiled(model, pictures)
        flipped(model, np.random.default_rng(1).random((SEVERAL, *model.network.input), np.float32))
        for engine in ("binary", available_engines()[0]):
            subprocess.run([sys.executable, "-W", "ignore", __file__, "memory", name, engine], check=True)


if __name__ == "__main__":
    main()
