from __future__ import annotations

import dataclasses
import json
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pytest
from conftest import DETECTOR, network_of
from PIL import Image

from lookonce.data import Dataset, open_dataset
from lookonce.errors import DataError, LookonceWarning
from lookonce.train.datasets import check_kind, check_suits, open_for_training, write_lists

CLASSIFIER = "[net]\nwidth=8\nheight=8\nchannels=3\nbatch=4\n[conv]\nfilters=2\nsize=1\n[avg]\n[softmax]\n"
Row = tuple[str, int, int, int, int]
CAT, DOG = ("cat", 3, 4, 20, 21), ("dog", 5, 6, 30, 20)


# ---------------------------------------------------------------------- sets as small as can be
def picture(path: Path, seed: int | None = None) -> Path:
    """A picture of 40 x 30 unlike any of another seed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(sum(str(path).encode()) * 7919 + len(str(path)) if seed is None else seed)
    Image.fromarray(rng.integers(0, 256, (30, 40, 3), np.uint8)).save(path)
    return path


def xml(rows: Iterable[Row], extra: str = "") -> str:
    objects = "".join(
        f"<object><name>{name}</name>{extra}<bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax>"
        "</bndbox></object>"
        for name, a, b, c, d in rows
    )
    return f"<annotation><size><width>40</width><height>30</height></size>{objects}</annotation>"


def voc(root: Path, labels: Mapping[str, str], parts: Mapping[str, Iterable[str]] | None = None) -> Path:
    """A VOC root: the text of each XML file by id, and its lists."""
    for number, (id, text) in enumerate(labels.items()):
        write(root / "Annotations" / f"{id}.xml", text)
        picture(root / "JPEGImages" / f"{id}.jpg", seed=number)
    for name, ids in (parts or {}).items():
        write(root / "ImageSets" / "Main" / f"{name}.txt", "".join(f"{id}\n" for id in ids))
    return root


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def yolo(folder: Path, names: Iterable[str], text: str = "0 .5 .5 .2 .2\n") -> Path:
    """images/ and labels/ in a folder, each picture with the same text."""
    for name in names:
        picture(folder / "images" / f"{name}.jpg")
        write(folder / "labels" / f"{name}.txt", text)
    return folder


def class_folders(root: Path, pictures: Mapping[str, int]) -> Path:
    for name, count in pictures.items():
        for number in range(count):
            picture(root / name / f"{number}.png")
    return root


def names_of(dataset: Dataset | None) -> list[str]:
    return [] if dataset is None else [item.name for item in dataset.items]


IDS = [f"{number:02}" for number in range(6)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Pictures 00 to 05: train 00 01, val 02 03, test 04 05."""
    parts = {"train": IDS[:2], "val": IDS[2:4], "trainval": IDS[:4], "test": IDS[4:], "cat_train": IDS[:1]}
    return voc(tmp_path / "voc", dict.fromkeys(IDS, xml([CAT, DOG])), parts)


# ---------------------------------------------------------------------- which parts
@pytest.mark.parametrize(
    ("split", "val_split", "learnt", "judging", "rule"),
    [
        (None, None, IDS[:2], IDS[2:4], "learns train, judged by val; test is not looked at; 2 pictures"),
        ("trainval", None, IDS[:4], IDS[4:], "learns trainval, judged by test; 4 pictures"),
        ("train+val", None, IDS[:4], IDS[4:], "learns train+val, judged by test; 4 pictures"),
        ("train", "test", IDS[:2], IDS[4:], "learns train, judged by test; 2 pictures"),
        ("train+val+test", None, IDS, IDS[:0], None),
        ("trainval", "none", IDS[:4], IDS[:0], "learns trainval; test is not looked at; 4 pictures"),
    ],
)
def test_the_parts_are_those_of_the_files(
    root: Path, split: str | None, val_split: str | None, learnt: list[str], judging: list[str], rule: str | None
) -> None:
    data = open_for_training(root, split=split, val_split=val_split)
    if judging or val_split == "none":
        assert names_of(data.train) == learnt
        assert names_of(data.val) == judging
        assert not data.set_apart
        assert data.rule.startswith(rule or "")
    else:
        assert sorted(names_of(data.train) + names_of(data.val)) == learnt
        assert data.set_apart


