"""Frames out of video files, cameras and streams, by PyAV."""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lookonce import files
from lookonce.errors import EngineError, InputError, warn
from lookonce.pictures import MAX_PIXELS, MAX_SIDE
from lookonce.shapes import UInt8
from lookonce.video.newest import Newest

SUFFIXES = (".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mjpeg", ".mjpg", ".mpg", ".mpeg", ".ts", ".wmv", ".flv")
STREAM = re.compile(r"(rtsp|rtsps|http|https)://", re.IGNORECASE)

# What a file may be. Playlists (HLS, concat) are left out: they name other files and addresses to read.
FILE_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,avi,matroska,webm,mjpeg,jpeg_pipe,mpeg,mpegts,mpegvideo,flv,asf,gif,ivf,h264,hevc,ogg"
)
# Decoders that damaged files have not been seen to trouble. FFV1's corrupts memory when its threads meet one.
SAFE_WITH_THREADS = frozenset(("h264", "hevc", "mpeg4", "mpeg2video", "mjpeg", "vp8", "vp9", "av1", "libdav1d"))
TIMEOUT = 10.0                   # seconds without a byte from a camera or stream
USUAL_RATE = 25.0
BOGUS_RATE = (0.1, 1000.0)       # frames a second that a file may claim


class Frame(NamedTuple):
    """One picture of a video: its number from 0, and its time in seconds from the start."""

    number: int
    time: float
    picture: UInt8[np.ndarray, "H W 3"]


