"""Open Images' tables: boxes, verified labels, names and hierarchy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from smallsets import picture, text

from lookonce.data import open_dataset
from lookonce.data.openimages import tables_in
from lookonce.errors import DataError

HEAD = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside\n"
NAMES = "/m/cat,Cat\n/m/dog,Dog\n/m/pet,\"Pet, of any kind\"\n"
TREE = {
    "LabelName": "/m/all",
    "Subcategory": [
        {
            "LabelName": "/m/pet",
            "Subcategory": [
                {"LabelName": "/m/between", "Subcategory": [{"LabelName": "/m/cat"}]},
                {"LabelName": "/m/dog"},
            ],
            "Part": [{"LabelName": "/m/dog"}],
        }
    ],
}


def small(root: Path, rows: str = "a,xclick,/m/dog,1,.25,.75,.5,1,0,0,1,0,0\n", labels: str = "") -> Path:
    """A validation split: boxes, labels, names and hierarchy, and pictures a and b of 40 x 30."""
    text(root / "validation-annotations-bbox.csv", HEAD + rows)
    text(root / "validation-human-imagelabels.csv", "ImageID,Source,LabelName,Confidence\n" + labels)
    text(root / "class-descriptions-boxable.csv", NAMES)
    text(root / "hierarchy.json", json.dumps(TREE))
    for id in "ab":
        picture(root / "validation" / f"{id}.jpg")
    return root


def test_boxes_become_pixels_and_groups_crowds(tmp_path: Path) -> None:
    dataset = open_dataset(small(tmp_path))
    (item,) = dataset.items
    assert (dataset.format, dataset.names) == ("openimages", ("Cat", "Dog", "Pet, of any kind"))
    assert (item.truth.xyxy.tolist(), item.truth.crowd.tolist()) == ([[10, 15, 30, 30]], [True])
    assert (item.name, item.size, item.path) == ("a", (40, 30), tmp_path / "validation" / "a.jpg")


def test_verified_labels_are_there_or_known_not_to_be(tmp_path: Path) -> None:
    labels = "b,verification,/m/cat,1\nb,verification,/m/dog,0\na,crowdsource-verification,/m/cat,0\n"
    one, two = open_dataset(small(tmp_path, labels=labels)).items
    assert (one.truth.classes, one.absent) == ((), (0,))
    assert (two.truth.classes, two.absent) == ((0,), (1,))


def test_a_class_has_those_above_it_by_subcategory_not_by_part_and_never_the_root(tmp_path: Path) -> None:
    """What lies between and has no name, as /m/between, is passed over."""
    assert open_dataset(small(tmp_path)).above == ((2,), (2,), ())


@pytest.mark.parametrize(
    ("row", "kind"),
    [
        ("a,x,/m/cow,1,.25,.75,.5,1,0,0,0,0,0", "unknown name"),
        ("a,x,/m/dog,1,.75,.25,.5,1,0,0,0,0,0", "unreadable box"),
        ("a,x,/m/dog,1,nan,.25,.5,1,0,0,0,0,0", "unreadable box"),
        ("a,x,/m/dog,1,10,20,.5,1,0,0,0,0,0", "unreadable box"),
        ("a,x,/m/dog,1", "unreadable box"),
        (",x,/m/dog,1,.25,.75,.5,1,0,0,0,0,0", "unreadable row"),
    ],
)
def test_a_faulty_row_is_an_error_at_its_line(tmp_path: Path, row: str, kind: str) -> None:
    root = small(tmp_path, f"a,x,/m/dog,1,.25,.75,.5,1,0,0,0,0,0\n{row}\n")
    found = open_dataset(root, lenient=True)
    assert [(p.kind, p.place, p.is_error) for p in found.problems] == [(kind, "line 3", True)]
    assert [len(item.truth) for item in found.items] == [1]


def test_a_machines_labels_are_left_out(tmp_path: Path) -> None:
    found = open_dataset(small(tmp_path, labels="a,machine,/m/cat,0.7\n"))
    assert ([p.kind for p in found.problems], found.items[0].truth.classes) == (["unverified label"], ())


def test_a_picture_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    root = small(tmp_path, "../a,x,/m/dog,1,.25,.75,.5,1,0,0,0,0,0\nc,x,/m/dog,1,.25,.75,.5,1,0,0,0,0,0\n")
    assert [p.kind for p in open_dataset(root, lenient=True).problems] == ["missing picture"] * 2


def test_several_splits_are_told_apart_by_the_names_of_their_files(tmp_path: Path) -> None:
    root = small(tmp_path)
    text(root / "test-annotations-bbox.csv", HEAD)
    assert len(open_dataset(root, split="validation")) == 1
    with pytest.raises(DataError, match="holds several splits: test, validation; say which with split"):
        open_dataset(root)


def test_the_table_of_boxes_alone_brings_its_neighbours_along(tmp_path: Path) -> None:
    root = small(tmp_path, labels="a,verification,/m/cat,1\n")
    dataset = open_dataset(root / "validation-annotations-bbox.csv")
    assert (dataset.names[0], dataset.items[0].truth.classes, len(dataset.items[0].truth)) == ("Cat", (0,), 1)


def test_without_descriptions_codes_are_the_names(tmp_path: Path) -> None:
    root = small(tmp_path)
    (root / "class-descriptions-boxable.csv").unlink()
    assert open_dataset(root).names == ("/m/dog",)


@pytest.mark.shared
def test_the_real_hierarchy_puts_a_dog_below_mammal_and_animal(shared: Path, tmp_path: Path) -> None:
    """/m/0bt9lr is a dog, /m/04rky a mammal, /m/0jbk an animal."""
    root = small(tmp_path, "a,x,/m/0bt9lr,1,.25,.75,.5,1,0,0,0,0,0\n")
    text(root / "class-descriptions-boxable.csv", "/m/0bt9lr,Dog\n/m/04rky,Mammal\n/m/0jbk,Animal\n/m/0bl9f,Entity\n")
    (root / "hierarchy.json").unlink()
    real = shared / "data" / "lists" / "bbox_labels_600_hierarchy.json"
    (root / real.name).symlink_to(real)
    assert tables_in(root).hierarchy == root / real.name
    assert open_dataset(root).above == ((1, 2), (2,), (), ())
