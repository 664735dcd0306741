"""A run that is killed, stopped, moved and resumed learns what an unbroken one learns, to the byte; what it leaves."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from smallrun import (
    ALONE,
    FORK,
    REGION,
    ROOT,
    Child,
    cfg_with,
    digest,
    make_data,
    rows_of,
    run,
    start,
    steps_of,
    until,
)  # fmt: skip

import lookonce
from lookonce.darknet.cfg import Cfg
from lookonce.darknet.weights import Header
from lookonce.detector import Detector
from lookonce.model import Model, open_model
from lookonce.network import Network
from lookonce.train import checkpoint
from lookonce.train.judging import GivenUpError, judge
from lookonce.train.settings import Settings
from lookonce.train.starting import data_of
from lookonce.train.stopping import StopOnSignal

STEPS = 30


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a dataset in set/, and in my.cfg a network that learns it in 30 steps."""
    folder = tmp_path_factory.mktemp("runs")
    make_data(folder / "set")
    cfg_with(folder / "my.cfg", max_batches=STEPS)
    return folder


def begin(cfg: Path, out: Path, *more: object) -> list[object]:
    """A command line that learns the dataset beside `out`."""
    return ["train", cfg, "--data", out.parent / "set/my.data", "--val-split", "none", *ALONE, "-o", out, *more]


@pytest.fixture(scope="module")
def whole(place: Path) -> str:
    """What the model of the unbroken run hashes to."""
    assert run(*begin(place / "my.cfg", place / "whole"), cwd=place).code == 0
    return digest(place / "whole")


def at_step(child: Child, folder: Path, number: int) -> None:
    until(lambda: steps_of(folder) >= number)


def numbers_of(folder: Path) -> list[int]:
    """The steps in a run's log."""
    return [row["number"] for row in rows_of(folder, "step")]


# ---------------------------------------------------------------------- killed
@pytest.mark.parametrize(
    ("name", "text", "more", "kills"),
    [("yolo", FORK, [], 3), ("region", REGION, ["--workers", "2"], 2)],
    ids=["yolo, several sizes, mosaic", "region, several sizes, two workers"],
)
def test_a_run_that_is_killed_learns_what_an_unbroken_one_does(
    place: Path, name: str, text: str, more: list[str], kills: int
) -> None:
    """By SIGKILL, at steps and at moments in them that are drawn; with dropout, an average, parts of batches."""
    mosaic = {"mosaic": 1} if name == "yolo" else {}
    cfg = cfg_with(place / f"{name}.cfg", text, max_batches=STEPS, **mosaic)
    assert run(*begin(cfg, place / f"{name}-whole"), cwd=place).code == 0
    rng, folder = random.Random(name), place / name
    arguments = begin(cfg, folder, "--save-every", "0.02", *more)
    for step in sorted(rng.sample(range(1, STEPS - 10), kills)):
        child = start(*arguments, cwd=place)
        at_step(child, folder, step)
        time.sleep(rng.uniform(0, 0.05))
        child.signal(signal.SIGKILL)
        assert child.wait().code == -signal.SIGKILL
        arguments = ["train", "--resume", folder, "--tensorboard", "off"]
    ended = run(*arguments, cwd=place)
    assert ended.code == 0, ended.err
    assert "warning" not in ended.err
    assert digest(folder) == digest(place / f"{name}-whole")
    assert numbers_of(folder) == list(range(1, STEPS + 1))


def test_a_run_that_is_killed_before_its_first_step_can_be_resumed(place: Path, whole: str) -> None:
    folder = place / "early"
    child = start(*begin(place / "my.cfg", folder), cwd=place)
    until((folder / checkpoint.NOW).exists)
    child.signal(signal.SIGKILL)
    child.wait()
    assert run("train", "--resume", folder, cwd=place).code == 0
    assert digest(folder) == whole


def test_a_damaged_checkpoint_falls_back_to_the_one_before(place: Path, whole: str) -> None:
    folder = place / "damaged"
    child = start(*begin(place / "my.cfg", folder, "--save-every", "0"), cwd=place)
    at_step(child, folder, 10)
    child.signal(signal.SIGKILL)
    child.wait()
    newest = folder / checkpoint.NOW
    os.truncate(newest, newest.stat().st_size - 1)
    ended = run("train", "--resume", folder, cwd=place)
    assert ended.code == 0
    assert re.search(r"warning: .*checkpoint\.safetensors: is damaged.*went back to checkpoint-before", ended.err)
    assert digest(folder) == whole


