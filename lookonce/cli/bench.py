"""lookonce bench: how fast a model runs here, and what single bits save."""

from __future__ import annotations

import inspect
import json
import sys
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal

import typer

from lookonce.cli import options
from lookonce.cli.options import OUTPUT, RUNNING
from lookonce.errors import DataError, InputError, warn

app = typer.Typer(name="bench", invoke_without_command=True)


class EngineChoice(StrEnum):
    """Of what may be given several times typer takes an Enum, not a Literal."""

    openvino = "openvino"
    onnxruntime = "onnxruntime"
    binary = "binary"


class PrecisionChoice(StrEnum):
    f32 = "f32"
    bf16 = "bf16"


@app.callback()
def bench(
    context: typer.Context,
    model: options.ModelName = options.DEFAULT_MODEL,
    weights: options.Weights = None,
    size: options.Size = None,
    engine: Annotated[
        list[EngineChoice] | None,
        typer.Option(help="May be given several times.", show_default="all installed", rich_help_panel=RUNNING),
    ] = None,
    precision: Annotated[
        list[PrecisionChoice] | None,
        typer.Option(help="May be given several times.", show_default="all that run here", rich_help_panel=RUNNING),
    ] = None,
    threads: options.Threads = None,
    seconds: Annotated[
        float, typer.Option(min=0.1, max=3600, help="How long each is measured.", rich_help_panel=RUNNING)
    ] = 3.0,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.", rich_help_panel=OUTPUT)] = False,
    strict: options.Strict = False,
) -> int:
    """How fast a model runs on this machine, by engine and precision, measured in turn.

    lookonce bench -m yolov3-tiny

    lookonce bench -m yolov3 --size 416 --engine openvino --precision f32 --precision bf16 --json
    """
    if context.invoked_subcommand is not None:
        _refuse_options(context)
        return 0
    from lookonce import zoo
    from lookonce.benchmark import measure
    from lookonce.engines import Precision

    pulled = zoo.pulled_weights(model) if model in zoo.networks() else None
    if weights is None and pulled is None and zoo.shipped_model(model) is None and not model.endswith(".safetensors"):
        weights = "random"                  # its speed is the same
    opened = options.opened(model, weights, None, size, False, False)
    precisions: list[Precision] = [each.value for each in precision or []]
    figures = measure(opened, [each.value for each in engine or []], precisions, threads, seconds)
    if as_json:
        json.dump([figure.as_json() for figure in figures], sys.stdout, indent=1)
        print()
        return 0
    network = opened.network
    print(f"{opened.name}: {network.input}, {network.operations / 1e9:.2f} billion operations a picture")
    for figure in figures:
        print(f"  {figure}")
    return 0


def _refuse_options(context: typer.Context) -> None:
    """Raise InputError for an option that stands before `binary`, and would do nothing there."""
    given = [name for name in context.params if str(context.get_parameter_source(name)).endswith("COMMANDLINE")]
    if given:
        name, verb = given[0], context.invoked_subcommand
        theirs = inspect.signature(binary).parameters
        wanted = f"; wanted it after {verb}" if name in theirs else ", which does not have it; leave it out"
        raise InputError(f"--{name.removeprefix('as_')} stands before {verb}{wanted}")


@app.command("binary")
def binary(
    seconds: Annotated[
        float,
        typer.Option(min=0.01, max=60, help="How long each runs each convolution.", rich_help_panel=RUNNING),
    ] = 0.3,
    baseline: Annotated[
        Path | None,
        typer.Option(
            help="Library of im2col and gemm (native/CMakeLists.txt).", show_default="NumPy's product",
            rich_help_panel=RUNNING,
        ),
    ] = None,
    format: Annotated[Literal["table", "json"], typer.Option(rich_help_panel=OUTPUT)] = "table",
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="The figure: .png, or .html with its table.", rich_help_panel=OUTPUT),
    ] = None,
    strict: options.Strict = False,
) -> int:
    """What single bits save in memory and time: figure 4.4 of the thesis, measured here.

    lookonce bench binary -o savings.html

    lookonce bench binary --seconds 1 --format json
    """
    from lookonce import savings

    if out is not None and out.suffix.lower() not in (".png", ".html"):
        raise DataError(f"-o {out}: wanted a name that ends in .png or .html")
    found = savings.measure(seconds, baseline)
    if not found.is_compiled:
        warn(f"{found.kernel.reason}; its reference in NumPy is measured, which is no measure of the kernel")
    if out is not None:
        savings.draw(found, out)
    if format == "json":
        json.dump(found.as_json(), sys.stdout, indent=1)
        print()
        return 0
    for line in savings.lines(found):
        print(line)
    return 0
