"""Training runs as small as can be: a generated dataset, a network of two convolutions, and processes that learn it.

As a program it is a nursery: it loads everything once and then forks `lookonce` for each command line that it reads, so
that a run in a process of its own takes a second and not five.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib.util
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

ROOT = Path(__file__).parents[2]
LONGEST_S = 60.0                        # that any of these runs may take, beside whatever else the machine does


def _kills() -> ModuleType:
    path = ROOT / "bench" / "kills.py"
    spec = importlib.util.spec_from_file_location("kills", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


KILLS = _kills()
CFG: str = KILLS.CFG
make_data: Callable[[Path], Path] = KILLS.make_data
digest: Callable[[Path], str] = KILLS.digest

# One process, one thread, nothing for TensorBoard.
ALONE = ("--device", "cpu", "--threads", "1", "--tensorboard", "off")

# In the fork's words: inputs of 64 to 128 pixels, pictures of four parts.
FORK = CFG.replace("random=0", "random=1\niou_loss=ciou\niou_normalizer=.07")
REGION = CFG[: CFG.index("[yolo]")] + """[region]
classes=2
coords=4
num=3
anchors=.5,.5,1,1.5,2.5,2
softmax=1
jitter=.2
random=1
"""
CLASSIFIER = CFG[: CFG.index("[convolutional]\nfilters=21")] + """[convolutional]
filters=2
size=1
activation=linear
[avgpool]
[softmax]
"""


def cfg_with(path: Path, text: str = CFG, **options: object) -> Path:
    """A cfg with other options in [net]: None takes one out."""
    lines = [line for line in text.splitlines() if line.split("=")[0] not in options]
    lines[1:1] = [f"{key}={value}" for key, value in options.items() if value is not None]
    path.write_text("\n".join(lines) + "\n")
    return path


def many_pictures(folder: Path, count: int = 400) -> Path:
    """So many pictures with labels, all different: they are read one after the other for a while."""
    data = make_data(folder)
    sources = sorted((folder / "images").iterdir())
    lines = []
    for number in range(count):
        source = sources[number % len(sources)]
        pixels = np.array(Image.open(source))
        pixels[0, 0] = number % 256, number // 256, 7
        path = folder / "images" / f"many{number:03}.png"
        Image.fromarray(pixels).save(path, compress_level=1)
        shutil.copy(folder / "labels" / f"{source.stem}.txt", folder / "labels" / f"{path.stem}.txt")
        lines.append(f"{path}\n")
    (folder / "train.txt").write_text("".join(lines))
    return data


def class_folders(folder: Path, count: int = 12) -> Path:
    """Folders of dark pictures and of bright ones, so many each."""
    rng = np.random.default_rng(0)
    for name, light in (("dark", 0), ("bright", 155)):
        (folder / name).mkdir(parents=True)
        for number in range(count):
            pixels = rng.integers(light, light + 100, (48, 48, 3), np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{number}.png")
    return folder


def rows_of(run: Path, kind: str) -> list[dict[str, Any]]:
    """The rows of one kind in a run's log."""
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [row for row in rows if row["kind"] == kind]


def until(is_so: Callable[[], bool], seconds: float = LONGEST_S) -> None:
    """Wait until something is so."""
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, f"not so after {seconds} s"
        time.sleep(0.005)


def steps_of(run: Path) -> int:
    """How many rows of steps a run has written, one that is just being written not counted."""
    log = run / "log.jsonl"
    return log.read_bytes().count(b'"step"') if log.exists() else 0


class Ended(NamedTuple):
    """How a run ended: its exit code, what it wrote, and the seconds since it was started."""

    code: int
    out: str
    err: str
    seconds: float

    @property
    def line(self) -> str:
        """What it complained of, which must be one line."""
        found = [line for line in self.err.splitlines() if line.startswith("lookonce: ")]
        assert len(found) == 1, self.err
        assert "Traceback" not in self.err, self.err
        return found[0].removeprefix("lookonce: ")


