"""What the hostile tests share: a network to attack, many command lines out of one start-up, and what `clean` means."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from conftest import Child, model_of
from PIL import Image

from lookonce.model import Model

# 32 x 32 in, 2 x 2 cells out, two classes. Its lines are counted from 1 in the tests: keep them where they are.
TINY = """\
[net]
width=32
height=32
channels=3

[convolutional]
filters=8
size=3
stride=16
pad=1
activation=leaky

[convolutional]
filters=21
size=1
activation=linear

[yolo]
mask=0,1,2
anchors=4,6, 10,14, 20,24
classes=2
num=3
"""

WARNING = "lookonce: warning: "

# Loads the program once and runs each command line in a fork of its own: a signal, a leak or an endless loop costs that
# one only, and a case takes milliseconds instead of a start-up. The engine is loaded but has no thread before a fork.
NURSERY = r"""
import gc, io, json, os, resource, signal, sys, time, traceback
import array_api_compat.numpy
import lookonce.cli.main, lookonce.copies, lookonce.detector, lookonce.model, lookonce.results, lookonce.sources
from lookonce.engines import available_engines
if "openvino" in available_engines():
    from lookonce.engines.openvino import import_openvino
    import_openvino()
if sys.argv[3]:
    import av
plan, ends = sys.argv[1:3]
sys.stderr = io.StringIO()                              # what is loaded late is loaded by a first run
lookonce.cli.main.main(["detect", "-m", "absent.cfg", "absent.png"])
sys.stderr = sys.__stderr__
gc.freeze()
with open(plan) as file:
    cases = json.load(file)
outcomes = []
for number, case in enumerate(cases):
    began = time.monotonic()
    with open("/proc/self/statm") as file:
        resident = int(file.read().split()[1]) * resource.getpagesize()
    pid = os.fork()
    if pid == 0:
        os.chdir(case["cwd"])
        for stream, flags in enumerate((os.O_RDONLY, os.O_WRONLY | os.O_CREAT, os.O_WRONLY | os.O_CREAT)):
            path = case["stdin"] if stream == 0 else f"{ends}/{number}.{stream}"
            os.dup2(os.open(path, flags, 0o600), stream)
        os.environ.update(case["environment"])
        signal.alarm(10)
        sys.argv = ["lookonce", *case["argv"]]
        try:
            lookonce.cli.main.run()
        except SystemExit as end:
            code = end.code
        except BaseException:
            traceback.print_exc()
            code = 1
        sys.stdout.flush()
        os._exit(code)                                  # taking the whole program down takes longer than most cases
    _, status, used = os.wait4(pid, 0)
    outcomes.append({
        "code": os.waitstatus_to_exitcode(status),
        "processor": used.ru_utime + used.ru_stime,
        "wall": time.monotonic() - began,
        "grown": used.ru_maxrss * 1024 - resident,
    })
with open(f"{ends}/outcomes.json", "w") as file:
    json.dump(outcomes, file)
"""


class Case(NamedTuple):
    """A command line and how it must end.

    `expect` is one of: `clean` (exit 2, one line), `warned` (exit 0 and warnings), `fine` (exit 0 and nothing said),
    or an exit code alone. `file` must be named in what is said, with `line` if there is one, and so must `words`.
    """

    id: str
    argv: Sequence[str]
    expect: str | int = "clean"
    file: Path | str | None = None
    line: int | None = None
    words: Sequence[str] = ()
    stdin: Path | str = "/dev/null"
    environment: Mapping[str, str] = {}


class End(NamedTuple):
    """How a command line ended. `code` is minus the signal's number if one killed it; times are in seconds."""

    code: int
    out: str
    err: str
    processor: float
    wall: float
    grown: int                          # bytes that the process grew by at its largest
    written: list[str]                  # what lies in its folder afterwards

    @property
    def lines(self) -> list[str]:
        """The lines that it said on stderr."""
        return self.err.splitlines()


def run(child: Child, folder: Path, cases: Iterable[Case], *, videos: bool = False, timeout: float = 60) -> list[End]:
    """Run each case in a process of its own, in an empty folder, with 10 seconds and 2 GB."""
    cases = list(cases)
    ends, home, plan = folder / "ends", folder / "home", []
    for made in (ends, home):
        made.mkdir(exist_ok=True)
    for number, case in enumerate(cases):
        cwd = folder / f"cwd{number}"
        cwd.mkdir(exist_ok=True)
        plan.append({"argv": list(case.argv), "cwd": str(cwd), "stdin": str(case.stdin),
                     "environment": dict(case.environment)})  # fmt: skip
    (folder / "plan.json").write_text(json.dumps(plan))
    nursery = child("-c", NURSERY, str(folder / "plan.json"), str(ends), "videos" if videos else "", timeout=timeout,
                    HOME=str(home))  # fmt: skip
    assert (nursery.code, nursery.out, nursery.err) == (0, "", "")
    assert not list(home.iterdir()), "something was written into the home folder"
    outcomes = json.loads((ends / "outcomes.json").read_text())
    (ends / "outcomes.json").unlink()
    result = []
    for number, outcome in enumerate(outcomes):
        out, err = ((ends / f"{number}.{stream}").read_bytes().decode(errors="replace") for stream in (1, 2))
        (ends / f"{number}.1").unlink()
        (ends / f"{number}.2").unlink()
        written = sorted(str(path.relative_to(folder)) for path in (folder / f"cwd{number}").rglob("*"))
        result.append(End(out=out, err=err, written=written, **outcome))
    return result


