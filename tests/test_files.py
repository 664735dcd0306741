"""Files at the door: what they are told by their first bytes, where they may lie, and how they are written."""

from __future__ import annotations

import contextlib
import errno
import gzip
import io
import itertools
import json
import os
import pickle
import signal
import socket
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType

import numpy as np
import pytest
from conftest import Child

from lookonce import files
from lookonce.darknet import weights
from lookonce.darknet.cfg import Cfg
from lookonce.darknet.lists import read_names
from lookonce.errors import CfgError, DataError, LookonceError, WeightsError
from lookonce.wordtree import WordTree


@contextlib.contextmanager
def at_once() -> Iterator[None]:
    """Fails instead of hanging: a pipe that nobody writes to would be waited on forever."""

    def late(number: int, frame: FrameType | None) -> None:
        raise TimeoutError("still waiting after two seconds")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, 2)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


# ---------------------------------------------------------------------- kinds
class Canary:
    """A pickle that would write a file if anything loaded it."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def zipped(name: str, data: bytes) -> bytes:
    with io.BytesIO() as file:
        with zipfile.ZipFile(file, "w") as archive:
            archive.writestr(name, data)
        return file.getvalue()


HTML = b"<!DOCTYPE html>\n<html><body>Quota exceeded</body></html>"
LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 248007048\n"
JSON = json.dumps({"message": "Not Found"}).encode()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (zipped("archive/data.pkl", b"x"), "zip"), (gzip.compress(b"x" * 99), "gzip"), (LFS, "LFS"), (HTML, "HTML"),
        (b"\n\n <html></html>" + bytes(9), "HTML"), (b"\xef\xbb\xbf" + HTML, "HTML"), (JSON, "JSON"),
        *((pickle.dumps([1], protocol), "pickle") for protocol in (2, 3, 4, 5)),
        (b"[net]\nwidth=416\nheight=416\n", "swapped"), (b"# my net\n[net]\nwidth=416\n", "swapped"),
        (b"\xef\xbb\xbf[net]\nwidth=416\nheight=416\n", "swapped"), (b"\x89HDF\r\n\x1a\n" + bytes(99), "HDF5"),
        (b"\x89PNG\r\n\x1a\n" + bytes(99), "PNG"), (b"\xff\xd8\xff\xe0" + bytes(99), "JPEG"), (b"%PDF-1.7\n...", "PDF"),
        (b"person\nbicycle\ncar\nmotorbike\n", "is a text, wanted a Darknet weights file"),
    ],
    ids=itertools.count(),                          # a zip archive and a gzip file hold the time: no names for tests
)  # fmt: skip
def test_a_foreign_file_in_place_of_weights_is_named_for_what_it_is(tmp_path: Path, data: bytes, words: str) -> None:
    path = tmp_path / "my.weights"
    path.write_bytes(data)
    with pytest.raises(WeightsError) as refused:
        weights.read(path, [])
    assert str(refused.value).startswith(f"{path}: ")
    assert words in str(refused.value)


@pytest.mark.parametrize("version", [(0, 1, 0), (0, 2, 0), (0, 2, 5), (0, 5, 0), (1001, 0, 0)])
def test_no_real_header_is_taken_for_a_foreign_file(version: tuple[int, int, int]) -> None:
    assert files.kind_of(np.array([*version, 32013312, 0], "<i4").tobytes()) is None


@pytest.mark.parametrize("protocol", range(6))
@pytest.mark.parametrize("packed", [False, True], ids=["bare", "zipped"])
def test_a_pickle_is_never_run(tmp_path: Path, protocol: int, packed: bool) -> None:
    canary, path = tmp_path / "canary", tmp_path / "evil"
    data = pickle.dumps(Canary(canary), protocol)
    path.write_bytes(zipped("archive/data.pkl", data) if packed else data)
    readers: list[Callable[[], object]] = [
        lambda: weights.read(path, []), lambda: Cfg.read(path), lambda: WordTree.read(path),
        lambda: read_names(path, 80),
    ]  # fmt: skip
    for reader in readers:
        with pytest.raises(LookonceError):
            reader()
    assert not canary.exists()
    pickle.loads(data)
    assert canary.exists()                          # the canary does sing


# ---------------------------------------------------------------------- opening
def special(folder: Path, kind: str) -> Path:
    path = folder / "thing"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "device":
        return Path("/dev/zero")
    elif kind == "link to a device":
        path.symlink_to("/dev/zero")
    elif kind == "loop":
        path.symlink_to(path)
    elif kind == "in a file":
        path.write_bytes(b"x")
        return path / "thing"
    elif kind == "NUL":
        return folder / "a\0b"
    elif kind == "long":
        return folder / ("a" * 5000)
    return path


@pytest.mark.parametrize(
    ("named", "says"),
    [("doog.jpg", ", did you mean dog.jpg?"), ("DOG.JPG", ", did you mean dog.jpg?"),
     ("dog.jpeg", ", did you mean dog.jpg?"), ("my.cgf", ", did you mean My.cfg?"), ("cat.jpg", ""), ("q", ""),
     ("phots", ", did you mean photos?"), ("photos/eagel.png", ", did you mean photos/eagle.png?"),
     ("fotos/a.png", ": there is no folder fotos, did you mean photos?"), ("x/y/z", ": there is no folder x/y: "),
     ("dog.jpg/a", ""), ("a\0b", ""), ("a" * 5000, "")],
)  # fmt: skip
def test_what_is_missing_is_told_what_is_called_alike(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, named: str, says: str
) -> None:
    """By what stands before the suffix too: two names are not alike because both end in .jpg."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for name in ("dog.jpg", "My.cfg", "photos/eagle.png"):
        (tmp_path / name).touch()
    assert files.near(Path(named)).startswith(says)
    assert bool(says) == bool(files.near(Path(named)))


