"""The log of a run: one row a line, whole after every interruption, no step twice; few rows for the page."""

from __future__ import annotations

import dataclasses
import importlib.util
import itertools
import json
import math
import re
import sys
import time
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from conftest import Child

from lookonce.errors import DataError, EngineError, LookonceWarning
from lookonce.train import log as log_module
from lookonce.train.log import KEPT, JudgedRow, Log, NoteRow, Row, StepRow, Steps, read


def step(number: int, **changes: Any) -> StepRow:
    """A row that tells which step it is of."""
    usual: dict[str, Any] = {
        "number": number, "seen": 64 * number, "epoch": number / 8, "rate": 1e-3 / number,
        "terms": {"centre": number / 3, "classes": 2.0}, "total": 2 + number / 3, "printed": 1.5, "average": 1.25,
        "speed": 40.5, "waiting": 0.125, "memory": 3 << 30,
    }  # fmt: skip
    return StepRow(**usual | changes)


def bare(row: Row) -> Row:
    """A row without the times that a log gives it."""
    without = dataclasses.replace(row, seconds=0.0)
    return without if isinstance(without, StepRow) else dataclasses.replace(without, at="")


def numbers(path: Path) -> list[int]:
    return [json.loads(line)["number"] for line in path.read_text("utf-8").splitlines()]


# ---------------------------------------------------------------------- there and back
def test_rows_come_back(tmp_path: Path) -> None:
    """Numbers chosen such that seven digits hold them."""
    rows: list[Row] = [
        NoteRow(0, "begins: \"Häuser\"\n日本"), step(1, rate=1.25e-10), step(2, terms={}),
        JudgedRow(2, 0.25, {"mAP": 0.5, "AP": 0.125}), step(3, total=math.nan, printed=math.inf),
    ]  # fmt: skip
    with Log(tmp_path / "log.jsonl") as log:
        for row in rows:
            log.add(row)
    found = read(tmp_path / "log.jsonl")
    assert [type(row) for row in found] == [type(row) for row in rows]
    last = found.pop()
    assert isinstance(last, StepRow)
    assert math.isnan(last.total)
    assert math.isnan(last.printed)
    rounded = [dataclasses.replace(row, terms={k: float(f"{v:.7g}") for k, v in row.terms.items()},
                                   total=float(f"{row.total:.7g}")) if isinstance(row, StepRow) else row
               for row in rows[:-1]]                                                                # fmt: skip
    assert [bare(row) for row in found] == rounded


def test_each_line_is_one_object_as_anybody_reads_it(tmp_path: Path) -> None:
    """Strict JSON: what is not finite is null, and no line break stands inside a line."""
    with Log(tmp_path / "log.jsonl") as log:
        log.add(step(1, terms={"centre": math.nan, "objects": -math.inf}, average=math.inf))
        log.add(NoteRow(1, "two\nlines\r\x85\u2028and a lone \ud800"))
        log.add(JudgedRow(1, 0.5, {"mAP": math.nan}))

    def refuse(word: str) -> None:
        raise AssertionError(word)

    data = (tmp_path / "log.jsonl").read_bytes()
    assert data.count(b"\n") == 3
    rows = [json.loads(line, parse_constant=refuse) for line in data.decode().split("\n")[:-1]]
    assert [row["kind"] for row in rows] == ["step", "note", "judged"]
    assert rows[0]["terms"] == {"centre": None, "objects": None}
    assert rows[0]["average"] is None
    assert rows[2]["figures"] == {"mAP": None}
    assert len(read(tmp_path / "log.jsonl")) == 3


def test_numpys_numbers_are_numbers(tmp_path: Path) -> None:
    row = step(1, seen=np.int64(64), memory=np.uint64(5), total=np.float32(0.5), terms={"centre": np.float64(0.25)})
    with Log(tmp_path / "log.jsonl") as log:
        log.add(row)
    (found,) = read(tmp_path / "log.jsonl")
    assert isinstance(found, StepRow)
    assert (found.seen, found.memory, found.total, found.terms) == (64, 5, 0.5, {"centre": 0.25})


def test_a_row_is_in_the_file_when_it_was_added(tmp_path: Path) -> None:
    with Log(tmp_path / "log.jsonl") as log:
        for number in range(1, 4):
            log.add(step(number))
            assert numbers(tmp_path / "log.jsonl") == list(range(1, number + 1))
        log.sync()


