"""CVAT for images, version 1.1: one XML file with a list of pictures and what is in each."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from lookonce import files
from lookonce.data.dataset import Dataset, Item
from lookonce.data.reading import (
    NOTHING,
    Box,
    Findings,
    Gathered,
    Listing,
    Placed,
    chosen,
    named,
    number,
    plain,
    read_xml,
    sizes,
)  # fmt: skip
from lookonce.errors import DataError, shown

SHAPES = frozenset(("polygon", "polyline", "points", "mask", "cuboid", "ellipse", "skeleton"))
FLAGS = ("difficult", "crowd")


def file_of(path: Path) -> Path:
    """The XML file itself, or annotations.xml in a folder."""
    return path / "annotations.xml" if path.is_dir() else path


def read(path: Path, split: str | None, names: Sequence[str] | None) -> Dataset:
    """A file of CVAT's, or the folder with annotations.xml; `split` is a subset of its task (all without one).

    Names are the task's labels, in their order, or if there are none those that are used, sorted. Boxes are pixels
    from 0 and kept exactly; of a turned one the upright box around it is taken. Tags are labels of the whole picture,
    attributes called difficult or crowd are that. Other shapes are left out, with a warning. Pictures lie beside the
    file or in images/, where those of a subset may have a folder. Raises DataError.
    """
    file, findings, listing, gathered = file_of(path), Findings(), Listing(), Gathered()
    root = read_xml(file)
    if root.tag != "annotations" or root.find("track") is not None:
        found = "CVAT for video" if root.find("track") is not None else f"<{shown(root.tag)}>"
        raise DataError(f"{file}: holds {found}, wanted <annotations> of CVAT for images 1.1: export it as that")
    elements = root.findall("image")
    if split is not None:
        subsets = sorted({element.get("subset", "") for element in elements} - {""})
        chosen("subsets", file, split, subsets)
        elements = [element for element in elements if element.get("subset") == split]
    items: list[Item] = []
    others: Counter[str] = Counter()
    for place, element in enumerate(elements, start=1):
        name = element.get("name", "")
        if not name or "\0" in name:
            findings.error("unreadable image", file, f"image {place}", "has no name")
            continue
        others.update(child.tag for child in element if child.tag in SHAPES)
        size = sizes(element.get("width"), element.get("height"))
        if size is None:
            findings.warning("no size", file, f"image {shown(name)}", "does not say the picture's width and height")
        _gather(element, len(items), file, gathered, findings)
        picture = _picture(file.parent, name, element.get("subset", ""), listing)
        listing.need(picture, file, findings)
        items.append(Item(Path(name).stem, picture, size, NOTHING, file))
    if others:
        counts = ", ".join(f"{count:,} of <{tag}>" for tag, count in sorted(others.items()))
        findings.warning("other shapes", file, "", f"{counts} are left out: only boxes are read")
    if names is None:
        said = [label.findtext("name", "").strip() for label in root.iterfind("meta/*/labels/label")]
        names = list(dict.fromkeys(name for name in said if name)) or sorted(gathered.names())
    truths = gathered.truths(len(items), names, findings)
    whole = tuple(item._replace(truth=truth) for item, truth in zip(items, truths, strict=True))
    return Dataset("cvat", path, tuple(names), whole, problems=findings())


def _gather(element: ElementTree.Element, picture: int, file: Path, gathered: Gathered, findings: Findings) -> None:
    """Add the boxes and tags of one <image> to those gathered."""
    image = shown(element.get("name", ""))
    for count, box in enumerate(element.findall("box"), start=1):
        place, name = f"image {image}, box {count}", box.get("label", "").strip()
        left, top, right, bottom = (number(box.get(side)) for side in ("xtl", "ytl", "xbr", "ybr"))
        turn = number(box.get("rotation", "0"))
        if not name:
            findings.error("unknown name", file, place, "has no label")
            continue
        if math.isnan(left + top + right + bottom + turn):
            findings.error("unreadable box", file, place, f"{shown(name)} has no four numbers xtl, ytl, xbr, ybr")
            continue
        if turn:
            text = f"{shown(name)} is turned by {turn:g} degrees: the box around it is taken"
            findings.warning("turned box", file, place, text)
            left, top, right, bottom = around(left, top, right, bottom, turn)
        said = {
            each.get("name", "").strip().lower()
            for each in box.findall("attribute")
            if (each.text or "").strip().lower() in ("true", "1", "yes")
        }
        flags = [flag in said for flag in FLAGS]
        gathered.boxes.append(Box(picture, name, (left, top, right, bottom), flags[0], flags[1], file, place))
    for tag in element.findall("tag"):
        gathered.tags.append((picture, tag.get("label", "").strip(), file, f"image {image}, tag"))


def around(left: float, top: float, right: float, bottom: float, turn: float) -> tuple[float, float, float, float]:
    """The upright box around one that is turned by so many degrees about its centre."""
    angle = math.radians(turn)
    x, y, wide, high = (left + right) / 2, (top + bottom) / 2, (right - left) / 2, (bottom - top) / 2
    across = abs(wide * math.cos(angle)) + abs(high * math.sin(angle))
    down = abs(wide * math.sin(angle)) + abs(high * math.cos(angle))
    return x - across, y - down, x + across, y + down


def _picture(folder: Path, name: str, subset: str, listing: Listing) -> Path:
    places = [folder / "images" / name, folder / name]
    if subset:
        places.insert(0, folder / "images" / subset / name)
    return next((place for place in places if listing.has(place)), places[0])


# ---------------------------------------------------------------------- writing
def write(folder: Path, dataset: Dataset, placed: Sequence[Placed]) -> None:
    """annotations.xml.

    Boxes are kept to a billionth of a pixel, with names, labels of whole pictures as tags, and difficult and crowd as
    attributes. Areas are lost.
    """
    root = ElementTree.Element("annotations")
    ElementTree.SubElement(root, "version").text = "1.1"
    labels = root
    for tag in ("meta", "task", "labels"):
        labels = ElementTree.SubElement(labels, tag)
    for name in dataset.names:
        label = ElementTree.SubElement(labels, "label")
        ElementTree.SubElement(label, "name").text = name
        attributes = ElementTree.SubElement(label, "attributes")
        for flag in FLAGS:
            attribute = ElementTree.SubElement(attributes, "attribute")
            for key, value in (("name", flag), ("mutable", "False"), ("input_type", "checkbox"),
                               ("default_value", "false"), ("values", "false")):  # fmt: skip
                ElementTree.SubElement(attribute, key).text = value
    for index, (item, (_, path, size)) in enumerate(zip(dataset.items, placed, strict=True)):
        about = {"id": str(index), "name": named(path, folder)}
        if size is not None:
            about |= {"width": str(size[0]), "height": str(size[1])}
        image, truth = ElementTree.SubElement(root, "image", about), item.truth
        for label_of, xyxy, flags in zip(
            truth.label.tolist(), truth.xyxy.tolist(),
            zip(truth.difficult.tolist(), truth.crowd.tolist(), strict=True), strict=True,
        ):  # fmt: skip
            sides = dict(zip(("xtl", "ytl", "xbr", "ybr"), map(plain, xyxy), strict=True))
            about = {"label": dataset.names[label_of], "source": "manual", "occluded": "0", **sides, "z_order": "0"}
            box = ElementTree.SubElement(image, "box", about)
            for flag, is_set in zip(FLAGS, flags, strict=True):
                ElementTree.SubElement(box, "attribute", name=flag).text = "true" if is_set else "false"
        for class_ in truth.classes:
            ElementTree.SubElement(image, "tag", label=dataset.names[class_], source="manual")
    ElementTree.indent(root)
    with files.write_atomically(folder / "annotations.xml") as file:
        file.write(ElementTree.tostring(root, "utf-8", xml_declaration=True) + b"\n")
