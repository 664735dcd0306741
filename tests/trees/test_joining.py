"""Names joined to nodes, and what a person chose."""

from __future__ import annotations

from pathlib import Path

import pytest

from lookonce.darknet.lists import read_map, read_names
from lookonce.errors import DataError
from lookonce.trees import (
    Concepts,
    Lexicon,
    complaints,
    join,
    names_of,
    read_choices,
    read_tree,
    write_choices,
)
from lookonce.wordtree import WordTree

TREE = WordTree.parse(
    [
        "n1 -1 thing", "n2 0 bird", "n3 0 machine", "n4 1 crane", "n5 1 wading_bird", "n6 2 crane", "n7 2 dining table",
        "n8 2 television monitor", "n9 2 strawberry",
    ]
)  # fmt: skip
# More words for the nodes, as WordNet has them. The commonest sense of sink, n99, is no node.
CONCEPTS = Concepts(
    Path("words"),
    ("n99", *TREE.ids),
    ("sink", *TREE.names),
    ((),) * 10,
    {"telly": [8], "tv monitor": [8], "sink": [0, 4], "aircraft": [3, 4], "wading bird": [0, 5]},
)
PLAIN, WORDS = Lexicon.of_tree(TREE), Lexicon.of_tree(TREE, CONCEPTS)


@pytest.mark.parametrize(
    ("name", "how", "node"),
    [
        ("n7", "id", 6),
        ("n7\tdining table, board", "id", 6),
        ("Dining_Table", "name", 6),
        ("dining-table", "name", 6),
        ("wading bird", "name", 4),
        ("WADING  BIRD", "name", 4),
        ("eating place, dining table", "name", 6),
        ("diningtable", "nearly", 6),
        ("dining tables", "nearly", 6),
        ("Strawberries", "nearly", 8),
        ("birds", "nearly", 1),
        ("tvmonitor", "", -1),
        ("telly", "", -1),
        ("crane", "", -1),
        ("cranes", "", -1),
        ("", "", -1),
        ("n77", "", -1),
    ],
)
def test_a_name_is_found_by_id_then_by_name_then_nearly(name: str, how: str, node: int) -> None:
    found = join([name], PLAIN)
    assert (found.how, found.numbers) == ((how,), (node,))


def test_other_words_of_a_source_are_found_too() -> None:
    found = join(["telly", "tvmonitor", "dining table", "bird"], WORDS)
    assert found.how == ("word", "nearly", "name", "name")
    assert found.numbers == (7, 7, 6, 1)
    assert found.is_whole


def test_several_nodes_are_for_a_person_to_choose_from() -> None:
    found = join(["bird", "crane", "cranes", "unicorn"], PLAIN)
    assert found.numbers == (1, -1, -1, -1)
    assert {place: list(nodes) for place, nodes in found.open.items()} == {1: [3, 5], 2: [3, 5]}
    assert found.missing == (3,)
    assert not found.is_whole
    assert join(["crane"], PLAIN, commonest=True).numbers == (3,)


def test_a_word_whose_commonest_sense_is_no_node_is_asked_about() -> None:
    """A list with `sink` means the basin, n99, which the tree has not, and hardly the other."""
    found = join(["sink", "aircraft", "wading bird"], WORDS)
    assert found.numbers == (-1, -1, -1)
    assert found.open == {0: (3,), 1: (2, 3), 2: (4,)}


def test_choices_go_before_everything() -> None:
    found = join(["crane", "bird", "n4"], PLAIN, {"crane": "n6", "bird": "n1"})
    assert found.numbers == (5, 0, 3)
    assert found.how == ("choice", "choice", "id")
    with pytest.raises(DataError, match="crane = n66: there is no such id, did you mean n6"):
        join(["crane"], PLAIN, {"crane": "n66"})


def test_complaints_say_what_there_is_and_what_comes_near() -> None:
    assert complaints(join(["crane", "machin", "zzz"], PLAIN), PLAIN) == [
        "missing: machin, did you mean machine?",
        "missing: zzz",
        "ambiguous: crane may be",
        "  n4 crane, a kind of bird",
        "  n6 crane, a kind of machine",
    ]


