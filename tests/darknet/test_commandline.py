"""Darknet's command lines and what they are here: a table. Thresholds and names are those of its examples' sources."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import typer

from lookonce.cli.main import app
from lookonce.darknet.commandline import translate
from lookonce.errors import DataError, LookonceError, LookonceWarning, TranslationError

NET = "cfg/my.cfg my.weights"
DETECT = "detect dog.jpg -m cfg/my.cfg -w my.weights"

# Darknet's line, then ours.
DETECTORS = [
    # `detect` is `detector test cfg/coco.data`; .5 is the original's threshold
    (f"detect {NET} dog.jpg", f"{DETECT} --names coco --thresh 0.5 --save predictions"),
    (f"detect {NET}", "detect - -m cfg/my.cfg -w my.weights --names coco --thresh 0.5 --save predictions"),
    (f"detector test cfg/coco.data {NET} dog.jpg", f"{DETECT} --names coco --thresh 0.5 --save predictions"),
    (f"detector test cfg/voc.data {NET} dog.jpg", f"{DETECT} --names voc --thresh 0.5 --save predictions"),
    (f"detector test cfg/open.data {NET} dog.jpg", f"{DETECT} --names openimages --thresh 0.5 --save predictions"),
    (f"detector test cfg/my.data {NET} dog.jpg", f"{DETECT} --names @/cfg/my.names --thresh 0.5 --save predictions"),
    (f"detector test cfg/none.data {NET} dog.jpg", f"{DETECT} --thresh 0.5 --save predictions"),
    # Flags are taken out wherever they stand, with their value
    (f"-thresh .3 detect {NET} dog.jpg", f"{DETECT} --names coco --thresh .3 --save predictions"),
    (f"detect -i 1 {NET} -nogpu dog.jpg -fullscreen", f"{DETECT} --names coco --thresh 0.5 --save predictions"),
    (f"detector test cfg/my.data {NET} dog.jpg -thresh .25 -hier .6 -nms .3 -gpus 0,1",
     f"{DETECT} --names @/cfg/my.names --thresh .25 --hier .6 --nms .3 --save predictions"),
    (f"detect {NET} dog.jpg -out out/found", f"{DETECT} --names coco --thresh 0.5 --save out"),
    (f"detect {NET} dog.jpg -prefix out/frame", f"{DETECT} --names coco --thresh 0.5 --save out"),
    # A camera or a video
    (f"detector demo cfg/coco.data {NET}",
     "detect 0 -m cfg/my.cfg -w my.weights --names coco --thresh 0.5 --save predictions"),
    (f"detector demo cfg/coco.data {NET} -c 2 -s 1 -avg 3 -w 640 -h 480 -fps 30",
     "detect 2 -m cfg/my.cfg -w my.weights --names coco --thresh 0.5 --save predictions"),
    (f"detector demo cfg/coco.data {NET} road.mp4 -c 2",
     "detect road.mp4 -m cfg/my.cfg -w my.weights --names coco --thresh 0.5 --save predictions"),
    # Version 1, of VOC and of COCO
    (f"yolo test {NET} dog.jpg", f"{DETECT} --names voc --thresh 0.2 --save predictions"),
    (f"coco test {NET} dog.jpg", f"{DETECT} --names coco --thresh 0.2 --save predictions"),
    (f"yolo demo {NET}", "detect 0 -m cfg/my.cfg -w my.weights --names voc --thresh 0.2 --save predictions"),
]  # fmt: skip
FORKS = [
    # A flag of the fork's shows that its program is meant: its thresholds are .25, and .24 for the short form
    (f"detector test cfg/coco.data {NET} dog.jpg -ext_output -dont_show",
     f"{DETECT} --names coco --thresh 0.25 --save predictions"),
    (f"detect {NET} dog.jpg -dont_show", f"{DETECT} --names coco --thresh 0.24 --save predictions"),
    (f"detector test cfg/coco.data {NET} dog.jpg -dont_show -thresh .1",
     f"{DETECT} --names coco --thresh .1 --save predictions"),
    (f"detector test cfg/coco.data {NET} dog.jpg -letter_box",
     f"{DETECT} --names coco --thresh 0.25 --resize letterbox --save predictions"),
    (f"detector test cfg/coco.data {NET} in/dog.jpg -save_labels",
     "detect in/dog.jpg -m cfg/my.cfg -w my.weights --names coco --thresh 0.25 "
     "--format darknet -o in --save predictions"),
    (f"detector demo cfg/coco.data {NET} road.mp4 -out_filename out/road.avi -dont_show",
     "detect road.mp4 -m cfg/my.cfg -w my.weights --names coco --thresh 0.25 --save out"),
    # What a detector says goes to a file if that is a .json
    (f"detector test cfg/coco.data {NET} dog.jpg -dont_show -out boxes.json",
     f"{DETECT} --names coco --thresh 0.25 --format json -o boxes.json --save predictions"),
]  # fmt: skip
OTHERS = [
    (f"classify {NET} dog.jpg", "classify dog.jpg -m cfg/my.cfg -w my.weights --names imagenet"),
    (f"classifier predict cfg/imagenet1k.data {NET} dog.jpg",
     "classify dog.jpg -m cfg/my.cfg -w my.weights --names imagenet"),
    (f"classifier predict cfg/imagenet1k.data {NET} dog.jpg -t 3",
     "classify dog.jpg -m cfg/my.cfg -w my.weights --names imagenet --top 3"),
    (f"classifier predict cfg/my.data {NET} dog.jpg -topk 2",
     "classify dog.jpg -m cfg/my.cfg -w my.weights --names @/cfg/my.names --top 2"),
    (f"classifier predict cfg/labels.data {NET} dog.jpg",
     "classify dog.jpg -m cfg/my.cfg -w my.weights --names @/cfg/my.labels"),
    (f"classifier predict cfg/my.data {NET}", "classify - -m cfg/my.cfg -w my.weights --names @/cfg/my.names"),
    ("partial cfg/my.cfg my.weights my.conv.15 15", "model cut cfg/my.cfg 15 -w my.weights -o my.conv.15"),
    ("ops cfg/my.cfg", "model show cfg/my.cfg"),
    ("speed cfg/my.cfg", "bench -m cfg/my.cfg"),
    ("speed cfg/my.cfg 100", "bench -m cfg/my.cfg"),
]


TRAINING = [
    ("detector train cfg/my.data cfg/my.cfg", "train cfg/my.cfg --data cfg/my.data"),
    ("detector train cfg/my.data cfg/my.cfg darknet53.conv.74",
     "train cfg/my.cfg --data cfg/my.data --pretrained darknet53.conv.74"),
    (f"detector train cfg/my.data {NET} -clear", "train cfg/my.cfg --data cfg/my.data --pretrained my.weights --clear"),
    # What the fork shows while it learns, a terminal and the page do here
    ("detector train cfg/my.data cfg/my.cfg -dont_show -map -mjpeg_port 8090 -chart mine.png",
     "train cfg/my.cfg --data cfg/my.data"),
    ("detector train cfg/my.data cfg/my.cfg -nogpu", "train cfg/my.cfg --data cfg/my.data --device cpu"),
    ("-i 1 detector train cfg/my.data cfg/my.cfg", "train cfg/my.cfg --data cfg/my.data --device cuda:1"),
    ("detector train cfg/my.data cfg/my.cfg -gpus 2", "train cfg/my.cfg --data cfg/my.data --device cuda:2"),
    ("detector train cfg/my.data cfg/my.cfg -gpus 2,3", "train cfg/my.cfg --data cfg/my.data --device cuda:2"),
    (f"classifier train cfg/my.data {NET} -clear",
     "train cfg/my.cfg --data cfg/my.data --pretrained my.weights --clear"),
]  # fmt: skip


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as Darknet's users have it, as the current one."""
    (tmp_path / "cfg").mkdir()
    for name, text in {
        "coco.data": "classes= 80\nnames = data/coco.names\neval=coco\n",
        "voc.data": "names = /somewhere/else/voc.names\n",
        "open.data": "names = openimages.names\n",
        "imagenet1k.data": "names = data/imagenet.shortnames.list\nlabels = data/imagenet.labels.list\ntop=5\n",
        "my.data": "names = my.names\nlabels = my.labels\n",
        "labels.data": "labels = my.labels\n",
        "none.data": "classes = 2\n",
        "lost.data": "names = lost.names\n",
        "my.cfg": "[net]\nwidth=416\n",
        "my.names": "dog\ncat\n",
        "my.labels": "n1\nn2\n",
    }.items():
        (tmp_path / "cfg" / name).write_text(text)
    monkeypatch.chdir(tmp_path)
    return tmp_path.resolve()


