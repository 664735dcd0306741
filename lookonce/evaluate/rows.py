"""Rows of results as a file has them, made into columns that are checked."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from lookonce.boxes import to_xywh, to_xyxy
from lookonce.detections import coco_numbers
from lookonce.errors import DataError, nearest, shown, warn
from lookonce.evaluate.columns import Answers
from lookonce.evaluate.mapping import by_name

MOST_NEAREST = 20_000                # names among which a near one is still looked for

NUMBER = re.compile(r"0|-?[1-9][0-9]{0,999}")
DIGITS = re.compile(r"[0-9]{1,18}$")
COCO_FILE = re.compile(r"(?:COCO_[a-z]+[0-9]{4}_)?([0-9]{1,18})")


class File(NamedTuple):
    """The name of a picture's file in parts: folder/stem.suffix."""

    folder: str
    stem: str
    suffix: str

    def __str__(self) -> str:
        return "/".join(filter(None, (self.folder, self.stem + self.suffix)))

    @classmethod
    def of(cls, name: str, frame: Any = None) -> File:
        """From a path of any system. A frame of a video is a picture NAME_FRAME."""
        *folders, last = re.split(r"[/\\]", name)
        stem, dot, suffix = last.rpartition(".")
        if not stem:
            stem, dot, suffix = last, "", ""
        if frame is not None:
            return cls("/".join(folders), f"{stem}_{frame}", "")
        return cls("/".join(folders), stem, dot + suffix)


class Known(NamedTuple):
    """What a picture or class may be called in a results file, and its number. -1: what several are called."""

    pictures: dict[str | int, int]   # by what COCO's results call them
    stems: dict[str, list[int]]      # all that have a file of this name
    files: Sequence[File]            # of the pictures
    classes: dict[str, int]
    categories: Mapping[int, int]
    in_files: dict[str, int]         # a class by what it is called in the name of a file
    titles: Sequence[str]            # of the pictures
    names: Sequence[str]             # of the classes


class Rows(NamedTuple):
    """Rows as they are in a file, unchecked; `place` says in words where a row is.

    `box` are four values each: `form` xyxy, xywh, or devkit (corners from 1). `words`: numbers are still text.
    `picture` are Files and `label` names of classes; with `numbered` the ids and numbers of the dataset's files.
    """

    picture: Sequence[Any]
    label: Sequence[Any]
    score: Sequence[Any]
    box: Sequence[Any]
    form: str
    place: Callable[[int], str]
    words: bool = False
    numbered: bool = False


def known_names(
    pictures: Sequence[str], names: Sequence[str], numbers: Mapping[int, int] | None, files: Sequence[str]
) -> Known:
    """What result files may call these pictures and classes; `numbers` are those that COCO's files give the classes.

    `files` are the pictures' files; without them a picture's name is its file's, without suffix.
    """
    parts = [File.of(file) for file in files] or [File("", name, "") for name in pictures]
    stems: dict[str, list[int]] = {}
    for at, file in enumerate(parts):
        for stem in {file.stem, shown(file.stem, 4096)}:
            stems.setdefault(stem, []).append(at)
    in_files: dict[str, int] = {}
    taken: set[str] = set()
    for label, name in enumerate(names):
        stem = re.sub(r"[^\w. -]", "_", name)[:100]
        while stem.casefold() in taken:                                       # as our writer tells them apart
            stem += "_"
        taken.add(stem.casefold())
        in_files[stem] = label
    if numbers is None:
        numbers = {number: label for label, number in enumerate(coco_numbers(tuple(names)))}
    classes = {name: label for label, name in enumerate(names)}
    return Known(_ids(pictures, stems), stems, parts, classes, numbers, in_files, pictures, names)


def _ids(pictures: Sequence[str], stems: Mapping[str, Sequence[int]]) -> dict[str | int, int]:
    """Pictures by what COCO's results call them: the surer a name, the later it is added."""
    ends, padded, exact = ({}, {}, {})  # type: tuple[dict[str | int, int], dict[str | int, int], dict[str | int, int]]
    for at, name in enumerate(pictures):
        for key in {name, shown(name, 4096)}:
            exact[key] = -1 if key in exact else at
        if (number := whole_number(name)) is not None:
            exact[number] = exact[name]
        elif digits := DIGITS.search(name):
            found = padded if digits.start() == 0 else ends
            found[int(digits[0])] = -1 if int(digits[0]) in found else at
    by_file = {stem: each[0] if len(each) == 1 else -1 for stem, each in stems.items()}
    return ends | padded | by_file | exact


def whole_number(name: str) -> int | None:
    """The number that this is the usual way to write, else None."""
    return int(name) if NUMBER.fullmatch(name) else None


