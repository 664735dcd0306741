"""The names of a dataset joined to the nodes of a tree, or to concepts."""

from __future__ import annotations

import mimetypes
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from lookonce.darknet.lists import read_lines, read_names
from lookonce.data.opening import open_dataset
from lookonce.errors import DataError, nearest, shown
from lookonce.trees.concepts import Concepts, senses_of
from lookonce.wordtree import WordTree, plain

NAMES, TEXTS = (".names", ".labels"), (".txt", ".list")
MOST_GUESSES = 50  # what is close to a name is looked for among all names


class Candidates(NamedTuple):
    """All numbers that a name may mean, how they were found (id, name, word, nearly, or nothing), and whether it is one
    that nobody need be asked about.
    """

    how: str
    numbers: Sequence[int]
    is_sure: bool


@dataclass(frozen=True, eq=False)
class Lexicon:
    """What can be meant: nodes or concepts, by ids, by what they are `called`, and by further `words`.

    `over` is the number right above each, -1 at the top. The keys of `called` and `words` are `plain` names. Of the
    words that are `doubtful` the commonest sense is none of these: a sink is no sinkhole.
    """

    ids: Sequence[str]
    names: Sequence[str]
    over: Sequence[int]
    called: Mapping[str, Sequence[int]]
    words: Mapping[str, Sequence[int]]
    doubtful: Set[str] = frozenset()

    @classmethod
    def of_tree(cls, tree: WordTree, concepts: Concepts | None = None) -> Lexicon:
        """The nodes of a tree by their display names; with `concepts` of the same ids (WordNet) by its words too."""
        words: dict[str, Sequence[int]] = {}
        doubtful: set[str] = set()
        if concepts is not None:
            node_of = {id: node for node, id in enumerate(tree.ids)}
            at = [node_of.get(id, -1) for id in concepts.ids]
            for name, numbers in concepts.senses.items():
                if nodes := [at[number] for number in numbers if at[number] >= 0]:
                    words[name] = nodes
                    doubtful |= {name} if at[numbers[0]] < 0 else set()
        return cls(tree.ids, tree.names, tree.parent.tolist(), senses_of(tree.names), words, doubtful)

    @classmethod
    def of_concepts(cls, concepts: Concepts) -> Lexicon:
        """Concepts by all that they are called, the commonest sense first where the source knows it."""
        over = [parents[0] if parents else -1 for parents in concepts.parents]
        return cls(concepts.ids, concepts.names, over, concepts.senses, {})

    def candidates(self, name: str) -> Candidates:
        """What a name may mean: found as an id, which may be followed by a tab and names; else as what something is
        called; else as another word; at last as either of these but for blanks and the plural.

        Of several names, `a, b`, the first that is found counts.
        """
        id, _, rest = name.partition("\t")
        if id.strip() in self.number_of:
            return Candidates("id", (self.number_of[id.strip()],), True)
        said = (rest or name).strip()
        variants = [said, *(said.split(", ") if ", " in said else ())]
        for how, known in (("name", self.called), ("word", self.words)):
            for word in map(plain, variants):
                if found := known.get(word):
                    commonest = self.words.get(word, found)[0]
                    is_sure = len(found) == 1 and word not in self.doubtful and commonest == found[0]
                    others = () if is_sure else self.words.get(word, ())
                    return Candidates(how, tuple(dict.fromkeys([*found, *others])), is_sure)
        for variant in variants:
            if found := self._loose.get(loose(variant)):
                return Candidates("nearly", found, len(found) == 1)
        return Candidates("", (), False)

    def nearest(self, name: str) -> str:
        """`, did you mean x?`, or nothing if nothing known is called nearly so."""
        return nearest(plain(name), [*self.called, *self.words])

    def described(self, number: int) -> str:
        """`n02012849 crane, a kind of wading bird`."""
        over = self.over[number]
        kind = f", a kind of {self.names[over]}" if over >= 0 else ""
        return f"{self.ids[number]} {self.names[number]}{kind}"

    @cached_property
    def number_of(self) -> dict[str, int]:
        """The number of each id."""
        return {id: number for number, id in reversed(list(enumerate(self.ids)))}

    @cached_property
    def _loose(self) -> dict[str, list[int]]:
        known: dict[str, dict[int, None]] = {}
        for names in (self.called, self.words):
            for name, numbers in names.items():
                if names is self.words and name in self.doubtful:
                    continue
                known.setdefault(loose(name), {}).update(dict.fromkeys(numbers))
        return {name: list(numbers) for name, numbers in known.items()}


