"""Checkpoints: all that a run needs to go on, as arrays and facts in one safetensors file.

The metadata hold `lookonce-checkpoint`, the format's version; `sha256` over the whole file, with zeros in its own
place; and `facts` as JSON. The last two are kept: a file is written and synchronised beside them before any of them
moves, so that one that is whole is there at every instant, and a damaged one is told by its hash.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np

from lookonce import files
from lookonce.errors import CheckError, WeightsError, shown, warn

NEW = "checkpoint-new.safetensors"          # only there if a run was killed between two renamings
NOW = "checkpoint.safetensors"
BEFORE = "checkpoint-before.safetensors"
KEPT = (NEW, NOW, BEFORE)                   # from the newest

VERSION = "1"
KINDS = {"F64": "<f8", "F32": "<f4", "I64": "<i8", "U8": "|u1"}
NO_DIGEST = "0" * 64
LONGEST_HEADER = 100_000_000                # bytes, as the safetensors library has it
BLOCK = 1 << 16                             # values looked at at once


class Checkpoint(NamedTuple):
    """What a file held: the file, its arrays by name, its facts."""

    path: Path
    arrays: dict[str, np.ndarray]
    facts: dict[str, Any]


def write(path: Path, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> None:
    """Write a checkpoint; it appears under `path` only when it is whole and on the disk.

    The arrays are float32, float64, int64 or uint8; the facts are values of JSON. Raises CheckError, and leaves what is
    there, if an array holds NaN or infinity; DataError, with the bytes wanted and free, if it cannot be written.
    """
    kinds = {name: _kind(name, array) for name, array in arrays.items()}
    # Large items first, so that each array begins at a multiple of its items' size.
    order = sorted(arrays, key=lambda name: -np.dtype(KINDS[kinds[name]]).itemsize)
    flat = {name: np.ascontiguousarray(arrays[name], KINDS[kinds[name]]).reshape(-1) for name in order}
    for name in order:
        _check_finite(path, name, flat[name])
    header: dict[str, Any] = {
        "__metadata__": {"lookonce-checkpoint": VERSION, "sha256": NO_DIGEST, "facts": json.dumps(dict(facts))}
    }
    end = 0
    for name in order:
        start, end = end, end + flat[name].nbytes
        header[name] = {"dtype": kinds[name], "shape": list(arrays[name].shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    parts: list[bytes | memoryview] = [struct.pack("<Q", len(text)) + text]
    parts += (flat[name].view(np.uint8).data for name in order)
    with files.telling_space(path, 8 + len(text) + end), files.write_atomically(path) as file:
        digest = hashlib.sha256()
        for part in parts:
            digest.update(part)
            file.write(part)
        file.seek(8 + text.index(NO_DIGEST.encode()))
        file.write(digest.hexdigest().encode())


def read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays and facts of a checkpoint. Raises WeightsError if it is not one, or not what was written."""
    with files.open_regular(path, WeightsError) as file:
        try:
            header = _read_header(path, file)
            digest = hashlib.sha256(header.blank)
            arrays = {}
            for name, place in header.places.items():
                array = np.empty(place.shape, place.kind)
                part = array.reshape(-1).view(np.uint8)
                if file.readinto(part.data) != part.size:       # type: ignore[attr-defined]
                    raise WeightsError(f"{path}: changed its length while it was read")
                digest.update(part.data)
                arrays[name] = array
        except (OSError, ValueError, MemoryError, RecursionError) as problem:
            raise WeightsError(f"{path}: cannot be read: {getattr(problem, 'strerror', problem)}") from None
    if digest.hexdigest() != header.digest:
        raise WeightsError(f"{path}: is damaged: its SHA-256 is not the one that it was written with")
    return arrays, header.facts


