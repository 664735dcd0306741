"""What a report shows, as plain values: whoever judges fills it in, the page and the plots only draw it.

Shares, recall, precision, scores and AP are from 0 to 1, boxes are xyxy in pixels of their picture. NaN means that a
value is not known or not defined (the AP of a class without objects); it is shown as a dash.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np

from lookonce.shapes import Float64, Real

Kind = Literal["correct", "localization", "similar", "other", "background", "missed", "truth"]
KINDS: tuple[Kind, ...] = get_args(Kind)

# The parts of a pie, in the order of figure 1.4. `missing` is what the class has fewer answers than objects.
PARTS = ("correct", "localization", "similar", "other", "background", "missing")


class Fact(NamedTuple):
    """One thing the figures depend on: the model, its weights, the data, the protocol, a threshold, the engine."""

    key: str
    value: str


class Figure(NamedTuple):
    """One result: what it is called, its value, and in a sentence what it means."""

    name: str
    value: float | str
    meaning: str = ""


class ClassRow(NamedTuple):
    """One class: how many objects it has, its AP, and further columns by name. All rows have the same columns."""

    name: str
    objects: int
    ap: float
    more: Mapping[str, float] = {}


@dataclass(frozen=True, eq=False)
class Curve:
    """Precision over recall, (N,) each, in the order of falling score; `score` (N,) is the threshold of each point."""

    name: str
    recall: Float64[np.ndarray, " N"]
    precision: Float64[np.ndarray, " N"]
    score: Float64[np.ndarray, " N"] | None = None

    def __post_init__(self) -> None:
        for array in (self.precision, self.score):
            if array is not None and array.shape != self.recall.shape:
                raise ValueError(f"curve {self.name!r}: {array.shape} beside {self.recall.shape} values of recall")


@dataclass(frozen=True, eq=False)
class Confusion:
    """How often an object of one class (row) was called another (column).

    `matrix` is (K, K) for K names. With (K+1, K+1) the last row holds answers where no object is, the last column
    objects that nobody found.
    """

    names: tuple[str, ...]
    matrix: Real[np.ndarray, "R R"]

    def __post_init__(self) -> None:
        count = len(self.names)
        if self.matrix.shape not in ((count, count), (count + 1, count + 1)):
            raise ValueError(f"a matrix {self.matrix.shape} of {count} names, wanted {(count, count)} or one more")

    @property
    def has_background(self) -> bool:
        """Whether there is a last row and column of what is no class."""
        return len(self.matrix) > len(self.names)


class Shares(NamedTuple):
    """What the first N answers of a class are, N being its objects: one share a word of PARTS, NaN without objects."""

    name: str
    parts: tuple[float, ...]


class Bin(NamedTuple):
    """Answers whose scores are near each other: their mean score, the share of them that is right, their number."""

    score: float
    precision: float
    answers: int


class Compared(NamedTuple):
    """One figure of two runs: A's, B's, B's - A's, and the interval that the difference lies in."""

    figure: str
    a: float
    b: float
    difference: float
    low: float
    high: float


@dataclass(frozen=True)
class Comparison:
    """Two runs on the same pictures. `level` is how often an interval made like these holds the true difference."""

    a: str
    b: str
    rows: tuple[Compared, ...]
    level: float = 0.95


class Box(NamedTuple):
    """One box in a picture. `score` is None for the truth: for what was found (`truth`) and what was not (`missed`)."""

    xyxy: tuple[float, float, float, float]
    name: str
    score: float | None
    kind: Kind


@dataclass(frozen=True)
class GalleryPicture:
    """One picture with its truth and what was detected.

    `data` is the encoded file where no `path` leads to it, as in an archive; `path` is then for messages.
    """

    name: str
    path: Path
    boxes: tuple[Box, ...]
    data: bytes | None = None

    def __post_init__(self) -> None:
        for box in self.boxes:
            if box.kind not in KINDS:
                raise ValueError(f"picture {self.name!r}: a box of kind {box.kind!r}, wanted one of {', '.join(KINDS)}")


class WorstEntry(NamedTuple):
    """One place of a list: the picture's name, as in the gallery if it is there, and what is wrong with it."""

    picture: str
    text: str


@dataclass(frozen=True)
class WorstList:
    """Pictures or boxes by how bad they are: the surest false answers, the largest missed objects."""

    title: str
    meaning: str
    entries: tuple[WorstEntry, ...]


@dataclass(frozen=True, eq=False)
class Report:
    """All that a page shows. What is None or empty is left out.

    `about` says under which conditions the figures hold, `curves` are one a class and `overall` is that of all answers
    at once, `errors` figure 1.4 of the thesis a class, `tide` what each kind of error costs, `pictures` the gallery
    with the worst first.
    """

    title: str
    about: tuple[Fact, ...] = ()
    figures: tuple[Figure, ...] = ()
    classes: tuple[ClassRow, ...] = ()
    curves: tuple[Curve, ...] = ()
    overall: Curve | None = None
    confusion: Confusion | None = None
    errors: tuple[Shares, ...] | None = None
    tide: tuple[Figure, ...] | None = None
    calibration: tuple[Bin, ...] | None = None
    comparison: Comparison | None = None
    pictures: tuple[GalleryPicture, ...] = ()
    worst: tuple[WorstList, ...] = ()

    def __post_init__(self) -> None:
        for shares in self.errors or ():
            if len(shares.parts) != len(PARTS):
                raise ValueError(f"errors of {shares.name!r}: {len(shares.parts)} shares, wanted {len(PARTS)}")


def average(errors: tuple[Shares, ...]) -> Shares | None:
    """The mean over the classes that have shares, as figure 1.4 has it; None if none has."""
    known = [shares.parts for shares in errors if np.isfinite(shares.parts).all()]
    if not known:
        return None
    return Shares("all classes", tuple(np.mean(known, axis=0).tolist()))


def largest_confusions(confusion: Confusion, most: int = 12) -> list[tuple[str, str, float, float]]:
    """The pairs that are mixed up most: an object's class, what it was called, how often, and in what share of its row.

    What is background is no class, so it is left out; its column counts for the share.
    """
    count = len(confusion.names)
    matrix = np.nan_to_num(confusion.matrix.astype(np.float64))
    row = matrix[:count].sum(axis=1)
    mixed = matrix[:count, :count] * ~np.eye(count, dtype=bool)
    order = np.argsort(-mixed, axis=None, kind="stable")[:most]
    pairs = [divmod(int(place), count) for place in order]
    return [
        (confusion.names[i], confusion.names[j], float(mixed[i, j]), float(mixed[i, j] / row[i]))
        for i, j in pairs
        if mixed[i, j] > 0
    ]
