"""COCO's JSON: what is read from it, what is found wrong with it."""

from __future__ import annotations

import contextlib
import io
import json
import time
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from smallsets import annotation, coco_file, picture, text

from lookonce.data import open_dataset
from lookonce.data.check import check
from lookonce.errors import DataError


def test_boxes_areas_and_crowds_are_exactly_those_of_the_file(tmp_path: Path) -> None:
    odd = [0.1, 0.2, 0.7, 33.3]                       # .1 + .7 - .1 is not .7
    path = coco_file(tmp_path, [annotation(), annotation(2, bbox=odd, iscrowd=1, image_id=2, area=5)])
    one, two = open_dataset(path).items
    assert (one.truth.xywh.tolist(), one.truth.area.tolist()) == ([[1.5, 2.25, 10, 20]], [77.5])
    assert (two.truth.xywh.tolist(), two.truth.crowd.tolist(), two.truth.area.tolist()) == ([odd], [True], [5])
    assert one.truth.xyxy.tolist() == [[1.5, 2.25, 11.5, 22.25]]
    assert (one.name, one.size, one.path) == ("1", (40, 30), tmp_path / "images" / "000001.jpg")


def test_categories_are_numbered_in_the_order_of_their_ids(tmp_path: Path) -> None:
    dataset = open_dataset(coco_file(tmp_path, [annotation(), annotation(2, category_id=3)]))
    assert (dataset.names, dataset.numbers) == (("cat", "dog"), (3, 7))
    assert dataset.items[0].truth.label.tolist() == [1, 0]


def test_given_names_keep_the_ids_and_one_without_a_category_has_none(tmp_path: Path) -> None:
    dataset = open_dataset(coco_file(tmp_path, [annotation()]), names=("dog", "bird", "cat"))
    assert (dataset.numbers, dataset.items[0].truth.label.tolist()) == ((7, -1, 3), [0])
    found = open_dataset(coco_file(tmp_path, [annotation()]), names=("cat",), lenient=True)
    assert [(problem.kind, problem.place) for problem in found.problems] == [("unknown name", "category 7")]
    assert len(found.items[0].truth) == 0


@pytest.mark.parametrize(
    ("change", "kind", "kept"),
    [
        ({"image_id": 3}, "unknown picture", 1),
        ({"image_id": [1]}, "unknown picture", 1),
        ({"category_id": 4}, "unknown name", 1),
        ({"bbox": [1, 2, 3]}, "unreadable box", 1),
        ({"bbox": None}, "unreadable box", 1),
        ({"bbox": ["1", "2", "3", "4"]}, "unreadable box", 1),
        ({"bbox": [True, 2, 3, 4]}, "unreadable box", 1),
        ({"bbox": [1, 2, -3, 4]}, "unreadable box", 1),
        ({"bbox": [1, float("nan"), 3, 4]}, "unreadable box", 1),
        ({"bbox": [1e308, 2, 1e308, 4]}, "unreadable box", 1),
        ({"bbox": [10**400, 2, 3, 4]}, "unreadable box", 1),
        ({"id": 1}, "duplicate id", 2),
        ({"id": None}, "missing id", 2),
        ({"area": -1}, "unreadable area", 2),
        ({"area": "big"}, "unreadable area", 2),
    ],
)
def test_a_faulty_annotation_is_an_error_at_its_place(
    tmp_path: Path, change: dict[str, object], kind: str, kept: int
) -> None:
    found = open_dataset(coco_file(tmp_path, [annotation(), {**annotation(2), **change}]), lenient=True)
    assert [(p.kind, p.place, p.is_error) for p in found.problems] == [(kind, "annotations[1]", True)]
    assert len(found.items[0].truth) == kept
    assert "\n" not in str(found.problems[0])


@pytest.mark.parametrize("key", ["image_id", "category_id", "bbox"])
def test_a_missing_key_is_named(tmp_path: Path, key: str) -> None:
    row = annotation()
    del row[key]
    with pytest.raises(DataError, match=rf"annotations\[0\]: has no {key}"):
        open_dataset(coco_file(tmp_path, [row]))


def test_a_box_without_area_stays_with_a_warning_and_so_does_one_without_the_key_area(tmp_path: Path) -> None:
    plain = annotation(2)
    del plain["area"]
    found = open_dataset(coco_file(tmp_path, [annotation(bbox=[1, 2, 0, 4]), plain]))
    assert [(p.kind, p.is_error) for p in found.problems] == [("no area", False), ("box without area", False)]
    assert found.items[0].truth.area.tolist() == [77.5, 200]


def test_a_second_image_or_category_of_one_id_is_an_error(tmp_path: Path) -> None:
    row = {"id": 1, "file_name": "000001.jpg", "width": 40, "height": 30}
    path = coco_file(tmp_path, [annotation()], [row, row], categories=[{"id": 7, "name": "a"}, {"id": 7, "name": "b"}])
    found = open_dataset(path, lenient=True)
    assert {problem.kind for problem in found.problems} == {"duplicate id"}
    assert [problem.place for problem in found.problems] == ["categories[1]", "images[1]"]
    assert (len(found), found.names) == (1, ("a",))


