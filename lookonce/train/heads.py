"""What a head knows of its classes, carried over to a head of other classes by their names."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from lookonce.detections import plain_name
from lookonce.heads.head import Head
from lookonce.heads.region import Region
from lookonce.heads.yolo import Yolo
from lookonce.layers.convolution import Convolution
from lookonce.model import Model
from lookonce.network import Network

Arrays = Mapping[str, np.ndarray]


def carried_heads(network: Network, names: Sequence[str], given: Model) -> dict[int, Arrays]:
    """The weights of the layers that feed the heads of `network`, by layer, from a model of the same layers.

    Boxes and objectness are as they were, and so is each class that the model knows by this name (`plain_name`). A
    class that is new has weights of 0 and is as likely as one of all, so that it neither disturbs what is known nor
    learns much from each box that it is not; inner nodes of a tree start at even odds, not to stand before what is
    known below them. Empty if the two have different heads, or share no class.
    """
    known = {plain_name(name): number for number, name in reversed(list(enumerate(given.names)))}
    number = np.array([known.get(plain_name(name), -1) for name in names], np.int64)
    if (number < 0).all() or len(number) != network.classes:
        return {}
    found: dict[int, Arrays] = {}
    for (node, head), (other, theirs) in zip(network.heads, given.network.heads, strict=True):
        ours, before = (node.sources[0], other.sources[0])
        boxes, anchors = _layout(head)
        feeder = network.nodes[ours].layer
        if not isinstance(feeder, Convolution) or ours != before or not anchors or _layout(theirs) != (boxes, anchors):
            return {}
        arrays = {}
        for name, array in given.weights[before].items():
            old = array.reshape(anchors, boxes + theirs.classes, -1)          # (A, E, C)
            new = np.zeros((anchors, boxes + head.classes, old.shape[2]), np.float32)
            new[:, :boxes] = old[:, :boxes]
            at = np.flatnonzero(number >= 0)
            if name == "biases" and isinstance(head, Yolo):
                new[:, boxes:, 0] = _odds(head)
            new[:, boxes + at] = old[:, boxes + number[at]]
            arrays[name] = new.reshape(-1, *array.shape[1:])
        if any(arrays[each.name].shape != each.shape for each in network.nodes[ours].parameters):
            return {}
        found[ours] = arrays
    return found


def _odds(head: Yolo) -> np.ndarray:
    """The logarithm of the odds at which classes (K,) start."""
    unlikely = np.full(head.classes, -math.log(head.classes), np.float32)
    return unlikely if head.tree is None else np.where(head.tree.leaf, unlikely, 0)


def _layout(head: Head) -> tuple[int, int]:
    """How many values a box has before its classes, and how many boxes a cell; nothing for heads of other layouts."""
    match head:
        case Yolo():
            return 5, len(head.mask)
        case Region(background=False):
            return head.coords + 1, len(head.anchors)
    return 0, 0
