from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
from conftest import DETECTOR, Child, model_of

from lookonce.engines import available_engines, engine, open_engine
from lookonce.errors import EngineError
from lookonce.graph import build

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
    with pytest.raises(EngineError, match="threads=0: wanted at least 1"):
        open_engine(graph, threads=0)
    with pytest.raises(EngineError, match="onnxruntime has no bf16"):
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
    assert "EngineError: engine 'torch' is not known; there are auto, openvino, onnxruntime" in done.err


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
