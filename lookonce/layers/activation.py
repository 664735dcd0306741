"""Darknet's activation functions (activations.h), and the fork's that occur in real cfgs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from lookonce.darknet.cfg import Section
from lookonce.layers.layer import Layer
from lookonce.layers.ops import Ops, T


def _plse(ops: Ops[T], x: T) -> T:
    """.125 x + .5 between -4 and 4, slope .01 outside: a function of falling slope on either side of its middle."""
    return ops.minimum(ops.maximum(x * 0.125 + 0.5, (x + 4.0) * 0.01), (x - 4.0) * 0.01 + 1.0)


def _stair(ops: Ops[T], x: T) -> T:
    """floor(x/2) where floor(x) is even, x - floor(x) + floor(x/2) where it is odd."""
    n = ops.floor(x)
    half = ops.floor(n * 0.5)                    # of n: half of the smallest number rounds to 0
    odd = n - half * 2.0
    return (x - n) * odd + half


def _lhtan(ops: Ops[T], x: T) -> T:
    """x between 0 and 1, slope .001 outside."""
    return ops.clip(x, 0.0, 1.0) + (x - ops.clip(x, 0.0, 1.0)) * 0.001


def _selu(ops: Ops[T], x: T) -> T:
    positive, negative = ops.relu(x), x - ops.relu(x)
    return positive * 1.0507 + (ops.exp(negative) - 1.0) * (1.0507 * 1.6732)


def _hard_mish(ops: Ops[T], x: T) -> T:
    """x above 0, x²/2 + x from -2 to 0, else 0."""
    dip = ops.clip(x, -2.0, 0.0)
    return ops.relu(x) + dip * dip * 0.5 + dip


def _gelu(ops: Ops[T], x: T) -> T:
    return x * 0.5 * (ops.tanh(x * 0.797885 + x * x * x * 0.035677) + 1.0)


ACTIVATIONS: Mapping[str, Callable[[Ops[Any], Any], Any]] = {
    "linear": lambda ops, x: x,
    "logistic": lambda ops, x: ops.sigmoid(x),
    "loggy": lambda ops, x: ops.sigmoid(x) * 2.0 - 1.0,
    "relu": lambda ops, x: ops.relu(x),
    "elu": lambda ops, x: ops.elu(x),
    "selu": _selu,
    "relie": lambda ops, x: ops.leaky_relu(x, 0.01),
    "ramp": lambda ops, x: ops.relu(x) + x * 0.1,
    "leaky": lambda ops, x: ops.leaky_relu(x, 0.1),
    "revleaky": lambda ops, x: ops.leaky_relu(x, 0.1),              # learns as leaky too, other than in the fork
    "tanh": lambda ops, x: ops.tanh(x),
    "plse": _plse,
    "stair": _stair,
    "hardtan": lambda ops, x: ops.clip(x, -1.0, 1.0),
    "lhtan": _lhtan,
    "relu6": lambda ops, x: ops.clip(x, 0.0, 6.0),
    "swish": lambda ops, x: x * ops.sigmoid(x),
    "mish": lambda ops, x: x * ops.tanh(ops.softplus(x)),
    "hard_mish": _hard_mish,
    "gelu": _gelu,
}


def activate(ops: Ops[T], x: T, name: str) -> T:
    """`x` through the activation `name`, one of ACTIVATIONS."""
    result: T = ACTIVATIONS[name](ops, x)
    return result


def activation_of(section: Section, default: str) -> str:
    """The activation that a section names. Raises CfgError for an unknown one, where Darknet would take ReLU."""
    return section.word("activation", default, among=ACTIVATIONS.keys())


@dataclass(frozen=True)
class Activation(Layer):
    """[activation]: an activation on its own."""

    section = "activation"
    activation: str

    @classmethod
    def from_cfg(cls, section: Section, index: int) -> Activation:
        return cls(activation_of(section, default="linear"))

    def forward(self, ops: Ops[T], x: T, weights: Mapping[str, T]) -> T:
        return activate(ops, x, self.activation)


@dataclass(frozen=True)
class Logistic(Layer):
    """[logistic]: a sigmoid that carries the cross-entropy in training."""

    section = "logistic"

    @classmethod
    def from_cfg(cls, section: Section, index: int) -> Logistic:
        return cls()

    def forward(self, ops: Ops[T], x: T, weights: Mapping[str, T]) -> T:
        return ops.sigmoid(x)
