"""Files at the door: only regular files, only up to a limit, and written whole or not at all."""

from __future__ import annotations

import contextlib
import difflib
import errno
import itertools
import os
import platform
import re
import shutil
import stat
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import IO

from lookonce.errors import DataError, LookonceError, shown, warn

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

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
    (b"GIF8", "a GIF picture"),
    (b"II*\0", "a TIFF picture"),
    (b"MM\0*", "a TIFF picture"),
    (b"%PDF", "a PDF document"),
    (b"<", "an HTML or XML page (was the download an error page?)"),
    (b"{", "a JSON text"),
    (b"#EXTM3U", "a playlist"),
    (b"[", "a text, perhaps a cfg"),
    (b"#", "a text, perhaps a cfg"),
)
STILL_BRANDS = (b"heic", b"heix", b"hevc", b"mif1", b"msf1", b"avif")
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
MOST_NEAR = 500                  # names of a folder that are compared with one that is not there: a list may miss many


def kind_of(head: bytes) -> str | None:
    """What a file is that begins with `head`, in words, or None if nothing is recognised."""
    if head[4:8] == b"ftyp":
        return "a HEIC or AVIF photo (save it as JPEG)" if head[8:12] in STILL_BRANDS else "a video (MP4 or the like)"
    start = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    return next((kind for magic, kind in KINDS_BY_MAGIC if start.startswith(magic) or head.startswith(magic)), None)


def is_text(head: bytes) -> bool:
    """Whether a file that begins with `head` is a text in ASCII, to judge by its bytes."""
    return bool(head) and all(byte in b"\t\n\r" or 32 <= byte < 127 for byte in head)


def open_regular(path: Path, error: type[LookonceError]) -> IO[bytes]:
    """`path` opened for reading, without ever waiting on a pipe or reading from a device.

    Raises `error`, in one line, if it is missing, a folder, not a regular file, or not readable.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        raise error(f"{path}: no such file{near(path)}") from None
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


def near(path: Path) -> str:
    """`, did you mean dog.jpg?`: what lies where `path` would lie and is called much like it; nothing if nothing is.

    If there is not even a folder it could lie in, that is said instead.
    """
    folder = path.parent
    try:
        with os.scandir(folder) as entries:
            there = {entry.name.lower(): entry.name for entry in itertools.islice(entries, MOST_NEAR)}
    except FileNotFoundError:
        return f": there is no folder {shown(str(folder), 200)}{near(folder)}" if folder.name else ""
    except (OSError, ValueError):
        return ""
    stem, name = path.stem[:64].lower(), path.name[:64].lower()
    # By what stands before the suffix first: two names are not alike because both end in .jpg.
    alike = set(difflib.get_close_matches(stem, {Path(each).stem for each in there}, n=8))
    same = [each for each in there if Path(each).stem == stem]
    close = difflib.get_close_matches(name, [each for each in there if Path(each).stem in alike], n=1) or same
    return f", did you mean {shown(str(folder / there[close[0]]), 200)}?" if close else ""


def amount(count: int) -> str:
    """So many bytes in words: `4.3 GB`, below that `12.5 MB`."""
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"


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
    # A file is not to ask what lies elsewhere.
    hint = "" if ".." in Path(named).parts else near(roots[0] / named)
    raise error(f"{where}: names {named!r}, which is not there (tried {tried}){hint}")


def make_folder(path: Path) -> None:
    """Make a folder and those above it, if they are not there. Raises DataError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError:
        raise DataError(f"{path}: is a file, wanted a folder: give another name") from None
    except (OSError, ValueError) as problem:
        reason = getattr(problem, "strerror", problem)
        raise DataError(f"{path}: no such folder can be made: {reason}: give another name") from None


@contextlib.contextmanager
def write_atomically(path: Path, *, keep: Callable[[], bool] | None = None) -> Iterator[IO[bytes]]:
    """A file that appears under `path` only when its body was written to the end and reached the disk.

    Written beside `path` under another name, synchronised, then renamed. On any failure the old file stays, unless
    `keep` is given: then that decides at the end, whatever happened, whether what was written is to be kept.
    A link is followed, and the permissions of the old file are kept. Raises DataError if no file can be written there.
    """
    path = _writable(path)
    if path.exists() and not path.is_file():
        with _naming(path), path.open("wb") as device:      # /dev/null, a pipe: written to, never replaced
            yield device
        return
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name[:40]}.{uuid.uuid4().hex}.part")
    try:
        file = temporary.open("xb")
    except OSError as problem:
        raise DataError(f"{path}: cannot be written: {problem.strerror}: give another name") from None
    try:
        failure: BaseException | None = None
        with _naming(path), file:
            if path.exists():
                temporary.chmod(stat.S_IMODE(path.stat().st_mode))
            try:
                yield file
            except BaseException as problem:
                if keep is None:
                    raise
                failure = problem
            file.flush()
            os.fsync(file.fileno())
        if keep is None or keep():
            temporary.replace(path)
            _sync_folder(path.parent)
        if failure is not None:
            raise failure
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def _naming(path: Path) -> Iterator[None]:
    """What the system refuses to write in the body bears the name of `path`, since it tells none itself."""
    try:
        yield
    except OSError as problem:
        if problem.filename is None and problem.errno in NO_ROOM:
            problem.filename = str(path)
        raise


