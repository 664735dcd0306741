from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lookonce.data import Item
from lookonce.data.augment import Sample, compose, picked, sample
from lookonce.data.batches import Augmentation, Plan
from lookonce.truth import Truth

PLACE = Augmentation("place", jitter=0.3, flip=True, hue=0.1, saturation=1.5, exposure=1.5)
CROP = replace(PLACE, placing="crop", jitter=0.2)
ROTATE = replace(PLACE, placing="rotate", angle=7.0, aspect=0.75, least=96, most=128)
NO_OBJECT = np.zeros(0, np.int64)


def item(*xyxy: tuple[float, ...], name: str = "a", size: tuple[int, int] | None = None, **more: object) -> Item:
    """A picture with boxes of classes 0, 1, 2, ..."""
    truth = Truth.of(np.arange(len(xyxy)), xyxy=np.array(xyxy, np.float64).reshape(-1, 4), **more)
    return Item(name, Path(f"{name}.jpg"), size, truth)


def grey(_: Item) -> np.ndarray:
    return np.full((60, 80, 3), 128, np.uint8)


def one(
    subject: Item, augmentation: Augmentation, number: int = 0, size: tuple[int, int] = (96, 96), look: object = grey
) -> Sample:
    """A sample of the only picture there is."""
    return sample([subject], look, augmentation, Plan(number, (0,), *size), 0, 7)


def shining(box: tuple[int, int, int, int]) -> object:
    """Shows every picture as black with a white box, 80 x 60."""
    picture = np.zeros((60, 80, 3), np.uint8)
    picture[box[1] : box[3], box[0] : box[2]] = 255
    return lambda item: picture


# ---------------------------------------------------------------------- what is random
def test_a_sample_follows_from_the_seed_the_number_and_the_place() -> None:
    rng = np.random.default_rng(0)
    looks = {name: rng.integers(0, 256, (30, 40, 3), np.uint8) for name in "abcd"}
    items = [item((1, 2, 30, 20), (3, 4, 9, 9), name=name) for name in looks]
    mosaic = replace(PLACE, mosaic=0.5)

    def make(seed: int, number: int, place: int) -> bytes:
        plan = Plan(number, (0, 0, 1), 64, 48)
        made = sample(items, lambda item: looks[item.name], mosaic, plan, place, seed)
        return b"".join(part.tobytes() for part in made)

    keys = [(seed, number, place) for seed in (0, 1) for number in (0, 5) for place in (0, 1)]
    assert len({make(*key) for key in keys}) == len(keys)
    assert [make(*key) for key in reversed(keys)] == [make(*key) for key in keys][::-1]


def test_a_sample_is_written_where_it_is_wanted() -> None:
    canvas = np.full((2, 3, 32, 32), np.nan, np.float32)
    made = sample([item()], grey, PLACE, Plan(0, (0,), 32, 32), 0, 0, canvas[1])
    assert made.picture is canvas[1] or np.shares_memory(made.picture, canvas)
    assert np.isnan(canvas[0]).all()
    assert not np.isnan(canvas[1]).any()


@pytest.mark.parametrize("augmentation", [PLACE, CROP, ROTATE, Augmentation(), replace(PLACE, mosaic=1.0)])
def test_every_value_of_a_sample_lies_in_0_to_1(augmentation: Augmentation) -> None:
    rng = np.random.default_rng(2)
    for number in range(20):
        picture = rng.integers(0, 256, (int(rng.integers(1, 90)), int(rng.integers(1, 90)), 3), np.uint8)
        made = one(item((0, 0, 1, 1)), augmentation, number, (64, 96), lambda item, picture=picture: picture)
        assert made.picture.shape == (3, 96, 64)
        assert made.picture.dtype == np.float32
        assert made.picture.min() >= 0
        assert made.picture.max() <= 1


# ---------------------------------------------------------------------- objects
@pytest.mark.parametrize("augmentation", [PLACE, CROP, replace(ROTATE, angle=0.0), Augmentation(),
                                          Augmentation(resize="crop"), Augmentation(resize="stretch")])  # fmt: skip
