"""A small detector learns what a public one says: python recipes/taught.py STUDENT TEACHER VOC2007 [OUT]

STUDENT is a run of lookonce-voc (its best.safetensors), TEACHER a cfg with its weights beside it whose heads stand at
the two coarsest grids of lookonce-voc, as YOLO-Fastest's do. No label is read: for every picture, changed as in any
learning, the teacher's raw answers at every anchor are what the student is to answer,

    objectness    cross-entropy against the teacher's, everywhere
    boxes         x and y by cross-entropy, w and h by half a square, each times the teacher's objectness p
    classes       cross-entropy against the teacher's probabilities, times p + FLOOR: what a place would show
                  is known even where it shows nothing

so that one picture teaches thousands of numbers where its labels teach a few. The heads are the teacher's, so that only
what lies before them goes on to learn the labels: OUT/taught.safetensors is for `lookonce train --pretrained`.
Seeded, and resumed where it was stopped.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor

from lookonce import open_dataset
from lookonce.data import Dataset
from lookonce.data.batches import Batch
from lookonce.data.loader import Loader
from lookonce.engines import Engine, open_engine
from lookonce.errors import WeightsError
from lookonce.graph import build
from lookonce.heads.yolo import Yolo
from lookonce.losses.terms import LossTerms, Term
from lookonce.model import Model, onefile, open_model
from lookonce.network import Network
from lookonce.train import checkpoint
from lookonce.train.adapt import modern, schedule
from lookonce.train.feeding import augmentation_of, sampler_of
from lookonce.train.learner import Learner, Options, learn
from lookonce.train.machine import prepare
from lookonce.train.stopping import StopOnSignal
from lookonce.truth import Truth

SIDE = 256                          # pixels: a step takes .64 of the time that it takes at 320
EPOCHS, BATCH, RATE, SEED = 30, 16, 0.001, 2
FLOOR = 0.01
MODEL = "taught.safetensors"
NOTHING = Truth.of(np.zeros(0, np.int64), xyxy=np.zeros((0, 4), np.float32))
SAVE_EVERY = 250                    # steps


class Taught(Learner):
    """A Learner whose loss is how far its heads are from a teacher's, which sees the same pictures."""

    def __init__(self, model: Model, teacher: Engine, options: Options) -> None:
        super().__init__(model, options)
        self.teacher = teacher
        self.pairs = [(node.sources[0], head) for node, head in model.network.heads[:2]]

    def _terms(self, batch: Batch, seen: int) -> LossTerms:
        outputs = self._outputs(self._forward, batch, [source for source, _ in self.pairs])
        answers = [torch.from_numpy(answer.copy()) for answer in self.teacher(batch.pictures)]
        found = [
            soft(outputs[source].float(), answer, len(head.mask))
            for (source, head), answer in zip(self.pairs, answers, strict=True)
            if isinstance(head, Yolo)
        ]
        return sum(found[1:], found[0])


def soft(said: Tensor, wanted: Tensor, anchors: int) -> LossTerms:
    """The terms of one head: what the student and the teacher say, raw, (B, A (5 + K), H, W) each."""
    batch, channels, rows, columns = said.shape
    shape = batch, anchors, channels // anchors, rows, columns
    s, t = said.reshape(shape), wanted.reshape(shape)
    p = t[:, :, 4:5].sigmoid()                                                         # (B, A, 1, H, W)

    def cross(part: slice, weight: Tensor | float) -> Term:
        each = F.binary_cross_entropy_with_logits(s[:, :, part], t[:, :, part].sigmoid(), reduction="none")
        off = (weight * (t[:, :, part].sigmoid() - s[:, :, part].detach().sigmoid())).square().sum()
        return Term((weight * each).sum(), off)

    away = t[:, :, 2:4] - s[:, :, 2:4]
    return LossTerms.of(
        centre=cross(slice(0, 2), p),
        extent=Term((p * away.square()).sum() / 2, (p * away).detach().square().sum()),
        objects=cross(slice(4, 5), 1.0),
        classes=cross(slice(5, None), p + FLOOR),
    )


def with_heads_of(teacher: Network, student: Model, pictures: int) -> Model:
    """The student with the teacher's classes and anchors in its two coarsest heads, which start at random.

    The third head learns nothing here; it has the same classes so that the network is one.
    """
    cfg, changes = student.network.cfg, {}
    theirs = [head for _, head in teacher.heads if isinstance(head, Yolo)]
    anchors = ", ".join(f"{width:g},{height:g}" for width, height in theirs[0].anchors)
    masks = [head.mask for head in theirs] + [(0, 1)]
    for (node, _), mask in zip(student.network.heads, masks, strict=True):
        numbers = ",".join(map(str, mask))
        changes[node.index + 1] = {"mask": numbers, "anchors": anchors, "num": len(theirs[0].anchors),
                                   "classes": theirs[0].classes}  # fmt: skip
        changes[node.sources[0] + 1] = {"filters": len(mask) * (5 + theirs[0].classes)}
    batches = -(-EPOCHS * pictures // BATCH)
    sized = {"width": SIDE, "height": SIDE, "batch": BATCH, "subdivisions": 1}
    changes[0] = {**sized, **schedule(student.network, batches)}
    for index, options in modern(student.network, batches, RATE).items():
        changes.setdefault(index, {}).update(options)
    network = Network.build(cfg.with_changes(changes))
    start = Model.random(network, SEED)
    fits = [ours.parameters == own.parameters for ours, own in zip(network.nodes, student.network.nodes, strict=True)]
    weights = [own if fit else fresh for fit, own, fresh in zip(fits, student.weights, start.weights, strict=True)]
    return replace(start, weights=tuple(weights))


def unlabelled(data: Dataset, network: Network) -> Dataset:
    """The same pictures, of which nothing is known."""
    names = tuple(str(number) for number in range(network.classes))
    return replace(data, names=names, items=tuple(item._replace(truth=NOTHING) for item in data.items))


def run(arguments: Sequence[str]) -> None:
    student, teacher, voc, *rest = (Path(argument) for argument in arguments)
    out = rest[0] if rest else Path("runs/taught")
    out.mkdir(parents=True, exist_ok=True)
    machine = prepare("cpu", "bf16", 1)
    tutor = open_model(teacher, teacher.with_suffix(".weights"), size=(SIDE, SIDE))
    data = unlabelled(open_dataset(voc, split="train"), tutor.network)
    model = with_heads_of(tutor.network, open_model(student), len(data))
    options = Options(machine.device, machine.precision, seed=SEED)
    learner = Taught(model, open_engine(build(tutor), threads=1), options)
    try:
        found = checkpoint.latest(out)
        learner.load(found.arrays, found.facts)
    except WeightsError:
        print(f"{out}: begins")
    network = model.network
    if learner.number >= network.options.max_batches:
        return
    plans = sampler_of(network, len(data), "epochs", SEED).plans(learner.number)
    with StopOnSignal() as stop, Loader(data, augmentation_of(network), plans, SEED) as loader:
        for step in learn(learner, loader):
            if step.number % SAVE_EVERY == 0 or stop.asked or step.number >= network.options.max_batches:
                checkpoint.keep(out, *learner.state())
                said = ", ".join(f"{name} {value:.3f}" for name, value in step.terms.items())
                print(f"step {step.number:,} of {network.options.max_batches:,}: {said}", flush=True)
                onefile.write(out / MODEL, learner.to_model())
            if stop.asked or step.number >= network.options.max_batches:
                break


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    run(sys.argv[1:])
