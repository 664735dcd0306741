"""From what a user asks to a run that can begin, or to one that goes on: all is checked before the first step.

    settings = Settings("set/my.data")
    data = data_of(settings)
    network = fitted("yolov3-tiny", data, Adaptation(epochs=10))
    model = ready(settings, data, network)
    with RunFolder(Path("runs/mine")) as folder:
        for row in start(folder, settings, data, model).rows():
            print(row)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

import torch

from lookonce import files
from lookonce.darknet.cfg import Cfg, Place
from lookonce.errors import CfgError, DataError, EngineError
from lookonce.exam.exam import Protocol
from lookonce.layers.convolution import Connected, Local
from lookonce.losses.network import NetworkLoss
from lookonce.model import Model, open_network
from lookonce.network import Network
from lookonce.network.learning import warn_of_ignored
from lookonce.train.adapt import TREE, AnchorChoice, Recipe, adapt, with_size
from lookonce.train.datasets import TrainingData, check_kind, check_suits, open_for_training, write_lists
from lookonce.train.distributed import World
from lookonce.train.feeding import sampler_of
from lookonce.train.folder import RunFolder
from lookonce.train.judging import check_judged
from lookonce.train.labels import together
from lookonce.train.learner import Learner
from lookonce.train.log import Board
from lookonce.train.memory import check_memory, choose_batch
from lookonce.train.parts import NOTHING_JUDGED
from lookonce.train.pretrained import start_from
from lookonce.train.run import Run, options_of
from lookonce.train.settings import Settings
from lookonce.trees import read_choices, read_tree
from lookonce.wordtree import WordTree

RANDOM = "random"
JUDGED = 50                      # times in a run
FOLLOWING = ("poly", "sgdr")     # policies that know how long a run is
MOST_TREE = 1 << 26              # its bytes


@dataclass(frozen=True)
class Adaptation:
    """How a network of the zoo is fitted to the data, as `adapt` takes it; None as the cfg has it."""

    epochs: float | None = 100.0
    size: int | tuple[int, int] | None = None
    batch: int | Literal["auto"] = "auto"
    subdivisions: int | None = None
    anchors: AnchorChoice = "kmeans"
    recipe: Recipe = "modern"
    learning_rate: float | None = None
    multi_scale: bool = False
    processes: int = 1               # that share out the mini-batches, which therefore are a multiple of so many


def tree_of(given: Path | None, cfg: str | Path | None) -> WordTree | None:
    """The tree whose nodes are the classes that are learnt: the one given, or that of a cfg learnt as it stands.

    Raises DataError or CfgError.
    """
    if given is not None:
        return read_tree(given)
    return None if cfg is None else open_network(cfg).tree


def data_of(settings: Settings, tree: WordTree | None = None) -> TrainingData:
    """The data that settings name, checked; with a `tree` their classes are its nodes. Raises DataError."""
    skip = settings.bad == "skip"
    found = open_for_training(
        settings.data, split=settings.split, val_split=settings.val_split, val=settings.val,
        format=settings.format, names=settings.names, skip_bad=skip, seed=settings.seed,
    )  # fmt: skip
    if settings.also is None and tree is None:
        return found
    beside = None
    if settings.also is not None:
        beside = open_for_training(settings.also, val_split=NOTHING_JUDGED, skip_bad=skip, seed=settings.seed)
    choices = None
    if settings.choices is not None:
        if not files.exists(settings.choices):
            raise DataError(f"{settings.choices}: no such file of choices{files.near(Path(settings.choices))}")
        choices = read_choices(Path(settings.choices))
    return together(found, beside, tree, choices, settings.ratio)


def fitted(
    model: str | Path, data: TrainingData, how: Adaptation, device: torch.device | str = "cpu", seed: int = 0
) -> Network:
    """A network of the zoo, or a cfg, adapted to data. Raises CfgError or DataError."""
    network = open_network(model)
    check_kind(data, network)
    if how.learning_rate is not None and not (math.isfinite(how.learning_rate) and how.learning_rate > 0):
        raise CfgError(f"learning rate {how.learning_rate:g}: wanted a number above 0")
    network = _of_several_sizes(network, how.multi_scale)
    sized = with_size(network, how.size)
    batch, subdivisions = choose_batch(how.batch, sized, len(data.train), device)
    shared = range(subdivisions, batch + 1)
    subdivisions = next((n for n in shared if n % how.processes == 0 and batch % n == 0), subdivisions)
    cfg = adapt(
        network, data, epochs=how.epochs, size=how.size, batch=batch, subdivisions=how.subdivisions or subdivisions,
        anchors=how.anchors, recipe=how.recipe, learning_rate=how.learning_rate, seed=seed,
    )  # fmt: skip
    return Network.build(cfg)


def _of_several_sizes(network: Network, wanted: bool) -> Network:
    """The network that learns at inputs of several sizes, or at its own alone. Raises CfgError."""
    if wanted and any(isinstance(node.layer, Connected | Local) for node in network.nodes):
        raise CfgError(
            f"{network.cfg.path}: has a [connected] or [local] layer, whose weights are for one size: "
            "it cannot learn at several"
        )
    places = [node.index + 1 for node, _ in network.heads] or [0]
    sections = network.cfg.sections
    changes = {place: {"random": int(wanted)} for place in places if wanted or "random" in sections[place].options}
    return Network.build(network.cfg.with_changes(changes)) if changes else network


def as_it_stands(
    cfg: str | Path,
    pictures: int,
    *,
    epochs: float | None = None,
    size: int | tuple[int, int] | None = None,
    subdivisions: int | None = None,
) -> Network:
    """The network of a cfg that is learnt as it is, but for what is given. Raises CfgError."""
    network = with_size(open_network(cfg), size)
    changed: dict[str, object] = {}
    if epochs is not None:
        changed["max_batches"] = _batches(epochs, pictures, network)
    if subdivisions is not None:
        changed["subdivisions"] = subdivisions
    return Network.build(network.cfg.with_options(network.cfg.sections[0], **changed)) if changed else network


def _batches(epochs: float, pictures: int, network: Network) -> int:
    """Updates that see each picture so often. Raises CfgError."""
    if not (math.isfinite(epochs) and epochs > 0):
        raise CfgError(f"epochs={epochs:g}: wanted a number above 0")
    return math.ceil(epochs * pictures / network.options.batch)


def judge_every(network: Network, pictures: int) -> int:
    """The epochs between judgements: a fiftieth of all, or one."""
    return max(1, round(network.options.max_batches * network.options.batch / pictures / JUDGED))


def lasting(settings: Settings, judge_every: int = 1) -> Settings:
    """The same, with paths that hold in whatever folder the run goes on; judged so often."""
    places = ("data", "also", "val", "names", "choices", "split", "val_split")
    named = {name: getattr(settings, name) for name in places}
    paths = {name: str(Path(value).absolute()) for name, value in named.items() if value and files.exists(value)}
    return settings.changed({**paths, "judge_every": judge_every})


# ---------------------------------------------------------------------- a new run
def ready(
    settings: Settings,
    data: TrainingData,
    network: Network,
    *,
    pretrained: str | None = None,
    clear: bool = True,
    world: World | None = None,
) -> Model:
    """The model that a run begins with. With `clear` the pictures that its weights have seen before do not count.

    Raises CfgError, DataError or WeightsError, in one line, if the run could not make its first step, or could not be
    judged.
    """
    world, device = world or World(), torch.device(settings.device)
    check_suits(data, network)
    if network.options.max_batches < 1:
        raise CfgError(f"{network.cfg.path}: max_batches=0: there is nothing to learn; set it, or give --epochs")
    _check_batch(network)
    world.check(network.options.subdivisions)
    NetworkLoss(network)
    warn_of_ignored(network)
    if device.type == "cpu":
        check_memory(network, device)
    model = start_from(network, pretrained or RANDOM, seed=settings.seed, keep_seen=not clear, names=data.names)
    done, most = model.header.seen // network.options.batch, network.options.max_batches
    if done >= most:
        raise CfgError(
            f"{network.cfg.path}: max_batches={most:,}, and the weights have learnt {done:,} batches already; --clear "
            "forgets how many, or raise max_batches"
        )
    model = replace(model, names=data.names, resize=network.resize)
    if data.val is not None:
        check_judged(model, data.val, cast("Protocol | None", settings.protocol), data.judged)
    return _that_fits(model, settings, len(data.train), world) if device.type == "cuda" else model


def space_of(network: Network) -> int:
    """The bytes that a run's checkpoints and models take on the disk, one of each in the making."""
    options = network.options
    arrays = 2 + bool(options.adam) + bool(options.ema_alpha)
    floats = sum(entry.size for entry in network.entries())
    return 4 * floats * (3 * arrays + 5)


