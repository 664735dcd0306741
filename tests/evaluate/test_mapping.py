from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lookonce.errors import DataError
from lookonce.evaluate.mapping import (
    COCO_GROUPS,
    VOC_ALONE,
    VOC_GROUPS,
    read_groups,
    shared_names,
    similar_classes,
)

VOC = [
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
]  # fmt: skip
# VOC's classes as COCO's own file of instances calls them, in VOC's order.
AS_COCO = [
    "airplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "dining table", "dog",
    "horse", "motorcycle", "person", "potted plant", "sheep", "couch", "train", "tv",
]  # fmt: skip


def written(folder: Path, text: str) -> Path:
    path = folder / "classes.txt"
    path.write_text(text)
    return path


def test_the_twenty_classes_are_found_under_cocos_names():
    theirs = ["truck", *AS_COCO[::-1], "zebra"]
    shared = shared_names(theirs, VOC)
    assert shared.to.tolist() == [-1, *range(19, -1, -1), -1]
    assert shared.names == tuple(VOC)
    assert shared.only_theirs == ("truck", "zebra")
    assert shared.only_ours == ()


@pytest.mark.shared
def test_darknets_coco_names_share_all_twenty_with_voc_and_all_eighty_with_coco(shared):
    lists = shared / "data" / "lists"
    darknet, voc = ((lists / f"{name}.names").read_text().split("\n")[:-1] for name in ("coco", "voc"))
    found = shared_names(darknet, voc)
    assert len(found.names) == 20
    assert len(found.only_theirs) == 60
    assert all(darknet[number] == voc[to] for number, to in enumerate(found.to) if to >= 0)
    official = [name for group in COCO_GROUPS for name in group]
    assert sorted(shared_names(darknet, official).to.tolist()) == list(range(80))


def test_the_exact_name_goes_before_what_sounds_like_it():
    shared = shared_names(["couch", "sofa", "TV"], ["sofa", "couch", "tv monitor"])
    assert shared.to.tolist() == [1, 0, 2]


def test_no_shared_class_is_refused():
    with pytest.raises(DataError, match="no class of the model .*cat.* against dog.*theirs = ours"):
        shared_names(["cat"], ["dog"])


def test_the_lines_of_a_file_go_before_the_names(tmp_path):
    path = written(tmp_path, "# vehicles\ncar = vehicle\ntruck=vehicle  # too\n\ncat =\n")
    shared = shared_names(["car", "truck", "dog", "cat"], ["dog", "vehicle", "cat"], path)
    assert shared.to.tolist() == [1, 1, 0, -1]
    assert shared.only_theirs == ("cat",)
    assert shared.only_ours == ("cat",)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("car vehicle", ":2: found 'car vehicle', wanted theirs = ours"),
        ("carr = vehicle", ":2: 'carr' is none of the 2 classes (car, truck), did you mean car?"),
        ("car = vehicles", ":2: 'vehicles' is none of the 1 classes (vehicle), did you mean vehicle?"),
        ("truck = vehicle", ":2: 'truck' is there for the second time"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, line, message):
    path = written(tmp_path, f"truck = vehicle\n{line}\n")
    with pytest.raises(DataError) as caught:
        shared_names(["car", "truck"], ["vehicle"], path)
    assert message in str(caught.value)


def test_vocs_similar_classes_are_hoiems():
    alike = similar_classes(VOC)
    assert np.array_equal(alike, alike.T)

    def like(name: str) -> set[str]:
        return {VOC[number] for number in np.flatnonzero(alike[VOC.index(name)])}

    assert like("dog") == {"bird", "cat", "cow", "horse", "person", "sheep"}
    assert like("aeroplane") == {"bicycle", "boat", "bus", "car", "motorbike", "train", "bird"}
    assert like("sofa") == {"chair", "diningtable"}
    assert [name for name in VOC if not like(name)] == list(VOC_ALONE)
    assert {name for group in VOC_GROUPS for name in group} | set(VOC_ALONE) == set(VOC)


def test_cocos_similar_classes_are_its_supercategories():
    """12 groups of 80: the pairs within them are the sum of n (n - 1)."""
    names = [name for group in COCO_GROUPS for name in group]
    assert len(names) == len(set(names)) == 80
    alike = similar_classes(names)
    assert alike.sum() == sum(len(group) * (len(group) - 1) for group in COCO_GROUPS)
    assert not alike[names.index("person")].any()
    assert alike[names.index("tv"), names.index("laptop")]


def test_other_names_are_like_none_unless_groups_are_given(tmp_path):
    names = ["red cell", "white cell", "platelet"]
    assert not similar_classes(names).any()
    groups = read_groups(written(tmp_path, "red cell, white cell # both are cells\n"), names)
    assert similar_classes(names, groups).tolist() == [[False, True, False], [True, False, False], [False] * 3]
    with pytest.raises(DataError, match=r":1: 'red cel' is none of the 3 classes .*did you mean red cell\?"):
        read_groups(written(tmp_path, "red cel, platelet\n"), names)
