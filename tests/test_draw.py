"""What is drawn lies where the boxes are, and no box, name or picture makes drawing fail."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lookonce import draw
from lookonce.detections import Detections

INF, NAN = math.inf, math.nan


def detections(
    *boxes: tuple[float, float, float, float], names: tuple[str, ...] = ("dog",), size: tuple[int, int] = (200, 100)
) -> Detections:
    """Boxes of the first class, the next, and so on around, each surer than the one after it."""
    count = len(boxes)
    return Detections(
        xyxy=np.array(boxes, np.float32).reshape(-1, 4),
        score=np.linspace(0.9, 0.1, count, dtype=np.float32),
        label=np.arange(count, dtype=np.int64) % len(names),
        names=names,
        size=size,
    )


def grey(size: tuple[int, int] = (200, 100)) -> np.ndarray:
    return np.full((size[1], size[0], 3), 128, np.uint8)


def changed(picture: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Where the two differ, (H, W)."""
    return np.asarray((picture != drawn).any(axis=2))


def test_drawing_gives_a_copy() -> None:
    picture = grey()
    drawn = draw.draw(picture, detections((10, 30, 100, 90)))
    assert (picture == 128).all()
    assert drawn.shape == picture.shape
    assert drawn.dtype == np.uint8
    assert not np.shares_memory(picture, drawn)
    assert changed(picture, drawn).any()


def test_without_a_box_the_copy_is_equal() -> None:
    picture = grey()
    drawn = draw.draw(picture, detections())
    assert np.array_equal(drawn, picture)
    assert not np.shares_memory(picture, drawn)


def test_a_picture_that_may_not_be_written_or_is_not_contiguous_can_be_drawn_on() -> None:
    picture = np.broadcast_to(np.uint8(128), (100, 200, 3))[:, ::-1]
    assert np.array_equal(
        draw.draw(picture, detections((10, 30, 100, 90))), draw.draw(grey(), detections((10, 30, 100, 90)))
    )


@pytest.mark.parametrize("label", [0, 1, 2, 79])
def test_the_frame_of_a_box_has_its_colour_inside_its_edges(label: int) -> None:
    """A box of 400 x 300: the frame is 2 wide (.005 of 400), the rest of the inside stays."""
    size, (left, top, right, bottom) = (600, 400), (100, 50, 500, 350)
    found = detections((left, top, right, bottom), names=("dog",) * 80, size=size)
    found.label[:] = label
    picture = grey(size)
    drawn = draw.draw(picture, found)
    colour = np.array(draw.colour_of(label))
    for edge in (drawn[top:bottom, left], drawn[top:bottom, right - 1], drawn[bottom - 1, left:right]):
        assert (edge == colour).all()
    assert not changed(picture, drawn)[top + 2 : bottom - 2, left + 2 : right - 2].any()


def test_nothing_is_drawn_but_the_box_and_its_name_above_it() -> None:
    size, (left, top, right, bottom) = (600, 400), (100, 50, 500, 350)
    picture = grey(size)
    touched = changed(picture, draw.draw(picture, detections((left, top, right, bottom), size=size)))
    rows, columns = np.nonzero(touched)
    assert 0 < top - rows.min() < 30
    assert rows.max() == bottom - 1
    assert (columns.min(), columns.max()) == (left, right - 1)
    above = columns[rows < top]
    assert above.min() == left
    assert 20 < above.max() - left < 120                          # "dog 90%"


OUTSIDE = [(-90.0, -90.0, -10.0, -10.0), (250.0, 20.0, 300.0, 60.0), (20.0, 150.0, 60.0, 190.0)]
EMPTY = [(50.0, 50.0, 50.0, 80.0), (50.0, 50.0, 80.0, 50.0), (80.0, 80.0, 50.0, 50.0), (50.1, 50.1, 50.4, 50.4)]


@pytest.mark.parametrize("box", OUTSIDE + EMPTY)
def test_a_box_that_covers_nothing_of_the_picture_is_not_drawn(box: tuple[float, float, float, float]) -> None:
    assert np.array_equal(draw.draw(grey(), detections(box)), grey())


@pytest.mark.parametrize("box", [(-50.0, -50.0, 250.0, 150.0), (-INF, -INF, INF, INF), (-1e30, 0.0, 1e30, 100.0)])
def test_a_box_that_reaches_over_the_edge_is_drawn_along_it(box: tuple[float, float, float, float]) -> None:
    assert np.array_equal(draw.draw(grey(), detections(box)), draw.draw(grey(), detections((0, 0, 200, 100))))


