from __future__ import annotations

import math

import numpy as np
import pytest

from lookonce import pictures
from lookonce.data import placing, turning
from lookonce.data.batches import Augmentation
from lookonce.data.placing import Axis
from lookonce.data.turning import Turn


def noise(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, 3), np.uint8)


def at(picture: np.ndarray, x: float, y: float) -> np.ndarray:
    """Bilinear, and 0 outside (image.c, bilinear_interpolate and get_pixel_extend)."""
    left, top = math.floor(x), math.floor(y)
    total = np.zeros(3)
    for row, share_row in ((top, 1 - (y - top)), (top + 1, y - top)):
        for column, share_column in ((left, 1 - (x - left)), (left + 1, x - left)):
            if 0 <= row < picture.shape[0] and 0 <= column < picture.shape[1]:
                total += picture[row, column] / 255 * share_row * share_column
    return total


def on_grey(picture: np.ndarray, across: Axis, down: Axis, width: int, height: int) -> np.ndarray:
    canvas = np.full((3, height, width), 0.5, np.float32)
    placing.put(picture, canvas, across, down)
    return canvas.transpose(1, 2, 0)


@pytest.mark.parametrize(
    ("width", "height", "left", "top"),
    [(13, 9, 3, 2), (30, 25, 0, 0), (40, 31, -5, -3), (7, 26, 20, 4), (1, 1, 4, 4), (20, 20, 40, 40)],
)
def test_a_picture_is_placed_as_darknet_places_it(width: int, height: int, left: int, top: int) -> None:
    """Made smaller, larger (with its dark edge), of another aspect, over the input's edges, and out of sight."""
    picture = noise(18, 21)
    wanted = np.full((25, 30, 3), 0.5)
    for y in range(height):
        for x in range(width):
            if 0 <= y + top < 25 and 0 <= x + left < 30:
                wanted[y + top, x + left] = at(picture, x / width * 21, y / height * 18)
    across, down = placing.placed(21, width, left, 30), placing.placed(18, height, top, 25)
    assert np.abs(on_grey(picture, across, down, 30, 25) - wanted).max() < 2e-6


@pytest.mark.parametrize(
    ("left", "top", "width", "height"), [(2, 3, 15, 10), (-4, -2, 30, 25), (5, -6, 9, 28), (20, 17, 1, 1)]
)
def test_a_picture_is_cropped_as_darknet_crops_it(left: int, top: int, width: int, height: int) -> None:
    """crop_image repeats the edge; resize_image puts the corners' centres on each other and repeats the last pixel."""
    picture = noise(18, 21)
    crop = np.array([
        [picture[min(max(y + top, 0), 17), min(max(x + left, 0), 20)] for x in range(width)] for y in range(height)
    ])  # fmt: skip
    wanted = np.zeros((25, 30, 3))
    for y in range(25):
        for x in range(30):
            wanted[y, x] = at(crop, x * (width - 1) / 29, y * (height - 1) / 24)
    across, down = placing.cropped(21, left, width, 30), placing.cropped(18, top, height, 25)
    assert np.abs(on_grey(picture, across, down, 30, 25) - wanted).max() < 3e-6


@pytest.mark.parametrize("kind", ["letterbox", "stretch", "crop"])
@pytest.mark.parametrize("shape", [(18, 21), (40, 11), (1, 9)])
def test_a_picture_is_fitted_to_the_bit_as_for_judging(kind: pictures.Kind, shape: tuple[int, int]) -> None:
    picture, wanted = noise(*shape), np.empty((3, 25, 30), np.float32)
    pictures.fit(picture, wanted, kind)
    augmentation, size = Augmentation(resize=kind), (shape[1], shape[0])
    across, down = placing.draw(augmentation, size, (30, 25), np.random.default_rng(0))
    assert np.array_equal(on_grey(picture, across, down, 30, 25), wanted.transpose(1, 2, 0))


AXES = [placing.placed(21, 17, 5, 30), placing.placed(21, 40, -3, 30), placing.cropped(21, 4, 13, 30)]


@pytest.mark.parametrize("across", AXES)
def test_a_mirrored_axis_shows_the_mirrored_picture(across: Axis) -> None:
    picture, down = noise(18, 21), placing.placed(18, 25, 0, 25)
    plain = on_grey(picture, across, down, 30, 25)
    assert np.array_equal(on_grey(picture, across.mirrored(30), down, 30, 25), plain[:, ::-1])
    # pixel 7 lies as far from the right as it lay from the left
    there = across.mirrored(30)
    assert there.scale * 7 + there.shift == pytest.approx(30 - (across.scale * 7 + across.shift))


@pytest.mark.parametrize("across", AXES)
@pytest.mark.parametrize(("start", "stop"), [(0, 30), (7, 19), (0, 4), (25, 30)])
def test_a_window_shows_what_lies_there(across: Axis, start: int, stop: int) -> None:
    picture, down = noise(18, 21), placing.placed(18, 25, 0, 25)
    whole = on_grey(picture, across, down, 30, 25)
    part = on_grey(picture, across.window(start, stop), down, stop - start, 25)
    assert np.array_equal(part, whole[:, start:stop])
    assert across.window(start, stop).shift == across.shift - start


