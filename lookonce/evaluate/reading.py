"""Result files of any detector, read into columns: COCO's, our own, CSV, VOC's, Darknet's."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lookonce.boxes import to_xyxy
from lookonce.errors import DataError, nearest, shown, warn
from lookonce.evaluate.columns import Answers
from lookonce.evaluate.mapping import by_name
from lookonce.evaluate.rows import File, Known, Rows, checked, finite, known_names, picture_of, same_length
from lookonce.files import read_bytes

MOST_HEAD = 16 << 20                 # of our JSON, with the names of its classes
MOST_BYTES = 1 << 31                 # of one file of results
CSV_COLUMNS = ("file", "frame", "name", "score", "left", "top", "right", "bottom")
VOC_FILE = re.compile(r"comp\d_det_[^_]+_(.+)", re.DOTALL)
WANTED = "wanted COCO's results, our JSON, JSON lines or CSV, or VOC's comp4 files"


def read_results(
    path: str | Path,
    pictures: Sequence[str],
    names: Sequence[str],
    numbers: Mapping[int, int] | None = None,
    sizes: Sequence[tuple[int, int] | None] | None = None,
    files: Sequence[str] = (),
) -> Answers:
    """The boxes of a file or folder of results, for pictures and classes numbered as in `pictures` and `names`.

    COCO's results: `image_id` is a picture's name, the name of its file, the same number, or the number at the end of
    its name; `category_id` has its label in `numbers` (which may be one beyond `names`), without them by
    `coco_numbers`. All others call a picture by its file: `files` are the pictures', without them each is its name. Our
    JSON, JSON lines and CSV: with or without folder and suffix, which tell files of one name apart; a frame of a video
    is the picture NAME_FRAME. VOC's and Darknet's comp4 files: a folder of them or one; corners count from 1 and are
    kept as the devkit measures them: xyxy is (x1 - 1, y1 - 1, x2, y2). A folder of label files, one a picture, with a
    score first or last after the class: their boxes are relative to `sizes` (width, height). A class is the one of the
    same name, else as `shared_names` has it; in our own forms boxes of other classes are left out, with a warning, if
    there are boxes of these.

    Raises DataError, with file and place, for what is no such file, a picture or class that is unknown, a value that
    is missing or not finite, a box whose right is left of its left, a picture or class that is there twice, and if
    there is no box at all. Warns of rows that are there twice.
    """
    path = Path(path)
    known = known_names(pictures, names, numbers, files)
    if path.is_dir():
        answers = _folder(path, known, sizes)
    else:
        text = _text(path)
        voc = path.suffix == ".txt" and text.lstrip()[:1] not in ("[", "{")
        answers = checked(_voc(path, known) if voc else _rows(path, text), known)
    if not len(answers.score):
        raise DataError(f"{path}: holds no box at all: was anything detected, and at which threshold?")
    order = np.lexsort((answers.score, *answers.xyxy.T, answers.label, answers.picture))
    same = np.ones(len(order) - 1, bool)
    for column in (answers.picture, answers.label, answers.score, *answers.xyxy.T):
        same &= np.diff(column[order]) == 0
    if same.any():
        warn(f"{path}: {same.sum():,} of {len(order):,} rows are there twice, and count twice")
    return answers


def names_in(path: str | Path) -> tuple[str, ...]:
    """All classes of the model that gave the answers, as the head of `val`'s JSON has them; none of other files."""
    try:
        with Path(path).open("rb") as file:
            head = file.readline(MOST_HEAD).strip().removeprefix(b"\xef\xbb\xbf")
        names = json.loads(head + b"]}").get("names", []) if head.startswith(b"{") else []
    except (OSError, ValueError, RecursionError, AttributeError):      # whoever reads all of it says what is wrong
        return ()
    return tuple(names) if isinstance(names, list) and all(isinstance(name, str) for name in names) else ()


def _text(path: Path) -> str:
    try:
        return read_bytes(path, MOST_BYTES, DataError).decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise DataError(f"{path}: byte {problem.start:,} is no text: {WANTED}") from None


def _rows(path: Path, text: str) -> Rows:
    """The rows of one file, by what it begins with."""
    start = text.lstrip()[:1]
    if start == "[":
        return _coco(path, _json(path, text))
    if start == "{":
        first, _, rest = text.lstrip().partition("\n")
        if rest.strip() and _is_json(first):
            return _lines(path, text)
        return _own(path, _json(path, text))
    if text.strip() in ("", "]"):                        # "]" is what Darknet leaves where it found nothing
        raise DataError(f"{path}: holds no box at all: was anything detected, and at which threshold?")
    header = next(csv.reader([text.partition("\n")[0].strip()]), [])
    if "file" in header and "score" in header:
        return _csv(path, text)
    raise DataError(f"{path}: begins with {shown(text.strip())!r}, {WANTED}")


