"""The optimizers against Darknet's updates in plain Python, and against torch's Adam."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import model_of

from lookonce.errors import CfgError
from lookonce.nn import TorchNetwork
from lookonce.train.optimizer import Optimizer

CONV = "[convolutional]\nfilters=4\nsize=3\npad=1\nbatch_normalize=1\nactivation=leaky\n"
FLAT = "[connected]\noutput=3\nactivation=linear\n"
RATES = (0.1, 0.05, 0.2, 0.2, 0.01)
Gradients = dict[str, np.ndarray]


def made(net: str = "momentum=.9\ndecay=.01\n", layers: str = CONV + FLAT) -> tuple[TorchNetwork, Optimizer]:
    model = model_of(f"[net]\nwidth=6\nheight=5\nchannels=3\nbatch=8\n{net}{layers}")
    network = TorchNetwork(model)
    return network, Optimizer(network, model.network.options)


def gradients(network: TorchNetwork, step: int) -> Gradients:
    """Of the mean loss, drawn for each parameter and step."""
    rng = np.random.default_rng(step)
    return {name: rng.standard_normal(value.shape, np.float32) for name, value in network.named_parameters()}


def give(network: TorchNetwork, found: Gradients) -> None:
    for name, value in network.named_parameters():
        if value.requires_grad:
            value.grad = torch.from_numpy(found[name]).contiguous(
                memory_format=torch.channels_last if value.ndim == 4 else torch.contiguous_format
            )


def values(network: TorchNetwork) -> dict[str, np.ndarray]:
    return {name: value.detach().numpy().copy() for name, value in network.named_parameters()}


def darknet(weight: np.ndarray, deltas: list[np.ndarray], decay: float, multiple: float = 1.0) -> np.ndarray:
    """convolutional_layer.c, update: u += -decay*B*w; w += rate/B*u; u *= momentum. Deltas add minus the gradients."""
    batch, update, weight = 8, np.zeros(weight.shape), weight.astype(np.float64)
    for rate, delta in zip(RATES, deltas, strict=True):
        update = update + delta
        update = update - decay * batch * weight
        weight = weight + rate * multiple / batch * update
        update = update * 0.9
    return weight


def test_steps_are_darknets_and_only_weights_decay() -> None:
    """Five updates at changing rates. Darknet's deltas are minus the gradients, summed over the 8 pictures."""
    network, optimizer = made()
    before = values(network)
    for step, rate in enumerate(RATES):
        give(network, gradients(network, step))
        optimizer.step(rate)
    after = values(network)
    for name, value in before.items():
        deltas = [-8 * gradients(network, step)[name].astype(np.float64) for step in range(len(RATES))]
        wanted = darknet(value, deltas, decay=0.01 if name.endswith("weights") else 0.0)
        np.testing.assert_allclose(after[name], wanted, rtol=1e-5, atol=1e-6, err_msg=name)
        assert not np.allclose(after[name], darknet(value, deltas, decay=0.0 if name.endswith("weights") else 0.01))


def test_a_layer_has_its_own_multiple_of_the_rate() -> None:
    network, optimizer = made(layers=CONV + FLAT + "learning_rate=.25\n")
    before = values(network)
    for step, rate in enumerate(RATES):
        give(network, gradients(network, step))
        optimizer.step(rate)
    after = values(network)
    for name, value in before.items():
        deltas = [-8 * gradients(network, step)[name].astype(np.float64) for step in range(len(RATES))]
        decay, multiple = 0.01 if name.endswith("weights") else 0.0, 0.25 if name.startswith("001") else 1.0
        np.testing.assert_allclose(after[name], darknet(value, deltas, decay, multiple), rtol=1e-5, atol=1e-6)


def test_without_momentum_and_decay_a_step_is_the_rate_times_the_gradient() -> None:
    network, optimizer = made("momentum=0\ndecay=0\n", FLAT)
    before, found = values(network), gradients(network, 0)
    for _ in range(2):
        give(network, found)
        optimizer.step(0.5)
    for name, value in values(network).items():
        np.testing.assert_allclose(value, before[name] - 2 * 0.5 * found[name], rtol=1e-5, atol=1e-6)
    assert optimizer.arrays() == {}


