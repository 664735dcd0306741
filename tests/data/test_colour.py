from __future__ import annotations

import colorsys

import numpy as np
import pytest

from lookonce.data import colour
from lookonce.data.batches import Augmentation
from lookonce.data.colour import Change

CORNERS = np.array([[r, g, b] for r in (0, 0.5, 1) for g in (0, 0.5, 1) for b in (0, 0.5, 1)], np.float32)


def colours() -> np.ndarray:
    """Black, white, greys, pure colours and 100 others, as a canvas of 3 planes; more rows than are done at once."""
    others = np.random.default_rng(5).random((73, 3), dtype=np.float32)
    return np.ascontiguousarray(np.concatenate([CORNERS, others]).reshape(50, 2, 3).transpose(2, 0, 1))


def through_hsv(rgb: np.ndarray, change: Change) -> list[float]:
    """One pixel by Python's own conversions. Darknet cuts at the end, so saturations above 1 pass through."""
    h, s, v = colorsys.rgb_to_hsv(*(float(x) for x in rgb))
    h, s, v = (h + change.hue) % 1, s * change.saturation, v * change.exposure
    return [min(max(x, 0.0), 1.0) for x in colorsys.hsv_to_rgb(h, s, v)]


@pytest.mark.parametrize("hue", [0, 0.02, -0.1, 1 / 6, -1 / 6, 0.3, 0.5, -0.5, 0.9])
@pytest.mark.parametrize(("saturation", "exposure"), [(1, 1), (1.5, 1.5), (0.6, 0.7), (4, 0.5), (0.5, 3), (0, 1)])
def test_colours_change_as_by_way_of_hue_saturation_and_value(hue: float, saturation: float, exposure: float) -> None:
    """Thirds of the circle exchange channels here, and a sextant is where that begins."""
    canvas, change = colours(), Change(hue, saturation, exposure)
    wanted = [[through_hsv(pixel, change) for pixel in row] for row in canvas.transpose(1, 2, 0)]
    colour.distort(canvas, change)
    assert np.abs(canvas.transpose(1, 2, 0) - wanted).max() < 3e-6


def test_a_change_by_nothing_leaves_every_bit() -> None:
    canvas = colours()
    before = canvas.copy()
    colour.distort(canvas, Change())
    assert np.array_equal(canvas, before)


def test_a_part_of_a_larger_canvas_is_changed_alone() -> None:
    canvas = np.full((3, 60, 9), 0.25, np.float32)
    canvas[0] = 0.5
    colour.distort(canvas[:, 5:58, 2:7], Change(1 / 3))                         # red becomes green
    assert np.allclose(canvas[:, 6, 3], [0.25, 0.5, 0.25])
    canvas[:, 5:58, 2:7] = np.array([0.5, 0.25, 0.25])[:, None, None]
    assert np.array_equal(np.unique(canvas), np.float32([0.25, 0.5]))
    assert (canvas[0] == 0.5).all()


def test_an_empty_canvas_is_no_error() -> None:
    colour.distort(np.zeros((3, 0, 4), np.float32), Change(0.1, 2, 2))


@pytest.mark.parametrize("value", [0.0, 0.5, 0.9])
def test_grey_becomes_what_distorting_makes_of_it(value: float) -> None:
    canvas, change = np.full((3, 1, 1), value, np.float32), Change(0.1, 1.4, 1.3)
    colour.distort(canvas, change)
    assert np.allclose(canvas, change.grey(value))


@pytest.mark.parametrize("most", [1.5, 2 / 3])
def test_a_random_scale_is_as_often_an_inverse(most: float) -> None:
    """U(1, 1.5) or 1/U(1, 1.5); what is below 1 stands for the same range from the other end."""
    rng = np.random.default_rng(0)
    scales = np.array([colour.random_scale(most, rng) for _ in range(4000)])
    assert scales.min() > 1 / 1.5
    assert scales.max() < 1.5
    assert abs((scales > 1).mean() - 0.5) < 0.03
    # A half above 1 is even: its middle lies at 1.25 for U(1, 1.5), at 1/(5/6) for the inverse of U(2/3, 1).
    assert abs(np.median(scales[scales > 1]) - (1.25 if most > 1 else 1.2)) < 0.02


def test_changes_are_drawn_within_the_augmentation() -> None:
    rng = np.random.default_rng(1)
    changes = [colour.draw(Augmentation(hue=0.1, saturation=1.5, exposure=2.0), rng) for _ in range(2000)]
    hue, saturation, exposure = np.array(changes).T
    assert 0.095 < hue.max() < 0.1
    assert -0.1 < hue.min() < -0.095
    assert 1.48 < saturation.max() < 1.5
    assert 0.5 < exposure.min() < 0.51
    assert {colour.draw(Augmentation(), rng) for _ in range(20)} == {Change()}
