"""The wrong turns of somebody's first minutes: one line says what was found, what was wanted, and what to do next."""

from __future__ import annotations

import contextlib
import functools
import http.server
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import DETECTOR, model_of
from PIL import Image

from lookonce.cli.main import main
from lookonce.model import onefile

CLASSIFIER = DETECTOR[: DETECTOR.index("[convolutional]\nfilters=21")] + "[avgpool]\n[softmax]\n"
OBJECT = "<object><name>dog</name><bndbox><xmin>3</xmin><ymin>3</ymin><xmax>40</xmax><ymax>40</ymax></bndbox></object>"
HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(40)
NET = "-m net.cfg -w net.weights --names net.names -q"
PAGE = "<!DOCTYPE html><html><title>404 Not Found</title></html>"
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="as Linux has it")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What lies around in the folder of somebody new: two networks on random weights, pictures, and what is none."""
    folder = tmp_path_factory.mktemp("here")
    for name, cfg in (("net", DETECTOR), ("c", CLASSIFIER)):
        (folder / f"{name}.cfg").write_text(cfg)
        model_of(cfg).write_weights(folder / f"{name}.weights")
    texts = {"net.names": "cat\ndog\n", "three.names": "a\nb\nc\n", "list.txt": "dog.jpg\n", "page.weights": PAGE,
             "page.jpg": PAGE, "diary.md": "# Today\n- it learnt\n", "net.py": "x = 1\n",
             "paper.mp4": "%PDF-1.7\n", "note.mp4": "Dear diary,\n", "texts/a.md": "# Today\n",
             "notes.cfg": "Dear diary,\ntoday it learnt.\n", "paper.jpg": "%PDF-1.7\n"}  # fmt: skip
    for name, text in texts.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    (folder / "movie.mp4").write_bytes(b"\0\0\0\x18ftypisom" + bytes(40))
    onefile.write(folder / "half.safetensors", model_of(DETECTOR))
    os.truncate(folder / "half.safetensors", 3000)
    for name in ("photos", "empty", "VOC/Annotations", "VOC/JPEGImages", "VOC/ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    picture = Image.fromarray(np.random.default_rng(7).integers(0, 256, (50, 80, 3), np.uint8))
    for name in ("dog.jpg", "photos/a.png", "photos/b.png", "VOC/JPEGImages/a.jpg"):
        picture.save(folder / name)
    shutil.copy(folder / "photos" / "a.png", folder / "png.txt")
    (folder / "nothing.jpg").write_bytes(b"")
    (folder / "phone.jpg").write_bytes(HEIC)
    (folder / "VOC/Annotations/a.xml").write_text(f"<annotation>{OBJECT}</annotation>")
    for split in ("train", "val"):
        (folder / f"VOC/ImageSets/Main/{split}.txt").write_text("a\n")
    return folder


@pytest.fixture
def here(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it as the current folder."""
    shutil.copytree(made, tmp_path / "here")
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


