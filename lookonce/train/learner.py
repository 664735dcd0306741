"""Learner: a network, its loss and its optimizer; one step at a time."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from torch import Tensor

from lookonce.data.batches import Batch, Plan
from lookonce.errors import LookonceError
from lookonce.losses.network import NetworkLoss
from lookonce.losses.terms import FIELDS, LossTerms, Moment
from lookonce.model import Model
from lookonce.nn import TorchNetwork
from lookonce.nn.batchnorm import roll
from lookonce.nn.ops import Statistics
from lookonce.train.average import Average
from lookonce.train.distributed import World
from lookonce.train.optimizer import Optimizer
from lookonce.train.schedule import learning_rate
from lookonce.truth import Targets

Precision = Literal["f32", "bf16"]


class NonFiniteError(LookonceError):
    """A loss, gradient or weight that is NaN or infinite. Nothing was learnt from the batch, which had these plans."""

    def __init__(self, message: str, plans: Sequence[Plan] = ()) -> None:
        super().__init__(message)
        self.plans = tuple(plans)


@dataclass(frozen=True)
class Step:
    """One update: its number from 1, the pictures seen by then, its rate, and its terms per picture, by name.

    `printed` is what Darknet prints as the loss, `seconds` how long it took, `size` the input's width and height.
    """

    number: int
    seen: int
    rate: float
    terms: Mapping[str, float]
    printed: float
    seconds: float
    size: tuple[int, int]

    @property
    def loss(self) -> float:
        """What was made small: the sum of the terms."""
        return sum(self.terms.values())


class Options(NamedTuple):
    """How a Learner computes. `compat` reproduces Darknet's CPU arithmetic; all chance follows from `seed`."""

    device: torch.device = torch.device("cpu")
    precision: Precision = "f32"
    compat: bool = False
    compiled: bool = False
    seed: int = 0


