"""`lookonce.load`: from what a user calls a model to something that can be called with a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lookonce.classifier import Classifier
from lookonce.detector import Detector
from lookonce.engines import EngineKind, Precision
from lookonce.engines.options import is_count
from lookonce.errors import CfgError, shown
from lookonce.model import open_model
from lookonce.runner import Compat, ResizeChoice
from lookonce.zoo import DEFAULT


def load(
    model: str | Path = DEFAULT,
    weights: str | Path | None = None,
    names: str | Path | Sequence[str] | None = None,
    *,
    size: int | tuple[int, int] | None = None,
    engine: EngineKind = "auto",
    precision: Precision = "auto",
    threads: int | None = None,
    threshold: float | None = None,
    nms: float | None = None,
    hierarchy: float | None = None,
    only: Sequence[str] | None = None,
    depth: int | None = None,
    below: Sequence[str] | None = None,
    resize: ResizeChoice = "auto",
    compat: Compat = None,
    allow_paths: bool = False,
    allow_nonfinite: bool = False,
) -> Detector | Classifier:
    """A Detector, or a Classifier, whichever the network is.

    `model` is a zoo network's name, a cfg, or a one-file model, the detector in the box if none is named; `weights` a
    Darknet file, `FILE:N` or `random`; `names` a file, a list of the zoo (`coco`) or a sequence. `size` is another
    input size in pixels, the side of a square or (width, height). Files that the cfg names are looked for nearby, or
    anywhere with `allow_paths`; `allow_nonfinite` takes weights that hold NaN or infinity. The rest is as in Detector
    and Classifier; a classifier has of `threshold` to `below` none but, with a tree, `hierarchy`. Raises CfgError,
    WeightsError, DataError or EngineError.
    """
    opened = open_model(
        model, weights, names, size=_sides(size), allow_paths=allow_paths, allow_nonfinite=allow_nonfinite
    )
    if opened.network.kind == "classifier":
        of_boxes = {"threshold": threshold, "nms": nms, "hierarchy": hierarchy, "only": only, "depth": depth,
                    "below": below}  # fmt: skip
        for name, value in of_boxes.items():
            if value is not None and not (name == "hierarchy" and opened.tree is not None):
                found = shown(repr(value))
                raise CfgError(f"{name}={found}: {opened.network.cfg.path} is a classifier, wanted no {name}")
        return Classifier(
            opened, engine=engine, precision=precision, threads=threads, hierarchy=hierarchy, resize=resize,
            compat=compat,
        )  # fmt: skip
    return Detector(
        opened, engine=engine, precision=precision, threads=threads, threshold=threshold, nms=nms, hierarchy=hierarchy,
        only=only, depth=depth, below=below, resize=resize, compat=compat,
    )  # fmt: skip


def _sides(size: object) -> tuple[int, int] | None:
    """Width and height from one side or both."""
    if size is None:
        return None
    sides = tuple(size) if isinstance(size, tuple | list) else (size, size)
    if len(sides) != 2 or not all(is_count(side) for side in sides):
        raise CfgError(f"size={shown(repr(size))}: wanted a whole number of pixels, or two: (width, height)")
    return int(sides[0]), int(sides[1])
