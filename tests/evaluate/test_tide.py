from __future__ import annotations

import sys

import numpy as np
import pytest
from scenes import K, answers_of, objects_of, scene

from lookonce.errors import EngineError
from lookonce.evaluate.compare import AveragePrecision
from lookonce.evaluate.tide import tide


def test_each_kind_by_hand():
    """One of each kind on an object of its own; 10 x 10 shifted by 4 overlaps by 60 / 140."""
    here = (0, 0, 10, 10)
    truth = objects_of([(0, 0, here), (1, 0, here), (2, 1, here), (3, 1, here), (4, 0, here)])
    given = answers_of(
        [
            (0, 0, here, 0.9),
            (0, 0, (0, 0, 10, 9), 0.8),                   # a duplicate
            (1, 0, (4, 0, 14, 10), 0.7),                  # badly placed
            (2, 0, here, 0.6),                            # the wrong class
            (3, 0, (4, 0, 14, 10), 0.5),                  # both
            (5, 0, here, 0.4),                            # background
        ]
    )
    got = tide(truth, given, 6, 2)
    assert {kind: got.counts[kind] for kind in ("class", "localization", "both", "duplicate", "background")} == {
        "class": 1, "localization": 1, "both": 1, "duplicate": 1, "background": 1,
    }  # fmt: skip
    assert got.counts["missed"] >= 1
    assert all(gain >= 0 for gain in got.gain.values())
    assert got.gain["localization"] > 0
    # Class 0 finds 1 of 3 at once; class 1 none of 2.
    assert got.ap == pytest.approx((34 / 101 + 0) / 2)


@pytest.mark.parametrize("seed", range(4))
def test_the_ap_is_that_of_our_own_judge(seed, capfd):
    """With difficult objects made crowds, as TIDE's are. Nothing is printed on the way."""
    truth, given = scene(seed)
    truth = truth._replace(crowd=truth.crowd | truth.difficult)
    given = given._replace(score=np.random.default_rng(seed).permutation(len(given.score)) / 301)
    own = AveragePrecision(truth, given, 12, K, thresholds=(0.5,))(np.arange(12))
    assert tide(truth, given, 12, K).ap == pytest.approx(own, abs=1e-12)
    assert capfd.readouterr() == ("", "")


def test_no_answer_has_an_ap_of_nothing():
    truth, _ = scene(0)
    got = tide(truth, answers_of([]), 12, K)
    assert got.ap == 0
    assert got.counts["missed"] == sum(~truth.crowd & ~truth.difficult)


def test_without_hotcoco_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "hotcoco", None)
    with pytest.raises(EngineError, match=r"^TIDE needs hotcoco, which is not installed: .*lookonce\[judge\]'$"):
        tide(objects_of([]), answers_of([]), 1, 1)
