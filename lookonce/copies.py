"""Copies of what was looked at, with boxes drawn, in a folder."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType

from lookonce import draw
from lookonce.detections import Detections
from lookonce.sources import View
from lookonce.video.frames import is_live
from lookonce.video.writing import VideoWriter


class Copies:
    """A folder of drawn copies: a picture for a picture, an MP4 for a video or camera. A context: it ends a video.

    No copy replaces another of the same run. In the folder that a picture is from, its copy replaces nothing at all:
    what lies there may be a picture too.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._taken: set[Path] = set()
        self._video: tuple[str, VideoWriter] | None = None

    def add(self, view: View, found: Detections) -> None:
        """Draw one picture or frame. Raises InputError or OSError if its copy cannot be written."""
        drawn = draw.draw(view.picture, found)
        if view.frame is None:
            suffix = ".png" if view.name.lower().endswith(".png") else ".jpg"
            draw.save(drawn, self._target(view.name, suffix))
            return
        if self._video is None or self._video[0] != view.name:
            self.close()
            self._video = view.name, VideoWriter(self._target(view.name, ".mp4"), view.rate or 25.0)
        self._video[1].add(drawn)

    def close(self) -> None:
        """Finish a video that was begun."""
        if self._video is not None:
            self._video[1].close()
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
        beside = not is_live(source) and _same_folder(Path(source).parent, self._folder)
        number = 1
        while True:
            target = self._folder / (f"{stem}{suffix}" if number == 1 else f"{stem}-{number}{suffix}")
            if target not in self._taken and not (beside and os.path.lexists(target)):
                self._taken.add(target)
                return target
            number += 1


def _same_folder(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:                                         # one of them is not there
        return False