# ---------------------------------------------------------------------- time
def test_time_is_told_by_a_clock_that_nobody_sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The day jumps back by a year between two steps: what they lasted does not."""
    clock = iter([100.0, 101.5, 103.0, 1000.0, 1000.5])
    days = iter([1.8e9, 1.8e9 - 365 * 86400, 1.8e9 + 365 * 86400])
    monkeypatch.setattr(time, "monotonic", lambda: next(clock))
    monkeypatch.setattr(time, "time", lambda: next(days))
    with Log(tmp_path / "log.jsonl") as log:
        log.add(step(1))
        log.add(step(2))
    with Log(tmp_path / "log.jsonl", step=2) as log:
        log.add(step(3))
    assert [row.seconds for row in read(tmp_path / "log.jsonl")] == [1.5, 3.0, 3.5]


def test_judgements_and_notes_carry_the_time_of_day(tmp_path: Path) -> None:
    with Log(tmp_path / "log.jsonl") as log:
        log.add(NoteRow(0, "begins"))
        log.add(JudgedRow(1, 1.0, {}))
    for row in read(tmp_path / "log.jsonl"):
        assert isinstance(row, NoteRow | JudgedRow)
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[+-]\d\d:\d\d", row.at)


# ---------------------------------------------------------------------- going on
def test_no_step_is_there_twice_after_going_on(tmp_path: Path) -> None:
    """Ten steps, judged every three; from the checkpoint of step 6 again to 12."""
    path = tmp_path / "log.jsonl"
    with Log(path) as log:
        log.add(NoteRow(0, "begins"))
        for number in range(1, 11):
            log.add(step(number))
            if number % 3 == 0:
                log.add(JudgedRow(number, number / 8, {"mAP": number / 100}))
    with Log(path, step=6) as log:
        assert [row.number for row in log.rows] == [0, 1, 2, 3, 3, 4, 5, 6, 6]
        log.add(NoteRow(6, "goes on"))
        for number in range(7, 13):
            log.add(step(number, average=9.0))
    assert numbers(path) == [0, 1, 2, 3, 3, 4, 5, 6, 6, 6, 7, 8, 9, 10, 11, 12]
    assert [row.average for row in read(path) if isinstance(row, StepRow)] == [1.25] * 6 + [9.0] * 6
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]


def test_a_file_torn_anywhere_keeps_its_whole_rows(tmp_path: Path) -> None:
    """Cut at each end of a line and at every fifth byte: rows whose line break is there stay, and new ones follow."""
    path = tmp_path / "log.jsonl"
    with Log(path) as log:
        log.add(step(1))
        log.add(JudgedRow(1, 0.5, {"mAP": 0.5}))
        log.add(step(2))
    whole = path.read_bytes()
    ends = [match.end() for match in re.finditer(b"\n", whole)]
    for length in sorted({*range(0, len(whole), 5), *ends, *(end - 1 for end in ends)}):
        path.write_bytes(whole[:length])
        with Log(path, step=2) as log:
            log.add(step(3))
        assert numbers(path) == [*[1, 1, 2][: whole[:length].count(b"\n")], 3]


@pytest.mark.parametrize(
    "line",
    [
        b"\0\0\0\0", b"", b"{", b"[1]", b"3", b"null", b"{}", b'{"number": true, "kind": "note"}',
        b'{"number": 1, "kind": "note"}', b'{"number": 1, "kind": "note", "text": 3, "seconds": 0, "at": ""}',
        b'{"number": 1, "kind": "note", "text": "", "seconds": "long", "at": ""}',
        b'{"number": 1, "kind": "judged", "epoch": 1, "figures": 3, "seconds": 0, "at": ""}',
        b'{"number": 1, "kind": "judged", "epoch": 1, "figures": {"a": []}, "seconds": 0, "at": ""}',
        b'{"number": 1.5, "kind": "note", "text": "", "seconds": 0, "at": ""}', b"\xff", b"[" * 100_000,
        b'{"number": 1, "kind": "step", "seen": 1e400}',
    ],
)  # fmt: skip
def test_lines_that_are_no_rows_are_taken_out(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "log.jsonl"
    with Log(path) as log:
        log.add(step(1))
        log.add(step(2))
    first, second = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(first + line + b"\n" + second)
    assert [row.number for row in read(path)] == [1, 2]
    with Log(path, step=5) as log:
        assert [row.number for row in log.rows] == [1, 2]
    assert path.read_bytes() == first + second


def test_rows_of_a_kind_that_is_not_known_stay_in_the_file(tmp_path: Path) -> None:
    """As a later version may write them; those after the checkpoint go as others do."""
    path = tmp_path / "log.jsonl"
    lines = [b'{"number": 1, "kind": "pruned", "share": 0.5}\n', b'{"number": 2, "kind": "pruned", "share": 0.7}\n']
    path.write_bytes(b"".join(lines))
    with Log(path, step=1) as log:
        assert log.rows == []
    assert path.read_bytes() == lines[0]


def test_a_file_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").mkdir()
    for path in (tmp_path / "log.jsonl", tmp_path / "no" / "log.jsonl"):
        with pytest.raises(DataError, match=r"log\.jsonl: ") as problem:
            Log(path)
        assert "\n" not in str(problem.value)


LIMITED = """
import json, resource, sys, warnings
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_log import step
from lookonce.train.log import Log
path = Path(sys.argv[1])
with Log(path) as log, warnings.catch_warnings(record=True) as said:
    warnings.simplefilter("always")
    _, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit, numbers in ((1000, range(1, 11)), (most, range(11, 13)), (1 + 2000, range(13, 21)), (most, [21])):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, most))
        for number in numbers:
            log.add(step(number))
            assert path.read_bytes().endswith(b"\\n")
    assert [row.number for row in log.rows] == list(range(1, 22))
