"""Log: what happened in a run, one JSON object a line, and the same numbers for TensorBoard where it is installed.

Rows are of three kinds: `step`, `judged` and `note`. A number that is NaN or infinite is null. `seconds` count from
the run's beginning by a clock that nobody sets, without the time between an interruption and going on.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import importlib.util
import json
import math
import os
import time
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from lookonce import files
from lookonce.errors import DataError, EngineError, warn

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

Board = Literal["auto", "on", "off"]

KEPT = 500                   # steps held in memory: at least so many means, fewer than twice
MOST_NOTES = 1000            # held in memory
DIGITS = 7                   # of a number in the file


@dataclass(frozen=True)
class StepRow:
    """One update.

    `seen` counts pictures, `epoch` how often the dataset was seen. `terms` are named, per picture, `total` is their
    sum; `printed` is what Darknet prints as the loss, `average` its running mean. `speed` is in pictures a second,
    `waiting` the share of the time that was spent waiting for pictures, `memory` is in bytes.
    """

    number: int
    seen: int
    epoch: float
    rate: float
    terms: Mapping[str, float]
    total: float
    printed: float
    average: float
    speed: float
    waiting: float
    memory: int
    seconds: float = 0.0


@dataclass(frozen=True)
class JudgedRow:
    """What a judge said after so many steps: figures by name. `at` is the time of day, as a label."""

    number: int
    epoch: float
    figures: Mapping[str, float]
    seconds: float = 0.0
    at: str = ""


@dataclass(frozen=True)
class NoteRow:
    """Something worth a line that happened after so many steps: the run went on, was stopped, left out a batch."""

    number: int
    text: str
    seconds: float = 0.0
    at: str = ""


Row = StepRow | JudgedRow | NoteRow
KINDS: dict[str, type[Row]] = {"step": StepRow, "judged": JudgedRow, "note": NoteRow}


class Log:
    """Appends rows to a file as they happen, and holds enough of them for a page; a context.

    A disk without room does not end a run: rows are then left out, with one warning, and counted in a note as soon as
    there is room again.
    """

    def __init__(self, path: Path, *, step: int = 0, board: Board = "off", folder: Path | None = None) -> None:
        """Go on after `step`: rows of later steps, and a last line that is torn, are cut off the file.

        `board` says whether to write for TensorBoard too, into `folder`: "auto" does if it is installed. Raises
        EngineError if it is "on" and not installed, DataError if the file cannot be written.
        """
        self.path = path
        self._steps = Steps()
        self._judged: list[JudgedRow] = []
        self._notes: deque[NoteRow] = deque(maxlen=MOST_NOTES)
        before = 0.0
        for row in _cut(path, step):
            self._hold(row)
            before = row.seconds
        self._begin = time.monotonic() - before
        self._lost = 0
        self._board = _board(board, folder or path.parent / "tensorboard", step)
        try:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o644)
        except OSError as problem:
            raise DataError(f"{path}: cannot be written: {problem.strerror}") from None

    def __enter__(self) -> Log:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)
        if self._board is not None:
            self._board.close()

    def add(self, row: Row) -> None:
        """Append a row, with the time; it is in the system's hands when this returns."""
        row = dataclasses.replace(row, seconds=self.seconds)
        if not isinstance(row, StepRow):
            row = dataclasses.replace(row, at=datetime.datetime.now().astimezone().isoformat(timespec="seconds"))
        self._hold(row)
        lost = [NoteRow(row.number, f"{self._lost:,} rows could not be written before this one", row.seconds)]
        is_written = self._append(b"".join(map(to_line, [*(lost if self._lost else ()), row])))
        self._lost = 0 if is_written else self._lost + 1
        self._show(row)

    @property
    def seconds(self) -> float:
        """How long the run has lasted."""
        return round(time.monotonic() - self._begin, 3)

    @property
    def rows(self) -> list[Row]:
        """What the file holds, by their numbers: steps as means of as many as makes them few, and the last notes."""
        return sorted([*self._steps.rows(), *self._judged, *self._notes], key=lambda row: row.number)

    def sync(self) -> None:
        """Have the disk hold what was appended, as before a checkpoint that later rows follow."""
        with contextlib.suppress(OSError):
            os.fsync(self._descriptor)

    # ------------------------------------------------------------------ inside
    def _hold(self, row: Row) -> None:
        if isinstance(row, StepRow):
            self._steps.add(row)
        elif isinstance(row, JudgedRow):
            self._judged.append(row)
        else:
            self._notes.append(row)

    def _append(self, lines: bytes) -> bool:
        """Whether lines could be written, all of them. What was written of those that could not is taken back."""
        end = os.fstat(self._descriptor).st_size
        try:
            if os.write(self._descriptor, lines) == len(lines):
                return True
            reason = "no room"
        except OSError as problem:
            reason = problem.strerror or str(problem)
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, end)
        if not self._lost:
            warn(f"{self.path}: cannot be written: {reason}; the run goes on, rows are left out until it can")
        return False

    def _show(self, row: Row) -> None:
        """Hand a row's numbers to TensorBoard. That it cannot write does not end a run."""
        if self._board is None:
            return
        try:
            for name, value in _scalars(row):
                self._board.add_scalar(name, value, row.number)
        except OSError as problem:
            warn(f"{self._board.log_dir}: cannot be written: {problem.strerror}; TensorBoard gets no more")
            self._board = None


