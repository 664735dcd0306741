"""Batch norm: torch's by default; with `compat` Darknet's, against its loops written out."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from conftest import model_of
from torch import Tensor

from lookonce.nn import TorchNetwork
from lookonce.nn.batchnorm import MOMENTUM, DarknetBatchNorm, darknet_batch_norm, roll
from lookonce.nn.ops import Statistics, TorchOps


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape, np.float32))


# ---------------------------------------------------------------------- torch's
def test_by_default_it_is_torchs_with_a_momentum_of_a_hundredth() -> None:
    """Output, all gradients and the rolling statistics, over several batches of different sizes; then at rest."""
    ours, theirs = TorchOps(learning=True), torch.nn.BatchNorm2d(4, momentum=0.01)
    scales, biases = (drawn(4, seed=seed).requires_grad_() for seed in (1, 2))
    mean, variance = torch.zeros(4), torch.ones(4)
    with torch.no_grad():
        theirs.weight.copy_(scales)
        theirs.bias.copy_(biases)
    for seed, (batch, side) in enumerate([(3, 5), (2, 4), (6, 1), (1, 7)]):
        x = drawn(batch, 4, side, side, seed=seed) * 3 + 1
        xs = [x.clone().requires_grad_(), x.clone().requires_grad_()]
        found, wanted = ours.batch_norm(xs[0], scales, biases, mean, variance), theirs(xs[1])
        assert torch.equal(found, wanted)
        weight = drawn(*found.shape, seed=9)
        scales.grad = biases.grad = theirs.weight.grad = theirs.bias.grad = None
        (found * weight).sum().backward()
        (wanted * weight).sum().backward()
        for one, other in ((xs[0], xs[1]), (scales, theirs.weight), (biases, theirs.bias)):
            assert one.grad is not None
            assert torch.equal(one.grad, other.grad)
        roll(ours.statistics)
        ours.statistics.clear()
        np.testing.assert_allclose(mean, theirs.running_mean, rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(variance, theirs.running_var, rtol=1e-6)
    x = drawn(2, 4, 3, 3)
    found = TorchOps().batch_norm(x, scales, biases, mean, variance)
    np.testing.assert_allclose(found.detach(), theirs.eval()(x).detach(), rtol=1e-5, atol=1e-6)


# ---------------------------------------------------------------------- Darknet's
def darknet_forward(x: np.ndarray, scales: np.ndarray, biases: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """batchnorm_layer.c: mean, variance divided by one less than the count, and 1e-6 beside the root."""
    batch, channels, height, width = x.shape
    count = batch * height * width
    mean, variance, out = np.zeros(channels), np.zeros(channels), np.zeros_like(x)
    for f in range(channels):
        for b, i, j in itertools.product(range(batch), range(height), range(width)):
            mean[f] += x[b, f, i, j] / count
        for b, i, j in itertools.product(range(batch), range(height), range(width)):
            variance[f] += (x[b, f, i, j] - mean[f]) ** 2 / (count - 1)
        for b, i, j in itertools.product(range(batch), range(height), range(width)):
            out[b, f, i, j] = (x[b, f, i, j] - mean[f]) / (math.sqrt(variance[f]) + 1e-6) * scales[f] + biases[f]
    return out, mean, variance


def darknet_backward(
    x: np.ndarray, scales: np.ndarray, mean: np.ndarray, variance: np.ndarray, delta: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """backward_scale_cpu, scale_bias, mean_delta_cpu, variance_delta_cpu and normalize_delta_cpu, in turn."""
    batch, channels, height, width = x.shape
    count = batch * height * width
    scale_updates, bias_updates, out = np.zeros(channels), np.zeros(channels), np.zeros_like(x)
    for f in range(channels):
        places = list(itertools.product(range(batch), range(height), range(width)))
        for b, i, j in places:
            bias_updates[f] += delta[b, f, i, j]
            scale_updates[f] += delta[b, f, i, j] * (x[b, f, i, j] - mean[f]) / (math.sqrt(variance[f]) + 1e-6)
        mean_delta = variance_delta = 0.0
        for b, i, j in places:
            mean_delta += scales[f] * delta[b, f, i, j]
            variance_delta += scales[f] * delta[b, f, i, j] * (x[b, f, i, j] - mean[f])
        mean_delta *= -1 / math.sqrt(variance[f] + 1e-5)
        variance_delta *= -0.5 * (variance[f] + 1e-5) ** -1.5
        for b, i, j in places:
            out[b, f, i, j] = (
                scales[f] * delta[b, f, i, j] / math.sqrt(variance[f] + 1e-5)
                + variance_delta * 2 * (x[b, f, i, j] - mean[f]) / count
                + mean_delta / count
            )
    return out, scale_updates, bias_updates


@pytest.mark.parametrize("spread", [1.0, 0.003])
def test_darknets_batch_norm_is_that_of_its_loops_forward_and_back(spread: float) -> None:
    """With a spread of .003 the variance is about the 1e-5 that only the way back adds."""
    x, scales, biases, delta = drawn(2, 3, 4, 5) * spread, drawn(3, seed=1), drawn(3, seed=2), drawn(2, 3, 4, 5, seed=3)
    tensors = [tensor.double().requires_grad_() for tensor in (x, scales, biases)]
    found, mean, variance = DarknetBatchNorm.apply(*tensors)  # type: ignore[no-untyped-call]
    arrays = [tensor.detach().numpy() for tensor in tensors]
    wanted, wanted_mean, wanted_variance = darknet_forward(*arrays)
    np.testing.assert_allclose(found.detach(), wanted, rtol=1e-10)
    np.testing.assert_allclose(mean, wanted_mean, rtol=1e-10)
    np.testing.assert_allclose(variance, wanted_variance, rtol=1e-10)
    found.backward(delta.double())
    gradients = darknet_backward(arrays[0], arrays[1], wanted_mean, wanted_variance, delta.double().numpy())
    for tensor, gradient in zip(tensors, gradients, strict=True):
        np.testing.assert_allclose(tensor.grad, gradient, rtol=1e-8, atol=1e-10)


def test_darknets_gradient_is_not_the_true_one() -> None:
    """So it is worth its own formulas: its way back and torch's differ by about 1 / count."""
    x = drawn(2, 3, 2, 2)
    gradients = []
    for compat in (False, True):
        own = x.clone().requires_grad_()
        ops = TorchOps(learning=True, compat=compat)
        out = ops.batch_norm(own, torch.ones(3), torch.zeros(3), torch.zeros(3), torch.ones(3))
        (out * drawn(2, 3, 2, 2, seed=1)).sum().backward()
        gradients.append(own.grad)
    assert not torch.allclose(gradients[0], gradients[1], rtol=0.02)