print(json.dumps([[str(each.message) for each in said], path.read_text().splitlines()]))
"""


def test_rows_without_room_are_left_out_and_counted(tmp_path: Path, child: Child) -> None:
    """Twice the file may not grow for a while. One warning each time, no half row, and the page has all of them."""
    done = child("-c", LIMITED, str(tmp_path / "log.jsonl"), str(Path(__file__).parent), PYTHONPATH=":".join(sys.path))
    assert done.code == 0, done.err
    said, lines = json.loads(done.out)
    assert len(said) == 2
    assert all("cannot be written" in text and "\n" not in text for text in said)
    rows = [json.loads(line) for line in lines]
    steps = [row["number"] for row in rows if row["kind"] == "step"]
    notes = [row["text"] for row in rows if row["kind"] == "note"]
    lost = [int(re.findall(r"^(\d+) rows could not be written", text)[0]) for text in notes]
    assert len(lost) == 2
    assert len(steps) + sum(lost) == 21
    assert steps == sorted(set(steps))
    assert {11, 12, 21} <= set(steps)


# ---------------------------------------------------------------------- few rows for a page
def plain_mean(rows: Sequence[StepRow], name: str) -> float:
    return math.fsum(getattr(row, name) for row in rows) / len(rows)


@pytest.mark.parametrize("count", [1, KEPT, 2 * KEPT - 1, 2 * KEPT, 2 * KEPT + 1, 8 * KEPT + 5])
def test_many_steps_are_few_means_of_equally_many(count: int) -> None:
    """The size of a group doubles whenever there are 2 x KEPT: so it is the smallest power of two that keeps fewer."""
    rng = np.random.default_rng(count)
    rows = [
        step(number, total=rng.normal(), terms={"centre": rng.normal()}, waiting=rng.random())
        for number in range(1, count + 1)
    ]
    steps = Steps()
    for row in rows:
        steps.add(row)
    found = steps.rows()
    size = next(size for size in (1, 2, 4, 8, 16) if count // size < 2 * KEPT)
    groups = [rows[i : i + size] for i in range(0, count, size)]
    assert len(found) == len(groups) <= 2 * KEPT
    for mean, group in zip(found, groups, strict=True):
        assert (mean.number, mean.seen, mean.rate) == (group[-1].number, group[-1].seen, group[-1].rate)
        assert mean.total == pytest.approx(plain_mean(group, "total"), abs=1e-12)
        assert mean.waiting == pytest.approx(plain_mean(group, "waiting"), abs=1e-12)
        assert mean.terms["centre"] == pytest.approx(sum(row.terms["centre"] for row in group) / len(group), abs=1e-12)


def test_a_term_that_some_steps_lack_is_the_mean_of_the_others() -> None:
    """As the prior of YOLOv2, which ends after 12,800 pictures."""
    rows = [step(1, terms={"centre": 1.0, "priors": 8.0}), step(2, terms={"centre": 3.0})]
    assert log_module.mean(rows).terms == {"centre": 2.0, "priors": 8.0}


def test_going_on_sees_what_an_unbroken_log_sees(tmp_path: Path) -> None:
    """3,000 steps in one go, and in two with a hundred cut off between."""
    with Log(tmp_path / "one.jsonl") as log:
        for number in range(1, 3001):
            log.add(step(number))
        one = [bare(row) for row in log.rows]
    with Log(tmp_path / "two.jsonl") as log:
        for number in range(1, 1801):
            log.add(step(number))
    with Log(tmp_path / "two.jsonl", step=1700) as log:
        for number in range(1701, 3001):
            log.add(step(number))
        two = [bare(row) for row in log.rows]
    assert len(one) == len(two) == 750
    for a, b in itertools.zip_longest(one, two):
        assert a.number == b.number
        assert a.total == pytest.approx(b.total, rel=1e-6)


def test_a_log_of_many_notes_holds_the_last(tmp_path: Path) -> None:
    with Log(tmp_path / "log.jsonl") as log:
        for number in range(1500):
            log.add(NoteRow(number, "again"))
        assert [row.number for row in log.rows] == list(range(500, 1500))


# ---------------------------------------------------------------------- TensorBoard
class Writer:
    """Stands for TensorBoard's writer: notes what it is told."""

    made: ClassVar[list[Writer]] = []

    def __init__(self, log_dir: str, purge_step: int | None = None) -> None:
        self.log_dir, self.purge_step = log_dir, purge_step
        self.told: list[tuple[str, float, int]] = []
        self.is_closed = self.is_broken = False
        Writer.made.append(self)

    def add_scalar(self, name: str, value: float, number: int) -> None:
        if self.is_broken:
            raise OSError(28, "No space left on device")
        self.told.append((name, value, number))

    def close(self) -> None:
        self.is_closed = True


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> list[Writer]:
    """TensorBoard as if it were installed; the writers that were made."""
    module = types.ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = Writer                                       # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setattr(Writer, "made", [])
    return Writer.made


