"""What is in a dataset: objects of each class, how large and how long they are, pictures' sizes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lookonce.data.dataset import Dataset
from lookonce.data.views import Progress, sizes_of
from lookonce.errors import shown
from lookonce.shapes import Float64, Int64

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
SMALL, MEDIUM = 32**2, 96**2     # square pixels below which COCO calls an object small, and medium


class ClassStats(NamedTuple):
    """One class, or all of them.

    `pictures` hold it, `objects` are all of it, of which `difficult` and `crowd` are marked so. `width` and `height`
    are QUANTILES relative to the picture, `aspect` those of width / height in pixels; `small`, `medium` and `large` are
    shares of the objects by area. All but counts are empty or 0 without any box.
    """

    name: str
    pictures: int
    objects: int
    difficult: int
    crowd: int
    width: tuple[float, ...]
    height: tuple[float, ...]
    aspect: tuple[float, ...]
    small: float
    medium: float
    large: float


@dataclass(frozen=True)
class Stats:
    """The figures of a dataset of P pictures with M objects.

    `total` counts all classes as one. `size` (P, 2) are pictures' width and height in pixels, 0 where they are neither
    in the labels nor to be read; `per_picture` (P,) objects; `label` (M,) classes; `relative` (M, 2) boxes' width and
    height relative to their picture, NaN where its size is not known.
    """

    path: Path
    format: str
    classes: tuple[ClassStats, ...]
    total: ClassStats
    size: Int64[np.ndarray, "P 2"]
    per_picture: Int64[np.ndarray, " P"]
    label: Int64[np.ndarray, " M"]
    relative: Float64[np.ndarray, "M 2"]

    @property
    def is_of_pictures(self) -> bool:
        """Whether there is no box, but pictures as a whole have classes."""
        return not len(self.label) and self.total.pictures > 0

    def rows(self) -> list[list[str]]:
        """A table: the names of its columns, a row a class, and one of all; of pictures without boxes only those."""
        if self.is_of_pictures:
            rows = ([shown(one.name), f"{one.pictures:,}"] for one in (*self.classes, self.total))
            return [["class", "pictures"], *rows]
        head = ["class", "pictures", "objects", "difficult", "crowd", "width", "height", "aspect", "S", "M", "L"]
        return [head, *(_row(one) for one in (*self.classes, self.total))]

    def lines(self) -> list[str]:
        """What concerns pictures as a whole, in words."""
        count, empty = len(self.per_picture), int((self.per_picture == 0).sum())
        unknown = int((self.size[:, 0] == 0).sum())
        what = f"pictures, {empty:,} without objects"
        if self.is_of_pictures:
            what = f"pictures of {sum(one.pictures > 0 for one in self.classes):,} classes"
        lines = [f"{count:,} {what}" + (f", {unknown:,} of no known size" * bool(unknown))]
        if count and not self.is_of_pictures:
            low, middle, high = np.quantile(self.per_picture, (0, 0.5, 1))
            mean = self.per_picture.mean()
            lines.append(f"objects a picture: {low:.0f} to {high:.0f}, median {middle:g}, mean {mean:.2f}")
        known = self.size[self.size[:, 0] > 0]
        if len(known):
            (w, h), (width, height) = known.min(axis=0), known.max(axis=0)
            often = ", ".join(f"{a} x {b} ({n:,})" for (a, b), n in self.sizes()[:3])
            lines.append(f"sizes: width {w} to {width}, height {h} to {height}; most often {often}")
        return lines

    def sizes(self) -> list[tuple[tuple[int, int], int]]:
        """How many pictures have each size, the most frequent first."""
        counts = Counter(map(tuple, self.size[self.size[:, 0] > 0].tolist()))
        return sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))

    def json(self) -> dict[str, Any]:
        """The figures as JSON has them."""
        return {
            "dataset": str(self.path), "format": self.format, "quantiles": QUANTILES,
            "pictures": len(self.per_picture), "objects": len(self.label),
            "pictures_without_objects": int((self.per_picture == 0).sum()),
            "pictures_of_unknown_size": int((self.size[:, 0] == 0).sum()),
            "objects_a_picture": {str(n): count for n, count in sorted(Counter(self.per_picture.tolist()).items())},
            "sizes": [{"width": w, "height": h, "pictures": count} for (w, h), count in self.sizes()],
            "classes": [one._asdict() for one in self.classes], "total": self.total._asdict(),
        }  # fmt: skip


def stats(dataset: Dataset, progress: Progress | None = None) -> Stats:
    """Count a dataset. A picture is opened only if its labels do not say its size."""
    truths = [item.truth for item in dataset.items]
    size = np.array([each or (0, 0) for each in sizes_of(dataset, progress)], np.int64).reshape(-1, 2)
    per_picture = np.array([len(truth) for truth in truths], np.int64)
    owner = np.repeat(np.arange(len(truths)), per_picture)                                # (M,) each object's picture
    label = np.concatenate([np.zeros(0, np.int64), *(truth.label for truth in truths)])
    sides = np.concatenate([np.zeros((0, 2)), *(truth.xywh[:, 2:] for truth in truths)])  # (M, 2) pixels
    area = np.concatenate([np.zeros(0), *(truth.area for truth in truths)])
    marks = [
        np.concatenate([np.zeros(0, bool), *(getattr(truth, name) for truth in truths)])
        for name in ("difficult", "crowd")
    ]
    whole = size[owner].astype(np.float64)
    relative = np.divide(sides, whole, out=np.full_like(sides, np.nan), where=whole > 0)
    of_picture = np.array([(place, each) for place, truth in enumerate(truths) for each in truth.classes], np.int64)
    of_picture = of_picture.reshape(-1, 2)                                                # labels of whole pictures

    def one(name: str, mine: np.ndarray, whole_mine: np.ndarray) -> ClassStats:
        held = np.unique(np.concatenate([owner[mine], of_picture[whole_mine, 0]]))
        count = int(mine.sum())
        with_area = mine & (sides > 0).all(axis=1)
        shares = [0.0] * 3
        if count:
            small, medium = float((area[mine] < SMALL).mean()), float((area[mine] < MEDIUM).mean())
            shares = [small, medium - small, 1 - medium]
        return ClassStats(
            name, len(held), count, int(marks[0][mine].sum()), int(marks[1][mine].sum()),
            _quantiles(relative[mine, 0]), _quantiles(relative[mine, 1]),
            _quantiles(sides[with_area, 0] / sides[with_area, 1]), *shares,
        )  # fmt: skip

    classes = [one(name, label == number, of_picture[:, 1] == number) for number, name in enumerate(dataset.names)]
    total = one("all", np.ones(len(label), bool), np.ones(len(of_picture), bool))
    return Stats(dataset.path, dataset.format, tuple(classes), total, size, per_picture, label, relative)


def _quantiles(values: np.ndarray) -> tuple[float, ...]:
    """QUANTILES of those that are numbers; none of nothing."""
    values = values[np.isfinite(values)]
    return tuple(float(round(value, 6)) for value in np.quantile(values, QUANTILES)) if len(values) else ()


def _row(one: ClassStats) -> list[str]:
    """Median and, in brackets, the outer quantiles; shares in percent."""
    spans = [
        f"{values[2]:.2f} ({values[0]:.2f} to {values[-1]:.2f})" if values else "-"
        for values in (one.width, one.height, one.aspect)
    ]
    counts = [f"{count:,}" for count in (one.pictures, one.objects, one.difficult, one.crowd)]
    shares = [f"{share:.0%}" if one.objects else "-" for share in (one.small, one.medium, one.large)]
    return [shown(one.name), *counts, *spans, *shares]