# ---------------------------------------------------------------------- stopped
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_run_that_is_asked_to_stop_saves_and_says_how_it_goes_on(
    place: Path, whole: str, number: signal.Signals
) -> None:
    folder = place / f"stopped-{number.name}"
    child = start(*begin(place / "my.cfg", folder), cwd=place)
    at_step(child, folder, 5)
    child.signal(number)
    begun = time.monotonic()
    ended = child.wait()
    assert time.monotonic() - begun < 10
    assert ended.code == 130
    done = numbers_of(folder)
    said = f"stopped and saved after step {len(done)} of {STEPS}; `lookonce train --resume {folder}` goes on"
    assert ended.line == said
    assert (folder / "last.safetensors").exists()
    again = run("train", "--resume", folder, "-q", cwd=place)
    assert (again.code, again.err) == (0, "")
    assert digest(folder) == whole
    assert numbers_of(folder) == list(range(1, STEPS + 1))
    assert done == numbers_of(folder)[: len(done)]


def test_a_second_signal_ends_a_run_at_once(place: Path, whole: str) -> None:
    """Of two different signals, as equal ones that wait are one to the system."""
    folder = place / "twice"
    child = start(*begin(place / "my.cfg", folder), cwd=place)
    at_step(child, folder, 5)
    child.signal(signal.SIGTERM)
    child.signal(signal.SIGINT)
    ended = child.wait(10)
    assert ended.code == 130
    assert ended.line in ("interrupted", f"stopped and saved after step {steps_of(folder)} of {STEPS}; "
                          f"`lookonce train --resume {folder}` goes on")  # fmt: skip
    assert run("train", "--resume", folder, cwd=place).code == 0
    assert digest(folder) == whole