@pytest.mark.parametrize(("darknet", "native"), DETECTORS + FORKS + OTHERS + TRAINING)
def test_a_command_line_of_darknets_has_an_equivalent(folder: Path, darknet: str, native: str) -> None:
    assert translate(darknet.split(" ")) == native.replace("@", str(folder)).split(" ")


@pytest.mark.parametrize("darknet", [darknet for darknet, _ in DETECTORS + FORKS + OTHERS + TRAINING])
def test_the_equivalent_is_a_command_line_that_this_program_takes(darknet: str) -> None:
    """The options are parsed by the verb itself; nothing is run."""
    verb, *arguments = translate(darknet.split(" "))
    group = typer.main.get_command(app)
    command = group.commands[verb]                      # type: ignore[attr-defined]
    if verb == "model":
        command, arguments = command.commands[arguments[0]], arguments[1:]
    assert command.make_context(verb, arguments).params


def test_names_with_blanks_stay_one_word(folder: Path) -> None:
    assert translate(["detect", "my net.cfg", "my.weights", "my dog.jpg"])[1:4] == ["my dog.jpg", "-m", "my net.cfg"]


@pytest.mark.parametrize(
    ("darknet", "words"),
    [
        ("", ["wanted a command", "detector", "classify"]),
        ("detecto test", ["detecto", "did you mean detector?"]),
        ("nightmare cfg/vgg-conv.cfg vgg.weights dog.jpg 10", ["nightmare", "no equivalent"]),
        (f"detector valid cfg/coco.data {NET}", ["detector valid", "`darknet detector test`", "detector train` have"]),
        (f"yolo train {NET}", ["yolo train", "no equivalent", "`darknet yolo test`, `darknet yolo demo` have"]),
        ("detector train cfg/my.data", ["detector train DATA CFG [WEIGHTS]", "found 1"]),
        ("classifier train", ["classifier train DATA CFG [WEIGHTS]", "found 0"]),
        (f"detector train cfg/my.data {NET} more", ["found 4"]),
        (f"detector map cfg/coco.data {NET}", ["detector map", "no equivalent"]),
        (f"classifier valid cfg/coco.data {NET}", ["classifier valid", "`darknet classifier predict`"]),
        ("detector", ["detector", "no equivalent"]),
        ("detector test", ["DATA CFG WEIGHTS [FILE]"]),
        ("detector test cfg/coco.data", ["CFG WEIGHTS", "found 0"]),
        ("detector test cfg/coco.data cfg/my.cfg", ["CFG WEIGHTS", "found 1"]),
        (f"detect {NET} dog.jpg cat.jpg", ["CFG WEIGHTS [FILE]", "found 4"]),
        ("detect", ["CFG WEIGHTS", "found 0"]),
        (f"detect {NET} dog.jpg -tresh .3", ["-tresh", "did you mean -thresh?"]),
        (f"detect {NET} dog.jpg -thresh", ["-thresh wants a value"]),
        ("partial cfg/my.cfg my.weights out", ["partial CFG WEIGHTS OUT LAYERS", "found 3"]),
        ("ops", ["ops CFG", "found 0"]),
        ("speed", ["speed CFG", "found 0"]),
        ("\x1b[31m", ["\\x1b[31m"]),
    ],
)
def test_a_command_line_without_an_equivalent_says_why(darknet: str, words: list[str]) -> None:
    with pytest.raises(TranslationError) as refused:
        translate(darknet.split(" ") if darknet else [])
    assert str(refused.value).startswith("darknet")
    assert all(word in str(refused.value) for word in words), refused.value
    assert refused.value.exit_code == 2