def test_a_part_that_is_not_there_is_named(root: Path) -> None:
    with pytest.raises(DataError, match=r"has no split trian, did you mean train"):
        open_for_training(root, split="trian")
    with pytest.raises(DataError, match=r"has no split vla"):
        open_for_training(root, val_split="vla")


def test_parts_without_one_to_learn_from_are_not_guessed_at(tmp_path: Path) -> None:
    """All annotations would hold those that judge."""
    voc(tmp_path, dict.fromkeys(IDS, xml([CAT])), {"val": IDS[:2], "test": IDS[2:]})
    with pytest.raises(DataError, match="has test, val, and no part for train; say which to learn with split"):
        open_for_training(tmp_path)
    assert names_of(open_for_training(tmp_path, split="val").val) == IDS[2:]


def test_a_list_of_pictures_is_a_part(root: Path, tmp_path: Path) -> None:
    own = write(tmp_path / "a+b.txt", "03\n05\n")
    assert names_of(open_for_training(root, split=str(own), val_split="val").train) == ["03", "05"]


def test_numbers_after_the_word_of_a_part_do_not_count(tmp_path: Path) -> None:
    """COCO's own names of files; annotations/ beside pictures."""
    for part, number in (("train2017", 1), ("val2017", 2)):
        picture(tmp_path / part / f"{number}.jpg", seed=number)
        content = {
            "images": [{"id": number, "file_name": f"{number}.jpg", "width": 40, "height": 30}],
            "annotations": [{"id": 1, "image_id": number, "category_id": 5, "bbox": [1, 2, 10, 9], "iscrowd": 0}],
            "categories": [{"id": 5, "name": "cat"}],
        }
        write(tmp_path / "annotations" / f"instances_{part}.json", json.dumps(content))
    for split in (None, "train", "train2017"):
        data = open_for_training(tmp_path, split=split)
        assert (names_of(data.train), names_of(data.val)) == (["1"], ["2"])
        assert data.rule.startswith("learns train2017, judged by val2017; 1 pictures to learn from, 1 to judge by")


def test_two_parts_for_one_word_are_not_guessed_at(tmp_path: Path) -> None:
    ids = dict.fromkeys(IDS, xml([CAT]))
    voc(tmp_path, ids, {"train2007": IDS[:2], "train2012": IDS[2:4], "val2012": IDS[4:]})
    with pytest.raises(DataError, match="several parts for train: train2007, train2012; say which with split"):
        open_for_training(tmp_path)
    data = open_for_training(tmp_path, split="train2007+train2012")
    assert (names_of(data.train), names_of(data.val)) == (IDS[:4], IDS[4:])


def test_a_data_file_says_both_parts(tmp_path: Path) -> None:
    """Opened alone it is its valid=; learnt from is its train=."""
    yolo(tmp_path, ["a", "b", "c"])
    write(tmp_path / "train.list", "images/a.jpg\nimages/b.jpg\n")
    write(tmp_path / "valid.list", "images/c.jpg\n")
    write(tmp_path / "own.names", "cat\n")
    own = write(tmp_path / "own.data", "classes=1\ntrain=train.list\nvalid=valid.list\nnames=own.names\n")
    data = open_for_training(own)
    assert (names_of(data.train), names_of(data.val)) == (["a", "b"], ["c"])
    own.write_text(own.read_text().replace("train=train.list\n", ""))
    with pytest.raises(DataError, match="has valid, and no part for train"):
        open_for_training(own)


