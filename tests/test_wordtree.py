"""WordTree against loops over nodes that a child can read, on small random trees."""

from __future__ import annotations

import math
import random
import time
from pathlib import Path

import numpy as np
import pytest

from lookonce import zoo
from lookonce.darknet.lists import read_map
from lookonce.errors import DataError
from lookonce.wordtree import WordTree

TOY = ["root -1", "rock -1", "animal 0", "plant 0", "dog 2", "cat 2", "pebble 1"]


def random_lines(seed: int) -> list[str]:
    """A tree of up to 60 nodes: some node without children gets up to 6, again and again."""
    rng = random.Random(seed)
    parents = [-1] * rng.randint(1, 5)
    barren = list(range(len(parents)))
    for _ in range(rng.randint(0, 12)):
        owner = barren.pop(rng.randrange(len(barren)))
        children = rng.randint(1, 6)
        barren += range(len(parents), len(parents) + children)
        parents += [owner] * children
    return [f"n{number:08d} {parent}" + f" name {number}" * (number % 2) for number, parent in enumerate(parents)]


TREES = {seed: WordTree.parse(random_lines(seed)) for seed in range(12)}
every_tree = pytest.mark.parametrize("tree", TREES.values(), ids=TREES)


# ---------------------------------------------------------------------- loops
def children_of(tree: WordTree, node: int) -> list[int]:
    return [child for child in range(len(tree.ids)) if int(tree.parent[child]) == node]


def conditional(tree: WordTree, logits: np.ndarray) -> list[float]:
    """Each node's e^x over the sum of its siblings' e^x."""
    values = [math.exp(float(x)) for x in logits]
    return [
        values[node] / sum(values[other] for other in children_of(tree, int(tree.parent[node])))
        for node in range(len(tree.ids))
    ]


def absolute(tree: WordTree, logits: np.ndarray) -> list[float]:
    product = conditional(tree, logits)
    for node in range(len(product)):                    # parents stand first
        if tree.parent[node] >= 0:
            product[node] *= product[int(tree.parent[node])]
    return product


def walk(tree: WordTree, logits: np.ndarray, threshold: float) -> int:
    """Down to the likeliest child for as long as its own probability passes; the likeliest root in any case."""
    own = absolute(tree, logits)
    node = -1
    while below := children_of(tree, node):
        best = max(below, key=lambda child: own[child])
        if node >= 0 and own[best] <= threshold:
            return node
        node = best
        if own[best] <= threshold:
            return node
    return node


def darknets_walk(tree: WordTree, logits: np.ndarray, threshold: float) -> int:
    """tree.c, hierarchy_top_prediction, as it stands: `p` multiplies values that are already products."""
    predictions = absolute(tree, logits)
    group = 0
    p = 1.0
    while True:
        start, size = int(tree.starts[group]), int(tree.sizes[group])
        highest, at = 0.0, 0
        for i in range(start, start + size):
            if predictions[i] > highest:
                highest, at = predictions[i], i
        if p * highest > threshold:
            p = p * highest
            group = int(tree.children[at])
            if tree.children[at] < 0:
                return at
        elif group == 0:
            return at
        else:
            return int(tree.parent[start])


# ---------------------------------------------------------------------- files
@every_tree
def test_a_tree_written_as_lines_is_the_same_tree(tree: WordTree) -> None:
    again = WordTree.parse(tree.to_lines())
    assert (again.ids, again.names) == (tree.ids, tree.names)
    assert np.array_equal(again.parent, tree.parent)
    assert again.to_lines() == tree.to_lines()


@pytest.mark.parametrize("seed", TREES)
def test_the_lines_of_a_tree_come_back(seed: int) -> None:
    assert TREES[seed].to_lines() == random_lines(seed)


def test_two_columns_are_the_tree_and_what_follows_is_a_name() -> None:
    """Darknet reads `%s %d` and leaves the rest of a line alone."""
    tree = WordTree.parse(["a -1", "b\t-1  ", "c   0 a  long\tname ", "d 0 5"])
    assert tree.ids == ("a", "b", "c", "d")
    assert tree.names == ("a", "b", "a  long\tname", "5")
    assert tree.parent.tolist() == [-1, -1, 0, 0]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
