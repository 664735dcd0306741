"""What readers of datasets share: problems noted, objects gathered, files found, texts and XML taken apart safely."""

from __future__ import annotations

import codecs
import itertools
import json
import math
import os
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np

from lookonce import files, pictures
from lookonce.boxes import to_xywh, to_xyxy
from lookonce.data.dataset import Problem
from lookonce.errors import DataError, InputError, nearest, shown
from lookonce.truth import Truth

MAX_BYTES = 1 << 30             # COCO's train2017 has 450 MB of instances
MAX_XML_BYTES = 256 << 20
ENCODINGS = frozenset((
    "ascii", "utf-8", "utf-16", "iso8859-1", "iso8859-2", "iso8859-15", "cp1250", "cp1251", "cp1252", "gb2312", "gbk",
    "gb18030", "big5", "shift_jis", "euc_jp", "euc_kr",
))  # fmt: skip
DECLARED = re.compile(rb"""<\?xml[^>]{0,80}?encoding\s*=\s*["']([A-Za-z0-9._-]{1,40})["']""")


NOTHING = Truth.of(np.zeros(0, np.int64))


class Placed(NamedTuple):
    """Where a picture of a dataset that is written lies: what it is called there, its file, width and height.

    The size is None where the form does not need it and the labels do not say it.
    """

    id: str
    path: Path
    size: tuple[int, int] | None


class Findings:
    """The problems of a dataset, in the order in which they are found."""

    def __init__(self) -> None:
        self._found: list[Problem] = []

    def error(self, kind: str, file: Path, place: str, text: str) -> None:
        """Note what makes figures untrue."""
        self._found.append(Problem(kind, file, place, text, True))

    def warning(self, kind: str, file: Path, place: str, text: str) -> None:
        """Note what may be meant."""
        self._found.append(Problem(kind, file, place, text, False))

    def unknown_name(self, file: Path, place: str, name: str, names: Sequence[str]) -> None:
        """Note a class that is none of the dataset's."""
        text = f"{shown(name)} is not one of the {len(names)} names{nearest(name, names)}"
        self.error("unknown name", file, place, text)

    def __call__(self) -> tuple[Problem, ...]:
        return tuple(self._found)


# ---------------------------------------------------------------------- objects
class Box(NamedTuple):
    """One object as a file names it: its class, left, top, right, bottom in pixels from 0, and where it stands."""

    picture: int
    name: str
    xyxy: tuple[float, float, float, float]
    difficult: bool
    crowd: bool
    file: Path
    place: str

    @property
    def where(self) -> tuple[Path, str, str]:
        return self.file, self.place, self.name


class Gathered:
    """Objects and labels of pictures by the names of their classes, until all names are known."""

    def __init__(self) -> None:
        self.boxes: list[Box] = []
        self.tags: list[tuple[int, str, Path, str]] = []    # picture, name, file, place

    def names(self) -> set[str]:
        """Every name that is used."""
        return {box.name for box in self.boxes} | {name for _, name, _, _ in self.tags}

    def truths(self, count: int, names: Sequence[str], findings: Findings) -> list[Truth]:
        """The Truth of pictures 0 to count - 1. What has no name or no sides is left out and noted."""
        label_of = labels_of(names)
        xyxy = np.array([box.xyxy for box in self.boxes], np.float64).reshape(-1, 4)
        keep = sound(to_xywh(xyxy), findings, lambda i: self.boxes[i].where)
        label = np.array([label_of.get(box.name, -1) for box in self.boxes], np.int64)
        for i in np.flatnonzero(label < 0).tolist():
            findings.unknown_name(self.boxes[i].file, self.boxes[i].place, self.boxes[i].name, names)
        classes: dict[int, list[int]] = {}
        for picture, name, file, place in self.tags:
            if name not in label_of:
                findings.unknown_name(file, place, name, names)
            elif label_of[name] not in classes.setdefault(picture, []):
                classes[picture].append(label_of[name])
        keep &= label >= 0
        return truths(
            count,
            np.array([box.picture for box in self.boxes], np.int64)[keep],
            label[keep],
            xyxy=xyxy[keep],
            difficult=np.array([box.difficult for box in self.boxes], bool)[keep],
            crowd=np.array([box.crowd for box in self.boxes], bool)[keep],
            classes=classes,
        )


