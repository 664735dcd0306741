"""lookonce detect: boxes in pictures, videos or a camera."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import Annotated, Literal

import typer

from lookonce.cli import options
from lookonce.cli.options import ANSWERS, OUTPUT
from lookonce.cli.reporter import Reporter

FormatName = Literal["table", "json", "jsonl", "csv", "coco", "voc", "darknet"]


def detect(
    sources: options.Sources,
    model: options.ModelName = options.DEFAULT_MODEL,
    weights: options.Weights = None,
    names: options.Names = None,
    size: options.Size = None,
    thresh: options.Threshold = None,
    nms: options.Nms = None,
    hier: options.Hierarchy = None,
    only: options.Only = None,
    depth: options.Depth = None,
    below: options.Below = None,
    agnostic: Annotated[
        bool, typer.Option("--agnostic", help="Let boxes of all classes suppress each other.", rich_help_panel=ANSWERS)
    ] = False,
    resize: options.Resize = "auto",
    compat_darknet: options.DarknetCompat = False,
    engine: options.EngineName = "auto",
    precision: options.PrecisionName = "auto",
    threads: options.Threads = None,
    allow_nonfinite: options.AllowNonfinite = False,
    allow_paths: options.AllowPaths = False,
    strict: options.Strict = False,
    save: Annotated[
        Path | None, typer.Option(help="Folder for copies with boxes drawn.", rich_help_panel=OUTPUT)
    ] = None,
    format: Annotated[FormatName, typer.Option(help="How answers are written.", rich_help_panel=OUTPUT)] = "table",
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="File for the answers; folder for voc and darknet.", rich_help_panel=OUTPUT),
    ] = None,
    quiet: options.Quiet = False,
) -> int:
    """Boxes in pictures, videos or a camera.

    lookonce detect dog.jpg -m yolov3-tiny

    lookonce detect photos/ -m my.cfg -w my.weights --names my.names --save drawn --format json -o boxes.json
    """
    from lookonce.copies import Copies
    from lookonce.detector import Detector
    from lookonce.errors import DataError, InputError
    from lookonce.results import open_writer
    from lookonce.sources import Reading

    if out == Path("-"):
        out = None
    if out is not None:
        options.refuse_to_replace(out, [*sources, model, weights, names])
        options.refuse_to_replace_others(out)
    opened = options.opened(model, weights, names, size, allow_paths, allow_nonfinite)
    detector = Detector(
        opened, engine=engine, precision=precision, threads=threads, threshold=thresh, nms=nms, hierarchy=hier,
        only=options.parse_classes("--only", only), depth=depth, below=options.parse_classes("--below", below),
        resize=resize, class_agnostic=agnostic, compat="darknet" if compat_darknet else None,
    )  # fmt: skip
    with contextlib.ExitStack() as stack:
        reporter = stack.enter_context(Reporter(quiet))
        reporter.say(str(detector))
        options.mention_missing_names(opened, reporter)
        writer = stack.enter_context(open_writer(format, out, sys.stdout, detector.settings()))
        copies = stack.enter_context(Copies(save)) if save is not None else None
        reading = Reading(sources, reporter.complain, upright=not detector.runner.compat)
        missed = False
        for view in reading:
            found = detector(view.picture)
            missed |= not len(found)
            try:
                writer.add(view.name, found, view.frame)
                if copies is not None:
                    copies.add(view, found)
            except (InputError, DataError) as problem:
                reading.fail(problem)
            reporter.progress(f"{reading.read} read: {view.name}")
    if copies is not None and copies.written:
        reporter.say(f"drawn: {copies.written[0]}" + (f" and {n - 1} more" if (n := len(copies.written)) > 1 else ""))
    if missed and format == "table" and model == options.DEFAULT_MODEL and weights is None:
        options.mention_weakness(reporter)
    return reading.exit_code
