"""What recipes that compare networks share: one run, learnt or gone on with, and what its judge said at the end."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lookonce.cli.main import main
from lookonce.train import log


def learn(folder: Path, *arguments: str) -> None:
    """`lookonce train` with these arguments in `folder`, or go on there. Ends the program if that fails."""
    begun = (folder / "run.json").exists()
    told = ["--resume", str(folder)] if begun else [*arguments, "--seed", "0", "-o", str(folder)]
    if code := main(["train", *told]):
        sys.exit(code)


def last_figures(folder: Path) -> dict[str, Any]:
    """What the judge said last of the run in `folder`; not the best of all judgements, which would be a choice."""
    rows = [row for row in log.read(folder / "log.jsonl") if isinstance(row, log.JudgedRow)]
    if not rows:
        return {}
    return {"epochs": round(rows[-1].epoch, 2), **rows[-1].figures, "minutes": round(rows[-1].seconds / 60, 1)}


def write_results(out: Path, names: Iterable[str]) -> None:
    """results.json in `out`: the figures of those of the runs that have some. They are printed too."""
    found = {name: last_figures(out / name) for name in names if (out / name / "log.jsonl").exists()}
    (out / "results.json").write_text(json.dumps(found, indent=1) + "\n")
    for name, figures in found.items():
        print(f"{name}: {figures}")
