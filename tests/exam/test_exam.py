"""Exams over datasets made by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lookonce.data import Dataset, Item
from lookonce.detections import Detections
from lookonce.errors import DataError
from lookonce.evaluate.columns import Answers
from lookonce.exam import Exam, reported, usual_protocol
from lookonce.report.contents import Fact
from lookonce.truth import Truth

NAMES = ("animal", "cat", "dog", "car")


def item(name: str, rows: list[tuple[int, list[float]]], *, present: tuple[int, ...] = (), absent: tuple[int, ...] = (),
         crowd: list[bool] | None = None) -> Item:  # fmt: skip
    label = np.array([row[0] for row in rows], np.int64)
    truth = Truth.of(label, xyxy=np.array([row[1] for row in rows], float).reshape(-1, 4),
                     crowd=None if crowd is None else np.array(crowd), classes=present)  # fmt: skip
    return Item(name, Path(f"{name}.jpg"), (100, 100), truth, absent=absent)


def dataset(items: list[Item], format: str = "coco", above: tuple[tuple[int, ...], ...] = ()) -> Dataset:
    return Dataset(format, Path("set"), NAMES, tuple(items), above=above)


def found(rows: list[tuple[int, float, list[float]]]) -> Detections:
    return Detections(
        np.array([row[2] for row in rows], np.float32).reshape(-1, 4),
        np.array([row[1] for row in rows], np.float32),
        np.array([row[0] for row in rows], np.int64),
        NAMES,
        (100, 100),
    )


A, B, C = [0.0, 0.0, 40.0, 40.0], [50.0, 50.0, 90.0, 90.0], [50.0, 0.0, 90.0, 30.0]


@pytest.mark.parametrize(
    ("format", "protocol"), [("coco", "coco"), ("openimages", "open-images"), ("voc", "voc12"), ("darknet", "voc12")]
)
def test_a_dataset_is_judged_by_the_rules_of_its_makers(format: str, protocol: str) -> None:
    assert usual_protocol(dataset([], format)) == protocol


@pytest.mark.parametrize(
    ("items", "says"),
    [([], "holds no picture"), ([item("a", [])], "holds no object of the 4 classes")],
)
def test_an_exam_without_questions_is_refused(items: list[Item], says: str) -> None:
    with pytest.raises(DataError, match=says):
        Exam(dataset(items), "coco")


def test_of_open_images_only_verified_classes_are_judged() -> None:
    """And a cat is an animal too."""
    items = [item("a", [(1, A)], present=(1,), absent=(3,)), item("b", [(2, B)], present=(2,))]
    exam = Exam(dataset(items, "openimages", above=((), (0,), (0,), ())), "open-images")
    unverified = [(3, 0.99, C)]                              # nobody looked for a car in b
    answers = exam.answers([found([(1, 0.9, A)]), found([(2, 0.8, B), *unverified])])
    judgement = exam.judge(answers)
    rows = {row.name: (row.objects, row.ap) for row in judgement.classes}
    assert rows["animal"] == (2, 1.0)
    assert rows["cat"] == rows["dog"] == (1, 1.0)
    assert rows["car"][0] == 0
    wrong = exam.answers([found([(1, 0.9, A), *unverified, (1, 0.95, C)]), found([(2, 0.8, B)])])
    assert {row.name: row.ap for row in exam.judge(wrong).classes}["cat"] == 0.5


def test_open_images_runs_are_not_compared() -> None:
    exam = Exam(dataset([item("a", [(1, A)])], "openimages", above=((), (), (), ())), "open-images")
    answers = exam.answers([found([(1, 0.9, A)])])
    with pytest.raises(DataError, match="compared by --protocol coco"):
        exam.compare(answers, answers)


@pytest.mark.parametrize("protocol", ["coco", "voc07", "voc12"])
def test_a_run_is_no_better_than_itself_and_better_than_none(protocol: str) -> None:
    rng = np.random.default_rng(0)
    items, answers = [], []
    for number in range(30):
        corner = rng.uniform(0, 50, 2)
        box = [*corner, *(corner + rng.uniform(10, 40, 2))]
        label = int(rng.integers(1, 3))
        items.append(item(str(number), [(label, box)]))
        answers.append(found([(label, float(rng.random()), [x + float(rng.normal(0, 2)) for x in box])]))
    exam = Exam(dataset(items), protocol)  # type: ignore[arg-type]
    ours = exam.answers(answers)
    same = exam.compare(ours, ours, resamples=50)
    assert (same.difference, same.low, same.high) == (0, 0, 0)
    none = Answers(*(column[:1] for column in ours))
    better = exam.compare(ours, none, resamples=50)
    assert better.low > 0
    assert better.a == pytest.approx(exam.judge(ours).main, abs=1e-12)


def test_the_gallery_shows_what_is_wrong_and_where(tmp_path: Path) -> None:
    items = [
        item("fine", [(1, A)]),
        item("missed", [(1, A), (2, B)]),
        item("invented", [(1, A)]),
        item("confused", [(1, A)]),
        item("shifted", [(1, A)]),
    ]
    shifted = [20.0, 0.0, 60.0, 40.0]                        # a third of the two
    answers = [
        found([(1, 0.9, A)]),
        found([(1, 0.9, A)]),
        found([(1, 0.9, A), (3, 0.7, B)]),
        found([(2, 0.8, A)]),
        found([(1, 0.6, shifted)]),
    ]
    exam = Exam(dataset(items), "coco")
    columns = exam.answers(answers)
    about = [Fact("model", "made up")]
    report = reported(exam, columns, exam.judge(columns), about, title="t", groups=[("cat", "dog")])
    kinds = {picture.name: sorted(box.kind for box in picture.boxes) for picture in report.pictures}
    assert kinds == {
        "missed": ["correct", "missed", "truth"],
        "invented": ["background", "correct", "truth"],
        "confused": ["missed", "similar"],
        "shifted": ["localization", "missed"],
    }
    assert [entry.picture for entry in report.worst[0].entries] == ["confused", "invented", "shifted"]
    assert report.confusion is not None
    assert report.confusion.matrix[1, 2] == 1                # a cat that was called a dog
    assert report.errors is not None
    assert {shares.name: shares.parts for shares in report.errors}["cat"][0] == pytest.approx(3 / 5)
