"""Networks of few bits: what the graph computes, torch computes, layer by layer, and what the zoo's cfgs declare."""

from __future__ import annotations

import importlib
import sys
from collections import Counter

import numpy as np
import pytest
import torch
from conftest import ROOT, model_of, network_of, run_layers

from lookonce import zoo
from lookonce.errors import CfgError
from lookonce.layers.binary import ALPHAS, GRADIENTS
from lookonce.layers.convolution import Connected, bits_of
from lookonce.model import Model, open_network
from lookonce.network import Network
from lookonce.nn import TorchNetwork
from lookonce.nn.batchnorm import roll
from lookonce.nn.binary import in_few_bits
from lookonce.nn.ops import TorchOps

TOLERANCE = 1e-4                                    # of the largest value of a layer
sys.path.insert(0, str(ROOT / "recipes"))
RECIPES = {name: importlib.import_module(name) for name in ("binary_bccd", "binary_cifar")}
CIFAR = RECIPES["binary_cifar"]


def assert_layers_agree(model: Model, x: np.ndarray, *, compat: bool = False) -> None:
    """Each layer, of torch and of the graph, given what the graph's layers before it put out.

    A whole network would not do: what is within rounding of 0 may become +1 here and -1 there.
    """
    wanted = run_layers(model, x, compat=compat)
    network = TorchNetwork(model, compat=compat).eval()
    ops = TorchOps(compat=network.compat)
    for node in model.network.nodes:
        xs = [torch.from_numpy(x if source < 0 else wanted[source].copy()) for source in node.sources]
        ops.new = None
        with torch.no_grad():
            found = node.forward(ops, xs, in_few_bits(node, network.arrays(node), network.compat)).numpy()
        output = wanted[node.index]
        assert np.isfinite(output).all()
        assert np.abs(found - output).max() <= TOLERANCE * np.abs(output).max(), f"{node} of\n{model.network.cfg.text}"


def learnt(model: Model, x: np.ndarray, seed: int) -> Model:
    """The model after three steps of plain descent, away from what its layers put out now."""
    torch.manual_seed(seed)
    network = TorchNetwork(model).train()
    for _ in range(3):
        outputs = network(torch.from_numpy(x), range(len(network.network.nodes)))
        torch.stack([(output * torch.randn_like(output)).mean() for output in outputs.values()]).sum().backward()
        with torch.no_grad():
            for tensor in network.parameters():
                if tensor.grad is not None:
                    tensor -= 0.05 * tensor.grad / (tensor.grad.norm() + 1e-3)
                    tensor.grad = None
        roll(network.statistics)
    return network.to_model(model)


def one_of(rng: np.random.Generator, *values: object) -> str:
    return str(values[int(rng.integers(len(values)))])


def drawn_options(rng: np.random.Generator) -> str:
    """What a layer of few bits may say."""
    lines = [one_of(rng, "binary=1", "xnor=1", "xnor=1")]
    lines += [f"alpha={one_of(rng, *ALPHAS)}", f"gradient={one_of(rng, *GRADIENTS)}"]
    lines += [one_of(rng, "", "", f"weight_bits={rng.integers(1, 9)}"), one_of(rng, "", "", "binary_gradient=1")]
    if lines[0] == "xnor=1":
        lines.append(one_of(rng, "", "input_scale=1", f"input_bits={rng.integers(1, 9)}"))
    lines += [one_of(rng, "", "batch_normalize=1"), f"activation={one_of(rng, 'linear', 'leaky', 'relu', 'hardtan')}"]
    return "\n".join(line for line in lines if line) + "\n"


