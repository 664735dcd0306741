"""lookonce demo: what comes in the box, at work."""

from __future__ import annotations

import importlib.util
import sys
import time
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lookonce.cli import options
from lookonce.cli.options import OUTPUT
from lookonce.cli.reporter import Reporter

if TYPE_CHECKING:
    from lookonce.sources import View

PORTRAIT = ("mpl-data", "sample_data", "grace_hopper.jpg")           # in matplotlib, public domain
WARM_UP = 5                                                          # frames in which a camera finds its exposure
RUNS = 5


def demo(
    source: Annotated[
        str | None,
        typer.Argument(help="Your own picture, or a camera's number.", show_default="camera 0, or a portrait"),
    ] = None,
    camera: Annotated[
        bool, typer.Option(help="Take a frame of camera 0 if there is one.", rich_help_panel=options.RUNNING)
    ] = True,
    out: Annotated[
        Path, typer.Option("-o", "--out", help="Where the drawn picture goes.", rich_help_panel=OUTPUT)
    ] = Path("predictions.png"),
) -> int:
    """The detector in the box, at work: on a camera, or on a portrait.

    lookonce demo

    lookonce demo photo.jpg -o drawn.png
    """
    start = time.perf_counter()
    from lookonce import draw
    from lookonce.copies import is_a_copy
    from lookonce.detector import Detector
    from lookonce.errors import DataError
    from lookonce.model import open_model
    from lookonce.results import open_writer

    if out.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise DataError(f"-o {out}: wanted a name that ends in .png or .jpg")
    if out.exists() and not is_a_copy(out):
        raise DataError(f"-o {out}: is there already and was not drawn here; wanted another name")
    reporter = Reporter(quiet=False)
    view = _look(source, camera, reporter)
    detector = Detector(open_model(options.DEFAULT_MODEL))
    reporter.say(str(detector))
    found = detector(view.picture)
    first = time.perf_counter() - start
    with open_writer("table", None, sys.stdout, {}) as writer:
        writer.add(view.name if source else Path(view.name).name, found)
    draw.save(draw.draw(view.picture, found), out)
    times = []
    for _ in range(RUNS):
        begun = time.perf_counter()
        detector(view.picture)
        times.append(time.perf_counter() - begun)
    reporter.say(f"drawn: {out}")
    reporter.say(f"from the command to the boxes {first:.1f} s; once it runs, {1e3 * min(times):.0f} ms a picture")
    if not len(found):
        options.mention_weakness(reporter)
    reporter.say("next: lookonce detect photo.jpg --save drawn    your own pictures, folders, videos, cameras")
    reporter.say("      lookonce train --data FOLDER              your own classes; needs lookonce[train]")
    return 0


def _look(source: str | None, camera: bool, reporter: Reporter) -> View:
    """The picture to show it on. Raises InputError, or DataError if there is none."""
    from lookonce.errors import DataError, EngineError, InputError
    from lookonce.sources import Reading
    from lookonce.video.frames import is_live

    def first_of(name: str) -> View:
        troubles: list[str] = []
        views = list(islice(Reading([name], troubles.append), WARM_UP if is_live(name) else 1))
        if not views:
            raise InputError(troubles[0] if troubles else f"{name}: holds no picture")
        return views[-1]

    if source is not None:
        return first_of(source)
    if camera and _has_camera():
        try:
            return first_of("0")
        except (InputError, EngineError) as problem:
            reporter.say(f"no camera: {problem}; a portrait is taken")
    portrait = _portrait()
    if portrait is None:
        raise DataError(
            "no camera and no portrait here: give a picture, `lookonce demo photo.jpg`, or "
            "`pip install 'lookonce[judge]'`, whose matplotlib brings one"
        )
    return first_of(str(portrait))


def _has_camera() -> bool:
    """Whether it is worth asking for a camera: on Linux each is a file; elsewhere nothing tells but trying."""
    return Path("/dev/video0").exists() if sys.platform == "linux" else importlib.util.find_spec("av") is not None


def _portrait() -> Path | None:
    """The photograph that matplotlib brings, without importing it; None where it is not installed."""
    spec = importlib.util.find_spec("matplotlib")
    for folder in (spec.submodule_search_locations or ()) if spec is not None else ():
        path = Path(folder).joinpath(*PORTRAIT)
        if path.is_file():
            return path
    return None
