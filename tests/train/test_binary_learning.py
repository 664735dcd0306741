"""Networks of few bits learn through the Learner as any other, and what they keep is real."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import network_of

from lookonce.data.batches import Batch, Plan
from lookonce.engines import open_engine
from lookonce.graph import build
from lookonce.layers.convolution import bits_of
from lookonce.model import Model
from lookonce.train.learner import Learner
from lookonce.truth import Targets

PICTURES, CLASSES, SIDE = 16, 4, 12
NET = f"[net]\nwidth={SIDE}\nheight={SIDE}\nchannels=3\nbatch={PICTURES}\nsubdivisions=1\n"
SGD = "learning_rate=.1\nmomentum=.9\ndecay=.0001\n"
ADAM = "learning_rate=.01\nadam=1\ndecay=0\n"
FIRST = "[convolutional]\nfilters=16\nsize=3\npad=1\nbatch_normalize=1\nactivation=relu\n"
POOL = "[maxpool]\nsize=2\nstride=2\n"
LAST = "[connected]\noutput=4\nactivation=linear\n[softmax]\n"


def plain_blocks(options: str, activation: str = "relu") -> str:
    """C-B-A-P: convolution, batch norm, activation, pool; twice, and a connected layer."""
    bits = options.replace(" ", "\n")
    conv = f"[convolutional]\nfilters=32\nsize=3\npad=1\nbatch_normalize=1\n{bits}\nactivation={activation}\n{POOL}"
    connected = f"[connected]\noutput=32\nbatch_normalize=1\n{bits}\nactivation={activation}\n"
    return FIRST + conv + conv + connected + LAST


def sign_blocks(options: str) -> str:
    """B-A-C-P: batch norm, sign, convolution, pool; twice, and a connected layer."""
    bits = options.replace(" ", "\n")
    conv = f"[batchnorm]\n[convolutional]\nfilters=32\nsize=3\npad=1\n{bits}\nactivation=linear\n{POOL}"
    connected = f"[batchnorm]\n[connected]\noutput=32\nbatch_normalize=1\n{bits}\nactivation=relu\n"
    return FIRST + conv + conv + connected + LAST


NETWORKS = {
    "bwn": NET + SGD + plain_blocks("binary=1"),
    "bwn-thesis": NET + ADAM + plain_blocks("binary=1 gradient=thesis"),
    "bwn-allenai": NET + SGD + plain_blocks("binary=1 gradient=allenai zero_mean=1 clip=1"),
    "bwn-alpha": NET + SGD + plain_blocks("binary=1 alpha=learned"),
    "bc": NET + ADAM + plain_blocks("binary=1 alpha=none clip=1"),
    "xnor": NET + "letter_box=0\n" + ADAM + sign_blocks("xnor=1 gradient=thesis input_scale=1"),
    "xnor-darknet": NET + ADAM + sign_blocks("xnor=1"),
    "xnor-cbap": NET + ADAM + plain_blocks("xnor=1", "leaky"),
    "xnor-binary-gradient": NET + "letter_box=0\n" + ADAM + sign_blocks("xnor=1 binary_gradient=1"),
    "bnn": NET + ADAM + plain_blocks("xnor=1 alpha=none clip=1", "hardtan"),
    "2-bits": NET + "letter_box=0\n" + ADAM + sign_blocks("xnor=1 weight_bits=2 input_bits=2"),
}


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Networks of this size are slower with more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def pictures() -> Batch:
    """Sixteen pictures of noise with classes drawn by chance: nothing to understand, all to be learnt by heart."""
    rng = np.random.default_rng(0)
    images = rng.random((PICTURES, 3, SIDE, SIDE), np.float32)
    targets = Targets.of([(np.full((1, 4), np.nan), np.array([number % CLASSES])) for number in range(PICTURES)])
    return Batch(images, targets, Plan(0, tuple(range(PICTURES)), SIDE, SIDE))


def start(text: str) -> Learner:
    return Learner(Model.random(network_of(text), seed=1))


def at_rest(learner: Learner, batch: Batch) -> Model:
    """The model with the statistics of this batch: sixty steps of a hundredth each are too few to come near them."""
    with torch.no_grad():
        learner.network(torch.from_numpy(batch.pictures))
        for each in learner.network.statistics:
            each.rolling_mean.copy_(each.mean)
            each.rolling_variance.copy_(each.variance)
    return learner.network.to_model(learner.model)


@pytest.mark.parametrize("name", NETWORKS)
def test_it_learns_sixteen_pictures_by_heart(name: str) -> None:
    """From about ln 4 = 1.39 down. An engine then gives each picture its class, from the real weights of the model."""
    learner, batch = start(NETWORKS[name]), pictures()
    losses = [learner.step([batch]).loss for _ in range(60)]
    assert losses[0] > 1
    assert max(losses[-5:]) < 0.1, losses[::6]
    found = open_engine(build(at_rest(learner, batch)), "onnxruntime")(batch.pictures)[0]
    assert (found.reshape(PICTURES, CLASSES).argmax(1) == batch.targets.label).all()


@pytest.mark.parametrize(
    "name", ["bwn", "bwn-thesis", "bwn-allenai", "bc", "xnor", "xnor-binary-gradient", "bnn", "2-bits"]
)
def test_the_bits_themselves_learn(name: str) -> None:
    """With the real layers held as they were drawn. The signs of some weights have turned round."""
    text = NETWORKS[name].replace(FIRST, FIRST + "learning_rate=0\n")
    text = text.replace(LAST, LAST.replace("output=4", "output=4\nlearning_rate=0"))
    learner, batch = start(text), pictures()
    before = learner.to_model()
    losses = [learner.step([batch]).loss for _ in range(60)]
    assert max(losses[-5:]) < 0.5 * losses[0], losses[::6]
    for node, old, new in zip(before.network.nodes, before.weights, learner.to_model().weights, strict=True):
        if "weights" in old:
            turned = np.mean((old["weights"] > 0) != (new["weights"] > 0))
            assert (turned > 0.005) == (bits_of(node.layer) is not None), f"{node}: {turned}"


# ---------------------------------------------------------------------- what is kept
@pytest.mark.parametrize("name", ["bwn", "bwn-alpha", "xnor", "2-bits"])
def test_files_keep_the_real_weights_bit_for_bit(name: str, tmp_path: Path) -> None:
    """So that learning may go on, as Darknet's files have it. They are as long as those of a network of real layers."""
    learner, batch = start(NETWORKS[name]), pictures()
    for _ in range(3):
        learner.step([batch])
    model = learner.to_model()
    model.write_weights(tmp_path / "bits.weights")
    read = Model.read(model.network, tmp_path / "bits.weights")
    for node, old, new in zip(model.network.nodes, model.weights, read.weights, strict=True):
        assert old.keys() == new.keys()
        assert all(np.array_equal(old[key], new[key]) for key in old)
        if bits_of(node.layer):
            assert len(np.unique(np.abs(new["weights"]))) > 0.9 * new["weights"].size
    if name != "bwn-alpha":
        real = re.sub(r"(binary|xnor|gradient|alpha|input_scale|weight_bits|input_bits)=\w+\n", "", NETWORKS[name])
        assert [each.shape for each in model.network.entries()] == [each.shape for each in network_of(real).entries()]