def checked(rows: Rows, known: Known) -> Answers:
    """The columns of some rows, or a DataError for the first that cannot be."""
    place = rows.place
    score = finite(rows.score, "score", place, words=rows.words)
    box = _boxes(rows)
    if rows.numbered:
        picture = _found(rows.picture, known.pictures, place, "picture", known.titles)
        label = _found(rows.label, known.categories, place, "class", known.names)
    else:
        picture = _of_files(rows.picture, known, place)
        label = _found(rows.label, _classes(rows.label, known, place), place, "class", known.names)
    if rows.form == "xywh":
        empty, why, xywh, xyxy = (box[:, 2:] < 0).any(1), "a width or height below 0", box, to_xyxy(box)
    else:
        empty, why = (box[:, 2:] < box[:, :2]).any(1), "a right or bottom before its left or top"
        xyxy = box - (1, 1, 0, 0) if rows.form == "devkit" else box
        xywh = to_xywh(xyxy)
    for at in np.flatnonzero(empty)[:1]:
        raise DataError(f"{place(int(at))}: the box {[*box[at].tolist()]} has {why}")
    answers = Answers(picture, label, xyxy, xywh, score)
    return answers if rows.numbered else Answers(*(column[label < len(known.names)] for column in answers))


def _classes(words: Sequence[Any], known: Known, place: Callable[[int], str]) -> Mapping[str, int]:
    """The classes by their names, and by the other names for them that a file has.

    A model may know more classes than are judged: if some of its words are of these, the others are one class beyond
    them, and that is said.
    """
    used = sorted({word for word in words if isinstance(word, str)})
    if known.classes.keys() >= set(used):
        return known.classes
    to = dict(zip(used, by_name(used, known.names).tolist(), strict=True))
    beyond = [word for word, label in to.items() if label < 0]
    if len(beyond) == len(used):
        return known.classes
    if beyond:
        rows = [row for row, word in enumerate(words) if to.get(word) == -1]
        some = ", ".join(shown(word) for word in beyond[:5]) + (", ..." if len(beyond) > 5 else "")
        warn(
            f"{place(rows[0])}: class {shown(words[rows[0]])!r} is not judged: {len(rows):,} of {len(words):,} boxes, "
            f"of {len(beyond):,} such classes ({some}), are left out"
        )
    return known.classes | {word: label if label >= 0 else len(known.names) for word, label in to.items()}


def _of_files(files: Sequence[File], known: Known, place: Callable[[int], str]) -> np.ndarray:
    """The numbers (N,) of pictures by their files. Raises DataError where two files are one picture."""
    found: dict[File, int] = {}
    owner: dict[int, File] = {}
    for row, file in enumerate(files):
        if file not in found:
            at = found[file] = picture_of(file, known, lambda row=row: place(row))  # type: ignore[misc]
            other = owner.setdefault(at, file)
            if other != file:
                one, two = shown(str(file), 200), shown(str(other), 200)
                raise DataError(f"{place(row)}: picture {one} is {shown(known.titles[at])}, as {two} is, wanted one")
    return np.fromiter((found[file] for file in files), np.int64, len(files))


def picture_of(file: File, known: Known, place: Callable[[], str]) -> int:
    """The picture whose file this is: of several of one name, the one whose folders end like the file's.

    Raises DataError if there is none or if several are alike.
    """
    some = known.stems.get(file.stem, [])
    if len(some) > 1:
        alike = [_alike(file, known.files[at]) for at in some]
        some = [at for at, each in zip(some, alike, strict=True) if each == max(alike)]
    if len(some) == 1:
        return some[0]
    title = shown(str(file), 200)
    if some:
        two = " and ".join(shown(str(known.files[at]), 200) for at in some[:2])
        raise DataError(f"{place()}: picture {title!r} is several of this dataset ({two}): give it with its folder")
    near = nearest(file.stem, known.stems) if len(known.stems) <= MOST_NEAREST else ""
    raise DataError(f"{place()}: {_none_of(title, 'picture', known.titles, [each.stem for each in known.files])}{near}")


def _alike(a: File, b: File) -> tuple[int, bool]:
    """How many folders two files share from the end, and whether their suffix is the same."""
    pairs = zip(reversed(a.folder.split("/")), reversed(b.folder.split("/")), strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1] != "", pairs)), a.suffix == b.suffix


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
                if digits and values[at] not in known:
                    out[at] = known.get(int(digits[1]), -1)
        if not (out < 0).any():
            return out
        bad = int(np.argmax(out < 0))
    else:
        bad = next(number for number, value in enumerate(values) if type(value) not in (int, str))
    value = values[bad]
    is_word = isinstance(value, str) and not value.isdigit()              # a number near to another is no guess
    near = nearest(value, titles) if is_word and len(titles) <= MOST_NEAREST else ""
    if type(value) in (int, str) and value in known:
        raise DataError(f"{place(bad)}: {what} {shown(str(value), 200)} is several of this dataset: give full names")
    keys = list(known) if what == "class" else titles
    hint = "; if the results have classes of their own, name these (--names)" if what == "class" else ""
    raise DataError(f"{place(bad)}: {_none_of(value, what, titles, keys)}{near}{hint}")


def _none_of(value: Any, what: str, titles: Sequence[str], keys: Sequence[Any]) -> str:
    some = ", ".join(shown(str(key)) for key in keys[:3])
    count = f"{len(titles):,} {'pictures' if what == 'picture' else 'classes'}"
    return f"{what} {shown(repr(value), 200)} is none of the {count} that are judged ({some}, ...)"


def same_length(rows: Sequence[Sequence[str]], length: int, place: Callable[[int], str]) -> None:
    """Raises DataError for the first row that has not so many columns."""
    if set(map(len, rows)) - {length}:
        bad = next(number for number, row in enumerate(rows) if len(row) != length)
        raise DataError(f"{place(bad)}: has {len(rows[bad])} columns, wanted {length}")
