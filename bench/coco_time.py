"""What judging 5,000 pictures by COCO's rules takes, beside pycocotools: python bench/coco_time.py

Each picture has 100 answers. The pictures are made up: about 7 objects each of 80 classes, as in val2017; half of the
answers lie near an object. Reading files is not counted on either side.
"""

from __future__ import annotations

import contextlib
import io
import statistics
import time
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from lookonce.boxes import to_xyxy
from lookonce.evaluate.coco import coco
from lookonce.evaluate.columns import Answers, Objects

PICTURES, EACH, CLASSES, ROUNDS = 5000, 100, 80, 3


def made_up(seed: int = 0) -> tuple[Objects, Answers]:
    """Objects and answers; the surer an answer, the nearer it lies."""
    rng = np.random.default_rng(seed)
    count = 7 * PICTURES
    share = 1 / np.arange(1, CLASSES + 1)                          # a few classes have most of the objects
    picture, label = np.sort(rng.integers(0, PICTURES, count)), rng.choice(CLASSES, count, p=share / share.sum())
    xywh = np.concatenate([rng.random((count, 2)) * 400, rng.random((count, 2)) ** 2 * 300 + 4], axis=1).round(2)
    crowd, no = rng.random(count) < 0.01, np.zeros(count, bool)
    objects = Objects(picture, label, to_xyxy(xywh), xywh, no, crowd, xywh[:, 2] * xywh[:, 3] * 0.7)

    total = PICTURES * EACH
    found_in = np.repeat(np.arange(PICTURES), EACH)
    own = np.searchsorted(picture, found_in) + rng.integers(0, 7, total)
    own = np.minimum(own, count - 1)
    near = (rng.random(total) < 0.5) & (picture[own] == found_in)
    score = rng.random(total) ** 3
    spread = (1.2 - score[:, None]) * xywh[own][:, [2, 3, 2, 3]] * 0.12
    moved = xywh[own] + rng.normal(0, 1, (total, 4)) * spread
    free = np.concatenate([rng.random((total, 2)) * 400, rng.random((total, 2)) * 200], axis=1)
    box = np.where(near[:, None], moved, free)
    box[:, 2:] = np.maximum(box[:, 2:], 1)
    named = np.where(near, label[own], rng.integers(0, CLASSES, total))
    return objects, Answers(found_in, named, to_xyxy(box), box, score)


def loaded(objects: Objects, answers: Answers) -> tuple[Any, Any]:
    """The same as pycocotools holds it."""
    truth = COCO()
    truth.dataset = {
        "images": [{"id": number} for number in range(PICTURES)],
        "categories": [{"id": number} for number in range(CLASSES)],
        "annotations": [
            {"id": row + 1, "image_id": image, "category_id": label, "bbox": box, "area": area, "iscrowd": int(crowd)}
            for row, (image, label, box, area, crowd) in enumerate(
                zip(*(column.tolist() for column in (
                    objects.picture, objects.label, objects.xywh, objects.area, objects.crowd
                )), strict=True)
            )
        ],
    }  # fmt: skip
    columns = (answers.picture, answers.label, answers.xywh, answers.score)
    rows = [
        {"image_id": image, "category_id": label, "bbox": box, "score": score}
        for image, label, box, score in zip(*(column.tolist() for column in columns), strict=True)
    ]
    truth.createIndex()
    return truth, truth.loadRes(rows)


def theirs(truth: Any, found: Any) -> np.ndarray:
    judgement = COCOeval(truth, found, "bbox")
    judgement.evaluate()
    judgement.accumulate()
    judgement.summarize()
    return np.asarray(judgement.stats)


def main() -> None:
    objects, answers = made_up()
    names = [str(number) for number in range(CLASSES)]
    taken: dict[str, list[float]] = {"ours": [], "pycocotools": []}
    for _ in range(ROUNDS):
        with contextlib.redirect_stdout(io.StringIO()):
            truth, found = loaded(objects, answers)          # afresh: it writes into what it judges
            start = time.perf_counter()
            expected = theirs(truth, found)
            taken["pycocotools"].append(time.perf_counter() - start)
        start = time.perf_counter()
        figures = coco(objects, answers, PICTURES, names)
        taken["ours"].append(time.perf_counter() - start)
    ours, other = statistics.median(taken["ours"]), statistics.median(taken["pycocotools"])
    apart = np.abs(figures.numbers - expected).max()
    counts = f"{PICTURES:,} pictures, {len(objects.label):,} objects, {len(answers.label):,} answers"
    print(f"{counts}: AP {expected[0]:.4f}, the twelve numbers at most {apart:.0e} apart")
    print(f"ours {ours:.2f} s, pycocotools {other:.2f} s: {other / ours:.1f} times as fast")


if __name__ == "__main__":
    main()
