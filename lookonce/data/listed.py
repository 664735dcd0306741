"""Lists of pictures that are splits of a dataset: a text that `data split` writes, one picture a line."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from lookonce.darknet.lists import read_lines
from lookonce.data.dataset import Dataset, Item
from lookonce.data.folder import SPLITS
from lookonce.data.reading import Findings
from lookonce.errors import shown


def is_list(split: str | None) -> bool:
    """Whether a split is the path of a list: a .txt that is there."""
    return split is not None and split.lower().endswith(".txt") and "\0" not in split and Path(split).is_file()


def entry(item: Item) -> str:
    """The line of a picture: its whole path, and in an archive its place there."""
    path = item.path.absolute()
    return str(path) if item.member is None else f"{path}/{item.member}"


def of_list(dataset: Dataset, path: Path) -> Dataset:
    """The pictures of a dataset that a list has, by whole path or by name, in the order of the dataset.

    A line that is none of its pictures, or is there already, is an error among the problems. Raises DataError if the
    list cannot be read.
    """
    findings = Findings()
    index_of = {item.name: index for index, item in reversed(list(enumerate(dataset.items)))}
    index_of |= {entry(item): index for index, item in enumerate(dataset.items)}
    found: set[int] = set()
    for place, line in enumerate(read_lines(path), start=1):
        index = index_of.get(line, index_of.get(line.strip()))
        if index is None and line.strip():
            text = f"{shown(line.strip(), 200)} is no picture of {dataset.path}"
            findings.error("unknown picture", path, f"line {place}", text)
        elif index is not None and index in found:
            findings.error("unreadable list", path, f"line {place}", f"{shown(line.strip(), 200)} is there already")
        elif index is not None:
            found.add(index)
    items = tuple(dataset.items[index] for index in sorted(found))
    return dataclasses.replace(dataset, items=items, problems=(*dataset.problems, *findings()))


def whole(part: Dataset) -> Path | None:
    """What opens the dataset that a part was taken of, so that a list can be its split; None if no path does.

    A split of Open Images is its own table, one of folders its own folder; one in an archive is not by itself.
    """
    first = part.items[0] if part.items else None
    if part.format == "openimages" and first is not None:
        return first.labels
    if part.format != "folder" or first is None:
        return part.path
    if first.member is not None:
        return None if _above(first, Path(first.member)).lower() in SPLITS else part.path
    return first.path.parents[len(Path(first.name).parts) - 1]


def _above(item: Item, member: Path) -> str:
    """The folder in an archive that the class of a picture lies in; nothing at the top."""
    parts = member.parts[: len(member.parts) - len(Path(item.name).parts)]
    return parts[-1] if parts else ""