@pytest.mark.parametrize("name", ["bwn-allenai", "bwn-alpha", "xnor-binary-gradient"])
def test_a_learner_goes_on_where_another_stopped_bit_for_bit(name: str) -> None:
    one, batch = start(NETWORKS[name]), pictures()
    for _ in range(3):
        one.step([batch])
    other = start(NETWORKS[name])
    other.load(*one.state())
    assert one.step([batch]).terms == other.step([batch]).terms
    state = other.network.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in one.network.state_dict().items())


# ---------------------------------------------------------------------- what is done to real weights after each update
def test_real_weights_are_held_within_1_where_the_cfg_clips() -> None:
    """BinaryConnect: beyond 1 a weight would take ever longer to turn. Only of layers that say so."""
    learner, batch = start(NETWORKS["bc"].replace("learning_rate=.01", "learning_rate=.6")), pictures()
    for _ in range(5):
        learner.step([batch])
    for node, arrays in zip(learner.model.network.nodes, learner.to_model().weights, strict=True):
        if "weights" in arrays:
            assert (np.abs(arrays["weights"]).max() <= 1) == (bits_of(node.layer) is not None), str(node)


def test_real_weights_lose_their_mean_over_the_input_channels_and_are_clipped_then() -> None:
    """As allenai's: of each filter and place in its window. With a clip of 1 far away the mean stays 0."""
    learner, batch = start(NETWORKS["bwn-allenai"]), pictures()
    learner.step([batch])
    for node, arrays in zip(learner.model.network.nodes, learner.to_model().weights, strict=True):
        if bits_of(node.layer):
            np.testing.assert_allclose(arrays["weights"].mean(1), 0, atol=1e-7)
            assert np.abs(arrays["weights"]).max() < 1
        elif "weights" in arrays:
            assert np.abs(arrays["weights"].mean(1)).max() > 1e-3


def test_frozen_layers_keep_their_mean() -> None:
    text = NETWORKS["bwn-allenai"].replace("zero_mean=1", "zero_mean=1\nlearning_rate=0")
    learner, batch = start(text), pictures()
    before = learner.to_model()
    learner.step([batch])
    for node, old, new in zip(before.network.nodes, before.weights, learner.to_model().weights, strict=True):
        if bits_of(node.layer):
            assert np.array_equal(old["weights"], new["weights"])
