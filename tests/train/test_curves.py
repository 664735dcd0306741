"""Curves in an SVG: where values lie, what leaves gaps, which ticks there are."""

from __future__ import annotations

import itertools
import math
import re

import numpy as np
import pytest

from lookonce.train import curves
from lookonce.train.curves import BOTTOM, LEFT, RIGHT, TOP, Plot, Points, plot, short


def drawn(points: Points, *, zero: bool = False) -> Plot:
    made = plot("Loss", "step", {"loss": points}, zero=zero)
    assert made is not None
    return made


def points_of(path: str) -> list[tuple[str, float, float]]:
    """A path's points, each with the letter that leads to it."""
    return [(letter, float(x), float(y)) for letter, x, y in re.findall(r"([ML])([\d.-]+) ([\d.-]+)", path)]


def value_of(text: str) -> float:
    """What a tick says."""
    text = text.replace("\N{MINUS SIGN}", "-")
    unit = {"k": 1e3, "M": 1e6}.get(text[-1], 1)
    return float(text.rstrip("kM")) * unit


def test_a_curve_lies_where_its_values_are() -> None:
    """From 0 to 10 and from 0 to 4: the corners, the middle, and a quarter down."""
    made = drawn([(0, 0), (5, 2), (10, 4), (10, 3)])
    middle = ((LEFT + RIGHT) / 2, (TOP + BOTTOM) / 2)
    assert points_of(made.lines[0].path) == [
        ("M", LEFT, BOTTOM), ("L", *middle), ("L", RIGHT, TOP), ("L", RIGHT, TOP + (BOTTOM - TOP) / 4),
    ]  # fmt: skip
    assert made.lines[0].dots == ((LEFT, BOTTOM), middle, (RIGHT, TOP), (RIGHT, TOP + (BOTTOM - TOP) / 4))
    assert [tick.text for tick in made.x_ticks] == ["0", "2", "4", "6", "8", "10"]
    assert [tick.text for tick in made.y_ticks] == ["0", "1", "2", "3", "4"]
    assert made.lines[0].value == 3


def test_what_spans_much_is_drawn_by_its_logarithm() -> None:
    """1, 10 and 100 lie evenly apart; their ticks lie where they do."""
    made = drawn([(0, 1), (1, 10), (2, 100)])
    ys = [y for _, _, y in points_of(made.lines[0].path)]
    assert ys[0] - ys[1] == pytest.approx(ys[1] - ys[2], abs=0.11)
    assert {tick.text: tick.place for tick in made.y_ticks}["10"] == ys[1]
    assert [tick.text for tick in made.y_ticks] == ["1", "2", "5", "10", "20", "50", "100"]


@pytest.mark.parametrize("values", [(0.0, 100.0), (-1.0, 100.0), (5.0, 100.0), (0.0, 0.0), (3.0, 3.0), (-2.0, -2.0)])
def test_what_is_not_positive_or_spans_little_is_drawn_as_it_is(values: tuple[float, float]) -> None:
    """The middle of two values lies in the middle of their places."""
    made = drawn([(0, values[0]), (1, sum(values) / 2), (2, values[1])])
    ys = [y for _, _, y in points_of(made.lines[0].path)]
    assert ys[1] == pytest.approx((ys[0] + ys[2]) / 2, abs=0.11)


def test_from_zero_means_from_zero() -> None:
    made = drawn([(0, 1000), (1, 1001)], zero=True)
    assert made.y_ticks[0].text == "0"
    assert made.y_ticks[0].place == BOTTOM


@pytest.mark.parametrize("odd", [math.nan, math.inf, -math.inf, 1e300])
def test_what_is_not_finite_leaves_a_gap(odd: float) -> None:
    """1 and 2, a gap, a point alone, a gap, 3 and 4. A point alone has a length of 0, so that its round ends show."""
    values = [1, 2, odd, 2.5, odd, 3, 4]
    made = drawn(list(enumerate(values)))
    path = made.lines[0].path
    assert [letter for letter, *_ in points_of(path)] == ["M", "L", "M", "M", "L"]
    assert path.count("h0") == 3
    assert not re.search("nan|inf", path)
    assert len(made.lines[0].dots) == 5


def test_nothing_known_is_no_plot() -> None:
    assert plot("Loss", "step", {}) is None
    assert plot("Loss", "step", {"a": [], "b": [(1, math.nan)]}) is None
    made = plot("Loss", "step", {"a": [(1, math.nan)], "b": [(1, 2.0)]})
    assert made is not None
    assert made.lines[0].path == ""


def test_a_long_curve_is_thinned_and_keeps_its_ends() -> None:
    made = drawn([(number, math.sin(number / 300)) for number in range(5000)])
    points = points_of(made.lines[0].path)
    assert len(points) == curves.MOST_POINTS
    assert (points[0][1], points[-1][1]) == (LEFT, RIGHT)
    gaps = [b[1] - a[1] for a, b in itertools.pairwise(points)]
    assert max(gaps) < 1.5 * (RIGHT - LEFT) / curves.MOST_POINTS
    assert made.lines[0].dots == ()


@pytest.mark.parametrize("seed", range(40))
def test_ticks_lie_where_they_say_and_everything_lies_in_the_plot(seed: int) -> None:
    """Of values from 1e-12 to 1e12, also far from zero and close to each other: a tick's value is told by its text."""
    rng = np.random.default_rng(seed)
    scale, offset = 10.0 ** rng.integers(-12, 12), 10.0 ** rng.integers(-3, 3) * (seed % 2)
    ys = scale * (rng.normal(size=20) + offset) * (1 if seed % 3 else 10 ** rng.uniform(0, 4, 20))
    points = sorted(zip((rng.uniform(0, 10 ** rng.uniform(-2, 6), 20)).tolist(), ys.tolist(), strict=True))
    made = drawn(points, zero=seed % 5 == 0)
    placed = [(x, y) for _, x, y in points_of(made.lines[0].path)]
    assert all(LEFT <= x <= RIGHT and TOP <= y <= BOTTOM for x, y in placed)
    for ticks, low, high, most in ((made.x_ticks, LEFT, RIGHT, 11), (made.y_ticks, TOP, BOTTOM, 12)):
        assert 2 <= len(ticks) <= most
        assert all(low - 0.1 <= tick.place <= high + 0.1 for tick in ticks)
        assert len({tick.text for tick in ticks}) == len(ticks)
    (x0, x1), (tick0, tick1) = (points[0][0], points[-1][0]), (made.x_ticks[0], made.x_ticks[-1])
    for tick in (tick0, tick1):
        assert tick.place == pytest.approx(LEFT + (value_of(tick.text) - x0) / (x1 - x0) * (RIGHT - LEFT), abs=0.2)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"), (0.3, "0.3"), (1234, "1234"), (20_000, "20k"), (500_200, "500.2k"), (1.5e6, "1.5M"), (1e-5, "1e−05"),
        (-0.5, "−0.5"), (2e12, "2e+12"),
    ],
)  # fmt: skip
def test_ticks_are_short(value: float, text: str) -> None:
    assert short(value) == text
