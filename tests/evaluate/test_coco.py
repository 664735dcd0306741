"""COCO's figures against pycocotools, which they are to equal."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from lookonce.boxes import to_xyxy
from lookonce.detections import Detections
from lookonce.detector import Detector
from lookonce.evaluate.coco import AREAS, MOST, NUMBERS, CocoFigures, coco
from lookonce.evaluate.columns import Answers, Objects
from lookonce.model import open_model
from lookonce.truth import Truth

EXACT = 1e-12
SETS = 1000


# ---------------------------------------------------------------------- the oracle
def pycocotools(objects: Objects, answers: Answers, pictures: int, classes: int) -> Any:
    """Its judgement of the same columns, after `summarize`."""
    truth = COCO()
    truth.dataset = {
        "images": [{"id": number + 1} for number in range(pictures)],
        "categories": [{"id": number + 1} for number in range(classes)],
        "annotations": [
            {
                "id": row + 1,
                "image_id": int(objects.picture[row]) + 1,
                "category_id": int(objects.label[row]) + 1,
                "bbox": objects.xywh[row].tolist(),
                "area": float(objects.area[row]),
                "iscrowd": int(objects.crowd[row]),
            }
            for row in range(len(objects.label))
        ],
    }
    rows = [
        {
            "image_id": int(answers.picture[row]) + 1,
            "category_id": int(answers.label[row]) + 1,
            "bbox": answers.xywh[row].tolist(),
            "score": float(answers.score[row]),
        }
        for row in range(len(answers.label))
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        truth.createIndex()
        if rows:
            found = truth.loadRes(rows)
        else:                                               # it cannot load an empty list
            found = COCO()
            found.dataset = {**truth.dataset, "annotations": []}
            found.createIndex()
        judgement = COCOeval(truth, found, "bbox")
        judgement.evaluate()
        judgement.accumulate()
        judgement.summarize()
    return judgement


def equals(ours: CocoFigures, theirs: Any) -> None:
    """All that both know."""
    precision, recall = theirs.eval["precision"], theirs.eval["recall"]                # (T, R, K, A, M), (T, K, A, M)
    assert np.abs(ours.numbers - theirs.stats).max() <= EXACT
    assert np.abs(ours.precision - precision[..., 0, 2]).max() <= EXACT
    assert np.abs(ours.recall - recall).max() <= EXACT
    assert np.abs(ours.ap - precision[..., 0, 2].mean(axis=(0, 1))).max() <= EXACT
    assert np.abs(ours.ap50 - precision[0, ..., 0, 2].mean(axis=0)).max() <= EXACT
    assert np.abs(ours.ap75 - precision[5, ..., 0, 2].mean(axis=0)).max() <= EXACT


# ---------------------------------------------------------------------- random sets
def boxes_of(rng: np.random.Generator, count: int, style: int) -> np.ndarray:
    """Boxes as left, top, width, height: coarse ones, whose overlaps tie, or with sides at the borders of areas."""
    if style == 0:
        return np.concatenate([rng.integers(0, 4, (count, 2)), rng.integers(0, 5, (count, 2))], axis=1) * 8.0
    if style == 1:
        sides = rng.choice([0, 1, 16, 32, 64, 96, 144, 300], (count, 2)).astype(float)
        return np.concatenate([rng.integers(0, 40, (count, 2)).astype(float), sides], axis=1)
    return np.concatenate([rng.random((count, 2)) * 200, rng.random((count, 2)) ** 2 * 300], axis=1)


def random_set(seed: int) -> tuple[Objects, Answers, int, int]:
    """A small dataset and answers to it: some near its objects, some anywhere, the scores few or many."""
    rng = np.random.default_rng(seed)
    pictures, classes, style = int(rng.integers(1, 6)), int(rng.integers(1, 4)), seed % 3
    count = int(rng.integers(0, 30))
    xywh = boxes_of(rng, count, style)
    crowd = rng.random(count) < rng.choice([0, 0.3])
    area = xywh[:, 2] * xywh[:, 3]
    if seed % 2:
        area = np.where(rng.random(count) < 0.3, rng.choice([0, 32.0**2, 96.0**2, 1e5**2, 1e11], count), area)
    objects = Objects(
        rng.integers(0, pictures, count), rng.integers(0, classes, count), to_xyxy(xywh), xywh,
        rng.random(count) < 0.2, crowd, area,
    )  # fmt: skip

    near, free = int(rng.integers(0, 60)) if count else 0, int(rng.integers(0, 40))
    near, free = (0, 0) if seed % 100 == 7 else (near, free)
    copied = rng.integers(0, max(count, 1), near)
    moved = xywh[copied] + (rng.integers(-1, 2, (near, 4)) * 8 if style == 0 else rng.normal(0, 4, (near, 4)))
    moved = np.where(rng.random((near, 1)) < 0.2, xywh[copied], moved)
    moved[:, 2:] = np.maximum(moved[:, 2:], 0)
    found = np.concatenate([moved, boxes_of(rng, free, style)])
    picture = np.concatenate([objects.picture[copied], rng.integers(0, pictures, free)])
    label = np.concatenate([objects.label[copied], rng.integers(0, classes, free)])
    total = near + free
    score = rng.random(total) if seed % 5 else rng.integers(0, 4, total) / 4
    order = rng.permutation(total)
    answers = Answers(picture[order], label[order], to_xyxy(found)[order], found[order], score)
    return objects, answers, pictures, classes


@pytest.mark.parametrize("part", range(10))
def test_random_sets_are_judged_as_pycocotools_judges_them(part: int) -> None:
    """A thousand sets: crowds, empty pictures, absent classes, ties, areas at the borders, boxes without area."""
    for seed in range(part * SETS // 10, (part + 1) * SETS // 10):
        objects, answers, pictures, classes = random_set(seed)
        ours = coco(objects, answers, pictures, [str(number) for number in range(classes)])
        equals(ours, pycocotools(objects, answers, pictures, classes))


def test_the_random_sets_hold_what_they_are_to_hold() -> None:
    """Otherwise their agreement would say little."""
    sets = [random_set(seed) for seed in range(SETS)]
    assert sum(objects.crowd.any() for objects, *_ in sets) > 100
    assert sum(len(np.unique(answers.score)) < len(answers.score) / 2 for _, answers, *_ in sets) > 100
    assert sum(len(np.unique(objects.label)) < classes for objects, _, _, classes in sets) > 50
    assert sum(len(np.unique(objects.picture)) < pictures for objects, _, pictures, _ in sets) > 100
    assert sum(np.isin(objects.area, [32**2, 96**2]).any() for objects, *_ in sets) > 100
    assert sum((answers.xywh[:, 2:] == 0).any() for _, answers, *_ in sets) > 100
    assert sum(not len(answers.label) for _, answers, *_ in sets) > 1
    assert sum(not len(objects.label) for objects, *_ in sets) > 1


def test_only_the_hundred_surest_answers_of_a_picture_and_class_count() -> None:
    """300 answers of 2 classes in 2 pictures; the objects are found by the later ones too."""
    rng = np.random.default_rng(0)
    xywh = np.concatenate([rng.random((40, 2)) * 500, rng.random((40, 2)) * 60 + 5], axis=1)
    picture, label = rng.integers(0, 2, 40), rng.integers(0, 2, 40)
    no = np.zeros(40, bool)
    objects = Objects(picture, label, to_xyxy(xywh), xywh, no, no, xywh[:, 2] * xywh[:, 3])
    copied = rng.integers(0, 40, 600)
    found = xywh[copied] + rng.normal(0, 3, (600, 4))
    answers = Answers(picture[copied], label[copied], to_xyxy(found), found, rng.integers(0, 50, 600) / 50)
    assert np.bincount(answers.picture * 2 + answers.label).max() > 100
    ours = coco(objects, answers, 2, ["a", "b"])
    equals(ours, pycocotools(objects, answers, 2, 2))
    assert ours.named()["AR1"] < ours.named()["AR10"] < ours.named()["AR100"]


def test_many_pairs_are_measured_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever fits into memory at once, the figures are the same."""
    monkeypatch.setattr("lookonce.evaluate.matching.AT_ONCE", 7)
    for seed in range(20):
        objects, answers, pictures, classes = random_set(seed)
        equals(coco(objects, answers, pictures, ["?"] * classes), pycocotools(objects, answers, pictures, classes))


