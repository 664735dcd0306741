"""The options that verbs share, and the model that they name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lookonce.errors import CfgError

if TYPE_CHECKING:
    from lookonce.model import Model

MODEL = "Which model"
ANSWERS = "What counts"
RUNNING = "How it runs"
OUTPUT = "What comes out"

Sources = Annotated[
    list[str],
    typer.Argument(
        help="Pictures, folders, patterns, @list.txt, - (standard input), videos, a camera's number, rtsp:// or http://.",
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
    float | None, typer.Option("--thresh", min=0, max=1, help="Least score. [default: .25]", rich_help_panel=ANSWERS)
]
Nms = Annotated[
    float | None,
    typer.Option(min=0, max=1, help="Most overlap of two boxes of a class. [default: .45]", rich_help_panel=ANSWERS),
]
Hierarchy = Annotated[
    float | None,
    typer.Option("--hier", min=0, max=1, help="Least probability of a step down a tree. [default: .5]",
                 rich_help_panel=ANSWERS),
]  # fmt: skip
Resize = Annotated[
    Literal["auto", "letterbox", "stretch"],
    typer.Option(help="How pictures are fitted to the input; auto: as its makers did.", rich_help_panel=ANSWERS),
]
DarknetCompat = Annotated[
    bool,
    typer.Option("--compat-darknet", help="Reproduce Darknet's accidents too.", rich_help_panel=ANSWERS),
]
EngineName = Annotated[Literal["auto", "openvino", "onnxruntime"], typer.Option(rich_help_panel=RUNNING)]
PrecisionName = Annotated[
    Literal["auto", "f32", "bf16"],
    typer.Option(help="Arithmetic; auto is f32. bf16 is twice as fast and moves scores.", rich_help_panel=RUNNING),
]
Threads = Annotated[int | None, typer.Option(min=1, help="Cores to use. [default: all]", rich_help_panel=RUNNING)]
Strict = Annotated[bool, typer.Option("--strict", help="Treat every warning as an error.", rich_help_panel=RUNNING)]
AllowNonfinite = Annotated[
    bool, typer.Option("--allow-nonfinite", help="Take weights that hold NaN or infinity.", rich_help_panel=MODEL)
]
AllowPaths = Annotated[
    bool, typer.Option("--allow-paths", help="Let a cfg name files outside its folder.", rich_help_panel=MODEL)
]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Say nothing on stderr but errors.", rich_help_panel=OUTPUT)]


def parse_size(text: str | None) -> int | tuple[int, int] | None:
    """`416` or `608x416` as numbers. Raises CfgError."""
    if text is None:
        return None
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isascii() and side.isdigit() and len(side) < 7 and int(side) for side in sides):
        raise CfgError(f"--size {text[:40]!r}: wanted a number of pixels, or WIDTHxHEIGHT")
    return int(sides[0]) if len(sides) == 1 else (int(sides[0]), int(sides[1]))


def opened(
    model: str, weights: str | None, names: str | None, size: str | None, allow_paths: bool, allow_nonfinite: bool
) -> Model:
    """The model that the options name."""
    from lookonce.model import open_model

    return open_model(
        model, weights, names, size=parse_size(size), allow_paths=allow_paths, allow_nonfinite=allow_nonfinite
    )
