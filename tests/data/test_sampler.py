from __future__ import annotations

import itertools
import time
from collections import Counter

import numpy as np
import pytest

from lookonce.data import sampler
from lookonce.data.sampler import Sampler


def drawn(source: Sampler, batches: int, start: int = 0) -> list[int]:
    """The pictures of so many mini-batches, in a row."""
    return [index for plan in itertools.islice(source.plans(start), batches) for index in plan.indices]


@pytest.mark.parametrize(("count", "batch"), [(10, 3), (10, 10), (7, 8), (1, 4), (100, 1), (33, 64)])
def test_every_picture_comes_once_an_epoch(count: int, batch: int) -> None:
    """Mini-batches run over the ends of epochs, and none is short."""
    row = drawn(Sampler(count, batch, seed=3), 40)
    assert len(row) == 40 * batch
    for start in range(0, len(row) - count + 1, count):
        assert sorted(row[start : start + count]) == list(range(count))


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    orders = {tuple(drawn(Sampler(20, 20, seed), 1, epoch)) for seed in range(10) for epoch in range(10)}
    assert len(orders) == 100


@pytest.mark.parametrize("replacement", [False, True])
@pytest.mark.parametrize("shares", [(), ((30, 4.0), (70, 1.0))])
def test_a_run_goes_on_at_any_number(replacement: bool, shares: tuple[tuple[int, float], ...]) -> None:
    options = {"replacement": replacement, "shares": shares, "sizes": sampler.detector_sizes(), "every": 3}
    whole = list(itertools.islice(Sampler(100, 7, 5, **options).plans(), 500))
    assert [plan.number for plan in whole] == list(range(500))
    for start in (0, 1, 142, 143, 499):
        assert next(Sampler(100, 7, 5, **options).plans(start)) == whole[start]


def test_any_number_is_found_at_once() -> None:
    """The ten millionth mini-batch of a million pictures: one permutation, no way there."""
    start = time.process_time()
    plan = Sampler(1_000_000, 64).plan(10_000_000)
    assert time.process_time() - start < 1
    assert len(set(plan.indices)) == 64


def test_with_replacement_pictures_are_drawn_from_all() -> None:
    """Of 50 drawn 5000 times each comes 100 times, by chance 60 to 150; doubles stand within one mini-batch."""
    row = drawn(Sampler(50, 50, replacement=True), 100)
    counts = Counter(row)
    assert counts.keys() == set(range(50))
    assert min(counts.values()) > 60
    assert max(counts.values()) < 150
    assert len(set(row[:50])) < 50


# ---------------------------------------------------------------------- sizes
def test_groups_of_batches_have_one_size_and_the_first_the_largest() -> None:
    """A batch is `subdivisions` mini-batches; ten batches make a group."""
    sizes = sampler.detector_sizes()
    found = [plan[2:] for plan in itertools.islice(Sampler(9, 1, sizes=sizes, every=10, subdivisions=4).plans(), 8000)]
    groups = [found[start : start + 40] for start in range(0, 8000, 40)]
    assert all(len(set(group)) == 1 for group in groups)
    assert groups[0][0] == (608, 608)
    assert {group[0] for group in groups} == set(sizes)
    counts = Counter(group[0] for group in groups)
    assert max(counts.values()) < 45                        # 20 of each by chance
    assert Sampler(9, 1, sizes=((32, 32), (64, 64)), seed=1, largest_first=False).size(0) in {(32, 32), (64, 64)}


def test_the_last_batches_have_their_size() -> None:
    """Darknet: batch_num + 200 > max_batches takes 608. Counted from 0 that is batch 801 of 1000 on."""
    end = Sampler(9, 1, sizes=sampler.detector_sizes(), every=10, subdivisions=2, last_from=800)
    assert {end.size(number) for number in range(1600, 2200)} == {(608, 608)}
    assert len({end.size(number) for number in range(1600)}) == 10
    own = Sampler(9, 1, sizes=sampler.detector_sizes(), last_from=800, last=(416, 416))
    assert own.size(800) == (416, 416)


def test_the_sizes_are_darknets() -> None:
    """(rand % 10 + 10)·32 for detectors, (rand % 11 + 4)·32 for classifiers."""
    assert sampler.detector_sizes() == tuple(((n + 10) * 32,) * 2 for n in range(10))
    assert sampler.classifier_sizes() == tuple(((n + 4) * 32,) * 2 for n in range(11))


def test_the_forks_sizes_come_as_often_as_it_draws_them() -> None:
    """round(factor·side/32 + 1)·32 with a factor of U(1, 1.4), or its inverse, as often."""
    rng = np.random.default_rng(0)
    factor = rng.uniform(1, 1.4, 40_000)
    factor = np.where(rng.random(40_000) < 0.5, factor, 1 / factor)
    counts = Counter((np.round(factor * 416 / 32 + 1) * 32).astype(int).tolist())
    sizes = sampler.fork_sizes(416, 416)
    found = Counter(width for width, _ in sizes)
    assert found.keys() == counts.keys()
    for side, count in counts.items():
        assert abs(found[side] / len(sizes) - count / 40_000) < 0.015
    assert sampler.fork_largest(416, 416) == (608, 608)     # 1.4·416/32 + 1 = 19.2
    assert all(height * 2 - width in (0, 32, 64) for width, height in sampler.fork_sizes(640, 320))
    assert min(sampler.fork_sizes(32, 32, 5.0)) == (32, 32)


# ---------------------------------------------------------------------- shares
def test_shares_hold_among_every_thousand_pictures() -> None:
    """The thesis shows COCO four times as often as ImageNet: 800 and 200 of 1000, whatever they have."""
    row = np.array(drawn(Sampler(200, 10, shares=((70, 4.0), (130, 1.0))), 1000))
    for start in range(0, 10_000, 1000):
        assert np.count_nonzero(row[start : start + 1000] < 70) == 800
    for part, count, least in ((row[row < 70], 70, 0), (row[row >= 70], 130, 70)):
        epochs = [part[start : start + count].tolist() for start in range(0, len(part) - count, count)]
        assert all(sorted(epoch) == list(range(least, least + count)) for epoch in epochs)
        assert len({tuple(epoch) for epoch in epochs}) == len(epochs)
    assert 5 < np.count_nonzero(row[:100] >= 70) < 40       # mixed, not one after the other


def test_shares_that_do_not_divide_a_thousand_add_up() -> None:
    row = np.array(drawn(Sampler(6, 1000, shares=((1, 1.0), (2, 1.0), (3, 1.0))), 3))
    parts = np.array([0, 1, 1, 2, 2, 2])[row]
    assert sorted(np.bincount(parts[:1000]).tolist()) == [333, 333, 334]


def test_shares_hold_on_average_with_replacement() -> None:
    row = np.array(drawn(Sampler(150, 100, replacement=True, shares=((50, 4.0), (100, 1.0))), 100))
    assert abs((row < 50).mean() - 0.8) < 0.015
    assert set(row.tolist()) == set(range(150))
