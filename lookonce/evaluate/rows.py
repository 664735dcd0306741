"""Rows of results as a file has them, made into columns that are checked."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lookonce.boxes import to_xywh, to_xyxy
from lookonce.errors import DataError, nearest, shown
from lookonce.evaluate.columns import Answers

MOST_NEAREST = 20_000                # names among which a near one is still looked for

# COCO's category numbers leave ten out of 1 to 90.
COCO_NUMBERS = tuple(sorted(set(range(1, 91)) - {12, 26, 29, 30, 45, 66, 68, 69, 71, 83}))

COCO_FILE = re.compile(r"(?:COCO_[a-z]+[0-9]{4}_)?([0-9]{1,18})")


class Known(NamedTuple):
    """What a picture or class may be called in a results file, and its number. -1: what several are called."""

    pictures: dict[str | int, int]
    classes: dict[str, int]
    categories: dict[int, int]
    files: dict[str, int]            # a class by what it is called in the name of a file
    titles: Sequence[str]            # of the pictures
    names: Sequence[str]             # of the classes


class Rows(NamedTuple):
    """Rows as they are in a file, unchecked; `place` says in words where a row is.

    `box` are four values each: `form` xyxy, xywh, or devkit (corners from 1). `words`: numbers are still text. `label`
    are names of classes, or with `numbered` the numbers of the dataset's files.
    """

    picture: Sequence[Any]
    label: Sequence[Any]
    score: Sequence[Any]
    box: Sequence[Any]
    form: str
    place: Callable[[int], str]
    words: bool = False
    numbered: bool = False


def known_names(pictures: Sequence[str], names: Sequence[str], numbers: Sequence[int]) -> Known:
    """What result files may call these pictures and classes; `numbers` are those that COCO's files give the classes."""
    by_name: dict[str | int, int] = {}
    ends: dict[str | int, int] = {}
    for at, name in enumerate(pictures):
        by_name[name] = by_name[shown(name, 4096)] = at
        if digits := re.search(r"[0-9]{1,18}$", name):
            found = by_name if digits.start() == 0 else ends
            found[int(digits[0])] = -1 if int(digits[0]) in found else at
    categories = numbers or (COCO_NUMBERS if len(names) == 80 else range(1, len(names) + 1))
    in_files: dict[str, int] = {}
    taken: set[str] = set()
    for label, name in enumerate(names):
        stem = re.sub(r"[^\w. -]", "_", name)[:100]
        while stem.casefold() in taken:                                       # as our writer tells them apart
            stem += "_"
        taken.add(stem.casefold())
        in_files[stem] = label
    return Known(
        ends | by_name,
        {name: label for label, name in enumerate(names)},
        {int(each): label for label, each in enumerate(categories)},
        in_files,
        pictures,
        names,
    )


def checked(rows: Rows, known: Known) -> Answers:
    """The columns of some rows, or a DataError for the first that cannot be."""
    place = rows.place
    score = finite(rows.score, "score", place, words=rows.words)
    box = _boxes(rows)
    picture = _found(rows.picture, known.pictures, place, "picture", known.titles)
    label = _found(rows.label, known.categories if rows.numbered else known.classes, place, "class", known.names)
    if rows.form == "xywh":
        empty, why, xywh, xyxy = (box[:, 2:] < 0).any(1), "a width or height below 0", box, to_xyxy(box)
    else:
        empty, why = (box[:, 2:] < box[:, :2]).any(1), "a right or bottom before its left or top"
        xyxy = box - (1, 1, 0, 0) if rows.form == "devkit" else box
        xywh = to_xywh(xyxy)
    for at in np.flatnonzero(empty)[:1]:
        raise DataError(f"{place(int(at))}: the box {[*box[at].tolist()]} has {why}")
    return Answers(picture, label, xyxy, xywh, score)


def _boxes(rows: Rows) -> np.ndarray:
    """(N, 4), finite."""
    if not set(map(type, rows.box)) <= {list, tuple} or set(map(len, rows.box)) - {4}:
        bad = next(n for n, box in enumerate(rows.box) if not isinstance(box, list | tuple) or len(box) != 4)
        raise DataError(f"{rows.place(bad)}: found the box {shown(repr(rows.box[bad]))}, wanted four numbers")
    flat = list(itertools.chain.from_iterable(rows.box))
    return finite(flat, "box", lambda at: rows.place(at // 4), words=rows.words).reshape(-1, 4)


def finite(values: Sequence[Any], what: str, place: Callable[[int], str], *, words: bool) -> np.ndarray:
    """Values as float64 (N,), all finite. Text counts as a number only if the file knows nothing else (`words`)."""
    kinds: set[type] = {str} if words else {int, float}
    try:
        if set(map(type, values)) <= kinds:
            found = np.fromiter(map(float, values), np.float64, len(values))
            if np.isfinite(found).all():
                return found
    except (ValueError, OverflowError):                   # no number, or one that is too large
        pass
    bad = next(number for number, value in enumerate(values) if not _is_finite(value, kinds))
    raise DataError(f"{place(bad)}: {what}: found {shown(str(values[bad]))!r}, wanted a finite number")


def _is_finite(value: Any, kinds: Collection[type]) -> bool:
    try:
        return type(value) in kinds and bool(np.isfinite(float(value)))
    except (ValueError, OverflowError):
        return False


def _found(
    values: Sequence[Any], known: Mapping[Any, int], place: Callable[[int], str], what: str, titles: Sequence[str]
) -> np.ndarray:
    """The numbers (N,) of pictures or classes by what they are called."""
    bad = -1
    if set(map(type, values)) <= {int, str}:
        out = np.fromiter((known.get(value, -1) for value in values), np.int64, len(values))
        if what == "picture":
            for at in np.flatnonzero(out < 0).tolist():         # a file's name, where the dataset has COCO's number
                digits = COCO_FILE.fullmatch(str(values[at]))
                out[at] = known.get(int(digits[1]), -1) if digits else -1
        if not (out < 0).any():
            return out
        bad = int(np.argmax(out < 0))
    else:
        bad = next(number for number, value in enumerate(values) if type(value) not in (int, str))
    value = values[bad]
    near = nearest(value, titles) if isinstance(value, str) and len(titles) <= MOST_NEAREST else ""
    if type(value) in (int, str) and value in known:
        raise DataError(f"{place(bad)}: {what} {shown(str(value), 200)} is several of this dataset: give full names")
    keys = list(known)[:3] if what == "class" else titles[:3]
    some = ", ".join(shown(str(key)) for key in keys)
    count = f"{len(titles):,} {'pictures' if what == 'picture' else 'classes'}"
    raise DataError(
        f"{place(bad)}: {what} {shown(repr(value), 200)} is none of the {count} of this dataset ({some}, ...){near}"
    )


def same_length(rows: Sequence[Sequence[str]], length: int, place: Callable[[int], str]) -> None:
    """Raises DataError for the first row that has not so many columns."""
    if set(map(len, rows)) - {length}:
        bad = next(number for number, row in enumerate(rows) if len(row) != length)
        raise DataError(f"{place(bad)}: has {len(rows[bad])} columns, wanted {length}")