# ---------------------------------------------------------------------- by hand
def test_perfect_answers_have_every_number_that_can_be_measured_at_one() -> None:
    """One small and one large object; nothing is of medium size, and class b has no object."""
    truths = [Truth.of(np.array([0, 0]), xywh=np.array([[0, 0, 10, 10], [100, 100, 200, 200]]))]
    objects = Objects.of(truths)
    answers = Answers(objects.picture, objects.label, objects.xyxy, objects.xywh, np.array([0.9, 0.8]))
    named = coco(objects, answers, 1, ["a", "b"]).named()
    assert named.pop("APm") == named.pop("ARm") == -1
    assert named.pop("AR1") == 0.5                         # one answer finds one of two
    assert list(named.values()) == pytest.approx([1] * 9, abs=EXACT)


def test_nothing_at_all_is_minus_one() -> None:
    figures = coco(Objects.of([]), Answers.of([]), 0, ["a"])
    assert figures.numbers.tolist() == [-1] * len(NUMBERS)
    assert figures.ap.tolist() == [-1]
    assert figures.recall.shape == (10, 1, len(AREAS), len(MOST))


@pytest.mark.parametrize(("picture", "label", "wrong"), [(2, 0, "picture 2"), (0, 3, "class 3"), (-1, 0, "picture -1")])
def test_a_number_that_is_no_picture_or_class_is_refused(picture: int, label: int, wrong: str) -> None:
    box = np.ones((1, 4))
    answers = Answers(np.array([picture]), np.array([label]), box, box, np.ones(1))
    with pytest.raises(ValueError, match=f"answers: row 0: {wrong}, wanted 0 to"):
        coco(Objects.of([]), answers, 2, ["a", "b", "c"])


