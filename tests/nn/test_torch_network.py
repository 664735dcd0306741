"""One network, two executions: what the graph computes, torch computes, before and after it has learnt."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import model_of, run_layers
from drawn_cfgs import drawn

from lookonce import zoo
from lookonce.engines import open_engine
from lookonce.graph import build
from lookonce.layers.convolution import Connected, Local
from lookonce.model import Model, open_network
from lookonce.network import Network
from lookonce.network.network import SECTIONS
from lookonce.nn import TorchNetwork
from lookonce.nn.batchnorm import roll

TOLERANCE = 1e-4  # of the largest value
NET = "[net]\nwidth=16\nheight=12\nchannels=3\n"
CONV = "[convolutional]\nfilters=8\nsize=3\npad=1\nbatch_normalize=1\nactivation=leaky\n"
PLAIN = "[convolutional]\nfilters=8\nsize=3\npad=1\nactivation=leaky\n"
YOLO = "[convolutional]\nfilters=21\nsize=1\nactivation=linear\n[yolo]\nclasses=2\nnum=3\nanchors=1,2,3,4,5,6\n"


def filled(network: Network, seed: int) -> Model:
    """Weights that keep the size of what flows, and batch norm that does something. One drawing serves all arrays."""
    rng = np.random.default_rng(seed)
    normal, even = rng.standard_normal(100_003).astype(np.float32), rng.uniform(0.5, 2, 100_003).astype(np.float32)
    weights = []
    for node in network.nodes:
        arrays = {}
        for parameter in node.parameters:
            if parameter.name in ("scales", "variance"):
                arrays[parameter.name] = np.resize(np.roll(even, node.index), parameter.shape)
            else:
                scale = 0.3 if parameter.fan_in is None else (2 / parameter.fan_in) ** 0.5
                arrays[parameter.name] = np.resize(np.roll(normal, node.index) * np.float32(scale), parameter.shape)
        weights.append(arrays)
    return Model(network, tuple(weights))


def of_torch(model: Model, x: np.ndarray, *, compat: bool = False) -> list[np.ndarray]:
    """What every layer of a model puts out, by torch."""
    network = TorchNetwork(model, compat=compat).eval()
    with torch.no_grad():
        outputs = network(torch.from_numpy(x), range(len(model.network.nodes)))
    return [outputs[node.index].numpy() for node in model.network.nodes]


def assert_same(found: np.ndarray, wanted: np.ndarray, what: str) -> None:
    assert found.shape == wanted.shape, what
    assert np.isfinite(wanted).all(), what
    assert np.abs(found - wanted).max() <= TOLERANCE * np.abs(wanted).max(), what


# ---------------------------------------------------------------------- the zoo
def small(name: str) -> Network:
    """A network of the zoo at a size of few pixels, its [crop] too: all layers are as they are, of [connected] the
    first has fewer inputs."""
    network = open_network(name)
    fixed = any(isinstance(node.layer, Connected | Local) for node in network.nodes)
    side = 99 if name == "alexnet" else 2 * network.stride if fixed else 64
    cfg = network.cfg
    for place, section in enumerate(cfg.sections):
        if section.name == "crop":
            cfg, side = cfg.with_options(cfg.sections[place], crop_width=64, crop_height=64), 68
    return Network.build(cfg.with_options(cfg.sections[0], width=side, height=side))


@pytest.mark.parametrize("name", [name for name in zoo.networks() if "xnor" not in name])
def test_torch_computes_what_the_graph_computes_of_every_network_of_the_zoo(name: str) -> None:
    """What flows into each head; of a classifier also what flows into its softmax, which hides differences.

    Where inputs become signs rounding decides what is near 0: those networks are compared layer by layer
    (test_binary_networks.py).
    """
    model = filled(small(name), seed=1)
    network = model.network
    x = np.random.default_rng(2).random((2, *network.input), np.float32)
    fed = [node.sources[0] for node, _ in network.heads] or [network.output.index]
    taps = [] if network.heads else [network.output.sources[0]]
    wanted = open_engine(build(model, taps=taps), "onnxruntime")(x)
    torch_network = TorchNetwork(model).eval()
    with torch.no_grad():
        found = torch_network(torch.from_numpy(x), fed + taps)
    for index, output in zip(fed + taps, wanted, strict=True):
        assert np.abs(output).max() > 1e-3
        assert_same(found[index].numpy(), output, f"layer {index}")


# ---------------------------------------------------------------------- drawn cfgs
def learn(network: TorchNetwork, x: np.ndarray, seed: int, steps: int = 3) -> None:
    """Some steps of plain descent, away from what the layers put out now."""
    torch.manual_seed(seed)
    for _ in range(steps):
        network.train()
        outputs = network(torch.from_numpy(x), range(len(network.network.nodes)))
        loss = torch.stack([(output * torch.randn_like(output)).mean() for output in outputs.values()]).sum()
        loss.backward()
        with torch.no_grad():
            for tensor in network.parameters():
                if tensor.grad is not None:
                    tensor -= 0.02 * tensor.grad / (tensor.grad.norm() + 1e-3)
                    tensor.grad = None
        roll(network.statistics)


@pytest.mark.parametrize("block", range(10))
def test_torch_computes_what_the_graph_computes_of_drawn_cfgs_before_and_after_learning(block: int) -> None:
    for seed in range(20 * block, 20 * block + 20):
        model = filled(drawn(seed), seed)
        x = np.random.default_rng(seed).random((3, *model.network.input), np.float32)
        text = model.network.cfg.text
        for number, (found, wanted) in enumerate(zip(of_torch(model, x), run_layers(model, x), strict=True)):
            assert_same(found, wanted, f"seed {seed}, layer {number} of\n{text}")
        network = TorchNetwork(model)
        learn(network, x, seed)
        learnt = network.to_model(model)
        assert any(
            not np.array_equal(after[name], before[name])
            for after, before in zip(learnt.weights, model.weights, strict=True)
            for name in before
        )
        for number, (found, wanted) in enumerate(zip(of_torch(learnt, x), run_layers(learnt, x), strict=True)):
            assert_same(found, wanted, f"seed {seed}, learnt, layer {number} of\n{text}")


def test_the_drawn_cfgs_have_every_kind_of_layer() -> None:
    """At least five of each among the 200."""
    count = Counter(node.layer.section for seed in range(200) for node in drawn(seed).nodes)
    wanted = {layer.section for layer in SECTIONS.values()}
    assert {section: count[section] for section in wanted if count[section] < 5} == {}


@pytest.mark.parametrize("block", range(2))
def test_darknets_own_batch_norm_is_that_of_the_graph(block: int) -> None:
    """With `compat` and small variances, where the place of the epsilon tells; both take the fork's cfgs otherwise."""
    kinds = set()
    for seed in range(20 * block, 20 * block + 20):
        model = filled(drawn(seed), seed)
        kinds.add(model.network.cfg.fork)
        for arrays in model.weights:
            if "variance" in arrays:
                arrays["variance"][...] *= np.float32(1e-5)
                arrays["scales"][...] *= np.float32(3e-3)
        x = np.random.default_rng(seed).random((3, *model.network.input), np.float32)
        pairs = zip(of_torch(model, x, compat=True), run_layers(model, x, compat=True), strict=True)
        for number, (found, wanted) in enumerate(pairs):
            assert_same(found, wanted, f"seed {seed}, layer {number} of\n{model.network.cfg.text}")
    assert kinds == {False, True}


