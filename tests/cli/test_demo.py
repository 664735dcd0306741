"""The detector in the box, and the demo that shows it."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import safetensors
from PIL import Image

from lookonce import zoo
from lookonce.cli import demo, options
from lookonce.cli.main import main
from lookonce.draw import MARK
from lookonce.errors import InputError
from lookonce.model import open_model

FACE = (150, 90, 370, 330)               # of the portrait, by eye: left, top, right, bottom


@pytest.fixture
def inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.full((60, 80, 3), 99, np.uint8)).save(tmp_path / "grey.png")
    return tmp_path


def test_the_box_holds_what_the_program_names() -> None:
    assert options.DEFAULT_MODEL == zoo.DEFAULT
    path = zoo.shipped_model(zoo.DEFAULT)
    assert path is not None
    assert path.stat().st_size <= 4_000_000
    with safetensors.safe_open(path, framework="numpy") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"F16"}  # noqa: SIM118
    model = open_model(zoo.DEFAULT)
    assert model.names == zoo.class_names(zoo.DEFAULT)
    assert {"data", "terms", "not for", "mAP", "AP by class", "errors"} <= model.card.keys()
    declared = open_model(zoo.DEFAULT, "random").network.resized(288, 288)     # learns at 320, is best at 288
    assert [node.shape for node in declared.nodes] == [node.shape for node in model.network.nodes]
    assert declared.entries() == model.network.entries()
    for (_, ours), (_, theirs) in zip(declared.heads, model.network.heads, strict=True):
        assert ours.anchors == theirs.anchors


def test_the_portrait_shows_a_person(inside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["demo", "--no-camera"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("grace_hopper.jpg: 1 person")
    name, score, *corners = out.splitlines()[1].split()
    left, top, right, bottom = map(int, corners)
    assert name == "person"
    assert float(score) > 0.5
    assert left < FACE[0]
    assert top < FACE[1]
    assert right > FACE[2]
    assert bottom > FACE[3]
    assert MARK in (inside / "predictions.png").read_bytes()
    assert "next: lookonce detect" in err


def test_a_picture_of_ones_own_and_again(inside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for _ in range(2):                   # what was drawn here is drawn over
        assert main(["demo", "grey.png", "-o", "drawn.jpg"]) == 0
        assert capsys.readouterr().out.startswith("grey.png: ")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["grey.png", "-o", "grey.png"], "-o grey.png: is there already and was not drawn here"),
        (["grey.png", "-o", "drawn.txt"], "-o drawn.txt: wanted a name that ends in .png or .jpg"),
        (["none.jpg"], "none.jpg: "),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line(
    arguments: list[str], said: str, inside: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (inside / "grey.png").read_bytes()
    assert main(["demo", *arguments]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"lookonce: {said}")
    assert err.count("\n") == 1
    assert (inside / "grey.png").read_bytes() == before


def test_a_camera_that_does_not_open_gives_way_to_the_portrait(
    inside: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*_: object) -> None:
        raise InputError("camera 0: is in use")

    monkeypatch.setattr(demo, "_has_camera", lambda: True)
    monkeypatch.setattr("lookonce.sources.Video", broken)
    assert main(["demo"]) == 0
    out, err = capsys.readouterr()
    assert "no camera: camera 0: is in use; a portrait is taken" in err
    assert out.startswith("grace_hopper.jpg: ")


def test_without_camera_and_portrait_it_says_what_to_do(
    inside: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert main(["demo", "--no-camera"]) == 2
    assert "no camera and no portrait here: give a picture, `lookonce demo photo.jpg`" in capsys.readouterr().err


def test_nothing_is_fetched_for_the_box(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "pull", zoo.DEFAULT]) == 2
    assert "lookonce-voc: comes with lookonce, nothing is to be fetched" in capsys.readouterr().err
    assert main(["model", "list"]) == 0
    assert "lookonce-voc            in the box" in capsys.readouterr().out


def test_answers_name_the_model(inside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["detect", "grey.png", "--format", "json", "-q"]) == 0
    assert json.loads(capsys.readouterr().out)["model"] == zoo.DEFAULT
