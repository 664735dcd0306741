"""Trees from graphs: by hand, and against the thesis's sentence written as loops over all paths."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from pathlib import Path

import pytest

from lookonce.errors import DataError
from lookonce.trees import Concepts, build, planted
from lookonce.trees.concepts import senses_of
from lookonce.wordtree import WordTree


def graph(text: str) -> Concepts:
    """A graph of rows `child: parent parent`; concepts in the order in which they are named first."""
    above: dict[str, list[str]] = {}
    for row in text.strip().splitlines():
        child, _, parents = row.partition(":")
        above.setdefault(child.strip(), []).extend(parents.split())
        for parent in parents.split():
            above.setdefault(parent, [])
    ids = list(above)
    return Concepts(
        Path("graph"), tuple(ids), tuple(ids), tuple(tuple(map(ids.index, above[id])) for id in ids), senses_of(ids)
    )


def parents_of(tree: WordTree) -> dict[str, str | None]:
    return {
        id: tree.ids[over] if over >= 0 else None for id, over in zip(tree.ids, tree.parent.tolist(), strict=True)
    }


def built(text: str, words: str, *, whole: bool = True) -> dict[str, str | None]:
    concepts = graph(text)
    return parents_of(build(concepts, [concepts.ids.index(word) for word in words.split()], whole=whole).tree)


# ---------------------------------------------------------------------- which path
def test_of_two_paths_that_which_adds_one_node_goes_before_that_which_adds_three() -> None:
    """The thesis's example: `wolf` has brought canine and its line, `pet` would bring two nodes more."""
    tree = built(
        """
        wolf: canine
        canine: animal
        animal: thing
        dog: pet canine
        pet: tame
        tame: thing
        """,
        "dog wolf",
    )
    assert tree == {"thing": None, "animal": "thing", "canine": "animal", "wolf": "canine", "dog": "canine"}


def test_words_with_one_path_come_first_though_they_are_named_last() -> None:
    """x could be under a or b, each one node more; b is there already, because of y, which has no choice."""
    text = "x: a b\na: top\nb: top\ny: b"
    assert built(text, "x y")["x"] == built(text, "y x")["x"] == "b"
    assert built(text, "x")["x"] == "a"


def test_of_paths_that_add_equally_many_the_first_named_parent_is_taken() -> None:
    assert built("x: a b\na: top\nb: top", "x")["x"] == "a"
    assert built("x: b a\na: top\nb: top", "x")["x"] == "b"
    assert built("x: m\nm: b a\na: top\nb: top", "x") == {"top": None, "b": "top", "m": "b", "x": "m"}


def test_the_longer_way_to_the_top_is_taken_if_less_of_it_is_new() -> None:
    """w brings a line of four. x may go straight under its end (one node) or by n to the top (two)."""
    tree = built("w: c\nc: b\nb: a\na: top\nx: n c\nn: top", "x w")
    assert tree["x"] == "c"
    assert "n" not in tree


def test_of_words_that_are_left_the_cheapest_is_added_first() -> None:
    """far needs two nodes and near one. near goes under b, and then far's way by near adds itself only."""
    text = "base: b\nb: top\nnear: b c\nc: top\nfar: d near\nd: e\ne: top"
    assert built(text, "far near base") == {"top": None, "b": "top", "base": "b", "near": "b", "far": "near"}


def test_of_words_that_cost_alike_the_first_named_is_added_first() -> None:
    """Both may bring s or their own node. Who comes first takes its first parent, the other follows."""
    text = "x: a s\ny: s b\na: top\ns: top\nb: top"
    assert built(text, "x y") == {"top": None, "a": "top", "s": "top", "x": "a", "y": "s"}
    assert built(text, "y x") == {"top": None, "s": "top", "x": "s", "y": "s"}


def test_a_word_on_the_way_of_another_is_there_with_it() -> None:
    assert built("x: y\ny: a b\na: top\nb: top\nz: b", "x y z") == {
        "top": None, "b": "top", "y": "b", "z": "b", "x": "y",
    }  # fmt: skip


def test_a_graph_may_have_several_tops() -> None:
    """What has no parent costs itself: x under the root r2 adds two nodes, under p and r1 three."""
    assert built("x: p r2\np: r1", "x") == {"r2": None, "x": "r2"}


