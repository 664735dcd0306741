"""Opening a model by what a user calls it: a zoo network, a cfg, a one-file model; weights by file, cut or chance."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from lookonce import files, zoo
from lookonce.darknet.cfg import Cfg, Place
from lookonce.darknet.lists import read_names
from lookonce.darknet.weights import Header, expected_bytes
from lookonce.errors import CfgError, DataError, WeightsError, nearest, shown, warn
from lookonce.model import onefile
from lookonce.model.model import Model
from lookonce.network import Network
from lookonce.network.network import MEMORY_LIMIT

RANDOM = "random"                    # in place of a weights file
# What models are called that others write and that are not read here.
FOREIGN = {".pt": "PyTorch", ".pth": "PyTorch", ".ckpt": "PyTorch", ".h5": "Keras", ".keras": "Keras",
           ".tflite": "TensorFlow", ".pb": "TensorFlow", ".engine": "TensorRT"}  # fmt: skip
Size = int | tuple[int, int]


def open_model(
    model: str | Path,
    weights: str | Path | None = None,
    names: str | Path | Sequence[str] | None = None,
    *,
    size: Size | None = None,
    allow_paths: bool = False,
    allow_nonfinite: bool = False,
) -> Model:
    """A model by a zoo network's name, a cfg file, or a one-file model (.safetensors).

    `weights` is a Darknet file, `FILE:N` for the first N layers of one, or `random`; for a zoo network those that come
    with this package are taken if none are given, else the pulled file. `names` is a file, one of the zoo's lists
    (`coco`, `voc`, ...), or a sequence; one a class. `size` is another input size in pixels, the side of a square or
    (width, height). Files that the cfg names are looked for nearby, or anywhere with `allow_paths`; `allow_nonfinite`
    takes weights that are damaged. Raises CfgError, WeightsError or DataError.
    """
    if str(model).endswith(onefile.SUFFIX):
        if weights is not None:
            raise WeightsError(f"{model}: is a one-file model and holds its weights; leave the weights out")
        opened = onefile.read(Path(model), memory_limit(), allow_nonfinite=allow_nonfinite)
    elif weights is None and (shipped := zoo.shipped_model(str(model))) is not None:
        opened = onefile.read(shipped, memory_limit())
    else:
        network = open_network(model, allow_paths=allow_paths)
        opened = _with_weights(network, str(model), weights, allow_nonfinite)
        if str(model) in zoo.networks():
            opened = replace(opened, names=zoo.class_names(str(model)))
    _warn_of_random(opened, str(model))
    if names is not None:
        opened = replace(opened, names=_class_names(names, opened.network))
    if size is not None:
        opened = opened.resized(*_sides(size), memory_limit())
    return opened


def open_network(model: str | Path, *, size: Size | None = None, allow_paths: bool = False) -> Network:
    """The network of a zoo name, a cfg file or a one-file model, without its weights, also at another input size.

    Raises CfgError, DataError or WeightsError.
    """
    network = _network(model, allow_paths)
    return network if size is None else network.resized(*_sides(size), memory_limit())


def weights_lengths(file: zoo.Published) -> tuple[int, int]:
    """How many bytes a published file can have by its network's cfg: with the older header, and with the newer."""
    path = zoo.cfg_path(file.network)
    assert path is not None
    entries = Network.build(Cfg.read(path), memory_limit()).entries(file.layers)
    return expected_bytes(entries, Header(wide=False)), expected_bytes(entries, Header())


def split_cut(weights: str) -> tuple[Path, int | None]:
    """A file and the number of layers to take of it, from `FILE` or `FILE:N`."""
    file, colon, count = weights.rpartition(":")
    if colon and count.isascii() and count.isdigit() and not files.exists(weights):
        return Path(file), int(count[:9])
    return Path(weights), None


def memory_limit() -> int:
    """Bytes of weights and activations that a cfg may ask for: LOOKONCE_MEMORY_LIMIT, or 4 GiB. Raises CfgError."""
    value = os.environ.get("LOOKONCE_MEMORY_LIMIT")
    if value is None:
        return MEMORY_LIMIT
    if not (value.isascii() and value.isdigit()):
        raise CfgError(f"LOOKONCE_MEMORY_LIMIT={value[:40]!r} is no number of bytes")
    return int(value[:18])


def _network(model: str | Path, allow_paths: bool) -> Network:
    if str(model).endswith(onefile.SUFFIX):
        return onefile.read(Path(model), memory_limit()).network
    path = zoo.cfg_path(str(model))
    if path is not None:
        return Network.build(Cfg.read(path), memory_limit())
    path = Path(model)
    if path.suffix == ".onnx":
        raise CfgError(f"{path}: ONNX is written, not read back; give the cfg or the .safetensors that it was made of")
    if (whose := FOREIGN.get(path.suffix.lower())) is not None:
        raise CfgError(
            f"{path}: {whose} files are not read: wanted a cfg and its weights (-m my.cfg -w my.weights), a "
            ".safetensors file made here, or a network of the zoo (`lookonce model list`)"
        )
    if not files.exists(path) and path.suffix != ".cfg":
        known = nearest(str(model), zoo.networks().keys())
        raise CfgError(
            f"{shown(str(model), 80)}: is neither a file nor a network of the zoo{known or ';'} "
            "`lookonce model list` shows the zoo"
        )
    return Network.build(Cfg.read(path, Place(anywhere=allow_paths, bundled=zoo.bundled_files())), memory_limit())


def _with_weights(network: Network, name: str, weights: str | Path | None, allow_nonfinite: bool) -> Model:
    if weights is None:
        weights = zoo.pulled_weights(name) if name in zoo.networks() else None
        if weights is None:
            raise WeightsError(_missing(name))
    if str(weights) == RANDOM:
        return Model.random(network)
    path, layers = split_cut(str(weights))
    return Model.read(network, path, layers, allow_nonfinite=allow_nonfinite)


def _warn_of_random(model: Model, name: str) -> None:
    count = len(model.network.nodes)
    if model.trained == 0:
        warn(f"{name}: runs on random weights: what it says means nothing; give its weights for real answers")
    elif model.trained < count:
        warn(f"{model.source}: only the first {model.trained} of {count} layers are taken; the rest are random")


def _sides(size: Size) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else size


def _missing(name: str) -> str:
    if name not in zoo.networks():
        return f"{name}: needs its weights: give them with -w FILE, or `-w random` to try it without"
    try:
        file = zoo.published(name)
    except DataError:
        return f"{name}: no weights of it were published: give yours with -w FILE, or `-w random` to try it without"
    size = f" ({file.bytes / 1e6:,.0f} MB)" if file.bytes else ""
    return (
        f"{name}: its weights are not here: fetch them with `lookonce model pull {name}`{size}, give them with "
        "-w FILE, or `-w random` to try it without"
    )


def _class_names(names: str | Path | Sequence[str], network: Network) -> tuple[str, ...]:
    # A file of that name goes before the zoo's list; a folder called coco does not.
    if isinstance(names, str) and names in zoo.name_lists() and (not files.exists(names) or Path(names).is_dir()):
        names = zoo.name_lists()[names]
    if isinstance(names, str | Path):
        return read_names(Path(names), network.classes)
    if len(names) != network.classes:
        raise DataError(f"{len(names)} names, but the network has {network.classes} classes; wanted one a class")
    return tuple(names)
