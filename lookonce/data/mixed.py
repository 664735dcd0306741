"""Several datasets as one to learn from together: YOLO9000's boxes and classified pictures (thesis 2.4.3).

How far a picture's labels reach is in its truth: an object has a box and a class, a class of the whole picture has no
box, and a class is a node of a tree that may lie anywhere between its root and a leaf.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from lookonce.data.dataset import Dataset
from lookonce.detections import plain_name
from lookonce.truth import Truth


def united(lists: Sequence[Sequence[str]]) -> tuple[tuple[str, ...], tuple[tuple[int, ...], ...]]:
    """The classes of several lists as one list, and the number in it of each class of each list.

    One class has one name but for case, blanks and known synonyms (`plain_name`); the first list's word holds.
    """
    number: dict[str, int] = {}
    names: list[str] = []
    maps: list[tuple[int, ...]] = []
    for each in lists:
        for name in each:
            if number.setdefault(plain_name(name), len(names)) == len(names):
                names.append(name)
        maps.append(tuple(number[plain_name(name)] for name in each))
    return tuple(names), tuple(maps)


def renumbered(dataset: Dataset, numbers: Sequence[int], names: Sequence[str]) -> Dataset:
    """The same pictures with the classes `names`: class i of before has `numbers[i]`."""
    to = np.array(numbers, np.int64)

    def of(truth: Truth) -> Truth:
        classes = tuple(dict.fromkeys(int(to[label]) for label in truth.classes))
        return dataclasses.replace(truth, label=to[truth.label], classes=classes)

    items = tuple(item._replace(truth=of(item.truth), absent=()) for item in dataset.items)
    return dataclasses.replace(dataset, names=tuple(names), items=items, numbers=(), above=())


def mixed(parts: Sequence[Dataset]) -> Dataset:
    """The pictures of all, one dataset after the other; they have the same names. It is called as the first."""
    first = parts[0]
    assert all(part.names == first.names for part in parts)
    return dataclasses.replace(
        first,
        items=tuple(item for part in parts for item in part.items),
        problems=tuple(problem for part in parts for problem in part.problems),
        parts=tuple(len(part) for part in parts),
    )