def test_openvino_computes_the_same_after_learning() -> None:
    model = model_of(NET + CONV + "[maxpool]\nsize=2\nstride=2\n" + CONV + YOLO)
    x = np.random.default_rng(0).random((4, 3, 12, 16), np.float32)
    network = TorchNetwork(model)
    learn(network, x, 0)
    learnt = network.to_model(model)
    pairs = zip(of_torch(learnt, x), run_layers(learnt, x, engine="openvino"), strict=True)
    for number, (found, wanted) in enumerate(pairs):
        assert_same(found, wanted, f"layer {number}")


# ---------------------------------------------------------------------- weights
def test_weights_come_back_bit_for_bit() -> None:
    """Kernels lie otherwise in torch (channels last). Every float is another one, so that a mix-up would show."""
    fork = "[shortcut]\nfrom=-2\nweights_type=per_channel\n"
    model = model_of(NET + "letter_box=1\n" + CONV + CONV + fork + "[batchnorm]\n[local]\nfilters=2\nsize=3\npad=1\n"
                     "[connected]\noutput=5\nbatch_normalize=1\n")  # fmt: skip
    rng = np.random.default_rng(0)
    for arrays in model.weights:
        for array in arrays.values():
            array[...] = rng.permutation(array.size).reshape(array.shape) + rng.random(array.shape, np.float32)
    network = TorchNetwork(model)
    back = network.to_model(model)
    for before, after in zip(model.weights, back.weights, strict=True):
        assert before.keys() == after.keys()
        for name in before:
            assert after[name].dtype == np.float32
            assert after[name].flags.c_contiguous
            assert before[name].tobytes() == after[name].tobytes()
    again = TorchNetwork(back).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in network.state_dict().items())


