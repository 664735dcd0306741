"""The moving average of weights, against arithmetic."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import model_of

from lookonce.nn import TorchNetwork
from lookonce.train.average import Average

TEXT = (
    "[net]\nwidth=6\nheight=5\nchannels=3\n[convolutional]\nfilters=4\nsize=3\nbatch_normalize=1\nactivation=linear\n"
)


def grown(network: TorchNetwork, by: float) -> None:
    with torch.no_grad():
        for value in network.state_dict().values():
            value += by


def test_it_is_the_sum_that_its_rule_says() -> None:
    """Update n keeps the least of alpha and (1 + n) / (10 + n): 2/11, 3/12, ... and, from .6 on, .6."""
    network = TorchNetwork(model_of(TEXT))
    average = Average(network, 0.6)
    start = {name: value.numpy().astype(np.float64) for name, value in network.state_dict().items()}
    wanted, now = 0.0, 0.0
    for update in range(1, 31):
        grown(network, 1.0)
        now += 1
        average.update()
        keep = min(0.6, (1 + update) / (10 + update))
        wanted = keep * wanted + (1 - keep) * now
        assert average.updates == update
        for name, value in average.values.items():
            np.testing.assert_allclose(value.numpy(), start[name] + wanted, rtol=1e-5, atol=1e-5, err_msg=name)
    assert wanted == pytest.approx(30 - 0.6 / 0.4, abs=0.01)  # it lags by alpha / (1 - alpha) updates


def test_it_has_the_names_of_the_state_rolling_statistics_too_and_is_of_its_own() -> None:
    network = TorchNetwork(model_of(TEXT))
    average = Average(network, 0.9)
    assert list(average.values) == list(network.state_dict())
    before = {name: value.clone() for name, value in average.values.items()}
    grown(network, 1.0)
    assert all(torch.equal(value, before[name]) for name, value in average.values.items())


def test_it_goes_on_from_what_was_saved_bit_for_bit() -> None:
    one, other = (TorchNetwork(model_of(TEXT)) for _ in range(2))
    first, second = Average(one, 0.99), Average(other, 0.99)
    for _ in range(3):
        grown(one, 0.1)
        first.update()
    saved = {name: torch.from_numpy(np.array(value.numpy(), order="C")) for name, value in first.values.items()}
    other.load_state_dict(one.state_dict())
    second.load(saved, first.updates)
    for network, average in ((one, first), (other, second)):
        grown(network, 0.1)
        average.update()
    assert second.updates == 4
    assert all(torch.equal(value, second.values[name]) for name, value in first.values.items())
