"""WordTree from a graph of concepts (thesis 2.4.1): of many paths to the root one, that which grows the tree least."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from lookonce.errors import DataError, shown
from lookonce.trees.concepts import Concepts
from lookonce.wordtree import WordTree


class Built(NamedTuple):
    """A tree, and the node of each word that it was built for."""

    tree: WordTree
    nodes: tuple[int, ...]


def build(concepts: Concepts, words: Sequence[int], *, whole: bool = False) -> Built:
    """The tree of some concepts, given by their numbers, and of what is above them.

    First come the words with a single path to the top, then the others one by one, always the one whose cheapest path
    adds the fewest nodes; of equals the first of `words`. Of paths that add equally many, that is taken which at each
    step up follows the parent that the source names first. Roots and siblings stand in the order of the source.

    At last a node that is no word and has one child is left out, for its child's probability would always be 1; so is
    a single root that is no word. With `whole` every node of the paths stays. Raises DataError for a circle.
    """
    order, ring = upwards(concepts.parents, words)
    if ring:
        text = " < ".join(concepts.ids[each] for each in ring)
        raise DataError(f"{concepts.path}: {shown(concepts.ids[ring[0]])} is above itself: {shown(text, 200)}")
    parent = _grown(concepts, words, order)
    if not whole:
        parent = _thinned(parent, set(words))
    numbers = sorted(parent)
    place = {number: at for at, number in enumerate(numbers)}
    tree, node = planted(
        [concepts.ids[number] for number in numbers],
        [concepts.names[number] for number in numbers],
        [place.get(parent[number], -1) for number in numbers],
    )
    return Built(tree, tuple(node[place[word]] for word in words))


def planted(ids: Sequence[str], names: Sequence[str], parent: Sequence[int]) -> tuple[WordTree, list[int]]:
    """A tree in Darknet's order, parents before children and siblings together, and where each node came to stand.

    `parent` are numbers of nodes, -1 at a root; siblings and roots keep their order. No node may be above itself.
    """
    below: list[list[int]] = [[] for _ in range(len(ids) + 1)]
    for number, owner in enumerate(parent):
        below[owner].append(number)  # the roots last: they are those of -1
    order = list(below[-1])
    for number in order:
        order += below[number]
    node = [-1] * len(ids)
    for at, number in enumerate(order):
        node[number] = at
    over = [node[parent[number]] if parent[number] >= 0 else -1 for number in order]
    tree = WordTree(
        tuple([ids[number] for number in order]), tuple([names[number] for number in order]), np.array(over, np.int64)
    )
    return tree, node


def upwards(parents: Sequence[Iterable[int]], words: Iterable[int]) -> tuple[list[int], list[int]]:
    """The words and all that is above them, each after its parents, or a circle that is in the way, its end first too.

    One of the two is empty.
    """
    order: list[int] = []
    done: dict[int, bool] = {}  # False while what is above it is being looked at
    for word in words:
        stack = [(word, iter(parents[word]))] if word not in done else []
        done.setdefault(word, False)
        while stack:
            number, rest = stack[-1]
            over = next((each for each in rest if not done.get(each, False)), None)
            if over is None:
                done[number] = True
                order.append(number)
                stack.pop()
            elif over in done:
                ring = [each for each, _ in stack]
                return [], [*ring[ring.index(over) :], over]
            else:
                done[over] = False
                stack.append((over, iter(parents[over])))
    return order, []


def _grown(concepts: Concepts, words: Sequence[int], order: Sequence[int]) -> dict[int, int]:
    """The parent of each node of the tree, -1 at its roots."""
    below: dict[int, list[int]] = {number: [] for number in order}
    single: set[int] = set()  # has one path to the top
    cost: dict[int, int] = {}  # how many nodes the cheapest path adds
    for number in order:
        above = concepts.parents[number]
        for over in above:
            below[over].append(number)
        if len(above) == 0 or (len(above) == 1 and above[0] in single):
            single.add(number)
        cost[number] = 1 + min((cost[over] for over in above), default=0)
    rank = {word: place for place, word in reversed(list(enumerate(words)))}
    waiting: list[tuple[int, int, int]] = []  # cost, rank and number of the words that are left
    parent: dict[int, int] = {}

    def add(number: int) -> None:
        """Take the cheapest path from here to the tree, and note for what is below that it became cheaper."""
        changed = []
        while number >= 0 and number not in parent:
            above = concepts.parents[number]
            parent[number] = next((over for over in above if cost[over] == cost[number] - 1), -1)
            changed.append(number)
            number = parent[number]
        for each in changed:
            cost[each] = 0
        while changed:
            over = changed.pop()
            for each in below[over]:
                if cost[over] + 1 < cost[each]:
                    cost[each] = cost[over] + 1
                    changed.append(each)
                    if each in rank:
                        heapq.heappush(waiting, (cost[each], rank[each], each))

    for word in words:
        if word in single:
            add(word)
    waiting += [(cost[word], place, word) for word, place in rank.items() if word not in parent]
    heapq.heapify(waiting)
    while waiting:
        price, _, word = heapq.heappop(waiting)
        if price == cost[word]:  # otherwise it stands there again, cheaper
            add(word)
    return parent


def _thinned(parent: Mapping[int, int], words: set[int]) -> dict[int, int]:
    """The tree without nodes that have one child, and without a single root, unless they are words."""
    children = dict.fromkeys(parent, 0)
    for owner in parent.values():
        if owner >= 0:
            children[owner] += 1
    out = {number for number, count in children.items() if count == 1 and number not in words}

    def over(number: int) -> int:
        """The nearest node above that stays."""
        number = parent[number]
        while number in out:
            number = parent[number]
        return number

    roots = [number for number in parent if number not in out and over(number) < 0]
    if len(roots) == 1 and roots[0] not in words:
        out.add(roots[0])
    return {number: over(number) for number in parent if number not in out}
