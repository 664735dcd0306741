"""VOC's folders: what is read from them, what is found wrong with them."""

from __future__ import annotations

import time
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from smallsets import picture, text, voc_root, voc_xml

from lookonce.data import open_dataset
from lookonce.errors import DataError

ONE = np.array([1, 1, 0, 0])                # what a Truth's corners lack of VOC's


def test_corners_count_from_0_and_one_added_to_left_and_top_gives_the_files_numbers_back(tmp_path: Path) -> None:
    """VOC's judge compares the numbers of the file: decimals too must survive the way there and back, bit by bit."""
    corners = [(1, 1, 40, 30), (30.9, 15.3, 38.7, 29.1), (1.1, 2.7, 3.3, 4.9)]
    root = voc_root(tmp_path, {"a": voc_xml([("dog", corner) for corner in corners])})
    truth = open_dataset(root).items[0].truth
    assert np.array_equal(truth.xyxy + ONE, np.array(corners))
    assert truth.xyxy[0].tolist() == [0, 0, 40, 30]                   # the whole picture
    assert truth.area[0] == 40 * 30


def test_adding_one_is_exact_for_every_corner_of_one_decimal_from_1_on() -> None:
    numbers = np.array([float(f"{whole}.{tenth}") for whole in range(1, 3000) for tenth in range(10)])
    assert np.array_equal((numbers - 1) + 1, numbers)


def test_difficult_is_kept_and_parts_are_no_objects(tmp_path: Path) -> None:
    part = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"
    xml = voc_xml([("person", (1, 2, 30, 20))], "<difficult>1</difficult>" + part)
    dataset = open_dataset(voc_root(tmp_path, {"a": xml, "b": voc_xml([("person", (5, 5, 9, 9))])}))
    assert [item.truth.difficult.tolist() for item in dataset.items] == [[True], [False]]
    assert dataset.items[0].truth.xyxy.tolist() == [[0, 1, 30, 20]]


def test_names_are_vocs_twenty_if_no_other_is_used(tmp_path: Path) -> None:
    dataset = open_dataset(voc_root(tmp_path, {"a": voc_xml([("tvmonitor", (1, 1, 9, 9))])}))
    assert (len(dataset.names), dataset.names[0], dataset.items[0].truth.label.tolist()) == (20, "aeroplane", [19])


def test_names_of_ones_own_are_sorted_and_the_same_in_every_split(tmp_path: Path) -> None:
    labels = {"a": voc_xml([("person", (1, 1, 9, 9))]), "b": voc_xml([("zebra", (1, 1, 9, 9))])}
    root = voc_root(tmp_path, labels, {"train": ["a"], "val": ["b"]})
    assert open_dataset(root, split="train").names == open_dataset(root, split="val").names == ("person", "zebra")


def test_the_other_splits_are_looked_up_at_once(tmp_path: Path) -> None:
    """A set of a hundred thousand names for each of a thousand files takes several seconds."""
    root = voc_root(tmp_path, {}, {"train": [f"gone{number}" for number in range(100_000)]})
    for number in range(1000):
        text(root / "Annotations" / f"{number}.xml", "<annotation/>")
    began = time.process_time()
    assert len(open_dataset(root, split="train", lenient=True).problems) == 100_000
    assert time.process_time() - began < 4


def test_given_names_number_the_classes_and_any_other_is_an_error(tmp_path: Path) -> None:
    root = voc_root(tmp_path, {"a": voc_xml([("dog", (1, 1, 9, 9)), ("dgo", (2, 2, 8, 8))])})
    found = open_dataset(root, names=["cat", "dog"], lenient=True)
    assert found.items[0].truth.label.tolist() == [1]
    (problem,) = found.problems
    assert (problem.kind, problem.place, problem.is_error) == ("unknown name", "object 2", True)
    assert problem.text == "dgo is not one of the 2 names, did you mean dog?"


def test_a_split_lists_its_pictures_in_order_and_an_unknown_one_is_told_those_there(tmp_path: Path) -> None:
    labels = {id: voc_xml([("dog", (1, 1, 9, 9))]) for id in "abc"}
    root = voc_root(tmp_path, labels, {"train": ["c", "a"], "val": ["b"]})
    assert [item.name for item in open_dataset(root, split="train").items] == ["c", "a"]
    assert [item.name for item in open_dataset(root).items] == ["a", "b", "c"]
    with pytest.raises(DataError, match=r"has no split trian, did you mean train\?; there is train, val"):
        open_dataset(root, split="trian")


def test_a_flat_folder_holds_xml_files_beside_pictures_of_any_suffix(tmp_path: Path) -> None:
    text(tmp_path / "a.xml", voc_xml([("dog", (1, 1, 9, 9))]))
    picture(tmp_path / "a.PNG")
    (item,) = open_dataset(tmp_path).items
    assert (item.path, item.size, item.labels) == (tmp_path / "a.PNG", (40, 30), tmp_path / "a.xml")