def test_a_signal_that_is_ignored_stays_so() -> None:
    """As SIGHUP is under nohup."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with StopOnSignal() as stop:
            signal.raise_signal(signal.SIGHUP)
            time.sleep(0.01)
            assert not stop.asked
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_judge_gives_up_when_nobody_waits(place: Path) -> None:
    """A judgement of thousands of pictures must not hold up a run that is asked to stop."""
    data = data_of(Settings(str(place / "set/my.data"), val_split="none")).train
    model = replace(Model.random(Network.build(Cfg.read(place / "my.cfg"))), names=data.names)
    asked = []
    with pytest.raises(GivenUpError):
        judge(model, data, given_up=lambda: asked.append(1) is None and len(asked) == 3)
    assert len(asked) == 3


# ---------------------------------------------------------------------- elsewhere, otherwise
def test_a_run_goes_on_from_another_folder_by_its_own_threads(place: Path, whole: str, tmp_path: Path) -> None:
    """Its data was named from where it was begun; the threads are those that it was begun with."""
    folder = tmp_path / "run"
    arguments = ["train", "../my.cfg", "--data", "my.data", "--val-split", "none", *ALONE, "-o", folder]
    child = start(*arguments, cwd=place / "set")
    at_step(child, folder, 5)
    child.signal(signal.SIGINT)
    child.wait()
    facts = json.loads((folder / "run.json").read_text())["settings"]
    assert (facts["threads"], facts["data"]) == (1, str(place / "set/my.data"))
    ended = run("train", "--resume", "run", cwd=tmp_path)
    assert ended.code == 0
    assert "warning" not in ended.err
    assert digest(folder) == whole


def test_what_is_another_when_a_run_goes_on_is_said(tmp_path: Path) -> None:
    """Threads, torch, the device, the data: a line each."""
    data, folder = make_data(tmp_path / "set"), tmp_path / "run"
    cfg = cfg_with(tmp_path / "my.cfg", max_batches=12)
    child = start(*begin(cfg, folder, "--save-every", "0"), cwd=tmp_path)
    at_step(child, folder, 6)
    child.signal(signal.SIGTERM)
    child.wait()
    arrays, facts = checkpoint.read(folder / checkpoint.NOW)
    facts["around"] |= {"torch": "0.0", "device": "a GPU"}
    checkpoint.write(folder / checkpoint.NOW, arrays, facts)
    (data.parent / "labels/3.txt").write_text("0 .5 .5 .25 .25\n")
    ended = run("train", "--resume", folder, "--threads", "2", cwd=tmp_path)
    assert ended.code == 0
    said = [line for line in ended.err.splitlines() if "warning" in line]
    assert len(said) == 4
    assert re.search(r"device was a GPU and is cpu: not bit for bit what an unbroken run would learn", said[0])
    assert re.search(r"torch was 0\.0 and is \d", said[1])
    assert re.search(r"threads was 1 and is 2", said[2])
    assert re.search(r"my\.data: the data are not what they were when the run was stopped", said[3])


# ---------------------------------------------------------------------- finished
def test_a_finished_run_has_nothing_left_to_do_and_can_be_made_longer(tmp_path: Path) -> None:
    """12 pictures in batches of 4: an epoch has 3 steps."""
    make_data(tmp_path / "set")
    folder = tmp_path / "run"
    cfg = cfg_with(tmp_path / "my.cfg", max_batches=6)
    assert run(*begin(cfg, folder), cwd=tmp_path).code == 0
    before = digest(folder), (folder / "log.jsonl").read_bytes()
    ended = run("train", "--resume", folder, cwd=tmp_path)
    assert ended.code == 0
    said = "nothing is left to do: all 6 steps are made, the last models are there; --epochs N goes on to more"
    assert ended.err == f"{folder}: {said}\n"
    assert (digest(folder), (folder / "log.jsonl").read_bytes()) == before
    for epochs, words in (("2", "has learnt 2 already; wanted more"), ("nan", "wanted"), ("0", "wanted")):
        refused = run("train", "--resume", folder, "--epochs", epochs, cwd=tmp_path)
        assert refused.code == 2
        assert words in refused.line
    ended = run("train", "--resume", folder, "--epochs", "4", cwd=tmp_path)
    assert ended.code == 0
    assert "max_batches was 6 and is 12" in ended.err
    assert "goes on after step 6" in ended.err
    assert numbers_of(folder) == list(range(1, 13))
    # The rate depends on no length here: it is what one run of 12 steps would have learnt.
    longer = cfg_with(tmp_path / "longer.cfg", max_batches=12)
    assert run(*begin(longer, tmp_path / "at-once"), cwd=tmp_path).code == 0
    assert digest(folder) == digest(tmp_path / "at-once")


def test_weights_that_have_seen_pictures_go_on_where_they_were(place: Path) -> None:
    """As Darknet's do: the number of the batch, and with it the rate, follows from `seen` in their header."""
    folder, cfg = place / "seen", place / "my.cfg"
    model = Model.random(Network.build(Cfg.read(cfg)))
    for name, seen in (("some", 25 * 4 + 3), ("all", STEPS * 4)):
        replace(model, header=Header(seen=seen)).write_weights(place / f"{name}.weights")
    assert run(*begin(cfg, folder, "--pretrained", place / "some.weights"), cwd=place).code == 0
    rows = rows_of(folder, "step")
    assert [row["number"] for row in rows] == list(range(26, STEPS + 1))
    assert rows[0]["seen"] == 25 * 4 + 3 + 4
    assert rows[0]["rate"] == pytest.approx(0.001)                      # burn_in=20 is over
    refused = run(*begin(cfg, place / "none", "--pretrained", place / "all.weights"), cwd=place)
    assert refused.code == 2
    assert re.search(r"max_batches=30, and the weights have learnt 30 batches already; --clear", refused.line)
    assert not (place / "none").exists()
    cleared = run(*begin(cfg, place / "cleared", "--pretrained", place / "all.weights", "--clear"), cwd=place)
    assert cleared.code == 0
    assert numbers_of(place / "cleared") == list(range(1, STEPS + 1))
    assert rows_of(place / "cleared", "step")[0]["rate"] == pytest.approx(0.001 * (1 / 20) ** 4)


# ---------------------------------------------------------------------- what it leaves
@pytest.fixture(scope="module")
def judged(place: Path) -> Path:
    """A run by the modern recipe, of a part of the pictures, judged by the others."""
    folder = place / "judged"
    ended = run("train", "--data", place / "set/my.data", "-m", place / "my.cfg", "--epochs", "8", "--anchors", "keep",
                "--batch", "4", *ALONE, "-o", folder, cwd=place)  # fmt: skip
    assert ended.code == 0, ended.err
    figures = [float(value) for value in re.findall(r"\d\.\d{4}", ended.out)]
    best = max(rows_of(folder, "judged"), key=lambda row: row["figures"]["mAP"])
    assert figures == [pytest.approx(value, abs=1e-4) for value in best["figures"].values()]
    assert ended.err.splitlines()[-1] == f"try it: lookonce detect PICTURE -m {folder}/best.safetensors"
    return folder


