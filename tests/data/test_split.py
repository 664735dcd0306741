from __future__ import annotations

import dataclasses
import json
import re
import zipfile
from pathlib import Path

import numpy as np
import pytest
from smallsets import annotation, coco_file, picture, text, voc_root, voc_xml

from lookonce.data.dataset import Dataset, Item
from lookonce.data.opening import open_dataset
from lookonce.data.split import parse_shares, split, write_lists, write_parts
from lookonce.data.writing import write_dataset
from lookonce.errors import DataError, LookonceWarning
from lookonce.truth import Truth

SHARES = {"train": 0.7, "val": 0.2, "test": 0.1}


def made(folder: Path, count: int = 400, copies: int = 0, format: str = "coco") -> Dataset:
    """Pictures of classes that grow rarer, a tenth of them empty; each `copies`th is of the bytes of the one before.

    What is in a picture is of no use here, only whether its bytes are those of another.
    """
    rng = np.random.default_rng(0)
    folder.mkdir(exist_ok=True)
    items = []
    for number in range(count):
        path = folder / f"p{number}.jpg"
        path.write_bytes(b"%d" % (number - 1 if copies and number % copies == 1 else number))
        held = np.nonzero(rng.random(4) < [0.6, 0.3, 0.1, 0.03])[0]
        items.append(Item(f"p{number}", path, (9, 9), Truth.of(held, xyxy=np.tile([0, 0, 5.0, 5.0], (len(held), 1)))))
    return Dataset(format, folder, ("a", "b", "c", "d"), tuple(items))


def holders(dataset: Dataset, label: int) -> int:
    return sum(label in item.truth.label for item in dataset.items)


def test_every_picture_is_in_one_part_and_parts_keep_the_order(tmp_path: Path) -> None:
    dataset = made(tmp_path)
    parts = split(dataset, SHARES)
    assert list(parts) == list(SHARES)
    names = [[item.name for item in part.items] for part in parts.values()]
    assert sorted(name for part in names for name in part) == sorted(item.name for item in dataset.items)
    for part in names:
        assert part == sorted(part, key=lambda name: int(name[1:]))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_sizes_and_every_class_are_shared_out_as_asked(tmp_path: Path, seed: int) -> None:
    """The rarest class is in 18 pictures; drawn blindly it would be missing in the smallest part one time in seven."""
    dataset = made(tmp_path)
    parts = split(dataset, SHARES, seed)
    for name, share in SHARES.items():
        assert len(parts[name]) == pytest.approx(share * len(dataset), abs=0.5)
        for label in range(4):
            assert holders(parts[name], label) == pytest.approx(share * holders(dataset, label), abs=1)


def test_the_same_seed_gives_the_same_parts_and_another_one_others(tmp_path: Path) -> None:
    dataset = made(tmp_path)
    first, again, other = split(dataset, SHARES, 5), split(dataset, SHARES, 5), split(dataset, SHARES, 6)
    assert {name: part.items for name, part in first.items()} == {name: part.items for name, part in again.items()}
    assert [item.name for item in first["val"].items] != [item.name for item in other["val"].items]


def test_equal_pictures_stay_together(tmp_path: Path) -> None:
    dataset = made(tmp_path, copies=3)
    parts = split(dataset, SHARES)
    where = {item.name: name for name, part in parts.items() for item in part.items}
    assert all(where[f"p{number}"] == where[f"p{number - 1}"] for number in range(1, 400, 3))
    assert len(parts["train"]) == pytest.approx(280, abs=8)


def test_pictures_that_are_not_there_are_not_taken_for_equal(tmp_path: Path) -> None:
    dataset = made(tmp_path, 40)
    for item in dataset.items:
        item.path.unlink()
    assert [len(part) for part in split(dataset, {"a": 0.5, "b": 0.5}).values()] == [20, 20]


def test_labels_of_whole_pictures_are_shared_out_too(tmp_path: Path) -> None:
    items = tuple(
        Item(f"{number}", tmp_path / f"{number}", None, Truth.of(np.zeros(0), classes=(number % 5,)))
        for number in range(100)
    )
    parts = split(Dataset("folder", tmp_path, tuple("abcde"), items), {"train": 0.8, "val": 0.2})
    counts = np.bincount([item.truth.classes[0] for item in parts["val"].items])
    assert counts.tolist() == [4] * 5


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ({"train": 0.8, "val": 0.3}, "sum to 1.1: wanted 1"),
        ({}, "sum to 0: wanted 1"),
        ({"train": 1.5, "val": -0.5}, "a share of 1.5 for train"),
        ({"../x": 0.5, "val": 0.5}, "is no name for a part"),
        ({"": 1.0}, "is no name for a part"),
        ({f"p{n}": 0.1 for n in range(10)}, "5 pictures for 10 parts"),
    ],
)
def test_shares_that_cannot_be_are_refused(tmp_path: Path, shares: dict[str, float], message: str) -> None:
    with pytest.raises(DataError, match=re.escape(message)):
        split(made(tmp_path, 5), shares)


