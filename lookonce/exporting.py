"""A model as an ONNX file, checked before it is written."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx

from lookonce import boxes, files
from lookonce.darknet.lists import write_names
from lookonce.engines import open_engine
from lookonce.errors import CheckError, DataError, EngineError
from lookonce.graph import Graph, build
from lookonce.graph.decoded import build_decoded
from lookonce.heads.head import Candidates, DecodeOptions
from lookonce.model import Model, onefile

TOLERANCE = 1e-4                 # of boxes relative to the input, and of scores
LARGEST = 2_000_000_000          # bytes of one ONNX file; its format ends at two gigabytes


def convert(model: Model, out: Path, *, decoded: bool = False) -> list[str]:
    """Write `model` as the suffix of `out` says, and say in lines what was written.

    `.safetensors` is one file; `.onnx` is ONNX; `.weights` Darknet's files: the weights, and beside them the cfg, and
    the names if there are any. Raises DataError for another suffix, and what write_onnx raises.
    """
    if decoded and out.suffix != ".onnx":
        raise DataError(f"{out}: --decoded is for .onnx only")
    if out.suffix == onefile.SUFFIX:
        onefile.write(out, model)
        return [f"{out}: cfg, weights, {len(model.names)} names, {model.resize}"]
    if out.suffix == ".onnx":
        said = write_onnx(out, model, decoded=decoded)
        return [f"{out}: {'boxes, scores and NMS inside' if decoded else 'raw heads'}; checked: {said}"]
    if out.suffix == ".weights":
        cfg = out.with_suffix(".cfg")
        if Path(model.network.cfg.path).exists() and cfg.exists() and cfg.samefile(model.network.cfg.path):
            raise DataError(f"{out}: its cfg would replace {cfg}, which is being read; name another file")
        with files.write_atomically(cfg) as file:
            file.write(model.network.cfg.to_bytes())
        model.write_weights(out)
        written = [f"{out}", f"{cfg}"]
        if model.names:
            write_names(out.with_suffix(".names"), model.names)
            written.append(f"{out.with_suffix('.names')}")
        return written
    raise DataError(f"{out}: wanted a name that ends in .safetensors, .onnx or .weights")


def write_onnx(path: Path, model: Model, *, decoded: bool = False) -> str:
    """Write `model` as ONNX, with raw heads or with boxes, scores and NMS inside, and say what was checked.

    The cfg, names, resize kind, thresholds and card go along as metadata. Raises CheckError, and writes nothing, if
    what the file says differs from what this package says of the same picture; EngineError if it is too large for
    the format.
    """
    graph = build_decoded(model) if decoded else build(model)
    size = sum(weights.nbytes for weights in graph.weights.values())
    if size > LARGEST:
        raise EngineError(f"{path}: {size / 1e9:.1f} GB of weights, more than one ONNX file holds")
    proto = graph.proto()
    _add_metadata(proto, model)
    onnx.checker.check_model(proto)
    said = _check_decoded(path, model, graph) if decoded else "its structure"
    with files.write_atomically(path) as file:
        file.write(proto.SerializeToString())
    return said


def _add_metadata(proto: onnx.ModelProto, model: Model) -> None:
    values = {
        "cfg": model.network.cfg.text.encode("utf-8", "backslashreplace").decode(),
        "names": json.dumps(model.names),
        "resize": model.resize,
        "thresholds": json.dumps(model.thresholds._asdict()),
        "card": json.dumps(dict(model.card)),
    }
    for key, value in values.items():
        proto.metadata_props.add(key=key, value=value)


def _check_decoded(path: Path, model: Model, graph: Graph) -> str:
    """Compare every box and score, and what NMS keeps, with our own decoding of raw heads. Raises CheckError."""
    channels, height, width = model.network.input
    picture = _blobs(channels, height, width)
    ours = _decode(model, picture)
    box, score, _ = open_engine(graph)(picture)
    box, score = box[0].copy(), score[0].copy()                            # (N, 4), (N, K)
    box_gap = _gap(ours.xyxy, box[ours.box])
    score_gap = _gap(ours.score, score[ours.box, ours.label])
    if not (box_gap <= TOLERANCE and score_gap <= TOLERANCE):
        raise CheckError(
            f"{path}: not written: its boxes differ from ours by up to {box_gap:.2g} of the input, its scores by "
            f"{score_gap:.2g}; wanted at most {TOLERANCE:g}"
        )
    # NMS is compared where it has something to do: just below the 200 surest scores, between two that differ.
    ranked = np.unique(ours.score)[-200:]
    threshold = float(ranked[0] + ranked[1]) / 2 if len(ranked) > 1 else model.thresholds.score
    looser = replace(model, thresholds=model.thresholds._replace(score=threshold))
    theirs = open_engine(build_decoded(looser))(picture)[2]
    rows = np.flatnonzero(ours.score > threshold)
    kept = rows[boxes.nms(ours.xyxy[rows], ours.score[rows], ours.label[rows], model.thresholds.nms)]
    if len(kept) != len(theirs) or _gap(np.sort(ours.score[kept]), np.sort(theirs[:, 5])) > TOLERANCE:
        raise CheckError(f"{path}: not written: its NMS keeps {len(theirs)} boxes, ours {len(kept)}")
    return (
        f"{len(box):,} boxes within {box_gap:.1e} of ours, scores within {score_gap:.1e}, NMS keeps the same "
        f"{len(kept)} of {len(rows)}"
    )


def _decode(model: Model, picture: np.ndarray) -> Candidates:
    """Every box and class of a picture, by our own graph and heads."""
    raw = open_engine(build(model))(picture)
    options = DecodeOptions((model.network.input.width, model.network.input.height), threshold=0.0)
    return Candidates.concat(
        [head.decode(output, options) for (_, head), output in zip(model.network.heads, raw, strict=True)]
    )


def _gap(ours: np.ndarray, theirs: np.ndarray) -> float:
    """The largest difference, relative to what is larger than 1."""
    if not len(ours):
        return 0.0
    return float(np.max(np.abs(ours - theirs) / np.maximum(1, np.abs(ours))))


def _blobs(channels: int, height: int, width: int) -> np.ndarray:
    """A picture (1, C, H, W) of soft and hard shapes, always the same."""
    y, x = np.mgrid[0:1:height * 1j, 0:1:width * 1j].astype(np.float32)
    planes = []
    for channel in range(channels):
        wave = 0.5 + 0.3 * np.sin(9 * x + 2 * channel) * np.cos(7 * y - channel)
        disc = ((x - 0.3 - 0.1 * channel) ** 2 + (y - 0.5) ** 2 < 0.04) * 0.4
        planes.append(np.clip(wave + disc - 0.3 * (np.abs(x - 0.7) < 0.1), 0, 1))
    return np.stack(planes)[None].astype(np.float32)
