"""Open Images: tables of boxes, of labels that people verified, and of the classes' names, and a hierarchy.

Boxes are relative to the picture. A Truth is in pixels, so the sizes are read from the pictures' headers.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

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
    number,
    picture_size,
    read_json,
    read_text,
    sound,
    truths,
)  # fmt: skip
from lookonce.errors import DataError, shown

BOX = ("ImageID", "LabelName", "XMin", "XMax", "YMin", "YMax")
LABEL = ("ImageID", "LabelName", "Confidence")
SPLITS = ("train", "validation", "test")
OVER = 1e-3                     # so much beyond 1 is rounding


class Tables(NamedTuple):
    """The files of a folder, by what their first lines say they hold: those of boxes and labels by split."""

    boxes: Mapping[str, Path]
    labels: Mapping[str, Path | None]
    pictures: Path | None
    names: Path | None
    hierarchy: Path | None


def is_openimages(path: Path) -> bool:
    """Whether this is a table of boxes or of labels, or a folder with one."""
    found = tables_in(path) if path.is_dir() else _sorted_out([path])
    return bool(found.boxes or found.labels)


def tables_in(folder: Path) -> Tables:
    """The tables in a folder."""
    return _sorted_out([folder / name for name in sorted(Listing().names(folder))])


def _sorted_out(paths: Sequence[Path]) -> Tables:
    boxes: dict[str, Path] = {}
    labels: dict[str, Path] = {}
    found = Tables(boxes, labels, None, None, None)
    for path in paths:
        if path.name.endswith("hierarchy.json"):
            found = found._replace(hierarchy=found.hierarchy or path)
        if path.suffix.lower() != ".csv":
            continue
        head = _head(path)
        if set(BOX) <= set(head):
            boxes.setdefault(_split_of(path), path)
        elif set(LABEL) <= set(head):
            labels.setdefault(_split_of(path), path)
        elif head == ["ImageID"]:
            found = found._replace(pictures=found.pictures or path)
        elif "class-descriptions" in path.name or head[:2] == ["LabelName", "DisplayName"]:
            found = found._replace(names=found.names or path)
    return found


def _head(path: Path) -> list[str]:
    """The first row of a table, empty if it is no text."""
    try:
        with files.open_regular(path, DataError) as file:
            line = file.readline(1 << 12).decode("utf-8-sig").rstrip("\r\n")
            return next(csv.reader([line]), [])
    except (DataError, UnicodeDecodeError, csv.Error):
        return []


def _split_of(path: Path) -> str:
    return next((split for split in SPLITS if split in path.name.lower()), "")


def read(path: Path, split: str | None, names: Sequence[str] | None) -> Dataset:
    """A folder with tables of boxes, labels and names and a hierarchy, or the table of boxes in it.

    Pictures lie in SPLIT/, images/SPLIT/, images/ or the folder itself. Names are the display names in the order of
    class-descriptions, or without that the codes that are used, sorted. Groups are crowds. A label that a person
    verified is one of the Truth's classes, one found wrong is in Item.absent. Raises DataError for a table that cannot
    be read, or if several splits are there and none was asked for.
    """
    findings, listing = Findings(), Listing()
    folder = path if path.is_dir() else path.parent
    tables = tables_in(folder)
    if path.is_file():
        own = _sorted_out([path])
        _check_some(path, own)
        found = next(iter(own.boxes or own.labels), "")
        tables = tables._replace(boxes=own.boxes, labels=own.labels or {found: tables.labels.get(found)})
        if split not in (None, found):
            raise DataError(f"{path}: is one table, of which no split {shown(str(split))} can be taken")
    else:
        _check_some(path, tables)
        there = sorted(tables.boxes.keys() | tables.labels.keys())
        found = chosen("splits", path, split, there) if split is not None or len(there) > 1 else there[0]
    boxes, labels = tables.boxes.get(found), tables.labels.get(found)
    rows = list(_rows(boxes, findings)) if boxes else []
    verified = list(_rows(labels, findings)) if labels else []
    codes, names = _classes(tables.names, {row["LabelName"] for _, row in (*rows, *verified)}, names)
    ids = [row["ImageID"] for _, row in (*rows, *verified)]
    if tables.pictures is not None:
        ids = [id for id in read_text(tables.pictures).splitlines()[1:] if id] + ids
    index_of = {id: index for index, id in enumerate(dict.fromkeys(ids))}
    items = [_item(id, folder, found, boxes or labels or path, listing, findings) for id in index_of]
    columns = _boxes(boxes or path, rows, items, index_of, codes, names, findings)
    present, absent = _labels(labels or path, verified, index_of, codes, names, findings)
    found_truths = truths(len(items), **columns, classes=present)
    whole = tuple(
        item._replace(truth=truth, absent=tuple(absent.get(index, ())))
        for index, (item, truth) in enumerate(zip(items, found_truths, strict=True))
    )
    above = _above(tables.hierarchy, codes, len(names)) if tables.hierarchy else ()
    return Dataset("openimages", path, tuple(names), whole, problems=findings(), above=above)


def _check_some(path: Path, tables: Tables) -> None:
    """Raise DataError if there is neither a table of boxes nor one of labels."""
    if not tables.boxes and not tables.labels:
        wanted = f"{', '.join(BOX)} or {', '.join(LABEL)}"
        raise DataError(f"{path}: holds no table of boxes or labels, wanted a .csv with the columns {wanted}")


def _rows(path: Path, findings: Findings) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows of a table with their lines; one without a picture or class is left out and noted."""
    reader = csv.DictReader(io.StringIO(read_text(path)))
    try:
        for row in reader:
            if row.get("ImageID") and row.get("LabelName"):
                yield reader.line_num, row
            else:
                findings.error("unreadable row", path, f"line {reader.line_num}", "has no ImageID or no LabelName")
    except csv.Error as problem:
        raise DataError(f"{path}:{reader.line_num}: is no table that can be read: {problem}") from None