def test_a_file_that_is_named_elsewhere_is_not_told_what_lies_there(tmp_path: Path) -> None:
    (tmp_path / "secret.txt").touch()
    (tmp_path / "in").mkdir()
    for named, hint in (("secrat.txt", ""), ("../secrat.txt", "")):
        with pytest.raises(DataError) as refused:
            files.resolve_inside(named, tmp_path / "in" / "my.data", DataError)
        assert str(refused.value).endswith(f"){hint}")
    (tmp_path / "in" / "my.names").touch()
    with pytest.raises(DataError, match=r"did you mean .*in/my\.names\?$"):
        files.resolve_inside("my.nams", tmp_path / "in" / "my.data", DataError)


@pytest.mark.parametrize(
    ("kind", "words"),
    [("folder", "a folder"), ("pipe", "a pipe"), ("device", "device"), ("link to a device", "device"),
     ("loop", "cannot be opened"), ("missing", "no such file"), ("in a file", "cannot be opened"),
     ("NUL", "not a file name"), ("long", "cannot be opened")],
)  # fmt: skip
@pytest.mark.parametrize("error", [CfgError, WeightsError, DataError])
def test_what_is_no_regular_file_is_refused_at_once(
    tmp_path: Path, kind: str, words: str, error: type[LookonceError]
) -> None:
    path = special(tmp_path, kind)
    with at_once(), pytest.raises(error, match=words) as refused:
        files.open_regular(path, error)
    assert str(refused.value).isprintable()
    assert repr(str(path))[1:-1] in str(refused.value)
    with at_once(), pytest.raises(error, match=words):
        files.read_bytes(path, 1 << 20, error)


def test_a_socket_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)                     # the name of a socket may have 107 bytes
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("it")
        with at_once(), pytest.raises(DataError, match="it: cannot be opened"):
            files.open_regular(Path("it"), DataError)


def test_an_unreadable_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Told by the system's answer, because the superuser may read everything."""

    def deny(path: Path, flags: int) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)

    monkeypatch.setattr(os, "open", deny)
    with pytest.raises(DataError, match="mine: cannot be opened: Permission denied"):
        files.open_regular(tmp_path / "mine", DataError)


