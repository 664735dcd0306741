"""Write a dataset in another form."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from lookonce import files, pictures
from lookonce.data import coco, cvat, darknet, labelstudio, openimages, voc
from lookonce.data.dataset import Dataset, Item
from lookonce.data.folder import Archive
from lookonce.data.losses import losses
from lookonce.data.reading import Placed
from lookonce.errors import DataError, InputError, nearest, shown, warn

Copy = Literal["link", "copy", "none"]

Writer = Callable[[Path, Dataset, Sequence[Placed]], None]

FORMATS: dict[str, Writer | None] = {
    "voc": voc.write,
    "coco": coco.write,
    "darknet": darknet.write,
    "folder": None,                     # its folders say all
    "openimages": openimages.write,
    "cvat": cvat.write,
    "labelstudio": labelstudio.write,
}
NEED_SIZES = frozenset(("voc", "coco", "darknet", "openimages", "labelstudio"))
NAME_PICTURES = frozenset(("voc", "coco", "cvat", "labelstudio"))           # wherever they are
NO_NAME = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff\ufffe\uffff]")      # XML has none, or a line ends
ODD = re.compile(r"[^\w.+=@()\[\]-]")


def write_dataset(dataset: Dataset, folder: str | Path, format: str, *, copy: Copy = "link") -> None:
    """Write pictures and labels in a form of FORMATS into a folder that is empty or not there yet.

    Pictures are hard-linked ("link"; copied where that is not possible) or copied ("copy") into the form's usual place,
    or stay where they are and are named ("none": voc, coco, cvat and labelstudio). Those in an archive are taken out.
    Two of one name get different ones. Nothing of the source is touched, and a file of labels is whole or not there.

        form         what it cannot say
        voc          crowds (they become difficult), areas, classes of pictures, the order of names
        coco         classes of pictures; difficult is `ignore`, which its judge does not look at
        darknet      difficult, crowds, areas, classes of pictures: every object counts; ten digits
        openimages   difficult, areas, the hierarchy; ten digits
        cvat         areas
        labelstudio  areas
        folder       boxes; a picture must have one class

    What the form cannot say of this dataset is warned of, a line each, before anything is written.
    Raises DataError if the folder is not empty, for an unknown form, for a picture that is missing or whose size is
    needed and cannot be read, and for a dataset that the form cannot say at all.
    """
    folder = Path(folder)
    if format not in FORMATS:
        known = ", ".join(FORMATS)
        raise DataError(f"no format {shown(format)} can be written{nearest(format, FORMATS)}; there are {known}")
    if copy not in ("link", "copy", "none"):
        raise DataError(f"copy is {shown(str(copy))}, wanted link, copy or none")
    for name in dataset.names:
        if not name.strip() or NO_NAME.search(name):
            raise DataError(f"{dataset.path}: no file of labels can hold the class name {shown(name)!r}: rename it")
    if copy == "none" and format not in NAME_PICTURES:
        raise DataError(f"{folder}: {format} looks for pictures beside its labels: link or copy them")
    if copy == "none" and any(item.member is not None for item in dataset.items):
        raise DataError(f"{folder}: pictures in an archive cannot be named from there: link or copy takes them out")
    for item in dataset.items if format == "folder" else ():
        _below(item, dataset, format)                       # what cannot be said at all is refused first
    for text in losses(dataset, format):
        warn(f"{folder}: {text}")
    files.make_folder(folder)
    if any(folder.iterdir()):
        raise DataError(f"{folder}: is not empty; name a folder that is, or a new one")
    placed = _place(dataset, folder, format, copy)
    writer = FORMATS[format]
    if writer is not None:
        writer(folder, dataset, placed)


def _place(dataset: Dataset, folder: Path, format: str, copy: Copy) -> list[Placed]:
    """Put the pictures where the form has them."""
    placed = []
    taken: set[str] = set()
    with contextlib.ExitStack() as stack:
        archives: dict[Path, Archive] = {}
        for item in dataset.items:
            below = folder / _below(item, dataset, format)
            source = Path(item.member or item.path.name)
            stem, number = ODD.sub("_", source.stem).lstrip(".-")[:100] or "picture", 1
            while str(below / stem).casefold() in taken:
                number += 1
                stem = f"{stem.removesuffix(f'-{number - 1}') if number > 2 else stem}-{number}"
            taken.add(str(below / stem).casefold())
            if copy == "none":
                place = item.path.absolute()
            else:
                place = below / (stem + source.suffix)
                if item.member is not None and item.path not in archives:
                    archives[item.path] = stack.enter_context(Archive(item.path))
                _copy(item, place, copy, archives)
            size = item.size
            if size is None and format in NEED_SIZES:
                size = _size(place)
            placed.append(Placed(stem, place, size))
    return placed


def _below(item: Item, dataset: Dataset, format: str) -> str:
    """The folder, below that of the dataset, that a picture belongs in. Raises DataError."""
    if format != "folder":
        return "JPEGImages" if format == "voc" else "images"
    if len(item.truth.classes) != 1:
        count = len(item.truth.classes)
        raise DataError(f"{item.path}: has {count} classes; wanted one, which its folder is called after")
    name = dataset.names[item.truth.classes[0]]
    if Path(name).name != name or name.startswith(".") or "\0" in name or len(name.encode()) > 200:
        raise DataError(f"{dataset.path}: no folder can be called {shown(name)}")
    return name


def _copy(item: Item, place: Path, copy: Copy, archives: dict[Path, Archive]) -> None:
    """Link or copy one picture. Raises DataError."""
    files.make_folder(place.parent)
    try:
        if item.member is not None:
            place.write_bytes(archives[item.path].read(item.member))
            return
        with files.open_regular(item.path, InputError) as source:
            if copy == "link":
                with contextlib.suppress(OSError):          # another disk, or one without links
                    os.link(item.path.resolve(), place)
                    return
            with place.open("xb") as file:                  # pictures first: without labels nobody takes them for whole
                shutil.copyfileobj(source, file)
    except InputError as problem:
        raise DataError(f"{problem}; it is part of the dataset") from None
    except OSError as problem:
        raise DataError(f"{place}: cannot be written: {problem.strerror}") from None


def _size(path: Path) -> tuple[int, int]:
    """Width and height from the picture's header. Raises DataError."""
    try:
        return pictures.size(path)
    except InputError as problem:
        raise DataError(f"{problem}; its width and height are needed here") from None
