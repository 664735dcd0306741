"""Model: a network with its weights, and what belongs to it: names, resize kind, thresholds, card."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lookonce.darknet import weights as weights_file
from lookonce.darknet.weights import Header
from lookonce.errors import WeightsError
from lookonce.network import Network, Resize
from lookonce.network.network import MEMORY_LIMIT
from lookonce.wordtree import WordTree

UNTRAINED = "random weights"                # in place of the file that weights came from
FORK_REVISION = 5                           # the fork writes version 0.2.5, the original 0.2.0


class Thresholds(NamedTuple):
    """What a model answers with, unless asked otherwise: least score, most overlap, least probability down a tree."""

    score: float = 0.25
    nms: float = 0.45
    hierarchy: float = 0.5


@dataclass(frozen=True)
class Model:
    """A network that can run.

    `weights` holds, for each layer, its arrays by name, float32, as in the weights file, and `header` that file's
    first bytes. `names` are the classes' names, empty if nobody gave them. `card` says what is known of the model:
    data, figures, licence, drift of lower precisions. `source` says where the weights came from, and `trained` how
    many layers have weights that are not random.
    """

    network: Network
    weights: tuple[Mapping[str, np.ndarray], ...]
    header: Header = field(default_factory=Header)
    names: tuple[str, ...] = ()
    resize: Resize = "letterbox"
    thresholds: Thresholds = field(default_factory=Thresholds)
    card: Mapping[str, Any] = field(default_factory=dict)
    source: str = UNTRAINED
    trained: int = 0

    # ------------------------------------------------------------------ making
    @classmethod
    def random(cls, network: Network, seed: int = 0, skip: int = 0) -> Model:
        """A model with Darknet's random weights: normal with deviation sqrt(2 / fan-in), batch norm at rest.

        The first `skip` layers get empty arrays by no name: they are filled by the caller.
        """
        rng = np.random.default_rng(seed)
        layers: list[dict[str, np.ndarray]] = []
        for node in network.nodes:
            arrays = {}
            for parameter in node.parameters if node.index >= skip else ():
                if parameter.fan_in is None:
                    array = np.full(parameter.shape, parameter.start, np.float32)
                else:
                    array = rng.standard_normal(parameter.shape, np.float32)
                    array *= math.sqrt(2 / parameter.fan_in)
                arrays[parameter.name] = array
            layers.append(arrays)
        return cls(network, tuple(layers), resize=network.resize)

    @classmethod
    def read(cls, network: Network, path: Path, layers: int | None = None, *, allow_nonfinite: bool = False) -> Model:
        """A model with the weights of a Darknet file; with `layers`, of its first so many layers, the rest random.

        A cfg that both programs read does not tell by which it was trained; the file's version does, and so how
        pictures are fitted.

        Raises WeightsError if the file is not of this network (darknet.weights.read).
        """
        count = len(network.nodes)
        if layers is not None and not 0 < layers <= count:
            raise WeightsError(f"{path}:{layers}: the network has {count} layers; wanted a cut of 1 to {count}")
        entries = network.entries(layers)
        header, arrays = weights_file.read(
            path, entries, partial=layers is not None, allow_nonfinite=allow_nonfinite
        )
        taken = count if layers is None else layers
        model = cls.random(network, skip=taken)
        filled = [dict(kept) for kept in model.weights]
        for entry, array in zip(entries, arrays, strict=True):
            filled[entry.layer][entry.name] = array
        resize = network.resize_by(fork=network.cfg.fork or header.revision == FORK_REVISION)
        return replace(
            model, weights=tuple(filled), header=header, source=str(path), trained=taken, resize=resize
        )

    def resized(self, width: int, height: int, memory_limit: int = MEMORY_LIMIT) -> Model:
        """The same model for another input size. Raises CfgError if its layers cannot take it, as Network.resized.

        Raises WeightsError if a layer's weights depend on the size, as those of [connected] and [local] do.
        """
        network = self.network.resized(width, height, memory_limit)
        for before, after in zip(self.network.nodes, network.nodes, strict=True):
            if before.parameters != after.parameters:
                raise WeightsError(
                    f"size {width} x {height}: {before} of {network.cfg.path} has weights for an input of "
                    f"{self.network.input}, and would need others; this network runs at its own size only"
                )
        return replace(self, network=network)

    # ------------------------------------------------------------------ keeping
    def write_weights(self, path: Path, layers: int | None = None) -> None:
        """Write a Darknet weights file, whole or of the first `layers` layers; it appears only when it is whole."""
        entries = self.network.entries(layers)
        header = self.header if layers is None else replace(self.header, seen=0)
        weights_file.write(path, header, entries, (self.weights[entry.layer][entry.name] for entry in entries))

    # ------------------------------------------------------------------ what it is
    @property
    def name(self) -> str:
        """What to call it: its cfg's or its file's name without the folder and suffix."""
        return Path(self.network.cfg.path).stem

    @property
    def tree(self) -> WordTree | None:
        """The WordTree of its classes, if it has one, with the names that were given."""
        tree = self.network.tree
        return WordTree(tree.ids, self.names, tree.parent) if tree is not None and self.names else tree

    def label_names(self) -> tuple[str, ...]:
        """One name a class: those given, else those of its tree, else `class 0`, `class 1`, ..."""
        if self.names:
            return self.names
        if self.tree is not None:
            return self.tree.names
        return tuple(f"class {number}" for number in range(self.network.classes))