@pytest.mark.parametrize("layout", ["images/PART", "PART/images"])
def test_folders_of_pictures_and_texts_may_be_parts(tmp_path: Path, layout: str) -> None:
    for part, name in (("train", "a"), ("valid", "b")):
        place = layout.replace("PART", part)
        picture(tmp_path / place / f"{name}.jpg")
        write(tmp_path / place.replace("images", "labels") / f"{name}.txt", "0 .5 .5 .2 .2\n")
    write(tmp_path / "classes.txt", "cat\n")
    data = open_for_training(tmp_path)
    assert (names_of(data.train), names_of(data.val), data.names) == (["a"], ["b"], ("cat",))


def test_each_part_may_be_a_dataset_of_its_own(tmp_path: Path) -> None:
    """Folders of XML beside pictures, as exporting tools make them."""
    for part, number in (("train", 1), ("valid", 2), ("test", 3)):
        write(tmp_path / part / f"{number}.xml", xml([CAT, DOG]))
        picture(tmp_path / part / f"{number}.jpg")
    data = open_for_training(tmp_path)
    assert (names_of(data.train), names_of(data.val)) == (["1"], ["2"])
    assert names_of(open_for_training(tmp_path, val_split="test").val) == ["3"]
    with pytest.raises(DataError, match="has no split trian, did you mean train"):
        open_for_training(tmp_path, split="trian")


def test_classes_may_be_folders_of_parts_or_archives(tmp_path: Path) -> None:
    for part, count in (("train", 3), ("val", 1)):
        class_folders(tmp_path / "set" / part, {"cat": count, "dog": count})
        (tmp_path / "zips").mkdir(exist_ok=True)
        with zipfile.ZipFile(tmp_path / "zips" / f"{part}.zip", "w") as archive:
            for path in sorted((tmp_path / "set" / part).rglob("*.png")):
                archive.write(path, path.relative_to(tmp_path / "set" / part))
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for path in sorted((tmp_path / "set").rglob("*.png")):
            archive.write(path, Path("top") / path.relative_to(tmp_path / "set"))
    for path in ("set", "zips", "all.zip"):
        data = open_for_training(tmp_path / path)
        assert (len(data.train), names_of(data.val), data.names) == (6, ["cat/0", "dog/0"], ("cat", "dog")), path


def test_a_class_called_train_is_no_part(tmp_path: Path) -> None:
    """Otherwise trains alone would be learnt."""
    class_folders(tmp_path / "set", {"car": 2, "train": 2})
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for path in sorted((tmp_path / "set").rglob("*.png")):
            archive.write(path, path.relative_to(tmp_path / "set"))
    for path in ("set", "set.zip"):
        data = open_for_training(tmp_path / path)
        assert (len(data.train), data.val, data.names) == (4, None, ("car", "train"))


def test_folders_of_classes_may_be_parts_with_numbers(tmp_path: Path) -> None:
    for part, count in (("train2012", 3), ("val2012", 1)):
        class_folders(tmp_path / part, {"cat": count, "dog": count})
    data = open_for_training(tmp_path)
    assert (len(data.train), names_of(data.val), data.names) == (6, ["cat/0", "dog/0"], ("cat", "dog"))


def test_another_dataset_may_judge(root: Path, tmp_path: Path) -> None:
    other = voc(tmp_path / "other", {"x": xml([DOG])})
    data = open_for_training(root, split="trainval", val=other)
    assert (names_of(data.train), names_of(data.val)) == (IDS[:4], ["x"])
    assert data.val is not None
    assert data.val.items[0].truth.label.tolist() == [data.names.index("dog")]