@pytest.mark.parametrize(
    ("corners", "kind", "is_error", "kept"),
    [
        ((5, 5, 5, 9), "box without area", False, 1),            # a pixel wide
        ((5, 5, 4, 9), "box without area", False, 1),            # no width at all
        ((5, 5, 3, 9), "unreadable box", True, 0),
        (("nan", 5, 9, 9), "unreadable box", True, 0),
        (("inf", 5, 9, 9), "unreadable box", True, 0),
        (("1_0", 5, 90, 9), "unreadable box", True, 0),
        (("", 5, 9, 9), "unreadable box", True, 0),
        (("0,5", 5, 9, 9), "unreadable box", True, 0),
    ],
)
def test_an_odd_box_is_a_problem_of_its_object(
    tmp_path: Path, corners: tuple[object, ...], kind: str, is_error: bool, kept: int
) -> None:
    xml = voc_xml([("dog", (1, 1, 9, 9)), ("cat", corners)])  # type: ignore[list-item]
    found = open_dataset(voc_root(tmp_path, {"a": xml}), lenient=True)
    assert {(p.kind, p.place, p.is_error) for p in found.problems} == {(kind, "object 2", is_error)}
    assert len(found.items[0].truth) == 1 + kept


@pytest.mark.parametrize(
    "xml",
    [
        b'<!DOCTYPE a [<!ENTITY b "c">]><annotation/>',
        '<!DOCTYPE a [<!ENTITY b "c">]><annotation/>'.encode("utf-16"),
        b"<?xml version='1.0' encoding='cp037'?>" + "<!DOCTYPE a><annotation/>".encode("cp037"),
        b"<annotation>",
        b"<html/>",
        b"",
        b"\xff\xfe\x00",
        b"<a>" * 100_000,
    ],
)
def test_labels_that_cannot_be_read_are_an_error_and_their_picture_is_left_out(tmp_path: Path, xml: bytes) -> None:
    root = voc_root(tmp_path, {"a": voc_xml([("dog", (1, 1, 9, 9))]), "b": ""})
    (root / "Annotations" / "b.xml").write_bytes(xml)
    found = open_dataset(root, lenient=True)
    assert [item.name for item in found.items] == ["a"]
    assert [(problem.kind, problem.file.name) for problem in found.problems] == [("unreadable labels", "b.xml")]
    assert "\n" not in str(found.problems[0])


def test_another_encoding_is_read_as_the_file_says(tmp_path: Path) -> None:
    root = voc_root(tmp_path, {"a": ""})
    xml = "<?xml version='1.0' encoding='GBK'?>" + voc_xml([("狗", (1, 1, 9, 9))])
    (root / "Annotations" / "a.xml").write_bytes(xml.encode("gbk"))
    assert open_dataset(root).names == ("狗",)


def test_the_first_error_is_raised_with_the_number_of_the_others(tmp_path: Path) -> None:
    root = voc_root(tmp_path, {id: voc_xml([("dog", (9, 9, 1, 1))]) for id in "abc"})
    (root / "JPEGImages" / "b.jpg").unlink()
    with pytest.raises(DataError) as raised:
        open_dataset(root)
    assert str(raised.value) == (
        f"{root}/JPEGImages/b.jpg: is not there; {root}/Annotations/b.xml names it; and 3 more errors: "
        f"`lookonce data check {root}` lists all"
    )


def test_an_id_of_a_list_does_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    root = voc_root(tmp_path / "root", {"a": voc_xml([("dog", (1, 1, 9, 9))])}, {"val": ["a", "../../b", "c", "a"]})
    text(tmp_path / "b.xml", voc_xml([("cat", (1, 1, 9, 9))]))
    found = open_dataset(root, split="val", lenient=True)
    assert [item.name for item in found.items] == ["a"]
    assert [problem.kind for problem in found.problems] == ["unreadable list", "unreadable list", "missing labels"]


@pytest.mark.shared
def test_the_real_set_reads_as_a_plain_loop_reads_it(shared: Path) -> None:
    root = shared / "data" / "voc2007"
    began = time.perf_counter()
    dataset = open_dataset(root, split="val")
    assert time.perf_counter() - began < 10
    assert (len(dataset), dataset.problems) == (500, ())
    for item in dataset.items:
        annotation = ElementTree.parse(root / "Annotations" / f"{item.name}.xml").getroot()
        rows = [
            (
                each.find("name").text,  # type: ignore[union-attr]
                each.find("difficult").text == "1",  # type: ignore[union-attr]
                [float(each.find("bndbox").find(side).text) for side in ("xmin", "ymin", "xmax", "ymax")],  # type: ignore
            )
            for each in annotation.findall("object")
        ]
        names = [dataset.names[label] for label in item.truth.label]
        back = (item.truth.xyxy + ONE).tolist()
        assert list(zip(names, item.truth.difficult.tolist(), back, strict=True)) == rows


@pytest.mark.shared
def test_the_two_boxes_without_area_of_the_blood_cells_are_told(shared: Path) -> None:
    dataset = open_dataset(shared / "data" / "bccd")
    found = [(problem.kind, problem.file.stem, problem.is_error) for problem in dataset.problems]
    assert found == [("box without area", f"BloodImage_{number}", False) for number in ("00338", "00343")]
    assert dataset.names == ("Platelets", "RBC", "WBC")
    assert sum(len(item.truth) for item in dataset.items) == 4888
