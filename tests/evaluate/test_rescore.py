from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scenes import answers_of, overlap, scene

import lookonce
from lookonce.data.opening import open_dataset
from lookonce.evaluate.columns import Answers, Objects
from lookonce.evaluate.mapping import shared_names
from lookonce.evaluate.overall import relabelled
from lookonce.evaluate.rescore import boost, rescore
from lookonce.evaluate.voc import voc


@pytest.mark.parametrize("least", [0.1, 0.5, 0.75])
@pytest.mark.parametrize("seed", range(4))
def test_the_boost_is_that_of_two_loops(least, seed):
    """Every other box of ours is one of theirs moved by at most a pixel, so that there is something to find."""
    _, theirs = scene(seed)
    _, ours = scene(seed + 100)
    ours.xyxy[::2], ours.picture[::2] = theirs.xyxy[::2] + np.array((0, 0, 1, 0)), theirs.picture[::2]
    ours.label[::4] = theirs.label[::4]
    got = rescore(theirs, ours, 0.7, least)
    boosted = 0
    for row in range(len(theirs.score)):
        best = (0.0, 0.0)
        for other in range(len(ours.score)):
            if (theirs.picture[row], theirs.label[row]) == (ours.picture[other], ours.label[other]):
                share = overlap(theirs.xyxy[row], ours.xyxy[other])
                if share >= least:
                    best = max(best, (share, ours.score[other]))
        assert got.score[row] == pytest.approx(theirs.score[row] + 0.7 * best[0] * best[1])
        boosted += best[0] > 0
    assert 0 < boosted < len(theirs.score)
    for name in ("picture", "label", "xyxy", "xywh"):
        assert np.array_equal(getattr(got, name), getattr(theirs, name))


def test_a_box_that_both_say_goes_before_one_that_only_they_say():
    theirs = answers_of([(0, 0, (0, 0, 10, 10), 0.5), (0, 0, (50, 50, 60, 60), 0.6)])
    ours = answers_of([(0, 0, (0, 0, 10, 8), 0.5), (0, 1, (50, 50, 60, 60), 0.9), (1, 0, (50, 50, 60, 60), 0.9)])
    assert rescore(theirs, ours).score.tolist() == [0.5 + 0.5 * 0.8, 0.6]


def test_nothing_of_ours_changes_nothing_and_nothing_of_theirs_stays_nothing():
    none, some = answers_of([]), answers_of([(0, 0, (0, 0, 10, 10), 0.5)])
    assert rescore(some, none).score.tolist() == [0.5]
    assert len(rescore(none, some).score) == 0


def test_a_metric_is_measured_before_and_after():
    theirs = answers_of([(0, 0, (0, 0, 10, 10), 0.25)])
    ours = answers_of([(0, 0, (0, 0, 10, 10), 0.5)])
    got = boost(theirs, ours, lambda answers: float(answers.score.sum()))
    assert got == (0.25, 0.5, 0.75)


@pytest.mark.shared
def test_a_better_detector_raises_the_mean_ap_of_a_weaker_one_on_voc(shared: Path):
    """Over 100 pictures, by the classes that COCO and VOC share. Measured on 500: .500 alone, .562 together."""
    data = open_dataset(shared / "data" / "voc2007", split="val")
    items = data.items[:100]
    objects = Objects.of([item.truth for item in items])
    both = []
    for name in ("yolo-fastest-1.1", "yolo-fastest-1.1-xl"):
        model = shared / "models" / name
        detect = lookonce.load(f"{model}.cfg", f"{model}.weights", "coco", threshold=0.005, resize="stretch")
        answers = Answers.of([detect(item.path) for item in items])
        both.append(relabelled(answers, shared_names(detect.names, data.names).to))
    got = boost(*both, lambda answers: voc(objects, answers, data.names).mean)
    assert got.combined > got.alone + 0.02
    assert len(rescore(*both).score) == len(both[0].score)
