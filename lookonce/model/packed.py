"""The packed form of a one-file model (model.onefile): one bit a weight in layers of single bits.

Where a layer has `binary=1` or `xnor=1` and weights of one bit, two arrays stand in place of `013.weights`: `013.bits`,
uint8 (O, bytes), the signs of each filter in the order of the weights file, weight i being bit i % 8 of byte i // 8, 1
above 0; and `013.magnitude`, float32 (O,), the mean |W| of each filter. The real weights are gone: a model that is read
back has plus or minus that magnitude, which says the same of every picture.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lookonce.darknet.weights import Entry
from lookonce.errors import WeightsError
from lookonce.layers.binary import Bits, encode
from lookonce.layers.convolution import bits_of
from lookonce.model.model import Model
from lookonce.network import Network

VERSION = "1"
BITS, MAGNITUDE = "bits", "magnitude"


class Saving(NamedTuple):
    """A layer's weights: their shape, and their bytes as floats and packed."""

    owner: str
    shape: tuple[int, ...]
    floats: int
    packed: int


def savings(network: Network) -> list[Saving]:
    """What each layer of single bits saves; empty if there are none."""
    return [
        Saving(entry.owner.removesuffix(" weights"), entry.shape, 4 * entry.size, bits.size + 4 * magnitude.size)
        for entry in network.entries()
        if _is_packed(entry, network)
        for bits, magnitude in [_stands_for(entry)]
    ]


def entries(network: Network) -> list[Entry]:
    """The arrays of a packed file."""
    return [
        part for entry in network.entries() for part in (_stands_for(entry) if _is_packed(entry, network) else [entry])
    ]


def arrays(path: Path, model: Model) -> Iterator[tuple[Entry, np.ndarray]]:
    """The arrays of a packed file for `model`. Raises WeightsError if no layer has weights of one bit (`path` is for
    that message), or one of them is not finite.
    """
    network = model.network
    if not any(_is_packed(entry, network) for entry in network.entries()):
        raise WeightsError(
            f"{path}: not written: no layer of {network.cfg.path} has weights of single bits, so nothing would be "
            "packed; wanted binary=1 or xnor=1 in its cfg, or `lookonce model convert` for a file of floats"
        )
    for entry in network.entries():
        array = model.weights[entry.layer][entry.name]
        if not _is_packed(entry, network):
            yield entry, array
            continue
        if not np.isfinite(array).all():
            raise WeightsError(f"{path}: {entry.owner} holds values that are not finite, which have no sign to keep")
        flat = array.reshape(len(array), -1)                                            # (O, I)
        bits, magnitude = _stands_for(entry)
        yield bits, np.packbits(flat > 0, axis=1, bitorder="little")                    # (O, bytes)
        yield magnitude, _magnitude(flat)


def unpacked(
    path: Path, network: Network, layers: Sequence[Mapping[str, np.ndarray]]
) -> list[dict[str, np.ndarray]]:
    """The arrays of a model for those of a packed file. Raises WeightsError for what no model packs to."""
    found = [dict(layer) for layer in layers]
    for entry in network.entries():
        if not _is_packed(entry, network):
            continue
        bits, magnitude = found[entry.layer].pop(BITS), found[entry.layer].pop(MAGNITUDE)
        count = math.prod(entry.shape[1:])
        if (magnitude < 0).any():
            where = int(np.argmax(magnitude < 0))
            raise WeightsError(f"{path}: {entry.owner} has magnitude {magnitude[where]:g} in filter {where}: damaged?")
        signs = np.unpackbits(bits, axis=1, bitorder="little")                          # (O, 8 bytes)
        if signs[:, count:].any():
            raise WeightsError(f"{path}: {entry.owner} has bits beyond its {count} weights a filter: damaged?")
        weights = np.where(signs[:, :count], magnitude[:, None], -magnitude[:, None])   # (O, I)
        found[entry.layer][entry.name] = weights.reshape(entry.shape)
    return found


def _is_packed(entry: Entry, network: Network) -> bool:
    """Whether an array is the weights of a layer of single bits."""
    bits = bits_of(network.nodes[entry.layer].layer) if entry.name == "weights" else None
    return bits is not None and bits.weights == 1


def _stands_for(entry: Entry) -> tuple[Entry, Entry]:
    """The bits and the magnitudes that stand in place of weights."""
    filters, count = entry.shape[0], math.prod(entry.shape[1:])
    owner = entry.owner.removesuffix(entry.name)
    return (
        Entry(entry.layer, f"{owner}{BITS}", BITS, (filters, -(-count // 8))),
        Entry(entry.layer, f"{owner}{MAGNITUDE}", MAGNITUDE, (filters,)),
    )


def _magnitude(weights: np.ndarray) -> np.ndarray:
    """mean |W| of each filter (O,). Where all are alike it is exactly theirs: packing twice changes nothing."""
    each = np.abs(weights)                                                              # (O, I)
    mean = np.asarray(encode(weights, Bits()).alpha, np.float32).reshape(-1)
    first = each[:, 0].astype(np.float32)
    return np.where((each == first[:, None]).all(axis=1), first, mean)
