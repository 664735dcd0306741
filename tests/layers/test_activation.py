"""Every activation against its formula, on a grid that holds the borders of all of them."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from conftest import model_of, network_of, run_layers

from lookonce.engines import EngineKind, available_engines
from lookonce.errors import CfgError
from lookonce.layers.activation import ACTIVATIONS


def logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x)) if x >= 0 else math.exp(x) / (1 + math.exp(x))


def plse(x: float) -> float:
    if x < -4:
        return 0.01 * (x + 4)
    if x > 4:
        return 0.01 * (x - 4) + 1
    return 0.125 * x + 0.5


def stair(x: float) -> float:
    n = math.floor(x)
    if n % 2 == 0:
        return math.floor(x / 2)
    return (x - n) + math.floor(x / 2)


def lhtan(x: float) -> float:
    if x < 0:
        return 0.001 * x
    if x > 1:
        return 0.001 * (x - 1) + 1
    return x


def softplus(x: float) -> float:
    return math.log1p(math.exp(x)) if x < 30 else x


def hard_mish(x: float) -> float:
    if x > 0:
        return x
    if x > -2:
        return x * x / 2 + x
    return 0.0


FORMULAS: dict[str, Callable[[float], float]] = {
    "linear": lambda x: x,
    "logistic": logistic,
    "loggy": lambda x: 2 * logistic(x) - 1,
    "relu": lambda x: max(0.0, x),
    "elu": lambda x: x if x >= 0 else math.expm1(x),
    "selu": lambda x: 1.0507 * x if x >= 0 else 1.0507 * 1.6732 * math.expm1(x),
    "relie": lambda x: x if x > 0 else 0.01 * x,
    "ramp": lambda x: max(0.0, x) + 0.1 * x,
    "leaky": lambda x: x if x > 0 else 0.1 * x,
    "tanh": math.tanh,
    "plse": plse,
    "stair": stair,
    "hardtan": lambda x: min(1.0, max(-1.0, x)),
    "lhtan": lhtan,
    "relu6": lambda x: min(6.0, max(0.0, x)),
    "swish": lambda x: x * logistic(x),
    "mish": lambda x: x * math.tanh(softplus(x)),
    "hard_mish": hard_mish,
    "revleaky": lambda x: x if x > 0 else 0.1 * x,
    "gelu": lambda x: 0.5 * x * (1 + math.tanh(0.797885 * x + 0.035677 * x**3)),
}

BORDERS = [-4.0, -2.0, -1.0, 0.0, 1.0, 4.0, 6.0]
BESIDE = [float(np.nextafter(np.float32(at), np.float32(to))) for at in BORDERS for to in (-99, 99)]
GRID = np.array([*range(-12, 13), *BESIDE, *np.linspace(-11.3, 11.3, 173), -30, 30], np.float32)


def through(section: str, values: np.ndarray, engine: EngineKind = "onnxruntime") -> np.ndarray:
    """A row of values after one layer."""
    model = model_of(f"[net]\nchannels=1\nheight=1\nwidth={values.size}\n" + section.replace(" ", "\n"))
    return run_layers(model, values.reshape(1, 1, 1, -1), engine=engine)[0].reshape(-1)


def test_every_activation_has_a_formula_here() -> None:
    assert ACTIVATIONS.keys() == FORMULAS.keys()


@pytest.mark.parametrize("engine", available_engines())
@pytest.mark.parametrize("name", FORMULAS)
def test_an_activation_equals_its_formula(name: str, engine: EngineKind) -> None:
    found = through(f"[activation] activation={name}", GRID, engine)
    wanted = [FORMULAS[name](float(value)) for value in GRID]
    np.testing.assert_allclose(found, wanted, rtol=3e-6, atol=2e-6)


@pytest.mark.parametrize("engine", available_engines())
@pytest.mark.parametrize("name", FORMULAS)
def test_an_activation_of_a_large_value_is_its_limit(name: str, engine: EngineKind) -> None:
    """1e4 overflows an exponential in float32, where a formula written carelessly gives inf or nan."""
    values = np.array([-1e4, -200, 200, 1e4], np.float32)
    found = through(f"[activation] activation={name}", values, engine)
    wanted = [FORMULAS[name](float(value)) for value in values]
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-5)


def test_a_layer_without_activation_leaves_its_input_alone() -> None:
    assert np.array_equal(through("[activation]", GRID), GRID)


def test_a_logistic_layer_is_the_logistic() -> None:
    assert np.array_equal(through("[logistic]", GRID), through("[activation] activation=logistic", GRID))


@pytest.mark.parametrize("section", ["[convolutional]", "[connected]", "[local]"])
@pytest.mark.parametrize("name", ["stair", "mish"])
def test_layers_with_weights_apply_their_activation_last(section: str, name: str) -> None:
    """The bias is part of what is activated."""
    model = model_of(f"[net]\nchannels=1\nheight=1\nwidth=1\n{section}\nactivation={name}")
    arrays = model.weights[0]
    arrays["weights"][...], arrays["biases"][...] = 2, -3
    for value in (-1.3, 0.7, 3.9):
        found = run_layers(model, np.full((1, 1, 1, 1), value))[0]
        assert found.item() == pytest.approx(FORMULAS[name](2 * value - 3), abs=1e-5)


def test_an_unknown_activation_is_refused_with_what_there_is() -> None:
    """Darknet takes ReLU for it, with a word on the console."""
    with pytest.raises(CfgError, match=r"test.cfg:6: .*activation=leakey is not known, did you mean leaky.* swish"):
        network_of("[net]\nchannels=1\nheight=1\nwidth=1\n[convolutional]\nactivation=leakey")