def keep(folder: Path, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> None:
    """Write `checkpoint.safetensors` and keep the one before it as `checkpoint-before.safetensors`.

    Needs the space of three for a moment. Raises as `write`; what was there is then still there.
    """
    new, now, before = (folder / name for name in KEPT)
    write(new, arrays, facts)
    with files.telling_space(now, size_of(arrays)):
        if _is_complete(now):
            now.replace(before)
        files.move(new, now)


def latest(folder: Path) -> Checkpoint:
    """The newest checkpoint of a folder that is whole; a warning names those newer ones that are not.

    Raises WeightsError if there is none.
    """
    problems = []
    for path in (folder / name for name in KEPT):
        if not files.exists(path):
            continue
        try:
            arrays, facts = read(path)
        except WeightsError as problem:
            problems.append(str(problem))
            continue
        if problems:
            warn(f"{'; '.join(problems)}; went back to {path.name}")
        return Checkpoint(path, arrays, facts)
    if problems:
        raise WeightsError(f"{'; '.join(problems)}; no other checkpoint is there: start the run anew")
    raise WeightsError(f"{folder}: holds no {NOW}: there is nothing to go on from; is it the folder of a run?")


def size_of(arrays: Mapping[str, np.ndarray]) -> int:
    """About how many bytes a checkpoint of these arrays takes, without its facts."""
    return sum(array.nbytes + 200 for array in arrays.values()) + 4096


# ---------------------------------------------------------------------- arrays
def _kind(name: str, array: np.ndarray) -> str:
    """An array's kind in safetensors' words."""
    kind = next((kind for kind, dtype in KINDS.items() if array.dtype == np.dtype(dtype)), None)
    assert kind is not None, f"{name}: {array.dtype}, wanted one of {', '.join(KINDS)}"
    assert name != "__metadata__"
    return kind


def _check_finite(path: Path, name: str, flat: np.ndarray) -> None:
    if flat.dtype.kind != "f":
        return
    for start in range(0, flat.size, BLOCK):
        finite = np.isfinite(flat[start : start + BLOCK])
        if not finite.all():
            place = start + int(np.argmin(finite))
            raise CheckError(
                f"{path}: not written: value {place:,} of {flat.size:,} of the array {shown(name)} is {flat[place]}; "
                "what was written before stays as it is"
            )


# ---------------------------------------------------------------------- the header
class _Place(NamedTuple):
    """An array of a file: its shape and its kind in numpy's words. They follow each other without gaps."""

    shape: tuple[int, ...]
    kind: str


class _Header(NamedTuple):
    """What stands before the arrays; `blank` are those bytes of the file, with zeros for the hash."""

    places: dict[str, _Place]
    facts: dict[str, Any]
    digest: str
    blank: bytes


def _is_complete(path: Path) -> bool:
    """Whether a file has the form and the length of a checkpoint. Its arrays are not looked at."""
    try:
        with files.open_regular(path, WeightsError) as file:
            _read_header(path, file)
    except (WeightsError, OSError, ValueError, RecursionError):
        return False
    return True


def _read_header(path: Path, file: IO[bytes]) -> _Header:
    """The beginning of a file, checked against the file's length. Raises WeightsError, ValueError or OSError."""
    size = os.fstat(file.fileno()).st_size
    prefix = file.read(8)
    length = struct.unpack("<Q", prefix)[0] if len(prefix) == 8 else LONGEST_HEADER + 1
    if length > min(LONGEST_HEADER, size - 8):
        raise WeightsError(f"{path}: is damaged: {size:,} bytes, and they do not begin as a checkpoint does")
    text = file.read(length)
    header = json.loads(text)
    metadata = header.pop("__metadata__", None) if isinstance(header, dict) else None
    if not isinstance(metadata, dict) or "lookonce-checkpoint" not in metadata:
        raise WeightsError(f"{path}: is no checkpoint of a run of lookonce's")
    version, digest = metadata["lookonce-checkpoint"], metadata.get("sha256")
    if version != VERSION:
        raise WeightsError(
            f"{path}: is a checkpoint of format {shown(str(version))}, this lookonce reads format {VERSION}: "
            "go on with the one that wrote it"
        )
    if not isinstance(digest, str) or len(digest) != len(NO_DIGEST) or digest.encode() not in text:
        raise WeightsError(f"{path}: is damaged: it has no SHA-256 of itself")
    facts = json.loads(metadata.get("facts", ""))
    if not isinstance(facts, dict):
        raise WeightsError(f"{path}: is damaged: its facts are a {type(facts).__name__}, wanted an object")
    places = _places(path, header, size - 8 - length)
    return _Header(places, facts, digest, prefix + text.replace(digest.encode(), NO_DIGEST.encode(), 1))


def _places(path: Path, header: Mapping[str, Any], size: int) -> dict[str, _Place]:
    """The arrays in the order of the file, where `size` bytes hold them all. Raises WeightsError."""
    found = []
    for name, about in header.items():
        try:
            start, stop = about["data_offsets"]
            place = _Place(tuple(about["shape"]), KINDS[about["dtype"]])
            is_usable = all(type(value) is int and value >= 0 for value in (start, stop, *place.shape))
        except (KeyError, TypeError, ValueError):
            is_usable = False
        if not is_usable:
            raise WeightsError(f"{path}: is damaged: what it says of the array {shown(name)} is not usable")
        found.append((start, stop, name, place))
    found.sort(key=lambda each: each[:2])
    end = 0
    for start, stop, name, place in found:
        if start != end or stop - start != math.prod(place.shape) * np.dtype(place.kind).itemsize:
            raise WeightsError(f"{path}: is damaged: the array {shown(name)} does not lie where it should")
        end = stop
    if end != size:
        raise WeightsError(f"{path}: is damaged: {end:,} bytes of arrays were written, {size:,} are there")
    return {name: place for *_, name, place in found}