@pytest.mark.parametrize(
    ("data", "words"),
    [("cfg/missing.data", ["cfg/missing.data: no such file"]), ("cfg/my.cfg", ["cfg/my.cfg:1", "swapped"]),
     ("cfg/lost.data", ["cfg/lost.data", "lost.names", "not there"]), ("cfg", ["a folder"])],
)  # fmt: skip
def test_a_data_file_that_cannot_be_used_is_named(data: str, words: list[str]) -> None:
    with pytest.raises(DataError) as refused:
        translate(["detector", "test", data, "cfg/my.cfg", "my.weights", "dog.jpg"])
    assert all(word in str(refused.value) for word in words), refused.value


def test_names_that_lie_outside_are_refused_for_that_reason(folder: Path) -> None:
    """The file is there, so "not there" would send its owner looking."""
    outside = folder.parent / "outside.names"
    outside.write_text("dog\n")
    (folder / "cfg" / "far.data").write_text(f"names = {outside}\n")
    with pytest.raises(LookonceError) as refused:
        translate(["detector", "test", "cfg/far.data", "cfg/my.cfg", "my.weights", "dog.jpg"])
    assert "not there" not in str(refused.value)
    assert "absolute" in str(refused.value)


def test_a_list_of_darknets_name_that_is_there_is_the_users_own(folder: Path) -> None:
    (folder / "cfg" / "coco.names").write_text("widget\n")
    (folder / "cfg" / "own.data").write_text("names = coco.names\n")
    native = translate(["detector", "test", "cfg/own.data", "cfg/my.cfg", "my.weights", "dog.jpg"])
    assert native[native.index("--names") + 1] == str(folder / "cfg" / "coco.names")


def test_a_copys_name_that_cannot_be_had_is_told() -> None:
    line = ["detector", "demo", "cfg/coco.data", "cfg/my.cfg", "my.weights", "road.mp4", "-out_filename"]
    with pytest.warns(LookonceWarning, match=r"out/res\.avi: copies are called as what they are of: .* folder out"):
        translate([*line, "out/res.avi"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        translate([*line, "out/road.avi"])


def test_several_gpus_are_what_torchrun_is_for() -> None:
    with pytest.warns(LookonceWarning, match=r"-gpus 0,2: .*CUDA_VISIBLE_DEVICES=0,2 torchrun --nproc-per-node 2 -m"):
        translate(["detector", "train", "cfg/my.data", "cfg/my.cfg", "-gpus", "0,2"])