@contextlib.contextmanager
def telling_space(path: Path, needed: int) -> Iterator[None]:
    """While a file of about `needed` bytes is written in the body, what the system refuses becomes a DataError.

    Its line says how many bytes are wanted and how many are free.
    """
    try:
        yield
    except OSError as problem:
        reason = problem.strerror or str(problem)
        raise DataError(
            f"{path}: cannot be written: {reason}; {needed:,} bytes are wanted, {_free(path.parent)} are free there: "
            "make room, or give another folder"
        ) from None


def check_space(folder: Path, needed: int, what: str) -> None:
    """Raises DataError unless `needed` bytes for `what` are free where `folder` lies, as far as the system says."""
    with contextlib.suppress(OSError):
        free = shutil.disk_usage(folder).free
        if free < needed:
            raise DataError(
                f"{folder}: {free:,} bytes are free there, wanted {needed:,} for {what}: "
                "make room, or give another folder"
            )


def check_writable(folder: Path) -> None:
    """Raises DataError unless files can be made in `folder`: by making one."""
    probe = folder / f".probe.{uuid.uuid4().hex}.part"
    try:
        probe.open("xb").close()
        probe.unlink()
    except OSError as problem:
        raise DataError(f"{folder}: cannot be written to: {problem.strerror}: give another folder") from None


def move(source: Path, target: Path) -> None:
    """Rename a file, over what is there, such that it lasts. Raises OSError."""
    source.replace(target)
    _sync_folder(target.parent)


def sweep(folder: Path) -> None:
    """Remove what writers that were killed left of files half written. Only where nobody is writing."""
    for path in folder.glob(".*.part"):
        if re.fullmatch(r"\..+\.[0-9a-f]{32}\.part", path.name):
            with contextlib.suppress(OSError):
                path.unlink()


class Lock:
    """A file that one process at a time holds; a context.

    The system lets go of it when the process ends, however it ends. Processes that it forked do not hold it. The file
    stays; in it stands who held it last.
    """

    def __init__(self, path: Path, what: str) -> None:
        """`what` is what it guards, as messages name it."""
        self.path, self.what = path, what
        self.is_sure = False                            # whether the system keeps others out
        self._descriptor: int | None = None

    def __enter__(self) -> Lock:
        """Raises DataError if another process holds it, and says which; or if there can be no such file."""
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        try:
            descriptor = os.open(self.path, flags, 0o644)
        except OSError as problem:
            raise DataError(f"{self.what}: cannot be written to: {problem.strerror}: give another folder") from None
        try:
            _take(descriptor)
            if not os.path.samestat(os.fstat(descriptor), self.path.stat()):
                raise BlockingIOError(errno.EAGAIN, "removed by who held it before")
            self.is_sure = True
        except OSError as problem:
            if problem.errno in (errno.EACCES, errno.EAGAIN, errno.EDEADLK, errno.ENOENT):
                holder = _holder(descriptor)
                os.close(descriptor)
                raise DataError(
                    f"{self.what}: is in use by {holder}: wait until it ends, stop it, or give another folder"
                ) from None
            warn(f"{self.what}: cannot be locked there ({problem.strerror}): see that nobody else writes to it")
        self._descriptor = descriptor
        _HELD.add(descriptor)
        with contextlib.suppress(OSError):                      # the disk is full
            os.ftruncate(descriptor, 0)
            os.lseek(descriptor, 0, os.SEEK_SET)
            os.write(descriptor, f"process {os.getpid()} on {platform.node()}\n".encode())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None and descriptor in _HELD:
            _HELD.discard(descriptor)
            os.close(descriptor)


_HELD: set[int] = set()
LOCKED_BYTE = 1 << 20                   # beyond the text: on Windows nobody else can read what is locked


if sys.platform == "win32":

    def _take(descriptor: int) -> None:
        os.lseek(descriptor, LOCKED_BYTE, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)

else:

    def _take(descriptor: int) -> None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)

    def _let_go() -> None:
        """In a forked process: it would hold the locks of its parent for as long as it lives."""
        while _HELD:
            os.close(_HELD.pop())

    os.register_at_fork(after_in_child=_let_go)


def _holder(descriptor: int) -> str:
    """Who holds a lock, as the file says."""
    with contextlib.suppress(OSError):
        os.lseek(descriptor, 0, os.SEEK_SET)
        text = os.read(descriptor, 200).decode(errors="replace").strip()
        if re.fullmatch(r"process \d+ on [\w.-]*", text):
            return text
    return "another process"


def _free(folder: Path) -> str:
    """How many bytes are free where a folder lies, in words."""
    with contextlib.suppress(OSError):
        return f"{shutil.disk_usage(folder).free:,}"
    return "unknown many"


def _writable(path: Path) -> Path:
    """Where a file of this name really lies. Raises DataError for a folder, a loop of links, or what is read-only."""
    try:
        target = path.resolve()
        mode = target.stat().st_mode if target.exists() else stat.S_IFREG | stat.S_IWUSR
    except (OSError, ValueError, RuntimeError) as problem:
        raise DataError(f"{path}: cannot be written: {getattr(problem, 'strerror', problem)}") from None
    if stat.S_ISDIR(mode):
        raise DataError(f"{path}: is a folder, wanted the name of a file")
    if stat.S_ISREG(mode) and not mode & (stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH):
        raise DataError(f"{path}: is read-only: give another name, or allow writing")
    return target


def _sync_folder(folder: Path) -> None:
    """Make the renaming itself last, where the system can."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
