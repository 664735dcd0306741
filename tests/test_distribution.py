"""What is handed out: a wheel and a source archive, the same bytes each time, with all that is needed and no more."""

from __future__ import annotations

import email
import importlib.machinery
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest
from conftest import ROOT, Child

from lookonce import __version__

pytest.importorskip("scikit_build_core")
pytest.importorskip("nanobind")

NAME = f"lookonce-{__version__}"
EPOCH = "1700000000"                    # any: what counts is that it is the same
HOOKS = """import sys
sys.path.insert(0, "native")
import backend
print(getattr(backend, "build_" + sys.argv[1])(sys.argv[2]))
"""
COMPILER = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")


class Built(NamedTuple):
    """The source archive of the working tree, its contents, and the wheel made of these where no compiler is there."""

    sdist: Path
    source: Path
    wheel: Path


def build(kind: str, source: Path, out: Path, *, compiler: bool = False) -> Path:
    """A wheel, sdist or editable, as pip and other front ends have it made, in a process of its own."""
    out.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-c", HOOKS, kind, str(out)]
    environment = {**os.environ, "SOURCE_DATE_EPOCH": EPOCH}
    if not compiler:
        environment |= {"CC": "/nonexistent", "CXX": "/nonexistent"}
    done = subprocess.run(command, cwd=source, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return out / done.stdout.split()[-1]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("built")
    sdist = build("sdist", ROOT, folder / "first")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder, filter="data")
    return Built(sdist, folder / NAME, build("wheel", folder / NAME, folder / "first"))


def members(wheel: Path) -> set[str]:
    with zipfile.ZipFile(wheel) as archive:
        return set(archive.namelist())


def of_the_package(root: Path) -> set[str]:
    """Every file of the package as it lies there."""
    found = (path for path in (root / "lookonce").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(root).as_posix() for path in found if not path.name.startswith("_binary.")}


def test_the_wheel_holds_the_package_and_nothing_else(built: Built) -> None:
    names = members(built.wheel)
    inside = {name for name in names if not name.startswith(f"{NAME}.dist-info/")}
    assert inside == of_the_package(built.source)
    assert {name.rpartition("/")[2] for name in names - inside} == {
        "METADATA", "RECORD", "WHEEL", "entry_points.txt", "LICENSE"
    }  # fmt: skip
    assert built.wheel.name == f"{NAME}-py3-none-any.whl"


def test_what_is_no_python_is_in_the_wheel_too(built: Built) -> None:
    """What tests of the working tree would not miss."""
    names = members(built.wheel)
    zoo = tomllib.loads((ROOT / "lookonce/zoo/registry.toml").read_text())["network"]
    wanted = {f"zoo/{name}.cfg" for name in zoo} | {
        "py.typed", "zoo/registry.toml", "zoo/names.toml", "zoo/9k.tree", "report/page.html", "report/page.css",
        "report/page.js", "train/page.html", "train/page.css",
    }  # fmt: skip
    assert {f"lookonce/{name}" for name in wanted} <= names
    assert not [name for name in names if re.search(r"(^|/)(tests?|bench|recipes)/|conftest|\.pyc$", name)]


def test_the_source_archive_is_enough_to_work_on(built: Built) -> None:
    for name in ("README.md", "CHANGELOG.md", "CITATION.cff", "LICENSE", "Makefile", "pyproject.toml", "PKG-INFO",
                 "tests/conftest.py", "bench/installed_size.py", "recipes/README.md", "native/CMakeLists.txt",
                 "native/backend.py"):  # fmt: skip
        assert (built.source / name).is_file(), name
    for folder, pattern in (("tests", "*.py"), ("bench", "*.py"), ("native", "*.cpp"), ("native", "*.h")):
        wanted = {path.relative_to(ROOT) for path in (ROOT / folder).rglob(pattern) if "build" not in path.parts}
        assert wanted <= {path.relative_to(built.source) for path in (built.source / folder).rglob(pattern)}
    built_ones = re.compile(r"\.pyc$|/__pycache__$|/_binary\.|/native/build")
    assert not [path for path in built.source.rglob("*") if built_ones.search(path.as_posix())]
    tops = {path.name for path in built.source.iterdir()}
    assert tops <= {"lookonce", "native", "tests", "bench", "docs", "recipes", "README.md", "CHANGELOG.md",
                    "CITATION.cff", "LICENSE", "Makefile", "pyproject.toml", "PKG-INFO"}  # fmt: skip


@pytest.mark.parametrize("kind", ["wheel", "sdist"])
def test_two_builds_are_equal_to_the_byte(built: Built, tmp_path: Path, kind: str) -> None:
    """The second from files that were touched, by another time of day: only what they hold counts."""
    for path in (built.source / "lookonce").rglob("*.py"):
        os.utime(path, (2_000_000_000, 2_000_000_000))
    again = build(kind, built.source, tmp_path)
    first = built.wheel if kind == "wheel" else build(kind, built.source, tmp_path / "other")
    assert again.name == first.name
    assert again.read_bytes() == first.read_bytes()


