from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import model_of, run_layers

from lookonce import pictures
from lookonce.classifier import Classifier
from lookonce.darknet.weights import Header
from lookonce.errors import CfgError
from lookonce.model import open_model

CFG = """[net]
width=32
height=32
channels=3
[convolutional]
filters=6
size=3
stride=2
pad=1
activation=leaky
[avgpool]
[softmax]
"""
TREE = "animal -1\nplant -1\ncat 0 house cat\ndog 0\nrose 1\npuppy 3\n"


def noise() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (40, 70, 3), np.uint8)


def test_probabilities_are_the_networks_own() -> None:
    model = model_of(CFG)
    canvas = np.empty((1, 3, 32, 32), np.float32)
    pictures.fit(noise(), canvas[0], "letterbox")
    expected = run_layers(model, canvas)[-1].reshape(-1)
    np.testing.assert_allclose(Classifier(model).probabilities(noise()), expected, rtol=1e-4)
    assert expected.sum() == pytest.approx(1, rel=1e-5)


def test_the_likeliest_come_first_and_as_many_as_asked() -> None:
    classify = Classifier(model_of(CFG))
    answers = classify(noise(), top=4)
    scores = [answer.score for answer in answers]
    assert scores == sorted(scores, reverse=True)
    assert len(scores) == 4
    assert scores[0] == pytest.approx(classify.probabilities(noise()).max())
    assert answers[0].path == (answers[0].name,)
    assert len(classify(noise(), top=100)) == 6


def test_down_a_tree_leaves_compete_and_say_their_way(tmp_path: Path) -> None:
    """A leaf's probability is the product of the softmaxes on its way: worked out here by hand."""
    (tmp_path / "toy.tree").write_text(TREE)
    (tmp_path / "toy.cfg").write_text(CFG + "tree=toy.tree\n")
    model = open_model(tmp_path / "toy.cfg", "random")
    classify = Classifier(model)
    canvas = np.empty((1, 3, 32, 32), np.float32)
    pictures.fit(noise(), canvas[0], "letterbox")
    z = np.exp(run_layers(model, canvas)[1].reshape(-1).astype(np.float64))
    animal, plant = z[0] / (z[0] + z[1]), z[1] / (z[0] + z[1])
    cat, dog = animal * z[2] / (z[2] + z[3]), animal * z[3] / (z[2] + z[3])
    expected = [animal, plant, cat, dog, plant, dog]                       # rose and puppy have no siblings
    np.testing.assert_allclose(classify.probabilities(noise()), expected, rtol=1e-4)
    answers = classify(noise(), top=3)
    assert {answer.name for answer in answers} == {"house cat", "rose", "puppy"}
    ways = {answer.name: answer.path for answer in answers}
    assert ways["puppy"] == ("animal", "dog", "puppy")
    assert {answer.name for answer in classify(noise(), top=6)} == {"house cat", "rose", "puppy"}


def test_it_is_sure_of_an_ancestor_where_it_is_not_of_more(tmp_path: Path) -> None:
    """The likeliest child at each step, as long as its own probability passes; nothing if that of no root does."""
    (tmp_path / "toy.tree").write_text(TREE)
    (tmp_path / "toy.cfg").write_text(CFG + "tree=toy.tree\n")
    model = open_model(tmp_path / "toy.cfg", "random")
    own = np.array([0.7, 0.3, 0.25, 0.45, 0.3, 0.45], np.float32)
    for hierarchy, name, path in (
        (0.4, "puppy", ("animal", "dog", "puppy")),
        (0.5, "animal", ("animal",)),
    ):
        sure = Classifier(model, hierarchy=hierarchy).sure(own)
        assert sure is not None
        assert (sure.name, sure.path) == (name, path)
    assert Classifier(model, hierarchy=0.9).sure(own) is None
    assert Classifier(model).hierarchy == 0.5
    with pytest.raises(CfgError, match="has no tree to go down, wanted no hierarchy"):
        Classifier(model_of(CFG), hierarchy=0.5)
    assert Classifier(model_of(CFG)).sure(own) is None


def test_pictures_are_fitted_as_by_the_program_that_trained_the_network(tmp_path: Path) -> None:
    """A word of the fork in the cfg, or its version in the weights file, means its centre crop."""
    assert Classifier(model_of(CFG)).runner.resize == "letterbox"
    assert Classifier(model_of(CFG.replace("leaky", "mish"))).runner.resize == "crop"
    (tmp_path / "a.cfg").write_text(CFG)
    model = model_of(CFG)
    for revision, resize in ((0, "letterbox"), (5, "crop")):
        replace(model, header=Header(revision=revision)).write_weights(tmp_path / "a.weights")
        assert Classifier(open_model(tmp_path / "a.cfg", tmp_path / "a.weights")).runner.resize == resize


def test_a_detector_is_no_classifier() -> None:
    yolo = "[convolutional]\nfilters=7\nsize=1\nactivation=linear\n[yolo]\nclasses=2\nnum=1\n"
    with pytest.raises(CfgError, match="it detects: use detect"):
        Classifier(model_of(CFG[: CFG.index("[avgpool]")] + yolo))
