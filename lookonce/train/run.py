"""Run: a model that learns in a folder, saved so that it can be killed at any moment, and judged on the way."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Generator, Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch

from lookonce import files
from lookonce.data.batches import Batch
from lookonce.data.cache import usual_budget
from lookonce.data.loader import Loader
from lookonce.data.views import where
from lookonce.errors import CheckError, DataError, ExitCode, LookonceError, warn
from lookonce.exam.exam import Protocol
from lookonce.model import Model
from lookonce.report.contents import Fact
from lookonce.train import checkpoint
from lookonce.train.datasets import TrainingData
from lookonce.train.distributed import World
from lookonce.train.feeding import augmentation_of, sampler_of
from lookonce.train.folder import RunFolder
from lookonce.train.judging import GivenUpError, Verdict, judge
from lookonce.train.learner import Learner, NonFiniteError, Options, Step, learn
from lookonce.train.log import Board, JudgedRow, Log, NoteRow, Row, StepRow
from lookonce.train.page import About, Sample, State, samples_of, write_page
from lookonce.train.settings import Settings, fingerprint, surroundings
from lookonce.train.stopping import StopOnSignal

PAGE_SECONDS = 20.0
MOST_FAILED = 3  # checkpoints in a row that could not be written
MOST_NAMED = 8  # pictures of a bad batch in a message
OUT_OF_MEMORY = ("not enough memory", "can't allocate memory")  # as torch says it of the processor's


class Run:
    """What learns, from what, and where it is kept.

    In several processes the first one keeps, judges and says; the others only learn. `best` is the best verdict so
    far, and None before the first. `stopped` says that it was asked to stop, `finished` that nothing is left to do.
    """

    def __init__(
        self,
        folder: RunFolder,
        settings: Settings,
        data: TrainingData,
        model: Model,
        *,
        world: World | None = None,
        board: Board = "auto",
    ) -> None:
        self.folder, self.settings, self.data, self.board = folder, settings, data, board
        self.world = world or World()
        self.options = model.network.options
        self.model = model
        self.learner = Learner(model, options_of(settings), self.world)
        # Weights that have seen pictures go on where they were, as Darknet's do.
        self.learner.number = self.learner.seen // self.options.batch
        self._data = fingerprint(data.train)
        self.best: Verdict | None = None
        self.stopped = self.finished = False
        self._judged = int(self.epoch // settings.judge_every)  # how many times `judge_every` epochs
        self._average = -1.0  # of what Darknet prints as the loss
        self._failed = 0
        self._odd = False  # whether the last checkpoint would have held NaN
        self._kept = self.learner.number  # the step of the last checkpoint
        self._saved, self._paged = time.monotonic(), -math.inf
        self._page_failed = False
        self._samples: tuple[Sample, ...] = ()

    # ------------------------------------------------------------------ going on
    def go_on(self) -> list[str]:
        """Go back to the last checkpoint of the folder; what differs from when it was made, a sentence each.

        Raises WeightsError if there is no checkpoint, LookonceError if it is another network's.
        """
        found = checkpoint.latest(self.folder.path)
        self.learner.load(found.arrays, found.facts)
        facts = found.facts
        self.best = Verdict(facts["best"][0], facts["best"][1], dict(facts["best"][2])) if facts.get("best") else None
        self._judged, self._average = int(facts["judged"]), float(facts["average"])
        self._kept = self.learner.number
        self.finished = bool(facts.get("finished")) and self.done
        before, now = facts["around"], self._around
        different = [f"{name} was {before.get(name)} and is {it}" for name, it in now.items() if before.get(name) != it]
        said = [f"{text}: not bit for bit what an unbroken run would learn" for text in different]
        if facts["data"] != self._data:
            said.append(f"{self.data.train.path}: the data are not what they were when the run was stopped")
        return said

    @property
    def batches(self) -> int:
        """The updates of the whole run."""
        return self.options.max_batches

    @property
    def done(self) -> bool:
        return self.learner.seen // self.options.batch >= self.batches

    @property
    def epoch(self) -> float:
        """How often the pictures were seen."""
        return self.learner.number * self.options.batch / len(self.data.train)

    # ------------------------------------------------------------------ the loop
    def rows(self, stop: StopOnSignal | None = None) -> Iterator[Row]:
        """Learn to the end, or until `stop.asked`; what happens, as it is logged. State is then saved.

        Raises NonFiniteError, which leaves the last finite checkpoint, DataError if checkpoints cannot be written any
        more, and what reading pictures raises; these say from where the run can go on.
        """
        first = self.world.is_first
        with (
            Log(self.folder.log, step=self.learner.number, board=self.board, folder=self.folder.tensorboard)
            if first
            else _Silence() as log
        ):
            self._log = log
            try:
                yield from self._to_the_end(stop or StopOnSignal())
            except LookonceError as problem:
                raise self._failed_by(problem) from None
            except RuntimeError as problem:
                if self.world.size == 1:
                    raise
                text = f"step {self.learner.number + 1:,}: another of the {self.world.size} processes has ended"
                said = str(problem).partition("\n")[0]
                raise self._failed_by(LookonceError(f"{text} ({said[:200]})")) from problem

    def _failed_by(self, problem: LookonceError) -> LookonceError:
        """The problem that ends a run, after it was noted; it then says from where the run goes on."""
        problem.exit_code = ExitCode.SOME_FAILED
        if self.world.is_first:
            self._note(f"failed: {problem}")
            self._page("failed", force=True)
            kept = f"step {self._kept:,} is kept, `lookonce train --resume {self.folder.path}` goes on from it"
            problem.args = (f"{problem}; {kept}",)
        return problem

    def _to_the_end(self, stop: StopOnSignal) -> Iterator[Row]:
        with self._loader() as loader:
            yield from self._learn(stop, loader)
        if not self.stopped:
            self.finished = yield from self._judge(stop)
            self.stopped = not self.finished
        self._save(final=True)
        self._page("stopped" if self.stopped else "finished", force=True)

    def _learn(self, stop: StopOnSignal, loader: Loader) -> Iterator[Row]:
        steps = learn(self.learner, self._looked_at(loader))
        while not self.done:
            if self.world.agree(stop.asked, self.learner.options.device):
                self.stopped = True
                self._note("stopped")
                return
            clock, waited = time.monotonic(), loader.waited
            step = self._next(steps)
            took = max(time.monotonic() - clock, 1e-9)
            yield self._row(step, took, min(1.0, (loader.waited - waited) / took))
            if self._is_due() and not self.done:
                yield from self._judge(stop)
                self._save()
            elif time.monotonic() - self._saved > self.settings.save_seconds:
                self._save()
            self._page("running")

    def _next(self, steps: Iterator[Step]) -> Step:
        """The next step; what goes wrong in it, in words. State is saved where it is whole and can be learnt from."""
        number = self.learner.number + 1
        try:
            return next(steps)
        except NonFiniteError as problem:
            raise NonFiniteError(f"{problem}{self._pictures_of(problem)}", problem.plans) from None
        except LookonceError:
            self._save()  # the loader's: no step was in the making
            raise
        except (MemoryError, RuntimeError) as problem:
            memory = isinstance(problem, MemoryError | torch.OutOfMemoryError)
            if memory or any(words in str(problem) for words in OUT_OF_MEMORY):
                raise LookonceError(
                    f"step {number:,}: memory ran out; subdivisions={2 * self.options.subdivisions} in "
                    f"{self.folder.cfg} takes about half as much"
                ) from None
            raise

    def _loader(self) -> Loader:
        settings, network = self.settings, self.model.network
        parts = self.options.subdivisions
        sampler = sampler_of(network, len(self.data.train), settings.order, settings.seed, shares=self.data.shares)
        # Mini-batches are shared out among processes in turn.
        start = self.learner.number * parts
        plans = (plan for plan in sampler.plans(start) if plan.number % self.world.size == self.world.rank)
        return Loader(
            self.data.train, augmentation_of(network), plans, settings.seed, workers=settings.workers,
            memory=usual_budget() // self.world.size, bad=settings.bad, complain=warn,
        )  # fmt: skip

    def _looked_at(self, batches: Iterable[Batch]) -> Iterator[Batch]:
        """The same batches; the first is kept for the page."""
        for batch in batches:
            if not self._samples and self.world.is_first:
                self._samples = samples_of(batch, self.data.names)
            yield batch

    # ------------------------------------------------------------------ what happens
    def _row(self, step: Step, took: float, waiting: float) -> StepRow:
        self._average = step.printed if self._average < 0 else 0.9 * self._average + 0.1 * step.printed
        row = StepRow(
            number=step.number, seen=step.seen, epoch=self.epoch, rate=step.rate, terms=step.terms, total=step.loss,
            printed=step.printed, average=self._average, speed=self.options.batch / max(took, 1e-9), waiting=waiting,
            memory=memory_taken(self.learner.options.device), seconds=self._log.seconds,
        )  # fmt: skip
        self._log.add(row)
        return row

    def _note(self, text: str) -> NoteRow:
        row = NoteRow(self.learner.number, text)
        self._log.add(row)
        return row

    def _is_due(self) -> bool:
        return self.epoch >= (self._judged + 1) * self.settings.judge_every

    def _judge(self, stop: StopOnSignal) -> Generator[Row, None, bool]:
        """Judge the model as it is now, and keep it if it is the best. Whether that was not broken off by `stop`.

        That a judge fails does not end a run.
        """
        judged = int(self.epoch // self.settings.judge_every)
        val, threads = self.data.val, self.settings.threads
        if self.world.is_first and val is not None:
            protocol = cast("Protocol | None", self.settings.protocol)
            try:
                verdict = judge(self._as_kept(), val, protocol, threads, lambda: stop.asked, self.data.judged)
            except GivenUpError:
                return False
            except LookonceError as problem:
                warn(f"{problem}; the run goes on without being judged")
                yield self._note(f"could not be judged: {problem}")
            else:
                row = JudgedRow(self.learner.number, self.epoch, verdict.figures)
                self._log.add(row)
                self._keep_best(verdict)
                yield row
        self._judged = judged
        return True

    def _keep_best(self, verdict: Verdict) -> None:
        """Save the model if no verdict before was better; if that fails, the one before stays the best."""
        before = self.best
        if before is not None and not (verdict.main >= before.main or math.isnan(before.main)):
            return
        self.best = verdict
        try:
            self._save_model(self.folder.best)
        except (CheckError, DataError) as problem:
            self.best = before
            warn(f"{problem}; the run goes on")

    def _as_kept(self) -> Model:
        """The model as it is now, with what is known of it."""
        model = self.learner.to_model()
        trained = {
            "data": self.data.train.path.name,
            "pictures": len(self.data.train),
            "judged on": 0 if self.data.val is None else len(self.data.val),
            "batches": self.learner.number,
            "seed": self.settings.seed,
            "figures": self.best and {name: round(value, 4) for name, value in self.best.figures.items()},
            **({"boxes": list(self.data.boxed)} if self.data.boxed else {}),
        }
        card = {**model.card, "trained": trained}
        return replace(model, names=self.data.names, card=card, source=str(self.folder.path))

    # ------------------------------------------------------------------ keeping
    def keep(self) -> None:
        """Write a checkpoint. Raises DataError, or CheckError if there is NaN or infinity in it."""
        arrays, facts = self.learner.state()
        facts |= {
            "best": None if self.best is None else list(self.best),
            "judged": self._judged,
            "average": self._average,
            "finished": self.finished,
            "data": self._data,
            "around": self._around,
        }
        checkpoint.keep(self.folder.path, arrays, facts)
        self._kept = self.learner.number

    def _save(self, *, final: bool = False) -> None:
        """Write a checkpoint, at the end after the model. A few failures in a row are let pass, the last not."""
        self._saved = time.monotonic()
        if not self.world.is_first:
            return
        self._log.sync()
        try:
            try:
                if final:
                    self._save_model(self.folder.last)
            finally:
                self.keep()
        except DataError as problem:
            self._failed += 1
            if final or self._failed >= MOST_FAILED:
                raise
            warn(f"{problem}; the run goes on, and tries again")
        except CheckError:
            if final or self._odd:
                raise
            self._odd = True  # the next step will not be finite, and says more of it
        else:
            self._failed, self._odd = 0, False

    def _save_model(self, path: Path) -> None:
        """Write the model as it is now, in one file and as Darknet's weights. Raises DataError or CheckError."""
        model = self._as_kept()
        self.folder.save_model(path, model)
        with files.telling_space(path, 4 * sum(entry.size for entry in model.network.entries())):
            model.write_weights(path.with_suffix(".weights"))

    @property
    def _around(self) -> dict[str, str | int]:
        return surroundings(torch.get_num_threads(), self.learner.options.device)

    def _page(self, state: State, *, force: bool = False) -> None:
        """Write the page. That this fails does not end a run."""
        if not self.world.is_first or not (force or time.monotonic() - self._paged > PAGE_SECONDS):
            return
        self._paged = time.monotonic()
        about = About(self.folder.path.name, self._facts(), state, self.batches)
        try:
            write_page(self.folder.page, self._log.rows, about, self._samples)
        except LookonceError as problem:
            if not self._page_failed:
                warn(f"{problem}; the run goes on without its page")
            self._page_failed = True

    def _facts(self) -> tuple[Fact, ...]:
        network, options = self.model.network, self.options
        named = {
            "network": network.cfg.path,
            "input": f"{network.input.width} x {network.input.height}, {network.resize}",
            "data": str(self.data.train.path),
            "pictures": f"{len(self.data.train):,} to learn from, {len(self.data.val or ()):,} to judge by",
            "classes": f"{len(self.data.names):,}",
            "batch": f"{options.batch} in {options.subdivisions} parts",
            "batches": f"{options.max_batches:,}",
            "rate": f"{options.learning_rate:g}, {options.policy}",
            "device": f"{self.settings.device}, {self.settings.precision}",
        }
        return tuple(Fact(name, text) for name, text in named.items())

    def _pictures_of(self, problem: NonFiniteError) -> str:
        """The files of the mini-batches that a step could not learn from, in words."""
        items = [self.data.train.items[index] for plan in problem.plans for index in plan.indices]
        named = ", ".join(where(item) for item in items[:MOST_NAMED])
        more = f" and {len(items) - MOST_NAMED} more" if len(items) > MOST_NAMED else ""
        return f"; its pictures: {named}{more}" if items else ""


class _Silence:
    """What the other processes log into."""

    rows: tuple[Row, ...] = ()
    seconds = 0.0

    def __enter__(self) -> _Silence:
        return self

    def __exit__(self, *problem: object) -> None: ...

    def add(self, row: Row) -> None: ...

    def sync(self) -> None: ...


def options_of(settings: Settings) -> Options:
    """How settings have a Learner compute."""
    device = torch.device(settings.device)
    return Options(device, settings.precision, settings.compat, settings.compiled, settings.seed)


def memory_taken(device: torch.device) -> int:
    """The most bytes in use so far; 0 where the system does not tell."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    if sys.platform == "win32":
        return 0
    import resource

    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
