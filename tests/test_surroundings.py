"""What the machine says of itself is read right, and nothing that is broken breaks the answer."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import tomllib
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import pytest
from conftest import ROOT, Child

from lookonce import engines, surroundings, zoo
from lookonce.binary import kernel
from lookonce.darknet.cfg import Cfg
from lookonce.model import Model
from lookonce.network import Network
from lookonce.surroundings import Cores, Kernel, Memory, Processor, Trial

ZEN5 = (
    "processor : 0\nvendor_id : AuthenticAMD\nmodel name\t: AMD EPYC 9555\n"
    "flags\t\t: fpu sse2 avx2 avx512f avx_vnni avx512_bf16 avx512_vpopcntdq\nbugs :\n"
    "\nprocessor : 1\nmodel name : another\nflags : fpu\n"
)
PI = "processor\t: 0\nBogoMIPS\t: 108.00\nFeatures\t: fp asimd evtstrm crc32\n\nHardware\t: BCM2835\n"
OLD = "model name : Pentium\nflags : fpu mmx\n"


def root(tmp_path: Path, texts: dict[str, str]) -> Path:
    """A folder that looks like / with these files in it."""
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("cpuinfo", "wanted"),
    [
        (ZEN5, Processor("AMD EPYC 9555", ("AVX2", "AVX-512F", "VNNI", "BF16", "VPOPCNTDQ"))),
        (PI, Processor("BCM2835", ("NEON",))),
        (OLD, Processor("Pentium", ())),
    ],
)
def test_a_processor_is_read_from_cpuinfo(tmp_path: Path, cpuinfo: str, wanted: Processor) -> None:
    assert surroundings.processor(root(tmp_path, {"proc/cpuinfo": cpuinfo})) == wanted


@pytest.mark.parametrize(("machine", "features"), [("x86_64", None), ("arm64", ("NEON",)), ("aarch64", ("NEON",))])
def test_without_cpuinfo_python_names_the_processor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machine: str, features: tuple[str, ...] | None
) -> None:
    monkeypatch.setattr("platform.processor", lambda: "")
    monkeypatch.setattr("platform.machine", lambda: machine)
    assert surroundings.processor(tmp_path) == Processor(machine, features)


@pytest.mark.parametrize(
    ("texts", "quota"),
    [
        ({}, None),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "max 100000\n"}, None),
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "150000 100000\n"}, 1.5),
        # The outer group says less than the inner one.
        ({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/b/cpu.max": "400000 100000\n",
          "sys/fs/cgroup/a/cpu.max": "200000 100000\n"}, 2),
        # In a container the path is that outside of it.
        ({"proc/self/cgroup": "0::/docker/1f\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}, 0.5),
        ({"proc/self/cgroup": "4:memory:/m\n1:cpu,cpuacct:/a\n", "sys/fs/cgroup/cpu/a/cpu.cfs_quota_us": "300000\n",
          "sys/fs/cgroup/cpu/a/cpu.cfs_period_us": "100000\n"}, 3),
        ({"proc/self/cgroup": "1:cpu:/a\n", "sys/fs/cgroup/cpu/a/cpu.cfs_quota_us": "-1\n",
          "sys/fs/cgroup/cpu/a/cpu.cfs_period_us": "100000\n"}, None),
    ],
)  # fmt: skip
def test_a_control_groups_share_is_the_least_of_all(
    tmp_path: Path, texts: dict[str, str], quota: float | None
) -> None:
    assert surroundings.cores(root(tmp_path, texts)).quota == quota


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="the system pins no process")
def test_cores_are_those_that_this_process_may_run_on() -> None:
    before = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert surroundings.cores()[:2] == (os.cpu_count(), 1)
    finally:
        os.sched_setaffinity(0, before)


def test_memory_is_within_the_machines() -> None:
    found = surroundings.memory()
    assert found.total is not None
    assert found.free is not None
    assert 0 < found.free <= found.total


def test_versions_are_those_of_the_installed_libraries() -> None:
    assert surroundings.version("numpy") == np.__version__
    assert surroundings.version("Pillow") == importlib.metadata.version("pillow")
    assert surroundings.version("no-such-library") is None


def test_what_is_optional_is_what_pyproject_says() -> None:
    """Each extra but the developers' brings the libraries that are looked for, and each has its row."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    said = {name: set(libraries) for name, (libraries, _, _) in surroundings.EXTRAS.items()}
    del said["tensorboard"]                                 # of no extra: the log needs nothing
    wanted = {
        name: {text.partition(">")[0] for text in needs if not text.startswith("lookonce[")}
        for name, needs in extras.items()
        if name != "dev"
    }
    assert said == wanted
    for name, (_, pip, _) in surroundings.EXTRAS.items():
        assert pip == (f"pip install 'lookonce[{name}]'" if name in extras else f"pip install {name}")


