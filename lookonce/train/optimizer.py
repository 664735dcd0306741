"""Darknet's updates as torch's optimizers."""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor

from lookonce.errors import CfgError
from lookonce.layers.convolution import bits_of
from lookonce.network.options import NetOptions
from lookonce.nn import TorchNetwork

WEIGHTS = "weights"                      # the only arrays that decay


class Optimizer:
    """SGD with momentum and decay on weights only, or with `adam=1` Adam, each layer at its own multiple of the rate.

    Darknet adds rate/B times an update that sums the gradients of the B pictures, B times decay, and a share of the
    update before; with gradients of the mean loss that is SGD as torch has it. Darknet's Adam lets biases and scales
    decay too, and compares its epsilon with gradients summed over the batch; here with their mean, as everywhere else.
    """

    def __init__(self, network: TorchNetwork, options: NetOptions) -> None:
        self._network = network
        self._clips = [
            (tensor, each.clip)
            for node, each in zip(network.network.nodes, network.learning, strict=True)
            for name, tensor in network.arrays(node).items()
            if name == WEIGHTS and each.clip > 0 and tensor.requires_grad
        ]
        self._centred = [
            network.arrays(node)[WEIGHTS]
            for node in network.network.nodes
            if (bits := bits_of(node.layer)) and bits.zero_mean and network.arrays(node)[WEIGHTS].requires_grad
        ]
        groups: dict[tuple[float, float], list[Tensor]] = defaultdict(list)
        for node, each in zip(network.network.nodes, network.learning, strict=True):
            for name, tensor in network.arrays(node).items():
                if tensor.requires_grad:
                    decay = options.decay if name == WEIGHTS or options.adam else 0.0
                    groups[each.rate, decay].append(tensor)
        if not groups:
            raise CfgError(
                f"{network.network.cfg.path}: no layer learns; wanted one without learning_rate=0 and dont_update=1 "
                "after the last stopbackward=1"
            )
        self._rates = [rate for rate, _ in groups]
        rows = [{"params": tensors, "weight_decay": decay} for (_, decay), tensors in groups.items()]
        if options.adam:
            betas = options.b1, options.b2
            self._torch: torch.optim.Optimizer = torch.optim.Adam(rows, lr=0.0, betas=betas, eps=options.eps)
        else:
            self._torch = torch.optim.SGD(rows, lr=0.0, momentum=options.momentum, fused=True)

    def step(self, rate: float) -> None:
        """One update at `rate`. The gradients are then gone."""
        for group, multiple in zip(self._torch.param_groups, self._rates, strict=True):
            group["lr"] = rate * multiple
        self._torch.step()
        self.forget()
        with torch.no_grad():
            for tensor in self._centred:
                tensor -= tensor.mean(dim=1, keepdim=True)
            for tensor, limit in self._clips:
                tensor.clamp_(-limit, limit)

    def forget(self) -> None:
        """Drop the gradients of a step that is not made."""
        self._torch.zero_grad(set_to_none=True)

    def arrays(self) -> dict[str, Tensor]:
        """What it remembers of each parameter, by `memory/parameter`; empty before the first step."""
        return {
            f"{memory}/{name}": value if isinstance(value, Tensor) else torch.tensor(float(value))
            for name, parameter in self._network.named_parameters()
            for memory, value in self._torch.state.get(parameter, {}).items()
            if value is not None
        }

    def load(self, arrays: dict[str, Tensor]) -> None:
        """Take back what `arrays` gave."""
        self._torch.state.clear()
        parameters = dict(self._network.named_parameters())
        for key, value in arrays.items():
            memory, name = key.split("/", 1)
            own = value.reshape(()) if memory == "step" else value.reshape(parameters[name].shape)
            tensor = parameters[name]
            kept = own.clone() if memory == "step" else torch.empty_like(tensor).copy_(own)
            self._torch.state[tensor][memory] = kept
