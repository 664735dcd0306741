"""train as a user calls it: a line for each mistake before anything is made, and what is shown while it learns."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import pty
import re
import select
import shutil
import signal
import struct
import sys
import termios
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

import lookonce
from lookonce.classifier import Classifier
from lookonce.cli.live import View
from lookonce.cli.main import main
from lookonce.darknet.cfg import Cfg
from lookonce.model import Model
from lookonce.network import Network
from lookonce.train.log import JudgedRow, NoteRow, StepRow

sys.path.insert(0, str(Path(__file__).parents[1] / "train"))
from smallrun import ALONE, CFG, CLASSIFIER, cfg_with, class_folders, make_data, rows_of, run, start, steps_of, until

LEARN = "train my.cfg --data set/my.data --val-split none"
FIT = "train --data set/my.data -m my.cfg --val-split none"


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    """What a verb sets for the whole process is set back."""
    mode = torch.get_deterministic_debug_mode()
    yield
    torch.set_deterministic_debug_mode(mode)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Datasets and networks, sound ones and others."""
    folder = tmp_path_factory.mktemp("train")
    make_data(folder / "set")
    cfg_with(folder / "my.cfg", max_batches=6)
    class_folders(folder / "pets")
    (folder / "classifier.cfg").write_text(CLASSIFIER)
    for name, label in (("nobox", ""), ("foreign", "7 .5 .5 .2 .2\n")):
        data = make_data(folder / name)
        for path in (folder / name / "labels").iterdir():
            path.write_text(label)
        assert data.exists()
    (folder / "empty").mkdir()
    (folder / "full").mkdir()
    (folder / "full/note.txt").write_text("mine")
    cfg_with(folder / "zero.cfg", max_batches=0)
    cfg_with(folder / "sixteen.cfg", batch=16)
    cfg_with(folder / "huge.cfg", batch=12, subdivisions=1, width=8192, height=8192)
    (folder / "noloss.cfg").write_text(CFG[: CFG.index("[yolo]")])
    (folder / "rnn.cfg").write_text("[net]\nbatch=4\ninputs=256\n[rnn]\noutput=10\n")
    (folder / "crnn.cfg").write_text(CFG.replace("[dropout]\nprobability=.2", "[crnn]\noutput_filters=8"))
    model = Model.random(Network.build(Cfg.read(folder / "my.cfg")))
    model.weights[0]["weights"][1] = np.nan
    model.write_weights(folder / "nan.weights")
    return folder


