"""Folders and archives of classes."""

from __future__ import annotations

import gzip
import io
import tarfile
import time
import zipfile
from pathlib import Path

import pytest
from smallsets import picture, text

from lookonce.data import open_dataset
from lookonce.data.folder import Archive
from lookonce.errors import DataError, InputError

MEMBERS = ("dog/b.jpg", "cat/a.jpg", "dog/a.JPEG", "dog/notes.txt", "__MACOSX/dog/._b.jpg", "cat/.hidden.jpg")


def packed(path: Path, members: tuple[str, ...] = MEMBERS) -> Path:
    """An archive of such members, each holding its own name; zip, tar or tar.gz by suffix."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name in members:
                archive.writestr(name, name)
        return path
    with tarfile.open(path, "w:gz" if path.suffix == ".gz" else "w") as archive:
        for name in members:
            about = tarfile.TarInfo(name)
            about.size = len(name)
            archive.addfile(about, io.BytesIO(name.encode()))
    return path


def test_folders_are_classes_in_order_of_their_names(tmp_path: Path) -> None:
    for name in ("dog/b.jpg", "cat/a.png", "dog/deep/er/c.jpg"):
        picture(tmp_path / name)
    text(tmp_path / "README", "no picture")
    dataset = open_dataset(tmp_path)
    assert (dataset.format, dataset.names, dataset.problems) == ("folder", ("cat", "dog"), ())
    rows = [(item.name, item.path, item.truth.classes, len(item.truth), item.member) for item in dataset.items]
    assert rows == [
        ("cat/a", tmp_path / "cat/a.png", (0,), 0, None),
        ("dog/b", tmp_path / "dog/b.jpg", (1,), 0, None),
        ("dog/deep/er/c", tmp_path / "dog/deep/er/c.jpg", (1,), 0, None),
    ]


@pytest.mark.parametrize("name", ["set.zip", "set.tar", "set.tar.gz"])
def test_pictures_stay_in_an_archive_and_can_be_taken_out_of_it(tmp_path: Path, name: str) -> None:
    path = packed(tmp_path / name)
    dataset = open_dataset(path)
    assert dataset.names == ("cat", "dog")
    assert [(item.member, item.truth.classes) for item in dataset.items] == [
        ("cat/a.jpg", (0,)), ("dog/a.JPEG", (1,)), ("dog/b.jpg", (1,)),
    ]  # fmt: skip
    assert {item.path for item in dataset.items} == {path}
    with Archive(path) as archive:
        assert archive.read("dog/b.jpg") == b"dog/b.jpg"
        with pytest.raises(InputError, match=r"set\.[a-z.]+/dog/c.jpg: no such file in the archive"):
            archive.read("dog/c.jpg")


def test_a_folder_around_all_classes_says_nothing(tmp_path: Path) -> None:
    path = packed(tmp_path / "set.zip", ("all/of/cat/a.jpg", "all/of/dog/b.jpg"))
    assert [item.name for item in open_dataset(path).items] == ["cat/a", "dog/b"]


def test_splits_are_folders_above_the_classes_and_share_their_names(tmp_path: Path) -> None:
    path = packed(tmp_path / "set.zip", ("train/cat/a.jpg", "train/dog/b.jpg", "val/dog/c.jpg"))
    dataset = open_dataset(path, split="val")
    assert dataset.names == ("cat", "dog")
    assert [(item.name, item.truth.classes) for item in dataset.items] == [("dog/c", (1,))]
    with pytest.raises(DataError, match="holds several splits: train, val; say which with split"):
        open_dataset(path)
    with pytest.raises(DataError, match="has no split test; there is train, val"):
        open_dataset(path, split="test")


def test_a_folder_that_is_no_given_name_is_an_error_and_left_out(tmp_path: Path) -> None:
    path = packed(tmp_path / "set.zip")
    found = open_dataset(path, names=("dog", "bird"), lenient=True)
    assert [(problem.kind, problem.place) for problem in found.problems] == [("unknown name", "folder cat")]
    assert [item.truth.classes for item in found.items] == [(0,), (0,)]


def test_an_empty_class_and_a_picture_without_one_are_warned_of(tmp_path: Path) -> None:
    picture(tmp_path / "cat" / "a.jpg")
    picture(tmp_path / "b.jpg")
    (tmp_path / "dog").mkdir()
    found = open_dataset(tmp_path)
    assert found.names == ("cat", "dog")
    assert [(p.kind, p.place, p.is_error) for p in found.problems] == [
        ("picture without class", "b.jpg", False), ("empty class", "folder dog", False),
    ]  # fmt: skip


@pytest.mark.parametrize("members", [(), ("../cat/a.jpg",), ("a.txt",)])
def test_an_archive_without_pictures_is_refused(tmp_path: Path, members: tuple[str, ...]) -> None:
    with pytest.raises(DataError, match="holds no picture"):
        open_dataset(packed(tmp_path / "set.zip", members), format="folder")


@pytest.mark.parametrize("name", ["set.zip", "set.tar"])
def test_each_picture_is_found_in_an_archive_without_a_search_of_all(tmp_path: Path, name: str) -> None:
    """Searched through for each, five times as many would take twenty-five times as long."""
    took = []
    for count in (4_000, 20_000):
        path = packed(tmp_path / f"{count}{name}", tuple(f"cat/{number}.jpg" for number in range(count)))
        with Archive(path) as archive:
            members = archive.names()
            began = time.perf_counter()
            for member in members:
                assert archive.read(member) == member.encode()
            took.append(time.perf_counter() - began)
    assert took[1] < 13 * took[0]


def test_of_several_members_of_one_name_the_last_is_read(tmp_path: Path) -> None:
    path = tmp_path / "set.tar"
    with tarfile.open(path, "w") as archive:
        for data in (b"first", b"last"):
            about = tarfile.TarInfo("cat/a.jpg")
            about.size = len(data)
            archive.addfile(about, io.BytesIO(data))
    with Archive(path) as opened:
        assert opened.read("cat/a.jpg") == b"last"


def test_damaged_archives_are_refused_in_one_line(tmp_path: Path) -> None:
    whole = packed(tmp_path / "set.tar.gz").read_bytes()
    for number, data in enumerate((whole[:60], b"PK\3\4" + bytes(100), gzip.compress(b"no tar"), b"", b"x" * 2000)):
        path = tmp_path / f"{number}.zip"
        path.write_bytes(data)
        with pytest.raises(DataError) as raised:
            open_dataset(path, format="folder")
        assert "\n" not in str(raised.value)


@pytest.mark.shared
@pytest.mark.parametrize(("name", "classes", "count"), [("cifar10/test", 10, 5000), ("tiny-imagenet/val", 200, 2000)])
def test_real_archives_have_equal_classes(shared: Path, name: str, classes: int, count: int) -> None:
    path = shared / "data" / f"{name}.zip"
    dataset = open_dataset(path)
    assert (len(dataset.names), len(dataset)) == (classes, count)
    labels = [item.truth.classes[0] for item in dataset.items]
    assert {labels.count(label) for label in range(classes)} == {count // classes}
    assert all(item.member is not None and item.member.startswith(dataset.names[label])
               for item, label in zip(dataset.items, labels, strict=True))  # fmt: skip
