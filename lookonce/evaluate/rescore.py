"""Two detectors together (thesis 1.4.3): another detector's boxes, surer where ours says the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from lookonce.evaluate.columns import Answers
from lookonce.evaluate.diagnose import pairs


class Boost(NamedTuple):
    """A metric of their boxes `alone`, of `ours` alone, and of theirs boosted by ours (`combined`)."""

    alone: float
    ours: float
    combined: float


def rescore(theirs: Answers, ours: Answers, weight: float = 1.0, least: float = 0.5) -> Answers:
    """Their boxes, each with the score s + weight · p · IoU if ours has a similar box, else with s as it was.

    The similar box is ours in the same picture and class that overlaps most, from an IoU of `least` on; p is its
    score; of equal overlaps the surer one. The thesis gives no formula: this is the plainest that grows with our
    probability and with the overlap. No box is removed or moved. Scores may exceed 1: only their order matters to a
    judge.
    """
    classes = 1 + max(theirs.label.max(initial=0), ours.label.max(initial=0))
    near = pairs(
        theirs.picture * classes + theirs.label, theirs.xyxy, ours.picture * classes + ours.label, ours.xyxy, least
    )
    sure = ours.score[near.second]
    order = np.lexsort((sure, near.overlap))             # the last written is the best
    gain = np.zeros(len(theirs.score))
    gain[near.first[order]] = (sure * near.overlap)[order]
    return theirs._replace(score=theirs.score + weight * gain)


def boost(
    theirs: Answers, ours: Answers, metric: Callable[[Answers], float], weight: float = 1.0, least: float = 0.5
) -> Boost:
    """A `metric` before and after `rescore`."""
    return Boost(metric(theirs), metric(ours), metric(rescore(theirs, ours, weight, least)))
