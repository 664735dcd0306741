"""The folder of a run: new or refused, held by one process, checked before the first step."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import DETECTOR, Child, model_of

from lookonce import files
from lookonce.errors import CheckError, DataError, LookonceWarning
from lookonce.model import Model, onefile
from lookonce.train import checkpoint
from lookonce.train.folder import RunFolder

Disk = Callable[[str], Path]

HOLDING = """
import os, sys, time
from pathlib import Path
from lookonce.train.folder import RunFolder
folder = RunFolder(Path(sys.argv[1]), resume=True)
folder.__enter__()
if sys.argv[2] == "alone" or os.fork() == 0:
    print(os.getpid(), flush=True)
time.sleep(60)
"""


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """Makes a folder on a disk of its own, with options of mount."""
    made: list[Path] = []

    def make(options: str) -> Path:
        folder = tmp_path / f"disk{len(made)}"
        folder.mkdir()
        mount = shutil.which("mount")
        command = [str(mount), "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if mount is None or subprocess.run(command, capture_output=True, check=False).returncode:
            pytest.skip("needs the right to mount a small disk")
        made.append(folder)
        return folder

    yield make
    for folder in made:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[Callable[..., tuple[subprocess.Popen[str], int]]]:
    """Starts a process that holds a folder and sleeps; gives it, and the number of the one that sleeps."""
    started: list[tuple[subprocess.Popen[str], int]] = []

    def start(folder: Path, how: str = "alone") -> tuple[subprocess.Popen[str], int]:
        process = subprocess.Popen(
            [sys.executable, "-c", HOLDING, str(folder), how], stdout=subprocess.PIPE, text=True
        )
        assert process.stdout is not None
        with process.stdout:
            other = int(process.stdout.readline())
        started.append((process, other))
        return process, other

    yield start
    for process, other in started:
        process.kill()
        process.wait()
        if other != process.pid:
            os.kill(other, signal.SIGKILL)


def one_line(problem: pytest.ExceptionInfo[BaseException]) -> str:
    text = str(problem.value)
    assert "\n" not in text
    return text


# ---------------------------------------------------------------------- which folder
def test_runs_of_one_name_are_numbered(tmp_path: Path) -> None:
    """A number that is free is taken, also in a gap."""
    root = tmp_path / "runs"
    for expected in ("tiny", "tiny-2", "tiny-3"):
        with RunFolder.fresh("tiny", root=root) as run:
            assert run.path == root / expected
            assert run.path.is_dir()
    shutil.rmtree(root / "tiny-2")
    assert RunFolder.fresh("tiny", root=root).path == root / "tiny-2"


FRESH = """
import sys
from pathlib import Path
from lookonce.train.folder import RunFolder
for _ in range(25):
    with RunFolder.fresh("tiny", root=Path(sys.argv[1])) as run:
        run.save_text(run.cfg, sys.argv[2])
        print(run.path.name)
