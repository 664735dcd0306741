"""What is learnt from and what it is judged by: the parts of a dataset, checked, and what cannot be learnt left out."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from lookonce import files
from lookonce.data import Dataset, Item, Problem, listed, open_dataset, voc
from lookonce.data.check import check
from lookonce.data.split import split as split_dataset
from lookonce.data.views import Progress, digests_of, where
from lookonce.errors import DataError, shown, warn
from lookonce.network import Network
from lookonce.train.parts import NOTHING_JUDGED, choose, find_parts, joined, open_part, same_names, some
from lookonce.truth import Truth
from lookonce.wordtree import Subset, WordTree

SMALL_SET = 1000                 # pictures below which a fifth is set apart, from which on a tenth
LEAST_SET = 5                    # pictures below which none are
LEAST_SIDE = 1.0                 # pixels: a box with a side of no more has nothing to learn from


@dataclass(frozen=True)
class TrainingData:
    """What a network learns from and is judged by; labels of both number the same `names`.

    `val` is None if nothing judges. `left_out` lists the pictures and boxes that are in the files and not in `train`
    or `val`, `found` everything that reading and checking found. `rule` says in a line how the parts were chosen;
    `set_apart` that `val` is no part of the files' own but was drawn.

    Several datasets learnt together have `weights`, what is drawn of each. Where classes are nodes of a `tree`, `val`
    keeps its own names, and `judged` says which nodes these are.
    """

    train: Dataset
    val: Dataset | None
    names: tuple[str, ...]
    left_out: tuple[Problem, ...] = ()
    found: tuple[Problem, ...] = ()
    rule: str = ""
    set_apart: bool = False
    weights: tuple[float, ...] = ()
    tree: WordTree | None = None
    judged: Subset | None = None

    @cached_property
    def boxed(self) -> tuple[str, ...]:
        """The classes that are learnt from boxes, of a tree by id, if others are learnt without; else none."""
        if not any(item.truth.classes and not len(item.truth) for item in self.train.items):
            return ()
        found = {int(label) for item in self.train.items for label in item.truth.label}
        names = self.names if self.tree is None else self.tree.ids
        return tuple(names[label] for label in sorted(found))

    @property
    def shares(self) -> tuple[tuple[int, float], ...]:
        """What is drawn of each part of `train`, as the sampler takes it; empty if it is of one dataset."""
        return tuple(zip(self.train.parts, self.weights, strict=True))


def open_for_training(
    path: str | Path,
    *,
    split: str | None = None,
    val_split: str | None = None,
    val: str | Path | None = None,
    format: str | None = None,
    names: Sequence[str] | str | Path | None = None,
    skip_bad: bool = False,
    difficult: bool = False,
    checked: bool = True,
    seed: int = 0,
    progress: Progress | None = None,
) -> TrainingData:
    """A dataset of any form that `open_dataset` reads, in the part that is learnt from and the part that judges.

    `split` is the first, `train+val` for several together; otherwise it is the part called train, or trainval, or the
    whole. `val_split` is the second, or `none`; otherwise the part called val, or else test, if it is not in the first;
    otherwise a share of the first is set apart, drawn by `seed`, each class alike. `val` is another dataset to judge
    by. A part is a list of VOC's, a file of COCO's, a list of a .data file, or a folder, archive or file in `path` that
    is called so, numbers after the word not counted (train2017).

    Every picture is opened, unless not `checked`. Errors (data.check) stop, or with `skip_bad` leave their pictures out
    of both parts. Boxes with a side of at most a pixel, crowds and, unless wanted, `difficult` objects are not learnt.
    No file is changed. Raises DataError, also if nothing is left to learn, or names of the parts do not go together.
    """
    path = Path(path)
    parts = find_parts(path, format)
    learnt, judging, rule = choose(path, parts, split, val_split, val)
    train = joined([open_part(path, part, parts, format, names) for part in learnt], path)
    judge = None if val is None else open_dataset(val, split=val_split, names=names, lenient=True)
    if judging:
        judge = joined([open_part(path, part, parts, format, names) for part in judging], path)
    if judge is not None:
        train, judge = same_names(train, judge)
    found: list[Problem] = []
    left_out: list[Problem] = []
    whole = [train] if judge is None else [train, judge]
    for number, dataset in enumerate(whole):
        problems = check(dataset, progress).problems if checked else dataset.problems
        errors = [problem for problem in problems if problem.is_error]
        found += problems
        if skip_bad:
            whole[number] = _without(dataset, errors)
            left_out += errors
    if not skip_bad:
        _refuse([problem for problem in found if problem.is_error], path)
    train, judge = whole[0], whole[1] if len(whole) > 1 else None
    set_apart = judge is None and val_split != NOTHING_JUDGED and len(train) >= LEAST_SET
    if set_apart:
        share = 0.2 if len(train) < SMALL_SET else 0.1
        drawn = split_dataset(train, {"train": 1 - share, "val": share}, seed, progress)
        train, judge = drawn["train"], drawn["val"]
        if not len(judge):
            raise DataError(
                f"{path}: its {len(train):,} pictures are all the same, so none can be set apart to judge: give others "
                "with --val, or `--val-split none` learns without"
            )
        rule += f"; {share:.0%} of its pictures, drawn by seed {seed}, are set apart to judge"
    elif judge is not None:
        found += _in_both(train, judge)
    train, flat, skipped = _learnable(train, difficult)
    _refuse_nothing(train)
    counts = f"{len(train):,} pictures to learn from, {len(judge) if judge else 0:,} to judge by"
    notes = [f"{count:,} {kind} objects are not learnt" for kind, count in skipped.items() if count]
    if flat:
        notes.append(f"{len(flat):,} boxes without area are left out")
    if empty := sum(not len(item.truth) and not item.truth.classes for item in train.items):
        notes.append(f"{empty:,} pictures without an object are learnt as such")
    _warn_of_classes(train)
    left_out += flat
    return TrainingData(
        train, judge, train.names, tuple(left_out), tuple(found), "; ".join([rule, counts, *notes]), set_apart
    )


def check_kind(data: TrainingData, network: Network) -> None:
    """Raise DataError, in one line, if the truths are not of the kind that this network learns."""
    items, path = data.train.items, data.train.path
    boxes = any(len(item.truth) for item in items)
    if network.kind == "detector" and not boxes:
        raise DataError(
            f"{path}: says what its pictures show, not where: {network.cfg.path} is a detector and learns from boxes; "
            "wanted a classifier, such as darknet19"
        )
    if network.kind == "classifier":
        several = [item for item in items if len(item.truth.classes) != 1]
        if boxes and len(several) == len(items):
            raise DataError(
                f"{path}: says where things are, in boxes: {network.cfg.path} is a classifier and learns one class a "
                "picture; wanted a detector, such as yolov3-tiny"
            )
        if several:
            item = several[0]
            raise DataError(
                f"{where(item)}: has {len(item.truth.classes)} classes, and so have {len(several) - 1:,} more pictures "
                f"not one: {network.cfg.path} learns one class a picture"
            )


def check_suits(data: TrainingData, network: Network) -> None:
    """Raise DataError, in one line, if this network cannot learn the data as its cfg now is."""
    check_kind(data, network)
    if network.classes != len(data.names):
        raise DataError(
            f"{data.train.path}: has {len(data.names)} classes, {network.cfg.path} {network.classes}; wanted as many: "
            "adapt the cfg, or give the names"
        )
    if len(data.train) < network.options.batch:
        raise DataError(
            f"{data.train.path}: has {len(data.train)} pictures to learn from, fewer than "
            f"batch={network.options.batch} of {network.cfg.path}; wanted a batch of at most {len(data.train)}"
        )


def write_lists(data: TrainingData, folder: Path) -> list[Path]:
    """Write which pictures are in each part, train.txt and val.txt, and left-out.txt, a line each; for people to read.

    A list of pictures also opens that part again, as a split. Files that are there are replaced. Raises DataError.
    """
    texts = {"train.txt": _entries(data.train)}
    if data.val is not None:
        texts["val.txt"] = _entries(data.val)
    if data.left_out:
        texts["left-out.txt"] = [str(problem) for problem in data.left_out]
    files.make_folder(folder)
    for name, lines in texts.items():
        with files.write_atomically(folder / name) as file:
            file.write("".join(f"{line}\n" for line in lines).encode("utf-8", "surrogateescape"))
    return [folder / name for name in texts]


def _entries(dataset: Dataset) -> list[str]:
    plain = dataset.format == "voc" and not dataset.parts
    return [item.name if plain else listed.entry(item) for item in dataset.items]


# ---------------------------------------------------------------------- what is wrong
def _refuse(errors: Sequence[Problem], path: Path) -> None:
    """Raise DataError if there are errors: the first, and how many."""
    if errors:
        more = f", and {len(errors) - 1:,} more errors" if len(errors) > 1 else ""
        raise DataError(
            f"{shown(str(errors[0]), 1000)}{more}: nothing is learnt from such data; "
            f"`lookonce data check {path}` lists all, and --skip-bad leaves their pictures out"
        )


def _without(dataset: Dataset, errors: Sequence[Problem]) -> Dataset:
    """The dataset without the pictures that errors are about, found by their file, or their place in a shared one.

    What is about no picture (a missing list, an annotation of none) was left out in reading.
    """
    shared = Counter(item.labels for item in dataset.items)
    files_ = {problem.file for problem in errors}
    places = {(problem.file, problem.place) for problem in errors}
    numbered = {(problem.file, problem.place.partition(", object")[0]) for problem in errors}

    def is_bad(item: Item) -> bool:
        if (item.path, item.member or "") in places:
            return True
        if shared[item.labels] > 1:
            return (item.labels, f"picture {item.name}") in numbered
        return item.labels in files_

    return dataclasses.replace(dataset, items=tuple(item for item in dataset.items if not is_bad(item)))


def _in_both(train: Dataset, val: Dataset) -> list[Problem]:
    """The pictures that are in both parts, by path or by their bytes, of which only those of equal length are read."""
    lengths = [[_length(item) for item in part.items] for part in (train, val)]
    both = set(lengths[0]) & set(lengths[1])
    seen: dict[object, Item] = {}
    found: list[Problem] = []
    for part, sizes in zip((train, val), lengths, strict=True):
        items = tuple(item for item, size in zip(part.items, sizes, strict=True) if size is None or size in both)
        digests = digests_of(dataclasses.replace(part, items=items))
        for item, digest in zip(items, digests, strict=True):
            if part is train:
                seen.setdefault(digest or where(item), item)
            elif twin := seen.get(digest or where(item)):
                text = f"is learnt from and judged by: it is {where(twin)}"
                found.append(Problem("picture in both parts", item.path, item.member or "", text, False))
    if found:
        warn(
            f"{val.path}: {len(found):,} of the {len(val):,} pictures that judge are learnt from too, so figures will "
            f"flatter: {some([str(each.file.name) for each in found])}"
        )
    return found


def _length(item: Item) -> int | None:
    """How many bytes a picture's file has, None in an archive."""
    if item.member is not None:
        return None
    try:
        return item.path.stat().st_size
    except OSError:
        return -1


