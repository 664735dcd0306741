"""What the recipes share: the figures of a run are those of its end."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

from conftest import ROOT

from lookonce.train import log
from lookonce.train.log import JudgedRow

sys.path.insert(0, str(ROOT / "recipes"))
runs = importlib.import_module("runs")


def test_of_several_judgements_the_last_counts_and_not_the_best(tmp_path: Path) -> None:
    rows = [JudgedRow(10, 1.0, {"top-1": 0.6}, 60.0), JudgedRow(20, 2.0, {"top-1": 0.5}, 90.0)]
    (tmp_path / "bnn").mkdir()
    (tmp_path / "bnn" / "log.jsonl").write_bytes(b"".join(log.to_line(row) for row in rows))
    runs.write_results(tmp_path, ["real", "bnn"])
    assert json.loads((tmp_path / "results.json").read_text()) == {"bnn": {"epochs": 2.0, "top-1": 0.5, "minutes": 1.5}}


def test_a_run_that_was_not_judged_yet_has_no_figures(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_bytes(b"")
    assert runs.last_figures(tmp_path) == {}