@pytest.mark.skipif(not COMPILER, reason="needs a C++ compiler")
def test_where_a_compiler_is_there_the_kernel_is_built_the_same_to_the_byte(
    built: Built, child: Child, tmp_path: Path
) -> None:
    """Once into a wheel, and once, from a copy in another folder, into that copy."""
    copy = tmp_path / "another" / "place"
    shutil.copytree(built.source, copy)
    wheel = build("wheel", built.source, tmp_path, compiler=True)
    build("editable", copy, tmp_path / "editable", compiler=True)
    assert not wheel.name.endswith("-any.whl")
    (kernel,) = members(wheel) - members(built.wheel) - {f"{NAME}.dist-info/licenses/LICENSE"}
    assert kernel.startswith("lookonce/_binary.")
    with zipfile.ZipFile(wheel) as archive:
        assert archive.read(kernel) == (copy / kernel).read_bytes()
        archive.extractall(tmp_path / "site")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); from lookonce.binary import choose, kernel; "
        "print(kernel.__file__, choose().path)"
    )
    done = child("-c", code)
    assert done.out.startswith(f"{tmp_path / 'site'}/"), done.err
    assert done.out.split()[-1] in ("avx512", "avx2", "neon", "portable")


def test_an_editable_install_is_a_line_that_another_checkout_goes_before(
    built: Built, child: Child, tmp_path: Path
) -> None:
    """What changes in the checkout counts at once, an older kernel does not, and PYTHONPATH has the first word."""
    suffix = importlib.machinery.EXTENSION_SUFFIXES[0]
    copy, other = tmp_path / "copy", tmp_path / "other" / "lookonce"
    shutil.copytree(built.source, copy)
    (copy / "lookonce" / f"_binary{suffix}").write_bytes(b"old")
    wheel = build("editable", copy, tmp_path)
    assert {name for name in members(wheel) if ".dist-info/" not in name} == {"lookonce.pth"}
    assert not list((copy / "lookonce").glob("_binary*"))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = (
        f"import site; site.addsitedir({str(tmp_path / 'site')!r}); import lookonce; "
        "print(lookonce.__file__, getattr(lookonce, 'CHANGED', ''))"
    )
    with (copy / "lookonce/__init__.py").open("a") as file:
        file.write("\nCHANGED = 1\n")
    done = child("-S", "-c", code, PYTHONPATH="")         # -S: without the environment's own lookonce
    assert done.out.split() == [str(copy / "lookonce/__init__.py"), "1"], done.err
    other.mkdir(parents=True)
    (other / "__init__.py").touch()
    done = child("-S", "-c", code, PYTHONPATH=str(other.parent))
    assert done.out.split() == [str(other / "__init__.py")], done.err


def test_the_metadata_say_what_the_project_is(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as archive:
        text = archive.read(f"{NAME}.dist-info/METADATA").decode()
        entries = archive.read(f"{NAME}.dist-info/entry_points.txt").decode()
    said = email.message_from_string(text)
    assert (said["Name"], said["Version"], said["License-Expression"]) == ("lookonce", __version__, "MIT")
    assert said["Requires-Python"] == ">=3.11"
    versions = {line.rpartition(" ")[2] for line in said.get_all("Classifier", []) if "Python :: 3." in line}
    assert versions == {"3.11", "3.12", "3.13"}
    assert {"video", "train", "judge", "openvino", "onnxruntime"} <= set(said.get_all("Provides-Extra", []))
    assert "torch" not in {need.split(">")[0] for need in said.get_all("Requires-Dist", []) if "extra" not in need}
    assert entries.split() == ["[console_scripts]", "lookonce", "=", "lookonce.cli.main:run"]


def test_the_wheel_works_where_nothing_else_of_the_project_is(built: Built, child: Child, tmp_path: Path) -> None:
    with zipfile.ZipFile(built.wheel) as archive:
        archive.extractall(tmp_path / "site")
    code = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); from lookonce.cli import main; "
        "assert main.__file__.startswith(sys.path[0]); sys.exit(main.main(sys.argv[1:]))"
    )
    done = child("-c", code, "doctor", memory=8 << 30, timeout=30)
    assert (done.code, "detection    works" in done.out) == (0, True), done.err
    done = child("-c", code, "model", "show", "yolo9000", memory=8 << 30, timeout=30)
    assert done.code == 0, done.err                         # its tree lies in the package


def test_the_papers_beside_the_package_name_the_version() -> None:
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"\nversion: {__version__}\n" in citation
    for field in ("cff-version: 1.2.0", "message: ", "title: lookonce", "license: MIT", "authors:", "references:",
                  "  - name: the lookonce founders", "    title: Practical Computer Vision"):  # fmt: skip
        assert f"\n{field}" in f"\n{citation}"
    changes = (ROOT / "CHANGELOG.md").read_text()
    assert re.findall(r"^## \[(.*?)\]", changes, re.MULTILINE)[0] == __version__