def _learnable(train: Dataset, difficult: bool) -> tuple[Dataset, list[Problem], dict[str, int]]:
    """The part without what is no object to learn; boxes without area by name, the others counted."""
    flat: list[Problem] = []
    skipped = {"crowd": 0, "difficult": 0}
    items = []
    for item in train.items:
        truth = item.truth
        sides = truth.xywh[:, 2:]
        empty = ~(sides > LEAST_SIDE).all(axis=1)
        for row in np.flatnonzero(empty).tolist():
            text = f"{shown(train.names[truth.label[row]])} of {sides[row, 0]:g} x {sides[row, 1]:g} pixels is left out"
            flat.append(Problem("box without area", item.labels or item.path, f"object {row + 1}", text, False))
        hard = truth.difficult & ~empty & ~truth.crowd & (not difficult)
        skipped["crowd"] += int((truth.crowd & ~empty).sum())
        skipped["difficult"] += int(hard.sum())
        keep = ~(empty | truth.crowd | hard)
        items.append(item if keep.all() else item._replace(truth=_kept(truth, keep)))
    return dataclasses.replace(train, items=tuple(items)), flat, skipped


def _kept(truth: Truth, keep: np.ndarray) -> Truth:
    columns = ("xyxy", "xywh", "label", "difficult", "crowd", "area")
    return dataclasses.replace(truth, **{name: getattr(truth, name)[keep] for name in columns})


def _refuse_nothing(train: Dataset) -> None:
    """Raise DataError if no picture says anything."""
    if not train.items:
        raise DataError(f"{train.path}: no picture is left to learn from")
    if not any(len(item.truth) or item.truth.classes for item in train.items):
        raise DataError(
            f"{train.path}: none of the {len(train):,} pictures to learn from has an object or a class; "
            f"`lookonce data check {train.path}` says what was read"
        )


def _warn_of_classes(train: Dataset) -> None:
    used = {label for item in train.items for label in (*item.truth.label.tolist(), *item.truth.classes)}
    idle = [name for number, name in enumerate(train.names) if number not in used]
    if idle:
        hint = "; these are VOC's: give the names to learn only those" if train.names == voc.NAMES else ""
        count = f"{len(idle)} of {len(train.names)} classes have"
        warn(f"{train.path}: {count} no object to learn from: {some(idle)}{hint}")