def _classes(
    path: Path | None, used: set[str], names: Sequence[str] | None
) -> tuple[dict[str, int], tuple[str, ...]]:
    """The label of each code, and all names. A code that is none of the asked names is not in it."""
    called = {code: code for code in sorted(used)}
    if path is not None:
        try:
            rows = [row[:2] for row in csv.reader(io.StringIO(read_text(path))) if len(row) >= 2]
        except csv.Error as problem:
            raise DataError(f"{path}: is no table that can be read: {problem}") from None
        called = {code: name for code, name in reversed(rows) if code != "LabelName"}
        called = dict(reversed(called.items()))             # of two rows of one code the first counts
    if names is None:
        return {code: label for label, code in enumerate(called)}, tuple(called.values())
    known = labels_of(names)
    return {code: known[name] for code, name in called.items() if name in known}, tuple(names)


def _item(id: str, folder: Path, split: str, named_in: Path, listing: Listing, findings: Findings) -> Item:
    places = [folder / below for below in (split, f"images/{split}", "images", ".") if below]
    usable = id if Path(id).name == id and "\0" not in id else "-"
    found = next((path for place in places if (path := listing.picture(place, usable)) is not None), None)
    path = found or folder / "images" / f"{usable}.jpg"
    size = picture_size(path, findings) if listing.need(path, named_in, findings) else None
    return Item(id, path, size, NOTHING, named_in)


def _boxes(
    path: Path,
    rows: Sequence[tuple[int, Mapping[str, str]]],
    items: Sequence[Item],
    index_of: Mapping[str, int],
    codes: Mapping[str, int],
    names: Sequence[str],
    findings: Findings,
) -> dict[str, Any]:
    """All boxes as columns, in pixels. One of an unknown class or of no numbers is left out and noted."""
    sides = ("XMin", "YMin", "XMax", "YMax")
    corners = np.array([[number(row[side]) for side in sides] for _, row in rows], np.float64).reshape(-1, 4)
    picture = np.array([index_of[row["ImageID"]] for _, row in rows], np.int64)
    label = np.array([codes.get(row["LabelName"], -1) for _, row in rows], np.int64)
    crowd = np.array([row.get("IsGroupOf") == "1" for _, row in rows], bool)
    inside = ((corners >= -OVER) & (corners <= 1 + OVER)).all(1)         # NaN is not
    for i in np.flatnonzero(~inside).tolist():
        saw = ", ".join(f"{side} {shown(str(rows[i][1][side]))}" for side in BOX[2:])
        findings.error("unreadable box", path, f"line {rows[i][0]}", f"has {saw}; wanted four numbers from 0 to 1")
    for i in np.flatnonzero(label < 0).tolist():
        findings.unknown_name(path, f"line {rows[i][0]}", rows[i][1]["LabelName"], (*codes, *names))
    sizes = np.array([item.size or (np.nan, np.nan) for item in items], np.float64).reshape(-1, 2)
    keep = inside & (label >= 0) & ~np.isnan(sizes[picture, 0])
    (at,) = np.nonzero(keep)
    xyxy = corners[at] * np.tile(sizes[picture[at]], 2)
    xywh = np.concatenate([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]], axis=1)
    some = sound(xywh, findings, lambda i: (path, f"line {rows[at[i]][0]}", names[label[at[i]]]))
    at, xyxy = at[some], xyxy[some]
    return {"picture": picture[at], "label": label[at], "xyxy": xyxy, "crowd": crowd[at]}


