"""A packed model that is cut, forged or of another cfg: refused in one line that names it, with exit code 2."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import Child, model_of
from corpus import TINY, Case, Stage, build_stage, check

from lookonce.model import onefile

HEAD = "[convolutional]\nfilters=21"
CFG = TINY.replace(HEAD, f"[convolutional]\nfilters=5\nsize=3\npad=1\nxnor=1\n\n{HEAD}")
OWNER = "layer 1 [convolutional]"                       # 8 * 3 * 3 weights a filter, 9 bytes: no bit to spare
SPARE = CFG.replace("filters=8", "filters=7")           # 63 weights a filter: the last bit of 8 bytes is beyond them


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return build_stage(tmp_path / "stage")


def packed(stage: Stage, cfg: str = CFG) -> tuple[dict[str, Any], bytearray]:
    """The header and the numbers of a packed file."""
    path = stage.folder / "good.safetensors"
    model = model_of(cfg)
    onefile.write(path, replace(model, trained=len(model.weights)), pack=True)
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    return json.loads(data[8 : 8 + length]), bytearray(data[8 + length :])


def joined(header: dict[str, Any], numbers: bytes) -> bytes:
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + numbers


def case(stage: Stage, id: str, data: bytes, *words: str) -> Case:
    path = stage.write(f"{id.replace(' ', '-')}.safetensors", data)
    return Case(id, ["detect", "-q", "-m", str(path), stage.picture], file=path, words=words)


def test_a_whole_one_is_read(stage: Stage, tmp_path: Path, child: Child) -> None:
    path = stage.write("whole.safetensors", joined(*packed(stage)))
    check(child, tmp_path, [Case("whole", ["detect", "-q", "-m", str(path), stage.picture], "fine")])


def test_one_that_is_cut_is_refused(stage: Stage, tmp_path: Path, child: Child) -> None:
    whole = joined(*packed(stage))
    cuts = (0, 7, 8, 200, len(whole) // 2, len(whole) - 45, len(whole) - 1)
    check(child, tmp_path, [case(stage, f"cut at {cut}", whole[:cut], "safetensors") for cut in cuts])
    check(child, tmp_path, [case(stage, "a byte too many", whole + b"\0", "safetensors")])


def test_one_of_another_cfg_is_refused(stage: Stage, tmp_path: Path, child: Child) -> None:
    header, numbers = packed(stage)

    def under(before: str, after: str) -> bytes:
        about = {**header["__metadata__"], "cfg": CFG.replace(before, after)}
        return joined({**header, "__metadata__": about}, numbers)

    check(child, tmp_path, [
        case(stage, "more filters", under("filters=5", "filters=6"), OWNER, "(5,)", "(6,)"),
        case(stage, "a larger window", under("size=3\npad=1\nxnor", "size=5\npad=2\nxnor"), "(5, 9)", "(5, 25)"),
        case(stage, "no single bits", under("xnor=1\n", ""), "001.bits", "is not of its cfg"),
        case(stage, "two bits", under("xnor=1", "xnor=1\nweight_bits=2"), "001.bits", "is not of its cfg"),
        case(stage, "bits elsewhere", under("filters=21", "binary=1\nfilters=21"), "002.bits", "is missing"),
    ])  # fmt: skip


def test_damaged_bits_and_magnitudes_are_refused(stage: Stage, tmp_path: Path, child: Child) -> None:
    header, numbers = packed(stage, SPARE)
    begin, end = header["001.bits"]["data_offsets"]
    assert (end - begin, numbers[end - 1] >> 7) == (5 * 8, 0)
    flipped = numbers.copy()
    flipped[end - 1] ^= 1 << 7
    at, _ = header["001.magnitude"]["data_offsets"]

    def magnitude(value: float) -> bytes:
        return joined(header, numbers[: at + 4] + struct.pack("<f", value) + numbers[at + 8 :])

    check(child, tmp_path, [
        case(stage, "a bit too many", joined(header, flipped), f"{OWNER} weights has bits beyond its 63 weights"),
        case(stage, "negative", magnitude(-1), f"{OWNER} weights has magnitude -1 in filter 1"),
        case(stage, "NaN", magnitude(float("nan")), f"{OWNER} magnitude holds nan"),
        case(stage, "infinite", magnitude(float("inf")), f"{OWNER} magnitude holds inf"),
    ])  # fmt: skip


def test_a_form_that_is_not_known_or_does_not_fit_is_refused(stage: Stage, tmp_path: Path, child: Child) -> None:
    header, numbers = packed(stage)

    def about(**values: str) -> bytes:
        return joined({**header, "__metadata__": {**header["__metadata__"], **values}}, numbers)

    plain = {key: value for key, value in header["__metadata__"].items() if key != "packed"}
    floats = {**header, "001.bits": {**header["001.bits"], "dtype": "I8"}}
    check(child, tmp_path, [
        case(stage, "a later version", about(packed="2"), "version 2", "wanted 1"),
        case(stage, "an endless version", about(packed="1" * 5000), "version 1111"),
        case(stage, "said to be plain", joined({**header, "__metadata__": plain}, numbers), "001.bits", "of its cfg"),
        case(stage, "bits of another type", joined(floats, numbers), f"{OWNER} bits is I8", "wanted U8"),
    ])  # fmt: skip
