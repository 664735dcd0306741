"""The one-file model: a safetensors file that holds weights and, in its metadata, everything else.

Tensors are called by layer and array, `013.weights`. The metadata are texts: `cfg`, `tree` (the lines of the WordTree
that the cfg names, if any), and JSON for `names`, `thresholds`, `header`, `card`; `resize`; `trained`, how many layers
have weights that are not random, all of them if it is not there; `packed`, if weights of single bits stand there as
bits (model.packed); `lookonce` is the format's version. A cfg that is no UTF-8 stands there as Latin-1, byte for byte,
and `encoding` says so. What a loader needs is all inside: no path is followed.
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from lookonce import files
from lookonce.darknet.cfg import Cfg, Place
from lookonce.darknet.weights import Entry, Header, check_values
from lookonce.errors import CfgError, WeightsError, shown
from lookonce.model import packed
from lookonce.model.model import Model, Thresholds
from lookonce.network import Network

SUFFIX = ".safetensors"
VERSION = "1"
LATIN1 = "latin-1"
HALF_LARGEST = int(np.finfo(np.float16).max)


def write(path: Path, model: Model, *, half: bool = False, pack: bool = False) -> None:
    """Write `model` into one file; it appears under `path` only when it is whole.

    With `half` weights are rounded to 16 bits, in half the bytes; with `pack` those of single bits take one. Raises
    WeightsError if a weight is too large for 16 bits, or nothing can be packed.
    """
    weights = ((entry, model.weights[entry.layer][entry.name]) for entry in model.network.entries())
    tensors = {}
    for entry, array in packed.arrays(path, model) if pack else weights:
        tensors[_key(entry)] = _halved(path, entry, array) if half and "F16" in _kinds(entry) else array
    metadata = metadata_of(model) | ({"packed": packed.VERSION} if pack else {})
    with files.write_atomically(path) as file:
        file.write(safetensors.numpy.save(tensors, metadata=metadata))


def metadata_of(model: Model) -> dict[str, str]:
    """All that belongs to a model but its weights, as texts."""
    cfg = model.network.cfg.to_bytes()
    metadata = {
        "lookonce": VERSION,
        "resize": model.resize,
        "names": json.dumps(model.names),
        "thresholds": json.dumps(model.thresholds._asdict()),
        "header": json.dumps(asdict(model.header)),
        "card": json.dumps(dict(model.card)),
        "trained": str(model.trained),
    }
    try:
        metadata["cfg"] = cfg.decode()
    except UnicodeDecodeError:
        metadata |= {"cfg": cfg.decode(LATIN1), "encoding": LATIN1}
    if (tree := model.network.tree) is not None:
        metadata["tree"] = "\n".join(tree.to_lines())
    return metadata


def read(path: Path, memory_limit: int, *, allow_nonfinite: bool = False) -> Model:
    """The model in a file that `write` made. Raises WeightsError, or CfgError for its cfg."""
    files.open_regular(path, WeightsError).close()
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            cfg = _cfg_in(path, metadata)
            network = Network.build(cfg, memory_limit)
            entries = packed.entries(network) if _is_packed(path, metadata) else network.entries()
            wanted = {_key(entry): entry for entry in entries}
            found = set(file.keys())
            if found != wanted.keys():
                odd = sorted(found ^ wanted.keys())[0]
                where = "is missing" if odd in wanted else "is not of its cfg"
                raise WeightsError(f"{path}: the array {odd[:40]!r} {where}; is the file whole?")
            layers: list[dict[str, np.ndarray]] = [{} for _ in network.nodes]
            places = _places_in(path)
            for name, entry in wanted.items():
                view = file.get_slice(name)
                shape, kind, kinds = tuple(view.get_shape()), view.get_dtype(), _kinds(entry)
                if shape != entry.shape or kind not in kinds:
                    raise WeightsError(
                        f"{path}: {entry.owner} is {kind} {shape}, wanted {' or '.join(kinds)} {entry.shape}"
                    )
                # Not get_tensor: it reads through a memory map, which costs the file's size once more, and a file
                # that shrinks meanwhile would end the process.
                array = _taken(path, places[name], entry.shape, kinds[kind])
                if kind != "U8" and not allow_nonfinite:
                    check_values(array.reshape(-1), entry, path)
                layers[entry.layer][entry.name] = array
    except safetensors.SafetensorError as problem:
        raise WeightsError(f"{path}: is no usable safetensors file: {problem}: was it cut off?") from None
    if _is_packed(path, metadata):
        layers = packed.unpacked(path, network, layers)
    names = _json_in(path, metadata, "names", list)
    thresholds = _json_in(path, metadata, "thresholds", dict)
    header = _json_in(path, metadata, "header", dict)
    resize = metadata.get("resize", network.resize)
    if resize not in ("letterbox", "stretch", "crop"):
        raise WeightsError(f"{path}: resize={resize[:40]!r} is not known, wanted letterbox, stretch or crop")
    if names and len(names) != network.classes:
        raise WeightsError(f"{path}: {len(names)} names, but its network has {network.classes} classes")
    try:
        return Model(
            network=network,
            weights=tuple(layers),
            header=_header_in(header),
            names=tuple(str(name) for name in names),
            resize=resize,
            thresholds=_thresholds_in(thresholds),
            card=_json_in(path, metadata, "card", dict),
            source=str(path),
            trained=_trained_in(metadata, len(network.nodes)),
        )
    except (TypeError, ValueError) as problem:
        raise WeightsError(f"{path}: its metadata do not fit together: {problem}") from None


def _cfg_in(path: Path, metadata: Mapping[str, str]) -> Cfg:
    if metadata.get("lookonce") != VERSION:
        raise WeightsError(
            f"{path}: is a safetensors file, but no model of lookonce's (metadata lookonce={VERSION} is not there); "
            "make one with `lookonce model convert`"
        )
    if "cfg" not in metadata:
        raise CfgError(f"{path}: its metadata hold no cfg")
    text, encoding = metadata["cfg"], metadata.get("encoding", "utf-8")
    if encoding not in ("utf-8", LATIN1):
        raise CfgError(f"{path}: the encoding {shown(encoding)} of its cfg is not known, wanted {LATIN1} or none")
    if encoding == LATIN1:
        try:
            text = text.encode(LATIN1).decode("utf-8", "surrogateescape")
        except UnicodeEncodeError as problem:
            raise CfgError(f"{path}: its cfg is said to be {LATIN1} and is not: {problem}") from None
    attached = {"tree": metadata["tree"]} if "tree" in metadata else {}
    return Cfg.parse(text, str(path), Place(attached=attached))


def _places_in(path: Path) -> dict[str, int]:
    """Where each array begins. Only for a file that safe_open has checked."""
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    return {name: 8 + length + about["data_offsets"][0] for name, about in header.items() if name != "__metadata__"}


def _key(entry: Entry) -> str:
    return f"{entry.layer:03d}.{entry.name}"


def _kinds(entry: Entry) -> dict[str, str]:
    """The element types that an array may have, and NumPy's words for them."""
    if entry.name == packed.BITS:
        return {"U8": "u1"}
    return {"F32": "<f4"} if entry.name == packed.MAGNITUDE else {"F32": "<f4", "F16": "<f2"}


