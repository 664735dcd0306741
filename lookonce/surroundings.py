"""What is installed, what this machine has, and whether a network runs here: what a call for help should begin with.

Nothing here raises. What cannot be found out is None, and what does not work says why.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from lookonce import __version__

if TYPE_CHECKING:
    import numpy as np

    from lookonce.engines import EngineKind, Precision
    from lookonce.model import Model

T = TypeVar("T")

# What every installation has, as pip calls it.
CORE = ("numpy", "onnx", "Pillow", "simplejpeg", "safetensors", "typer")
ENGINES = ("openvino", "onnxruntime")
# What not every installation has: the libraries, what brings them, and what they are for.
EXTRAS: dict[str, tuple[tuple[str, ...], str, str]] = {
    "video": (("av",), "pip install 'lookonce[video]'", "videos, cameras and streams"),
    "train": (("torch",), "pip install 'lookonce[train]'", "learning"),
    "judge": (("jinja2", "matplotlib", "hotcoco"), "pip install 'lookonce[judge]'", "reports and plots"),
    "openvino": (("openvino",), "pip install 'lookonce[openvino]'", "the faster engine on x86-64"),
    "onnxruntime": (("onnxruntime",), "pip install 'lookonce[onnxruntime]'", "another engine"),
    "tensorboard": (("tensorboard",), "pip install tensorboard", "curves of learning in TensorBoard"),
}
# What matters to the speed of a network, and what the system may call it (x86; ARM).
FEATURES = {
    "AVX2": ("avx2",),
    "AVX-512F": ("avx512f",),
    "VNNI": ("avx512_vnni", "avx_vnni"),
    "BF16": ("avx512_bf16", "amx_bf16", "bf16"),
    "VPOPCNTDQ": ("avx512_vpopcntdq",),
    "NEON": ("neon", "asimd"),
}
BITS = ((1, 6, 7, 70), (5, 3, 3, 70))                       # a picture and filters, (B, H, W, C) and (O, kh, kw, C)
ROOT = Path("/")
CALLS = 20
TOLERANCE = {"f32": 1e-3, "bf16": 0.1}              # of outputs of about 1
TINY = """[net]
width=64
height=64
channels=3
[convolutional]
filters=8
size=3
stride=2
pad=1
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


class Processor(NamedTuple):
    """Its name, and which of FEATURES it has; None where the system does not say."""

    name: str
    features: tuple[str, ...] | None


class Cores(NamedTuple):
    """How many the machine has, how many this process may run on, and how many of those its control group pays for."""

    machine: int | None
    allowed: int | None
    quota: float | None


class Memory(NamedTuple):
    """Bytes."""

    total: int | None
    free: int | None


class Fetched(NamedTuple):
    """Where fetched weights lie, why nothing can be written there (None if it can), bytes free, and what is there."""

    folder: str
    problem: str | None
    free: int | None
    files: tuple[str, ...]


class Part(NamedTuple):
    """What not every installation has: its libraries with their versions (None: missing), what brings it, what for."""

    name: str
    libraries: dict[str, str | None]
    pip: str
    purpose: str

    @property
    def missing(self) -> tuple[str, ...]:
        return tuple(name for name, found in self.libraries.items() if found is None)


class Kernel(NamedTuple):
    """The way to compute layers of single bits (binary.choose) and why it is that one, or why none works here."""

    path: str | None
    reason: str

    @property
    def compiled(self) -> bool:
        return self.path not in (None, "reference")


class Trial(NamedTuple):
    """A tiny network on random weights, run by an engine: the least milliseconds a picture, or what went wrong."""

    engine: str
    precision: str
    milliseconds: float | None
    problem: str | None


@dataclass(frozen=True)
class Surroundings:
    """All of it. `auto` is the engine that is taken where none is named."""

    lookonce: str
    place: str
    python: str
    platform: str
    processor: Processor
    cores: Cores
    memory: Memory
    libraries: dict[str, str | None]
    fetched: Fetched
    parts: tuple[Part, ...]
    kernel: Kernel
    auto: str | None
    trials: tuple[Trial, ...]

    @property
    def works(self) -> bool:
        """Whether detection works with the engine and the arithmetic that are taken where none is named."""
        usual = (self.auto, "f32")
        return any((trial.engine, trial.precision) == usual and trial.problem is None for trial in self.trials)

    def json(self) -> dict[str, Any]:
        """The same as what JSON can say."""
        document = {
            name: value._asdict() if hasattr(value, "_asdict") else value for name, value in vars(self).items()
        }
        document["parts"] = {part.name: {**part._asdict(), "there": not part.missing} for part in self.parts}
        document["trials"] = [trial._asdict() for trial in self.trials]
        return {**document, "works": self.works}


