"""A weights file that is cut, foreign, damaged or made to harm: refused in one line, or taken with a warning."""

from __future__ import annotations

import gzip
import io
import json
import os
import pickle
import struct
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import Child, model_of, network_of
from corpus import TINY, Case, End, Stage, build_stage, check
from PIL import Image

from lookonce.errors import WeightsError
from lookonce.model import Model, onefile

# The tiny network in floats, in the order of the file: biases and kernel of its two convolutions.
PARTS = (8, 8 * 3 * 3 * 3, 21, 21 * 8)
LENGTH = 20 + 4 * sum(PARTS)

CONNECTED = """\
[net]
width=32
height=32
channels=3

[convolutional]
filters=2
size=3
stride=16
pad=1
activation=leaky

[connected]
output=28
activation=linear

[detection]
classes=2
coords=4
side=2
num=1
"""


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return build_stage(tmp_path / "stage")


@pytest.fixture
def good(stage: Stage) -> bytes:
    data = Path(stage.weights).read_bytes()
    assert len(data) == LENGTH
    return data


def file_of(values: np.ndarray, header: bytes = struct.pack("<iiiQ", 0, 2, 0, 0)) -> bytes:
    """A weights file of these floats."""
    return header + values.astype("<f4").tobytes()


def floats_of(data: bytes) -> np.ndarray:
    """The floats of a file with a header of 20 bytes."""
    return np.frombuffer(data[20:], "<f4").copy()