# The command line, the exit code, and the words that the one line must have.
TURNS: list[tuple[str, int, list[str]]] = [
    # pictures
    (f"detect doog.jpg {NET}", 2, ["doog.jpg: no such file", "did you mean dog.jpg?"]),
    (f"detect fotos/a.png {NET}", 2, ["fotos/a.png: no such file", "no folder fotos", "did you mean photos?"]),
    (f"detect paper.jpg {NET}", 2, ["paper.jpg: is a PDF document", "wanted JPEG, PNG, WebP or BMP"]),
    (f"detect phone.jpg {NET}", 2, ["phone.jpg: is a HEIC or AVIF photo (save it as JPEG)"]),
    (f"detect nothing.jpg {NET}", 2, ["nothing.jpg: is empty", "wanted JPEG"]),
    (f"detect list.txt {NET}", 2, ["list.txt: is in no format that is read here", "@list.txt takes the pictures"]),
    (f"detect @lst.txt {NET}", 2, ["lst.txt: no such file", "did you mean list.txt?"]),
    (f"detect empty {NET}", 2, ["empty: holds no picture", "'empty/**' looks into its folders"]),
    (f"detect photos/*.jpg {NET}", 2, ["photos/*.jpg: matches no picture and no video", "photos holds 2 .png"]),
    (f"detect fotos/*.jpg {NET}", 2, ["there is no folder fotos", "did you mean photos?"]),
    (f"detect clip.mp4 {NET}", 2, ["clip.mp4: no such file"]),
    (f"detect paper.mp4 {NET}", 2, ["paper.mp4: is a PDF document, wanted a video"]),
    (f"detect note.mp4 {NET}", 2, ["note.mp4: is a text, wanted a video"]),
    (f"detect net.cfg {NET}", 2, ["net.cfg: is a text, perhaps a cfg", "given by -m my.cfg -w my.weights"]),
    (f"detect net.weights {NET}", 2, ["net.weights: is in no format", "a network is given by -m my.cfg -w my.weights"]),
    (f"detect http://127.0.0.1:9/dog.jpg {NET}", 2, ["cannot be opened", "is the address right, and is it up?"]),
    # models
    ("detect dog.jpg -m yolov3-tinny", 2, ["neither a file nor a network of the zoo", "did you mean yolov3-tiny?"]),
    ("detect dog.jpg -m yolov3", 2, ["its weights are not here", "`lookonce model pull yolov3`", "-w FILE"]),
    ("detect dog.jpg -m net.cfg", 2, ["net.cfg: needs its weights", "-w FILE"]),
    ("detect dog.jpg -m net.weights", 2, ["net.weights: holds NUL bytes", "are cfg and weights swapped?"]),
    ("detect dog.jpg -w net.weights", 2, ["net.weights: ", "wanted", "lookonce-voc is the model where -m names none"]),
    ("detect dog.jpg -m c.cfg -w net.weights", 2, ["1,428 more than", "are cfg and weights of one network?"]),
    ("detect dog.jpg -m net.cfg -w c.weights", 2, ["2,004 bytes, wanted 3,432", "are cfg and weights of one network?"]),
    ("detect dog.jpg -m net.cfg -w page.weights", 2, ["page.weights: is an HTML or XML page", "an error page?"]),
    ("detect dog.jpg -m net.cfg -w dog.jpg", 2, ["dog.jpg: is a JPEG picture, wanted a Darknet weights file"]),
    ("detect dog.jpg -m net.cfg -w net.names", 2, ["net.names: is a text, wanted a Darknet weights file"]),
    ("detect dog.jpg -m c.cfg -w net.cfg", 2, ["net.cfg: is a text", "wanted a Darknet", "cfg and weights swapped?"]),
    ("detect dog.jpg -m yolov8n.pt", 2, ["yolov8n.pt: PyTorch files are not read", "wanted a cfg and its weights"]),
    ("detect dog.jpg -m half.safetensors", 2, ["half.safetensors: is no usable safetensors file", "was it cut off?"]),
    ("detect dog.jpg -m net.cfg -w net.weihgts", 2, ["net.weihgts: no such file", "did you mean net.weights?"]),
    ("detect dog.jpg -m notes.cfg -w net.weights", 2, ["notes.cfg:1: 'Dear diary,'", "wanted [net]", "is it a cfg?"]),
    ("detect dog.jpg -m c.cfg -w c.weights", 2, ["it classifies: use classify"]),
    ("classify dog.jpg -m net.cfg -w net.weights", 2, ["it detects: use detect"]),
    ("detect dog.jpg -m net.cfg -w net.weights --names three.names", 2, ["3 names", "2 classes", "one a class"]),
    ("detect dog.jpg -m net.cfg -w net.weights --names cocoo", 2, ["--names cocoo: is neither", "did you mean coco?"]),
    # options
    ("dog.jpg", 2, ["no verb 'dog.jpg', did you mean `lookonce detect dog.jpg`?"]),
    ("detect dog.jpg --conf .3", 2, ["No such option: --conf, did you mean --thresh?"]),
    ("detect dog.jpg --iou .3", 2, ["No such option: --iou, did you mean --nms?"]),
    ("val --data VOC --imgsz 320", 2, ["No such option: --imgsz, did you mean --size?"]),
    ("train --data VOC --weights net.weights", 2, ["No such option: --weights, did you mean --pretrained?"]),
    ("detect --source dog.jpg", 2, ["No such option: --source; pictures are named without an option"]),
    ("detct dog.jpg", 2, ["no verb 'detct'", "did you mean detect?"]),
    (f"detect dog.jpg {NET} --epochs 3", 2, ["No such option: --epochs", "is of train, not of detect"]),
    ("classify dog.jpg --nms .4", 2, ["No such option: --nms", "is of detect, val, not of classify"]),
    (f"detect dog.jpg {NET} --thresh 25", 2, ["'--thresh': wanted less than or equal to 1, found 25 (25 % is 0.25)"]),
    (f"detect dog.jpg {NET} --size big", 2, ["--size 'big': wanted a number of pixels, or WIDTHxHEIGHT"]),
    ("model show yolov3-tiny --size 417", 2, ["size 417 x 417", "multiples of 32, such as 416 x 416 or 448 x 448"]),
    # where answers go
    (f"detect dog.jpg {NET} --format json -o net.names/a.json", 2, ["net.names: is a file, wanted a folder", "give"]),
    (f"detect dog.jpg {NET} -o diary.md", 2, ["-o diary.md: is there already and holds no answers of an earlier run"]),
    (f"detect dog.jpg {NET} --format csv -o net.py", 2, ["-o net.py: is there already and holds no answers"]),
    ("val --data VOC -m net.cfg -w net.weights -o diary.md", 2, ["-o diary.md: is there already and holds no answers"]),
    (f"detect dog.jpg {NET} -o dog.jpg", 2, ["-o dog.jpg", "wanted a name for answers"]),
    ("model convert net.cfg -w net.weights -o net.pt -q", 2, ["No such option: -q"]),
    ("model convert net.cfg -w net.weights -o net.pt", 2, ["net.pt: wanted a name that ends in .safetensors, .onnx"]),
    # datasets
    ("val --data VOK -m net.cfg -w net.weights", 2, ["VOK: no such file or folder", "did you mean VOC?"]),
    ("val --data VOC --split test -m net.cfg -w net.weights", 2, ["VOC: has no split test", "there is train, val"]),
    ("val --data VOC --split vall -m net.cfg -w net.weights", 2, ["VOC: has no split vall, did you mean val?"]),
    ("val --data VOC --format vocc -m net.cfg -w net.weights", 2, ["no format vocc is known", "did you mean voc?"]),
    ("val --data photos -m net.cfg -w net.weights", 2, ["photos: holds 2 pictures and no labels", "put labels beside"]),
    ("val --data texts -m net.cfg -w net.weights", 2, ["texts: holds no pictures; wanted pictures with labels"]),
    ("val --data movie.mp4 -m net.cfg -w net.weights", 2, ["movie.mp4: is a video", "wanted pictures with labels"]),
    ("val --data dog.jpg -m net.cfg -w net.weights", 2, ["dog.jpg: is a JPEG picture; wanted pictures with labels"]),
    ("val --data VOC -m net.cfg -w net.weights -q", 2, ["no class of the model", "--map", "lookonce train --data ..."]),
    ("data stats empty", 2, ["empty: is an empty folder: it holds no picture and no labels"]),
    ("data show VOC -o page.html --class dgo", 2, ["VOC: has no class dgo", "did you mean dog?"]),
    ("data convert VOC --to vok -o new", 2, ["no format vok can be written", "did you mean voc?"]),
    ("judge answers.json --data VOC --names vocc", 2, ["--names vocc: is neither a file", "did you mean voc?"]),
]
ON_LINUX: list[tuple[str, int, list[str]]] = [
    (f"detect 99 {NET}", 2, ["camera 99: cannot be opened: is not there", "connect it, or name a picture"]),
    (f"detect dog.jpg {NET} --save /proc/here", 2, ["/proc/here: no such folder can be made", "give another name"]),
    (f"detect dog.jpg {NET} -o /proc/here.txt", 2, ["/proc/here.txt: cannot be written", "give another name"]),
    (f"detect photos {NET} --format json -o /dev/full", 1, ["/dev/full: No space left on device: make room"]),
    ("data check VOC --json /dev/full -q", 1, ["/dev/full: No space left on device: make room"]),
]


