"""A tree file looked at as a whole: what is in it, and everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from lookonce.errors import shown
from lookonce.shapes import Bool, Int64
from lookonce.wordtree import read_lines, split_lines, unreadable

MOST_OF_A_CIRCLE = 8


class Fault(NamedTuple):
    """What is wrong at a line, from 1."""

    line: int
    text: str


class Checked(NamedTuple):
    """What a tree file holds. `groups` are the sets of siblings, `depth` the steps from a root to the deepest node."""

    nodes: int
    groups: int
    leaves: int
    roots: int
    depth: int
    faults: tuple[Fault, ...]


def check(path: Path) -> Checked:
    """Count what is in a tree file and find every fault, in the order of its lines.

    Faults are lines that are no node, parents that are not there, circles, children before their parent, children of
    one parent that do not stand together, and ids that stand there twice. Darknet counts nodes from 0, so does a
    parent; lines are counted from 1. Raises DataError only if the file is no text.
    """
    rows, bad = split_lines(read_lines(path))
    if not rows:
        return Checked(0, 0, 0, 0, 0, (Fault(1, "holds no node, wanted one `id parent` a line"),))
    parent = np.array([int(row[1] or -1) for row in rows], np.int64)
    good = np.ones(len(parent), bool)
    good[bad] = False
    beyond = parent >= len(parent)
    inside = np.where(beyond, -1, parent)
    depth, circling, ring = _climb(inside)
    ends = f"the nodes are 0 to {len(parent) - 1}"
    faults = [Fault(number + 1, unreadable(rows[number][3])) for number in bad]
    faults += [Fault(at + 1, f"parent {parent[at]} is not there: {ends}") for at in np.flatnonzero(beyond).tolist()]
    faults += _circles(inside, circling, ring)
    late = (inside >= np.arange(len(parent))) & ~ring
    faults += [Fault(at + 1, f"stands before its parent {parent[at]}") for at in np.flatnonzero(late).tolist()]
    starts, apart = _apart(parent, np.flatnonzero(good))
    faults += apart
    faults += _twice([row[0] for row in rows])
    leaves = np.ones(len(parent), bool)
    leaves[inside[inside >= 0]] = False
    return Checked(
        nodes=len(parent),
        groups=starts,
        leaves=int(leaves.sum()),
        roots=int((parent[good] < 0).sum()),
        depth=int(depth[~circling].max(initial=1)) - 1,
        faults=tuple(sorted(faults)),
    )


def _climb(
    parent: Int64[np.ndarray, " K"],
) -> tuple[Int64[np.ndarray, " K"], Bool[np.ndarray, " K"], Bool[np.ndarray, " K"]]:
    """Each node's depth, which never come to a root, and which of these are above themselves."""
    depth = np.ones(len(parent), np.int64)
    above, steps = parent, 1
    while steps <= len(parent) and (has := above >= 0).any():  # twice as far up at every turn
        depth[has] += depth[above[has]]
        above = np.where(has, above[above], -1)
        steps *= 2
    ring = np.zeros(len(parent), bool)
    ring[above[above >= 0]] = True  # who goes up for ever goes round, and comes to every node of the circle
    return depth, above >= 0, ring


def _circles(
    parent: Int64[np.ndarray, " K"], circling: Bool[np.ndarray, " K"], ring: Bool[np.ndarray, " K"]
) -> list[Fault]:
    """A fault for each circle, at its first line."""
    if not ring.any():
        return []
    faults = []
    seen: set[int] = set()
    for node in np.flatnonzero(ring).tolist():
        if node in seen:
            continue
        circle = [node]
        while (over := int(parent[circle[-1]])) != node:
            circle.append(over)
        seen.update(circle)
        if len(circle) == 1:
            faults.append(Fault(node + 1, "is its own parent"))
            continue
        some = circle[:MOST_OF_A_CIRCLE]
        way = " < ".join(map(str, some)) + (" < ..." if len(circle) > len(some) else "") + f" < {node}"
        faults.append(Fault(node + 1, f"is above itself, a circle of {len(circle):,} nodes: {way}"))
    lost = int((circling & ~ring).sum())
    if lost:
        first = int(np.flatnonzero(circling & ~ring)[0])
        faults.append(Fault(first + 1, f"hangs on a circle, with {lost:,} nodes in all: none has a root above it"))
    return faults


def _apart(parent: Int64[np.ndarray, " K"], good: Int64[np.ndarray, " L"]) -> tuple[int, list[Fault]]:
    """How many runs of equal parents there are, and a fault for each that is not the first of its parent."""
    starts = np.flatnonzero(np.diff(parent[good], prepend=-2))
    ends = np.append(starts[1:], len(good))
    order = np.argsort(parent[good[starts]], kind="stable")
    owner = parent[good[starts]][order]
    faults = []
    for place in (np.flatnonzero(owner[1:] == owner[:-1]) + 1).tolist():
        before, here = order[place - 1], order[place]
        whose = f"the children of node {owner[place]}" if owner[place] >= 0 else "the roots"
        line = int(good[ends[before] - 1]) + 1
        faults.append(Fault(int(good[starts[here]]) + 1, f"{whose} do not stand together: others end at line {line}"))
    return len(starts), faults


def _twice(ids: Sequence[str]) -> list[Fault]:
    if len(set(ids)) == len(ids):
        return []
    first: dict[str, int] = {}
    faults = []
    for number, id in enumerate(ids):
        if first.setdefault(id, number) != number and id:
            faults.append(Fault(number + 1, f"the id {shown(id)} stands at line {first[id] + 1} already"))
    return faults
