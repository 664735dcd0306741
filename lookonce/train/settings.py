"""What a run was asked for, as its folder keeps it: all that is needed to go on with it."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch

from lookonce.data import Dataset
from lookonce.errors import DataError, shown

Order = Literal["epochs", "drawn"]


@dataclass(frozen=True)
class Settings:
    """The options of a run; the network and how it learns are in the cfg beside it.

    `order` is every picture once an epoch, or drawn with replacement as Darknet does. `judge_every` is in epochs,
    `save_seconds` the time between checkpoints, `workers` the processes that make pictures ready, 0 for a thread.
    `also` is a second dataset, learnt at a `ratio` of pictures, theirs to its own; with `tree` the classes of both are
    nodes of the tree in the run's folder, joined to it by `choices`.
    """

    data: str
    split: str | None = None
    val_split: str | None = None
    val: str | None = None
    also: str | None = None
    ratio: tuple[float, float] = (1.0, 4.0)
    tree: bool = False
    choices: str | None = None
    format: str | None = None
    names: str | None = None
    protocol: str | None = None
    order: Order = "epochs"
    seed: int = 0
    judge_every: int = 1
    save_seconds: float = 60.0
    workers: int = 0
    threads: int | None = None
    device: str = "cpu"
    precision: Literal["f32", "bf16"] = "f32"
    compat: bool = False
    compiled: bool = False
    bad: Literal["stop", "skip"] = "stop"

    def changed(self, values: Mapping[str, Any]) -> Settings:
        """The same, but for those values that are not None."""
        return dataclasses.replace(self, **{name: value for name, value in values.items() if value is not None})

    @classmethod
    def from_json(cls, values: Mapping[str, Any], where: str) -> Settings:
        """What `dataclasses.asdict` gave. Raises DataError."""
        known = {field.name for field in dataclasses.fields(cls)}
        odd = sorted(set(values) - known)
        if odd or "data" not in values:
            found = f"{shown(odd[0])} is not known" if odd else "data is missing"
            raise DataError(f"{where}: {found}: was it written by this version?")
        return cls(**{**values, "ratio": tuple(values.get("ratio", cls.ratio))})


def surroundings(threads: int, device: torch.device) -> dict[str, str | int]:
    """What bit-exact learning depends on beside settings, data and cfg."""
    return {
        "device": str(device) if device.type == "cpu" else torch.cuda.get_device_name(device),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
        "processor": torch.backends.cpu.get_cpu_capability(),
        "threads": threads,
    }


def fingerprint(dataset: Dataset) -> str:
    """A hash of what a dataset says: its names, pictures and truths. The pixels are not in it."""
    digest = hashlib.sha256(json.dumps(dataset.names).encode())
    for item in dataset.items:
        digest.update(f"{item.name}\0{item.member}\0{item.truth.classes}\0".encode())
        digest.update(item.truth.xyxy.tobytes())
        digest.update(item.truth.label.tobytes())
        digest.update(item.truth.crowd.tobytes())
    return digest.hexdigest()[:32]
