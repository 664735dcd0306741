"""In which pictures a detector does worst: what it invents and what it misses."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from lookonce.evaluate.columns import Answers, Objects
from lookonce.evaluate.diagnose import FOUND, Rule, match
from lookonce.shapes import Int64


class Tally(NamedTuple):
    """What answers of at least a score got right and wrong, by picture (P,), all int64 but `surest_false`.

    `found` and `missed` are objects, neither difficult nor a crowd; `false` are answers on no object or on one that
    was found already. `surest_false` float64 is the highest score of a false one, -inf if there is none.
    """

    found: np.ndarray
    false: np.ndarray
    missed: np.ndarray
    surest_false: np.ndarray


def tally(
    objects: Objects,
    answers: Answers,
    pictures: int,
    *,
    score: float = 0.25,
    threshold: float = FOUND,
    rule: Rule = "voc",
) -> Tally:
    """Right, wrong and missing in each of `pictures` pictures, by the answers of at least `score`.

    An answer is right from an overlap of `threshold` on, as `match` says by its `rule`.
    """
    sure = Answers(*(column[answers.score >= score] for column in answers))
    hit, ignored = match(objects, sure, threshold, rule=rule)
    wrong = (hit < 0) & ~ignored
    counted = ~(objects.difficult | objects.crowd)
    found = np.bincount(sure.picture[hit >= 0], minlength=pictures)
    surest = np.full(pictures, -np.inf)
    np.maximum.at(surest, sure.picture[wrong], sure.score[wrong])
    return Tally(
        found,
        np.bincount(sure.picture[wrong], minlength=pictures),
        np.bincount(objects.picture[counted], minlength=pictures) - found,
        surest,
    )


def surest_false(tallied: Tally, most: int | None = None) -> Int64[np.ndarray, " n"]:
    """The pictures with a false answer, the surest one's first; at most `most`. Equal ones in the pictures' order."""
    order = np.argsort(-tallied.surest_false, kind="stable")
    return order[tallied.false[order] > 0][:most]


def most_missed(tallied: Tally, most: int | None = None) -> Int64[np.ndarray, " n"]:
    """The pictures with a missed object, by falling number of those; at most `most`. Equal ones in order."""
    order = np.argsort(-tallied.missed, kind="stable")
    return order[tallied.missed[order] > 0][:most]


def most_false(tallied: Tally, most: int | None = None) -> Int64[np.ndarray, " n"]:
    """The pictures with a false answer, by falling number of those; at most `most`. Equal ones in order."""
    order = np.argsort(-tallied.false, kind="stable")
    return order[tallied.false[order] > 0][:most]
