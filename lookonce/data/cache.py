"""Decoded pictures, kept so that they need not be decoded again: in memory up to a budget, or on disk.

What is kept is what decoding gave, so whether and where it is kept changes no batch. A picture whose file has another
time or length than before is decoded again.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np

from lookonce import files, pictures
from lookonce.data.dataset import Item
from lookonce.data.views import where
from lookonce.shapes import UInt8

ALIGNED = 64                     # where a picture in shared memory begins
LEAST_DISK = 1 << 30             # bytes that are left free on a disk

GROUPS = Path("/sys/fs/cgroup")
GROUP_FILES = (
    ("memory.max", "memory.current"),
    ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
)


class Stamp(NamedTuple):
    """What a file's state is told by: when it was changed, in nanoseconds, and its length."""

    changed: int
    length: int


class Kept(NamedTuple):
    """A picture in shared memory: which one, of what state, where it begins, its height and width."""

    name: str
    stamp: Stamp
    start: int
    height: int
    width: int

    @property
    def stop(self) -> int:
        return self.start + self.height * self.width * 3


@runtime_checkable
class Store(Protocol):
    """Where decoded pictures are kept, by name."""

    def find(self, name: str, stamp: Stamp) -> np.ndarray | None: ...

    def add(self, name: str, stamp: Stamp, picture: np.ndarray) -> None: ...


class Memory:
    """Pictures in this process's memory, up to `budget` bytes.

    What is kept stays. To drop what was used longest ago would drop what comes next, since every picture comes once in
    a round.
    """

    def __init__(self, budget: int) -> None:
        self._left = budget
        self._pictures: dict[str, tuple[Stamp, np.ndarray]] = {}

    def find(self, name: str, stamp: Stamp) -> np.ndarray | None:
        found = self._pictures.get(name)
        return found[1] if found is not None and found[0] == stamp else None

    def add(self, name: str, stamp: Stamp, picture: np.ndarray) -> None:
        old = self._pictures.pop(name, None)
        self._left += old[1].nbytes if old is not None else 0
        if picture.nbytes <= self._left:
            self._left -= picture.nbytes
            self._pictures[name] = stamp, picture


class Region:
    """Pictures in the part of a shared memory that one process alone writes; all processes read all parts.

    `known` says where pictures lie, in this part and in others. `reserve` makes sure that the system has the bytes of
    a part (from, count): if it raises OSError nothing more is kept.
    """

    def __init__(self, memory: UInt8[np.ndarray, " bytes"], start: int, stop: int,
                 reserve: Callable[[int, int], None] = lambda start, count: None) -> None:  # fmt: skip
        self._memory, self._next, self._stop, self._reserve = memory, start, stop, reserve
        self.known: dict[str, Kept] = {}
        self._new: list[Kept] = []

    def find(self, name: str, stamp: Stamp) -> np.ndarray | None:
        kept = self.known.get(name)
        if kept is None or kept.stamp != stamp:
            return None
        return self._memory[kept.start : kept.stop].reshape(kept.height, kept.width, 3)

    def add(self, name: str, stamp: Stamp, picture: np.ndarray) -> None:
        stop = self._next + picture.nbytes
        if stop > self._stop:
            return
        try:
            self._reserve(self._next, picture.nbytes)
        except OSError:
            self._stop = self._next
            return
        self._memory[self._next : stop] = picture.reshape(-1)
        kept = Kept(name, stamp, self._next, *picture.shape[:2])
        self.known[name] = kept
        self._new.append(kept)
        self._next = stop + -stop % ALIGNED

    def take_new(self) -> list[Kept]:
        """What was added since this was last asked."""
        new, self._new = self._new, []
        return new


