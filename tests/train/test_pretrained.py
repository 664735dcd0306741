from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import DETECTOR, model_of, network_of

from lookonce import zoo
from lookonce.darknet.weights import Header
from lookonce.errors import WeightsError
from lookonce.model import Model, onefile, open_network
from lookonce.network import Network
from lookonce.train.adapt import with_classes
from lookonce.train.pretrained import described, start_from

BACKBONE = """[net]
width=64
height=64
channels=3
[convolutional]
filters=8
size=3
stride=4
pad=1
batch_normalize=1
activation=leaky
[maxpool]
size=2
stride=2
[convolutional]
filters=6
size=3
pad=1
activation=leaky
"""
CLASSIFIER = BACKBONE + "[convolutional]\nfilters=10\nsize=1\nactivation=linear\n[avgpool]\n[softmax]\n"
TWO_HEADS = BACKBONE + """[convolutional]
filters=14
size=1
activation=linear
[yolo]
classes=2
num=4
mask=2,3
anchors=4,4,8,8,16,16,30,30
[route]
layers=2
[upsample]
stride=2
[convolutional]
filters=5
size=3
pad=1
activation=leaky
[convolutional]
filters=14
size=1
activation=linear
[yolo]
classes=2
num=4
mask=0,1
anchors=4,4,8,8,16,16,30,30
"""


def same(model: Model, other: Model) -> list[bool]:
    """For each layer with arrays whether both models have the same in it."""
    return [
        all(np.array_equal(array, theirs.get(name)) for name, array in ours.items())
        for ours, theirs in zip(model.weights, other.weights, strict=False)
        if ours
    ]


@pytest.fixture
def given(tmp_path: Path) -> Model:
    """The two-headed network with 2 classes, its weights in two.weights and two.safetensors."""
    model = model_of(TWO_HEADS, seed=5)
    model.write_weights(tmp_path / "two.weights")
    onefile.write(tmp_path / "two.safetensors", Model(model.network, model.weights, trained=10, source="x"))
    return model


@pytest.mark.parametrize("file", ["two.weights", "two.safetensors"])
def test_weights_of_the_same_network_are_taken_whole(given: Model, tmp_path: Path, file: str) -> None:
    model = start_from(given.network, tmp_path / file)
    assert same(model, given) == [True] * 5
    assert model.trained == 10
    assert model.header.seen == 0
    assert described(model) == f"10 of 10 layers start with the weights of {tmp_path / file}"


@pytest.mark.parametrize("file", ["two.weights", "two.safetensors"])
def test_with_other_classes_all_but_the_heads_convolutions_are_taken(given: Model, tmp_path: Path, file: str) -> None:
    """Of ten layers two do not fit; the others before and after them do. A head has no arrays, but other classes."""
    network = Network.build(with_classes(given.network, 7))
    model = start_from(network, tmp_path / file)
    assert same(model, given) == [True, True, False, True, False]
    assert model.network.classes == 7
    assert model.trained == 8
    assert described(model).startswith("8 of 10 layers start with the weights of ")
    assert described(model).endswith(", the others at random")


@pytest.mark.parametrize("keep", [False, True])
def test_pictures_seen_before_count_only_if_wanted(given: Model, tmp_path: Path, keep: bool) -> None:
    seen = Model(given.network, given.weights, header=Header(seen=640))
    seen.write_weights(tmp_path / "seen.weights")
    assert start_from(given.network, tmp_path / "seen.weights", keep_seen=keep).header.seen == (640 if keep else 0)


def test_what_does_not_fit_starts_as_random_as_the_seed_says(given: Model, tmp_path: Path) -> None:
    network = Network.build(with_classes(given.network, 7))
    one, other = (start_from(network, tmp_path / "two.weights", seed=seed) for seed in (1, 2))
    assert same(one, Model.random(network, seed=1)) == [False, False, True, False, True]
    assert same(one, other) == [True, True, False, True, False]


def test_a_whole_file_of_80_classes_starts_yolov3_tiny_of_3(tmp_path: Path) -> None:
    """13 convolutions, of which the two before the heads are others: 255 and 24 filters."""
    zoo_network = open_network("yolov3-tiny")
    given = Model.random(zoo_network, seed=3)
    given.write_weights(tmp_path / "yolov3-tiny.weights")
    model = start_from(Network.build(with_classes(zoo_network, 3)), tmp_path / "yolov3-tiny.weights")
    assert same(model, given) == [index not in (9, 12) for index in range(13)]
    assert model.trained == len(zoo_network.nodes) - 2


def test_a_classifier_starts_a_detector_that_begins_alike(tmp_path: Path) -> None:
    """darknet19's first 18 convolutions are those of yolov2; its length tells what it is."""
    given = Model.random(open_network("darknet19"), seed=3)
    given.write_weights(tmp_path / "any.weights")
    model = start_from(open_network("yolov2-voc"), tmp_path / "any.weights")
    assert model.trained == 23
    assert same(model, given)[:19] == [True] * 18 + [False]


