"""The pieces of the recipe for classes without boxes: its trees, its data, its tables."""

from __future__ import annotations

import io
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT
from PIL import Image

from lookonce import zoo
from lookonce.data import open_dataset
from lookonce.trees import read_tree

sys.path.insert(0, str(ROOT / "recipes"))
import yolo9000_small as recipe

TABBY, ORANGE = "n02123045", "n07747607"


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """Two classes of two pictures of 8 pixels, as Tiny-ImageNet's archive has them."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    for part in ("train", "val"):
        lines = []
        with zipfile.ZipFile(folder / f"{part}.zip", "w") as archive:
            for number, (wnid, name) in enumerate((wnid, name) for wnid in (TABBY, ORANGE) for name in "ab"):
                data = io.BytesIO()
                Image.fromarray(np.full((8, 8, 3), 50 * number, np.uint8)).save(data, "PNG")
                archive.writestr(f"{wnid}/{part}_{name}.png", data.getvalue())
                lines.append(f"{wnid}/{part}_{name}.png\t1\t2\t{number + 3}\t7\n")
        (folder / f"{part}_boxes.txt").write_text("".join(lines))
    return folder


def test_all_synsets_of_voc_are_in_the_tree_that_is_planted(tmp_path: Path) -> None:
    """A tabby is a cat, whose name it has from YOLO9000's tree; the 20 names have 20 nodes."""
    ids = [*recipe.CHOICES.values(), *recipe.OTHERS.values()]
    assert len({*recipe.CHOICES, *recipe.OTHERS}) == len(set(ids)) == 20
    tree = read_tree(recipe.planted(tmp_path, "both", [*ids, TABBY, ORANGE]))
    assert all(id in tree.ids for id in ids)
    way = tree.path(tree.find(TABBY)[0])
    assert tree.find("n02121620")[0] in way
    assert "cat" in [tree.names[node] for node in way]
    assert recipe.planted(tmp_path, "both", []).exists()


def test_boxes_are_those_of_the_table_or_the_whole_picture(tmp_path: Path, tiny: Path) -> None:
    real = open_dataset(recipe.with_boxes(tmp_path / "out", tiny, "val"))
    assert real.names == (TABBY, ORANGE)
    assert [item.truth.xyxy.tolist() for item in real.items] == [
        [[1, 2, number + 3, 7]] for number in range(4)
    ]  # fmt: skip
    assert [int(item.truth.label[0]) for item in real.items] == [0, 0, 1, 1]
    pasted = open_dataset(recipe.with_boxes(tmp_path / "out", tiny, "train", pasted=True))
    assert all(item.truth.xyxy.tolist() == [[0, 0, 8, 8]] for item in pasted.items)


def test_some_classes_are_folders_of_their_pictures_without_boxes(tmp_path: Path, tiny: Path) -> None:
    found = open_dataset(recipe.some_classes(tmp_path / "out", tiny, [ORANGE]) / "train")
    assert found.names == (ORANGE,)
    assert [item.truth.classes for item in found.items] == [(0,), (0,)]
    assert not any(len(item.truth) for item in found.items)


def judged(value: float) -> dict[str, Any]:
    return {"figures": {"mAP": value, "mAP, never had boxes": value / 2, "AP per image": 0.9},
            "by class": {TABBY: {"AP": value}, ORANGE: {"AP": None}}}  # fmt: skip


def test_the_tables_say_what_was_found() -> None:
    found = {
        "hierarchy": {
            "flat": {"top1": 0.25, "top5": 0.5},
            "tree": {"top1": 0.2, "top5": 0.4, "depth": [1.0, 0.6, None]},
        },
        "joint": {"joint": {"VOC": judged(0.3), "Tiny-ImageNet": judged(0.1)}},
        "forgetting": {"before": judged(0.36), "after": judged(0.35), "new": judged(0.05)},
    }
    text = recipe.tables(json.loads(json.dumps(found)), read_tree(zoo.bundled_files()["9k.tree"]))
    for line in ("tree         top-1 0.200  top-5 0.400", "by depth 1.000 0.600",
                 "joint        Tiny-ImageNet  mAP 0.1000  mAP, never had boxes 0.0500",
                 "best  tabby 0.100, orange -", "after        mAP 0.3500", "tabby 0.050, orange -"):  # fmt: skip
        assert line in text, text
