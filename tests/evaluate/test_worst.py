from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scenes import answers_of, matched, objects_of, overlap, scene

import lookonce
from lookonce.boxes import to_xyxy
from lookonce.evaluate.columns import Answers, Objects
from lookonce.evaluate.worst import most_false, most_missed, surest_false, tally
from lookonce.truth import Truth


@pytest.mark.parametrize("rule", ["voc", "coco"])
@pytest.mark.parametrize("seed", range(3))
def test_each_picture_is_counted_as_by_hand(rule, seed):
    truth, given = scene(seed, pictures=15)
    got = tally(truth, given, 16, score=0.5, rule=rule)
    kept = [row for row in range(len(given.score)) if given.score[row] >= 0.5]
    sure = Answers(*(column[kept] for column in given))
    found, ignored = matched(truth, sure, rule)
    for picture in range(16):
        here = [row for row in range(len(kept)) if sure.picture[row] == picture]
        false = [sure.score[row] for row in here if found[row] < 0 and not ignored[row]]
        hits = sum(found[row] >= 0 for row in here)
        objects = sum((truth.picture == picture) & ~truth.difficult & ~truth.crowd)
        assert (got.found[picture], got.false[picture], got.missed[picture]) == (hits, len(false), objects - hits)
        assert got.surest_false[picture] == max(false, default=-np.inf)


def test_the_worst_come_first_and_the_faultless_not_at_all():
    """Picture 0 misses one, 1 misses two, 2 has three false ones, 3 the surest false one, 4 is right."""
    here, there = (0, 0, 10, 10), (50, 50, 60, 60)
    truth = objects_of([(0, 0, here), (1, 0, here), (1, 0, there), (4, 0, here)])
    given = answers_of([(2, 0, here, 0.5)] * 3 + [(3, 0, here, 0.9), (4, 0, here, 0.8), (4, 0, there, 0.1)])
    got = tally(truth, given, 5)
    assert surest_false(got).tolist() == [3, 2]
    assert most_false(got).tolist() == [2, 3]
    assert most_missed(got).tolist() == [1, 0]
    assert most_missed(got, 1).tolist() == [1]
    assert surest_false(tally(truth, given, 5, score=0.05)).tolist() == [3, 2, 4]


def brute(items: list, score: float) -> list[tuple[int, int]]:
    """False answers and missed objects of each picture, from lists of (label, box) and (label, box, score)."""
    counts = []
    for objects, answers in items:
        left = list(range(len(objects)))
        false = 0
        for label, box, sure in sorted(answers, key=lambda one: -one[2]):
            if sure < score:
                continue
            near = [n for n in left if objects[n][0] == label and overlap(box, objects[n][1]) >= 0.5]
            if near:
                left.remove(max(near, key=lambda n: overlap(box, objects[n][1])))
            else:
                false += 1
        counts.append((false, len(left)))
    return counts


@pytest.mark.shared
@pytest.mark.parametrize("name", ["yolo-fastest-1.1", "yolo-fastest-1.1-xl"])
def test_the_worst_pictures_of_a_real_detector_are_those_of_a_plain_count(shared: Path, name: str):
    data = shared / "data" / "coco-val128"
    document = json.loads((data / "instances.json").read_text())
    number = {one["id"]: label for label, one in enumerate(document["categories"])}
    model = shared / "models" / name
    detect = lookonce.load(f"{model}.cfg", f"{model}.weights", "coco", threshold=0.005, resize="stretch")
    found, truths, items = [], [], []
    for picture in document["images"]:
        objects = [
            (number[one["category_id"]], to_xyxy(np.array(one["bbox"])))
            for one in document["annotations"]
            if one["image_id"] == picture["id"]
        ]
        detections = detect(data / "images" / picture["file_name"])
        found.append(detections)
        boxes = np.array([box for _, box in objects]).reshape(-1, 4)
        truths.append(Truth.of(np.array([label for label, _ in objects], np.int64), xyxy=boxes))
        items.append((objects, [(one.label, np.array(one.xyxy), one.score) for one in detections]))
    for score in (0.005, 0.25, 0.5):
        got = tally(Objects.of(truths), Answers.of(found), 128, score=score, rule="coco")
        wanted = brute(items, score)
        assert list(zip(got.false.tolist(), got.missed.tolist(), strict=True)) == wanted
        by_hand = sorted(range(128), key=lambda n: (-wanted[n][1], n))
        assert most_missed(got, 10).tolist() == by_hand[:10]
    assert got.found.sum() > 50                           # a detector that finds nothing would agree just as well