def test_every_part_has_a_picture_where_there_are_enough(tmp_path: Path) -> None:
    """A thousandth of ten pictures is none, but a part that is asked for is not empty."""
    parts = split(made(tmp_path, 10), {"train": 0.999, "val": 0.001})
    assert {name: len(part) for name, part in parts.items()} == {"train": 9, "val": 1}


def test_parts_are_as_large_as_their_shares_though_every_picture_has_a_class_of_its_own(tmp_path: Path) -> None:
    """Of a class that one picture holds train always wants more than val: 24 pictures by .8 and .2 are 19.2 and 4.8."""
    whole = made(tmp_path, 24)
    names = tuple(f"class {number}" for number in range(24))
    truths = [Truth.of(np.zeros(0, np.int64), classes=(number,)) for number in range(24)]
    items = tuple(item._replace(truth=truth) for item, truth in zip(whole.items, truths, strict=True))
    parts = split(dataclasses.replace(whole, names=names, items=items), {"train": 0.8, "val": 0.2})
    assert {name: len(part) for name, part in parts.items()} == {"train": 20, "val": 4}


def test_a_part_that_gets_nothing_is_warned_of(tmp_path: Path) -> None:
    whole = made(tmp_path, 1)
    whole = dataclasses.replace(whole, items=whole.items * 3)
    with pytest.warns(LookonceWarning, match="no picture is left for val: of 3 only 1 differ"):
        split(whole, {"train": 0.5, "val": 0.5})


def test_shares_are_read_from_a_text() -> None:
    assert parse_shares("train=.8, val=.2") == {"train": 0.8, "val": 0.2}


@pytest.mark.parametrize("text", ["", "train", "train=", "train=x", "train=nan", "a=.5,a=.5"])
def test_a_text_that_names_no_shares_is_refused(text: str) -> None:
    with pytest.raises(DataError, match=r"^shares '.*': wanted names with their shares, such as train=.8,val=.2"):
        parse_shares(text)


# ---------------------------------------------------------------------- lists
def test_lists_hold_whole_paths_and_nothing_else_is_written(tmp_path: Path) -> None:
    dataset = made(tmp_path / "set", 20)
    before = {path: path.read_bytes() for path in (tmp_path / "set").iterdir()}
    written = write_lists(split(dataset, {"train": 0.5, "val": 0.5}), tmp_path / "lists")
    assert written == [tmp_path / "lists" / "train.txt", tmp_path / "lists" / "val.txt"]
    lines = [line for path in written for line in path.read_text().splitlines()]
    assert sorted(lines) == sorted(str(item.path) for item in dataset.items)
    assert {path: path.read_bytes() for path in (tmp_path / "set").iterdir()} == before
    assert sorted(path.name for path in (tmp_path / "lists").iterdir()) == ["train.txt", "val.txt"]


def test_of_voc_the_names_go_where_voc_has_them(tmp_path: Path) -> None:
    dataset = made(tmp_path / "set", 20, format="voc")
    written = write_lists(split(dataset, {"train": 0.5, "val": 0.5}), tmp_path / "lists")
    assert written[0] == tmp_path / "lists" / "ImageSets" / "Main" / "train.txt"
    assert set(written[0].read_text().split()) | set(written[1].read_text().split()) == {f"p{n}" for n in range(20)}


def test_an_older_list_is_never_replaced(tmp_path: Path) -> None:
    parts = split(made(tmp_path / "set", 20), {"train": 0.5, "val": 0.5})
    (tmp_path / "val.txt").write_text("mine\n")
    with pytest.raises(DataError, match="is there already: name a new folder$"):
        write_lists(parts, tmp_path)
    assert (tmp_path / "val.txt").read_text() == "mine\n"
    assert not (tmp_path / "train.txt").exists()


def test_a_name_that_fits_on_no_line_is_refused(tmp_path: Path) -> None:
    item = Item("x", tmp_path / "a\nb.jpg", None, Truth.of(np.zeros(0)))
    with pytest.raises(DataError, match="does not fit on a line"):
        write_lists({"all": Dataset("darknet", tmp_path, (), (item,))}, tmp_path / "lists")


