"""What a training run shows while it lasts: a table that changes, or lines where there is no terminal."""

from __future__ import annotations

import contextlib
import sys
import time
import warnings
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from lookonce.errors import shown
from lookonce.train.log import JudgedRow, NoteRow, Row, StepRow
from lookonce.train.page import duration, time_left

LINE_SECONDS = 30.0  # between lines about steps, where they do not replace each other
KEPT = 200  # steps by which the time left is told


class View:
    """Shows rows as they come, and warnings. A context. Where nothing can be shown any more, it goes on without."""

    def __init__(self, batches: int, epochs: float, *, quiet: bool = False) -> None:
        self._batches, self._epochs, self._quiet = batches, epochs, quiet
        self._steps: list[StepRow] = []
        self._judged: list[JudgedRow] = []
        self._said = time.monotonic()
        console = Console(stderr=True)
        self._live = Live(console=console, refresh_per_second=4) if console.is_terminal and not quiet else None
        self._warn = warnings.showwarning

    def __enter__(self) -> View:
        self._warn = warnings.showwarning
        warnings.showwarning = self._warned                 # type: ignore[assignment]
        if self._live is not None:
            self._live.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        warnings.showwarning = self._warn
        if self._live is not None:
            with contextlib.suppress(OSError):
                self._live.__exit__(kind, problem, trace)

    def show(self, row: Row) -> None:
        """Take in what happened."""
        if isinstance(row, StepRow):
            self._steps = [*self._steps[-KEPT:], row]
        elif isinstance(row, JudgedRow):
            self._judged.append(row)
        if self._quiet:
            return
        with contextlib.suppress(OSError):                  # the terminal or the reader has gone
            if self._live is not None:
                self._live.update(self._table())
                if isinstance(row, NoteRow):
                    self._live.console.print(Text(self._line(row)))
            elif not isinstance(row, StepRow) or time.monotonic() - self._said > LINE_SECONDS:
                self._said = time.monotonic()
                print(self._line(row), file=sys.stderr, flush=True)

    def _warned(self, *what: Any) -> None:
        with contextlib.suppress(OSError):
            self._warn(*what)

    def _line(self, row: Row) -> str:
        if isinstance(row, NoteRow):
            return shown(row.text, 2000)
        if isinstance(row, JudgedRow):
            return f"epoch {row.epoch:.4g}: {_figures(row)}"
        terms = ", ".join(f"{name} {value:.3g}" for name, value in row.terms.items())
        left = duration(time_left(self._steps, self._batches))
        return (
            f"step {row.number:,} of {self._batches:,}, epoch {row.epoch:.2f}: loss {row.total:.4g} ({terms}), "
            f"rate {row.rate:.3g}, {row.speed:.1f} pictures/s, {left} left"
        )

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        table.add_column(style="dim")
        table.add_column()
        if self._steps:
            row = self._steps[-1]
            done = f"{row.number:,} of {self._batches:,} ({row.number / max(1, self._batches):.0%})"
            table.add_row("step", f"{done}, epoch {row.epoch:.2f} of {self._epochs:.4g}")
            table.add_row("loss", f"{row.total:.4g}  " + "  ".join(f"{n} {v:.3g}" for n, v in row.terms.items()))
            table.add_row("as Darknet prints it", f"{row.printed:.4f}, {row.average:.4f} avg")
            table.add_row("rate", f"{row.rate:.6g}")
            table.add_row("pictures/s", f"{row.speed:.1f}, {row.waiting:.0%} of the time waiting for pictures")
            table.add_row("time left", duration(time_left(self._steps, self._batches)))
            table.add_row("memory", f"{row.memory / 1e9:.2f} GB")
        for judged in self._judged[-3:]:
            table.add_row(f"epoch {judged.epoch:.4g}", Text(_figures(judged), style="bold"))
        return table


def _figures(row: JudgedRow) -> str:
    return ", ".join(f"{name} {value:.4f}" for name, value in row.figures.items())
