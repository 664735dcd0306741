"""How fast a model runs: the engines in turn, medians, and the parts of a detection."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from lookonce import pictures
from lookonce.detector import Detector
from lookonce.engines import Engine, EngineKind, Precision, available_engines, available_precisions, engine_of
from lookonce.model import Model
from lookonce.runner import Raw

TURN = 0.1                              # seconds of one engine before the next one's turn,
LEAST_CALLS = 5                         # and at least so many calls
REST = 0.05                             # seconds between two turns


@dataclass(frozen=True)
class Figure:
    """What was measured of one engine and precision. Times in milliseconds, batch 1.

    `forward` is the network alone; `fit` and `decode` what a detector does before and after it with a picture of
    768 x 576; 0 for other networks and for random weights, of which every box passes.
    """

    engine: str
    version: str
    precision: str
    threads: int | None
    calls: int
    forward: float
    forward_least: float
    forward_p90: float
    fit: float
    decode: float
    gigaops: float                      # billions of operations a second

    def as_json(self) -> dict[str, Any]:
        return {key: round(value, 4) if isinstance(value, float) else value for key, value in asdict(self).items()}

    def __str__(self) -> str:
        rest = f", fit {self.fit:.2f}, boxes {self.decode:.2f}" if self.fit else ""
        return (
            f"{self.engine} {self.version} {self.precision}: {self.forward:.2f} ms forward (least "
            f"{self.forward_least:.2f}, 90 % {self.forward_p90:.2f}){rest}; {self.gigaops:,.0f} GOP/s, "
            f"{self.calls} calls"
        )


def measure(
    model: Model,
    engines: Sequence[EngineKind] | None = None,
    precisions: Sequence[Precision] | None = None,
    threads: int | None = None,
    seconds: float = 3.0,
) -> list[Figure]:
    """Each engine at each precision, in turns, so that a busy moment of the machine meets all of them.

    No engine named means all that are installed and good for the model, no precision all that an engine can do on this
    processor. An engine that was not named is passed over where it has no bf16. Raises EngineError for what is asked
    and cannot be done.
    """
    pairs = _pairs(engines or (), precisions or (), available_engines(model))
    opened = [engine_of(model, name, each, threads) for name, each in pairs]
    picture = np.random.default_rng(0).random((1, *model.network.input), np.float32)
    calls = [lambda engine=engine: engine(picture) for engine in opened]
    times = in_turn(calls, seconds)
    real = model.network.kind == "detector" and model.trained == len(model.network.nodes)
    fit, decode = _around(model) if real else (0.0, 0.0)
    return [_figure(model, engine, threads, each, fit, decode) for engine, each in zip(opened, times, strict=True)]


def _pairs(
    engines: Sequence[EngineKind], precisions: Sequence[Precision], available: Sequence[EngineKind]
) -> list[tuple[EngineKind, Precision]]:
    """The engines and precisions to measure, at least one, and each precision that is asked for."""
    if engines and precisions:
        return [(name, each) for name in engines for each in precisions]
    able = [(name, each) for name in engines or available for each in available_precisions(name)]
    pairs: list[tuple[EngineKind, Precision]] = [pair for pair in able if pair[1] in precisions or not precisions]
    # What no engine can do is left to the best one, which says so when it is opened.
    wanted: Sequence[Precision] = precisions or ([] if pairs else ["auto"])
    return pairs + [("auto", each) for each in wanted if each not in {precision for _, precision in pairs}]


def in_turn(
    calls: Sequence[Callable[[], Any]], seconds: float, clock: Callable[[], float] = time.perf_counter
) -> list[list[float]]:
    """Milliseconds by `clock` of calls of every function, in turns, until each has had its time.

    Engines leave threads spinning for a moment after a call, which would slow down whoever comes next: before each
    turn there is a rest, and its first call does not count.
    """
    times: list[list[float]] = [[] for _ in calls]
    while any(sum(taken) < 1e3 * seconds for taken in times):
        for call, taken in zip(calls, times, strict=True):
            time.sleep(REST)
            call()
            end, number = time.perf_counter() + min(TURN, seconds), 0
            while time.perf_counter() < end or number < LEAST_CALLS:
                start = clock()
                call()
                taken.append(1e3 * (clock() - start))
                number += 1
    return times


def _around(model: Model) -> tuple[float, float]:
    """What a detector does before and after the forward, in milliseconds."""
    detector = Detector(model)
    picture = np.random.default_rng(0).integers(0, 256, (576, 768, model.network.input.channels), np.uint8)
    canvas = np.empty((1, *model.network.input), np.float32)
    placed = pictures.fit(picture, canvas[0], detector.runner.resize)
    raw = Raw([output.copy() for output in detector.runner.engine(canvas)], [placed])
    steps = [lambda: pictures.fit(picture, canvas[0], detector.runner.resize), lambda: detector.answer(raw)]
    fit, decode = (statistics.median(taken) for taken in in_turn(steps, 0.3))
    return fit, decode


def _figure(
    model: Model, engine: Engine, threads: int | None, taken: list[float], fit: float, decode: float
) -> Figure:
    median = statistics.median(taken)
    return Figure(
        engine=engine.name,
        version=engine.version,
        precision=engine.precision,
        threads=threads,
        calls=len(taken),
        forward=median,
        forward_least=min(taken),
        forward_p90=statistics.quantiles(taken, n=10)[-1],
        fit=fit,
        decode=decode,
        gigaops=model.network.operations / median / 1e6,
    )
