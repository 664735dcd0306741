"""The options that verbs share, and the model that they name."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lookonce.errors import CfgError, DataError, WeightsError, nearest, shown

if TYPE_CHECKING:
    from lookonce.cli.reporter import Reporter
    from lookonce.model import Model

DEFAULT_MODEL = "lookonce-voc"        # zoo.DEFAULT, said here too so that no verb's help has to load the zoo
MODEL = "Which model"
DATASET = "Which dataset"
ANSWERS = "What counts"
RUNNING = "How it runs"
OUTPUT = "What comes out"

Sources = Annotated[
    list[str],
    typer.Argument(
        help="Pictures, folders, patterns, @list.txt, - (standard input), videos, a camera's number, "
        "rtsp:// or http:// streams.",
        metavar="SOURCE...",
    ),
]
ModelName = Annotated[
    str,
    typer.Option("-m", "--model", help="A network of the zoo, a cfg, or a .safetensors file.", rich_help_panel=MODEL),
]
Weights = Annotated[
    str | None,
    typer.Option(
        "-w", "--weights", help="Weights file; FILE:N takes its first N layers; 'random' tries a network without any.",
        rich_help_panel=MODEL,
    ),
]  # fmt: skip
Names = Annotated[
    str | None, typer.Option(help="File of class names, or coco, voc, imagenet, openimages.", rich_help_panel=MODEL)
]
Size = Annotated[
    str | None, typer.Option(help="Input size, N or WIDTHxHEIGHT pixels, in place of the cfg's.", rich_help_panel=MODEL)
]
Threshold = Annotated[
    float | None,
    typer.Option("--thresh", min=0, max=1, help="Least score.", show_default=".25", rich_help_panel=ANSWERS),
]
Nms = Annotated[
    float | None,
    typer.Option(
        min=0, max=1, help="Most overlap of two boxes of a class.", show_default=".45", rich_help_panel=ANSWERS
    ),
]
Hierarchy = Annotated[
    float | None,
    typer.Option("--hier", min=0, max=1, help="Least probability of a step down a tree.", show_default=".5",
                 rich_help_panel=ANSWERS),
]  # fmt: skip
Only = Annotated[
    str | None,
    typer.Option(help="Answer with these classes alone, of a tree each with all below it: animal,vehicle.",
                 rich_help_panel=ANSWERS),
]  # fmt: skip
Below = Annotated[
    str | None,
    typer.Option(help="Of the answers down a tree those at or below these: animal,vehicle.", rich_help_panel=ANSWERS),
]
Depth = Annotated[
    int | None,
    typer.Option(min=1, help="Most steps down a tree, 1 for its roots.", show_default="all", rich_help_panel=ANSWERS),
]
Resize = Annotated[
    Literal["auto", "letterbox", "stretch"],
    typer.Option(help="How pictures are fitted to the input; auto: as its makers did.", rich_help_panel=ANSWERS),
]
DarknetCompat = Annotated[
    bool,
    typer.Option("--compat-darknet", help="Reproduce Darknet's accidents too.", rich_help_panel=ANSWERS),
]
EngineName = Annotated[
    Literal["auto", "openvino", "onnxruntime", "binary"],
    typer.Option(help="binary: layers of xnor=1 on single bits.", rich_help_panel=RUNNING),
]
PrecisionName = Annotated[
    Literal["auto", "f32", "bf16"],
    typer.Option(
        help="Arithmetic; auto is f32. bf16 is faster where the processor has it, and moves scores.",
        rich_help_panel=RUNNING,
    ),
]
Threads = Annotated[int | None, typer.Option(min=1, help="Cores to use.", show_default="all", rich_help_panel=RUNNING)]
Split = Annotated[
    str | None,
    typer.Option(help="The part to take: train, val, ..., or a list, PATH.txt.", rich_help_panel=DATASET),
]
DataFormat = Annotated[
    str | None,
    typer.Option(
        "--format", help="The form of the dataset's files.", show_default="found out", rich_help_panel=DATASET
    ),
]
# Read by `main`, before any verb: warnings are made errors around all that a verb does.
Strict = Annotated[bool, typer.Option("--strict", help="Treat every warning as an error.", rich_help_panel=RUNNING)]
AllowNonfinite = Annotated[
    bool, typer.Option("--allow-nonfinite", help="Take weights that hold NaN or infinity.", rich_help_panel=MODEL)
]
AllowPaths = Annotated[
    bool, typer.Option("--allow-paths", help="Let a cfg name files outside its folder.", rich_help_panel=MODEL)
]
Quiet = Annotated[
    bool, typer.Option("-q", "--quiet", help="On stderr only warnings and errors.", rich_help_panel=OUTPUT)
]


def parse_classes(option: str, text: str | None) -> list[str] | None:
    """`animal,vehicle` as names. Raises DataError for none."""
    if text is None:
        return None
    names = list(dict.fromkeys(name.strip() for name in text.split(",") if name.strip()))
    if not names:
        raise DataError(f"{option}: wanted names of classes between commas")
    return names


def parse_size(text: str | None) -> int | tuple[int, int] | None:
    """`416` or `608x416` as numbers. Raises CfgError."""
    if text is None:
        return None
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isascii() and side.isdigit() and len(side) < 7 and int(side) for side in sides):
        raise CfgError(f"--size {text[:40]!r}: wanted a number of pixels, or WIDTHxHEIGHT")
    return int(sides[0]) if len(sides) == 1 else (int(sides[0]), int(sides[1]))


def refuse_to_replace(out: Path, inputs: Sequence[str | Path | None], option: str = "-o") -> None:
    """Raise DataError if what is written to `out` would replace what it comes from, or what looks like it.

    One name too few on a command line, and a photograph would become a table.
    """
    from lookonce import pictures
    from lookonce.video import frames

    suffixes = (*pictures.SUFFIXES, *frames.SUFFIXES, ".cfg", ".weights", ".safetensors", ".onnx", ".names", ".data")
    if out.suffix.lower() in suffixes:
        raise DataError(f"{option} {out}: is what a picture, video or model is called; wanted a name for answers")
    for given in inputs:
        # What follows a colon is how many layers of a weights file are taken.
        for path in () if given is None else (Path(given), Path(str(given).rpartition(":")[0])):
            if path.is_file() and out.exists() and path.samefile(out):
                raise DataError(f"{option} {out}: would replace {path}, which is read; wanted another name")


def refuse_to_replace_others(out: Path) -> None:
    """Raise DataError if answers written to `out` would replace a file that is neither empty nor earlier answers."""
    from lookonce import results

    if out.is_file() and not results.is_answers(out):
        raise DataError(f"-o {out}: is there already and holds no answers of an earlier run; wanted another name")


def check_names(names: str | None) -> None:
    """Raise DataError, with what is called alike, if a plain word is neither a file nor a list of names of ours."""
    from lookonce import files, zoo

    lists = zoo.name_lists()
    if names is None or names in lists or Path(names).suffix or Path(names).name != names or len(names) > 80:
        return                                              # whoever reads it says what is wrong
    if not files.exists(names) and not Path(names).is_symlink():
        guess = nearest(names, lists) or files.near(Path(names)) or f"; the lists are {', '.join(lists)}"
        raise DataError(f"--names {shown(names)}: is neither a file nor a list of names{guess}")


def opened(
    model: str, weights: str | None, names: str | None, size: str | None, allow_paths: bool, allow_nonfinite: bool
) -> Model:
    """The model that the options name."""
    from lookonce.model import open_model

    check_names(names)
    try:
        return open_model(
            model, weights, names, size=parse_size(size), allow_paths=allow_paths, allow_nonfinite=allow_nonfinite
        )
    except WeightsError as problem:
        if weights is None or model != DEFAULT_MODEL:
            raise
        raise WeightsError(f"{problem} ({model} is the model where -m names none: -m CFG)") from None


def mention_weakness(reporter: Reporter) -> None:
    """Say what may help where the detector in the box finds nothing."""
    reporter.say(
        f"{DEFAULT_MODEL} knows 20 classes and is weak: `lookonce detect PICTURE --thresh .1` shows what it is less "
        "sure of; `lookonce model pull yolov3-tiny` fetches a network of 80 classes, for -m yolov3-tiny"
    )


def mention_missing_names(model: Model, reporter: Reporter) -> None:
    """Say how classes get their names, if this model came without."""
    if not model.names and model.tree is None:
        count = model.network.classes
        reporter.say(f"no names: its {count} classes are numbered; --names FILE names them (or coco, voc)")
