"""Detections as text: a table for people; JSON, JSON lines and CSV for programs; COCO, VOC, Darknet for judges."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, Protocol

from lookonce import files
from lookonce.detections import Detections, coco_numbers, summary
from lookonce.errors import DataError, shown

MOST_ROWS = 300                     # of a picture in a table


# How answers begin, in each of the forms that go into one file.
CSV_HEADER = ("file", "frame", "label", "name", "score", "left", "top", "right", "bottom")
ANSWERS = tuple(
    re.compile(pattern)
    for pattern in (
        rb".+: nothing found\n",
        rb".+: \d+ .+\n  .+  [01]\.\d\d(  *-?\d+){4}\n",
        rb'\{"model": .{1,4000}"input": \[\d+, \d+\], "resize": ',
        rb'\{"file": .+"width": \d+, "height": \d+, "detections": \[',
        ",".join(f'"{name}"' for name in CSV_HEADER).encode() + rb"\n",
        rb'\[\s*(\{"image_id": |\]\s*$)',
    )
)


def is_answers(path: Path) -> bool:
    """Whether a file is empty, or begins as answers do that were written here."""
    with files.open_regular(path, DataError) as file:
        head = file.read(1 << 14)
    return not head.strip() or any(pattern.match(head) for pattern in ANSWERS)


class Writer(Protocol):
    """Takes the answers picture by picture. `close` finishes what was begun, also after an interruption."""

    def add(self, file: str, found: Detections, frame: int | None = None) -> None: ...
    def close(self) -> None: ...


class TableWriter:
    """A block of lines a picture, for people: no more of them than anybody reads."""

    def __init__(self, out: IO[str], about: Mapping[str, Any]) -> None:
        self._out = out

    def add(self, file: str, found: Detections, frame: int | None = None) -> None:
        place = shown(file, 4096) + ("" if frame is None else f" frame {frame}")
        print(f"{place}: {summary(found)}", file=self._out)
        rows = [(shown(one.name), f"{one.score:.2f}", *(_whole(x) for x in one.xyxy)) for one in found[:MOST_ROWS]]
        width = max((len(row[0]) for row in rows), default=0)
        for name, score, *corners in rows:
            print(f"  {name:<{width}}  {score}  " + " ".join(f"{x:>5}" for x in corners), file=self._out)
        if len(found) > MOST_ROWS:
            more = len(found) - MOST_ROWS
            print(f"  and {more:,} more: --format jsonl gives all, --thresh leaves out", file=self._out)
        self._out.flush()

    def close(self) -> None:
        self._out.flush()


class JsonWriter:
    """One JSON document: the model and its settings, and a list of pictures."""

    def __init__(self, out: IO[str], about: Mapping[str, Any]) -> None:
        self._out = out
        head = json.dumps({**about, "pictures": []}, ensure_ascii=False)
        self._out.write(head.removesuffix("]}"))
        self._first = True

    def add(self, file: str, found: Detections, frame: int | None = None) -> None:
        # Written at once: an interruption must not leave a comma without a picture.
        text = json.dumps(_as_json(file, found, frame), ensure_ascii=False)
        self._out.write(("\n" if self._first else ",\n") + text)
        self._first = False

    def close(self) -> None:
        self._out.write("\n]}\n")
        self._out.flush()


class JsonLinesWriter:
    """One JSON object a line and picture, each whole as soon as it is known."""

    def __init__(self, out: IO[str], about: Mapping[str, Any]) -> None:
        self._out = out

    def add(self, file: str, found: Detections, frame: int | None = None) -> None:
        self._out.write(json.dumps(_as_json(file, found, frame), ensure_ascii=False) + "\n")
        self._out.flush()

    def close(self) -> None:
        self._out.flush()


class CsvWriter:
    """One row a box."""

    def __init__(self, out: IO[str], about: Mapping[str, Any]) -> None:
        self._out = out
        self._rows = csv.writer(out, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
        self._rows.writerow(CSV_HEADER)

    def add(self, file: str, found: Detections, frame: int | None = None) -> None:
        for row in found.rows():
            place = "" if frame is None else frame
            self._rows.writerow([file, place, row["label"], row["name"], row["score"], *row["xyxy"]])

    def close(self) -> None:
        self._out.flush()


class _Names:
    """What pictures are called in formats that leave their folder out; no two may be called the same."""

    def __init__(self) -> None:
        self._taken: dict[str | int, str] = {}

    def stem(self, file: str, frame: int | None) -> str:
        """`photo` of a picture, `clip_7` of a frame."""
        stem = Path(file).stem
        return str(self.taken(stem if frame is None else f"{stem}_{frame}", file))

    def number(self, file: str, frame: int | None) -> str | int:
        """The number at the end of a picture's name, as Darknet takes it for COCO, otherwise as `stem`."""
        digits = re.search(r"\d+$", Path(file).stem)
        return self.taken(int(digits[0][-18:]), file) if digits and frame is None else self.stem(file, frame)

    def taken(self, name: str | int, file: str) -> str | int:
        """`name`, from now on that of `file`. Raises DataError if another file has it."""
        other = self._taken.setdefault(name, file)
        if other != file:
            raise DataError(f"{file}: would be {shown(str(name))} in the results, as {other} is; detect them apart")
        return name


