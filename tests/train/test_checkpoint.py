"""Checkpoints: they come back bit for bit, one that is whole is there at every instant, damage is told."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import stat
import struct
import subprocess
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from conftest import DETECTOR, Child, model_of

from lookonce.errors import CheckError, DataError, LookonceWarning, WeightsError
from lookonce.model import onefile
from lookonce.train import checkpoint

ODD = {
    "now/000_weights": np.array([[1.5, -0.0, 1e-45], [3.4e38, -1, 0]], np.float32),
    "optimizer/step": np.array(7, np.int64),
    "average/double": np.array([np.pi, 5e-324]),
    "random/state": np.arange(5, dtype=np.uint8),
    "nothing": np.zeros((0, 4), np.float32),
    "turned": np.arange(24, dtype=np.float32).reshape(2, 3, 4).transpose(2, 0, 1),
    "every other": np.arange(20, dtype=np.int64)[::2],
}
FACTS = {"step": 12, "seen": 768, "best": None, "words": ["ä", "日本", "\n\""], "state": {"state": 2**127 + 1}}


def arrays_of(step: int, size: int = 40) -> dict[str, np.ndarray]:
    """Arrays that tell which step they are of."""
    return {"weights": np.full(size, step, np.float32), "steps": np.full(3, step, np.int64)}


def keep(folder: Path, *steps: int) -> None:
    for step in steps:
        checkpoint.keep(folder, arrays_of(step), {"step": step})


def step_of(folder: Path) -> int:
    """The step of the newest checkpoint, whose arrays must be of the same."""
    found = checkpoint.latest(folder)
    step: int = found.facts["step"]
    for name, array in arrays_of(step, found.arrays["weights"].size).items():
        assert np.array_equal(found.arrays[name], array)
    return step


def write_header(path: Path, header: Any, data: bytes = b"") -> None:
    """A file of this header and data, with the hash that it should have."""
    text = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    blank = struct.pack("<Q", len(text)) + text + data
    path.write_bytes(blank.replace(b"0" * 64, hashlib.sha256(blank).hexdigest().encode(), 1))


def metadata(**changes: Any) -> dict[str, Any]:
    """What stands in the metadata, with changes; None takes out."""
    usual = {"lookonce-checkpoint": "1", "sha256": "0" * 64, "facts": "{}"} | changes
    return {key: value for key, value in usual.items() if value is not None}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder on a disk of 5 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    made = mount and subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=5m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if not made or made.returncode:
        pytest.skip("needs the right to mount a small disk")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


# ---------------------------------------------------------------------- there and back
def test_arrays_and_facts_come_back_bit_for_bit(tmp_path: Path) -> None:
    """With negative zero, the smallest numbers, no values, one value, and arrays that do not lie in a row."""
    path = tmp_path / "a.safetensors"
    checkpoint.write(path, ODD, FACTS)
    arrays, facts = checkpoint.read(path)
    assert facts == FACTS
    assert arrays.keys() == ODD.keys()
    for name, array in ODD.items():
        assert (arrays[name].dtype, arrays[name].shape) == (array.dtype, array.shape)
        assert arrays[name].tobytes() == array.tobytes()
        assert arrays[name].flags.writeable


def test_the_safetensors_library_reads_the_same(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    checkpoint.write(path, ODD, FACTS)
    theirs = safetensors.numpy.load_file(path)
    assert theirs.keys() == ODD.keys()
    assert all(np.array_equal(theirs[name], array) and theirs[name].dtype == array.dtype for name, array in ODD.items())
    with safetensors.safe_open(path, framework="numpy") as file:
        assert json.loads(file.metadata()["facts"]) == FACTS


def test_the_hash_is_that_of_the_file_with_zeros_in_its_place(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    checkpoint.write(path, ODD, FACTS)
    data = path.read_bytes()
    (digest,) = re.findall(rb'"sha256":"([0-9a-f]{64})"', data)
    assert hashlib.sha256(data.replace(digest, b"0" * 64)).hexdigest().encode() == digest


def test_a_run_without_arrays_or_facts_has_a_checkpoint_too(tmp_path: Path) -> None:
    checkpoint.write(tmp_path / "a", {}, {})
    assert checkpoint.read(tmp_path / "a") == ({}, {})


def test_neither_writing_nor_reading_copies_the_arrays(tmp_path: Path) -> None:
    """32 MB are written with less than 2 MB besides, and read with 32 and less than 2."""
    arrays = {f"part {i}": np.ones(2 << 20, np.float32) for i in range(4)}
    tracemalloc.start()
    try:
        checkpoint.write(tmp_path / "a", arrays, {})
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
        tracemalloc.reset_peak()
        held = checkpoint.read(tmp_path / "a")
        assert 32 << 20 <= tracemalloc.get_traced_memory()[1] < 34 << 20
        assert len(held[0]) == 4
    finally:
        tracemalloc.stop()


def test_the_size_that_is_told_before_is_enough_and_not_much_more(tmp_path: Path) -> None:
    arrays = arrays_of(1, 100_000)
    checkpoint.write(tmp_path / "a", arrays, FACTS)
    size = (tmp_path / "a").stat().st_size
    assert size <= checkpoint.size_of(arrays) <= size + 5000


# ---------------------------------------------------------------------- never over a good one
@pytest.mark.parametrize("place", [0, (1 << 16) - 1, 1 << 16, 150_000])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_what_is_not_finite_is_never_written(tmp_path: Path, place: int, value: float, kind: type) -> None:
    """Values are looked at in blocks of 65,536: the places are at the ends of them, and in the last."""
    keep(tmp_path, 1, 2)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    bad = np.zeros(150_001, kind)
    bad[place] = value
    with pytest.raises(CheckError, match=rf"value {place:,} of 150,001 of the array 003_weights is {value}") as said:
        checkpoint.keep(tmp_path, {"good": np.ones(3), "003_weights": bad}, {"step": 3})
    assert "\n" not in str(said.value)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    keep(tmp_path, 1)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint.safetensors"]
    keep(tmp_path, 2, 3)
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint.safetensors", "checkpoint-before.safetensors"}
    assert step_of(tmp_path) == 3
    assert checkpoint.read(tmp_path / "checkpoint-before.safetensors")[1] == {"step": 2}


def test_a_file_is_on_the_disk_before_it_gets_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """File synchronised, renamed, folder synchronised; then the one before moves, then the new one, then the folder."""
    keep(tmp_path, 1)
    events: list[str] = []
    sync, replace = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        events.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        sync(descriptor)

    def renamed(path: Path, target: Path) -> Path:
        events.append(Path(target).name)
        return replace(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", renamed)
    keep(tmp_path, 2)
    assert events == [
        "file", "checkpoint-new.safetensors", "folder",
        "checkpoint-before.safetensors", "checkpoint.safetensors", "folder",
    ]  # fmt: skip


@pytest.mark.parametrize("renaming", [1, 2, 3])
@pytest.mark.parametrize("is_done", [False, True])
def test_an_end_at_any_renaming_leaves_one_that_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renaming: int, is_done: bool
) -> None:
    """Before the first renaming the old one is the newest, from then on the new one."""
    keep(tmp_path, 1, 2)
    replace, count = Path.replace, 0

    def ending(path: Path, target: Path) -> None:
        nonlocal count
        count += 1
        if count < renaming or is_done:
            replace(path, target)
        if count == renaming:
            raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", ending)
    with pytest.raises(KeyboardInterrupt):
        keep(tmp_path, 3)
    monkeypatch.undo()
    assert step_of(tmp_path) == (2 if renaming == 1 and not is_done else 3)
    keep(tmp_path, 4)
    assert step_of(tmp_path) == 4
    assert len(list(tmp_path.iterdir())) == 2


KILLED = """
import os, random, signal, sys, time, warnings
from pathlib import Path
import numpy as np
from lookonce.train import checkpoint
warnings.simplefilter("error")
folder, rng, last = Path(sys.argv[1]), random.Random(0), 0
for turn in range(60):
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        for step in range(last + 1, last + 10_000):
            arrays = {"weights": np.full(30_000, step, np.float32), "steps": np.full(3, step, np.int64)}
            checkpoint.keep(folder, arrays, {"step": step})
            os.write(write, step.to_bytes(4, "little"))
    os.read(read, 4)
    time.sleep(rng.uniform(0, 0.01))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    os.close(write)
    said = b"".join(iter(lambda: os.read(read, 4096), b""))
    os.close(read)
    told = int.from_bytes(said[-4:], "little") if said else last + 1
    found = checkpoint.latest(folder)
    last = found.facts["step"]
    assert told <= last <= told + 1, (told, last)
    assert (found.arrays["weights"] == last).all() and (found.arrays["steps"] == last).all()