@pytest.mark.parametrize("last", [True, False])
def test_a_tree_file_reads_the_same_whatever_its_line_ends(tmp_path: Path, end: str, mark: str, last: bool) -> None:
    path = tmp_path / "my.tree"
    path.write_bytes((mark + end.join(TOY) + end * last).encode())
    assert WordTree.read(path).to_lines() == TOY


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([], ["no node"]),
        (["a 0"], [":1:", "parent 0", "before its child"]),
        (["a -1", "b 1"], [":2:", "parent 1", "before its child 1"]),               # its own parent
        (["a -1", "b 2", "c 1"], [":2:", "parent 2", "before its child"]),          # a circle
        (["a -1", "b 7"], [":2:", "parent 7"]),
        (["a -1", "b 0", "c 1", "d 0"], [":4:", "children of node 0", "together"]),
        (["a -1", "b 0", "c -1"], [":3:", "together"]),                             # roots are siblings too
        (["a -1", "", "b 0"], [":2:", "`id parent`"]),
        (["a -1", "   "], [":2:", "`id parent`"]),
        (["a -1", "b"], [":2:", "'b'"]),
        (["a -1", " b 0"], [":2:", "`id parent`"]),
        (["a -2"], [":1:", "-2"]),
        (["a -1", "b 0.5"], [":2:", "0.5"]),
        (["a -1", "b x"], [":2:", "b x"]),
        (["a -1", "b ٠"], [":2:"]),
        (["a -1", "b " + "0" * 5000], [":2:"]),
        (["a -1", "b " + "9" * 5000], [":2:"]),
        (["x" * 100_000], [":1:"]),
        (["a -1\nb 0"], [":1:"]),
        (["a -1", "b 0 x\ny", "c 0"], [":2:"]),
        (["a -1", "b 9", "c"], [":2:", "parent 9"]),                                # the first of two faults
        (["a -1", "c", "b 9"], [":2:", "'c'"]),
        (["a -1", "b 0", "c 1", "d 0", "e 9"], [":4:", "together"]),
    ],
)
def test_a_fault_is_named_with_its_line(lines: list[str], words: list[str]) -> None:
    with pytest.raises(DataError) as refused:
        WordTree.parse(lines, "my.tree")
    assert all(word in str(refused.value) for word in ["my.tree", *words]), refused.value
    assert len(str(refused.value)) < 200


@pytest.mark.parametrize("data", [b"a -1\ncaf\xe9 0\n", b"\xff\xfea\0", b""])
def test_a_file_that_is_no_tree_is_refused_by_name(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "my.tree").write_bytes(data)
    with pytest.raises(DataError, match=r"my\.tree"):
        WordTree.read(tmp_path / "my.tree")


def test_a_long_line_is_read_in_time_that_grows_with_it_only() -> None:
    """32,000 blanks inside a name; a pattern that tries every end for every blank needs a thousand million steps."""
    begun = time.process_time()
    tree = WordTree.parse(["a -1 x" + " " * 32_000 + "y"])
    assert time.process_time() - begun < 0.2
    assert len(tree.names[0]) == 32_002


