"""What a loss gives back: named terms, and the sum that Darknet prints.

Darknet has no losses but deltas, truth minus answer, which it sends back as if they were minus a gradient. Each term
here is the function that has this gradient: cross-entropy where the delta belongs to a logit behind a sigmoid or
softmax, half a square elsewhere. What Darknet prints is the sum of squared deltas, which is differentiated nowhere.
All sums are over the batch and not divided by it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor

from lookonce.truth import Targets


class Term(NamedTuple):
    """One term, a scalar that already carries its weight, and the sum of its squared deltas."""

    value: Tensor
    squares: Tensor

    def __add__(self, other: Term) -> Term:                                     # type: ignore[override]
        return Term(self.value + other.value, self.squares + other.squares)


@dataclass(frozen=True)
class LossTerms:
    """The terms of one head or of a network, scalars: None where a head has no such term.

    `centre` and `extent` draw the boxes to the truths, `overlap` does it by an IOU loss instead; `objects` and
    `background` are objectness where there is an object and where there is none; `classes`; `priors` draws boxes to
    their anchors at the start (YOLOv2's first 12,800 pictures). `printed` is what Darknet prints as the cost.
    """

    centre: Tensor | None = None
    extent: Tensor | None = None
    overlap: Tensor | None = None
    objects: Tensor | None = None
    background: Tensor | None = None
    classes: Tensor | None = None
    priors: Tensor | None = None
    printed: Tensor | None = None

    @classmethod
    def of(cls, **terms: Term) -> LossTerms:
        """From named terms; what Darknet prints is the sum of their squares."""
        printed = torch.stack([term.squares.detach() for term in terms.values()]).sum()
        return cls(**{name: term.value for name, term in terms.items()}, printed=printed)

    @property
    def total(self) -> Tensor:
        """What is made small: the sum of all terms."""
        return torch.stack(list(self.named().values())).sum()

    def named(self) -> dict[str, Tensor]:
        """The terms that are there, by name, without what is printed."""
        values = {name: getattr(self, name) for name in FIELDS if name != "printed"}
        return {name: value for name, value in values.items() if value is not None}

    def detached(self) -> LossTerms:
        """The same numbers without their history."""
        values = {name: getattr(self, name) for name in FIELDS}
        return LossTerms(**{name: None if value is None else value.detach() for name, value in values.items()})

    def __add__(self, other: LossTerms) -> LossTerms:
        pairs = {name: (getattr(self, name), getattr(other, name)) for name in FIELDS}
        return LossTerms(**{name: b if a is None else a if b is None else a + b for name, (a, b) in pairs.items()})


FIELDS = tuple(field.name for field in dataclasses.fields(LossTerms))


class Moment(NamedTuple):
    """What a loss depends on beside the batch: the network's input (width, height), and the pictures seen in training.

    `seen` counts this mini-batch too, as Darknet does. `compat` takes Darknet's accidents where a docstring names them.
    """

    input: tuple[int, int]
    seen: int = 0
    compat: bool = False


class Loss(Protocol):
    """A loss of one layer: what flows into it, (B, C, H, W), and the truths of the batch, to terms.

    That of one [yolo] of several is told by `mine` which of the rows without a box are its own.
    """

    def __call__(self, raw: Tensor, targets: Targets, moment: Moment, **more: Tensor) -> LossTerms: ...


def half_square(answer: Tensor, truth: Tensor | float, scale: Tensor | float = 1.0) -> Term:
    """Σ scale·(truth - answer)²/2: its delta is scale·(truth - answer)."""
    away = truth - answer
    return Term((scale * away.square()).sum() / 2, (scale * away).detach().square().sum())


def logistic(logits: Tensor, truth: Tensor | float, scale: Tensor | float = 1.0) -> Term:
    """Σ scale·cross-entropy(truth, σ(logits)): its delta is scale·(truth - σ)."""
    truth = torch.as_tensor(truth, dtype=logits.dtype, device=logits.device).expand_as(logits)
    value = (scale * F.binary_cross_entropy_with_logits(logits, truth, reduction="none")).sum()
    return Term(value, (scale * (truth - logits.detach().sigmoid())).square().sum())


def softmax(logits: Tensor, truth: Tensor, scale: Tensor | float = 1.0) -> Term:
    """Σ scale·cross-entropy(truth, softmax(logits)) over the last axis: its delta is scale·(truth - p).

    The truths of a row sum to 1.
    """
    value = -(scale * truth * logits.log_softmax(-1)).sum()
    return Term(value, (scale * (truth - logits.detach().softmax(-1))).square().sum())