def examine() -> Surroundings:
    """Look at everything, and run every engine that is installed."""
    engines = _engines()
    return Surroundings(
        lookonce=__version__,
        place=str(Path(__file__).parent),
        python=f"{platform.python_version()} ({platform.python_implementation()}), {sys.executable}",
        platform=_or(lambda: platform.platform(aliased=True), sys.platform),
        processor=_or(processor, Processor("", None)),
        cores=_or(cores, Cores(None, None, None)),
        memory=_or(memory, Memory(None, None)),
        libraries={name: version(name) for name in (*CORE, *ENGINES)},
        fetched=_or(fetched, Fetched("", "cannot be found out", None, ())),
        parts=tuple(
            Part(name, {each: version(each) for each in libraries}, pip, purpose)
            for name, (libraries, pip, purpose) in EXTRAS.items()
        ),
        kernel=kernel(),
        auto=engines[0] if engines else None,
        trials=tuple(trial for engine in engines for trial in attempt(engine)),
    )


def version(name: str) -> str | None:
    """The version of an installed library, without importing it; None if it is not installed."""
    return _or(lambda: importlib.metadata.version(name), None)


# ---------------------------------------------------------------------- the machine
def processor(root: Path = ROOT) -> Processor:
    """The processor, by /proc/cpuinfo where there is one. `root` is where proc lies."""
    rows: dict[str, str] = {}
    for line in _text(root / "proc/cpuinfo").splitlines():
        key, colon, value = line.partition(":")
        if colon:
            rows.setdefault(key.strip().lower(), value.strip())
    name = rows.get("model name") or rows.get("hardware") or platform.processor() or platform.machine()
    flags = set((rows.get("flags") or rows.get("features") or "").lower().split())
    if not flags:
        # Every 64-bit ARM has it.
        return Processor(name, ("NEON",) if platform.machine().lower() in ("arm64", "aarch64") else None)
    return Processor(name, tuple(feature for feature, words in FEATURES.items() if not flags.isdisjoint(words)))


def cores(root: Path = ROOT) -> Cores:
    """The cores of the machine, those that this process may run on, and its control group's share of them."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return Cores(os.cpu_count(), allowed, _quota(root))


def memory() -> Memory:
    """The machine's memory, and what of it this process may still take, also by its control group."""
    from lookonce.data.cache import available_memory

    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", {}):
        return Memory(None, None)                           # nothing tells there
    return Memory(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), available_memory())


def fetched() -> Fetched:
    """The folder of fetched weights. It is not made: where it is not there yet, the folder that it would be made in
    counts.
    """
    from lookonce import files, zoo
    from lookonce.errors import DataError

    folder = zoo.cache_folder()
    there = next(place for place in (folder, *folder.absolute().parents) if files.exists(place))
    problem = None
    if not there.is_dir():
        problem = f"{there} is a file, wanted a folder"
    elif there != folder:
        problem = None if os.access(there, os.W_OK | os.X_OK) else f"no folder can be made in {there}"
    else:
        try:
            files.check_writable(folder)
        except DataError as refusal:
            problem = str(refusal).partition(": ")[2]
    known = zoo.published_files()
    names = tuple(sorted(path.name for path in folder.iterdir() if path.name in known)) if folder.is_dir() else ()
    return Fetched(str(folder), problem, _or(lambda: shutil.disk_usage(there).free, None), names)