print(last)
"""


def test_a_writer_that_is_killed_60_times_never_loses_what_it_kept(tmp_path: Path, child: Child) -> None:
    """Killed with -9 at random while it writes all the time: the newest is the last that it told of, or the next."""
    done = child("-c", KILLED, str(tmp_path), timeout=60)
    assert done.code == 0, done.err
    assert int(done.out) >= 60


# ---------------------------------------------------------------------- damage
def test_a_file_cut_at_any_of_100_points_is_told_and_the_one_before_is_taken(tmp_path: Path) -> None:
    keep(tmp_path, 1, 2)
    path = tmp_path / checkpoint.NOW
    whole = path.read_bytes()
    for length in np.linspace(0, len(whole) - 1, 100).astype(int).tolist():
        path.write_bytes(whole[:length])
        with pytest.raises(WeightsError):
            checkpoint.read(path)
        with pytest.warns(LookonceWarning, match=r"went back to checkpoint-before\.safetensors$") as said:
            assert step_of(tmp_path) == 1
        assert len(said) == 1
        assert "\n" not in str(said[0].message)


def test_any_flipped_bit_is_told(tmp_path: Path) -> None:
    """A bit of each byte of a file of some 600, the eight in turn, and all bits of the length at its beginning."""
    keep(tmp_path, 1, 2)
    path = tmp_path / checkpoint.NOW
    whole = path.read_bytes()
    assert len(whole) < 1000
    places = [*range(64), *(8 * byte + byte % 8 for byte in range(8, len(whole)))]
    for place in places:
        data = bytearray(whole)
        data[place // 8] ^= 1 << place % 8
        path.write_bytes(data)
        with pytest.warns(LookonceWarning, match="went back to"):
            assert step_of(tmp_path) == 1
    path.write_bytes(whole)
    assert step_of(tmp_path) == 2


def test_bytes_after_the_end_are_told(tmp_path: Path) -> None:
    keep(tmp_path, 1)
    with (tmp_path / checkpoint.NOW).open("ab") as file:
        file.write(b"\0")
    with pytest.raises(WeightsError, match="is damaged.*no other checkpoint is there"):
        checkpoint.latest(tmp_path)


def test_a_torn_one_does_not_push_out_the_one_that_is_whole(tmp_path: Path) -> None:
    """It went back to step 1 and learnt again up to 2: were the torn file kept, only the new one would be whole."""
    keep(tmp_path, 1, 2)
    path = tmp_path / checkpoint.NOW
    path.write_bytes(path.read_bytes()[:-1])
    keep(tmp_path, 3)
    assert step_of(tmp_path) == 3
    assert checkpoint.read(tmp_path / checkpoint.BEFORE)[1] == {"step": 1}


def test_without_any_the_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=re.escape(f"{tmp_path}: holds no checkpoint.safetensors")):
        checkpoint.latest(tmp_path)


F32 = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    ("header", "data", "words"),
    [
        ({"__metadata__": metadata(), "a": F32}, bytes(8), None),
        ({"__metadata__": metadata(), "a": F32}, bytes(9), "8 bytes of arrays were written, 9 are there"),
        ({"__metadata__": metadata(), "a": F32 | {"shape": [3]}}, bytes(8), "does not lie where it should"),
        ({"__metadata__": metadata(), "a": F32 | {"shape": [10**30]}}, bytes(8), "does not lie where"),
        ({"__metadata__": metadata(), "a": F32 | {"shape": [-2]}}, bytes(8), "not usable"),
        ({"__metadata__": metadata(), "a": F32 | {"shape": [2.0]}}, bytes(8), "not usable"),
        ({"__metadata__": metadata(), "a": F32 | {"shape": 2}}, bytes(8), "not usable"),
        ({"__metadata__": metadata(), "a": F32 | {"shape": [0, 10**30], "data_offsets": [0, 0]}}, b"", "be read"),
        ({"__metadata__": metadata(), "a": F32 | {"dtype": "BF16"}}, bytes(8), "not usable"),
        ({"__metadata__": metadata(), "a": F32 | {"dtype": []}}, bytes(8), "not usable"),
        ({"__metadata__": metadata(), "a": {}}, bytes(8), "not usable"),
        ({"__metadata__": metadata(), "a": 3}, bytes(8), "not usable"),
        ({"__metadata__": metadata(), "a": F32, "b": F32}, bytes(8), "'?b'? does not lie|array b does not lie"),
        ({"__metadata__": metadata(), "a": F32 | {"data_offsets": [8, 16]}}, bytes(16), "does not lie"),
        ({"__metadata__": metadata(**{"lookonce-checkpoint": "2"})}, b"", "format 2, this lookonce reads format 1"),
        ({"__metadata__": metadata(**{"lookonce-checkpoint": None})}, b"", "no checkpoint of a run"),
        ({"__metadata__": metadata(sha256=None)}, b"", "no SHA-256"),
        ({"__metadata__": metadata(sha256="f" * 64)}, b"", "its SHA-256 is not"),
        ({"__metadata__": metadata(facts="[]")}, b"", "its facts are a list"),
        ({"__metadata__": metadata(facts="{")}, b"", "cannot be read"),
        ({"__metadata__": metadata(facts="[" * 100_000)}, b"", "cannot be read"),
        ({"__metadata__": []}, b"", "no checkpoint of a run"),
        ({"a": F32}, bytes(8), "no checkpoint of a run"),
        ([], b"", "no checkpoint of a run"),
        (b"[" * 100_000, b"", "cannot be read"),
        (b"\xff\xfe", b"", "cannot be read"),
        (b"", b"", "cannot be read"),
    ],
)  # fmt: skip
def test_a_strange_file_is_one_line(tmp_path: Path, header: Any, data: bytes, words: str | None) -> None:
    """The first is as it should be: so the others are refused for what is strange in them."""
    path = tmp_path / "a.safetensors"
    write_header(path, header, data)
    if words is None:
        assert np.array_equal(checkpoint.read(path)[0]["a"], [0, 0])
        return
    with pytest.raises(WeightsError, match=words) as said:
        checkpoint.read(path)
    assert str(said.value).startswith(f"{path}: ")
    assert "\n" not in str(said.value)


def test_a_model_is_no_checkpoint_and_a_checkpoint_is_no_model(tmp_path: Path) -> None:
    onefile.write(tmp_path / "model.safetensors", model_of(DETECTOR))
    with pytest.raises(WeightsError, match="no checkpoint of a run"):
        checkpoint.read(tmp_path / "model.safetensors")
    keep(tmp_path, 1)
    with pytest.raises(WeightsError, match="no model of lookonce's"):
        onefile.read(tmp_path / checkpoint.NOW, 1 << 30)


# ---------------------------------------------------------------------- a disk without room
def test_a_full_disk_leaves_the_old_ones_and_says_how_much_is_missing(small_disk: Path) -> None:
    """Of 5 MB two take 4: a third of 2 has no room beside them."""
    for step in (1, 2):
        checkpoint.keep(small_disk, arrays_of(step, 500_000), {"step": step})
    before = {path.name: path.read_bytes() for path in small_disk.iterdir()}
    for _ in range(3):
        with pytest.raises(DataError, match=r"No space left.*2,000,\d{3} bytes are wanted, [\d,]+ are free") as said:
            checkpoint.keep(small_disk, arrays_of(3, 500_000), {"step": 3})
        assert "\n" not in str(said.value)
        assert {path.name: path.read_bytes() for path in small_disk.iterdir()} == before
    free = int(re.findall(r"wanted, ([\d,]+) are", str(said.value))[0].replace(",", ""))
    assert 1_200_000 < free < (5 << 20) - 4_000_000
    assert step_of(small_disk) == 2


LIMITED = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from lookonce.errors import DataError
from lookonce.train import checkpoint
folder = Path(sys.argv[1])
checkpoint.keep(folder, {"weights": np.ones(1000, np.float32)}, {"step": 1})
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    checkpoint.keep(folder, {"weights": np.ones(100_000, np.float32)}, {"step": 2})
except DataError as problem:
    print(problem)
print(checkpoint.latest(folder).facts, sorted(path.name for path in folder.iterdir()))
"""


def test_a_file_that_may_not_grow_is_a_full_disk_too(tmp_path: Path, child: Child) -> None:
    """The limit of a quota: writing fails in the middle of the large array."""
    done = child("-c", LIMITED, str(tmp_path))
    assert done.code == 0, done.err
    problem, state = done.out.splitlines()
    assert re.search(r"File too large; 400,\d{3} bytes are wanted", problem)
    assert state == "{'step': 1} ['checkpoint.safetensors']"


def test_a_folder_that_is_not_there_is_made_and_one_that_cannot_be_is_one_line(tmp_path: Path) -> None:
    keep(tmp_path / "new" / "run", 1)
    assert step_of(tmp_path / "new" / "run") == 1
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(DataError, match="is a file, wanted a folder"):
        keep(tmp_path / "file", 1)