def test_what_is_given_back_is_a_copy_and_so_is_what_was_taken() -> None:
    model = model_of(NET + CONV)
    before = {name: array.copy() for name, array in model.weights[0].items()}
    network = TorchNetwork(model)
    back = network.to_model(model)
    with torch.no_grad():
        for tensor in network.state_dict().values():
            tensor += 1
    assert all(np.array_equal(model.weights[0][name], array) for name, array in before.items())
    assert all(np.array_equal(back.weights[0][name], array) for name, array in before.items())


def test_parameters_are_called_by_layer_and_array_and_the_statistics_are_buffers() -> None:
    network = TorchNetwork(model_of(NET + CONV + "[avgpool]\n[connected]\noutput=3\n"))
    assert [name for name, _ in network.named_parameters()] == [
        "000_biases", "000_scales", "000_weights", "002_biases", "002_weights",
    ]  # fmt: skip
    assert [name for name, _ in network.named_buffers()] == ["000_mean", "000_variance"]
    assert set(network.state_dict()) == {
        "000_biases", "000_scales", "000_weights", "000_mean", "000_variance", "002_biases", "002_weights",
    }  # fmt: skip


def test_a_model_can_be_made_of_other_values() -> None:
    """As of a moving average."""
    model = model_of(NET + CONV)
    network = TorchNetwork(model)
    values = {name: value + 1 for name, value in network.state_dict().items()}
    made = network.to_model(model, values)
    assert all(np.array_equal(made.weights[0][name], array + np.float32(1)) for name, array in model.weights[0].items())
    assert made.trained == 1


# ---------------------------------------------------------------------- what flows
def test_layers_that_nothing_wanted_needs_are_not_computed() -> None:
    """Layer 1 is read by none that is asked for: its batch norm sees nothing. The head itself is decoded elsewhere."""
    network = TorchNetwork(model_of(NET + CONV + CONV + "[route]\nlayers=0\n" + YOLO)).train()
    x = torch.rand(2, 3, 12, 16)
    found = network(x, (3,))
    assert list(found) == [3]
    assert len(network.statistics) == 1
    network(x, (1, 3))
    assert len(network.statistics) == 2
    assert list(network(x)) == [4]
    assert network(x, (-1,))[-1] is x


