from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import network_of

from lookonce.errors import CfgError
from lookonce.model import Model, open_network
from lookonce.nn import TorchNetwork
from lookonce.train import memory
from lookonce.train.memory import check_memory, choose_batch, free_bytes, largest_input, step_bytes

GIGABYTE = 10**9
TINY = "[net]\nwidth=8\nheight=4\nchannels=3\n{}[conv]\nfilters=2\nsize=1\nbatch_normalize=1\n[avg]\n[softmax]\n"


@pytest.fixture
def free(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """What is free, in bytes, for a test to set."""
    found = [100 * GIGABYTE]
    monkeypatch.setattr(memory, "usable_bytes", lambda device: found[0])
    return found


# ---------------------------------------------------------------------- what a step takes
def test_a_step_takes_four_times_the_outputs_and_four_arrays_a_weight() -> None:
    """Input 96 values; outputs 64, 2 and 2. The convolution has 6 weights and 4 times 2 numbers of batch norm."""
    outputs, weights = 4 * (3 * 4 * 8 + 2 * 4 * 8 + 2 + 2), 4 * (6 + 4 * 2)
    fixed = step_bytes(network_of(TINY.format("")), 0) - 4 * weights
    assert fixed == 200 << 20
    for pictures in (1, 5, 64):
        assert step_bytes(network_of(TINY.format("")), pictures) == 4 * outputs * pictures + 4 * weights + fixed
    for option, more in (("ema_alpha=.9\n", 1), ("adam=1\n", 1)):
        assert step_bytes(network_of(TINY.format(option)), 5) == 4 * outputs * 5 + (4 + more) * weights + fixed


@pytest.mark.parametrize(("name", "size"), [("yolov3-tiny", 96), ("darknet19", 64), ("fast-yolo", 448)])
def test_what_torch_keeps_for_the_way_back_is_less_than_what_is_counted(name: str, size: int) -> None:
    """Each storage that a forward pass saves, once; gradients come on top and have the room between 3 and 4."""
    network = open_network(name, size=size)
    learning = TorchNetwork(Model.random(network)).train()
    own = {parameter.untyped_storage().data_ptr() for parameter in learning.parameters()}
    saved: dict[int, int] = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        learning(torch.rand(2, 3, size, size))
    counted = step_bytes(network, 2, (size, size)) - step_bytes(network, 0, (size, size))
    assert counted / 4 < sum(saved.values()) < counted * 3.2 / 4


def test_a_step_is_counted_at_the_largest_input() -> None:
    """With random=1 Darknet's detectors learn at up to 608, its classifiers at up to 448, the fork at 1.4 times."""
    assert largest_input(open_network("yolov3-tiny")) == (608, 608)
    assert largest_input(open_network("yolov3-tiny", size=640)) == (640, 640)
    assert largest_input(open_network("darknet19")) == (224, 224)
    assert largest_input(network_of(TINY.format("random=1\n"))) == (448, 448)
    text = open_network("yolov3-tiny").cfg.text
    assert largest_input(network_of(text.replace("random=1", "random=0"))) == (416, 416)
    assert largest_input(network_of(text.replace("[net]\n", "[net]\nmosaic=1\n"))) == (608, 608)
    assert largest_input(network_of(text.replace("random=1", "random=1.2\niou_thresh=.2"))) == (544, 544)
    small, large = (step_bytes(open_network("yolov3-tiny"), 8, (side, side)) for side in (416, 608))
    assert step_bytes(open_network("yolov3-tiny"), 8) == large > small


def test_a_network_of_one_size_stays_at_it() -> None:
    text = open_network("fast-yolo").cfg.text
    assert largest_input(network_of(text + "\nrandom=1\n")) == (448, 448)


# ---------------------------------------------------------------------- batches
@pytest.mark.parametrize(
    ("pictures", "batch"),
    [(3, 2), (8, 8), (205, 8), (399, 8), (400, 16), (799, 16), (800, 32), (1599, 32), (1600, 64), (10**6, 64)],
)
def test_small_sets_get_small_batches(free: list[int], pictures: int, batch: int) -> None:
    """25 steps an epoch, but no batch below 8 if there are so many pictures."""
    assert choose_batch("auto", open_network("yolov3-tiny"), pictures) == (batch, 1)


def test_a_classifier_may_have_larger_batches(free: list[int]) -> None:
    assert choose_batch("auto", open_network("darknet19"), 10**6)[0] == 128
    assert choose_batch("auto", open_network("yolov2"), 10**6)[0] == 64


@pytest.mark.parametrize("asked", [64, 48, 7])
def test_mini_batches_are_the_largest_divisors_that_fit(free: list[int], asked: int) -> None:
    """Each limit is just what some number of pictures takes, and one byte less."""
    network = network_of(TINY.format(""))
    for fits in range(1, asked + 1):
        for less in (0, 1):
            free[0] = step_bytes(network, fits) - less
            most = fits - less
            wanted = [mini for mini in range(1, most + 1) if asked % mini == 0]
            if not wanted:
                continue
            assert choose_batch(asked, network, 1000) == (asked, asked // max(wanted))


def test_a_network_that_takes_no_picture_is_refused(free: list[int]) -> None:
    network = network_of(TINY.format(""))
    free[0] = step_bytes(network, 1) - 1
    with pytest.raises(CfgError) as found:
        choose_batch("auto", network, 1000, "cuda:1")
    assert str(found.value) == (
        f"test.cfg: one picture of 8 x 4 takes {free[0] + 1:,} bytes (0.2 GB) to learn from, and {free[0]:,} bytes "
        "(0.2 GB) may be taken on cuda:1: wanted a smaller size (and random=0) or network"
    )
    with pytest.raises(CfgError, match="batch=0: wanted at least 1 picture, or auto"):
        choose_batch(0, network, 1000)


def test_too_large_a_mini_batch_is_refused_with_what_would_fit(free: list[int]) -> None:
    network = network_of(TINY.format("batch=48\nsubdivisions=2\n"))
    free[0] = step_bytes(network, 24)
    check_memory(network)
    free[0] -= 1
    with pytest.raises(CfgError) as found:
        check_memory(network)
    assert str(found.value) == (
        f"test.cfg: batch=48, subdivisions=2: 24 pictures of 8 x 4 at once take {free[0] + 1:,} bytes (0.2 GB) to "
        f"learn from, and {free[0]:,} bytes (0.2 GB) may be taken on cpu: subdivisions=3 fits"
    )


# ---------------------------------------------------------------------- what is free
def system(root: Path, **texts: str) -> Path:
    """Files of /proc and /sys; __ in a name is a slash."""
    for name, text in texts.items():
        path = root / name.replace("__", "/").replace("DOT", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


MEMINFO = "MemTotal:       1000 kB\nMemFree:         100 kB\nMemAvailable:    800 kB\n"


def test_free_is_what_the_system_says(tmp_path: Path) -> None:
    assert free_bytes(system(tmp_path, proc__meminfo=MEMINFO)) == 800 * 1024


def test_a_control_group_of_version_2_may_allow_less(tmp_path: Path) -> None:
    """Pages of files that nobody used lately are given back; the group above has no limit."""
    system(
        tmp_path,
        proc__meminfo=MEMINFO,
        proc__self__cgroup="0::/job/step\n",
        sys__fs__cgroup__job__memoryDOTmax="max\n",
        sys__fs__cgroup__job__memoryDOTcurrent="500000\n",
        sys__fs__cgroup__job__step__memoryDOTmax="600000\n",
        sys__fs__cgroup__job__step__memoryDOTcurrent="500000\n",
        sys__fs__cgroup__job__step__memoryDOTstat="anon 1\ninactive_file 20000\n",
    )
    assert free_bytes(tmp_path) == 600_000 - 500_000 + 20_000


def test_the_tightest_group_counts(tmp_path: Path) -> None:
    system(
        tmp_path,
        proc__meminfo=MEMINFO,
        proc__self__cgroup="0::/job/step\n",
        sys__fs__cgroup__job__memoryDOTmax="510000\n",
        sys__fs__cgroup__job__memoryDOTcurrent="500000\n",
        sys__fs__cgroup__job__step__memoryDOTmax="600000\n",
        sys__fs__cgroup__job__step__memoryDOTcurrent="400000\n",
    )
    assert free_bytes(tmp_path) == 10_000


def test_a_container_sees_its_group_at_the_top(tmp_path: Path) -> None:
    system(
        tmp_path,
        proc__meminfo=MEMINFO,
        proc__self__cgroup="4:cpu:/\n3:memory:/docker/0123\n",
        sys__fs__cgroup__memory__memoryDOTlimit_in_bytes="600000\n",
        sys__fs__cgroup__memory__memoryDOTusage_in_bytes="500000\n",
        sys__fs__cgroup__memory__memoryDOTstat="total_inactive_file 1000\n",
    )
    assert free_bytes(tmp_path) == 101_000


def test_a_group_that_is_over_its_limit_has_nothing_left(tmp_path: Path) -> None:
    system(
        tmp_path,
        proc__self__cgroup="0::/\n",
        sys__fs__cgroup__memoryDOTmax="5\n",
        sys__fs__cgroup__memoryDOTcurrent="7\n",
    )
    assert free_bytes(tmp_path) == 0


def test_where_nothing_tells_something_is_assumed(tmp_path: Path) -> None:
    assert free_bytes(tmp_path) == 4 << 30


def test_of_this_machine_something_is_known() -> None:
    assert 1 << 20 < free_bytes() < 1 << 50
    assert memory.usable_bytes("cpu") == pytest.approx(free_bytes() / 2, rel=0.2)
