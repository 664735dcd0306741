from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from conftest import DETECTOR, Child, model_of

from lookonce import benchmark
from lookonce.benchmark import measure
from lookonce.engines import (
    Engine,
    EngineKind,
    Precision,
    available_engines,
    available_precisions,
    engine,
    engine_of,
    open_engine,
    openvino,
)
from lookonce.errors import EngineError
from lookonce.graph import build
from lookonce.model import Model

ENGINES = ["openvino", "onnxruntime"]


def test_both_engines_are_here_and_openvino_comes_first() -> None:
    assert available_engines() == ("openvino", "onnxruntime")
    assert open_engine(build(model_of(DETECTOR))).name == "openvino"


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_says_what_it_is(name: str) -> None:
    opened = open_engine(build(model_of(DETECTOR)), name)  # type: ignore[arg-type]
    assert (opened.name, opened.precision) == (name, "f32")
    assert opened.version[0].isdigit()


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("batch", [1, 3])
def test_threads_do_not_disturb_each_other(name: str, batch: int) -> None:
    """Eight threads, one engine, different pictures: every answer is that of a call alone, bit for bit."""
    run = open_engine(build(model_of(DETECTOR)), name)  # type: ignore[arg-type]
    pictures = np.random.default_rng(0).random((8, batch, 3, 64, 64), np.float32)
    alone = [run(picture)[0].copy() for picture in pictures]
    wrong = []

    def work(number: int) -> None:
        for turn in range(40):
            which = (number + turn) % 8
            if not np.array_equal(run(pictures[which])[0], alone[which]):
                wrong.append(which)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_what_cannot_be_done_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = build(model_of(DETECTOR))
    for threads in (0, -1, 100_000):
        with pytest.raises(EngineError, match=f"threads={threads}: wanted a whole number from 1 to 1024, or None"):
            open_engine(graph, threads=threads)
    with pytest.raises(EngineError, match="no bf16 on the CPU; wanted precision f32, or engine openvino"):
        open_engine(graph, "onnxruntime", "bf16")
    monkeypatch.setattr(engine.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EngineError, match="pip install openvino"):
        open_engine(graph)
    with pytest.raises(EngineError, match="no engine is installed"):
        open_engine(graph, "openvino")


def test_an_unknown_engine_is_refused_with_those_that_there_are(child: Child, tmp_path: Path) -> None:
    """In a process whose types nobody checks, as a program's would be."""
    (tmp_path / "net.cfg").write_text(DETECTOR)
    code = "import sys, lookonce; lookonce.load(sys.argv[1], 'random', engine='torch')"
    done = child("-W", "ignore", "-c", code, str(tmp_path / "net.cfg"), memory=8 << 30)
    assert "EngineError: engine='torch': wanted auto, openvino, onnxruntime or binary" in done.err


def test_without_openvino_onnx_runtime_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    real = engine.importlib.util.find_spec
    monkeypatch.setattr(engine.importlib.util, "find_spec", lambda name: None if name == "openvino" else real(name))
    graph = build(model_of(DETECTOR))
    assert open_engine(graph).name == "onnxruntime"
    with pytest.raises(EngineError, match="openvino is not installed: `pip install openvino`"):
        open_engine(graph, "openvino")


def test_threads_are_limited_as_asked() -> None:
    picture = np.random.default_rng(0).random((1, 3, 64, 64), np.float32)
    for name in ENGINES:
        one = open_engine(build(model_of(DETECTOR)), name, threads=1)(picture)[0].copy()  # type: ignore[arg-type]
        two = open_engine(build(model_of(DETECTOR)), name, threads=2)(picture)[0]  # type: ignore[arg-type]
        np.testing.assert_allclose(one, two, rtol=1e-4, atol=1e-5)


NO_SOCKETS = """
import pathlib, socket, sys

class Refused(socket.socket):
    def __init__(self, *arguments, **options):
        raise SystemExit("a socket was opened")

socket.socket = Refused
socket.create_connection = socket.getaddrinfo = Refused
import numpy as np
import lookonce
detect = lookonce.load(sys.argv[1], "random")
print(len(detect(np.zeros((40, 60, 3), np.uint8))), sorted(path.name for path in pathlib.Path.home().rglob("*")))
assert "openvino_telemetry" not in sys.modules and "openvino.tools.ovc" not in sys.modules
"""


def test_no_connection_is_opened_and_nothing_is_written_home(child: Child, tmp_path: Path) -> None:
    """OpenVINO's converter would write an identifier into the home folder and may call out."""
    (tmp_path / "net.cfg").write_text(DETECTOR)
    home = tmp_path / "home"
    home.mkdir()
    done = child("-W", "ignore", "-c", NO_SOCKETS, str(tmp_path / "net.cfg"), HOME=str(home), memory=8 << 30)
    assert (done.code, done.err) == (0, "")
    assert done.out.endswith(" []\n")


# ---------------------------------------------------------------------- what there is to measure
@pytest.mark.parametrize("able", [True, False], ids=["bf16", "no bf16"])
def test_all_that_an_engine_can_do_here_is_measured(able: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where this processor lacks bf16, f32 runs in its place."""
    monkeypatch.setattr(openvino, "has_bf16", lambda: able)
    opened = []

    def opening(model: Model, name: EngineKind, precision: Precision, threads: int | None) -> Engine:
        opened.append((name, precision))
        return engine_of(model, name, "f32", threads)

    monkeypatch.setattr(benchmark, "engine_of", opening)
    assert available_precisions("auto") == available_precisions("openvino") == (("f32", "bf16") if able else ("f32",))
    assert available_precisions("onnxruntime") == ("f32",)
    figures = measure(model_of(DETECTOR), seconds=0.01)
    rough = [("openvino", "bf16")] if able else []
    assert opened == [("openvino", "f32"), *rough, ("onnxruntime", "f32")]
    assert len(figures) == len(opened)
    assert all(figure.forward > 0 for figure in figures)


@pytest.mark.parametrize(
    ("engines", "precisions", "pairs"),
    [
        ([], ["f32"], [("openvino", "f32"), ("onnxruntime", "f32")]),
        ([], ["bf16"], [("openvino", "bf16")]),
        (["onnxruntime"], [], [("onnxruntime", "f32")]),
        (["openvino"], [], [("openvino", "f32"), ("openvino", "bf16")]),
        (["onnxruntime"], ["bf16"], [("onnxruntime", "bf16")]),             # asked for: refused when it is opened
    ],
)
def test_what_is_asked_is_measured(
    engines: list[EngineKind],
    precisions: list[Precision],
    pairs: list[tuple[EngineKind, Precision]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(openvino, "has_bf16", lambda: True)
    assert benchmark._pairs(engines, precisions, available_engines()) == pairs


def test_a_precision_that_no_engine_can_do_is_not_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openvino, "has_bf16", lambda: False)
    for precisions in (["bf16"], ["f32", "bf16"]):
        with pytest.raises(EngineError, match="no bf16 arithmetic; wanted precision f32, or auto"):
            measure(model_of(DETECTOR), precisions=precisions, seconds=0.01)  # type: ignore[arg-type]
    monkeypatch.setattr(engine.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(EngineError, match="no engine is installed"):
        measure(model_of(DETECTOR))