# ---------------------------------------------------------------------- length
def test_every_wrong_length_is_refused_and_says_where_the_file_ends(
    stage: Stage, good: bytes, tmp_path: Path, child: Child
) -> None:
    """W1, W2, W3, W5: four bytes off in any direction, and a cut in the middle of every array."""
    wanted = f"{LENGTH:,}"
    bad: dict[str, tuple[bytes, list[str]]] = {
        "W1 empty": (b"", ["0 bytes", wanted]),
        "W1 8 bytes": (good[:8], ["8 bytes", wanted]),
        "W1 11 bytes": (good[:11], ["11 bytes", wanted]),
        "W2 header of 16 alone": (good[:16], ["16 bytes", wanted]),
        "W2 header alone": (good[:20], ["20 bytes", wanted, "layer 0"]),
        "W3 -1 byte": (good[:-1], [f"{LENGTH - 1:,} bytes", wanted, "layer 1 [convolutional] weights"]),
        "W3 -4 bytes": (good[:-4], [f"{LENGTH - 4:,} bytes", wanted, "layer 1 [convolutional] weights"]),
        "W5 +1 byte": (good + b"\0", [f"{LENGTH + 1:,} bytes", wanted, "1 more"]),
        "W5 +4 bytes": (good + bytes(4), [f"{LENGTH + 4:,} bytes", wanted, "4 more"]),
        "W5 twice": (good + good, [f"{2 * LENGTH:,} bytes", wanted]),
    }
    begins = 20
    for number, (part, owner) in enumerate(zip(PARTS, ("biases", "weights") * 2, strict=True)):
        middle = begins + 4 * (part // 2)
        owner = f"layer {number // 2} [convolutional] {owner}"
        bad[f"W3 cut inside {owner}"] = good[:middle], [f"{middle:,} bytes", wanted, f"inside {owner}"]
        begins += 4 * part
    cases = []
    for number, (id, (data, words)) in enumerate(bad.items()):
        path = stage.write(f"bad{number}.weights", data)
        cases.append(Case(id, stage.detect(weights=path), file=path, words=words))
    check(child, tmp_path, cases)


def test_no_file_of_another_length_is_ever_read(stage: Stage, good: bytes, tmp_path: Path) -> None:
    """A4: cut by 0 to 40 bytes, at 1,000 places by chance, and longer by 1 to 8 bytes; the message has both lengths."""
    network = network_of(TINY)
    places = {*range(LENGTH - 40, LENGTH), *np.random.default_rng(0).integers(0, LENGTH, 1000).tolist()}
    path = tmp_path / "cut.weights"
    for data in [*(good[:place] for place in places), *(good + bytes(more) for more in range(1, 9))]:
        path.write_bytes(data)
        with pytest.raises(WeightsError, match=f"{len(data):,} bytes.*{LENGTH:,}") as refusal:
            Model.read(network, path)
        assert str(refusal.value).startswith(f"{path}: ")
        assert not 20 <= len(data) < LENGTH or "layer" in str(refusal.value)


def test_a_file_cut_between_layers_is_refused_and_taken_only_when_asked(
    stage: Stage, good: bytes, tmp_path: Path, child: Child
) -> None:
    """W4: what `darknet partial` writes."""
    path = stage.write("tiny.conv.1", good[: 20 + 4 * sum(PARTS[:2])])
    check(child, tmp_path, [
        Case("W4", stage.detect(weights=path), file=path, words=["layer 1", f"{path}:1"]),
        Case("W4 FILE:1", stage.detect(weights=f"{path}:1"), "warned", path, words=["first 1 of 3 layers"]),
        Case("W4 FILE:2", stage.detect(weights=f"{path}:2"), file=path, words=["layer 1"]),
        Case("W4 FILE:0", stage.detect(weights=f"{path}:0"), file=path, words=["1 to 3"]),
        Case("W4 FILE:4", stage.detect(weights=f"{path}:4"), file=path, words=["1 to 3"]),
        Case("W4 FILE:9999999999999", stage.detect(weights=f"{path}:9999999999999"), file=path, words=["1 to 3"]),
        Case("W4 FILE:-1", stage.detect(weights=f"{path}:-1"), file=path, words=["no such file"]),
    ])  # fmt: skip


def test_the_weights_of_another_model_are_refused(stage: Stage, tmp_path: Path, child: Child) -> None:
    """W6."""
    other = stage.folder / "other.weights"
    model_of(CONNECTED).write_weights(other)
    case = Case("W6", stage.detect(weights=other), file=other, words=["cfg and weights of one network"])
    check(child, tmp_path, [case])


@pytest.mark.parametrize("change", ["shrinks", "grows"])
def test_a_file_that_changes_while_it_is_read_is_refused(
    change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """W15: the file has the right length when it is asked for, and another when its floats are read."""
    network = network_of(TINY.replace("filters=8\n", "filters=4096\n"))
    path = tmp_path / "moving.weights"
    Model.random(network).write_weights(path)
    truth = os.stat_result(path.stat())
    assert truth.st_size > 1 << 18, "more than any buffer holds"
    os.truncate(path, truth.st_size + (4096 if change == "grows" else -4096))
    monkeypatch.setattr(os, "fstat", lambda descriptor: truth)
    with pytest.raises(WeightsError, match="changed its length while it was read"):
        Model.read(network, path)


def test_a_terabyte_of_holes_is_refused_by_its_length(stage: Stage, tmp_path: Path, child: Child) -> None:
    """W16: refused within 100 ms; the best of three, since other programs run on the same cores."""
    path = stage.write("sparse.weights", struct.pack("<iiiQ", 0, 2, 0, 0))
    os.truncate(path, 1 << 40)
    case = Case("W16", stage.detect(weights=path), file=path, words=["1,099,511,627,776 bytes"])
    (end,) = check(child, tmp_path, [case])
    assert end.grown < 50 << 20
    network, best = network_of(TINY), np.inf
    for _ in range(3):
        began = time.perf_counter()
        with pytest.raises(WeightsError):
            Model.read(network, path)
        best = min(best, time.perf_counter() - began)
    assert best < 0.1


# ---------------------------------------------------------------------- kind
def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("archive/data.pkl", bytes(5000))
    return buffer.getvalue()


KINDS: dict[str, tuple[Callable[[], bytes], str]] = {
    "HTML": (lambda: b"<!DOCTYPE html><html><title>404</title></html>" + b" " * LENGTH, "HTML"),
    "HTML after blanks": (lambda: b"\r\n\r\n <html>" + b" " * LENGTH, "HTML"),
    "JSON": (lambda: b'{"message": "Not Found"}' + b" " * LENGTH, "JSON"),
    "zip": (zipped, "zip"),
    "gzip": (lambda: gzip.compress(bytes(LENGTH)), "gzip"),
    "git LFS": (lambda: b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 248007048\n", "Git LFS"),
    "cfg": (TINY.encode, "swapped?"),
    "PNG": (lambda: b"\x89PNG\r\n\x1a\n" + bytes(LENGTH), "PNG"),
    "HDF5": (lambda: b"\x89HDF\r\n\x1a\n" + bytes(LENGTH), "HDF5"),
    "numpy": (lambda: b"\x93NUMPY\x01\x00" + bytes(LENGTH), "no Darknet header"),
    "safetensors": (lambda: struct.pack("<Q", 2) + b"{}" + bytes(LENGTH), "bytes"),
    "big-endian": (lambda: struct.pack(">iiiQ", 0, 2, 0, 0) + bytes(LENGTH - 20), "big-endian"),
    "noise": (lambda: b"\xaa" * LENGTH, "no Darknet header"),
}


def test_a_file_of_another_kind_is_refused_by_what_it_is(stage: Stage, tmp_path: Path, child: Child) -> None:
    """W7, W11."""
    cases = []
    for number, (id, (make, word)) in enumerate(KINDS.items()):
        path = stage.write(f"kind{number}.weights", make())
        cases.append(Case(id, stage.detect(weights=path), file=path, words=[word]))
    check(child, tmp_path, cases)


class Canary:
    """A pickle of it writes a file when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.path,)


def test_a_pickle_is_never_read(stage: Stage, tmp_path: Path, child: Child) -> None:
    """W8: in every protocol, bare and in the zip that is a .pt file, as weights, as cfg and as a one-file model."""
    sung = tmp_path / "sung"
    cases = []
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        song = pickle.dumps(Canary(sung), protocol)
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("archive/data.pkl", song)
        for kind, data in (("bare", song), ("zip", buffer.getvalue()), ("long", song + bytes(LENGTH - len(song)))):
            path = stage.write(f"{kind}{protocol}.pt", data)
            words = ["zip"] if kind == "zip" else ["pickle"] if protocol >= 2 else []
            cases.append(Case(f"W8 {kind} {protocol}", stage.detect(weights=path), file=path, words=words))
        model = stage.write(f"model{protocol}.safetensors", song)
        cases.append(Case(f"W8 model {protocol}", ["detect", "-q", "-m", str(model), stage.picture], file=model))
        cases.append(Case(f"W8 cfg {protocol}", stage.detect(cfg=stage.folder / f"bare{protocol}.pt")))
    check(child, tmp_path, cases)
    assert not sung.exists()
    pickle.loads(pickle.dumps(Canary(sung)))
    assert sung.exists(), "the canary can sing"


# ---------------------------------------------------------------------- header
def test_both_headers_are_read_and_an_unbelievable_count_is_warned_of(
    stage: Stage, good: bytes, tmp_path: Path, child: Child
) -> None:
    """W9, W12."""
    values = good[20:]

    def case(id: str, header: bytes, expect: str = "fine") -> Case:
        path = stage.write(f"{id}.weights", header + values)
        # The fork's header, 0.2.5, may also change how pictures are fitted; here only the weights matter.
        argv = stage.detect(weights=path, more=["--thresh", "0.01", "--resize", "letterbox"])
        return Case(id, argv, expect, path if expect == "warned" else None)

    ends = check(child, tmp_path, [
        case("W9 0.1.0 with 32 bits", struct.pack("<iiiI", 0, 1, 0, 7)),
        case("W9 0.2.0 with 64 bits", struct.pack("<iiiQ", 0, 2, 0, 7)),
        case("W9 0.2.5 with 64 bits", struct.pack("<iiiQ", 0, 2, 5, 32013312)),
        case("W12 seen 2^63-1", struct.pack("<iiiQ", 0, 2, 0, 2**63 - 1), "warned"),
        case("W12 seen -1", struct.pack("<iiiq", 0, 2, 0, -1), "warned"),
    ])  # fmt: skip
    assert {end.out for end in ends} == {ends[0].out}
    assert ends[0].out.count("\n") > 1


def test_a_transposed_file_is_read_with_either_length_of_its_header(
    stage: Stage, tmp_path: Path, child: Child
) -> None:
    """W10: one network, its matrix stored inputs first. Redmon's Darknet writes 32 bits of `seen`, the forks 64."""
    cfg = stage.write("connected.cfg", CONNECTED)
    model = model_of(CONNECTED)
    plain = stage.folder / "plain.weights"
    model.write_weights(plain)
    values = []
    for entry in model.network.entries():
        array = model.weights[entry.layer][entry.name]
        values.append((array.T if (entry.layer, entry.name) == (1, "weights") else array).ravel())
    turned = np.concatenate(values)
    cases = [Case("plain", stage.detect(cfg=cfg, weights=plain, more=["--thresh", "0"]), "fine")]
    for id, header in (
        ("W10 major 1001, 32 bits", struct.pack("<iiiI", 1001, 0, 0, 0)),
        ("W10 major 1001, 64 bits", struct.pack("<iiiQ", 1001, 0, 0, 0)),
        ("W10 minor 1001, 32 bits", struct.pack("<iiiI", 0, 1001, 0, 0)),
    ):
        path = stage.write(f"{id}.weights", file_of(turned, header))
        cases.append(Case(id, stage.detect(cfg=cfg, weights=path, more=["--thresh", "0"]), "fine"))
    ends = check(child, tmp_path, cases)
    assert {end.out for end in ends} == {ends[0].out}
    assert ends[0].out.count("\n") > 1


# ---------------------------------------------------------------------- values
NORMED = TINY.replace("filters=8\n", "filters=8\nbatch_normalize=1\n")
VARIANCE = 3 * 8                                                    # behind biases, scales and means


def test_values_that_no_training_leaves_are_named_by_layer_and_taken_only_when_asked(
    stage: Stage, good: bytes, tmp_path: Path, child: Child
) -> None:
    """W13, W14, A5."""
    normed = stage.write("normed.cfg", NORMED)
    model_of(NORMED).write_weights(stage.folder / "normed.weights")
    plain, with_norm = floats_of(good), floats_of((stage.folder / "normed.weights").read_bytes())

    def spoilt(values: np.ndarray, place: int, value: float) -> bytes:
        values = values.copy()
        values[place] = value
        return file_of(values)

    first, last = "layer 0 [convolutional]", "layer 1 [convolutional]"
    bad = {
        "W13 NaN in the first bias": (stage.cfg, spoilt(plain, 0, np.nan), [f"{first} biases", "nan", "float 0"]),
        "W13 Inf in a kernel": (stage.cfg, spoilt(plain, 50, np.inf), [f"{first} weights", "inf", "float 42"]),
        "W13 -Inf in the last": (stage.cfg, spoilt(plain, -1, -np.inf), [f"{last} weights", "inf", "float 167"]),
        "W14 variance of -1": (normed, spoilt(with_norm, VARIANCE + 2, -1), [f"{first} variance", "-1", "float 2"]),
        "A5 weight of 1e7": (stage.cfg, spoilt(plain, 240, 1e7), [f"{last} biases", "1e+07", "float 16"]),
        "A5 weight of 3e38": (stage.cfg, spoilt(plain, 240, 3e38), [f"{last} biases", "3e+38"]),
    }
    cases = []
    for number, (id, (cfg, data, words)) in enumerate(bad.items()):
        path = stage.write(f"value{number}.weights", data)
        asked = [*words, "--allow-nonfinite"]
        cases.append(Case(id, stage.detect(cfg=cfg, weights=path), file=path, words=asked))
        cases.append(Case(f"{id}, allowed", stage.detect(cfg=cfg, weights=path, more=["--allow-nonfinite"]), "fine"))
    zero = stage.write("zero.weights", spoilt(with_norm, VARIANCE, 0))
    cases.append(Case("W14 variance of 0", stage.detect(cfg=normed, weights=zero), "fine"))
    far = stage.write("far.weights", spoilt(with_norm, VARIANCE, 1e12))
    cases.append(Case("variance of 1e12", stage.detect(cfg=normed, weights=far), "fine"))
    check(child, tmp_path, cases)


def test_json_stays_json_when_a_box_leaves_the_range_of_floats(
    stage: Stage, good: bytes, tmp_path: Path, child: Child
) -> None:
    """A box of e^80 anchors of 31/32 of 16,384 pixels is beyond float32, and JSON has no word for it.

    Published networks have such anchors: 373 of 416 pixels in yolov3.cfg.
    """
    cfg = stage.write("wide.cfg", TINY.replace("20,24", "31,31"))
    values = floats_of(good)
    biases = values[sum(PARTS[:2]) : sum(PARTS[:3])]
    biases[2::7], biases[4::7], biases[5::7] = 1000, 20, 20         # of each anchor: width, objectness, first class
    weights = stage.write("wide.weights", file_of(values))
    wide = stage.folder / "wide.png"
    Image.new("RGB", (16384, 1)).save(wide)
    forms = ("json", "jsonl", "coco")
    argv = [stage.detect(wide, cfg=cfg, weights=weights, more=["--format", form, "--thresh", "0.3"]) for form in forms]
    ends: list[End] = check(child, tmp_path, [Case(form, each, "fine") for form, each in zip(forms, argv, strict=True)])
    for form, end in zip(forms, ends, strict=True):
        assert "class 0" in end.out or '"category_id": 1' in end.out, form
        json.loads(end.out, parse_constant=lambda word, form=form: pytest.fail(f"{form}: {word} is no JSON"))


# ---------------------------------------------------------------------- memory
READ_AND_MEASURE = """
import resource, sys
from pathlib import Path
from lookonce.darknet.cfg import Cfg
from lookonce.model import Model, open_model
from lookonce.network import Network
network = Network.build(Cfg.read(Path(sys.argv[1])))
small, large = sys.argv[2:4]
read = lambda path: open_model(path) if path.endswith(".safetensors") else Model.read(network, Path(path))
try:
    read(small)
except Exception:
    pass                                                # whatever is loaded late is loaded now
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
model = read(large)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


LARGE = TINY.split("[yolo]")[0].replace("filters=21", "filters=12") + "[connected]\noutput=1048576\nactivation=linear\n"


@pytest.mark.parametrize("suffix", ["weights", "safetensors"])
def test_reading_takes_no_more_memory_than_the_file_and_50_megabytes(suffix: str, tmp_path: Path, child: Child) -> None:
    """A6, for 200 MB: a connected layer of 50 million weights. A second copy of it would show."""
    network = network_of(LARGE)
    zeros = ({part.name: np.zeros(part.shape, np.float32) for part in node.parameters} for node in network.nodes)
    large, small = Model(network, tuple(zeros), trained=3), replace(model_of(TINY), trained=3)
    cfg, paths = tmp_path / "large.cfg", [tmp_path / f"{size}.{suffix}" for size in ("small", "large")]
    cfg.write_text(LARGE)
    for path, model in zip(paths, (small, large), strict=True):
        if suffix == "weights":
            model.write_weights(path)
        else:
            onefile.write(path, model)
    length = paths[1].stat().st_size
    assert length > 200_000_000
    end = child("-c", READ_AND_MEASURE, str(cfg), *map(str, paths))
    assert (end.code, end.err) == (0, "")
    assert int(end.out) * 1024 < length + (50 << 20)
