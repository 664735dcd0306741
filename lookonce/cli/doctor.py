"""lookonce doctor: what is here, and whether it works."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lookonce.cli.options import OUTPUT
from lookonce.errors import ExitCode, shown

if TYPE_CHECKING:
    from lookonce.surroundings import Cores, Fetched, Kernel, Memory, Surroundings, Trial

BUILD = "pip install --force-reinstall --no-deps ."


def doctor(
    format: Annotated[
        Literal["table", "json"], typer.Option(help="How it is written.", rich_help_panel=OUTPUT)
    ] = "table",
) -> int:
    """What is installed, what this machine has, and whether detection works. Exit code 3 if it does not.

    lookonce doctor

    lookonce doctor --format json
    """
    from lookonce.surroundings import examine

    found = examine()
    if format == "json":
        print(json.dumps(found.json(), indent=1, ensure_ascii=False))
    else:
        for name, text in _rows(found):
            print(f"{name:<12} {shown(text, 1000)}".rstrip())
    return ExitCode.OK if found.works else ExitCode.CHECK_FAILED


def _rows(found: Surroundings) -> list[tuple[str, str]]:
    """What is said, a name and a text a line."""
    from lookonce.surroundings import ENGINES

    features = found.processor.features
    libraries = [f"{name} {v or 'MISSING'}" for name, v in found.libraries.items() if v or name not in ENGINES]
    rows = [
        ("lookonce", f"{found.lookonce}, {found.place}"),
        ("python", found.python),
        ("system", found.platform),
        ("processor", found.processor.name or "unknown"),
        ("", "unknown what it can" if features is None else ", ".join(features) or "none of what makes networks fast"),
        ("cores", _cores(found.cores)),
        ("memory", _memory(found.memory)),
        ("weights", _weights(found.fetched)),
        ("libraries", ", ".join(libraries)),
    ]
    for number, part in enumerate(found.parts):
        there = ", ".join(f"{name} {is_there}" for name, is_there in part.libraries.items() if is_there)
        text = there if not part.missing else f"{', '.join(part.missing)} missing: `{part.pip}` for {part.purpose}"
        rows.append(("parts" if number == 0 else "", f"{part.name:<12} {text}"))
    rows.append(("single bits", _kernel(found.kernel)))
    rows += [("engine", _trial(trial, found.auto)) for trial in found.trials]
    return [*rows, ("detection", _verdict(found))]


def _cores(found: Cores) -> str:
    text = f"{found.allowed or 'unknown'} of {found.machine or 'unknown'} may be used"
    return text if found.quota is None else f"{text}, {found.quota:g} at a time by the control group"


def _memory(found: Memory) -> str:
    if found.total is None or found.free is None:
        return "unknown"
    return f"{found.total / 1e9:.1f} GB, {found.free / 1e9:.1f} GB may be taken"


def _weights(found: Fetched) -> str:
    room = "" if found.free is None else f", {found.free / 1e9:,.1f} GB free"
    state = "can be written" if found.problem is None else f"NOT usable, LOOKONCE_HOME names another: {found.problem}"
    return f"{found.folder}: {state}{room}; fetched: {', '.join(found.files) or 'nothing yet'}"


def _kernel(kernel: Kernel) -> str:
    if kernel.path is None:
        return f"FAIL: {kernel.reason}"
    if kernel.compiled:
        return f"by the kernel, {kernel.path}: {kernel.reason}"
    return f"by NumPy, slowly: {kernel.reason}; with a C++ compiler `{BUILD}`, where its source lies, builds it"


def _trial(trial: Trial, auto: str | None) -> str:
    name = f"{trial.engine} {trial.precision}" + (" (auto)" if (trial.engine, trial.precision) == (auto, "f32") else "")
    if trial.milliseconds is None:
        return f"{name}: FAILS: {trial.problem}"
    return f"{name}: a tiny network in {trial.milliseconds:.2f} ms, its numbers right"


def _verdict(found: Surroundings) -> str:
    if found.works:
        return f"works, by {found.auto}"
    others = sorted({trial.engine for trial in found.trials if trial.problem is None})
    if found.auto is None:
        return "does NOT work: no engine is installed: `pip install openvino` or `pip install onnxruntime` brings one"
    hint = f"`--engine {others[0]}` works" if others else f"`pip install --force-reinstall {found.auto}` may mend it"
    return f"does NOT work: {found.auto} fails: {hint}"
