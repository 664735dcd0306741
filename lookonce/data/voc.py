"""VOC: a folder of XML files, one a picture, and lists of the pictures of each split.

VOC counts pixels from 1 and a box includes both its corners, so one that is a pixel wide has xmin = xmax. A Truth
counts from 0 and a width is right - left: its xyxy are xmin - 1, ymin - 1, xmax, ymax. Adding (1, 1, 0, 0) gives VOC's
own numbers back exactly, decimals too, wherever a corner is 1 or more; one between 0 and 1, which lies outside of the
picture, comes back within 1e-16.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from lookonce import files
from lookonce.darknet.lists import read_lines
from lookonce.data import listed
from lookonce.data.dataset import Dataset, Item
from lookonce.data.reading import (
    NOTHING,
    Box,
    Findings,
    Gathered,
    Listing,
    Placed,
    chosen,
    number,
    plain,
    read_xml,
    sizes,
)
from lookonce.errors import DataError, shown

NAMES = ("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
         "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor")  # fmt: skip
CORNERS = ("xmin", "ymin", "xmax", "ymax")


def is_voc(folder: Path) -> bool:
    """Whether this is VOC's root, or a folder of its XML files."""
    if (folder / "Annotations").is_dir():
        return True
    first = next((name for name in sorted(Listing().names(folder)) if name.lower().endswith(".xml")), None)
    return first is not None and root_of(folder / first) == "annotation"


def root_of(path: Path) -> str | None:
    """The name of an XML file's root, None if it cannot be read."""
    try:
        return read_xml(path).tag
    except DataError:
        return None


def read(folder: Path, split: str | None, names: Sequence[str] | None) -> Dataset:
    """A VOC root, of which `split` names a list in ImageSets/Main (all annotations without one), or a flat folder.

    A list may lie elsewhere too: `split` is then its path, PATH.txt.
    The names are VOC's 20 in their order if no other is used, else those that are used, sorted; those of the other
    splits count too, so that a class has one number in all of them. Parts of objects are left out. Raises DataError
    if there is no such split.
    """
    listing, findings = Listing(), Findings()
    is_root = (folder / "Annotations").is_dir()
    labels = folder / "Annotations" if is_root else folder
    there = sorted(Path(name).stem for name in listing.names(labels) if name.lower().endswith(".xml"))
    if split is None and not there:
        raise DataError(f"{folder}: holds no XML files of labels, wanted some in it or in Annotations/ below it")
    ids = there
    if split is not None:
        if listed.is_list(split):
            ids = _listed(Path(split), findings)
        else:
            there_ = lists_of(folder)
            ids = _listed(there_[chosen("splits", folder, split, sorted(there_))], findings)
    gathered = Gathered()
    found: list[Item] = []
    for id in ids:
        path = labels / f"{id}.xml"
        if not listing.has(path):
            findings.error("missing labels", path, "", "is not there; the split names it")
            continue
        try:
            picture = _read_one(path, len(found), gathered, findings)
        except DataError as problem:
            findings.error("unreadable labels", path, "", str(problem).removeprefix(f"{path}: "))
            continue
        place = _picture(folder / "JPEGImages" if is_root else folder, id, picture, listing)
        listing.need(place, path, findings)
        found.append(Item(id, place, picture.size, NOTHING, path))
    if names is None:
        others = (labels / f"{id}.xml" for id in sorted(set(there) - set(ids)))
        used = gathered.names() | _names(others)
        names = NAMES if used <= set(NAMES) else sorted(used)
    truths = gathered.truths(len(found), names, findings)
    items = tuple(item._replace(truth=truth) for item, truth in zip(found, truths, strict=True))
    return Dataset("voc", folder, tuple(names), items, problems=findings())


def lists_of(folder: Path) -> dict[str, Path]:
    """The lists of a VOC root by split."""
    main = folder / "ImageSets" / "Main"
    return {Path(name).stem: main / name for name in sorted(Listing().names(main)) if name.endswith(".txt")}


class _Picture(NamedTuple):
    """What an XML file says of its picture."""

    filename: str
    path: str
    size: tuple[int, int] | None


def _listed(path: Path, findings: Findings) -> list[str]:
    """The pictures of a split: the first word of each line, since lists of one class say more."""
    ids: dict[str, None] = {}
    for place, line in enumerate(read_lines(path), start=1):
        id = line.split()[0] if line.strip() else ""
        if id in ids or Path(id).name != id:
            text = f"{shown(id)} is there already" if id in ids else f"{shown(id)} is no name of a picture"
            findings.error("unreadable list", path, f"line {place}", text)
        elif id:
            ids[id] = None
    return list(ids)


