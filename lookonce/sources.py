"""What a user names as sources, picture by picture: files, folders, patterns, lists, standard input, cameras."""

from __future__ import annotations

import glob
import itertools
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lookonce import files, pictures
from lookonce.darknet.lists import read_image_list
from lookonce.errors import DataError, EngineError, ExitCode, InputError
from lookonce.shapes import UInt8
from lookonce.video.frames import Video, is_live, is_video

STDIN = "-"
MAX_STDIN = pictures.MAX_BYTES
LISTS = (".txt", ".list")
MODELS = (".cfg", ".weights", ".safetensors")


class Still(NamedTuple):
    """A picture: its name for messages and results, and its encoded bytes if they did not come from a file."""

    name: str
    data: bytes | None = None


class Moving(NamedTuple):
    """A video file, a camera or a stream."""

    name: str


class View(NamedTuple):
    """One picture to look at. Of a video also the frame's number and the frames a second, None for a still."""

    name: str
    picture: UInt8[np.ndarray, "H W 3"]
    frame: int | None = None
    rate: float | None = None


class Reading:
    """All pictures that `sources` name, read one after the other. One that cannot be read is no harm to the others.

    `complain` is told what went wrong, in one line each. When the iteration has ended `exit_code` sums up: 0 all was
    read, 1 some was not, 2 nothing could be, 3 a video was shorter than it claims.
    """

    def __init__(self, sources: Sequence[str], complain: Callable[[str], None], *, upright: bool = True) -> None:
        self._sources = sources
        self._complain = complain
        self._upright = upright
        self.read = self.failed = self.short = 0

    def __iter__(self) -> Iterator[View]:
        for source in self._sources:
            try:
                for item in expand(source):
                    yield from self._views(item)
            except (InputError, DataError) as problem:
                self.fail(problem)
            except OSError as problem:                      # a name too long, a folder that may not be read
                self.fail(InputError(f"{source}: cannot be read: {problem.strerror}"))

    def fail(self, problem: Exception) -> None:
        """Complain of one picture, and count it."""
        self.failed += 1
        self._complain(str(problem))

    @property
    def exit_code(self) -> ExitCode:
        """What became of all of them, as the command line returns it."""
        if self.failed:
            return ExitCode.SOME_FAILED if self.read else ExitCode.CANNOT
        return ExitCode.CHECK_FAILED if self.short else ExitCode.OK

    def _views(self, item: Still | Moving) -> Iterator[View]:
        try:
            if isinstance(item, Moving):
                yield from self._frames(item)
            else:
                if item.data is None:
                    picture = pictures.read(item.name, upright=self._upright)
                else:
                    picture = pictures.decode(item.data, item.name, upright=self._upright)
                self.read += 1
                yield View(item.name, picture)
        except (InputError, EngineError) as problem:        # what reads videos may not be installed
            self.fail(InputError(f"{problem}{_meant(item)}"))

    def _frames(self, item: Moving) -> Iterator[View]:
        with Video(item.name) as video:
            for frame in video:
                self.read += 1
                yield View(item.name, frame.picture, frame.number, video.rate)
            if video.read == 0:
                raise InputError(video.complaint or f"{item.name}: holds no frame")
            if video.complaint is not None:
                self.short += 1
                self._complain(video.complaint)


def expand(source: str) -> Iterator[Still | Moving]:
    """Every picture and video that `source` names, in order.

    A source is a picture; a folder, meaning the pictures in it by name; a pattern such as `in/**/*.jpg`; `@list.txt`,
    a file of paths; `-`, a picture or a list of paths on standard input; a video; a camera's number; the rtsp or http
    address of a stream. Raises InputError or DataError if it names nothing.
    """
    if not source:
        raise InputError("a source is an empty text; wanted a picture, folder, pattern, list, video or camera")
    if source == STDIN:
        yield from _from_stdin()
    elif is_live(source):
        yield Moving(source)
    elif source.startswith("@") and not Path(source).exists():
        for path in read_image_list(Path(source[1:])):
            yield _one(str(path))
    elif Path(source).is_dir():
        found = sorted(path for path in Path(source).iterdir() if path.suffix.lower() in pictures.SUFFIXES)
        if not found:
            kinds = ", ".join(pictures.SUFFIXES)
            hint = f"'{source}/*' takes videos too, '{source}/**' looks into its folders"
            raise InputError(f"{source}: holds no picture ({kinds}); {hint}")
        for path in found:
            yield Still(str(path))
    elif glob.has_magic(source) and not Path(source).exists():
        matches = sorted(glob.glob(source, recursive=True))  # noqa: PTH207 - patterns may be absolute
        readable = [match for match in matches if Path(match).is_file() and _is_readable(match)]
        if not readable:
            raise InputError(f"{source}: matches no picture and no video{_around(source)}")
        for match in readable:
            yield _one(match)
    else:
        yield _one(source)


def _around(pattern: str) -> str:
    """What there is instead, where a pattern looks."""
    plain = list(itertools.takewhile(lambda part: not glob.has_magic(part), Path(pattern).parts))
    folder = Path(*plain)
    if not folder.is_dir():
        return f": there is no folder {folder}{files.near(folder)}"
    names = (path.name for path in itertools.islice(folder.iterdir(), files.MOST_NEAR))
    kinds = Counter(Path(name).suffix.lower() for name in names if _is_readable(name))
    there = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    return f"; {'this folder' if not plain else folder} holds {there or 'none'}"


def _meant(item: Still | Moving) -> str:
    """How a file that is no picture is given, by what its name says it is."""
    name = item.name.lower()
    if isinstance(item, Moving) or item.data is not None:
        return ""
    if name.endswith(LISTS):
        return f"; @{item.name} takes the pictures that it lists"
    return "; a network is given by -m my.cfg -w my.weights" if name.endswith(MODELS) else ""


def _one(path: str) -> Still | Moving:
    return Moving(path) if is_video(path) else Still(path)


def _is_readable(path: str) -> bool:
    return path.lower().endswith(pictures.SUFFIXES) or is_video(path)


def _from_stdin() -> Iterator[Still | Moving]:
    """A picture if it begins as one, paths one a line otherwise: what `cat dog.jpg |` and `ls *.jpg |` mean."""
    head = sys.stdin.buffer.peek(12)[:12] if hasattr(sys.stdin.buffer, "peek") else b""
    # A name may begin with RIFF or BM too, but it has no byte that is not text, as a length of a picture has.
    if head.startswith((b"\xff\xd8\xff", b"\x89PNG")) or (head.startswith((b"RIFF", b"BM")) and b"\0" in head):
        data = sys.stdin.buffer.read(MAX_STDIN + 1)
        if len(data) > MAX_STDIN:
            raise InputError(f"standard input: more than {MAX_STDIN:,} bytes for one picture")
        yield Still("stdin", data)
        return
    empty = True
    for line in sys.stdin.buffer:
        path = line.decode("utf-8", "surrogateescape").strip()
        if path:
            empty = False
            yield _one(path)
    if empty:
        raise InputError("standard input: holds nothing; wanted a picture, or paths, one a line")