def test_boxes_go_where_their_pixels_go(augmentation: Augmentation) -> None:
    """What shines in the sample is found by looking; half a pixel of the picture and one of the input are allowed."""
    box = (20, 15, 52, 40)
    plain = replace(augmentation, hue=0.0, saturation=1.0, exposure=1.0)
    for number in range(40):
        made = one(item(box), plain, number, (160, 128), shining(box))
        bright = made.picture.min(axis=0) > 0.55            # Darknet's grey is .5
        columns, rows = np.flatnonzero(bright.any(axis=0)), np.flatnonzero(bright.any(axis=1))
        found = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
        cx, cy, w, h = made.cxcywh[0] * [160, 128, 160, 128]
        allowed = 1.5 + max(made.picture.shape[1:]) / 60
        assert np.abs(found - [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]).max() < allowed


def test_the_box_around_a_turned_box_holds_all_of_it() -> None:
    box = (20, 15, 52, 40)
    plain = replace(ROTATE, hue=0.0, saturation=1.0, exposure=1.0, angle=30.0)
    for number in range(40):
        made = one(item(box), plain, number, (160, 160), shining(box))
        bright = made.picture.min(axis=0) > 0.55
        columns, rows = np.flatnonzero(bright.any(axis=0)), np.flatnonzero(bright.any(axis=1))
        cx, cy, w, h = made.cxcywh[0] * 160
        found = np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
        assert np.abs(found - [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]).max() < 6


def test_half_of_the_samples_are_mirrored() -> None:
    """The box lies in the left half of the picture, which is stretched over the input."""
    flip = Augmentation(resize="stretch", flip=True)
    centres = [one(item((8, 0, 16, 60)), flip, number).cxcywh[0, 0] for number in range(400)]
    assert {round(float(centre), 4) for centre in centres} == {0.15, 0.85}
    assert abs(np.mean(np.array(centres) > 0.5) - 0.5) < 0.08
    assert one(item((8, 0, 16, 60)), Augmentation(resize="stretch")).cxcywh[0, 0] == pytest.approx(0.15)


def test_boxes_are_cut_at_the_input_and_dropped_if_nothing_is_left() -> None:
    """Cropped to its middle, 80 x 60 becomes 60 x 60: from 10 to 70. A box of a pixel is 1/60 wide."""
    boxes = [(0, 0, 40, 60), (0, 0, 10, 60), (70, 0, 80, 60), (69, 0, 80, 30), (-50, -50, 200, 200), (30, 10, 31, 20)]
    made = one(item(*boxes), Augmentation(resize="crop", smallest=0.0165))
    wanted = {0: (0.25, 0.5, 0.5, 1), 3: (1 - 1 / 120, 0.25, 1 / 60, 0.5), 4: (0.5, 0.5, 1, 1)}
    found = dict(zip(made.label.tolist(), made.cxcywh.tolist(), strict=True))
    assert found.keys() == {0, 3, 4, 5}
    for label, box in wanted.items():
        assert found[label] == pytest.approx(box, abs=1e-6)
    larger = one(item(*boxes), Augmentation(resize="crop", smallest=0.017))
    assert set(larger.label.tolist()) == {0, 4}


def test_difficult_objects_are_learned_and_crowds_are_not() -> None:
    boxes = [(1, 1, 20, 20)] * 3
    subject = item(*boxes, difficult=np.array([True, False, False]), crowd=np.array([False, True, False]))
    assert set(one(subject, Augmentation()).label.tolist()) == {0, 2}


def test_objects_come_in_every_order() -> None:
    subject = item(*[(1, 1, 20, 20)] * 3)
    orders = [tuple(one(subject, Augmentation(), number).label.tolist()) for number in range(200)]
    assert len(set(orders)) == 6


def test_a_picture_with_classes_alone_has_rows_without_a_place() -> None:
    subject = Item("a", Path("a.jpg"), None, Truth.of(NO_OBJECT, classes=(4, 2)))
    for augmentation in (PLACE, CROP, ROTATE):
        made = one(subject, augmentation)
        assert sorted(made.label.tolist()) == [2, 4]
        assert np.isnan(made.cxcywh).all()
        assert made.cxcywh.shape == (2, 4)


