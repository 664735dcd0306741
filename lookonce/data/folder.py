"""Class folders, as ImageNet has them: CLASS/PICTURE in a folder, or in a zip or tar archive, where they stay."""

from __future__ import annotations

import tarfile
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from types import TracebackType

from lookonce import files, pictures
from lookonce.data.dataset import Dataset, Item
from lookonce.data.reading import NOTHING, Findings, chosen, labels_of
from lookonce.errors import DataError, InputError, shown
from lookonce.truth import Truth

SUFFIXES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz")            # of archives that are looked for
SPLITS = frozenset(("train", "val", "valid", "validation", "test"))
FAULTS = (OSError, EOFError, ValueError, RuntimeError, NotImplementedError, zipfile.BadZipFile, tarfile.TarError,
          zlib.error)  # fmt: skip


def is_archive(path: Path) -> bool:
    """Whether a file is a zip or tar archive, by its content."""
    try:
        return zipfile.is_zipfile(path) or tarfile.is_tarfile(path)
    except FAULTS:
        return False


def archives_in(folder: Path) -> dict[str, Path]:
    """The archives of a folder in which no folder lies, by name without suffix: train.zip, test.zip."""
    inside = [place for place in folder.iterdir() if not place.name.startswith(".")] if folder.is_dir() else []
    if any(place.is_dir() for place in inside):
        return {}
    packed = [place for place in sorted(inside) if place.suffix.lower() in SUFFIXES]
    return {place.name.partition(".")[0]: place for place in packed if is_archive(place)}


def read(path: Path, split: str | None, names: Sequence[str] | None) -> Dataset:
    """Pictures in folders of their classes, at any depth below; `split` is a folder above those.

    The names are the folders', sorted (those of all splits, where there are splits), or `names`. A Truth has no boxes
    and one class. Raises DataError for an archive that cannot be read, and if there is no picture.
    """
    findings = Findings()
    members = _members(path, findings) if path.is_file() else _below(path)
    tree = [PurePosixPath(member).parts for member in members]
    if not tree:
        raise DataError(f"{path}: holds no picture, wanted folders of them, one a class")
    depth = 0                                               # folders that everything lies in say nothing
    while all(len(parts) > depth + 2 and parts[depth] == tree[0][depth] for parts in tree):
        depth += 1
    tops = sorted({parts[depth] for parts in tree if len(parts) > depth + 1})
    is_split = bool(tops) and all(top.lower() in SPLITS for top in tops)
    if is_split:
        split = chosen("splits", path, split, tops)
    elif split is not None and split not in tree[0][:depth]:
        raise DataError(f"{path}: has no split {shown(split)}; its folders are classes")
    at = depth + is_split                                   # where the class stands
    for member, parts in zip(members, tree, strict=True):
        if len(parts) <= at + 1:
            findings.warning("picture without class", path, member, "lies in no folder of a class")
    classes = {parts[at] for parts in tree if len(parts) > at + 1}
    if path.is_dir() and not is_split and not depth:
        classes |= {each.name for each in path.iterdir() if each.is_dir() and not each.name.startswith((".", "__"))}
    if not classes:
        raise DataError(f"{path}: holds no folder of pictures, wanted one a class")
    names = sorted(classes) if names is None else names
    label_of = labels_of(names)
    for unknown in sorted(classes - label_of.keys()):
        findings.unknown_name(path, f"folder {shown(unknown)}", unknown, names)
    truths = {name: Truth.of(NOTHING.label, classes=(label,)) for name, label in label_of.items()}
    items = []
    for member, parts in zip(members, tree, strict=True):
        if len(parts) > at + 1 and parts[at] in label_of and (not is_split or parts[depth] == split):
            name = str(PurePosixPath(*parts[at:]).with_suffix(""))
            place, inside = (path, member) if path.is_file() else (path / member, None)
            items.append(Item(name, place, None, truths[parts[at]], member=inside))
    used = {label for item in items for label in item.truth.classes}
    for name, label in label_of.items():
        if name in classes and label not in used:
            findings.warning("empty class", path, f"folder {shown(name)}", "holds no picture")
    return Dataset("folder", path, tuple(names), tuple(items), problems=findings())


def _below(folder: Path) -> list[str]:
    """Every picture at any depth below a folder, by path."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.suffix.lower() in pictures.SUFFIXES)
    return sorted(path.as_posix() for path in found if not _is_hidden(path.parts) and (folder / path).is_file())


def _members(path: Path, findings: Findings) -> list[str]:
    """Every picture in an archive, by path."""
    with Archive(path) as archive:
        found = archive.names()
    wanted = [name for name in found if name.lower().endswith(pictures.SUFFIXES)]
    wanted = [name for name in wanted if not _is_hidden(PurePosixPath(name).parts)]
    if len(set(wanted)) < len(wanted):
        findings.warning("duplicate picture", path, "", "holds several members of one name; the last of each counts")
    return sorted(set(wanted))


def _is_hidden(parts: Sequence[str]) -> bool:
    """Whether a path has a part that tools leave about: .thumbnails, __MACOSX; or one that leads up."""
    return any(part.startswith((".", "__MACOSX")) for part in parts)


class Archive:
    """A zip or tar archive that is open for reading. A context. Members of a compressed tar are best taken in order."""

    def __init__(self, path: Path) -> None:
        """Raises DataError if it is neither, or damaged."""
        self._path = path
        self._zip: zipfile.ZipFile | None = None
        self._tar: tarfile.TarFile | None = None
        self._members: dict[str, tarfile.TarInfo] | None = None
        with files.open_regular(path, DataError):
            pass
        try:
            if zipfile.is_zipfile(path):
                self._zip = zipfile.ZipFile(path)
            else:
                self._tar = tarfile.open(path)  # noqa: SIM115 - closed by the context
        except FAULTS as problem:
            said = shown(str(problem).partition("\n")[0], 80).rstrip(":")    # tarfile adds a line for each compression
            raise DataError(f"{path}: is no zip or tar archive that can be read: {said}") from None

    def __enter__(self) -> Archive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        for archive in (self._zip, self._tar):
            if archive is not None:
                archive.close()

    def names(self) -> list[str]:
        """The names of the regular files in it. Raises DataError."""
        try:
            if self._zip is not None:
                return [about.filename for about in self._zip.infolist() if not about.is_dir()]
            assert self._tar is not None
            return [about.name for about in self._tar if about.isreg()]
        except FAULTS as problem:
            raise DataError(f"{self._path}: the archive is damaged: {shown(str(problem), 80)}") from None

    def read(self, name: str) -> bytes:
        """The bytes of a picture in it, of at most as many as a picture may have. Raises InputError."""
        place = f"{self._path}/{name}"
        try:
            if self._zip is not None:
                size = self._zip.getinfo(name).file_size
                data = self._zip.read(name) if size <= pictures.MAX_BYTES else b""
            else:
                assert self._tar is not None
                if self._members is None:                    # getmember looks through all of them each time
                    self._members = {about.name: about for about in self._tar}
                about = self._members[name]
                size = about.size
                file = self._tar.extractfile(about) if about.isreg() and size <= pictures.MAX_BYTES else None
                data = b"" if file is None else file.read()
        except KeyError:
            raise InputError(f"{place}: no such file in the archive") from None
        except FAULTS as problem:
            raise InputError(f"{place}: cannot be taken out of the archive: {shown(str(problem), 80)}") from None
        if size > pictures.MAX_BYTES:
            raise InputError(f"{place}: {size:,} bytes, more than the {pictures.MAX_BYTES:,} that a picture may have")
        return data
