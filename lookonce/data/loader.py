"""The loader: batches made ahead, in the order of their plans, in a thread or in processes.

Each process has a pipe of its own and no lock in common with others, so that it may die at any point: another takes its
place and makes its samples again. Pictures are written into shared memory and stay there; only objects go through the
pipes. A process ends when its pipe does, so none outlives the loader, whatever became of that.
"""

from __future__ import annotations

import atexit
import contextlib
import itertools
import os
import shutil
import signal
import sys
import threading
import time
import types
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from multiprocessing import connection, get_context, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.shared_memory import SharedMemory
from pathlib import Path

import numpy as np

from lookonce.data.ahead import AT_ONCE, PARTS, Ahead, enough
from lookonce.data.batches import Augmentation, Batch, Plan
from lookonce.data.cache import Folder, Kept, Region, name_of, usual_budget
from lookonce.data.dataset import Dataset
from lookonce.data.making import Answer, Choosing, Complain, Part, Policy, Setup, Wanted, serve
from lookonce.data.outbox import LENT, TICK, Job, Outbox, array_of, bytes_of
from lookonce.errors import LookonceError

SPAWN = get_context("spawn")     # after a fork a lock that another thread held stays locked
SHARED = Path("/dev/shm")        # noqa: S108 - where Linux keeps shared memory
SIGNALS = (signal.SIGINT, signal.SIGTERM)
GRACE_S = 1.0                    # for a process to end by itself
SPARE = 64 << 20                 # bytes of shared memory that kept pictures leave free


