"""Mini-batches made one after the other, by this thread alone or by others, into an outbox."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Protocol, runtime_checkable

from lookonce.data.batches import Plan
from lookonce.data.cache import Memory
from lookonce.data.making import Answer, Choosing, Made, Setup, make
from lookonce.data.outbox import AHEAD, Job, Outbox, OwnRoom, Room
from lookonce.data.views import Reader

AT_ONCE = 4                      # samples that one of a crew is given in one part
PARTS = 2                        # parts that it is given ahead


@runtime_checkable
class Crew(Protocol):
    """Others who make samples."""

    count: int

    def add(self, job: Job, places: Iterable[int]) -> None:
        """Have samples of a mini-batch made."""
        ...

    def work(self, rooms: tuple[str, ...]) -> Iterator[tuple[Job, Answer]]:
        """Wait until something happens, and give what was answered. `rooms` are all that are in use."""
        ...


class Ahead:
    """Makes mini-batches by their plans until these end or nobody wants any more.

    `hits` and `misses` count pictures that were kept and that had to be decoded.
    """

    def __init__(self, setup: Setup, choosing: Choosing, outbox: Outbox) -> None:
        self._setup, self._choosing, self._outbox = setup, choosing, outbox
        self.hits = self.misses = 0

    def make_alone(self, plans: Iterable[Plan]) -> None:
        """Make them here. Raises InputError."""
        with Reader() as read:
            look = self._setup.decoder(read, Memory(self._setup.memory))
            for plan in plans:
                self._outbox.await_room()
                job = self._outbox.begin(plan, OwnRoom)
                places = deque(range(len(plan.indices)))
                while places:
                    if self._outbox.stopping:
                        return
                    wanted = self._choosing.wanted(plan, [places.popleft()])
                    places.extend(self._take(job, make(wanted, look, self._setup, plan.number, job.pictures)))
                    self.hits, self.misses = look.hits, look.misses
                self._outbox.put(job)

    def share_out(self, plans: Iterator[Plan], crew: Crew, new: Callable[[int], Room]) -> None:
        """Let a crew make them, in `new` rooms of so many bytes. Raises InputError and what the crew raises."""
        jobs: deque[Job] = deque()
        plan = next(plans, None)
        while not self._outbox.stopping and (plan is not None or jobs):
            while plan is not None and self._outbox.has_room(len(jobs), enough(plan, crew.count)):
                jobs.append(self._outbox.begin(plan, new))
                crew.add(jobs[-1], range(len(plan.indices)))
                plan = next(plans, None)
            for job, answer in crew.work(self._outbox.names):
                self.hits += answer.hits
                self.misses += answer.misses
                crew.add(job, self._take(job, answer.made))
            while jobs and jobs[0].is_done:
                self._outbox.put(jobs.popleft())

    def _take(self, job: Job, made: Iterable[Made]) -> list[int]:
        """Put down what was made; the places that must be made again, of another picture. Raises by the policy."""
        again = []
        for each in made:
            if each.bad >= 0:
                self._choosing.leave_out(each.bad, each.text)
                again.append(each.place)
            else:
                job.objects[each.place] = each.cxcywh, each.label
        self._outbox.beat()
        return again


def enough(plan: Plan, crew: int) -> int:
    """How many mini-batches are made ahead: two, or as many as give everybody of a crew something to do."""
    return max(AHEAD, -(-AT_ONCE * PARTS * crew // len(plan.indices)))
