"""train with two datasets and a tree, and what is asked of such models: detect, val, classify."""

from __future__ import annotations

import json
import re
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from lookonce.cli.main import main
from lookonce.model import Model, open_model

sys.path.insert(0, str(Path(__file__).parents[1] / "train"))
from smallrun import (
    ALONE,
    CFG,
    CLASSIFIER,
    REGION,
    cfg_with,
    class_folders,
    digest,
    make_data,
    rows_of,
    run,
    start,
    until,
)

# thing (dark (night), bright (day)), other: VOC-like boxes of dark and bright, pictures of night and day
TREE = "n1 -1 thing\nn2 -1 other\nn3 0 dark\nn4 0 bright\nn5 2 night\nn6 3 day\n"


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """What a verb sets for the whole process is set back."""
    mode = torch.get_deterministic_debug_mode()
    yield
    torch.set_deterministic_debug_mode(mode)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("joint")
    make_data(folder / "set")
    class_folders(folder / "shown")
    (folder / "shown" / "dark").rename(folder / "shown" / "night")
    (folder / "shown" / "bright").rename(folder / "shown" / "sunny")
    (folder / "my.tree").write_text(TREE)
    (folder / "my.choices").write_text("sunny = n6\nelsewhere = n99\n")
    small = CFG.replace("saturation=1.5\n", "").replace("exposure=1.5\n", "").replace("hue=.1\n", "")
    for name, text in (("yolo", small), ("region", REGION)):
        cfg_with(folder / f"{name}.cfg", text.replace("random=1", "random=0"), max_batches=8, batch=4, subdivisions=2)
    (folder / "classifier.cfg").write_text(CLASSIFIER)
    return folder


def joint(kind: str, out: str = "out", *more: str) -> list[str]:
    arguments = f"train --data set/my.data --val-split train --also shown --ratio 1:1 --tree my.tree -m {kind}.cfg"
    return [*arguments.split(), "--choices", "my.choices", "--batch", "4", "--epochs", "2", "-o", out, *ALONE, *more]


@pytest.fixture(scope="module")
def learnt(made: Path) -> Path:
    """A finished run of each kind."""
    for kind in ("yolo", "region"):
        ended = run(*joint(kind, f"learnt-{kind}"), cwd=made)
        assert ended.code == 0, ended.err
    return made


@pytest.mark.parametrize("kind", ["yolo", "region"])
def test_boxes_and_labels_are_learnt_together_down_a_tree(learnt: Path, kind: str) -> None:
    """Two epochs of 36 pictures, half of them from each; the classes are the tree's nodes, in the user's words."""
    folder = learnt / f"learnt-{kind}"
    steps = rows_of(folder, "step")
    assert len(steps) == 18
    assert steps[-1]["terms"]["classes"] > 0
    assert steps[-1]["terms"]["classes"] < steps[0]["terms"]["classes"]
    model = open_model(folder / "last.safetensors")
    assert model.names == ("thing", "other", "dark", "bright", "night", "sunny")
    assert model.tree is not None
    assert model.tree.ids == ("n1", "n2", "n3", "n4", "n5", "n6")
    assert model.card["trained"]["boxes"] == ["n3", "n4"]
    assert rows_of(folder, "judged")[-1]["figures"]["mAP"] >= 0
    assert (folder / "classes.tree").read_text().splitlines()[5] == "n6 3 sunny"
    assert len((folder / "train.txt").read_text().splitlines()) == 36


@pytest.mark.parametrize("kind", ["yolo", "region"])
def test_a_joint_run_that_is_killed_and_resumed_is_that_of_one_piece(learnt: Path, kind: str) -> None:
    child = start(*joint(kind, f"killed-{kind}", "--save-every", "0"), cwd=learnt)
    until(lambda: len(list((learnt / f"killed-{kind}").glob("checkpoint*"))) > 0 and _steps(learnt, kind) >= 5)
    child.signal(signal.SIGKILL)
    child.wait()
    ended = run("train", "--resume", f"killed-{kind}", *ALONE[:4], cwd=learnt)
    assert ended.code == 0, ended.err
    assert "not bit for bit" not in ended.err
    assert "are not what they were" not in ended.err
    assert digest(learnt / f"killed-{kind}") == digest(learnt / f"learnt-{kind}")


