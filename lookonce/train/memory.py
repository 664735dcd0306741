"""How much memory a step of learning takes, how much there is, and the mini-batches that go into it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import torch

from lookonce.data.sampler import classifier_sizes, detector_sizes, fork_largest
from lookonce.errors import CfgError
from lookonce.heads.detection import Detection
from lookonce.layers.convolution import Connected, Local
from lookonce.model.opening import memory_limit
from lookonce.network import Network

# Measured on a processor: from 2 to 8 pictures a mini-batch takes 3.4 times the outputs of yolov3-tiny's layers more,
# 3.7 times those of darknet19, 1 to 3.2 times those of seven others. Of a convolution with batch norm three arrays are
# kept for the way back, of a pool its places too, and the gradients of two layers are there at once.
OUTPUTS = 4.0
ARRAYS = 4                       # of each weight: itself, its gradient, its momentum, and a copy while they are saved
LIBRARIES = 200 << 20            # what torch takes for itself, in bytes
SHARES = {"cpu": 0.5, "cuda": 0.9}               # of what is free that a step may take: a processor has other users too
UNKNOWN = 4 << 30                # bytes that are taken for free where nothing tells

MOST, LEAST = 64, 8              # pictures a batch
STEPS = 25                       # of an epoch, at least, before a batch is made larger
FACTOR = 1.4                     # of the fork's random sizes, where the cfg only says random=1


def step_bytes(network: Network, pictures: int, size: tuple[int, int] | None = None) -> int:
    """What learning takes at once with mini-batches of so many pictures, in bytes, rather more than less.

    `size` is the input (width, height), otherwise the largest that it learns at.
    """
    network = network.resized(*(size or largest_input(network)), memory_limit())
    outputs = 4 * (network.input.size + sum(node.shape.size for node in network.nodes))
    weights = 4 * sum(parameter.size for node in network.nodes for parameter in node.parameters)
    arrays = ARRAYS + (1 if network.options.ema_alpha else 0) + (1 if network.options.adam else 0)
    return int(pictures * outputs * OUTPUTS) + weights * arrays + LIBRARIES


def largest_input(network: Network) -> tuple[int, int]:
    """The largest input (width, height) that a network learns at, by random= of its last head or of [net]."""
    own = network.input.width, network.input.height
    if any(isinstance(node.layer, Connected | Local) for node in network.nodes):
        return own                                          # its weights are for one size
    factor = random_factor(network) if network.heads else float(network.options.random)
    if not factor:
        return own
    if network.heads and network.cfg.fork:
        found = fork_largest(*own, factor, network.options.resize_step)
    else:
        found = (detector_sizes() if network.heads else classifier_sizes())[-1]
    return max(own, found, key=lambda side: side[0] * side[1])


def random_factor(network: Network) -> float:
    """`random=` of the last head: 0, or how much larger the fork's inputs get, 1.4 where it only says 1.

    To version 1 it means something else: that boxes are chosen by chance.
    """
    head = network.heads[-1][1]
    said = 0.0 if isinstance(head, Detection) else float(getattr(head, "random", 0.0))
    return FACTOR if said == 1 else said


# ---------------------------------------------------------------------- batches
def choose_batch(
    asked: int | Literal["auto"], network: Network, pictures: int, device: torch.device | str = "cpu"
) -> tuple[int, int]:
    """batch= and subdivisions= for learning from so many pictures on a device.

    A batch of 64, or of what the cfg of a classifier says beyond that, if an epoch then has 25 steps; of fewer pictures
    smaller ones, by halves down to 8, since a network needs steps more than exact gradients. Mini-batches are the
    largest that divide it and fit into memory at the largest input. Raises CfgError if not even one picture fits.
    """
    if asked == "auto":
        most = max(MOST, network.options.batch) if network.kind == "classifier" else MOST
        batch = most
        while batch > LEAST and pictures < STEPS * batch:
            batch //= 2
        while batch > max(1, pictures):
            batch //= 2
    else:
        batch = asked
    if batch < 1:
        raise CfgError(f"batch={batch}: wanted at least 1 picture, or auto")
    free = usable_bytes(device)
    return batch, batch // _mini_batch(network, batch, free, largest_input(network), str(device))


def check_memory(network: Network, device: torch.device | str = "cpu", size: tuple[int, int] | None = None) -> None:
    """Raise CfgError, in one line, if mini-batches of this cfg do not fit into the memory that is free."""
    batch, parts = network.options.batch, network.options.subdivisions
    mini, size, free = max(1, batch // parts), size or largest_input(network), usable_bytes(device)
    needed = step_bytes(network, mini, size)
    if needed <= free:
        return
    fits = batch // _mini_batch(network, batch, free, size, str(device))
    raise CfgError(
        f"{network.cfg.path}: batch={batch}, subdivisions={parts}: {mini} pictures of {size[0]} x {size[1]} at once "
        f"take {_words(needed)} to learn from, and {_words(free)} may be taken on {device}: subdivisions={fits} fits"
    )


def _mini_batch(network: Network, batch: int, free: int, size: tuple[int, int], device: str) -> int:
    """The most pictures that divide a batch and fit. Raises CfgError if one does not."""
    for mini in range(batch, 0, -1):
        if batch % mini == 0 and step_bytes(network, mini, size) <= free:
            return mini
    raise CfgError(
        f"{network.cfg.path}: one picture of {size[0]} x {size[1]} takes {_words(step_bytes(network, 1, size))} to "
        f"learn from, and {_words(free)} may be taken on {device}: wanted a smaller size (and random=0) or network"
    )


def _words(count: int) -> str:
    return f"{count:,} bytes ({count / 1e9:.1f} GB)"


# ---------------------------------------------------------------------- what is free
def usable_bytes(device: torch.device | str = "cpu") -> int:
    """The bytes that a step may take on a device: a share of what is free now."""
    device = torch.device(device)
    if device.type == "cuda":
        kept = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int((torch.cuda.mem_get_info(device)[0] + kept) * SHARES["cuda"])
    return int(free_bytes() * SHARES["cpu"])


def free_bytes(root: Path = Path("/")) -> int:
    """The bytes of main memory that this process can still take: what the system has, or its control group allows.

    `root` is where proc and sys lie.
    """
    found = [*_of_system(root), *_of_groups(root)]
    return max(0, min(found)) if found else UNKNOWN


def _of_system(root: Path) -> list[int]:
    for line in _text(root / "proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return [int(line.split()[1]) << 10]
    if root == Path("/") and "SC_PHYS_PAGES" in getattr(os, "sysconf_names", {}):
        return [os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2]
    return []


def _of_groups(root: Path) -> list[int]:
    """What is left in each control group that this process is in, of version 1 and 2, up to the outermost."""
    found = []
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "memory" not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / ("memory" if controllers else "")
        names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        limit, usage, cache = names if controllers else ("memory.max", "memory.current", "inactive_file")
        place = top / path.lstrip("/")
        # In a container the path may be that outside of it, and the group itself lies at the top.
        for folder in dict.fromkeys((place, *place.parents, top)):
            if not folder.is_relative_to(top):
                break
            values = [_text(folder / name).strip() for name in (limit, usage)]
            if all(value.isdigit() for value in values):
                stat = dict(row.split(" ", 1) for row in _text(folder / "memory.stat").splitlines() if " " in row)
                found.append(int(values[0]) - int(values[1]) + int(stat.get(cache, "0")))
    return found


def _text(path: Path) -> str:
    """What a file of the system says, nothing if it is not there."""
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return ""
