"""A model as a file of another form: one file, ONNX, checked before it is written, or Darknet's files."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx

from lookonce import boxes, files
from lookonce.darknet.cfg import Cfg
from lookonce.darknet.lists import names_to_bytes
from lookonce.engines import open_engine
from lookonce.errors import CheckError, DataError, EngineError
from lookonce.graph import Graph, build
from lookonce.graph.decoded import build_decoded
from lookonce.heads.classify import Softmax
from lookonce.heads.head import Candidates, DecodeOptions
from lookonce.heads.region import Region
from lookonce.model import Model, onefile
from lookonce.model.packed import savings

TOLERANCE = 1e-4                 # of boxes relative to the input, and of scores
LARGEST = 2_000_000_000          # bytes of one ONNX file; its format ends at two gigabytes
TREE_NAME = re.compile(r"\w[\w.-]{0,99}\.tree", re.ASCII)


def convert(model: Model, out: Path, *, decoded: bool = False, half: bool = False) -> list[str]:
    """Write `model` as the suffix of `out` says, and say in lines what was written.

    `.safetensors` is one file, with `half` of 16-bit weights; `.onnx` is ONNX; `.weights` Darknet's files: the weights,
    and beside them the cfg, and names and tree if there are any. Raises DataError for another suffix, or if a file
    beside the weights would replace another, and what write_onnx and onefile.write raise.
    """
    if decoded and out.suffix != ".onnx":
        raise DataError(f"{out}: --decoded is for .onnx only")
    if half and out.suffix != onefile.SUFFIX:
        raise DataError(f"{out}: --half is for {onefile.SUFFIX} only")
    if out.suffix == onefile.SUFFIX:
        onefile.write(out, model, half=half)
        return [f"{out}: cfg, {'16-bit ' if half else ''}weights, {len(model.names)} names, {model.resize}"]
    if out.suffix == ".onnx":
        said = write_onnx(out, model, decoded=decoded)
        return [f"{out}: {'boxes, scores and NMS inside' if decoded else 'raw heads'}; checked: {said}"]
    if out.suffix == ".weights":
        return _write_darknet(out, model)
    raise DataError(f"{out}: wanted a name that ends in .safetensors, .onnx or .weights")


def pack(model: Model, out: Path, *, half: bool = False) -> list[str]:
    """Write `model` as one file with a bit a weight in layers of single bits, and say in lines what that saves.

    With `half` the other weights have 16 bits. Raises DataError if `out` is no name for it or is the file that the
    weights came from, which could not be got back; WeightsError if there is nothing to pack, or it cannot be.
    """
    if out.suffix != onefile.SUFFIX:
        raise DataError(f"{out}: wanted a name that ends in {onefile.SUFFIX}")
    if out.exists() and files.exists(model.source) and out.samefile(model.source):
        raise DataError(f"{out}: holds the weights that are packed, which would be lost; wanted another name")
    onefile.write(out, model, half=half, pack=True)
    saved = savings(model.network)
    bare = sum(each.floats for each in saved), sum(each.packed for each in saved)
    whole = 4 * sum(entry.size for entry in model.network.entries()), out.stat().st_size
    rows = [("layer", "weights", "bytes as floats", "packed", "times smaller")]
    rows += [_row(each.owner, " x ".join(map(str, each.shape)), each.floats, each.packed) for each in saved]
    rows += [_row("weights of single bits", "", *bare), _row("the whole model", "", *whole)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(f"{cell:{'<' if i < 2 else '>'}{widths[i]}}" for i, cell in enumerate(row)) for row in rows]


def _row(what: str, shape: str, floats: int, packed: int) -> tuple[str, str, str, str, str]:
    return what, shape, f"{floats:,}", f"{packed:,}", f"{floats / packed:.1f}"


def _write_darknet(out: Path, model: Model) -> list[str]:
    """The weights, and beside them what is not there already with the same lines. Refuses before it writes."""
    cfg, beside = _with_trees(out, model)
    beside = {out.with_suffix(".cfg"): cfg.to_bytes(), **beside}
    if model.names:
        names = out.with_suffix(".names")
        beside[names] = names_to_bytes(model.names, names)
    for path, content in beside.items():
        if files.exists(cfg.path) and path.exists() and path.samefile(cfg.path):
            raise DataError(f"{out}: its cfg would replace {path}, which is being read; name another file")
        if path.exists() and not (path.is_file() and path.read_bytes().splitlines() == content.splitlines()):
            raise DataError(f"{out}: {path} is there already, with other content; name another place, or move that")
    model.write_weights(out)
    for path, content in beside.items():
        if not path.exists():
            with files.write_atomically(path) as file:
                file.write(content)
    return [str(path) for path in (out, *beside)]


def _with_trees(out: Path, model: Model) -> tuple[Cfg, dict[Path, bytes]]:
    """The cfg, naming its trees as files beside it, and what those files hold.

    A tree keeps the file name that the cfg has for it, without folders. A cfg may come from anywhere, so a name that
    is not plainly a tree's is not taken: no file of the user's system is called so.
    """
    cfg = model.network.cfg
    trees: dict[Path, bytes] = {}
    for node in model.network.nodes:
        tree = node.layer.tree if isinstance(node.layer, Region | Softmax) else None
        if tree is None:
            continue
        section = cfg.sections[node.index + 1]
        named = section.options["tree"].value
        name = named.rsplit("/", 1)[-1]
        name = name if TREE_NAME.fullmatch(name) else "classes.tree"
        cfg = cfg if name == named else cfg.with_options(section, tree=name)
        trees[out.with_name(name)] = "".join(f"{line}\n" for line in tree.to_lines()).encode()
    return cfg, trees


def write_onnx(path: Path, model: Model, *, decoded: bool = False) -> str:
    """Write `model` as ONNX, with raw heads or with boxes, scores and NMS inside, and say what was checked.

    What a one-file model holds beside its weights goes along as metadata: cfg, tree, names, resize kind, thresholds,
    card. Raises CheckError, and writes nothing, if what the file says differs from what this package says of the same
    picture; EngineError if it is too large for the format.
    """
    graph = build_decoded(model) if decoded else build(model)
    size = sum(weights.nbytes for weights in graph.weights.values())
    if size > LARGEST:
        raise EngineError(f"{path}: {size / 1e9:.1f} GB of weights, more than one ONNX file holds")
    proto = graph.proto()
    for key, value in onefile.metadata_of(model).items():
        proto.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(proto)
    said = _check_decoded(path, model, graph) if decoded else "its structure"
    with files.write_atomically(path) as file:
        file.write(proto.SerializeToString())
    return said


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
