"""What a dataset is recognised by, and what is said when it is none."""

from __future__ import annotations

import os
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


@pytest.mark.parametrize("content", ["", "hello", "<html></html>", "a,b,c\n1,2,3\n"])
def test_a_file_of_no_known_form_is_refused(tmp_path: Path, content: str) -> None:
    path = text(tmp_path / "what.csv", content)
    with pytest.raises(DataError, match=r"what.csv: is no dataset of a form that is known here \(voc, coco, .*format$"):
        open_dataset(path)


def test_an_empty_folder_a_missing_one_and_a_pipe_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").mkdir()
    for name, said in (("empty", "is no dataset"), ("absent", "no such file or folder"), ("pipe", "is a pipe")):
        with pytest.raises(DataError, match=said):
            open_dataset(tmp_path / name)


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
