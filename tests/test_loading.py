"""What `load` takes, and what it says of what it does not take."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import DETECTOR, Child, model_of

import lookonce
from lookonce.errors import WeightsError

CLASSIFIER = DETECTOR[: DETECTOR.index("[yolo]")] + "[avgpool]\n[softmax]\n"

# Each call in a process whose types nobody checks, as a program's would be; what comes of it, by the call's text.
CALLS = """
import json, pathlib, sys, warnings
import numpy as np
import lookonce
from PIL import Image
from lookonce.model import open_model

warnings.simplefilter("ignore")
def load(**options):
    return lookonce.load("net.cfg", "random", **options)

nan, picture = float("nan"), np.zeros((9, 9, 3), np.uint8)
detect, classify = load(threads=1), lookonce.load("classes.cfg", "random", threads=1)
model, classes = open_model("net.cfg", "random"), open_model("classes.cfg", "random")

said = {}
for call in json.loads(sys.argv[1]):
    try:
        said[call] = f"done: {eval(call)}"
    except Exception as error:
        said[call] = f"{type(error).__name__}: {error}"
print(json.dumps(said))
"""


Say = Callable[[list[str]], dict[str, str]]


@pytest.fixture
def say(child: Child, tmp_path: Path) -> Say:
    """What each of several calls says."""
    (tmp_path / "net.cfg").write_text(DETECTOR)
    (tmp_path / "classes.cfg").write_text(CLASSIFIER)

    def run(calls: list[str]) -> dict[str, str]:
        done = child("-c", CALLS, json.dumps(calls), memory=8 << 30, timeout=120)
        assert (done.code, done.err) == (0, "")
        said: dict[str, str] = json.loads(done.out)
        return said

    return run


# ---------------------------------------------------------------------- options
SHARE = "wanted a number from 0 to 1"
COUNT = "wanted a whole number from 1 to 1024, or None for all cores"
SIDES = "wanted a whole number of pixels, or two: (width, height)"
FITS = "wanted auto, letterbox, stretch or crop"
ENGINES = "wanted auto, openvino, onnxruntime or binary"
PRECISIONS = "wanted auto, f32 or bf16"
WRONG = {
    **{f"compat={value}": "wanted None or darknet" for value in ("'foo'", "'Darknet'", "True", "False", "['darknet']")},
    **{f"resize={value}": FITS for value in ("'foo'", "None", "3")},
    **{f"threshold={value}": SHARE for value in ("2", "-1", "nan", "'0.5'", "True", "[0.5]", "1j")},
    **{f"nms={value}": SHARE for value in ("-3", "'a'", "1.01", "np.float32(2.0)", "np.True_")},
    **{f"hierarchy={value}": SHARE for value in ("4", "nan", "-0.1")},
    **{f"threads={value}": COUNT for value in ("0", "-1", "'2'", "2.0", "True", "100000")},
    **{f"precision={value}": PRECISIONS for value in ("'f16'", "'fp16'", "None", "16")},
    **{f"engine={value}": ENGINES for value in ("'tensorrt'", "None", "'OpenVINO'")},
}
SIZES = ["'320x256'", "-3", "0", "(1, 2, 3)", "(64,)", "(64, 64.0)", "64.0", "True", "(64, None)", "'64'"]


def test_a_wrong_option_is_named_with_what_was_found_and_what_is_wanted(say: Say) -> None:
    said = say([f"load({option})" for option in WRONG])
    assert said == {f"load({option})": f"EngineError: {option}: {wanted}" for option, wanted in WRONG.items()}


def test_a_wrong_size_is_named_with_what_is_wanted(say: Say) -> None:
    said = say([f"load(size={size})" for size in SIZES])
    assert said == {f"load(size={size})": f"CfgError: size={size}: {SIDES}" for size in SIZES}


def test_whoever_is_called_checks_the_options(say: Say) -> None:
    said = say(
        ["lookonce.Detector(model, nms=2)", "lookonce.Detector(model, compat=True)",
         "lookonce.Classifier(classes, resize='middle')", "lookonce.Classifier(classes, precision='f16')"]
    )  # fmt: skip
    assert list(said.values()) == [
        f"EngineError: nms=2: {SHARE}", "EngineError: compat=True: wanted None or darknet",
        f"EngineError: resize='middle': {FITS}", f"EngineError: precision='f16': {PRECISIONS}",
    ]  # fmt: skip


def test_numbers_of_any_kind_are_taken(say: Say) -> None:
    """And kept as Python's, which JSON can write."""
    options = "threshold=np.float32(0.5), nms=1, hierarchy=np.float64(0), threads=np.int64(1), size=[np.int32(96), 32]"
    call = f"json.dumps(load({options}).settings())"
    (said,) = say([call]).values()
    settings = json.loads(said.removeprefix("done: "))
    assert (settings["threshold"], settings["nms"], settings["input"]) == (0.5, 1.0, [96, 32])


