"""Graphs from tables of pairs and from Open Images' hierarchy."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lookonce.errors import DataError
from lookonce.trees import build, read_openimages, read_pairs


def pairs(tmp_path: Path, text: str) -> Path:
    (tmp_path / "kinds.csv").write_text(text)
    return tmp_path / "kinds.csv"


@pytest.mark.parametrize("head", ["", "child,parent\n", "Child, Parent\n", "\ufeffchild,parent\n"])
def test_pairs_are_read_with_or_without_a_head(tmp_path: Path, head: str) -> None:
    concepts = read_pairs(pairs(tmp_path, head + "dog,animal\n\ncat,animal\ndog,pet\nanimal,\n"))
    assert concepts.ids == ("dog", "animal", "cat", "pet")
    assert concepts.parents == ((1, 3), (), (1,), ())
    assert concepts.senses == {"dog": [0], "animal": [1], "cat": [2], "pet": [3]}


def test_ids_are_one_word_and_names_are_kept(tmp_path: Path) -> None:
    """A tree file has a blank between its columns. A third column is the child's name, the first one that is given."""
    concepts = read_pairs(pairs(tmp_path, 'Norfolk terrier,terrier\n"n1",terrier,"red, wire-haired"\nn1,dog,other\n'))
    assert concepts.ids == ("Norfolk_terrier", "terrier", "n1", "dog")
    assert concepts.names == ("Norfolk terrier", "terrier", "red, wire-haired", "dog")


def test_a_pair_that_is_said_twice_counts_once(tmp_path: Path) -> None:
    assert read_pairs(pairs(tmp_path, "a,b\na,b\n")).parents == ((1,), ())


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["no concept"]),
        ("child,parent\n", ["no concept"]),
        ("a,b\nc\n", [":2:", "c is not child,parent"]),
        ("a,b\nc,d,e,f\n", [":2:", "not child,parent"]),
        ("a,b\n,d\n", [":2:", "not child,parent"]),
        ("a,b\nc, c\n", [":2:", "its own parent"]),
        ("a,b\n" + "x" * 200_000 + ",y\n", [":2:", "field larger"]),
    ],
)
def test_a_row_that_is_no_pair_is_named(tmp_path: Path, text: str, words: list[str]) -> None:
    with pytest.raises(DataError) as refused:
        read_pairs(pairs(tmp_path, text))
    assert all(word in str(refused.value) for word in ["kinds.csv", *words]), refused.value
    assert len(str(refused.value)) < 300


HIERARCHY = {
    "LabelName": "/m/e",
    "Subcategory": [
        {"LabelName": "/m/animal", "Subcategory": [{"LabelName": "/m/dog"}, {"LabelName": "/m/fish"}]},
        {"LabelName": "/m/food", "Subcategory": [{"LabelName": "/m/fish"}], "Part": [{"LabelName": "/m/bone"}]},
    ],
}


def test_the_hierarchy_is_read_in_its_order_and_a_part_is_no_kind(tmp_path: Path) -> None:
    path, names = tmp_path / "hierarchy.json", tmp_path / "names.csv"
    path.write_text(json.dumps(HIERARCHY))
    names.write_text("LabelName,DisplayName\n/m/dog,Dog\n/m/fish,Fish\n")
    concepts = read_openimages(path, names)
    assert concepts.ids == ("/m/e", "/m/animal", "/m/dog", "/m/fish", "/m/food")
    assert concepts.names == ("/m/e", "/m/animal", "Dog", "Fish", "/m/food")
    assert concepts.parents == ((), (0,), (1,), (1, 4), (0,))


@pytest.mark.parametrize(
    "document", ["[]", "{}", '{"LabelName": 3}', '{"LabelName": "a", "Subcategory": ["b"]}', '{"LabelName": " "}', "{"]
)
def test_what_is_no_hierarchy_is_refused(tmp_path: Path, document: str) -> None:
    (tmp_path / "hierarchy.json").write_text(document)
    with pytest.raises(DataError, match=r"hierarchy\.json"):
        read_openimages(tmp_path / "hierarchy.json")


@pytest.mark.shared
def test_every_label_of_open_images_is_in_the_tree(shared: Path) -> None:
    path = shared / "data/lists/bbox_labels_600_hierarchy.json"
    concepts = read_openimages(path)
    labels = {word for word in path.read_text().split('"') if word.startswith("/m/")}
    parts: set[str] = set()

    def collect(node: dict[str, list[dict[str, object]]]) -> None:       # labels that stand under Part alone
        for part in node.get("Part", []):
            parts.add(str(part["LabelName"]))
        for child in node.get("Subcategory", []):
            collect(child)                                               # type: ignore[arg-type]

    collect(json.loads(path.read_text()))
    assert set(concepts.ids) | parts == labels
    tree = build(concepts, range(len(concepts))).tree
    assert set(tree.ids) == set(concepts.ids)