def check(child: Child, folder: Path, cases: Iterable[Case], *, videos: bool = False) -> list[End]:
    """Run the cases and fail, with all that is wrong, unless each one ends as it says."""
    cases = list(cases)
    ends = run(child, folder, cases, videos=videos)
    wrong = [f"{case.id}: {fault}" for case, end in zip(cases, ends, strict=True) for fault in faults(case, end)]
    assert not wrong, "\n" + "\n".join(wrong)
    return ends


def faults(case: Case, end: End) -> Iterator[str]:
    """In what a case did not end as it should."""
    if end.code < 0:
        yield f"killed by {signal.Signals(-end.code).name}: {end.err[-600:]}"
        return
    if "Traceback" in end.err:
        yield f"a traceback: ...{end.err[-600:]}"
        return
    code = {"clean": 2, "warned": 0, "fine": 0}.get(str(case.expect), case.expect)
    if end.code != code:
        yield f"exit code {end.code}, wanted {code}: {end.err[:300]!r}"
        return
    if end.written:
        yield f"wrote {end.written}"
    yield from _memory_and_time(end)
    yield from _what_is_said(case, end)


def _memory_and_time(end: End) -> Iterator[str]:
    """A bad file may cost 2 seconds and 200 MB, a good one the 300 MB that a picture may take."""
    if end.processor > 2:
        yield f"took {end.processor:.1f} s"
    if end.grown > (200 if end.code == 2 else 300) << 20:
        yield f"grew by {end.grown >> 20} MB"


def _what_is_said(case: Case, end: End) -> Iterator[str]:
    if case.expect == "fine" and end.err:
        yield f"says {end.err[:300]!r}"
    if case.expect == "clean":
        if len(end.lines) != 1 or not end.err.endswith("\n"):
            yield f"says {len(end.lines)} lines, wanted one: {end.err[:600]!r}"
        if not end.err.startswith("lookonce: ") or end.err.startswith(WARNING):
            yield f"says {end.err[:100]!r}, wanted `lookonce: ...`"
        if end.out:
            yield f"writes {end.out[:100]!r} to stdout"
    if case.expect == "warned" and not (end.lines and all(said.startswith(WARNING) for said in end.lines)):
        yield f"says {end.err[:300]!r}, wanted warnings"
    place = "" if case.file is None else str(case.file) + (f":{case.line}:" if case.line else "")
    if place not in end.err:
        yield f"does not name {place}: {end.err[:400]!r}"
    for word in case.words:
        if word not in end.err:
            yield f"does not say {word!r}: {end.err[:400]!r}"
    if any(not c.isprintable() for c in end.err.replace("\n", "")):
        yield f"says control characters: {end.err[:300]!r}"


class Stage(NamedTuple):
    """A folder with the tiny network, its weights and a picture: what a case needs beside its bad file."""

    folder: Path
    model: Model

    @property
    def cfg(self) -> str:
        return str(self.folder / "tiny.cfg")

    @property
    def weights(self) -> str:
        return str(self.folder / "tiny.weights")

    @property
    def picture(self) -> str:
        return str(self.folder / "picture.png")

    def write(self, name: str, data: bytes | str) -> Path:
        """A file of this folder."""
        path = self.folder / name
        path.write_bytes(data if isinstance(data, bytes) else data.encode())
        return path

    def detect(
        self,
        *sources: str | Path,
        cfg: str | Path | None = None,
        weights: str | Path | None = None,
        more: Sequence[str] = (),
    ) -> list[str]:
        """The arguments that detect in `sources`, or in the stage's own picture."""
        named = [str(source) for source in sources] or [self.picture]
        return ["detect", "-q", "-m", str(cfg or self.cfg), "-w", str(weights or self.weights), *more, "--", *named]


def build_stage(folder: Path) -> Stage:
    """The tiny network, its weights and a picture, written into `folder`."""
    folder.mkdir()
    stage = Stage(folder, replace(model_of(TINY), trained=3))         # or each file of it would be warned of
    stage.write("tiny.cfg", TINY)
    stage.model.write_weights(folder / "tiny.weights")
    Image.fromarray(noise(24, 40)).save(folder / "picture.png")
    return stage


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    """A picture without order, which no encoder makes small."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def smooth(height: int, width: int) -> np.ndarray:
    """A picture of slow gradients, which encoders keep nearly as it is."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x * 255 // width, y * 255 // height, (x + y) * 255 // (width + height)], -1).astype(np.uint8)