def _is_packed(path: Path, metadata: Mapping[str, str]) -> bool:
    """Whether weights of single bits stand there as bits. Raises WeightsError for a version that is not known."""
    version = metadata.get("packed")
    if version not in (None, packed.VERSION):
        raise WeightsError(f"{path}: is packed by version {shown(version)} of the form, wanted {packed.VERSION}")
    return version is not None


def _halved(path: Path, entry: Entry, array: np.ndarray) -> np.ndarray:
    """An array in 16 bits. Raises WeightsError if one of its numbers is too large for that."""
    largest = np.abs(array[np.isfinite(array)]).max(initial=0)
    if largest > HALF_LARGEST:
        raise WeightsError(
            f"{path}: {entry.owner}: found {largest:g}, 16 bits hold up to {HALF_LARGEST:,}; write all 32"
        )
    return array.astype(np.float16)


def _taken(path: Path, place: int, shape: tuple[int, ...], kind: str) -> np.ndarray:
    """One array of a file, floats as 32 bits. Raises WeightsError if the file has become shorter."""
    array = np.fromfile(path, kind, math.prod(shape), offset=place)
    if array.size != math.prod(shape):
        raise WeightsError(f"{path}: changed its length while it was read; try again when it is written")
    return (array.astype(np.float32, copy=False) if kind != "u1" else array).reshape(shape)


def _trained_in(metadata: Mapping[str, str], layers: int) -> int:
    """How many layers have weights that are not random: all, in files that do not say. Raises ValueError."""
    text = metadata.get("trained", str(layers))
    if not (text.isascii() and text.isdigit() and len(text) < 9 and int(text) <= layers):
        raise ValueError(f"trained={shown(text)}, wanted a whole number from 0 to {layers}")
    return int(text)


def _thresholds_in(values: Mapping[str, Any]) -> Thresholds:
    for key, value in values.items():
        if not isinstance(value, int | float) or not 0 <= value <= 1:
            raise ValueError(f"thresholds {key}={str(value)[:40]}, wanted a number from 0 to 1")
    return Thresholds(**values)


def _header_in(values: Mapping[str, Any]) -> Header:
    """The header of the weights file that a model was made from. Raises ValueError if no such file can have it."""
    bits = {"major": 16, "minor": 16, "revision": 16, "seen": 64}
    for key, value in values.items():
        if key in bits and not (type(value) is int and 0 <= value < 1 << bits[key]):
            raise ValueError(f"header {key}={str(value)[:40]}, wanted a whole number of {bits[key]} bits")
    return Header(**values)


def _json_in(path: Path, metadata: Mapping[str, str], key: str, kind: type) -> Any:
    try:
        value = json.loads(metadata.get(key, "[]" if kind is list else "{}"))
    except (ValueError, RecursionError) as problem:           # a number may have too many digits
        raise WeightsError(f"{path}: its metadata {key} are no JSON: {problem}") from None
    if not isinstance(value, kind):
        raise WeightsError(f"{path}: its metadata {key} are a {type(value).__name__}, wanted a {kind.__name__}")
    return value