def test_a_cut_file_and_a_cut_of_a_whole_file_are_the_same(tmp_path: Path) -> None:
    """Files that Darknet calls .conv.15 hold the first 15 layers, of which 9 are convolutions."""
    given = Model.random(open_network("yolov3-tiny"), seed=3)
    given.write_weights(tmp_path / "whole.weights")
    given.write_weights(tmp_path / "yolov3-tiny.conv.15", layers=15)
    network = Network.build(with_classes(given.network, 3))
    models = [start_from(network, f"{tmp_path}/{name}") for name in ("yolov3-tiny.conv.15", "whole.weights:15")]
    assert all(same(model, given) == [True] * 9 + [False] * 4 for model in models)
    assert [model.trained for model in models] == [15, 15]
    assert start_from(network, f"{tmp_path}/whole.weights:2").trained == 2


def test_a_file_of_an_unknown_network_is_cut_as_told(given: Model, tmp_path: Path) -> None:
    """Longer than this network with any classes: nothing says what it is, but its front is taken."""
    (tmp_path / "own.weights").write_bytes((tmp_path / "two.weights").read_bytes() + bytes(4 * 1001))
    with pytest.raises(WeightsError, match=r"own.weights: [\d,]+ bytes, as no weights of test.cfg with any classes"):
        start_from(given.network, tmp_path / "own.weights")
    model = start_from(given.network, f"{tmp_path}/own.weights:3")
    assert same(model, given) == [True, True, False, False, False]
    assert model.trained == 3


def test_a_cut_beyond_what_is_there_is_refused(given: Model, tmp_path: Path) -> None:
    for file in ("two.weights", "two.safetensors"):
        with pytest.raises(WeightsError, match=rf"{file}:11: it has 10 layers; wanted a cut of 1 to 10"):
            start_from(given.network, f"{tmp_path}/{file}:11")


def test_what_fits_nowhere_is_refused(tmp_path: Path) -> None:
    other = model_of(CLASSIFIER.replace("filters=8", "filters=9"))
    onefile.write(tmp_path / "other.safetensors", Model(other.network, other.weights, trained=6))
    with pytest.raises(WeightsError, match=r"other.safetensors: its weights, of .*, fit no layer of test.cfg; wanted"):
        start_from(network_of(TWO_HEADS), tmp_path / "other.safetensors")


def test_random_layers_of_a_model_are_none_to_start_from(tmp_path: Path) -> None:
    """A file may say that only its first layers were trained."""
    given = model_of(TWO_HEADS)
    onefile.write(tmp_path / "own.safetensors", Model(given.network, given.weights, trained=3))
    assert start_from(given.network, tmp_path / "own.safetensors").trained == 3


def test_names_of_the_zoo_are_their_pulled_files(own_cache: Path) -> None:
    network = open_network("yolov3-tiny")
    with pytest.raises(WeightsError, match=r"yolov3-tiny: its weights are not .*`lookonce model pull yolov3-tiny`"):
        start_from(network, "yolov3-tiny")
    given = Model.random(network, seed=3)
    cut = next(name for name, file in zoo.published_files().items() if file.network == "yolov4-tiny" and file.layers)
    given.write_weights(own_cache / "yolov3-tiny.weights")
    Model.random(open_network("yolov4-tiny"), seed=4).write_weights(own_cache / cut, layers=29)
    assert start_from(network, "yolov3-tiny").trained == len(network.nodes)
    assert start_from(network, "yolov3-tiny:4").trained == 4
    small = Network.build(with_classes(open_network("yolov4-tiny"), 5))
    assert start_from(small, cut).trained == 29


def test_a_cut_that_was_not_published_is_told_how_to_be_had() -> None:
    """Not by the name of another network's cut that reads much alike."""
    network = open_network("yolov3-tiny")
    with pytest.raises(WeightsError, match=r"`yolov3-tiny:15` takes the first 15 .*`lookonce model cut yolov3-tiny 15"):
        start_from(network, "yolov3-tiny.conv.15")


def test_random_is_random_and_a_missing_file_is_missing() -> None:
    network = network_of(DETECTOR)
    model = start_from(network, "random", seed=4)
    assert same(model, Model.random(network, 4)) == [True, True]
    assert described(model) == "all layers start at random"
    with pytest.raises(WeightsError, match=r"^nothing.weights: no such file$"):
        start_from(network, "nothing.weights")
    for mistyped, meant in (("yolov3-tinny", "yolov3-tiny"), ("darknet53.conv.47:9", r"darknet53\.conv\.74")):
        with pytest.raises(WeightsError, match=rf"neither a file nor one of the zoo's, did you mean {meant}\?$"):
            start_from(network, mistyped)
