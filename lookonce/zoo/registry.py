"""What the zoo holds, as registry.toml and names.toml tell it."""

from __future__ import annotations

import os
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from lookonce.errors import DataError, nearest, shown

HERE = Path(__file__).parent
DEFAULT = "lookonce-voc"             # the detector that is taken where none is named


@dataclass(frozen=True)
class Published:
    """A weights file that its makers published. `bytes` and `sha256` are None where nobody here knows them yet.

    `layers` is None for a whole file, else the number of layers of `network` that it holds.
    """

    name: str
    network: str
    urls: tuple[str, ...]
    licence: str
    bytes: int | None = None
    sha256: str | None = None
    layers: int | None = None


def networks() -> Mapping[str, str]:
    """The names of the zoo's networks, each with a line about it."""
    return {name: entry["about"] for name, entry in _registry()["network"].items()}


def cfg_path(network: str) -> Path | None:
    """The cfg of a network of the zoo, None if there is none of that name."""
    return HERE / f"{network}.cfg" if network in _registry()["network"] else None


def bundled_files() -> Mapping[str, Path]:
    """Files that Darknet's cfgs name and that come with this package, by name."""
    return {"9k.tree": HERE / "9k.tree"}


def class_names(network: str) -> tuple[str, ...]:
    """What a network's classes are called; empty if its cfg's tree names them."""
    key = _registry()["network"][network].get("names")
    return tuple(_names()[key]) if key else ()


def name_lists() -> Mapping[str, tuple[str, ...]]:
    """The lists of class names by what they are called: coco, voc, ..."""
    return {key: tuple(names) for key, names in _names().items()}


def shipped_model(network: str) -> Path | None:
    """The one-file model that comes with this package under a network's name, None if there is none."""
    path = HERE / f"{network}.safetensors"
    return path if network in _registry()["network"] and path.is_file() else None


def published(name: str) -> Published:
    """The published file called `name`, or the one for the network called `name`. Raises DataError."""
    entry = _registry()["network"].get(name)
    if shipped_model(name) is not None:
        raise DataError(f"{name}: comes with lookonce, nothing is to be fetched: `lookonce detect photo.jpg -m {name}`")
    if entry is not None and "weights" not in entry:
        raise DataError(f"{name}: no weights of this network were published; train it, or name another of the zoo")
    found = published_files().get(entry["weights"] if entry else name)
    if found is None:
        if (cut := cut_of(name)) is not None:
            raise DataError(
                f"{name}: was not published: `lookonce model pull {cut[0]}` fetches the whole of it, and "
                f"`--pretrained {cut[0]}:{cut[1]}` takes its first {cut[1]} layers"
            )
        known = nearest(name, [*networks(), *published_files()])
        raise DataError(f"{shown(name)}: the zoo has no such network or file{known} (lookonce model list shows all)")
    return found


@cache
def published_files() -> Mapping[str, Published]:
    """All published files by name."""
    of = {entry["weights"]: name for name, entry in _registry()["network"].items() if "weights" in entry}
    found = {}
    for name, entry in _registry()["file"].items():
        values = {"network": of.get(name), **entry, "urls": tuple(entry["urls"])}
        found[name] = Published(name=name, **values)
    return found


def cut_of(name: str) -> tuple[str, int] | None:
    """The network and the number of layers that a name such as `yolov3-tiny.conv.15` means.

    None for another name, and for one that is nearly that of a published cut of this network.
    """
    network, _, layers = name.rpartition(".conv.")
    if network not in networks() or not (layers.isascii() and layers.isdigit() and len(layers) < 6):
        return None
    cuts = [file.name for file in published_files().values() if file.network == network and file.layers is not None]
    return None if nearest(name, cuts) else (network, int(layers))


def cache_folder() -> Path:
    """Where pulled files lie: LOOKONCE_HOME, or the system's folder for caches."""
    named = os.environ.get("LOOKONCE_HOME")
    if named:
        return Path(named).expanduser()
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local"))
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return base / "lookonce"


def pulled_weights(network: str) -> Path | None:
    """The pulled weights of a network of the zoo, None if they were not pulled or none were published."""
    file = _registry()["network"][network].get("weights")
    path = cache_folder() / file if file else None
    return path if path is not None and path.is_file() else None


@cache
def _registry() -> Mapping[str, Any]:
    return tomllib.loads((HERE / "registry.toml").read_text("utf-8"))


@cache
def _names() -> Mapping[str, Any]:
    return tomllib.loads((HERE / "names.toml").read_text("utf-8"))