"""


def test_trainers_that_start_at_once_get_folders_of_their_own(tmp_path: Path) -> None:
    """Four times 25 at once: a hundred different folders, each with what its trainer wrote."""
    processes = [
        subprocess.Popen([sys.executable, "-c", FRESH, str(tmp_path), str(number)], stdout=subprocess.PIPE, text=True)
        for number in range(4)
    ]
    outputs = [process.communicate(timeout=60)[0].split() for process in processes]
    found = [name for names in outputs for name in names]
    assert len(found) == 100
    assert set(found) == {"tiny", *(f"tiny-{number}" for number in range(2, 101))}
    for number, names in enumerate(outputs):
        assert all((tmp_path / name / "network.cfg").read_text() == str(number) for name in names)


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/", "a/", ".hidden", "n\0ul", "x" * 300])
def test_a_name_that_is_no_folders_is_one_line(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=r"is no name of a run|no such folder can be made") as problem:
        RunFolder.fresh(name, root=tmp_path)
    one_line(problem)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_is_refused_unless_the_run_goes_on(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"mine")
    with pytest.raises(DataError, match=r"is not empty \(it holds holiday\.jpg\): go on .* --resume") as problem, \
            RunFolder(tmp_path):                                                                    # fmt: skip
        pass
    assert one_line(problem).startswith(str(tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["holiday.jpg"]
    with RunFolder(tmp_path, resume=True) as run:
        assert run.path == tmp_path
    assert (tmp_path / "holiday.jpg").read_bytes() == b"mine"


def test_an_empty_folder_is_taken_also_after_a_run_that_ended_before_it_wrote(tmp_path: Path) -> None:
    with RunFolder(tmp_path):
        pass
    assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    with RunFolder(tmp_path):
        pass


def test_going_on_needs_a_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="there is no run to go on with"), RunFolder(tmp_path / "no", resume=True):
        pass
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize("resume", [False, True])
def test_a_file_in_place_of_the_folder_is_one_line(tmp_path: Path, resume: bool) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(DataError, match="run") as problem, RunFolder(tmp_path / "run", resume=resume):
        pass
    one_line(problem)


# ---------------------------------------------------------------------- the lock
def test_a_second_trainer_is_told_who_is_first(tmp_path: Path, holder: Callable[..., tuple[object, int]]) -> None:
    _, pid = holder(tmp_path)
    with pytest.raises(DataError, match=rf"is in use by process {pid} on \S+: wait") as problem, \
            RunFolder(tmp_path, resume=True):                                                       # fmt: skip
        pass
    assert one_line(problem).startswith(str(tmp_path))


def test_a_trainer_in_the_same_process_is_second_too(tmp_path: Path) -> None:
    with RunFolder(tmp_path), pytest.raises(DataError, match=f"in use by process {os.getpid()}"), \
            RunFolder(tmp_path, resume=True):                                                       # fmt: skip
        pass
    with RunFolder(tmp_path):
        pass


@pytest.mark.parametrize("how", ["alone", "fork"])
def test_a_trainer_that_is_killed_holds_nothing(
    tmp_path: Path, holder: Callable[..., tuple[subprocess.Popen[str], int]], how: str
) -> None:
    """By kill -9. With `fork` a process that it forked, as a worker that reads pictures, lives on."""
    process, other = holder(tmp_path, how)
    with pytest.raises(DataError, match="in use"), RunFolder(tmp_path, resume=True):
        pass
    process.kill()
    process.wait()
    with RunFolder(tmp_path, resume=True):
        pass
    if how == "fork":
        os.kill(other, 0)                       # raises if it is no longer there


@pytest.mark.parametrize("is_replaced", [False, True])
def test_a_lock_that_its_holder_removed_meanwhile_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_replaced: bool
) -> None:
    """Between opening and locking it goes, and perhaps another comes: whoever locks that one must stay alone."""
    take = files._take

    def late(descriptor: int) -> None:
        (tmp_path / ".lock").unlink()
        if is_replaced:
            (tmp_path / ".lock").write_text("")
        take(descriptor)

    monkeypatch.setattr(files, "_take", late)
    with pytest.raises(DataError, match="in use by another process"), RunFolder(tmp_path):
        pass


def test_what_stands_in_the_lock_is_only_believed_if_it_is_ours(tmp_path: Path) -> None:
    with RunFolder(tmp_path):
        (tmp_path / ".lock").write_bytes(b"\x1b[31m" + b"x" * 5000)
        with pytest.raises(DataError, match="in use by another process:"), RunFolder(tmp_path, resume=True):
            pass


def test_where_nothing_can_be_locked_the_run_goes_on_with_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on some network disks. What looks half written may then be another's, and stays."""

    def unable(descriptor: int) -> None:
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(files, "_take", unable)
    part = tmp_path / f".log.jsonl.{'a' * 32}.part"
    part.write_text("")
    with pytest.warns(LookonceWarning, match="cannot be locked there"), RunFolder(tmp_path, resume=True):
        pass
    assert part.exists()


def test_what_a_killed_writer_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    left = [f".checkpoint-new.safetensors.{'0123456789abcdef' * 2}.part", f".run.html.{'f' * 32}.part"]
    others = [".part", "a.part", f"run.html.{'f' * 32}.part", f".run.html.{'F' * 32}.part", ".mine.part", "run.json"]
    for name in left + others:
        (tmp_path / name).write_text("")
    with RunFolder(tmp_path, resume=True):
        pass
    assert {path.name for path in tmp_path.iterdir()} == {*others, ".lock"}


# ---------------------------------------------------------------------- room, and the right to write
def test_too_little_room_is_told_before_the_first_step(tmp_path: Path) -> None:
    """Nothing is left of the folder that was made for it."""
    needed = 1 << 60
    with pytest.raises(DataError, match=rf"[\d,]+ bytes are free there, wanted {needed:,} for its") as problem, \
            RunFolder.fresh("big", root=tmp_path, needed=needed):                                   # fmt: skip
        pass
    one_line(problem)
    with pytest.raises(DataError, match="are free"), RunFolder(tmp_path / "mine", needed=needed):
        pass
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "kept").mkdir()
    with pytest.raises(DataError, match="are free"), RunFolder(tmp_path / "kept", needed=needed):
        pass
    assert (tmp_path / "kept").is_dir()


def test_checkpoints_that_are_there_need_no_more_room(disk: Disk) -> None:
    """On 4 MB two of 1 MB are there: three fit, five do not."""
    folder = disk("size=4m")
    for step in range(2):
        checkpoint.keep(folder, {"a": np.full(250_000, step, np.float32)}, {})
    with RunFolder(folder, resume=True, needed=3_000_000):
        pass
    with pytest.raises(DataError, match=r"wanted 2,99\d,\d{3}"), RunFolder(folder, resume=True, needed=5_000_000):
        pass