# ---------------------------------------------------------------------- a real detector
@pytest.mark.shared
def test_a_real_detector_on_coco_gets_what_pycocotools_gives_it(shared: Path) -> None:
    """The first 128 pictures of val2017, every box of at least .005."""
    folder = shared / "data" / "coco-val128"
    document = json.loads((folder / "instances.json").read_text())
    images = sorted(document["images"], key=lambda image: image["id"])
    order = {image["id"]: number for number, image in enumerate(images)}
    categories = sorted(category["id"] for category in document["categories"])
    rows = document["annotations"]
    truths = []
    for image in images:
        own = [row for row in rows if row["image_id"] == image["id"]]
        truths.append(
            Truth.of(
                np.array([categories.index(row["category_id"]) for row in own]),
                xywh=np.array([row["bbox"] for row in own]).reshape(-1, 4),
                crowd=np.array([row["iscrowd"] for row in own], bool),
                area=np.array([row["area"] for row in own]),
            )
        )
    models = shared / "models"
    model = open_model(models / "yolo-fastest-1.1-xl.cfg", models / "yolo-fastest-1.1-xl.weights", "coco")
    detector = Detector(model, threshold=0.005, resize="stretch", precision="f32")
    found: list[Detections] = [detector(folder / "images" / image["file_name"]) for image in images]
    objects, answers = Objects.of(truths), Answers.of(found)
    ours = coco(objects, answers, len(order), model.label_names())
    equals(ours, pycocotools(objects, answers, len(order), len(categories)))
    assert 0.2 < ours.named()["AP"] < 0.5
    assert len(answers.label) > 5000