# ---------------------------------------------------------------------- a part set apart
def test_without_a_part_to_judge_by_a_fifth_is_set_apart_each_class_alike(tmp_path: Path) -> None:
    class_folders(tmp_path, {"cat": 20, "dog": 10})
    data = open_for_training(tmp_path)
    assert data.set_apart
    assert data.val is not None
    assert "20% of its pictures, drawn by seed 0, are set apart" in data.rule
    parts = [names_of(part) for part in (data.train, data.val)]
    assert [len(part) for part in parts] == [24, 6]
    assert sum(name.startswith("cat") for name in parts[1]) == 4
    assert not set(parts[0]) & set(parts[1])
    assert names_of(open_for_training(tmp_path).val) == parts[1]
    assert names_of(open_for_training(tmp_path, seed=1).val) != parts[1]


def test_of_a_handful_of_pictures_none_is_set_apart(tmp_path: Path) -> None:
    data = open_for_training(class_folders(tmp_path, {"cat": 2, "dog": 2}))
    assert (len(data.train), data.val, data.set_apart) == (4, None, False)


# ---------------------------------------------------------------------- names
def test_labels_of_both_parts_number_the_same_names(tmp_path: Path) -> None:
    """The second archive has no cats, so alone its dogs would be number 0."""
    train = class_folders(tmp_path / "a", {"cat": 2, "dog": 2})
    val = class_folders(tmp_path / "b", {"dog": 1})
    data = open_for_training(train, val=val)
    assert data.val is not None
    assert data.val.names == data.names == ("cat", "dog")
    assert data.val.items[0].truth.classes == (1,)


def test_a_class_that_only_judges_is_an_error(tmp_path: Path) -> None:
    train = class_folders(tmp_path / "a", {"cat": 2, "dog": 2})
    val = class_folders(tmp_path / "b", {"cow": 1, "dog": 1})
    with pytest.raises(DataError, match=r"b: cow is not among the 2 names of .*a; give both the same names$"):
        open_for_training(train, val=val)


def test_numbers_of_two_lists_of_names_are_never_mixed(tmp_path: Path) -> None:
    for part, names in (("a", "cat\ndog\n"), ("b", "dog\ncat\n")):
        write(yolo(tmp_path / part, [part]) / "classes.txt", names)
    with pytest.raises(DataError, match="has other names than .*: class 0 is cat and dog; wanted one list"):
        open_for_training(tmp_path / "a", val=tmp_path / "b")


def test_numbers_without_names_are_as_many_as_either_part_has(tmp_path: Path) -> None:
    yolo(tmp_path / "a", ["x"], "1 .5 .5 .2 .2\n")
    yolo(tmp_path / "b", ["y"], "3 .5 .5 .2 .2\n")
    with pytest.warns(LookonceWarning, match="3 of 4 classes have no object to learn from: 0, 2, 3"):
        data = open_for_training(tmp_path / "a", val=tmp_path / "b")
    assert data.val is not None
    assert data.names == data.val.names == ("0", "1", "2", "3")


def test_a_class_of_the_data_that_is_not_among_the_names_is_an_error(root: Path) -> None:
    with pytest.raises(DataError, match=r"00.xml: object 2: dog is not one of the 1 names, and 5 more errors: nothing"):
        open_for_training(root, split="trainval", val_split="test", names=["cat"])


def test_classes_without_an_object_to_learn_from_are_named(root: Path) -> None:
    with pytest.warns(LookonceWarning, match=r"2 of 4 classes have no object to learn from: cow, horse$"):
        open_for_training(root, names=["cat", "cow", "dog", "horse"])


# ---------------------------------------------------------------------- what is wrong
def damaged(root: Path) -> Path:
    """Of six pictures one is missing, one no picture, one has a box outside, one an unknown name."""
    (root / "JPEGImages" / "00.jpg").unlink()
    write(root / "JPEGImages" / "01.jpg", "no picture")
    write(root / "Annotations" / "02.xml", xml([CAT, ("cat", 50, 5, 60, 9)]))
    write(root / "Annotations" / "03.xml", xml([CAT, ("cow", 5, 5, 10, 9)]))
    return root


