"""Faults in tree files, against what was put in, and against loops."""

from __future__ import annotations

import random
import time
from pathlib import Path

import numpy as np
import pytest

from lookonce.errors import DataError
from lookonce.trees import Checked, Fault, check
from lookonce.wordtree import WordTree


def checked(folder: Path, *lines: str) -> Checked:
    (folder / "my.tree").write_text("".join(f"{line}\n" for line in lines))
    return check(folder / "my.tree")


def test_a_sound_tree_has_counts_and_no_fault(tmp_path: Path) -> None:
    lines = ["root -1", "rock -1", "animal 0", "plant 0", "dog 2", "cat 2", "pebble 1"]
    assert checked(tmp_path, *lines) == Checked(nodes=7, groups=4, leaves=4, roots=2, depth=2, faults=())


@pytest.mark.parametrize(
    ("lines", "faults"),
    [
        (["a -1", "b", "c 0"], [(2, "'b' is not `id parent`, the parent a line or -1")]),
        (["a -1", "", "c 0"], [(2, "'' is not `id parent`, the parent a line or -1")]),
        (["a -1", "b -2"], [(2, "'b -2' is not `id parent`, the parent a line or -1")]),
        (["a -1", "b 7"], [(2, "parent 7 is not there: the nodes are 0 to 1")]),
        (["a -1", "b 1"], [(2, "is its own parent")]),
        (["a -1", "b 2", "c 1"], [(2, "is above itself, a circle of 2 nodes: 1 < 2 < 1")]),
        (
            ["a -1", "b 2", "c 1", "d 1", "e 3"],
            [
                (2, "is above itself, a circle of 2 nodes: 1 < 2 < 1"),
                (4, "hangs on a circle, with 2 nodes in all: none has a root above it"),
            ],
        ),
        (["a 1", "b -1"], [(1, "stands before its parent 1")]),
        (["a -1", "b 0", "c -1"], [(3, "the roots do not stand together: others end at line 1")]),
        (
            ["a -1", "b 0", "c 0", "d 1", "e 0", "f 1", "g 0"],
            [
                (5, "the children of node 0 do not stand together: others end at line 3"),
                (6, "the children of node 1 do not stand together: others end at line 4"),
                (7, "the children of node 0 do not stand together: others end at line 5"),
            ],
        ),
        (
            ["a -1", "b 0", "a 0", "b 0"],
            [(3, "the id a stands at line 1 already"), (4, "the id b stands at line 2 already")],
        ),
        (["a -1", "b 0", "oops", "c 0"], [(3, "'oops' is not `id parent`, the parent a line or -1")]),
        ([], [(1, "holds no node, wanted one `id parent` a line")]),
    ],
)  # fmt: skip
def test_a_fault_is_found_with_its_line_and_nothing_else(
    tmp_path: Path, lines: list[str], faults: list[tuple[int, str]]
) -> None:
    assert [tuple(fault) for fault in checked(tmp_path, *lines).faults] == faults


def test_several_kinds_of_faults_come_in_the_order_of_lines(tmp_path: Path) -> None:
    found = checked(tmp_path, "a -1", "b 5", "c x", "a 0", "d 4", "e 9")
    assert [fault.line for fault in found.faults] == [2, 3, 4, 5, 6]
    assert (found.nodes, found.roots, found.depth) == (6, 1, 1)     # under e, which is a root of none


def test_a_long_circle_is_shortened(tmp_path: Path) -> None:
    count = 1000
    found = checked(tmp_path, "root -1", *(f"n{node} {node % count + 1}" for node in range(1, count + 1)))
    (fault,) = [fault for fault in found.faults if "circle" in fault.text]
    assert fault == Fault(2, "is above itself, a circle of 1,000 nodes: 1 < 2 < 3 < 4 < 5 < 6 < 7 < 8 < ... < 1")