def _read_one(path: Path, picture: int, gathered: Gathered, findings: Findings) -> _Picture:
    """Add the objects of one XML file to those gathered. Raises DataError."""
    root = read_xml(path)
    if root.tag != "annotation":
        raise DataError(f"{path}: its root is <{shown(root.tag)}>, wanted VOC's <annotation>")
    for count, item in enumerate(root.findall("object"), start=1):
        place, name = f"object {count}", item.findtext("name", "").strip()
        box = item.find("bndbox")
        if not name:
            findings.error("unknown name", path, place, "has no name")
            continue
        texts = [None if box is None else box.findtext(corner) for corner in CORNERS]
        left, top, right, bottom = (number(text) for text in texts)
        if math.isnan(left + top + right + bottom):
            saw = ", ".join(f"{corner} {shown(str(text))}" for corner, text in zip(CORNERS, texts, strict=True))
            findings.error("unreadable box", path, place, f"{shown(name)} has {saw}; wanted four numbers")
            continue
        if left - 1 < right <= left or top - 1 < bottom <= top:
            saw = f"xmin {left:g}, ymin {top:g}, xmax {right:g}, ymax {bottom:g}"
            findings.warning("box without area", path, place, f"{shown(name)} has {saw}: a pixel, as VOC counts")
        difficult = item.findtext("difficult", "0").strip().lower() in ("1", "true")
        corners = (left - 1, top - 1, right, bottom)
        gathered.boxes.append(Box(picture, name, corners, difficult, False, path, place))
    size = sizes(root.findtext("size/width"), root.findtext("size/height"))
    if size is None:
        findings.warning("no size", path, "size", "does not say the picture's width and height")
    return _Picture(root.findtext("filename", "").strip(), root.findtext("path", "").strip(), size)


def _picture(folder: Path, id: str, said: _Picture, listing: Listing) -> Path:
    """Where the picture lies: by the XML file's own name, as its <filename> says, or as its <path> does."""
    found = listing.picture(folder, id)
    if found is not None:
        return found
    named = folder / (Path(said.filename.replace("\\", "/")).name or f"{id}.jpg")
    if listing.has(named):
        return named
    return Path(said.path) if said.path and listing.has(Path(said.path)) else folder / f"{id}.jpg"


def _names(paths: Iterable[Path]) -> set[str]:
    """The names in files that are not of the split; one that cannot be read says nothing."""
    unused = Findings()
    gathered = Gathered()
    for path in paths:
        try:
            _read_one(path, 0, gathered, unused)
        except DataError:
            continue
    return gathered.names()


# ---------------------------------------------------------------------- writing
def write(folder: Path, dataset: Dataset, placed: Sequence[Placed]) -> None:
    """Annotations/ID.xml of each picture, and ImageSets/Main/all.txt.

    Boxes are kept to a billionth of a pixel, with `difficult`. A crowd becomes difficult, since VOC's judge should
    count neither; areas and labels of whole pictures are lost, and so are names that nothing bears, and their order.
    """
    for item, (id, path, size) in zip(dataset.items, placed, strict=True):
        root = ElementTree.Element("annotation")
        _add(root, "folder", path.parent.name)
        _add(root, "filename", path.name)
        if not path.is_relative_to(folder):
            _add(root, "path", str(path))
        if size is not None:
            _add(root, "size", None, width=size[0], height=size[1], depth=3)
        truth = item.truth
        for label, xyxy, skip in zip(
            truth.label.tolist(), truth.xyxy.tolist(), (truth.difficult | truth.crowd).tolist(), strict=True
        ):
            element = _add(root, "object", None, name=dataset.names[label], difficult=int(skip))
            corners = (xyxy[0] + 1, xyxy[1] + 1, xyxy[2], xyxy[3])
            _add(element, "bndbox", None, **{side: plain(x) for side, x in zip(CORNERS, corners, strict=True)})
        ElementTree.indent(root, "\t")
        with files.write_atomically(folder / "Annotations" / f"{id}.xml") as file:
            file.write(ElementTree.tostring(root, "utf-8") + b"\n")
    with files.write_atomically(folder / "ImageSets" / "Main" / "all.txt") as file:
        file.write("".join(f"{id}\n" for id, _, _ in placed).encode())


def _add(parent: ElementTree.Element, tag: str, text: str | None, **below: object) -> ElementTree.Element:
    """A new element with a text, or with elements below it."""
    element = ElementTree.SubElement(parent, tag)
    element.text = text
    for name, value in below.items():
        _add(element, name, str(value))
    return element
