"""Runner: pictures in, the network's raw outputs out; what Detector and Classifier have in common."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import numpy as np
from PIL import Image

from lookonce import pictures
from lookonce.engines import EngineKind, Precision, engine_of
from lookonce.engines.options import check_word
from lookonce.errors import InputError, shown
from lookonce.model import Model
from lookonce.pictures import Placement
from lookonce.shapes import Float32, UInt8

Source = str | Path | bytes | np.ndarray | Image.Image
ResizeChoice = Literal["auto", pictures.Kind]
Compat = Literal[None, "darknet"]


class Raw(NamedTuple):
    """The engine's outputs for a batch, valid until the same thread runs again, and where each picture lies in it."""

    outputs: list[Float32[np.ndarray, ...]]
    placed: list[Placement]


class Runner:
    """A model on an engine. It may be shared by any number of threads; each has buffers of its own.

    `resize` fits pictures by letterbox, stretch or crop, `auto` as the model's makers did. With `compat="darknet"` the
    arithmetic is Darknet's, and EXIF orientation is left alone. Raises EngineError if the engine is missing or cannot
    do what was asked, or if an option is none of these.
    """

    def __init__(
        self,
        model: Model,
        *,
        engine: EngineKind = "auto",
        precision: Precision = "auto",
        threads: int | None = None,
        resize: ResizeChoice = "auto",
        compat: Compat = None,
    ) -> None:
        check_word("resize", resize, get_args(ResizeChoice))
        check_word("compat", compat, get_args(Compat))
        self.model = model.name
        self.compat = compat == "darknet"
        self.resize: pictures.Kind = model.resize if resize == "auto" else resize
        self.channels, self.height, self.width = model.network.input
        self.engine = engine_of(model, engine, precision, threads, compat=self.compat)
        self._local = threading.local()

    def __str__(self) -> str:
        engine = f"{self.engine.name} {self.engine.version} {self.engine.precision}"
        return f"{self.model}: {self.width} x {self.height}, {self.resize}, {engine}"

    def __call__(self, sources: Sequence[Source]) -> Raw:
        """Run one batch: paths, encoded bytes, Pillow images, or arrays (H, W, 3) uint8 in RGB order.

        Raises InputError for the first that is not readable.
        """
        if isinstance(sources, str | bytes) or not isinstance(sources, Sequence):
            raise InputError(f"batch: is {_named(sources)}, wanted a list of pictures")
        canvas = self._canvas(len(sources))
        placed = [
            pictures.fit(to_picture(source, self.channels, upright=not self.compat), canvas[number], self.resize)
            for number, source in enumerate(sources)
        ]
        return Raw(self.engine(canvas) if placed else [], placed)

    def _canvas(self, count: int) -> Float32[np.ndarray, "B C H W"]:
        """This thread's input buffer for `count` pictures."""
        kept: np.ndarray | None = getattr(self._local, "canvas", None)
        if kept is None or len(kept) < count:
            kept = np.empty((count, self.channels, self.height, self.width), np.float32)
            self._local.canvas = kept
        return kept[:count]


def to_picture(source: Source, channels: int, *, upright: bool = True) -> UInt8[np.ndarray, "H W C"]:
    """A picture with as many channels as a network wants, 1 or 3. Raises InputError."""
    if isinstance(source, str | Path):
        picture = pictures.read(source, upright=upright)
    elif isinstance(source, bytes):
        picture = pictures.decode(source, upright=upright)
    elif isinstance(source, Image.Image):
        picture = pictures.from_pillow(source, upright=upright)
    elif hasattr(source, "__array__"):
        picture = pictures.as_picture(np.asarray(source))
    elif isinstance(source, list | tuple):
        raise InputError(f"picture: is {_named(source)}, wanted one picture; a detector's .batch takes several")
    else:
        raise InputError(
            f"picture: is {_named(source)}, wanted a path, the bytes of a file, a Pillow image or an array "
            "(height, width, 3) of uint8"
        )
    if channels == 3:
        return picture
    if channels != 1:
        raise InputError(f"the network wants {channels} channels; a picture has 3")
    grey = np.rint(picture @ np.array([0.299, 0.587, 0.114], np.float32))     # Darknet's weights
    return np.asarray(grey, np.uint8)[:, :, None]


def _named(source: object) -> str:
    """What was given, for a message."""
    return "an array" if hasattr(source, "__array__") else shown(repr(source))
