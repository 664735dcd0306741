"""The pictures of an exam, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from lookonce import pictures
from lookonce.data import Dataset
from lookonce.data.views import Reader, where
from lookonce.errors import InputError
from lookonce.shapes import UInt8

Complain = Callable[[str], None]
Progress = Callable[[int, int], None]


def read_all(
    dataset: Dataset, complain: Complain, progress: Progress, *, upright: bool = True
) -> Iterator[UInt8[np.ndarray, "H W 3"] | None]:
    """Every picture of a dataset, None in place of one that cannot be read, of which it complains."""
    with Reader() as read:
        for done, item in enumerate(dataset.items, start=1):
            try:
                yield pictures.decode(read(item), where(item), upright=upright)
            except InputError as problem:
                complain(f"{problem}: it counts as answered wrongly")
                yield None
            progress(done, len(dataset))
