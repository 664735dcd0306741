"""Where learning starts: weights of another run, of a published file, or of another network that begins alike."""

from __future__ import annotations

import contextlib
import difflib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from lookonce import files, zoo
from lookonce.darknet.cfg import Cfg
from lookonce.darknet.weights import Header, expected_bytes
from lookonce.errors import CfgError, WeightsError, shown
from lookonce.model import Model, onefile
from lookonce.model.opening import RANDOM, memory_limit, split_cut
from lookonce.network import Network
from lookonce.train.adapt import with_classes
from lookonce.train.heads import carried_heads

MOST_CLASSES = 1 << 20
HEADERS = (Header(wide=False), Header())         # 16 and 20 bytes


class Source(NamedTuple):
    """The network that a file of weights is of, and how many of its layers are in it, None for all."""

    network: Network
    layers: int | None = None


def start_from(
    network: Network,
    pretrained: str | Path,
    *,
    seed: int = 0,
    keep_seen: bool = False,
    allow_nonfinite: bool = False,
    names: Sequence[str] = (),
) -> Model:
    """`network` with the weights of `pretrained` where they fit, random ones elsewhere.

    No picture counts as seen; with `keep_seen` those that the file says do, so that the schedule goes on from there.

    `pretrained` is a Darknet file, whole or cut, a one-file model, a zoo network whose weights are here, a published
    file by name, or `random`; `:N` after it takes its first N layers only. What a Darknet file is of is known by its
    length: this network, its first layers, one of the zoo, or this network with other classes. Of the same layers all
    are taken whose arrays have the same shapes, and of heads of other classes those that are among `names`
    (train.heads); of another network those at the front, up to the first that differs.
    `trained` of the model is how many were taken. Raises WeightsError if there is none.
    """
    if str(pretrained) == RANDOM:
        return Model.random(network, seed)
    path, cut, known = _found(str(pretrained))
    if path.suffix == onefile.SUFFIX:
        given = onefile.read(path, memory_limit(), allow_nonfinite=allow_nonfinite)
        available = given.trained
    else:
        source = known or _source(network, path)
        if source is None and cut is None:
            raise WeightsError(
                f"{path}: {_length(path):,} bytes, as no weights of {network.cfg.path} with any classes have, nor of "
                f"its first layers, nor of a network of the zoo; {path}:N takes its first N layers"
            )
        source = source or Source(network, cut)
        given = Model.read(source.network, path, source.layers, allow_nonfinite=allow_nonfinite)
        available = given.trained
    if cut is not None and not 0 < cut <= available:
        raise WeightsError(f"{path}:{cut}: it has {available} layers; wanted a cut of 1 to {available}")
    model = _carried(network, given, available if cut is None else cut, path, seed, names)
    return replace(model, header=replace(model.header, seen=given.header.seen)) if keep_seen else model


def described(model: Model) -> str:
    """How many layers of a model do not start at random, and from where, in words."""
    count = len(model.network.nodes)
    if not model.trained:
        return "all layers start at random"
    rest = "" if model.trained == count else ", the others at random"
    return f"{model.trained} of {count} layers start with the weights of {model.source}{rest}"


def _carried(
    network: Network, given: Model, available: int, path: Path, seed: int, names: Sequence[str]
) -> Model:
    """A random model of `network` with what fits of the first `available` layers of `given`."""
    start = Model.random(network, seed)
    ours, theirs = network.nodes, given.network.nodes[:available]
    alike = [node.layer.section for node in ours] == [node.layer.section for node in given.network.nodes]
    weights = list(start.weights)
    taken, arrays = 0, 0
    whole = alike and available == len(ours) and given.network.classes != network.classes
    heads = carried_heads(network, names, given) if whole else {}
    for node, other in zip(ours, theirs, strict=False):
        fits = node.layer.section == other.layer.section and node.parameters == other.parameters
        if fits:
            weights[node.index] = given.weights[node.index]
            taken, arrays = taken + 1, arrays + len(node.parameters)
        elif node.index in heads:
            weights[node.index] = heads[node.index]
            taken += 1
        elif not alike:
            break
    if not arrays:
        raise WeightsError(
            f"{path}: its weights, of {given.network.cfg.path}, fit no layer of {network.cfg.path}; "
            "wanted those of a network that begins alike"
        )
    return replace(start, weights=tuple(weights), source=str(path), trained=taken)