@pytest.mark.parametrize("content", ["[" * 100_000, '{"images":', "{}", "", '{"images": [], "annotations": []}', "\0"])
def test_what_is_no_file_of_instances_is_refused_in_one_line(tmp_path: Path, content: str) -> None:
    path = text(tmp_path / "instances.json", content)
    with pytest.raises(DataError) as raised:
        open_dataset(path, format="coco")
    assert "\n" not in str(raised.value)


def test_a_folder_of_several_splits_has_its_pictures_where_coco_has_them(tmp_path: Path) -> None:
    for split in ("train2017", "val2017"):
        picture(tmp_path / split / "000001.jpg")
        content = {"images": [{"id": 1, "file_name": "000001.jpg"}], "annotations": [], "categories": []}
        text(tmp_path / "annotations" / f"instances_{split}.json", json.dumps(content))
    (item,) = open_dataset(tmp_path, split="val2017").items
    assert (item.path, item.size) == (tmp_path / "val2017" / "000001.jpg", None)
    with pytest.raises(DataError, match=r"holds several files of instances: train2017, val2017; say which with split"):
        open_dataset(tmp_path)


def test_pictures_are_in_order_of_their_ids_as_pycocotools_takes_them(tmp_path: Path) -> None:
    """Of equal scores the picture that comes first counts first, so their order decides an AP."""
    ids = [10, 2, 33, 1]
    rows = [{"id": id, "file_name": f"{id:06}.jpg", "width": 40, "height": 30} for id in ids]
    for id in ids:
        picture(tmp_path / "images" / f"{id:06}.jpg")
    path = coco_file(tmp_path, [annotation(n, image_id=id, bbox=[id, 1, 5, 5]) for n, id in enumerate(ids, 1)], rows)
    dataset = open_dataset(path)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(path)
        wanted = COCOeval(coco, coco, "bbox").params.imgIds
    assert [int(item.name) for item in dataset.items] == list(wanted)
    assert [item.path.stem for item in dataset.items] == [f"{id:06}" for id in wanted]
    assert [item.truth.xywh[0, 0] for item in dataset.items] == list(wanted)      # each with its own box


def test_ids_that_are_texts_come_after_numbers_in_order(tmp_path: Path) -> None:
    rows = [{"id": id, "file_name": "000001.jpg", "width": 40, "height": 30} for id in ("b", 7, "a", 3)]
    assert [item.name for item in open_dataset(coco_file(tmp_path, [], rows)).items] == ["3", "7", "a", "b"]


def test_a_box_without_area_is_told_once_whether_its_file_or_its_folder_is_opened(tmp_path: Path) -> None:
    path = coco_file(tmp_path, [annotation(), annotation(2, bbox=[1, 2, 0, 4], area=0)])
    for opened in (path, tmp_path):
        found = check(open_dataset(opened, lenient=True))
        assert [(p.place, p.is_error) for p in found.problems if "box" in p.kind] == [("annotations[1]", False)]


@pytest.mark.shared
def test_the_real_file_reads_as_pycocotools_reads_it(shared: Path) -> None:
    path = shared / "data" / "coco-val128" / "instances.json"
    dataset = open_dataset(path)
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(path)
    assert dataset.problems == ()
    assert list(dataset.numbers) == sorted(coco.getCatIds())
    assert list(dataset.names) == [coco.cats[id]["name"] for id in dataset.numbers]
    assert [item.name for item in dataset.items] == [str(id) for id in sorted(coco.imgs)]
    for item in dataset.items:
        rows = coco.loadAnns(coco.getAnnIds(imgIds=[int(item.name)]))
        assert [dataset.numbers[label] for label in item.truth.label] == [row["category_id"] for row in rows]
        assert item.truth.xywh.tolist() == [row["bbox"] for row in rows]
        assert item.truth.area.tolist() == [row["area"] for row in rows]


def test_as_many_annotations_as_cocos_validation_set_has_are_read_in_a_few_seconds(tmp_path: Path) -> None:
    """36,781 of 5,000 pictures; about a second, but machines are busy."""
    rng = np.random.default_rng(1)
    images = [{"id": id, "file_name": f"{id}.jpg", "width": 640, "height": 480} for id in range(5000)]
    rows = [
        annotation(i, image_id=int(image), bbox=box, segmentation=[[1.5] * 40])
        for i, (image, box) in enumerate(
            zip(rng.integers(0, 5000, 36_781), rng.uniform(1, 300, (36_781, 4)).round(2).tolist(), strict=True)
        )
    ]
    path = coco_file(tmp_path, list(rows), list(images))
    began = time.perf_counter()
    found = open_dataset(path, lenient=True)
    assert time.perf_counter() - began < 8
    assert sum(len(item.truth) for item in found.items) == 36_781
    assert {problem.kind for problem in found.problems} == {"missing picture"}
