"""What a form cannot say is warned of: each loss with its count, and nothing that the dataset does not have."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path

import numpy as np
import pytest
from smallsets import everything, picture

from lookonce.data.dataset import Dataset, Item
from lookonce.data.losses import LOST, losses
from lookonce.data.writing import FORMATS, write_dataset
from lookonce.errors import LookonceWarning
from lookonce.truth import Truth

BOX = np.array([[1.0, 2, 11, 12]])


def test_every_form_that_is_written_is_in_the_table() -> None:
    assert LOST.keys() == FORMATS.keys()


@pytest.mark.parametrize(
    ("format", "kinds"),
    [
        ("voc", ["1 crowds become difficult", "2 classes of whole pictures"]),
        ("coco", ["2 classes of whole pictures"]),
        ("darknet", ["1 difficult objects", "1 crowds become objects like others", "2 classes of whole pictures"]),
        ("openimages", ["1 difficult objects"]),
        ("cvat", []),
        ("labelstudio", []),
    ],
)
def test_what_is_lost_is_warned_of_and_counted(tmp_path: Path, format: str, kinds: list[str]) -> None:
    """`everything` has one difficult object, one crowd, and a picture of two classes; all areas are width x height."""
    dataset = everything(tmp_path / "set")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", LookonceWarning)
        write_dataset(dataset, tmp_path / "out", format)
    said = [str(one.message) for one in caught if one.category is LookonceWarning]
    assert len(said) == len(kinds)
    for line, kind in zip(said, kinds, strict=True):
        assert line.startswith(f"{tmp_path / 'out'}: {kind}")
        assert "\n" not in line


def test_where_warnings_are_errors_nothing_is_written(tmp_path: Path) -> None:
    dataset = everything(tmp_path / "set")
    with warnings.catch_warnings():
        warnings.simplefilter("error", LookonceWarning)
        with pytest.raises(LookonceWarning, match="difficult"):
            write_dataset(dataset, tmp_path / "out", "darknet")
    assert not (tmp_path / "out").exists()


def test_areas_classes_without_objects_a_hierarchy_and_boxes(tmp_path: Path) -> None:
    path = picture(tmp_path / "a.jpg")
    truths = (Truth.of(np.array([0]), xyxy=BOX, area=np.array([55.0]), classes=(0,)),
              Truth.of(np.array([0]), xyxy=BOX, area=np.array([100.3]), classes=(1,)))  # fmt: skip
    items = tuple(Item(str(number), path, (40, 30), truth, absent=(2,)) for number, truth in enumerate(truths))
    dataset = Dataset("openimages", tmp_path, ("cat", "pet", "dog"), items, above=((1,), (), (1,)))
    area, tags = "1 areas of masks", "2 classes of whole pictures"
    absent, above = "2 classes looked for", "2 classes lose those above"
    for format, expected in {
        "coco": [tags, absent, above],
        "voc": [area, tags, absent, above, "1 classes without objects are left out: pet"],
        "darknet": [area, tags, absent, above],
        "folder": ["2 boxes are left out", absent, above, "1 classes without objects are left out: dog"],
        "openimages": [area, above],
        "cvat": [area, absent, above],
    }.items():
        found = losses(dataset, format)
        assert len(found) == len(expected), format
        assert all(line.startswith(start) for line, start in zip(found, expected, strict=True)), found


def test_vocs_own_classes_are_known_without_objects(tmp_path: Path) -> None:
    """A reader of VOC takes its 20 names if there is no other; of others it knows those that something bears."""
    item = Item("a", tmp_path / "a.jpg", (40, 30), Truth.of(np.array([0]), xyxy=BOX))
    dataset = Dataset("coco", tmp_path, ("cat", "dog"), (item,))
    assert losses(dataset, "voc") == []
    assert losses(dataclasses.replace(dataset, names=("lynx", "dog")), "voc") == [
        "1 classes without objects are left out: dog"
    ]
