"""What the help shows, that its examples are right, and that a slip of the finger is told what was meant."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from lookonce.cli import options, usage
from lookonce.cli.main import app, main
from lookonce.darknet.commandline import FLAGS
from lookonce.errors import DataError

ROOT_COMMAND = typer.main.get_command(app)
VERBS = [verb for verb in usage.verbs_of(app) if verb]


def command_of(verb: str) -> Any:
    """The parser of a verb."""
    command: Any = ROOT_COMMAND
    for word in verb.split():
        command = command.commands[word]
    return command


def examples_of(verb: str) -> list[str]:
    return [line.strip() for line in command_of(verb).help.splitlines() if line.strip().startswith("lookonce ")]


# ---------------------------------------------------------------------- help
def test_the_verbs_stand_by_task(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    panels = {
        "See": {"detect", "classify", "demo"},
        "Learn": {"train", "data"},
        "Judge": {"val", "judge", "rescore"},
        "Models and speed": {"model", "bench", "darknet"},
        "Help": {"doctor"},
    }
    parts = re.split(r"─ ([\w ]+) ─", out)
    found = {
        title: set(re.findall(r"^│ ([a-z]+) +\S", text, re.MULTILINE))
        for title, text in zip(parts[1::2], parts[2::2], strict=True)
    }
    assert found.keys() == {"Options", *panels}
    assert all(verbs <= found[title] for title, verbs in panels.items())
    assert {verb.split()[0] for verb in VERBS} == set().union(*(found[title] for title in panels))


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_two_examples_that_its_own_parser_takes(verb: str) -> None:
    examples = examples_of(verb)
    assert len(examples) >= 2
    for example in examples:
        words = shlex.split(example.partition(" | ")[0])[1:]
        assert " ".join(words).startswith(verb)
        rest = words[len(verb.split()) :]
        if verb == "darknet":
            flags = [word for word in rest if word.startswith("-") and not word[1:2].isdigit()]
            assert set(flags) <= set(FLAGS)
            continue
        command_of(verb).make_context(verb, rest).close()                   # parsed, not run


def test_an_example_of_an_option_that_is_not_there_would_be_found() -> None:
    with pytest.raises(Exception, match="No such option: --epochs"):
        command_of("detect").make_context("detect", ["dog.jpg", "--epochs", "3"])


# ---------------------------------------------------------------------- slips
@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("detct", "no verb 'detct', did you mean detect? `lookonce --help` shows them"),
        ("convert", "did you mean model convert or data convert? "),
        ("cut", "no verb 'cut', did you mean model cut? "),
        ("anchrs", "did you mean data anchors? "),
        ("data chek x", "no verb 'data chek', did you mean data check? `lookonce data --help` shows them"),
        ("data pull x", "no verb 'data pull', did you mean model pull? "),
        ("model detect x", "no verb 'model detect', did you mean detect? "),
        ("xyzzy", "no verb 'xyzzy'; `lookonce --help` shows them"),
        ("detect a --thersh .3", "No such option: --thersh, did you mean --thresh? `lookonce detect --help` shows how"),
        ("detect a -thresh .3", "No such option: -thresh, did you mean --thresh? `lookonce detect --help` shows how"),
        ("detect a -model x", "No such option: -model, did you mean --model? `lookonce detect --help` shows how"),
        ("data check x -names=y", "No such option: -names, did you mean --names? `lookonce data check --help` "),
        ("classify a --nms .4", "No such option: --nms, which is of detect, val, not of classify; `lookonce classify"),
        ("detect a --epochs 3", "No such option: --epochs, which is of train, not of detect; "),
        ("detect a --epoch 3", "No such option: --epoch, did you mean --epochs of train? "),
        ("detect a --json", " more, not of detect; "),
        ("detect a -k 3", "No such option: -k, which is of data anchors, not of detect; "),
        ("data check x --shares a=1", "which is of data split, not of data check; `lookonce data check --help`"),
        ("--vresion", "No such option: --vresion, did you mean --version? `lookonce --help` shows how"),
        ("--thresh .3 detect a", "which is of detect, val, not of the program itself; "),
        ("detect a --xyzzy", "No such option: --xyzzy; `lookonce detect --help` shows how"),
        ("detect a --format jsn", "did you mean json? `lookonce detect --help` shows how"),
        ("bench --engine openvin", "'openvino', 'onnxruntime', 'binary', did you mean openvino? `lookonce bench"),
        ("detect a --engine torch", "'torch' is not one of 'auto', 'openvino', 'onnxruntime', 'binary'; `lookonce"),
        ("detect a --precision bf1", "did you mean bf16? "),
        ("val --data x --protocol voc7", "did you mean voc07? "),
        ("detect a --thresh 25", "'--thresh': wanted less than or equal to 1, found 25 (25 % is 0.25); `lookonce d"),
        ("detect a --threads 0", "'--threads': wanted greater than or equal to 1, found 0; "),
        ("model cut x y -o z", "'layers': wanted a valid integer, found y; `lookonce model cut --help` shows how"),
        ("data check x --split", "Option '--split' requires an argument; `lookonce data check --help` shows how"),
        ("val", "Missing option '--data'; `lookonce val --help` shows how"),
        ("detect", "Missing argument 'SOURCE...'; `lookonce detect --help` shows how"),
        ("model show yolov3-tinny", "did you mean yolov3-tiny? "),
        ("model pull yolov3-tinny", "did you mean yolov3-tiny? "),
        ("darknet detectr", "did you mean detector?"),
    ],
)
def test_a_slip_is_told_what_was_meant(line: str, says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(line.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith("lookonce: ")
    assert says in err


@pytest.mark.parametrize("words", [["detect", "--", "-model"], ["darknet", "detector", "test", "-thresh"]])
def test_a_single_dash_is_no_slip_after_two_and_to_darknet(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    main(words)
    assert "did you mean --" not in capsys.readouterr().err


def test_every_list_of_names_is_told_where_one_is_mistyped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine.names").write_text("dog\n")
    for names, says in (
        ("cocoo", r"neither a file nor a list of names, did you mean coco\?"),
        ("mine", r"did you mean mine\.names\?"),
        ("xyzzy", "; the lists are voc, coco, "),
    ):
        with pytest.raises(DataError, match=says):
            options.check_names(names)
    for names in ("coco", "mine.names", "nowhere/coco", "missing.names", "x" * 5000, None):
        options.check_names(names)
