"""What a dataset is recognised by, and what is said when it is none."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

import pytest
from smallsets import annotation, coco_file, picture, text, voc_root, voc_xml

from lookonce.data import open_dataset
from lookonce.data.opening import FORMATS, recognise
from lookonce.data.writing import FORMATS as WRITTEN
from lookonce.errors import DataError


def test_every_form_that_is_read_is_written() -> None:
    assert FORMATS.keys() == WRITTEN.keys()


def test_the_content_decides_not_the_name(tmp_path: Path) -> None:
    coco_file(tmp_path, [annotation()]).rename(tmp_path / "labels.txt.json")
    assert recognise(tmp_path / "labels.txt.json") == "coco"
    assert recognise(text(tmp_path / "a.json", " [{}]")) == "labelstudio"
    assert recognise(text(tmp_path / "b.xml", "<annotations/>")) == "cvat"
    assert recognise(text(tmp_path / "c.csv", "ImageID,LabelName,XMin,XMax,YMin,YMax\n")) == "openimages"
    assert recognise(text(tmp_path / "d.txt", "a.jpg\n")) == "darknet"


def test_a_format_that_is_said_is_taken_at_its_word(tmp_path: Path) -> None:
    root = voc_root(tmp_path, {"a": voc_xml([("dog", (1, 1, 9, 9))])})
    assert open_dataset(root).format == "voc"
    assert open_dataset(root, format="folder").names == ("Annotations", "JPEGImages")
    with pytest.raises(DataError, match="no format vocc is known here, did you mean voc"):
        open_dataset(root, format="vocc")


def test_names_may_be_a_file(tmp_path: Path) -> None:
    root = voc_root(tmp_path, {"a": voc_xml([("dog", (1, 1, 9, 9))])})
    for names in (text(tmp_path / "my.names", "cat\ndog\n"), str(tmp_path / "my.names"), ["cat", "dog"]):
        dataset = open_dataset(root, names=names)
        assert (dataset.names, dataset.items[0].truth.label.tolist()) == (("cat", "dog"), [1])


def test_what_holds_no_dataset_is_called_what_it_is(tmp_path: Path) -> None:
    """Not asked for its form: an empty file, a picture, a folder of other things."""
    picture(tmp_path / "one.jpg")
    text(tmp_path / "notes" / "today.md", "# Today\n")
    places = {"empty.csv": "is empty", "one.jpg": "is a JPEG picture", "notes": "holds no pictures"}
    text(tmp_path / "empty.csv", "")
    for name, said in places.items():
        with pytest.raises(DataError, match=rf"{name}: {said}; wanted pictures with labels"):
            open_dataset(tmp_path / name)


@pytest.mark.parametrize("content", ["hello", "<html></html>", "a,b,c\n1,2,3\n"])
def test_a_file_of_no_known_form_is_refused(tmp_path: Path, content: str) -> None:
    path = text(tmp_path / "what.csv", content)
    with pytest.raises(DataError, match=r"what.csv: is no dataset of a form .* \(voc, coco, .*--format voc$"):
        open_dataset(path)


def test_an_empty_folder_a_missing_one_and_a_pipe_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").mkdir()
    refused = {"empty": "holds no picture and no labels", "absent": "no such file or folder", "pipe": "is a pipe"}
    for name, said in refused.items():
        with pytest.raises(DataError, match=said):
            open_dataset(tmp_path / name)


@pytest.mark.parametrize("format", FORMATS)
def test_a_format_that_is_said_of_what_is_none_is_refused_in_one_line(tmp_path: Path, format: str) -> None:
    (tmp_path / "empty").mkdir()
    for name in ("notes.txt", "table.csv", "odd.bin"):
        text(tmp_path / "other" / name, "hello, you\n1,2\n")
    for name in ("empty", "other", "other/notes.txt", "other/table.csv", "other/odd.bin", "absent"):
        with pytest.raises(DataError) as raised:
            open_dataset(tmp_path / name, format=format)
        assert "\n" not in str(raised.value)
        assert "several" not in str(raised.value)
        assert str(raised.value).startswith(str(tmp_path))


def test_one_error_is_raised_without_a_count(tmp_path: Path) -> None:
    root = voc_root(tmp_path, {"a": voc_xml([("dog", (9, 9, 1, 1))])})
    with pytest.raises(DataError) as raised:
        open_dataset(root)
    assert str(raised.value).endswith(f"no side below 0: `lookonce data check {root}` lists all")


def test_pictures_are_not_opened_where_labels_say_their_size(tmp_path: Path) -> None:
    root = voc_root(tmp_path, {"a": voc_xml([("dog", (1, 1, 9, 9))])})
    (root / "JPEGImages" / "a.jpg").write_bytes(b"")
    assert open_dataset(root).problems == ()


def test_a_link_to_a_folder_of_pictures_is_followed(tmp_path: Path) -> None:
    picture(tmp_path / "real" / "a.jpg")
    root = tmp_path / "set"
    text(root / "Annotations" / "a.xml", voc_xml([("dog", (1, 1, 9, 9))]))
    (root / "JPEGImages").symlink_to(tmp_path / "real")
    assert open_dataset(root).problems == ()


def test_results_of_coco_are_called_results(tmp_path: Path) -> None:
    rows = '[{"image_id": 1, "category_id": 3, "bbox": [1, 2, 3, 4], "score": 0.5}]'
    with pytest.raises(DataError, match=r"my.json: holds results .*: give them to `lookonce judge`$"):
        open_dataset(text(tmp_path / "my.json", rows))


def test_a_list_is_a_split_of_folders_and_archives(tmp_path: Path) -> None:
    """By whole path and by name; what is none of the pictures, or there twice, is an error with its line."""
    for name in ("cat/a", "cat/b", "dog/a"):
        picture(tmp_path / "set" / f"{name}.jpg")
    archive = tmp_path / "set.zip"
    with zipfile.ZipFile(archive, "w") as out:
        for path in sorted((tmp_path / "set").rglob("*.jpg")):
            out.write(path, path.relative_to(tmp_path / "set").as_posix())
    for root in (tmp_path / "set", archive):
        lines = text(tmp_path / "some.txt", f"{root}/dog/a.jpg\ncat/b\n")
        dataset = open_dataset(root, split=str(lines))
        assert [item.name for item in dataset.items] == ["cat/b", "dog/a"]
        assert dataset.names == ("cat", "dog")
    lines = text(tmp_path / "some.txt", "cat/b\n\ncat/c\ncat/b\n")
    found = open_dataset(tmp_path / "set", split=str(lines), lenient=True).problems
    assert [(one.kind, one.file, one.place) for one in found] == [
        ("unknown picture", lines, "line 3"),
        ("unreadable list", lines, "line 4"),
    ]
    with pytest.raises(DataError, match="line 3: cat/c is no picture of"):
        open_dataset(tmp_path / "set", split=str(lines))


def test_a_list_outside_is_a_split_of_voc(tmp_path: Path) -> None:
    root = voc_root(tmp_path / "voc", {id: voc_xml([(id, (1, 1, 9, 9))]) for id in "abc"}, {"train": "ab"})
    lines = text(tmp_path / "mine.txt", "c\na\n")
    dataset = open_dataset(root, split=str(lines))
    assert [item.name for item in dataset.items] == ["c", "a"]
    assert dataset.names == ("a", "b", "c")
    with pytest.raises(DataError, match="has no split .*; there is train$"):
        open_dataset(root, split=str(tmp_path / "none.txt"))


def test_a_split_may_be_an_archive_in_a_folder(tmp_path: Path) -> None:
    for name in ("train", "test"):
        picture(tmp_path / "pets" / "one.jpg")
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as archive:
            for number in range(2 if name == "train" else 1):
                archive.write(tmp_path / "pets" / "one.jpg", f"cat/{number}.jpg")
    shutil.rmtree(tmp_path / "pets")
    assert [len(open_dataset(tmp_path, split=name)) for name in ("train", "test")] == [2, 1]
    with pytest.raises(DataError, match=r"holds archives: name one with split, of test, train, or as path"):
        open_dataset(tmp_path)
