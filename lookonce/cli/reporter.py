"""What a verb says while it works, on stderr."""

from __future__ import annotations

import os
import sys
from types import TracebackType

from lookonce.errors import shown


class Reporter:
    """Says settings and progress unless it is told to be quiet; complaints always. Use it as a context to clear up."""

    def __init__(self, quiet: bool, *, live: bool | None = None) -> None:
        self._quiet = quiet
        # Where answers scroll by on the same terminal a changing line would only be in their way.
        self._live = not quiet and sys.stderr.isatty() and (live or not sys.stdout.isatty())
        self._shown = 0

    def say(self, message: str) -> None:
        """A line about what is being done."""
        if not self._quiet:
            self._clear()
            print(shown(message, 2000), file=sys.stderr)

    def complain(self, message: str) -> None:
        """A line about something that went wrong."""
        self._clear()
        print(f"lookonce: {shown(message, 2000)}", file=sys.stderr)

    def progress(self, message: str) -> None:
        """A line that the next one overwrites. Only where stderr is a terminal and answers go elsewhere."""
        if self._live:
            text = shown(message, max(20, os.get_terminal_size(sys.stderr.fileno()).columns - 4))
            print(f"\r{text:<{self._shown}}", end="", file=sys.stderr, flush=True)
            self._shown = len(text)

    def __enter__(self) -> Reporter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._clear()

    def _clear(self) -> None:
        if self._shown:
            print(f"\r{'':<{self._shown}}\r", end="", file=sys.stderr)
            self._shown = 0
