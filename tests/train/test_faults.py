"""What goes wrong while a run learns: a line that says it, a checkpoint that is whole, a run that goes on."""

from __future__ import annotations

import dataclasses
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from smallrun import (
    ALONE,
    Child,
    cfg_with,
    digest,
    make_data,
    many_pictures,
    rows_of,
    run,
    start,
    steps_of,
    until,
)  # fmt: skip

from lookonce.errors import CheckError, DataError, EngineError, LookonceError, LookonceWarning
from lookonce.model import Model, open_model
from lookonce.train import checkpoint, judging, machine
from lookonce.train import run as running
from lookonce.train.folder import RunFolder
from lookonce.train.learner import NonFiniteError
from lookonce.train.log import JudgedRow, NoteRow, StepRow
from lookonce.train.run import Run
from lookonce.train.settings import Settings
from lookonce.train.starting import as_it_stands, data_of, ready
from lookonce.train.starting import start as begin_run


def begin(data: Path, cfg: Path, out: Path, *more: object) -> list[object]:
    return ["train", cfg, "--data", data, "--val-split", "none", *ALONE, "-o", out, *more]


def is_finite(path: Path) -> bool:
    arrays, _ = checkpoint.read(path)
    return all(bool(np.isfinite(array).all()) for array in arrays.values() if array.dtype.kind == "f")


@pytest.fixture
def a_run(tmp_path: Path) -> Iterator[Run]:
    """A run of 6 steps in this process, that saves after each."""
    data = make_data(tmp_path / "set")
    settings = Settings(str(data), val_split="none", order="drawn", save_seconds=0)
    found = data_of(settings)
    network = as_it_stands(cfg_with(tmp_path / "my.cfg", max_batches=6), len(found.train))
    with RunFolder(tmp_path / "run") as folder:
        yield begin_run(folder, settings, found, ready(settings, found, network), board="off")


# ---------------------------------------------------------------------- not finite
@pytest.mark.parametrize("average", [0, 0.9], ids=["", "with an average of weights"])
def test_a_run_that_diverges_stops_within_a_step(tmp_path: Path, average: float) -> None:
    """A rate of 1e37 makes weights infinite or nearly so by the first update; the second step must see it."""
    data, folder = make_data(tmp_path / "set"), tmp_path / "run"
    cfg = cfg_with(tmp_path / "my.cfg", learning_rate="1e37", burn_in=0, ema_alpha=average)
    ended = run(*begin(data, cfg, folder, "--save-every", "0"), cwd=tmp_path)
    assert ended.code == 1
    names = "(centre|extent|objects|background|classes)"
    assert re.match(rf"step 2: the loss is not finite \(({names}, )+printed\)", ended.line)
    assert re.search(r"nothing was learnt from it.*; its pictures: .*/images/\d+\.png, .*; step 0 is kept", ended.line)
    assert ended.line.endswith(f"`lookonce train --resume {folder}` goes on from it")
    assert len(rows_of(folder, "step")) == 1
    (note,) = rows_of(folder, "note")
    assert note["text"].startswith("failed: step 2: the loss is not finite")
    assert "failed" in (folder / "run.html").read_text()
    assert all(is_finite(path) for path in folder.glob("checkpoint*"))
    # With a rate that can be learnt at it goes on from what is kept.
    text = (folder / "network.cfg").read_text()
    (folder / "network.cfg").write_text(text.replace("1e37", "0.001").replace("max_batches=150", "max_batches=3"))
    assert run("train", "--resume", folder, cwd=tmp_path).code == 0
    assert [row["number"] for row in rows_of(folder, "step")] == [1, 2, 3]