def test_errors_stop_and_are_counted(root: Path) -> None:
    """The missing picture comes first: reading names it, and checking the rest."""
    with pytest.raises(DataError) as found:
        open_for_training(damaged(root), split="trainval", names=["cat", "dog"])
    text = str(found.value)
    assert "\n" not in text
    assert text.startswith(f"{root}/JPEGImages/00.jpg: is not there")
    assert text.endswith(
        f", and 3 more errors: nothing is learnt from such data; `lookonce data check {root}` lists all, and "
        "--skip-bad leaves their pictures out"
    )


def test_skipping_leaves_out_the_pictures_that_errors_are_about_and_lists_them(root: Path) -> None:
    before = {path: path.stat() for path in damaged(root).rglob("*") if path.is_file()}
    data = open_for_training(root, split="train+val+test", val_split="none", names=["cat", "dog"], skip_bad=True)
    assert names_of(data.train) == ["04", "05"]
    assert sorted(problem.kind for problem in data.left_out) == [
        "box outside the picture", "missing picture", "unknown name", "unreadable picture",
    ]  # fmt: skip
    after = {path: path.stat() for path in root.rglob("*") if path.is_file()}
    assert {path: (stat.st_size, stat.st_mtime_ns) for path, stat in after.items()} == {
        path: (stat.st_size, stat.st_mtime_ns) for path, stat in before.items()
    }


def test_one_bad_box_in_a_file_of_many_pictures_leaves_out_its_picture_only(tmp_path: Path) -> None:
    for number in (1, 2, 11):
        picture(tmp_path / "images" / f"{number}.jpg", seed=number)
    boxes = {1: [1, 2, 10, 9], 2: [1, 2, 10, 9], 11: [45, 2, 10, 9]}
    content = {
        "images": [{"id": id, "file_name": f"{id}.jpg", "width": 40, "height": 30} for id in boxes],
        "annotations": [
            {"id": id, "image_id": id, "category_id": 5, "bbox": bbox, "iscrowd": 0} for id, bbox in boxes.items()
        ],
        "categories": [{"id": 5, "name": "cat"}],
    }
    path = write(tmp_path / "instances.json", json.dumps(content))
    with pytest.raises(DataError, match=r"picture 11, object 1: .* lies wholly outside the picture, 40 x 30: nothing"):
        open_for_training(path)
    assert names_of(open_for_training(path, skip_bad=True).train) == ["1", "2"]


def test_a_picture_in_an_archive_is_left_out_by_its_place_there(tmp_path: Path) -> None:
    class_folders(tmp_path / "set", {"cat": 3, "dog": 3})
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for path in sorted((tmp_path / "set").rglob("*.png")):
            archive.write(path, path.relative_to(tmp_path / "set"))
        archive.writestr("cat/9.png", b"no picture")
    data = open_for_training(tmp_path / "set.zip", val_split="none", skip_bad=True)
    assert (len(data.train), len(data.left_out)) == (6, 1)
    assert not {"cat/9"} & set(names_of(data.train))


def test_nothing_left_to_learn_is_an_error(root: Path, tmp_path: Path) -> None:
    for id in IDS:
        (root / "JPEGImages" / f"{id}.jpg").unlink()
    with pytest.raises(DataError, match="no picture is left to learn from"):
        open_for_training(root, skip_bad=True)
    empty = voc(tmp_path / "empty", dict.fromkeys(IDS, xml([])))
    with pytest.raises(DataError, match="none of the 6 pictures to learn from has an object or a class"):
        open_for_training(empty, val_split="none")


