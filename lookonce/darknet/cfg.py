"""The cfg format: `[section]` lines and `key=value` lines, read as Darknet reads them but for its silence.

Darknet (parser.c, option_list.c, utils.c) deletes every blank, splits at the first `=`, takes the first of two equal
keys, and turns what is no number into 0. Here the first three hold; the last is an error with its line, a key given
twice and a key that nobody asks for are warnings. A `#` ends a line wherever it stands: to Darknet it begins a comment
only at the start of a line, and inside a value it is part of the value.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, NoReturn

from lookonce import files
from lookonce.darknet.dialect import FORK_ACTIVATIONS, FORK_OPTIONS, FORK_SECTIONS
from lookonce.errors import CfgError, nearest, shown, warn

MAX_BYTES = 4 << 20            # the largest cfg in use is 60 KB
MAX_LINE = 1 << 16
MAX_LINES = 1 << 14            # DenseNet-201 has 1,950
MAX_ATTACHED = 256 << 20
MAX_SECTIONS = 4096            # DenseNet-201 has 306
LARGEST = 2**31 - 1            # Darknet's int
LARGEST_COUNT = 2**53          # of pictures and batches; the largest that a float tells from the next

WHOLE = re.compile(r"[+-]?[0-9]+", re.ASCII)
DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", re.ASCII)
NEWLINE = re.compile(r"\r\n|\r|\n")


class Option(NamedTuple):
    """What stands after the `=`, without blanks, and the line it stands on (from 1)."""

    value: str
    line: int


@dataclass(frozen=True)
class Place:
    """Where the files are that a cfg names.

    On disk: nearby, or with `anywhere` wherever it says. Or `attached` to the cfg as text, by the option that names
    them; then the disk is not looked at. `bundled` are files that stand in for those that Darknet's users have in
    their data folder, by name, if the cfg's own is not there.
    """

    anywhere: bool = False
    attached: Mapping[str, str] | None = None
    bundled: Mapping[str, Path] = field(default_factory=dict)


@dataclass
class Section:
    """One `[name]` and its options, in the order of the file. It remembers which options were asked for.

    `fork` says that the cfg uses words of the fork's dialect anywhere. `place` says where files are that it names.
    `quiet` is for a text that was read before, whose oddities were named then.
    """

    name: str
    line: int
    path: str
    options: dict[str, Option] = field(default_factory=dict)
    place: Place = field(default_factory=Place)
    fork: bool = False
    quiet: bool = False
    asked: set[str] = field(default_factory=set)
    closed: bool = False

    # ---------------------------------------------------------------- one option, by kind
    def word(self, key: str, default: str | None = None, among: Collection[str] | None = None) -> str:
        """The text of `key`. Raises CfgError if it is absent without a default, or not one of `among`."""
        option = self._ask(key)
        if option is None:
            return default if default is not None else self._missing(key)
        if among is not None and option.value not in among:
            hint = nearest(option.value, among)
            self.refuse(key, f"is not known{hint}; there are {', '.join(sorted(among))}")
        return option.value

    def integer(self, key: str, default: int | None = None, least: int = -LARGEST, most: int = LARGEST) -> int:
        """The whole number of `key`, from `least` to `most`. Raises CfgError for anything else."""
        option = self._ask(key)
        if option is None:
            return default if default is not None else int(self._missing(key))
        return self._whole(key, option.value, least, most)

    def number(self, key: str, default: float | None = None, least: float = -math.inf, most: float = math.inf) -> float:
        """The finite number of `key`, from `least` to `most`. Raises CfgError for anything else."""
        option = self._ask(key)
        if option is None:
            return default if default is not None else float(self._missing(key))
        return self._decimal(key, option.value, least, most)

    def count(self, key: str, default: int) -> int:
        """A whole number from 0 that only learning reads, also written as scripts write it: 9600.0. Raises CfgError."""
        number = self.number(key, default=float(default), least=0, most=LARGEST_COUNT)
        if not number.is_integer():
            self.refuse(key, "is not a whole number")
        return int(number)

    def flag(self, key: str, default: bool = False) -> bool:
        """A whole number of which Darknet only asks whether it is 0."""
        return self.integer(key, default=int(default)) != 0

    def integers(self, key: str, default: Sequence[int] | None = None) -> tuple[int, ...]:
        """A comma list of whole numbers. A comma at the end adds nothing. Raises CfgError."""
        option = self._ask(key)
        if option is None:
            return tuple(default) if default is not None else (int(self._missing(key)),)
        return tuple(self._whole(key, item, -LARGEST, LARGEST) for item in self._items(key, option.value))

    def numbers(self, key: str, default: Sequence[float] | None = None) -> tuple[float, ...]:
        """A comma list of finite numbers. A comma at the end adds nothing. Raises CfgError."""
        option = self._ask(key)
        if option is None:
            return tuple(default) if default is not None else (float(self._missing(key)),)
        return tuple(self._decimal(key, item, -math.inf, math.inf) for item in self._items(key, option.value))

    def lines(self, key: str) -> tuple[list[str], str] | None:
        """The lines of the file that `key` names, and its name for messages; None if there is no `key`.

        Raises CfgError if the file is not there or lies where a cfg may not point (files.resolve_inside).
        """
        option = self._ask(key)
        if option is None:
            return None
        if self.place.attached is not None:
            if key not in self.place.attached:
                self.refuse(key, "names a file that is not attached to this model")
            return self.place.attached[key].splitlines(), f"{self.path} ({key})"
        try:
            owner = Path(self.path)
            path = files.resolve_inside(option.value, owner, CfgError, self.place.anywhere, line=option.line)
        except CfgError:
            bundled = self.place.bundled.get(option.value.rsplit("/", 1)[-1])
            if bundled is None:
                raise
            path = bundled
            self.warn(option.line, f"{shown(option.value)} is not there; lookonce's own copy is taken")
        data = files.read_bytes(path, MAX_ATTACHED, CfgError)
        return data.decode("utf-8", "replace").removeprefix("\ufeff").splitlines(), str(path)

    # ---------------------------------------------------------------- options as a whole
    def know(self, *keys: str) -> None:
        """Options that Darknet or a fork reads and that change nothing here: not misspelt, so not named by `close`."""
        self.asked.update(keys)

    def unsupported(self, *keys: str, usual: float = 0) -> None:
        """Options that would change the answer and are not implemented: an error unless they have their usual value."""
        for key in keys:
            if self.number(key, default=usual) != usual:
                self.refuse(key, f"is not supported: the layer would not compute what it says; wanted {usual:g}")

    def has(self, key: str) -> bool:
        """Whether `key` stands in the file. Counts as asking."""
        return self._ask(key) is not None

    def close(self) -> None:
        """All options that there are have been asked for: what else stands there is named by `warn_of_unasked`."""
        self.closed = True

    # ---------------------------------------------------------------- warnings and errors
    def warn(self, line: int, what: str) -> None:
        """Warn of what stands on a line, unless that was said when the same text was read before."""
        if not self.quiet:
            warn(f"{self.path}:{line}: {what}")

    def refuse(self, key: str, why: str) -> NoReturn:
        """Raise a CfgError that names file, line, section, `key` and its value."""
        option = self.options.get(key)
        line, value = (option.line, f"={shown(option.value)}") if option else (self.line, "")
        raise CfgError(f"{self.path}:{line}: [{self.name}] {key}{value} {why}")

    def error(self, why: str) -> CfgError:
        """A CfgError about the section as a whole."""
        return CfgError(f"{self.path}:{self.line}: [{self.name}] {why}")

    def _ask(self, key: str) -> Option | None:
        self.asked.add(key)
        return self.options.get(key)

    def _missing(self, key: str) -> NoReturn:
        raise self.error(f"needs {key}=, which is not given")

    def _items(self, key: str, value: str) -> Iterable[str]:
        items = value.removesuffix(",").split(",")
        if "" in items:
            self.refuse(key, "has an empty item in its list")
        return items

    def _whole(self, key: str, value: str, least: int, most: int) -> int:
        # The length comes first: Python takes seconds over a number of a million digits.
        if not WHOLE.fullmatch(value) or len(value) > 20:
            self.refuse(key, "is not a whole number that fits")
        number = int(value)
        if not least <= number <= most:
            self.refuse(key, f"is out of range: wanted {between(least, most)}")
        return number

    def _decimal(self, key: str, value: str, least: float, most: float) -> float:
        if not DECIMAL.fullmatch(value) or len(value) > 64 or not math.isfinite(float(value)):
            self.refuse(key, "is not a finite number")
        number = float(value)
        if not least <= number <= most:
            self.refuse(key, f"is out of range: wanted {between(least, most)}")
        return number


@dataclass(frozen=True)
class Cfg:
    """A cfg as text and as sections.

    `text` keeps every byte of the file, so that writing it gives the file back.
    """

    path: str
    text: str
    sections: tuple[Section, ...]
    fork: bool                          # whether it is in the dialect of AlexeyAB's Darknet and its heirs

    @classmethod
    def read(cls, path: Path, place: Place | None = None) -> Cfg:
        """The cfg in the file `path`; `place` says where the files are that it names. Raises CfgError with the line."""
        data = files.read_bytes(path, MAX_BYTES, CfgError)
        _refuse_foreign(data, str(path))
        return cls.parse(data.decode("utf-8", "surrogateescape"), str(path), place)

    @classmethod
    def parse(cls, text: str, path: str = "<cfg>", place: Place | None = None, *, quiet: bool = False) -> Cfg:
        """The cfg in `text`; `path` only names it in messages. Raises CfgError with the line of the first fault.

        `quiet` does not warn: of a text that was read before.
        """
        sections = tuple(_sections(text, path, quiet))
        fork = any(_is_of_the_fork(section) for section in sections)
        for section in sections:
            section.fork = fork
            section.place = place or section.place
        return cls(path, text, sections, fork)

    def to_bytes(self) -> bytes:
        """What the file held, to the byte."""
        return self.text.encode("utf-8", "surrogateescape")

    def with_options(self, section: Section, **values: object) -> Cfg:
        """This cfg with options of one section set to other values: in place where they stand, else after its name.

        A value of None takes the option out, every line of it. Lines of comments stay.
        """
        index = next(index for index, each in enumerate(self.sections) if each.line == section.line)
        return self.with_changes({index: values})

    def with_changes(self, changes: Mapping[int, Mapping[str, object]]) -> Cfg:
        """As `with_options`, of several sections, by their place in `sections`: 0 is [net]."""
        ends = NEWLINE.findall(self.text)
        lines: list[str | None] = [*NEWLINE.split(self.text)]
        end = ends[0] if ends else "\n"
        for index, values in changes.items():
            section = self.sections[index]
            after = self.sections[index + 1].line if index + 1 < len(self.sections) else len(lines) + 1
            added = ""
            for key, value in values.items():
                option = section.options.get(key)
                if value is None:
                    for line in range(section.line, after - 1):
                        if _key(lines[line] or "") == key:
                            lines[line] = None
                elif option is not None:
                    lines[option.line - 1] = f"{key}={value}"
                else:
                    added += f"{end}{key}={value}"
            lines[section.line - 1] = f"{lines[section.line - 1]}{added}"
        text = "".join(line + tail for line, tail in zip(lines, [*ends, ""], strict=True) if line is not None)
        return Cfg.parse(text, self.path, self.sections[0].place, quiet=True)


def warn_of_unasked(sections: Iterable[Section]) -> None:
    """Warn of the options that nobody asked for: a misspelt key must not become a silent default.

    Of those sections that are closed; a key that stands in many of one name is named once.
    """
    found: dict[tuple[str, str], list[tuple[Section, int]]] = {}
    for section in sections:
        for key, option in section.options.items() if section.closed else ():
            if key not in section.asked:
                found.setdefault((section.name, key), []).append((section, option.line))
    for (name, key), places in found.items():
        section, first = places[0]
        lines = [str(line) for _, line in places[1:]]
        more = f"line{'s' if len(lines) > 1 else ''} {', '.join(lines[:3])}{', ...' if len(lines) > 3 else ''}"
        also = f", as in {len(lines):,} more such sections, {more}" if lines else ""
        section.warn(first, f"[{name}] has no option {shown(key)}{nearest(key, section.asked)}; it is ignored{also}")


def _key(line: str) -> str:
    """The key of a line of a cfg."""
    return line.split("#", 1)[0].replace(" ", "").replace("\t", "").partition("=")[0]


def between(least: float, most: float) -> str:
    """A range in words."""
    if most == math.inf:
        return f"at least {least:,}"
    if most == LARGEST:
        return f"at least {least:,}, at most {most:,}"
    return f"{least:,} to {most:,}"


def _refuse_foreign(data: bytes, path: str) -> None:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise CfgError(f"{path}: is UTF-16 text, wanted UTF-8: save it as UTF-8")
    if b"\0" in data:
        # A weights file begins with three small little-endian numbers: 0.2.0, 0.2.5.
        weights = len(data) >= 16 and all(data[i + 1 : i + 4] == b"\0\0\0" for i in (0, 4, 8))
        hint = "it looks like a weights file: are cfg and weights swapped?" if weights else "is it a cfg?"
        raise CfgError(f"{path}: holds NUL bytes, wanted text; {hint}")
    kind = files.kind_of(data[:64])
    if kind is not None and data.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] not in b"[#":
        raise CfgError(f"{path}: looks like {kind}, wanted a cfg")


def _sections(text: str, path: str, quiet: bool) -> Iterable[Section]:
    """The sections of `text`. Raises CfgError."""
    sections: list[Section] = []
    for number, line in enumerate(NEWLINE.split(text.removeprefix("\ufeff")), start=1):
        if number > MAX_LINES:
            raise CfgError(f"{path}:{number}: more than {MAX_LINES:,} lines; no network needs that many")
        if len(line) > MAX_LINE:
            raise CfgError(f"{path}:{number}: a line of {len(line):,} characters, wanted at most {MAX_LINE:,}")
        plain = line.split("#", 1)[0].replace(" ", "").replace("\t", "")
        if not plain or plain.startswith(";"):
            continue
        if plain.startswith("["):
            if not plain.endswith("]") or len(plain) == 2:
                raise CfgError(f"{path}:{number}: {shown(plain)} is no section, wanted [name]")
            if len(sections) == MAX_SECTIONS:
                raise CfgError(f"{path}:{number}: more than {MAX_SECTIONS:,} sections; no network is that deep")
            sections.append(Section(plain[1:-1], number, path, quiet=quiet))
            continue
        if not sections:
            found = shown(line.strip())
            raise CfgError(f"{path}:{number}: '{found}' stands before any section, wanted [net] first: is it a cfg?")
        _add_option(sections, plain, number, path)
    if not sections:
        raise CfgError(f"{path}: holds no section, wanted [net] and the layers after it")
    if sections[0].name not in ("net", "network"):
        raise CfgError(f"{path}:{sections[0].line}: begins with [{shown(sections[0].name)}], wanted [net] first")
    return sections


def _is_of_the_fork(section: Section) -> bool:
    """Whether a section uses a word, or a value, that only the fork knows."""
    values = {key: option.value for key, option in section.options.items()}
    return (
        section.name in FORK_SECTIONS
        or not FORK_OPTIONS.isdisjoint(values)
        or values.get("activation") in FORK_ACTIVATIONS
        or values.get("policy") == "sgdr"
        or (section.name == "route" and "groups" in values)
        or (section.name == "shortcut" and "," in values.get("from", ""))
    )


def _add_option(sections: Sequence[Section], plain: str, number: int, path: str) -> None:
    key, equals, value = plain.partition("=")
    if not equals or not key:
        raise CfgError(f"{path}:{number}: {shown(plain)} is neither [section] nor key=value")
    if not value:
        raise CfgError(f"{path}:{number}: {shown(key)}= has no value; remove the line for the default")
    section = sections[-1]
    if key in section.options:
        first = section.options[key]
        section.warn(
            number,
            f"[{shown(section.name)}] has {shown(key)} a second time; "
            f"line {first.line} ({shown(key)}={shown(first.value)}) holds, as in Darknet",
        )
        return
    section.options[key] = Option(value, number)