def test_a_picture_without_objects_has_none() -> None:
    made = one(item(), replace(PLACE, mosaic=1.0))
    assert made.cxcywh.shape == (0, 4)
    assert made.label.shape == (0,)


def test_labels_for_another_size_are_right_relative_to_it() -> None:
    """The labels say 160 x 120, the file has 80 x 60."""
    made = one(item((40, 30, 120, 60), size=(160, 120)), Augmentation(resize="stretch"))
    assert made.cxcywh[0].tolist() == pytest.approx([0.5, 0.375, 0.5, 0.25])


# ---------------------------------------------------------------------- colours
def test_the_margin_is_coloured_with_the_picture() -> None:
    """Darknet distorts the whole canvas, so its grey of .5 becomes brighter by as much as a picture that is all .2."""
    brighter = set()
    for number in range(30):
        made = one(item(), PLACE, number, (64, 64), lambda item: np.full((300, 400, 3), 51, np.uint8))
        dark, grey = made.picture.min(), made.picture.max()
        assert grey / dark == pytest.approx(2.5)
        assert np.isclose(made.picture, dark).sum() + np.isclose(made.picture, grey).sum() == made.picture.size
        brighter.add(round(float(grey / 0.5), 3))
    assert min(brighter) < 0.75
    assert max(brighter) > 1.35


# ---------------------------------------------------------------------- mosaics
def four(kind: str = "box") -> list[Item]:
    if kind == "box":
        return [item((8, 6, 72, 54), name=name) for name in "abcd"]
    return [Item(name, Path(name), None, Truth.of(NO_OBJECT, classes=(1,))) for name in "abcd"]


LEVELS = {"a": 10, "b": 60, "c": 110, "d": 200}


def levels(subject: Item) -> np.ndarray:
    return np.full((60, 80, 3), LEVELS[subject.name], np.uint8)


def test_a_mosaic_shows_four_pictures_around_a_point_within_the_middle() -> None:
    """Stretched pictures of one grey each: the quarters tell where the cut is."""
    stretch = Augmentation(resize="stretch", mosaic=1.0)
    cuts = []
    for number in range(300):
        canvas = np.empty((3, 80, 100), np.float32)
        compose(four(), levels, stretch, number, 0, 0, canvas)
        shown = np.round(canvas[0] * 255).astype(int)
        x, y = int((shown[0] == 10).sum()), int((shown[:, 0] == 10).sum())
        wanted = np.empty((80, 100), int)
        wanted[:y, :x], wanted[:y, x:], wanted[y:, :x], wanted[y:, x:] = 10, 60, 110, 200
        assert np.array_equal(shown, wanted)
        cuts.append((x / 100, y / 80))
    assert np.min(cuts) >= 0.2
    assert np.max(cuts) <= 0.8
    assert np.ptp(cuts) > 0.55


def test_each_quarter_of_a_mosaic_shows_a_random_part_of_its_picture() -> None:
    """Of a picture that brightens to the right and down, the first pixel tells which part: from all of it that fits."""
    ramp = np.zeros((101, 101, 3), np.uint8)
    ramp[:, :, 0], ramp[:, :, 1] = np.arange(101), np.arange(101)[:, None]
    found = []
    for number in range(300):
        canvas = np.empty((3, 101, 101), np.float32)
        compose(four(), lambda item: ramp, Augmentation(resize="stretch"), number, 0, 0, canvas)
        found.append(canvas[:2, 0, 0] * 255)                # where the left upper quarter begins
    assert np.allclose(found, np.round(found), atol=1e-3)
    assert np.min(found) == 0
    assert (np.max(found, axis=0) > 70).all()               # of the 80 that are left of a quarter of the least size
    assert len({tuple(np.round(each).astype(int)) for each in found}) > 250


