"""What `lookonce doctor` says, and what it returns."""

from __future__ import annotations

import dataclasses
import json
import platform

import pytest

from lookonce import __version__, surroundings
from lookonce.cli.main import main
from lookonce.surroundings import Cores, Fetched, Kernel, Memory, Part, Processor, Surroundings, Trial

WHOLE = Surroundings(
    lookonce="9.8",
    place="/site/lookonce",
    python="3.12.1 (CPython), /usr/bin/python3",
    platform="Linux",
    processor=Processor("A Processor", ("AVX2", "VNNI")),
    cores=Cores(64, 8, 1.5),
    memory=Memory(32_000_000_000, 8_000_000_000),
    libraries={"numpy": "2.1", "onnx": None, "openvino": "2026.1", "onnxruntime": None},
    fetched=Fetched("/cache", None, 5_000_000_000, ("yolov3.weights",)),
    parts=(
        Part("video", {"av": None}, "pip install 'lookonce[video]'", "videos"),
        Part("judge", {"jinja2": "3.1", "matplotlib": None}, "pip install 'lookonce[judge]'", "reports"),
        Part("train", {"torch": "2.13"}, "pip install 'lookonce[train]'", "learning"),
    ),
    kernel=Kernel("avx2", "the fastest that runs on this processor, of avx2, portable"),
    auto="openvino",
    trials=(Trial("openvino", "f32", 0.25, None), Trial("openvino", "bf16", None, "broken")),
)
TABLE = """\
lookonce     9.8, /site/lookonce
python       3.12.1 (CPython), /usr/bin/python3
system       Linux
processor    A Processor
             AVX2, VNNI
cores        8 of 64 may be used, 1.5 at a time by the control group
memory       32.0 GB, 8.0 GB may be taken
weights      /cache: can be written, 5.0 GB free; fetched: yolov3.weights
libraries    numpy 2.1, onnx MISSING, openvino 2026.1
parts        video        av missing: `pip install 'lookonce[video]'` for videos
             judge        matplotlib missing: `pip install 'lookonce[judge]'` for reports
             train        torch 2.13
single bits  by the kernel, avx2: the fastest that runs on this processor, of avx2, portable
engine       openvino f32 (auto): a tiny network in 0.25 ms, its numbers right
engine       openvino bf16: FAILS: broken
detection    works, by openvino
"""


def test_here_detection_works_and_both_forms_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith(f"lookonce     {__version__}, ")
    assert f"python       {platform.python_version()} " in out
    assert "\ndetection    works, by " in out
    assert main(["doctor", "--format", "json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["lookonce"], document["works"], err) == (__version__, True, "")


def test_each_line_says_one_thing(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(surroundings, "examine", lambda: WHOLE)
    assert main(["doctor"]) == 0
    assert capsys.readouterr().out == TABLE


@pytest.mark.parametrize(
    ("kernel", "says"),
    [
        (Kernel("reference", "the compiled kernel is missing: it was not built"),
         "by NumPy, slowly: the compiled kernel is missing: it was not built; with a C++ compiler "
         "`pip install --force-reinstall --no-deps .`, where its source lies, builds it"),
        (Kernel(None, "LOOKONCE_BINARY=neon: does not run on this processor"),
         "FAIL: LOOKONCE_BINARY=neon: does not run on this processor"),
    ],
)  # fmt: skip
def test_a_kernel_that_is_not_there_or_fails_does_not_stop_detection(
    kernel: Kernel, says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(surroundings, "examine", lambda: dataclasses.replace(WHOLE, kernel=kernel))
    assert main(["doctor"]) == 0
    assert f"\nsingle bits  {says}\n" in capsys.readouterr().out


BROKEN = (Trial("openvino", "f32", None, "no such instruction"),)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"auto": None, "trials": ()}, "does NOT work: no engine is installed: `pip install openvino` or "),
        ({"trials": BROKEN}, "openvino fails: `pip install --force-reinstall openvino` may mend it"),
        ({"trials": (*BROKEN, Trial("onnxruntime", "f32", 1.0, None))}, "openvino fails: `--engine onnxruntime` works"),
    ],
)
def test_the_exit_code_is_3_where_detection_does_not_work(
    change: dict[str, object], says: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(surroundings, "examine", lambda: dataclasses.replace(WHOLE, **change))       # type: ignore[arg-type]
    for format in ("table", "json"):
        assert main(["doctor", "--format", format]) == 3
        out = capsys.readouterr().out
        assert (says in out) if format == "table" else (json.loads(out)["works"] is False)


def test_what_cannot_be_found_out_is_unknown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    blind = dataclasses.replace(
        WHOLE, processor=Processor("", None), cores=Cores(None, None, None), memory=Memory(None, None),
        fetched=Fetched("/cache", "cannot be written to: Read-only file system", None, ()),
    )  # fmt: skip
    monkeypatch.setattr(surroundings, "examine", lambda: blind)
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "processor    unknown\n             unknown what it can\n" in out
    assert "cores        unknown of unknown may be used\n" in out
    assert "memory       unknown\n" in out
    assert "/cache: NOT usable, LOOKONCE_HOME names another: cannot be written to: Read-only file system; " in out
