"""COCO: one JSON file of images, annotations and categories. Masks and key points are left alone."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lookonce import files
from lookonce.data.dataset import Dataset, Item
from lookonce.data.reading import (
    NOTHING,
    Findings,
    Listing,
    Placed,
    chosen,
    labels_of,
    named,
    number,
    read_json,
    sizes,
    sound,
    truths,
)  # fmt: skip
from lookonce.errors import DataError, shown

FILE = re.compile(r"(?:instances|annotations|_annotations)(?:[_.-](.+))?\.json", re.IGNORECASE)
PLAIN = {int, float}                    # what numbers of JSON are; true and false are none


def found_in(folder: Path) -> dict[str, Path]:
    """The instance files of a folder by the split in their name: instances_val2017.json, annotations.json."""
    listing = Listing()
    found: dict[str, Path] = {}
    for place in (folder, folder / "annotations"):
        for name in sorted(listing.names(place)):
            if match := FILE.fullmatch(name):
                found.setdefault(match[1] or Path(name).stem, place / name)
    return found


def read(path: Path, split: str | None, names: Sequence[str] | None) -> Dataset:
    """A file of instances, or a folder with one or several, of which `split` is that of the name instances_SPLIT.json.

    The names are the categories in order of their ids, or `names`, and pictures are in order of theirs, since of equal
    scores COCO's judge takes the lower id first. Boxes are kept exactly as left, top, width, height.
    A missing area is width x height. `ignore`, which some give beside iscrowd, is taken as difficult. Raises DataError
    for what is no such file.
    """
    if path.is_dir():
        there = found_in(path)
        if not there:
            raise DataError(f"{path}: holds no file of instances, wanted one called instances_SPLIT.json")
        path = there[chosen("files of instances", path, split, sorted(there))]
    elif split is not None and split != _split_of(path):
        raise DataError(f"{path}: is one file of instances, of which no split {shown(split)} can be taken")
    content, findings, listing = read_json(path), Findings(), Listing()
    lists = ("images", "annotations")
    if not isinstance(content, dict) or not all(isinstance(content.get(key), list) for key in lists):
        raise DataError(f"{path}: is no COCO file of instances: wanted the lists images, annotations and categories")
    label_of, names, numbers = _categories(content.get("categories"), path, names, findings)
    items, index_of = _images(content["images"], path, listing, findings)
    columns = _annotations(content["annotations"], path, index_of, label_of, names, findings)
    found = truths(len(items), **columns)
    whole = tuple(item._replace(truth=truth) for item, truth in zip(items, found, strict=True))
    return Dataset("coco", path, names, whole, numbers, findings())


def _split_of(path: Path) -> str | None:
    match = FILE.fullmatch(path.name)
    return match[1] if match else None


def _categories(
    rows: object, path: Path, names: Sequence[str] | None, findings: Findings
) -> tuple[dict[int, int], tuple[str, ...], tuple[int, ...]]:
    """The label of each category's id, all names, and the id of each name."""
    if not isinstance(rows, list):
        raise DataError(f"{path}: has no list of categories, so its numbers mean nothing")
    name_of: dict[int, str] = {}
    for i, row in enumerate(rows):
        place, id = f"categories[{i}]", _id(row)
        if type(id) is not int or not isinstance(row.get("name"), str):
            findings.error("unreadable category", path, place, "wanted a whole number as id, and a name")
        elif id in name_of:
            findings.error("duplicate id", path, place, f"the category {id} is there already as {shown(name_of[id])}")
        else:
            if row["name"] in name_of.values():
                findings.warning("duplicate name", path, place, f"another category is called {shown(row['name'])} too")
            name_of[id] = row["name"]
    ids = sorted(name_of)
    if names is None:
        return {id: label for label, id in enumerate(ids)}, tuple(name_of[id] for id in ids), tuple(ids)
    known = labels_of(names)
    label_of = {}
    for id in ids:
        if name_of[id] in known:
            label_of[id] = known[name_of[id]]
        else:
            findings.unknown_name(path, f"category {id}", name_of[id], names)
            label_of[id] = -1
    id_of = {label: id for id, label in label_of.items()}
    return label_of, tuple(names), tuple(id_of.get(label, -1) for label in range(len(names)))