def test_boxes_of_a_mosaic_stay_in_their_quarter_and_hold_their_pixels() -> None:
    """The box shines in each picture. What is left of it in the quarter is found by looking."""
    box = (8, 6, 72, 54)
    for number in range(60):
        canvas = np.empty((3, 120, 160), np.float32)
        made = compose(four(), shining(box), Augmentation("place", jitter=0.2, mosaic=1.0), number, 0, 3, canvas)
        bright = np.zeros((120, 160), bool)
        for cx, cy, w, h in made.cxcywh * [160, 120, 160, 120]:
            inner = (slice(round(cy - h / 2) + 3, round(cy + h / 2) - 3), slice(round(cx - w / 2) + 3,
                                                                               round(cx + w / 2) - 3))  # fmt: skip
            assert canvas[:, *inner].size == 0 or canvas[:, *inner].min() > 0.9
            bright[max(0, round(cy - h / 2) - 3) : round(cy + h / 2) + 3,
                   max(0, round(cx - w / 2) - 3) : round(cx + w / 2) + 3] = True  # fmt: skip
        # what shines outside of all boxes belongs to those that are cut to less than a fifth
        lost = (canvas[0] > 0.9) & ~bright
        assert lost.sum() <= 4 * 0.2 * 160 * 120 * 0.64
        assert len(made.label) <= 4


def test_a_box_that_a_mosaic_cuts_to_little_is_dropped() -> None:
    """Of boxes over the whole picture a quarter keeps its share: .04 to .64. Those of less than a fifth are gone."""
    whole = [item((0, 0, 80, 60), name=name) for name in "abcd"]
    shares = []
    for number in range(300):
        made = compose(whole, grey, Augmentation(resize="stretch"), number, 0, 0, np.empty((3, 50, 50), np.float32))
        shares += (made.cxcywh[:, 2] * made.cxcywh[:, 3]).tolist()
    assert 0.2 <= min(shares) < 0.23
    assert max(shares) > 0.55


def test_pictures_with_classes_alone_are_in_no_mosaic() -> None:
    """A quarter of one may show nothing of its class."""
    stretch = Augmentation(resize="stretch", mosaic=1.0)
    for items in ([*four("class")], [*four()[:3], four("class")[3]]):
        canvas = np.empty((3, 20, 20), np.float32)
        compose(items, levels, stretch, 0, 0, 0, canvas)
        assert np.allclose(canvas, LEVELS["a"] / 255)


def test_the_share_of_mosaics_is_kept_and_their_pictures_are_drawn_from_all() -> None:
    plan = Plan(3, tuple(range(2000)), 8, 8)
    picks = [picked(replace(PLACE, mosaic=0.25), plan, place, 0, 2000) for place in range(2000)]
    mosaics = [pick for pick in picks if len(pick) == 4]
    assert abs(len(mosaics) / 2000 - 0.25) < 0.03
    assert {len(pick) for pick in picks} == {1, 4}
    assert [pick[0] for pick in picks] == list(range(2000))
    others = np.array(mosaics)[:, 1:]
    assert others.min() < 20
    assert others.max() > 1980
    assert {len(picked(replace(ROTATE, mosaic=1.0), plan, place, 0, 2000)) for place in range(50)} == {1}


def test_there_are_no_mosaics_from_a_number_on() -> None:
    augmentation = replace(PLACE, mosaic=1.0, mosaic_until=7)
    lengths = [len(picked(augmentation, Plan(number, (0,), 8, 8), 0, 0, 20)) for number in range(5, 10)]
    assert lengths == [4, 4, 1, 1, 1]


# ---------------------------------------------------------------------- bad pictures
@pytest.mark.parametrize("mosaic", [0.0, 1.0])
def test_other_pictures_take_the_place_of_bad_ones_whenever_those_were_found(mosaic: float) -> None:
    """A sample depends on those bad pictures alone that are drawn for it: so it does not matter what is known when."""
    plan, augmentation = Plan(9, tuple(range(50)), 8, 8), replace(PLACE, mosaic=mosaic)
    bad = set(range(0, 50, 3))
    for place in range(50):
        pick = picked(augmentation, plan, place, 1, 50, bad)
        assert not bad & set(pick)
        known: set[int] = set()
        while met := bad & set(step := picked(augmentation, plan, place, 1, 50, known)):
            known |= met
        assert step == pick
