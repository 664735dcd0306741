"""Trees as text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lookonce import zoo
from lookonce.errors import DataError, LookonceWarning
from lookonce.trees import as_json, described, entry, find, read_tree, show, write_map, write_tree
from lookonce.trees.stored import map_names
from lookonce.wordtree import WordTree

TREE = WordTree.parse(["root -1", "rock -1", "n1 0 animal", "plant 0", "dog 2", "cat 2", "pebble 1", "pug 4"])


def test_a_whole_tree_is_drawn() -> None:
    assert "\n".join(show(TREE)) == (
        "root (5 below)\n"
        "├── animal (n1, 3 below)\n"
        "│   ├── dog (1 below)\n"
        "│   │   └── pug\n"
        "│   └── cat\n"
        "└── plant\n"
        "rock (1 below)\n"
        "└── pebble"
    )


@pytest.mark.parametrize(
    ("node", "depth", "lines"),
    [
        (2, 1, ["animal (n1, 3 below)", "├── dog (1 below)", "└── cat"]),
        (2, 0, ["animal (n1, 3 below)"]),
        (7, None, ["pug"]),
        (-1, 0, ["root (5 below)", "rock (1 below)"]),
        (-1, 1, ["root (5 below)", "├── animal (n1, 3 below)", "└── plant", "rock (1 below)", "└── pebble"]),
    ],
)
def test_a_part_is_drawn_as_deep_as_asked(node: int, depth: int | None, lines: list[str]) -> None:
    assert list(show(TREE, node, depth)) == lines


def test_every_node_is_drawn_once_under_its_parent() -> None:
    """A random tree: what stands before a line is four characters a step, and its parent is the last line with less."""
    rng = np.random.default_rng(0)
    parent = np.sort(np.minimum(rng.integers(-1, 60, 400), np.arange(400) - 1))
    tree = WordTree.parse([f"n{node} {over}" for node, over in enumerate(parent.tolist())])
    last: dict[int, str] = {}
    seen = []
    for line in show(tree):
        name = line.lstrip("│├└─ ").split(" ")[0]
        steps = (len(line) - len(line.lstrip("│├└─ "))) // 4
        over = int(tree.parent[int(name[1:])])
        assert (last[steps - 1] if steps else "n-1") == f"n{over}"
        last[steps] = name
        seen.append(name)
    assert sorted(seen) == sorted(tree.ids)


def test_an_entry_says_what_is_around_a_node() -> None:
    found = entry(TREE, 4)
    assert found.path == (0, 2, 4)
    assert (found.depth, found.siblings, found.children, found.below) == (2, (5,), (7,), 1)
    assert described(TREE, found) == [
        "dog: node 4",
        "  path      root > animal > dog",
        "  depth     2 of 3",
        "  siblings  1: cat",
        "  children  1: pug",
        "  below     1 nodes",
    ]
    assert described(TREE, entry(TREE, 3))[-2:] == ["  children  none", "  below     0 nodes"]
    assert described(TREE, entry(TREE, 2))[0] == "animal: n1, node 2"
    assert as_json(TREE, entry(TREE, 2)) == {
        "node": 2, "id": "n1", "name": "animal", "depth": 1, "path": ["root", "n1"], "siblings": ["plant"],
        "children": ["dog", "cat"], "below": 3,
    }  # fmt: skip
    assert entry(TREE, 0).siblings == (1,)


def test_many_relatives_are_counted_and_some_named() -> None:
    tree = WordTree.parse(["top -1", *(f"n{number} 0" for number in range(30))])
    assert described(tree, entry(tree, 0))[4].endswith("n11, and 18 more")


@pytest.mark.parametrize(("name", "nodes"), [("n1", (2,)), ("Animal", (2,)), ("5", (5,)), ("0", (0,))])
def test_a_node_is_found_by_id_name_or_number(name: str, nodes: tuple[int, ...]) -> None:
    assert find(TREE, name) == nodes


@pytest.mark.parametrize(("name", "guess"), [("anmal", "animal"), ("n11", "n1"), ("8", None), ("-1", None), ("", None)])
def test_a_miss_names_what_is_near(name: str, guess: str | None) -> None:
    with pytest.raises(DataError, match="my.tree: has no node") as refused:
        find(TREE, name, "my.tree")
    assert (f"did you mean {guess}?" in str(refused.value)) == (guess is not None)


def test_a_miss_of_the_large_tree_names_what_has_a_word_like_it() -> None:
    """Snorkel has as many letters in common, but two others."""
    tree = read_tree(zoo.bundled_files()["9k.tree"])
    with pytest.raises(DataError, match="has no node Norflk, did you mean Norfolk "):
        find(tree, "Norflk")
    with pytest.raises(DataError, match="has no node xyzzy$"):
        find(tree, "xyzzy")


def test_control_characters_of_a_name_do_not_reach_the_terminal() -> None:
    tree = WordTree.parse(["a -1 \x1b[31mred"])
    assert list(show(tree)) == ["\\x1b[31mred (a)"]
    assert "\x1b" not in "".join(described(tree, entry(tree, 0)))


# ---------------------------------------------------------------------- files
def test_a_tree_and_its_names_are_written_and_read(tmp_path: Path) -> None:
    path = tmp_path / "my.tree"
    assert write_tree(TREE, path, named=False) == tmp_path / "my.names"
    assert path.read_text().splitlines()[2] == "n1 0"
    assert (tmp_path / "my.names").read_text().splitlines()[2] == "animal"
    assert read_tree(path).names == TREE.names
    write_tree(TREE, path, named=True)
    assert path.read_text().splitlines() == TREE.to_lines()


def test_names_that_are_not_of_the_tree_are_left_alone(tmp_path: Path) -> None:
    path, names = tmp_path / "my.tree", tmp_path / "my.names"
    names.write_text("somebody's\n")
    with pytest.raises(DataError, match=r"my\.names: is there already"):
        write_tree(TREE, path, named=False)
    assert not path.exists()
    path.write_text("a -1\nb -1\n")
    with pytest.warns(LookonceWarning, match="1 names beside a tree of 2"):
        assert read_tree(path).names == ("a", "b")
    with pytest.raises(DataError, match="is read"):
        write_tree(TREE, path, named=False, inputs=[names])
    assert names.read_text() == "somebody's\n"
    path.write_text("a -1 x\n")
    assert read_tree(path).names == ("x",)                  # the tree's own go first


def test_an_id_of_two_words_fits_in_no_tree_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="not one word"):
        write_tree(WordTree(("a b",), ("a",), np.array([-1])), tmp_path / "my.tree", named=False)
    assert not list(tmp_path.iterdir())


def test_a_map_is_a_number_a_line_and_maps_of_one_name_are_told_apart(tmp_path: Path) -> None:
    write_map([3, 0], tmp_path / "m.map")
    assert (tmp_path / "m.map").read_bytes() == b"3\n0\n"
    names = map_names(Path("out/all.tree"), ["x/a.tree", "y/a.names", "b.tree", "a"])
    assert [path.name for path in names] == ["all.a.map", "all.a-2.map", "all.b.map", "all.a-3.map"]