def test_boxes_that_are_nothing_to_learn_are_left_out_of_learning_only(tmp_path: Path) -> None:
    """A pixel, as VOC counts, and a difficult dog; both parts hold the same."""
    flat = ("dog", 7, 7, 7, 20)
    hard = xml([DOG], "<difficult>1</difficult>")
    labels = {"a": xml([CAT, flat]), "b": hard, "c": xml([CAT, flat]), "d": hard}
    root = voc(tmp_path, labels, {"train": ["a", "b"], "val": ["c", "d"]})
    with pytest.warns(LookonceWarning, match="1 of 2 classes have no object to learn from: dog"):
        data = open_for_training(root, names=["cat", "dog"])
    assert [len(item.truth) for item in data.train.items] == [1, 0]
    assert data.val is not None
    assert [len(item.truth) for item in data.val.items] == [2, 1]
    assert [str(problem) for problem in data.left_out] == [
        f"{root}/Annotations/a.xml: object 2: dog of 1 x 14 pixels is left out"
    ]
    assert data.rule.endswith(
        "; 1 difficult objects are not learnt; 1 boxes without area are left out; 1 pictures without an object are "
        "learnt as such"
    )
    assert [problem.kind for problem in data.found].count("box without area") == 2
    hard_too = open_for_training(root, names=["cat", "dog"], difficult=True)
    assert [len(item.truth) for item in hard_too.train.items] == [1, 1]


def test_vocs_own_names_are_said_to_be_so(root: Path) -> None:
    """Cats and dogs alone are read as two of VOC's twenty classes, so that numbers are the same everywhere."""
    with pytest.warns(LookonceWarning, match="18 of 20 classes have no .*; these are VOC's: give the names"):
        assert len(open_for_training(root).names) == 20


def test_crowds_are_not_learnt(tmp_path: Path) -> None:
    picture(tmp_path / "images" / "1.jpg")
    rows = [
        {"id": 1 + crowd, "image_id": 1, "category_id": 5, "bbox": [1, 2, 10, 9 + crowd], "iscrowd": crowd}
        for crowd in (0, 1)
    ]
    content = {
        "images": [{"id": 1, "file_name": "1.jpg", "width": 40, "height": 30}],
        "annotations": rows,
        "categories": [{"id": 5, "name": "cat"}],
    }
    data = open_for_training(write(tmp_path / "instances.json", json.dumps(content)))
    assert data.train.items[0].truth.xywh.tolist() == [[1, 2, 10, 9]]
    assert data.rule.endswith("1 crowd objects are not learnt")


# ---------------------------------------------------------------------- pictures in both parts
def test_pictures_in_both_parts_are_named(root: Path) -> None:
    """One is listed twice, one is a copy under another name; a picture of equal length is none."""
    write(root / "ImageSets" / "Main" / "val.txt", "01\n02\n03\n")
    (root / "JPEGImages" / "03.jpg").write_bytes((root / "JPEGImages" / "00.jpg").read_bytes())
    data = (root / "JPEGImages" / "00.jpg").read_bytes()
    (root / "JPEGImages" / "02.jpg").write_bytes(data[:-12] + bytes(byte ^ 1 for byte in data[-12:-2]) + data[-2:])
    with pytest.warns(LookonceWarning, match=r"2 of the 3 pictures that judge are learnt from too.*: 01.jpg, 03.jpg"):
        found = open_for_training(root).found
    both = [problem for problem in found if problem.kind == "picture in both parts"]
    assert [(problem.file.name, problem.text) for problem in both] == [
        ("01.jpg", f"is learnt from and judged by: it is {root}/JPEGImages/01.jpg"),
        ("03.jpg", f"is learnt from and judged by: it is {root}/JPEGImages/00.jpg"),
    ]


def test_unchecked_data_are_only_read(root: Path) -> None:
    write(root / "JPEGImages" / "01.jpg", "no picture")
    assert names_of(open_for_training(root, checked=False).train) == IDS[:2]


