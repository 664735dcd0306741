"""What is wrong with a dataset: every picture opened, every box looked at. Nothing is written, nothing left out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lookonce import files, pictures
from lookonce.boxes import iou
from lookonce.darknet.lists import read_lines
from lookonce.data import voc
from lookonce.data.dataset import Dataset, Item, Problem
from lookonce.data.views import Progress, View, each, look_at, where
from lookonce.errors import DataError, shown

TINY = 2                         # pixels: a box with a shorter side is hardly meant
EDGE = 0.5                       # pixels that a box may reach over the picture's edge, by rounding
SAME = 0.99                      # IOU from which on two boxes of a class are taken for one
NEIGHBOURS = 256                 # of the boxes that begin at the same place so many are compared with each
# Kinds of which reading, if it names one in a file, names all.
ONCE = ("missing picture", "unreadable picture", "picture without labels", "box without area")
MAX_LABELS = 16 << 20            # bytes of a label file whose lines are counted


@dataclass(frozen=True)
class Findings:
    """Everything that was found in a dataset of so many pictures and objects: by reading its files, then by checking.

    `classes` is how many classes pictures as a whole have.
    Sorted: errors first, each kind together, in the order of the dataset.
    """

    path: Path
    format: str
    pictures: int
    objects: int
    problems: tuple[Problem, ...]
    classes: int = 0

    @property
    def errors(self) -> int:
        return sum(problem.is_error for problem in self.problems)

    @property
    def warnings(self) -> int:
        return len(self.problems) - self.errors

    def counts(self) -> dict[str, int]:
        """How many of each kind, in the order of `problems`."""
        return dict(Counter(problem.kind for problem in self.problems))

    def json(self) -> dict[str, Any]:
        """The findings as JSON has them; paths as they were opened."""
        rows = [
            {"kind": kind, "severity": "error" if is_error else "warning", "file": str(file), "place": place,
             "text": text}
            for kind, file, place, text, is_error in self.problems
        ]  # fmt: skip
        return {
            "dataset": str(self.path), "format": self.format, "pictures": self.pictures, "objects": self.objects,
            "classes_of_pictures": self.classes,
            "errors": self.errors, "warnings": self.warnings, "counts": self.counts(), "problems": rows,
        }  # fmt: skip


def check(dataset: Dataset, progress: Progress | None = None) -> Findings:
    """Open every picture of a dataset and look at every box; `progress` is told how many are done, and of how many.

    An error makes figures untrue: a picture that is missing, unreadable or cut off, another size than the labels say,
    a box outside its picture or with sides that are no lengths. A warning may be meant: a box over the edge, without
    area, tiny or there twice, equal pictures, pictures without labels and labels without picture, classes without
    objects. `dataset.problems`, what reading found, comes along.
    """
    views = list(each(dataset.items, look_at, progress))
    sizes = [item.size if view.size is None else view.size for item, view in zip(dataset.items, views, strict=True)]
    ours = [*_of_pictures(dataset, views), *_of_boxes(dataset, sizes), *_of_files(dataset), *_of_classes(dataset),
            *_of_lists(dataset)]
    found = [*dataset.problems, *_unsaid(ours, dataset)]
    first = {kind: number for number, kind in reversed(list(enumerate(problem.kind for problem in found)))}
    found.sort(key=lambda problem: (not problem.is_error, first[problem.kind]))
    objects = sum(len(item.truth) for item in dataset.items)
    classes = len({label for item in dataset.items for label in item.truth.classes})
    return Findings(dataset.path, dataset.format, len(dataset), objects, tuple(found), classes)


def _unsaid(found: Iterable[Problem], dataset: Dataset) -> Iterator[Problem]:
    """What reading did not say already, of the same file or the same object."""
    said = {(problem.kind, problem.file) for problem in dataset.problems}
    flat = {(problem.file, problem.place) for problem in dataset.problems if problem.kind == "box without area"}
    for problem in found:
        if problem.kind == "tiny box":                       # a pixel, which VOC writes as no width at all
            is_said = (problem.file, problem.place) in flat
        else:
            is_said = problem.kind in ONCE and (problem.kind, problem.file) in said
        if not is_said:
            yield problem


# ---------------------------------------------------------------------- pictures
def _of_pictures(dataset: Dataset, views: Sequence[View]) -> Iterator[Problem]:
    first: dict[bytes, Item] = {}
    for item, view in zip(dataset.items, views, strict=True):
        place = item.member or ""
        if view.kind:
            named = f"is not there; {item.labels or dataset.path} names it"
            yield Problem(view.kind, item.path, place, named if view.kind == "missing picture" else view.text, True)
        if view.size is not None and item.size is not None and item.size != view.size:
            yield _another_size(item, view)
        if not view.digest:
            continue
        twin = first.setdefault(view.digest, item)
        if twin is item:
            continue
        if (twin.path, twin.member) == (item.path, item.member):
            yield Problem("picture named twice", item.path, place, f"is {item.name} and {twin.name}", False)
        else:
            yield Problem("equal pictures", item.path, place, f"is byte for byte {where(twin)}", False)


def _another_size(item: Item, view: View) -> Problem:
    (w, h), (width, height) = item.size or (0, 0), view.size or (0, 0)
    turned = " as its EXIF turns it; the labels are of the picture before that" if view.stored == (w, h) else ""
    file = item.labels or item.path
    place = "size" if file.stem == item.path.stem else f"picture {item.name}"
    text = f"says {w} x {h}, but {where(item)} is {width} x {height}{turned}"
    return Problem("size of another picture", file, place, text, True)


# ---------------------------------------------------------------------- boxes
def _of_boxes(dataset: Dataset, sizes: Sequence[tuple[int, int] | None]) -> Iterator[Problem]:
    """Every object of the dataset at once; words are made only for those that something is wrong with."""
    counts = [len(item.truth) for item in dataset.items]
    if not sum(counts):
        return
    xyxy = np.concatenate([item.truth.xyxy for item in dataset.items])                    # (M, 4)
    label = np.concatenate([item.truth.label for item in dataset.items])
    owner = np.repeat(np.arange(len(counts)), counts)                                     # (M,) each one's picture
    row = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    limit = np.array([size or (np.inf, np.inf) for size in sizes], np.float64)[owner]     # (M, 2)

    is_number = np.isfinite(xyxy).all(axis=1)
    xyxy = np.where(is_number[:, None], xyxy, 0)                                          # so that nothing below warns
    side = xyxy[:, 2:] - xyxy[:, :2]                                                      # (M, 2)
    reversed_ = is_number & (side < 0).any(axis=1)
    sound = is_number & ~reversed_
    empty = sound & (side == 0).any(axis=1)
    tiny = sound & ~empty & (side < TINY).any(axis=1)
    gone = sound & ((xyxy[:, :2] >= limit) | (xyxy[:, 2:] < 0) | ((xyxy[:, 2:] == 0) & (side > 0))).any(axis=1)
    over = sound & ~gone & ((xyxy[:, :2] < -EDGE) | (xyxy[:, 2:] > limit + EDGE)).any(axis=1)
    unnamed = (label < 0) | (label >= len(dataset.names))
    twin = _twins(xyxy, owner * (len(dataset.names) + 1) + label.clip(0, len(dataset.names)), sound)

    places = _Places(dataset)

    def problem(kind: str, found: int, is_error: bool, said: str) -> Problem:
        item, number = dataset.items[owner[found]], int(row[found])
        text = f"{_as_text(item, number, dataset.names)} {said}"
        return Problem(kind, item.labels or item.path, places.of(item, number), text, is_error)

    for kind, rows, is_error, said in (
        ("box of no numbers", ~is_number, True, "has a corner that is no number"),
        ("reversed box", reversed_, True, "has its right before its left, or its bottom above its top"),
        ("class without name", unnamed, True, f"is of a class beyond the {len(dataset.names)} names"),
        ("box outside the picture", gone, True, "lies wholly outside the picture, {}"),
        ("box over the edge", over, False, "reaches over the edge of the picture, {}"),
        ("box without area", empty, False, "has no area"),
        ("tiny box", tiny, False, f"has a side of less than {TINY} pixels"),
    ):
        for found in np.nonzero(rows)[0].tolist():
            size = sizes[owner[found]] or ("?", "?")
            yield problem(kind, found, is_error, said.format(f"{size[0]} x {size[1]}"))
    for found in np.nonzero(twin >= 0)[0].tolist():
        other = places.of(dataset.items[owner[found]], int(row[twin[found]]))
        yield problem("box there twice", found, False, f"is there already: {other}")


def _twins(xyxy: np.ndarray, group: np.ndarray, sound: np.ndarray) -> np.ndarray:
    """For each box (M,) the number of one in its group, a class of a picture, that is the same; -1 if there is none.

    Sorted by group and left edge each is compared with its neighbours, all pairs of one distance at once: boxes that
    overlap by SAME begin within 1 - SAME of their width.
    """
    twin = np.full(len(xyxy), -1)
    order = np.nonzero(sound)[0]
    order = order[np.lexsort((xyxy[order, 3], xyxy[order, 2], xyxy[order, 1], xyxy[order, 0], group[order]))]
    for step in range(1, NEIGHBOURS):
        one, other = order[:-step], order[step:]
        width = np.maximum(xyxy[one, 2] - xyxy[one, 0], xyxy[other, 2] - xyxy[other, 0])
        near = (group[one] == group[other]) & (xyxy[other, 0] - xyxy[one, 0] <= (1 - SAME) * width)
        if not near.any():
            break
        one, other = one[near], other[near]
        equal = (xyxy[one] == xyxy[other]).all(axis=1) | (iou(xyxy[one], xyxy[other]) > SAME)
        early, late = np.minimum(one, other)[equal], np.maximum(one, other)[equal]
        twin[late] = np.where(twin[late] < 0, early, twin[late])
        order = order[twin[order] < 0]
    return twin


def _as_text(item: Item, row: int, names: Sequence[str]) -> str:
    """`dog 12 30 12 44`: an object's class and corners in pixels from 0."""
    label = int(item.truth.label[row])
    name = names[label] if 0 <= label < len(names) else f"class {label}"
    return f"{shown(name)} {' '.join(f'{x:.6g}' for x in item.truth.xyxy[row])}"


