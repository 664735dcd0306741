"""Curves over one axis, placed in an SVG: outlines, and the ticks of both axes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

WIDE, HIGH = 480, 270
LEFT, RIGHT, TOP, BOTTOM = 62, 458, 10, 234         # where the curves lie
MOST_POINTS = 400            # of a curve: more cannot be told apart
MOST_DOTS = 60               # points of a curve that are marked
RATIO = 30                   # largest by smallest value from which an axis is logarithmic
LARGEST = 1e30               # what is beyond counts as infinite

Points = Sequence[tuple[float, float]]


class Tick(NamedTuple):
    """A line of the grid: where it lies, and what is written at it."""

    place: float
    text: str


class Line(NamedTuple):
    """One curve: its outline as an SVG path, its points if they are few, and the value it ends with."""

    name: str
    path: str
    dots: tuple[tuple[float, float], ...]
    value: float


@dataclass(frozen=True)
class Plot:
    """Some curves as they lie in an SVG of WIDE x HIGH units, y downwards."""

    title: str
    across: str
    note: str
    lines: tuple[Line, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]


class _Axis(NamedTuple):
    """From `low` to `high`, with values to write; by the logarithm or not."""

    low: float
    high: float
    ticks: tuple[float, ...]
    logarithmic: bool = False

    def share(self, value: float) -> float:
        """Where a value lies, 0 at `low` and 1 at `high`."""
        if self.logarithmic:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


def plot(title: str, across: str, curves: Mapping[str, Points], *, note: str = "", zero: bool = False) -> Plot | None:
    """Curves as they are drawn; None if no value is known. What is not finite leaves a gap.

    The upward axis begins at 0 if `zero`; else it is logarithmic where all values are positive and differ by more than
    RATIO.
    """
    known = np.array([point for points in curves.values() for point in points if _is_known(point)], np.float64)
    if not len(known):
        return None
    (left, lowest), (right, highest) = known.min(axis=0).tolist(), known.max(axis=0).tolist()
    xs = _linear(left, right, tight=True)
    if not zero and 0 < lowest < highest / RATIO:
        ys = _logarithmic(lowest, highest)
    else:
        ys = _linear(min(0.0, lowest) if zero else lowest, highest)

    def place(point: tuple[float, float]) -> tuple[float, float]:
        across, up = xs.share(point[0]), ys.share(point[1])
        return round(LEFT + across * (RIGHT - LEFT), 1), round(BOTTOM - up * (BOTTOM - TOP), 1)

    lines = []
    for name, points in curves.items():
        placed = [place(point) if _is_known(point) else None for point in _thinned(points)]
        dots = tuple(each for each in placed if each is not None) if len(placed) <= MOST_DOTS else ()
        lines.append(Line(name, _outline(placed), dots, points[-1][1] if points else math.nan))
    return Plot(
        title,
        across,
        note,
        tuple(lines),
        tuple(Tick(place((value, ys.low))[0], short(value)) for value in xs.ticks),
        tuple(Tick(place((xs.low, value))[1], short(value)) for value in ys.ticks),
    )


def short(value: float) -> str:
    """A value at a tick: 20k, 1.5M, 0.001, 1e-05."""
    size = abs(value)
    text = f"{value / 1e6:g}M" if 1e6 <= size < 1e9 else f"{value / 1e3:g}k" if 1e4 <= size < 1e6 else f"{value:g}"
    return text.replace("-", "\N{MINUS SIGN}")


def _is_known(point: tuple[float, float]) -> bool:
    return abs(point[0]) < LARGEST and abs(point[1]) < LARGEST                  # false for NaN


def _thinned(points: Points) -> list[tuple[float, float]]:
    """At most MOST_POINTS points, evenly apart in their order, the first and last among them."""
    if len(points) <= MOST_POINTS:
        return list(points)
    return [points[place] for place in np.linspace(0, len(points) - 1, MOST_POINTS).round().astype(int)]


def _outline(placed: Sequence[tuple[float, float] | None]) -> str:
    """Points as an SVG path. A point alone between gaps becomes a line of no length, which round ends make a dot."""
    parts, before = [], False
    for point in placed:
        if point is not None:
            parts.append(f"{'L' if before else 'M'}{point[0]:g} {point[1]:g}{'' if before else 'h0'}")
        before = point is not None
    return "".join(parts)


def _linear(low: float, high: float, *, tight: bool = False) -> _Axis:
    """An axis with ticks at multiples of 1, 2 or 5 times a power of ten; it ends at ticks unless `tight`."""
    if high - low <= 1e-9 * max(abs(low), abs(high), 1e-9):
        margin = abs(high) / 2 or 0.5
        low, high = low - margin, high + margin
    rough = (high - low) / 5
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(step * power for step in (1, 2, 5, 10) if step * power >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    if not tight:
        low, high = first * step, last * step
    ticks = (float(f"{number * step:.12g}") for number in range(first, last + 1))
    slack = 1e-9 * (high - low)
    return _Axis(low, high, tuple(tick for tick in ticks if low - slack <= tick <= high + slack))


def _logarithmic(low: float, high: float) -> _Axis:
    """An axis with ticks at powers of ten, at 2 and 5 times them too where those alone would be few."""
    low, high = low * 0.9, high * 1.1
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    every = -(-len(powers) // 7)
    factors = (1, 2, 5) if high / low < 2000 else (1,)
    ticks = (float(f"{factor}e{power}") for power in powers[::every] for factor in factors)
    return _Axis(low, high, tuple(tick for tick in ticks if low <= tick <= high), logarithmic=True)
