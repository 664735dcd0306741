"""Which nodes a dataset judges, and the figures of groups."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from lookonce.errors import DataError
from lookonce.exam.choosing import boxed_in, by_boxes, chosen_classes
from lookonce.exam.judgement import Judgement, with_groups
from lookonce.report.contents import ClassRow, Curve, Figure
from lookonce.wordtree import WordTree

IDS = ("n1", "n2", "n3", "n4", "n5", "n6", "n7")
NAMES = ("animal", "vehicle", "dog", "crane", "crane", "airplane", "terrier")
TREE = WordTree(IDS, NAMES, np.array([-1, -1, 0, 0, 1, 1, 2]))


def test_classes_are_found_by_id_name_and_synonym_and_the_others_are_left_out() -> None:
    """A name that several nodes have is all of them; VOC's aeroplane is an airplane."""
    found = chosen_classes(TREE, ("n3", "aeroplane", "house", "Crane"))
    assert found.names == ("n3", "aeroplane", "Crane")
    assert [nodes.tolist() for nodes in found.nodes] == [[2], [5], [3, 4]]


def test_a_file_goes_before_names(tmp_path: Path) -> None:
    file = tmp_path / "my.map"
    file.write_text("n5 = Crane\nn1 = beast\n")
    found = chosen_classes(TREE, ("beast", "Crane"), file)
    assert [nodes.tolist() for nodes in found.nodes] == [[0], [4]]


def test_a_dataset_without_a_node_is_refused() -> None:
    with pytest.raises(DataError, match=r"no class of the dataset \(house, ...\) is a node of the model's tree"):
        chosen_classes(TREE, ("house",))


def test_classes_are_grouped_by_the_boxes_that_they_had() -> None:
    """Boxes of dogs: an animal had some, through its dogs; a terrier only as a dog; cranes and vehicles never."""
    chosen = TREE.subset(("animal", "dog", "terrier", "vehicle", "crane"))
    assert by_boxes(TREE, chosen, ("n3",)) == {
        "had boxes": ("animal", "dog"),
        "boxes only above": ("terrier",),
        "never had boxes": ("vehicle", "crane"),
    }
    assert by_boxes(TREE, chosen, ()) == {}


@pytest.mark.parametrize("card", [{}, {"trained": None}, {"trained": {"boxes": None}}, {"trained": ["boxes"]}])
def test_a_card_that_says_nothing_of_boxes_has_none(card: dict[str, object]) -> None:
    assert boxed_in(card) == ()
    assert boxed_in({"trained": {"boxes": ["n3", 7]}}) == ("n3", "7")


def test_a_group_has_the_mean_of_its_classes_that_have_objects() -> None:
    rows = tuple(ClassRow(name, count, ap) for name, count, ap in (("a", 3, 0.5), ("b", 1, 0.1), ("c", 0, math.nan)))
    curve = Curve("all", np.zeros(0), np.zeros(0))
    judgement = Judgement("voc12", 0.3, (Figure("mAP", 0.3),), rows, (), curve)
    found = with_groups(judgement, {"had boxes": ("a", "b"), "never": ("b", "c"), "empty": ("c",)})
    assert [(each.name, each.value) for each in found.figures] == [
        ("mAP", 0.3), ("mAP, had boxes", pytest.approx(0.3)), ("mAP, never", pytest.approx(0.1))
    ]  # fmt: skip
