"""Samples of mini-batches as they are asked for and made, here or in another process, and what bad pictures lead to."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, runtime_checkable

import numpy as np

from lookonce.data.augment import compose, picked
from lookonce.data.batches import Augmentation, Plan
from lookonce.data.cache import Decoder, Folder, Kept, Region, Store
from lookonce.data.dataset import Item
from lookonce.data.outbox import Room
from lookonce.data.views import Reader, where
from lookonce.errors import InputError

MOST_BAD = 100                   # pictures that are left out before a run stops,
MOST_BAD_SHARE = 0.01            # or so many of all

Complain = Callable[[str], None]
Policy = Literal["stop", "skip"]


class Setup(NamedTuple):
    """What holds for all samples of a run; `memory`, `folder` and `most` are as in Loader."""

    augmentation: Augmentation
    seed: int
    memory: int
    folder: Path | None
    most: tuple[int, int] | None

    def decoder(self, read: Reader, store: Store | None) -> Decoder:
        """What looks at pictures, and keeps them in the folder or else in `store`."""
        return Decoder(read, store if self.folder is None else Folder(self.folder), self.most)


class Wanted(NamedTuple):
    """One sample to make: its place in the mini-batch, and the pictures that it is made of, by number and as items."""

    place: int
    indices: tuple[int, ...]
    items: tuple[Item, ...]


class Made(NamedTuple):
    """One sample that was made: its place and its objects. `bad` is the picture that cannot be read, as `text` says."""

    place: int
    cxcywh: np.ndarray
    label: np.ndarray
    bad: int = -1
    text: str = ""


class Part(NamedTuple):
    """What a process is told: samples of mini-batch `number`, to be written to the shared memory of name `room`.

    `shape` is that of the mini-batch's pictures. `rooms` are all that are in use: others can be let go. `known` says
    where decoded pictures lie.
    """

    number: int
    wanted: list[Wanted]
    room: str
    shape: tuple[int, ...]
    rooms: tuple[str, ...]
    known: list[Kept]


class Answer(NamedTuple):
    """What a process answers: its samples, the pictures that it keeps now, how many were kept already and how many not.

    `failure` is the trace of what should not happen.
    """

    made: list[Made]
    kept: list[Kept]
    hits: int = 0
    misses: int = 0
    failure: str = ""


@runtime_checkable
class Pipe(Protocol):
    """The end of a pipe for objects."""

    def recv(self) -> Part: ...

    def send(self, answer: Answer, /) -> None: ...


NO_OBJECTS = np.zeros((0, 4), np.float32), np.zeros(0, np.int64)


def make(wanted: Iterable[Wanted], look: Decoder, setup: Setup, number: int, canvas: np.ndarray) -> list[Made]:
    """Samples of mini-batch `number`, each at its place of `canvas` (B, 3, h, w)."""
    made = []
    for place, indices, items in wanted:
        looking = _Looking(look)
        try:
            sample = compose(items, looking, setup.augmentation, number, place, setup.seed, canvas[place])
        except InputError as problem:
            bad = next(index for index, item in zip(indices, items, strict=True) if item is looking.at)
            made.append(Made(place, *NO_OBJECTS, bad, str(problem)))
        else:
            made.append(Made(place, sample.cxcywh, sample.label))
    return made


class _Looking:
    """Remembers which picture is looked at."""

    def __init__(self, look: Decoder) -> None:
        self._look = look
        self.at: Item | None = None

    def __call__(self, item: Item) -> np.ndarray:
        self.at = item
        return self._look(item)


def serve(pipe: Pipe, setup: Setup, region: Region | None, attach: Callable[[str], Room]) -> None:
    """Make what comes through a pipe until it ends. `attach` gives the shared memory of a name."""
    rooms: dict[str, Room] = {}
    with Reader() as read:
        look = setup.decoder(read, region)
        while True:
            try:
                part = pipe.recv()
            except (EOFError, OSError):
                return
            hits, misses = look.hits, look.misses
            rooms = {name: room for name, room in rooms.items() if name in part.rooms}
            answer = Answer([], [])
            try:
                if part.room not in rooms:
                    rooms[part.room] = attach(part.room)
                if region is not None:
                    region.known.update((kept.name, kept) for kept in part.known)
                canvas = rooms[part.room].array(part.shape)
                made = make(part.wanted, look, setup, part.number, canvas)
                del canvas                                  # or the memory could not be let go
                kept = region.take_new() if region is not None else []
                answer = Answer(made, kept, look.hits - hits, look.misses - misses)
            except Exception:
                answer = Answer([], [], failure=traceback.format_exc())
            try:
                pipe.send(answer)
            except OSError:
                return


class Choosing:
    """Chooses the pictures of samples, and keeps account of those that cannot be read.

    With `stop` the first of these is raised as InputError. With `skip` another picture is drawn in its place, of a
    mixed dataset of the same of its `parts`, and each is complained of once, until more than 100 or one of a hundred
    are bad.
    """

    def __init__(
        self,
        items: Sequence[Item],
        augmentation: Augmentation,
        seed: int,
        policy: Policy,
        complain: Complain,
        parts: Sequence[int] = (),
    ) -> None:
        self._parts = tuple(parts)
        self._items, self._augmentation, self._seed = items, augmentation, seed
        self._policy, self._complain = policy, complain
        self.bad: dict[int, str] = {}

    def wanted(self, plan: Plan, places: Iterable[int]) -> list[Wanted]:
        """What the samples at some places of a mini-batch are made of."""
        return [self._wanted(plan, place) for place in places]

    def _wanted(self, plan: Plan, place: int) -> Wanted:
        indices = picked(self._augmentation, plan, place, self._seed, len(self._items), self.bad, self._parts)
        return Wanted(place, indices, tuple(self._items[index] for index in indices))

    def leave_out(self, index: int, text: str) -> None:
        """Take note that a picture is bad. Raises InputError by the policy."""
        if index in self.bad:
            return
        self.bad[index] = text
        if self._policy == "stop":
            raise InputError(f"{text}; mend or remove it, or let bad pictures be skipped")
        if len(self.bad) == len(self._items):
            raise InputError(f"{text}; no other picture of the dataset can be read either")
        most = min(MOST_BAD, max(1, int(len(self._items) * MOST_BAD_SHARE)))
        if len(self.bad) > most:
            raise InputError(
                f"{text}; it is bad picture {len(self.bad)} of {len(self._items):,}, and at most {most} are skipped: "
                f"check the dataset"
            )
        self._complain(f"{text}; another picture takes its place")

    def names(self, wanted: Iterable[Wanted], most: int = 4) -> str:
        """The files of samples, for a message."""
        names = list(dict.fromkeys(where(item) for each in wanted for item in each.items))
        return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")