def _id(row: object) -> Any:
    """An entry's id: a whole number or a text, else None."""
    id = row.get("id") if isinstance(row, dict) else None
    return id if type(id) in (int, str) else None


def _images(
    rows: list[Any], path: Path, listing: Listing, findings: Findings
) -> tuple[list[Item], dict[Any, int]]:
    """The pictures in order of their ids, numbers before texts, without their truth, and the place of each id."""
    item_of: dict[Any, Item] = {}
    folder = _folder(rows, path, listing)
    for i, row in enumerate(rows):
        place, id = f"images[{i}]", _id(row)
        name = row.get("file_name") if isinstance(row, dict) else None
        if id is None or not isinstance(name, str) or not name or "\0" in name:
            findings.error("unreadable image", path, place, "wanted a number as id, and a file_name")
            continue
        if id in item_of:
            findings.error("duplicate id", path, place, f"the image {id} is there already; this one is left out")
            continue
        size = sizes(row.get("width"), row.get("height"))
        if size is None:
            findings.warning("no size", path, place, "does not say the picture's width and height")
        item_of[id] = Item(str(id), folder / name, size, NOTHING, path)
        listing.need(folder / name, path, findings)
    order = sorted(item_of, key=lambda id: (type(id) is str, id))
    return [item_of[id] for id in order], {id: index for index, id in enumerate(order)}


def _folder(rows: list[Any], path: Path, listing: Listing) -> Path:
    """Where the pictures lie: the first of COCO's usual places that has one of the first few."""
    split, here = _split_of(path), path.parent
    tops = (here, here.parent) if here.name == "annotations" else (here,)
    places = [top / below for top in tops for below in ((split, f"images/{split}") if split else ())]
    places += [top / below for top in tops for below in ("images", ".")]
    names = [row["file_name"] for row in rows[:8] if isinstance(row, dict) and isinstance(row.get("file_name"), str)]
    usable = [name for name in names if "\0" not in name]
    return next((place for place in places if any(listing.has(place / name) for name in usable)), tops[-1] / "images")


def _annotations(
    rows: list[Any],
    path: Path,
    index_of: Mapping[Any, int],
    label_of: Mapping[int, int],
    names: Sequence[str],
    findings: Findings,
) -> dict[str, Any]:
    """All objects as columns. One of an unknown picture or category, or without a box, is left out and noted."""
    picture, label, boxes, areas, crowd, ignore, place = [], [], [], [], [], [], []
    ids: set[Any] = set()
    without_area = 0
    for i, row in enumerate(rows):
        try:
            image, category = index_of[row["image_id"]], label_of[row["category_id"]]
            left, top, width, height = row["bbox"]
        except (KeyError, TypeError, ValueError):
            kind, text = _fault(row, index_of, label_of)
            findings.error(kind, path, f"annotations[{i}]", text)
            continue
        if not {type(left), type(top), type(width), type(height)} <= PLAIN:
            findings.error("unreadable box", path, f"annotations[{i}]", "bbox is not four numbers")
            continue
        if category < 0:                                    # noted with the category
            continue
        id = row.get("id")
        if type(id) not in (int, str) or id in ids:
            said = "has no id" if id is None else f"the id {shown(str(id))} is there already, or is none"
            findings.error("duplicate id" if id is not None else "missing id", path, f"annotations[{i}]", said)
        else:
            ids.add(id)
        area = row.get("area")
        without_area += area is None
        picture.append(image)
        label.append(category)
        boxes.append((_float(left), _float(top), _float(width), _float(height)))
        areas.append(number(area))
        crowd.append(row.get("iscrowd") in (1, True))
        ignore.append(row.get("ignore") in (1, True) and not crowd[-1])
        place.append(i)
        if area is not None and not areas[-1] >= 0:
            text = f"area is {shown(str(area))}; width x height is taken"
            findings.error("unreadable area", path, f"annotations[{i}]", text)
    if without_area:
        text = f"{without_area:,} of {len(rows):,} give no area: width x height is taken"
        findings.warning("no area", path, "annotations", text)
    xywh = np.array(boxes, np.float64).reshape(-1, 4)
    keep = sound(xywh, findings, lambda i: (path, f"annotations[{place[i]}]", names[label[i]]))
    xywh, area = xywh[keep], np.array(areas, np.float64)[keep]
    return {
        "picture": np.array(picture, np.int64)[keep],
        "label": np.array(label, np.int64)[keep],
        "xywh": xywh,
        "area": np.where(area >= 0, area, xywh[:, 2] * xywh[:, 3]),
        "crowd": np.array(crowd, bool)[keep],
        "difficult": np.array(ignore, bool)[keep],
    }