@pytest.fixture
def folder(made: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(made)
    return made


def told(capsys: pytest.CaptureFixture[str], line: str) -> tuple[int, list[str]]:
    """The exit code of a command line, and what it complained of."""
    code = main(line.split(" "))
    err = capsys.readouterr().err
    assert "Traceback" not in err
    found = [each for each in err.splitlines() if each.startswith("lookonce: ")]
    return code, [each for each in found if not each.startswith("lookonce: warning")]


# ---------------------------------------------------------------------- bad input
DATA = [
    ("train my.cfg --data nobox/my.data", "none of the 10 pictures to learn from has an object"),
    ("train my.cfg --data foreign/my.data", r"0\.txt: line 1: class 7 has no name: there are 2"),
    ("train my.cfg --data pets", r"pets: says what its pictures show, not where: my\.cfg is a detector"),
    ("train --data pets", "is a detector and learns from boxes; wanted a classifier, such as darknet19"),
    ("train classifier.cfg --data set/my.data", r"set/my\.data: says where things are, in boxes: .* is a classifier"),
    ("train --data set/my.data -m darknet19", "is a classifier and learns one class a picture; wanted a detector"),
    ("train my.cfg --data empty", "empty: is an empty folder: it holds no picture and no labels"),
    ("train my.cfg --data missing/my.data", "missing/my.data: no such file"),
    ("train my.cfg --data set/my.data --val-split nosuch", "has no split nosuch; there is train"),
    ("train my.cfg --data set/my.data --split nosuch", "has no split nosuch; there is train"),
    ("train my.cfg --data set/my.data --val missing", "missing: no such file or folder"),
    ("train my.cfg --data set/my.data --format nosuch", "no format nosuch is known here"),
    ("train my.cfg --data set/my.data --names missing", "missing: no such file"),
    (f"{LEARN} -o full", r"full: is not empty \(it holds note\.txt\)"),
    (f"{LEARN} -o full/note.txt", "is a file, wanted a folder"),
    ("train sixteen.cfg --data set/my.data", "10 pictures to learn from, fewer than batch=16 .* a batch of at most 10"),
    (f"{FIT} --batch 16", "12 pictures to learn from, fewer than batch=16"),
]
NUMBERS = [
    *((f"{FIT} --batch {value}", r"--batch .*: wanted a number of pictures from 1 to 1,048,576, or auto")
      for value in ("0", "-3", "x", "1.5", "99999999")),
    *((f"{FIT} --size {value}", "--size .*: wanted a number of pixels, or WIDTHxHEIGHT")
      for value in ("0", "-1", "x", "64x", "1x2x3")),
    (f"{FIT} --size 333", r"size 333 x 333: my\.cfg wants multiples of 4, such as 332 or 336"),
    (f"{LEARN} --size 333", r"size 333 x 333: my\.cfg wants multiples of 4, such as 332 or 336"),
    (f"{FIT} --batch 4 --subdivisions 3", "batch=4, subdivisions=3: wanted a batch that its subdivisions divide"),
    *((f"{verb} --epochs {value}", "epochs") for verb in (LEARN, FIT) for value in ("0", "-1", "nan", "inf", "x")),
    (f"{LEARN} --epochs 1e30", r"max_batches=3\d{30} is out of range"),
    *((f"{FIT} --lr {value}", "lr|learning.rate") for value in ("0", "-1", "nan", "inf", "x")),
    (f"{LEARN} --threads 0", "--threads"),
    (f"{LEARN} --workers -1", "--workers"),
    (f"{LEARN} --seed -1", "--seed"),
    (f"{LEARN} --save-every nan", "--save-every"),
    ("train huge.cfg --data set/my.data --val-split none", r"12 pictures of 8192 x 8192 .*: subdivisions=\d+ fits"),
]  # fmt: skip
MODELS = [
    ("train --data set/my.data -m yolo3-tiny", "yolo3-tiny: is neither .*, did you mean yolov3-tiny"),
    ("train missing.cfg --data set/my.data", r"missing\.cfg: no such file"),
    ("train noloss.cfg --data set/my.data", "noloss.cfg"),
    ("train --data set/my.data -m noloss.cfg", "is neither a detector nor a classifier"),
    ("train rnn.cfg --data set/my.data", r"rnn\.cfg:3: \[net\] inputs=256 declares a vector: not a vision network"),
    ("train crnn.cfg --data set/my.data", r"\[crnn\] is recurrent: not a vision network"),
    ("train zero.cfg --data set/my.data", "max_batches=0: there is nothing to learn; set it, or give --epochs"),
    (f"{LEARN} --pretrained nan.weights", r"nan\.weights: layer 0 \[convolutional\] weights holds nan"),
    (f"{LEARN} --pretrained missing", "missing: no such file"),
    (f"{LEARN} --pretrained yolov3-tiny", "lookonce model pull yolov3-tiny"),
    (f"{LEARN} --pretrained set/images/0.png", r"0\.png: "),
]
OPTIONS = [
    (f"{LEARN} --epoch 3", "No such option: --epoch, did you mean --epochs"),
    (f"{LEARN} --nonsense", "No such option: --nonsense"),
    (f"{LEARN} --device cuda:7", "device cuda:7: cannot be used"),
    (f"{LEARN} --device nonsense", "device nonsense: is none that is learnt on here; wanted auto, cpu, cuda"),
    (f"{LEARN} --tensorboard maybe", "--tensorboard"),
    (f"{LEARN} --protocol nosuch", "--protocol"),
    ("train", "wanted --data with what is to be learnt, or --resume"),
    ("train my.cfg", "wanted --data with what is to be learnt, or --resume"),
    ("train --resume full --data set/my.data", "wanted --data with what is to be learnt, or --resume"),
    ("train --resume empty", r"empty: holds no run\.json: wanted the folder of a run"),
    ("train --resume missing", "missing: no such folder, so no run to go on with"),
    ("train --resume my.cfg", r"my\.cfg: holds no run\.json: wanted the folder of a run"),
    ("train --resume full --lr .1", "--resume: goes on as the run was begun and takes no --lr: only --epochs"),
    ("train my.cfg --resume full", "--resume: goes on as the run was begun and takes no CFG"),
    *((f"{LEARN} --{option}", rf"--{option.split()[0]}: a cfg that is learnt as it stands says .* -m my\.cfg fits it")
      for option in ("batch 4", "lr .1", "recipe thesis", "anchors keep", "multi-scale", "model my.cfg")),
]  # fmt: skip


@pytest.mark.parametrize(("line", "words"), DATA + NUMBERS + MODELS + OPTIONS, ids=lambda each: each.partition("(")[0])
def test_a_mistake_is_one_line_before_the_first_step(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, line: str, words: str
) -> None:
    """Exit code 2, and no folder for a run that does not begin."""
    monkeypatch.setattr("lookonce.train.memory.free_bytes", lambda: 20 << 30)
    before = sorted(folder.iterdir())
    code, said = told(capsys, line if "--device" in line else f"{line} --device cpu")
    assert code == 2
    assert len(said) == 1, said
    assert re.search(words, said[0]), said[0]
    assert sorted(folder.iterdir()) == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_said(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, said = told(capsys, f"{LEARN} --device cuda")
    assert code == 2
    assert re.fullmatch(r"lookonce: device cuda: cannot be used: .*; wanted auto or cpu", said[0])


def test_torch_that_is_not_installed_is_said_with_the_command_that_brings_it(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", None)
    assert told(capsys, LEARN) == (
        2, ["lookonce: learning needs torch: `pip install 'lookonce[train]'` brings it"]
    )  # fmt: skip


# ---------------------------------------------------------------------- as Darknet learns
def test_a_cfg_is_learnt_as_darknet_would(made: Path, tmp_path: Path) -> None:
    """Pictures are drawn with replacement: of 12 in 6 batches of 4 some come twice and others not at all.

    .data's `valid` judges; the folder is called by cfg and data; no file of the dataset is changed.
    """
    shutil.copytree(made / "set", tmp_path / "set")
    lines = [f"{path}\n" for path in sorted((tmp_path / "set/images").iterdir())]
    (tmp_path / "set/train.txt").write_text("".join(lines[:8]))
    (tmp_path / "set/valid.txt").write_text("".join(lines[8:]))
    data = tmp_path / "set/my.data"
    data.write_text(data.read_text() + "valid = valid.txt\n")
    before = hashes(tmp_path / "set")
    ended = run("darknet", "detector", "train", data, made / "my.cfg", "-nogpu", "-dont_show", "-clear", cwd=tmp_path)
    assert ended.code == 0, ended.err
    assert ended.err.splitlines()[0] == f"= lookonce train {made}/my.cfg --data {data} --clear --device cpu"
    assert "learns train, judged by valid; 8 pictures to learn from, 4 to judge by" in ended.err
    folder = tmp_path / "runs/my-my"
    rows = rows_of(folder, "step")
    assert [row["seen"] for row in rows] == [4, 8, 12, 16, 20, 24]
    assert [row["rate"] for row in rows] == pytest.approx([0.001 * (number / 20) ** 4 for number in range(1, 7)])
    assert (folder / "network.cfg").read_bytes() == (made / "my.cfg").read_bytes()
    assert ended.err.splitlines()[-1] == "try it: lookonce detect PICTURE -m runs/my-my/best.safetensors"
    assert re.fullmatch(r"mAP \d\.\d{4}, AP \d\.\d{4}, AP50 \d\.\d{4}, AP75 \d\.\d{4}\n", ended.out)
    assert hashes(tmp_path / "set") == before


def hashes(folder: Path) -> dict[str, str]:
    """What each file holds."""
    return {
        str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def test_what_is_drawn_with_replacement_is_not_every_picture_once(made: Path) -> None:
    """The pictures of the plans that the two ways of learning make, of 12 in batches of 4."""
    from lookonce.train.feeding import sampler_of

    network = Network.build(Cfg.read(made / "my.cfg"))
    drawn, turns = (sampler_of(network, 12, order, 0) for order in ("drawn", "epochs"))
    once = [index for plan in map(turns.plan, range(6)) for index in plan.indices]
    again = [index for plan in map(drawn.plan, range(6)) for index in plan.indices]
    assert sorted(once) == list(range(12))
    assert len(again) == 12
    assert len(set(again)) < 12


# ---------------------------------------------------------------------- classes
def test_class_folders_in_an_archive_train_a_classifier(made: Path, tmp_path: Path) -> None:
    """Dark pictures and bright ones: any network tells them apart that does not normalise light away."""
    archive = shutil.make_archive(str(tmp_path / "pets"), "zip", made / "pets")
    text = CLASSIFIER.replace("batch_normalize=1\n", "")
    cfg = cfg_with(tmp_path / "classifier.cfg", text, learning_rate=0.1, burn_in=0, max_batches=20, ema_alpha=0)
    ended = run("train", cfg, "--data", archive, *ALONE, "-o", "run", "--judge-every", "2", cwd=tmp_path)
    assert ended.code == 0, ended.err
    assert ended.out == "top-1 1.0000, top-5 1.0000\n"
    assert ended.err.splitlines()[-1] == "try it: lookonce classify PICTURE -m run/best.safetensors"
    judged = [row["figures"]["top-1"] for row in rows_of(tmp_path / "run", "judged")]
    assert len(judged) == 2                                 # 20 steps of 4 pictures are 4 epochs of 20
    assert max(judged) == 1
    classifier = lookonce.load(tmp_path / "run/best.safetensors")
    assert isinstance(classifier, Classifier)
    for name, light in (("dark", 20), ("bright", 220)):
        assert classifier(np.full((48, 48, 3), light, np.uint8))[0].name == name


# ---------------------------------------------------------------------- what is shown
class Terminal:
    """A terminal of 120 columns, and what was written to it."""

    def __init__(self) -> None:
        self._ours, self._theirs = pty.openpty()
        fcntl.ioctl(self._theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        self.name = os.ttyname(self._theirs)
        self._seen = b""

    def read(self) -> None:
        """Take what is there now, or wait a moment for it."""
        while select.select([self._ours], [], [], 0.01)[0]:
            self._seen += os.read(self._ours, 1 << 16)

    @property
    def text(self) -> str:
        """Without the codes that move and colour."""
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self._seen.decode())

    def close(self) -> None:
        os.close(self._ours)
        os.close(self._theirs)


@pytest.fixture
def terminal() -> Iterator[Terminal]:
    made = Terminal()
    yield made
    with contextlib.suppress(OSError):
        made.close()


def test_a_terminal_shows_how_it_goes(made: Path, tmp_path: Path, terminal: Terminal) -> None:
    """The terms of the loss, the rate, pictures a second, the time left and the last judgements."""
    words = ["train", cfg_with(tmp_path / "my.cfg", max_batches=30), "--data", made / "set/my.data", *ALONE]
    words += ["--judge-every", "4", "-o", "run"]
    child = start(*words, cwd=tmp_path, terminal=terminal.name, TERM="xterm", COLUMNS="120")

    def has_ended() -> bool:
        terminal.read()
        return "try it: " in terminal.text

    until(has_ended)
    assert child.wait().code == 0
    text = terminal.text
    assert re.search(r"step +\d+ of 30 \(\d+%\), epoch \d+\.\d+ of 12", text)
    assert re.search(r"loss +\S+  centre \S+  extent \S+  objects \S+  background \S+  classes \S+", text)
    assert re.search(r"rate +[\d.e-]+", text)
    assert re.search(r"pictures/s +\S+, \d+% of the time waiting for pictures", text)
    assert re.search(r"time left +(\d+ s|–)", text)         # by the last frame there is none
    assert re.search(r"epoch 12 +mAP \d\.\d{4}, AP \d\.\d{4}", text)
    assert text.rstrip().endswith("try it: lookonce detect PICTURE -m run/best.safetensors")


@pytest.mark.parametrize("hangs_up", [False, True], ids=["without a signal", "with SIGHUP"])
def test_a_terminal_that_goes_away_takes_no_run_with_it(
    made: Path, tmp_path: Path, terminal: Terminal, hangs_up: bool
) -> None:
    """It goes on to its end, or if it is told saves and stops."""
    words = ["train", cfg_with(tmp_path / "my.cfg", max_batches=40), "--data", made / "set/my.data", *ALONE]
    child = start(*words, "--val-split", "none", "-o", "run", cwd=tmp_path, terminal=terminal.name, TERM="xterm")

    def has_begun() -> bool:
        terminal.read()
        return steps_of(tmp_path / "run") >= 5

    until(has_begun)
    terminal.close()
    if hangs_up:
        child.signal(signal.SIGHUP)
    child.wait()
    done = steps_of(tmp_path / "run")
    assert done < 40 if hangs_up else done == 40
    assert (tmp_path / "run/last.safetensors").exists()
    assert run("train", "--resume", "run", cwd=tmp_path).code == 0
    assert steps_of(tmp_path / "run") == 40


def test_without_a_terminal_there_are_lines_and_quietly_none(made: Path, tmp_path: Path) -> None:
    words = ["train", made / "my.cfg", "--data", made / "set/my.data", *ALONE]
    loud = run(*words, "-o", "loud", cwd=tmp_path)
    assert (loud.code, "\x1b" in loud.err) == (0, False)
    assert re.search(r"^epoch 2\.4: mAP \d\.\d{4}, AP", loud.err, re.MULTILINE)
    quiet = run(*words, "-o", "quiet", "-q", cwd=tmp_path)
    assert (quiet.code, quiet.err) == (0, "")


def step(number: int, seconds: float) -> StepRow:
    terms = {"centre": 1.5, "classes": 0.25}
    return StepRow(number, 4 * number, number / 3, 1e-3, terms, 1.75, 2.0, 2.5, 100.0, 0.1, 10**9, seconds)


def test_a_line_says_how_long_it_will_take(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """100 steps, one a second, 10 are made. Lines about steps are half a minute apart, others come at once."""
    monkeypatch.setattr("lookonce.cli.live.LINE_SECONDS", -1.0)
    with View(100, 33.3) as view:
        for number in range(1, 11):
            view.show(step(number, float(number)))
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == (
        "step 10 of 100, epoch 3.33: loss 1.75 (centre 1.5, classes 0.25), rate 0.001, 100.0 pictures/s, 90 s left"
    )
    monkeypatch.undo()
    with View(100, 33.3) as view:
        view.show(step(1, 1.0))
        view.show(NoteRow(1, "[red]a note\x1b[2J"))
        view.show(JudgedRow(1, 0.5, {"mAP": 0.5}))
    assert capsys.readouterr().err.splitlines() == ["[red]a note\\x1b[2J", "epoch 0.5: mAP 0.5000"]
    with View(100, 33.3, quiet=True) as view:
        view.show(NoteRow(1, "nothing"))
    assert capsys.readouterr().err == ""
