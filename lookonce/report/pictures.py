"""The pictures of a gallery: made small enough for a page, with their boxes led along."""

from __future__ import annotations

import base64
import io
from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image

from lookonce import pictures
from lookonce.errors import InputError
from lookonce.report.contents import KINDS, Box, GalleryPicture, Kind

QUALITY = 72
MOST_BOXES = 100            # of one picture; more hide it


class ShotBox(NamedTuple):
    """A box as it is drawn, in pixels of the small picture. `label` is written beside it."""

    x: float
    y: float
    width: float
    height: float
    name: str
    score: float | None
    kind: Kind

    @property
    def label(self) -> str:
        """The class, with its score if it has one."""
        return self.name if self.score is None else f"{self.name} {self.score:.2f}"


@dataclass(frozen=True)
class Shot:
    """One picture of the page. `uri` holds the JPEG, or is None where `problem` says why there is none.

    `left_out` counts the boxes beyond MOST_BOXES, and those that are no numbers.
    """

    name: str
    width: int
    height: int
    boxes: tuple[ShotBox, ...]
    uri: str | None
    problem: str
    left_out: int

    @property
    def counts(self) -> list[tuple[Kind, int]]:
        """How many boxes there are of each kind, in the order of KINDS, without the truth that was found."""
        count = Counter(box.kind for box in self.boxes)
        return [(kind, count[kind]) for kind in KINDS if kind != "truth" and count[kind]]

    @property
    def summary(self) -> str:
        """What the picture shows, for those who do not see it."""
        return f"{self.name}: " + (", ".join(f"{count} {kind}" for kind, count in self.counts) or "no detection")


def shoot(picture: GalleryPicture, side: int) -> Shot:
    """The picture with its longer side at most `side` pixels. What cannot be read becomes a Shot with a problem."""
    try:
        name = str(picture.path)
        pixels = pictures.read(picture.path) if picture.data is None else pictures.decode(picture.data, name)
    except InputError as problem:
        return Shot(picture.name, side, side * 3 // 4, (), None, str(problem), len(picture.boxes))
    height, width = pixels.shape[:2]
    scale = min(1.0, side / max(height, width))
    size = max(1, round(width * scale)), max(1, round(height * scale))
    boxes = placed(picture.boxes, (width, height), size)
    return Shot(picture.name, *size, boxes, _uri(pixels, size), "", len(picture.boxes) - len(boxes))


def placed(boxes: tuple[Box, ...], picture: tuple[int, int], small: tuple[int, int]) -> tuple[ShotBox, ...]:
    """Boxes of a picture (width, height) where they lie in the small one, cut at its edge: large ones first.

    So a box inside another is drawn over it. Where there are more than MOST_BOXES the truth stays, then the surest.
    """
    known = [box for box in boxes if not np.isnan(box.xyxy).any()]
    known = sorted(known, key=_rank, reverse=True)[:MOST_BOXES]
    corners = np.array([box.xyxy for box in known], np.float64).reshape(-1, 4)
    corners = np.clip(corners * (np.array(small * 2) / np.array(picture * 2)), 0, small * 2).round(1)
    sides = np.maximum(corners[:, 2:] - corners[:, :2], 0).round(1)                              # (N, 2)
    order = np.argsort(-sides.prod(axis=1), kind="stable").tolist()
    drawn = []
    for (x, y, width, height), box in zip(np.hstack([corners[:, :2], sides]).tolist(), known, strict=True):
        score = None if box.score is None or np.isnan(box.score) else box.score
        drawn.append(ShotBox(x, y, width, height, box.name, score, box.kind))
    return tuple(drawn[i] for i in order)


def _rank(box: Box) -> float:
    """What is kept first: the truth, then the surest, last what has no number for a score."""
    if box.score is None:
        return np.inf
    return -np.inf if np.isnan(box.score) else box.score


def _uri(pixels: np.ndarray, size: tuple[int, int]) -> str:
    """The picture, resized, as a JPEG in a data URI."""
    image = Image.fromarray(pixels)
    if image.size != size:
        image = image.resize(size, Image.Resampling.LANCZOS, reducing_gap=2.0)
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getbuffer()).decode("ascii")