def _json(path: Path, text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as problem:
        raise DataError(f"{path}:{problem.lineno}: not JSON: {problem.msg} at column {problem.colno}") from None
    except (RecursionError, ValueError) as problem:      # nested too deeply, an endless number
        raise DataError(f"{path}: no JSON that can be read: {shown(str(problem), 80)}") from None


def _is_json(line: str) -> bool:
    try:
        json.loads(line)
    except (RecursionError, ValueError):
        return False
    return True


def _coco(path: Path, rows: Any) -> Rows:
    """COCO's results: one object a box."""

    def place(row: int) -> str:
        return f"{path}: [{row}]"

    picture, label, score, box = _columns(rows, ("image_id", "category_id", "score", "bbox"), place)
    return Rows(picture, label, score, box, "xywh", place, numbered=True)


def _own(path: Path, document: dict[str, Any]) -> Rows:
    """Our JSON: a document with pictures, or one picture."""
    if "annotations" in document or "images" in document:
        raise DataError(f"{path}: is a dataset (it has images or annotations), {WANTED}")
    if "detections" in document:
        return _pictures([document], lambda nth: f"{path}")
    if not isinstance(document.get("pictures"), list):
        keys = ", ".join(shown(key) for key in list(document)[:4])
        raise DataError(f"{path}: has the keys {keys or '(none)'}, wanted pictures; {WANTED}")
    return _pictures(document["pictures"], lambda nth: f"{path}: pictures[{nth}]")


def _lines(path: Path, text: str) -> Rows:
    """Our JSON lines: one picture a line."""
    found, lines = [], []
    for line, part in enumerate(text.split("\n"), start=1):
        if part.strip():
            try:
                found.append(json.loads(part))
            except (RecursionError, ValueError) as problem:
                raise DataError(f"{path}:{line}: not JSON: {shown(str(problem), 80)}") from None
            lines.append(line)
    return _pictures(found, lambda nth: f"{path}:{lines[nth]}")


def _pictures(found: list[Any], place: Callable[[int], str]) -> Rows:
    """Our pictures: each with a file, perhaps a frame, and detections."""
    seen: set[File] = set()
    files = []
    for nth, one in enumerate(found):
        if not (isinstance(one, dict) and isinstance(one.get("file"), str) and isinstance(one.get("detections"), list)):
            raise DataError(f"{place(nth)}: wanted an object with a file and a list of detections")
        file = File.of(one["file"], one.get("frame"))
        if file in seen:
            title = shown(str(file), 200)
            raise DataError(f"{place(nth)}: picture {title} is there for the second time, wanted it once")
        seen.add(file)
        files.append(file)
    counts = [len(one["detections"]) for one in found]
    of = np.repeat(np.arange(len(found)), counts).tolist()
    first = list(itertools.accumulate(counts, initial=0))

    def where(row: int) -> str:
        return f"{place(of[row])}: detections[{row - first[of[row]]}]"

    rows = list(itertools.chain.from_iterable(one["detections"] for one in found))
    name, score, box = _columns(rows, ("name", "score", "xyxy"), where)
    return Rows([files[nth] for nth in of], name, score, box, "xyxy", where)


def _columns(rows: Any, keys: Sequence[str], place: Callable[[int], str]) -> list[list[Any]]:
    """The values of some keys, which every row must have."""
    try:
        return [[row[key] for row in rows] for key in keys]
    except (KeyError, TypeError, IndexError):
        for number, row in enumerate(rows):
            if not isinstance(row, dict):
                raise DataError(f"{place(number)}: found {shown(repr(row))}, wanted an object") from None
            for key in keys:
                if key not in row:
                    hint = ": are these truths, not results?" if key == "score" else ""
                    raise DataError(f"{place(number)}: has no {key}{hint}") from None
        raise


def _csv(path: Path, text: str) -> Rows:
    """Our CSV: one row a box, by its header."""

    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    rows: list[list[str]] = []
    lines: list[int] = []

    def place(row: int) -> str:
        return f"{path}:{lines[row]}"

    try:
        header = next(row for row in reader if row)
        for row in reader:
            if row:
                rows.append(row)
                lines.append(reader.line_num)
    except csv.Error as problem:
        raise DataError(f"{path}:{reader.line_num}: not CSV: {problem}") from None
    for name in CSV_COLUMNS:
        if name not in (*header, "frame"):
            raise DataError(f"{path}:1: has no column {name}, wanted {', '.join(CSV_COLUMNS)}")
    same_length(rows, len(header), place)
    columns = {name: [row[nth] for row in rows] for nth, name in enumerate(header)}
    frames = columns.get("frame", [""] * len(rows))
    pairs = list(zip(columns["file"], frames, strict=True))
    file_of = {pair: File.of(pair[0], pair[1] or None) for pair in set(pairs)}
    box = list(zip(*(columns[side] for side in CSV_COLUMNS[-4:]), strict=True))
    return Rows([file_of[pair] for pair in pairs], columns["name"], columns["score"], box, "xyxy", place, words=True)


def _voc(path: Path, known: Known) -> Rows:
    """One of VOC's files: picture, score, left, top, right, bottom; the class is in its name."""
    rows, place = _table(path, 5, 6)
    if not rows:
        return Rows([], [], [], [], "devkit", place, words=True)
    stems, score, *box = zip(*rows, strict=True)
    file_of = {stem: File("", stem, "") for stem in set(stems)}
    picture = [file_of[stem] for stem in stems]
    name = known.names[_class_of(path, known)]
    return Rows(picture, (name,) * len(rows), score, list(zip(*box, strict=True)), "devkit", place, words=True)


def _table(path: Path, splits: int, length: int) -> tuple[list[list[str]], Callable[[int], str]]:
    """The columns of a text, split from the right, and where each row is."""
    lines = [(number, line) for number, line in enumerate(_text(path).split("\n"), start=1) if line.strip()]
    rows = [line.strip().rsplit(None, splits) for _, line in lines]

    def place(row: int) -> str:
        return f"{path}:{lines[row][0]}"

    same_length(rows, length, place)
    return rows, place


def _class_of(path: Path, known: Known) -> int:
    """The class that a file of VOC's is for. Raises DataError if its name ends in none."""
    if whole := VOC_FILE.fullmatch(path.stem):
        label = known.in_files.get(whole[1], int(by_name([whole[1]], known.names)[0]))
        if label >= 0:
            return label
        raise DataError(f"{path}: {shown(whole[1])!r} is none of the classes{nearest(whole[1], known.in_files)}")
    ends = [name for name in known.in_files if path.stem.endswith(name)]           # Darknet puts its -out before it
    if not ends:
        raise DataError(f"{path}: its name ends in none of the {len(known.in_files):,} classes, as VOC's files do")
    return known.in_files[max(ends, key=len)]


def _folder(path: Path, known: Known, sizes: Sequence[tuple[int, int] | None] | None) -> Answers:
    """VOC's files, one a class, or label files, one a picture."""
    files = sorted(each for each in path.iterdir() if each.suffix == ".txt" and each.is_file())
    if not files:
        raise DataError(f"{path}: holds no .txt file, wanted VOC's comp4 files, one a class")
    if all(each.stem in known.stems for each in files):
        return _labels(path, files, known, sizes)
    owners: dict[int, Path] = {}
    parts = []
    for file in files:
        owner = owners.setdefault(_class_of(file, known), file)
        if owner != file:
            raise DataError(f"{file}: is of the same class as {owner.name}, wanted one file a class")
        parts.append(checked(_voc(file, known), known))
    return Answers(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def _labels(
    folder: Path, files: Sequence[Path], known: Known, sizes: Sequence[tuple[int, int] | None] | None
) -> Answers:
    """Darknet's labels with a score: class, x, y, width, height relative to the picture, the score before or after."""
    rows, places, owner = [], [], []
    for file in files:
        each, place = _table(file, -1, 6)
        rows += each
        places += [place(row) for row in range(len(each))]
        if each:
            at = picture_of(File("", file.stem, ""), known, lambda file=file: str(file))  # type: ignore[misc]
            owner += [at] * len(each)
    values = finite(list(itertools.chain.from_iterable(rows)), "number", lambda at: places[at // 6], words=True)
    values = values.reshape(-1, 6)
    picture = np.array(owner, np.int64)
    fits = [_inside(values[:, part]) for part in (slice(1, 5), slice(2, 6))]
    if fits[0] == fits[1]:
        raise DataError(
            f"{folder}: is the score the second column or the last? Wanted COCO's results, JSON, or VOC's comp4 files"
        )
    score, box = (values[:, 5], values[:, 1:5]) if fits[0] else (values[:, 1], values[:, 2:6])
    label = values[:, 0].astype(np.int64)
    for at in np.flatnonzero((label != values[:, 0]) | (label < 0) | (label >= len(known.names)))[:1]:
        raise DataError(f"{places[at]}: class {values[at, 0]:g}, wanted 0 to {len(known.names) - 1}")
    size = np.array([(sizes and sizes[one]) or (0, 0) for one in owner], np.float64).reshape(-1, 2)
    for at in np.flatnonzero(size[:, 0] == 0)[:1]:
        raise DataError(f"{places[at]}: is relative to its picture, whose size is not known")
    corner = (box[:, :2] - box[:, 2:] / 2) * size
    xywh = np.concatenate([corner, box[:, 2:] * size], axis=1)
    return Answers(picture, label, to_xyxy(xywh), xywh, score)


def _inside(box: np.ndarray) -> bool:
    """Whether all are boxes (x, y, width, height by their centre) within 0 to 1, but for rounding."""
    half = box[:, 2:] / 2
    return bool((half >= 0).all() and (box[:, :2] - half > -1e-4).all() and (box[:, :2] + half < 1 + 1e-4).all())