# ---------------------------------------------------------------------- parts that open
def voc_of_six(folder: Path) -> Path:
    """Six pictures a to f, of which b and d are the only ones with a dog."""
    return voc_root(
        folder, {id: voc_xml([("dog" if id in "bd" else "cat", (2, 3, 20, 21))]) for id in "abcdef"}, {"all": "abcdef"}
    )


def state(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def boxes(dataset: Dataset) -> dict[str, list[tuple[object, ...]]]:
    """All that is said of each picture, by its file."""
    return {
        item.member or item.path.name: [
            *((dataset.names[label], *box) for label, box in zip(item.truth.label, item.truth.xywh.round(4).tolist(),
                                                                 strict=True)),
            *((dataset.names[label],) for label in item.truth.classes),
        ]
        for item in dataset.items
    }  # fmt: skip


@pytest.mark.parametrize("format", ["voc", "coco", "darknet", "openimages", "cvat", "labelstudio"])
def test_parts_open_and_say_together_what_the_whole_says(tmp_path: Path, format: str) -> None:
    source = voc_of_six(tmp_path / "voc")
    if format != "voc":
        write_dataset(open_dataset(source), tmp_path / "set", format)
        source = tmp_path / "set"
    whole, before = open_dataset(source), state(source)
    parts = split(whole, {"train": 0.5, "val": 0.5})
    opened = [
        open_dataset(one.opened or "", split=None if one.split is None else str(one.split))
        for one in write_parts(parts, tmp_path / "lists")
    ]
    assert [boxes(part) for part in opened] == [boxes(part) for part in parts.values()]
    assert {name: rows for part in opened for name, rows in boxes(part).items()} == boxes(whole)
    assert {part.names for part in opened} == {whole.names}
    assert state(source) == before


@pytest.mark.parametrize("kind", ["folder", "splits", "zip"])
def test_parts_of_folders_open(tmp_path: Path, kind: str) -> None:
    root = tmp_path / "set"
    below = root / "train" if kind == "splits" else root
    for name in ("cat/a", "cat/b", "dog/c", "dog/d"):
        picture(below / f"{name}.jpg")
    if kind == "splits":
        picture(root / "val" / "cat" / "a.jpg")
    if kind == "zip":
        with zipfile.ZipFile(tmp_path / "set.zip", "w") as out:
            for path in sorted(root.rglob("*.jpg")):
                out.write(path, path.relative_to(root).as_posix())
        root = tmp_path / "set.zip"
    parts = split(open_dataset(root, split="train" if kind == "splits" else None), {"one": 0.5, "two": 0.5})
    for part, written in zip(parts.values(), write_parts(parts, tmp_path / "lists"), strict=True):
        assert written.opened == (below if kind == "splits" else root)
        assert len(part) == 2
        assert boxes(open_dataset(written.opened, split=str(written.split))) == boxes(part)


def test_a_part_of_an_archives_split_opens_by_nothing(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as out:
        for name in ("train/cat/a", "train/dog/b", "val/cat/c"):
            out.write(picture(tmp_path / f"{name}.jpg"), f"{name}.jpg")
    parts = split(open_dataset(tmp_path / "set.zip", split="train"), {"one": 0.5, "two": 0.5})
    assert [written.opened for written in write_parts(parts, tmp_path / "lists")] == [None, None]


def test_of_coco_ids_crowds_and_areas_are_kept(tmp_path: Path) -> None:
    rows: list[object] = [annotation(1, iscrowd=1, area=5.5), annotation(2, image_id=2, category_id=3)]
    parts = split(open_dataset(coco_file(tmp_path / "set", rows)), {"one": 0.5, "two": 0.5})
    said = [json.loads((one.opened or Path()).read_bytes()) for one in write_parts(parts, tmp_path / "out")]
    assert sorted(part["images"][0]["id"] for part in said) == [1, 2]
    found = {row["image_id"]: row for part in said for row in part["annotations"]}
    assert {key: found[1][key] for key in ("category_id", "area", "iscrowd", "bbox")} == {
        "category_id": 7, "area": 5.5, "iscrowd": 1, "bbox": [1.5, 2.25, 10, 20]}  # fmt: skip
    assert [part["categories"] for part in said] == [[{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}]] * 2


@pytest.mark.parametrize(("format", "name"), [("coco", "val/instances.json"), ("darknet", "val.data")])
def test_no_older_file_is_replaced_by_what_opens_a_part(tmp_path: Path, format: str, name: str) -> None:
    parts = split(made(tmp_path / "set", 20, format=format), {"train": 0.5, "val": 0.5})
    text(tmp_path / "out" / name, "mine")
    with pytest.raises(DataError, match="is there already: name a new folder$"):
        write_parts(parts, tmp_path / "out")
    assert list(state(tmp_path / "out").values()) == [b"mine"]
