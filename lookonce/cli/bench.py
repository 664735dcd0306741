"""lookonce bench: how fast a model runs here."""

from __future__ import annotations

import json
import sys
from enum import StrEnum
from typing import Annotated

import typer

from lookonce.cli import options
from lookonce.cli.options import OUTPUT, RUNNING


class EngineChoice(StrEnum):
    """Of what may be given several times typer takes an Enum, not a Literal."""

    openvino = "openvino"
    onnxruntime = "onnxruntime"


class PrecisionChoice(StrEnum):
    f32 = "f32"
    bf16 = "bf16"


def bench(
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
    from lookonce import zoo
    from lookonce.benchmark import measure
    from lookonce.engines import Precision

    pulled = zoo.pulled_weights(model) if model in zoo.networks() else None
    if weights is None and pulled is None and not model.endswith(".safetensors"):
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
