"""Pictures of a dataset opened: their bytes, from a file or out of an archive, their sizes, what is wrong with them."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType
from typing import NamedTuple, TypeVar

from lookonce import files, pictures
from lookonce.data.dataset import Dataset, Item
from lookonce.data.folder import Archive
from lookonce.errors import DataError, InputError

Progress = Callable[[int, int], None]
Read = Callable[[Item], bytes]
Result = TypeVar("Result")


class View(NamedTuple):
    """What opening a picture tells: its size as it is seen and as it is stored, its bytes' hash, what is wrong.

    Both sizes are (width, height), None if it cannot be read; `digest` is empty if there are no bytes.
    """

    size: tuple[int, int] | None
    stored: tuple[int, int] | None
    digest: bytes
    kind: str = ""
    text: str = ""


class Reader:
    """Takes encoded pictures from files, and out of archives, of which each thread keeps the last open. A context."""

    def __init__(self) -> None:
        self._mine = threading.local()
        self._open: list[Archive] = []

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        for archive in self._open:
            archive.__exit__(kind, problem, trace)

    def __call__(self, item: Item) -> bytes:
        """The bytes of one picture. Raises InputError."""
        if item.member is None:
            return files.read_bytes(item.path, pictures.MAX_BYTES, InputError)
        if getattr(self._mine, "path", None) != item.path:
            try:
                self._mine.archive = Archive(item.path)
            except DataError as problem:
                raise InputError(str(problem)) from None
            self._mine.path = item.path
            self._open.append(self._mine.archive)
        archive: Archive = self._mine.archive
        return archive.read(item.member)


def bytes_of(item: Item) -> bytes:
    """One encoded picture, from its file or out of its archive. Raises InputError."""
    with Reader() as read:
        return read(item)


def where(item: Item) -> str:
    """How messages name a picture: its file, and its place in an archive."""
    return str(item.path) if item.member is None else f"{item.path}/{item.member}"


def look_at(item: Item, read: Read = bytes_of) -> View:
    """Open one picture, whatever it is."""
    try:
        data = read(item)
    except InputError as problem:
        kind = "unreadable picture" if files.exists(item.path) else "missing picture"
        return View(None, None, b"", kind, _text(problem, item))
    digest = hashlib.blake2b(data, digest_size=16).digest()
    try:
        picture = pictures.decode(data, where(item))
        size = stored = picture.shape[1], picture.shape[0]
        if item.size is not None and item.size != size:
            plain = pictures.decode(data, where(item), upright=False)
            stored = plain.shape[1], plain.shape[0]
    except InputError as problem:
        return View(None, None, digest, "unreadable picture", _text(problem, item))
    if not _has_end(data):
        return View(size, stored, digest, "cut-off picture", "ends without its end marker; fetch or save it again")
    return View(size, stored, digest)


def sizes_of(dataset: Dataset, progress: Progress | None = None) -> list[tuple[int, int] | None]:
    """(width, height) of each picture as the labels say; if they do not, it is opened. None if it cannot be."""

    def size(item: Item, read: Read) -> tuple[int, int] | None:
        if item.size is not None and min(item.size) > 0:
            return item.size
        try:
            return pictures.size(item.path) if item.member is None else look_at(item, read).size
        except InputError:
            return None

    return list(each(dataset.items, size, progress))


def digests_of(dataset: Dataset, progress: Progress | None = None) -> list[bytes]:
    """A hash of each picture's bytes, empty if there are none: equal ones are the same picture."""

    def digest(item: Item, read: Read) -> bytes:
        try:
            return hashlib.blake2b(read(item), digest_size=16).digest()
        except InputError:
            return b""

    return list(each(dataset.items, digest, progress))


def each(
    items: Sequence[Item], work: Callable[[Item, Read], Result], progress: Progress | None
) -> Iterator[Result]:
    """`work` of each item, in order. Reading and decoding release the interpreter, so threads share them out."""
    with Reader() as read:
        pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
        try:
            for done, result in enumerate(pool.map(lambda item: work(item, read), items), start=1):
                yield result
                if progress is not None:
                    progress(done, len(items))
        finally:
            pool.shutdown(cancel_futures=True)


def _has_end(data: bytes) -> bool:
    """Whether a JPEG or PNG that could be decoded has its end marker: decoders fill up what is missing."""
    if data[:3] == b"\xff\xd8\xff":
        return data.rfind(b"\xff\xd9") > data.rfind(b"\xff\xda")         # stuffing keeps both out of the pixels
    return data[:4] != b"\x89PNG" or data.rfind(b"IEND") > data.rfind(b"IDAT")


def _text(problem: InputError, item: Item) -> str:
    """A reader's message without the file's name, which a Problem says by itself."""
    return str(problem).removeprefix(f"{where(item)}: ").removeprefix(f"{item.path}: ")
