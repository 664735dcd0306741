from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.numpy
from conftest import model_of, run_layers

from lookonce.darknet.weights import Header
from lookonce.errors import CfgError, LookonceError, WeightsError
from lookonce.model import Model, Thresholds, onefile, open_model, open_network
from lookonce.model.packed import savings

LIMIT = 1 << 30
CFG = """[net]
width=16
height=16
channels=3
[convolutional]
filters=10
size=3
pad=1
activation=leaky
[convolutional]
batch_normalize=1
filters=12
size=3
pad=1
xnor=1
activation=leaky
[convolutional]
filters=6
size=1
groups=2
binary=1
activation=relu
[convolutional]
filters=6
size=1
xnor=1
alpha=learned
activation=linear
[convolutional]
filters=6
size=1
binary=1
weight_bits=2
activation=linear
[connected]
output=5
xnor=1
alpha=none
activation=linear
[softmax]
"""
ONE_BIT = (1, 2, 3, 5)                     # the layers above with weights of one bit


@pytest.fixture
def model() -> Model:
    made = replace(
        model_of(CFG),
        header=Header(0, 2, 5, 1234),
        names=tuple(f"näme {i}" for i in range(5)),
        resize="stretch",
        thresholds=Thresholds(0.3, 0.4, 0.6),
        card={"data": "none"},
        trained=4,
    )
    made.weights[1]["weights"][0, :2] = 0                # which counts as negative
    return made


@pytest.fixture
def path(model: Model, tmp_path: Path) -> Path:
    onefile.write(tmp_path / "a.safetensors", model, pack=True)
    return tmp_path / "a.safetensors"


