from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from conftest import model_of

from lookonce.darknet.weights import Header
from lookonce.errors import CfgError, WeightsError
from lookonce.model import Model, Thresholds, onefile, open_model
from lookonce.wordtree import WordTree

CFG = """[net]
width=32
height=32
channels=3
[convolutional]
filters=6
size=3
pad=1
batch_normalize=1
activation=leaky
[connected]
output=21
activation=linear
[softmax]
"""


@pytest.fixture
def model() -> Model:
    return replace(
        model_of(CFG),
        header=Header(1001, 3, 0, 77, wide=False),
        names=tuple(f"näme {i}" for i in range(21)),
        resize="stretch",
        thresholds=Thresholds(0.3, 0.4, 0.6),
        card={"data": "none", "figures": {"top1": 0.5}},
    )


def test_everything_that_belongs_to_a_model_comes_back(model: Model, tmp_path: Path) -> None:
    onefile.write(tmp_path / "a.safetensors", model)
    back = open_model(tmp_path / "a.safetensors")
    assert back.network.cfg.text == model.network.cfg.text
    for ours, theirs in zip(model.weights, back.weights, strict=True):
        assert ours.keys() == theirs.keys()
        for name in ours:
            np.testing.assert_array_equal(ours[name], theirs[name])
    for field in ("header", "names", "resize", "thresholds", "card"):
        assert getattr(back, field) == getattr(model, field)


def test_darknets_file_comes_back_byte_for_byte(model: Model, tmp_path: Path) -> None:
    """Through an old header whose matrices are stored the other way round."""
    model.write_weights(tmp_path / "a.weights")
    onefile.write(tmp_path / "a.safetensors", model)
    open_model(tmp_path / "a.safetensors").write_weights(tmp_path / "b.weights")
    assert (tmp_path / "a.weights").read_bytes() == (tmp_path / "b.weights").read_bytes()


def test_a_tree_travels_inside(tmp_path: Path) -> None:
    lines = ["animal -1", "plant -1", "cat 0 house cat", "dog 0"]
    (tmp_path / "toy.tree").write_text("\n".join(lines))
    (tmp_path / "toy.cfg").write_text(CFG.replace("output=21", "output=4") + "tree=toy.tree\n")
    model = open_model(tmp_path / "toy.cfg", "random")
    onefile.write(tmp_path / "toy.safetensors", model)
    (tmp_path / "toy.tree").unlink()
    back = open_model(tmp_path / "toy.safetensors")
    assert isinstance(back.tree, WordTree)
    assert back.tree.to_lines() == lines
    assert back.label_names() == ("animal", "plant", "house cat", "dog")


def test_sixteen_bits_are_read_as_floats(model: Model, tmp_path: Path) -> None:
    onefile.write(tmp_path / "a.safetensors", model)
    halves, metadata = changed(tmp_path / "a.safetensors")
    save(tmp_path / "half.safetensors", {name: array.astype(np.float16) for name, array in halves.items()}, metadata)
    back = open_model(tmp_path / "half.safetensors")
    np.testing.assert_allclose(back.weights[0]["weights"], model.weights[0]["weights"], atol=1e-3)
    assert back.weights[0]["weights"].dtype == np.float32


def changed(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """The arrays and metadata of a file, to be changed."""
    with safetensors.safe_open(path, framework="numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata())  # noqa: SIM118


def save(path: Path, arrays: dict[str, np.ndarray], metadata: dict[str, str] | None) -> None:
    path.write_bytes(safetensors.numpy.save(arrays, metadata=metadata))


def test_a_file_that_is_no_model_or_does_not_fit_is_refused_in_one_line(model: Model, tmp_path: Path) -> None:
    good, bad = tmp_path / "a.safetensors", tmp_path / "bad.safetensors"
    onefile.write(good, model)
    arrays, metadata = changed(good)
    first = "000.weights"
    cases: list[tuple[dict[str, np.ndarray], dict[str, str] | None, str]] = [
        (arrays, None, "no model of lookonce's"),
        (arrays, {**metadata, "lookonce": "9"}, "no model of lookonce's"),
        ({name: array for name, array in arrays.items() if name != first}, metadata, f"{first}.*is missing"),
        ({**arrays, "007.weights": np.zeros(3, np.float32)}, metadata, "007.weights.*is not of its cfg"),
        ({**arrays, first: arrays[first][:1]}, metadata, r"layer 0 \[convolutional\] weights.*\(1, 3, 3, 3\).*wanted"),
        ({**arrays, first: arrays[first].astype(np.int32)}, metadata, "I32.*wanted F32 or F16"),
        ({**arrays, first: arrays[first] * np.nan}, metadata, r"layer 0 \[convolutional\] weights holds nan"),
        (arrays, {**metadata, "names": "[" * 100_000}, "names are no JSON"),
        (arrays, {**metadata, "names": '["a"]'}, "1 names.*21 classes"),
        (arrays, {**metadata, "names": '{"a": 1}'}, "names are a dict, wanted a list"),
        (arrays, {**metadata, "thresholds": '{"scores": 1}'}, "do not fit together"),
        (arrays, {**metadata, "header": '{"major": 0, "evil": 1}'}, "do not fit together"),
        (arrays, {**metadata, "resize": "squash"}, "squash.*wanted letterbox, stretch or crop"),
    ]
    for tensors, texts, says in cases:
        save(bad, tensors, texts)
        with pytest.raises(WeightsError, match=says) as caught:
            open_model(bad)
        assert "\n" not in str(caught.value)
    save(bad, arrays, {key: value for key, value in metadata.items() if key != "cfg"})
    with pytest.raises(CfgError, match="hold no cfg"):
        open_model(bad)


def test_the_cfg_inside_may_not_name_files_outside(model: Model, tmp_path: Path) -> None:
    """tree=/etc/passwd in a model from anywhere: nothing is looked for on disk."""
    onefile.write(tmp_path / "a.safetensors", model)
    arrays, metadata = changed(tmp_path / "a.safetensors")
    (tmp_path / "here.tree").write_text("a -1\n" * 21)
    save(tmp_path / "bad.safetensors", arrays, {**metadata, "cfg": metadata["cfg"] + "tree=here.tree\n"})
    with pytest.raises(CfgError, match="tree=here.tree names a file that is not attached"):
        open_model(tmp_path / "bad.safetensors")


def test_weights_beside_a_one_file_model_are_too_many(model: Model, tmp_path: Path) -> None:
    onefile.write(tmp_path / "a.safetensors", model)
    with pytest.raises(WeightsError, match="holds its weights"):
        open_model(tmp_path / "a.safetensors", "b.weights")


def test_the_metadata_are_text_that_anyone_can_read(model: Model, tmp_path: Path) -> None:
    onefile.write(tmp_path / "a.safetensors", model)
    _, metadata = changed(tmp_path / "a.safetensors")
    assert metadata["cfg"].startswith("[net]")
    assert json.loads(metadata["names"])[0] == "näme 0"
    assert json.loads(metadata["thresholds"]) == {"score": 0.3, "nms": 0.4, "hierarchy": 0.6}
