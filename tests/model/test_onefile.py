from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from conftest import DETECTOR, model_of

from lookonce.darknet.cfg import Cfg
from lookonce.darknet.weights import Header
from lookonce.errors import CfgError, LookonceWarning, WeightsError
from lookonce.model import Model, Thresholds, onefile, open_model
from lookonce.network import Network
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
        trained=2,
    )


def test_everything_that_belongs_to_a_model_comes_back(model: Model, tmp_path: Path) -> None:
    onefile.write(tmp_path / "a.safetensors", model)
    back = open_model(tmp_path / "a.safetensors")
    assert back.network.cfg.text == model.network.cfg.text
    for ours, theirs in zip(model.weights, back.weights, strict=True):
        assert ours.keys() == theirs.keys()
        for name in ours:
            np.testing.assert_array_equal(ours[name], theirs[name])
    for field in ("header", "names", "resize", "thresholds", "card", "trained"):
        assert getattr(back, field) == getattr(model, field)


def test_weights_that_are_random_stay_so(model: Model, tmp_path: Path) -> None:
    """Whoever opens the file is told what whoever made it was told."""
    path = tmp_path / "a.safetensors"
    for trained, says in ((0, "runs on random weights"), (1, "only the first 1 of 3 layers.*the rest are random")):
        onefile.write(path, replace(model, trained=trained))
        with pytest.warns(LookonceWarning, match=f"a.safetensors: {says}"):
            assert open_model(path).trained == trained


def test_a_file_that_does_not_say_what_is_random_holds_weights(
    model: Model, tmp_path: Path, recwarn: pytest.WarningsRecorder
) -> None:
    onefile.write(tmp_path / "new.safetensors", model)
    arrays, metadata = changed(tmp_path / "new.safetensors")
    del metadata["trained"]
    save(tmp_path / "old.safetensors", arrays, metadata)
    recwarn.clear()
    assert open_model(tmp_path / "old.safetensors").trained == 3
    assert not recwarn.list


@pytest.mark.parametrize("comment", [b"# caf\xe9", b"# \x80\xff\xe9 caf\xc3\xa9", b"# \xed\xb3\xa9"])
def test_a_cfg_that_is_no_utf8_comes_back_byte_for_byte(comment: bytes, tmp_path: Path) -> None:
    """The last is half a surrogate pair, which UTF-8 does not allow."""
    (tmp_path / "a.cfg").write_bytes(comment + b"\r\n" + DETECTOR.encode())
    first = open_model(tmp_path / "a.cfg", "random")
    onefile.write(tmp_path / "a.safetensors", first)
    back = open_model(tmp_path / "a.safetensors")
    assert back.network.cfg.to_bytes() == (tmp_path / "a.cfg").read_bytes()
    assert back.network.cfg.text == first.network.cfg.text
    assert changed(tmp_path / "a.safetensors")[1]["encoding"] == "latin-1"


def test_a_cfg_that_is_utf8_is_kept_as_plain_text(tmp_path: Path) -> None:
    text = "\ufeff# größe 犬\n" + DETECTOR
    onefile.write(tmp_path / "a.safetensors", Model.random(Network.build(Cfg.parse(text))))
    _, metadata = changed(tmp_path / "a.safetensors")
    assert metadata["cfg"] == text
    assert "encoding" not in metadata


def test_a_size_that_does_not_fit_names_no_line_of_a_file_of_bytes(tmp_path: Path) -> None:
    """Of 33 pixels convolutions make 17 and 9, and twice 9 is not 17."""
    half = "[convolutional]\nsize=3\nstride=2\npad=1\n"
    cfg = f"[net]\nwidth=64\nheight=64\nchannels=3\n{half}{half}[upsample]\n[route]\nlayers=-1,0\n"
    onefile.write(tmp_path / "a.safetensors", model_of(cfg))
    with pytest.raises(CfgError) as caught:
        open_model(tmp_path / "a.safetensors", size=33)
    wanted = f"size 33 x 33: {tmp_path / 'a.safetensors'} wants multiples of 4, such as 32 x 32 or 36 x 36"
    assert str(caught.value) == wanted


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


def test_sixteen_bits_take_half_the_bytes_and_round_to_eleven_bits(model: Model, tmp_path: Path) -> None:
    onefile.write(tmp_path / "whole.safetensors", model)
    onefile.write(tmp_path / "half.safetensors", model, half=True)
    whole, half = ((tmp_path / f"{name}.safetensors").stat().st_size for name in ("whole", "half"))
    assert whole - half == 2 * sum(entry.size for entry in model.network.entries())
    for ours, theirs in zip(model.weights, open_model(tmp_path / "half.safetensors").weights, strict=True):
        for name in ours:
            assert theirs[name].dtype == np.float32
            np.testing.assert_allclose(theirs[name], ours[name], rtol=2**-11, atol=2**-25)


def test_a_weight_that_sixteen_bits_cannot_hold_is_named_and_nothing_written(model: Model, tmp_path: Path) -> None:
    model.weights[0]["biases"][3] = -70_000
    with pytest.raises(WeightsError, match=r"layer 0 \[convolutional\] biases: found 70000, 16 bits hold up to 65,504"):
        onefile.write(tmp_path / "a.safetensors", model, half=True)
    assert list(tmp_path.iterdir()) == []


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
        (arrays, {**metadata, "trained": "4"}, "trained=4, wanted a whole number from 0 to 3"),
        (arrays, {**metadata, "trained": "-1"}, "trained=-1, wanted a whole number"),
        (arrays, {**metadata, "trained": "1" * 5000}, r"trained=1{40}\.\.\., wanted a whole number"),
    ]
    for tensors, texts, says in cases:
        save(bad, tensors, texts)
        with pytest.raises(WeightsError, match=says) as caught:
            open_model(bad)
        assert "\n" not in str(caught.value)
    save(bad, arrays, {key: value for key, value in metadata.items() if key != "cfg"})
    with pytest.raises(CfgError, match="hold no cfg"):
        open_model(bad)
    save(bad, arrays, {**metadata, "encoding": "utf-7"})
    with pytest.raises(CfgError, match="encoding utf-7 of its cfg is not known, wanted latin-1 or none"):
        open_model(bad)
    save(bad, arrays, {**metadata, "cfg": "# \N{EURO SIGN}\n" + metadata["cfg"], "encoding": "latin-1"})
    with pytest.raises(CfgError, match="is said to be latin-1 and is not"):
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