class Learner:
    """A model while it learns.

    A step takes `subdivisions` mini-batches, sums the gradients of their losses, divided by the number of pictures,
    and updates once at the rate of the schedule. Nothing is changed by a step that meets NaN or infinity. Raises
    CfgError for a network that has nothing to learn.
    """

    def __init__(self, model: Model, options: Options | None = None, world: World | None = None) -> None:
        self.options = options or Options()
        self.world = world or World()
        self.model = model
        self.net = model.network.options
        self.network = TorchNetwork(model, compat=self.options.compat).to(self.options.device).train()
        self.loss = NetworkLoss(model.network)
        self.optimizer = Optimizer(self.network, self.net)
        self.average = Average(self.network, self.net.ema_alpha) if self.net.ema_alpha else None
        self._now = self.network.state_dict()
        self.number = 0
        self.seen = model.header.seen
        self._forward: Any = torch.compile(self.network) if self.options.compiled else self.network

    # ------------------------------------------------------------------ learning
    def step(self, batches: Sequence[Batch]) -> Step:
        """Learn from the mini-batches of one batch; of several processes each gives its own share.

        Raises NonFiniteError, and has then changed nothing.
        """
        begin, world = time.monotonic(), self.world
        pictures = sum(len(batch.pictures) for batch in batches) * world.size
        statistics: list[list[Statistics]] = []
        found: list[LossTerms] = []
        self.optimizer.forget()  # what a step left that an error ended
        for turn, batch in enumerate(batches):
            seen = self.seen + (turn * world.size + world.rank + 1) * len(batch.pictures)
            terms = self._terms(batch, seen)
            (terms.total / pictures).backward()  # type: ignore[no-untyped-call]
            found.append(terms.detached())
            statistics.append(self.network.statistics)
        totals = self._summed(batches, found, statistics)
        seen = self.seen + pictures
        rate = learning_rate(self.net, seen // pictures, self.options.seed)
        self.optimizer.step(rate)
        roll(world.gather(statistics))
        if self.average is not None:
            self.average.update()
        self.number, self.seen = self.number + 1, seen
        printed = totals.pop("printed") / pictures
        # Another process may have had a term that this one has not.
        terms_of = {name: value / pictures for name, value in totals.items() if value or name in found[0].named()}
        height, width = batches[-1].pictures.shape[2:]
        return Step(self.number, seen, rate, terms_of, printed, time.monotonic() - begin, (width, height))

    def rehearse(self, pictures: int, width: int, height: int) -> None:
        """Forward and back with a mini-batch of grey pictures that show nothing. Nothing is changed."""
        grey = np.full((pictures, self.model.network.input.channels, height, width), 0.5, np.float32)
        nothing = Targets.of([(np.zeros((0, 4)), np.zeros(0))] * pictures)
        terms = self._terms(Batch(grey, nothing, Plan(0, (), width, height)), 0)
        terms.total.backward()  # type: ignore[no-untyped-call]
        self.optimizer.forget()

    def _terms(self, batch: Batch, seen: int) -> LossTerms:
        """The loss of one mini-batch, with its history; NaN if one of its truths is no number."""
        device = self.options.device
        outputs = self._outputs(self._forward, batch, self.loss.wanted)
        targets = batch.targets.map(lambda array: torch.from_numpy(array).to(device))
        height, width = batch.pictures.shape[2:]
        terms = self.loss(outputs, targets, Moment((width, height), seen, self.options.compat))
        if _has_odd_rows(batch.targets) and terms.printed is not None:
            return replace(terms, printed=terms.printed * math.nan)
        return terms

    def _outputs(self, network: Any, batch: Batch, wanted: Sequence[int]) -> dict[int, Tensor]:
        """What layers put out for a mini-batch."""
        device = self.options.device
        # All chance follows from the number of the mini-batch: there is no state of it to keep.
        torch.manual_seed(_mixed(self.options.seed, batch.plan.number))
        pictures = torch.from_numpy(batch.pictures).to(device, memory_format=torch.channels_last, non_blocking=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.options.precision == "bf16"):
            outputs: dict[int, Tensor] = network(pictures, tuple(wanted))
        return outputs

    def _summed(
        self, batches: Sequence[Batch], found: Sequence[LossTerms], statistics: Sequence[Sequence[Statistics]]
    ) -> dict[str, float]:
        """Sum gradients and terms over all processes; the terms by name. Raises NonFiniteError."""
        gradients = [tensor.grad for tensor in self.network.parameters() if tensor.grad is not None]
        self.world.sum(gradients)
        # What is kept may hold NaN where this batch did not look, as in the logit of a class that it does not show.
        kept = [each.variance for turn in statistics for each in turn]
        kept += [value for value in self._kept().values() if value.ndim]  # counters may lie on another device
        # The squares of finite numbers may be too large for a float. The largest number is not, but takes 30 times as
        # long to find.
        for order in (2.0, math.inf):
            sums = torch.cat([_sums(found), _size(kept, order)])
            self.world.sum([sums])
            numbers = torch.cat([sums, _size(gradients, order)]).tolist()
            totals = dict(zip(FIELDS, numbers, strict=False))
            if all(map(math.isfinite, numbers)):
                return totals
        problem = self._explained(totals, found, batches, statistics)
        self.optimizer.forget()
        raise problem

    # ------------------------------------------------------------------ what went wrong
    @torch.no_grad()
    def _explained(
        self, totals: Mapping[str, float], found: Sequence[LossTerms], batches: Sequence[Batch],
        statistics: Sequence[Sequence[Statistics]],
    ) -> NonFiniteError:  # fmt: skip
        """What is NaN or infinite, in words. Of several processes each names its own mini-batches."""
        odd = [name for name, value in totals.items() if not math.isfinite(value)]
        bad = [batch for batch, terms in zip(batches, found, strict=True) if not _is_finite(terms)]
        if not bad and (not odd or self.world.size == 1):
            bad = list(batches)
        what = f"the loss is not finite ({', '.join(odd)})" if odd else "not everything is finite"
        return NonFiniteError(
            f"step {self.number + 1}: {what}{self._cause(bad, statistics)}; nothing was learnt from it; a lower "
            "learning_rate or a longer burn_in is the usual cure",
            [batch.plan for batch in bad],
        )

    def _cause(self, batches: Sequence[Batch], statistics: Sequence[Sequence[Statistics]]) -> str:
        """What is the first not to be finite, in words, as far as it can be told."""
        nodes = self.model.network.nodes
        kinds = {"now": "", "optimizer": "optimizer's memory of the ", "average": "average of the "}
        for key, tensor in self._kept().items():
            if _are_odd(tensor):
                kind, name = key.split("/")[0], key.split("/")[-1]
                return f": the {kinds[kind]}{name[4:]} of {nodes[int(name[:3])]}"
        for batch in batches:
            if not np.isfinite(batch.pictures).all():
                return ": its pictures"
            if _has_odd_rows(batch.targets):
                return ": its truths"
        for batch in batches:
            outputs = self._outputs(self.network, batch, range(max(self.loss.wanted) + 1))
            for index, output in outputs.items():
                if _are_odd(output):
                    return f": what {nodes[index]} puts out"
        for node in nodes:
            rolling = self.network.arrays(node).get("variance")
            if any(_are_odd(each.variance) for turn in statistics for each in turn if each.rolling_variance is rolling):
                return f": the variance of what {node} makes"
        for node in reversed(nodes):
            for name, tensor in self.network.arrays(node).items():
                if tensor.grad is not None and _are_odd(tensor.grad):
                    return f": the gradient of the {name} of {node}"
        return ""

    # ------------------------------------------------------------------ its state
    def to_model(self, *, averaged: bool = True) -> Model:
        """The model as it is now, by the moving average if there is one."""
        values = self.average.values if averaged and self.average is not None else None
        model = self.network.to_model(self.model, values)
        return replace(model, header=replace(model.header, seen=self.seen))

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """All that a run needs to go on bit for bit: copies of arrays by name, and facts."""
        arrays = {name: _plain(value) for name, value in self._kept().items()}
        updates = self.average.updates if self.average is not None else 0
        return arrays, {"step": self.number, "seen": self.seen, "averaged": updates}

    def load(self, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> None:
        """Go back to where `state` was taken. Raises LookonceError if it is another network's."""
        parts: dict[str, dict[str, Tensor]] = {"now": {}, "optimizer": {}, "average": {}}
        for key, array in arrays.items():
            part, name = key.split("/", 1)
            parts[part][name] = torch.from_numpy(array)
        own = {name: tuple(value.shape) for name, value in self.network.state_dict().items()}
        if {name: tuple(value.shape) for name, value in parts["now"].items()} != own:
            raise LookonceError(f"{self.model.network.cfg.path}: the checkpoint is of another network")
        self.network.load_state_dict(parts["now"])
        self.optimizer.load(parts["optimizer"])
        if self.average is not None:
            self.average.load(parts["average"], int(facts["averaged"]))
        self.number, self.seen = int(facts["step"]), int(facts["seen"])

    def _kept(self) -> dict[str, Tensor]:
        """The tensors that one step leaves to the next, by name."""
        tensors = {f"now/{name}": value for name, value in self._now.items()}
        tensors |= {f"optimizer/{name}": value for name, value in self.optimizer.arrays().items()}
        if self.average is not None:
            tensors |= {f"average/{name}": value for name, value in self.average.values.items()}
        return tensors


def learn(learner: Learner, batches: Iterable[Batch]) -> Iterator[Step]:
    """Learn from mini-batches as long as they come. The caller logs, saves, judges and stops."""
    group: list[Batch] = []
    share = learner.net.subdivisions // learner.world.size
    for batch in batches:
        group.append(batch)
        if len(group) == share:
            yield learner.step(group)
            group = []


def _sums(found: Sequence[LossTerms]) -> Tensor:
    """Each term's sum over mini-batches, in the order of FIELDS, 0 where there is no such term; float64."""
    whole = sum(found[1:], found[0])
    assert whole.printed is not None
    values = [getattr(whole, name) for name in FIELDS]
    nothing = whole.printed.new_zeros(())
    return torch.stack([nothing if value is None else value for value in values]).double()


def _size(tensors: Sequence[Tensor], order: float) -> Tensor:
    """The sum (1,), float64, of the norms of some tensors: finite only if all their values are."""
    return torch.stack(torch._foreach_norm(list(tensors), order)).double().sum().reshape(1)


def _is_finite(terms: LossTerms) -> bool:
    return not any(_are_odd(value) for value in (terms.total, terms.printed) if value is not None)


def _are_odd(values: Tensor) -> bool:
    """Whether there is NaN or infinity among them."""
    return not bool(torch.isfinite(values).all())


def _has_odd_rows(targets: Targets) -> bool:
    """Whether a row is neither a box nor, by NaN throughout, one that does not say where."""
    finite = np.isfinite(targets.cxcywh)
    return not bool(np.all(finite.all(1) | np.isnan(targets.cxcywh).all(1)))


def _mixed(seed: int, number: int) -> int:
    """A seed for one mini-batch."""
    return int(np.random.SeedSequence((seed, number)).generate_state(1, np.uint64)[0] >> 1)


def _plain(tensor: Tensor) -> np.ndarray:
    return np.array(tensor.detach().cpu().numpy(), order="C")