@pytest.mark.parametrize("was_run", [False, True])
def test_a_disk_that_is_read_only_is_one_line(disk: Disk, was_run: bool) -> None:
    """Also where the lock of an earlier run is there to be opened."""
    folder = disk("size=1m")
    if was_run:
        with RunFolder(folder):
            pass
    subprocess.run(["mount", "-o", "remount,ro", str(folder)], check=True)
    with pytest.raises(DataError, match="cannot be written to: Read-only file system") as problem, \
            RunFolder(folder, resume=was_run):                                                      # fmt: skip
        pass
    one_line(problem)


UNPRIVILEGED = """
import os
from pathlib import Path
from lookonce.errors import DataError
from lookonce.train.folder import RunFolder
if os.geteuid() == 0:
    os.setgroups([])
    os.setgid(65534)
    os.setuid(65534)
try:
    with RunFolder(Path("."), resume=True):
        print("taken")
except DataError as problem:
    print(problem)
"""


@pytest.mark.parametrize(("mode", "words"), [(0o555, "cannot be written to: Permission denied"), (0o777, "taken")])
def test_a_folder_without_the_right_to_write_is_one_line(
    disk: Disk, child: Child, mode: int, words: str
) -> None:
    """With the lock of an earlier run in it, which everybody may open."""
    folder = disk("size=1m")
    (folder / ".lock").write_text("")
    (folder / ".lock").chmod(0o666)
    folder.chmod(mode)
    done = child("-c", UNPRIVILEGED, cwd=folder)
    assert re.search(words, done.out), done


# ---------------------------------------------------------------------- what is in it
def test_a_model_is_saved_and_read_back(tmp_path: Path) -> None:
    model = model_of(DETECTOR)
    with RunFolder(tmp_path) as run:
        run.save_model(run.best, model)
        assert run.best == tmp_path / "best.safetensors"
        again = onefile.read(run.best, 1 << 30)
    for before, after in zip(model.weights, again.weights, strict=True):
        assert all(np.array_equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize(
    ("array", "value", "words"),
    [("weights", np.nan, "nan"), ("biases", np.inf, "inf"), ("variance", -1, "negative"), ("weights", 1e30, "1e\\+30")],
)
def test_a_model_that_no_reader_takes_is_never_saved(tmp_path: Path, array: str, value: float, words: str) -> None:
    with RunFolder(tmp_path) as run:
        run.save_model(run.last, model_of(DETECTOR))
        before = run.last.read_bytes()
        bad: Model = model_of(DETECTOR)
        bad.weights[0][array].reshape(-1)[5] = value
        with pytest.raises(CheckError, match=rf"layer 0 .*{array} holds .*{words}.*: not written") as problem:
            run.save_model(run.last, bad)
        assert "allow" not in one_line(problem)
        assert run.last.read_bytes() == before


def test_a_full_disk_leaves_the_model_that_is_there(disk: Disk) -> None:
    folder = disk("size=256k")
    with RunFolder(folder) as run:
        run.save_model(run.best, model_of(DETECTOR))
        before = run.best.read_bytes()
        (folder / "fill").write_bytes(bytes(256 * 1024 - 4096 - len(before) // 4096 * 4096 - 3 * 4096))
        with pytest.raises(DataError, match=r"No space left.* bytes are wanted"):
            run.save_model(run.best, model_of(DETECTOR.replace("filters=16", "filters=256")))
        with pytest.raises(DataError, match="No space left"):
            run.save_text(run.names, "x" * 300_000)
        assert run.best.read_bytes() == before
        assert not list(folder.glob("*.part"))


def test_facts_come_back(tmp_path: Path) -> None:
    facts = {"seed": 0, "data": "Häuser", "rates": [1e-3, None], "nested": {"a": True}}
    with RunFolder(tmp_path) as run:
        run.save_facts(facts)
        assert run.read_facts() == facts
        assert json.loads((tmp_path / "run.json").read_text("utf-8")) == facts


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b"[" * 100_000, None])
def test_facts_that_are_none_are_one_line(tmp_path: Path, data: bytes | None) -> None:
    with RunFolder(tmp_path) as run:
        if data is not None:
            run.about.write_bytes(data)
        with pytest.raises(DataError, match=r"run\.json: ") as problem:
            run.read_facts()
        one_line(problem)


def test_everything_lies_in_the_folder_under_a_name_of_its_own(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    paths = [run.cfg, run.names, run.about, run.log, run.page, run.tensorboard, run.checkpoint, run.best, run.last]
    assert {path.parent for path in paths} == {tmp_path}
    assert len({path.name for path in paths}) == len(paths)
