"""Files at the door: only regular files, only up to a limit, and written whole or not at all."""

from __future__ import annotations

import contextlib
import os
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from lookonce.errors import LookonceError

KINDS_BY_MAGIC = (
    (b"PK\x03\x04", "a zip archive (a PyTorch .pt file is one)"),
    (b"\x80\x02", "a Python pickle"),
    (b"\x80\x03", "a Python pickle"),
    (b"\x80\x04", "a Python pickle"),
    (b"\x80\x05", "a Python pickle"),
    (b"\x1f\x8b", "a gzip file"),
    (b"version https://git-lfs", "a Git LFS pointer (the file itself was not fetched)"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x89PNG", "a PNG picture"),
    (b"\xff\xd8\xff", "a JPEG picture"),
    (b"%PDF", "a PDF document"),
    (b"<", "an HTML or XML page (was the download an error page?)"),
    (b"{", "a JSON text"),
    (b"[", "a text, perhaps a cfg (are cfg and weights swapped?)"),
    (b"#", "a text, perhaps a cfg (are cfg and weights swapped?)"),
)


def kind_of(head: bytes) -> str | None:
    """What a file is that begins with `head`, in words, or None if nothing is recognised."""
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    return next((kind for magic, kind in KINDS_BY_MAGIC if start.startswith(magic) or head.startswith(magic)), None)


def open_regular(path: Path, error: type[LookonceError]) -> IO[bytes]:
    """`path` opened for reading, without ever waiting on a pipe or reading from a device.

    Raises `error`, in one line, if it is missing, a folder, not a regular file, or not readable.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        raise error(f"{path}: no such file") from None
    except ValueError as problem:                          # a NUL in the name
        raise error(f"{str(path)!r}: not a file name: {problem}") from None
    except OSError as problem:
        raise error(f"{path}: cannot be opened: {problem.strerror}") from None
    mode = os.fstat(descriptor).st_mode
    if not stat.S_ISREG(mode):
        os.close(descriptor)
        kind = "a folder" if stat.S_ISDIR(mode) else "a pipe, socket or device"
        raise error(f"{path}: is {kind}, wanted a regular file")
    return os.fdopen(descriptor, "rb")


def exists(path: str | Path) -> bool:
    """Whether there is such a file or folder. Path.exists raises for a name that is too long."""
    return os.path.exists(path)                                 # noqa: PTH110


def read_bytes(path: Path, limit: int, error: type[LookonceError]) -> bytes:
    """The whole of a regular file of at most `limit` bytes; raises `error` otherwise."""
    with open_regular(path, error) as file:
        size = os.fstat(file.fileno()).st_size
        if size > limit:
            raise error(f"{path}: {size:,} bytes, more than the {limit:,} that such a file may have")
        try:
            return file.read(limit)
        except OSError as problem:
            raise error(f"{path}: cannot be read: {problem.strerror}") from None


def resolve_inside(
    named: str, owner: Path, error: type[LookonceError], anywhere: bool = False, line: int | None = None
) -> Path:
    """The file that another file (`owner`, a cfg or .data) names in a line, looked for where Darknet's users keep it.

    That is beside `owner`, beside its folder (`cfg/` and `data/` are neighbours), or in the current folder. A file
    says where to read, so it is not trusted: an absolute path, or one that leaves the folder by `..` or a link, is
    refused unless `anywhere`. Raises `error`.
    """
    where = owner if line is None else f"{owner}:{line}"
    folder = owner.parent.resolve()
    # The top of the disk is no neighbourhood.
    roots = [root for root in dict.fromkeys([folder, folder.parent, Path.cwd()]) if root.parent != root] or [folder]
    if Path(named).is_absolute() and not anywhere:
        raise error(f"{where}: names the absolute path {named!r}: allow it with --allow-paths, or make it relative")
    try:
        for root in roots:
            target = (root / named).resolve()
            if not target.is_file():
                continue
            if not anywhere and not target.is_relative_to(root):
                raise error(f"{where}: {named!r} leads out of {root}: allow it with --allow-paths, or move the file")
            return target
    except (OSError, ValueError, RuntimeError) as problem:   # a loop of links, a NUL, a name too long
        raise error(f"{where}: names {named[:80]!r}, which is no usable path: {problem}") from None
    tried = ", ".join(str(root / named) for root in roots)
    raise error(f"{where}: names {named!r}, which is not there (tried {tried})")


@contextlib.contextmanager
def write_atomically(path: Path, *, keep_interrupted: bool = False) -> Iterator[IO[bytes]]:
    """A file that appears under `path` only when its body was written to the end and reached the disk.

    Written beside `path` under another name, synchronised, then renamed. On any failure the old file stays; with
    `keep_interrupted` a KeyboardInterrupt is none: what the writer had finished by then is kept.
    """
    if path.exists() and not path.is_file():
        with path.open("wb") as device:                     # /dev/null, a pipe: written to, never replaced
            yield device
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name[:40]}.{uuid.uuid4().hex}.part")
    try:
        interrupted: KeyboardInterrupt | None = None
        with temporary.open("xb") as file:
            try:
                yield file
            except KeyboardInterrupt as interrupt:
                if not keep_interrupted:
                    raise
                interrupted = interrupt
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
        if interrupted is not None:
            raise interrupted
    finally:
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Make the renaming itself last, where the system can."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
