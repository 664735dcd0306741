"""TorchNetwork: a Model as a torch module, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor

from lookonce.layers.convolution import Convolution
from lookonce.layers.plain import Crop, Dropout
from lookonce.model import Model
from lookonce.network import Network, Node
from lookonce.network.learning import learning_of
from lookonce.nn.binary import in_few_bits
from lookonce.nn.ops import Statistics, TorchOps

ROLLING = ("mean", "variance")  # statistics, not learnt by gradients


class TorchNetwork(torch.nn.Module):
    """The layers of a Model over torch tensors, computing what its graph computes.

    Its parameters are the model's arrays as they are, called by layer and array, `013_weights`; the rolling statistics
    are buffers. Weights of few bits are made at each forward of the real ones, which learn (nn.binary). While it learns
    (`train()`), dropout drops, [crop] crops and flips at random, and batch norm goes by its mini-batch; what it saw is
    in `statistics` after each forward, for `nn.batchnorm.roll`. That is so as well in layers whose parameters do not
    learn: as in Darknet, their rolling statistics go on. With `compat` it learns as Darknet's CPU code does, unless the
    cfg is the fork's: batch norm is its own (nn.batchnorm), `binary=1` is ignored, and to what a 1 x 1 convolution
    reads nothing flows back from later layers. What `xnor=1` hands back is that of Darknet's GPU code all the same.
    """

    def __init__(self, model: Model, *, compat: bool = False) -> None:
        super().__init__()
        self.network: Network = model.network
        self.compat = compat and not model.network.cfg.fork  # the fork has neither accident
        self.learning = learning_of(model.network)
        self.statistics: list[Statistics] = []
        self._keys = [
            {parameter.name: f"{node.index:03d}_{parameter.name}" for parameter in node.parameters}
            for node in model.network.nodes
        ]
        self._ways: dict[tuple[int, ...], tuple[Node, ...]] = {}
        first = self._first_learning()
        for node, arrays in zip(self.network.nodes, model.weights, strict=True):
            for name, key in self._keys[node.index].items():
                tensor = torch.from_numpy(np.array(arrays[name], np.float32))
                if tensor.ndim == 4:
                    tensor = tensor.contiguous(memory_format=torch.channels_last)
                if name in ROLLING:
                    self.register_buffer(key, tensor)
                else:
                    learns = node.index >= first and self._learns(node.index, name)
                    self.register_parameter(key, torch.nn.Parameter(tensor, learns))

    def forward(self, pictures: Tensor, wanted: Sequence[int] = ()) -> dict[int, Tensor]:
        """What each layer of `wanted` puts out for a batch (B, C, H, W) in [0, 1]; -1 is the batch itself.

        Without `wanted` the network's last layer. Layers that none of them needs are not computed.
        """
        ops = TorchOps(learning=self.training, compat=self.compat)
        ops.device, ops.dtype = pictures.device, pictures.dtype
        wanted = tuple(wanted) or (self.network.output.index,)
        outputs: dict[int, Tensor] = {-1: pictures}
        found = {-1: pictures} if -1 in wanted else {}
        for node in self._way_to(wanted):
            ops.new = None
            output = self._layer(node, ops, [outputs[source] for source in node.sources])
            outputs[node.index] = output
            if node.index in wanted:
                found[node.index] = output
            if self.compat and isinstance(node.layer, Convolution) and node.layer.size == 1:
                # convolutional_layer.c writes the delta of what it read, over what later layers had added to it.
                (source,) = node.sources
                outputs[source] = outputs[source].detach()
        self.statistics = ops.statistics
        return found

    # ------------------------------------------------------------------ its arrays
    def arrays(self, node: Node) -> dict[str, Tensor]:
        """A layer's parameters and rolling statistics by name."""
        return {name: getattr(self, key) for name, key in self._keys[node.index].items()}

    def to_model(self, model: Model, values: Mapping[str, Tensor] | None = None) -> Model:
        """`model` with this module's arrays, or with `values` by the names of its state, bit for bit."""
        state = self.state_dict() if values is None else values
        weights = tuple({name: _array(state[key]) for name, key in keys.items()} for keys in self._keys)
        return replace(model, weights=weights, trained=len(weights))

    # ------------------------------------------------------------------ its layers
    def _way_to(self, wanted: tuple[int, ...]) -> tuple[Node, ...]:
        """The layers that those of `wanted` are computed from, in order."""
        if wanted not in self._ways:
            needed = set(wanted)
            for node in reversed(self.network.nodes):
                if node.index in needed:
                    needed.update(node.sources)
            self._ways[wanted] = tuple(node for node in self.network.nodes if node.index in needed)
        return self._ways[wanted]

    def _layer(self, node: Node, ops: TorchOps, xs: Sequence[Tensor]) -> Tensor:
        if self.training and isinstance(node.layer, Dropout):
            return F.dropout(xs[0], node.layer.probability)
        if self.training and isinstance(node.layer, Crop):
            return _random_crop(node.layer, xs[0])
        return node.forward(ops, xs, in_few_bits(node, self.arrays(node), self.compat))

    def _first_learning(self) -> int:
        """The first layer that learns: Darknet's backward pass ends at the last `stopbackward`."""
        return max((index + 1 for index, each in enumerate(self.learning) if each.stop), default=0)

    def _learns(self, layer: int, name: str) -> bool:
        each = self.learning[layer]
        batch_norm = name == "scales" or (name == "biases" and self._has_scales(layer))
        return each.rate > 0 and not each.frozen and (batch_norm or not each.only_batch_norm)

    def _has_scales(self, layer: int) -> bool:
        return any(parameter.name == "scales" for parameter in self.network.nodes[layer].parameters)


def _array(tensor: Tensor) -> np.ndarray:
    """A copy in the order of the weights file, float32."""
    return tensor.detach().cpu().float().contiguous(memory_format=torch.contiguous_format).numpy().copy()


def _random_crop(layer: Crop, x: Tensor) -> Tensor:
    """[crop] while it learns: one random place and flip for the whole batch, as on Darknet's CPU."""
    free = x.shape[2] - layer.height, x.shape[3] - layer.width
    top, left = (int(torch.randint(room + 1, ())) for room in free)
    x = x[:, :, top : top + layer.height, left : left + layer.width]
    if layer.flip and bool(torch.rand(()) < 0.5):
        x = x.flip(3)
    return x if layer.noadjust else x * 2.0 - 1.0
