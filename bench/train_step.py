"""What a training step costs beside plain PyTorch: python bench/train_step.py [STEPS]

yolov3-tiny at 416, batches of 8 random pictures with 15 truths each, f32, two threads: Learner.step, and a bare loop
over the same layers written with torch.nn, channels last, with the same loss function and fused SGD. Both start with
the same weights, and that they learn the same is checked first. Steps are taken in turn in one process; medians, and
the median of the ratios of neighbours, by the clock on the wall and by the processor's, which a busy machine disturbs
less.
"""

from __future__ import annotations

import statistics
import sys
import time
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lookonce.data.batches import Batch, Plan
from lookonce.layers.convolution import Convolution
from lookonce.layers.junctions import Route
from lookonce.layers.pooling import MaxPool
from lookonce.layers.wiring import Upsample
from lookonce.losses.network import NetworkLoss
from lookonce.losses.terms import Moment
from lookonce.model import Model, open_network
from lookonce.network import Network
from lookonce.train.allocator import keep_memory
from lookonce.train.learner import Learner
from lookonce.truth import Targets

PICTURES, TRUTHS, SIDE, THREADS, WARM = 8, 15, 416, 2, 3


class Bare(nn.Module):
    """The layers of a network as anybody would write them with torch.nn."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.nodes = model.network.nodes
        self.parts = nn.ModuleList(self._part(node, arrays) for node, arrays in zip(self.nodes, model.weights))  # noqa: B905

    @staticmethod
    def _part(node: Any, arrays: Any) -> nn.Module:
        layer, weights = node.layer, {name: torch.from_numpy(array.copy()) for name, array in arrays.items()}
        if isinstance(layer, Convolution):
            conv = nn.Conv2d(node.given[0].channels, layer.filters, layer.size, layer.stride, layer.padding,
                             bias=not layer.batch_normalize)  # fmt: skip
            conv.weight.data = weights["weights"]
            if not layer.batch_normalize:
                conv.bias.data = weights["biases"]
                return conv
            norm = nn.BatchNorm2d(layer.filters, momentum=0.01)
            norm.weight.data, norm.bias.data = weights["scales"], weights["biases"]
            norm.running_mean, norm.running_var = weights["mean"], weights["variance"]
            return nn.Sequential(conv, norm, nn.LeakyReLU(0.1, inplace=True))
        if isinstance(layer, MaxPool):
            pool = nn.MaxPool2d(layer.size, layer.stride)
            pad = nn.ConstantPad2d((0, 1, 0, 1), float("-inf"))
            return nn.Sequential(pad, pool) if layer.stride[0] == 1 else pool
        return nn.Upsample(scale_factor=2) if isinstance(layer, Upsample) else nn.Identity()

    def forward(self, x: Tensor) -> dict[int, Tensor]:
        outputs = {-1: x}
        for node, part in zip(self.nodes, self.parts, strict=True):
            xs = [outputs[source] for source in node.sources]
            outputs[node.index] = torch.cat(xs, 1) if isinstance(node.layer, Route) and len(xs) > 1 else part(xs[0])
        return outputs


def bare_step(model: Model) -> Callable[[Batch], float]:
    """One step of the plain loop."""
    network, loss = Bare(model).to(memory_format=torch.channels_last).train(), NetworkLoss(model.network)
    options = model.network.options
    weights = [tensor for tensor in network.parameters() if tensor.ndim == 4]
    others = [tensor for tensor in network.parameters() if tensor.ndim != 4]
    groups = [{"params": weights, "weight_decay": options.decay}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.SGD(groups, lr=options.learning_rate, momentum=options.momentum, fused=True)

    def step(batch: Batch) -> float:
        pictures = torch.from_numpy(batch.pictures).to(memory_format=torch.channels_last)
        targets = batch.targets.map(torch.from_numpy)
        total = loss(network(pictures), targets, Moment((SIDE, SIDE))).total / len(pictures)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        return total.item()

    return step


def batches(count: int) -> list[Batch]:
    rng = np.random.default_rng(0)
    made = []
    for number in range(count):
        boxes = [np.concatenate([rng.uniform(0.1, 0.9, (TRUTHS, 2)), rng.uniform(0.02, 0.5, (TRUTHS, 2))], axis=1)
                 for _ in range(PICTURES)]  # fmt: skip
        targets = Targets.of([(box, rng.integers(0, 80, TRUTHS)) for box in boxes])
        pictures = rng.random((PICTURES, 3, SIDE, SIDE), np.float32)
        made.append(Batch(pictures, targets, Plan(number, tuple(range(PICTURES)), SIDE, SIDE)))
    return made


def main() -> None:
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 30
    warnings.simplefilter("ignore")
    torch.set_num_threads(THREADS)
    keep_memory()
    cfg = open_network("yolov3-tiny").cfg
    cfg = cfg.with_options(cfg.sections[0], width=SIDE, height=SIDE, batch=PICTURES, subdivisions=1, burn_in=0)
    model = Model.random(Network.build(cfg))
    learner, bare, data = Learner(model), bare_step(model), batches(4)
    for batch in data[:WARM]:
        ours, theirs = learner.step([batch]).loss, bare(batch)
        assert abs(ours - theirs) < 1e-3 * theirs, f"{ours} and {theirs}: they do not learn the same"
    calls: dict[str, Callable[[Batch], Any]] = {"Learner.step": lambda batch: learner.step([batch]), "bare": bare}
    clocks = {"wall": time.perf_counter, "processor": time.process_time}
    taken: dict[tuple[str, str], list[float]] = {(name, clock): [] for name in calls for clock in clocks}
    for turn in range(steps):
        for name in sorted(calls, reverse=turn % 2 == 1):           # neither always goes first
            start = {clock: read() for clock, read in clocks.items()}
            calls[name](data[turn % len(data)])
            for clock, read in clocks.items():
                taken[name, clock].append(read() - start[clock])
    print(f"yolov3-tiny at {SIDE}, batch {PICTURES}, {THREADS} threads, {steps} steps each:")
    for clock in clocks:
        ours, theirs = taken["Learner.step", clock], taken["bare", clock]
        ratio = statistics.median(one / other for one, other in zip(ours, theirs, strict=True))
        print(
            f"{clock}: Learner.step {1e3 * statistics.median(ours):.0f} ms, bare {1e3 * statistics.median(theirs):.0f} "
            f"ms; ratio of medians {statistics.median(ours) / statistics.median(theirs):.3f}, median of ratios "
            f"{ratio:.3f}, of the fastest {min(ours) / min(theirs):.3f}"
        )


if __name__ == "__main__":
    main()
