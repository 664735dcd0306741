"""Darknet's lists and texts: where labels lie, how they become pixels, what is found wrong with them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from smallsets import picture, text

from lookonce.data import open_dataset
from lookonce.data.darknet import labels_of, parts_of
from lookonce.errors import DataError


def small(root: Path, rows: str = "1 0.5 0.5 0.25 0.5\n") -> Path:
    """A .data file, with a list of one picture of 40 x 30 for `valid` and another for `train`."""
    for split in ("train", "valid"):
        picture(root / "images" / f"{split}.jpg")
        text(root / "labels" / f"{split}.txt", rows if split == "valid" else "")
        text(root / f"{split}.list", f"images/{split}.jpg\n")
    text(root / "small.names", "cat\ndog\n")
    return text(root / "small.data", "classes = 2\ntrain = train.list\nvalid = valid.list\nnames = small.names\n")


def test_a_relative_box_becomes_pixels_of_its_picture(tmp_path: Path) -> None:
    """Half of 40 x 30 less an eighth of 40 and a quarter of 30."""
    (item,) = open_dataset(small(tmp_path)).items
    assert item.truth.xyxy.tolist() == [[15, 7.5, 25, 22.5]]
    assert (item.truth.label.tolist(), item.size, item.name) == ([1], (40, 30), "valid")


@pytest.mark.parametrize(("split", "name"), [(None, "valid"), ("val", "valid"), ("valid", "valid"), ("train", "train")])
def test_a_split_is_a_key_of_the_data_file(tmp_path: Path, split: str | None, name: str) -> None:
    assert [item.name for item in open_dataset(small(tmp_path), split=split).items] == [name]


def test_several_lists_are_one_split_with_a_picture_of_both_once(tmp_path: Path) -> None:
    """`data check` and its like take all that a .data file learns from and is judged by."""
    path = small(tmp_path)
    assert parts_of(path) == parts_of(tmp_path) == "train+valid"
    assert parts_of(tmp_path / "valid.list") is None
    assert [item.name for item in open_dataset(path, split="train+val").items] == ["train", "valid"]
    text(tmp_path / "train.list", "images/train.jpg\nimages/valid.jpg\n")
    assert [item.name for item in open_dataset(path, split="train+valid").items] == ["train", "valid"]
    assert len(open_dataset(path, split="valid+val")) == 1


def test_an_unknown_split_is_told_those_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no split test; there is train, valid"):
        open_dataset(small(tmp_path), split="test")


@pytest.mark.parametrize(
    ("path", "first"),
    [
        ("a/images/b/c.jpg", "a/labels/b/c.txt"),
        ("images/a/images/c.JPEG", "images/a/labels/c.txt"),
        ("VOC2007/JPEGImages/c.png", "VOC2007/labels/c.txt"),
        ("cat_images/images_1.jpg", "cat_images/images_1.txt"),
        ("c.tar.jpg", "c.tar.txt"),
    ],
)
def test_labels_lie_where_darknet_looks_but_only_for_whole_parts_of_the_path(path: str, first: str) -> None:
    found = labels_of(Path(path))
    assert found[0] == Path(first)
    assert found[-1] == Path(path).with_suffix(".txt")


def test_labels_beside_the_pictures_are_found_too(tmp_path: Path) -> None:
    picture(tmp_path / "a.jpg")
    text(tmp_path / "a.txt", "0 .5 .5 1 1\n")
    text(tmp_path / "classes.txt", "cat\n")
    for path in (text(tmp_path / "list.txt", "a.jpg\n"), tmp_path):
        dataset = open_dataset(path)
        assert (dataset.format, dataset.names, len(dataset.items[0].truth)) == ("darknet", ("cat",), 1)


@pytest.mark.parametrize("layout", ["images/{}", "{}/images"])
def test_a_folder_has_its_splits_below_images_or_images_below_its_splits(tmp_path: Path, layout: str) -> None:
    for split in ("train", "val"):
        folder = tmp_path / layout.format(split)
        picture(folder / f"{split}1.jpg")
        text(Path(str(folder).replace("images", "labels")) / f"{split}1.txt", "0 .5 .5 1 1\n")
    text(tmp_path / "obj.names", "cat\n")
    (item,) = open_dataset(tmp_path, split="val").items
    assert (item.name, len(item.truth)) == ("val1", 1)
    with pytest.raises(DataError, match="holds several splits: train, val; say which with split"):
        open_dataset(tmp_path)


@pytest.mark.parametrize(
    ("row", "kind", "is_error", "kept"),
    [
        ("0 .5 .5 .5", "unreadable box", True, 0),
        ("0 .5 .5 .5 .5 .5", "unreadable box", True, 0),
        ("-1 .5 .5 .5 .5", "unknown name", True, 0),
        ("2 .5 .5 .5 .5", "unknown name", True, 0),
        ("1.5 .5 .5 .5 .5", "unknown name", True, 0),
        ("1000000000 .5 .5 .5 .5", "unknown name", True, 0),
        ("0 nan .5 .5 .5", "unreadable box", True, 0),
        ("0 0,5 .5 .5 .5", "unreadable box", True, 0),
        ("0 20 15 10 15", "unreadable box", True, 0),             # pixels
        ("0 .5 .5 -.5 .5", "unreadable box", True, 0),
        ("0 .5 .5 0 .5", "box without area", False, 1),
    ],
)
def test_a_faulty_line_is_a_problem_at_its_place(
    tmp_path: Path, row: str, kind: str, is_error: bool, kept: int
) -> None:
    found = open_dataset(small(tmp_path, f"0 .5 .5 1 1\n\n{row}\n"), lenient=True)
    assert [(p.kind, p.place, p.is_error) for p in found.problems] == [(kind, "line 3", is_error)]
    assert found.problems[0].file == tmp_path / "labels" / "valid.txt"
    assert len(found.items[0].truth) == 1 + kept


def test_windows_ends_a_mark_and_trailing_blanks_are_no_fault(tmp_path: Path) -> None:
    path = small(tmp_path)
    (tmp_path / "labels" / "valid.txt").write_bytes(b"\xef\xbb\xbf0 .5 .5 1 1 \r\n\r\n1\t.5 .5  1 1")
    assert open_dataset(path).items[0].truth.label.tolist() == [0, 1]


@pytest.mark.parametrize("content", [b"\0\1\2", b"\x89PNG\r\n\x1a\n\0\0"])
def test_bytes_that_are_no_text_are_an_error(tmp_path: Path, content: bytes) -> None:
    path = small(tmp_path)
    (tmp_path / "labels" / "valid.txt").write_bytes(content)
    assert [p.kind for p in open_dataset(path, lenient=True).problems] == ["unreadable labels"]


def test_a_picture_without_labels_is_one_without_objects_but_not_all_of_them(tmp_path: Path) -> None:
    path = small(tmp_path)
    text(tmp_path / "valid.list", "images/valid.jpg\nimages/b.jpg\n")
    picture(tmp_path / "images" / "b.jpg")
    found = open_dataset(path)
    assert [(p.kind, p.file.name, p.is_error) for p in found.problems] == [("picture without labels", "b.jpg", False)]
    assert len(found.items[1].truth) == 0
    (tmp_path / "labels" / "valid.txt").unlink()
    with pytest.raises(DataError, match=r"no picture has labels; of valid.jpg they would be in .*labels/valid.txt"):
        open_dataset(path)


def test_a_missing_or_broken_picture_is_an_error_and_its_boxes_have_no_pixels(tmp_path: Path) -> None:
    path = small(tmp_path)
    (tmp_path / "images" / "valid.jpg").write_bytes(b"\xff\xd8\xff no picture")
    found = open_dataset(path, lenient=True)
    assert ([p.kind for p in found.problems], len(found.items[0].truth)) == (["unreadable picture"], 0)
    (tmp_path / "images" / "valid.jpg").unlink()
    found = open_dataset(path, lenient=True)
    assert ([p.kind for p in found.problems], len(found.items[0].truth)) == (["missing picture"], 0)


def test_a_turned_picture_is_measured_as_it_is_seen(tmp_path: Path) -> None:
    """EXIF's orientation 6 is a quarter turn: 40 x 30 stored is 30 x 40 seen."""
    path = small(tmp_path)
    told = Image.Exif()
    told[0x0112] = 6
    Image.new("RGB", (40, 30)).save(tmp_path / "images" / "valid.jpg", exif=told)
    (item,) = open_dataset(path).items
    assert (item.size, item.truth.xyxy.tolist()) == ((30, 40), [[11.25, 10, 18.75, 30]])


def test_a_wrong_number_of_names_is_an_error(tmp_path: Path) -> None:
    path = small(tmp_path)
    text(tmp_path / "small.names", "cat\ndog\nbird\n")
    with pytest.raises(DataError, match="classes = 2, but there are 3 names"):
        open_dataset(path)


@pytest.mark.shared
def test_darknets_labels_of_real_pictures_are_cocos_boxes(shared: Path) -> None:
    """The same 128 pictures in both forms; the texts have six digits of a share of at most 640 pixels."""
    root = shared / "data" / "coco-val128"
    names = shared / "data" / "lists" / "coco.names"
    by_stem = {item.path.stem: item for item in open_dataset(root, format="coco").items}
    dataset = open_dataset(root, format="darknet", names=names)
    assert len(dataset) == 128
    for item in dataset.items:
        other = by_stem[item.name]
        assert item.size == other.size
        assert item.truth.label.tolist() == other.truth.label.tolist()
        assert np.allclose(item.truth.xyxy, other.truth.xyxy, atol=0.01)