def changed(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    with safetensors.safe_open(path, framework="numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118 - no mapping


def test_everything_comes_back_but_the_magnitudes(model: Model, path: Path) -> None:
    back = onefile.read(path, LIMIT)
    assert back.network.cfg.text == model.network.cfg.text
    for field in ("header", "names", "resize", "thresholds", "card", "trained"):
        assert getattr(back, field) == getattr(model, field)
    for index, (ours, theirs) in enumerate(zip(model.weights, back.weights, strict=True)):
        assert ours.keys() == theirs.keys()
        for name, array in ours.items():
            if name != "weights" or index not in ONE_BIT:
                np.testing.assert_array_equal(theirs[name], array)
                continue
            for mine, its in zip(array, theirs[name], strict=True):           # filter by filter
                mean = sum(abs(float(w)) for w in mine.flat) / mine.size
                np.testing.assert_allclose(its, np.where(mine > 0, mean, -mean), rtol=1e-6)


def test_what_it_says_stays_the_same(model: Model, path: Path) -> None:
    """Every layer's output, by an engine that knows nothing of packed files."""
    x = np.random.default_rng(0).standard_normal((2, 3, 16, 16)).astype(np.float32)
    for ours, theirs in zip(run_layers(model, x), run_layers(onefile.read(path, LIMIT), x), strict=True):
        np.testing.assert_allclose(theirs, ours, rtol=1e-4, atol=1e-4)


def test_packing_again_changes_nothing(path: Path, tmp_path: Path) -> None:
    onefile.write(tmp_path / "b.safetensors", onefile.read(path, LIMIT), pack=True)
    (arrays, metadata), (again, told) = changed(path), changed(tmp_path / "b.safetensors")
    assert told == metadata
    assert again.keys() == arrays.keys()
    for name, array in arrays.items():
        np.testing.assert_array_equal(again[name], array)


def test_a_weight_takes_a_bit(tmp_path: Path) -> None:
    """512 filters of 256 x 3 x 3: 147,456 bytes of bits and 2,048 of magnitudes, where floats take 32 times as much."""
    cfg = "[net]\nwidth=4\nheight=4\nchannels=256\n[convolutional]\nfilters=512\nsize=3\nxnor=1\nactivation=linear\n"
    onefile.write(tmp_path / "a.safetensors", model_of(cfg), pack=True)
    arrays, _ = changed(tmp_path / "a.safetensors")
    assert arrays["000.bits"].nbytes == 512 * 256 * 9 // 8
    assert {name: array.nbytes for name, array in arrays.items() if name != "000.bits"} == {
        "000.biases": 2048, "000.magnitude": 2048,
    }  # fmt: skip
    assert (tmp_path / "a.safetensors").stat().st_size < 512 * 256 * 9 / 8 + 4096 + 1000


# Of each published network the filters of its single bits and what each one sees, by the papers.
ALEXNET = [(256, 96 * 25), (384, 256 * 9), (384, 384 * 9), (256, 384 * 9), (4096, 9216), (4096, 4096)]
RESNET18 = [
    *4 * [(64, 64 * 9)],
    *[pair for n in (128, 256, 512) for pair in ((n, n // 2), (n, n // 2 * 9), *3 * [(n, n * 9)])],
]
EXTRACTION = [
    (192, 64 * 9), (128, 192), (256, 128 * 9), (256, 256), (512, 256 * 9), *4 * [(256, 512), (512, 256 * 9)],
    (512, 512), (1024, 512 * 9), *2 * [(512, 1024), (1024, 512 * 9)],
]  # fmt: skip


@pytest.mark.parametrize(
    ("name", "layers"),
    [("alexnet-xnor", ALEXNET), ("alexnet-bwn", ALEXNET), ("resnet18-xnor", RESNET18), ("resnet18-bwn", RESNET18),
     ("extraction-bwn", EXTRACTION)],
)  # fmt: skip
def test_the_networks_of_the_thesis_shrink_thirtyfold(name: str, layers: list[tuple[int, int]]) -> None:
    """A bit for each 32, and one float for each filter; sections 4.1 and 4.5 say about 32 times."""
    found = savings(open_network(name))
    assert sorted((each.floats, each.packed) for each in found) == sorted(
        (4 * filters * seen, filters * (seen // 8 + 4)) for filters, seen in layers
    )
    assert sum(each.floats for each in found) > 31 * sum(each.packed for each in found)


def test_real_weights_beside_the_bits_may_take_sixteen(model: Model, path: Path, tmp_path: Path) -> None:
    """Magnitudes stay 32 bits long, so what the bits say does not change."""
    onefile.write(tmp_path / "half.safetensors", model, pack=True, half=True)
    whole, half = open_model(path), open_model(tmp_path / "half.safetensors")
    for index, (ours, theirs) in enumerate(zip(whole.weights, half.weights, strict=True)):
        for name, array in ours.items():
            exact = name == "weights" and index in ONE_BIT
            np.testing.assert_allclose(theirs[name], array, rtol=0 if exact else 2**-11, atol=0 if exact else 2**-25)
    arrays, _ = changed(tmp_path / "half.safetensors")
    assert {name: str(array.dtype) for name, array in arrays.items() if name.startswith("001")} == {
        "001.biases": "float16", "001.scales": "float16", "001.mean": "float16", "001.variance": "float16",
        "001.bits": "uint8", "001.magnitude": "float32",
    }  # fmt: skip


def test_bit_i_of_byte_j_is_weight_8j_plus_i(tmp_path: Path) -> None:
    cfg = "[net]\nwidth=1\nheight=1\nchannels=11\n[convolutional]\nfilters=1\nsize=1\nbinary=1\nactivation=linear\n"
    model = model_of(cfg)
    model.weights[0]["weights"][...] = -2
    model.weights[0]["weights"][0, [0, 3, 8, 10]] = 2
    onefile.write(tmp_path / "a.safetensors", model, pack=True)
    arrays, metadata = changed(tmp_path / "a.safetensors")
    assert arrays["000.bits"].tolist() == [[0b1001, 0b101]]
    assert arrays["000.magnitude"].tolist() == [2]
    assert metadata["packed"] == "1"
    assert metadata["cfg"] == cfg


def test_a_model_without_single_bits_is_not_packed(tmp_path: Path) -> None:
    cfg = "[net]\nwidth=1\nheight=1\nchannels=1\n[convolutional]\nfilters=1\nsize=1\nbinary=1\nweight_bits=2\n"
    with pytest.raises(WeightsError, match=r"^[^\n]*no layer of test.cfg has weights of single bits[^\n]*$"):
        onefile.write(tmp_path / "a.safetensors", model_of(cfg), pack=True)
    assert not list(tmp_path.iterdir())


def test_what_is_not_finite_is_not_packed(model: Model, tmp_path: Path) -> None:
    model.weights[1]["weights"][0, 0, 0, 0] = np.nan
    with pytest.raises(WeightsError, match=r"layer 1 \[convolutional\] weights holds values that are not finite"):
        onefile.write(tmp_path / "a.safetensors", model, pack=True)


def test_a_truncated_file_is_refused_wherever_it_ends(path: Path, tmp_path: Path) -> None:
    data = path.read_bytes()
    short = tmp_path / "short.safetensors"
    for length in (*range(64), *range(64, len(data), 97), len(data) - 1):
        short.write_bytes(data[:length])
        with pytest.raises(WeightsError) as caught:
            onefile.read(short, LIMIT)
        assert "\n" not in str(caught.value)
        assert str(caught.value).startswith(str(short))
    short.write_bytes(data + b"\0")
    with pytest.raises(WeightsError):
        onefile.read(short, LIMIT)


def test_a_damaged_file_is_refused_or_has_other_weights(path: Path, tmp_path: Path) -> None:
    """One byte in each of many places: never a traceback of another kind, and never a crash."""
    data, hit = path.read_bytes(), tmp_path / "hit.safetensors"
    said = set()
    for place in range(0, len(data), 41):
        hit.write_bytes(data[:place] + bytes([data[place] ^ 0x15]) + data[place + 1 :])
        try:
            onefile.read(hit, LIMIT)
        except LookonceError as problem:
            said.add(str(problem))
    assert len(said) > 5
    assert not any("\n" in line for line in said)


def test_a_file_of_another_cfg_is_refused(path: Path, tmp_path: Path) -> None:
    arrays, metadata = changed(path)
    other = tmp_path / "other.safetensors"
    for before, after, says in (
        ("filters=12", "filters=14", "layer 1 .convolutional. biases is F32 .12,., wanted F32 or F16 .14,."),
        ("filters=10", "filters=9", "layer 0 .convolutional. biases is F32 .10,., wanted"),
        ("pad=1\nxnor=1", "pad=1", "the array '001.bits' is not of its cfg"),
        ("weight_bits=2", "weight_bits=1", "the array '004.bits' is missing"),
        ("alpha=learned", "alpha=mean", "the array '003.alpha' is not of its cfg"),
    ):
        safetensors.numpy.save_file(arrays, other, {**metadata, "cfg": metadata["cfg"].replace(before, after)})
        with pytest.raises(WeightsError, match=says) as caught:
            onefile.read(other, LIMIT)
        assert "\n" not in str(caught.value)


def test_arrays_that_cannot_be_are_refused(path: Path, tmp_path: Path) -> None:
    arrays, metadata = changed(path)
    other = tmp_path / "other.safetensors"
    spare = arrays["001.bits"].copy()
    spare[:, -1] |= 1 << 7                                         # 90 weights a filter: 2 bits of the last byte
    for name, array, says in (
        ("001.bits", spare, "has bits beyond its 90 weights a filter"),
        ("001.bits", arrays["001.bits"].astype(np.float32), "is F32 .12, 12., wanted U8"),
        ("001.bits", arrays["001.bits"][:, :11], "is U8 .12, 11., wanted U8 .12, 12."),
        ("001.magnitude", -arrays["001.magnitude"], "has magnitude -.* in filter 0"),
        ("001.magnitude", arrays["001.magnitude"] * np.float32(np.nan), "holds nan"),
        ("001.magnitude", arrays["001.magnitude"].astype(np.float16), "is F16"),
        ("003.alpha", arrays["003.alpha"] * np.float32(np.inf), "holds -?inf"),
    ):
        safetensors.numpy.save_file({**arrays, name: np.ascontiguousarray(array)}, other, metadata)
        with pytest.raises(WeightsError, match=says):
            onefile.read(other, LIMIT)
    for key, value, kind in (
        ("packed", "2", WeightsError), ("packed", "", WeightsError), ("lookonce", "2", WeightsError),
        ("names", "[1", WeightsError), ("names", '["a"]', WeightsError),
        ("resize", "squash", WeightsError), ("trained", "99", WeightsError),
        ("thresholds", '{"score": 2}', WeightsError), ("header", '{"seen": -1}', WeightsError),
        ("cfg", "[net", CfgError),
    ):  # fmt: skip
        safetensors.numpy.save_file(arrays, other, {**metadata, key: value})
        with pytest.raises(kind) as caught:
            onefile.read(other, LIMIT)
        assert "\n" not in str(caught.value)


def test_a_header_that_lies_about_its_length_is_refused(tmp_path: Path) -> None:
    lie = tmp_path / "lie.safetensors"
    text = json.dumps({"a": {"dtype": "U8", "shape": [1 << 60], "data_offsets": [0, 1 << 60]}}).encode()
    lie.write_bytes(struct.pack("<Q", len(text)) + text)
    with pytest.raises(WeightsError):
        onefile.read(lie, LIMIT)
    with pytest.raises(WeightsError, match="no such file"):
        onefile.read(tmp_path / "none.safetensors", LIMIT)
