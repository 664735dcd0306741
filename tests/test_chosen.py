"""What a detector may answer with, against the answers of one that may say everything."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import DETECTOR, model_of

from lookonce.detections import Detections
from lookonce.detector import Detector
from lookonce.errors import CfgError, DataError
from lookonce.model import Model, open_model

REGION = DETECTOR[: DETECTOR.index("[convolutional]\nfilters=21")] + """[convolutional]
filters=33
size=1
activation=linear
[region]
classes=6
num=3
anchors=1,1,2,2,3,3
softmax=1
tree=toy.tree
"""
TREE = "n1 -1 animal\nn2 -1 plant\nn3 0 house cat\nn4 0 dog\nn5 1 rose\nn6 3 puppy\n"


def noise(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (64, 64, 3), np.uint8)


@pytest.fixture
def tree(tmp_path: Path) -> Model:
    (tmp_path / "toy.tree").write_text(TREE)
    (tmp_path / "toy.cfg").write_text(REGION)
    return open_model(tmp_path / "toy.cfg", "random")


@pytest.fixture
def flat() -> Model:
    return replace(model_of(DETECTOR), names=("aeroplane", "cat"))


def same(a: Detections, b: Detections) -> None:
    np.testing.assert_array_equal(a.xyxy, b.xyxy)
    np.testing.assert_array_equal(a.score, b.score)


def test_without_a_tree_the_chosen_classes_are_renumbered_and_the_others_left_out(flat: Model) -> None:
    every = Detector(flat, threshold=0.2)(noise())
    assert len(set(every.label.tolist())) == 2
    for agnostic in (False, True):
        only = Detector(flat, threshold=0.2, only=["Airplane"], class_agnostic=agnostic)
        assert only.names == ("Airplane",)
        found = only(noise())
        assert set(found.label.tolist()) == {0}
        if not agnostic:
            same(found, every[every.label == 0])
    found = Detector(flat, threshold=0.2, only=["cat", "aeroplane"])(noise())
    assert [one.name for one in found] == [one.name for one in every]
    same(found, every)


def test_of_two_classes_that_sound_alike_the_one_of_the_very_name_is_chosen(flat: Model) -> None:
    both = replace(flat, names=("tv", "tvmonitor"))
    every = Detector(both, threshold=0.2)(noise())
    same(Detector(both, threshold=0.2, only=["tvmonitor"])(noise()), every[every.label == 1])
    same(Detector(both, threshold=0.2, only=["TV"])(noise()), every[every.label == 0])


def test_down_a_tree_depth_and_below_change_labels_and_leave_boxes(tree: Model) -> None:
    every = Detector(tree, threshold=0.3, nms=1.0, hierarchy=0.1)(noise())
    roots = Detector(tree, threshold=0.3, nms=1.0, hierarchy=0.1, depth=1)(noise())
    assert set(every.label.tolist()) - {0, 1}
    assert set(roots.label.tolist()) <= {0, 1}
    same(roots, every)
    dogs = Detector(tree, threshold=0.3, nms=1.0, hierarchy=0.1, below=["dog"])(noise())
    assert len(dogs) == np.isin(every.label, [3, 5]).sum() > 0
    assert dogs.names == every.names


def test_only_of_a_tree_has_the_names_that_were_asked_for(tree: Model) -> None:
    detect = Detector(tree, threshold=0.05, only=["Plant", "n3"])
    assert detect.names == ("Plant", "n3")
    assert {one.name for one in detect(noise())} == {"Plant", "n3"}
    assert detect.settings()["only"] == ["Plant", "n3"]
    assert "hierarchy" not in detect.settings()
    walks = Detector(tree, depth=2, below=["animal"]).settings()
    assert (walks["depth"], walks["below"], walks["hierarchy"]) == (2, ["animal"], 0.5)
    assert Detector(tree).settings().keys().isdisjoint({"only", "depth", "below"})


def test_what_cannot_be_chosen_is_said_in_one_line(tree: Model, flat: Model) -> None:
    for model, options, error, says in (
        (flat, {"depth": 2}, CfgError, "has no tree to go down; wanted one with tree="),
        (flat, {"below": ["cat"]}, CfgError, "has no tree to go down"),
        (flat, {"only": ["cart"]}, DataError, "has no class cart, did you mean cat"),
        (flat, {"only": ["airplane", "aeroplane"]}, DataError, "aeroplane and airplane are the same class, aeroplane"),
        (tree, {"only": ["dog"], "depth": 2}, CfgError, "depth stands beside only"),
        (tree, {"only": ["dog"], "hierarchy": 0.5}, CfgError, "hierarchy stands beside only"),
        (tree, {"only": ["dog"], "below": ["dog"]}, CfgError, "below stands beside only"),
        (tree, {"depth": 0}, CfgError, "depth=0: wanted a whole number from 1"),
        (tree, {"only": ["dgo"]}, DataError, "no node of the tree is called dgo, did you mean dog"),
        (tree, {"below": ["dog", "n4"]}, DataError, "n4 and dog are the same node of the tree, n4"),
    ):
        with pytest.raises(error, match=says):
            Detector(model, **options)  # type: ignore[arg-type]