def labels_of(names: Sequence[str]) -> dict[str, int]:
    """The number of each name; the first of two that are equal."""
    return {name: number for number, name in reversed(list(enumerate(names)))}


def sound(xywh: np.ndarray, findings: Findings, where: Callable[[int], tuple[Path, str, str]]) -> np.ndarray:
    """Which boxes (N, 4), left, top, width, height, are some: (N,) bool.

    One that is not finite or has a negative side is an error, one without area a warning. `where` says of a row in
    which file it is, at which place, and what class the file says.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        far = xywh[:, :2] + xywh[:, 2:]
        keep: np.ndarray = np.isfinite(xywh).all(1) & np.isfinite(far).all(1) & (xywh[:, 2:] >= 0).all(1)
        flat = keep & (xywh[:, 2:] == 0).any(1)
    for i in np.flatnonzero(~keep | flat).tolist():
        file, place, name = where(i)
        left, top, width, height = xywh[i].tolist()
        if flat[i]:
            corners = f"{left:.6g} {top:.6g} {far[i, 0]:.6g} {far[i, 1]:.6g}"
            findings.warning("box without area", file, place, f"{shown(name)} {corners} has no area")
        else:
            text = f"{shown(name)} at {left:.6g} {top:.6g} is {width:.6g} x {height:.6g}"
            findings.error("unreadable box", file, place, f"{text}; wanted finite numbers, no side below 0")
    return keep


def truths(
    count: int,
    picture: np.ndarray,
    label: np.ndarray,
    *,
    xyxy: np.ndarray | None = None,
    xywh: np.ndarray | None = None,
    difficult: np.ndarray | None = None,
    crowd: np.ndarray | None = None,
    area: np.ndarray | None = None,
    classes: Mapping[int, Iterable[int]] | None = None,
) -> list[Truth]:
    """Columns of N objects, `picture` (N,) saying of which picture each is, as the Truth of pictures 0 to count - 1."""
    xyxy = to_xyxy(np.asarray(xywh, np.float64)) if xyxy is None else xyxy
    xywh = to_xywh(xyxy) if xywh is None else xywh
    none = np.zeros(len(label), bool)
    difficult, crowd = none if difficult is None else difficult, none if crowd is None else crowd
    area = xywh[:, 2] * xywh[:, 3] if area is None else area
    order = np.argsort(picture, kind="stable")
    columns = [np.asarray(column)[order] for column in (xyxy, xywh, label, difficult, crowd, area)]
    ends = np.searchsorted(picture[order], np.arange(count + 1)).tolist()
    tags = classes or {}
    spans = [slice(start, end) for start, end in itertools.pairwise(ends)]
    return [
        Truth(
            columns[0][span], columns[1][span], columns[2][span], columns[3][span], columns[4][span], columns[5][span],
            tuple(tags.get(number, ())),
        )
        for number, span in enumerate(spans)
    ]  # fmt: skip


# ---------------------------------------------------------------------- files
class Listing:
    """What lies in folders, each of them looked through once."""

    def __init__(self) -> None:
        self._known: dict[Path, frozenset[str]] = {}

    def names(self, folder: Path) -> frozenset[str]:
        """The names of the regular files right in `folder`; none if there is no such folder."""
        if folder not in self._known:
            try:
                with os.scandir(folder) as entries:
                    self._known[folder] = frozenset(entry.name for entry in entries if entry.is_file())
            except (OSError, ValueError):
                self._known[folder] = frozenset()
        return self._known[folder]

    def has(self, path: Path) -> bool:
        """Whether there is such a regular file."""
        return path.name in self.names(path.parent)

    def picture(self, folder: Path, stem: str) -> Path | None:
        """The picture in `folder` that is called `stem`, with any suffix of a picture, in small letters or large."""
        names = self.names(folder)
        suffixes = (*pictures.SUFFIXES, *(suffix.upper() for suffix in pictures.SUFFIXES))
        return next((folder / (stem + suffix) for suffix in suffixes if stem + suffix in names), None)

    def need(self, path: Path, file: Path, findings: Findings) -> bool:
        """Whether a picture lies at `path`; an error is noted if not. `file` is what names it."""
        if not self.has(path):
            findings.error("missing picture", path, "", f"is not there; {file} names it")
            return False
        return True


def picture_size(path: Path, findings: Findings) -> tuple[int, int] | None:
    """Width and height from the picture's header; None, with an error noted, if it cannot be read."""
    try:
        return pictures.size(path)
    except InputError as problem:
        findings.error("unreadable picture", path, "", str(problem).removeprefix(f"{path}: "))
        return None


