"""What the steps are that a network of single bits is run by; what they give is tested in tests/engines."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import DETECTOR, network_of

from lookonce import zoo
from lookonce.binary import has_single_bits, plan
from lookonce.binary.steps import Convolve, Invert, Pack, Pool, Real
from lookonce.errors import EngineError
from lookonce.model import Model, open_network


def test_only_signs_flow_where_only_signs_are_wanted() -> None:
    """Of 10 layers of single bits of yolov3-tiny-xnor only those before a head and the one read twice make floats."""
    found = plan(Model.random(open_network("yolov3-tiny-xnor")))
    floats = [
        step.layer
        for step in found.steps
        if isinstance(step, Convolve) and found.buffers[step.targets[0]].kind is np.float32
    ]
    assert floats == [12, 20, 28]
    assert sum(isinstance(step, Convolve) for step in found.steps) == 10
    assert [step.layer for step in found.steps if isinstance(step, Pack)] == [1, 12, 12]
    assert [step.layer for step in found.steps if isinstance(step, Pool)] == [4, 7, 10, 13, 16]
    assert [step.layers for step in found.steps if isinstance(step, Real)] == [(0, 1), (21, 29)]


def test_shortcuts_are_added_where_results_are_written() -> None:
    found = plan(Model.random(open_network("resnet18-xnor")))
    added = [step.layer for step in found.steps if isinstance(step, Convolve) and step.added]
    shortcuts = [node.index for node in open_network("resnet18-xnor").nodes if node.layer.section == "shortcut"]
    assert added == [index - 1 for index in shortcuts][:-1]              # the last is read by real layers alone


NET = "[net]\nwidth=16\nheight=12\nchannels=3\n"
REAL = "[convolutional]\nfilters=8\nsize=3\npad=1\nactivation=relu\n"
SINGLE = "[convolutional]\nxnor=1\nfilters=64\nsize=3\npad=1\nactivation=linear\n"
NORM, POOL = "[batchnorm]\n", "[maxpool]\nsize=2\nstride=2\n"
STEPS = {
    # A batch norm before a sign is part of the packing, or of the thresholds of the layer before it.
    NORM + SINGLE + NORM + SINGLE: ["Real", "Pack", "Convolve", "Convolve", "Real"],
    # The largest sign is taken of what comes after a batch norm, also of what falls with it.
    SINGLE + POOL + NORM + SINGLE: ["Real", "Pack", "Convolve", "Pool", "Convolve", "Real"],
    # A pool of floats belongs to the real layers that make them.
    POOL + NORM + SINGLE: ["Real", "Pack", "Convolve", "Real"],
    # A real layer in the middle is run by the engine of floats.
    SINGLE + REAL + SINGLE: ["Real", "Pack", "Convolve", "Real", "Pack", "Convolve", "Real"],
    # Layers of more bits are real.
    SINGLE.replace("xnor=1", "xnor=1\ninput_bits=2") + SINGLE: ["Real", "Pack", "Convolve", "Real"],
    SINGLE.replace("xnor=1", "binary=1") + SINGLE: ["Real", "Pack", "Convolve", "Real"],
    SINGLE.replace("xnor=1", "xnor=1\ngroups=2") + SINGLE: ["Real", "Pack", "Convolve", "Real"],
    # K is made of magnitudes that packing sums on its way; two layers that read the same share them.
    SINGLE.replace("xnor=1", "xnor=1\ninput_scale=1") + "[route]\nlayers=-2\n" + NORM
    + SINGLE.replace("xnor=1", "xnor=1\ninput_scale=1") + "[shortcut]\nfrom=-4\nactivation=linear\n" + NORM + SINGLE:
        ["Real", "Pack", "Pack", "InputScale", "Convolve", "InputScale", "Convolve", "Pack", "Convolve", "Real"],
}  # fmt: skip


@pytest.mark.parametrize("middle", STEPS)
def test_the_steps_are_as_few_as_can_be(middle: str) -> None:
    found = plan(Model.random(network_of(NET + REAL + middle + REAL)))
    assert [type(step).__name__ for step in found.steps] == STEPS[middle]


def test_every_buffer_is_filled_before_it_is_read_and_by_one_step() -> None:
    for name in zoo.networks():
        network = open_network(name) if name.endswith("-xnor") else None
        if network is None:
            continue
        found = plan(Model.random(network))
        filled: set[int] = set()
        for step in found.steps:
            assert set(step.sources) <= filled
            assert filled.isdisjoint(step.targets)
            filled.update(step.targets)
        assert filled == set(range(len(found.buffers)))


def test_bits_of_falling_channels_are_inverted_where_a_pool_follows_and_only_there() -> None:
    """The second filter's norm falls: its pool wants the smallest, which is the largest of inverted bits."""
    text = NET + REAL + SINGLE.replace("filters=64", "filters=2")
    models = [Model.random(network_of(text + rest + SINGLE + REAL)) for rest in (POOL + NORM, NORM + POOL)]
    masks = []
    for model, norm in zip(models, (3, 2), strict=True):
        model.weights[norm]["scales"][1] = -1
        last = [step for step in plan(model).steps if isinstance(step, Convolve)][-1]
        weights = model.weights[last.layer]["weights"] > 0                              # (64, 2, 3, 3)
        bits = np.unpackbits(last.convolution.weights.view(np.uint8), axis=-1, bitorder="little")[..., :2]
        masks.append((bits != np.moveaxis(weights, 1, -1)).any(axis=(0, 1, 2)).tolist())
    assert masks == [[False, True], [False, False]]
    twice = Model.random(network_of(text + POOL + NORM + POOL + SINGLE + REAL))
    twice.weights[3]["scales"][1] = -1
    assert sum(isinstance(step, Invert) for step in plan(twice).steps) == 1


def test_a_network_without_single_bits_has_no_plan() -> None:
    network = network_of(DETECTOR)
    assert not has_single_bits(network)
    with pytest.raises(EngineError, match=r"^test.cfg: has no layer .*; wanted engine openvino, onnxruntime or auto$"):
        plan(Model.random(network))


def test_every_xnor_network_of_the_zoo_has_a_plan() -> None:
    names = [name for name in zoo.networks() if name.endswith("-xnor")]
    assert len(names) >= 4
    for name in names:
        found = plan(Model.random(open_network(name)))
        assert isinstance(found.steps[-1], Real)