def test_a_million_nodes_are_read_in_two_seconds() -> None:
    """Seconds of the processor, so that others at work do not count."""
    count = 1_000_000
    parent = np.minimum(np.arange(count) // 5 - 1, np.arange(count) - 1)
    lines = [f"n{node:08} {over} name {node}" for node, over in enumerate(parent.tolist())]
    begun = time.process_time()
    tree = WordTree.parse(lines)
    assert time.process_time() - begun < 2
    assert (tree.ids[-1], tree.names[-1], tree.parent[-1]) == ("n00999999", "name 999999", 199_998)
    assert np.array_equal(tree.parent, parent)


def test_a_line_of_a_hundred_thousand_nodes_has_its_depths_soon() -> None:
    tree = WordTree.parse([f"n{node} {node - 1}" for node in range(100_000)])
    begun = time.process_time()
    assert np.array_equal(tree.depth, np.arange(1, 100_001))
    assert time.process_time() - begun < 1


# ---------------------------------------------------------------------- shape
def test_a_small_tree_by_hand() -> None:
    tree = WordTree.parse(TOY)
    assert len(tree) == 7
    assert tree.starts.tolist() == [0, 2, 4, 6]
    assert tree.sizes.tolist() == [2, 2, 2, 1]
    assert tree.children.tolist() == [1, 3, 2, -1, -1, -1, -1]
    assert tree.leaf.tolist() == [False, False, False, True, True, True, True]
    assert tree.depth.tolist() == [1, 1, 2, 2, 3, 3, 2]
    assert tree.path(5) == [0, 2, 5]
    assert tree.path(1) == [1]


@every_tree
def test_sets_leaves_depths_and_paths_are_those_of_the_parents(tree: WordTree) -> None:
    for node in range(len(tree)):
        below = children_of(tree, node)
        assert bool(tree.leaf[node]) == (not below)
        if below:
            group = int(tree.children[node])
            assert below == list(range(int(tree.starts[group]), int(tree.starts[group] + tree.sizes[group])))
        way = [node]
        while tree.parent[way[0]] >= 0:
            way.insert(0, int(tree.parent[way[0]]))
        assert tree.path(node) == way
        assert tree.depth[node] == len(way)
    assert tree.sizes.sum() == len(tree)
    assert children_of(tree, -1) == list(range(int(tree.sizes[0])))


# ---------------------------------------------------------------------- probabilities
@every_tree
def test_probabilities_are_those_of_a_loop_over_nodes(tree: WordTree) -> None:
    logits = np.random.default_rng(len(tree)).normal(0, 3, (4, len(tree))).astype(np.float32)
    given = tree.softmax(logits)
    own = tree.absolute(given)
    for row in range(4):
        assert np.allclose(given[row], conditional(tree, logits[row]), rtol=1e-5)
        assert np.allclose(own[row], absolute(tree, logits[row]), rtol=1e-5)


@every_tree
def test_the_leaves_share_out_one(tree: WordTree) -> None:
    logits = np.random.default_rng(len(tree)).normal(0, 2, (3, len(tree))).astype(np.float32)
    own = tree.absolute(tree.softmax(logits))
    assert np.allclose(own[:, tree.leaf].sum(axis=1), 1, atol=1e-5)
    assert np.allclose(np.add.reduceat(tree.softmax(logits), tree.starts, axis=1), 1, atol=1e-5)


def test_logits_of_any_size_give_probabilities() -> None:
    tree = WordTree.parse(TOY)
    logits = np.array([[1e30, -1e30, 300, 301, -1e38, 1e38, 7]], np.float32)
    given = tree.softmax(logits)
    assert np.allclose(given[0, [0, 1, 4, 5, 6]], [1, 0, 0, 1, 1])
    assert given[0, 2] == pytest.approx(1 / (1 + math.e))
    assert tree.descend(logits, 0.5)[0].tolist() == [3]


def test_no_rows_are_no_answers() -> None:
    tree = WordTree.parse(TOY)
    none = np.zeros((0, 7), np.float32)
    assert tree.softmax(none).shape == (0, 7)
    assert tree.absolute(none).shape == (0, 7)
    assert [len(answer) for answer in tree.descend(none, 0.5)] == [0, 0]


# ---------------------------------------------------------------------- down the tree
@every_tree
@pytest.mark.parametrize("threshold", [0.0, 0.05, 0.3, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("compat", [False, True], ids=["own", "darknet"])
def test_the_way_down_is_that_of_a_loop(tree: WordTree, threshold: float, compat: bool) -> None:
    rng = np.random.default_rng(len(tree))
    logits = rng.normal(0, 4, (40, len(tree))).astype(np.float32)
    nodes, own = tree.descend(logits, threshold, compat=compat)
    for row in range(40):
        assert nodes[row] == (darknets_walk if compat else walk)(tree, logits[row], threshold)
        assert own[row] == pytest.approx(absolute(tree, logits[row])[int(nodes[row])], rel=1e-4)


@every_tree
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 1.0])
@pytest.mark.parametrize("deepest", [None, 1, 2])
def test_by_each_nodes_own_probability_the_way_down_is_the_same(
    tree: WordTree, threshold: float, deepest: int | None
) -> None:
    """The likeliest child given its parent is the likeliest in itself."""
    logits = np.random.default_rng(len(tree)).normal(0, 4, (40, len(tree))).astype(np.float32)
    own = tree.absolute(tree.softmax(logits))
    expected, _ = tree.descend(logits, threshold, deepest=deepest)
    assert tree.walk(own, threshold, deepest=deepest).tolist() == expected.tolist()
    assert tree.walk(own[:0], threshold).tolist() == []


@every_tree
def test_of_nodes_judged_by_themselves_none_is_likelier_than_those_above(tree: WordTree) -> None:
    given = np.random.default_rng(len(tree)).uniform(0, 1, (5, len(tree))).astype(np.float32)
    least = tree.least(given)
    for row in range(5):
        for node in range(len(tree)):
            assert least[row, node] == min(given[row, above] for above in tree.path(node))


def test_darknets_way_down_ends_sooner_than_probability_says() -> None:
    """Three steps of .9: the last node's own probability is .729, Darknet's product .9 x .81 x .729 = .53."""
    tree = WordTree.parse(["a -1", "b -1", "c 0", "d 0", "e 2", "f 2"])
    logits = np.log(np.array([[0.9, 0.1] * 3], np.float32))
    assert tree.absolute(tree.softmax(logits))[0] == pytest.approx([0.9, 0.1, 0.81, 0.09, 0.729, 0.081], rel=1e-5)
    for threshold, here, darknet in ((0.5, 4, 4), (0.6, 4, 2), (0.72, 4, 2), (0.73, 2, 0), (0.8, 2, 0), (0.85, 0, 0)):
        assert tree.descend(logits, threshold)[0].tolist() == [here]
        assert tree.descend(logits, threshold, compat=True)[0].tolist() == [darknet]


def test_a_node_is_entered_above_the_threshold_not_at_it_and_a_root_in_any_case() -> None:
    tree = WordTree.parse(["a -1", "b 0", "c 0"])
    nodes, own = tree.descend(np.zeros((1, 3), np.float32), 0.5)
    assert (nodes.tolist(), own.tolist()) == ([0], [1])            # b and c have exactly .5
    nodes, own = tree.descend(np.zeros((1, 3), np.float32), 0.499)
    assert (nodes.tolist(), own.tolist()) == ([1], [0.5])          # of equals the first
    nodes, _ = WordTree.parse(["a -1", "b -1", "c 1"]).descend(np.array([[0, 1, 0]], np.float32), 0.99)
    assert nodes.tolist() == [1]


@every_tree
@pytest.mark.parametrize("deepest", [1, 2, 3, 9])
def test_the_way_down_may_end_at_a_depth(tree: WordTree, deepest: int) -> None:
    logits = np.random.default_rng(len(tree)).normal(0, 4, (20, len(tree))).astype(np.float32)
    whole, _ = tree.descend(logits, 0.05)
    nodes, own = tree.descend(logits, 0.05, deepest=deepest)
    for row in range(20):
        way = tree.path(int(whole[row]))
        assert nodes[row] == way[:deepest][-1]
        assert own[row] == pytest.approx(absolute(tree, logits[row])[int(nodes[row])], rel=1e-4)


# ---------------------------------------------------------------------- ancestors and chosen classes
@every_tree
def test_ancestors_are_the_nodes_of_the_path(tree: WordTree) -> None:
    nodes = np.arange(len(tree))[::-1].copy()
    mask = tree.ancestors(nodes)
    for row, node in enumerate(nodes.tolist()):
        assert np.flatnonzero(mask[row]).tolist() == sorted(tree.path(node))
    assert tree.ancestors(np.zeros(0, np.int64)).shape == (0, len(tree))


@every_tree
def test_the_ancestor_at_a_depth_is_that_place_of_the_path(tree: WordTree) -> None:
    nodes = np.append(np.arange(len(tree)), -1)
    for depth in (1, 2, 3, 50):
        found = tree.at_depth(nodes, depth)
        assert found[:-1].tolist() == [tree.path(node)[:depth][-1] for node in range(len(tree))]
        assert found[-1] == -1


def test_a_node_is_found_by_id_first_and_by_name_whatever_its_case_and_blanks() -> None:
    tree = WordTree.parse(["n1 -1 Red_Fox", "n2 -1 red  fox", "fox -1 n1", "b -1"])
    assert tree.find("n1") == (0,)
    assert tree.find("RED-FOX") == (0, 1)
    assert tree.find("fox") == (2,)
    assert tree.find("B") == (3,)
    assert tree.find("wolf") == ()


CRANES = WordTree.parse(
    [
        "n0 -1 bird", "n1 -1 tool", "n2 0 crane", "n3 0 owl", "n4 1 crane", "n5 1 saw", "n6 4 crane", "n7 4 derrick",
        "n8 2 pug",
    ]
)  # fmt: skip


def test_the_probability_of_a_name_is_the_sum_over_its_nodes_each_counted_once() -> None:
    """n6 is a crane under a crane: what it has is in n4 already. crane is .6 x .5 + .4 x .25, of which n6 is a part."""
    given = np.array([[0.6, 0.4, 0.5, 0.5, 0.25, 0.75, 0.9, 0.1, 1]], np.float32)
    chosen = CRANES.subset(["crane", "n3", "Tool"])
    assert [nodes.tolist() for nodes in chosen.nodes] == [[2, 4], [3], [1]]
    assert chosen.probability(CRANES.absolute(given))[0] == pytest.approx([0.4, 0.3, 0.4])


def test_a_node_is_one_of_the_nearest_chosen_class_above_it() -> None:
    chosen = CRANES.subset(["bird", "crane"])
    assert chosen.own.tolist() == [0, -1, 1, 0, 1, -1, 1, 1, 1]
    assert chosen.of(np.array([8, 3, 5, -1, 7])).tolist() == [1, 0, -1, -1, 1]
    assert chosen.of(np.zeros(0, np.int64)).tolist() == []


@every_tree
def test_chosen_classes_are_those_of_loops(tree: WordTree) -> None:
    rng = random.Random(len(tree))
    picked = rng.sample(range(len(tree)), rng.randint(0, len(tree)))
    chosen = tree.subset([tree.ids[node] for node in picked])
    logits = np.random.default_rng(len(tree)).normal(0, 2, (3, len(tree))).astype(np.float32)
    probability = chosen.probability(tree.absolute(tree.softmax(logits)))
    assert probability.shape == (3, len(picked))
    for row in range(3):
        assert np.allclose(probability[row], [absolute(tree, logits[row])[node] for node in picked], rtol=1e-4)
    for node in range(len(tree)):
        above = [each for each in tree.path(node) if each in picked]
        assert chosen.own[node] == (picked.index(above[-1]) if above else -1)


@pytest.mark.parametrize(
    ("names", "words"), [(["bird", "owll"], ["owll", "did you mean owl?"]), (["crane", "bird", "n4"], ["n4 and crane"])]
)
def test_a_name_that_is_nowhere_or_chosen_twice_is_refused(names: list[str], words: list[str]) -> None:
    with pytest.raises(DataError) as refused:
        CRANES.subset(names)
    assert all(word in str(refused.value) for word in words)


# ---------------------------------------------------------------------- YOLO9000's tree
@pytest.fixture(scope="session")
def lists(shared: Path) -> Path:
    return shared / "data" / "lists"


@pytest.mark.shared
def test_the_tree_of_9000_classes_has_the_shape_it_was_published_with(lists: Path) -> None:
    """The thesis speaks of 9,418 classes; the other counts were made over the lines of the file."""
    tree = WordTree.read(lists / "9k.tree")
    assert len(tree) == 9418
    assert len(tree.starts) == 1846
    assert tree.leaf.sum() == 7573
    assert tree.sizes[0] == 4
    assert tree.depth.max() - 1 == 16               # steps down from a root
    assert tree.sizes.max() == 149
    assert (tree.sizes == 1).sum() == 46
    assert [tree.to_lines()[row] for row in (0, -1)] == [
        (lists / "9k.tree").read_text().splitlines()[row] for row in (0, -1)
    ]


@pytest.mark.shared
def test_the_tree_in_the_zoo_is_darknets_with_its_names(lists: Path) -> None:
    ours, theirs = WordTree.read(zoo.bundled_files()["9k.tree"]), WordTree.read(lists / "9k.tree")
    assert ours.ids == theirs.ids
    assert np.array_equal(ours.parent, theirs.parent)
    assert ours.names == tuple(line.strip() for line in (lists / "9k.names").read_text().splitlines())


@pytest.mark.shared
@pytest.mark.parametrize(("name", "leaves"), [("coco9k.map", 36), ("inet9k.map", 129)])
def test_as_many_classes_of_a_dataset_are_leaves_as_darknets_maps_say(lists: Path, name: str, leaves: int) -> None:
    tree = WordTree.read(lists / "9k.tree")
    assert tree.leaf[list(read_map(lists / name, len(tree)))].sum() == leaves


@pytest.mark.shared
def test_the_tree_of_9000_classes_is_written_as_it_was_byte_for_byte(lists: Path) -> None:
    lines = WordTree.read(lists / "9k.tree").to_lines()
    assert "".join(f"{line}\n" for line in lines).encode() == (lists / "9k.tree").read_bytes()


@pytest.mark.shared
def test_probabilities_of_9000_classes_are_those_of_a_product_over_each_path(lists: Path) -> None:
    """All 9,418 nodes, each by its own way down from a root."""
    tree = WordTree.read(lists / "9k.tree")
    given = tree.softmax(np.random.default_rng(0).normal(0, 3, (2, len(tree))).astype(np.float32))
    own = tree.absolute(given)
    parent = tree.parent.tolist()
    for row, values in enumerate(given.astype(float).tolist()):
        for node in range(len(tree)):
            product, at = 1.0, node
            while at >= 0:
                product *= values[at]
                at = parent[at]
            assert abs(own[row, node] - product) < 1e-6