# ---------------------------------------------------------------------- what a file is
def _found(pretrained: str) -> tuple[Path, int | None, Source | None]:
    """The file, the cut, and what it is of, if its name says so. Raises WeightsError if it is to be pulled first."""
    path, cut = split_cut(pretrained)
    name = str(path)
    if files.exists(path) and not path.is_dir():
        return path, cut, None
    if (shipped := zoo.shipped_model(name)) is not None:
        return shipped, cut, None
    if name in zoo.networks():
        pulled, source = zoo.pulled_weights(name), Source(_zoo_network(name))
    elif name in zoo.published_files():
        file = zoo.published_files()[name]
        pulled, source = zoo.cache_folder() / name, Source(_zoo_network(file.network), file.layers)
    elif (meant := zoo.cut_of(name)) is not None:
        network, layers = meant
        raise WeightsError(
            f"{name}: no such file, and these layers were not published alone: `{network}:{layers}` takes the first "
            f"{layers} layers of the published weights, `lookonce model cut {network} {layers} -o {name}` makes it"
        )
    else:
        known = difflib.get_close_matches(name[:64], [*zoo.networks(), *zoo.published_files()], n=1, cutoff=0.8)
        if known and not files.exists(path):
            raise WeightsError(f"{shown(name)}: is neither a file nor one of the zoo's, did you mean {known[0]}?")
        return path, cut, None
    if pulled is None or not pulled.is_file():
        raise WeightsError(
            f"{shown(name)}: its weights are not here: fetch them with `lookonce model pull {name}`, or give a file"
        )
    return pulled, cut, source


def _source(network: Network, path: Path) -> Source | None:
    """The network that a Darknet file is of, by its length; None if it is of none that is known here."""
    length = _length(path)
    if _fits(length, Source(network)):
        return Source(network)
    for layers in range(len(network.nodes), 0, -1):
        if _fits(length, Source(network, layers)):
            return Source(network, layers)
    for source in _of_the_zoo():
        if _fits(length, source):
            return source
    with contextlib.suppress(CfgError):                     # neither a detector nor a classifier
        return _with_other_classes(network, length)
    return None


def _length(path: Path) -> int:
    """How many bytes a file has. Raises WeightsError."""
    with files.open_regular(path, WeightsError) as file:
        return file.seek(0, 2)


def _fits(length: int, source: Source) -> bool:
    entries = source.network.entries(source.layers)
    return bool(entries) and length in {expected_bytes(entries, header) for header in HEADERS}


def _of_the_zoo() -> Iterator[Source]:
    for name in zoo.networks():
        yield Source(_zoo_network(name))
    for file in zoo.published_files().values():
        if file.layers is not None:
            yield Source(_zoo_network(file.network), file.layers)


def _zoo_network(name: str) -> Network:
    path = zoo.cfg_path(name)
    assert path is not None
    return Network.build(Cfg.read(path), memory_limit())


def _with_other_classes(network: Network, length: int) -> Source | None:
    """This network with as many classes as make its file so long; the length grows by the same for each."""

    def built(classes: int) -> Network:
        return Network.build(with_classes(network, classes), memory_limit())

    one, two = (expected_bytes(built(classes).entries(), HEADERS[0]) for classes in (1, 2))
    for header in HEADERS:
        classes, rest = divmod(length - header.length + HEADERS[0].length - one, two - one)
        if not rest and 0 <= classes < MOST_CLASSES:
            source = Source(built(classes + 1))
            return source if _fits(length, source) else None
    return None
