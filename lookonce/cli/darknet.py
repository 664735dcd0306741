"""lookonce darknet: Darknet's own command lines."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence

import typer

AS_IT_IS = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": ["--help"]}


def native(arguments: Sequence[str]) -> list[str]:
    """The arguments to run for `arguments`: themselves, but for Darknet's, whose equivalent is shown once."""
    if list(arguments[:1]) != ["darknet"] or "--help" in arguments:
        return list(arguments)
    from lookonce.darknet.commandline import translate

    words = translate(arguments[1:])
    print(f"= lookonce {shlex.join(words)}", file=sys.stderr)
    return words


def darknet(context: typer.Context) -> None:
    """A command line of Darknet's, as it is; the native one is shown once.

    lookonce darknet detector test cfg/coco.data cfg/yolov3.cfg yolov3.weights data/dog.jpg -thresh .25

    lookonce darknet classifier predict cfg/imagenet1k.data cfg/darknet19.cfg darknet19.weights data/dog.jpg
    """
    # Only its help is ever asked for: `native` has replaced every other command line before it is parsed.
