"""Average: the weights of the last steps, averaged."""

from __future__ import annotations

import torch
from torch import Tensor


class Average:
    """An exponential moving average of a module's parameters and statistics, by the names of its state.

    Each update keeps `alpha` of what was there, less at the start: (1 + n) / (10 + n) of it at update n, so that the
    random weights of the beginning are soon forgotten.
    """

    def __init__(self, network: torch.nn.Module, alpha: float) -> None:
        self.alpha = alpha
        self.updates = 0
        self._now = list(network.state_dict().values())
        self.values: dict[str, Tensor] = {name: value.clone() for name, value in network.state_dict().items()}

    def update(self) -> None:
        """Take the weights as they are now into the average."""
        self.updates += 1
        keep = min(self.alpha, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(list(self.values.values()), self._now, 1 - keep)

    def load(self, values: dict[str, Tensor], updates: int) -> None:
        """Take back what was saved."""
        self.updates = updates
        for name, value in values.items():
            self.values[name].copy_(value)
