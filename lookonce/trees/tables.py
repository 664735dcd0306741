"""Graphs of concepts from tables of child and parent, and from the hierarchy of Open Images."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lookonce.data.reading import read_json, read_text
from lookonce.errors import DataError, shown
from lookonce.trees.concepts import Concepts, senses_of

HEAD = ("child", "parent")
LONGEST = 100_000                # characters of an id or a name


def one_word(text: str) -> str:
    """`text` as an id: a tree file has a blank between the columns."""
    return "_".join(text.split())


def read_pairs(path: Path) -> Concepts:
    """A CSV of rows `child,parent`, or `child,parent,name` with the child's display name.

    The parent is empty at a root; one that is never a child is a root too. A child may have several rows, one for each
    parent. A first row `child,parent` is the head. Concepts come in the order in which they are named first. Blanks in
    an id become underscores, and what stood there is the display name. Raises DataError, with the line.
    """
    names: dict[str, str] = {}
    above: dict[str, list[str]] = {}
    called: set[str] = set()  # those that a third column names
    reader = csv.reader(io.StringIO(read_text(path)))
    try:
        for row in reader:
            where = f"{path}:{reader.line_num}"
            if any(len(cell) > LONGEST for cell in row):    # csv's own limit is one that any library may change
                raise DataError(f"{where}: a field larger than {LONGEST:,} characters, wanted child,parent")
            cells = [cell.strip() for cell in row]
            if not any(cells) or (not above and [cell.casefold() for cell in cells[:2]] == list(HEAD)):
                continue
            if not 2 <= len(cells) <= 3 or not cells[0]:
                raise DataError(f"{where}: {shown(','.join(row))} is not child,parent")
            child, parent = one_word(cells[0]), one_word(cells[1])
            if child == parent:
                raise DataError(f"{where}: {shown(cells[0])} is its own parent")
            names.setdefault(child, cells[0])
            if len(cells) == 3 and cells[2] and child not in called:
                names[child] = cells[2]
                called.add(child)
            parents = above.setdefault(child, [])
            if parent:
                names.setdefault(parent, cells[1])
                above.setdefault(parent, [])
                if parent not in parents:
                    parents.append(parent)
    except csv.Error as problem:
        raise DataError(f"{path}:{reader.line_num}: is no table that can be read: {problem}") from None
    return _concepts(path, above, names)


def read_openimages(path: Path, names: Path | None = None) -> Concepts:
    """Open Images' hierarchy: objects with a LabelName and a list Subcategory; `Part`, which is no kind, is left out.

    A label that stands in several places has several parents. `names` is a table of `LabelName,DisplayName`. Raises
    DataError.
    """
    called: dict[str, str] = {}
    try:
        for row in csv.reader(io.StringIO(read_text(names))) if names is not None else ():
            if len(row) >= 2 and row[1].strip():
                called.setdefault(one_word(row[0]), row[1].strip())
    except csv.Error as problem:
        raise DataError(f"{names}: is no table that can be read: {problem}") from None
    above: dict[str, list[str]] = {}
    waiting: list[tuple[Any, str | None]] = [(read_json(path), None)]
    while waiting:
        node, over = waiting.pop()
        label = node.get("LabelName") if isinstance(node, dict) else None
        if not isinstance(label, str) or not one_word(label):
            raise DataError(f"{path}: is no hierarchy: wanted a LabelName, and a list Subcategory, in every object")
        label = one_word(label)
        parents = above.setdefault(label, [])
        if over is not None and over not in parents:
            parents.append(over)
        below = node.get("Subcategory", [])
        waiting += [(child, label) for child in reversed(below if isinstance(below, list) else [below])]
    return _concepts(path, above, {label: called.get(label, label) for label in above})


def _concepts(path: Path, above: Mapping[str, Iterable[str]], names: Mapping[str, str]) -> Concepts:
    if not above:
        raise DataError(f"{path}: holds no concept, wanted rows child,parent")
    number_of = {id: number for number, id in enumerate(above)}
    display: Sequence[str] = [names[id] for id in above]
    parents = tuple(tuple(number_of[parent] for parent in each) for each in above.values())
    return Concepts(path, tuple(above), tuple(display), parents, senses_of(display))