def without_board(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)


@pytest.mark.parametrize("how", ["auto", "on"])
def test_tensorboard_is_told_the_same_numbers(tmp_path: Path, board: list[Writer], how: Any) -> None:
    with Log(tmp_path / "log.jsonl", board=how, folder=tmp_path / "tensorboard") as log:
        log.add(step(8, terms={"centre": 0.5}))
        log.add(JudgedRow(8, 1.0, {"mAP": 0.75}))
        log.add(NoteRow(8, "nothing to draw"))
    (writer,) = board
    assert (writer.log_dir, writer.purge_step, writer.is_closed) == (str(tmp_path / "tensorboard"), None, True)
    told = {name: (value, number) for name, value, number in writer.told}
    assert told["loss/centre"] == (0.5, 8)
    assert told["step/rate"] == (1e-3 / 8, 8)
    assert told["judged/mAP"] == (0.75, 8)
    assert len(told) == 9


def test_tensorboard_forgets_the_steps_that_are_made_again(tmp_path: Path, board: list[Writer]) -> None:
    with Log(tmp_path / "log.jsonl", step=100, board="on"):
        pass
    assert board[0].purge_step == 101


def test_tensorboard_without_room_does_not_end_a_run(tmp_path: Path, board: list[Writer]) -> None:
    with Log(tmp_path / "log.jsonl", board="on") as log:
        board[0].is_broken = True
        with pytest.warns(LookonceWarning, match="No space left on device; TensorBoard gets no more"):
            log.add(step(1))
        log.add(step(2))
    assert numbers(tmp_path / "log.jsonl") == [1, 2]


def test_without_tensorboard_auto_is_silent_and_on_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without_board(monkeypatch)
    with Log(tmp_path / "log.jsonl", board="auto") as log:
        log.add(step(1))
    with pytest.raises(EngineError, match="`pip install tensorboard`") as problem:
        Log(tmp_path / "log.jsonl", board="on")
    assert "\n" not in str(problem.value)
    assert [path.name for path in tmp_path.iterdir()] == ["log.jsonl"]


def test_a_tensorboard_that_cannot_be_loaded_is_a_warning_or_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_board(monkeypatch)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    with pytest.warns(LookonceWarning, match="cannot be loaded"), Log(tmp_path / "log.jsonl", board="auto") as log:
        log.add(step(1))
    with pytest.raises(EngineError, match="cannot be loaded"):
        Log(tmp_path / "log.jsonl", board="on")


def test_the_real_tensorboard_reads_what_was_written(tmp_path: Path) -> None:
    """Steps 1 to 5, and again from 4: those made twice count once, with their last values."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    for begin, value in ((0, 1.0), (3, 2.0)):
        with Log(tmp_path / "log.jsonl", step=begin, board="on", folder=tmp_path / "tensorboard") as log:
            for number in range(begin + 1, 6):
                log.add(step(number, total=value))
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    found = [(event.step, event.value) for event in events.Scalars("loss/total")]
    assert found == [(1, 1.0), (2, 1.0), (3, 1.0), (4, 2.0), (5, 2.0)]
