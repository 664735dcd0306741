from __future__ import annotations

import re
from pathlib import Path

import pytest

from lookonce import zoo
from lookonce.errors import DataError
from lookonce.model import weights_lengths
from lookonce.zoo import registry

WANTED = (
    "yolov1", "yolov1-local", "fast-yolo", "yolov1-vgg16", "yolov2", "yolov2-voc", "yolo9000", "yolov3", "yolov3-tiny",
    "yolov3-voc", "yolov3-openimages", "darknet19", "darknet19-448", "darknet53", "darknet53-448", "extraction",
    "vgg16", "vgg19", "alexnet", "resnet18", "resnet50", "resnet101", "resnet152", "yolov3-small",
)  # fmt: skip


def test_the_networks_of_the_thesis_are_here_and_every_cfg_is_registered() -> None:
    assert set(WANTED) <= set(zoo.networks())
    assert {path.stem for path in registry.HERE.glob("*.cfg")} == set(zoo.networks())


@pytest.mark.parametrize("file", zoo.published_files().values(), ids=lambda file: file.name)
def test_a_published_file_has_the_length_that_its_cfg_asks_for(file: zoo.Published) -> None:
    """What the registry says of a file and what its network's cfg says of it are two sources; they agree."""
    assert file.bytes is None or file.bytes in weights_lengths(file)
    assert file.network in zoo.networks()
    assert all(url.startswith("https://") for url in file.urls)
    assert file.urls
    assert file.licence
    assert file.sha256 is None or re.fullmatch("[0-9a-f]{64}", file.sha256)


def test_redmons_files_lie_where_he_published_them() -> None:
    assert zoo.published("yolov3").urls[0] == "https://pjreddie.com/media/files/yolov3.weights"
    assert zoo.published("darknet53.conv.74").layers == 74
    assert "github.com/AlexeyAB/darknet/releases" in zoo.published("yolov4").urls[0]


def test_an_unknown_name_gets_the_nearest_one() -> None:
    with pytest.raises(DataError, match="yolov33.*did you mean yolov3"):
        zoo.published("yolov33")


def test_files_lie_where_the_system_keeps_caches_unless_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("LOOKONCE_HOME")
    monkeypatch.setattr(registry.sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert zoo.cache_folder() == tmp_path / "lookonce"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert zoo.cache_folder() == Path.home() / ".cache" / "lookonce"
    monkeypatch.setenv("LOOKONCE_HOME", str(tmp_path / "x"))
    assert zoo.cache_folder() == tmp_path / "x"


def test_lists_of_names_are_complete() -> None:
    assert {key: len(names) for key, names in zoo.name_lists().items()} == {
        "voc": 20, "coco": 80, "openimages": 601, "imagenet": 1000,
    }  # fmt: skip
    assert all(name == name.strip() != "" for names in zoo.name_lists().values() for name in names)


@pytest.mark.shared
@pytest.mark.parametrize(
    ("key", "file"),
    [("voc", "voc.names"), ("coco", "coco.names"), ("openimages", "openimages.names"),
     ("imagenet", "imagenet.shortnames.list")],
)  # fmt: skip
def test_names_stand_in_the_order_that_darknets_networks_were_trained_with(shared: Path, key: str, file: str) -> None:
    lines = [line.strip() for line in (shared / "data" / "lists" / file).read_text().splitlines() if line.strip()]
    assert list(zoo.name_lists()[key]) == lines[: len(zoo.name_lists()[key])]


def test_a_cut_is_known_by_its_name_unless_it_is_nearly_a_published_one() -> None:
    assert zoo.cut_of("yolov3-tiny.conv.15") == ("yolov3-tiny", 15)
    for name in ("darknet53.conv.47", "darknet53.conv.74", "yolov3-tinny.conv.15", "yolov3-tiny.conv.x", "yolov3-tiny"):
        assert zoo.cut_of(name) is None
    with pytest.raises(DataError, match=r"was not published: .*`--pretrained yolov3-tiny:15` takes its first 15"):
        zoo.published("yolov3-tiny.conv.15")