def drawn_bits(seed: int) -> Network:
    """A small network of layers of few bits, among batch norms, pools and shortcuts."""
    rng = np.random.default_rng(seed)
    text = f"[net]\nwidth={rng.integers(6, 12)}\nheight={rng.integers(6, 12)}\nchannels=3\n"
    text += one_of(rng, "", "letter_box=1\n") + "[convolutional]\nfilters=8\nsize=3\npad=1\nactivation=leaky\n"
    while text.count("[") < 9:
        conv = f"[convolutional]\nfilters={one_of(rng, 8, 12)}\nsize={one_of(rng, 1, 2, 3, 5)}\n"
        conv += one_of(rng, "pad=1\n", "pad=1\n", "padding=1\n", "") + one_of(rng, "", "", "stride=2\n", "dilation=2\n")
        conv += one_of(rng, "", "", "groups=2\n", "groups=4\n") + drawn_options(rng)
        connected = f"[connected]\noutput={one_of(rng, 16, 30)}\n{drawn_options(rng)}"
        other = one_of(rng, "[batchnorm]\n", "[maxpool]\nsize=2\nstride=2\n", "[shortcut]\nfrom=-2\n", connected)
        longer = text + one_of(rng, conv, conv, other)
        try:
            network_of(longer)
        except CfgError:
            continue
        text = longer
    return network_of(text)


@pytest.mark.parametrize("block", range(4))
def test_torch_computes_what_the_graph_computes_before_and_after_learning(block: int) -> None:
    for seed in range(10 * block, 10 * block + 10):
        network = drawn_bits(seed)
        model = model_of(network.cfg.text, seed)
        x = np.random.default_rng(seed).normal(0, 1, (2, *network.input)).astype(np.float32)
        assert_layers_agree(model, x)
        after = learnt(model, x, seed)
        assert any(
            not np.array_equal(after.weights[node.index]["weights"], model.weights[node.index]["weights"])
            for node in network.nodes
            if bits_of(node.layer)
        )
        assert_layers_agree(after, x)


def test_the_drawn_networks_have_every_option() -> None:
    """Each at least five times."""
    found: Counter[str] = Counter()
    for seed in range(40):
        for node in drawn_bits(seed).nodes:
            bits = bits_of(node.layer)
            if bits is not None:
                found.update([node.layer.section, f"alpha={bits.alpha}", f"gradient={bits.gradient}"])
                is_binary = bits_of(node.layer, compat=True) is None
                flags = is_binary, bits.weights > 1, bits.inputs > 1, bits.input_scale, bits.binary_gradient
                found.update(f"flag {number} {flag}" for number, flag in enumerate(flags))
    wanted = {"convolutional", "connected", *(f"alpha={word}" for word in ALPHAS)}
    wanted |= {f"gradient={word}" for word in GRADIENTS}
    wanted |= {f"flag {number} {flag}" for number in range(5) for flag in (True, False)}
    assert {key: found[key] for key in wanted if found[key] < 5} == {}


@pytest.mark.parametrize("seed", range(6))
def test_as_darknets_cpu_runs_them_binary_weights_are_real(seed: int) -> None:
    network = drawn_bits(seed)
    x = np.random.default_rng(seed).normal(0, 1, (2, *network.input)).astype(np.float32)
    assert_layers_agree(model_of(network.cfg.text, seed), x, compat=True)


def test_with_compat_binary_is_ignored_while_learning_too() -> None:
    """Output and gradients are those of the same layer without binary=1."""
    layer = "[net]\nwidth=5\nheight=4\nchannels=2\n[convolutional]\nfilters=3\nsize=3\npad=1\nactivation=leaky\n"
    x, found = torch.rand(2, 2, 4, 5), []
    for text in (layer + "binary=1\ngradient=thesis\n", layer):
        network = TorchNetwork(model_of(text), compat=True).train()
        output = network(x)[0]
        output.square().sum().backward()
        found.append([output, *(value.grad for value in network.parameters())])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))


def small_xnor(name: str) -> Network:
    """A network of the zoo at few pixels, all layers as they are, but that a [connected] one of 4,096 has 64."""
    network = open_network(name)
    wide = [node for node in network.nodes if isinstance(node.layer, Connected) and node.layer.output == 4096]
    side = 99 if wide else 64
    changes = {node.index + 1: {"output": 64} for node in wide}
    return Network.build(network.cfg.with_changes({0: {"width": side, "height": side}, **changes}))


