"""What a person chose among several candidates: a text of lines `name = id`, read back and added to."""

from __future__ import annotations

import re
from pathlib import Path

from lookonce import files
from lookonce.darknet.lists import read_lines
from lookonce.errors import DataError, shown
from lookonce.trees.joining import Joined, Lexicon

LINE = re.compile(r"(.*\S)\s*=\s*(\S+)(?:\s+#.*)?")
PROPOSED = re.compile(r"#\s*(.*\S)\s*=\s*\S+(?:\s+#.*)?")
HEAD = "# Which one each name means: take the # away before the line that is meant, or write name = id.\n"


def read_choices(path: Path) -> dict[str, str]:
    """The id that was chosen for each name; nothing if there is no such file. Lines that begin with # do not count.

    Raises DataError, with the line, for what is no `name = id`, and for a name with two ids.
    """
    chosen: dict[str, str] = {}
    for number, line in enumerate(read_lines(path) if files.exists(path) else (), start=1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        found = LINE.fullmatch(text)
        if found is None:
            raise DataError(f"{path}:{number}: {shown(text)} is not name = id")
        name, id = found[1], found[2]
        if chosen.setdefault(name, id) != id:
            raise DataError(f"{path}:{number}: {shown(name)} = {id}, but further up it is {chosen[name]}: keep one")
    return chosen


def write_choices(path: Path, joined: Joined, lexicon: Lexicon) -> int:
    """Add what there is to choose from to the file, as comments. What stands in it stays, and no name is added twice.

    Returns how many names were added. Raises DataError if no file can be written there.
    """
    old = read_lines(path) if files.exists(path) else []
    there = {found[1] for line in old if (found := PROPOSED.fullmatch(line.strip()))}
    lines: list[str] = []
    added = 0
    for place, numbers in joined.open.items():
        name = joined.names[place].strip()
        if name in there:
            continue
        there.add(name)
        added += 1
        lines.append("")
        for number in numbers:
            words = lexicon.described(number).removeprefix(lexicon.ids[number]).strip()
            lines.append(f"# {shown(name, 200)} = {lexicon.ids[number]}  # {shown(words, 200)}")
    if added:
        head = HEAD if not old else ""
        text = head + "".join(f"{line}\n" for line in [*old, *lines])
        with files.write_atomically(path) as file:
            file.write(text.encode())
    return added
