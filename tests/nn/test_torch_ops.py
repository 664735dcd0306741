"""The primitives over torch, one by one, against loops."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torch import Tensor

from lookonce.layers.ops import Ops
from lookonce.nn.ops import TorchOps

OPS = TorchOps()


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape, np.float32))


# ---------------------------------------------------------------------- windows
def max_of_windows(x: np.ndarray, size: int, stride: tuple[int, int], before: int, after: int) -> np.ndarray:
    """Every window, pixel by pixel; what lies outside does not count."""
    batch, channels, height, width = x.shape
    rows, columns = (
        (side + before + after - size) // step + 1 for side, step in zip((height, width), stride, strict=True)
    )
    found = np.full((batch, channels, rows, columns), -np.inf, np.float32)
    for row, column, dy, dx in itertools.product(range(rows), range(columns), range(size), range(size)):
        y, z = row * stride[0] - before + dy, column * stride[1] - before + dx
        if 0 <= y < height and 0 <= z < width:
            found[:, :, row, column] = np.maximum(found[:, :, row, column], x[:, :, y, z])
    return found


@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (3, 3), (1, 2)])
def test_max_pool_is_that_of_a_loop_for_every_padding(size: int, stride: tuple[int, int]) -> None:
    """Even and odd sides; paddings up to where a window would see nothing. All values are below 0: none is filling."""
    for padding, side in itertools.product(range(2 * size - 1), (4, 5, 7)):
        x = drawn(2, 3, side, 6) - 10
        before, after = padding // 2, padding - padding // 2
        if (side + padding - size) < 0:
            continue
        found = OPS.max_pool(x, size, stride, before, (after, after))
        np.testing.assert_array_equal(found.numpy(), max_of_windows(x.numpy(), size, stride, before, after))


def test_max_pool_gives_the_gradient_to_the_largest_of_each_window() -> None:
    """3 x 3 by 2/2 with padding 1 at the right: windows of 4, 2, 2 and 1 pixels."""
    x = torch.tensor([[[[1.0, 2, 3], [4, 5, 6], [7, 8, 9]]]], requires_grad=True)
    OPS.max_pool(x, 2, (2, 2), 0, (1, 1)).sum().backward()
    assert x.grad is not None
    assert x.grad[0, 0].tolist() == [[0, 0, 0], [0, 1, 1], [0, 1, 1]]


def test_max_pool_lets_nan_through() -> None:
    """A NaN must not be hidden by a larger neighbour."""
    x = torch.zeros(1, 1, 4, 4)
    x[0, 0, 1, 2] = float("nan")
    assert OPS.max_pool(x, 2, (2, 2), 0, (1, 1)).isnan().sum() == 1
    assert OPS.max_pool(x, 3, (1, 1), 1, (1, 1)).isnan().sum() == 9


def test_a_convolution_is_that_of_a_loop() -> None:
    """Groups, strides that differ, dilation, and zeros outside."""
    x, weights, bias = drawn(2, 4, 7, 8), drawn(6, 2, 3, 3, seed=1), drawn(6, seed=2)
    found = OPS.conv(x, weights, bias, (2, 1), (2, 2), dilation=2, groups=2).numpy()
    padded = np.pad(x.numpy(), ((0, 0), (0, 0), (2, 2), (2, 2)))
    assert found.shape == (2, 6, 4, 8)
    for b, o, row, column in itertools.product(range(2), range(6), range(4), range(8)):
        first = 2 * (o // 3)  # the input channels of its group
        window = padded[b, first : first + 2, 2 * row : 2 * row + 5 : 2, column : column + 5 : 2]
        wanted = (window * weights.numpy()[o]).sum() + bias.numpy()[o]
        assert found[b, o, row, column] == pytest.approx(wanted, abs=1e-5)


def test_linear_is_a_matrix_times_each_row() -> None:
    x, weights, bias = drawn(3, 5), drawn(4, 5, seed=1), drawn(4, seed=2)
    np.testing.assert_allclose(OPS.linear(x, weights, bias), x.numpy() @ weights.numpy().T + bias.numpy(), atol=1e-6)
    np.testing.assert_allclose(OPS.linear(x, weights, None), x.numpy() @ weights.numpy().T, atol=1e-6)


def test_means_and_upsampling() -> None:
    x = drawn(2, 3, 4, 5)
    np.testing.assert_allclose(OPS.mean_pool(x), x.numpy().mean((2, 3), keepdims=True), atol=1e-6)
    assert torch.equal(OPS.upsample(x, 3), x.repeat_interleave(3, 2).repeat_interleave(3, 3))


# ---------------------------------------------------------------------- axes
def test_padding_and_slices_are_numpys() -> None:
    x = drawn(2, 3, 4, 5)
    padded = OPS.pad(x, 1, 2, 3, 4, value=7)
    np.testing.assert_array_equal(padded, np.pad(x, ((0, 0), (0, 0), (1, 3), (2, 4)), constant_values=7))
    assert OPS.pad(x, 0, 0, 0, 0) is x
    for axis in range(4):
        sides = [(0, 0)] * 4
        sides[axis] = (1, 2)
        np.testing.assert_array_equal(OPS.pad_axis(x, axis, 1, 2, value=-3), np.pad(x, sides, constant_values=-3))
    six = drawn(2, 3, 4, 5, 2, 2)
    np.testing.assert_array_equal(OPS.pad_axis(six, 3, 0, 1), np.pad(six, [(0, 0)] * 3 + [(0, 1)] + [(0, 0)] * 2))
    assert OPS.pad_axis(x, 1, 0, 0) is x
    np.testing.assert_array_equal(OPS.slice(x, 3, 1, 5, 2), x.numpy()[:, :, :, 1:5:2])
    np.testing.assert_array_equal(OPS.slice(x, 1, 0, 2), x.numpy()[:, :2])


def test_what_is_taken_has_the_shape_of_the_indices() -> None:
    x, indices = drawn(2, 5, 3, 4), np.array([[4, 0, 0], [2, 1, 3]])
    np.testing.assert_array_equal(OPS.take(x, indices, 1), np.take(x.numpy(), indices, 1))
    np.testing.assert_array_equal(OPS.take(x, indices.reshape(-1), 1), np.take(x.numpy(), indices.reshape(-1), 1))


def test_axes_move_as_numpys_in_every_layout() -> None:
    """Channels last is a matter of memory; what an index means is the same."""
    x = drawn(2, 4, 3, 5)
    for y in (x, x.contiguous(memory_format=torch.channels_last)):
        np.testing.assert_array_equal(OPS.reshape(y, (-1, 60)), x.numpy().reshape(-1, 60))
        np.testing.assert_array_equal(OPS.permute_dims(y, (0, 2, 3, 1)), x.numpy().transpose(0, 2, 3, 1))
        np.testing.assert_array_equal(OPS.concat([y, y], 1), np.concatenate([x, x], 1))
    assert OPS.concat([x], 1) is x


# ---------------------------------------------------------------------- elements
def test_elements_are_what_their_names_say() -> None:
    x = torch.tensor([-30.0, -2.5, -1.0, -0.0, 0.0, 0.3, 1.0, 2.5, 30.0])
    n = x.double().numpy()
    with np.errstate(all="ignore"):
        wanted = {
            "exp": np.exp(n), "floor": np.floor(n), "tanh": np.tanh(n), "sigmoid": 1 / (1 + np.exp(-n)),
            "softplus": np.log1p(np.exp(n)), "relu": np.maximum(n, 0), "elu": np.where(n > 0, n, np.expm1(n)),
            "quantize": np.where(n > 0, 1, -1),
        }  # fmt: skip
    for name, values in wanted.items():
        np.testing.assert_allclose(getattr(OPS, name)(x), values, rtol=1e-6, atol=1e-7, err_msg=name)
    np.testing.assert_allclose(OPS.log(x.abs() + 1), np.log(np.abs(n) + 1), rtol=1e-6)
    np.testing.assert_allclose(OPS.leaky_relu(x, 0.1), np.where(n > 0, n, 0.1 * n), rtol=1e-6)
    np.testing.assert_allclose(OPS.clip(x, -1, 2), np.clip(n, -1, 2), rtol=1e-7)
    np.testing.assert_allclose(OPS.maximum(x, -x), np.abs(n), rtol=1e-7)
    np.testing.assert_allclose(OPS.minimum(x, -x), -np.abs(n), rtol=1e-7)
    np.testing.assert_allclose(OPS.softmax(x[None], 1), np.exp(n - 30)[None] / np.exp(n - 30).sum(), rtol=1e-5)
    np.testing.assert_allclose(OPS.sum(x[None], 1), [[n.sum()]], atol=1e-5)


def test_constants_are_what_numpy_has() -> None:
    value = np.arange(6, dtype=np.float32).reshape(2, 3).T
    np.testing.assert_array_equal(OPS.constant(value), value)


def test_every_primitive_is_there() -> None:
    wanted = {name for name in vars(Ops) if not name.startswith("_")}
    assert {name for name in wanted if not callable(getattr(TorchOps, name, None))} == set()


# ---------------------------------------------------------------------- in place
def test_a_leaky_activation_overwrites_only_what_is_new() -> None:
    x, weights = drawn(1, 2, 3, 3), drawn(2, 2, 1, 1, seed=1)
    ops = TorchOps()
    made = ops.conv(x, weights, None, (1, 1), (0, 0))
    plain = made.clone()
    other = ops.leaky_relu(x, 0.1)
    assert other is not x
    assert torch.equal(x, drawn(1, 2, 3, 3))
    found = ops.leaky_relu(made, 0.1)
    assert found.data_ptr() == made.data_ptr()
    assert torch.equal(found, torch.where(plain > 0, plain, 0.1 * plain))


# ---------------------------------------------------------------------- what batch norm notes
@pytest.mark.parametrize("compat", [False, True])
def test_a_batch_norm_that_learns_notes_what_it_saw_and_changes_nothing(compat: bool) -> None:
    """Mean and unbiased variance of each channel, in float64; the rolling statistics are for nn.batchnorm.roll."""
    ops = TorchOps(learning=True, compat=compat)
    x, mean, variance = drawn(3, 4, 5, 6) * 3 + 2, torch.full((4,), 7.0), torch.full((4,), 8.0)
    for _ in range(2):
        ops.batch_norm(x, torch.ones(4), torch.zeros(4), mean, variance)
    assert len(ops.statistics) == 2
    seen = ops.statistics[1]
    assert seen.rolling_mean is mean
    assert seen.rolling_variance is variance
    assert mean.tolist() == [7] * 4
    assert variance.tolist() == [8] * 4
    np.testing.assert_allclose(seen.mean, x.double().numpy().mean((0, 2, 3)), rtol=1e-5)
    np.testing.assert_allclose(seen.variance, x.double().numpy().var((0, 2, 3), ddof=1), rtol=1e-5)
    assert not seen.mean.requires_grad


@pytest.mark.parametrize("compat", [False, True])
def test_a_batch_norm_that_does_not_learn_notes_nothing(compat: bool) -> None:
    ops = TorchOps(compat=compat)
    ops.batch_norm(drawn(3, 4, 5, 6), torch.ones(4), torch.zeros(4), torch.zeros(4), torch.ones(4))
    assert ops.statistics == []
