"""How fast convolutions of single bits are: python bench/binary_conv.py [BASELINE_LIBRARY]

Everything in one run, call after call in turn, so that all see the same processor; medians, and the fastest of many,
which is the fairer figure while other programs run. One thread on one core, then two threads on two.

- from floats to floats (signs packed on the way, scale, shift, leaky) and from bits to sums, floats and bits;
- the same convolution by OpenVINO in f32 and bf16, if it is installed;
- with the library that `cmake -DLOOKONCE_BENCH=ON` builds (native/CMakeLists.txt): im2col and gemm in plain loops, and
  the peak of exclusive or and population count on this core, as AVX-512 counts, or with LOOKONCE_BINARY=avx2 as AVX2
  does. Shares of the peak count every tap, also those beyond the edge, which the kernel leaves out.
"""

from __future__ import annotations

import ctypes
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from lookonce.binary import BinaryConvolution, choose, pack

ROUNDS = {1: 60, 2: 300}               # by threads: two are seldom both free on a busy machine
EACH = 12                              # calls of one kind in a row: the first of them finds cold caches


class Case(NamedTuple):
    channels: int
    side: int
    size: int

    @property
    def filters(self) -> int:
        return self.channels

    @property
    def products(self) -> int:
        return self.filters * self.channels * self.size**2 * self.side**2

    def __str__(self) -> str:
        return f"{self.channels} channels, {self.side} x {self.side}, window {self.size}"


CASES = (Case(256, 14, 3), Case(512, 7, 3), Case(128, 28, 3), Case(64, 56, 3), Case(256, 14, 1))


class Times(NamedTuple):
    """Seconds."""

    median: float
    fastest: float

    def __str__(self) -> str:
        return f"{1e6 * self.median:8.1f} us, fastest {1e6 * self.fastest:8.1f}"


def in_turn(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, Times]:
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            call()
            for _ in range(1 if name == PLAIN else EACH):
                start = time.perf_counter()
                call()
                times[name].append(time.perf_counter() - start)
    return {name: Times(statistics.median(taken), min(taken)) for name, taken in times.items()}


FLOATS = "floats -> floats"
SUMS = "bits -> sums"
PLAIN = "im2col and gemm"


def ours(case: Case, rng: np.random.Generator, threads: int) -> dict[str, Callable[[], Any]]:
    count, side = case.filters, case.side
    layer = BinaryConvolution(
        pack(rng.standard_normal((count, case.size, case.size, case.channels), np.float32)), case.channels,
        padding=case.size // 2, activation="leaky", scale=rng.standard_normal(count, np.float32),
        shift=rng.standard_normal(count, np.float32),
    )  # fmt: skip
    x = rng.standard_normal((1, side, side, case.channels), np.float32)
    bits, shape = pack(x), (1, side, side)
    reals, sums = layer.reals(x), layer.counts(x)
    out = np.zeros((*shape, -(-count // 64)), np.uint64)
    return {
        FLOATS: lambda: layer.reals(x, reals, threads=threads),
        SUMS: lambda: layer.counts(bits, sums, threads=threads),
        "bits -> floats": lambda: layer.reals(bits, reals, threads=threads),
        "bits -> bits": lambda: layer.bits(bits, out, threads=threads),
    }


def openvino(case: Case, rng: np.random.Generator, precision: str, threads: int) -> Callable[[], Any]:
    """The same convolution in OpenVINO, compiled for this shape; with the bias and leaky ReLU that ours has too."""
    from lookonce.engines.openvino import import_openvino

    ov = import_openvino()
    ops, shape = ov.opset13, (1, case.channels, case.side, case.side)
    x = ops.parameter(shape, np.float32, "x")
    weights = rng.standard_normal((case.filters, case.channels, case.size, case.size), np.float32)
    pads = [case.size // 2] * 2
    y = ops.convolution(x, ops.constant(weights), [1, 1], pads, pads, [1, 1])
    y = ops.add(y, ops.constant(rng.standard_normal((1, case.filters, 1, 1), np.float32)))
    y = ops.prelu(y, ops.constant(np.full(1, 0.1, np.float32)))
    options = {
        "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1, "INFERENCE_NUM_THREADS": threads,
        "INFERENCE_PRECISION_HINT": precision,
    }  # fmt: skip
    request = ov.Core().compile_model(ov.Model([y], [x]), "CPU", options).create_infer_request()
    request.set_input_tensor(ov.Tensor(rng.standard_normal(shape, np.float32)))
    return request.infer


def plain(case: Case, rng: np.random.Generator, library: ctypes.CDLL) -> Callable[[], Any]:
    patch = case.channels * case.size**2
    shapes = (case.channels, case.side**2), (case.filters, patch), (patch, case.side**2), (case.filters, case.side**2)
    x, weights, columns, out = (rng.standard_normal(shape, np.float32) for shape in shapes)
    numbers = (case.channels, case.side, case.side, case.filters, case.size, 1, case.size // 2)
    pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in (x, weights, columns, out)]
    kept = x, weights, columns, out
    return lambda: library.im2col_gemm(*pointers[:2], *numbers, *pointers[2:]) if kept else None


def report(case: Case, times: dict[str, Times], peak: float) -> None:
    print(f"\n{case}: {case.products / 1e6:.1f} million products")
    base = times[FLOATS]
    for name, taken in times.items():
        line = f"  {name:18}{taken}"
        if " -> " in name:
            rate = case.products / taken.fastest
            line += f"   {rate / 1e12:.2f} T/s" + (f", {rate / peak:4.0%} of the peak" if peak else "")
        else:
            line += f"   {taken.median / base.median:6.1f} times (fastest {taken.fastest / base.fastest:.1f})"
        print(line)


def main() -> None:
    library = ctypes.CDLL(sys.argv[1]) if len(sys.argv) > 1 else None
    cores = sorted(os.sched_getaffinity(0))
    choice = choose()
    print(f"{choice.path}: {choice.reason}; {len(cores)} cores, load {os.getloadavg()[0]:.1f}")
    single: dict[Case, dict[str, Times]] = {}
    for threads in (1, 2)[: len(cores)]:
        os.sched_setaffinity(0, cores[-threads:])
        print(f"\n=== {threads} thread{'s' * (threads > 1)}")
        peak = 0.0
        if library is not None and threads == 1:
            measured = library.peak_products_avx2 if choice.path == "avx2" else library.peak_products
            measured.restype = ctypes.c_double
            peak = max(measured() for _ in range(20_000))
            print(f"peak of exclusive or and population count in registers: {peak / 1e12:.2f} T products/s")
        for case in CASES:
            rng = np.random.default_rng(0)
            calls = ours(case, rng, threads)
            for precision in ("f32", "bf16"):
                try:
                    calls[f"OpenVINO {precision}"] = openvino(case, rng, precision, threads)
                except ImportError:
                    print("OpenVINO is not installed")
                    break
            if library is not None and threads == 1:
                calls[PLAIN] = plain(case, rng, library)
            times = in_turn(calls, ROUNDS[threads])
            report(case, times, peak)
            if threads == 1:
                single[case] = times
                continue
            for name in (FLOATS, SUMS):
                one, two = single[case][name], times[name]
                print(f"  {name}: {one.median / two.median:.2f} times as fast as one (fastest "
                      f"{one.fastest / two.fastest:.2f})")  # fmt: skip


if __name__ == "__main__":
    main()
