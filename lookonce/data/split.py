"""A dataset in parts: each class shared out alike, equal pictures together, the same parts for the same seed."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lookonce import files
from lookonce.darknet.lists import names_to_bytes
from lookonce.data import listed
from lookonce.data.dataset import Dataset, Item
from lookonce.data.views import Progress, digests_of
from lookonce.data.writing import write_dataset
from lookonce.errors import DataError, shown, warn

NAME = re.compile(r"\w[\w-]{0,63}")
LABELLED = {"coco": "instances.json", "cvat": "annotations.xml", "labelstudio": "labelstudio.json"}     # a file a part


class Part(NamedTuple):
    """A part that was written: its list of pictures, and what opens it, a path and if need be a list as its split.

    `opened` is None where nothing does: a part of an archive's split.
    """

    list: Path
    opened: Path | None
    split: Path | None


def split(
    dataset: Dataset, shares: Mapping[str, float], seed: int = 0, progress: Progress | None = None
) -> dict[str, Dataset]:
    """The dataset's pictures in parts of the given shares, each part in the order of the whole.

    Pictures of equal bytes stay together. Class after class, the rarest first, its pictures go where most of that class
    is wanting and that is not full; pictures without objects fill up. So the parts' sizes are the shares' to a picture,
    unless pictures are equal, and none is empty as long as there are so many different pictures. Raises DataError for
    shares that do not sum to 1, or fewer pictures than parts.
    """
    _check(dataset, shares)
    rng = np.random.default_rng(seed)
    groups = _groups(dataset, digests_of(dataset, progress))
    groups = [groups[number] for number in rng.permutation(len(groups))]
    classes = [_classes(dataset.items, group) for group in groups]
    holders = np.zeros(len(dataset.names), np.int64)                     # (C,) groups that hold each class
    for held in classes:
        holders[held] += 1
    rank = np.argsort(np.argsort(holders, kind="stable"))
    rarest = [min((int(rank[number]) for number in held), default=len(holders)) for held in classes]
    portions = np.array(list(shares.values())) / sum(shares.values())    # (S,)
    pictures = portions * len(dataset)                                   # still wanting, (S,)
    wanting = portions[:, None] * holders                                # (S, C)
    parts: list[list[list[int]]] = [[] for _ in shares]                  # groups of pictures
    for number in np.argsort(rarest, kind="stable").tolist():
        held, group = classes[number], groups[number]
        by_class = wanting[:, held[int(np.argmin(rank[held]))]] if held else pictures
        free = [each for each in range(len(parts)) if round(float(pictures[each]), 9) > 0] or list(range(len(parts)))
        part = max(free, key=lambda each: (round(float(by_class[each]), 9), pictures[each], -each))
        parts[part].append(group)
        pictures[part] -= len(group)
        wanting[part, held] -= 1
    for name, part_ in zip(shares, parts, strict=True):
        richest = max(parts, key=len)
        if not part_ and len(richest) > 1:
            part_.append(richest.pop())                                  # of the classes that are the most common
        elif not part_:
            warn(f"{dataset.path}: no picture is left for {name}: of {len(dataset):,} only {len(groups):,} differ")
    order = [sorted(itertools.chain(*part_)) for part_ in parts]
    return {
        name: dataclasses.replace(dataset, items=tuple(dataset.items[number] for number in numbers))
        for name, numbers in zip(shares, order, strict=True)
    }


def parse_shares(text: str) -> dict[str, float]:
    """`train=.8,val=.2` as names and numbers. Raises DataError."""
    shares: dict[str, float] = {}
    for part in text.split(","):
        name, equals, number = (piece.strip() for piece in part.partition("="))
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not equals or not math.isfinite(value) or name in shares:
            raise DataError(f"shares {shown(text)!r}: wanted names with their shares, such as train=.8,val=.2")
        shares[name] = value
    return shares


def write_lists(parts: Mapping[str, Dataset], folder: Path) -> list[Path]:
    """Write which pictures are in each part into a folder: nothing else, and never over an older file.

    Of a VOC dataset these are ImageSets/Main/NAME.txt with its names, otherwise NAME.txt with the pictures' whole
    paths, as Darknet takes them. Raises DataError.
    """
    paths = {
        name: folder / "ImageSets" / "Main" / f"{name}.txt" if part.format == "voc" else folder / f"{name}.txt"
        for name, part in parts.items()
    }
    texts = {name: [_entry(part, item) for item in part.items] for name, part in parts.items()}
    for name, path in paths.items():
        if files.exists(path):
            raise DataError(f"{path}: is there already: name a new folder")
        if odd := [line for line in texts[name] if not line.strip() or not {"\n", "\r"}.isdisjoint(line)]:
            raise DataError(f"{path}: the name {shown(odd[0])!r} does not fit on a line of its own")
    for name, path in paths.items():
        with files.write_atomically(path) as out:
            out.write("".join(f"{line}\n" for line in texts[name]).encode("utf-8", "surrogateescape"))
    return list(paths.values())


def write_parts(parts: Mapping[str, Dataset], folder: Path) -> list[Part]:
    """Write the lists of `write_lists` and what it takes to open each part; pictures stay where they are.

    Of COCO, CVAT and Label Studio NAME/ holds the part's labels in that form; of Darknet NAME.data names the list, and
    dataset.names the classes. Of the others the list itself is the split to open the dataset by. Raises DataError.
    """
    for name, part in parts.items():
        new = [folder / name / LABELLED[part.format]] if part.format in LABELLED else []
        new += [folder / f"{name}.data", folder / "dataset.names"] if part.format == "darknet" else []
        for path in new:
            if files.exists(path):
                raise DataError(f"{path}: is there already: name a new folder")
    lists = write_lists(parts, folder)
    return [_opened(name, part, path, folder) for (name, part), path in zip(parts.items(), lists, strict=True)]


def _opened(name: str, part: Dataset, path: Path, folder: Path) -> Part:
    """Write what opens a part beside its list."""
    if part.format in LABELLED:
        write_dataset(part, folder / name, part.format, copy="none")
        return Part(path, folder / name / LABELLED[part.format], None)
    if part.format == "darknet":
        said = f"classes = {len(part.names)}\ntrain = {path.name}\nvalid = {path.name}\nnames = dataset.names\n"
        names = names_to_bytes(part.names, folder / "dataset.names")
        for place, data in ((folder / "dataset.names", names), (folder / f"{name}.data", said.encode())):
            with files.write_atomically(place) as out:
                out.write(data)
        return Part(path, folder / f"{name}.data", None)
    return Part(path, listed.whole(part), path)


def _entry(part: Dataset, item: Item) -> str:
    return item.name if part.format == "voc" else listed.entry(item)


def _check(dataset: Dataset, shares: Mapping[str, float]) -> None:
    for name, share in shares.items():
        if not NAME.fullmatch(name):
            raise DataError(f"{shown(name)!r} is no name for a part: wanted letters, digits, - and _")
        if not 0 < share <= 1:
            raise DataError(f"a share of {share:g} for {name}: wanted more than 0 and at most 1")
    if not shares or abs(sum(shares.values()) - 1) > 1e-6:
        raise DataError(f"shares that sum to {sum(shares.values()):g}: wanted 1, such as train=.8,val=.2")
    if len(dataset) < len(shares):
        raise DataError(f"{dataset.path}: {len(dataset)} pictures for {len(shares)} parts: wanted one a part at least")


def _groups(dataset: Dataset, digests: Sequence[bytes]) -> list[list[int]]:
    """The pictures' numbers, equal ones together; one that cannot be read is by itself."""
    groups: dict[object, list[int]] = {}
    for number, digest in enumerate(digests):
        groups.setdefault(digest or number, []).append(number)
    return list(groups.values())


def _classes(items: Sequence[Item], group: Sequence[int]) -> list[int]:
    """The classes that some picture of a group holds."""
    held = {label for number in group for label in (*items[number].truth.label.tolist(), *items[number].truth.classes)}
    return sorted(held)