def _labels(
    path: Path,
    rows: Sequence[tuple[int, Mapping[str, str]]],
    index_of: Mapping[str, int],
    codes: Mapping[str, int],
    names: Sequence[str],
    findings: Findings,
) -> tuple[dict[int, list[int]], dict[int, list[int]]]:
    """The classes that people found in each picture, and those that they looked for and did not find."""
    present: dict[int, list[int]] = {}
    absent: dict[int, list[int]] = {}
    unverified = 0
    for line, row in rows:
        label, sure = codes.get(row["LabelName"]), number(row.get("Confidence"))
        if label is None:
            findings.unknown_name(path, f"line {line}", row["LabelName"], (*codes, *names))
        elif sure in (0, 1):
            said = (present if sure else absent).setdefault(index_of[row["ImageID"]], [])
            if label not in said:
                said.append(label)
        elif 0 < sure < 1:
            unverified += 1
        else:
            findings.error("unreadable row", path, f"line {line}", f"Confidence is {shown(str(row.get('Confidence')))}")
    if unverified:
        text = f"{unverified:,} labels are a machine's, neither 0 nor 1; they are left out"
        findings.warning("unverified label", path, "", text)
    return present, absent


def _above(path: Path, codes: Mapping[str, int], count: int) -> tuple[tuple[int, ...], ...]:
    """For each class all those above it, by `Subcategory`, not by `Part`. The root, which is everything, is none."""
    root = read_json(path)
    above: list[set[int]] = [set() for _ in range(count)]
    waiting: list[tuple[Any, frozenset[int]]] = [(root, frozenset())]
    while waiting:
        node, over = waiting.pop()
        if not isinstance(node, dict) or not isinstance(node.get("LabelName"), str):
            raise DataError(f"{path}: is no hierarchy: wanted a LabelName, and a list Subcategory, in every object")
        label = None if node is root else codes.get(node["LabelName"])
        if label is not None:
            above[label] |= over
            over |= {label}
        below = node.get("Subcategory", [])
        waiting += [(child, over) for child in (below if isinstance(below, list) else [below])]
    return tuple(tuple(sorted(over - {label})) for label, over in enumerate(above))


# ---------------------------------------------------------------------- writing
def write(folder: Path, dataset: Dataset, placed: Sequence[Placed]) -> None:
    """annotations-bbox.csv, human-imagelabels.csv, class-descriptions.csv, and images.csv with all pictures.

    Boxes are kept to ten digits relative to the picture, with names, crowds as groups, and the labels of whole
    pictures. `difficult`, areas and the hierarchy are lost. Codes of classes are their numbers: /m/00001.
    """
    codes = [f"/m/{label + 1:05}" for label in range(len(dataset.names))]
    boxes: list[Sequence[object]] = []
    labels: list[Sequence[object]] = []
    for item, (id, _, size) in zip(dataset.items, placed, strict=True):
        truth = item.truth
        share = (truth.xyxy / np.tile(np.array(size, np.float64), 2)).tolist()
        for label, (left, top, right, bottom), crowd in zip(
            truth.label.tolist(), share, truth.crowd.tolist(), strict=True
        ):
            sides = [f"{x:.10g}" for x in (left, right, top, bottom)]
            boxes.append([id, "xclick", codes[label], 1, *sides, 0, 0, int(crowd), 0, 0])
        labels += [[id, "verification", codes[label], 1] for label in truth.classes]
        labels += [[id, "verification", codes[label], 0] for label in item.absent]
    flags = ("IsOccluded", "IsTruncated", "IsGroupOf", "IsDepiction", "IsInside")
    head = ("ImageID", "Source", "LabelName", "Confidence")
    _write(folder / "annotations-bbox.csv", [(*head, *BOX[2:], *flags), *boxes])
    _write(folder / "human-imagelabels.csv", [head, *labels])
    _write(folder / "images.csv", [("ImageID",), *((id,) for id, _, _ in placed)])
    rows = zip(codes, dataset.names, strict=True)
    _write(folder / "class-descriptions.csv", [("LabelName", "DisplayName"), *rows])


def _write(path: Path, rows: Sequence[Sequence[object]]) -> None:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    with files.write_atomically(path) as file:
        file.write(text.getvalue().encode())