class Joined(NamedTuple):
    """The number of each name, -1 where it is not known, and how it was found: choice, id, name, word or nearly.

    `open` are the names' places with several candidates, and these; `missing` the places of names without any.
    """

    names: tuple[str, ...]
    numbers: tuple[int, ...]
    how: tuple[str, ...]
    open: Mapping[int, Sequence[int]]
    missing: tuple[int, ...]

    @property
    def is_whole(self) -> bool:
        return not self.open and not self.missing


def join(
    names: Sequence[str], lexicon: Lexicon, choices: Mapping[str, str] | None = None, *, commonest: bool = False
) -> Joined:
    """Find what each name means. `choices` are ids by names and go before everything.

    With `commonest` a name of several candidates is the first of them. Raises DataError for a choice of an unknown id.
    """
    numbers: list[int] = []
    how: list[str] = []
    several: dict[int, Sequence[int]] = {}
    missing: list[int] = []
    for place, name in enumerate(names):
        if choices is not None and name in choices:
            id = choices[name]
            if id not in lexicon.number_of:
                guess = nearest(id, lexicon.ids)
                raise DataError(f"the choice {shown(name)} = {shown(id)}: there is no such id{guess}")
            numbers.append(lexicon.number_of[id])
            how.append("choice")
            continue
        found = lexicon.candidates(name)
        is_one = found.is_sure or (commonest and len(found.numbers) > 0)
        numbers.append(found.numbers[0] if is_one else -1)
        how.append(found.how if is_one else "")
        if not found.numbers:
            missing.append(place)
        elif not is_one:
            several[place] = found.numbers
    return Joined(tuple(names), tuple(numbers), tuple(how), several, tuple(missing))


def complaints(joined: Joined, lexicon: Lexicon) -> list[str]:
    """A line for each name that is missing, and one for each with several candidates, followed by one for each."""
    lines = []
    for count, place in enumerate(joined.missing):
        guess = lexicon.nearest(joined.names[place]) if count < MOST_GUESSES else ""
        lines.append(f"missing: {shown(joined.names[place], 100)}{guess}")
    for place, numbers in joined.open.items():
        lines.append(f"ambiguous: {shown(joined.names[place], 100)} may be")
        lines += [f"  {shown(lexicon.described(number), 200)}" for number in numbers]
    return lines


def names_of(path: Path) -> tuple[str, ...]:
    """The class names in a file of one a line, or of a dataset. A list of pictures is a dataset. Raises DataError."""
    suffix = path.suffix.lower()
    if suffix in NAMES or (suffix in TEXTS and path.is_file() and not _is_of_pictures(path)):
        return read_names(path)
    return open_dataset(path).names


def loose(name: str) -> str:
    """A plain name without blanks, its last word in the singular, by rules of thumb that both sides go through."""
    word = plain(name).replace(" ", "")
    if word.endswith("ies") and len(word) > 4:
        return word[:-3] + "y"
    if word.endswith(("sses", "shes", "ches", "xes", "zes")):
        return word[:-2]
    if word.endswith("men"):
        return word[:-3] + "man"
    return word[:-1] if word.endswith("s") and not word.endswith("ss") else word


def _is_of_pictures(path: Path) -> bool:
    first = next((line.strip() for line in read_lines(path) if line.strip()), "")
    return (mimetypes.guess_type(first)[0] or "").startswith("image/")