def test_the_models_of_a_run_open_and_detect(judged: Path, place: Path) -> None:
    """Names and the way that pictures are fitted are in the file."""
    detector = lookonce.load(judged / "best.safetensors")
    assert isinstance(detector, Detector)
    assert detector.names == ("dark", "bright")
    model = open_model(str(judged / "best.safetensors"))
    assert (model.names, model.resize, model.trained) == (("dark", "bright"), "stretch", len(model.network.nodes))
    assert model.card["trained"]["pictures"] == 10
    assert model.card["trained"]["judged on"] == 2
    detector(np.asarray(Image.open(place / "set/images/0.png")))
    assert model.network.options.letter_box is False


@pytest.mark.parametrize("name", ["best", "last"])
def test_darknet_can_use_what_a_run_leaves(judged: Path, name: str) -> None:
    """network.cfg and a weights file of Darknet's hold the same numbers as the model in one file."""
    network = Network.build(Cfg.read(judged / "network.cfg"))
    model = Model.read(network, judged / f"{name}.weights")
    one = open_model(str(judged / f"{name}.safetensors"))
    assert model.header.seen == one.header.seen == 4 * one.card["trained"]["batches"]
    for ours, theirs in zip(model.weights, one.weights, strict=True):
        assert ours.keys() == theirs.keys()
        for key, array in ours.items():
            assert np.array_equal(array, theirs[key])


def test_a_run_leaves_a_folder_that_says_what_it_was(judged: Path) -> None:
    assert (judged / "classes.names").read_text() == "dark\nbright\n"
    assert len((judged / "train.txt").read_text().splitlines()) == 10
    assert len((judged / "val.txt").read_text().splitlines()) == 2
    facts = json.loads((judged / "run.json").read_text())
    assert facts["settings"]["order"] == "epochs"
    page = (judged / "run.html").read_text()
    assert "finished" in page
    assert numbers_of(judged) == list(range(1, 21))                    # 8 epochs of 10 pictures by 4
    assert not list(judged.glob(".*.part"))
    seconds = [row["seconds"] for row in rows_of(judged, "step")]
    assert seconds == sorted(seconds)
    assert seconds[0] > 0


# ---------------------------------------------------------------------- several processes
def test_two_processes_of_torchrun_learn_what_one_does(place: Path, tmp_path: Path) -> None:
    make_data(tmp_path / "set")
    cfg = cfg_with(tmp_path / "my.cfg", max_batches=8, burn_in=0)
    assert run(*begin(cfg, tmp_path / "one"), cwd=tmp_path).code == 0
    words = [str(word) for word in begin(cfg, tmp_path / "two")]
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "lookonce", *words],
        cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("8 steps") == 1
    one, two = (open_model(str(tmp_path / name / "last.safetensors")) for name in ("one", "two"))
    for ours, theirs in zip(one.weights, two.weights, strict=True):
        for key, array in ours.items():
            assert np.abs(array - theirs[key]).max(initial=0) <= 1e-5
    assert numbers_of(tmp_path / "two") == list(range(1, 9))
    assert len(list(tmp_path.glob("**/run.json"))) == 2


def together(words: list[object], cwd: Path) -> list[Child]:
    """Two processes of one run, as torchrun starts them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": "2"}
    return [start(*words, cwd=cwd, RANK=str(rank), LOCAL_RANK=str(rank), **place) for rank in (0, 1)]


def test_a_process_that_waits_for_the_first_ends_with_it(place: Path, whole: str, tmp_path: Path) -> None:
    """The folder is taken: the first says so, the second has nothing to add."""
    first, second = (child.wait() for child in together(begin(place / "my.cfg", place / "whole"), tmp_path))
    assert (first.code, second.code) == (2, 2)
    assert "is not empty" in first.line
    assert second.err == ""


def test_the_death_of_a_process_ends_the_others_with_a_line(place: Path, whole: str) -> None:
    """The first one says from where the run goes on: here alone, to what it would have been."""
    folder = place / "orphan"
    words = begin(cfg_with(place / "long.cfg", max_batches=STEPS), folder, "--save-every", "0")
    children = together(words, place)
    at_step(children[0], folder, 5)
    children[1].signal(signal.SIGKILL)
    ended = children[0].wait(20)
    assert ended.code == 1
    assert re.match(r"step \d+: another of the 2 processes has ended \(.*\); step \d+ is kept, `lookonce", ended.line)
    children[1].wait()
    assert run("train", "--resume", folder, cwd=place).code == 0
    assert digest(folder) == whole
