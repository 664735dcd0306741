"""WordNet's database of nouns: the files data.noun and index.noun of WordNet 3.0 and 3.1 (wndb(5WN))."""

from __future__ import annotations

from pathlib import Path

from lookonce import files
from lookonce.errors import DataError, shown
from lookonce.trees.concepts import Concepts
from lookonce.wordtree import plain

MAX_BYTES = 256 << 20
ABOVE = ("@", "@i")  # pointers: a kind of; an instance of


def read_wordnet(folder: Path) -> Concepts:
    """Every noun synset. Its id is ImageNet's wnid, n and eight digits: where it stands in WordNet 3.0's data.noun.

    The display name is the first word of a synset. The parents are its hypernyms, and what it is an instance of. The
    senses of a word stand in index.noun, the commonest first. Raises DataError, with the line.
    """
    data, index = folder / "data.noun", folder / "index.noun"
    ids: list[str] = []
    names: list[str] = []
    above: list[tuple[int, list[str]]] = []
    for line, text in _lines(data):
        try:
            id, name, parents = _synset(text)
        except (ValueError, IndexError):
            raise DataError(f"{data}:{line}: {shown(text)} is no synset as in WordNet's data files") from None
        ids.append(id)
        names.append(name)
        above.append((line, parents))
    number_of = {id: number for number, id in enumerate(ids)}
    for line, parents in above:
        for id in parents:
            if id not in number_of:
                raise DataError(f"{data}:{line}: points to {shown(id)}, which is no synset of this file: is it whole?")
    if not ids:
        raise DataError(f"{data}: holds no synset")
    senses: dict[str, list[int]] = {}
    for line, text in _lines(index):
        fields = text.split()
        try:
            count = int(fields[2])
            found = [number_of[f"n{offset}"] for offset in fields[-count:]]
        except (ValueError, IndexError):
            raise DataError(f"{index}:{line}: {shown(text)} is no word as in WordNet's index files") from None
        except KeyError as problem:
            raise DataError(f"{index}:{line}: {problem} is not in {data}: are both of one WordNet?") from None
        known = senses.setdefault(plain(fields[0]), [])
        known += [number for number in found if number not in known]
    over = tuple(tuple(dict.fromkeys(number_of[id] for id in each)) for _, each in above)
    return Concepts(folder, tuple(ids), tuple(names), over, senses)


def _lines(path: Path) -> list[tuple[int, str]]:
    """The lines of a database file with their numbers from 1, without its licence, whose lines begin with blanks."""
    data = files.read_bytes(path, MAX_BYTES, DataError)
    lines = enumerate(data.decode("utf-8", "replace").split("\n"), start=1)
    return [(number, line) for number, line in lines if line and not line.startswith(" ")]


def _synset(text: str) -> tuple[str, str, list[str]]:
    """The id, first word and parents' ids of one line of data.noun.

    It holds the offset, a file's number, the kind, the count of words in hexadecimal, that many words each with a
    number, the count of pointers, and that many of four fields: symbol, offset, part of speech, words.
    """
    fields = text.partition(" | ")[0].split()
    offset, kind, words = fields[0], fields[2], int(fields[3], 16)
    if len(offset) != 8 or not offset.isdigit() or kind != "n" or words < 1:
        raise ValueError
    pointers = fields[5 + 2 * words :]
    count = int(fields[4 + 2 * words])
    if len(pointers) != 4 * count:
        raise ValueError
    of_four = zip(pointers[::4], pointers[1::4], pointers[2::4], strict=True)
    parents = [f"n{target}" for symbol, target, part in of_four if symbol in ABOVE and part == "n"]
    return f"n{offset}", fields[4].replace("_", " "), parents
