"""Which classes of one list of names are those of another, and which classes are alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lookonce.errors import DataError, nearest, shown
from lookonce.files import read_bytes
from lookonce.shapes import Bool

MOST_BYTES = 1 << 20                 # of a file of names

# What VOC, COCO and Darknet's lists call the same thing, without spaces.
SYNONYMS = {
    "aeroplane": "airplane",
    "motorbike": "motorcycle",
    "sofa": "couch",
    "tvmonitor": "tv",
    "hairdryer": "hairdrier",
}

# Hoiem et al., Diagnosing Error in Object Detectors, ECCV 2012: two classes are alike if both are in one of these. A
# person is one of the animals, and an aeroplane is taken for a bird. Bottle, pottedplant and tvmonitor are like none.
VOC_GROUPS = (
    ("aeroplane", "bicycle", "boat", "bus", "car", "motorbike", "train"),
    ("bird", "cat", "cow", "dog", "horse", "person", "sheep"),
    ("chair", "diningtable", "sofa"),
    ("aeroplane", "bird"),
)
VOC_ALONE = ("bottle", "pottedplant", "tvmonitor")

# COCO's supercategories.
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


class SharedNames(NamedTuple):
    """How the K classes of a model are those of a dataset.

    `to` (K,) int64 is the dataset's number of each class of the model, -1 where it has none. `names` are the shared
    classes in the dataset's order and words; `only_theirs` (the model's) and `only_ours` (the dataset's) are the rest.
    """

    to: np.ndarray
    names: tuple[str, ...]
    only_theirs: tuple[str, ...]
    only_ours: tuple[str, ...]


def shared_names(theirs: Sequence[str], ours: Sequence[str], file: Path | None = None) -> SharedNames:
    """The classes that a model's names (`theirs`) and a dataset's (`ours`) have in common.

    A class is the one of the same name; else of the same name but for case, spaces, hyphens and underscores; else of
    a known synonym (VOC's motorbike is COCO's motorcycle). A `file` decides alone: lines `theirs = ours`, where several
    of theirs may be one of ours and `#` begins a comment. Raises DataError if no class is shared, or if the file names
    an unknown class.
    """
    to = _by_name(theirs, ours) if file is None else _by_file(file, theirs, ours)
    if not (to >= 0).any():
        some = f"{_some(theirs)} against {_some(ours)}"
        raise DataError(f"no class of the model is one of the dataset: {some}: give a file of lines theirs = ours")
    shared = set(to.tolist()) - {-1}
    return SharedNames(
        to,
        tuple(name for number, name in enumerate(ours) if number in shared),
        tuple(name for name, number in zip(theirs, to, strict=True) if number < 0),
        tuple(name for number, name in enumerate(ours) if number not in shared),
    )


def similar_classes(names: Sequence[str], groups: Sequence[Sequence[str]] | None = None) -> Bool[np.ndarray, "K K"]:
    """Which classes are alike: those that are in one group together. No class is like itself.

    Without `groups`, VOC's by Hoiem where all names are VOC's, COCO's supercategories where all are COCO's, otherwise
    none. A class in no group is like none. A name of a group that is no class is passed over.
    """
    keys = [_key(name) for name in names]
    if groups is None:
        groups = next((each for each, known in _KNOWN if known.issuperset(keys)), ())
    members = np.array([[key in {_key(name) for name in group} for group in groups] for key in keys], bool)
    members = members.reshape(len(keys), len(groups))                     # (K, G)
    alike: np.ndarray = members @ members.T
    return alike & ~np.eye(len(keys), dtype=bool)


def read_groups(path: Path, names: Sequence[str]) -> list[tuple[str, ...]]:
    """Groups of classes that are alike: one group a line, names between commas, `#` begins a comment.

    Raises DataError for an unknown class.
    """
    groups = []
    for line, text in _lines(path):
        group = [name.strip() for name in text.split(",") if name.strip()]
        groups.append(tuple(names[_number(name, names, f"{path}:{line}")] for name in group))
    return groups


def _key(name: str) -> str:
    """What names of the same class have in common."""
    bare = name.casefold().translate({ord(c): None for c in " -_"})
    return SYNONYMS.get(bare, bare)


_KNOWN = tuple(
    (groups, {_key(name) for group in (*groups, alone) for name in group})
    for groups, alone in ((VOC_GROUPS, VOC_ALONE), (COCO_GROUPS, ()))
)


def _by_name(theirs: Sequence[str], ours: Sequence[str]) -> np.ndarray:
    exact = {name: number for number, name in enumerate(ours)}
    taken = exact.keys() & set(theirs)               # nobody else's, whatever else sounds like it
    alike = {_key(name): number for name, number in exact.items() if name not in taken}
    return np.array([exact.get(name, alike.get(_key(name), -1)) for name in theirs], np.int64)


def _by_file(path: Path, theirs: Sequence[str], ours: Sequence[str]) -> np.ndarray:
    to = np.full(len(theirs), -1, np.int64)
    for line, text in _lines(path):
        where = f"{path}:{line}"
        left, equals, right = (part.strip() for part in text.partition("="))
        if not equals:
            raise DataError(f"{where}: found {shown(text)!r}, wanted theirs = ours")
        number = _number(left, theirs, where)
        if to[number] >= 0:
            raise DataError(f"{where}: {shown(left)!r} is there for the second time, wanted one line a class")
        to[number] = _number(right, ours, where)
    return to


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """The lines that say something, with their numbers."""
    text = read_bytes(path, MOST_BYTES, DataError).decode("utf-8-sig", "replace")
    for line, whole in enumerate(text.splitlines(), start=1):
        if bare := whole.partition("#")[0].strip():
            yield line, bare


def _number(name: str, names: Sequence[str], where: str) -> int:
    if name not in names:
        raise DataError(
            f"{where}: {shown(name)!r} is none of the {len(names):,} classes ({_some(names)}){nearest(name, names)}"
        )
    return list(names).index(name)


def _some(names: Sequence[str]) -> str:
    return ", ".join(shown(name) for name in names[:3]) + (", ..." if len(names) > 3 else "")
