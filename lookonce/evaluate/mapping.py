"""Which classes of one list of names are those of another, and which classes are alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lookonce.detections import COCO_GROUPS, plain_name
from lookonce.errors import DataError, nearest, shown
from lookonce.files import read_bytes
from lookonce.shapes import Bool

MOST_BYTES = 1 << 20                 # of a file of names

# Hoiem et al., Diagnosing Error in Object Detectors, ECCV 2012: two classes are alike if both are in one of these. A
# person is one of the animals, and an aeroplane is taken for a bird. Bottle, pottedplant and tvmonitor are like none.
VOC_GROUPS = (
    ("aeroplane", "bicycle", "boat", "bus", "car", "motorbike", "train"),
    ("bird", "cat", "cow", "dog", "horse", "person", "sheep"),
    ("chair", "diningtable", "sofa"),
    ("aeroplane", "bird"),
)
VOC_ALONE = ("bottle", "pottedplant", "tvmonitor")


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
    a known synonym (VOC's motorbike is COCO's motorcycle). The lines `theirs = ours` of a `file` go before that:
    several of theirs may be one of ours, `theirs =` leaves a class out, and `#` begins a comment. Raises DataError if
    no class is shared, or if the file names an unknown class.
    """
    to = by_name(theirs, ours)
    for number, other in by_file(file, theirs, ours).items() if file is not None else ():
        to[number] = other
    if not (to >= 0).any():
        some = f"{_some(theirs)} against {_some(ours)}"
        raise DataError(f"no class of the model is one of the dataset: {some}: name its classes (--names), give "
                        "a file of lines theirs = ours (--map), or learn the data's (lookonce train --data ...)")
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
    keys = [plain_name(name) for name in names]
    if groups is None:
        groups = next((each for each, known in _KNOWN if known.issuperset(keys)), ())
    members = np.array([[key in {plain_name(name) for name in group} for group in groups] for key in keys], bool)
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


_KNOWN = tuple(
    (groups, {plain_name(name) for group in (*groups, alone) for name in group})
    for groups, alone in ((VOC_GROUPS, VOC_ALONE), (COCO_GROUPS, ()))
)


def by_name(theirs: Sequence[str], ours: Sequence[str]) -> np.ndarray:
    """The number (K,) that each of their names has among ours, by the rule of `shared_names`; -1 where it has none."""
    exact = {name: number for number, name in enumerate(ours)}
    taken = exact.keys() & set(theirs)               # nobody else's, whatever else sounds like it
    alike = {plain_name(name): number for name, number in exact.items() if name not in taken}
    return np.array([exact.get(name, alike.get(plain_name(name), -1)) for name in theirs], np.int64)


def by_file(path: Path, theirs: Sequence[str], ours: Sequence[str]) -> dict[int, int]:
    """The classes of theirs that the lines of a file name, and which of ours each is, -1 for none."""
    to: dict[int, int] = {}
    for line, text in _lines(path):
        where = f"{path}:{line}"
        left, equals, right = (part.strip() for part in text.partition("="))
        if not equals:
            raise DataError(f"{where}: found {shown(text)!r}, wanted theirs = ours")
        number = _number(left, theirs, where)
        if number in to:
            raise DataError(f"{where}: {shown(left)!r} is there for the second time, wanted one line a class")
        to[number] = _number(right, ours, where) if right else -1
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
