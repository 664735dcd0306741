from __future__ import annotations

import hashlib
import itertools
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from multiprocessing import active_children
from multiprocessing.process import BaseProcess
from pathlib import Path

import numpy as np
import pytest
from conftest import Child
from PIL import Image

from lookonce.data import Dataset, Item, loader
from lookonce.data.batches import Augmentation, Batch, Plan
from lookonce.data.loader import Loader
from lookonce.data.making import Choosing
from lookonce.data.sampler import Sampler
from lookonce.errors import DataError, InputError, LookonceError
from lookonce.truth import Truth

SHARED = Path("/dev/shm")
V3 = Augmentation("place", jitter=0.3, flip=True, hue=0.1, saturation=1.5, exposure=1.5, mosaic=0.3)
SIZES = ((64, 64), (96, 64), (64, 96))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """30 small pictures with up to three boxes each."""
    folder, rng, items = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0), []
    for number in range(30):
        path = folder / f"{number:02}.png"
        Image.fromarray(rng.integers(0, 256, (30 + number, 60 - number, 3), np.uint8)).save(path)
        corner, side = rng.uniform(0, 10, (number % 4, 2)), rng.uniform(5, 20, (number % 4, 2))
        truth = Truth.of(rng.integers(0, 5, number % 4), xyxy=np.concatenate([corner, corner + side], 1))
        items.append(Item(path.stem, path, (60 - number, 30 + number), truth))
    return Dataset("folder", folder, tuple("abcde"), tuple(items))


