"""The packed form of a model: one bit a weight in layers of single bits, floats in the rest.

A safetensors file as model.onefile writes it, with `packed` in its metadata. Where a layer has `binary=1` or `xnor=1`
and weights of one bit, `013.weights` is replaced by two arrays: `013.bits`, uint8 (O, bytes), the signs of each filter
in the order of the weights file, weight i being bit i % 8 of byte i // 8, 1 above 0; and `013.magnitude`, float32 (O,),
the mean |W| of each filter. The real weights are gone: a model that is read back has plus or minus that magnitude.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from lookonce import files
from lookonce.darknet.weights import Entry, check_values
from lookonce.errors import WeightsError, shown
from lookonce.layers.binary import Bits, encode
from lookonce.layers.convolution import bits_of
from lookonce.model import Model, onefile
from lookonce.network import Network

VERSION = "1"
KINDS = {"F32": "<f4", "U8": "u1"}


def write(path: Path, model: Model) -> None:
    """Write `model` with its weights of single bits as bits; it appears under `path` only when it is whole.

    Raises WeightsError if no layer has such weights, or one of them is not finite.
    """
    packed = _packed_layers(model.network)
    if not packed:
        raise WeightsError(
            f"{path}: no layer of {model.network.cfg.path} has weights of single bits, so nothing would be packed; "
            f"wanted binary=1 or xnor=1, or a plain model ({onefile.SUFFIX})"
        )
    tensors: dict[str, np.ndarray] = {}
    for entry in model.network.entries():
        array = model.weights[entry.layer][entry.name]
        if not _is_packed(entry, packed):
            tensors[_key(entry, entry.name)] = np.ascontiguousarray(array, np.float32)
            continue
        if not np.isfinite(array).all():
            raise WeightsError(f"{path}: {entry.owner} holds values that are not finite, which have no sign to keep")
        flat = array.reshape(len(array), -1)
        tensors[_key(entry, "bits")] = np.packbits(flat > 0, axis=1, bitorder="little")
        tensors[_key(entry, "magnitude")] = _magnitude(flat)
    metadata = onefile.metadata_of(model) | {"packed": VERSION}
    with files.write_atomically(path) as file:
        file.write(safetensors.numpy.save(tensors, metadata=metadata))


def is_packed(path: Path) -> bool:
    """Whether a file is a packed model. Raises WeightsError if it is no safetensors file."""
    files.open_regular(path, WeightsError).close()
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return "packed" in (file.metadata() or {})
    except safetensors.SafetensorError as problem:
        raise WeightsError(f"{path}: is no usable safetensors file: {problem}") from None


def read(path: Path, memory_limit: int, *, allow_nonfinite: bool = False) -> Model:
    """The model in a file that `write` made. Raises WeightsError, or CfgError for its cfg."""
    files.open_regular(path, WeightsError).close()
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            cfg = onefile.cfg_in(path, metadata)
            if metadata.get("packed") != VERSION:
                found = shown(metadata.get("packed", "nothing"))
                raise WeightsError(f"{path}: is no packed model (metadata packed: {found}, wanted {VERSION})")
            network = Network.build(cfg, memory_limit)
            wanted = _wanted(network)
            odd = sorted(set(file.keys()) ^ wanted.keys())
            if odd:
                where = "is missing" if odd[0] in wanted else "is not of its cfg"
                raise WeightsError(f"{path}: the array {shown(odd[0])!r} {where}; is the file whole?")
            arrays = {}
            places = onefile.places_in(path)
            for name, (entry, kind) in wanted.items():
                view = file.get_slice(name)
                shape, stored = tuple(view.get_shape()), view.get_dtype()
                if (shape, stored) != (entry.shape, kind):
                    raise WeightsError(f"{path}: {entry.owner} is {stored} {shape}, wanted {kind} {entry.shape}")
                arrays[name] = _taken(path, places[name], entry.shape, KINDS[kind])
                if kind == "F32" and not allow_nonfinite:
                    check_values(arrays[name].reshape(-1), entry, path)
    except safetensors.SafetensorError as problem:
        raise WeightsError(f"{path}: is no usable safetensors file: {problem}") from None
    return _model(path, metadata, network, _unpacked(path, network, arrays))


def _wanted(network: Network) -> dict[str, tuple[Entry, str]]:
    """The arrays that a packed file of a network has: what each is, and its element type."""
    packed = _packed_layers(network)
    wanted = {}
    for entry in network.entries():
        if not _is_packed(entry, packed):
            wanted[_key(entry, entry.name)] = entry, "F32"
            continue
        filters, count = entry.shape[0], math.prod(entry.shape[1:])
        owner = entry.owner.removesuffix(entry.name)
        bits = Entry(entry.layer, f"{owner}bits", "bits", (filters, -(-count // 8)))
        wanted[_key(entry, "bits")] = bits, "U8"
        wanted[_key(entry, "magnitude")] = Entry(entry.layer, f"{owner}magnitude", "magnitude", (filters,)), "F32"
    return wanted


def _unpacked(path: Path, network: Network, arrays: Mapping[str, np.ndarray]) -> list[dict[str, np.ndarray]]:
    """The arrays of each layer, signs turned into plus or minus their magnitude. Raises WeightsError."""
    packed = _packed_layers(network)
    layers: list[dict[str, np.ndarray]] = [{} for _ in network.nodes]
    for entry in network.entries():
        if not _is_packed(entry, packed):
            layers[entry.layer][entry.name] = arrays[_key(entry, entry.name)]
            continue
        bits, magnitude = arrays[_key(entry, "bits")], arrays[_key(entry, "magnitude")]
        count = math.prod(entry.shape[1:])
        if (magnitude < 0).any():
            where = int(np.argmax(magnitude < 0))
            raise WeightsError(f"{path}: {entry.owner} has magnitude {magnitude[where]:g} in filter {where}: damaged?")
        signs = np.unpackbits(bits, axis=1, bitorder="little")                          # (O, 8 bytes)
        if signs[:, count:].any():
            raise WeightsError(f"{path}: {entry.owner} has bits beyond its {count} weights a filter: damaged?")
        weights = np.where(signs[:, :count], magnitude[:, None], -magnitude[:, None])   # (O, I)
        layers[entry.layer][entry.name] = weights.reshape(entry.shape)
    return layers


def _model(path: Path, metadata: Mapping[str, Any], network: Network, layers: list[dict[str, np.ndarray]]) -> Model:
    names = onefile.json_in(path, metadata, "names", list)
    thresholds = onefile.json_in(path, metadata, "thresholds", dict)
    header = onefile.json_in(path, metadata, "header", dict)
    resize = metadata.get("resize", network.resize)
    if resize not in ("letterbox", "stretch", "crop"):
        raise WeightsError(f"{path}: resize={shown(resize)} is not known, wanted letterbox, stretch or crop")
    if names and len(names) != network.classes:
        raise WeightsError(f"{path}: {len(names)} names, but its network has {network.classes} classes")
    try:
        return Model(
            network=network,
            weights=tuple(layers),
            header=onefile.header_in(header),
            names=tuple(str(name) for name in names),
            resize=resize,
            thresholds=onefile.thresholds_in(thresholds),
            card=onefile.json_in(path, metadata, "card", dict),
            source=str(path),
            trained=onefile.trained_in(metadata, len(network.nodes)),
        )
    except (TypeError, ValueError) as problem:
        raise WeightsError(f"{path}: its metadata do not fit together: {problem}") from None


def _packed_layers(network: Network) -> set[int]:
    """The layers whose weights have one bit."""
    found = {node.index: bits_of(node.layer) for node in network.nodes}
    return {index for index, bits in found.items() if bits is not None and bits.weights == 1}


def _is_packed(entry: Entry, packed: set[int]) -> bool:
    return entry.layer in packed and entry.name == "weights"


def _key(entry: Entry, name: str) -> str:
    return f"{entry.layer:03d}.{name}"


def _magnitude(weights: np.ndarray) -> np.ndarray:
    """mean |W| of each filter (O,). Where all are alike it is exactly theirs: packing twice changes nothing."""
    each = np.abs(weights)                                                              # (O, I)
    mean = np.asarray(encode(weights, Bits()).alpha, np.float32).reshape(-1)
    first = each[:, 0].astype(np.float32)
    return np.where((each == first[:, None]).all(axis=1), first, mean)


def _taken(path: Path, place: int, shape: tuple[int, ...], kind: str) -> np.ndarray:
    """One array of a file. Raises WeightsError if the file has become shorter."""
    array = np.fromfile(path, kind, math.prod(shape), offset=place)
    if array.size != math.prod(shape):
        raise WeightsError(f"{path}: changed its length while it was read; try again when it is written")
    return array.reshape(shape)
