"""What is wrong with a command line, in one line that says what was meant."""

from __future__ import annotations

import difflib
import itertools
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
from typer.exceptions import TyperException

from lookonce import files
from lookonce.errors import LookonceError, nearest, shown

MOST_VERBS = 4                                  # that are named where more have an option
ALMOST = 0.9                                    # of 1: another verb's option that goes before what this one has


# What other programs call an option that is here under another name.
ELSEWHERE = {
    "--thresh": ("conf", "conf-thres", "conf-thresh", "confidence", "threshold", "score-thr"),
    "--nms": ("iou", "iou-thres", "iou-thresh", "nms-thresh"),
    "--size": ("imgsz", "img", "img-size", "image-size", "input-size"),
    "--pretrained": ("weights",),
    "--model": ("cfg", "config"),
    "--batch": ("batch-size",),
    "--lr": ("lr0", "learning-rate"),
}
MEANT = {f"--{word}": option for option, words in ELSEWHERE.items() for word in words}
SOURCES = ("--source", "--image", "--images", "--input", "--img-path")


class UsageError(LookonceError):
    """A command line that is read otherwise than it was meant."""


def explain(problem: TyperException, arguments: Sequence[str], app: typer.Typer) -> str:
    """What is wrong with a command line, with the nearest verb, option or value there is. Empty if help was shown."""
    format_message = getattr(problem, "format_message", None)
    text = str(format_message() if format_message is not None else problem)
    if not text:                                # without any argument the help was shown, and that is all
        return ""
    context = getattr(problem, "ctx", None)
    where = f"lookonce {_verb(arguments, app)}".strip() if context is None else str(context.command_path)
    if text.startswith("No such command"):
        return _no_verb(text.split("'")[1] if "'" in text else "", where, app)
    if hasattr(problem, "possibilities"):
        option = str(getattr(problem, "option_name", ""))
        return f"No such option: {_no_option(option, where, app)} `{where} --help` shows how"
    text = text.rstrip(".").replace("Value error, ", "")
    if found := re.search(r"'([^']*)' is not one of (.*)", text):
        text += nearest(found[1], re.findall(r"'([^']*)'", found[2]))
    elif (errors := getattr(problem.__cause__, "errors", None)) is not None:
        # Typer's values are checked by pydantic, which speaks of inputs and errors.
        text = re.sub(r"Input should be ([^,]*).*", r"wanted \1", text, flags=re.DOTALL)
        text += _found(str(errors()[0].get("input", "")), text)
    return f"{text}{'' if text.endswith('?') else ';'} `{where} --help` shows how"


def check_dashes(arguments: Sequence[str], app: typer.Typer) -> None:
    """Raises UsageError for an option with one dash that is written with two: `-model x` would be read as `-m odel`."""
    options = itertools.takewhile(lambda word: word != "--", arguments)
    odd = [word for word in options if re.fullmatch(r"-[a-z][a-z-]+(=.*)?", word, flags=re.DOTALL)]
    if not odd:
        return
    verbs, where = verbs_of(app), _verb(arguments, app)
    for word in odd:
        option = word.partition("=")[0]
        if f"-{option}" in verbs.get(where, ()):
            raise UsageError(f"No such option: {option}, did you mean -{option}? `lookonce {where} --help` shows how")


def verbs_of(app: typer.Typer) -> Mapping[str, tuple[str, ...]]:
    """Every verb as it is typed, `data check`, with its options; as the empty text what stands before a verb."""
    return dict(_walk(typer.main.get_command(app), ""))


def _walk(command: Any, path: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    for name, inside in getattr(command, "commands", {}).items():
        yield from _walk(inside, f"{path} {name}".strip())
    if not path or not hasattr(command, "commands") or command.invoke_without_command:
        options = [each for each in command.params if each.param_type_name == "option"]
        yield path, tuple(word for each in options for word in (*each.opts, *each.secondary_opts))


def _verb(arguments: Sequence[str], app: typer.Typer) -> str:
    """The verb that a command line begins with, as it is typed; empty if it is none."""
    verbs = verbs_of(app)
    return next((verb for verb in (" ".join(arguments[:2]), *arguments[:1]) if verb in verbs), "")


def _no_verb(word: str, where: str, app: typer.Typer) -> str:
    """A verb that is not there: the same in another group, the nearest of its own group, or of all."""
    group = where.removeprefix("lookonce").strip()
    last: dict[str, list[str]] = {str(each.name): [str(each.name)] for each in app.registered_groups}
    for verb in filter(None, verbs_of(app)):
        last.setdefault(verb.split()[-1], []).append(verb)
    ours = [short for short, verbs in last.items() if any(verb.startswith(f"{group} ") for verb in verbs)]
    near = difflib.get_close_matches(word[:64], ours if group and word not in last else [], n=1)
    near = near or difflib.get_close_matches(word[:64], last, n=1)
    meant = last[near[0]] if near else []
    meant = [verb for verb in meant if group and verb.startswith(f"{group} ")] or meant
    guess = f", did you mean {' or '.join(meant)}?" if meant else ";"
    if not group and files.exists(word) and not (meant and Path(word).is_dir()):      # `models` means model
        guess = f", did you mean `lookonce detect {shlex.quote(word)}`?"
    return f"no verb {shown(f'{group} {word}'.strip())!r}{guess} `{where} --help` shows them"


def _no_option(option: str, where: str, app: typer.Typer) -> str:
    """An option that this verb does not have: the verbs that have it, or the nearest.

    That is one of this verb's, unless another verb has almost the same.
    """
    verbs, here = verbs_of(app), where.removeprefix("lookonce").strip()
    if (meant := MEANT.get(option)) in verbs.get(here, ()):
        return f"{option}, did you mean {meant}?"
    if option in SOURCES and here in ("detect", "classify"):
        return f"{option}; pictures are named without an option, `lookonce {here} photo.jpg`;"
    having = [verb for verb, options in verbs.items() if option in options and verb]
    if having:
        some = having[: MOST_VERBS - 1] if len(having) > MOST_VERBS else having
        text = ", ".join(some) + (f" and {len(having) - len(some)} more" if len(having) > len(some) else "")
        return f"{option}, which is of {text}, not of {here or 'the program itself'};"
    every = [each for options in verbs.values() for each in options]
    close = difflib.get_close_matches(option[:64], every, n=1, cutoff=ALMOST)
    own = verbs.get(here, ())
    guess = nearest(option, own) if not close or close[0] in own else ""
    for verb, options in () if guess else verbs.items():
        among = [each for each in options if not close or each == close[0]]
        guess = guess or nearest(option, among).replace("?", f" of {verb}?" if verb else " before a verb?")
    return f"{shown(option)}{guess or ';'}"


def _found(value: str, text: str) -> str:
    """What was given, and what it may have meant."""
    said = f", found {shown(value)}"
    if re.search(r"equal to 1$", text) and re.fullmatch(r"\d+(\.\d+)?", value) and 1 < float(value) <= 100:
        said += f" ({value} % is {float(value) / 100:g})"
    return said
