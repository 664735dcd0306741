"""Layers of a network on the kernel, against the same layers as a graph of floats on ONNX Runtime."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import model_of, run_layers

from lookonce.binary import prepare
from lookonce.errors import EngineError

HEAD = "[net]\nwidth=13\nheight=11\nchannels=70\n"
LAYERS = {
    "as Darknet has it": "[convolutional]\nbatch_normalize=1\nfilters=30\nsize=3\npad=1\nxnor=1\nactivation=leaky\n",
    "without batch norm": "[convolutional]\nfilters=30\nsize=3\nxnor=1\nactivation=relu\n",
    "strides, dilated": (
        "[convolutional]\nfilters=8\nsize=3\npad=1\nstride_x=2\nstride_y=3\ndilation=2\nxnor=1\nactivation=linear\n"
    ),
    "no alpha": "[convolutional]\nbatch_normalize=1\nfilters=9\nsize=1\nxnor=1\nalpha=none\nactivation=linear\n",
    "alpha learned": "[convolutional]\nfilters=9\nsize=1\nxnor=1\nalpha=learned\nactivation=linear\n",
    "connected": "[connected]\nbatch_normalize=1\noutput=17\nxnor=1\nactivation=leaky\n",
}


@pytest.mark.parametrize("compat", [False, True])
@pytest.mark.parametrize("name", LAYERS)
def test_a_layer_gives_what_the_graph_gives(name: str, compat: bool) -> None:
    model = model_of(HEAD + LAYERS[name])
    x = np.random.default_rng(0).standard_normal((2, 70, 11, 13)).astype(np.float32)
    want = run_layers(model, x, compat=compat)[0].reshape(2, *model.network.nodes[0].shape)
    layer = prepare(model.network.nodes[0], model.weights[0], compat=compat)
    found = layer.reals(np.ascontiguousarray(x.transpose(0, 2, 3, 1))).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(found, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ("[convolutional]\nfilters=4\nactivation=leaky\n", "its inputs are real; wanted xnor=1"),
        ("[convolutional]\nfilters=4\nbinary=1\nactivation=leaky\n", "its inputs are real; wanted xnor=1"),
        ("[maxpool]\nsize=2\n", "its inputs are real"),
        ("[convolutional]\nfilters=4\nxnor=1\ninput_bits=2\nactivation=leaky\n", "weight_bits=1 and input_bits=2"),
        ("[convolutional]\nfilters=4\ngroups=2\nxnor=1\nactivation=leaky\n", "groups=2, wanted 1"),
        ("[convolutional]\nfilters=4\nxnor=1\nactivation=mish\n", "activation=mish, wanted linear, leaky or relu"),
    ],
)
def test_what_the_kernel_does_not_do_is_refused_in_a_line(section: str, says: str) -> None:
    model = model_of(HEAD + section)
    with pytest.raises(EngineError, match=says) as caught:
        prepare(model.network.nodes[0], model.weights[0])
    assert str(caught.value).startswith("layer 0 [")
    assert "\n" not in str(caught.value)


def test_batch_norm_that_is_not_finite_is_refused() -> None:
    model = model_of(HEAD + LAYERS["as Darknet has it"])
    model.weights[0]["scales"][3] = np.inf
    with pytest.raises(EngineError, match=r"layer 0 \[convolutional\]: scale is not finite for filter 3"):
        prepare(model.network.nodes[0], model.weights[0])
