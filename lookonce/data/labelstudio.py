"""Label Studio: one JSON file with a list of tasks, a picture each, and what annotators said of it, in percent."""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any
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
    named,
    number,
    read_json,
    read_xml,
    sizes,
)  # fmt: skip
from lookonce.errors import DataError, shown

UPLOAD = re.compile(r"[0-9a-f]{8}-(.+)")        # what Label Studio puts before an uploaded file's name
ESCAPED = re.compile(rb"%([0-9a-fA-F]{2})")
FLAGS = ("difficult", "crowd")
RESULT = {"image_id", "category_id"}            # what every entry of COCO's results says
SIDES = ("x", "y", "width", "height")


def read(path: Path, split: str | None, names: Sequence[str] | None) -> Dataset:
    """An export called JSON (not JSON-MIN), or a folder with labelstudio.json.

    Of several annotations of a task the first that was not cancelled counts. Rectangles become boxes, the upright box
    around a turned one; choices are labels of the whole picture; `difficult` and `crowd` in a region's notes are that.
    Names are the labels of config.xml beside, in their order, or those that are used, sorted. A picture is looked for
    by its name beside the file and in images/, also without the eight digits that an upload gets; else where the task
    says. Raises DataError.
    """
    file = path / "labelstudio.json" if path.is_dir() else path
    if split is not None:
        raise DataError(f"{path}: an export of Label Studio, which has no splits")
    tasks, findings, listing, gathered = read_json(file), Findings(), Listing(), Gathered()
    first = tasks[0] if isinstance(tasks, list) and tasks else None
    if isinstance(first, dict) and first.keys() >= RESULT:
        kinds = "image_id, category_id, bbox, score"
        raise DataError(f"{file}: holds results ({kinds}) and no dataset: give them to `lookonce judge`")
    if not isinstance(tasks, list) or any(isinstance(task, dict) and "annotations" not in task for task in tasks[:1]):
        raise DataError(f"{file}: is no list of tasks with annotations: export it as JSON, not JSON-MIN")
    items: list[Item] = []
    others: Counter[str] = Counter()
    for i, task in enumerate(tasks):
        place = f"task {i + 1}"
        picture = _picture(task, file.parent, listing)
        results = _results(task)
        if picture is None or results is None:
            text = "wanted data with a picture's name, and a list of annotations"
            findings.error("unreadable task", file, place, text)
            continue
        if sum(not each.get("was_cancelled") for each in task["annotations"]) > 1:
            findings.warning("several annotations", file, place, "the first that was not cancelled counts")
        size = next((size for size in map(_size, results) if size is not None), None)
        for count, result in enumerate(results, start=1):
            others[_gather(result, len(items), file, f"{place}, region {count}", gathered, findings)] += 1
        listing.need(picture, file, findings)
        items.append(Item(picture.stem, picture, size, NOTHING, file))
    others.pop("", None)
    if others:
        counts = ", ".join(f"{count:,} of {shown(kind)}" for kind, count in sorted(others.items()))
        findings.warning("other shapes", file, "", f"{counts} are left out: only rectangles and choices are read")
    if names is None:
        names = _config(file.parent / "config.xml") or sorted(gathered.names())
    truths = gathered.truths(len(items), names, findings)
    whole = tuple(item._replace(truth=truth) for item, truth in zip(items, truths, strict=True))
    return Dataset("labelstudio", path, tuple(names), whole, problems=findings())


def _results(task: Any) -> list[dict[str, Any]] | None:
    """The regions of the annotation that counts; None if the task is none."""
    annotations = task.get("annotations") if isinstance(task, dict) else None
    if not isinstance(annotations, list) or not all(isinstance(each, dict) for each in annotations):
        return None
    results: Any = next((each.get("result") for each in annotations if not each.get("was_cancelled")), [])
    if not isinstance(results, list) or not all(isinstance(result, dict) for result in results):
        return None
    return results


def _size(result: dict[str, Any]) -> tuple[int, int] | None:
    return sizes(result.get("original_width"), result.get("original_height"))


def _gather(
    result: dict[str, Any], picture: int, file: Path, place: str, gathered: Gathered, findings: Findings
) -> str:
    """Add one region to those gathered; what kind it is if it is none that is read, else nothing."""
    value, kind, size = result.get("value"), str(result.get("type")), _size(result)
    names = value.get(kind) if isinstance(value, dict) else None
    if kind not in ("rectanglelabels", "labels", "choices"):
        return kind
    if not isinstance(value, dict) or not isinstance(names, list) or not names or not isinstance(names[0], str):
        findings.error("unknown name", file, place, "has no label")
        return ""
    if kind == "choices":
        gathered.tags += [(picture, str(name), file, place) for name in names]
        return ""
    left, top, width, height = (number(value.get(side)) for side in SIDES)
    turn = number(value.get("rotation", 0))
    if math.isnan(left + top + width + height + turn) or size is None:
        text = f"{shown(names[0])} has no four numbers x, y, width, height, or no original_width and original_height"
        findings.error("unreadable box", file, place, text)
        return ""
    left, width, top, height = (x / 100 * side for side, pair in zip(size, ((left, width), (top, height)), strict=True)
                                for x in pair)  # fmt: skip
    corners = (left, top, left + width, top + height)
    if turn:
        text = f"{shown(names[0])} is turned by {turn:g} degrees: the box around it is taken"
        findings.warning("turned box", file, place, text)
        corners = around(left, top, width, height, turn)
    meta = result.get("meta")
    notes = meta.get("text") if isinstance(meta, dict) else None
    flags = [flag in notes if isinstance(notes, list) else False for flag in FLAGS]
    gathered.boxes.append(Box(picture, names[0], corners, flags[0], flags[1], file, place))
    return ""


