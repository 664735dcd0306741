"""The program `lookonce`: its verbs, its errors as one line each, its exit codes."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated, Any, TextIO

import typer
from typer.exceptions import TyperException

from lookonce import __version__, files
from lookonce.cli import bench, classify, darknet, data, demo, detect, doctor, judge, model, train, tree, usage
from lookonce.errors import ExitCode, LookonceError, LookonceWarning, shown

app = typer.Typer(
    name="lookonce",
    help="The networks of Darknet in Python: detect, classify, learn, judge, measure, convert.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
SEE, LEARN, JUDGE, SPEED, HELP = "See", "Learn", "Judge", "Models and speed", "Help"
app.command("detect", rich_help_panel=SEE)(detect.detect)
app.command("classify", rich_help_panel=SEE)(classify.classify)
app.command("demo", rich_help_panel=SEE)(demo.demo)
app.command("train", rich_help_panel=LEARN)(train.train)
app.command("val", rich_help_panel=JUDGE)(judge.val)
app.command("judge", rich_help_panel=JUDGE)(judge.judge)
app.command("rescore", rich_help_panel=JUDGE)(judge.rescore)
app.command("darknet", rich_help_panel=SPEED, context_settings=darknet.AS_IT_IS)(darknet.darknet)
app.command("doctor", rich_help_panel=HELP)(doctor.doctor)
app.add_typer(bench.app, name="bench", rich_help_panel=SPEED)
app.add_typer(model.app, name="model", rich_help_panel=SPEED)
app.add_typer(data.app, name="data", rich_help_panel=LEARN)
app.add_typer(tree.app, name="tree", rich_help_panel=LEARN)


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
            words = darknet.native(arguments)
            usage.check_dashes(words, app)
            code = app(words, prog_name="lookonce", standalone_mode=False)
            sys.stdout.flush()
            if code == ExitCode.INTERRUPTED:               # which is what typer makes of Ctrl-C
                return _say("interrupted", code)
            return int(code or ExitCode.OK)
        except LookonceError as problem:
            return _say(str(problem), problem.exit_code)
        except LookonceWarning as problem:
            return _say(f"{problem} (--strict makes this an error)", ExitCode.CANNOT)
        except TyperException as problem:
            return _say(usage.explain(problem, arguments, app), ExitCode.CANNOT)
        except (BrokenPipeError, SystemExit):
            # Whoever read our output has gone (typer makes an exit of that). Python would complain again at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return ExitCode.NOBODY_READS
        except (KeyboardInterrupt, typer.Abort):
            return _say("interrupted", ExitCode.INTERRUPTED)
        except OSError as problem:
            hint = ": make room, or give another place" if problem.errno in files.NO_ROOM else ""
            said = f"{problem.filename or 'output'}: {problem.strerror or problem}{hint}"
            return _say(said, ExitCode.SOME_FAILED)


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


def _show_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: TextIO | None = None,
    line: str | None = None,
) -> Any:  # fmt: skip
    print(f"lookonce: warning: {shown(str(message), 2000)}", file=sys.stderr)