def chosen(kind: str, path: Path, asked: str | None, found: Sequence[str]) -> str:
    """The split that was asked for, if it is there, or the only one. Raises DataError naming those there."""
    there = ", ".join(shown(name) for name in list(found)[:12]) + (", ..." if len(found) > 12 else "")
    if asked is None and len(found) == 1:
        return found[0]
    if asked is None:
        raise DataError(f"{path}: holds several {kind}: {there}; say which with split")
    if asked not in found:
        raise DataError(f"{path}: has no split {shown(asked)}{nearest(asked, found)}; there is {there or 'none'}")
    return asked


# ---------------------------------------------------------------------- texts
def read_text(path: Path, limit: int = MAX_BYTES) -> str:
    """A text in UTF-8, with or without a byte-order mark. Raises DataError."""
    try:
        return files.read_bytes(path, limit, DataError).decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise DataError(f"{path}: byte {problem.start:,} is not UTF-8: save it as UTF-8") from None


def read_json(path: Path) -> Any:
    """What a JSON file says. Raises DataError."""
    text = read_text(path)
    try:
        return json.loads(text)
    except json.JSONDecodeError as problem:
        raise DataError(f"{path}:{problem.lineno}: is no JSON: {problem.msg}") from None
    except (ValueError, RecursionError) as problem:         # a number of thousands of digits, a thousand brackets
        raise DataError(f"{path}: is no JSON that can be read here: {str(problem)[:80]}") from None


def read_xml(path: Path) -> ElementTree.Element:
    """The root of an XML file. One that declares a document type is refused: entities can be made to grow without end.

    The text is decoded first, so that no odd encoding hides a declaration. Raises DataError.
    """
    data = files.read_bytes(path, MAX_XML_BYTES, DataError)
    declared = DECLARED.match(data.removeprefix(codecs.BOM_UTF8))
    name = "utf-16" if data[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8"
    if declared is not None and name == "utf-8":
        name = declared[1].decode()
    try:
        name = codecs.lookup(name).name
        text = data.decode("utf-8-sig" if name == "utf-8" else name) if name in ENCODINGS else None
    except (LookupError, UnicodeDecodeError):
        text = None
    if text is None:
        raise DataError(f"{path}: is not {shown(name)} as it says, or that is not read here: save it as UTF-8")
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise DataError(f"{path}: declares a document type or an entity, which is not read: take <!DOCTYPE ...> out")
    try:
        return ElementTree.fromstring(text)  # noqa: S314 - entities are refused above
    except (ElementTree.ParseError, ValueError) as problem:
        raise DataError(f"{path}: is no XML: {problem}") from None


def number(text: object) -> float:
    """A number in a text of a file, or as JSON has it; NaN for anything else, NaN and infinity included."""
    if isinstance(text, bool) or not isinstance(text, str | int | float) or (isinstance(text, str) and "_" in text):
        return math.nan
    try:
        value = float(text)
    except (ValueError, OverflowError):
        return math.nan
    return value if math.isfinite(value) else math.nan


def sizes(width: object, height: object) -> tuple[int, int] | None:
    """Width and height as a file gives them, None if they are none of a picture."""
    values = number(width), number(height)
    if not all(1 <= value <= 1 << 24 and value == int(value) for value in values):
        return None
    return int(values[0]), int(values[1])


def plain(x: float) -> str:
    """A coordinate as text: six places if that is all it has, but for the rounding of sums; else all of them."""
    short = round(x, 6)
    x = short if abs(x - short) < 1e-9 else x
    return str(int(x)) if x == int(x) else repr(x)


def named(path: Path, folder: Path) -> str:
    """How labels written into `folder` name a picture: below its images/, else where it really is."""
    return path.relative_to(folder / "images").as_posix() if path.is_relative_to(folder / "images") else str(path)
