"""Boxes down a WordTree, of [region] and of [yolo], against walks and sums node by node."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

from lookonce.darknet.cfg import Cfg, Place
from lookonce.errors import CfgError
from lookonce.heads.head import DecodeOptions
from lookonce.heads.region import Region
from lookonce.heads.yolo import Yolo
from lookonce.network import Network
from lookonce.wordtree import WordTree

# animal (dog (poodle, beagle), cat, bird), vehicle (car (taxi), bus)
NAMES = ("animal", "vehicle", "dog", "cat", "bird", "car", "bus", "poodle", "beagle", "taxi")
PARENTS = [-1, -1, 0, 0, 0, 1, 1, 2, 2, 5]
WORDS = WordTree(NAMES, NAMES, np.array(PARENTS))
CLASSES, ROWS, COLUMNS, ANCHORS = 10, 4, 5, 3
REGION = Region(classes=CLASSES, coords=4, anchors=((1, 1), (2, 1), (1, 3)), softmax=True, background=False, tree=WORDS)
YOLO = Yolo(classes=CLASSES, mask=(0, 1, 2), anchors=((8, 8), (16, 8), (8, 24)), tree=WORDS)
HEADS: Mapping[str, Any] = {"region": REGION, "yolo": YOLO}
OPTIONS = DecodeOptions((160, 128), threshold=0.4, hierarchy=0.5)


def said(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 2, (2, ANCHORS * 15, ROWS, COLUMNS)).astype(np.float32)


def sigma(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def own(kind: str, logits: np.ndarray) -> list[float]:
    """Each node's own probability: of [region] a product of softmaxes, of [yolo] the least on the way."""
    found = []
    for node, parent in enumerate(PARENTS):
        above = found[parent] if parent >= 0 else 1.0
        if kind == "yolo":
            found.append(min(above, sigma(logits[node])))
        else:
            siblings = [math.exp(logits[each]) for each in range(CLASSES) if PARENTS[each] == parent]
            found.append(above * math.exp(logits[node]) / sum(siblings))
    return found


def boxes_of(raw: np.ndarray) -> list[tuple[int, float, np.ndarray]]:
    """Picture, objectness and class logits of the boxes that pass, in the order of the grid."""
    grid = raw.reshape(2, ANCHORS, 15, ROWS, COLUMNS)
    rows = [
        (picture, sigma(grid[picture, anchor, 4, row, column]), grid[picture, anchor, 5:, row, column])
        for picture in range(2) for anchor in range(ANCHORS) for row in range(ROWS) for column in range(COLUMNS)
    ]  # fmt: skip
    return [row for row in rows if row[1] > OPTIONS.threshold]


def walked(probability: list[float], deepest: int = 9) -> int:
    """The node where the way down ends."""
    node, depth = -1, 0
    while depth < deepest:
        children = [each for each in range(CLASSES) if PARENTS[each] == node]
        if not children:
            break
        best = max(children, key=lambda each: probability[each])
        if probability[best] <= OPTIONS.hierarchy and node >= 0:
            break
        node, depth = best, depth + 1
        if probability[best] <= OPTIONS.hierarchy:
            break
    return node


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("deepest", [None, 1, 2])
def test_each_box_is_the_node_where_its_way_ends(kind: str, deepest: int | None) -> None:
    raw = said(1)
    found = HEADS[kind].decode(raw, OPTIONS._replace(deepest=deepest))
    expected = [(picture, walked(own(kind, logits), deepest or 9)) for picture, _, logits in boxes_of(raw)]
    assert list(zip(found.picture.tolist(), found.label.tolist(), strict=True)) == expected
    np.testing.assert_allclose(found.score, [objectness for _, objectness, _ in boxes_of(raw)], rtol=1e-5)
    assert len({label for _, label in expected}) >= 2


@pytest.mark.parametrize("kind", HEADS)
def test_below_leaves_out_what_ends_elsewhere(kind: str) -> None:
    """A box that was only sure of an animal is no dog."""
    raw = said(2)
    found = HEADS[kind].decode(raw, OPTIONS._replace(below=WORDS.subset(["dog", "vehicle"])))
    every = [walked(own(kind, logits)) for *_, logits in boxes_of(raw)]
    wanted = [label for label in every if NAMES[label] in ("dog", "poodle", "beagle", "vehicle", "car", "bus", "taxi")]
    assert found.label.tolist() == wanted
    assert 0 < len(wanted) < len(every)
    assert found.xyxy.shape == (len(wanted), 4)


@pytest.mark.parametrize("kind", HEADS)
def test_only_the_chosen_classes_answer_each_by_its_own_probability(kind: str) -> None:
    """A class that is several nodes has the sum of theirs, at most 1; of two, one below the other, both count."""
    raw, low = said(3), OPTIONS._replace(threshold=0.1)
    chosen = WORDS.subset_of(("pet", "bus", "animal"), [(3, 8), (6,), (0,)])
    found = HEADS[kind].decode(raw, low._replace(only=chosen))
    expected = []
    grid = raw.reshape(2, ANCHORS, 15, ROWS, COLUMNS)
    for picture, anchor, row, column in np.ndindex(2, ANCHORS, ROWS, COLUMNS):
        values = grid[picture, anchor, :, row, column]
        probability = own(kind, values[5:])
        for label, nodes in enumerate(((3, 8), (6,), (0,))):
            score = sigma(values[4]) * min(1.0, sum(probability[node] for node in nodes))
            if score > 0.1:
                expected.append((picture, label, score))
    assert [*zip(found.picture.tolist(), found.label.tolist(), strict=True)] == [row[:2] for row in expected]
    np.testing.assert_allclose(found.score, [row[2] for row in expected], rtol=1e-4)
    assert {label for _, label, _ in expected} == {0, 1, 2}


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("more", [{}, {"only": WORDS.subset(["cat", "car"])}, {"below": WORDS.subset(["animal"])}])
def test_torch_and_numpy_give_the_same(kind: str, more: dict[str, Any]) -> None:
    raw, options = said(4), OPTIONS._replace(**more)
    a, b = HEADS[kind].decode(raw, options), HEADS[kind].decode(torch.from_numpy(raw), options)
    for name in ("picture", "box", "label"):
        assert getattr(a, name).tolist() == getattr(b, name).tolist()
    np.testing.assert_allclose(a.score, b.score.numpy(), rtol=1e-5)
    np.testing.assert_allclose(a.xyxy, b.xyxy.numpy(), rtol=1e-4, atol=1e-6)


CFG = "[net]\nwidth=64\nheight=64\nchannels=15\n[yolo]\nclasses=10\nnum=1\nanchors=8,8\ntree=words.tree\n"


def test_a_tree_in_yolo_is_read_and_must_fit() -> None:
    place = Place(attached={"tree": "\n".join(WORDS.to_lines())})
    network = Network.build(Cfg.parse(CFG, "test.cfg", place))
    assert network.tree is not None
    assert network.tree.ids == NAMES
    with pytest.raises(CfgError, match="has 10 nodes for classes=9; wanted one a class"):
        Network.build(Cfg.parse(CFG.replace("=15", "=14").replace("=10", "=9"), "test.cfg", place))
    with pytest.raises(CfgError, match="stands beside new_coords=; wanted one of the two"):
        Network.build(Cfg.parse(CFG + "new_coords=1\n", "test.cfg", place))
