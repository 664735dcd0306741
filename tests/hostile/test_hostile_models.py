"""A one-file model that is cut, forged or made to harm: refused in one line that names it, before much is read."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import Child
from corpus import TINY, Case, Stage, build_stage, check, run

from lookonce.darknet.lists import read_names
from lookonce.model import onefile

Header = dict[str, Any]

DEEP = "[" * 100_000 + "]" * 100_000
DIGITS = "1" * 5000


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return build_stage(tmp_path / "stage")


@pytest.fixture
def good(stage: Stage) -> bytes:
    onefile.write(stage.folder / "good.safetensors", stage.model)
    return (stage.folder / "good.safetensors").read_bytes()


def parts(data: bytes) -> tuple[Header, bytes]:
    """The header and the numbers of a safetensors file: eight bytes of length, JSON, floats."""
    (length,) = struct.unpack_from("<Q", data)
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def joined(header: Header | str | bytes, numbers: bytes, length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else (header if isinstance(header, str) else json.dumps(header)).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + numbers


def without(header: Header, key: str) -> Header:
    return {name: value for name, value in header.items() if name != key}


def tensor(header: Header, name: str, /, **values: object) -> Header:
    """The header with something else said of one tensor."""
    return {**header, name: {**header[name], **values}}


def about(header: Header, /, **values: str) -> Header:
    """The header with other metadata."""
    return {**header, "__metadata__": {**header["__metadata__"], **values}}


def detect(stage: Stage, model: Path, *more: str) -> Sequence[str]:
    return ["detect", "-q", "-m", str(model), *more, stage.picture]


def refused(stage: Stage, folder: Path, child: Child, bad: Mapping[str, tuple[bytes, Sequence[str]]]) -> None:
    """Each file is refused in one line that names it and says these words."""
    cases = []
    for number, (id, (data, words)) in enumerate(bad.items()):
        path = stage.write(f"bad{number}.safetensors", data)
        cases.append(Case(id, detect(stage, path), file=path, words=words))
    check(child, folder, cases)


def test_the_model_that_the_others_are_made_from_is_read(
    stage: Stage, good: bytes, tmp_path: Path, child: Child
) -> None:
    again = stage.write("again.safetensors", joined(*parts(good)))
    check(child, tmp_path, [Case("as it is", detect(stage, again), "fine")])


def test_a_header_that_lies_is_refused(stage: Stage, good: bytes, tmp_path: Path, child: Child) -> None:
    header, numbers = parts(good)
    length = len(good) - 8 - len(numbers)
    refused(stage, tmp_path, child, {
        "empty": (b"", ["safetensors"]),
        "7 bytes": (good[:7], ["safetensors"]),
        "header of 2^63 bytes": (joined(header, numbers, 1 << 63), ["safetensors"]),
        "header of 2^64-1 bytes": (joined(header, numbers, (1 << 64) - 1), ["safetensors"]),
        "header of 2^64-8 bytes": (joined(header, numbers, (1 << 64) - 8), ["safetensors"]),
        "header longer than the file": (joined(header, numbers, len(good)), ["safetensors"]),
        "header one byte short": (joined(header, numbers, length - 1), ["safetensors"]),
        "header of no bytes": (joined(b"", numbers), ["safetensors"]),
        "header that is no JSON": (joined("cfg=tiny", numbers), ["safetensors"]),
        "header that is no UTF-8": (joined(b'{"\xff\xfe":1}', numbers), ["safetensors"]),
        "header that is a list": (joined("[1,2]", numbers), ["safetensors"]),
        "header that is deep": (joined(DEEP, numbers), ["safetensors"]),
        "metadata that are deep": (joined('{"__metadata__":' + DEEP + "}", numbers), ["safetensors"]),
        "metadata that are numbers": (joined({"__metadata__": {"lookonce": 1}}, b""), ["safetensors"]),
        "cut in the header": (good[:200], ["safetensors"]),
        "cut in the numbers": (good[:-4], ["safetensors"]),
        "a tail": (good + b"tail", ["safetensors"]),
    })  # fmt: skip


def test_a_header_of_more_than_100_megabytes_is_refused_by_its_length(
    stage: Stage, good: bytes, tmp_path: Path, child: Child
) -> None:
    path = stage.write("huge.safetensors", struct.pack("<Q", 100_000_001) + b"{")
    os.truncate(path, 8 + 100_000_001)
    (end,) = check(child, tmp_path, [Case("100 MB + 1", detect(stage, path), file=path, words=["safetensors"])])
    assert end.grown < 50 << 20


FIRST, LAST = "000.biases", "001.weights"
OWNER = "layer 1 [convolutional] weights"
EMPTY = {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]}


def test_arrays_that_do_not_fit_their_cfg_are_refused(stage: Stage, good: bytes, tmp_path: Path, child: Child) -> None:
    header, numbers = parts(good)
    begin, end = header[LAST]["data_offsets"]
    assert header[FIRST]["shape"] == [8]
    assert header[LAST]["shape"] == [21, 8, 1, 1]
    many = {f"x{number}": EMPTY for number in range(100_000)}
    renamed = {("002.weights" if name == LAST else name): value for name, value in header.items()}
    twice = json.dumps(header)[:-1] + f', "{LAST}": {json.dumps(header[LAST])}}}'

    def changed(name: str, **values: object) -> bytes:
        return joined(tensor(header, name, **values), numbers)

    refused(stage, tmp_path, child, {
        "missing": (joined(without(header, LAST), numbers[:begin] + numbers[end:]), [LAST]),
        "overlapping": (changed(LAST, data_offsets=[begin - 4, end - 4]), ["safetensors"]),
        "with a hole": (changed(LAST, data_offsets=[begin + 4, end + 4]), ["safetensors"]),
        "backwards": (changed(LAST, data_offsets=[end, begin]), ["safetensors"]),
        "beyond the end": (changed(LAST, data_offsets=[begin, end + 400]), ["safetensors"]),
        "of 2^63 x 2": (changed(LAST, shape=[1 << 63, 2]), ["safetensors"]),
        "of 2^64 x 2^64": (changed(LAST, shape=[1 << 64, 1 << 64]), ["safetensors"]),
        "of -1": (changed(LAST, shape=[-1, -168]), ["safetensors"]),
        "of another shape": (changed(LAST, shape=[8, 21, 1, 1]), [OWNER, "(8, 21, 1, 1)", "(21, 8, 1, 1)"]),
        "flat": (changed(LAST, shape=[168]), [OWNER, "(168,)"]),
        "of whole numbers": (changed(LAST, dtype="I32"), [OWNER, "I32", "F32"]),
        "of bf16": (changed(LAST, dtype="BF16", shape=[42, 8, 1, 1]), [OWNER, "BF16", "F32"]),
        "of an unknown type": (changed(LAST, dtype="F33"), ["safetensors"]),
        "of another name": (joined(renamed, numbers), ["00"]),
        "one too many": (joined({**header, "003.weights": EMPTY}, numbers), ["003.weights"]),
        "100,000 of them": (joined({**header, **many}, numbers), ["x"]),
        "one with a name of 100 KB": (joined({**header, "\x1b" * 100_000: EMPTY}, numbers), []),
        "one named twice, of another shape": (joined(twice.replace("[21, 8, 1, 1]", "[8, 21, 1, 1]"), numbers), []),
    })  # fmt: skip


def test_damaged_numbers_are_named_by_layer_and_taken_only_when_asked(
    stage: Stage, good: bytes, tmp_path: Path, child: Child
) -> None:
    header, numbers = parts(good)
    begin, _ = header[LAST]["data_offsets"]
    spoilt = numbers[:begin] + struct.pack("<f", float("nan")) + numbers[begin + 4 :]
    path = stage.write("nan.safetensors", joined(header, spoilt))
    check(child, tmp_path, [
        Case("NaN", detect(stage, path), file=path, words=[OWNER, "nan"]),
        Case("NaN, allowed", detect(stage, path, "--allow-nonfinite"), "fine"),
    ])  # fmt: skip


def test_metadata_that_do_not_fit_are_refused(stage: Stage, good: bytes, tmp_path: Path, child: Child) -> None:
    header, numbers = parts(good)
    head = json.loads(header["__metadata__"]["header"])

    def with_(**values: str) -> bytes:
        return joined(about(header, **values), numbers)

    region = "[region]\nanchors=1,1,2,2,3,3\nclasses=2\nnum=3\ntree=/etc/passwd\n"
    tree = TINY.split("[yolo]")[0] + region
    long = "[net]\nwidth=32\nheight=32\nchannels=3\n" + "[s]\n" * 200_000
    refused(stage, tmp_path, child, {
        "none": (joined(without(header, "__metadata__"), numbers), ["lookonce", "convert"]),
        "of another program": (joined({**header, "__metadata__": {"format": "pt"}}, numbers), ["lookonce", "convert"]),
        "of another version": (with_(lookonce="2"), ["lookonce"]),
        "no cfg": (joined({**header, "__metadata__": without(header["__metadata__"], "cfg")}, numbers), ["cfg"]),
        "empty cfg": (with_(cfg=""), ["[net]"]),
        "bad cfg": (with_(cfg=TINY.replace("filters=8", "filters=8x")), [":7:", "filters=8x"]),
        "greedy cfg": (with_(cfg=TINY.replace("=32", "=1000000")), ["GB", "limit"]),
        "cfg of another model": (with_(cfg=TINY.replace("filters=8", "filters=9")), ["layer 0", "(9,)"]),
        "cfg that names a file": (with_(cfg=tree), ["tree=/etc/passwd", "not attached"]),
        "tree that is none": (with_(cfg=tree, tree="root:x:0"), ["(tree):1", "id parent"]),
        "cfg of 200,000 lines": (with_(cfg=long), ["sections"]),
        "names too few": (with_(names='["a"]'), ["1 names", "2 classes"]),
        "names no list": (with_(names='{"a": 1}'), ["names", "list"]),
        "names no JSON": (with_(names="a, b"), ["names", "JSON"]),
        "names deep": (with_(names=DEEP), ["names", "JSON"]),
        "names a number of 5,000 digits": (with_(names=f"[{DIGITS}, 1]"), ["names"]),
        "thresholds words": (with_(thresholds='{"score": "high"}'), ["metadata"]),
        "thresholds unknown": (with_(thresholds='{"skore": 0.5}'), ["metadata", "skore"]),
        "thresholds deep": (with_(thresholds='{"score": ' + DEEP + "}"), ["thresholds"]),
        "thresholds a number of 5,000 digits": (with_(thresholds=f'{{"score": {DIGITS}}}'), ["thresholds"]),
        "thresholds a number of 400 digits": (with_(thresholds=f'{{"score": {DIGITS[:400]}}}'), ["thresholds"]),
        "thresholds NaN": (with_(thresholds='{"score": NaN}'), ["thresholds"]),
        "thresholds of 7": (with_(thresholds='{"nms": 7}'), ["thresholds"]),
        "resize": (with_(resize="squash" * 1000), ["squash", "letterbox"]),
        "header unknown": (with_(header=json.dumps({**head, "minus": 1})), ["metadata", "minus"]),
        "header words": (with_(header=json.dumps({**head, "major": "one"})), ["metadata"]),
        "header a fraction": (with_(header=json.dumps({**head, "seen": 0.5})), ["metadata"]),
        "header beyond its bits": (with_(header=json.dumps({**head, "major": 1 << 40})), ["metadata"]),
        "card no object": (with_(card="[]"), ["card"]),
        "card deep": (with_(card='{"a": ' + DEEP + "}"), ["card"]),
    })  # fmt: skip


def test_names_inside_a_model_never_reach_the_terminal_unescaped(
    stage: Stage, good: bytes, tmp_path: Path, child: Child
) -> None:
    header, numbers = parts(good)
    names = json.dumps(["\x1b]0;evil\x07\n" + "x" * 100_000, "\u202ecod.exe\r"])
    path = stage.write("names.safetensors", joined(about(header, names=names), numbers))
    (end,) = check(child, tmp_path, [Case("names", detect(stage, path, "--thresh", "0.01"), "fine")])
    lines = end.out.splitlines()
    assert end.out.replace("\n", "").isprintable()
    assert len(lines) > 2
    assert any("\\x1b]0;evil\\x07\\n" in line for line in lines[1:])
    assert max(map(len, lines)) < 400


@pytest.mark.parametrize("names", [["a\nb", "c"], ["a\rb", "c"], ["", "b"], ["a", ""], ["a", "\ud800"]], ids=ascii)
def test_names_written_out_of_a_model_are_as_many_and_as_they_were(
    names: list[str], stage: Stage, good: bytes, tmp_path: Path, child: Child
) -> None:
    """Darknet's files have a name a line. What does not fit there is refused; what is written is read again."""
    header, numbers = parts(good)
    path, out = stage.folder / "names.safetensors", stage.folder / "out.weights"
    path.write_bytes(joined(about(header, names=json.dumps(names)), numbers))
    (end,) = run(child, tmp_path, [Case("convert", ["model", "convert", str(path), "-o", str(out)])])
    assert "Traceback" not in end.err
    assert end.code in (0, 2)
    if end.code == 0:
        assert read_names(out.with_suffix(".names"), 2) == tuple(names)
    else:
        assert end.err.startswith("lookonce: ")
        assert not out.with_suffix(".names").exists()


def test_a_second_weights_file_beside_a_model_is_refused(
    stage: Stage, good: bytes, tmp_path: Path, child: Child
) -> None:
    path = stage.write("again.safetensors", good)
    argv = detect(stage, path, "-w", stage.weights)
    check(child, tmp_path, [Case("-w", argv, file=path, words=["leave the weights out"])])
