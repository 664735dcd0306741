"""Copies of what was looked at, with boxes drawn, in a folder."""

from __future__ import annotations

import os
import time
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

import numpy as np

from lookonce import draw, files
from lookonce.detections import Detections
from lookonce.draw import MARK
from lookonce.errors import DataError, InputError
from lookonce.shapes import UInt8
from lookonce.sources import View
from lookonce.video.frames import is_live
from lookonce.video.writing import VideoWriter

NEAR_THE_ENDS = 1 << 16             # a picture's comment is near the beginning, an MP4's near the end


class Copies:
    """A folder of drawn copies: a picture for a picture, an MP4 for a video or camera. A context: it ends a video.

    A copy replaces none of the same run, and of what lay there before only what bears our mark, the copies of an
    earlier run: a number is added to its name otherwise. `written` are the copies so far. Raises DataError if there
    can be no such folder.
    """

    def __init__(self, folder: Path) -> None:
        files.make_folder(folder)
        self._folder = folder
        self._video: _Video | None = None
        self.written: list[Path] = []

    def add(self, view: View, found: Detections) -> None:
        """Draw one picture or frame. Raises InputError or DataError if its copy cannot be written."""
        before = len(self.written)
        try:
            self._add(view, draw.draw(view.picture, found))
        except (InputError, DataError):
            del self.written[before:]                       # what is not there was not drawn
            raise

    def _add(self, view: View, drawn: UInt8[np.ndarray, "H W 3"]) -> None:
        try:
            if view.frame is None:
                suffix = ".png" if view.name.lower().endswith(".png") else ".jpg"
                draw.save(drawn, self._target(view.name, suffix))
                return
            if self._video is None or self._video[:2] != (view.name, drawn.shape):
                self.close()
                writer = VideoWriter(self._target(view.name, ".mp4"), view.rate or 25.0, comment=MARK.decode())
                self._video = _Video(view.name, drawn.shape, writer, time.monotonic())
            # Of a live source frames were left out: each is shown when it came, not one after the other.
            since = time.monotonic() - self._video.begun if is_live(view.name) else None
            self._video.writer.add(drawn, since)
        except OSError as problem:
            where = self.written[-1] if self.written else self._folder
            raise InputError(f"{where}: the copy cannot be written: {problem.strerror}") from None

    def close(self) -> None:
        """Finish a video that was begun."""
        if self._video is not None:
            self._video.writer.close()
            self._video = None

    def __enter__(self) -> Copies:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _target(self, source: str, suffix: str) -> Path:
        """A name of its own for a copy of `source`."""
        stem = "live" if is_live(source) else Path(source).stem
        number = 1
        while True:
            target = self._folder / (f"{stem}{suffix}" if number == 1 else f"{stem}-{number}{suffix}")
            if target not in self.written and (not os.path.lexists(target) or is_a_copy(target)):
                self.written.append(target)
                return target
            number += 1


class _Video(NamedTuple):
    """A copy that is being written: its source, the shape of its frames, and when it was begun."""

    source: str
    shape: tuple[int, ...]
    writer: VideoWriter
    begun: float


def is_a_copy(path: Path) -> bool:
    """Whether what lies there bears our mark: a picture or video that was drawn here."""
    try:
        with files.open_regular(path, InputError) as file:
            head = file.read(NEAR_THE_ENDS)
            file.seek(max(0, os.fstat(file.fileno()).st_size - NEAR_THE_ENDS))
            return MARK in head or MARK in file.read(NEAR_THE_ENDS)
    except (InputError, OSError):
        return False
