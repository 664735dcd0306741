"""Of frames that go on by themselves, the newest."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Generic, TypeVar

F = TypeVar("F")


class Newest(Generic[F]):
    """Iterating gives the latest of `frames` each time one is asked for; those that were not fetched are dropped.

    A thread reads on meanwhile. What it raises comes after the last frame.
    """

    def __init__(self, frames: Iterator[F]) -> None:
        self._frames = frames
        self._arrived = threading.Condition()
        self._latest: list[F | BaseException | None] = []
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="lookonce-frames", daemon=True)

    def stop(self, seconds: float) -> bool:
        """Read no further; whether the thread has let go of its source within `seconds`. Before that the source may not
        be closed."""
        self._stopped = True
        if self._thread.is_alive():
            self._thread.join(seconds)
        return not self._thread.is_alive()

    def __iter__(self) -> Iterator[F]:
        self._thread.start()
        while True:
            with self._arrived:
                while not self._latest:
                    self._arrived.wait()
                item = self._latest.pop(0)
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item

    def _run(self) -> None:
        last: BaseException | None = None
        try:
            for frame in self._frames:
                with self._arrived:
                    self._latest[:] = [frame]
                    self._arrived.notify()
                if self._stopped:
                    break
        except BaseException as problem:                    # handed to the caller's thread
            last = problem
        with self._arrived:
            self._latest.append(last)                       # the end, after a frame that may still wait
            self._arrived.notify()
