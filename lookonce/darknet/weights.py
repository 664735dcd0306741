"""The .weights format: a header and then bare floats, in an order that only the cfg knows.

Nothing in the file says what it holds, so its length is the only check there is, and Darknet does not make it
(parser.c, load_weights_upto). Here a file is read only if it has the length that the cfg asks for, to the byte.
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lookonce import files
from lookonce.errors import WeightsError, warn
from lookonce.shapes import Float32

LARGEST_WEIGHT = 1e6        # no trained weight comes near; a file read at the wrong place does


@dataclass(frozen=True)
class Header:
    """The first 16 or 20 bytes: three version numbers and the pictures seen in training.

    `seen` has 64 bits from version 0.2 on, 32 before. A major or minor number above 1000 marks a file whose
    connected matrices are stored inputs-first; of those, Redmon's Darknet reads 32 bits and the forks 64.
    """

    major: int = 0
    minor: int = 2
    revision: int = 0
    seen: int = 0
    wide: bool = True           # whether `seen` takes 64 bits

    @property
    def transposed(self) -> bool:
        return self.major > 1000 or self.minor > 1000

    @property
    def length(self) -> int:
        return 20 if self.wide else 16

    def to_bytes(self) -> bytes:
        seen = struct.pack("<Q", self.seen & (2**64 - 1)) if self.wide else struct.pack("<I", self.seen & (2**32 - 1))
        return struct.pack("<iii", self.major, self.minor, self.revision) + seen


class Entry(NamedTuple):
    """One array of the file: whose it is, and its shape. A `matrix` is (outputs, inputs), or its transpose on disk."""

    layer: int
    owner: str                  # "layer 13 [convolutional] weights", for messages
    name: str
    shape: tuple[int, ...]
    matrix: bool = False

    @property
    def size(self) -> int:
        return math.prod(self.shape)


def read(
    path: Path, entries: Sequence[Entry], *, partial: bool = False, allow_nonfinite: bool = False
) -> tuple[Header, list[Float32[np.ndarray, ...]]]:
    """The header and one array an entry, in the order of `entries`.

    With `partial` the file may go on after the last entry: the first layers of a larger file are taken. Reads at
    most the bytes that the entries need and copies them once. Raises WeightsError if the file is missing, foreign,
    shorter or longer than the entries, or holds values that no trained network has (unless `allow_nonfinite`).
    """
    floats = sum(entry.size for entry in entries)
    with files.open_regular(path, WeightsError) as file:
        found = os.fstat(file.fileno()).st_size
        head = file.read(64)
        header = _header(head, found, floats, path)
        _check_length(found, header, entries, partial, path)
        file.seek(header.length)
        values = np.empty(floats, "<f4")
        taken = file.readinto(values.view(np.uint8).data)      # type: ignore[attr-defined]
        if taken != values.nbytes or (not partial and file.read(1)):
            raise WeightsError(f"{path}: changed its length while it was read; try again when it is written")
    arrays = []
    start = 0
    for entry in entries:
        array = values[start : start + entry.size]
        start += entry.size
        if not allow_nonfinite:
            check_values(array, entry, path)
        if entry.matrix and header.transposed:
            array = np.ascontiguousarray(array.reshape(entry.shape[::-1]).T)
        arrays.append(array.reshape(entry.shape))
    return header, arrays


def write(path: Path, header: Header, entries: Sequence[Entry], arrays: Iterable[Float32[np.ndarray, ...]]) -> None:
    """Write a file that `read` gives back bit for bit; it appears under `path` only when it is whole."""
    with files.write_atomically(path) as file:
        file.write(header.to_bytes())
        for entry, array in zip(entries, arrays, strict=True):
            assert array.shape == entry.shape, (entry, array.shape)
            stored = array.T if entry.matrix and header.transposed else array
            file.write(np.ascontiguousarray(stored, "<f4").data)


def expected_bytes(entries: Iterable[Entry], header: Header | None = None) -> int:
    """How long a file with these entries is: four bytes a float, and the header."""
    return (header or Header()).length + 4 * sum(entry.size for entry in entries)


def _header(head: bytes, found: int, floats: int, path: Path) -> Header:
    kind = files.kind_of(head) or ("a text" if files.is_text(head) else None)
    if kind is not None:
        hint = ": are cfg and weights swapped?" if "cfg" in kind else ""
        raise WeightsError(f"{path}: is {kind}, wanted a Darknet weights file{hint}")
    if len(head) < 16:
        raise WeightsError(f"{path}: {found} bytes, shorter than any header; wanted {20 + 4 * floats:,} bytes")
    major, minor, revision = struct.unpack_from("<iii", head)
    if not (0 <= major < 1 << 16 and 0 <= minor < 1 << 16 and 0 <= revision < 1 << 16):
        swapped = struct.unpack_from(">iii", head)
        why = "is big-endian" if all(0 <= n < 1 << 16 for n in swapped) else "has no Darknet header"
        raise WeightsError(f"{path}: {why} (version {major}.{minor}.{revision}), wanted a little-endian weights file")
    wide = major * 10 + minor >= 2 and major < 1000 and minor < 1000
    if (major > 1000 or minor > 1000) and found == 20 + 4 * floats:
        wide = True                                        # the forks' rule; the length says which is meant
    if wide and len(head) < 20:
        raise WeightsError(f"{path}: {found} bytes, shorter than its header of 20; wanted {20 + 4 * floats:,} bytes")
    (seen,) = struct.unpack_from("<Q" if wide else "<I", head, 12)
    if seen >= 1 << 48:
        warn(f"{path}: says that {seen:,} pictures were seen in training, which nobody has done; taken as it is")
    return Header(major, minor, revision, seen, wide)


def _check_length(found: int, header: Header, entries: Sequence[Entry], partial: bool, path: Path) -> None:
    wanted = expected_bytes(entries, header)
    if found == wanted or (partial and found > wanted and (found - header.length) % 4 == 0):
        return
    if found > wanted and partial:
        raise WeightsError(f"{path}: {found:,} bytes, which is no whole number of floats after a header")
    if found > wanted:
        raise WeightsError(
            f"{path}: {found:,} bytes, {found - wanted:,} more than the {wanted:,} of this cfg: "
            "are cfg and weights of one network? (FILE:N takes the first N layers)"
        )
    end, place = header.length, "its header"
    last = None
    for entry in entries:
        end += 4 * entry.size
        if end > found:
            whole = end - 4 * entry.size == found
            place = f"{'just before' if whole else 'inside'} {entry.owner}"
            last = entry.layer if whole and (last is None or last != entry.layer) else None
            break
        last = entry.layer
    cut = f"; it holds the first {last} layers: {path}:{last} takes them" if last else ""
    raise WeightsError(
        f"{path}: {found:,} bytes, wanted {wanted:,}: it ends {place}; are cfg and weights of one network?{cut}"
    )


def check_values(array: Float32[np.ndarray, " N"], entry: Entry, path: Path) -> None:
    """Raise WeightsError for NaN, infinity, a negative variance or a weight beyond LARGEST_WEIGHT.

    The sum of squares is quick and needs no memory; only if it is suspicious are the values looked at.
    """
    variance = entry.name == "variance"
    with np.errstate(over="ignore", invalid="ignore"):
        squares = float(np.dot(array, array))
    if squares < LARGEST_WEIGHT**2 and not (variance and array.size and float(array.min()) < 0):
        return
    finite = np.isfinite(array)
    if not finite.all():
        where = int(np.argmin(finite))
        what = f"{array[where]} at its float {where:,}"
    elif variance and (array < 0).any():
        where = int(np.argmax(array < 0))
        what = f"a negative variance ({array[where]:g}) at its float {where:,}"
    elif entry.name not in ("mean", "variance") and np.abs(array).max() > LARGEST_WEIGHT:
        where = int(np.abs(array).argmax())
        what = f"{array[where]:g} at its float {where:,}, beyond any trained weight"
    else:
        return
    raise WeightsError(f"{path}: {entry.owner} holds {what}: damaged, or of another cfg? (--allow-nonfinite takes it)")
