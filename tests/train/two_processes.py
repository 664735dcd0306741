"""What tests/train/test_distributed.py runs in each process: python two_processes.py OUT, with torchrun's environment.

Twenty steps, then one that is refused, then one more. What was seen goes into OUT/<rank>.npz.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from lookonce.darknet.cfg import Cfg
from lookonce.data.batches import Batch, Plan
from lookonce.errors import CfgError
from lookonce.model import Model
from lookonce.network import Network
from lookonce.train.distributed import join, leave
from lookonce.train.learner import Learner, NonFiniteError, Step, learn
from lookonce.truth import Targets

STEPS, PARTS, PICTURES = 20, 2, 4
# In the fourth step the second mini-batch is the first whose boxes are drawn to their anchors no more ([region]).
SEEN = 12_800 - 4 * PARTS * PICTURES
TEXT = f"""[net]
width=24
height=16
channels=3
batch={PARTS * PICTURES}
subdivisions={PARTS}
learning_rate=.01
policy=steps
steps={SEEN // 8 + 12}
scales=.1
ema_alpha=.9
[convolutional]
filters=8
size=3
stride=2
pad=1
batch_normalize=1
activation=leaky
[dropout]
probability=.2
[convolutional]
filters=12
size=3
stride=2
pad=1
batch_normalize=1
activation=leaky
[convolutional]
filters=14
size=1
activation=linear
[region]
classes=2
num=2
softmax=1
anchors=1,1,2,2
"""


def batches(rank: int, size: int, steps: range) -> list[Batch]:
    """The mini-batches of some steps that are this process's: every `size`-th. Pictures have up to 3 objects."""
    made = []
    for number in range(steps.start * PARTS, steps.stop * PARTS):
        rng = np.random.default_rng(number)
        rows = [
            (rng.uniform(0.1, 0.9, (count, 4)).astype(np.float32), rng.integers(0, 2, count))
            for count in rng.integers(0, 4, PICTURES)
        ]
        plan = Plan(number, tuple(range(number * PICTURES, (number + 1) * PICTURES)), 24, 16)
        if number % size == rank:
            made.append(Batch(rng.random((PICTURES, 3, 16, 24), np.float32), Targets.of(rows), plan))
    return made


def started() -> Model:
    """A model that has seen some pictures."""
    model = Model.random(Network.build(Cfg.parse(TEXT, "test.cfg")), seed=1)
    return replace(model, header=replace(model.header, seen=SEEN))


def row(step: Step) -> dict[str, object]:
    return {"loss": step.loss, "printed": step.printed, "rate": step.rate, "seen": step.seen, **step.terms}


def main(out: Path) -> None:
    world = join(torch.device("cpu"))
    refused = ""
    try:
        world.check(3)
    except CfgError as problem:
        refused = str(problem)
    facts: dict[str, object] = {
        "refused": refused,
        "rank": world.rank,
        "size": world.size,
        "shared": world.share(f"of process {world.rank}"),
        "agreed": [world.agree(flag, torch.device("cpu")) for flag in (world.rank == world.size - 1, False)],
    }
    learner = Learner(started(), world=world)
    steps = [row(step) for step in learn(learner, batches(world.rank, world.size, range(STEPS)))]
    before, _ = learner.state()
    spoilt = batches(world.rank, world.size, range(STEPS, STEPS + 1))
    for batch in spoilt:
        if batch.plan.number % PARTS == 1:
            batch.pictures[0, 0, 0, 0] = np.nan
    try:
        learner.step(spoilt)
    except NonFiniteError as problem:
        facts |= {"problem": str(problem), "plans": [plan.number for plan in problem.plans]}
    after, _ = learner.state()
    facts["unchanged"] = all(after[name].tobytes() == array.tobytes() for name, array in before.items())
    steps += [row(step) for step in learn(learner, batches(world.rank, world.size, range(STEPS + 1, STEPS + 2)))]
    arrays, counts = learner.state()
    facts |= {"steps": steps, **counts}
    np.savez(out / f"{world.rank}.npz", facts=json.dumps(facts), **arrays)
    leave()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