class Loader:
    """Makes batches ahead, in the order of their plans. A context, and an iterator of batches.

    With `workers` 0 they are made in a thread of this process, else in so many processes, which import no torch. Which
    of the two and how many changes no batch.

    Decoded pictures are kept in `memory` bytes (a quarter of what is available if None, 0 for none), shared by all
    processes, or in a `folder` on disk if one is given. With `most`, the largest input (width, height), pictures that
    are much larger are kept smaller, which is not exact (see Decoder).

    A process that dies is replaced, at most `restarts` times in all. One that does not answer for `patience_s` seconds
    is an error. What becomes of pictures that cannot be read is up to `bad` (see Choosing); `complain` takes one line
    for each that is skipped, and for whatever else a user should know.

    A caller that holds more than two batches gets copies. `alone` says that there are no processes. Raises DataError
    for a folder that cannot be; `next` raises InputError and LookonceError.
    """

    def __init__(
        self,
        dataset: Dataset,
        augmentation: Augmentation,
        plans: Iterable[Plan],
        seed: int = 0,
        *,
        workers: int = 0,
        memory: int | None = None,
        folder: Path | None = None,
        most: tuple[int, int] | None = None,
        bad: Policy = "stop",
        restarts: int = 3,
        patience_s: float = 60.0,
        complain: Complain = lambda text: None,
    ) -> None:
        if folder is not None:
            Folder(folder)                                  # what is wrong with it is said here
        self._plans, self._complain = iter(plans), complain
        self._choosing = Choosing(dataset.items, augmentation, seed, bad, complain, dataset.parts)
        self._setup = Setup(augmentation, seed, usual_budget() if memory is None else memory, folder, most)
        self._outbox = Outbox(patience_s)
        self._pool = _Pool(workers, self._setup, self._choosing, restarts, patience_s)
        self._thread = threading.Thread(target=self._run, name="lookonce loader", daemon=True)
        self._ahead = Ahead(self._setup, self._choosing, self._outbox)
        self.alone = workers == 0

    @property
    def hits(self) -> int:
        """How many pictures were kept when they were wanted."""
        return self._ahead.hits

    @property
    def misses(self) -> int:
        """How many pictures had to be decoded."""
        return self._ahead.misses

    @property
    def waited(self) -> float:
        """Seconds that the caller has waited for batches."""
        return self._outbox.waited

    @property
    def restarted(self) -> int:
        """How many processes were replaced."""
        return self._pool.restarted

    def __enter__(self) -> Loader:
        atexit.register(self.__exit__)                      # multiprocessing would wait for its processes for ever
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Ends all processes and lets go of all shared memory, within seconds whatever they do."""
        self._outbox.stop()
        self._pool.wake()
        self._thread.join(GRACE_S)                          # it may be held up by a process, or by a disk
        self._pool.close(by_force=self._thread.is_alive() or self._outbox.has_failed)
        self._thread.join(GRACE_S)
        self._outbox.close()
        atexit.unregister(self.__exit__)

    def __iter__(self) -> Iterator[Batch]:
        return self

    def __next__(self) -> Batch:
        self._pool.wake()                                   # the room of the last batch but one may be free
        return self._outbox.take()

    # ------------------------------------------------------------------ in the thread
    def _run(self) -> None:
        try:
            first = next(self._plans, None)
            if first is not None:
                plans = itertools.chain([first], self._plans)
                if self.alone or not self._has_shared_memory(first):
                    self._ahead.make_alone(plans)
                else:
                    self._pool.start()
                    self._ahead.share_out(plans, self._pool, _new_room)
            self._outbox.end()
        except BaseException as problem:                    # handed to the caller
            self._outbox.end(problem)

    def _has_shared_memory(self, plan: Plan) -> bool:
        """Find the shared memory that mini-batches like this one take; say so if there is too little."""
        count = enough(plan, self._pool.count) + LENT
        try:
            for _ in range(count):
                self._outbox.add_room(_new_room(bytes_of(plan)))
        except _NoRoomError as problem:
            self._complain(f"{problem}, for each of {count} mini-batches; until then they are made in one thread")
            self._outbox.close()
            self.alone = True
        return not self.alone


# ---------------------------------------------------------------------- shared memory
class _NoRoomError(LookonceError):
    """There is too little shared memory."""


class _SharedRoom(SharedMemory):
    """Room in shared memory. It may be closed while arrays look at it: they keep what they see."""

    def array(self, shape: tuple[int, ...]) -> np.ndarray:
        assert self.buf is not None
        return array_of(self.buf, shape)

    def drop(self) -> None:
        self.close()
        self.unlink()

    def close(self) -> None:
        with contextlib.suppress(BufferError):
            super().close()


def _new_room(size: int) -> _SharedRoom:
    """Room that the system has now: to lack it when it is written to would kill the writer. Raises _NoRoomError."""
    room = None
    try:
        room = _SharedRoom(create=True, size=size)
        _reserve(room.name, 0, size)
    except OSError as problem:
        if room is not None:
            room.drop()
        raise _NoRoomError(
            f"{SHARED}: {problem.strerror}: processes that make batches need {size / 1e6:,.1f} MB of shared memory "
            f"for a mini-batch; give the container more (--shm-size)"
        ) from None
    return room


def _reserve(name: str, start: int, count: int) -> None:
    """Make Linux find the bytes of a part of shared memory now. Raises OSError if it has none."""
    if SHARED.is_dir():
        descriptor = os.open(SHARED / name.lstrip("/"), os.O_RDWR)
        try:
            os.posix_fallocate(descriptor, start, count)
        finally:
            os.close(descriptor)


# ---------------------------------------------------------------------- processes
class _Worker:
    """One process, the parts that it was given and has not answered, and for how long the first of them."""

    def __init__(self, place: int, setup: Setup, cache: tuple[str, int, int] | None) -> None:
        self.place, self.age = place, 0.0
        self.parts: deque[tuple[Job, list[Wanted]]] = deque()
        self.pipe, theirs = SPAWN.Pipe()
        self.process = SPAWN.Process(target=_work, args=(theirs, setup, cache), name=f"loader {place}", daemon=True)
        try:
            with _as_if_alone():
                self.process.start()
        except OSError as problem:
            raise LookonceError(f"no process can be started for the loader: {problem.strerror}; try fewer") from None
        finally:
            theirs.close()

    def answers(self, ready: Sequence[object]) -> Iterator[tuple[Job, Answer]]:
        """What it has answered by now. Raises EOFError when it is dead."""
        is_dead = self.process.sentinel in ready
        if is_dead or self.pipe in ready:
            try:
                while self.pipe.poll():
                    answer: Answer = self.pipe.recv()
                    self.age = 0.0
                    yield self.parts.popleft()[0], answer
            except OSError:
                is_dead = True
            if is_dead:
                raise EOFError


@contextlib.contextmanager
def _as_if_alone() -> Iterator[None]:
    """A process that is started in here runs no part of the user's program, and meets no signal before it ignores it.

    It would import the main module again: torch and all, and without end if that has no guard.
    """
    main = sys.modules["__main__"]
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS) if hasattr(signal, "pthread_sigmask") else None
    sys.modules["__main__"] = types.ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
        if blocked is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


class _Pool:
    """Processes that are given parts of mini-batches and answer them; those that die are replaced."""

    def __init__(self, count: int, setup: Setup, choosing: Choosing, restarts: int, patience_s: float) -> None:
        self.count, self._setup, self._choosing = count, setup, choosing
        self._restarts, self._patience = restarts, patience_s
        self._workers: list[_Worker] = []
        self._todo: deque[tuple[Job, list[Wanted]]] = deque()
        self._cache: _SharedRoom | None = None
        self._known: dict[str, Kept] = {}
        self._bell: tuple[Connection, Connection] | None = None
        self._is_closing = self._is_rung = False
        self.restarted = 0

    def start(self) -> None:
        """Start all processes, and find memory for decoded pictures if some is wanted and there is."""
        resource_tracker.ensure_running()                   # it would undo the blocking of signals
        self._bell = SPAWN.Pipe(duplex=False)
        size = self._setup.memory if self._setup.folder is None else 0
        if SHARED.is_dir():
            size = min(size, shutil.disk_usage(SHARED).free - SPARE)
        if size > 0:
            with contextlib.suppress(OSError):
                self._cache = _SharedRoom(create=True, size=size)
        self._workers += map(self._worker, range(self.count))

    def add(self, job: Job, places: Iterable[int]) -> None:
        """Have samples of a mini-batch made, shared out evenly."""
        wanted = self._choosing.wanted(job.plan, places)
        at_once = min(AT_ONCE, -(-len(wanted) // self.count))
        for first in range(0, len(wanted), max(1, at_once)):
            self._todo.append((job, wanted[first : first + at_once]))

    def work(self, rooms: tuple[str, ...]) -> Iterator[tuple[Job, Answer]]:
        """Hand out parts, wait until something happens, and give what was answered. Raises LookonceError."""
        for _ in range(PARTS):
            for worker in sorted(self._workers, key=lambda worker: len(worker.parts)):
                if self._todo and len(worker.parts) < PARTS:
                    self._give(worker, rooms)
        since = time.monotonic()
        assert self._bell is not None
        watched = [each for worker in self._workers for each in (worker.pipe, worker.process.sentinel)]
        ready = connection.wait([*watched, self._bell[0]], TICK)
        if self._bell[0] in ready:
            self._bell[0].recv_bytes()
            self._is_rung = False
        passed = min(time.monotonic() - since, 2 * TICK)    # longer if all of us were stopped
        for worker in list(self._workers):
            worker.age = worker.age + passed if worker.parts else 0.0
            try:
                for job, answer in worker.answers(ready):
                    if answer.failure:
                        raise RuntimeError(f"in a process of the loader:\n{answer.failure}")
                    self._known.update((kept.name, kept) for kept in answer.kept)
                    yield job, answer
            except EOFError:
                self._replace(worker)
            if worker.age > self._patience:
                raise LookonceError(
                    f"process {worker.process.pid} of the loader has not answered for {self._patience:.0f} s while it "
                    f"made samples of {self._names(worker)}: does a disk or a network folder not answer?"
                )

    def wake(self) -> None:
        """End the waiting in `work`."""
        if self._bell is not None and not self._is_rung:
            self._is_rung = True
            with contextlib.suppress(OSError):
                self._bell[1].send_bytes(b"")

    def close(self, *, by_force: bool) -> None:
        """End all processes and let go of what they shared. Those that do not end by themselves are killed."""
        self._is_closing = True
        if not by_force:
            for worker in self._workers:
                worker.pipe.close()                         # which tells it to end
            end = time.monotonic() + GRACE_S
            for worker in self._workers:
                worker.process.join(max(0.0, end - time.monotonic()))
        _kill(self._workers)
        if self._cache is not None:
            self._cache.drop()
            self._cache = None

    def _give(self, worker: _Worker, rooms: tuple[str, ...]) -> None:
        """Give a process the next part. If it is dead, that is found out when it is waited for."""
        job, wanted = self._todo.popleft()
        worker.parts.append((job, wanted))
        names = {name_of(item, self._setup.most) for each in wanted for item in each.items}
        known = [self._known[name] for name in names if name in self._known]
        with contextlib.suppress(OSError):
            worker.pipe.send(Part(job.plan.number, wanted, job.room.name, job.pictures.shape, rooms, known))

    def _worker(self, place: int) -> _Worker:
        """A new process. Its part of the cache begins after what one before it kept there."""
        if self._cache is None:
            return _Worker(place, self._setup, None)
        share = self._cache.size // self.count
        start, stop = place * share, (place + 1) * share
        ends = [kept.stop for kept in self._known.values() if start < kept.stop <= stop]
        return _Worker(place, self._setup, (self._cache.name, max([start, *ends]), stop))

    def _replace(self, worker: _Worker) -> None:
        """Start another process in place of a dead one. Raises LookonceError when that was done too often."""
        if self._is_closing:
            return
        _kill([worker])
        worker.pipe.close()
        code = worker.process.exitcode or 0
        how = f"by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        if self.restarted == self._restarts:
            raise LookonceError(
                f"a process of the loader died ({how}) while it made samples of {self._names(worker)}, after "
                f"{self.restarted} others: is memory short, or one of these pictures a trap? Try fewer workers, or 0"
            )
        self.restarted += 1
        self._todo.extendleft(reversed(worker.parts))
        self._workers[self._workers.index(worker)] = self._worker(worker.place)

    def _names(self, worker: _Worker) -> str:
        """The pictures that a process is at, for a message."""
        return self._choosing.names(worker.parts[0][1]) if worker.parts else "nothing"


def _kill(workers: list[_Worker]) -> None:
    for worker in workers:
        if worker.process.is_alive():
            worker.process.kill()
    for worker in workers:
        worker.process.join()


def _work(pipe: Connection, setup: Setup, cache: tuple[str, int, int] | None) -> None:
    """The whole life of a process. Signals that go to all of a terminal's processes are for the one that started it."""
    for each in SIGNALS:
        signal.signal(each, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    region = None
    if cache is not None:
        name, start, stop = cache
        memory = _SharedRoom(name)
        assert memory.buf is not None
        region = Region(np.frombuffer(memory.buf, np.uint8), start, stop, partial(_reserve, name))
    serve(pipe, setup, region, _SharedRoom)
