"""What YOLO9000's way down its tree costs beside its forward: python bench/tree_decode.py [ROUNDS]

yolo9000 at 416 x 416 has 507 boxes of 9,418 nodes. Its graph ends before the tree: objectness decides which boxes are
looked at, and a box looks at the siblings on its way only. Weights are random; the head's input is made so that 50
boxes pass. Prints medians, in one process: the forward in f32, 50 boxes decoded, all 507 with each node's own
probability, the 200 classes of a challenge for 50 boxes, and how far memory grows over the rounds.
"""

from __future__ import annotations

import resource
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from lookonce import zoo
from lookonce.darknet.cfg import Cfg
from lookonce.heads.head import DecodeOptions
from lookonce.heads.region import Region
from lookonce.model import Model
from lookonce.network import Network
from lookonce.runner import Runner

BOXES, PASSING, CHOSEN = 507, 50, 200


def timed(work: Callable[[], Any], rounds: int) -> float:
    """The median in milliseconds."""
    work()
    times = []
    for _ in range(rounds):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return 1000 * statistics.median(times)


def main(rounds: int) -> None:
    path = zoo.cfg_path("yolo9000")
    assert path is not None
    network = Network.build(Cfg.read(path), 1 << 32).resized(416, 416)
    head = network.heads[-1][1]
    assert isinstance(head, Region)
    assert head.tree is not None
    rng = np.random.default_rng(0)
    raw = rng.normal(0, 3, (1, 3, head.entries, 13, 13)).astype(np.float32)
    raw[0, :, 4] = -9
    flat = raw[0, :, 4].reshape(-1)
    flat[rng.choice(BOXES, PASSING, replace=False)] = 2
    raw[0, :, 4] = flat.reshape(3, 13, 13)
    raw = raw.reshape(1, -1, 13, 13)
    logits = rng.normal(0, 3, (BOXES, head.classes)).astype(np.float32)
    leaves = np.flatnonzero(head.tree.leaf)[:: head.tree.leaf.sum() // CHOSEN][:CHOSEN]
    only = head.tree.subset_of([head.tree.ids[leaf] for leaf in leaves], [(int(leaf),) for leaf in leaves])
    options = DecodeOptions((416, 416))
    tree = head.tree
    picture = rng.integers(0, 256, (416, 416, 3), np.uint8)
    runner = Runner(Model.random(network), precision="f32")
    assert len(head.decode(raw, options).score) == PASSING
    forward = timed(lambda: runner([picture]), max(3, rounds // 20))
    decoded = timed(lambda: head.decode(raw, options), rounds)
    first = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    every = timed(lambda: tree.absolute(tree.softmax(logits)), max(3, rounds // 5))
    chosen = timed(lambda: head.decode(raw, options._replace(only=only)), rounds)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(rounds):
        head.decode(raw, options)
        head.decode(raw, options._replace(only=only))
    last = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"forward, f32, with letterbox of 416 x 416     {forward:8.2f} ms")
    print(f"{PASSING} of {BOXES} boxes down the tree                {decoded:8.2f} ms  {decoded / forward:.2%} of it")
    print(f"{PASSING} boxes, {CHOSEN} chosen classes                 {chosen:8.2f} ms  {chosen / forward:.2%}")
    print(f"all {BOXES} boxes, every own probability        {every:8.2f} ms  {every / forward:.2%}")
    print(f"memory at its peak: {first / 1024:,.0f} MB, with all boxes {peak / 1024:,.0f} MB, after {rounds} more "
          f"rounds {last / 1024:,.0f} MB")  # fmt: skip


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 100)
