"""What a run computes on: the device, its arithmetic, its cores."""

from __future__ import annotations

import os
from typing import Literal, NamedTuple

import torch

from lookonce.errors import EngineError, shown
from lookonce.train.allocator import keep_memory
from lookonce.train.learner import Precision

MOST_WORKERS = 8


class Machine(NamedTuple):
    """A device and what it computes in."""

    device: torch.device
    precision: Precision

    @property
    def spare_cores(self) -> int:
        """Processes to make pictures ready: beside a GPU the cores but two; else none, a thread does it."""
        return 0 if self.device.type == "cpu" else max(1, min(MOST_WORKERS, (os.cpu_count() or 2) - 2))


def prepare(device: str, precision: Literal["auto", "f32", "bf16"] = "auto", threads: int | None = None) -> Machine:
    """Ready this process for learning that can be repeated bit for bit. Raises EngineError if the device is not there.

    `auto` is the first GPU that torch can use, torchrun's own for this process, or else the processor; and bf16 on GPUs
    that have it, else f32.
    """
    keep_memory()
    if threads is not None:
        torch.set_num_threads(threads)
    # Not torch.use_deterministic_algorithms: that loads torch's compiler, which takes a second.
    torch.set_deterministic_debug_mode("warn")
    # Nothing here reads memory that it has not written, and filling it takes a few percent of a step.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")     # without it products on a GPU may differ
    place = _device(device)
    if precision == "auto":
        lower = place.type == "cuda" and torch.cuda.is_bf16_supported()
        return Machine(place, "bf16" if lower else "f32")
    return Machine(place, precision)


def _device(asked: str) -> torch.device:
    named = asked
    if asked == "auto":
        named = "cuda" if torch.cuda.is_available() else "cpu"
    kind, _, number = named.partition(":")
    if kind not in ("cpu", "cuda"):
        raise EngineError(f"device {shown(asked)}: is none that is learnt on here; wanted auto, cpu, cuda or cuda:N")
    if kind == "cuda" and (not number or int(os.environ.get("WORLD_SIZE", "1")) > 1):
        named = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"             # of several processes each has its own
    try:
        device = torch.device(named)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as problem:
        reason = str(problem).splitlines()[0][:120]
        raise EngineError(f"device {shown(asked)}: cannot be used: {reason}; wanted auto or cpu") from None
    if device.type == "cuda":
        torch.cuda.set_device(device)
    return device
