"""Trees with their names, and maps, as files in Darknet's forms."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from lookonce import files
from lookonce.darknet.lists import names_to_bytes, read_names
from lookonce.errors import DataError, warn
from lookonce.wordtree import WordTree


def read_tree(path: Path) -> WordTree:
    """The tree in a file. One without display names takes those of PATH.names, if that is beside it and fits.

    Raises DataError; warns of a file of names that does not fit.
    """
    tree = WordTree.read(path)
    beside = path.with_suffix(".names")
    if tree.names != tree.ids or not beside.is_file():
        return tree
    names = read_names(beside)
    if len(names) != len(tree):
        warn(f"{beside}: {len(names):,} names beside a tree of {len(tree):,} nodes; they are not used")
        return tree
    return WordTree(tree.ids, tuple(name or id for name, id in zip(names, tree.ids, strict=True)), tree.parent)


def write_tree(tree: WordTree, path: Path, *, named: bool, inputs: Iterable[Path | None] = ()) -> Path:
    """Write a tree file, with display names as a third column if `named`, and beside it PATH.names; returns the latter.

    A file of names that is there is replaced only together with its tree. Raises DataError, before anything is written,
    if it belongs to no tree, is one of `inputs`, or if an id or name does not fit on a line.
    """
    names = path.with_suffix(".names")
    for given in inputs:
        if given is not None and names.exists() and given.exists() and names.samefile(given):
            raise DataError(f"{names}: would be replaced by the names of {path}, and is read: give another -o")
    if names.exists() and not path.exists():
        raise DataError(f"{names}: is there already, and no {path} that it belongs to: give another -o, or move it")
    odd = next((id for id in tree.ids if len(id.split()) != 1), None)
    if odd is not None:
        raise DataError(f"{path}: the id {odd[:40]!r} is not one word")
    text = names_to_bytes(tree.names, names)
    lines = tree.to_lines() if named else WordTree(tree.ids, tree.ids, tree.parent).to_lines()
    for target, data in ((path, "".join(f"{line}\n" for line in lines).encode()), (names, text)):
        with files.write_atomically(target) as file:
            file.write(data)
    return names


def write_map(nodes: Sequence[int], path: Path) -> None:
    """Write a map: class i of a dataset is the node of line i. Raises DataError if no file can be written."""
    with files.write_atomically(path) as file:
        file.write("".join(f"{node}\n" for node in nodes).encode())


def map_names(out: Path, sources: Sequence[str]) -> list[Path]:
    """Where the map of each source of a merged tree lies: OUT.SOURCE.map; of two of one name the second is SOURCE-2."""
    found: list[Path] = []
    for source in sources:
        stem, count = Path(source).stem, 1
        path = out.with_name(f"{out.stem}.{stem}.map")
        while path in found:
            count += 1
            path = out.with_name(f"{out.stem}.{stem}-{count}.map")
        found.append(path)
    return found