# ---------------------------------------------------------------------- the sentence as loops
def thesis(parents: Sequence[Sequence[int]], words: Sequence[int]) -> dict[int, int]:
    """All paths of every word are tried at every step, as the thesis tells it; of equals the first."""
    tree: dict[int, int] = {}

    def ways(node: int) -> list[list[int]]:
        """All ways up to the tree or the top, in the order of the parents; -1 ends one at the top."""
        if node in tree:
            return [[node]]
        if not parents[node]:
            return [[node, -1]]
        return [[node, *rest] for parent in parents[node] for rest in ways(parent)]

    def paths(node: int) -> int:
        return sum(paths(parent) for parent in parents[node]) if parents[node] else 1

    def add(way: list[int]) -> None:
        tree.update(itertools.pairwise(way))

    left = []
    for word in words:
        if paths(word) == 1:
            add(ways(word)[0])
        else:
            left.append(word)
    while left:
        tried = ((place, number, way) for place, word in enumerate(left) for number, way in enumerate(ways(word)))
        best = min((len(way), place, number) for place, number, way in tried)
        add(ways(left[best[1]])[best[2]])
        left.pop(best[1])
    return tree


def thinned(tree: dict[int, int], words: Sequence[int]) -> dict[int, int]:
    """One node after the other is taken out: one with a single child, or the only root, that is no word."""
    tree = dict(tree)
    while True:
        roots = [node for node, over in tree.items() if over < 0]
        for node in tree:
            children = [child for child, over in tree.items() if over == node]
            if node not in words and (len(children) == 1 or roots == [node]):
                for child in children:
                    tree[child] = tree[node]
                del tree[node]
                break
        else:
            return tree


@pytest.mark.parametrize("seed", range(60))
def test_every_choice_is_that_of_a_loop_over_all_paths(seed: int) -> None:
    """Graphs of up to 24 concepts, most of them with several parents: there are ties, and paths through words."""
    rng = random.Random(seed)
    count = rng.randint(4, 24)
    parents = tuple(tuple(rng.sample(range(node), min(node, rng.choice((0, 1, 1, 2, 2, 3))))) for node in range(count))
    words = rng.sample(range(count), rng.randint(1, count))
    ids = tuple(f"c{node}" for node in range(count))
    concepts = Concepts(Path("graph"), ids, ids, parents, {})
    for whole in (True, False):
        want = thesis(parents, words) if whole else thinned(thesis(parents, words), words)
        found = build(concepts, words, whole=whole)
        assert parents_of(found.tree) == {
            f"c{node}": f"c{over}" if over >= 0 else None for node, over in want.items()
        }
        assert [found.tree.ids[node] for node in found.nodes] == [ids[word] for word in words]
        WordTree.parse(found.tree.to_lines())                   # in Darknet's order


# ---------------------------------------------------------------------- what is left out
def test_a_node_with_one_child_is_left_out_unless_it_is_a_word() -> None:
    text = "dog: canine\nwolf: canine\ncanine: animal\nanimal: thing\noak: plant\nplant: thing"
    assert built(text, "dog wolf oak", whole=False) == {"canine": None, "oak": None, "dog": "canine", "wolf": "canine"}
    assert built(text, "dog wolf oak animal", whole=False)["canine"] == "animal"
    assert built(text, "dog wolf oak thing", whole=False)["canine"] == "thing"
    assert len(built(text, "dog wolf oak")) == 7


def test_a_single_word_is_a_tree() -> None:
    assert built("dog: canine\ncanine: animal", "dog", whole=False) == {"dog": None}
    assert built("dog: canine\ncanine: animal", "animal dog", whole=False) == {"animal": None, "dog": "animal"}


# ---------------------------------------------------------------------- order and circles
def test_siblings_stand_as_in_the_source_and_parents_first() -> None:
    concepts = graph("z:\na: z\nd: a\nb: z\ne: b\nc: a")
    tree = build(concepts, range(len(concepts))).tree
    assert tree.to_lines() == ["z -1", "a 0", "b 0", "d 1", "c 1", "e 2"]


def test_planted_says_where_each_node_came_to_stand() -> None:
    tree, at = planted(["x", "y", "top", "other"], ["X", "y", "top", "other"], [1, 2, -1, -1])
    assert tree.to_lines() == ["top -1", "other -1", "y 0", "x 2 X"]
    assert at == [3, 2, 0, 1]


@pytest.mark.parametrize("words", ["a", "c", "d"])
def test_a_circle_is_named(words: str) -> None:
    with pytest.raises(DataError) as refused:
        built("a: b\nb: c\nc: a\nd: top c", words)
    assert "graph: " in str(refused.value)
    assert "is above itself: " in str(refused.value)
    assert {"a < b < c < a", "b < c < a < b", "c < a < b < c"} & {str(refused.value).rpartition(": ")[2]}


def test_a_line_of_a_hundred_thousand_concepts_is_no_problem() -> None:
    count = 100_000
    ids = tuple(map(str, range(count)))
    parents = ((), *((node - 1,) for node in range(1, count)))
    tree = build(Concepts(Path("line"), ids, ids, parents, {}), [count - 1], whole=True).tree
    assert tree.depth.max() == len(tree) == count
