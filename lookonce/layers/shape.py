"""What flows between layers and what a layer owns."""

from __future__ import annotations

import math
from typing import NamedTuple


class Shape(NamedTuple):
    """One picture's activation, the batch apart. A flat vector of n values is (n, 1, 1)."""

    channels: int
    height: int
    width: int

    @property
    def size(self) -> int:
        return math.prod(self)

    def __str__(self) -> str:
        return f"{self.width} x {self.height} x {self.channels}"      # Darknet's order


class Parameter(NamedTuple):
    """One array of a layer, in the order of the weights file.

    `fan_in` is how many products each output sums (Darknet draws weights from a normal distribution with the
    deviation sqrt(2 / fan_in)); None for an array that starts at the constant `start`.
    """

    name: str
    shape: tuple[int, ...]
    start: float = 0.0
    fan_in: int | None = None
    matrix: bool = False                # (outputs, inputs): transposed in some old files

    @property
    def size(self) -> int:
        return math.prod(self.shape)


def batch_norm_parameters(channels: int) -> list[Parameter]:
    """Scale, rolling mean and rolling variance. The biases of such a layer are batch norm's shift.

    Darknet starts the variance at 0; 1 is what makes an untrained network usable.
    """
    return [
        Parameter("scales", (channels,), start=1.0),
        Parameter("mean", (channels,)),
        Parameter("variance", (channels,), start=1.0),
    ]