class _Places:
    """Where an object stands in its file of labels: the line of a text, otherwise the number of the object.

    What reading left out has no row in a Truth, so its place is skipped.
    """

    def __init__(self, dataset: Dataset) -> None:
        shared = Counter(item.labels for item in dataset.items)
        self._is_shared = {path for path, count in shared.items() if count > 1}
        self._left_out: dict[Path, set[str]] = {}
        for problem in dataset.problems:
            if problem.is_error:
                self._left_out.setdefault(problem.file, set()).add(problem.place)
        self._known: dict[Path, list[str]] = {}

    def of(self, item: Item, row: int) -> str:
        path = item.labels
        if path is None:
            return f"object {row + 1}"
        if path in self._is_shared or path.suffix.lower() == ".json":
            return f"picture {item.name}, object {row + 1}"
        if path not in self._known:
            lines = [f"line {number}" for number in _lines_in_use(path)] if path.suffix.lower() == ".txt" else []
            left_out = self._left_out.get(path, set())
            objects = [f"object {number}" for number in range(1, len(item.truth) + len(left_out) + 1)]
            self._known[path] = [place for place in lines or objects if place not in left_out]
        return self._known[path][row] if row < len(self._known[path]) else f"object {row + 1}"


def _lines_in_use(path: Path) -> list[int]:
    """The numbers of the lines that hold something."""
    try:
        text = files.read_bytes(path, MAX_LABELS, DataError)
    except DataError:
        return []
    return [number for number, line in enumerate(text.splitlines(), start=1) if line.strip()]


