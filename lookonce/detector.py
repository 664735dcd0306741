"""Detector: pictures in, Detections out, through any engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lookonce import boxes
from lookonce.boxes import NmsKind
from lookonce.chosen import Chosen
from lookonce.detections import Detections
from lookonce.engines import EngineKind, Precision
from lookonce.engines.options import share
from lookonce.errors import CfgError
from lookonce.heads.head import Candidates, DecodeOptions
from lookonce.heads.yolo import Yolo
from lookonce.model import Model
from lookonce.runner import Compat, Raw, ResizeChoice, Runner, Source
from lookonce.wordtree import Subset


class Detector:
    """A model ready to detect. It may be shared by any number of threads.

    `threshold`, `nms` and `hierarchy` are the least score, the most overlap of two boxes of one class, and the least
    probability of a step down a tree; the model's own if None. `class_agnostic` lets boxes of all classes suppress
    each other. `resize` fits pictures by letterbox, stretch or crop, `auto` as the model's makers did.
    `only` are the classes to answer with, by name or, as a Subset, chosen from the tree: `names` are then these, each
    as likely as all that lies below it (Darknet's map=). Down a tree, without `only`, `depth` is the most steps from
    the top that an answer goes, and `below` leaves answers that are none of these classes out. `only` of a tree takes
    neither `depth` and `below` nor `hierarchy`: there is no way down.
    `compat="darknet"` reproduces Darknet's accidents: batch norm's outer epsilon, `binary=1` ignored, the half-pixel
    letterbox inverse, tree traversal by products, EXIF orientation left alone.

    Raises EngineError if the engine is missing or cannot do what was asked, or if an option is none of these;
    CfgError if the model is no detector.
    """

    def __init__(
        self,
        model: Model,
        *,
        engine: EngineKind = "auto",
        precision: Precision = "auto",
        threads: int | None = None,
        threshold: float | None = None,
        nms: float | None = None,
        hierarchy: float | None = None,
        only: Sequence[str] | Subset | None = None,
        depth: int | None = None,
        below: Sequence[str] | None = None,
        class_agnostic: bool = False,
        resize: ResizeChoice = "auto",
        compat: Compat = None,
    ) -> None:
        network = model.network
        if network.kind != "detector":
            classifies = network.kind == "classifier"
            does = "classifies: use classify (Classifier)" if classifies else "puts out neither boxes nor classes"
            raise CfgError(f"{network.cfg.path}: has no detection head; it {does}")
        own = model.thresholds
        self.threshold = own.score if threshold is None else share("threshold", threshold)
        self.nms = own.nms if nms is None else share("nms", nms)
        self.hierarchy = own.hierarchy if hierarchy is None else share("hierarchy", hierarchy)
        self.nms_kind = _nms_kind(model, class_agnostic)
        self._chosen = Chosen.of(model, only, hierarchy, depth, below)
        self.names = self._chosen.names
        self.runner = Runner(
            model, engine=engine, precision=precision, threads=threads, resize=resize, compat=compat
        )
        self._heads = [head for _, head in network.heads]

    def __str__(self) -> str:
        return str(self.runner)

    def settings(self) -> dict[str, Any]:
        """What answers depend on, as result files carry it. `hierarchy` counts down a tree only."""
        runner, beta = self.runner, self.nms_kind.beta
        return {
            "model": runner.model,
            "input": [runner.width, runner.height],
            "resize": runner.resize,
            "threshold": self.threshold,
            "nms": self.nms,
            "nms_kind": "plain" if beta is None else f"diou {beta:g}",
            "class_agnostic": self.nms_kind.across_classes,
            **({"hierarchy": self.hierarchy} if self._chosen.walks else {}),
            **self._chosen.settings(),
            "compat": "darknet" if runner.compat else None,
            "engine": f"{runner.engine.name} {runner.engine.version}",
            "precision": runner.engine.precision,
        }

    def __call__(self, picture: Source) -> Detections:
        """The boxes in one picture: a path, encoded bytes, a Pillow image, or an array (H, W, 3) uint8 in RGB order.

        Raises InputError if it is not readable.
        """
        return self.batch([picture])[0]

    def batch(self, sources: Sequence[Source]) -> list[Detections]:
        """The boxes in several pictures, run through the network together. Raises InputError for the first bad one."""
        raw = self.runner(sources)
        return self.answer(raw) if raw.placed else []

    def answer(self, raw: Raw) -> list[Detections]:
        """What the raw outputs of the network say of each picture."""
        runner = self.runner
        options = self._chosen.within(
            DecodeOptions((runner.width, runner.height), self.threshold, self.hierarchy, runner.compat)
        )
        found = Candidates.concat(
            [head.decode(output, options) for head, output in zip(self._heads, raw.outputs, strict=True)]
        )
        found = self._chosen.kept(found)
        results = []
        for number, place in enumerate(raw.placed):
            rows = np.flatnonzero(found.picture == number) if len(raw.placed) > 1 else np.arange(len(found.score))
            kept = rows[self._survivors(found, rows)]
            results.append(
                Detections(
                    xyxy=place.to_picture(found.xyxy[kept].astype(np.float32), compat=runner.compat),
                    score=found.score[kept].astype(np.float32),
                    label=found.label[kept].astype(np.int64),
                    names=self.names,
                    size=place.picture,
                )
            )
        return results

    def _survivors(self, found: Candidates, rows: np.ndarray) -> np.ndarray:
        """Which of `rows` NMS keeps, the surest first."""
        if not self.nms_kind.across_classes:
            of = found.xyxy[rows], found.score[rows], found.label[rows]
            return np.asarray(boxes.nms(*of, self.nms, self.nms_kind))
        # Across classes boxes compete by objectness, each box once; then all classes of the boxes that stay.
        _, first = np.unique(found.box[rows], return_index=True)
        one = rows[first]
        best = boxes.nms(found.xyxy[one], found.objectness[one], found.label[one], self.nms, self.nms_kind)
        stays = np.flatnonzero(np.isin(found.box[rows], found.box[one[best]]))
        return np.asarray(stays[np.argsort(-found.score[rows[stays]], kind="stable")])


def _nms_kind(model: Model, class_agnostic: bool) -> NmsKind:
    """The kind that the last [yolo] names, as the fork takes it; plain for the other heads."""
    last = model.network.heads[-1][1]
    kind = boxes.nms_kind(last.nms_kind, last.beta_nms) if isinstance(last, Yolo) else boxes.PLAIN
    return kind._replace(across_classes=class_agnostic)
