from __future__ import annotations

import itertools

import hotcoco
import numpy as np
import pytest
from scenes import K, answers_of, matched, objects_of, overlap, scene

from lookonce.evaluate import matching
from lookonce.evaluate.columns import Objects
from lookonce.evaluate.diagnose import Kind, breakdown, confusion, diagnose, match, pairs
from lookonce.truth import Truth

SIMILAR = np.zeros((K, K), bool)
SIMILAR[0, 1] = SIMILAR[1, 0] = True


@pytest.mark.parametrize("at_once", [1, 7, 1 << 20])
def test_pairs_are_those_of_two_loops(monkeypatch, at_once):
    """However many are measured at a time."""
    monkeypatch.setattr(matching, "AT_ONCE", at_once)
    truth, given = scene(1)
    got = pairs(given.picture, given.xyxy, truth.picture, truth.xyxy, 0.2, truth.crowd)
    wanted = {}
    for row, number in itertools.product(range(len(given.score)), range(len(truth.label))):
        share = overlap(given.xyxy[row], truth.xyxy[number], truth.crowd[number])
        if given.picture[row] == truth.picture[number] and share >= 0.2:
            wanted[row, number] = share
    found = dict(zip(zip(got.first.tolist(), got.second.tolist(), strict=True), got.overlap, strict=True))
    assert found.keys() == wanted.keys()
    assert all(found[pair] == pytest.approx(wanted[pair], abs=1e-12) for pair in wanted)


@pytest.mark.parametrize("rule", ["voc", "coco"])
@pytest.mark.parametrize("by_class", [True, False])
@pytest.mark.parametrize("seed", range(6))
def test_matching_is_that_of_one_answer_after_the_other(rule, by_class, seed):
    truth, given = scene(seed)
    got = match(truth, given, rule=rule, by_class=by_class)
    found, ignored = matched(truth, given, rule, by_class)
    assert got.object.tolist() == found
    assert got.ignored.tolist() == ignored


def test_of_two_objects_overlapped_alike_voc_takes_the_first_and_coco_the_last():
    """VOC's judge then calls the second answer wrong; COCO's gives it what is left."""
    here = (0, 0, 10, 10)
    truth, given = objects_of([(0, 0, here)] * 2), answers_of([(0, 0, here, 0.5)] * 2)
    assert match(truth, given, rule="voc").object.tolist() == [0, -1]
    assert match(truth, given, rule="coco").object.tolist() == [1, 0]


@pytest.mark.parametrize("rule", ["voc", "coco"])
@pytest.mark.parametrize("seed", range(4))
def test_every_detection_is_of_the_first_kind_that_holds(rule, seed):
    truth, given = scene(seed)
    got = diagnose(truth, given, SIMILAR, rule=rule)
    found, ignored = matched(truth, given, rule)
    for row in range(len(given.score)):
        shares = {
            number: overlap(given.xyxy[row], truth.xyxy[number], truth.crowd[number])
            for number in range(len(truth.label))
            if truth.picture[number] == given.picture[row]
        }
        near = {number for number, share in shares.items() if share >= 0.1}
        labels = {truth.label[number] for number in near}
        own = given.label[row]
        if found[row] >= 0:
            wanted = Kind.CORRECT
        elif ignored[row]:
            wanted = Kind.IGNORED
        elif own in labels:
            wanted = Kind.LOCALIZATION
        elif any(SIMILAR[own, label] for label in labels):
            wanted = Kind.SIMILAR
        else:
            wanted = Kind.OTHER if labels else Kind.BACKGROUND
        assert got.kind[row] == wanted
        if wanted == Kind.CORRECT:
            assert got.object[row] == found[row]
        assert (got.object[row] == -1) == (not near)
        if near:
            assert got.overlap[row] == pytest.approx(shares[got.object[row]])
        same = [shares[number] for number in near if truth.label[number] == own]
        assert got.duplicate[row] == (wanted == Kind.LOCALIZATION and max(same) >= 0.5)


def test_the_five_kinds_by_hand():
    """Object of class 0 from 0 to 10; a box shifted by 4 overlaps it by 60 / 140, by 9 by 10 / 190."""
    truth = objects_of([(0, 0, (0, 0, 10, 10)), (1, 1, (0, 0, 10, 10)), (1, 2, (50, 50, 60, 60))])
    given = answers_of(
        [
            (0, 0, (0, 0, 10, 9), 0.9),                   # correct
            (0, 0, (0, 0, 10, 10), 0.8),                  # better, but too late
            (0, 0, (4, 0, 14, 10), 0.7),                  # badly placed
            (1, 0, (0, 0, 10, 10), 0.6),                  # class 1, which is alike
            (1, 0, (50, 50, 60, 60), 0.5),                # class 2
            (0, 0, (9, 0, 19, 10), 0.4),                  # touches less than .1
        ]
    )
    got = diagnose(truth, given, SIMILAR)
    assert [Kind(kind).name for kind in got.kind] == [
        "CORRECT", "LOCALIZATION", "LOCALIZATION", "SIMILAR", "OTHER", "BACKGROUND",
    ]  # fmt: skip
    assert got.duplicate.tolist() == [False, True, False, False, False, False]
    assert got.object.tolist() == [0, 0, 0, 1, 2, -1]


