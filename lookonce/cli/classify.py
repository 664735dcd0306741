"""lookonce classify: what a picture shows as a whole."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from lookonce.cli import options
from lookonce.cli.options import ANSWERS, OUTPUT
from lookonce.cli.reporter import Reporter
from lookonce.errors import shown

if TYPE_CHECKING:
    from lookonce.classifier import Answer


def classify(
    sources: options.Sources,
    model: options.ModelName = "darknet19",
    weights: options.Weights = None,
    names: options.Names = None,
    size: options.Size = None,
    top: Annotated[int, typer.Option(min=1, help="How many classes to name.", rich_help_panel=ANSWERS)] = 5,
    hier: Annotated[
        float | None,
        typer.Option("--hier", min=0, max=1, help="How likely a node of a tree must be to be sure of it.",
                     show_default=".5", rich_help_panel=ANSWERS),
    ] = None,
    resize: Annotated[
        Literal["auto", "letterbox", "stretch", "crop"],
        typer.Option(help="How pictures are fitted; crop cuts the middle out.", rich_help_panel=ANSWERS),
    ] = "auto",
    compat_darknet: options.DarknetCompat = False,
    engine: options.EngineName = "auto",
    precision: options.PrecisionName = "auto",
    threads: options.Threads = None,
    allow_nonfinite: options.AllowNonfinite = False,
    allow_paths: options.AllowPaths = False,
    strict: options.Strict = False,
    format: Annotated[
        Literal["table", "jsonl"], typer.Option(help="How answers are written.", rich_help_panel=OUTPUT)
    ] = "table",
    quiet: options.Quiet = False,
) -> int:
    """What pictures show as a whole, the likeliest class first; down a tree also what is sure, be it only an ancestor.

    lookonce classify dog.jpg -m darknet19

    lookonce classify photos/ -m my.cfg -w my.weights --names my.names --top 3 --format jsonl
    """
    from lookonce.classifier import Classifier
    from lookonce.sources import Reading

    opened = options.opened(model, weights, names, size, allow_paths, allow_nonfinite)
    classifier = Classifier(
        opened, engine=engine, precision=precision, threads=threads, hierarchy=hier, resize=resize,
        compat="darknet" if compat_darknet else None,
    )  # fmt: skip
    reporter = Reporter(quiet)
    reporter.say(str(classifier))
    options.mention_missing_names(opened, reporter)
    reading = Reading(sources, reporter.complain, upright=not classifier.runner.compat)
    for view in reading:
        probability = classifier.probabilities(view.picture)
        answers, sure = classifier.likeliest(probability, top), classifier.sure(probability)
        if format == "jsonl":
            frame = {} if view.frame is None else {"frame": view.frame}
            also = {} if sure is None else {"sure": _row(sure)}
            document = {"file": view.name, **frame, **also, "classes": [_row(one) for one in answers]}
            print(json.dumps(document, ensure_ascii=False), flush=True)
            continue
        print(shown(view.name, 4096) + (":" if view.frame is None else f" frame {view.frame}:"))
        if sure is not None:
            print(f"  sure: {_line(sure)}")
        for one in answers:
            print(f"  {_line(one)}", flush=True)
    return reading.exit_code


def _row(one: Answer) -> dict[str, Any]:
    return {**one._asdict(), "score": round(one.score, 6)}


def _line(one: Answer) -> str:
    way = f"  ({' > '.join(shown(name) for name in one.path)})" if len(one.path) > 1 else ""
    return f"{one.score:7.2%}  {shown(one.name)}{way}"
