"""What can go wrong, as one tree.

    LookonceError           the user's problem: one line that says file, place, found, wanted, next step
    ├── CfgError            a cfg, or what it declares
    ├── WeightsError        a weights file, or one that is not of this cfg
    ├── DataError           names, .data, tree, map and list files
    ├── InputError          a picture, a video, a camera
    ├── EngineError         a way to run that is missing or cannot do what was asked
    ├── DownloadError       a published file that could not be fetched whole
    ├── TranslationError    a command line of Darknet's that has no equivalent here
    └── CheckError          what was made is not what it should be, and was not kept

    LookonceWarning         accepted, but worth a look; `warnings.filterwarnings("error", category=LookonceWarning)`
                            makes each one an error, which is what `--strict` does
"""

from __future__ import annotations

import difflib
import sys
import warnings
from collections.abc import Iterable
from enum import IntEnum


class ExitCode(IntEnum):
    """What the command line returns."""

    OK = 0
    SOME_FAILED = 1             # something on the way; the rest is done and saved
    CANNOT = 2                  # the request cannot be served
    CHECK_FAILED = 3            # a check says no
    INTERRUPTED = 130           # by Ctrl-C or a termination signal; what was known by then is saved
    NOBODY_READS = 141          # who read the output has gone, as in `lookonce ... | head`


class LookonceError(Exception):
    """The request cannot be served as it was made. `exit_code` is what the command line returns."""

    exit_code = ExitCode.CANNOT


class CfgError(LookonceError):
    """A cfg that declares no network, or none that can be run."""


class WeightsError(LookonceError):
    """A weights file that is damaged, foreign, or of another cfg."""


class DataError(LookonceError):
    """A names, .data, tree, map or list file that does not hold what it should."""


class InputError(LookonceError):
    """One picture, video or camera that cannot be read. The others of a run go on."""


class EngineError(LookonceError):
    """An engine that is not installed, or that cannot run this network as asked."""


class DownloadError(LookonceError):
    """A published file that is out of reach, of the wrong length, or not what it was."""


class TranslationError(LookonceError):
    """A command line of Darknet's that has no equivalent here."""


class CheckError(LookonceError):
    """A check that was asked for, or that an export must pass, says no."""

    exit_code = ExitCode.CHECK_FAILED


class LookonceWarning(UserWarning):
    """Something was accepted that may not be meant."""


def warn(message: str) -> None:
    """Say `message` as a LookonceWarning, at the line outside this package that led here."""
    frame, level = sys._getframe(), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] == __name__.split(".")[0]:
        frame, level = frame.f_back, level + 1
    warnings.warn(message, LookonceWarning, stacklevel=level)


def nearest(word: str, known: Iterable[str]) -> str:
    """`, did you mean x?`, or nothing if no known word is close."""
    close = difflib.get_close_matches(word[:64], list(known), n=1)
    return f", did you mean {close[0]}?" if close else ""


def shown(text: str, most: int = 40) -> str:
    """`text` fit for one line of a message or table: at most so long, and with control characters escaped."""
    short = text if len(text) <= most else text[:most] + "..."
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "backslashreplace").decode() for c in short)
