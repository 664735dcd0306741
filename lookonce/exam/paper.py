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
    """Every picture of a dataset, None in place of one that cannot be read.

    It complains of those, and of pictures that are not as large as their labels say.
    """
    with Reader() as read:
        for done, item in enumerate(dataset.items, start=1):
            try:
                picture = pictures.decode(read(item), where(item), upright=upright)
            except InputError as problem:
                complain(f"{problem}: it counts as answered wrongly")
                yield None
            else:
                size = picture.shape[1], picture.shape[0]
                if item.size is not None and item.size != size:
                    found = f"is {size[0]} x {size[1]}, its labels are for {item.size[0]} x {item.size[1]}"
                    complain(f"{where(item)}: {found}: its objects lie elsewhere")
                yield picture
            progress(done, len(dataset))
