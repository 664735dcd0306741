"""YOLOv3-small: what its cfg says of it, counted."""

from __future__ import annotations

from lookonce.heads.yolo import Yolo
from lookonce.model import open_network


def test_the_small_network_has_three_scales_with_one_anchor_each() -> None:
    network = open_network("yolov3-small")
    heads = [head for _, head in network.heads if isinstance(head, Yolo)]
    assert [head.mask for head in heads] == [(2,), (1,), (0,)]
    assert [network.strides[node.index] for node, _ in network.heads] == [32, 16, 8]
    assert [node.shape.channels for node, _ in network.heads] == [25, 25, 25]


def test_the_small_network_is_small() -> None:
    """Under 4 MB with weights of 16 bits, and a quarter of Tiny YOLOv3's operations."""
    network, tiny = open_network("yolov3-small"), open_network("yolov3-tiny").resized(320, 320)
    assert 2 * sum(parameter.size for node in network.nodes for parameter in node.parameters) < 4e6
    assert 0.85e9 < network.operations < 0.9e9
    assert network.operations < 0.3 * tiny.operations