def _float(value: int | float) -> float:
    """A number of JSON as a float; whole ones may be larger than any."""
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _fault(row: object, index_of: Mapping[Any, int], label_of: Mapping[int, int]) -> tuple[str, str]:
    """What is wrong with an annotation that cannot be taken: a kind, and words."""
    if not isinstance(row, dict):
        return "unreadable annotation", "is no object with image_id, category_id and bbox"
    for key in ("image_id", "category_id", "bbox"):
        if key not in row:
            return "unreadable annotation", f"has no {key}"
    image, category = row["image_id"], row["category_id"]
    if type(image) not in (int, str, float) or image not in index_of:
        return "unknown picture", f"image_id {shown(str(image))} is none of the images"
    if type(category) not in (int, str, float) or category not in label_of:
        return "unknown name", f"category_id {shown(str(category))} is none of the categories"
    return "unreadable box", f"bbox {shown(str(row['bbox']))} is not four numbers"


# ---------------------------------------------------------------------- writing
def write(folder: Path, dataset: Dataset, placed: Sequence[Placed]) -> None:
    """instances.json.

    Boxes are kept exactly as left, top, width, height, with names, areas and crowds. Difficult objects get `ignore`,
    which pycocotools does not look at: they count there. Labels of whole pictures are lost.
    """
    ids = image_ids(dataset, [id for id, _, _ in placed])
    numbers = dataset.numbers or tuple(range(1, len(dataset.names) + 1))
    free = max((0, *numbers)) + 1
    numbers = tuple(number if number >= 0 else free + label for label, number in enumerate(numbers))
    images = [
        {"id": id, "file_name": named(path, folder), **(dict(zip(("width", "height"), size or (), strict=False)))}
        for id, (_, path, size) in zip(ids, placed, strict=True)
    ]
    content = {
        "images": images,
        "annotations": list(_rows(dataset, ids, numbers)),
        "categories": [{"id": numbers[label], "name": name} for label, name in enumerate(dataset.names)],
    }
    with files.write_atomically(folder / "instances.json") as file:
        file.write(json.dumps(content, ensure_ascii=True).encode())


def image_ids(dataset: Dataset, stems: Sequence[str]) -> list[int]:
    """COCO's own ids; for others the number at the end of each name, if all are different, else 1, 2, 3, ..."""
    texts = [item.name for item in dataset.items] if dataset.format == "coco" else list(stems)
    found = [re.search(r"(\d{1,15})$", text, re.ASCII) for text in texts]
    ids = [int(match[1]) for match in found if match is not None]
    return ids if len(set(ids)) == len(stems) else list(range(1, len(stems) + 1))


def _rows(dataset: Dataset, ids: Sequence[int], numbers: Sequence[int]) -> Iterator[dict[str, Any]]:
    count = 0
    for id, item in zip(ids, dataset.items, strict=True):
        truth = item.truth
        columns = (truth.label, truth.xywh, truth.area, truth.crowd, truth.difficult)
        for label, xywh, area, crowd, difficult in zip(*(column.tolist() for column in columns), strict=True):
            count += 1
            row = {"id": count, "image_id": id, "category_id": numbers[label], "bbox": xywh, "area": area,
                   "iscrowd": int(crowd)}  # fmt: skip
            yield {**row, "ignore": 1} if difficult else row
