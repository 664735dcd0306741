"""A dataset: pictures with their truths, and what was wrong with its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from lookonce.truth import Truth


class Problem(NamedTuple):
    """Something found in a dataset's files: what kind, in which file, at which place in it, in words.

    `place` is a line (`line 7`), an object (`object 2`), a key (`annotations[12]`), or nothing. An error makes figures
    untrue (an unreadable picture, a missing file, an unknown name), a warning may be meant (a box without area).
    """

    kind: str
    file: Path
    place: str
    text: str
    is_error: bool

    def __str__(self) -> str:
        where = f"{self.file}: {self.place}: " if self.place else f"{self.file}: "
        return where + self.text


class Item(NamedTuple):
    """One picture: what result files call it, where it lies, and its truth.

    `name` is VOC's id, COCO's image id as text, CLASS/NAME in folders of classes, otherwise the file's name without
    suffix. `size` is (width, height) as the labels say, None if they do not. `labels` is the file that holds the truth,
    None if there is none. `member` is the picture's name inside `path` where that is an archive. `absent` are classes
    that somebody looked for and did not find (Open Images): of the others nothing is known there.
    """

    name: str
    path: Path
    size: tuple[int, int] | None
    truth: Truth
    labels: Path | None = None
    member: str | None = None
    absent: tuple[int, ...] = ()


@dataclass(frozen=True)
class Dataset:
    """Pictures with truths of one set of classes.

    `format` is the form of its files (voc, coco, ...), `path` what it was opened by. `numbers` are the classes' numbers
    in its files where these are not 0, 1, 2, ... (COCO's category ids; -1 for a name that has none). `above` are, for
    each class, all classes above it in a hierarchy (Open Images), empty without one. `problems` is everything that
    reading found. `parts` says how many of its pictures are of each dataset that it was mixed of (data.mixed), in their
    order; empty if it is of one.
    """

    format: str
    path: Path
    names: tuple[str, ...]
    items: tuple[Item, ...]
    numbers: tuple[int, ...] = ()
    problems: tuple[Problem, ...] = ()
    above: tuple[tuple[int, ...], ...] = ()
    parts: tuple[int, ...] = ()

    def __len__(self) -> int:
        return len(self.items)
