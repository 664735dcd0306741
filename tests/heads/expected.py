"""What the tests of heads share: boxes worked out one by one, and the comparison with what `decode` found."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from lookonce.heads.head import Candidates

Box = tuple[list[float], float, list[float]]         # corners, objectness, scores


def sigma(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def softmax(values: Sequence[float]) -> list[float]:
    powers = [math.exp(value) for value in values]
    return [power / sum(powers) for power in powers]


def passing(boxes: Mapping[tuple[int, ...], Box], threshold: float, least: float | None = None) -> list[list[float]]:
    """One row a box and class that passes: picture, label, score, objectness, corners.

    Objectness must be above `least`, which is the threshold unless said; keys begin with the picture's number.
    """
    least = threshold if least is None else least
    return [
        [place[0], label, score, objectness, *corners]
        for place, (corners, objectness, scores) in boxes.items()
        for label, score in enumerate(scores)
        if objectness > least and score > threshold
    ]


def assert_same_rows(found: Candidates, wanted: list[list[float]], tolerance: float = 2e-5) -> None:
    """One to one, in any order: each wanted row against the row found that is nearest to it."""
    columns = found.picture, found.label, found.score, found.objectness, found.xyxy
    rows = np.column_stack(columns).astype(np.float64)
    assert len(rows) == len(wanted) > 0
    nearest = [int(np.abs(rows - row).max(axis=1).argmin()) for row in wanted]
    assert len(set(nearest)) == len(wanted)
    np.testing.assert_allclose(rows[nearest], wanted, rtol=tolerance, atol=tolerance)
