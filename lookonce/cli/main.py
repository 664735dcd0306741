"""The program `lookonce`: its verbs, its errors as one line each, its exit codes."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Sequence
from typing import Annotated, Any, TextIO

import typer
from typer.exceptions import TyperException

from lookonce import __version__
from lookonce.cli import bench, classify, darknet, detect, model
from lookonce.errors import LookonceError, LookonceWarning, nearest, shown

OK, SOME_FAILED, CANNOT, CHECK_FAILED, INTERRUPTED = 0, 1, 2, 3, 130

app = typer.Typer(
    name="lookonce",
    help="The networks of Darknet in Python: detect, classify, measure, convert.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
)
app.command("detect")(detect.detect)
app.command("classify")(classify.classify)
app.command("bench")(bench.bench)
app.add_typer(model.app, name="model")
app.command("darknet", context_settings=darknet.AS_IT_IS)(darknet.darknet)


@app.callback()
def options(
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
) -> None:
    if version:
        print(f"lookonce {__version__}")
        raise typer.Exit


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line and return its exit code.

    0 done; 1 something failed on the way and the rest was done; 2 the request cannot be served; 3 a check says no;
    130 interrupted.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        warnings.simplefilter("error" if "--strict" in arguments else "always", LookonceWarning)
        warnings.showwarning = _show_warning
        try:
            code = app(darknet.native(arguments), prog_name="lookonce", standalone_mode=False)
            sys.stdout.flush()
            return int(code or OK)
        except LookonceError as problem:
            return _say(str(problem), problem.exit_code)
        except LookonceWarning as problem:
            return _say(f"{problem} (--strict makes this an error)", CANNOT)
        except TyperException as problem:
            return _say(_usage(problem), CANNOT)
        except BrokenPipeError:
            # Whoever read our output has gone: `lookonce ... | head`. Python would complain again at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return SOME_FAILED
        except (KeyboardInterrupt, typer.Abort):
            return _say("interrupted", INTERRUPTED)
        except OSError as problem:
            where = f"{problem.filename}: " if problem.filename else ""
            return _say(f"{where}{problem.strerror or problem}", SOME_FAILED)


def run() -> None:
    """The entry point of the installed program."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")            # type: ignore[union-attr]
    sys.exit(main())


def _say(message: str, code: int) -> int:
    print(f"lookonce: {shown(message, 2000)}", file=sys.stderr)
    return code


def _usage(problem: TyperException) -> str:
    """What is wrong with a command line, with the nearest verb if it names none."""
    format_message = getattr(problem, "format_message", None)
    text = str(format_message() if format_message is not None else problem)
    if text.startswith("No such command"):
        word = text.split("'")[1] if "'" in text else ""
        verbs = [command.name or "" for command in app.registered_commands] + ["model"]
        verbs += [command.name or "" for command in model.app.registered_commands]
        return f"no verb {word!r}{nearest(word, verbs)}; `lookonce --help` shows them"
    context = getattr(problem, "ctx", None)
    where = context.command_path if context is not None else "lookonce"
    return f"{text.rstrip('.')}; `{where} --help` shows how"


def _show_warning(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, file: TextIO | None = None,
    line: str | None = None,
) -> Any:  # fmt: skip
    print(f"lookonce: warning: {shown(str(message), 2000)}", file=sys.stderr)