class Child:
    """A process of the nursery's."""

    def __init__(self, nursery: Nursery, pid: int, folder: Path) -> None:
        self._nursery, self.pid, self._folder = nursery, pid, folder
        self._begin = time.monotonic()

    def signal(self, number: signal.Signals) -> None:
        os.kill(self.pid, number)

    @property
    def err(self) -> str:
        """What it has said by now."""
        return (self._folder / "err").read_text()

    def wait(self, seconds: float = LONGEST_S) -> Ended:
        code = self._nursery.ask(wait=self.pid, seconds=seconds)
        if code is None:
            os.kill(self.pid, signal.SIGKILL)
            self._nursery.ask(wait=self.pid, seconds=10)
            raise AssertionError(f"still there after {seconds} s: {self.err}")
        return Ended(code, (self._folder / "out").read_text(), self.err, time.monotonic() - self._begin)


class Nursery:
    """The process that forks others."""

    def __init__(self, folder: Path) -> None:
        self._folder, self._count = folder, 0
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "LOOKONCE_HOME": str(folder), "PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()

    def ask(self, **request: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(request), file=self._process.stdin, flush=True)
        return json.loads(self._process.stdout.readline())

    def start(
        self, *arguments: object, cwd: Path, most_bytes: int | None = None, terminal: str = "", **environment: str
    ) -> Child:
        """`lookonce ARGUMENTS` in a folder; no file that it writes may be longer than `most_bytes`.

        What it says goes to `terminal` if one is given.
        """
        self._count += 1
        folder = self._folder / str(self._count)
        folder.mkdir()
        (folder / "err").touch()
        words = [str(argument) for argument in arguments]
        streams = [os.devnull, str(folder / "out"), terminal or str(folder / "err")]
        pid = self.ask(run=words, streams=streams, cwd=str(cwd), most_bytes=most_bytes, environment=environment)
        return Child(self, pid, folder)


@functools.cache
def nursery() -> Nursery:
    """The one of this process's tests."""
    folder = Path(tempfile.mkdtemp(prefix="nursery-"))
    found = Nursery(folder)
    atexit.register(shutil.rmtree, folder)
    atexit.register(found.close)
    return found


def run(*arguments: object, cwd: Path, seconds: float = LONGEST_S, **more: Any) -> Ended:
    """`lookonce ARGUMENTS` in a process of its own, to its end."""
    return nursery().start(*arguments, cwd=cwd, **more).wait(seconds)


def start(*arguments: object, cwd: Path, **more: Any) -> Child:
    """The same, that goes on."""
    return nursery().start(*arguments, cwd=cwd, **more)


# ---------------------------------------------------------------------- as a program
def _nursery() -> None:
    import jinja2
    import torch
    import torch._dynamo

    from lookonce.cli import live, main

    assert jinja2, live
    torch.set_num_threads(1)
    # A run that is refused just before its first step: what it loads, its children have. One that learns must not be
    # here, as torch forbids that its children learn too.
    with tempfile.TemporaryDirectory() as folder, Path(os.devnull).open("w") as nowhere:
        data = make_data(Path(folder, "set"))
        with contextlib.redirect_stderr(nowhere):
            code = main.main(["train", str(data.with_suffix(".cfg")), "--data", str(data), *ALONE, "-o", folder])
    assert code == 2
    for line in sys.stdin:
        request = json.loads(line)
        print(json.dumps(_waited(**request) if "wait" in request else _forked(**request)), flush=True)


def _waited(wait: int, seconds: float) -> int | None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pid, status = os.waitpid(wait, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.005)
    return None


def _forked(
    run: list[str], streams: list[str], cwd: str, most_bytes: int | None, environment: dict[str, str]
) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 99
    try:
        for number, name in enumerate(streams):
            os.dup2(os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOCTTY), number)
        # Those of the nursery know what its own streams are, as whether they are files.
        sys.stdout, sys.stderr = open(1, "w", closefd=False), open(2, "w", buffering=1, closefd=False)  # noqa: SIM115
        os.chdir(cwd)
        os.environ.update(environment)
        if most_bytes is not None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, most_bytes))
        sys.argv = ["lookonce", *run]
        code = _ended_with()
    finally:
        os._exit(code)


def _ended_with() -> int:
    from lookonce.cli import main

    try:
        main.run()
    except SystemExit as problem:
        return int(problem.code or 0)
    except BaseException:
        import traceback

        traceback.print_exc()
        return 1
    finally:
        atexit._run_exitfuncs()
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
    return 0


if __name__ == "__main__":
    _nursery()
