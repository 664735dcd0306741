"""Darknet's small text files: .names, .data, .map and image lists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lookonce import files
from lookonce.errors import DataError, nearest, shown, warn

MAX_BYTES = 64 << 20           # a list of a million paths fits

DATA_KEYS = ("classes", "train", "valid", "test", "names", "labels", "backup", "results", "eval", "map", "tree",
             "leaves", "top", "tag", "difficult")  # fmt: skip


def read_lines(path: Path) -> list[str]:
    """The lines of a text file without their ends. CRLF and a byte-order mark are accepted.

    Bytes that are not UTF-8 are read as Latin-1, with a warning. Raises DataError.
    """
    data = files.read_bytes(path, MAX_BYTES, DataError).removeprefix(b"\xef\xbb\xbf")
    if b"\0" in data:
        raise DataError(f"{path}: holds NUL bytes, wanted a text of one entry a line")
    try:
        text = data.decode()
    except UnicodeDecodeError as problem:
        warn(f"{path}: byte {problem.start:,} is not UTF-8; the file is read as Latin-1: save it as UTF-8")
        text = data.decode("latin-1")
    return text.replace("\r\n", "\n").replace("\r", "\n").removesuffix("\n").split("\n") if text else []


def read_names(path: Path, classes: int | None = None) -> tuple[str, ...]:
    """One name a line; blank lines at the end do not count, one inside does, with a warning.

    Raises DataError if there are none, or not `classes` of them.
    """
    names = [line.strip() for line in read_lines(path)]
    while names and not names[-1]:
        names.pop()
    if not names:
        raise DataError(f"{path}: holds no name, wanted one a line")
    if "" in names:
        warn(f"{path}:{names.index('') + 1}: a blank line among the names; it counts as a class without a name")
    if classes is not None and len(names) != classes:
        raise DataError(f"{path}: {len(names):,} names, but the network has {classes:,} classes; wanted one a class")
    return tuple(names)


def names_to_bytes(names: tuple[str, ...], path: Path) -> bytes:
    """A file of one name a line, as `read_names` takes them; `path` only names it in messages.

    Raises DataError for names that no such file can hold.
    """
    odd = [name for name in names if not {"\n", "\r"}.isdisjoint(name) or _is_no_text(name)]
    if odd or not names[-1].strip():
        raise DataError(f"{path}: the name {shown((odd or names)[-1])!r} does not fit on a line of its own")
    return "".join(f"{name}\n" for name in names).encode()


def _is_no_text(name: str) -> bool:
    """Whether a name holds half a surrogate pair, which JSON may say and UTF-8 cannot."""
    return any("\ud800" <= c <= "\udfff" for c in name)


@dataclass(frozen=True)
class Data:
    """A .data file: where a dataset's parts lie. Values are as written; `path` names them from the file's place."""

    path: Path
    values: Mapping[str, str]

    def file(self, key: str, *, anywhere: bool = False) -> Path:
        """The file that `key` names. Raises DataError if the key is absent or the file is not there."""
        value = self.values.get(key)
        if value is None:
            raise DataError(f"{self.path}: has no {key}=, which is needed here")
        return files.resolve_inside(value, self.path, DataError, anywhere)


def read_data(path: Path) -> Data:
    """A .data file: `key = value` lines, `#` and `;` comments. The first of two equal keys holds. Raises DataError."""
    values: dict[str, str] = {}
    for number, line in enumerate(read_lines(path), start=1):
        line = line.strip()
        if not line or line[0] in "#;":
            continue
        key, equals, value = (part.strip() for part in line.partition("="))
        if not equals or not key or not value:
            hint = "; it looks like a cfg: are the two swapped?" if line.startswith("[") else ""
            raise DataError(f"{path}:{number}: {shown(line)} is not key = value{hint}")
        if key not in DATA_KEYS:
            warn(f"{path}:{number}: no option {shown(key)} is known here{nearest(key, DATA_KEYS)}; it is ignored")
        if key in values:
            warn(f"{path}:{number}: {key} is given a second time; the first ({shown(values[key])}) holds")
        values.setdefault(key, value)
    if not values:
        raise DataError(f"{path}: holds no key = value line, wanted names =, valid = and the like")
    return Data(path, values)


def read_map(path: Path, nodes: int) -> tuple[int, ...]:
    """One node number of a tree a line: class i of a dataset is node `map[i]`. Raises DataError."""
    numbers = []
    for place, line in enumerate(read_lines(path), start=1):
        text = line.strip()
        if not text:
            continue
        node = _whole(text)
        if node is None or node >= nodes:
            raise DataError(f"{path}:{place}: {shown(text)} is no node, wanted a whole number below {nodes:,}")
        numbers.append(node)
    if not numbers:
        raise DataError(f"{path}: holds no number, wanted one a line")
    return tuple(numbers)


def read_image_list(path: Path) -> list[Path]:
    """One picture's path a line, relative to the current folder as in Darknet, or else to the list's own.

    Raises DataError if there are none. Whether each picture is there is for its reader to say.
    """
    found = []
    for line in read_lines(path):
        text = line.strip()
        if text:
            here = Path(text)
            beside = path.parent / text
            found.append(beside if not here.is_absolute() and not _is_there(here) and _is_there(beside) else here)
    if not found:
        raise DataError(f"{path}: holds no path, wanted one picture a line")
    return found


def _whole(text: str) -> int | None:
    """A whole number from 0 without a sign; None for anything else, and for one too long to be meant."""
    return int(text) if text.isascii() and text.isdigit() and len(text) <= 18 else None


def _is_there(path: Path) -> bool:
    """Whether `path` exists; a name that is too long does not."""
    try:
        return path.exists()
    except OSError:
        return False