@pytest.mark.parametrize("seed", range(40))
def test_random_parents_have_the_faults_that_loops_find(tmp_path: Path, seed: int) -> None:
    """Each node has any parent: there are circles, late parents and children apart in nearly every file."""
    rng = random.Random(seed)
    count = rng.randint(1, 30)
    parents = [rng.randint(-1, count) if rng.random() < 0.5 else node - 1 for node in range(count)]
    found = checked(tmp_path, *(f"n{node} {over}" for node, over in enumerate(parents)))
    lines = {fault.line for fault in found.faults if "together" not in fault.text and "circle" not in fault.text}

    def up(node: int) -> int:
        return parents[node] if parents[node] < count else -1

    circling, depths = set(), [0]
    for node in range(count):
        way = [node]
        while up(way[-1]) >= 0 and len(way) <= count:
            way.append(up(way[-1]))
        if len(way) > count:
            circling.add(node)
        else:
            depths.append(len(way) - 1)
    ring = {node for node in circling if node in _above(node, up)}
    want = {node + 1 for node, over in enumerate(parents) if over >= count}
    want |= {node + 1 for node in range(count) if up(node) == node}
    want |= {node + 1 for node in range(count) if up(node) > node and node not in ring}
    assert lines == want
    circles = {min(_above(node, up)) + 1 for node in ring if up(node) != node}
    assert {fault.line for fault in found.faults if "a circle of" in fault.text} == circles
    assert any("hangs on" in fault.text for fault in found.faults) == bool(circling - ring)
    seen: set[int] = set()
    apart = set()
    for node, over in enumerate(parents):
        if (node == 0 or parents[node - 1] != over) and over in seen:
            apart.add(node + 1)
        seen.add(over)
    assert {fault.line for fault in found.faults if "together" in fault.text} == apart
    assert found.depth == max(depths)
    assert found.leaves == sum(node not in {up(other) for other in range(count)} for node in range(count))
    assert found.roots == parents.count(-1)


def _above(node: int, up: object) -> set[int]:
    found: set[int] = set()
    node = up(node)                                                     # type: ignore[operator]
    while node >= 0 and node not in found:
        found.add(node)
        node = up(node)                                                 # type: ignore[operator]
    return found


def test_a_file_without_a_fault_is_one_that_is_read(tmp_path: Path) -> None:
    """Darknet does not mind an id that stands there twice, so neither does the reader."""
    rng = random.Random(1)
    for _ in range(300):
        count = rng.randint(1, 6)
        lines = [f"n{node} {rng.randint(-1, max(0, node - 1))}" for node in range(count)]
        found = checked(tmp_path, *lines)
        if found.faults:
            with pytest.raises(DataError):
                WordTree.read(tmp_path / "my.tree")
        else:
            tree = WordTree.read(tmp_path / "my.tree")
            assert (len(tree), len(tree.starts), tree.leaf.sum()) == (found.nodes, found.groups, found.leaves)
            assert (tree.sizes[0], tree.depth.max() - 1) == (found.roots, found.depth)


@pytest.mark.parametrize("data", [b"a -1\ncaf\xe9 0\n", b"\xff\xfea\0"])
def test_what_is_no_text_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "my.tree").write_bytes(data)
    with pytest.raises(DataError, match="UTF-8"):
        check(tmp_path / "my.tree")


def test_a_million_nodes_are_checked_in_two_seconds(tmp_path: Path) -> None:
    """Seconds of the processor, so that others at work do not count; a fault of each kind is put in at the end."""
    count = 1_000_000
    parent = np.sort(np.random.default_rng(0).integers(0, np.maximum(np.arange(count), 1) // 3 + 1)) - 1
    lines = [f"n{node} {over}" for node, over in enumerate(np.minimum(parent, np.arange(count) - 1).tolist())]
    lines[-6:] = ["odd", f"n5 {count}", "x 999998", "y 999997", "z 999999", "w 0"]
    (tmp_path / "my.tree").write_text("\n".join(lines))
    begun = time.process_time()
    found = check(tmp_path / "my.tree")
    assert time.process_time() - begun < 2
    assert found.nodes == count
    assert {count - 5, count - 4, count - 3, count - 2, count - 1}.issuperset(fault.line for fault in found.faults[:3])


@pytest.mark.shared
def test_the_tree_of_9000_classes_is_sound(shared: Path) -> None:
    found = check(shared / "data/lists/9k.tree")
    assert found == Checked(nodes=9418, groups=1846, leaves=7573, roots=4, depth=16, faults=())
