from __future__ import annotations

import numpy as np
import pytest
from scenes import K, answers_of, matched, objects_of, scene

from lookonce.evaluate.calibration import calibrated, calibration


@pytest.mark.parametrize("rule", ["voc", "coco"])
@pytest.mark.parametrize("bins", [1, 7, 10])
def test_bins_are_those_of_a_loop(rule, bins):
    """Scores that lie on no edge of 7 or 10 bins, where a rounding would decide."""
    truth, given = scene(3)
    given = given._replace(score=(given.score + 0.011) / 1.02)
    found, ignored = matched(truth, given, rule)
    together, each = calibration(truth, given, K, bins=bins, score=0.2, rule=rule)
    for label, got in [(None, together), *enumerate(each)]:
        rows = [
            row
            for row in range(len(found))
            if not ignored[row] and given.score[row] >= 0.2 and label in (None, given.label[row])
        ]
        error = 0.0
        for nth in range(bins):
            inside = [row for row in rows if got.edges[nth] <= given.score[row] < got.edges[nth + 1]]
            assert got.boxes[nth] == len(inside)
            if not inside:
                assert np.isnan(got.score[nth])
                assert np.isnan(got.precision[nth])
                continue
            mean = sum(given.score[row] for row in inside) / len(inside)
            precision = sum(found[row] >= 0 for row in inside) / len(inside)
            assert got.score[nth] == pytest.approx(mean)
            assert got.precision[nth] == pytest.approx(precision)
            error += abs(mean - precision) * len(inside) / len(rows)
        assert got.error == pytest.approx(error)
        assert got.worst == pytest.approx(np.nanmax(np.abs(got.score - got.precision)))


def test_scores_that_say_the_truth_have_no_error():
    """Of four boxes with .75 three are right."""
    got = calibrated(np.full(4, 0.75), np.array([True, True, True, False]))
    assert got.error == got.worst == 0
    assert got.boxes.tolist() == [0, 0, 0, 0, 0, 0, 0, 4, 0, 0]


def test_one_and_what_lies_outside_fall_into_the_outer_bins():
    got = calibrated(np.array([1.0, 2.5, -0.3, 0.0]), np.array([True, True, False, False]), 4)
    assert got.boxes.tolist() == [2, 0, 0, 2]


def test_no_box_has_no_error():
    together, each = calibration(objects_of([]), answers_of([]), 1)
    assert np.isnan([together.error, together.worst, each[0].error]).all()
    assert together.boxes.sum() == 0
