"""Several processes that learn as one, started by torchrun.

Each takes every N-th mini-batch of a batch. Gradients are summed over all of them before the one step that each then
makes; batch norm goes by its mini-batch, and the rolling statistics take in the mini-batches of all processes in the
order in which a single process would have seen them. So N processes learn what one learns with the same `batch` and
`subdivisions`, but for the rounding of sums.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from lookonce.errors import CfgError
from lookonce.nn.ops import Statistics

LONGEST_WAIT = timedelta(hours=12)


@dataclass(frozen=True)
class World:
    """This process, number `rank` of `size`."""

    rank: int = 0
    size: int = 1

    @property
    def is_first(self) -> bool:
        return self.rank == 0

    def sum(self, tensors: Sequence[Tensor]) -> None:
        """Each tensor in place to its sum over all processes."""
        if self.size == 1 or not tensors:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        start = 0
        for tensor in tensors:
            tensor.copy_(flat[start : start + tensor.numel()].reshape(tensor.shape))
            start += tensor.numel()

    def gather(self, statistics: Sequence[Sequence[Statistics]]) -> list[Statistics]:
        """What batch norms saw in all mini-batches of all processes, one list a mini-batch of this one, in order."""
        if self.size == 1 or not any(statistics):
            return [each for seen in statistics for each in seen]
        own = torch.stack([torch.cat([torch.cat([each.mean, each.variance]) for each in seen]) for seen in statistics])
        parts = [torch.empty_like(own) for _ in range(self.size)]
        dist.all_gather(parts, own)
        found: list[Statistics] = []
        for turn, seen in enumerate(statistics):
            for part in parts:
                start = 0
                for each in seen:
                    size = each.mean.numel()
                    mean, variance = part[turn, start : start + 2 * size].reshape(2, size)
                    found.append(Statistics(each.rolling_mean, each.rolling_variance, mean, variance))
                    start += 2 * size
        return found

    def agree(self, flag: bool, device: torch.device) -> bool:
        """Whether any process says so."""
        if self.size == 1:
            return flag
        said = torch.tensor(float(flag), device=device)
        dist.all_reduce(said, op=dist.ReduceOp.MAX)
        return bool(said.item())

    def share(self, text: str = "") -> str:
        """What the first process says, to all of them."""
        if self.size == 1:
            return text
        device = torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else None
        length = torch.tensor(len(text.encode()), device=device)
        dist.broadcast(length, 0)
        data = torch.zeros(int(length), dtype=torch.uint8, device=device)
        if self.is_first:
            data.copy_(torch.tensor(list(text.encode()), dtype=torch.uint8))
        dist.broadcast(data, 0)
        return bytes(data.tolist()).decode()

    def check(self, subdivisions: int) -> None:
        """Raises CfgError unless the mini-batches of a batch can be shared out evenly."""
        if subdivisions % self.size:
            raise CfgError(
                f"subdivisions={subdivisions}: {self.size} processes share out the mini-batches of a batch; "
                f"wanted a multiple of {self.size}"
            )


def join(device: torch.device) -> World:
    """The processes that torchrun started, or this one alone: gloo between CPUs, nccl between GPUs."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return World()
    if not dist.is_initialized():
        # The others wait for the first one while it judges.
        dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=LONGEST_WAIT)
    return World(dist.get_rank(), dist.get_world_size())


def leave() -> None:
    """End what `join` began."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