def test_at_rest_darknet_adds_its_epsilon_beside_the_root() -> None:
    """A variance of 4e-12 has a root of 2e-6: two thirds of the divisor."""
    x = torch.full((1, 1, 1, 1), 5e-6)
    found = darknet_batch_norm(x, torch.tensor([3.0]), torch.tensor([7.0]), torch.tensor([2e-6]), torch.tensor([4e-12]))
    assert found.item() == pytest.approx((5e-6 - 2e-6) / (2e-6 + 1e-6) * 3 + 7, rel=1e-5)


# ---------------------------------------------------------------------- rolling
def test_what_was_seen_is_taken_in_its_order() -> None:
    """One batch norm that saw two mini-batches."""
    mean, variance = torch.tensor([1.0]), torch.tensor([2.0])
    seen = [Statistics(mean, variance, torch.tensor([a]), torch.tensor([b])) for a, b in ((10.0, 20.0), (-30.0, 5.0))]
    roll(seen)
    assert MOMENTUM == 0.01
    assert mean.item() == pytest.approx((1 * 0.99 + 10 * 0.01) * 0.99 - 30 * 0.01, rel=1e-6)
    assert variance.item() == pytest.approx((2 * 0.99 + 20 * 0.01) * 0.99 + 5 * 0.01, rel=1e-6)


def test_several_batch_norms_that_saw_several_mini_batches_do_not_mix() -> None:
    """Of two layers with 1 and 2 channels, each seen twice, one after the other."""
    rolling = [(torch.zeros(size), torch.ones(size)) for size in (1, 2)]
    wanted = [(0.0, 1.0), (0.0, 1.0)]
    seen = []
    for turn in (1.0, 2.0):
        for layer, (mean, variance) in enumerate(rolling):
            of_batch = torch.full_like(mean, 10 * turn + layer), torch.full_like(mean, 100 * turn + layer)
            seen.append(Statistics(mean, variance, *of_batch))
            before = wanted[layer]
            wanted[layer] = before[0] * 0.99 + (10 * turn + layer) / 100, before[1] * 0.99 + (100 * turn + layer) / 100
    roll(seen)
    for (mean, variance), (wanted_mean, wanted_variance) in zip(rolling, wanted, strict=True):
        np.testing.assert_allclose(mean, wanted_mean, rtol=1e-5)
        np.testing.assert_allclose(variance, wanted_variance, rtol=1e-5)


@pytest.mark.parametrize("compat", [False, True])
def test_a_forward_rolls_nothing_by_itself(compat: bool) -> None:
    """The step may still be refused. What is then rolled is a hundredth of the batch's."""
    layer = "[convolutional]\nfilters=4\nsize=1\nbatch_normalize=1\nactivation=linear\n"
    model = model_of("[net]\nwidth=5\nheight=4\nchannels=3\n" + layer)
    network = TorchNetwork(model, compat=compat).train()
    x = drawn(3, 3, 4, 5)
    network(x)
    network(x)
    assert len(network.statistics) == 1
    buffers = dict(network.named_buffers())
    assert np.array_equal(buffers["000_mean"], model.weights[0]["mean"])
    assert np.array_equal(buffers["000_variance"], model.weights[0]["variance"])
    roll(network.statistics)
    out = np.einsum("oi,bihw->bohw", model.weights[0]["weights"][:, :, 0, 0], x.numpy())
    for name, seen in (("mean", out.mean((0, 2, 3))), ("variance", out.var((0, 2, 3), ddof=1))):
        np.testing.assert_allclose(buffers[f"000_{name}"], 0.99 * model.weights[0][name] + 0.01 * seen, rtol=1e-5)
