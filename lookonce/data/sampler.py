"""Which pictures make up a mini-batch, and at what size the network takes them: functions of the seed and a number.

Nothing is remembered from one mini-batch to the next, so a run goes on at any number without the ones before.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from lookonce.data.batches import Plan

Size = tuple[int, int]

# What is drawn: each has its own stream of the seed.
ORDER, DRAW, SIZE, TURN = range(4)
BLOCK = 1000                     # pictures among which shares hold exactly


@dataclass(frozen=True)
class Sampler:
    """Plans of mini-batches of `batch` pictures out of `count`, without end.

    Without `replacement` every picture comes once before any comes twice, in a new order each time, and mini-batches
    run over the ends. With it each is drawn from all, as Darknet does.

    `sizes` are the network's inputs (width, height); `every` optimizer batches of `subdivisions` mini-batches take one
    of them, drawn evenly. With `largest_first` the first ones take the largest, so that a lack of memory shows at once.
    The optimizer batches from number `last_from` on, if it is given, take `last`, or the largest.

    `shares` divide the pictures, in their order, into parts: (pictures, share of what is drawn). They hold exactly
    among every 1000 pictures without replacement, on average with it.
    """

    count: int
    batch: int
    seed: int = 0
    sizes: tuple[Size, ...] = ((416, 416),)
    replacement: bool = False
    every: int = 10
    subdivisions: int = 1
    largest_first: bool = True
    last_from: int | None = None
    last: Size | None = None
    shares: tuple[tuple[int, float], ...] = ()

    def __post_init__(self) -> None:
        assert self.count > 0
        assert self.batch > 0
        assert self.sizes
        assert not self.shares or sum(count for count, _ in self.shares) == self.count

    def plans(self, start: int = 0) -> Iterator[Plan]:
        """All plans from mini-batch `start` on."""
        return map(self.plan, itertools.count(start))

    def plan(self, number: int) -> Plan:
        """The plan of one mini-batch."""
        return Plan(number, self.indices(number), *self.size(number))

    def size(self, number: int) -> Size:
        """The network's input (width, height) at one mini-batch."""
        largest = max(self.sizes, key=lambda size: size[0] * size[1])
        batch = number // self.subdivisions
        group = batch // self.every
        if self.last_from is not None and batch >= self.last_from:
            return self.last or largest
        if group == 0 and self.largest_first:
            return largest
        return self.sizes[int(_rng(self.seed, SIZE, group).integers(len(self.sizes)))]

    def indices(self, number: int) -> tuple[int, ...]:
        """The places in the dataset of one mini-batch's pictures."""
        first = number * self.batch
        if self.replacement:
            return self._drawn(number)
        return tuple(self._at(position) for position in range(first, first + self.batch))

    def _at(self, position: int) -> int:
        """The picture at one position of the endless row."""
        if not self.shares:
            epoch, place = divmod(position, self.count)
            return int(_order(self.seed, 0, epoch, self.count)[place])
        block, place = divmod(position, BLOCK)
        counts = _block_counts(self.shares)
        parts = _turns(self.seed, block, counts)
        part = int(parts[place])
        seen = block * counts[part] + int(np.count_nonzero(parts[:place] == part))
        epoch, place = divmod(seen, self.shares[part][0])
        return sum(count for count, _ in self.shares[:part]) + int(
            _order(self.seed, part, epoch, self.shares[part][0])[place]
        )

    def _drawn(self, number: int) -> tuple[int, ...]:
        rng = _rng(self.seed, DRAW, number)
        if not self.shares:
            return tuple(rng.integers(0, self.count, self.batch).tolist())
        counts = np.array([count for count, _ in self.shares])
        share = np.array([share for _, share in self.shares], np.float64)
        part = rng.choice(len(counts), self.batch, p=share / share.sum())
        return tuple((np.cumsum(counts)[part] - counts[part] + rng.integers(0, counts[part])).tolist())


def detector_sizes() -> tuple[Size, ...]:
    """The squares that Darknet's detectors learn at: 320 to 608 in steps of 32."""
    return tuple((side, side) for side in range(320, 609, 32))


def classifier_sizes() -> tuple[Size, ...]:
    """The squares that Darknet's classifiers learn at: 128 to 448 in steps of 32."""
    return tuple((side, side) for side in range(128, 449, 32))


def fork_sizes(width: int, height: int, factor: float = 1.4, step: int = 32) -> tuple[Size, ...]:
    """The inputs that the fork draws around the network's own, from a `factor` less to a `factor` more.

    Half of its factors lie evenly in 1 to `factor`, the others are inverses of such. A size stands here as often as it
    is drawn, to a percent.
    """
    larger = 1 + (np.arange(50) + 0.5) / 50 * (factor - 1)
    return tuple(
        (_fork_side(width, by, step), _fork_side(height, by, step)) for by in (*(1 / larger[::-1]), *larger)
    )


def fork_largest(width: int, height: int, factor: float = 1.4, step: int = 32) -> Size:
    """The input that the fork takes first and in its last 100 batches."""
    return _fork_side(width, factor, step), _fork_side(height, factor, step)


def _fork_side(side: int, factor: float, step: int) -> int:
    return max(step, int(side * factor / step + 1 + 0.5) * step)


def _rng(seed: int, *stream: int) -> np.random.Generator:
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=stream))


@lru_cache(maxsize=8)
def _order(seed: int, part: int, epoch: int, count: int) -> np.ndarray:
    """The order of one epoch of one part."""
    return _rng(seed, ORDER, part, epoch).permutation(count)


@lru_cache(maxsize=8)
def _turns(seed: int, block: int, counts: tuple[int, ...]) -> np.ndarray:
    """Which part each picture of a block is of."""
    return _rng(seed, TURN, block).permutation(np.repeat(np.arange(len(counts)), counts))


@lru_cache(maxsize=8)
def _block_counts(shares: tuple[tuple[int, float], ...]) -> tuple[int, ...]:
    """How many pictures of a block each part gives: its share, the rests to those that lose most by rounding."""
    exact = np.array([share for _, share in shares], np.float64)
    exact *= BLOCK / exact.sum()
    counts = np.floor(exact).astype(np.int64)
    counts[np.argsort(counts - exact, kind="stable")[: BLOCK - counts.sum()]] += 1
    return tuple(counts.tolist())