class CocoWriter:
    """COCO's results: image_id, category_id, bbox as x, y, width, height cut at the edge, score.

    The id is the number at the end of the file's name, as Darknet takes it, or the name if it ends in none. Classes
    have the numbers of `coco_numbers`: the 80 of COCO its own, others count from 1.
    """

    def __init__(self, out: IO[str], about: Mapping[str, Any]) -> None:
        self._names = _Names()
        self._out = out
        self._out.write("[")
        self._first = True

    def add(self, file: str, found: Detections, frame: int | None = None) -> None:
        image = self._names.number(file, frame)
        numbers = coco_numbers(found.names)
        for label, _, score, (left, top, right, bottom) in found.clipped():
            box = [round(x, 3) for x in (left, top, right - left, bottom - top)]
            row = {"image_id": image, "category_id": numbers[label], "bbox": box, "score": round(score, 6)}
            self._out.write(("\n" if self._first else ",\n") + json.dumps(row))
            self._first = False

    def close(self) -> None:
        self._out.write("\n]\n")
        self._out.flush()


class VocWriter:
    """VOC's comp4 files, one a class: picture, score, left, top, right, bottom, counted from 1, cut at the edge."""

    def __init__(self, folder: Path, about: Mapping[str, Any]) -> None:
        self._folder = folder
        self._names = _Names()
        self._lines: dict[str, list[str]] = {}
        files.make_folder(folder)

    def add(self, file: str, found: Detections, frame: int | None = None) -> None:
        place = shown(self._names.stem(file, frame), 4096)
        for name in found.names:
            self._lines.setdefault(name, [])
        for _, name, score, xyxy in found.clipped():
            limit = found.size * 2
            corners = " ".join(f"{min(x + 1, most):.6f}" for x, most in zip(xyxy, limit, strict=True))
            self._lines[name].append(f"{place} {score:.6f} {corners}\n")

    def close(self) -> None:
        taken: set[str] = set()
        for name, lines in self._lines.items():
            stem = _file_name(name)
            while stem.casefold() in taken:                 # two classes whose names differ only in what no file has
                stem += "_"
            taken.add(stem.casefold())
            with files.write_atomically(self._folder / f"comp4_det_test_{stem}.txt") as file:
                file.write("".join(lines).encode())


class DarknetWriter:
    """Darknet's label files, one a picture: class, then centre x, centre y, width, height relative to the picture.

    Cut at the edge and without a score: so Darknet reads them back, to train from or to judge by. A file of other
    contents is never replaced: it may be the truth that somebody drew.
    """

    def __init__(self, folder: Path, about: Mapping[str, Any]) -> None:
        self._folder = folder
        self._names = _Names()
        files.make_folder(folder)

    def add(self, file: str, found: Detections, frame: int | None = None) -> None:
        stem = self._names.stem(file, frame)
        width, height = found.size
        lines = []
        for label, _, _, (left, top, right, bottom) in found.clipped():
            x, y, w, h = (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
            lines.append(f"{label} {x / width:.6f} {y / height:.6f} {w / width:.6f} {h / height:.6f}\n")
        path, text = self._folder / f"{stem}.txt", "".join(lines).encode()
        if files.exists(path) and (not path.is_file() or path.read_bytes() != text):
            raise DataError(f"{path}: is there already with other contents: name another folder with -o")
        with files.write_atomically(path) as out:
            out.write(text)

    def close(self) -> None:
        """Every file is already whole."""


TO_STREAM: Mapping[str, Callable[[IO[str], Mapping[str, Any]], Writer]] = {
    "table": TableWriter,
    "json": JsonWriter,
    "jsonl": JsonLinesWriter,
    "csv": CsvWriter,
    "coco": CocoWriter,
}
TO_FOLDER: Mapping[str, Callable[[Path, Mapping[str, Any]], Writer]] = {"voc": VocWriter, "darknet": DarknetWriter}


def _whole(x: float) -> str:
    """A coordinate in whole pixels, without the -0 that a rounded float may be."""
    return f"{x:.0f}".replace("-0", "0") if abs(x) < 1 else f"{x:.0f}"


def _as_json(file: str, found: Detections, frame: int | None) -> dict[str, Any]:
    place = {"file": file} if frame is None else {"file": file, "frame": frame}
    return {**place, "width": found.size[0], "height": found.size[1], "detections": found.rows()}


def _file_name(name: str) -> str:
    """A class name fit to be part of a file's name."""
    return re.sub(r"[^\w. -]", "_", name)[:100]


class _Counted:
    """A writer that knows how many answers it holds, and whether writing them went well."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self._count = 0
        self._broken = False

    def add(self, file: str, found: Detections, frame: int | None = None) -> None:
        try:
            self._writer.add(file, found, frame)
        except OSError:                                     # half an answer may be written
            self._broken = True
            raise
        self._count += 1

    def close(self) -> None:
        self._writer.close()

    def is_worth_keeping(self) -> bool:
        return self._count > 0 and not self._broken


@contextlib.contextmanager
def open_writer(format: str, out: Path | None, stdout: IO[str], about: Mapping[str, Any]) -> Iterator[Writer]:
    """A writer of `format` into the file or folder `out`, or onto `stdout`; `about` goes into a JSON document's head.

    Whatever ends the run, it is closed, and the file keeps what was known by then; without any answer an old file of
    that name stays. Raises DataError if the format needs a folder and there is none, or if `out` cannot be written.
    """
    with contextlib.ExitStack() as stack:
        writer: Writer
        if format in TO_FOLDER:
            if out is None:
                raise DataError(f"--format {format} writes several files: name their folder with -o FOLDER")
            writer = TO_FOLDER[format](out, about)
        elif out is None:
            writer = TO_STREAM[format](stdout, about)
        else:
            file = stack.enter_context(files.write_atomically(out, keep=lambda: counted.is_worth_keeping()))
            text = io.TextIOWrapper(file, "utf-8", errors="backslashreplace", newline="\n", write_through=True)
            stack.callback(text.detach)
            writer = TO_STREAM[format](text, about)
        counted = _Counted(writer)
        try:
            yield counted
        finally:
            counted.close()
