"""The parts of a dataset that a network learns from and is judged by: found, chosen, opened, with names that agree."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np

from lookonce.darknet.lists import read_data
from lookonce.data import Dataset, coco, listed, open_dataset, openimages, voc
from lookonce.data.folder import SPLITS, Archive, is_archive
from lookonce.data.opening import recognise
from lookonce.data.reading import Listing, chosen
from lookonce.errors import DataError, shown
from lookonce.truth import Truth

ROLES = {"train": "train", "trainval": "trainval", "val": "val", "valid": "val", "validation": "val", "test": "test"}
PART = re.compile(r"(train|trainval|val|valid|validation|test)[_.-]?\d*", re.IGNORECASE)
NOTHING_JUDGED = "none"          # in place of a part to judge by
NAMED = 5                        # pictures and classes that a message names


class Part(NamedTuple):
    """What opens a part of a dataset."""

    path: Path
    split: str | None


class Choice(NamedTuple):
    """The parts to learn from and to judge by, by name, None for the whole; and that in words."""

    learnt: tuple[str | None, ...]
    judging: tuple[str, ...]
    rule: str


def find_parts(path: Path, format: str | None) -> dict[str, Part]:
    """The parts of a dataset that are called train, val, test and the like, by their own names."""
    places = _called_so(path) if format in (None, "folder") else []
    if places and not _is_whole(path, places):
        return {place.stem: Part(place, None) for place in places}
    kind = format if format is not None else recognise(path)
    found: Iterable[str] = ()
    if kind == "voc" and path.is_dir():
        found = voc.lists_of(path)
    elif kind == "coco" and path.is_dir():
        found = coco.found_in(path)
    elif kind == "darknet":
        data = [path] if path.suffix.lower() == ".data" else sorted(path.glob("*.data")) if path.is_dir() else []
        if len(data) == 1:
            found = read_data(data[0]).values
        elif path.is_dir():
            folders = [place for below in ("images", "JPEGImages") for place in (path / below).glob("*/")]
            found = [place.name for place in (*folders, *(below.parent for below in path.glob("*/images/")))]
    elif kind == "openimages" and path.is_dir():
        tables = [name.lower() for name in Listing().names(path)]
        found = [split for split in openimages.SPLITS if any(split in name for name in tables)]
    elif kind == "folder":
        found = _tops(path) if path.is_file() else [place.name for place in places]
    return {name: Part(path, name) for name in found if PART.fullmatch(name)}


def _called_so(path: Path) -> list[Path]:
    """The folders and archives right in a folder that are called like a part; no folders if others lie there too.

    Trains are a class of things, and then its folder lies beside those of cars and ships.
    """
    if not path.is_dir():
        return []
    inside = sorted(place for place in path.iterdir() if not place.name.startswith("."))
    folders = [place for place in inside if place.is_dir()]
    named = [place for place in inside if PART.fullmatch(place.stem) and not place.is_dir() and is_archive(place)]
    return named + (folders if all(PART.fullmatch(place.name) for place in folders) else [])


def _is_whole(path: Path, places: Sequence[Path]) -> bool:
    """Whether a folder with such parts in it is one dataset to its reader, which then knows them as splits."""
    try:
        if recognise(path) != "folder":
            return True
        return all(place.name.lower() in SPLITS and recognise(place) == "folder" for place in places)
    except DataError:
        return False


def _tops(path: Path) -> list[str]:
    """The folders in an archive that data.folder takes for splits: those below the ones that hold all, if all are."""
    with Archive(path) as archive:
        tree = [PurePosixPath(name).parts for name in archive.names()]
    depth = 0
    while tree and all(len(parts) > depth + 2 and parts[depth] == tree[0][depth] for parts in tree):
        depth += 1
    tops = sorted({parts[depth] for parts in tree if len(parts) > depth + 1})
    return tops if all(top.lower() in SPLITS for top in tops) else []


def choose(
    path: Path, parts: Mapping[str, Part], split: str | None, val_split: str | None, val: str | Path | None
) -> Choice:
    """The parts that were asked for; where none was, by the rule of `datasets.open_for_training`. Raises DataError."""
    learnt: tuple[str | None, ...]
    if split is not None:
        learnt = tuple(_asked(parts, split))
    else:
        learnt = (_of_role(path, parts, "train") or _of_role(path, parts, "trainval"),)
        if parts and learnt == (None,):
            raise DataError(f"{path}: has {some(sorted(parts))}, and no part for train; say which to learn with split")
    judging: tuple[str, ...] = ()
    if val is None and val_split not in (None, NOTHING_JUDGED):
        judging = tuple(_asked(parts, str(val_split)))
    elif val is None and val_split is None and any(learnt):
        roles = {_role(name or "") for name in learnt}
        roles |= {"train", "val"} if "trainval" in roles else set()
        free = [_of_role(path, parts, role) for role in ("val", "test") if role not in roles]
        judging = tuple(name for name in free if name)[:1]
    rule = f"learns {'+'.join(name or 'all' for name in learnt)}"
    if val is not None or judging:
        rule += f", judged by {'+'.join(judging) if judging else shown(str(val), 80)}"
    unused = [name for name in parts if _role(name) == "test" and name not in (*learnt, *judging)]
    return Choice(learnt, judging, rule + (f"; {some(unused)} is not looked at" if unused else ""))


def _role(name: str) -> str | None:
    match = PART.fullmatch(name)
    return ROLES[match[1].lower()] if match else None


def _of_role(path: Path, parts: Mapping[str, Part], role: str) -> str | None:
    """The part that is called so; if there are several, the one that is called just so. Raises DataError."""
    found = [name for name in parts if _role(name) == role]
    found = [name for name in found if name in ROLES] or found
    if len(found) > 1:
        raise DataError(f"{path}: has several parts for {role}: {', '.join(sorted(found))}; say which with split")
    return found[0] if found else None


def _asked(parts: Mapping[str, Part], asked: str) -> Iterator[str]:
    """The parts that `asked` names, joined by +; train means train2017 where there is one such."""
    for name in [asked] if listed.is_list(asked) else asked.split("+"):
        like = [part for part in parts if _role(part) == name]
        yield like[0] if name not in parts and len(like) == 1 else name


def open_part(
    path: Path,
    name: str | None,
    parts: Mapping[str, Part],
    format: str | None,
    names: Sequence[str] | str | Path | None,
) -> Dataset:
    """One part. Raises DataError."""
    separate = any(part.split is None for part in parts.values())
    if name is not None and separate and not listed.is_list(name):
        name = chosen("parts", path, name, sorted(parts))
    part = parts.get(name or "", Part(path, name))
    return open_dataset(part.path, split=part.split, format=format, names=names, lenient=True)


# ---------------------------------------------------------------------- names
def joined(parts: Sequence[Dataset], path: Path) -> Dataset:
    """Several parts as one. Raises DataError if their names do not go together."""
    first = parts[0]
    for part in parts[1:]:
        first, other = same_names(first, part)
        problems = (*first.problems, *(problem for problem in other.problems if problem not in first.problems))
        first = dataclasses.replace(first, path=path, items=first.items + other.items, problems=problems)
    return first


def same_names(one: Dataset, other: Dataset) -> tuple[Dataset, Dataset]:
    """Both with the names of the first. Raises DataError for a class that only the other has.

    Darknet's files hold numbers, so there the lists of names must be one; without any the longer row of numbers holds.
    """
    if one.names == other.names:
        return one, other
    if one.format == other.format == "darknet":
        if all(any(each.kind == "no names" for each in part.problems) for part in (one, other)):
            names = max(one.names, other.names, key=len)
            return dataclasses.replace(one, names=names), dataclasses.replace(other, names=names)
        at = next((i for i, pair in enumerate(zip(one.names, other.names, strict=False)) if pair[0] != pair[1]), None)
        differ = f"there are {len(one.names)} and {len(other.names)}"
        if at is not None:
            differ = f"class {at} is {shown(one.names[at])} and {shown(other.names[at])}"
        raise DataError(f"{other.path}: has other names than {one.path}: {differ}; wanted one list of names for both")
    used = sorted({label for item in other.items for label in (*item.truth.label.tolist(), *item.truth.classes)})
    place = {name: number for number, name in reversed(list(enumerate(one.names)))}
    odd = [other.names[label] for label in used if other.names[label] not in place]
    if odd:
        raise DataError(
            f"{other.path}: {some(odd)} {'is' if len(odd) == 1 else 'are'} not among the {len(one.names)} names of "
            f"{one.path}; give both the same names"
        )
    number = np.array([place.get(name, -1) for name in other.names], np.int64)
    items = tuple(item._replace(truth=_renumbered(item.truth, number)) for item in other.items)
    ids = dict(zip(other.names, other.numbers, strict=False))
    numbers = tuple(ids.get(name, -1) for name in one.names) if ids else ()
    above = one.above if one.above else ()
    return one, dataclasses.replace(other, names=one.names, items=items, numbers=numbers, above=above)


def _renumbered(truth: Truth, number: np.ndarray) -> Truth:
    classes = tuple(int(number[label]) for label in truth.classes)
    return dataclasses.replace(truth, label=number[truth.label], classes=classes)


def some(names: Sequence[str]) -> str:
    """The first few of them."""
    more = f" and {len(names) - NAMED:,} more" if len(names) > NAMED else ""
    return ", ".join(shown(name) for name in names[:NAMED]) + more