class Steps:
    """Many steps held as few rows: means of 1, 2, 4, ... in a row, so that there are fewer than twice KEPT."""

    def __init__(self) -> None:
        self._means: list[StepRow] = []
        self._group: list[StepRow] = []
        self._size = 1

    def add(self, row: StepRow) -> None:
        """Take in the next step."""
        self._group.append(row)
        if len(self._group) < self._size:
            return
        self._means.append(mean(self._group))
        self._group = []
        if len(self._means) == 2 * KEPT:
            self._means = [mean(self._means[i : i + 2]) for i in range(0, 2 * KEPT, 2)]
            self._size *= 2

    def rows(self) -> list[StepRow]:
        """The means, the last one of those steps that came since."""
        return self._means + ([mean(self._group)] if self._group else [])


def mean(rows: Sequence[StepRow]) -> StepRow:
    """Steps in a row as one: the place of the last, the mean of what was measured. A term may be missing in some."""
    if len(rows) == 1:
        return rows[0]
    terms = {
        name: _mean(row.terms[name] for row in rows if name in row.terms)
        for name in dict.fromkeys(name for row in rows for name in row.terms)
    }
    return dataclasses.replace(
        rows[-1],
        terms=terms,
        total=_mean(row.total for row in rows),
        printed=_mean(row.printed for row in rows),
        speed=_mean(row.speed for row in rows),
        waiting=_mean(row.waiting for row in rows),
    )


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found)


# ---------------------------------------------------------------------- lines
def to_line(row: Row) -> bytes:
    """A row as a line of the file."""
    kind = next(kind for kind, made in KINDS.items() if isinstance(row, made))
    text = json.dumps({"kind": kind} | _plain(dataclasses.asdict(row)), ensure_ascii=False)
    return text.encode("utf-8", "replace") + b"\n"


def read(path: Path) -> list[Row]:
    """All rows of a file but those that are torn or of kinds not known here. Raises DataError if it cannot be read."""
    with files.open_regular(path, DataError) as file:
        return [row for row in (_parse(line)[1] for line in file) if row is not None]


def _plain(value: Any) -> Any:
    """Values of JSON: numbers with DIGITS digits, None for those that are not finite."""
    if isinstance(value, Mapping):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, str):
        return value
    if isinstance(value, Integral):
        return int(value)
    return float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None


def _parse(line: bytes) -> tuple[int | None, Row | None]:
    """A line's number of steps, None if it is no whole row; and the row, None also if its kind is not known here."""
    try:
        found = json.loads(line) if line.endswith(b"\n") else None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or type(found.get("number")) is not int:
        return None, None
    made = KINDS.get(str(found.get("kind")))
    if made is None:
        return found["number"], None
    try:
        values = {field.name: _value(found[field.name], str(field.type)) for field in dataclasses.fields(made)}
    except (KeyError, TypeError, ValueError, OverflowError):
        return None, None
    return found["number"], made(**values)


def _value(value: Any, kind: str) -> Any:
    """A value of a line as a field of this kind has it. Raises TypeError or ValueError if it is of another."""
    if kind.startswith("Mapping"):
        return {str(key): _value(each, "float") for key, each in dict(value).items()}
    if kind == "float":
        return math.nan if value is None else float(value)
    if kind == "int" and int(value) == value:
        return int(value)
    if not isinstance(value, str) or kind != "str":
        raise TypeError(f"{value!r}, wanted {kind}")
    return value


def _cut(path: Path, step: int) -> list[Row]:
    """The rows up to `step`. All other lines are taken out of the file. Raises DataError."""
    if not files.exists(path):
        return []
    rows, kept, size = [], 0, 0
    with files.open_regular(path, DataError) as file:
        for line in file:
            number, row = _parse(line)
            size += len(line)
            if number is not None and number <= step:
                kept += len(line)
                rows += [row] if row is not None else []
        if kept < size:
            file.seek(0)
            with files.telling_space(path, kept), files.write_atomically(path) as out:
                for line in file:
                    number, _ = _parse(line)
                    if number is not None and number <= step:
                        out.write(line)
    return rows


# ---------------------------------------------------------------------- TensorBoard
def _board(board: Board, folder: Path, step: int) -> SummaryWriter | None:
    """A writer for TensorBoard, whose later steps than `step` no longer count. Raises EngineError."""
    if board == "off" or (board == "auto" and importlib.util.find_spec("tensorboard") is None):
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as problem:
        missing = "TensorBoard is wanted and not installed: `pip install tensorboard` brings it"
        if importlib.util.find_spec("tensorboard") is None:
            raise EngineError(missing) from None
        if board == "on":
            raise EngineError(f"TensorBoard cannot be loaded: {problem}") from None
        warn(f"TensorBoard is installed but cannot be loaded, nothing is written for it: {problem}")
        return None
    return SummaryWriter(str(folder), purge_step=step + 1 if step else None)


def _scalars(row: Row) -> list[tuple[str, float]]:
    """What TensorBoard shows of a row, by names that group it."""
    if isinstance(row, StepRow):
        losses = {**row.terms, "total": row.total, "printed": row.printed, "average": row.average}
        measured = {"rate": row.rate, "speed": row.speed, "waiting": row.waiting, "memory": row.memory}
        return [(f"loss/{name}", value) for name, value in losses.items()] + [
            (f"step/{name}", value) for name, value in measured.items()
        ]
    if isinstance(row, JudgedRow):
        return [(f"judged/{name}", value) for name, value in row.figures.items()]
    return []
