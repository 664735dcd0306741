"""Darknet: a list of pictures, and beside each a text of its objects, relative to the picture.

One object a line: class, then centre x, centre y, width, height, each from 0 to 1. A Truth is in pixels, so the sizes
are read from the pictures' headers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from lookonce import files, pictures
from lookonce.darknet.lists import Data, names_to_bytes, read_data, read_image_list, read_names
from lookonce.data.dataset import Dataset, Item
from lookonce.data.reading import NOTHING, Findings, Listing, Placed, chosen, number, picture_size, sound, truths
from lookonce.errors import DataError, shown

MAX_LABELS = 16 << 20           # 400,000 objects in a picture
OVER = 1e-3                     # so much beyond 1 is rounding
PARTS = ("images", "JPEGImages")
LISTS = ("train", "valid", "test")


def is_darknet(folder: Path) -> bool:
    """Whether a folder has one .data file, images/ and labels/ in it or in its splits, or texts beside pictures."""
    return _data_in(folder) is not None or bool(_splits(folder)) or _lists_labels(folder)


def read(path: Path, split: str | None, names: Sequence[str] | None) -> Dataset:
    """What a .data file, a list of pictures, or a folder with images/ and labels/ names.

    A .data file's `split` is one of its keys, `valid` by default; `val` means that too, and `train+valid` is several, a
    picture of both lists once. A folder's is the folder in
    images/ or the one that images/ is in. The names are those that the .data file says, or of the only .names file or
    classes.txt beside. Labels lie where Darknet looks: `images` or `JPEGImages` in the path becomes `labels`, the last
    of them and only as a whole part, the suffix .txt; or else beside the picture. A picture without is one without
    objects, with a warning. Raises DataError for a list or .data file that cannot be read.
    """
    findings, listing = Findings(), Listing()
    own = _data_in(path) if path.is_dir() else None
    if path.suffix.lower() == ".data" or own is not None:
        data = read_data(own or path)
        if names is None:
            names = read_names(data.file("names", anywhere=True))
        _check_count(data, names, findings)
        found: list[Path] = []
        for each in _lists_of(data, split):
            seen = set(found)
            found += [place for place in _listed(each, listing) if place not in seen]
    elif path.is_dir():
        found, path_of_names = _pictures_of(path, split), [path, *path.parents[:1]]
        names = _names_in(path_of_names, listing) if names is None else names
    else:
        if split is not None:
            raise DataError(f"{path}: is one list, of which no split {shown(split)} can be taken")
        found = _listed(path, listing)
        names = _names_in([path.parent], listing) if names is None else names
    return _read(path, found, names, listing, findings)


def _read(
    path: Path, found: Sequence[Path], names: Sequence[str] | None, listing: Listing, findings: Findings
) -> Dataset:
    items: list[Item] = []
    owner: list[int] = []
    rows: list[tuple[float, ...]] = []
    places: list[int] = []
    for place in found:
        labels = next((each for each in labels_of(place) if listing.has(each)), None)
        size = picture_size(place, findings) if listing.need(place, labels or path, findings) else None
        if labels is None:
            findings.warning("picture without labels", place, "", "has no file of labels")
        else:
            for line, row in _rows(labels, findings):
                owner.append(len(items))
                rows.append(row)
                places.append(line)
        items.append(Item(place.stem, place, size, NOTHING, labels))
    if items and all(item.labels is None for item in items):
        text = f"no picture has labels; of {items[0].path.name} they would be in {labels_of(items[0].path)[0]}"
        findings.error("missing labels", path, "", text)
    values = np.array(rows, np.float64).reshape(-1, 5)
    owners = np.array(owner, np.int64)
    label = values[:, 0].astype(np.int64)
    if names is None:
        names = tuple(str(number) for number in range(int(min(label.max(initial=0), 99_999)) + 1))
        findings.warning("no names", path, "", "no file of names is beside it: classes are called by their numbers")
    keep = _known(items, owners, places, label, names, findings)
    sizes = np.array([item.size or (np.nan, np.nan) for item in items], np.float64).reshape(-1, 2)
    keep &= ~np.isnan(sizes[owners, 0])                     # noted with the picture
    label, owners, values, places = label[keep], owners[keep], values[keep], np.array(places)[keep].tolist()
    centre, side = values[:, 1:3], values[:, 3:5]
    corner = np.concatenate([(centre - side / 2) * sizes[owners], (centre + side / 2) * sizes[owners]], axis=1)
    xywh = np.concatenate([corner[:, :2], side * sizes[owners]], axis=1)                 # (M, 4)
    sound(xywh, findings, lambda i: (_labels(items[owners[i]]), f"line {places[i]}", names[label[i]]))
    found_truths = truths(len(items), owners, label, xyxy=corner, xywh=xywh)
    whole = tuple(item._replace(truth=truth) for item, truth in zip(items, found_truths, strict=True))
    return Dataset("darknet", path, tuple(names), whole, problems=findings())


def labels_of(picture: Path) -> list[Path]:
    """Where the labels of a picture may lie, in the order in which they are looked for."""
    parts, found = picture.parts[:-1], []
    for part in PARTS:
        if part in parts:
            last = len(parts) - 1 - parts[::-1].index(part)
            found.append(Path(*parts[:last], "labels", *parts[last + 1 :], f"{picture.stem}.txt"))
    return [*found, picture.with_suffix(".txt")]


def _labels(item: Item) -> Path:
    return item.labels or item.path


def _known(
    items: Sequence[Item], owner: np.ndarray, line: Sequence[int], label: np.ndarray, names: Sequence[str],
    findings: Findings,
) -> np.ndarray:  # fmt: skip
    """Which objects (M,) are of a class that has a name."""
    keep: np.ndarray = label < len(names)
    for i in np.flatnonzero(~keep).tolist():
        text = f"class {label[i]} has no name: there are {len(names)}, counted from 0"
        findings.error("unknown name", _labels(items[owner[i]]), f"line {line[i]}", text)
    return keep


def _rows(path: Path, findings: Findings) -> list[tuple[int, tuple[float, ...]]]:
    """The objects of one text: line, and its five numbers."""
    try:
        data = files.read_bytes(path, MAX_LABELS, DataError).removeprefix(b"\xef\xbb\xbf")
    except DataError as problem:
        findings.error("unreadable labels", path, "", str(problem).removeprefix(f"{path}: "))
        return []
    if b"\0" in data:
        findings.error("unreadable labels", path, "", "holds NUL bytes, wanted one object a line")
        return []
    found = []
    for place, line in enumerate(data.decode("ascii", "replace").splitlines(), start=1):
        parts = line.split()
        if not parts:
            continue
        values = tuple(number(part) for part in parts)
        fault = _fault(parts, values)
        if fault is None:
            found.append((place, values))
        else:
            findings.error(fault[0], path, f"line {place}", f"{shown(line)}: {fault[1]}")
    return found


def _fault(parts: Sequence[str], values: Sequence[float]) -> tuple[str, str] | None:
    """What is wrong with a line, as a kind and in words; None if nothing is."""
    if len(parts) != 5:
        return "unreadable box", f"{len(parts)} values, wanted class, centre x, centre y, width, height"
    if not parts[0].isdigit() or len(parts[0]) > 9:
        return "unknown name", "the class is no whole number from 0"
    if not all(-OVER <= value <= 1 + OVER for value in values[1:]) or min(values[3:]) < 0:
        in_pixels = all(value >= 0 for value in values[1:])
        hint = ": are these pixels?" if in_pixels else ""
        return "unreadable box", f"wanted four numbers from 0 to 1, relative to the picture{hint}"
    return None


# ---------------------------------------------------------------------- lists, folders, names
def parts_of(path: Path) -> str | None:
    """The split that is all that a .data file learns from and is judged by, `train+valid`; None of anything else."""
    own = path if path.suffix.lower() == ".data" else _data_in(path) if path.is_dir() else None
    if own is None:
        return None
    return "+".join(key for key in ("train", "valid") if key in read_data(own).values) or None


def _lists_of(data: Data, split: str | None) -> list[Path]:
    """The lists of a split, each once. Raises DataError."""
    there = [name for name in LISTS if name in data.values]
    keys = ["valid" if key == "val" else key for key in (split or "valid").split("+")]
    return list(dict.fromkeys(data.file(chosen("lists", data.path, key, there), anywhere=True) for key in keys))


def _listed(path: Path, listing: Listing) -> list[Path]:
    """The pictures of a list. One that is nowhere is missing beside the list if there is such a folder."""
    return [
        path.parent / place
        if not place.is_absolute() and not listing.has(place) and (path.parent / place).parent.is_dir()
        else place
        for place in read_image_list(path)
    ]


def _check_count(data: Data, names: Sequence[str], findings: Findings) -> None:
    said = data.values.get("classes")
    if said is not None and said != str(len(names)):
        text = f"classes = {shown(said)}, but there are {len(names)} names"
        findings.error("wrong number of names", data.path, "classes", text)


def _data_in(folder: Path) -> Path | None:
    """The only .data file of a folder."""
    found = [name for name in Listing().names(folder) if name.lower().endswith(".data")]
    return folder / found[0] if len(found) == 1 else None


def _splits(folder: Path) -> dict[str, Path]:
    """The folders of pictures by split, "" where there is only one: images/, images/SPLIT/, SPLIT/images/."""
    found: dict[str, Path] = {}
    for part in PARTS:
        if (folder / part).is_dir() and (folder / "labels").is_dir():
            found |= {"": folder / part} if _pictures_in(folder / part) else {}
            found |= {below.name: below for below in _folders(folder / part) if _pictures_in(below)}
    for below in _folders(folder):
        found |= {below.name: below / "images"} if (below / "images").is_dir() and (below / "labels").is_dir() else {}
    return found


def _pictures_of(folder: Path, split: str | None) -> list[Path]:
    splits = _splits(folder) or ({"": folder} if _pictures_in(folder) else {})
    if not splits:
        raise DataError(f"{folder}: holds no pictures, wanted images/ and labels/, or one .data file")
    key = "" if split is None and "" in splits else chosen("splits", folder, split, sorted(set(splits) - {""}))
    return _pictures_in(splits[key])


def _pictures_in(folder: Path) -> list[Path]:
    names = sorted(Listing().names(folder))
    return [folder / name for name in names if name.lower().endswith(pictures.SUFFIXES)]


def _folders(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.is_dir())


def _lists_labels(folder: Path) -> bool:
    """Whether a picture has a text of the same name beside it."""
    listing = Listing()
    return any(listing.has(path.with_suffix(".txt")) for path in _pictures_in(folder))


def _names_in(folders: Sequence[Path], listing: Listing) -> tuple[str, ...] | None:
    """The names in the only .names file or the classes.txt of the first folder that has one."""
    for folder in folders:
        there = sorted(name for name in listing.names(folder) if name.endswith(".names"))
        if len(there) == 1 or "classes.txt" in listing.names(folder):
            return read_names(folder / (there[0] if len(there) == 1 else "classes.txt"))
    return None


# ---------------------------------------------------------------------- writing
def write(folder: Path, dataset: Dataset, placed: Sequence[Placed]) -> None:
    """labels/NAME.txt of each picture, the list pictures.txt, dataset.names, and dataset.data that names them.

    Boxes are kept to ten digits relative to the picture, and names. `difficult`, crowds, areas and labels of whole
    pictures are lost: every object counts. The list's paths are relative: Darknet takes them from the current folder.
    """
    for item, (id, _, size) in zip(dataset.items, placed, strict=True):
        scale = np.array(size, np.float64)
        xywh = item.truth.xywh
        rows = np.concatenate([(xywh[:, :2] + xywh[:, 2:] / 2) / scale, xywh[:, 2:] / scale], axis=1)    # (M, 4)
        lines = [
            f"{label} {' '.join(f'{x:.10g}' for x in row)}\n"
            for label, row in zip(item.truth.label.tolist(), rows.tolist(), strict=True)
        ]
        with files.write_atomically(folder / "labels" / f"{id}.txt") as file:
            file.write("".join(lines).encode())
    texts = {
        "pictures.txt": "".join(f"{path.relative_to(folder).as_posix()}\n" for _, path, _ in placed).encode(),
        "dataset.names": names_to_bytes(dataset.names, folder / "dataset.names"),
        "dataset.data": f"classes = {len(dataset.names)}\ntrain = pictures.txt\nvalid = pictures.txt\n"
        f"names = dataset.names\n".encode(),
    }
    for name, data in texts.items():
        with files.write_atomically(folder / name) as file:
            file.write(data)
