"""The program `lookonce`: its verbs, its errors as one line each, its exit codes."""

from __future__ import annotations

import itertools
import os
import re
import signal
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated, Any, TextIO

import typer
from typer.exceptions import TyperException

from lookonce import __version__
from lookonce.cli import bench, classify, darknet, data, detect, judge, model, train
from lookonce.errors import ExitCode, LookonceError, LookonceWarning, nearest, shown

app = typer.Typer(
    name="lookonce",
    help="The networks of Darknet in Python: detect, classify, learn, judge, measure, convert.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
app.command("detect")(detect.detect)
app.command("classify")(classify.classify)
app.command("train")(train.train)
app.command("val")(judge.val)
app.command("judge")(judge.judge)
app.command("rescore")(judge.rescore)
app.command("bench")(bench.bench)
app.command("darknet", context_settings=darknet.AS_IT_IS)(darknet.darknet)
GROUPS = {"model": model.app, "data": data.app}
for _name, _group in GROUPS.items():
    app.add_typer(_group, name=_name)


def _print_version(asked: bool) -> None:
    if asked:
        print(f"lookonce {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """The options that stand before a verb."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its ExitCode."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error" if "--strict" in arguments else "always", LookonceWarning)
        warnings.showwarning = _show_warning
        try:
            code = app(darknet.native(arguments), prog_name="lookonce", standalone_mode=False)
            sys.stdout.flush()
            if code == ExitCode.INTERRUPTED:               # which is what typer makes of Ctrl-C
                return _say("interrupted", code)
            return int(code or ExitCode.OK)
        except LookonceError as problem:
            return _say(str(problem), problem.exit_code)
        except LookonceWarning as problem:
            return _say(f"{problem} (--strict makes this an error)", ExitCode.CANNOT)
        except TyperException as problem:
            return _say(_usage(problem, arguments), ExitCode.CANNOT)
        except (BrokenPipeError, SystemExit):
            # Whoever read our output has gone (typer makes an exit of that). Python would complain again at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return ExitCode.NOBODY_READS
        except (KeyboardInterrupt, typer.Abort):
            return _say("interrupted", ExitCode.INTERRUPTED)
        except OSError as problem:
            return _say(f"{problem.filename or 'output'}: {problem.strerror or problem}", ExitCode.SOME_FAILED)


def run() -> None:
    """The entry point of the installed program."""
    # `timeout`, containers and services end a program by this signal: what is known by then is saved, as by Ctrl-C.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")            # type: ignore[union-attr]
    sys.exit(main())


def _say(message: str, code: int) -> int:
    if message:
        print(f"lookonce: {shown(message, 2000)}", file=sys.stderr)
    return code


def _usage(problem: TyperException, arguments: Sequence[str]) -> str:
    """What is wrong with a command line, with the nearest verb if it names none."""
    format_message = getattr(problem, "format_message", None)
    text = str(format_message() if format_message is not None else problem)
    if not text:                                            # without any argument the help was shown, and that is all
        return ""
    if text.startswith("No such command"):
        word = text.split("'")[1] if "'" in text else ""
        guess = nearest(word, [*(command.name or "" for command in app.registered_commands), *GROUPS])
        for name, group in () if guess else GROUPS.items():
            inside = nearest(word, (command.name or "" for command in group.registered_commands))
            guess = guess or inside.replace("mean ", f"mean {name} ")
        return f"no verb {word!r}{guess or ';'} `lookonce --help` shows them"
    # Typer's values are checked by pydantic, which speaks of inputs and errors.
    text = re.sub(r"Input should be ([^,]*).*", r"wanted \1", text).replace("Value error, ", "")
    deep = 2 if arguments and arguments[0] in GROUPS else 1
    verb = itertools.takewhile(lambda word: not word.startswith("-"), arguments[:deep])
    where = " ".join(["lookonce", *verb])
    return f"{text.rstrip('.')}; `{where} --help` shows how"


def _show_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: TextIO | None = None,
    line: str | None = None,
) -> Any:  # fmt: skip
    print(f"lookonce: warning: {shown(str(message), 2000)}", file=sys.stderr)