def test_a_link_to_a_regular_file_is_that_file(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"abc")
    (tmp_path / "link").symlink_to("real")
    assert files.read_bytes(tmp_path / "link", 3, DataError) == b"abc"


def test_a_file_may_be_as_long_as_the_limit_and_no_longer(tmp_path: Path) -> None:
    path = tmp_path / "long"
    path.write_bytes(b"12345")
    assert files.read_bytes(path, 5, DataError) == b"12345"
    with pytest.raises(DataError, match=r"long: 5 bytes, more than the 4 "):
        files.read_bytes(path, 4, DataError)


# ---------------------------------------------------------------------- files that files name
@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """project/cfg/my.cfg with neighbours, and a current folder elsewhere."""
    root = tmp_path / "project"
    for folder in ("cfg", "cfg/sub", "data", "../here", "../outside"):
        (root / folder).mkdir(parents=True)
    for file in ("cfg/my.cfg", "cfg/beside", "cfg/sub/below", "data/neighbour", "../here/local", "../outside/secret"):
        (root / file).write_text(file)
    (root / "cfg" / "inner").symlink_to("sub/below")
    (root / "cfg" / "outer").symlink_to("../../outside/secret")
    (root / "cfg" / "folder").symlink_to("../../outside")
    (root / "cfg" / "loop").symlink_to("loop")
    monkeypatch.chdir(tmp_path / "here")
    return root


def found(project: Path, named: str, anywhere: bool = False) -> str:
    return files.resolve_inside(named, project / "cfg" / "my.cfg", CfgError, anywhere).read_text()


@pytest.mark.parametrize(
    ("named", "wanted"),
    [("beside", "cfg/beside"), ("sub/below", "cfg/sub/below"), ("./sub/../beside", "cfg/beside"),
     ("data/neighbour", "data/neighbour"), ("cfg/beside", "cfg/beside"), ("inner", "cfg/sub/below"),
     ("local", "../here/local")],
)  # fmt: skip
def test_a_named_file_is_found_beside_its_owner_beside_its_folder_or_here(
    project: Path, named: str, wanted: str
) -> None:
    assert found(project, named) == wanted
    assert found(project, named, anywhere=True) == wanted


def test_what_lies_beside_the_owner_comes_first(project: Path) -> None:
    for folder in (project / "cfg", project, project.parent / "here"):
        (folder / "twice").write_text(folder.name)
    assert found(project, "twice") == "cfg"
    (project / "cfg" / "twice").unlink()
    assert found(project, "twice") == "project"


def test_a_relative_owner_means_the_same(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project / "cfg")
    for owner in (Path("my.cfg"), Path("../cfg/my.cfg")):
        assert files.resolve_inside("data/neighbour", owner, CfgError).read_text() == "data/neighbour"


@pytest.mark.parametrize("named", ["../../outside/secret", "sub/../../../outside/secret", "outer", "folder/secret"])
def test_a_file_outside_is_refused_by_name_unless_it_is_allowed(project: Path, named: str) -> None:
    with pytest.raises(CfgError, match=r"my\.cfg: .*leads out of .*--allow-paths") as refused:
        found(project, named)
    assert repr(named) in str(refused.value)
    assert found(project, named, anywhere=True) == "../outside/secret"


def test_an_absolute_path_is_refused_whether_or_not_it_is_there_unless_it_is_allowed(project: Path) -> None:
    """Also one that leads inside: a cfg that says where it lies on somebody's disk was not made to be given away."""
    for path in (project / "cfg" / "beside", project / "nothing", Path("/etc/passwd")):
        with pytest.raises(CfgError, match=r"my\.cfg: .*absolute path .*--allow-paths"):
            found(project, str(path))
    assert found(project, str(project / "cfg" / "beside"), anywhere=True) == "cfg/beside"


