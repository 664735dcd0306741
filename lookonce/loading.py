"""`lookonce.load`: from what a user calls a model to something that can be called with a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lookonce.classifier import Classifier
from lookonce.detector import Detector
from lookonce.engines import EngineKind, Precision
from lookonce.model import open_model
from lookonce.runner import Compat, ResizeChoice


def load(
    model: str | Path,
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
    resize: ResizeChoice = "auto",
    compat: Compat = None,
) -> Detector | Classifier:
    """A Detector, or a Classifier, whichever the network is.

    `model` is a zoo network's name, a cfg, or a one-file model; `weights` a Darknet file, `FILE:N` or `random`;
    `names` a file, a list of the zoo (`coco`) or a sequence. The rest is as in Detector and Classifier. Raises
    CfgError, WeightsError, DataError or EngineError.
    """
    opened = open_model(model, weights, names, size=size)
    if opened.network.kind == "classifier":
        return Classifier(opened, engine=engine, precision=precision, threads=threads, resize=resize, compat=compat)
    return Detector(
        opened, engine=engine, precision=precision, threads=threads, threshold=threshold, nms=nms, hierarchy=hierarchy,
        resize=resize, compat=compat,
    )  # fmt: skip
