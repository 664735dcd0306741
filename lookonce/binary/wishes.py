"""What is wanted of each layer of a network that runs on single bits, and where and when it runs.

A layer of single bits needs no more of what flows in than signs, and some layers between two of them pass signs on as
well as floats: the largest sign is that of the largest, and the sign after a batch norm says whether a value passes a
threshold. So each layer is asked, from the last to the first, what its readers want of it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from lookonce.binary.prepare import is_accepted
from lookonce.binary.reference import WORD
from lookonce.layers.convolution import Connected, Convolution
from lookonce.layers.junctions import Route, Shortcut
from lookonce.layers.normalization import BatchNorm
from lookonce.layers.plain import Dropout
from lookonce.layers.pooling import MaxPool
from lookonce.layers.wiring import Upsample
from lookonce.network import PICTURES, Network, Node


class Signs(NamedTuple):
    """A wish for signs of a layer: after batch norm `norm`, whose channel `first` is the first here.

    With `pooled` it is pooled before that norm. Where the norm falls the sign of the largest is then the smallest sign,
    which is the largest of inverted ones.
    """

    norm: int | None = None
    first: int = 0
    pooled: bool = False


@dataclass(frozen=True)
class Wanted:
    """All that is wanted of a network.

    `nodes` have as sources the layers that make the values they read, not those that hand them on. `signs` are the
    wishes of each layer, and whether magnitudes are wanted with them. Layers of odd stages run on single bits, one by
    one; those of even stages are real, and those of one stage can run together.
    """

    nodes: tuple[Node, ...]
    outputs: tuple[int, ...]
    binary: frozenset[int]
    signs: Mapping[int, Mapping[Signs, bool]]
    floats: frozenset[int]
    stages: Mapping[int, int]

    def readers(self, index: int) -> list[Node]:
        """The layers that read this one's results, of those that are needed."""
        return [node for node in self.nodes if node.index in self.stages and index in node.sources]


def has_input_scale(node: Node) -> bool:
    """Whether a layer's results are multiplied by K."""
    return isinstance(node.layer, Convolution | Connected) and node.layer.bits.input_scale


def has_single_bits(network: Network) -> bool:
    """Whether any of its layers runs on single bits."""
    return any(is_accepted(node) for node in network.nodes)


def wanted_of(network: Network) -> Wanted:
    """What is wanted of each layer."""
    outputs = tuple(dict.fromkeys(node.sources[0] for node, _ in network.heads)) or (network.output.index,)
    nodes = _resolved(network.nodes, outputs)
    binary = frozenset(node.index for node in nodes if is_accepted(node))
    signs: dict[int, dict[Signs, bool]] = {index: {} for index in range(PICTURES, len(nodes))}
    floats, needed, native = set(outputs), set(outputs), set()
    for node in reversed(nodes):
        if node.index not in needed:
            continue
        needed.update(source for source in node.sources if source != PICTURES)
        if node.index in binary:
            native.add(node.index)
            wishes = signs[node.sources[0]]
            wishes[Signs()] = wishes.get(Signs(), False) or has_input_scale(node)
        elif isinstance(node.layer, Shortcut) and _adds(node) and signs[node.index] and _follows(node, nodes, binary):
            native.add(node.index)
            floats.update(node.sources)
        elif node.index not in floats and _passes_on(node, signs[node.index], _follows(node, nodes, binary)):
            native.add(node.index)
            for wish, scaled in signs[node.index].items():
                for source, handed in zip(node.sources, handed_on(node, wish), strict=True):
                    signs[source][handed] = signs[source].get(handed, False) or scaled
        else:
            floats.update(node.sources)
    return Wanted(nodes, outputs, binary, signs, frozenset(floats), _stages(nodes, needed, native))


def _resolved(nodes: Sequence[Node], outputs: Iterable[int]) -> tuple[Node, ...]:
    """The layers, their sources behind those that only hand on what they get."""
    behind: dict[int, int] = {PICTURES: PICTURES}
    found = []
    for node in nodes:
        node = replace(node, sources=tuple(behind[source] for source in node.sources))
        one = isinstance(node.layer, Route) and len(node.sources) == 1 and node.layer.groups == 1
        hands_on = (one or isinstance(node.layer, Dropout)) and node.index not in outputs
        behind[node.index] = node.sources[0] if hands_on else node.index
        found.append(node)
    return tuple(found)


def _adds(node: Node) -> bool:
    """Whether a shortcut is the plain sum of two layers."""
    layer = node.layer
    assert isinstance(layer, Shortcut)
    plain = layer.weights_type == "none" and layer.activation == "linear" and layer.alpha == layer.beta == 1
    return plain and len(node.given) == 2 and node.given[0] == node.given[1]


def _follows(node: Node, nodes: Sequence[Node], binary: frozenset[int]) -> bool:
    """Whether a layer's values come from one of single bits, not from a real one that could take it along."""
    source = node.sources[0]
    while source != PICTURES and isinstance(nodes[source].layer, BatchNorm | MaxPool | Shortcut | Upsample):
        source = nodes[source].sources[0]
    return source in binary


def _passes_on(node: Node, wishes: Mapping[Signs, bool], follows: bool) -> bool:
    """Whether a layer of which only signs are wanted can make them of its sources' signs."""
    match node.layer:
        case BatchNorm():
            return bool(wishes) and all(wish.norm is None for wish in wishes)
        case MaxPool():
            possible = follows
        case Upsample():
            possible = node.layer.stride > 0 and node.layer.scale == 1
        case Route():
            possible = node.layer.groups == 1 and all(shape.channels % WORD == 0 for shape in node.given[:-1])
        case _:
            possible = False
    return possible and bool(wishes) and not any(wishes.values())      # magnitudes are no signs


def handed_on(node: Node, wish: Signs) -> list[Signs]:
    """What a layer that passes signs on wants of its sources, to grant a wish."""
    match node.layer:
        case BatchNorm():
            return [Signs(norm=node.index)]
        case MaxPool() if wish.norm is not None:
            return [wish._replace(pooled=True)]
        case Route() if wish.norm is not None:
            firsts = np.cumsum([wish.first, *(shape.channels for shape in node.given[:-1])])
            return [wish._replace(first=int(first)) for first in firsts]
    return [wish] * len(node.sources)


def _stages(nodes: Sequence[Node], needed: set[int], native: set[int]) -> dict[int, int]:
    stages = {PICTURES: 0}
    for index in sorted(needed):
        before = max(stages[source] for source in nodes[index].sources)
        stages[index] = before + (before % 2 != (index in native))
    return stages