def test_a_box_that_is_not_a_number_is_not_drawn() -> None:
    """Weights that are not finite can be allowed, and give such boxes."""
    good = (10.0, 30.0, 100.0, 90.0)
    for bad in [(NAN, 0.0, 10.0, 10.0), (0.0, 0.0, NAN, 10.0), (NAN, NAN, NAN, NAN)]:
        drawn = draw.draw(grey(), detections(good, bad))
        assert np.array_equal(drawn, draw.draw(grey(), detections(good)))


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (2, 2), (16384, 8)])
def test_a_picture_of_any_size_can_be_drawn_on(size: tuple[int, int]) -> None:
    drawn = draw.draw(grey(size), detections((0, 0, *map(float, size)), (0, 0, 1, 1), (-5, -5, 900, 900), size=size))
    assert drawn.shape == (size[1], size[0], 3)
    assert changed(grey(size), drawn).any()


def test_a_thousand_boxes_are_drawn() -> None:
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 500, (1000, 2))
    boxes = np.concatenate([corners, corners + rng.uniform(0, 300, (1000, 2))], axis=1)
    drawn = draw.draw(grey((640, 480)), detections(*map(tuple, boxes.tolist()), names=("a", "b"), size=(640, 480)))
    assert changed(grey((640, 480)), drawn).mean() > 0.5


NAMES = ["", " ", "two\nlines", "\r\t\0\x1b[2J", "\u202eright to left", "犬 🐕 ñ", "\udcff", "x" * 9999, "%s {0} <b>"]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_whatever_a_class_is_called_its_name_is_one_short_line(name: str) -> None:
    """At this size a line is less than 20 pixels high, and 40 letters less than 400 wide."""
    size, box = (800, 400), (100.0, 200.0, 300.0, 300.0)
    touched = changed(grey(size), draw.draw(grey(size), detections(box, names=(name,), size=size)))
    assert not touched[: 200 - 20].any()
    assert not touched[:, 100 + 400 :].any()
    assert touched[200 - 10 : 200, 102:110].any()
    assert not touched[300:].any()


def test_names_of_boxes_that_lie_on_each_other_are_not_written_on_each_other() -> None:
    """Three places are to be had at a box: above, below, and inside its top."""
    size, box, colours = (600, 400), (100.0, 100.0, 500.0, 300.0), [draw.colour_of(label) for label in range(3)]
    drawn = draw.draw(grey(size), detections(box, box, box, names=("a", "b", "c"), size=size))
    left_of_the_letters = slice(100, 102)
    for rows, colour in zip((slice(94, 100), slice(300, 306), slice(102, 108)), colours, strict=True):
        assert (drawn[rows, left_of_the_letters] == np.array(colour)).all()
    assert (drawn[200, left_of_the_letters] == np.array(colours[0])).all()            # the surest is on top


def test_neighbouring_classes_have_colours_that_can_be_told_apart() -> None:
    colours = [np.array(draw.colour_of(label)) for label in range(1000)]
    assert all(np.abs(a - b).sum() > 60 for a, b in pairwise(colours))
    assert all(((colour >= 0) & (colour <= 255)).all() for colour in colours)


# ---------------------------------------------------------------------- files
@pytest.mark.parametrize(("name", "kind"), [("a.png", "PNG"), ("a.PNG", "PNG"), ("a.jpg", "JPEG"), ("a", "JPEG")])
def test_the_suffix_says_how_a_picture_is_saved(name: str, kind: str, tmp_path: Path) -> None:
    picture = np.tile(np.arange(200, dtype=np.uint8)[None, :, None], (100, 1, 3))
    draw.save(picture, tmp_path / "new" / name)
    with Image.open(tmp_path / "new" / name) as image:
        assert image.format == kind
        assert np.abs(np.asarray(image).astype(int) - picture).max() <= (0 if kind == "PNG" else 4)
    assert [path.name for path in (tmp_path / "new").iterdir()] == [name]


def test_what_was_drawn_can_be_saved(tmp_path: Path) -> None:
    drawn = draw.draw(grey(), detections((10, 30, 100, 90)))
    draw.save(drawn, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as image:
        assert np.array_equal(np.asarray(image), drawn)


def test_a_picture_that_cannot_be_saved_leaves_the_old_file(tmp_path: Path) -> None:
    """A JPEG has at most 65,535 pixels a side."""
    (tmp_path / "a.jpg").write_bytes(b"older")
    with pytest.raises(OSError, match="."):
        draw.save(np.zeros((1, 65_536, 3), np.uint8), tmp_path / "a.jpg")
    assert (tmp_path / "a.jpg").read_bytes() == b"older"
    assert len(list(tmp_path.iterdir())) == 1
