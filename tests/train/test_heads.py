"""Heads whose classes are carried over by name, against the answers of both networks."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from lookonce.darknet.cfg import Cfg, Place
from lookonce.model import Model, onefile
from lookonce.network import Network
from lookonce.nn import TorchNetwork
from lookonce.train.pretrained import start_from

NET = """[net]
width=32
height=32
channels=3
[convolutional]
filters=8
size=3
stride=8
pad=1
batch_normalize=1
activation=leaky
[convolutional]
filters={filters}
size=1
activation=linear
"""
YOLO = NET + "[yolo]\nclasses={classes}\nnum=3\nanchors=4,4,8,8,16,16\n{more}"
REGION = NET + "[region]\nclasses={classes}\nnum=3\nanchors=1,1,2,2,3,3\nsoftmax=1\n{more}"
OLD, NEW = ("cat", "dog", "aeroplane"), ("airplane", "cow", "cat", "bird", "Dog")
TREE = "thing -1\nairplane 0\ncow 0\ncat 0\ndog 0\n"


def network_of(text: str, classes: int, tree: str = "") -> Network:
    more = "tree=x.tree\n" if tree else ""
    cfg = text.format(filters=3 * (5 + classes), classes=classes, more=more)
    return Network.build(Cfg.parse(cfg, "net.cfg", Place(attached={"tree": tree})))


@pytest.fixture
def known(tmp_path: Path) -> dict[str, Path]:
    """Models that know the old classes."""
    found = {}
    for name, text in (("yolo", YOLO), ("region", REGION)):
        found[name] = tmp_path / f"{name}.safetensors"
        model = Model.random(network_of(text, 3), 1)
        weights = [dict(each) for each in model.weights]
        weights[1]["biases"] = np.random.default_rng(2).normal(0, 1, 24).astype(np.float32)
        onefile.write(found[name], replace(model, weights=tuple(weights), names=OLD, trained=3))
    return found


def said(model: Model) -> np.ndarray:
    """What flows into the head for one picture, (A, E, H, W)."""
    picture = torch.from_numpy(np.random.default_rng(0).uniform(0, 1, (1, 3, 32, 32)).astype(np.float32))
    with torch.no_grad():
        raw = TorchNetwork(model).eval()(picture, (1,))[1].numpy()
    return raw.reshape(3, -1, *raw.shape[2:])


@pytest.mark.parametrize("kind", ["yolo", "region"])
def test_boxes_and_known_classes_are_as_before_and_new_ones_say_nothing(kind: str, known: dict[str, Path]) -> None:
    """airplane is aeroplane's synonym. A new logistic starts at one in as many as there are, a softmax's at 0."""
    network = network_of(YOLO if kind == "yolo" else REGION, 5)
    model = start_from(network, known[kind], names=NEW)
    before, after = said(onefile.read(known[kind], 1 << 30)), said(model)
    np.testing.assert_array_equal(after[:, :5], before[:, :5])
    for new, old in ((0, 2), (2, 0), (4, 1)):
        np.testing.assert_array_equal(after[:, 5 + new], before[:, 5 + old])
    start = np.float32(-math.log(5)) if kind == "yolo" else 0
    assert (after[:, [6, 8]] == start).all()
    assert model.trained == 3


def test_down_a_tree_inner_nodes_start_at_even_odds(known: dict[str, Path]) -> None:
    """A box is as much of a node as of those above: an unknown one must not stand before what is known."""
    network = network_of(YOLO, 5, TREE)
    after = said(start_from(network, known["yolo"], names=("thing", "airplane", "cow", "cat", "dog")))
    before = said(onefile.read(known["yolo"], 1 << 30))
    assert (after[:, 5] == 0).all()
    assert (after[:, 7] == np.float32(-math.log(5))).all()
    np.testing.assert_array_equal(after[:, 8], before[:, 5])


@pytest.mark.parametrize("names", [(), ("a", "b", "c", "d", "e"), ("cat", "dog")])
def test_without_a_class_in_common_a_head_starts_at_random(names: tuple[str, ...], known: dict[str, Path]) -> None:
    model = start_from(network_of(YOLO, 5), known["yolo"], seed=3, names=names)
    random = Model.random(network_of(YOLO, 5), 3)
    np.testing.assert_array_equal(model.weights[1]["weights"], random.weights[1]["weights"])
    assert model.trained == 2


def test_a_cut_in_front_of_the_head_carries_no_class(known: dict[str, Path]) -> None:
    model = start_from(network_of(YOLO, 5), f"{known['yolo']}:1", seed=3, names=NEW)
    assert model.trained == 1


def test_a_head_of_other_anchors_is_not_carried(known: dict[str, Path]) -> None:
    text = YOLO.replace("num=3", "num=2").replace("4,4,8,8,16,16", "4,4,8,8")
    network = Network.build(Cfg.parse(text.format(filters=20, classes=5, more=""), "net.cfg"))
    assert start_from(network, known["yolo"], names=NEW).trained == 2