def _quota(root: Path) -> float | None:
    """The least of the cores that the control groups of this process, of version 1 and 2, let it use at a time."""
    found = []
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        top = root / "sys/fs/cgroup" / ("cpu" if controllers else "")
        place = top / path.lstrip("/")
        # In a container the path may be that outside of it, and the group itself lies at the top.
        for folder in dict.fromkeys((place, *place.parents, top)):
            if not folder.is_relative_to(top):
                break
            if controllers:
                words = [_text(folder / f"cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
            else:
                words = _text(folder / "cpu.max").split()
            if len(words) == 2 and all(word.isdigit() and int(word) for word in words):
                found.append(int(words[0]) / int(words[1]))
    return min(found, default=None)


def _text(path: Path) -> str:
    """What a file of the system says, nothing if it is not there."""
    with contextlib.suppress(OSError):
        return path.read_text("utf-8", "replace")
    return ""


# ---------------------------------------------------------------------- single bits
def kernel() -> Kernel:
    """How layers of single bits are computed here, after a small one has shown that the sums are right."""
    try:
        import numpy as np

        from lookonce.binary import BinaryConvolution, choose, reference

        path, reason = choose()
        rng = np.random.default_rng(0)
        x, weights = (reference.pack(rng.standard_normal(shape, np.float32)) for shape in BITS)
        found = BinaryConvolution(weights, BITS[0][-1], padding=1).counts(x)
        if not np.array_equal(found, reference.convolve(x, weights, BITS[0][-1], padding=1)):
            return Kernel(None, f"the sums of {path} are wrong")
        return Kernel(path, reason)
    except Exception as problem:                            # whatever a compiled module does that is broken
        return Kernel(None, _line(problem))


# ---------------------------------------------------------------------- engines
def attempt(engine: EngineKind) -> list[Trial]:
    """A tiny network run by one engine, at each precision that it has here, its numbers compared with NumPy's."""
    try:
        from lookonce.engines import available_precisions

        return [_attempt(engine, precision) for precision in available_precisions(engine)]
    except Exception as problem:                            # whatever a library does that is broken
        return [Trial(engine, "f32", None, _line(problem))]


def _attempt(engine: EngineKind, precision: Precision) -> Trial:
    try:
        import numpy as np

        from lookonce.darknet.cfg import Cfg
        from lookonce.detector import Detector
        from lookonce.model import Model
        from lookonce.network import Network

        model = Model.random(Network.build(Cfg.parse(TINY, "tiny.cfg")))
        detector = Detector(model, engine=engine, precision=precision, threads=1)
        pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
        detector(pixels)                                    # all the way, from pixels to boxes
        picture = np.random.default_rng(1).random((1, *model.network.input), np.float32)
        times = []
        for _ in range(CALLS):
            start = time.perf_counter()
            found = detector.runner.engine(picture)[0]
            times.append(1000 * (time.perf_counter() - start))
        apart = float(np.abs(found - expected(model, picture)).max())
        if not apart <= TOLERANCE[precision]:
            return Trial(engine, precision, None, f"its numbers are wrong: apart from NumPy's by {apart:.3g}")
        return Trial(engine, precision, min(times), None)
    except Exception as problem:                            # whatever a library does that is broken
        return Trial(engine, precision, None, _line(problem))


def expected(model: Model, picture: np.ndarray) -> np.ndarray:
    """What the tiny network puts out for a picture (1, 3, H, W), by NumPy: (1, 21, H / 2, W / 2)."""
    import numpy as np

    first, second = model.weights[:2]
    padded = np.pad(picture, ((0, 0), (0, 0), (1, 1), (1, 1)))
    patches = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))[:, :, ::2, ::2]
    x = np.einsum("bchwyx,ocyx->bohw", patches, first["weights"]) + first["biases"][:, None, None]
    x = np.where(x > 0, x, 0.1 * x)
    answer: np.ndarray = np.einsum("bchw,oc->bohw", x, second["weights"][:, :, 0, 0]) + second["biases"][:, None, None]
    return answer


def _engines() -> tuple[EngineKind, ...]:
    """The engines that are installed, the preferred one first; none if that cannot be found out."""
    try:
        from lookonce.engines import available_engines

        return available_engines()
    except Exception:
        return ()


def _or(ask: Callable[[], T], otherwise: T) -> T:
    """What `ask` finds out, or `otherwise` if it cannot, for whatever reason."""
    try:
        return ask()
    except Exception:
        return otherwise


def _line(problem: Exception) -> str:
    """The first line of what went wrong."""
    lines = str(problem).strip().splitlines()
    return lines[0][:300] if lines else type(problem).__name__