def test_weights_are_held_within_the_clip_and_nothing_else_is() -> None:
    network, optimizer = made(layers=CONV + "clip=.05\n" + FLAT)
    with torch.no_grad():
        for value in network.parameters():
            value.mul_(10)
    before = values(network)
    give(network, {name: np.zeros_like(value) for name, value in before.items()})
    optimizer.step(1e-9)
    after = values(network)
    np.testing.assert_allclose(after["000_weights"], before["000_weights"].clip(-0.05, 0.05), atol=1e-6)
    for name in ("000_biases", "000_scales", "001_weights", "001_biases"):
        np.testing.assert_allclose(after[name], before[name], rtol=1e-6)


def test_the_clip_of_net_holds_everywhere_but_where_it_is_set_otherwise() -> None:
    network, optimizer = made("decay=.01\nclip=.01\n", layers=CONV + FLAT + "clip=0\n")
    give(network, {name: np.zeros_like(value) for name, value in values(network).items()})
    optimizer.step(1e-9)
    assert np.abs(values(network)["000_weights"]).max() == np.float32(0.01)
    assert np.abs(values(network)["001_weights"]).max() > 0.1


def test_adam_is_torchs_and_everything_decays() -> None:
    network, optimizer = made(
        "decay=.01\nadam=1\nB1=.8\nB2=.95\neps=.001\n", layers=CONV + FLAT + "learning_rate=.25\n"
    )
    copies = {name: torch.nn.Parameter(torch.from_numpy(value)) for name, value in values(network).items()}
    adams = {
        name: torch.optim.Adam([copy], betas=(0.8, 0.95), eps=0.001, weight_decay=0.01) for name, copy in copies.items()
    }
    for step, rate in enumerate(RATES):
        found = gradients(network, step)
        give(network, found)
        optimizer.step(rate)
        for name, copy in copies.items():
            copy.grad = torch.from_numpy(found[name])
            adams[name].param_groups[0]["lr"] = rate * (0.25 if name.startswith("001") else 1)
            adams[name].step()
    for name, value in values(network).items():
        np.testing.assert_allclose(value, copies[name].detach().numpy(), rtol=1e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("net", ["momentum=.9\ndecay=.01\n", "adam=1\n"])
def test_what_is_saved_goes_on_bit_for_bit(net: str) -> None:
    """Through numpy's plain order and back, as a file has it; what the other remembered before is forgotten."""
    network, optimizer = made(net)
    for step, rate in enumerate(RATES):
        give(network, gradients(network, step))
        optimizer.step(rate)
    other, second = made(net)
    give(other, gradients(other, 99))
    second.step(0.3)
    other.load_state_dict({name: value.clone() for name, value in network.state_dict().items()})
    saved = {name: torch.from_numpy(np.array(value.numpy(), order="C")) for name, value in optimizer.arrays().items()}
    second.load(saved)
    for array in saved.values():
        array.fill_(7)  # what was taken is a copy
    for step in (10, 11):
        for each, one in ((network, optimizer), (other, second)):
            give(each, gradients(each, step))
            one.step(0.07)
    for name, value in values(network).items():
        assert value.tobytes() == values(other)[name].tobytes(), name


def test_a_memory_that_was_not_there_is_forgotten() -> None:
    network, optimizer = made()
    nothing = optimizer.arrays()
    assert nothing == {}
    give(network, gradients(network, 0))
    optimizer.step(0.1)
    assert set(optimizer.arrays()) == {f"momentum_buffer/{name}" for name, _ in network.named_parameters()}
    optimizer.load(nothing)
    assert optimizer.arrays() == {}


def test_after_a_step_and_after_forgetting_there_are_no_gradients() -> None:
    network, optimizer = made()
    give(network, gradients(network, 0))
    optimizer.step(0.1)
    assert all(value.grad is None for value in network.parameters())
    before = values(network)
    give(network, gradients(network, 0))
    optimizer.forget()
    optimizer.step(0.1)
    assert all(np.array_equal(value, before[name]) for name, value in values(network).items())


def test_what_is_frozen_neither_learns_nor_decays() -> None:
    network, optimizer = made(layers=CONV + "dont_update=1\n" + FLAT)
    before = values(network)
    give(network, gradients(network, 0))
    optimizer.step(0.1)
    changed = {name for name, value in values(network).items() if not np.array_equal(value, before[name])}
    assert changed == {"001_weights", "001_biases"}


@pytest.mark.parametrize("layers", [CONV + "dont_update=1\n", CONV + FLAT + "stopbackward=1\n", "[avgpool]\n"])
def test_a_network_in_which_nothing_learns_is_refused(layers: str) -> None:
    with pytest.raises(CfgError, match=r"^test.cfg: no layer learns; wanted one without learning_rate=0"):
        made(layers=layers)
