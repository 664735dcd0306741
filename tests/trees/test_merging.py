"""Label spaces made one."""

from __future__ import annotations

import random

import pytest

from lookonce.errors import DataError
from lookonce.trees import merge
from lookonce.wordtree import WordTree


def tree(text: str) -> WordTree:
    return WordTree.parse(text.split("; "))


def edges(merged: WordTree) -> dict[str, str | None]:
    return {
        id: merged.ids[over] if over >= 0 else None
        for id, over in zip(merged.ids, merged.parent.tolist(), strict=True)
    }


A = tree("animal -1; dog 0; cat 0")


def test_a_tree_alone_stays_as_it_is() -> None:
    found = merge({"a": A}, {})
    assert found.tree.to_lines() == A.to_lines()
    assert found.maps == ((0, 1, 2),)


def test_the_union_is_by_ids_and_maps_lead_to_the_same_ids() -> None:
    b = tree("rock -1; animal -1; dog 1; cow 1; pug 2 Pug")
    found = merge({"a": A, "b": b}, {})
    assert edges(found.tree) == {
        "animal": None, "rock": None, "dog": "animal", "cat": "animal", "cow": "animal", "pug": "dog",
    }  # fmt: skip
    for source, nodes in zip((A, b), found.maps, strict=True):
        assert [found.tree.ids[node] for node in nodes] == list(source.ids)
    WordTree.parse(found.tree.to_lines())


def test_a_display_name_is_that_of_the_first_tree_that_has_one() -> None:
    found = merge({"a": A, "b": tree("dog -1 Hund"), "c": tree("dog -1 chien")}, {})
    assert found.tree.names[found.tree.ids.index("dog")] == "Hund"


def test_a_root_takes_the_parent_that_another_tree_gives_it() -> None:
    found = merge({"a": A, "b": tree("thing -1; animal 0")}, {})
    assert edges(found.tree) == {"thing": None, "animal": "thing", "dog": "animal", "cat": "animal"}


@pytest.mark.parametrize("order", ["ab", "ba"])
def test_a_finer_tree_refines_a_coarser_one(order: str) -> None:
    """In one a dog is an animal, in the other a canine, which is an animal: both are right, and canine is nearer."""
    both = {"a": A, "b": tree("animal -1; canine 0; dog 1")}
    found = merge({name: both[name] for name in order}, {})
    assert edges(found.tree) == {"animal": None, "cat": "animal", "canine": "animal", "dog": "canine"}


def test_a_third_tree_may_settle_what_two_leave_open() -> None:
    two = {"a": tree("animal -1; dog 0"), "b": tree("canine -1; dog 0")}
    with pytest.raises(DataError, match="dog is under animal in a and under canine in b: --prefer first"):
        merge(two, {})
    assert edges(merge({**two, "c": tree("animal -1; canine 0")}, {}).tree)["dog"] == "canine"


def test_conflicts_are_counted_and_the_first_tree_is_preferred_if_asked() -> None:
    b = tree("pet -1; dog 0; cat 0")
    with pytest.raises(DataError, match=r"under pet in b; and 1 more: --prefer first"):
        merge({"a": A, "b": b}, {})
    found = merge({"a": A, "b": b}, {}, prefer_first=True)
    assert edges(found.tree) == {"animal": None, "pet": None, "dog": "animal", "cat": "animal"}
    assert edges(merge({"b": b, "a": A}, {}, prefer_first=True).tree)["dog"] == "pet"


def test_a_circle_between_trees_is_named_or_the_later_step_left_out() -> None:
    b = tree("dog -1; animal 0; worm 1")
    with pytest.raises(DataError, match="^b: animal is under dog, but elsewhere it is above it: .*; --prefer first"):
        merge({"a": A, "b": b}, {})
    found = merge({"a": A, "b": b}, {}, prefer_first=True)
    assert edges(found.tree) == {"animal": None, "dog": "animal", "cat": "animal", "worm": "animal"}


def test_ids_that_stand_twice_in_a_tree_are_refused() -> None:
    with pytest.raises(DataError, match="b: has ids that stand there twice"):
        merge({"a": A, "b": tree("x -1; x 0")}, {})


# ---------------------------------------------------------------------- lists
def test_names_are_joined_to_nodes_and_new_ones_are_roots() -> None:
    words = tree("n1 -1 animal; n2 0 dog; n3 0 Red_Fox")
    found = merge({"a": words}, {"x": ["dog", "red fox", "traffic light", "n1"], "y": ["Traffic Light", "glass"]})
    assert found.tree.ids == ("n1", "traffic_light", "glass", "n2", "n3")
    assert found.tree.names == ("animal", "traffic light", "glass", "dog", "Red_Fox")
    assert found.maps == ((0, 3, 4), (3, 4, 1, 0), (1, 2))


def test_lists_alone_are_a_flat_tree_of_all_their_names() -> None:
    found = merge({}, {"x": ["cat", "dog"], "y": ["dog", "cow"]})
    assert found.tree.to_lines() == ["cat -1", "dog -1", "cow -1"]
    assert found.maps == ((0, 1), (1, 2))


def test_a_plural_is_another_class() -> None:
    assert merge({}, {"x": ["glass", "glasses"]}).maps == ((0, 1),)


def test_a_name_of_several_nodes_is_refused_with_them() -> None:
    cranes = tree("bird -1; machine -1; n1 0 crane; n2 1 crane")
    with pytest.raises(DataError, match="x:2: crane may be n1 crane, a kind of bird; n2 crane, a kind of machine"):
        merge({"a": cranes}, {"x": ["bird", "crane"]})
    assert merge({"a": cranes}, {"x": ["bird", "n2"]}).maps[1] == (0, 3)
    with pytest.raises(DataError, match="x:1: a class without a name"):
        merge({"a": cranes}, {"x": ["", "bird"]})


@pytest.mark.parametrize("seed", range(20))
def test_parts_of_one_tree_become_that_tree_again(seed: int) -> None:
    """Each part keeps some nodes, hung on the nearest kept node above: the union must agree, and refine."""
    rng = random.Random(seed)
    count = 40
    parent = [-1, *(rng.randrange(node) for node in range(1, count))]
    parts = {}
    for name in ("a", "b", "c", "whole"):
        kept = [node for node in range(count) if name == "whole" or rng.random() < 0.6]
        rows = []
        for node in kept:
            over = parent[node]
            while over >= 0 and over not in kept:
                over = parent[over]
            rows.append((node, over))
        parts[name] = _in_order(rows)
    found = edges(merge(parts, {}).tree)
    assert found == {f"c{node}": f"c{over}" if over >= 0 else None for node, over in enumerate(parent)}


def _in_order(rows: list[tuple[int, int]]) -> WordTree:
    """The rows as a tree file wants them, level by level."""
    order = [-1]
    for over in order:
        order += [node for node, above in rows if above == over]
    above = dict(rows)
    return WordTree.parse([f"c{node} {order.index(above[node]) - 1}" for node in order[1:]])
