from __future__ import annotations

import csv
import io
import json
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import typer
from conftest import DETECTOR, ROOT, model_of
from PIL import Image

from lookonce import __version__, draw
from lookonce.cli.main import app, main
from lookonce.model import open_model

CLASSIFIER = DETECTOR[: DETECTOR.index("[convolutional]\nfilters=21")] + "[avgpool]\n[softmax]\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: net.cfg, net.weights, net.names, c.cfg, c.weights and three pictures in photos/."""
    for name, cfg in (("net", DETECTOR), ("c", CLASSIFIER)):
        (tmp_path / f"{name}.cfg").write_text(cfg)
        model_of(cfg).write_weights(tmp_path / f"{name}.weights")
    (tmp_path / "net.names").write_text("cat\ndog\n")
    (tmp_path / "photos").mkdir()
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (50, 80, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "photos" / f"photo_{number + 7}.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


NET = ["-m", "net.cfg", "-w", "net.weights", "--names", "net.names", "--thresh", ".3"]


def test_detect_prints_a_block_a_picture_and_the_settings_on_stderr(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["detect", "photos/photo_7.png", *NET]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("photos/photo_7.png: ")
    assert err.startswith("net: 64 x 64, letterbox, openvino ")
    name, score, *corners = out.splitlines()[1].split()
    assert name in ("cat", "dog")
    assert 0.3 < float(score) <= 1
    assert len(corners) == 4


def test_json_has_the_promised_shape(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["detect", "photos", *NET, "--format", "json", "-q"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    document = json.loads(out)
    assert (document["model"], document["resize"]) == ("net", "letterbox")
    assert [picture["file"] for picture in document["pictures"]] == [f"photos/photo_{n}.png" for n in (7, 8, 9)]
    first = document["pictures"][0]
    assert (first["width"], first["height"]) == (80, 50)
    assert first["detections"][0].keys() == {"label", "name", "score", "xyxy"}


def test_every_format_says_the_same(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def said(format: str) -> str:
        assert main(["detect", "photos", *NET, "--format", format, "-q"]) == 0
        return capsys.readouterr().out

    pictures = json.loads(said("json"))["pictures"]
    boxes = [(p["file"], d["label"], d["score"]) for p in pictures for d in p["detections"]]
    assert len(boxes) > 5
    lines = [json.loads(line) for line in said("jsonl").splitlines()]
    assert lines == pictures
    rows = list(csv.DictReader(io.StringIO(said("csv"))))
    assert [(row["file"], int(row["label"]), float(row["score"])) for row in rows] == boxes
    coco = json.loads(said("coco"))
    assert [(f"photos/photo_{r['image_id']}.png", r["category_id"] - 1, r["score"]) for r in coco] == boxes
    for format in ("voc", "darknet"):
        assert main(["detect", "photos", *NET, "--format", format, "-q", "-o", format]) == 0
    voc = sum(len(path.read_text().splitlines()) for path in Path("voc").iterdir())
    darknet = sum(len(path.read_text().splitlines()) for path in Path("darknet").iterdir())
    assert voc == darknet == len(boxes)


def test_answers_go_into_a_file_and_copies_into_a_folder(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["detect", "photos", *NET, "--format", "json", "-o", "out/boxes.json", "--save", "drawn", "-q"]) == 0
    assert capsys.readouterr().out == ""
    assert len(json.loads(Path("out/boxes.json").read_text())["pictures"]) == 3
    assert sorted(path.name for path in Path("drawn").iterdir()) == [f"photo_{n}.png" for n in (7, 8, 9)]
    drawn, original = Image.open("drawn/photo_7.png"), Image.open("photos/photo_7.png")
    assert drawn.size == original.size
    assert (np.asarray(drawn) != np.asarray(original)).any()


def test_a_dash_is_standard_output(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["detect", "photos", *NET, "--format", "jsonl", "-o", "-", "-q"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert not Path("-").exists()


@pytest.mark.parametrize("name", ["model", "weights", "names", "source"])
def test_answers_never_replace_what_they_come_from(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever it is called, also by another name."""
    real = {"model": "m", "weights": "w", "names": "n", "source": "s"}
    for kind, source in zip(real, ("net.cfg", "net.weights", "net.names", "photos/photo_7.png"), strict=True):
        Path(real[kind]).write_bytes(Path(source).read_bytes())
    before = Path(real[name]).read_bytes()
    Path("link").symlink_to(real[name])
    for out in (real[name], "link", f"./photos/../{real[name]}"):
        assert main(["detect", "s", "-m", "m", "-w", "w", "--names", "n", "-o", out]) == 2
        assert f"-o {out}".replace("./", "") in capsys.readouterr().err.replace("./", "")
        assert Path(real[name]).read_bytes() == before


def test_when_nothing_was_read_old_answers_stay(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("boxes.json").write_text("yesterday's")
    assert main(["detect", "photo.jpg", *NET, "--format", "json", "-o", "boxes.json", "-q"]) == 2
    assert Path("boxes.json").read_text() == "yesterday's"


def test_a_copy_that_fails_is_reported_and_the_rest_is_done_and_saved(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = draw.save

    def full(picture: np.ndarray, path: Path) -> None:
        if path.stem == "photo_8":
            raise OSError(28, "No space left on device")
        whole(picture, path)

    monkeypatch.setattr(draw, "save", full)
    assert main(["detect", "photos", *NET, "--format", "json", "-o", "boxes.json", "--save", "drawn", "-q"]) == 1
    said = capsys.readouterr().err
    assert said == "lookonce: drawn/photo_8.png: the copy cannot be written: No space left on device\n"
    assert len(json.loads(Path("boxes.json").read_text())["pictures"]) == 3
    assert sorted(path.name for path in Path("drawn").iterdir()) == ["photo_7.png", "photo_9.png"]


def test_two_pictures_of_one_number_cost_only_the_second(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("photos/other_8.png").write_bytes(Path("photos/photo_8.png").read_bytes())
    assert main(["detect", "photos", *NET, "--format", "coco", "-o", "boxes.json", "-q"]) == 1
    assert "photo_8.png: would be 8 in the results, as photos/other_8.png is" in capsys.readouterr().err
    assert {row["image_id"] for row in json.loads(Path("boxes.json").read_text())} == {7, 8, 9}


def test_a_model_without_names_says_how_to_give_them(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for verb, model in (("detect", "net"), ("classify", "c")):
        assert main([verb, "photos/photo_7.png", "-m", f"{model}.cfg", "-w", f"{model}.weights"]) == 0
        assert "classes are numbered; --names FILE names them" in capsys.readouterr().err
    assert main(["detect", "photos/photo_7.png", *NET]) == 0
    assert "--names" not in capsys.readouterr().err


def test_a_folder_called_as_a_list_of_names_is_not_in_its_way(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("coco").mkdir()
    assert main(["detect", "photos", *NET[:4], "--names", "coco"]) == 2
    assert "80 names, but the network has 2 classes" in capsys.readouterr().err


def test_the_version_is_told_with_and_without_a_verb(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--version"], ["--version", "detect"]):
        assert main(arguments) == 0
        assert capsys.readouterr().out == f"lookonce {__version__}\n"


@pytest.mark.parametrize("arguments", [[], ["model"]])
def test_without_a_verb_there_is_help_and_no_more(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert "Usage" in out + err
    assert "lookonce: " not in out + err


def test_one_bad_picture_is_reported_and_the_rest_done(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("photos/photo_8.png").write_bytes(b"not a picture")
    assert main(["detect", "photos", "missing.jpg", *NET, "-q"]) == 1
    out, err = capsys.readouterr()
    assert [line.split(":")[1].strip() for line in err.splitlines()] == ["photos/photo_8.png", "missing.jpg"]
    assert out.count("photos/photo_") == 2


def test_when_nothing_can_be_read_the_request_cannot_be_served(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["detect", "missing.jpg", *NET, "-q"]) == 2
    assert capsys.readouterr().err == "lookonce: missing.jpg: no such file\n"


@pytest.mark.parametrize(
    ("arguments", "code", "says"),
    [
        (["detct", "a.jpg"], 2, "no verb 'detct', did you mean detect?"),
        (["detect"], 2, "Missing argument 'SOURCE...'; `lookonce detect --help` shows how"),
        (["detect", "a.jpg", "--thersh", ".3"], 2, "No such option: --thersh"),
        (["detect", "a.jpg", "--thresh", "2"], 2, "'--thresh': wanted less than or equal to 1, found 2"),
        (["detect", "a.jpg", "--thresh", "x"], 2, "'--thresh': wanted a valid number, found x; "),
        (["detect", "a.jpg", "--format", "yaml"], 2, "'--format': 'yaml' is not one of "),
        (["detect", "a.jpg", "--save"], 2, "`lookonce detect --help` shows how"),
        (["model", "cut", "net.cfg", "-o"], 2, "`lookonce model cut --help` shows how"),
        (["pull", "yolov3"], 2, "no verb 'pull', did you mean model pull?"),
        (["darknet", "detector"], 2, "darknet detector: has no equivalent here; "),
        (["detect", "photos", *NET, "-o", "net.names/x"], 2, "net.names: is a file, wanted a folder"),
        (["detect", "photos", *NET, "-o", "photos"], 2, "photos: is a folder, wanted the name of a file"),
        (["detect", "photos", *NET, "--save", "net.cfg"], 2, "net.cfg: is a file, wanted a folder"),
        (["detect", "photos", *NET, "--format", "voc", "-o", "net.cfg"], 2, "-o net.cfg: is what a picture, video or"),
        (["detect", "photos", *NET, "-o", "photos/photo_7.png"], 2, "is what a picture, video or model is called"),
        (["detect", "a.jpg", "--thresh", "nan"], 2, "'--thresh'"),
        (["detect", "a.jpg", "--size", "4x4x4", "-m", "net.cfg", "-w", "net.weights"], 2, "--size '4x4x4'"),
        (["detect", "a.jpg", "-m", "net.weights", "-w", "net.cfg"], 2, "are cfg and weights swapped?"),
        (["detect", "a.jpg", "-m", "net.cfg", "-w", "c.weights"], 2, "are cfg and weights of one network?"),
        (["detect", "a.jpg", "-m", "net.cfg"], 2, "needs its weights: give them with -w FILE"),
        (["detect", "a.jpg", "-m", "c.cfg", "-w", "c.weights"], 2, "it classifies: use classify"),
        (["classify", "a.jpg", "-m", "net.cfg", "-w", "net.weights"], 2, "it detects: use detect"),
        (["detect", "photos/photo_7.png", *NET, "--format", "voc"], 2, "-o FOLDER"),
        (["detect", "a.jpg", *NET[:4], "--names", "photos"], 2, "photos: is a folder"),
        (["detect", "a.jpg", *NET[:4], "--names", "coco"], 2, "80 names, but the network has 2 classes"),
        (["detect", "a.jpg", "--engine", "torch"], 2, "'--engine'"),
        (["model", "shwo", "net.cfg"], 2, "did you mean model show?"),
        (["model", "show", "nothing"], 2, "neither a file nor a network of the zoo"),
        (["model", "pull", "yolov1"], 2, "no weights of this network were published"),
        (["model", "cut", "net.cfg", "9", "-w", "net.weights", "-o", "x"], 2, "has 3 layers"),
        (["model", "convert", "net.cfg", "-w", "net.weights", "-o", "x.pth"], 2, "wanted a name that ends in"),
        (["darknet", "detector", "valid", "a.data", "a.cfg"], 2, "no equivalent here"),
    ],
)
def test_a_mistake_gets_one_line_and_its_exit_code(
    folder: Path, arguments: list[str], code: int, says: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == code
    out, err = capsys.readouterr()
    assert out == ""
    errors = [line for line in err.splitlines() if not line.startswith(("net: ", "= "))]
    assert len(errors) == 1
    assert errors[0].startswith("lookonce: ")
    assert says in errors[0]


def test_strict_makes_warnings_errors(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("odd.cfg").write_text(DETECTOR.replace("stride=4", "stride=4\nstride=2"))
    arguments = ["detect", "photos/photo_7.png", "-m", "odd.cfg", "-w", "net.weights", "-q"]
    assert main(arguments) == 0
    assert "warning: odd.cfg:9: [convolutional] has stride a second time; line 8 (stride=4)" in capsys.readouterr().err
    assert main([*arguments, "--strict"]) == 2
    assert "--strict makes this an error" in capsys.readouterr().err


def test_classify_names_the_likeliest(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["classify", "photos", "-m", "c.cfg", "-w", "c.weights", "--top", "2", "-q"]
    assert main(arguments) == 0
    out = capsys.readouterr().out
    assert out.count("%") == 6
    assert main([*arguments, "--format", "jsonl"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [len(row["classes"]) for row in rows] == [2, 2, 2]


def test_bench_measures_every_engine(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "-m", "net.cfg", "-w", "net.weights", "--seconds", ".1", "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    measured = [(figure["engine"], figure["precision"]) for figure in figures]
    assert measured[0] == ("openvino", "f32")
    assert measured[-1] == ("onnxruntime", "f32")
    assert set(measured[1:-1]) <= {("openvino", "bf16")}                # where the processor has it
    assert all(0 < figure["forward_least"] <= figure["forward"] <= figure["forward_p90"] for figure in figures)
    assert all(figure["fit"] > 0 < figure["decode"] for figure in figures)


def test_bench_wants_no_weights_since_their_values_cost_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "-m", "net.cfg", "--seconds", ".1", "--precision", "f32"]) == 0
    assert main(["darknet", "speed", "c.cfg"]) == 0


def test_bench_takes_the_weights_in_the_box(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--seconds", ".1", "--precision", "f32", "--engine", "openvino"]) == 0
    assert "random" not in capsys.readouterr().err


def test_bench_runs_a_zoo_network_that_was_not_pulled(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "-m", "darknet19", "--size", "64", "--seconds", ".1", "--engine", "openvino"]) == 0
    assert "64 x 64 x 3" in capsys.readouterr().out


def test_model_list_and_show(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "list"]) == 0
    out = capsys.readouterr().out
    said = {line.split()[0]: " ".join(line.split()[1:]) for line in out.splitlines() if line}
    assert said["yolov3-tiny"].startswith("35 MB to pull")
    assert said["yolov1"].startswith("none published")
    assert "darknet53.conv.74" in out
    assert main(["model", "show", "yolov3", "--size", "416"]) == 0
    assert "61,949,149 parameters, 65.86 billion operations, 248,007,048 bytes" in capsys.readouterr().out


def test_convert_there_and_back_and_cut(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = ["net.cfg", "-w", "net.weights", "--names", "net.names"]
    assert main(["model", "convert", *given, "-o", "one.safetensors"]) == 0
    assert main(["model", "convert", "one.safetensors", "-o", "back/net.weights"]) == 0
    for suffix in ("cfg", "weights", "names"):
        assert Path(f"back/net.{suffix}").read_bytes() == Path(f"net.{suffix}").read_bytes()
    assert main(["model", "convert", "one.safetensors", "-o", "net.onnx", "--decoded"]) == 0
    assert "NMS keeps the same" in capsys.readouterr().err
    assert main(["model", "cut", "one.safetensors", "1", "-o", "net.conv.1"]) == 0
    assert open_model("net.cfg", "net.conv.1:1").trained == 1
    assert main(["detect", "photos", "-m", "one.safetensors", "--format", "jsonl", "-q"]) == 0


def test_darknets_command_lines_run_and_show_the_native_one_once(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("net.data").write_text("classes = 2\nnames = net.names\n")
    line = "detector test net.data net.cfg net.weights photos/photo_7.png -thresh .3 -out out/boxes"
    assert main(["darknet", *line.split()]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("photos/photo_7.png: ")
    native = [text for text in err.splitlines() if text.startswith("= ")]
    assert len(native) == 1
    assert main(native[0].removeprefix("= lookonce ").split()) == 0
    assert capsys.readouterr().out == out
    assert Path("out/photo_7.png").exists()


def test_a_reader_that_goes_away_is_no_error_of_ours(folder: Path) -> None:
    """`lookonce ... | head -1`: no traceback."""
    for number in range(40):
        Image.new("RGB", (9, 9)).save(f"photos/more_{number}.png")
    code = "from lookonce.cli.main import run; run()"
    command = [sys.executable, "-c", code, "detect", "photos", *NET, "--format", "jsonl", "-q"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
        assert process.wait(20) == 141


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_was_known_when_it_was_ended_is_saved(number: signal.Signals, folder: Path) -> None:
    for count in range(400):
        Image.new("RGB", (900, 900)).save(f"photos/more_{count}.png")
    command = [sys.executable, "-c", "from lookonce.cli.main import run; run()"]
    arguments = ["detect", "photos", *NET, "--format", "csv", "-o", "boxes.csv", "--save", "drawn"]
    with subprocess.Popen([*command, *arguments], stderr=subprocess.PIPE) as process:
        drawn = Path("drawn")
        while not drawn.is_dir() or len(list(drawn.iterdir())) < 3:
            time.sleep(0.01)
        process.send_signal(number)
        assert process.wait(20) == 130
    assert Path("boxes.csv").read_text().startswith('"file","frame"')
    assert not [path for path in folder.iterdir() if path.name.endswith(".part")]


def test_help_takes_less_than_a_third_of_a_second() -> None:
    """Of the processor's time, the least of some: other tests run beside, and what they take is not ours."""
    taken = []
    for _ in range(4):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        command = [sys.executable, "-c", "from lookonce.cli.main import run; run()", "--help"]
        done = subprocess.run(command, capture_output=True, check=True, cwd=ROOT)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        taken.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert b"detect" in done.stdout
    assert min(taken) <= 0.3


def test_every_verb_has_help_with_two_examples(capsys: pytest.CaptureFixture[str]) -> None:
    verbs = ["detect", "classify", "bench", "darknet", "model show", "model pull", "model convert"]
    for verb in [words.split() for words in verbs]:
        assert main([*verb, "--help"]) == 0
        assert capsys.readouterr().out.count(f"lookonce {' '.join(verb)} ") >= 2, verb


def test_no_help_loses_what_stands_in_brackets(capsys: pytest.CaptureFixture[str]) -> None:
    """Rich takes [default: x] in a text for markup, and leaves it out."""
    commands = [typer.main.get_command(app)]
    for command in commands:                                # grows while it is gone through
        commands += getattr(command, "commands", {}).values()
        texts = [command.help or "", *(getattr(each, "help", None) or "" for each in command.params)]
        assert not [text for text in texts if "[" in text], command.name
    assert len(commands) > 15
    assert main(["detect", "--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"(default: {value})" in out or f"({value})" in out for value in (".25", ".45", ".5", "all"))