def start(
    folder: RunFolder,
    settings: Settings,
    data: TrainingData,
    model: Model,
    *,
    world: World | None = None,
    board: Board = "auto",
) -> Run:
    """A new run in a folder that is held, with a model that is `ready`. From now on it can be killed, and goes on.

    Raises DataError.
    """
    run = Run(folder, settings, data, model, world=world, board=board)
    if run.world.is_first:
        try:
            _record(folder, settings, data, model)
            write_lists(data, folder.path)
            run.keep()
        except BaseException:
            folder.give_up()
            raise
    return run


def _check_batch(network: Network) -> None:
    """Raise CfgError if batch norm would see a single value of a channel, of which there is no variance."""
    options = network.options
    if options.batch % options.subdivisions:
        raise CfgError(
            f"{network.cfg.path}: subdivisions={options.subdivisions} does not divide batch={options.batch}; wanted "
            "parts of one size"
        )
    mini = options.batch // options.subdivisions
    for node in network.nodes:
        planes = node.shape.height * node.shape.width
        if mini * planes == 1 and any(parameter.name == "mean" for parameter in node.parameters):
            raise CfgError(
                f"{network.cfg.path}:{node.line}: {node}: batch norm of one picture and one pixel has no variance; "
                "wanted mini-batches of at least 2 (batch / subdivisions)"
            )


