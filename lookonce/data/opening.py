"""Open a dataset, whatever the form of its files."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from lookonce import files
from lookonce.darknet.lists import read_names
from lookonce.data import coco, cvat, darknet, folder, labelstudio, listed, openimages, voc
from lookonce.data.dataset import Dataset
from lookonce.data.reading import Listing
from lookonce.errors import DataError, nearest, shown
from lookonce.pictures import SUFFIXES

Reader = Callable[[Path, str | None, Sequence[str] | None], Dataset]

FORMATS: dict[str, Reader] = {
    "voc": voc.read,
    "coco": coco.read,
    "darknet": darknet.read,
    "folder": folder.read,
    "openimages": openimages.read,
    "cvat": cvat.read,
    "labelstudio": labelstudio.read,
}
TEXTS = frozenset((".data", ".txt", ".list"))


def open_dataset(
    path: str | Path,
    *,
    split: str | None = None,
    format: str | None = None,
    names: Sequence[str] | str | Path | None = None,
    lenient: bool = False,
) -> Dataset:
    """The pictures and truths of a dataset; its form is recognised by its content if `format` does not say it.

        voc          a root with Annotations/, or a folder of XML files beside pictures
        coco         a JSON file of instances, or a folder with one
        darknet      a .data file, a list of pictures, or a folder with images/ and labels/
        folder       a folder, zip or tar of folders that are called after classes, or a folder of such archives
        openimages   a table of boxes, or a folder of tables
        cvat         an XML file of CVAT for images 1.1, or a folder with annotations.xml
        labelstudio  a JSON export, or a folder with labelstudio.json

    `split` is a part of it, by the form's own word, or a list of its pictures, PATH.txt, as `write_parts` writes them;
    `names` are the classes to number, or a file of them, instead of the dataset's own.
    Pictures are not opened, but where boxes are relative (darknet, openimages) their headers are.
    Everything that is wrong with the files comes with the Dataset as problems; unless `lenient` the first error among
    them is raised. Raises DataError for that, for a form that is not recognised, and for a split that is not there.
    """
    path = Path(path)
    _refuse_empty(path)
    if split is not None and format in (None, "folder") and split in (packed := folder.archives_in(path)):
        path, split = packed[split], None
    kind = format if format is not None else recognise(path)
    if kind not in FORMATS:
        known = ", ".join(FORMATS)
        raise DataError(f"{path}: no format {shown(kind)} is known here{nearest(kind, FORMATS)}; there are {known}")
    if not files.exists(path):
        raise DataError(f"{path}: no such file or folder{files.near(path)}")
    if names is not None:
        names = read_names(Path(names)) if isinstance(names, str | Path) else tuple(names)
    try:
        if split is not None and listed.is_list(split) and kind != "voc":
            dataset = listed.of_list(FORMATS[kind](path, None, names), Path(split))
        else:
            dataset = FORMATS[kind](path, split, names)
    except OSError as problem:                              # a folder that may not be read
        raise DataError(f"{path}: cannot be read: {problem.strerror}") from None
    errors = [problem for problem in dataset.problems if problem.is_error]
    if errors and not lenient:
        more = len(errors) - 1
        count = f"; and {more:,} more error{'s' if more > 1 else ''}" if more else ""
        raise DataError(f"{shown(str(errors[0]), 1000)}{count}: `lookonce data check {path}` lists all")
    return dataset


def recognise(path: Path) -> str:
    """The form of the files at `path`, by their content. Raises DataError."""
    if not files.exists(path):
        raise DataError(f"{path}: no such file or folder{files.near(path)}")
    _refuse_empty(path)
    try:
        found = _of_folder(path) if path.is_dir() else _of_file(path)
    except OSError as problem:
        raise DataError(f"{path}: cannot be read: {problem.strerror}") from None
    if found is None:
        kinds = ", ".join(FORMATS)
        if path.is_dir() and (count := sum(name.lower().endswith(SUFFIXES) for name in Listing().names(path))):
            raise DataError(
                f"{path}: holds {count:,} pictures and no labels of a form that is known here ({kinds}): put labels "
                "beside them, or the pictures into folders that are called after their classes"
            )
        if packed := folder.archives_in(path):
            raise DataError(f"{path}: holds archives: name one with split, of {', '.join(packed)}, or as path")
        if (what := _no_dataset(path)) is not None:
            raise DataError(f"{path}: {what}; wanted pictures with labels in one of the forms {kinds}")
        which = "say which: format=voc, or --format voc"
        raise DataError(f"{path}: is no dataset of a form that is known here ({kinds}); {which}")
    return found


def _refuse_empty(path: Path) -> None:
    """Raise DataError for a folder with nothing in it."""
    try:
        is_empty = path.is_dir() and not any(path.iterdir())
    except (OSError, ValueError):                           # its reader says what is wrong
        return
    if is_empty:
        raise DataError(f"{path}: is an empty folder: it holds no picture and no labels")


def _no_dataset(path: Path) -> str | None:
    """What is there that no dataset can be made of, whatever its form; None if one might."""
    if path.is_dir():
        return "holds no pictures"
    with files.open_regular(path, DataError) as file:
        head = file.read(64)
    kind = files.kind_of(head)
    return "is empty" if not head else f"is {kind}" if kind is not None and not files.is_text(head) else None


def _of_folder(path: Path) -> str | None:
    there = Listing().names(path)
    if (path / "Annotations").is_dir():
        return "voc"
    if "labelstudio.json" in there:
        return "labelstudio"
    if "annotations.xml" in there and voc.root_of(path / "annotations.xml") == "annotations":
        return "cvat"
    if coco.found_in(path):
        return "coco"
    if openimages.is_openimages(path):
        return "openimages"
    if darknet.is_darknet(path):
        return "darknet"
    if voc.is_voc(path):
        return "voc"
    return "folder" if any(each.is_dir() for each in path.iterdir()) else None


def _of_file(path: Path) -> str | None:
    with files.open_regular(path, DataError) as file:
        head = file.read(1 << 12).removeprefix(b"\xef\xbb\xbf").lstrip()
    if folder.is_archive(path):
        return "folder"
    if head.startswith(b"["):
        return "labelstudio"
    if head.startswith(b"{"):
        return "coco"
    if head.startswith(b"<"):
        return {"annotations": "cvat"}.get(voc.root_of(path) or "")
    if path.suffix.lower() == ".csv" and openimages.is_openimages(path):
        return "openimages"
    return "darknet" if path.suffix.lower() in TEXTS else None