def _steps(folder: Path, kind: str) -> int:
    log = folder / f"killed-{kind}" / "log.jsonl"
    return log.read_bytes().count(b'"step"') if log.exists() else 0


def test_processes_that_make_pictures_ready_change_nothing(learnt: Path) -> None:
    ended = run(*joint("yolo", "workers", "--workers", "2"), cwd=learnt)
    assert ended.code == 0, ended.err
    assert digest(learnt / "workers") == digest(learnt / "learnt-yolo")


def test_without_a_tree_the_names_are_united(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(made)
    arguments = "train --data set/my.data --val-split none --also shown --ratio 2:1 -m yolo.cfg --batch 4 --epochs .5"
    assert main([*arguments.split(), "-o", "flat", *ALONE, "-q"]) == 0
    model = open_model(made / "flat" / "last.safetensors")
    assert model.names == ("dark", "bright", "night", "sunny")
    assert model.card["trained"]["boxes"] == ["dark", "bright"]


def test_a_classifier_learns_a_tree_and_backs_off_to_an_ancestor(
    made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(made)
    arguments = "train --data shown --tree my.tree --choices my.choices -m classifier.cfg --batch 4 -o kinds"
    assert main([*arguments.split(), "--epochs", "20", "--lr", ".05", "--val-split", "none", *ALONE, "-q"]) == 0
    model = "kinds/last.safetensors"
    assert open_model(made / model).names == ("thing", "other", "dark", "bright", "night", "sunny")
    capsys.readouterr()
    assert main(["val", "-m", model, "--data", "shown", "--json", "-q"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["top1"] > 0.9
    assert found["depth"][0] == 1
    picture = "shown/night/0.png"
    assert main(["classify", picture, "-m", model, "--top", "2", "-q", "--format", "jsonl", "--hier", ".5"]) == 0
    row = json.loads(capsys.readouterr().out)
    assert row["sure"]["name"] in ("thing", "dark", "night")
    assert row["classes"][0]["path"] == ["thing", "dark", "night"]
    assert main(["classify", picture, "-m", model, "-q", "--hier", "1"]) == 0
    assert "sure" not in capsys.readouterr().out
    assert main(["classify", picture, "-m", model, "-q", "--hier", "0"]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[1].startswith("  sure: ")
    assert said[1].endswith("night  (thing > dark > night)")
    assert main(["classify", picture, "-m", model, "--hier", "2", "-q"]) == 2


def answered(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main([*arguments])
    said = capsys.readouterr()
    return code, said.out, said.err


@pytest.mark.parametrize("kind", ["yolo", "region"])
def test_detect_answers_as_deep_and_in_the_classes_that_are_asked_for(
    learnt: Path, kind: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(learnt)
    model = f"learnt-{kind}/last.safetensors"
    same = ("detect", "set/images/0.png", "-m", model, "--thresh", ".02", "--format", "jsonl", "-q")
    names = {}
    for more in ("--hier .1", "--depth 1", "--below bright", "--only sunny,dark"):
        code, out, _ = answered(capsys, *same, *more.split())
        assert code == 0
        names[more] = {row["name"] for row in json.loads(out)["detections"]}
    assert names["--depth 1"] <= {"thing", "other"}
    assert names["--below bright"] <= {"bright", "sunny"}
    assert names["--only sunny,dark"] == {"sunny", "dark"}
    for more, says in (("--only cheese", "no node of the tree is called cheese"), ("--only ,", "--only: wanted names"),
                       ("--depth 2 --only dark", "depth stands beside only")):  # fmt: skip
        code, _, err = answered(capsys, *same, *more.split())
        assert code == 2
        assert says in err


def test_val_judges_the_datasets_classes_by_whether_they_had_boxes(
    learnt: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A second dataset names what lies below and above: night had boxes only as something dark, thing through it."""
    monkeypatch.chdir(learnt)
    shutil.copytree(learnt / "set", learnt / "deep", dirs_exist_ok=True)
    (learnt / "deep" / "my.names").write_text("night\nthing\n")
    (learnt / "deep" / "train.txt").write_text("".join(f"images/{number}.png\n" for number in range(12)))
    model = "learnt-yolo/last.safetensors"
    code, out, _ = answered(capsys, "val", "-m", model, "--data", "deep/my.data", "--split", "train", "--json", "-q")
    assert code == 0
    figures = json.loads(out)["figures"]
    assert figures.keys() >= {"mAP", "mAP, had boxes", "mAP, boxes only above"}
    assert "mAP, never had boxes" not in figures
    both = (figures["mAP, had boxes"] + figures["mAP, boxes only above"]) / 2
    assert figures["mAP"] == pytest.approx(both)
    code, out, _ = answered(capsys, "val", "-m", model, "--data", "deep/my.data", "--split", "train", "-q")
    lines = out.partition("\n\n")[0].splitlines()
    places = {re.search(r"  (mean|over|one|within)", line).start() for line in lines}    # type: ignore[union-attr]
    assert len(lines) == 5
    assert len(places) == 1
    (learnt / "my.map").write_text("n2 = night\n")
    more = ("--map", "my.map", "--json", "-q")
    code, out, _ = answered(capsys, "val", "-m", model, "--data", "deep/my.data", "--split", "train", *more)
    assert code == 0
    assert "mAP, never had boxes" in json.loads(out)["figures"]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("--data set/my.data --ratio 1:2", "--ratio: says nothing without --also"),
        ("--data set/my.data --choices my.choices", "--choices: says nothing without --tree"),
        ("--data set/my.data --also shown --ratio 1", "--ratio 1: wanted N:M"),
        ("--data set/my.data --also shown --tree no.tree", "no.tree: no such file"),
        ("--data set/my.data --also shown --tree my.tree", "sunny is no node of the tree"),
        ("--data set/my.data --also shown --tree my.tree --choices my.choises", "my.choises: no such file of choices"),
        ("--data set/my.data --also nowhere", "nowhere"),
        ("--data shown --also set/my.data -m classifier.cfg", "not one: classifier.cfg learns one class a picture"),
        ("yolo.cfg --data set/my.data --tree my.tree", "--tree: a cfg that is learnt as it stands says tree= itself"),
    ],
)
def test_what_cannot_be_learnt_together_is_said_before_anything_is_made(
    made: Path, arguments: str, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(made)
    default = [] if "-m" in arguments or arguments.startswith("yolo") else ["-m", "yolo.cfg"]
    code, _, err = answered(capsys, "train", *arguments.split(), *default, "-o", "refused", *ALONE)
    assert code == 2
    assert says in err
    assert not (made / "refused").exists()


def test_a_cfg_with_a_tree_is_learnt_as_it_stands(
    made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its tree joins the names, as YOLO9000's cfg wants it."""
    monkeypatch.chdir(made)
    text = REGION.replace("filters=21", "filters=33").replace("classes=2", "classes=6\ntree=my.tree")
    cfg_with(made / "whole.cfg", text.replace("random=1", "random=0"), max_batches=3)
    arguments = "train whole.cfg --data set/my.data --val-split none --also shown --choices my.choices -o whole"
    code, _, err = answered(capsys, *arguments.split(), *ALONE)
    assert code == 0, err
    model: Model = open_model(made / "whole" / "last.safetensors")
    assert model.names == ("thing", "other", "dark", "bright", "night", "sunny")
    assert np.isfinite(model.weights[0]["weights"]).all()