# ---------------------------------------------------------------------- choices
def test_choices_are_proposed_once_and_read_back_when_the_mark_is_taken_away(tmp_path: Path) -> None:
    path = tmp_path / "my.choices"
    found = join(["crane", "bird", "cranes"], PLAIN)
    assert write_choices(path, found, PLAIN) == 2
    assert read_choices(path) == {}
    text = path.read_text()
    lines = ["", "# crane = n4  # crane, a kind of bird", "# crane = n6  # crane, a kind of machine"]
    assert text.splitlines()[1:4] == lines
    path.write_text(text.replace("# crane = n6 ", "crane = n6 ") + "mine = n1   # a remark\n")
    assert read_choices(path) == {"crane": "n6", "mine": "n1"}
    again = join(["crane", "bird", "cranes"], PLAIN, read_choices(path))
    assert again.numbers == (5, 1, -1)
    before = path.read_text()
    assert write_choices(path, again, PLAIN) == 0
    assert path.read_text() == before                       # what stands there stays as it is
    assert write_choices(path, join(["Crane"], PLAIN), PLAIN) == 1
    assert path.read_text().startswith(before)


def test_a_name_may_hold_blanks_and_equals_signs(tmp_path: Path) -> None:
    (tmp_path / "c").write_text("\n# nothing\nx = y z = n4\n  a b=n6\n")
    assert read_choices(tmp_path / "c") == {"x = y z": "n4", "a b": "n6"}
    assert read_choices(tmp_path / "not there") == {}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("crane n4\n", [":1:", "not name = id"]),
        ("\ncrane = n4 n5\n", [":2:"]),
        ("= n4\n", [":1:"]),
        ("crane =\n", [":1:"]),
        ("a = n4\nb = n5\na = n6\n", [":3:", "a = n6", "n4"]),
    ],
)
def test_a_line_that_is_no_choice_is_named(tmp_path: Path, text: str, words: list[str]) -> None:
    (tmp_path / "my.choices").write_text(text)
    with pytest.raises(DataError) as refused:
        read_choices(tmp_path / "my.choices")
    assert all(word in str(refused.value) for word in ["my.choices", *words]), refused.value


# ---------------------------------------------------------------------- where names come from
def test_names_are_those_of_a_list_or_of_a_dataset(tmp_path: Path) -> None:
    for name in ("a.names", "a.labels", "a.txt", "a.list"):
        (tmp_path / name).write_text("dog\nred fox\n")
        assert names_of(tmp_path / name) == ("dog", "red fox")
    for class_name in ("n1", "n2"):
        (tmp_path / "folders" / class_name).mkdir(parents=True)
        (tmp_path / "folders" / class_name / "x.jpg").write_bytes(b"")
    assert names_of(tmp_path / "folders") == ("n1", "n2")
    (tmp_path / "pictures.txt").write_text("images/a.jpg\n")
    with pytest.raises(DataError, match="pictures"):                    # a list of pictures, which are not there
        names_of(tmp_path / "pictures.txt")


@pytest.mark.shared
@pytest.mark.parametrize("source", ["words.txt", "train.zip", "val.zip"])
def test_all_classes_of_tiny_imagenet_are_nodes_of_the_tree_of_9000(shared: Path, source: str) -> None:
    tree = read_tree(shared / "data/lists/9k.tree")
    names = names_of(shared / "data/tiny-imagenet" / source)
    found = join(names, Lexicon.of_tree(tree))
    assert len(names) == 200
    assert set(found.how) == {"id"}
    assert [tree.ids[node] for node in found.numbers] == [name.split("\t")[0] for name in names]


@pytest.mark.shared
def test_coco_is_joined_as_in_darknets_map_where_names_alone_can_tell(shared: Path) -> None:
    """Darknet's map was made by hand. A third of COCO's words mean several nodes, or are other words than WordNet's."""
    lists = shared / "data/lists"
    tree = read_tree(lists / "9k.tree")
    want = read_map(lists / "coco9k.map", len(tree))
    found = join(read_names(lists / "coco.names"), Lexicon.of_tree(tree))
    same = sum(ours == theirs for ours, theirs in zip(found.numbers, want, strict=True))
    other = {
        name: tree.names[theirs]
        for name, ours, theirs in zip(found.names, found.numbers, want, strict=True)
        if ours not in (-1, theirs)
    }
    assert (same, len(found.open), len(found.missing)) == (41, 17, 16)
    assert other == {
        "boat": "vessel", "tie": "necktie", "kite": "sport kite", "fork": "tablefork", "keyboard": "computer keyboard",
        "clock": "timepiece",
    }  # fmt: skip
    assert sum(want[place] in numbers for place, numbers in found.open.items()) == 14