@pytest.mark.parametrize("name", [name for name in zoo.networks() if "xnor" in name])
def test_torch_computes_what_the_graph_computes_of_the_zoos_xnor_networks(name: str) -> None:
    model = model_of(small_xnor(name).cfg.text)
    assert_layers_agree(model, np.random.default_rng(0).random((1, *model.network.input), np.float32))


@pytest.mark.parametrize("name", CIFAR.VARIANTS)
def test_torch_computes_what_the_graph_computes_of_the_recipes_for_cifar(name: str) -> None:
    model = model_of(CIFAR.cfg(CIFAR.VARIANTS[name], width=16, size=16))
    assert_layers_agree(model, np.random.default_rng(0).random((2, 3, 16, 16), np.float32))


def test_the_recipes_for_cifar_are_one_network_in_many_ways() -> None:
    """The layers of BinaryNet for CIFAR-10: 2 x 128, 2 x 256, 2 x 512, 2 x 1024, 10; the first and the last real."""
    for name, variant in CIFAR.VARIANTS.items():
        network = network_of(CIFAR.cfg(variant, width=128, size=32))
        own = [node for node in network.nodes if node.layer.section in ("convolutional", "connected")]
        has_bits = [bits_of(node.layer) is not None for node in own]
        if name == "bireal":
            wide = [128, 128, 128, 256, 256, 256, 512, 512, 512, 10]
            assert has_bits == [False, True, True, False, True, True, False, True, True, False]
        else:
            wide = [128, 128, 256, 256, 512, 512, 1024, 1024, 10]
            assert has_bits == ([False] * 9 if name == "real" else [False, *[True] * 7, False])
        assert [node.shape.channels for node in own] == wide
        assert network.input == (3, 32, 32)


def test_in_order_b_a_c_p_a_pool_follows_its_convolution_and_else_its_activation() -> None:
    """What stands before each of the three pools: thesis 4.4.3 holds that C-B-A-P loses what the pool made alike."""
    for name, variant in CIFAR.VARIANTS.items():
        nodes = network_of(CIFAR.cfg(variant, width=16, size=24)).nodes
        pools = [node for node in nodes if node.layer.section == "maxpool"]
        before = {nodes[node.sources[0]].layer.section for node in pools}
        wanted = {"bnn": "activation", "xnor-k-cbap": "batchnorm", "bireal": "shortcut"}
        assert before == {wanted.get(name, "convolutional")}


def test_the_detectors_of_the_recipe_are_one_network_with_bits_and_without() -> None:
    """`twin` has the same layers, shapes and weights as `bits`; `slim` an eighth of the operations."""
    bits, twin, slim = (network_of(RECIPES["binary_bccd"].NETWORKS[name]()) for name in ("bits", "twin", "slim"))
    kept = [[(node.layer.section, node.shape, node.parameters) for node in network.nodes] for network in (bits, twin)]
    assert kept[0] == kept[1]
    assert sum(bits_of(node.layer) is not None for node in bits.nodes) == 15
    assert not any(bits_of(node.layer) for network in (twin, slim) for node in network.nodes)
    signs = {node.index for node in bits.nodes if bits_of(node.layer)}
    assert {twin.nodes[index].layer.activation for index in signs} == {"leaky"}
    assert 7 < twin.operations / slim.operations < 9


@pytest.mark.parametrize("name", [name for name in zoo.networks() if name.endswith(("-bwn", "-xnor"))])
def test_first_and_last_layers_of_the_zoos_networks_are_real_and_all_others_of_single_bits(name: str) -> None:
    """Of a detector the layers that feed its heads; yolov3-small-xnor has a stem of two layers."""
    network = open_network(name)
    has_bits = {
        node.index: bits_of(node.layer) is not None
        for node in network.nodes
        if node.layer.section in ("convolutional", "connected")
    }
    fed = {node.sources[0] for node, _ in network.heads} or {max(has_bits)}
    stem = {0, 2} if name == "yolov3-small-xnor" else {0}
    assert {index for index, few in has_bits.items() if not few} == stem | fed
    assert all(few == (name.endswith("-bwn") or bits_of(network.nodes[index].layer, compat=True) is not None)
               for index, few in has_bits.items() if few)  # fmt: skip
