"""Between who makes batches and who takes them: room for their pictures, and a queue of those that are made."""

from __future__ import annotations

import math
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from typing import Protocol, runtime_checkable

import numpy as np

from lookonce.data.batches import Batch, Plan
from lookonce.errors import LookonceError
from lookonce.truth import Targets

TICK = 0.5                       # seconds after which somebody who waits looks around
LENT = 2                         # batches that a caller may hold: the one it has and the one it asks for
AHEAD = 2                        # mini-batches that are made ahead


@runtime_checkable
class Room(Protocol):
    """Bytes for the pictures of one mini-batch."""

    @property
    def size(self) -> int: ...

    @property
    def name(self) -> str: ...

    def array(self, shape: tuple[int, ...]) -> np.ndarray:
        """The bytes as float32, by `array_of`."""
        ...

    def drop(self) -> None:
        """Let go of the bytes; they last as long as somebody looks at them."""
        ...


def array_of(data: memoryview, shape: tuple[int, ...]) -> np.ndarray:
    """The first bytes as float32. Each call gives an array on a base of its own, which ends with the last view of it.

    The base holds the bytes; an np.ndarray made on them would not, and look at nothing when they are let go.
    """
    base: np.ndarray = np.frombuffer(data, np.float32, math.prod(shape))
    return base.reshape(shape)


class OwnRoom:
    """Room in this process's own memory."""

    def __init__(self, size: int) -> None:
        self.size, self.name = size, ""
        self._bytes = np.empty(size, np.uint8).data

    def array(self, shape: tuple[int, ...]) -> np.ndarray:
        return array_of(self._bytes, shape)

    def drop(self) -> None:
        pass


class Job:
    """A mini-batch in the making: its pictures, and the objects of each, None until it is made."""

    def __init__(self, plan: Plan, room: Room) -> None:
        self.plan, self.room = plan, room
        self.pictures = room.array((len(plan.indices), 3, plan.height, plan.width))
        self.objects: list[tuple[np.ndarray, np.ndarray] | None] = [None] * len(plan.indices)

    @property
    def is_done(self) -> bool:
        return all(each is not None for each in self.objects)


def bytes_of(plan: Plan) -> int:
    """What the pictures of a mini-batch take."""
    return len(plan.indices) * 3 * plan.height * plan.width * 4


class Outbox:
    """Finished mini-batches on their way from the thread that makes them to the one that takes them.

    Pictures are not copied: a room is free again when nobody has its array any more. A caller that holds more than two
    batches gets copies. `waited` are the seconds that the caller has waited.
    """

    def __init__(self, patience_s: float) -> None:
        self._patience = patience_s
        self._changed = threading.Condition()
        self._ready: deque[Job] = deque()
        self._problem: BaseException | None = None
        self._ended = False
        self._rooms: list[Room] = []
        self._free: deque[Room] = deque()
        self._lent: set[Room] = set()
        self._pulse = 0.0
        self.stopping = False
        self.waited = 0.0

    # ------------------------------------------------------------------ for the one that makes
    def has_room(self, making: int = 0, enough: int = AHEAD) -> bool:
        """Whether another mini-batch may be begun while so many are `making`: until `enough` are begun or made."""
        return not self.stopping and making + len(self._ready) < enough

    def await_room(self) -> None:
        """Wait until another mini-batch may be begun, or nobody wants any."""
        with self._changed:
            while not self.has_room() and not self.stopping:
                self._changed.wait(TICK)

    def begin(self, plan: Plan, new: Callable[[int], Room]) -> Job:
        """A mini-batch to make, in a room that is free or else in a `new` one of so many bytes."""
        size = bytes_of(plan)
        while self._free:
            room = self._free.popleft()
            if room.size >= size:
                return Job(plan, room)
            self._rooms.remove(room)
            room.drop()
        room = new(size)
        self._rooms.append(room)
        return Job(plan, room)

    def add_room(self, room: Room) -> None:
        self._rooms.append(room)
        self._free.append(room)

    @property
    def names(self) -> tuple[str, ...]:
        """Those of all rooms."""
        return tuple(room.name for room in self._rooms)

    def beat(self) -> None:
        """Something was made: it goes on."""
        self._pulse = time.monotonic()

    def put(self, job: Job) -> None:
        with self._changed:
            self._ready.append(job)
            self._changed.notify_all()

    def end(self, problem: BaseException | None = None) -> None:
        """No more will come, by a problem or because there are no more plans."""
        with self._changed:
            self._problem, self._ended = problem, True
            self._changed.notify_all()

    # ------------------------------------------------------------------ for the one that takes
    def take(self) -> Batch:
        """The next batch; what was made comes before the problem that came after it.

        Raises that problem, StopIteration at the end, and LookonceError if nothing at all is made for long.
        """
        start = time.monotonic()
        try:
            job = self._next(start)
        finally:
            self.waited += time.monotonic() - start
        pictures = job.pictures
        if len(self._lent) < LENT:
            self._lent.add(job.room)
            weakref.finalize(pictures.base, _give_back, job.room, self._lent, self._free).atexit = False
        else:
            pictures = pictures.copy()
            self._free.append(job.room)
        return Batch(pictures, Targets.of([each for each in job.objects if each is not None]), job.plan)

    def _next(self, start: float) -> Job:
        with self._changed:
            while not self._ready:
                if self._problem is not None:
                    raise self._problem
                if self._ended:
                    raise StopIteration
                if time.monotonic() - max(start, self._pulse) > 2 * self._patience:
                    raise LookonceError(
                        f"the loader has made nothing for {2 * self._patience:.0f} s: does a disk or a network folder "
                        f"not answer? If it is only slow, allow more time"
                    )
                self._changed.wait(min(TICK, self._patience))
            self._changed.notify_all()
            return self._ready.popleft()

    @property
    def has_failed(self) -> bool:
        return self._problem is not None

    def stop(self) -> None:
        """Nobody wants any more."""
        with self._changed:
            self.stopping = True
            self._changed.notify_all()

    def close(self) -> None:
        """Let go of everything, when nobody makes any more."""
        self._ready.clear()
        for room in self._rooms:
            room.drop()
        self._rooms.clear()
        self._free.clear()


def _give_back(room: Room, lent: set[Room], free: deque[Room]) -> None:
    lent.discard(room)
    free.append(room)