class Folder:
    """Pictures in a folder on disk, as files of NumPy's, which the system keeps in memory as far as it can.

    A file is named by the picture's path and state. Files of pictures that have changed or gone stay until somebody
    deletes the folder. What is damaged counts as not there.
    """

    def __init__(self, folder: Path) -> None:
        """Raises DataError if there can be no such folder."""
        files.make_folder(folder)
        self._folder = folder
        self.full = False

    def find(self, name: str, stamp: Stamp) -> np.ndarray | None:
        with contextlib.suppress(OSError, ValueError, EOFError):
            found = np.load(self._path(name, stamp), mmap_mode="r")
            if found.dtype == np.uint8 and found.ndim == 3 and found.shape[2] == 3 and found.size:
                return np.asarray(found)
        return None

    def add(self, name: str, stamp: Stamp, picture: np.ndarray) -> None:
        path = self._path(name, stamp)
        part = path.with_name(f"{uuid.uuid4().hex}.part")
        try:
            if self.full or shutil.disk_usage(self._folder).free < LEAST_DISK + picture.nbytes:
                self.full = True
                return
            path.parent.mkdir(exist_ok=True)
            with part.open("xb") as file:
                np.save(file, picture)
            part.replace(path)
        except OSError:
            self.full = True
            part.unlink(missing_ok=True)

    def _path(self, name: str, stamp: Stamp) -> Path:
        text = f"{name}\0{stamp.changed}\0{stamp.length}"
        digest = hashlib.blake2b(text.encode("utf-8", "surrogateescape"), digest_size=16).hexdigest()
        return self._folder / digest[:2] / f"{digest[2:]}.npy"


class Decoder:
    """Looks at pictures: from where they are kept, else decoded, and then kept. Counts `hits` and `misses`.

    With `most` (width, height), the largest input that is asked for, a picture that is at least four times as large is
    kept and given as means of squares of pixels, still twice as large: which is quicker, needs a fraction of the room,
    and is not what Darknet would see. This needs an item's size, which boxes are measured by.
    """

    def __init__(
        self, read: Callable[[Item], bytes], store: Store | None = None, most: tuple[int, int] | None = None
    ) -> None:
        self._read, self._store, self._most = read, store, most
        self.hits = self.misses = 0

    def __call__(self, item: Item) -> UInt8[np.ndarray, "H W 3"]:
        """The picture of an item. Raises InputError."""
        if self._store is None:
            self.misses += 1
            return self._decoded(item)
        try:
            state = os.stat(item.path)                                              # noqa: PTH116
        except (OSError, ValueError):
            return self._decoded(item)                      # says what is wrong
        name, stamp = name_of(item, self._most), Stamp(state.st_mtime_ns, state.st_size)
        found = self._store.find(name, stamp)
        if found is not None:
            self.hits += 1
            return found
        self.misses += 1
        picture = self._decoded(item)
        self._store.add(name, stamp, picture)
        return picture

    def _decoded(self, item: Item) -> np.ndarray:
        data = self._read(item)
        picture = pictures.decode(data, where(item))
        if item.size is None:
            return picture
        height, width, _ = picture.shape
        if item.size == (height, width) and height != width:
            # The labels were made by a program that does not know of EXIF.
            plain = pictures.decode(data, where(item), upright=False)
            picture = plain if plain.shape[:2] == (width, height) else picture
        return picture if self._most is None else reduced(picture, self._most)


def name_of(item: Item, most: tuple[int, int] | None) -> str:
    """What a kept picture is called."""
    return where(item) if most is None else f"{where(item)}\0{most}"


def reduced(picture: UInt8[np.ndarray, "H W C"], most: tuple[int, int]) -> UInt8[np.ndarray, "h w C"]:
    """Means of k x k pixels, k as large as leaves twice `most` (width, height); the picture itself if k is 1."""
    height, width, channels = picture.shape
    k = min(width // (2 * most[0]), height // (2 * most[1]))
    if k < 2:
        return picture
    rows, columns = height // k, width // k
    total = np.zeros((rows, columns, channels), np.uint32)
    for y in range(k):
        for x in range(k):
            total += picture[y : rows * k : k, x : columns * k : k]
    mean: np.ndarray = (total + k * k // 2) // (k * k)
    return mean.astype(np.uint8)


def available_memory() -> int:
    """Bytes of memory that this process may still take: of the system's, and of its control group's."""
    values = [8 << 30]                                      # where nothing can be asked
    with contextlib.suppress(OSError, ValueError, AttributeError):
        values = [os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")]
    with contextlib.suppress(OSError, ValueError, StopIteration, IndexError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        values = [int(next(line for line in lines if line.startswith("MemAvailable")).split()[1]) << 10]
    for limit, used in GROUP_FILES:
        with contextlib.suppress(OSError, ValueError):      # no such group, or "max"
            values.append(int((GROUPS / limit).read_text()) - int((GROUPS / used).read_text()))
    return max(0, min(values))


def usual_budget() -> int:
    """The bytes that decoded pictures may take if nobody says how many: a quarter of the available memory."""
    return available_memory() // 4
