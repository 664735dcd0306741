"""One label space for what is learnt together, against nodes counted by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lookonce.data import Dataset, Item
from lookonce.errors import DataError
from lookonce.train.datasets import TrainingData
from lookonce.train.labels import parse_ratio, together
from lookonce.truth import Truth
from lookonce.wordtree import WordTree

IDS = ("n1", "n2", "n3", "n4", "n5", "n6")
CALLED = ("animal", "vehicle", "dog", "crane", "crane", "airplane")
# animal (dog, crane), vehicle (crane, airplane)
TREE = WordTree(IDS, CALLED, np.array([-1, -1, 0, 0, 1, 1]))


def item(name: str, labels: list[int], classes: tuple[int, ...] = ()) -> Item:
    truth = Truth.of(np.array(labels), xyxy=np.array([[1.0, 1.0, 9.0, 9.0]] * len(labels)), classes=classes)
    return Item(name, Path(f"{name}.png"), (10, 10), truth)


def data(names: tuple[str, ...], items: list[Item], val: bool = False) -> TrainingData:
    train = Dataset("voc", Path("set"), names, tuple(items))
    return TrainingData(train, train if val else None, names, rule="learns all")


BOXES = data(("aeroplane", "dog"), [item("1", [0, 1]), item("2", [1])], val=True)
SHOWN = data(("n4", "vehicle"), [item("3", [], (0,)), item("4", [], (1,)), item("5", [], (0,))])
CHOICES = {"aeroplane": "n6"}


def test_classes_become_nodes_and_their_words_display_names() -> None:
    """An id is no word: n4 stays a crane. What judges keeps its own names, and their nodes."""
    found = together(BOXES, SHOWN, TREE, CHOICES, (1, 3))
    assert found.names == ("animal", "vehicle", "dog", "crane", "crane", "aeroplane")
    assert found.tree is not None
    assert (found.tree.names, found.tree.ids) == (found.names, IDS)
    assert [each.truth.label.tolist() for each in found.train.items] == [[5, 2], [2], [], [], []]
    assert [each.truth.classes for each in found.train.items[2:]] == [(3,), (1,), (3,)]
    assert found.shares == ((2, 1), (3, 3))
    assert found.val is BOXES.val
    assert found.judged is not None
    assert (found.judged.names, [nodes.tolist() for nodes in found.judged.nodes]) == (("aeroplane", "dog"), [[5], [2]])
    assert found.boxed == ("n3", "n6")
    assert "2 of set and 3 of set, learnt 1:3" in found.rule


def test_without_a_tree_names_are_united_and_judged_so() -> None:
    found = together(BOXES, data(("airplane", "cat"), [item("3", [], (0,)), item("4", [], (1,))]), None, None, (4, 1))
    assert found.names == ("aeroplane", "dog", "cat")
    assert [each.truth.classes for each in found.train.items] == [(), (), (0,), (2,)]
    assert found.val is not None
    assert found.val.names == found.names
    assert found.judged is None
    assert found.boxed == ("aeroplane", "dog")


def test_one_dataset_alone_goes_down_a_tree_too() -> None:
    found = together(SHOWN, None, TREE)
    assert [each.truth.classes for each in found.train.items] == [(3,), (1,), (3,)]
    assert found.shares == ()
    assert found.boxed == ()


def test_names_that_are_no_node_or_several_are_named_with_the_way_on() -> None:
    with pytest.raises(DataError) as problem:
        together(data(("crane", "aeroplan", "dog"), [item("1", [0])]), None, TREE)
    assert str(problem.value) == (
        "set: aeroplan is no node of the tree and crane may be several; `lookonce tree map TREE --data set "
        "--choices FILE` lists what there is to choose, and --choices FILE of lines name = id says which"
    )


def test_a_choice_of_an_id_that_there_is_not_is_an_error() -> None:
    with pytest.raises(DataError, match="the choice aeroplane = n66: there is no such id, did you mean n6"):
        together(BOXES, None, TREE, {"aeroplane": "n66"})


def test_as_many_names_as_nodes_that_are_other_words_are_these_in_their_order() -> None:
    """As Darknet has it, where classes are numbers of nodes."""
    found = together(data(tuple("abcdef"), [item("1", [5])]), None, TREE)
    assert found.train.items[0].truth.label.tolist() == [5]
    assert found.names == tuple("abcdef")


def test_two_classes_that_judge_as_one_node_are_refused() -> None:
    with pytest.raises(DataError, match="are the same node of the tree, n3"):
        together(data(("dog", "hound"), [item("1", [0])], val=True), None, TREE, {"hound": "n3"})


@pytest.mark.parametrize(
    ("text", "ratio"), [("1:4", (1, 4)), ("4:1", (4, 1)), ("1.5:2", (1.5, 2)), ("500:1", (500, 1))]
)
def test_a_ratio_is_two_numbers(text: str, ratio: tuple[float, float]) -> None:
    assert parse_ratio(text) == ratio


@pytest.mark.parametrize("text", ["4", "4:", "1:0", "a:b", "1:2:3", "-1:2", "1e3:1", "501:1", "1 : 2", "²:1", ""])
def test_what_is_no_ratio_is_said_in_one_line(text: str) -> None:
    with pytest.raises(DataError, match="wanted N:M, pictures of --data to those of --also, such as 1:4"):
        parse_ratio(text)
