"""Several datasets as one, against lists made by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from lookonce.data import Dataset, Item
from lookonce.data.augment import picked, sample
from lookonce.data.batches import Augmentation, Plan
from lookonce.data.mixed import mixed, renumbered, united
from lookonce.truth import Truth

GREY = 128 / 255


def boxed(name: str, labels: list[int], classes: tuple[int, ...] = ()) -> Item:
    box = np.array([[10.0, 10.0, 30.0, 30.0]] * len(labels))
    return Item(name, Path(f"{name}.png"), (40, 40), Truth.of(np.array(labels), xyxy=box, classes=classes))


def test_one_class_of_two_lists_has_one_number_and_the_first_word() -> None:
    """VOC's motorbike is COCO's motorcycle; case and blanks do not count."""
    names, maps = united([("motorbike", "cat", "tv monitor"), ("Cat", "airplane", "motorcycle", "dog")])
    assert names == ("motorbike", "cat", "tv monitor", "airplane", "dog")
    assert maps == ((0, 1, 2), (1, 3, 0, 4))


def test_pictures_keep_boxes_and_how_far_their_labels_reach() -> None:
    one = Dataset("voc", Path("one"), ("a", "b"), (boxed("1", [0, 1]), boxed("2", [])))
    other = Dataset("folder", Path("other"), ("c", "b"), (boxed("3", [], (1,)), boxed("4", [], (0, 1))), numbers=(7, 9))
    names = ("a", "b", "c")
    whole = mixed([renumbered(one, (0, 1), names), renumbered(other, (2, 1), names)])
    assert [item.name for item in whole.items] == ["1", "2", "3", "4"]
    assert whole.parts == (2, 2)
    assert (whole.path, whole.names) == (Path("one"), names)
    assert [item.truth.label.tolist() for item in whole.items] == [[0, 1], [], [], []]
    assert [item.truth.classes for item in whole.items] == [(), (), (1,), (2, 1)]
    np.testing.assert_array_equal(whole.items[0].truth.xyxy, one.items[0].truth.xyxy)


def test_classes_that_become_one_are_said_once() -> None:
    data = Dataset("folder", Path("set"), ("tabby", "persian"), (boxed("1", [], (0, 1)),))
    assert renumbered(data, (4, 4), ("",) * 5).items[0].truth.classes == (4,)


def test_a_mosaic_is_of_pictures_of_one_part() -> None:
    """Of 5, 20 and 975 pictures a mosaic drawn from all would hardly ever be of the first."""
    mosaic = Augmentation(placing="place", mosaic=1.0)
    for first, (begin, end) in ((2, (0, 5)), (5, (5, 25)), (24, (5, 25)), (25, (25, 1000))):
        seen = set()
        for number in range(60):
            found = picked(mosaic, Plan(number, (first,), 8, 8), 0, 1, 1000, (), (5, 20, 975))
            assert len(found) == 4
            seen.update(found)
        assert min(seen) >= begin
        assert max(seen) < end
        assert len(seen) > 4


def test_another_picture_in_place_of_a_bad_one_is_of_its_part() -> None:
    for number in range(40):
        (found,) = picked(Augmentation(), Plan(number, (7,), 8, 8), 0, 1, 100, {7}, (5, 10, 85))
        assert 5 <= found < 15
        assert found != 7


def _white(size: int) -> np.ndarray:
    return np.full((size, size, 3), 255, np.uint8)


def test_a_small_picture_of_a_class_is_shown_whole_at_all_sizes_from_its_own() -> None:
    """A white picture of 16 pixels in an input of 64: its area is counted on the grey."""
    shown = Item("1", Path("1.png"), (16, 16), Truth.of(np.zeros(0, np.int64), classes=(3,)))
    for placing in ("place", "crop"):
        sides = []
        for number in range(200):
            found = sample(
                [shown], lambda item: _white(16), Augmentation(placing=placing, jitter=0.1, resize="stretch"),
                Plan(number, (0,), 64, 64), 0, 0,
            )  # fmt: skip
            sides.append(side_of(found.picture))
            assert found.label.tolist() == [3]
            assert np.isnan(found.cxcywh).all()
        assert 13 < min(sides) < 22
        assert 54 < max(sides) <= 64
        assert abs(np.mean(sides) - 40) < 4
        large = sample([shown], lambda item: _white(200), Augmentation(placing=placing), Plan(0, (0,), 64, 64), 0, 0)
        assert large.picture.min() > 0.9 or placing == "place"


def test_a_small_picture_with_a_box_is_enlarged_as_it_was() -> None:
    boxes = boxed("1", [0])
    for number in range(20):
        found = sample([boxes], lambda item: _white(16), Augmentation(placing="crop"), Plan(number, (0,), 64, 64), 0, 0)
        assert found.picture.min() == 1


def side_of(picture: np.ndarray) -> float:
    """The side of a square as large as what is not grey."""
    return float(np.sqrt((np.abs(picture[0] - GREY) > 0.02).sum()))
