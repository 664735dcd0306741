"""Answers written down and read back: the same pictures, classes and boxes, whatever the form of the dataset."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest

from lookonce import zoo
from lookonce.data import Dataset, Item
from lookonce.detections import Detections
from lookonce.errors import DataError
from lookonce.evaluate.columns import Answers
from lookonce.exam import Exam
from lookonce.results import open_writer
from lookonce.truth import Truth

BOX = [10.0, 20.0, 30.0, 60.0]
PETS = ("cat", "dog", "sofa")


def dataset(
    pictures: list[tuple[str, str]], names: tuple[str, ...], numbers: tuple[int, ...] = (), format: str = "coco"
) -> Dataset:
    """Pictures by name and file; the first holds one object of each class."""
    every = Truth.of(np.arange(len(names)), xyxy=np.array([BOX] * len(names)))
    none = Truth.of(np.zeros(0, np.int64), xyxy=np.zeros((0, 4)))
    items = [Item(name, Path(file), (100, 100), none if at else every) for at, (name, file) in enumerate(pictures)]
    return Dataset(format, Path("set"), names, tuple(items), numbers)


def answers(pictures: int, names: tuple[str, ...]) -> list[Detections]:
    """In each picture some boxes, all different."""
    rng = np.random.default_rng(0)
    found = []
    for _ in range(pictures):
        corner = rng.integers(0, 40, (6, 2))
        box = np.concatenate([corner, corner + rng.integers(1, 50, (6, 2))], axis=1)
        score, label = np.sort(rng.random(6))[::-1].round(3), rng.integers(0, len(names), 6)
        found.append(Detections(box.astype(np.float32), score.astype(np.float32), label, names, (100, 100)))
    return found


def table(found: Answers) -> list[tuple[object, ...]]:
    columns = (found.picture, found.label, np.round(found.score, 5), np.round(found.xyxy, 3))
    return sorted(tuple(row) for row in zip(*(column.tolist() for column in columns), strict=True))


SHUFFLED = [("1", "p/000002.jpg"), ("2", "p/000001.jpg"), ("3", "p/dog.jpg"), ("40", "q/dog.jpg")]
FORMS = {
    "coco": dataset(SHUFFLED, PETS, (7, 3, 90)),
    "voc": dataset([("2007_000027", "J/2007_000027.jpg"), ("000005", "J/000005.jpg")], PETS, format="voc"),
    "darknet": dataset([("1", "a/1.jpg"), ("01", "a/01.jpg"), ("12" * 11, "a/" + "12" * 11 + ".jpg")], PETS,
                       format="darknet"),
    "openimages": dataset([("0a1b", "t/0a1b.jpg"), ("1e5", "t/1e5.jpg")], PETS, format="openimages"),
    "80 other": dataset([("a", "a.jpg")], tuple(f"thing {n}" for n in range(80)), format="darknet"),
    "80 of COCO": dataset([("a", "a.jpg")], zoo.name_lists()["coco"], format="darknet"),
}  # fmt: skip


@pytest.mark.parametrize("theirs", [None, ("couch", "bird", "dog", "cat")])
@pytest.mark.parametrize("form", FORMS)
def test_what_is_written_is_read_back(tmp_path: Path, form: str, theirs: tuple[str, ...] | None) -> None:
    data = FORMS[form]
    if theirs is not None and data.names != PETS:
        theirs = data.names[::-1]
    exam = Exam(data, "voc12", theirs or ())
    found = answers(len(data), exam.theirs)
    wanted = exam.answers(found)
    (tmp_path / "rows.json").write_text(json.dumps(exam.coco_rows(wanted)))
    assert table(exam.read(tmp_path / "rows.json")) == table(wanted)
    for format in ("json", "jsonl", "csv"):
        with open_writer(format, tmp_path / format, io.StringIO(), {}) as writer:
            for item, each in zip(data.items, found, strict=True):
                writer.add(str(item.path), each)
        assert table(exam.read(tmp_path / format)) == table(wanted)


def test_categories_are_the_datasets_whoever_answers(tmp_path: Path) -> None:
    """The figure by hand: both boxes are right."""
    data = dataset([("5", "x.jpg")], ("cat", "dog"), (1, 2))
    boxes = [{"image_id": 5, "category_id": n, "bbox": [10, 20, 20, 40], "score": n / 4} for n in (1, 2)]
    (tmp_path / "rows.json").write_text(json.dumps(boxes))
    for theirs in ((), ("dog", "cat"), ("x", "dog", "y", "cat")):
        exam = Exam(data, "coco", theirs)
        found = exam.read(tmp_path / "rows.json")
        assert found.label[np.argsort(found.score)].tolist() == [0, 1]
        assert exam.judge(found).main == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("names", [zoo.name_lists()["coco"], ("dog", "zebra", "couch", "cat")])
def test_a_detectors_coco_results_are_read_where_the_data_has_no_numbers(
    tmp_path: Path, names: tuple[str, ...]
) -> None:
    data = dataset([("img_3", "J/img_3.jpg"), ("img_8", "J/img_8.jpg")], PETS, format="voc")
    exam, found = Exam(data, "voc12", names), answers(2, names)
    with open_writer("coco", tmp_path / "rows.json", io.StringIO(), {}) as writer:
        for item, each in zip(data.items, found, strict=True):
            writer.add(str(item.path), each)
    assert table(exam.read(tmp_path / "rows.json")) == table(exam.answers(found))


def test_an_id_is_a_number_only_where_it_reads_back(tmp_path: Path) -> None:
    data = FORMS["darknet"]
    exam = Exam(data, "voc12")
    assert {row["image_id"] for row in exam.coco_rows(exam.answers(answers(3, PETS)))} == {1, "01", "12" * 11}


def test_pictures_of_one_name_have_no_coco_rows() -> None:
    exam = Exam(dataset([("x", "a/x.jpg"), ("x", "b/x.jpg")], PETS, format="darknet"), "voc12")
    with pytest.raises(DataError, match="set: several pictures are called x"):
        exam.coco_rows(exam.answers(answers(2, PETS)))


def test_darknets_words_are_read_where_the_data_has_cocos(tmp_path: Path) -> None:
    data = dataset([("5", "x.jpg")], ("airplane", "couch", "motorcycle"), (5, 63, 4))
    found = answers(1, ("aeroplane", "sofa", "motorbike"))
    with open_writer("json", tmp_path / "answers.json", io.StringIO(), {}) as writer:
        writer.add("x.jpg", found[0])
    exam = Exam(data, "coco")
    assert table(exam.read(tmp_path / "answers.json")) == table(exam.answers(found))