def test_a_last_update_that_is_not_finite_leaves_the_models_before_it(tmp_path: Path) -> None:
    """There is no step after it that could see it, but a judge and two writers of models."""
    data, folder = make_data(tmp_path / "set"), tmp_path / "run"
    cfg = cfg_with(tmp_path / "my.cfg", learning_rate="1e37", burn_in=0, max_batches=1)
    ended = run("train", cfg, "--data", data, *ALONE, "-o", folder, cwd=tmp_path)
    assert ended.code == 1
    assert re.search(r"lookonce: .*: not written: value \d+ of \d+ of the array .* is (inf|nan)", ended.err)
    assert "step 0 is kept" in ended.err.splitlines()[-1]
    assert is_finite(folder / checkpoint.NOW)
    assert not list(folder.glob("best.*")) + list(folder.glob("last.*"))


def test_an_average_that_is_not_finite_is_not_written(a_run: Run) -> None:
    """The weights that it averages may go on being finite for long."""
    rows = a_run.rows()
    for _ in range(3):
        next(rows)
    assert a_run.learner.average is not None
    next(iter(a_run.learner.average.values.values()))[:] = float("nan")
    with pytest.raises((CheckError, NonFiniteError), match=r"average.*; step 2 is kept") as found:
        list(rows)
    assert found.value.exit_code == 1
    assert is_finite(a_run.folder.checkpoint)
    assert checkpoint.latest(a_run.folder.path).facts["step"] == 2