# ---------------------------------------------------------------------- fetched weights
def test_the_folder_of_weights_is_looked_at_and_left_alone(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (own_cache / "yolov3-tiny.weights").write_bytes(b"")
    (own_cache / "mine.txt").write_bytes(b"")
    found = surroundings.fetched()
    assert (found.folder, found.problem, found.files) == (str(own_cache), None, ("yolov3-tiny.weights",))
    assert sorted(path.name for path in own_cache.iterdir()) == ["mine.txt", "yolov3-tiny.weights"]
    monkeypatch.setenv("LOOKONCE_HOME", str(own_cache / "not" / "yet"))
    assert surroundings.fetched()[:2] == (str(own_cache / "not" / "yet"), None)
    assert not (own_cache / "not").exists()


def test_a_folder_of_weights_that_cannot_be_is_told(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (own_cache / "file").write_bytes(b"")
    monkeypatch.setenv("LOOKONCE_HOME", str(own_cache / "file" / "below"))
    assert surroundings.fetched().problem == f"{own_cache / 'file'} is a file, wanted a folder"
    monkeypatch.setenv("LOOKONCE_HOME", "/proc")
    assert (surroundings.fetched().problem or "").startswith("cannot be written to")
    monkeypatch.setattr(os, "access", lambda *_: False)
    monkeypatch.setenv("LOOKONCE_HOME", "/proc/below")
    assert surroundings.fetched().problem == "no folder can be made in /proc"


# ---------------------------------------------------------------------- single bits
def test_the_kernel_is_there_if_its_module_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOOKONCE_BINARY", raising=False)
    built = importlib.util.find_spec("lookonce._binary") is not None
    found = surroundings.kernel()
    assert (found.compiled, found.path == "reference") == (built, not built)
    monkeypatch.setattr(kernel, "compiled", lambda: kernel.Compiled(None, "it was not built"))
    assert surroundings.kernel() == Kernel("reference", "the compiled kernel is missing: it was not built")
    monkeypatch.setenv("LOOKONCE_BINARY", "sse")
    assert surroundings.kernel()[0] is None
    assert surroundings.kernel()[1].startswith("LOOKONCE_BINARY=sse is no way to compute")


def test_a_kernel_that_miscounts_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel.BinaryConvolution, "counts", lambda self, x: np.zeros(x.shape[:3], np.int32))
    found = surroundings.kernel()
    assert (found.path, found.compiled) == (None, False)
    assert found.reason.endswith(" are wrong")


# ---------------------------------------------------------------------- engines
def test_every_engine_runs_and_is_right() -> None:
    trials = [trial for engine in engines.available_engines() for trial in surroundings.attempt(engine)]
    assert {trial.engine for trial in trials} == set(engines.available_engines())
    for trial in trials:
        assert trial.problem is None
        assert trial.milliseconds is not None
        assert trial.milliseconds > 0


def test_the_expected_numbers_are_those_of_the_sums() -> None:
    """One place of the tiny network's output, by the loops of a child."""
    model = Model.random(Network.build(Cfg.parse(surroundings.TINY, "tiny.cfg")))
    rng = np.random.default_rng(5)
    for arrays in model.weights[:2]:
        arrays["biases"][...] = rng.normal(size=arrays["biases"].shape)
    picture = rng.random((1, 3, 64, 64), np.float32)
    first, second = model.weights[:2]
    row, column, out = 0, 31, 4
    total = float(second["biases"][out])
    for middle in range(8):
        value = float(first["biases"][middle])
        for channel in range(3):
            for dy in range(3):
                for dx in range(3):
                    y, x = 2 * row + dy - 1, 2 * column + dx - 1
                    if 0 <= y < 64 and 0 <= x < 64:
                        value += float(picture[0, channel, y, x] * first["weights"][middle, channel, dy, dx])
        total += max(value, 0.1 * value) * float(second["weights"][out, middle, 0, 0])
    assert surroundings.expected(model, picture)[0, out, row, column] == pytest.approx(total, abs=1e-5)


def test_an_engine_that_is_wrong_or_breaks_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    right = surroundings.expected
    monkeypatch.setattr(surroundings, "expected", lambda model, picture: right(model, picture) + 0.5)
    assert "its numbers are wrong: apart from NumPy's by 0.5" in (surroundings.attempt("onnxruntime")[0].problem or "")
    monkeypatch.setattr(surroundings, "expected", _breaks)
    assert surroundings.attempt("onnxruntime") == [Trial("onnxruntime", "f32", None, "broken")]
    monkeypatch.setattr(engines, "available_precisions", _breaks)
    assert surroundings.attempt("openvino") == [Trial("openvino", "f32", None, "broken")]


# ---------------------------------------------------------------------- all of it
def test_it_says_what_works(monkeypatch: pytest.MonkeyPatch) -> None:
    found = surroundings.examine()
    assert found.works
    assert found.auto == engines.available_engines()[0]
    trials = {"openvino": "broken", "onnxruntime": None}
    monkeypatch.setattr(surroundings, "attempt", lambda name: [Trial(name, "f32", 1.0, trials[name])])
    assert not surroundings.examine().works                 # not the one that is taken
    halves = [Trial("openvino", "f32", None, "broken"), Trial("openvino", "bf16", 1.0, None)]
    monkeypatch.setattr(surroundings, "attempt", lambda name: halves)
    assert not surroundings.examine().works                 # nor in that arithmetic
    monkeypatch.setattr(engines, "available_engines", lambda: ())
    alone = surroundings.examine()
    assert (alone.auto, alone.trials, alone.works) == (None, (), False)


def test_json_says_all_of_it() -> None:
    found = surroundings.examine()
    document = json.loads(json.dumps(found.json()))
    assert document.keys() == {*vars(found), "works"}
    assert document["processor"].keys() == {"name", "features"}
    assert document["parts"]["video"]["libraries"] == {"av": importlib.metadata.version("av")}
    assert document["parts"]["video"]["there"] is True
    assert {trial["engine"] for trial in document["trials"]} == set(engines.available_engines())


def test_nothing_that_breaks_makes_it_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("processor", "cores", "memory", "fetched"):
        monkeypatch.setattr(surroundings, name, _breaks)
    for module, name in ((importlib.metadata, "version"), (engines, "available_engines"), (zoo, "cache_folder")):
        monkeypatch.setattr(module, name, _breaks)
    monkeypatch.setattr("platform.platform", _breaks)
    found = surroundings.examine()
    assert (found.processor, found.cores, found.memory) == (
        Processor("", None), Cores(None, None, None), Memory(None, None)
    )  # fmt: skip
    assert set(found.libraries.values()) == {None}
    assert not found.works


def test_it_loads_neither_torch_nor_what_draws(child: Child) -> None:
    done = child(
        "-c",
        "import sys; from lookonce.surroundings import examine; assert examine().works; "
        "print(sorted({'torch', 'matplotlib', 'jinja2', 'av', 'pandas'} & sys.modules.keys()))",
        memory=8 << 30,
    )
    assert (done.code, done.out) == (0, "[]\n"), done.err


def _breaks(*_: Any, **__: Any) -> NoReturn:
    raise RuntimeError("broken")
