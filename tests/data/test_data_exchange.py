"""Writing in every form, and what comes back; CVAT and Label Studio, which people exchange labels by."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from smallsets import everything, picture, text, voc_xml

from lookonce.data import Dataset, open_dataset, write_dataset
from lookonce.errors import DataError

BOXES = ("voc", "coco", "darknet", "openimages", "cvat", "labelstudio")
# What a form keeps of a Truth beside boxes and names.
KEEPS = {
    "voc": {"difficult"},
    "coco": {"crowd", "area", "difficult"},
    "darknet": set(),
    "openimages": {"crowd", "classes"},
    "cvat": {"crowd", "difficult", "classes"},
    "labelstudio": {"crowd", "difficult", "classes"},
}


def assert_same(one: Dataset, other: Dataset, form: str, atol: float) -> None:
    """Names, boxes, and what the form can say, picture by picture."""
    assert len(one) == len(other)
    for a, b in zip(one.items, other.items, strict=True):
        assert a.path.suffix == b.path.suffix
        assert b.size in ((40, 30), None)
        assert [one.names[label] for label in a.truth.label] == [other.names[label] for label in b.truth.label]
        assert np.allclose(a.truth.xyxy, b.truth.xyxy, rtol=0, atol=atol)
        for what in ("crowd", "area", "difficult"):
            if what in KEEPS[form] and form != "voc":
                assert getattr(a.truth, what).tolist() == getattr(b.truth, what).tolist(), what
        if "classes" in KEEPS[form]:
            assert sorted(one.names[label] for label in a.truth.classes) == sorted(
                other.names[label] for label in b.truth.classes
            )


@pytest.mark.parametrize("form", BOXES)
def test_what_is_written_is_recognised_and_comes_back(tmp_path: Path, form: str) -> None:
    source = everything(tmp_path / "source")
    write_dataset(source, tmp_path / "out", form)
    found = open_dataset(tmp_path / "out")
    assert (found.format, [str(problem) for problem in found.problems if problem.is_error]) == (form, [])
    assert_same(source, found, form, 1e-7 if form in ("darknet", "openimages") else 1e-12)
    assert set(found.names) >= {"cat", "dog"}


@pytest.mark.parametrize("form", BOXES)
def test_voc_to_a_form_and_back_to_voc_keeps_boxes_names_and_difficult(tmp_path: Path, form: str) -> None:
    write_dataset(everything(tmp_path / "source"), tmp_path / "voc", "voc")
    first = open_dataset(tmp_path / "voc")
    write_dataset(first, tmp_path / "other", form)
    write_dataset(open_dataset(tmp_path / "other"), tmp_path / "back", "voc")
    back = open_dataset(tmp_path / "back")
    assert [item.name for item in back.items] == [item.name for item in first.items]
    for a, b in zip(first.items, back.items, strict=True):
        assert np.allclose(a.truth.xyxy, b.truth.xyxy, rtol=0, atol=1e-7)
        assert [first.names[label] for label in a.truth.label] == [back.names[label] for label in b.truth.label]
        if "difficult" in KEEPS[form]:
            assert a.truth.difficult.tolist() == b.truth.difficult.tolist()
    assert first.items[0].truth.difficult.tolist() == [False, True, True]     # a crowd became difficult


def test_vocs_decimals_are_written_as_they_were_read(tmp_path: Path) -> None:
    text(tmp_path / "in" / "a.xml", voc_xml([("dog", (1.1, 2.7, 30.9, 15.3))]))
    picture(tmp_path / "in" / "a.jpg")
    write_dataset(open_dataset(tmp_path / "in"), tmp_path / "out", "voc")
    written = (tmp_path / "out" / "Annotations" / "a.xml").read_text()
    for side in ("<xmin>1.1<", "<ymin>2.7<", "<xmax>30.9<", "<ymax>15.3<"):
        assert side in written


@pytest.mark.parametrize(("copy", "same"), [("link", True), ("copy", False)])
def test_pictures_are_linked_or_copied_and_the_source_stays_as_it_was(tmp_path: Path, copy: str, same: bool) -> None:
    source = everything(tmp_path / "source")
    before = {path: path.read_bytes() for path in sorted((tmp_path / "source").rglob("*"))}
    write_dataset(source, tmp_path / "out", "coco", copy=copy)  # type: ignore[arg-type]
    new = tmp_path / "out" / "images" / "one.jpg"
    assert new.samefile(tmp_path / "source" / "one.jpg") == same
    assert new.read_bytes() == before[tmp_path / "source" / "one.jpg"]
    assert {path: path.read_bytes() for path in sorted((tmp_path / "source").rglob("*"))} == before


@pytest.mark.parametrize("form", ["voc", "coco", "cvat", "labelstudio"])
def test_pictures_may_stay_where_they_are(tmp_path: Path, form: str) -> None:
    source = everything(tmp_path / "source")
    write_dataset(source, tmp_path / "out", form, copy="none")
    assert not list((tmp_path / "out").rglob("*.jpg"))
    found = open_dataset(tmp_path / "out")
    assert [item.path for item in found.items] == [item.path for item in source.items]


@pytest.mark.parametrize("form", ["darknet", "openimages", "folder"])
def test_a_form_that_finds_pictures_by_their_place_must_have_them(tmp_path: Path, form: str) -> None:
    with pytest.raises(DataError, match="looks for pictures beside its labels: link or copy them"):
        write_dataset(everything(tmp_path / "source"), tmp_path / "out", form, copy="none")


def test_a_folder_with_anything_in_it_is_refused(tmp_path: Path) -> None:
    text(tmp_path / "out" / "mine", "keep")
    with pytest.raises(DataError, match="out: is not empty; name a folder that is, or a new one"):
        write_dataset(everything(tmp_path / "source"), tmp_path / "out", "coco")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["mine"]


def test_two_pictures_of_one_name_get_different_ones(tmp_path: Path) -> None:
    source = everything(tmp_path / "source")
    twins = tuple(item._replace(path=picture(tmp_path / f"{i}" / "A.jpg" if i else tmp_path / "a.jpg"))
                  for i, item in enumerate(source.items))  # fmt: skip
    write_dataset(Dataset("voc", tmp_path, source.names, twins), tmp_path / "out", "darknet")
    found = open_dataset(tmp_path / "out")
    assert [item.name for item in found.items] == ["a", "A-2", "A-3"]
    assert [len(item.truth) for item in found.items] == [3, 0, 1]


def test_a_missing_picture_or_an_unknown_form_is_said_in_one_line(tmp_path: Path) -> None:
    source = everything(tmp_path / "source")
    with pytest.raises(DataError, match="no format cocoo can be written, did you mean coco"):
        write_dataset(source, tmp_path / "out", "cocoo")
    (tmp_path / "source" / "one.jpg").unlink()
    with pytest.raises(DataError, match=r"one.jpg: no such file; it is part of the dataset"):
        write_dataset(source, tmp_path / "out", "coco")


def test_class_folders_are_taken_out_of_an_archive(tmp_path: Path) -> None:
    encoded = picture(tmp_path / "a.jpg").read_bytes()
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        for name in ("dog/a.jpg", "cat/a.jpg"):
            archive.writestr(name, encoded)
    write_dataset(open_dataset(tmp_path / "set.zip"), tmp_path / "out", "folder")
    found = open_dataset(tmp_path / "out")
    assert [(item.name, item.truth.classes) for item in found.items] == [("cat/a", (0,)), ("dog/a", (1,))]
    assert found.items[0].path.read_bytes() == encoded


def test_a_class_whose_name_is_no_folder_is_refused(tmp_path: Path) -> None:
    source = everything(tmp_path / "source")
    items = tuple(item._replace(truth=item.truth.__class__.of(np.zeros(0), classes=(0,))) for item in source.items)
    for name in ("../up", "a/b", "..", "."):
        with pytest.raises(DataError, match="no folder can be called"):
            write_dataset(Dataset("folder", tmp_path, (name,), items), tmp_path / "out", "folder")
        assert not list(tmp_path.glob("up*"))


@pytest.mark.parametrize("name", ["\x01", "half \ud800", "two\nlines", ""])
@pytest.mark.parametrize("form", BOXES)
def test_a_class_name_that_no_file_can_hold_is_refused(tmp_path: Path, form: str, name: str) -> None:
    source = everything(tmp_path / "source")
    with pytest.raises(DataError, match="no file of labels can hold"):
        write_dataset(Dataset("voc", tmp_path, (name, "dog"), source.items), tmp_path / "out", form)
    assert not (tmp_path / "out").exists()


def test_numbers_of_cocos_categories_and_images_survive(tmp_path: Path) -> None:
    content = {
        "images": [{"id": 41, "file_name": "7.jpg", "width": 40, "height": 30}],
        "annotations": [{"id": 5, "image_id": 41, "category_id": 90, "bbox": [1, 2, 3, 4], "area": 6, "iscrowd": 1}],
        "categories": [{"id": 90, "name": "toothbrush"}, {"id": 13, "name": "stop sign"}],
    }
    picture(tmp_path / "in" / "images" / "7.jpg")
    write_dataset(open_dataset(text(tmp_path / "in" / "instances.json", json.dumps(content))), tmp_path / "out", "coco")
    written = json.loads((tmp_path / "out" / "instances.json").read_text())
    assert written["images"] == content["images"]
    assert sorted(row["id"] for row in written["categories"]) == [13, 90]
    assert {key: written["annotations"][0][key] for key in ("image_id", "category_id", "bbox", "area", "iscrowd")} == {
        "image_id": 41, "category_id": 90, "bbox": [1, 2, 3, 4], "area": 6, "iscrowd": 1,
    }  # fmt: skip


# ---------------------------------------------------------------------- CVAT
def cvat(root: Path, inside: str, labels: tuple[str, ...] = ("dog", "cat")) -> Path:
    """annotations.xml of one picture with elements in it."""
    picture(root / "images" / "a.jpg")
    said = "".join(f"<label><name>{name}</name></label>" for name in labels)
    return text(
        root / "annotations.xml",
        f"<annotations><version>1.1</version><meta><job><labels>{said}</labels></job></meta>"
        f'<image id="0" name="a.jpg" width="40" height="30">{inside}</image></annotations>',
    )


def test_cvats_boxes_and_tags_are_read_with_its_labels_in_their_order(tmp_path: Path) -> None:
    box = '<box label="cat" xtl="1.25" ytl="2" xbr="30.5" ybr="20"><attribute name="Difficult">true</attribute></box>'
    dataset = open_dataset(cvat(tmp_path, box + '<tag label="dog"/><polygon label="dog" points="1,2;3,4"/>'))
    (item,) = dataset.items
    assert (dataset.names, item.size, item.truth.classes) == (("dog", "cat"), (40, 30), (0,))
    assert (item.truth.xyxy.tolist(), item.truth.label.tolist()) == ([[1.25, 2, 30.5, 20]], [1])
    assert (item.truth.difficult.tolist(), item.truth.crowd.tolist()) == ([True], [False])
    assert [(p.kind, p.is_error) for p in dataset.problems] == [("other shapes", False)]


def test_a_quarter_turn_of_cvats_box_swaps_its_sides_about_the_centre(tmp_path: Path) -> None:
    box = '<box label="cat" xtl="10" ytl="10" xbr="30" ybr="14" rotation="90"/>'
    dataset = open_dataset(cvat(tmp_path, box))
    assert np.allclose(dataset.items[0].truth.xyxy, [[18, 2, 22, 22]])
    assert [p.kind for p in dataset.problems] == ["turned box"]


@pytest.mark.parametrize(
    ("inside", "kind"),
    [
        ('<box label="cow" xtl="1" ytl="2" xbr="3" ybr="4"/>', "unknown name"),
        ('<box xtl="1" ytl="2" xbr="3" ybr="4"/>', "unknown name"),
        ('<box label="cat" xtl="1" ytl="2" xbr="3"/>', "unreadable box"),
        ('<box label="cat" xtl="5" ytl="2" xbr="3" ybr="4"/>', "unreadable box"),
        ('<tag label="cow"/>', "unknown name"),
    ],
)
def test_a_faulty_element_of_cvat_is_an_error(tmp_path: Path, inside: str, kind: str) -> None:
    found = open_dataset(cvat(tmp_path, inside), lenient=True)
    assert [(p.kind, p.is_error) for p in found.problems] == [(kind, True)]
    assert len(found.items[0].truth) == 0


def test_cvat_for_video_is_refused(tmp_path: Path) -> None:
    path = text(tmp_path / "annotations.xml", "<annotations><track/></annotations>")
    with pytest.raises(DataError, match="holds CVAT for video, wanted <annotations> of CVAT for images 1.1"):
        open_dataset(path)


# ---------------------------------------------------------------------- Label Studio
def region(name: str = "dog", **more: object) -> dict[str, object]:
    """A rectangle over the right lower quarter of a picture of 40 x 30."""
    value = {"x": 50, "y": 50, "width": 50, "height": 50, "rotation": 0, "rectanglelabels": [name], **more}
    return {"type": "rectanglelabels", "original_width": 40, "original_height": 30, "value": value}


def studio(root: Path, *results: object, image: str = "/data/upload/1/0123abcd-a%20b.jpg", more: object = ()) -> Path:
    """An export of one task; its picture lies in images/ under the name it had before the upload."""
    picture(root / "images" / "a b.jpg")
    annotations = [{"result": [], "was_cancelled": True}, {"result": list(results)}, *(more or ())]  # type: ignore[misc]
    return text(root / "export.json", json.dumps([{"id": 9, "data": {"image": image}, "annotations": annotations}]))


def test_percents_become_pixels_and_an_uploads_prefix_is_no_part_of_the_name(tmp_path: Path) -> None:
    (item,) = open_dataset(studio(tmp_path, region())).items
    assert (item.truth.xyxy.tolist(), item.size) == ([[20, 15, 40, 30]], (40, 30))
    assert item.path == tmp_path / "images" / "a b.jpg"


def test_a_quarter_turn_goes_about_the_left_top_corner(tmp_path: Path) -> None:
    dataset = open_dataset(studio(tmp_path, region(width=25, rotation=90)))
    assert np.allclose(dataset.items[0].truth.xyxy, [[5, 15, 20, 25]])
    assert [p.kind for p in dataset.problems] == ["turned box"]


def test_of_several_annotations_the_first_counts_and_other_shapes_are_left_out(tmp_path: Path) -> None:
    path = studio(tmp_path, region(), {"type": "brushlabels", "value": {}}, more=[{"result": [region("cat")]}])
    dataset = open_dataset(path)
    assert dataset.names == ("dog",)
    assert [(p.kind, p.is_error) for p in dataset.problems] == [("several annotations", False), ("other shapes", False)]


@pytest.mark.parametrize(
    ("result", "kind"),
    [
        (region(rectanglelabels=[]), "unknown name"),
        (region(x="left"), "unreadable box"),
        (region(width=-5), "unreadable box"),
        ({**region(), "original_width": None}, "unreadable box"),
        ({"type": "choices", "value": {"choices": "dog"}}, "unknown name"),
    ],
)
def test_a_faulty_region_is_an_error(tmp_path: Path, result: object, kind: str) -> None:
    found = open_dataset(studio(tmp_path, result), lenient=True)
    assert [(p.kind, p.is_error) for p in found.problems] == [(kind, True)]


@pytest.mark.parametrize("content", ['[{"image": "a.jpg", "label": []}]', "{}", "[1]", '[{"annotations": 3}]', "[[[["])
def test_what_is_no_export_is_refused_in_one_line(tmp_path: Path, content: str) -> None:
    path = text(tmp_path / "export.json", content)
    with pytest.raises(DataError) as raised:
        open_dataset(path, format="labelstudio")
    assert "\n" not in str(raised.value)