def test_a_picture_that_is_not_finite_is_named(a_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The weights were finite before, and are after."""
    real = a_run._looked_at

    def looked_at(batches: object) -> Iterator[object]:
        for batch in real(batches):                         # type: ignore[arg-type]
            if batch.plan.number == 5:                      # the second part of step 3
                batch.pictures[1, 0, 3, 3] = np.nan
            yield batch

    monkeypatch.setattr(a_run, "_looked_at", looked_at)
    with pytest.raises(NonFiniteError, match=r"step 3: the loss is not finite \(.*its pictures") as found:
        list(a_run.rows())
    # Only those of the part that is not finite.
    assert len(re.findall(r"/images/\d+\.png", str(found.value))) == 2
    assert checkpoint.latest(a_run.folder.path).facts["step"] == 2
    assert is_finite(a_run.folder.checkpoint)


def test_weights_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    data, cfg = make_data(tmp_path / "set"), tmp_path / "set/my.cfg"
    settings = Settings(str(data), val_split="none")
    found = data_of(settings)
    network = as_it_stands(cfg, len(found.train))
    model = ready(settings, found, network)
    model.weights[2]["weights"][3, 1] = np.nan
    model.write_weights(tmp_path / "nan.weights")
    with pytest.raises(LookonceError, match=r"nan\.weights: layer 2 \[convolutional\] weights holds nan"):
        ready(settings, found, network, pretrained=str(tmp_path / "nan.weights"))


# ---------------------------------------------------------------------- the data
@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """400 pictures, of which a run reads 4 a step: most are on the disk only while it learns."""
    folder = tmp_path_factory.mktemp("many")
    many_pictures(folder / "set")
    cfg_with(folder / "my.cfg", max_batches=100)
    return folder


@pytest.fixture(scope="module")
def whole(many: Path) -> str:
    """What the model of the run that nothing disturbs hashes to."""
    assert run(*begin(many / "set/my.data", many / "my.cfg", many / "whole"), cwd=many).code == 0
    return digest(many / "whole")


def begun(many: Path, out: Path, *more: object) -> Child:
    """A run that has made some steps."""
    child = start(*begin(many / "set/my.data", many / "my.cfg", out, *more), cwd=many)
    until(lambda: steps_of(out) >= 3)
    return child


@pytest.mark.parametrize("workers", [0, 1])
def test_a_picture_that_is_cut_off_while_a_run_learns_is_named(
    many: Path, whole: str, tmp_path: Path, workers: int
) -> None:
    """Half of the pictures, so that one of them is soon asked for. Put right, it goes on and learns the same."""
    broken = sorted((many / "set/images").glob("many*.png"))[::2]
    kept = {path: path.read_bytes() for path in broken}
    child = begun(many, tmp_path / "run", "--workers", workers)
    for path in broken:
        os.truncate(path, 900)
    ended = child.wait()
    for path, data in kept.items():
        path.write_bytes(data)
    assert ended.code == 1
    done = steps_of(tmp_path / "run")
    assert re.match(r".*/many\d+\.png: cannot be decoded, it is damaged or cut off", ended.line)
    assert f"; step {done} is kept, `lookonce train --resume" in ended.line
    assert run("train", "--resume", tmp_path / "run", cwd=tmp_path).code == 0
    assert digest(tmp_path / "run") == whole


def test_pictures_that_are_cut_off_can_be_left_out(many: Path, tmp_path: Path) -> None:
    """Said once for each, however often it is asked for; every second picture is asked for in 100 steps of 4."""
    broken = sorted((many / "set/images").glob("many*.png"))[200:204]
    kept = {path: path.read_bytes() for path in broken}
    child = begun(many, tmp_path / "run", "--skip-bad")
    for path in broken:
        os.truncate(path, 900)
    ended = child.wait()
    for path, data in kept.items():
        path.write_bytes(data)
    assert ended.code == 0
    said = re.findall(r"warning: .*/(many\d+\.png): cannot be decoded.*another picture takes its place", ended.err)
    assert 1 <= len(said) == len(set(said)) <= 4
    assert set(said) <= {path.name for path in broken}
    assert len(rows_of(tmp_path / "run", "step")) == 100


def test_labels_are_read_at_the_start(tmp_path: Path) -> None:
    """Those that are deleted while it learns are not missed."""
    data, cfg = make_data(tmp_path / "set"), cfg_with(tmp_path / "my.cfg", max_batches=30)
    child = start(*begin(data, cfg, tmp_path / "run"), cwd=tmp_path)
    until(lambda: steps_of(tmp_path / "run") >= 3)
    shutil.rmtree(tmp_path / "set/labels")
    assert child.wait().code == 0
    assert len(rows_of(tmp_path / "run", "step")) == 30


# ---------------------------------------------------------------------- processes
def workers_of(child: Child) -> list[int]:
    """The processes that make pictures ready for a run."""
    found = []
    for thread in Path(f"/proc/{child.pid}/task").iterdir():
        for pid in (thread / "children").read_text().split():
            if b"resource_tracker" not in Path(f"/proc/{pid}/cmdline").read_bytes():
                found.append(int(pid))
    return found


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="needs /proc to find processes")
def test_a_run_whose_workers_are_killed_goes_on_or_says_so(many: Path, tmp_path: Path) -> None:
    """Three are replaced, then it ends within 10 s; nothing is lost, and none outlives it."""
    folder = tmp_path / "run"
    endless = cfg_with(tmp_path / "endless.cfg", max_batches=100_000)
    child = start(*begin(many / "set/my.data", endless, folder, "--workers", "2"), cwd=many)
    until(lambda: steps_of(folder) >= 3)
    known: set[int] = set()

    def are_new() -> bool:
        return bool(set(workers_of(child)) - known)

    for kills in range(4):
        until(are_new)
        victim = min(set(workers_of(child)) - known)
        known |= {victim}
        wanted, begun_at = steps_of(folder) + 5, time.monotonic()
        os.kill(victim, signal.SIGKILL)
        if kills < 3:
            until(lambda wanted=wanted: steps_of(folder) > wanted, 10)          # type: ignore[misc]
    ended = child.wait(10)
    assert time.monotonic() - begun_at < 10
    assert ended.code == 1
    assert re.search(r"of the loader died \(by SIGKILL\) while it made samples of .*, after 3 others", ended.line)
    assert f"step {steps_of(folder)} is kept" in ended.line


def test_another_trainer_is_kept_out_of_the_folder(many: Path, tmp_path: Path) -> None:
    child = begun(many, tmp_path / "run")
    anew = begin(many / "set/my.data", many / "my.cfg", tmp_path / "run")
    for arguments in (["train", "--resume", tmp_path / "run"], anew):
        ended = run(*arguments, cwd=tmp_path)
        assert ended.code == 2
        assert ended.line.startswith(f"{tmp_path}/run: is in use by process {child.pid} on ")
    child.signal(signal.SIGTERM)
    assert child.wait().code == 130


# ---------------------------------------------------------------------- the disk
@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 3 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    command = [str(mount), "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(folder)]
    if mount is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a small disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def fill(disk: Path) -> Path:
    """Take all that is free, to the last byte."""
    with (disk / "filler").open("wb", buffering=0) as file:
        for size in (1 << 16, 4096, 1):
            try:
                while file.write(bytes(size)):
                    pass
            except OSError:
                pass
    return disk / "filler"


def test_a_disk_that_is_full_ends_a_run_after_some_tries_and_loses_nothing(
    many: Path, whole: str, disk: Path
) -> None:
    folder = disk / "run"
    child = begun(many, folder, "--save-every", "0.05")
    until(lambda: checkpoint.latest(folder).facts["step"] > 0)
    filler = fill(disk)
    ended = child.wait()
    assert ended.code == 1
    last = ended.err.splitlines()[-1]
    assert "/checkpoint-new.safetensors: cannot be written: No space left on device; " in last
    assert re.search(r"; [\d,]+ bytes are wanted, 0 are free there: make room, or give another folder; step ", last)
    assert len(re.findall(r"warning: .*; the run goes on, and tries again", ended.err)) == 2
    assert "Traceback" not in ended.err
    found = checkpoint.latest(folder)
    assert f"step {found.facts['step']} is kept" in last
    refused = run(*begin(many / "set/my.data", many / "my.cfg", disk / "other"), cwd=disk)
    assert refused.code == 2
    assert re.search(r"0 bytes are free there, wanted [\d,]+ for its checkpoints", refused.line)
    assert not (disk / "other").exists()
    filler.unlink()
    assert run("train", "--resume", folder, cwd=disk).code == 0
    assert [row["number"] for row in rows_of(folder, "step")] == list(range(1, 101))
    assert digest(folder) == whole


def test_a_disk_that_is_full_for_a_while_is_waited_for(a_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two checkpoints fail, then one does not; and two again. That is never three in a row."""
    real, calls = checkpoint.keep, []

    def keep(folder: Path, *what: object) -> None:
        calls.append(folder)
        if len(calls) in (1, 2, 4, 5):
            raise DataError("no room")
        real(folder, *what)                                 # type: ignore[arg-type]

    monkeypatch.setattr(checkpoint, "keep", keep)
    with pytest.warns(LookonceWarning, match="no room; the run goes on, and tries again") as said:
        rows = list(a_run.rows())
    assert len(said) == 4
    assert sum(isinstance(row, StepRow) for row in rows) == 6
    assert checkpoint.latest(a_run.folder.path).facts["step"] == 6


def test_files_may_be_too_long_for_a_limit_before_the_first_step(tmp_path: Path) -> None:
    """The first checkpoint is written before it; what was written is taken back."""
    data = make_data(tmp_path / "set")
    ended = run(*begin(data, tmp_path / "set/my.cfg", tmp_path / "run"), cwd=tmp_path, most_bytes=2000)
    assert ended.code == 2
    assert "checkpoint-new.safetensors: cannot be written: File too large" in ended.line
    assert not (tmp_path / "run").exists()


def test_a_folder_that_is_read_only_is_refused_before_the_first_step(disk: Path) -> None:
    data = make_data(disk.parent / "set")
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    for folder in (disk, disk / "run"):
        ended = run(*begin(data, disk.parent / "set/my.cfg", folder), cwd=disk)
        assert ended.code == 2
        assert "Read-only file system" in ended.line


# ---------------------------------------------------------------------- what a run can do without
def test_a_page_that_cannot_be_written_ends_no_run(a_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def write_page(*what: object) -> int:
        raise EngineError("the page of a run needs jinja2")

    monkeypatch.setattr(running, "write_page", write_page)
    with pytest.warns(LookonceWarning, match="needs jinja2; the run goes on without its page") as said:
        rows = list(a_run.rows())
    assert len(said) == 1
    assert a_run.finished
    assert sum(isinstance(row, StepRow) for row in rows) == 6


@pytest.fixture
def judged(a_run: Run, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[object]]:
    """Learns to the end, judged after every step with these figures; None: the judge fails."""
    a_run.data = dataclasses.replace(a_run.data, val=a_run.data.train)
    a_run.settings = dataclasses.replace(a_run.settings, judge_every=0.01)  # type: ignore[arg-type]

    def learnt(*mains: float | None) -> list[object]:
        left = iter(mains)

        def judge(*what: object) -> judging.Verdict:
            main = next(left)
            if main is None:
                raise LookonceError("the engine has no memory")
            return judging.Verdict(main, "mAP", {"mAP": main})

        monkeypatch.setattr(running, "judge", judge)
        return list(a_run.rows())

    return learnt


def test_a_judge_that_fails_ends_no_run(a_run: Run, judged: Callable[..., list[object]]) -> None:
    """What was judged before stays the best of those before."""
    with pytest.warns(LookonceWarning, match="the engine has no memory; the run goes on without being judged"):
        rows = judged(0.1, 0.3, None, 0.2, 0.1, 0.2)
    assert [row.text for row in rows if isinstance(row, NoteRow)] == ["could not be judged: the engine has no memory"]
    assert [row.number for row in rows if isinstance(row, JudgedRow)] == [1, 2, 4, 5, 6]
    assert a_run.finished
    assert a_run.best == (0.3, "mAP", {"mAP": 0.3})
    assert open_model(str(a_run.folder.best)).card["trained"]["batches"] == 2


def test_a_best_model_that_cannot_be_saved_is_not_the_best(
    a_run: Run, judged: Callable[..., list[object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The figures that a run ends with are those of a file that is there; of equal ones the newest: it learnt more."""
    real = a_run.folder.save_model

    def save_model(path: Path, model: Model) -> None:
        if path == a_run.folder.best and model.card["trained"]["figures"]["mAP"] == 0.3:
            raise DataError("no room for it")
        real(path, model)

    monkeypatch.setattr(a_run.folder, "save_model", save_model)
    with pytest.warns(LookonceWarning, match="no room for it; the run goes on"):
        judged(0.1, 0.3, 0.2, 0.2, 0.1, float("nan"))
    assert a_run.best == (0.2, "mAP", {"mAP": 0.2})
    assert open_model(str(a_run.folder.best)).card["trained"] | {"batches": 4, "figures": {"mAP": 0.2}} == (
        open_model(str(a_run.folder.best)).card["trained"]
    )


def test_memory_that_runs_out_is_said_with_what_takes_less(a_run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """As torch says it of a processor's."""
    step = a_run.learner.step

    def short(batches: object) -> object:
        if a_run.learner.number == 4:
            raise RuntimeError("[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: not enough memory: you")
        return step(batches)                                # type: ignore[arg-type]

    monkeypatch.setattr(a_run.learner, "step", short)
    with pytest.raises(LookonceError, match=r"step 5: memory ran out; subdivisions=4 in .*\.cfg takes about half"):
        list(a_run.rows())
    assert checkpoint.latest(a_run.folder.path).facts["step"] == 4


@pytest.mark.parametrize("device", ["nonsense", "meta", "mps", "", "cuda:99", "cpu:x"])
def test_a_device_that_is_not_there_is_refused(device: str) -> None:
    with pytest.raises(EngineError, match="device"):
        machine.prepare(device)