# ---------------------------------------------------------------------- files and classes
def _of_files(dataset: Dataset) -> Iterator[Problem]:
    """Pictures that have no labels, and labels that have no picture, among the files beside those of the dataset."""
    for item in dataset.items:
        if item.labels is None and not item.truth.classes and dataset.format != "folder":
            yield Problem("picture without labels", item.path, item.member or "", "has no file of labels", False)
    lone = [item for item in dataset.items if item.member is None]
    own = [item.labels for item in lone if item.labels is not None and item.labels.stem == item.path.stem]
    folders, suffixes = {path.parent for path in own}, {path.suffix for path in own}
    seen = {item.path.resolve() for item in lone}
    stems = {item.path.stem for item in lone}
    pictures_ = list(_inside({item.path.parent for item in lone}, pictures.SUFFIXES))
    labels = list(_inside(folders, suffixes))
    # By another split of the same folder; and of some reading has said what is wrong.
    labelled = {path.stem for path in labels} | {problem.file.stem for problem in dataset.problems}
    labelled |= _listed(dataset).keys()
    for path in pictures_:
        if path.resolve() not in seen and path.stem not in labelled:
            yield Problem("picture without labels", path, "", "lies among the pictures, but nothing names it", False)
    stems |= {path.stem for path in pictures_}
    for path in labels:
        if path.stem not in stems and _is_labels(path):
            yield Problem("labels without picture", path, "", "no picture is called so", False)


