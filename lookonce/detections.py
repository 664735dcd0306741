"""Detections: what a network says of one picture."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from lookonce.errors import shown
from lookonce.shapes import Bool, Float32, Int64

# What VOC, COCO and Darknet's lists call the same thing, without spaces.
SYNONYMS = {
    "aeroplane": "airplane",
    "motorbike": "motorcycle",
    "sofa": "couch",
    "tvmonitor": "tv",
    "hairdryer": "hairdrier",
}

# COCO's classes in its order, by supercategory.
COCO_GROUPS = (
    ("person",),
    ("bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat"),
    ("traffic light", "fire hydrant", "stop sign", "parking meter", "bench"),
    ("bird", "cat", "dog", "horse", "sheep", "cow", "elephant", "bear", "zebra", "giraffe"),
    ("backpack", "umbrella", "handbag", "tie", "suitcase"),
    ("frisbee", "skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard",
     "surfboard", "tennis racket"),
    ("bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl"),
    ("banana", "apple", "sandwich", "orange", "broccoli", "carrot", "hot dog", "pizza", "donut", "cake"),
    ("chair", "couch", "potted plant", "bed", "dining table", "toilet"),
    ("tv", "laptop", "mouse", "remote", "keyboard", "cell phone"),
    ("microwave", "oven", "toaster", "sink", "refrigerator"),
    ("book", "clock", "vase", "scissors", "teddy bear", "hair drier", "toothbrush"),
)  # fmt: skip

# COCO's category numbers leave ten out of 1 to 90.
COCO_NUMBERS = tuple(sorted(set(range(1, 91)) - {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}))


class Detection(NamedTuple):
    """One box: its class by number and name, its score from 0 to 1, its corners in pixels of the picture."""

    label: int
    name: str
    score: float
    xyxy: tuple[float, float, float, float]


@dataclass(frozen=True, eq=False)
class Detections:
    """N boxes of one picture, the surest first.

    `xyxy` (N, 4) are left, top, right, bottom in pixels of the picture; a box may reach over its edge, as the network
    said it (`clipped` cuts it there). `names` are those of all classes: `names[label]` is a box's. `size` is the
    picture's width and height.

    Indexing takes what numpy takes: `found[found.score > .5]`, `found[:3]`, `found[found.label == 0]`. Iteration
    gives one Detection a box.
    """

    xyxy: Float32[np.ndarray, "N 4"]
    score: Float32[np.ndarray, " N"]
    label: Int64[np.ndarray, " N"]
    names: tuple[str, ...]
    size: tuple[int, int]

    def __post_init__(self) -> None:
        count = len(self.score)
        for name, shape in (("xyxy", (count, 4)), ("score", (count,)), ("label", (count,))):
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name} has shape {getattr(self, name).shape}, wanted {shape}")

    @classmethod
    def none(cls, names: tuple[str, ...], size: tuple[int, int]) -> Detections:
        """No box at all."""
        return cls(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64), names, size)

    def __len__(self) -> int:
        return len(self.score)

    def __getitem__(
        self, rows: int | np.integer[Any] | slice | Int64[np.ndarray, " M"] | Bool[np.ndarray, " N"]
    ) -> Detections:
        if isinstance(rows, int | np.integer):
            rows = np.arange(len(self))[[int(rows)]]
        return Detections(self.xyxy[rows], self.score[rows], self.label[rows], self.names, self.size)

    def __iter__(self) -> Iterator[Detection]:
        for box, score, label in zip(self.xyxy.tolist(), self.score.tolist(), self.label.tolist(), strict=True):
            yield Detection(label, self.names[label], score, tuple(box))

    def __repr__(self) -> str:
        rows = ", ".join(f"{one.name} {one.score:.2f}" for one in list(self)[:6])
        return f"<{len(self)} detections: {rows}{', ...' if len(self) > 6 else ''}>"

    def only(self, names: Collection[str]) -> Detections:
        """Those of the named classes."""
        wanted = [number for number, name in enumerate(self.names) if name in names]
        return self[np.isin(self.label, wanted)]

    def clipped(self) -> Detections:
        """The same boxes cut at the picture's edge."""
        limit = np.array(self.size * 2, np.float32)
        return Detections(np.clip(self.xyxy, 0, limit), self.score, self.label, self.names, self.size)

    def rows(self) -> list[dict[str, Any]]:
        """One dict a box, as JSON has it: label, name, score, xyxy. Scores to six places, pixels to two."""
        return [
            {"label": label, "name": name, "score": round(score, 6), "xyxy": [round(x, 2) for x in xyxy]}
            for label, name, score, xyxy in self
        ]


def summary(found: Detections) -> str:
    """What was found, by falling count: `2 dog, 1 truck`, or `nothing found`."""
    counts = Counter(shown(one.name) for one in found)
    return ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "nothing found"


def plain_name(name: str) -> str:
    """What names of the same class have in common: no case, spaces, hyphens or underscores, COCO's word for it."""
    bare = name.casefold().translate({ord(c): None for c in " -_"})
    return SYNONYMS.get(bare, bare)


@functools.lru_cache(maxsize=16)
def coco_numbers(names: tuple[str, ...]) -> tuple[int, ...]:
    """The category number of each class in COCO's results: COCO's own if these are its 80, else counted from 1."""
    coco = (plain_name(name) for group in COCO_GROUPS for name in group)
    number_of = dict(zip(coco, COCO_NUMBERS, strict=True))
    plain = [plain_name(name) for name in names] if len(names) == len(COCO_NUMBERS) else []
    if set(plain) == number_of.keys():
        return tuple(number_of[name] for name in plain)
    return tuple(range(1, len(names) + 1))