def test_a_classifier_takes_no_option_of_a_detector(say: Say) -> None:
    said = say([f"lookonce.load('classes.cfg', 'random', {name}=0.5)" for name in ("threshold", "nms", "hierarchy")])
    assert list(said.values()) == [
        f"CfgError: {name}=0.5: classes.cfg is a classifier, wanted no {name}"
        for name in ("threshold", "nms", "hierarchy")
    ]


# ---------------------------------------------------------------------- sources
PICTURE = "wanted a path, the bytes of a file, a Pillow image or an array (height, width, 3) of uint8"
SEVERAL = "wanted one picture; a detector's .batch takes several"
SOURCES = {
    "detect(3)": f"picture: is 3, {PICTURE}",
    "detect(None)": f"picture: is None, {PICTURE}",
    "detect({})": f"picture: is {{}}, {PICTURE}",
    "detect(['dog.jpg'])": f"picture: is ['dog.jpg'], {SEVERAL}",
    "detect(('dog.jpg', 'cat.jpg'))": f"picture: is ('dog.jpg', 'cat.jpg'), {SEVERAL}",
    "classify(3)": f"picture: is 3, {PICTURE}",
    "classify.probabilities(None)": f"picture: is None, {PICTURE}",
    "detect(np.zeros(3))": "picture: is an array of float64, wanted uint8; scale it to 0..255 first",
    "detect.batch('dog.jpg')": "batch: is 'dog.jpg', wanted a list of pictures",
    "detect.batch(b'dog')": "batch: is b'dog', wanted a list of pictures",
    "detect.batch(pathlib.PurePosixPath('dog'))": "batch: is PurePosixPath('dog'), wanted a list of pictures",
    "detect.batch(picture)": "batch: is an array, wanted a list of pictures",
    "detect.batch(3)": "batch: is 3, wanted a list of pictures",
    "detect.batch(None)": "batch: is None, wanted a list of pictures",
    "detect.batch([picture, 3])": f"picture: is 3, {PICTURE}",
    "detect.batch('')": "batch: is '', wanted a list of pictures",
}


def test_what_is_no_picture_is_named_with_what_is_wanted(say: Say) -> None:
    assert say(list(SOURCES)) == {call: f"InputError: {message}" for call, message in SOURCES.items()}
    assert list(say(["detect.batch([])", "detect.batch(())"]).values()) == ["done: []"] * 2


# ---------------------------------------------------------------------- files
def test_damaged_weights_and_far_files_are_taken_where_that_is_allowed(tmp_path: Path) -> None:
    model = model_of(DETECTOR)
    model.weights[0]["biases"][0] = np.nan
    model.write_weights(tmp_path / "net.weights")
    (tmp_path / "net.cfg").write_text(DETECTOR)
    with pytest.raises(WeightsError, match="holds nan"):
        lookonce.load(tmp_path / "net.cfg", tmp_path / "net.weights")
    lookonce.load(tmp_path / "net.cfg", tmp_path / "net.weights", allow_nonfinite=True)

    (tmp_path / "far").mkdir()
    (tmp_path / "near").mkdir()
    (tmp_path / "far" / "toy.tree").write_text("animal -1\nplant -1\n" + "".join(f"leaf{n} 0\n" for n in range(19)))
    near = tmp_path / "near" / "classes.cfg"
    near.write_text(CLASSIFIER + f"tree={tmp_path / 'far' / 'toy.tree'}\n")
    with pytest.raises(lookonce.LookonceError, match="allow"):
        lookonce.load(near, "random")
    assert lookonce.load(near, "random", allow_paths=True).names[0] == "animal"


def test_a_warning_points_at_the_line_that_called(tmp_path: Path) -> None:
    (tmp_path / "net.cfg").write_text(DETECTOR)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        lookonce.load(tmp_path / "net.cfg", "random")
    assert [warning.filename for warning in caught] == [__file__]