def _of_lists(dataset: Dataset) -> Iterator[Problem]:
    """What lists of VOC name without an annotation, each once, if all of the dataset was opened and not one of them."""
    labels = dataset.path / "Annotations"
    there = {path.stem for path in _inside([labels], [".xml"])}
    seen = {item.labels.stem for item in dataset.items if item.labels} | {each.file.stem for each in dataset.problems}
    if not there <= seen:
        return
    said = {problem.file for problem in dataset.problems if problem.kind == "missing labels"}
    for id, (path, line) in _listed(dataset).items():
        if id not in there and labels / f"{id}.xml" not in said:
            yield Problem("missing labels", path, f"line {line}", f"Annotations/{shown(id)}.xml is not there", True)


def _listed(dataset: Dataset) -> dict[str, tuple[Path, int]]:
    """Each picture that a list of VOC names, with the first such list and line; lists of one class come last."""
    found: dict[str, tuple[Path, int]] = {}
    there = voc.lists_of(dataset.path) if dataset.format == "voc" else {}
    of_class = {name for name in there if "_" in name and name.rpartition("_")[2] in there}
    for name in sorted(there, key=lambda name: (name in of_class, name)):
        try:
            lines = read_lines(there[name])
        except DataError:
            continue
        for number, line in enumerate(lines, start=1):
            if line.strip():
                found.setdefault(line.split()[0], (there[name], number))
    return found


def _inside(folders: Iterable[Path], suffixes: Iterable[str]) -> Iterator[Path]:
    wanted = {suffix.lower() for suffix in suffixes}
    for folder in sorted(folders):
        if folder.is_dir():
            yield from sorted(path for path in folder.iterdir() if path.suffix.lower() in wanted and path.is_file())


def _is_labels(path: Path) -> bool:
    """Whether a file holds labels: among pictures there may be a .txt of names, or a list."""
    if path.suffix.lower() != ".txt":
        return True
    try:
        data = files.read_bytes(path, MAX_LABELS, DataError)
    except DataError:
        return False
    return not data.strip() or re.match(rb"\s*\d+(\s+[-+.\deE]+){4}\s*(\n|$)", data) is not None


def _of_classes(dataset: Dataset) -> Iterator[Problem]:
    if dataset.format == "voc" and dataset.names == voc.NAMES:
        return                                               # no file of the dataset's says that there should be these
    used = {label for item in dataset.items for label in (*item.truth.label.tolist(), *item.truth.classes)}
    said = {problem.place for problem in dataset.problems if problem.kind == "empty class"}
    idle = [shown(name) for number, name in enumerate(dataset.names) if number not in used]
    idle = [name for name in idle if f"folder {name}" not in said]
    if idle:
        text = f"{len(idle):,} of {len(dataset.names):,} classes have no object: {', '.join(idle)}"
        yield Problem("class without objects", dataset.path, "", text, False)
