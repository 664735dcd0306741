"""Two real processes learn what one learns."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from conftest import ROOT
from two_processes import PARTS, STEPS, main

from lookonce.errors import CfgError
from lookonce.nn.ops import Statistics
from lookonce.train.distributed import World, join

SCRIPT = Path(__file__).with_name("two_processes.py")


class Ran(NamedTuple):
    """What one process said, and what it had learnt."""

    facts: dict[str, Any]
    arrays: dict[str, np.ndarray]


def run(folder: Path, size: int) -> list[Ran]:
    """The script in `size` processes, as torchrun starts them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = []
    for rank in range(size):
        environment = {
            **os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(size),
            "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT),
        }  # fmt: skip
        command = [sys.executable, str(SCRIPT), str(folder)]
        processes.append(subprocess.Popen(command, env=environment, stderr=subprocess.PIPE))
    try:
        errors = [process.communicate(timeout=120)[1].decode() for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0] * size, errors
    return [read(folder / f"{rank}.npz") for rank in range(size)]


def read(path: Path) -> Ran:
    with np.load(path) as kept:
        arrays = {name: kept[name] for name in kept.files if name != "facts"}
        return Ran(json.loads(str(kept["facts"])), arrays)


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ran, list[Ran]]:
    """By one process, this one, and by each of two."""
    folder = tmp_path_factory.mktemp("ran")
    main(folder)
    alone = read(folder / "0.npz")
    return alone, run(folder, 2)


def test_two_processes_have_the_loss_curve_of_one(ran: tuple[Ran, list[Ran]]) -> None:
    """Each step's loss, terms and rate; 20 steps with batch norm, dropout and momentum, and one after a refusal."""
    alone, both = ran
    wanted = alone.facts["steps"]
    assert len(wanted) == STEPS + 1
    assert wanted[-2]["loss"] < 0.9 * wanted[0]["loss"]
    for process in both:
        for number, (step, other) in enumerate(zip(wanted, process.facts["steps"], strict=True)):
            assert step.keys() == other.keys(), number
            for name, value in step.items():
                assert other[name] == pytest.approx(value, rel=1e-4), f"step {number}: {name}"


def test_two_processes_have_the_weights_and_rolling_statistics_of_one(ran: tuple[Ran, list[Ran]]) -> None:
    """And momentum and moving average, to 1e-5 of the largest value; among each other bit for bit."""
    alone, both = ran
    assert {name.split("/")[0] for name in alone.arrays} == {"now", "optimizer", "average"}
    for name, wanted in alone.arrays.items():
        assert np.abs(both[0].arrays[name] - wanted).max() <= 1e-5 * np.abs(wanted).max(), name
        assert both[0].arrays[name].tobytes() == both[1].arrays[name].tobytes(), name
    assert {"now/000_mean", "now/000_variance", "now/002_mean"} <= alone.arrays.keys()


def test_a_term_that_only_one_of_them_has_counts_for_both(ran: tuple[Ran, list[Ran]]) -> None:
    """Boxes are drawn to their anchors until 12,800 pictures have been seen, which is between two processes."""
    alone, both = ran
    for each in (alone, *both):
        assert ["priors" in step for step in each.facts["steps"][:6]] == [True, True, True, True, False, False]
        assert each.facts["steps"][3]["priors"] < 0.7 * each.facts["steps"][2]["priors"]


def test_all_refuse_what_one_cannot_learn_from_and_only_that_one_names_it(ran: tuple[Ran, list[Ran]]) -> None:
    alone, both = ran
    spoilt = STEPS * PARTS + 1
    for each in (alone, *both):
        assert each.facts["unchanged"]
        assert each.facts["problem"].startswith(f"step {STEPS + 1}: the loss is not finite (")
    assert alone.facts["plans"] == both[1].facts["plans"] == [spoilt]
    assert both[0].facts["plans"] == []
    assert ": its pictures; nothing" in both[1].facts["problem"]


def test_they_know_each_other_and_agree(ran: tuple[Ran, list[Ran]]) -> None:
    alone, both = ran
    assert [(each.facts["rank"], each.facts["size"]) for each in both] == [(0, 2), (1, 2)]
    assert [each.facts["agreed"] for each in (alone, *both)] == [[True, False]] * 3
    assert [each.facts["shared"] for each in (alone, *both)] == ["of process 0"] * 3
    assert alone.facts["refused"] == ""
    assert both[1].facts["refused"] == (
        "subdivisions=3: 2 processes share out the mini-batches of a batch; wanted a multiple of 2"
    )


def test_one_process_alone_needs_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    world = join(torch.device("cpu"))
    assert world == World(0, 1)
    assert world.is_first
    tensor = torch.ones(3)
    world.sum([tensor])
    assert tensor.tolist() == [1, 1, 1]
    seen = [[Statistics(*(torch.ones(1) * value for value in range(turn, turn + 4)))] for turn in (0, 4)]
    assert world.gather(seen) == [seen[0][0], seen[1][0]]
    assert world.agree(True, torch.device("cpu"))
    world.check(7)
    with pytest.raises(CfgError, match="wanted a multiple of 4"):
        World(0, 4).check(6)