@pytest.fixture(autouse=True)
def names(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The names of a test's shared memory, of which nothing may stay, as of processes. Other programs have theirs."""
    names: list[str] = []

    class Noted(loader._SharedRoom):
        def __init__(self, *args: object, **more: object) -> None:
            super().__init__(*args, **more)
            names.append(self.name)

    monkeypatch.setattr(loader, "_SharedRoom", Noted)
    yield names
    assert [name for name in names if (SHARED / name).exists()] == []
    assert active_children() == []


def shared_by(pid: int | str) -> set[Path]:
    """The shared memory that a process looks at."""
    lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    return {Path(line.split()[5]) for line in lines if f" {SHARED}/psm" in line}


def plans(count: int | None = None, batch: int = 4) -> Iterator[Plan]:
    return itertools.islice(Sampler(30, batch, 1, SIZES, every=3).plans(), count)


def digest(batch: Batch) -> str:
    parts = batch.pictures, batch.targets.picture, batch.targets.cxcywh, batch.targets.label
    return hashlib.sha256(b"".join(np.ascontiguousarray(part).tobytes() for part in parts)).hexdigest()


@pytest.fixture(scope="module")
def expected(dataset: Dataset) -> list[str]:
    """The first 20 batches, made in one thread, with nothing kept."""
    with Loader(dataset, V3, plans(20), 3, memory=0) as batches:
        return [digest(batch) for batch in batches]


# ---------------------------------------------------------------------- what comes out
@pytest.mark.parametrize("workers", [0, 1, 2, 4])
def test_batches_do_not_depend_on_who_makes_them(dataset: Dataset, expected: list[str], workers: int) -> None:
    """Four sizes of input, pictures kept in memory, mosaics: the same bytes for any number of processes."""
    with Loader(dataset, V3, plans(20), 3, workers=workers) as batches:
        found = []
        for number, batch in enumerate(batches):
            assert batch.plan.number == number
            assert batch.pictures.shape == (4, 3, batch.plan.height, batch.plan.width)
            found.append(digest(batch))
    assert found == expected
    assert len(set(found)) == 20
    assert batches.alone == (workers == 0)
    assert batches.restarted == 0


def test_a_loader_goes_on_where_another_was_left(dataset: Dataset, expected: list[str]) -> None:
    later = itertools.islice(Sampler(30, 4, 1, SIZES, every=3).plans(13), 7)
    with Loader(dataset, V3, later, 3) as batches:
        assert [digest(batch) for batch in batches] == expected[13:]


@pytest.mark.parametrize("workers", [0, 1])
def test_what_a_caller_holds_stays_as_it_is(
    dataset: Dataset, expected: list[str], names: list[str], workers: int
) -> None:
    """Rooms are used again, but not while somebody looks at them; nor are they gone when the loader is.

    All but two batches are copies, so that twenty of them take no more shared memory than a few.
    """
    with Loader(dataset, V3, plans(20), 3, workers=workers, memory=0) as batches:
        held = list(batches)
    assert [digest(batch) for batch in held] == expected
    assert len(names) <= 6 * workers


def test_a_part_of_a_batch_is_enough_to_hold_it(dataset: Dataset) -> None:
    with Loader(dataset, V3, plans(), 3) as batches:
        row = next(batches).pictures[2, 1]
        before = row.copy()
        for _ in range(12):
            next(batches)
        assert np.array_equal(row, before)


@pytest.mark.parametrize("workers", [0, 1])
def test_rooms_are_used_again(dataset: Dataset, workers: int) -> None:
    """Two that are made ahead, one in the making, two that are lent: fresh memory costs more than what is written.

    Small mini-batches are made ahead for each of the two parts that a process has: there two more.
    """
    with Loader(dataset, V3, plans(batch=8), 3, workers=workers) as batches:
        places = {next(batches).pictures.ctypes.data for _ in range(40)}
    assert len(places) <= 6


@pytest.mark.parametrize("workers", [0, 1])
def test_a_loader_ends_with_its_plans(dataset: Dataset, workers: int) -> None:
    with Loader(dataset, V3, plans(3), 3, workers=workers) as batches:
        assert len(list(batches)) == 3
        assert list(batches) == []
    with Loader(dataset, V3, iter(()), 3, workers=workers) as batches:
        assert list(batches) == []


def test_pictures_come_out_of_an_archive(dataset: Dataset, tmp_path: Path, expected: list[str]) -> None:
    """A process opens it by itself."""
    with zipfile.ZipFile(tmp_path / "all.zip", "w") as archive:
        for item in dataset.items:
            archive.write(item.path, item.path.name)
    items = tuple(item._replace(path=tmp_path / "all.zip", member=item.path.name) for item in dataset.items)
    packed = Dataset("folder", tmp_path, dataset.names, items)
    for workers in (0, 1):
        with Loader(packed, V3, plans(20), 3, workers=workers) as batches:
            assert [digest(batch) for batch in batches] == expected


def test_inputs_may_grow(dataset: Dataset) -> None:
    """Rooms that are too small make place for others, in processes too."""
    sizes = [32, 32, 32, 64, 64, 32, 96, 96, 128, 32]
    grown = [Plan(number, (1, 2, 3), side, side) for number, side in enumerate(sizes)]
    found = []
    for workers in (0, 1):
        with Loader(dataset, V3, iter(grown), 0, workers=workers) as batches:
            found.append([digest(batch) for batch in batches])
    assert found[0] == found[1]


# ---------------------------------------------------------------------- what is kept
@pytest.mark.parametrize("workers", [0, 2])
def test_pictures_are_decoded_once(dataset: Dataset, workers: int) -> None:
    """Ten epochs of 30 pictures. Two processes may come by the same one before either has said so."""
    plain = Augmentation("place", jitter=0.2)
    epochs = itertools.islice(Sampler(30, 10, 0, ((32, 32),)).plans(), 30)
    with Loader(dataset, plain, epochs, 0, workers=workers) as batches:
        assert len(list(batches)) == 30
    assert batches.hits + batches.misses == 300
    assert 30 <= batches.misses <= (45 if workers else 30)


def test_without_memory_nothing_is_kept(dataset: Dataset) -> None:
    with Loader(dataset, V3, plans(12), 0, memory=0) as batches:
        list(batches)
    assert batches.hits == 0
    assert batches.misses > 48


def test_a_folder_keeps_pictures_for_the_next_run(dataset: Dataset, tmp_path: Path, expected: list[str]) -> None:
    for workers, misses in ((2, True), (0, False)):
        with Loader(dataset, V3, plans(20), 3, workers=workers, folder=tmp_path / "kept") as batches:
            assert [digest(batch) for batch in batches] == expected
        assert (batches.misses > 0) == misses


def test_a_folder_that_cannot_be_is_said_at_once(dataset: Dataset) -> None:
    with pytest.raises(DataError, match=r"00\.png: is a file, wanted a folder"):
        Loader(dataset, V3, plans(), workers=1, folder=dataset.items[0].path)


# ---------------------------------------------------------------------- processes that die
def killed(batches: Loader, number: int = signal.SIGKILL) -> None:
    """Send a signal to one of the loader's processes."""
    process = active_children()[0]
    assert process.pid is not None
    os.kill(process.pid, number)


def test_a_process_that_is_killed_is_replaced(dataset: Dataset, expected: list[str]) -> None:
    """Six times, at any point of its work. What it had in hand is made again, to the byte."""
    with Loader(dataset, V3, plans(20), 3, workers=2, restarts=6) as batches:
        found = []
        for number, batch in enumerate(batches):
            found.append(digest(batch))
            if number % 3 == 0 and number < 18:
                killed(batches)
                time.sleep(0.05)
    assert found == expected
    assert 4 <= batches.restarted <= 6                      # a batch may be ready before its maker is missed
    assert batches.waited < 10


def kill_after_each(batches: Loader) -> None:
    for _ in batches:
        if active_children():
            killed(batches)


def test_processes_that_die_too_often_are_an_error(dataset: Dataset) -> None:
    with Loader(dataset, V3, plans(), 3, workers=1, restarts=2) as batches:
        with pytest.raises(LookonceError, match=r"died \(by SIGKILL\) while .*2 others: .*workers") as problem:
            kill_after_each(batches)
        assert "\n" not in str(problem.value)


def test_processes_that_cannot_start_are_an_error(dataset: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(process: BaseProcess) -> None:
        raise BlockingIOError(11, "Resource temporarily unavailable")

    monkeypatch.setattr(BaseProcess, "start", start)
    with (
        Loader(dataset, V3, plans(), 3, workers=1) as batches,
        pytest.raises(LookonceError, match=r"no process can be started .*: Resource .* unavailable; try fewer"),
    ):
        next(batches)


def test_a_process_that_hangs_is_an_error(dataset: Dataset) -> None:
    """Stopped, it does not even read what it is told; the loader ends it all the same."""
    with Loader(dataset, V3, plans(), 3, workers=1, patience_s=4.0) as batches:
        next(batches)
        killed(batches, signal.SIGSTOP)
        start = time.monotonic()
        with pytest.raises(LookonceError, match=r"^process \d+ of .* not answered for 4 s .*\.png") as problem:
            list(itertools.islice(batches, 100))
        assert time.monotonic() - start < 10
        assert "\n" not in str(problem.value)
        start = time.monotonic()
    assert time.monotonic() - start < 10


def test_what_should_not_happen_is_told_with_its_trace(dataset: Dataset) -> None:
    wrong = Dataset("folder", dataset.path, dataset.names, tuple(item._replace(truth=3) for item in dataset.items))
    with Loader(wrong, V3, plans(), 3, workers=1) as batches, pytest.raises(RuntimeError, match="compose"):
        next(batches)


# ---------------------------------------------------------------------- bad pictures
def spoilt(dataset: Dataset, folder: Path, *bad: int, kind: str = "cut") -> Dataset:
    """The dataset with some files cut off or gone."""
    items = list(dataset.items)
    for number in bad:
        path = folder / f"bad{number}.png"
        if kind == "cut":
            path.write_bytes(items[number].path.read_bytes()[:500])
        items[number] = items[number]._replace(path=path)
    return Dataset("folder", folder, dataset.names, tuple(items))


@pytest.mark.parametrize(("workers", "kind"), [(0, "cut"), (0, "gone"), (2, "cut")])
def test_a_bad_picture_stops_a_run(dataset: Dataset, tmp_path: Path, workers: int, kind: str) -> None:
    wrong = spoilt(dataset, tmp_path, 7, kind=kind)
    with (
        Loader(wrong, V3, plans(), 3, workers=workers) as batches,
        pytest.raises(InputError, match=r"bad7\.png: .*; mend or remove it"),
    ):
        list(itertools.islice(batches, 20))


def test_a_bad_picture_is_skipped_if_that_is_wanted(dataset: Dataset, tmp_path: Path, expected: list[str]) -> None:
    """Another is drawn in its place, the same for any number of processes; it is complained of once."""
    wrong, runs = spoilt(dataset, tmp_path, 7), []
    for workers in (0, 2):
        said: list[str] = []
        with Loader(wrong, V3, plans(20), 3, workers=workers, bad="skip", complain=said.append) as batches:
            runs.append([digest(batch) for batch in batches])
        assert len(said) == 1
        assert "bad7.png" in said[0]
    assert runs[0] == runs[1]
    touched = [plan.number for plan in plans(20) if 7 in plan.indices]
    same = [number for number in range(20) if runs[0][number] == expected[number]]
    assert not set(touched) & set(same)
    assert len(same) >= 5


def test_too_many_bad_pictures_stop_a_run(dataset: Dataset, tmp_path: Path) -> None:
    """Of 30 one may be bad: the first beyond one of a hundred."""
    wrong = spoilt(dataset, tmp_path, 3, 7)
    with (
        Loader(wrong, V3, plans(), 3, bad="skip") as batches,
        pytest.raises(InputError, match=r"it is bad picture 2 of 30, and at most 1 are skipped"),
    ):
        list(itertools.islice(batches, 20))


def test_a_bad_picture_counts_once(dataset: Dataset) -> None:
    """Two processes may find it at the same time."""
    said: list[str] = []
    choosing = Choosing(dataset.items, V3, 0, "skip", said.append)
    for _ in range(3):
        choosing.leave_out(4, "04.png: is spoilt")
    assert said == ["04.png: is spoilt; another picture takes its place"]


def test_no_good_picture_at_all_stops_a_run(dataset: Dataset, tmp_path: Path) -> None:
    wrong = spoilt(dataset, tmp_path, 0)
    alone = Dataset("folder", tmp_path, dataset.names, wrong.items[:1])
    with (
        Loader(alone, V3, iter([Plan(0, (0, 0), 32, 32)]), 3, bad="skip") as batches,
        pytest.raises(InputError, match=r"bad0\.png: .*no other picture"),
    ):
        next(batches)


def test_what_was_made_before_a_problem_comes_before_it(dataset: Dataset, tmp_path: Path) -> None:
    """One picture a mini-batch, in order; the problem is said again to whoever asks again."""
    order = [Plan(number, (number,), 32, 32) for number in range(20)]
    with Loader(spoilt(dataset, tmp_path, 7), Augmentation(), iter(order), 3) as batches:
        assert [next(batches).plan.number for _ in range(7)] == list(range(7))
        for _ in range(2):
            with pytest.raises(InputError, match="bad7"):
                next(batches)


# ---------------------------------------------------------------------- shared memory, time
def test_too_little_shared_memory_is_said_and_done_without(
    dataset: Dataset, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container has 64 MB unless somebody asks for more."""
    rooms: list[int] = []

    def reserve(name: str, start: int, count: int) -> None:
        rooms.append(count)
        if len(rooms) == 3:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(loader, "_reserve", reserve)
    said: list[str] = []
    with Loader(dataset, V3, plans(20), 3, workers=2, complain=said.append) as batches:
        assert [digest(batch) for batch in batches] == expected
        assert batches.alone
    assert len(said) == 1
    assert "No space left on device" in said[0]
    assert "--shm-size" in said[0]


def test_a_loader_says_how_long_it_was_waited_for(dataset: Dataset) -> None:
    """Who takes batches slowly waits for the first only."""
    with Loader(dataset, V3, plans(), 3) as batches:
        next(batches)
        first = batches.waited
        for _ in range(5):
            time.sleep(0.1)
            next(batches)
        assert batches.waited - first < 0.1
        start = time.monotonic()
        for _ in range(30):
            next(batches)
        took = time.monotonic() - start
        assert 0.5 * took < batches.waited - first < took + 0.1


def test_a_loader_that_makes_nothing_is_an_error(dataset: Dataset, tmp_path: Path) -> None:
    """Whatever holds it up, here plans that do not come."""

    def never() -> Iterator[Plan]:
        time.sleep(0.6)
        yield from ()

    with Loader(dataset, V3, never(), 3, patience_s=0.1) as batches, pytest.raises(LookonceError, match="made nothing"):
        next(batches)


# ---------------------------------------------------------------------- the processes' surroundings
SCRIPT = """
import os, sys, time
print("main", flush=True)
{imports}
from pathlib import Path
import numpy as np
from lookonce.data import Dataset, Item
from lookonce.data.batches import Augmentation
from lookonce.data.loader import Loader
from lookonce.data.sampler import Sampler
from lookonce.truth import Truth
from multiprocessing import active_children
items = [Item(path.stem, path, None, Truth.of(np.zeros(0, np.int64))) for path in sorted(Path({folder!r}).iterdir())]
data = Dataset("folder", Path({folder!r}), ("a",), tuple(items))
batches = Loader(data, Augmentation("place"), Sampler(len(items), 4, sizes=((64, 64),)).plans(), workers=2)
"""


def script(dataset: Dataset, body: str, imports: str = "") -> str:
    return SCRIPT.format(imports=imports, folder=str(dataset.path)) + body


def test_processes_import_no_torch_and_run_nothing_of_the_program(
    child: Child, dataset: Dataset, tmp_path: Path
) -> None:
    """A program that imports torch and has no guard around its main part: the processes map no file of torch's."""
    body = """
with batches:
    next(batches)
    maps = [Path(f"/proc/{process.pid}/maps").read_text() for process in active_children()]
    maps.append(Path("/proc/self/maps").read_text())
    print(["torch" in text for text in maps], ["numpy" in text for text in maps])
"""
    (tmp_path / "program.py").write_text(script(dataset, body, "import torch"))
    done = child(str(tmp_path / "program.py"), memory=16 << 30, timeout=60)
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == ["main", "[False, False, True] [True, True, True]"]


def test_a_program_that_does_not_close_its_loader_ends_all_the_same(
    child: Child, dataset: Dataset, tmp_path: Path
) -> None:
    body = """
batches.__enter__()
next(batches)
print([line.split()[5] for line in Path("/proc/self/maps").read_text().splitlines() if "/dev/shm/psm" in line])
"""
    (tmp_path / "program.py").write_text(script(dataset, body))
    done = child(str(tmp_path / "program.py"), memory=16 << 30, timeout=60)
    assert (done.code, done.err) == (0, "")
    names = re.findall(r"/dev/shm/\w+", done.out)
    assert len(names) > 3
    assert not any(Path(name).exists() for name in names)


def running(tmp_path: Path, dataset: Dataset) -> tuple[subprocess.Popen[str], list[int]]:
    """A program that takes batches until it is interrupted, in a process group of its own, and its processes."""
    body = """
with batches:
    next(batches)
    print([process.pid for process in active_children()], flush=True)
    for batch in batches:
        time.sleep(.01)
"""
    (tmp_path / "program.py").write_text(script(dataset, body))
    program = subprocess.Popen(
        [sys.executable, str(tmp_path / "program.py")], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    assert program.stdout is not None
    assert program.stdout.readline() == "main\n"
    return program, [int(word) for word in program.stdout.readline().strip("[]\n").split(",")]


def ended(pids: list[int], seconds: float) -> bool:
    """Whether all processes end within so many seconds. One that nobody has waited for has ended too."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        states = [Path(f"/proc/{pid}/stat") for pid in pids]
        if all(not path.exists() or path.read_text().rpartition(")")[2].split()[0] == "Z" for path in states):
            return True
        time.sleep(0.05)
    return False


def test_an_interrupt_from_the_keyboard_is_for_the_program_alone(dataset: Dataset, tmp_path: Path) -> None:
    """The terminal sends it to all; the processes say nothing and end with the program."""
    program, pids = running(tmp_path, dataset)
    names = shared_by(program.pid)
    os.killpg(program.pid, signal.SIGINT)
    _, err = program.communicate(timeout=30)
    assert err.count("Traceback") == 1
    assert err.rstrip().endswith("KeyboardInterrupt")
    assert ended(pids, 2)
    assert not any(name.exists() for name in names)


def test_the_processes_of_a_program_that_is_killed_end_too(dataset: Dataset, tmp_path: Path) -> None:
    """And its shared memory goes."""
    program, pids = running(tmp_path, dataset)
    names = shared_by(program.pid)
    assert len(names) > 3
    program.kill()
    program.communicate(timeout=30)
    assert ended(pids, 5)
    end = time.monotonic() + 5
    while any(name.exists() for name in names) and time.monotonic() < end:
        time.sleep(0.05)
    assert not any(name.exists() for name in names)