def _that_fits(model: Model, settings: Settings, pictures: int, world: World) -> Model:
    """The model, or the same with smaller mini-batches if the largest do not fit into the GPU's memory."""
    while True:
        network = model.network
        sampler = sampler_of(network, pictures, settings.order, settings.seed)
        width, height = max(sampler.sizes, key=lambda size: size[0] * size[1])
        try:
            Learner(model, options_of(settings), world).rehearse(sampler.batch, width, height)
        except torch.OutOfMemoryError:
            options = network.options
            parts = 2 * options.subdivisions
            if options.batch % parts or options.batch // parts < 1:
                raise EngineError(
                    f"{network.cfg.path}: one picture of a batch does not fit into the GPU's memory; wanted a smaller "
                    "size, or a smaller network"
                ) from None
        else:
            return model
        cfg = network.cfg.with_options(network.cfg.sections[0], subdivisions=parts)
        model = replace(model, network=Network.build(cfg))
        torch.cuda.empty_cache()


# ---------------------------------------------------------------------- a run that goes on
def recorded(folder: RunFolder) -> tuple[Settings, Mapping[str, Any]]:
    """The settings in a run's folder, and all else that was recorded. Raises DataError."""
    if not folder.about.is_file():
        if not files.exists(folder.path):
            raise DataError(f"{folder.path}: no such folder, so no run to go on with{files.near(folder.path)}")
        raise DataError(
            f"{folder.path}: holds no {folder.about.name}: wanted the folder of a run, to go on with it"
        )
    facts = folder.read_facts()
    if not isinstance(facts.get("settings"), dict):
        raise DataError(f"{folder.about}: has no settings: is it a run's?")
    return Settings.from_json(facts["settings"], str(folder.about)), facts


def go_on(
    folder: RunFolder, settings: Settings, *, epochs: float | None = None, world: World | None = None,
    board: Board = "auto",
) -> tuple[Run, list[str]]:  # fmt: skip
    """The run in a folder at its last checkpoint, and what differs from before, a sentence each.

    `settings` are the recorded ones, but for what is another now, such as the device. With `epochs` it lasts so many in
    all. Raises DataError, CfgError or WeightsError.
    """
    _, facts = recorded(folder)
    network = Network.build(Cfg.read(folder.cfg, _place_of(folder)))
    data = data_of(settings, network.tree if settings.tree else None)
    said, most = [], network.options.max_batches
    if epochs is not None:
        batches = _batches(epochs, len(data.train), network)
        follows = ": the rate follows it" if network.options.policy in FOLLOWING else ""
        said.append(f"max_batches was {most:,} and is {batches:,}{follows}")
        network = Network.build(network.cfg.with_options(network.cfg.sections[0], max_batches=batches))
    check_suits(data, network)
    model = Model.random(network, settings.seed)
    model = replace(
        model, names=data.names, resize=facts["resize"], header=replace(model.header, seen=int(facts["seen"]))
    )
    run = Run(folder, settings, data, model, world=world, board=board)
    run.world.check(network.options.subdivisions)
    said += run.go_on()
    if epochs is not None and run.done:
        raise CfgError(f"--epochs {epochs:g}: the run in {folder.path} has learnt {run.epoch:.4g} already; wanted more")
    if epochs is not None and run.world.is_first:
        _record(folder, settings, data, model)
    return run, said


def _record(folder: RunFolder, settings: Settings, data: TrainingData, model: Model) -> None:
    """Write what a run is into its folder: settings, cfg, names, tree. Raises DataError."""
    folder.save_text(folder.cfg, model.network.cfg.to_bytes())
    folder.save_text(folder.names, "".join(f"{name}\n" for name in data.names))
    if (tree := model.network.tree) is not None:
        folder.save_text(folder.path / TREE, "\n".join(tree.to_lines()) + "\n")
    folder.save_facts({"settings": asdict(settings), "seen": model.header.seen, "resize": model.resize})


def _place_of(folder: RunFolder) -> Place | None:
    """Where the tree is that the cfg of a run names: in its folder."""
    path = folder.path / TREE
    if not path.exists():
        return None
    return Place(attached={"tree": files.read_bytes(path, MOST_TREE, DataError).decode("utf-8", "surrogateescape")})
