"""lookonce train: learn the user's own data, or what a cfg of Darknet's says."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lookonce.cli import options
from lookonce.cli.options import DATASET, MODEL, OUTPUT, RUNNING
from lookonce.cli.reporter import Reporter
from lookonce.errors import CfgError, DataError, EngineError, ExitCode, LookonceError, shown, warn

if TYPE_CHECKING:
    from lookonce.train.distributed import World
    from lookonce.train.folder import RunFolder
    from lookonce.train.log import Board
    from lookonce.train.run import Run

LEARNING = "How it learns"
SHOWN_PROBLEMS = 5
MOST_BATCH = 1 << 20

# What may be given when a run goes on.
STILL = {"resume", "epochs", "device", "threads", "workers", "save_every", "skip_bad", "board", "strict", "quiet"}
# What fits a network to data, and where a cfg says it itself.
FITTING = {"batch": "batch=", "lr": "learning_rate=", "recipe": "its recipe", "anchors": "anchors=",
           "multi_scale": "random=", "model": "its layers", "tree": "tree="}  # fmt: skip
# What needs another option beside it.
BESIDE = {"ratio": "also", "choices": "tree"}

Cfg = Annotated[
    Path | None,
    typer.Argument(
        help="A cfg to learn as it stands, pictures drawn as by Darknet; without one a network is fitted to the data.",
        metavar="CFG",
    ),
]
Data = Annotated[
    Path | None,
    typer.Option(help="Pictures with truths: VOC, COCO, Darknet's .data, folders of classes.", rich_help_panel=DATASET),
]


class StoppedError(LookonceError):
    """A run that was asked to stop, and did."""

    exit_code = ExitCode.INTERRUPTED


def train(
    context: typer.Context,
    cfg: Cfg = None,
    data: Data = None,
    split: Annotated[
        str | None, typer.Option(help="The part to learn: train, train+val, ...", rich_help_panel=DATASET)
    ] = None,
    val_split: Annotated[
        str | None, typer.Option(help="The part to judge by, or none.", rich_help_panel=DATASET)
    ] = None,
    val: Annotated[Path | None, typer.Option(help="Another dataset to judge by.", rich_help_panel=DATASET)] = None,
    also: Annotated[
        Path | None,
        typer.Option(help="Pictures learnt beside these, with boxes or only classes.", rich_help_panel=DATASET),
    ] = None,
    ratio: Annotated[
        str, typer.Option(help="Pictures of --data to those of --also, of all that are drawn.", rich_help_panel=DATASET)
    ] = "1:4",
    tree: Annotated[
        Path | None,
        typer.Option(help="A WordTree whose nodes are the classes; see `lookonce tree`.", rich_help_panel=DATASET),
    ] = None,
    choices: Annotated[
        Path | None,
        typer.Option(help="Lines `name = id` for names that may be several nodes.", rich_help_panel=DATASET),
    ] = None,
    format: options.DataFormat = None,
    names: Annotated[
        str | None, typer.Option(help="The classes to learn, a file; else the data's.", rich_help_panel=DATASET)
    ] = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave bad pictures out, and go on.", rich_help_panel=DATASET)
    ] = False,
    model: Annotated[
        str, typer.Option("-m", "--model", help="A network of the zoo, or a cfg, to fit.", rich_help_panel=MODEL)
    ] = options.DEFAULT_MODEL,
    pretrained: Annotated[
        str | None,
        typer.Option(
            help="Weights to start from: a file, FILE:N for its first N layers, a network of the zoo.",
            rich_help_panel=MODEL,
        ),
    ] = None,
    size: options.Size = None,
    epochs: Annotated[
        float | None,
        typer.Option(min=0, help="How often to see each picture.", show_default="100", rich_help_panel=LEARNING),
    ] = None,
    batch: Annotated[str, typer.Option(help="Pictures a step: a number, or auto.", rich_help_panel=LEARNING)] = "auto",
    subdivisions: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Parts of a batch, each through the network alone.",
            show_default="as memory allows",
            rich_help_panel=LEARNING,
        ),
    ] = None,
    lr: Annotated[
        float | None, typer.Option(min=0, help="Learning rate.", show_default="the cfg's", rich_help_panel=LEARNING)
    ] = None,
    recipe: Annotated[
        Literal["modern", "thesis"],
        typer.Option(
            help="modern: cosine, averaged weights, mosaic, CIoU; thesis: as the cfg.", rich_help_panel=LEARNING
        ),
    ] = "modern",
    anchors: Annotated[
        Literal["kmeans", "keep"], typer.Option(help="Found in the data, or the cfg's.", rich_help_panel=LEARNING)
    ] = "kmeans",
    multi_scale: Annotated[
        bool, typer.Option("--multi-scale", help="Inputs of several sizes.", rich_help_panel=LEARNING)
    ] = False,
    seed: Annotated[int, typer.Option(min=0, help="All chance follows from it.", rich_help_panel=LEARNING)] = 0,
    clear: Annotated[
        bool,
        typer.Option(
            "--clear", help="Forget how many pictures the weights of a cfg have seen.", rich_help_panel=LEARNING
        ),
    ] = False,
    compat_darknet: Annotated[
        bool,
        typer.Option(
            "--compat-darknet", help="Learn with the accidents of Darknet's CPU code.", rich_help_panel=LEARNING
        ),
    ] = False,
    protocol: Annotated[
        Literal["auto", "voc07", "voc12", "coco", "open-images"],
        typer.Option(help="Whose rules judge; auto: of the dataset's form.", rich_help_panel=LEARNING),
    ] = "auto",
    judge_every: Annotated[
        int | None,
        typer.Option(
            min=1, help="Epochs between judgements.", show_default="a fiftieth of all", rich_help_panel=LEARNING
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1, auto.", rich_help_panel=RUNNING)] = "auto",
    precision: Annotated[
        Literal["auto", "f32", "bf16"],
        typer.Option(help="auto: bf16 on GPUs that have it, else f32.", rich_help_panel=RUNNING),
    ] = "auto",
    threads: options.Threads = None,
    workers: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Processes that make pictures ready.",
            show_default="0 beside a processor",
            rich_help_panel=RUNNING,
        ),
    ] = None,
    compiled: Annotated[
        bool,
        typer.Option(
            "--compile", help="Let torch compile the network (wants a C++ compiler).", rich_help_panel=RUNNING
        ),
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="The run's folder.", show_default="runs/NAME", rich_help_panel=OUTPUT),
    ] = None,
    save_every: Annotated[
        float, typer.Option(min=0, help="Seconds between checkpoints.", rich_help_panel=OUTPUT)
    ] = 60.0,
    board: Annotated[
        Literal["auto", "on", "off"],
        typer.Option("--tensorboard", help="auto: if it is installed.", rich_help_panel=OUTPUT),
    ] = "auto",
    resume: Annotated[
        Path | None,
        typer.Option(help="Go on with the run in this folder; --epochs: to so many.", rich_help_panel=OUTPUT),
    ] = None,
    strict: options.Strict = False,
    quiet: options.Quiet = False,
) -> int:
    """Learn from pictures with truths: a network fitted to your data, or a cfg as Darknet would learn it.

    lookonce train --data VOC2007 --pretrained lookonce-voc --epochs 100

    lookonce train my.cfg --data my.data --pretrained darknet53.conv.74

    lookonce train --data VOC2007 --also tiny-imagenet --tree my.tree --choices my.choices --pretrained lookonce-voc
    """
    if importlib.util.find_spec("torch") is None:
        raise EngineError("learning needs torch: `pip install 'lookonce[train]'` brings it")
    given = {name for name in context.params if str(context.get_parameter_source(name)).endswith("COMMANDLINE")}
    _check_given(given, cfg)
    from lookonce.train import starting
    from lookonce.train.distributed import join, leave
    from lookonce.train.folder import RunFolder
    from lookonce.train.labels import parse_ratio
    from lookonce.train.machine import prepare
    from lookonce.train.settings import Settings

    with contextlib.ExitStack() as stack:
        stack.callback(leave)
        if resume is not None:
            changes = {"device": device if "device" in given else None, "threads": threads, "workers": workers,
                       "bad": "skip" if skip_bad else None,
                       "save_seconds": save_every if "save_every" in given else None}  # fmt: skip
            return _go_on(stack, resume, changes, epochs, board, quiet)
        sides, pictures = options.parse_size(size), _batch(batch)
        machine = prepare(device, precision, threads)
        world = join(machine.device)
        quiet = quiet or not world.is_first
        reporter = stack.enter_context(Reporter(quiet))
        folder = None
        if out is not None and out.exists() and world.size == 1:
            folder = stack.enter_context(RunFolder(out))            # one that is refused is so before all the work
        settings = Settings(
            data=str(data), split=split, val_split=val_split, val=None if val is None else str(val), format=format,
            names=names, also=None if also is None else str(also), ratio=parse_ratio(ratio),
            choices=None if choices is None else str(choices), protocol=None if protocol == "auto" else protocol,
            order="epochs" if cfg is None else "drawn", seed=seed, save_seconds=save_every, threads=threads,
            workers=machine.spare_cores if workers is None else workers, device=str(machine.device),
            precision=machine.precision, compat=compat_darknet, compiled=compiled, bad="skip" if skip_bad else "stop",
        )  # fmt: skip
        words = starting.tree_of(tree, cfg)
        settings = settings.changed({"tree": words is not None})
        found = starting.data_of(settings, words)
        reporter.say(f"{data}: {found.rule}")
        _say_problems(found.left_out, reporter)
        if cfg is None:
            how = starting.Adaptation(
                100.0 if epochs is None else epochs, sides, pictures, subdivisions, anchors, recipe, lr, multi_scale,
                world.size,
            )
            network = starting.fitted(model, found, how, machine.device, seed)
            if world.size > 1 and subdivisions is None:
                parts = network.options.subdivisions
                reporter.say(f"subdivisions={parts}: {world.size} processes share out the mini-batches of each batch")
            if pretrained is None and model.endswith(".safetensors") and world.is_first:
                warn(f"{model}: its weights are not used: --pretrained {model} starts from them")
        else:
            network = starting.as_it_stands(cfg, len(found.train), epochs=epochs, size=sides, subdivisions=subdivisions)
        settings = starting.lasting(settings, judge_every or starting.judge_every(network, len(found.train)))
        clear = clear or cfg is None
        first = starting.ready(settings, found, network, pretrained=pretrained, clear=clear, world=world)
        name = f"{Path(network.cfg.path).stem}-{found.train.path.absolute().stem}".lstrip(".")
        folder = folder or _new_folder(stack, world, out, name, starting.space_of(network))
        if folder is None:
            return ExitCode.CANNOT
        return _learn(starting.start(folder, settings, found, first, world=world, board=board), reporter, quiet)


def _new_folder(
    stack: contextlib.ExitStack, world: World, out: Path | None, name: str, needed: int
) -> RunFolder | None:
    """The folder that the first process takes, for all of them; None for the others if it cannot. Raises DataError."""
    from lookonce.train.folder import RunFolder

    if not world.is_first:
        path = world.share()
        return RunFolder(Path(path), resume=True) if path else None
    try:
        folder = RunFolder(out, needed=needed) if out is not None else RunFolder.fresh(name, needed=needed)
        stack.enter_context(folder)
    except LookonceError:
        world.share()                                               # the others wait for it
        raise
    world.share(str(folder.path))
    return folder


def _go_on(
    stack: contextlib.ExitStack, path: Path, changes: Mapping[str, object], epochs: float | None, board: Board,
    quiet: bool,
) -> int:  # fmt: skip
    """Learn on in the folder of a run."""
    from lookonce.train import starting
    from lookonce.train.distributed import join
    from lookonce.train.folder import RunFolder
    from lookonce.train.machine import prepare

    folder = RunFolder(path, resume=True)
    settings = starting.recorded(folder)[0].changed(changes)
    machine = prepare(settings.device, settings.precision, settings.threads)
    world = join(machine.device)
    quiet = quiet or not world.is_first
    reporter = stack.enter_context(Reporter(quiet))
    if world.is_first:
        stack.enter_context(folder)
    settings = settings.changed({"device": str(machine.device)})
    run, said = starting.go_on(folder, settings, epochs=epochs, world=world, board=board)
    for text in said if world.is_first else ():
        warn(text)
    if run.finished:
        reporter.say(
            f"{path}: nothing is left to do: all {run.batches:,} steps are made, the last models are there; --epochs N "
            "goes on to more"
        )
        return ExitCode.OK
    reporter.say(f"{path}: goes on after step {run.learner.number:,}")
    return _learn(run, reporter, quiet)


def _check_given(given: set[str], cfg: Path | None) -> None:
    """Raise LookonceError for options that do not go together."""
    if ("data" in given) == ("resume" in given):
        raise DataError("wanted --data with what is to be learnt, or --resume with the folder of a run")
    if "resume" in given:
        fixed = sorted(given - STILL)
        if fixed:
            word = "CFG" if fixed[0] == "cfg" else f"--{fixed[0].replace('_', '-')}"
            raise DataError(
                f"--resume: goes on as the run was begun and takes no {word}: only --epochs, --skip-bad, --save-every, "
                "--workers, --threads and --device may be others now"
            )
    for name, other in BESIDE.items():
        if name in given and other not in given and not (other == "tree" and cfg is not None):
            raise DataError(f"--{name}: says nothing without --{other}; give both, or neither")
    if cfg is not None:
        for name, key in FITTING.items():
            if name in given:
                raise CfgError(
                    f"--{name.replace('_', '-')}: a cfg that is learnt as it stands says {key} itself; "
                    f"-m {cfg} fits it to the data"
                )


def _learn(run: Run, reporter: Reporter, quiet: bool) -> int:
    """Learn to the end, showing how it goes; then the figures, and what to do with them."""
    from lookonce.cli.live import View
    from lookonce.train.stopping import StopOnSignal

    network, settings = run.model.network, run.settings
    epochs = run.batches * run.options.batch / len(run.data.train)
    reporter.say(
        f"{network.cfg.path}: {network.input.width} x {network.input.height}, {network.resize}, batch "
        f"{run.options.batch} in {run.options.subdivisions}, {run.batches:,} "
        f"step{'s' if run.batches > 1 else ''} ({epochs:.4g} epochs), "
        f"{settings.device} {settings.precision}; log, page and models in {run.folder.path}"
    )
    with StopOnSignal() as stop, View(run.batches, epochs, quiet=quiet) as view:
        for row in run.rows(stop):
            view.show(row)
    if run.stopped:
        where = f"after step {run.learner.number:,} of {run.batches:,}"
        said = f"stopped and saved {where}; `lookonce train --resume {run.folder.path}` goes on"
        raise StoppedError(said if run.world.is_first else "")
    if not run.world.is_first:
        return ExitCode.OK
    best = run.folder.best if run.best is not None else run.folder.last
    verb = "detect" if network.kind == "detector" else "classify"
    with contextlib.suppress(OSError):                          # all is done and saved, though nobody reads it
        reporter.say(f"try it: lookonce {verb} PICTURE -m {best}")
    if run.best is not None:
        print(", ".join(f"{name} {value:.4f}" for name, value in run.best.figures.items()))
    return ExitCode.OK


def _batch(text: str) -> int | Literal["auto"]:
    if text == "auto":
        return "auto"
    if not (text.isascii() and text.isdigit() and len(text) < 9 and 0 < int(text) <= MOST_BATCH):
        raise CfgError(f"--batch {shown(text)}: wanted a number of pictures from 1 to {MOST_BATCH:,}, or auto")
    return int(text)


def _say_problems(problems: tuple[object, ...], reporter: Reporter) -> None:
    for problem in problems[:SHOWN_PROBLEMS]:
        reporter.say(f"left out: {problem}")
    if len(problems) > SHOWN_PROBLEMS:
        reporter.say(f"and {len(problems) - SHOWN_PROBLEMS:,} more, all in left-out.txt of the run's folder")