@pytest.mark.parametrize("anywhere", [False, True])
@pytest.mark.parametrize("named", ["nothing", "cfg", ".", "loop", "a\0b", "a" * 5000, "beside/x", "~/x", "$HOME/x"])
def test_what_is_no_file_anywhere_is_refused_in_one_line(project: Path, named: str, anywhere: bool) -> None:
    with at_once(), pytest.raises(CfgError, match=r"my\.cfg: ") as refused:
        found(project, named, anywhere)
    assert str(refused.value).isprintable()


def test_where_a_missing_file_was_looked_for_is_said(project: Path) -> None:
    with pytest.raises(CfgError) as refused:
        found(project, "x/nothing")
    for folder in (project / "cfg", project, project.parent / "here"):
        assert str(folder / "x" / "nothing") in str(refused.value)


# ---------------------------------------------------------------------- writing
def test_a_file_is_there_only_when_it_is_whole_and_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, steps = tmp_path / "new" / "folder" / "file", []
    sync, replace = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (steps.append("sync"), sync(fd)))
    monkeypatch.setattr(Path, "replace", lambda self, to: (steps.append("rename"), replace(self, to)))
    with files.write_atomically(path) as file:
        file.write(b"abc")
        assert not path.exists()
    assert path.read_bytes() == b"abc"
    assert steps == ["sync", "rename", "sync"]      # the file, its name, the folder that holds the name
    assert list(path.parent.iterdir()) == [path]


def write_half(path: Path, problem: type[BaseException], keep: Callable[[], bool] | None = None) -> None:
    with files.write_atomically(path, keep=keep) as file:
        file.write(b"half")
        raise problem


@pytest.mark.parametrize("problem", [RuntimeError, OSError, KeyboardInterrupt, SystemExit])
def test_a_failure_leaves_the_old_file_and_no_rubbish(tmp_path: Path, problem: type[BaseException]) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(problem):
        write_half(path, problem)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("problem", [RuntimeError, KeyboardInterrupt])
def test_what_was_written_before_a_failure_is_kept_if_asked(tmp_path: Path, problem: type[BaseException]) -> None:
    path = tmp_path / "file"
    with pytest.raises(problem):
        write_half(path, problem, keep=lambda: False)
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(problem):
        write_half(path, problem, keep=lambda: True)
    assert path.read_bytes() == b"half"
    assert list(tmp_path.iterdir()) == [path]


def test_a_link_is_followed_and_permissions_are_kept(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    real.write_bytes(b"old")
    real.chmod(0o600)
    link.symlink_to(real)
    with files.write_atomically(link) as file:
        file.write(b"new")
    assert link.is_symlink()
    assert real.read_bytes() == b"new"
    assert real.stat().st_mode & 0o777 == 0o600


def test_what_cannot_be_written_is_said_of_the_name_that_was_given(tmp_path: Path) -> None:
    locked, a_file = tmp_path / "locked", tmp_path / "file"
    a_file.touch()
    locked.touch()
    locked.chmod(0o444)
    said = {
        tmp_path: "is a folder, wanted the name of a file",
        locked: "is read-only: give another name, or allow writing",
        a_file / "x": "is a file, wanted a folder: give another name",
        tmp_path / ("x" * 300): "cannot be written: File name too long",
        Path("/proc/x"): "/proc/x: cannot be written: ",
    }
    for path, words in said.items():
        with pytest.raises(DataError) as refused, files.write_atomically(path):
            pass
        assert words in str(refused.value)
        assert ".part" not in str(refused.value)


def test_a_disk_that_fills_up_leaves_the_old_file_and_no_rubbish(tmp_path: Path, child: Child) -> None:
    """A limit on the length of files stands in for the disk's."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    script = f"""if True:
        import resource
        from pathlib import Path
        from lookonce import files
        resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 16, 1 << 16))
        with files.write_atomically(Path({str(path)!r})) as file:
            file.write(bytes(1 << 20))
    """
    done = child("-c", script)
    assert done.code == 1
    assert "File too large" in done.err
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