class Video:
    """A video file, a camera (its number) or a stream (its address), opened.

    Iterating gives Frames, upright as the file says. Of a file every frame comes, in order. Of a live source the
    newest comes: frames that arrive while the caller works are dropped. `rate` is frames a second; `claimed` how many
    frames a file says it has, 0 if it does not say; `read` how many came. After the last frame `complaint` says in one
    line what was wrong with the file, or is None.

    Raises InputError if it cannot be opened, EngineError if PyAV is not installed.
    """

    def __init__(self, source: str | Path) -> None:
        self._av = _import_av()
        self.name = str(source)
        self.live = is_live(self.name)
        self.read = 0
        self.complaint: str | None = None
        self._container = self._open()
        streams = self._container.streams.video
        if not streams or streams[0].codec_context is None:
            self._container.close()
            what = "pictures in a coding that is not known" if streams else "no pictures, only sound or data"
            raise InputError(f"{self.name}: holds {what}")
        self._stream: Any = streams[0]
        if self._stream.codec_context.name in SAFE_WITH_THREADS:
            self._stream.thread_type = "AUTO"
        else:
            self._stream.codec_context.thread_count = 1
        rate = float(self._stream.average_rate or self._stream.guessed_rate or 0)
        self.rate = rate if BOGUS_RATE[0] <= rate <= BOGUS_RATE[1] else USUAL_RATE
        if self.rate != rate and not self.live:
            warn(f"{self.name}: claims {rate:g} frames a second; {USUAL_RATE:g} are taken")
        self.claimed, self._claimed_seconds, self._start, self._end = 0, 0.0, 0.0, 0.0
        if not self.live:
            self.claimed = _claimed(self._stream)
            self._claimed_seconds = _claimed_seconds(self._container)
            self._start = float((self._stream.start_time or 0) * self._stream.time_base)
        self._newest: Newest[Frame] | None = None

    def __enter__(self) -> Video:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the file or camera."""
        if self._newest is None or self._newest.stop(TIMEOUT + 1):      # no read waits longer
            self._container.close()

    def __iter__(self) -> Iterator[Frame]:
        if not self.live:
            yield from self._frames()
            return
        self._newest = Newest(self._frames())
        yield from self._newest

    def _frames(self) -> Iterator[Frame]:
        try:
            for packet in self._container.demux(self._stream):
                try:
                    frames = packet.decode()
                except (self._av.FFmpegError, ValueError) as problem:       # the latter for a coding that is not known
                    is_page = not self.read and STREAM.match(self.name)
                    hint = ": is it a page about a picture or video?" if is_page else ""
                    self.complaint = f"{self.name}: a part cannot be decoded: {_reason(problem)}{hint}"
                    continue
                for frame in frames:
                    if max(frame.width, frame.height) > MAX_SIDE or frame.width * frame.height > MAX_PIXELS:
                        size = f"{frame.width} x {frame.height}"
                        raise InputError(f"{self.name}: a frame of {size}, too large to be read")
                    time = self.read / self.rate if frame.time is None else frame.time - self._start
                    self._end = max(self._end, time + 1 / self.rate)
                    yield Frame(self.read, time, _upright(frame))
                    self.read += 1
        except self._av.FFmpegError as problem:
            self.complaint = f"{self.name}: ends in an error after {self.read} frames: {_reason(problem)}"
        if self.claimed and self.read < self.claimed:
            self.complaint = f"{self.name}: {self.read} frames, though it claims {self.claimed}: cut off or damaged"
        elif not self.claimed and self._end < self._claimed_seconds - 1:
            times = f"{self._end:.1f} seconds, though it claims {self._claimed_seconds:.1f}"
            self.complaint = f"{self.name}: {self.read} frames in {times}: cut off or damaged"

    def _open(self) -> Any:
        """The container, opened so that a file can only be a video and can only be read."""
        try:
            if self.live and _is_camera(self.name):
                _check_camera(int(self.name))
                return self._av.open(*_camera(int(self.name)), timeout=TIMEOUT)
            if STREAM.match(self.name):
                return self._av.open(self.name, timeout=TIMEOUT, options=_stream_options(self.name))
            _check_file(self.name)
            options = {"protocol_whitelist": "file", "format_whitelist": FILE_FORMATS}
            # As an absolute path: `12:30.mp4` alone would be a protocol to FFmpeg.
            # Texts in it may be no UTF-8: from version 19 on PyAV minds that itself.
            tolerant = {} if int(self._av.__version__.partition(".")[0]) >= 19 else {"metadata_errors": "replace"}
            return self._av.open(os.path.abspath(self.name), options=options, **tolerant)  # noqa: PTH100
        except (self._av.FFmpegError, OSError, ValueError) as problem:
            what, hint = self.name, ""
            if self.live:
                is_camera = _is_camera(self.name)
                what = f"camera {self.name}" if is_camera else self.name
                hint = ": does another program use it?" if is_camera else ": is the address right, and is it up?"
            kind = None if self.live else _kind_of(self.name)
            if kind is not None:
                raise InputError(f"{what}: is {kind}, wanted a video") from None
            raise InputError(f"{what}: cannot be opened as a video: {_reason(problem)}{hint}") from None


def is_video(source: str) -> bool:
    """Whether a source's name says that it moves: a camera's number, a stream's address, a video file's suffix."""
    return is_live(source) or source.lower().endswith(SUFFIXES)


def is_live(source: str) -> bool:
    """Whether a source goes on by itself: a camera or a stream. What lies on the disk under such a name goes before."""
    return STREAM.match(source) is not None or (_is_camera(source) and not files.exists(source))


def _is_camera(source: str) -> bool:
    return source.isascii() and source.isdigit()


def _upright(frame: Any) -> UInt8[np.ndarray, "H W 3"]:
    """The frame as RGB, turned as its metadata say, in quarter turns."""
    picture: np.ndarray = frame.to_ndarray(format="rgb24")
    turns = round(getattr(frame, "rotation", 0) / 90) % 4
    return np.ascontiguousarray(np.rot90(picture, turns)) if turns else picture


def _claimed(stream: Any) -> int:
    """How many frames a file says that it has, 0 if it does not."""
    return int(stream.frames) if 0 < stream.frames < 1 << 31 else 0


def _claimed_seconds(container: Any) -> float:
    """How long a Matroska file says that its pictures last, 0 if it does not.

    Other files' lengths are FFmpeg's own guesses; and the length of the whole may be that of its sound.
    """
    alone = len(container.streams) == 1 and "matroska" in container.format.name
    return (container.duration or 0) / 1e6 if alone else 0.0            # microseconds


def _check_file(name: str) -> None:
    """Raise InputError unless `name` is a regular file: opening a pipe would wait for ever."""
    try:
        mode = Path(name).stat().st_mode
    except FileNotFoundError:
        raise InputError(f"{name}: no such file{files.near(Path(name))}") from None
    if not stat.S_ISREG(mode):
        raise InputError(f"{name}: is a folder, pipe or device, wanted a video file")


def _kind_of(name: str) -> str | None:
    """What a file is that is no video, None if that is not known."""
    with files.open_regular(Path(name), InputError) as file:
        head = file.read(64)
    kind = files.kind_of(head) or ("a text" if files.is_text(head) else None)
    return ("empty" if not head else kind) if kind is None or not kind.startswith("a video") else None


def _check_camera(number: int) -> None:
    """Raise InputError if the system says that there is no such camera, naming those that are there."""
    if not sys.platform.startswith("linux") or files.exists(f"/dev/video{number}"):
        return
    there = sorted(int(path.name[5:]) for path in Path("/dev").glob("video*") if path.name[5:].isdigit())
    found = f"there is {', '.join(map(str, there))}" if there else "nor any other that this program may see"
    raise InputError(f"camera {number}: cannot be opened: is not there, {found}: connect it, or name a picture")


def _camera(number: int) -> tuple[str, str, str]:
    """How FFmpeg names camera `number` here: file, mode, format."""
    if sys.platform == "darwin":
        return f"{number}:none", "r", "avfoundation"
    if sys.platform == "win32":
        return f"video={number}", "r", "dshow"
    return f"/dev/video{number}", "r", "v4l2"


def _stream_options(address: str) -> dict[str, str]:
    if address.lower().startswith("rtsp"):
        return {"rtsp_transport": "tcp", "protocol_whitelist": "rtsp,rtsps,rtp,udp,tcp,tls,crypto"}
    return {"protocol_whitelist": "http,https,tcp,tls,crypto,httpproxy"}


def _reason(problem: Exception) -> str:
    text = str(getattr(problem, "strerror", None) or problem).replace("\n", " ")
    return text[:160] or type(problem).__name__


def _import_av() -> Any:
    try:
        import av
    except ImportError:
        raise EngineError("videos and cameras need PyAV: `pip install av` brings it") from None
    return av