def test_an_activation_in_place_changes_no_other_layer() -> None:
    """Layer 0 has no activation of its own, and is read once more after the [activation] on its own."""
    for norm in ("", "batch_normalize=1\n"):
        linear = f"[convolutional]\nfilters=4\nsize=1\n{norm}activation=linear\n"
        model = model_of(NET + linear + "[activation]\nactivation=leaky\n[shortcut]\nfrom=0\nactivation=leaky\n")
        x = np.random.default_rng(0).standard_normal((2, 3, 12, 16), np.float32)
        first, second, third = of_torch(model, x)
        np.testing.assert_array_equal(second, np.where(first > 0, first, np.float32(0.1) * first))
        assert (first < 0).any()
        total = first + second
        np.testing.assert_allclose(third, np.where(total > 0, total, 0.1 * total), rtol=1e-6)


@pytest.mark.parametrize("norm", ["", "batch_normalize=1\n"])
@pytest.mark.parametrize("activation", ["leaky", "relie", "selu", "ramp", "relu", "mish", "hard_mish"])
def test_gradients_are_those_of_finite_differences(activation: str, norm: str) -> None:
    """In float64 through two layers, of which the first may be overwritten by its activation."""
    layers = "".join(f"[convolutional]\nfilters=3\nsize={size}\n{norm}activation={activation}\n" for size in (3, 1))
    model = model_of("[net]\nwidth=5\nheight=4\nchannels=2\n" + layers)
    network = TorchNetwork(model).double().train()
    x, noise = torch.randn(2, 2, 4, 5, dtype=torch.float64), torch.randn(2, 3, 2, 3, dtype=torch.float64)

    def loss() -> torch.Tensor:
        found: torch.Tensor = (network(x)[1] * noise).sum()
        return found

    loss().backward()
    for tensor in network.parameters():
        flat, step = tensor.detach().reshape(-1), 1e-6
        for place in (0, flat.numel() - 1):
            index = np.unravel_index(place, tensor.shape)
            with torch.no_grad():
                kept = tensor[index].item()
                tensor[index] = kept + step
                more = loss().item()
                tensor[index] = kept - step
                less = loss().item()
                tensor[index] = kept
            assert tensor.grad is not None
            assert tensor.grad[index].item() == pytest.approx((more - less) / (2 * step), rel=1e-4, abs=1e-6)


def test_dropout_drops_that_share_while_it_learns_and_keeps_the_mean() -> None:
    model = model_of(NET.replace("16", "128").replace("12", "128") + "[dropout]\nprobability=.3\n")
    x = torch.ones(2, 3, 128, 128)
    learning = TorchNetwork(model).train()(x)[0]
    assert (learning == 0).double().mean().item() == pytest.approx(0.3, abs=0.01)
    assert learning.unique().tolist() == [0.0, pytest.approx(1 / 0.7)]
    assert torch.equal(TorchNetwork(model).eval()(x)[0], x)


def test_crop_takes_random_places_and_flips_while_it_learns_and_the_middle_otherwise() -> None:
    """A picture whose values say where they come from: row * 100 + column."""
    model = model_of("[net]\nwidth=6\nheight=5\nchannels=1\n[crop]\ncrop_width=4\ncrop_height=4\nflip=1\nnoadjust=1\n")
    picture = (torch.arange(5)[:, None] * 100 + torch.arange(6)).float().expand(2, 1, 5, 6)
    network = TorchNetwork(model).train()
    seen = set()
    for seed in range(100):
        torch.manual_seed(seed)
        crop = network(picture)[0]
        assert torch.equal(crop[0], crop[1])
        top, left = divmod(int(crop.min()), 100)
        is_flipped = bool(crop[0, 0, 0, 0] > crop[0, 0, 0, 1])
        wanted = picture[0, 0, top : top + 4, left : left + 4]
        assert torch.equal(crop[0, 0], wanted.flip(1) if is_flipped else wanted)
        seen.add((top, left, is_flipped))
    assert seen == {(top, left, flip) for top in (0, 1) for left in (0, 1, 2) for flip in (False, True)}
    network.eval()
    assert torch.equal(network(picture)[0][0, 0], picture[0, 0, 0:4, 1:5])