def check(line: str, code: int, words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """Run it; there is no answer, and one line on stderr that has the words."""
    assert main(line.split()) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1, err
    assert err.startswith("lookonce: ")
    for word in words:
        assert word in err, err


@pytest.mark.parametrize(("line", "code", "words"), TURNS, ids=[line for line, _, _ in TURNS])
def test_a_wrong_turn_is_told_in_one_line(
    here: Path, line: str, code: int, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    check(line, code, words, capsys)


@LINUX
@pytest.mark.parametrize(("line", "code", "words"), ON_LINUX, ids=[line for line, _, _ in ON_LINUX])
def test_what_the_system_refuses_is_told_in_one_line(
    here: Path, line: str, code: int, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    check(line, code, words, capsys)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("train --data VOK", ["VOK: no such file or folder", "did you mean VOC?"]),
        ("train --data photos", ["photos: holds 2 pictures and no labels", "put labels beside"]),
        ("train --data empty", ["empty: is an empty folder"]),
        ("train --data VOC --split trian", ["VOC: has no split trian, did you mean train?"]),
        ("train dog.jpg", ["wanted --data with what is to be learnt, or --resume"]),
        ("train --resume photoss", ["photoss: no such folder", "did you mean photos?"]),
        ("train --resume photos", ["photos: holds no run.json: wanted the folder of a run"]),
    ],
)
def test_a_wrong_turn_to_learning_is_told_in_one_line(
    here: Path, line: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    check(line, 2, words, capsys)


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The address under which the files of a folder are served."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, format: str, *_: object) -> None:
            """Nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()


def test_an_address_of_a_picture_is_one_and_that_of_a_page_is_told(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("av")
    with serving(here) as address:
        assert main(["detect", f"{address}/dog.jpg", *NET.split()]) == 0
        assert f"{address}/dog.jpg" in capsys.readouterr().out
        check(f"detect {address}/page.jpg {NET}", 2, ["page.jpg: ", "is it a page about a picture or video?"], capsys)
        check(f"detect {address}/none.jpg {NET}", 2, ["404", "is the address right, and is it up?"], capsys)


@pytest.mark.parametrize("format", ["table", "json", "jsonl", "csv", "coco"])
def test_answers_replace_earlier_answers_of_any_form_and_an_empty_file(
    here: Path, format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever was found; the least of scores finds boxes on random weights."""
    for thresh in ("1", "0.05"):
        for form in (format, "table"):
            line = f"detect dog.jpg {NET} --thresh {thresh} --format {form} -o out.txt"
            assert main(line.split()) == 0
    (here / "out.txt").write_text("")
    assert main(line.split()) == 0


def test_where_the_detector_in_the_box_finds_nothing_it_is_said_what_helps(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once a run, for people only: not where programs read the answers, nor of another network."""
    assert main(["detect", "dog.jpg", "photos"]) == 0
    out, err = capsys.readouterr()
    assert (out.count("nothing found"), err.count("lookonce model pull yolov3-tiny")) == (3, 1)
    for words in ("dog.jpg -q", "dog.jpg --format jsonl", f"dog.jpg {NET} --thresh 1"):
        assert main(["detect", *words.split()]) == 0
        assert "lookonce model pull" not in capsys.readouterr().err


def test_what_is_no_wrong_turn_works(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A picture under another suffix, a size that is no multiple: seen, the second with a warning."""
    assert main(["detect", "png.txt", *NET.split()]) == 0
    assert capsys.readouterr().err == ""
    assert main(["detect", "dog.jpg", *NET.split(), "--size", "417"]) == 0
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert "boxes will be off: net.cfg wants multiples of 4, such as 416 x 416 or 420 x 420" in err


@pytest.mark.shared
@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("dog.jpg -m yolov3-tiny -w XL.weights", ["3,693,964 bytes", "are cfg and weights of one network?"]),
        ("dog.jpg -m XL.cfg -w yolo-fastest-1.1.weights", ["1,384,268 bytes", "are cfg and weights of one network?"]),
        ("dog.jpg -m XL.cfg -w XL.weihgts", ["no such file", "did you mean", "XL.weights?"]),
        ("dog.jpg -m XL.cfg -w XL.weights --size 417", ["such as 416 x 416 or 448 x 448"]),
        ("dgo.jpg -m XL.cfg -w XL.weights -q --names coco", ["no such file", "did you mean", "dog.jpg?"]),
    ],
)
def test_the_same_with_weights_that_somebody_trained(
    shared: Path, line: str, words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    for source in (shared / "models").iterdir():
        (tmp_path / source.name.replace("yolo-fastest-1.1-xl", "XL")).symlink_to(source)
    (tmp_path / "dog.jpg").symlink_to(shared / "pictures" / "dog.jpg")
    monkeypatch.chdir(tmp_path)
    check(f"detect {line}", 2, words, capsys)
