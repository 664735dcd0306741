"""What tests share: the recordings outside the project, small networks, and child processes with limits."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from lookonce.darknet.cfg import Cfg
from lookonce.engines import open_engine
from lookonce.graph import build
from lookonce.model import Model
from lookonce.network import Network

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"

# A detector as small as can be.
DETECTOR = """[net]
width=64
height=64
channels=3
[convolutional]
filters=16
size=3
stride=4
pad=1
batch_normalize=1
activation=leaky
[convolutional]
filters=21
size=1
activation=linear
[yolo]
classes=2
num=3
anchors=8,8,16,24,40,30
"""


def pytest_configure(config: pytest.Config) -> None:
    # Here and not in pyproject.toml: naming the class there would import the package before its shapes are checked.
    config.addinivalue_line("filterwarnings", "ignore::lookonce.errors.LookonceWarning")
    # A shell that starts tests in the background lets them ignore Ctrl-C, nohup a hang-up; what they start would too.
    for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, usual)


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    if SHARED.is_dir():
        return
    absent = pytest.mark.skip(reason=f"needs {SHARED}, which is not here")
    for item in items:
        if item.get_closest_marker("shared"):
            item.add_marker(absent)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of recordings, pictures and models that lies beside the project. Only for tests marked `shared`."""
    return SHARED


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """No test reads or writes the user's cache folder."""
    folder = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("LOOKONCE_HOME", str(folder))
    return folder


def network_of(text: str) -> Network:
    """The network that a cfg's text declares."""
    return Network.build(Cfg.parse(text, "test.cfg"))


def model_of(text: str, seed: int = 0) -> Model:
    """A cfg's network with random weights; batch norm gets statistics that do something."""
    model = Model.random(network_of(text), seed)
    rng = np.random.default_rng(seed + 1)
    for arrays in model.weights:
        for name, array in arrays.items():
            if name in ("biases", "mean"):
                array[...] = rng.normal(0, 0.3, array.shape)
            elif name in ("scales", "variance"):
                array[...] = rng.uniform(0.5, 2, array.shape)
    return model


def run_layers(model: Model, x: np.ndarray, *, compat: bool = False, engine: str = "onnxruntime") -> list[np.ndarray]:
    """What every layer of a model puts out for a batch (B, C, H, W)."""
    count = len(model.network.nodes)
    graph = build(model, compat=compat, taps=range(count))
    return [output.copy() for output in open_engine(graph, engine)(x.astype(np.float32))[-count:]]


class Outcome(NamedTuple):
    """How a child process ended."""

    code: int
    out: str
    err: str


Child = Callable[..., Outcome]


@pytest.fixture
def child(tmp_path: Path) -> Child:
    """Runs Python with arguments in a child process that may take 10 seconds and 2 GB, in an empty folder."""

    def limit(memory: int) -> None:
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))

    def run(
        *arguments: str, memory: int = 2 << 30, timeout: float = 10, cwd: Path = tmp_path, **environment: str
    ) -> Outcome:
        # Each thread of a numeric library reserves address space, which is what the limit counts.
        settings = {"OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1", **os.environ, **environment}
        done = subprocess.run(
            [sys.executable, "-X", "faulthandler", *arguments],
            capture_output=True, timeout=timeout, cwd=cwd, env=settings, check=False,
            preexec_fn=lambda: limit(memory),
        )  # fmt: skip
        return Outcome(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))

    return run
