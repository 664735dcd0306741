"""[batchnorm] of both dialects, [normalization] with its off-by-one, and [l2norm], against loops."""

from __future__ import annotations

import math

import numpy as np
import pytest
from conftest import model_of, network_of, run_layers

from lookonce.engines import EngineKind, available_engines
from lookonce.errors import CfgError

FORK = "letter_box=0"                # an option of [net] that only the fork knows: the whole cfg is in its dialect


def net(section: str, shape: tuple[int, ...], more: str = "") -> str:
    """A cfg of one layer for an input of (channels, height, width)."""
    channels, height, width = shape[-3:]
    return f"[net]\nchannels={channels}\nheight={height}\nwidth={width}\n{more}\n" + section.replace(" ", "\n")


def run(section: str, x: np.ndarray, engine: EngineKind = "onnxruntime") -> np.ndarray:
    return run_layers(model_of(net(section, x.shape)), x, engine=engine)[0]


def picture(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 1, shape).astype(np.float32)


# ---------------------------------------------------------------------- [batchnorm]
@pytest.mark.parametrize("engine", available_engines())
@pytest.mark.parametrize("compat", [False, True])
@pytest.mark.parametrize("dialect", ["", FORK])
def test_batch_norm_alone_takes_off_the_mean_and_divides_by_the_deviation(
    dialect: str, compat: bool, engine: EngineKind
) -> None:
    """Variances of 0, 1e-8, 1e-4 and 1: 1e-5 inside the root differs from 1e-6 outside it, which the fork never has."""
    x = picture(2, 4, 3, 5)
    model = model_of(net("[batchnorm]", x.shape, dialect))
    arrays = model.weights[0]
    arrays["variance"][...] = [0, 1e-8, 1e-4, 1]
    found = run_layers(model, x, compat=compat, engine=engine)[0]
    for place in np.ndindex(x.shape):
        mean, variance, scale = (float(arrays[name][place[1]]) for name in ("mean", "variance", "scales"))
        bias = float(arrays["biases"][place[1]]) if dialect else 0.0
        deviation = math.sqrt(variance) + 1e-6 if compat and not dialect else math.sqrt(variance + 1e-5)
        wanted = (float(x[place]) - mean) / deviation * scale + bias
        assert found[place] == pytest.approx(wanted, rel=2e-5, abs=2e-6 / deviation)


def test_only_the_forks_file_keeps_a_bias_for_batch_norm_alone() -> None:
    norm = [("scales", (4,)), ("mean", (4,)), ("variance", (4,))]
    entries = network_of(net("[batchnorm]", (4, 3, 5))).entries()
    assert [(entry.name, entry.shape) for entry in entries] == norm
    entries = network_of(net("[batchnorm]", (4, 3, 5), FORK)).entries()
    assert [(entry.name, entry.shape) for entry in entries] == [("biases", (4,)), *norm]


# ---------------------------------------------------------------------- [normalization]
def responses(x: np.ndarray, size: int, alpha: float, beta: float, kappa: float) -> np.ndarray:
    """x N^-beta, N a sum of squares from (size - 1) // 2 channels below to size // 2 above, but without channel
    size // 2, whichever channel it is for."""
    out = np.zeros(x.shape)
    forgotten = size // 2
    for one, k, row, column in np.ndindex(x.shape):
        squares = [float(value) ** 2 for value in x[one, :, row, column]]
        window = sum(squares[max(0, k - (size - 1) // 2) : k + size // 2 + 1])
        norm = kappa + alpha * (window - squares[forgotten])
        out[one, k, row, column] = float(x[one, k, row, column]) * norm**-beta
    return out


@pytest.mark.parametrize("engine", available_engines())
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 8, 11])
def test_local_response_divides_by_neighbouring_channels_but_one(size: int, engine: EngineKind) -> None:
    x = picture(2, 6, 3, 4)
    found = run(f"[normalization] size={size} alpha=.02 beta=.6 kappa=1.5", x, engine)
    np.testing.assert_allclose(found, responses(x, size, 0.02, 0.6, 1.5), rtol=1e-5)


def test_local_response_without_options_has_darknets_constants() -> None:
    x = picture(2, 8, 3, 4) * 30
    np.testing.assert_allclose(run("[normalization]", x), responses(x, 5, 1e-4, 0.75, 1.0), rtol=1e-5)
    assert np.array_equal(run("[lrn]", x), run("[normalization]", x))


# ---------------------------------------------------------------------- [l2norm]
@pytest.mark.parametrize("engine", available_engines())
def test_l2norm_gives_each_pixel_the_length_one(engine: EngineKind) -> None:
    x = picture(2, 5, 3, 4) * np.array([1e-6, 1, 1e6, 1], np.float32).reshape(1, 1, 1, 4)
    found = run("[l2norm]", x, engine)
    for one, row, column in np.ndindex(2, 3, 4):
        values = [float(value) for value in x[one, :, row, column]]
        length = math.sqrt(sum(value * value for value in values))
        assert found[one, :, row, column] == pytest.approx([value / length for value in values], rel=1e-4)


def test_l2norm_of_nothing_is_nothing() -> None:
    """Darknet's CPU code divides 0 by 0 here; its GPU code does not."""
    assert not run("[l2norm]", np.zeros((1, 3, 2, 2), np.float32)).any()


# ---------------------------------------------------------------------- refusals
@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("[normalization] size=8", r"window of 8 is wider than its 4 input channels"),
        ("[normalization] size=0", "size=0 .* 1 to "),
        ("[normalization] alpha=-1", "alpha=-1 .* at least 0"),
        ("[normalization] kappa=0", "kappa=0 .* at least 1e-06"),
    ],
)
def test_what_cannot_be_normalized_is_refused_with_its_numbers(section: str, message: str) -> None:
    with pytest.raises(CfgError, match=message):
        network_of(net(section, (4, 3, 5)))


@pytest.mark.parametrize("section", ["[normalization]", "[l2norm]"])
def test_normalizing_owns_nothing(section: str) -> None:
    assert network_of(net(section, (4, 3, 5))).entries() == []