def test_places_are_drawn_within_the_input_and_aspects_within_the_jitter() -> None:
    """A picture of 40 x 30 with jitter .3: aspects from 28/39 to 52/21, whole in a square, touching all its edges."""
    rng, augmentation = np.random.default_rng(3), Augmentation("place", jitter=0.3)
    axes = [placing.draw(augmentation, (40, 30), (100, 100), rng) for _ in range(3000)]
    edges = np.array([[across.begin, across.end, down.begin, down.end] for across, down in axes])
    assert edges.min() == 0
    assert edges.max() == 100
    sides = edges[:, 1::2] - edges[:, ::2]
    assert (sides.max(axis=1) >= 99).all()                  # one side fills the input
    aspect = sides[:, 0] / sides[:, 1]
    assert 28 / 39 - 0.02 < aspect.min() < 0.78
    assert 2.3 < aspect.max() < 52 / 21 + 0.05
    free = 100 - sides[:, 1]
    share = edges[free > 20, 2] / free[free > 20]
    assert abs(share.mean() - 0.5) < 0.03
    assert share.max() > 0.95


def test_crops_are_drawn_by_whole_pixels_within_the_jitter() -> None:
    """A picture of 40 x 30 with jitter .2: each side moves by up to 8 and 6 pixels; pixel 0 tells by how many."""
    rng, augmentation = np.random.default_rng(3), Augmentation("crop", jitter=0.2)
    axes = [placing.draw(augmentation, (40, 30), (80, 60), rng) for _ in range(4000)]
    left = np.array([-across.shift / across.scale for across, _ in axes])
    width = np.array([80 / across.scale for across, _ in axes])
    assert np.allclose(left, np.round(left))
    assert {round(x) for x in left} == set(range(-7, 8))
    assert width.min() >= 40 - 14
    assert width.max() <= 40 + 14
    assert {round(-down.shift / down.scale) for _, down in axes} == set(range(-5, 6))


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("degrees", [0, 7, -45, 180])
def test_a_picture_is_turned_as_darknet_turns_it(degrees: float, mirrored: bool) -> None:
    """rotate_crop_image, term by term; then flip_image."""
    picture, (width, height), s, a, dx, dy = noise(18, 21), (24, 40), 1.3, 0.8, 2.5, -1.5
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    wanted = np.zeros((height, width, 3))
    for y in range(height):
        for x in range(width):
            u, v = (x - width / 2) / s * a + dx / s * a, (y - height / 2) / s + dy / s
            wanted[y, x] = at(picture, cos * u - sin * v + 21 / 2, sin * u + cos * v + 18 / 2)
    matrix = np.array([[cos * a, -sin], [sin * a, cos]]) / s
    origin = np.array([21 / 2, 18 / 2]) + matrix @ [dx - width / 2, dy - height / 2]
    canvas = np.empty((3, height, width), np.float32)
    turning.put(picture, canvas, Turn(matrix, origin, mirrored))
    found = canvas.transpose(1, 2, 0)[:, :: -1 if mirrored else 1]
    assert np.abs(found - wanted).max() < 2e-4              # places of pixels are counted in single precision


@pytest.mark.parametrize("shape", [(1, 1), (1, 12), (9, 1), (2, 2)])
def test_a_picture_of_one_row_or_column_can_be_turned(shape: tuple[int, int]) -> None:
    picture, canvas = noise(*shape), np.empty((3, 8, 8), np.float32)
    turning.put(picture, canvas, Turn(np.eye(2), np.array([-2.5, -2.5]), False))
    wanted = np.array([[at(picture, x - 2.5, y - 2.5) for x in range(8)] for y in range(8)])
    assert np.abs(canvas.transpose(1, 2, 0) - wanted).max() < 1e-6


def test_turns_are_drawn_as_darknet_draws_them() -> None:
    """Of a picture of 50 x 30 for 64 x 64: angle ±7, aspect .75, the shorter side 80 to 96 pixels."""
    rng = np.random.default_rng(0)
    augmentation = Augmentation("rotate", angle=7.0, aspect=0.75, least=80, most=96, base=64, flip=True)
    turns = [turning.draw(augmentation, (50, 30), (64, 64), rng) for _ in range(2000)]
    angles = np.array([math.degrees(math.atan2(-turn.matrix[0, 1], turn.matrix[1, 1])) for turn in turns])
    assert 6.9 < angles.max() <= 7
    assert -7 <= angles.min() < -6.9
    scale = np.array([1 / math.hypot(turn.matrix[0, 1], turn.matrix[1, 1]) for turn in turns])
    aspect = np.array([math.hypot(*turn.matrix[:, 0]) * s for turn, s in zip(turns, scale, strict=True)])
    assert 0.75 <= aspect.min() < 0.76
    assert 1.32 < aspect.max() <= 4 / 3
    shorter = scale * np.minimum(30, 50 * aspect)
    assert np.allclose(shorter, np.round(shorter))
    assert {round(side) for side in shorter} == set(range(80, 97))
    assert abs(np.mean([turn.mirrored for turn in turns]) - 0.5) < 0.05


def test_crops_of_a_classifier_grow_with_its_input() -> None:
    """At 128 of a base of 64 the shorter side is twice as many pixels; without a base it stays."""
    for base, wanted in ((64, 160), (0, 80)):
        augmentation = Augmentation("rotate", least=80, most=80, base=base)
        turn = turning.draw(augmentation, (30, 30), (128, 128), np.random.default_rng(0))
        assert 30 / turn.matrix[0, 0] == pytest.approx(wanted)


def test_a_classifier_without_crop_sizes_takes_its_input() -> None:
    turn = turning.draw(Augmentation("rotate"), (30, 60), (90, 90), np.random.default_rng(0))
    assert turn.matrix == pytest.approx(np.eye(2) / 3)