# ---------------------------------------------------------------------- for a network
def test_a_detector_wants_boxes_and_a_classifier_classes(root: Path, tmp_path: Path) -> None:
    detector, classifier = network_of(DETECTOR), network_of(CLASSIFIER)
    pictures = open_for_training(class_folders(tmp_path / "classes", {"cat": 4, "dog": 4}))
    check_kind(open_for_training(root), detector)
    check_kind(pictures, classifier)
    with pytest.raises(DataError, match=r"voc: says where things are, in boxes: test.cfg is a classifier and learns"):
        check_kind(open_for_training(root), classifier)
    with pytest.raises(DataError, match=r"classes: says what its pictures show, not where: test.cfg is a detector"):
        check_kind(pictures, detector)


def test_a_classifier_wants_one_class_a_picture(tmp_path: Path) -> None:
    data = open_for_training(class_folders(tmp_path, {"cat": 2, "dog": 2}))
    first, *others = data.train.items
    two = first._replace(truth=dataclasses.replace(first.truth, classes=(0, 1)))
    odd = dataclasses.replace(data, train=dataclasses.replace(data.train, items=(two, *others)))
    with pytest.raises(DataError, match=r"0.png: has 2 classes, and so have 0 more pictures not one: test.cfg learns"):
        check_kind(odd, network_of(CLASSIFIER))


def test_classes_and_batch_must_fit_the_network(tmp_path: Path) -> None:
    data = open_for_training(class_folders(tmp_path, {"cat": 2, "dog": 2}))
    check_suits(data, network_of(CLASSIFIER))
    with pytest.raises(DataError, match=r"has 2 classes, test.cfg 3; wanted as many: adapt the cfg"):
        check_suits(data, network_of(CLASSIFIER.replace("filters=2", "filters=3")))
    with pytest.raises(DataError, match=r"has 4 pictures to learn from, fewer than batch=5 of test.cfg; wanted .* 4$"):
        check_suits(data, network_of(CLASSIFIER.replace("batch=4", "batch=5")))


# ---------------------------------------------------------------------- lists
def test_the_lists_of_a_run_open_its_parts_again(root: Path, tmp_path: Path) -> None:
    for path, data in (
        (root, open_for_training(root, split="trainval+test", seed=3)),
        (tmp_path / "classes", open_for_training(class_folders(tmp_path / "classes", {"cat": 8, "dog": 8}))),
    ):
        written = write_lists(data, tmp_path / "run")
        assert [place.name for place in written] == ["train.txt", "val.txt"]
        for place, part in zip(written, (data.train, data.val), strict=True):
            assert sorted(names_of(open_dataset(path, split=str(place)))) == sorted(names_of(part))


def test_what_was_left_out_is_listed(root: Path, tmp_path: Path) -> None:
    data = open_for_training(damaged(root), split="train+val+test", names=["cat", "dog"], skip_bad=True)
    _, left = write_lists(data, tmp_path / "run")
    assert left.name == "left-out.txt"
    assert left.read_text().splitlines() == [str(problem) for problem in data.left_out]
    assert len(data.left_out) == 4


# ---------------------------------------------------------------------- real data
@pytest.mark.shared
def test_two_boxes_of_bccd_have_no_area_and_are_left_out(shared: Path) -> None:
    data = open_for_training(shared / "data" / "bccd", split="trainval", val_split="test")
    assert (len(data.train), len(data.val or ()), data.names) == (292, 72, ("Platelets", "RBC", "WBC"))
    assert sorted(f"{problem.file.stem} {problem.place}" for problem in data.left_out) == [
        "BloodImage_00338 object 13", "BloodImage_00343 object 4",
    ]  # fmt: skip
    assert {problem.kind for problem in data.found} == {"box without area"}


@pytest.mark.shared
def test_two_archives_in_a_folder_are_its_parts(shared: Path) -> None:
    """The counts of their README: 80 and 10 pictures of each of 200 classes."""
    data = open_for_training(shared / "data" / "tiny-imagenet", checked=False)
    assert (len(data.train), len(data.val or ()), len(data.names)) == (16000, 2000, 200)
    assert data.rule.startswith("learns train, judged by val; 16,000 pictures to learn from, 2,000 to judge by")
