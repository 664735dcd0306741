from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

from lookonce.data import views
from lookonce.data.check import NEIGHBOURS, Findings, check
from lookonce.data.dataset import Dataset, Item, Problem
from lookonce.data.opening import open_dataset
from lookonce.truth import Truth

WIDE, HIGH = 64, 48
GOOD = (5, 6, 30, 40)            # left, top, right, bottom from 0


class Fault(NamedTuple):
    """What a check should say: the kind, the file's name, the place in it, whether it is an error."""

    kind: str
    file: str
    place: str
    is_error: bool


def error(kind: str, file: str, place: str = "") -> Fault:
    return Fault(kind, file, place, True)


def warning(kind: str, file: str, place: str = "") -> Fault:
    return Fault(kind, file, place, False)


def picture(path: Path, seed: int, size: tuple[int, int] = (WIDE, HIGH)) -> Path:
    """A picture of noise, another one for each seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def faults_of(found: Findings) -> list[Fault]:
    return sorted(Fault(one.kind, one.file.name, one.place, one.is_error) for one in found.problems)


def hashes(folder: Path) -> dict[str, tuple[str, int]]:
    """Each file below a folder: the hash of its bytes, and when it was written."""
    return {
        str(path.relative_to(folder)): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


# ---------------------------------------------------------------------- three datasets, sound
def xml(*objects: tuple[str, tuple[object, object, object, object]], size: tuple[int, int] = (WIDE, HIGH)) -> str:
    """A VOC file; corners as VOC has them, counted from 1."""
    rows = "".join(
        f"<object><name>{name}</name><difficult>0</difficult><bndbox><xmin>{a}</xmin><ymin>{b}</ymin>"
        f"<xmax>{c}</xmax><ymax>{d}</ymax></bndbox></object>"
        for name, (a, b, c, d) in objects
    )
    return f"<annotation><size><width>{size[0]}</width><height>{size[1]}</height></size>{rows}</annotation>"


VOC_IDS = [f"v{number:02}" for number in range(20)]


def voc(folder: Path) -> Path:
    for number, id in enumerate(VOC_IDS):
        picture(folder / "JPEGImages" / f"{id}.jpg", number)
        path = folder / "Annotations" / f"{id}.xml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(xml(("cat", (6, 7, 30, 40)), ("dog", (1, 1, WIDE, HIGH))))
    lists = folder / "ImageSets" / "Main"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("".join(f"{id}\n" for id in VOC_IDS))
    picture(folder / "JPEGImages" / "other.jpg", 99)         # of another split, so nobody's fault
    (folder / "Annotations" / "other.xml").write_text(xml(("cat", (6, 7, 30, 40))))
    return folder


def darknet(folder: Path) -> Path:
    for number in range(8):
        picture(folder / "images" / f"d{number}.jpg", 100 + number)
        path = folder / "labels" / f"d{number}.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text("0 0.5 0.5 0.4 0.4\n\n1 0.5 0.5 1 1\n")
    (folder / "my.names").write_text("cat\ndog\n")
    (folder / "list.txt").write_text("".join(f"{folder}/images/d{number}.jpg\n" for number in range(8)))
    (folder / "my.data").write_text("classes = 2\nvalid = list.txt\nnames = my.names\n")
    return folder


def coco_document() -> dict[str, list[dict[str, object]]]:
    return {
        "images": [{"id": n, "file_name": f"c{n}.jpg", "width": WIDE, "height": HIGH} for n in range(6)],
        "categories": [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}],
        "annotations": [
            {"id": 10 * n + c, "image_id": n, "category_id": c, "bbox": [5, 6, 25, 30 + c], "area": 800, "iscrowd": 0}
            for n in range(6)
            for c in (3, 7)
        ],
    }


def coco(folder: Path, change: Callable[[dict[str, list[dict[str, object]]]], None] = lambda document: None) -> Path:
    for number in range(6):
        picture(folder / "images" / f"c{number}.jpg", 200 + number)
    document = coco_document()
    change(document)
    (folder / "instances.json").write_text(json.dumps(document))
    return folder


# ---------------------------------------------------------------------- the same with faults
def spoil_voc(folder: Path) -> list[Fault]:
    pictures, labels = folder / "JPEGImages", folder / "Annotations"
    data = {id: (pictures / f"{id}.jpg").read_bytes() for id in VOC_IDS}
    (pictures / "v00.jpg").unlink()
    (pictures / "v01.jpg").write_bytes(b"this is no picture")
    (pictures / "v02.jpg").write_bytes(data["v02"][: len(data["v02"]) // 2])
    (pictures / "v03.jpg").write_bytes(data["v03"][:-2] + b"\0" * 500)
    (pictures / "v04.jpg").write_bytes(b"")
    (labels / "v05.xml").write_text(xml(("cat", (6, 7, 30, 40)), size=(WIDE + 10, HIGH)))
    (labels / "v06.xml").write_text(xml(("cat", (6, 7, 30, 40)), ("dog", (40, 7, WIDE + 3, 40))))
    (labels / "v07.xml").write_text(xml(("cat", (WIDE + 9, 7, WIDE + 30, 40))))
    (labels / "v08.xml").write_text(xml(("cat", (9, 9, 9, 9))))
    (labels / "v09.xml").write_text(xml(("cat", (9, 9, 9.5, 40))))
    (labels / "v10.xml").write_text(xml(("cat", (6, 7, 30, 40)), ("dog", (6, 7, 30, 40)), ("cat", (6, 7, 30, 40))))
    (pictures / "v11.jpg").write_bytes(data["v12"])
    (labels / "lone.xml").write_text(xml(("cat", (6, 7, 30, 40))))
    picture(pictures / "bare.jpg", 98)
    (labels / "v13.xml").write_text(xml(("cat", ("six", 7, 30, 40)), ("dog", (9, 9, 9.5, 40))))
    (labels / "v14.xml").write_text(xml(("dog", (30, 7, 6, 40))))
    (labels / "v15.xml").write_text("<annotation><object>")
    (labels / "v16.xml").unlink()
    (labels / "v17.xml").write_text(xml(("", (6, 7, 30, 40))))
    return [
        error("missing picture", "v00.jpg"),
        error("unreadable picture", "v01.jpg"),
        error("unreadable picture", "v02.jpg"),
        error("cut-off picture", "v03.jpg"),
        error("unreadable picture", "v04.jpg"),
        error("size of another picture", "v05.xml", "size"),
        warning("box over the edge", "v06.xml", "object 2"),
        error("box outside the picture", "v07.xml", "object 1"),
        warning("box without area", "v08.xml", "object 1"),
        warning("tiny box", "v09.xml", "object 1"),
        warning("box there twice", "v10.xml", "object 3"),
        warning("equal pictures", "v12.jpg"),
        warning("labels without picture", "lone.xml"),
        warning("picture without labels", "bare.jpg"),
        error("unreadable box", "v13.xml", "object 1"),
        warning("tiny box", "v13.xml", "object 2"),          # the second in the file, the first that is read
        error("unreadable box", "v14.xml", "object 1"),
        error("unreadable labels", "v15.xml"),
        error("missing labels", "v16.xml"),
        error("unknown name", "v17.xml", "object 1"),
    ]


def spoil_darknet(folder: Path) -> list[Fault]:
    labels, pictures = folder / "labels", folder / "images"
    (labels / "d0.txt").write_text("0 0.5 0.5 0.4 0.4\n1 0.5 0.5 0.4 0.4 0.9\n")
    (labels / "d1.txt").write_text("\n2 0.5 0.5 0.4 0.4\n")
    (labels / "d2.txt").write_text("1 30 20 10 10\n")
    (labels / "d3.txt").unlink()
    (pictures / "d4.jpg").unlink()
    (pictures / "d5.jpg").write_bytes(b"GIF89a")
    (labels / "d6.txt").write_text("nonsense\n\n0 0.95 0.5 0.2 0.2\n")
    (labels / "lone.txt").write_text("1 0.5 0.5 0.4 0.4\n")
    (labels / "notes.txt").write_text("these are no labels\n")
    (folder / "my.names").write_text("cat\ndog\nowl\n")      # so class 2 is one, and of d1 only
    (folder / "my.data").write_text("classes = 2\nvalid = list.txt\nnames = my.names\n")
    (labels / "d1.txt").write_text("\n3 0.5 0.5 0.4 0.4\n")
    return [
        error("unreadable box", "d0.txt", "line 2"),
        error("unknown name", "d1.txt", "line 2"),
        error("unreadable box", "d2.txt", "line 1"),
        warning("picture without labels", "d3.jpg"),
        error("missing picture", "d4.jpg"),
        error("unreadable picture", "d5.jpg"),
        error("unreadable box", "d6.txt", "line 1"),
        warning("box over the edge", "d6.txt", "line 3"),
        warning("labels without picture", "lone.txt"),
        error("wrong number of names", "my.data", "classes"),
        warning("class without objects", "my.data"),
    ]


def spoil_coco(document: dict[str, list[dict[str, object]]]) -> None:
    images, annotations = document["images"], document["annotations"]
    images[1]["height"] = HIGH + 1
    annotations[0]["bbox"] = [5, 6, 0, 10]
    annotations[5]["bbox"] = [5, 6, 25, -1]
    annotations[6]["bbox"] = [WIDE + 1, 6, 5, 5]
    annotations[7] |= {"category_id": 3, "bbox": [WIDE + 1, 6, 5, 5]}


COCO_FAULTS = [
    error("size of another picture", "instances.json", "picture 1"),
    warning("box without area", "instances.json", "annotations[0]"),
    error("unreadable box", "instances.json", "annotations[5]"),
    error("box outside the picture", "instances.json", "picture 3, object 1"),
    error("box outside the picture", "instances.json", "picture 3, object 2"),
    warning("box there twice", "instances.json", "picture 3, object 2"),
    warning("picture without labels", "bare.jpg"),
]


def opened(folder: Path) -> Dataset:
    if folder.name == "voc":
        return open_dataset(folder, split="train", lenient=True)
    return open_dataset(folder / "my.data" if folder.name == "darknet" else folder / "instances.json", lenient=True)


@pytest.mark.parametrize("make", [voc, darknet, coco])
def test_nothing_is_found_in_a_sound_dataset(make: Callable[[Path], Path], tmp_path: Path) -> None:
    folder = make(tmp_path / make.__name__)
    found = check(opened(folder))
    assert found.problems == ()
    assert (found.pictures, found.errors, found.warnings) == ({"voc": 20, "darknet": 8, "coco": 6}[folder.name], 0, 0)


def test_every_planted_fault_of_voc_is_named_with_file_and_place_and_no_other(tmp_path: Path) -> None:
    planted = spoil_voc(voc(tmp_path / "voc"))
    before = hashes(tmp_path)
    found = check(opened(tmp_path / "voc"))
    assert faults_of(found) == sorted(planted)
    assert (found.errors, found.warnings) == (12, 8)
    assert hashes(tmp_path) == before


def test_every_planted_fault_of_darknet_is_named_with_file_and_line_and_no_other(tmp_path: Path) -> None:
    planted = spoil_darknet(darknet(tmp_path / "darknet"))
    before = hashes(tmp_path)
    found = check(opened(tmp_path / "darknet"))
    assert faults_of(found) == sorted(planted)
    assert hashes(tmp_path) == before


def test_every_planted_fault_of_coco_is_named_with_file_and_place_and_no_other(tmp_path: Path) -> None:
    coco(tmp_path / "coco", spoil_coco)
    picture(tmp_path / "coco" / "images" / "bare.jpg", 97)
    before = hashes(tmp_path)
    found = check(opened(tmp_path / "coco"))
    assert faults_of(found) == sorted(COCO_FAULTS)
    assert hashes(tmp_path) == before


@pytest.mark.shared
def test_of_the_blood_cells_only_the_two_boxes_without_area_are_named(shared: Path) -> None:
    """xmin = xmax and ymin = ymax, as a search of the XML files by hand says."""
    found = check(open_dataset(shared / "data" / "bccd", lenient=True))
    assert faults_of(found) == [
        warning("box without area", "BloodImage_00338.xml", "object 13"),
        warning("box without area", "BloodImage_00343.xml", "object 4"),
    ]
    assert (found.pictures, found.objects) == (364, 4888)


# ---------------------------------------------------------------------- one thing at a time
def dataset(*items: Item, names: tuple[str, ...] = ("cat", "dog"), problems: tuple[Problem, ...] = ()) -> Dataset:
    return Dataset("coco", Path("set.json"), names, items, problems=problems)


def item(path: Path, *boxes: tuple[float, ...], label: object = None, size: tuple[int, int] | None = None) -> Item:
    labels = np.zeros(len(boxes), np.int64) if label is None else np.array(label)
    return Item(path.stem, path, size, Truth.of(labels, xyxy=np.array(boxes, np.float64)), Path("set.json"))


def kinds(found: Findings) -> list[tuple[str, str]]:
    return sorted((one.kind, one.place) for one in found.problems if one.kind != "class without objects")


@pytest.mark.parametrize(
    ("box", "kind"),
    [
        ((0, 0, WIDE, HIGH), None),
        ((-0.4, 0, WIDE, HIGH + 0.4), None),
        ((-0.6, 0, 20, 20), "box over the edge"),
        ((10, 10, WIDE + 1, 20), "box over the edge"),
        ((WIDE, 10, WIDE + 9, 20), "box outside the picture"),
        ((-9, 10, 0, 20), "box outside the picture"),
        ((10, -9, 20, 0), "box outside the picture"),
        ((10, 10, 10, 20), "box without area"),
        ((0, 0, 0, 0), "box without area"),
        ((10, 10, 11.9, 20), "tiny box"),
        ((10, 10, 12, 12), None),
        ((20, 10, 10, 20), "reversed box"),
        ((np.nan, 10, 20, 20), "box of no numbers"),
        ((10, 10, np.inf, 20), "box of no numbers"),
    ],
)
def test_a_box_is_named_by_what_is_wrong_with_it(tmp_path: Path, box: tuple[float, ...], kind: str | None) -> None:
    path = picture(tmp_path / "p.jpg", 0)
    found = check(dataset(item(path, GOOD, box, label=[1, 0])))
    assert kinds(found) == ([] if kind is None else [(kind, "picture p, object 2")])


def test_boxes_that_are_there_twice_are_those_that_a_loop_over_all_pairs_finds(tmp_path: Path) -> None:
    """Clusters of boxes that differ by a little, in two pictures and three classes."""
    rng = np.random.default_rng(0)
    places, labels, items = [], [], []
    for number in range(2):
        base = rng.uniform((0, 0, 22, 22), (18, 18, 40, 40), (12, 4))
        boxes = np.concatenate([base, base + rng.uniform(-0.12, 0.12, base.shape), base])[rng.permutation(36)]
        label = rng.integers(0, 3, 36)
        places.append(boxes)
        labels.append(label)
        path = picture(tmp_path / f"p{number}.jpg", number)
        items.append(item(path, *map(tuple, boxes.tolist()), label=label))
    wanted = set()
    for number, (boxes, label) in enumerate(zip(places, labels, strict=True)):
        for late in range(36):
            for early in range(late):
                a, b = boxes[early], boxes[late]
                both = max(0, min(a[2], b[2]) - max(a[0], b[0])) * max(0, min(a[3], b[3]) - max(a[1], b[1]))
                areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
                if label[early] == label[late] and both / (sum(areas) - both) > 0.99:
                    wanted.add(("box there twice", f"picture p{number}, object {late + 1}"))
    found = check(dataset(*items, names=("a", "b", "c")))
    assert 10 < len(wanted) < 60
    assert set(kinds(found)) == wanted


def test_boxes_all_alike_take_no_longer_than_others(tmp_path: Path) -> None:
    """100,000 of one place: pair by pair that would be five thousand million."""
    path = picture(tmp_path / "p.jpg", 0)
    found = check(dataset(item(path, *[GOOD] * 100_000)))
    assert found.counts()["box there twice"] == 99_999
    assert NEIGHBOURS < 1000


def test_a_picture_turned_by_its_exif_is_said_to_be(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.zeros((HIGH, WIDE, 3), np.uint8)).save(tmp_path / "p.jpg", exif=exif)
    stored = item(tmp_path / "p.jpg", GOOD, size=(WIDE, HIGH))
    (problem,) = check(dataset(stored, names=("cat",))).problems
    assert problem.kind == "size of another picture"
    assert "as its EXIF turns it" in problem.text
    assert check(dataset(item(tmp_path / "p.jpg", GOOD, size=(HIGH, WIDE)), names=("cat",))).problems == ()


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp"])
@pytest.mark.parametrize("cut", [0.1, 0.5, 0.9])
def test_a_picture_of_any_format_that_was_cut_off_is_an_error(tmp_path: Path, suffix: str, cut: float) -> None:
    path = picture(tmp_path / f"p{suffix}", 0)
    assert check(dataset(item(path, GOOD), names=("cat",))).problems == ()
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * cut)])
    (problem,) = check(dataset(item(path, GOOD), names=("cat",))).problems
    assert (problem.kind, problem.file, problem.is_error) == ("unreadable picture", path, True)


def test_a_png_that_lost_only_its_end_is_cut_off(tmp_path: Path) -> None:
    path = picture(tmp_path / "p.png", 0)
    path.write_bytes(path.read_bytes()[:-12])
    (problem,) = check(dataset(item(path, GOOD), names=("cat",))).problems
    assert (problem.kind, problem.is_error) == ("cut-off picture", True)


def test_members_of_an_archive_are_opened_and_named(tmp_path: Path) -> None:
    sound, other = picture(tmp_path / "a.jpg", 0), picture(tmp_path / "b.jpg", 1)
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.write(sound, "cat/a.jpg")
        archive.write(other, "dog/b.jpg")
        archive.write(sound, "dog/c.jpg")
        archive.writestr("dog/d.jpg", b"\xff\xd8\xff no more")
    found = check(open_dataset(tmp_path / "set.zip", lenient=True))
    assert faults_of(found) == [
        warning("equal pictures", "set.zip", "dog/c.jpg"),
        error("unreadable picture", "set.zip", "dog/d.jpg"),
    ]


def test_one_picture_under_two_names_is_not_called_equal_to_itself(tmp_path: Path) -> None:
    path = picture(tmp_path / "p.jpg", 0)
    (problem,) = check(dataset(item(path, GOOD), item(path, GOOD)._replace(name="q"), names=("cat",))).problems
    assert (problem.kind, problem.text) == ("picture named twice", "is q and p")


def test_what_reading_found_comes_along_and_errors_come_first(tmp_path: Path) -> None:
    noted = (
        Problem("no size", Path("set.json"), "images[0]", "does not say", False),
        Problem("unknown name", Path("set.json"), "annotations[4]", "owl is no name", True),
    )
    found = check(dataset(item(picture(tmp_path / "p.jpg", 0), GOOD, (10, 10, 10, 20)), problems=noted))
    assert [one.kind for one in found.problems] == [
        "unknown name", "no size", "box without area", "class without objects"
    ]  # fmt: skip
    assert found.counts() == {"unknown name": 1, "no size": 1, "box without area": 1, "class without objects": 1}
    assert (found.errors, found.warnings) == (1, 3)


def test_the_json_says_what_the_findings_say(tmp_path: Path) -> None:
    found = check(dataset(item(tmp_path / "gone.jpg", GOOD)))
    document = json.loads(json.dumps(found.json()))
    assert (document["dataset"], document["pictures"], document["objects"]) == ("set.json", 1, 1)
    assert (document["errors"], document["warnings"]) == (1, 1)
    first = document["problems"][0]
    assert first == {
        "kind": "missing picture", "severity": "error", "file": str(tmp_path / "gone.jpg"), "place": "",
        "text": "is not there; set.json names it",
    }  # fmt: skip


def test_progress_counts_every_picture_in_order(tmp_path: Path) -> None:
    items = [item(picture(tmp_path / f"p{number}.jpg", number), GOOD) for number in range(5)]
    told: list[tuple[int, int]] = []
    check(dataset(*items), lambda done, count: told.append((done, count)))
    assert told == [(n, 5) for n in range(1, 6)]


def test_a_dataset_without_pictures_has_no_problems_but_its_classes() -> None:
    (problem,) = check(dataset()).problems
    assert (problem.kind, problem.text) == ("class without objects", "2 of 2 classes have no object: cat, dog")


def test_sizes_come_from_labels_then_from_headers_and_are_none_of_what_cannot_be_read(tmp_path: Path) -> None:
    path = picture(tmp_path / "p.jpg", 0)
    rows = dataset(item(path, size=(7, 9)), item(path), item(tmp_path / "gone.jpg"))
    assert views.sizes_of(rows) == [(7, 9), (WIDE, HIGH), None]


# ---------------------------------------------------------------------- lists, class folders
def test_a_list_of_voc_that_names_what_has_no_annotation(tmp_path: Path) -> None:
    """Told once, with the list and its line; the picture is not told as one that nothing names."""
    root = voc(tmp_path)
    lists = root / "ImageSets" / "Main"
    picture(root / "JPEGImages" / "lost.jpg", 300)
    (lists / "val.txt").write_text("v00\n\nlost\n")
    (lists / "cat_val.txt").write_text("v00  1\nlost -1\n")
    assert faults_of(check(open_dataset(root))) == [error("missing labels", "val.txt", "line 3")]
    assert faults_of(check(open_dataset(root, split="train"))) == []
    picture(root / "JPEGImages" / "nobody.jpg", 301)
    found = faults_of(check(open_dataset(root, split="train")))
    assert found == [warning("picture without labels", "nobody.jpg")]


def test_folders_of_classes_are_counted_by_pictures(tmp_path: Path) -> None:
    for number, name in enumerate(("cat/a", "cat/b", "dog/a")):
        picture(tmp_path / f"{name}.jpg", number)
    found = check(open_dataset(tmp_path))
    assert (found.pictures, found.objects, found.classes) == (3, 0, 2)
    assert found.json()["classes_of_pictures"] == 2