def around(left: float, top: float, width: float, height: float, turn: float) -> tuple[float, float, float, float]:
    """The upright box around one that is turned by so many degrees about its left top corner."""
    cos, sin = math.cos(math.radians(turn)), math.sin(math.radians(turn))
    across = (0, width * cos, -height * sin, width * cos - height * sin)
    down = (0, width * sin, height * cos, width * sin + height * cos)
    return left + min(across), top + min(down), left + max(across), top + max(down)


def _picture(task: Any, folder: Path, listing: Listing) -> Path | None:
    """Where the picture of a task lies; None if it names none."""
    data = task.get("data") if isinstance(task, dict) else None
    said = next((text for text in data.values() if isinstance(text, str)), "") if isinstance(data, dict) else ""
    said = data["image"] if isinstance(data, dict) and isinstance(data.get("image"), str) else said
    path = said.partition("?d=")[2] or said.partition("?")[0]
    plain = ESCAPED.sub(lambda match: bytes([int(match[1], 16)]), path.encode("utf-8", "replace"))
    bare = plain.decode("utf-8", "replace")
    name = Path(bare).name
    if not name or "\0" in bare:
        return None
    match = UPLOAD.fullmatch(name)
    names = (name, match[1]) if match else (name,)
    places = [place / each for each in names for place in (folder / "images", folder)]
    return next((place for place in (*places, Path(bare)) if listing.has(place)), places[0])


def _config(path: Path) -> list[str]:
    """The labels of a labelling interface, in their order; none if there is no such file, or it cannot be read."""
    try:
        root = read_xml(path)
    except DataError:
        return []
    groups = (group for tag in ("RectangleLabels", "Labels", "Choices") for group in root.iter(tag))
    found = (label.get("value", "") for group in groups for label in group)
    return list(dict.fromkeys(name for name in found if name))


# ---------------------------------------------------------------------- writing
def write(folder: Path, dataset: Dataset, placed: Sequence[Placed]) -> None:
    """labelstudio.json, to be imported, and config.xml, the labelling interface that it needs.

    Boxes are kept to the rounding of percents, with names, labels of whole pictures as choices, and difficult and
    crowd as notes of a region. Areas are lost. Pictures are named for Label Studio's local storage.
    """
    tasks = []
    for number_, (item, (_, path, size)) in enumerate(zip(dataset.items, placed, strict=True), start=1):
        truth, regions = item.truth, list[dict[str, Any]]()
        width, height = size or (0, 0)
        about = {"to_name": "image", "original_width": width, "original_height": height, "image_rotation": 0}
        rows = (truth.label, truth.xywh, truth.difficult, truth.crowd)
        for label, (x, y, w, h), *flags in zip(*(column.tolist() for column in rows), strict=True):
            value = {"x": x * 100 / width, "y": y * 100 / height, "width": w * 100 / width, "height": h * 100 / height,
                     "rotation": 0, "rectanglelabels": [dataset.names[label]]}  # fmt: skip
            notes = [flag for flag, is_set in zip(FLAGS, flags, strict=True) if is_set]
            regions.append({"id": f"r{len(regions)}", "type": "rectanglelabels", "from_name": "label", **about,
                            "value": value, **({"meta": {"text": notes}} if notes else {})})  # fmt: skip
        if truth.classes:
            value = {"choices": [dataset.names[label] for label in truth.classes]}
            regions.append({"id": "classes", "type": "choices", "from_name": "choice", **about, "value": value})
        name = f"images/{named(path, folder)}" if path.is_relative_to(folder) else str(path)
        data = {"image": f"/data/local-files/?d={name.replace('%', '%25')}"}
        tasks.append({"id": number_, "data": data, "annotations": [{"id": number_, "result": regions}]})
    with files.write_atomically(folder / "labelstudio.json") as file:
        file.write(json.dumps(tasks).encode())
    view = ElementTree.Element("View")
    ElementTree.SubElement(view, "Image", name="image", value="$image")
    boxes = ElementTree.SubElement(view, "RectangleLabels", name="label", toName="image")
    choices = ElementTree.SubElement(view, "Choices", name="choice", toName="image", choice="multiple")
    for name in dataset.names:
        ElementTree.SubElement(boxes, "Label", value=name)
        ElementTree.SubElement(choices, "Choice", value=name)
    ElementTree.indent(view)
    with files.write_atomically(folder / "config.xml") as file:
        file.write(ElementTree.tostring(view, "utf-8") + b"\n")
