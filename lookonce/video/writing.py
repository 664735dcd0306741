"""Frames into a video file, by PyAV."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from lookonce import files
from lookonce.errors import EngineError, InputError
from lookonce.shapes import UInt8

ENCODERS = ("libx264", "mpeg4")                 # the first that this build of FFmpeg has


class VideoWriter:
    """An MP4 file that grows frame by frame. It appears under its name when it is closed.

    Frames are (H, W, 3) uint8 RGB of one size, `rate` a second; an odd row or column at the edge is left out, since
    the format has none. `comment` is kept with the file. Raises EngineError if PyAV is not installed, InputError or
    DataError if the file cannot be written.
    """

    def __init__(self, path: Path, rate: float, comment: str = "") -> None:
        try:
            import av
        except ImportError:
            raise EngineError("videos need PyAV: `pip install av` brings it") from None
        self._av = av
        self._path = path
        self._rate = Fraction(rate).limit_denominator(1001)
        files.make_folder(path.parent)
        # Absolute: `12:30.mp4` alone would be a protocol to FFmpeg.
        self._partial = path.absolute().with_name(f".{uuid.uuid4().hex}.part{path.suffix}")
        self._comment = comment
        self._next = 0                                  # the least number that the next frame may have
        self._container: Any = None
        self._stream: Any = None

    def add(self, picture: UInt8[np.ndarray, "H W 3"], time: float | None = None) -> None:
        """Append one frame: right after the last, or shown `time` seconds from the start."""
        height, width = picture.shape[0] & ~1, picture.shape[1] & ~1
        if not height or not width:
            size = f"{picture.shape[1]} x {picture.shape[0]}"
            raise InputError(f"{self._path}: a frame of {size}, wanted 2 x 2 at least")
        with self._telling():
            if self._container is None:
                self._start(width, height)
            if (self._stream.width, self._stream.height) != (width, height):
                raise InputError(f"{self._path}: a frame of {width} x {height} after others of another size")
            frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(picture[:height, :width]), format="rgb24")
            frame.pts = self._next if time is None else max(self._next, round(time * self._rate))
            self._next = frame.pts + 1
            self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        """Finish the file. After an interruption too: what was written is a whole video, only shorter."""
        container, self._container = self._container, None
        if container is None:
            return
        try:
            with self._telling():
                container.mux(self._stream.encode())
                container.close()
            self._partial.replace(self._path)
        finally:
            self._partial.unlink(missing_ok=True)

    def _start(self, width: int, height: int) -> None:
        self._container = self._av.open(str(self._partial), "w", format="mp4")
        self._container.metadata["comment"] = self._comment
        encoder = next(name for name in ENCODERS if name in self._av.codecs_available)
        self._stream = self._container.add_stream(encoder, rate=self._rate)
        self._stream.width, self._stream.height = width, height
        self._stream.pix_fmt = "yuv420p"
        if encoder == "libx264":
            self._stream.options = {"crf": "23", "preset": "veryfast"}

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        """FFmpeg opens the file and writes to it when it likes: whatever goes wrong then is told alike."""
        try:
            yield
        except self._av.FFmpegError as problem:
            raise InputError(f"{self._path}: cannot be written: {problem}") from None
