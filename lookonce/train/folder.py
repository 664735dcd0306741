"""RunFolder: where one training run keeps what it makes, and the lock that keeps others out."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

from lookonce import files
from lookonce.darknet.weights import check_values
from lookonce.errors import CheckError, DataError, WeightsError, shown
from lookonce.model import Model, onefile
from lookonce.train import checkpoint

RUNS = Path("runs")
LOCK = ".lock"
MOST_TRIED = 10_000                     # runs of one name
LONGEST_FACTS = 1 << 24                 # bytes of run.json


class RunFolder:
    """The folder of one run, held by one process; a context.

        .lock               who writes here
        run.json            what was asked for
        cfg, names          network.cfg, classes.names: as they were when the run began
        log.jsonl           one row a step (train.log)
        run.html            the page (train.page)
        checkpoint*         what the run goes on from (train.checkpoint)
        best.safetensors    the model that was judged best; last.safetensors, the newest
    """

    def __init__(self, path: Path, *, resume: bool = False, needed: int = 0) -> None:
        """A folder that is new or empty, or with `resume` that of a run. `needed` bytes must be free at the start."""
        self.path, self.resume, self.needed = path, resume, needed
        self._made = False
        self._lock = files.Lock(path / LOCK, str(path))

    @classmethod
    def fresh(cls, name: str, *, root: Path = RUNS, needed: int = 0) -> RunFolder:
        """A new folder `root/name`, or `root/name-2` and so on: the first that is not there. It is made at once.

        Raises DataError if none can be made.
        """
        if not name or Path(name).name != name or name.startswith("."):
            raise DataError(f"{shown(name)!r}: is no name of a run: wanted one without slashes, as yolov3-tiny")
        files.make_folder(root)
        for number in range(1, MOST_TRIED):
            path = root / (name if number == 1 else f"{name}-{number}")
            try:
                path.mkdir()
            except FileExistsError:
                continue
            except (OSError, ValueError) as problem:
                reason = getattr(problem, "strerror", problem)
                raise DataError(f"{path}: no such folder can be made: {reason}") from None
            folder = cls(path, needed=needed)
            folder._made = True
            return folder
        raise DataError(f"{root / name}: {MOST_TRIED:,} runs of this name are there: give another name")

    def __enter__(self) -> RunFolder:
        """Take the folder. Raises DataError if it is in use, not empty, not writable, or on a disk without room."""
        is_there = os.path.isdir(self.path)                                 # noqa: PTH112 - Path's raises
        if self.resume and not is_there:
            raise DataError(f"{self.path}: no such folder: there is no run to go on with")
        if not is_there:
            files.make_folder(self.path)
            self._made = True
        had_lock = files.exists(self._lock.path)
        self._lock.__enter__()
        try:
            self._check()
        except BaseException:
            with contextlib.suppress(OSError):                  # leave nothing in a folder that is not taken
                if not had_lock:
                    self._lock.path.unlink()
                if self._made:
                    self.path.rmdir()
            self._lock.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lock.__exit__(kind, problem, trace)

    def give_up(self) -> None:
        """Take back what was written into a folder that was new or empty, since the run in it cannot begin."""
        assert not self.resume
        with contextlib.suppress(OSError):
            for path in self.path.iterdir():
                path.unlink()
            if self._made:
                self.path.rmdir()

    def _check(self) -> None:
        """Raises DataError if a run cannot be kept here. Nobody else writes here now."""
        try:
            found = [path.name for path in self.path.iterdir() if path.name != LOCK]
        except OSError as problem:
            raise DataError(f"{self.path}: cannot be read: {problem.strerror}: give another folder") from None
        if found and not self.resume:
            raise DataError(
                f"{self.path}: is not empty (it holds {shown(min(found))}): go on with the run in it by --resume, "
                "or give another folder"
            )
        files.check_writable(self.path)
        if self._lock.is_sure:
            files.sweep(self.path)
        there = (self.path / name for name in checkpoint.KEPT if name in found)
        files.check_space(self.path, self.needed - sum(path.stat().st_size for path in there), "its checkpoints")

    # ------------------------------------------------------------------ what is in it
    @property
    def cfg(self) -> Path:
        return self.path / "network.cfg"

    @property
    def names(self) -> Path:
        return self.path / "classes.names"

    @property
    def about(self) -> Path:
        return self.path / "run.json"

    @property
    def log(self) -> Path:
        return self.path / "log.jsonl"

    @property
    def page(self) -> Path:
        return self.path / "run.html"

    @property
    def tensorboard(self) -> Path:
        return self.path / "tensorboard"

    @property
    def checkpoint(self) -> Path:
        return self.path / checkpoint.NOW

    @property
    def best(self) -> Path:
        return self.path / "best.safetensors"

    @property
    def last(self) -> Path:
        return self.path / "last.safetensors"

    # ------------------------------------------------------------------ writing and reading
    def save_model(self, path: Path, model: Model) -> None:
        """Write a model into one file, `best` or `last`; what is there stays until it is whole.

        Raises CheckError if it holds what no reader takes, as NaN or infinity; DataError if it cannot be written.
        """
        entries = model.network.entries()
        try:
            for entry in entries:
                check_values(model.weights[entry.layer][entry.name].reshape(-1), entry, path)
        except WeightsError as problem:
            found = str(problem).rpartition(": damaged")[0]
            raise CheckError(f"{found}: not written; what was there before stays as it is") from None
        with files.telling_space(path, 4 * sum(entry.size for entry in entries)):
            onefile.write(path, model)

    def save_text(self, path: Path, text: str | bytes) -> None:
        """Write a text whole or not at all. Raises DataError."""
        data = text.encode() if isinstance(text, str) else text
        with files.telling_space(path, len(data)), files.write_atomically(path) as file:
            file.write(data)

    def save_facts(self, facts: Mapping[str, Any]) -> None:
        """Write run.json: what was asked for, as values of JSON. Raises DataError."""
        self.save_text(self.about, json.dumps(facts, indent=2, ensure_ascii=False) + "\n")

    def read_facts(self) -> dict[str, Any]:
        """What run.json holds. Raises DataError."""
        try:
            facts = json.loads(files.read_bytes(self.about, LONGEST_FACTS, DataError))
        except (ValueError, RecursionError) as problem:
            raise DataError(f"{self.about}: is no JSON: {problem}") from None
        if not isinstance(facts, dict):
            raise DataError(f"{self.about}: is a {type(facts).__name__}, wanted an object: is it a run's?")
        return facts