def test_of_what_a_1x1_convolution_reads_later_layers_learn_nothing_in_compat() -> None:
    """Layer 0 feeds a 1 x 1 convolution and a shortcut after it. Darknet's CPU code keeps of its gradient only the
    part that comes through the convolution; by default both parts are added."""
    text = NET + PLAIN + "[convolutional]\nfilters=8\nsize=1\nactivation=linear\n[shortcut]\nfrom=0\n"
    x = torch.rand(2, 3, 12, 16)

    def gradient(compat: bool, text: str) -> torch.Tensor:
        network = TorchNetwork(model_of(text), compat=compat).train()
        network(x)[max(node.index for node in network.network.nodes)].sum().backward()
        found = dict(network.named_parameters())["000_weights"].grad
        assert found is not None
        return found

    alone = gradient(False, text.replace("[shortcut]\nfrom=0\n", ""))
    assert torch.allclose(gradient(True, text), alone, rtol=1e-5)
    assert not torch.allclose(gradient(False, text), alone, rtol=1e-2)
    fork = text.replace("channels=3", "channels=3\nletter_box=1")
    assert torch.equal(gradient(True, fork), gradient(False, text))


# ---------------------------------------------------------------------- what stays as it is
FROZEN = {
    "stopbackward=1": {"000", "001"},  # this layer and all before it
    "dont_update=1": {"001"},
    "learning_rate=0": {"001"},
    "train_only_bn=1": {"001_weights"},
}


@pytest.mark.parametrize("option", FROZEN)
def test_what_is_frozen_stays_and_all_else_learns(option: str) -> None:
    frozen = CONV.replace("activation", f"{option}\nactivation")
    model = model_of(NET + CONV + frozen + CONV + "[connected]\noutput=4\nactivation=linear\n")
    network = TorchNetwork(model)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    learn(network, np.random.default_rng(0).random((3, 3, 12, 16), np.float32), 0, steps=1)
    for name, value in network.named_parameters():
        is_frozen = any(name.startswith(part) for part in FROZEN[option])
        assert torch.equal(value, before[name]) == is_frozen, name
        assert value.requires_grad != is_frozen
    for name, value in network.named_buffers():
        assert not torch.equal(value, before[name]), f"{name}: rolling statistics go on, as Darknet's"


def test_biases_that_are_no_batch_norms_stay_where_only_batch_norm_learns() -> None:
    network = TorchNetwork(model_of(NET + CONV + PLAIN.replace("activation", "train_only_bn=1\nactivation")))
    assert {name: value.requires_grad for name, value in network.named_parameters()} == {
        "000_biases": True, "000_scales": True, "000_weights": True, "001_biases": False, "001_weights": False,
    }  # fmt: skip


def test_nothing_flows_back_into_what_is_frozen() -> None:
    """No memory is kept for layers before the first that learns."""
    stop = CONV.replace("activation", "stopbackward=1\nactivation")
    outputs = TorchNetwork(model_of(NET + CONV + stop + CONV)).train()(torch.rand(2, 3, 12, 16), (0, 1, 2))
    assert [outputs[index].requires_grad for index in (0, 1, 2)] == [False, False, True]


def test_other_sizes_are_taken_where_the_layers_take_them() -> None:
    """As learning at several sizes does: one module, any input that the network can be resized to."""
    model = model_of(NET + CONV + "[maxpool]\nsize=2\nstride=2\n" + CONV + YOLO)
    network = TorchNetwork(model).eval()
    x = np.random.default_rng(0).random((1, 3, 22, 34), np.float32)
    with torch.no_grad():
        found = network(torch.from_numpy(x), (3,))[3].numpy()
    resized = replace(model, network=model.network.resized(34, 22))
    assert_same(found, open_engine(build(resized), "onnxruntime")(x)[0], "resized")