@pytest.mark.parametrize("seed", range(4))
def test_the_top_n_and_what_is_missing_sum_to_n(seed):
    """30 answers to 60 objects: some classes have fewer answers than objects, others more."""
    truth, given = scene(seed, answers=30 if seed % 2 else 300)
    kind = diagnose(truth, given, SIMILAR).kind
    got = breakdown(truth, given, kind, K)
    for label in range(K):
        count = sum((truth.label == label) & ~truth.difficult & ~truth.crowd)
        rows = [row for row in range(len(given.score)) if given.label[row] == label and kind[row] != Kind.IGNORED]
        rows = sorted(rows, key=lambda row: (-given.score[row], row))[:count]
        assert got.counts[label].tolist() == [sum(kind[row] == each for row in rows) for each in range(5)]
        assert got.counts[label].sum() == min(count, len(rows))
        assert got.counts[label].sum() + got.missing[label] == got.objects[label] == count
    assert (got.missing > 0).any() == bool(seed % 2)
    assert got.shares().sum(1) == pytest.approx(np.ones(K))
    assert got.mean() == pytest.approx(np.mean([row / row.sum() for row in np.c_[got.counts, got.missing]], 0))


def test_a_class_without_objects_has_no_shares():
    truth, given = objects_of([(0, 1, (0, 0, 4, 4))]), answers_of([(0, 0, (0, 0, 4, 4), 0.5)])
    got = breakdown(truth, given, diagnose(truth, given, SIMILAR).kind, K)
    assert got.counts.sum() == 0
    assert got.missing.tolist() == [0, 1, 0, 0]
    assert np.isnan(got.shares()[0]).all()
    assert got.mean().tolist() == [0, 0, 0, 0, 0, 1]


def test_nothing_at_all():
    nothing, none = objects_of([]), answers_of([])
    assert len(diagnose(nothing, none, SIMILAR).kind) == 0
    assert np.isnan(breakdown(nothing, none, np.zeros(0, np.int64), K).mean()).all()
    assert confusion(nothing, none, K).sum() == 0
    assert match(Objects.of([Truth.of(np.array([0]), xyxy=np.ones((1, 4)))]), none).object.tolist() == []


@pytest.mark.parametrize("seed", range(4))
def test_the_confusion_matrix_is_hotcocos(seed):
    """Without crowds and difficult objects: there hotcoco has another opinion of what to leave out."""
    truth, given = scene(seed)
    truth = truth._replace(difficult=np.zeros(60, bool), crowd=np.zeros(60, bool))
    # Where scores or overlaps are equal every program has its own order.
    rng = np.random.default_rng(seed)
    given = given._replace(score=rng.permutation(300) / 300, xyxy=given.xyxy + rng.uniform(0, 0.1, (300, 4)))
    given = given._replace(xywh=np.column_stack([given.xyxy[:, :2], given.xyxy[:, 2:] - given.xyxy[:, :2]]))
    coco = hotcoco.COCO(
        {
            "images": [{"id": n + 1, "width": 30, "height": 30} for n in range(12)],
            "categories": [{"id": n + 1, "name": str(n)} for n in range(K)],
            "annotations": [
                {"id": n + 1, "image_id": int(p) + 1, "category_id": int(c) + 1, "bbox": b.tolist(), "area": 1.0,
                 "iscrowd": 0}
                for n, (p, c, b) in enumerate(zip(truth.picture, truth.label, truth.xywh, strict=True))
            ],
        }
    )  # fmt: skip
    results = np.column_stack([given.picture + 1, given.xywh, given.score, given.label + 1])
    judge = hotcoco.COCOeval(coco, coco.loadRes(results), "bbox")
    wanted = judge.confusion_matrix(iou_thr=0.5, max_det=1000, min_score=0.3)["matrix"]
    assert np.array_equal(confusion(truth, given, K, score=0.3), wanted)


@pytest.mark.parametrize("seed", range(3))
def test_the_confusion_matrix_counts_each_object_and_each_box_once(seed):
    truth, given = scene(seed)
    got = confusion(truth, given, K, score=0.3)
    for label in range(K):
        assert got[label].sum() == sum((truth.label == label) & ~truth.difficult & ~truth.crowd)
    sure = given._replace(**{name: getattr(given, name)[given.score >= 0.3] for name in given._fields})
    found, ignored = matched(truth, sure, "coco", by_class=False)
    assert got[:, :K].sum() == len(sure.score) - sum(ignored)
    assert got[K, :K].sum() == sum(one < 0 and not out for one, out in zip(found, ignored, strict=True))
