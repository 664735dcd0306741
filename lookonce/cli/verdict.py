"""What the verbs that judge have in common: their options, and what they print, write and return."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

import typer

from lookonce.cli.options import DATASET, OUTPUT
from lookonce.cli.reporter import Reporter
from lookonce.errors import DataError, EngineError, ExitCode, shown

if TYPE_CHECKING:
    from lookonce.evaluate.columns import Answers
    from lookonce.exam import Exam, Judgement

JUDGING = "How it is judged"

Data = Annotated[
    Path,
    typer.Option(
        help="The dataset: a VOC folder, COCO JSON, .data, a list, folders of classes.", rich_help_panel=DATASET
    ),
]
ProtocolName = Annotated[
    Literal["auto", "voc07", "voc12", "coco", "open-images"],
    typer.Option(help="Whose rules; auto: of the dataset's form.", rich_help_panel=JUDGING),
]
Map = Annotated[
    Path | None,
    typer.Option(
        "--map", help="File of lines MODEL'S NAME = DATA'S NAME, for classes of other names.", rich_help_panel=JUDGING
    ),
]
Similar = Annotated[
    Path | None,
    typer.Option(
        help="File of similar classes for --errors, a group a line, names between commas.",
        show_default="VOC's, COCO's",
        rich_help_panel=JUDGING,
    ),
]
Errors = Annotated[
    bool, typer.Option("--errors", help="The kinds of errors of each class's top answers.", rich_help_panel=OUTPUT)
]
ReportFolder = Annotated[
    Path | None,
    typer.Option("--report", help="Folder for a page with all figures and pictures.", rich_help_panel=OUTPUT),
]
Against = Annotated[
    Path | None,
    typer.Option(help="Results of another model on the same data, to compare with.", rich_help_panel=OUTPUT),
]
LeastMap = Annotated[
    float | None, typer.Option("--min-map", help="Exit with 3 if the main figure is lower.", rich_help_panel=OUTPUT)
]
AsJson = Annotated[bool, typer.Option("--json", help="Figures as one JSON document.", rich_help_panel=OUTPUT)]


PAGE = "report.html"
OURS = b'name="generator" content="lookonce"'


class Asked(NamedTuple):
    """What is wanted beside the figures."""

    errors: bool
    similar: Path | None
    report: Path | None
    against: Path | None
    least: float | None
    as_json: bool


class Beside(NamedTuple):
    """What is read for it, before a model has worked for hours: groups of similar classes, the other's answers."""

    groups: list[tuple[str, ...]] | None
    other: Answers | None


def prepared(exam: Exam, asked: Asked) -> Beside:
    """Read all that is wanted beside the figures, and see whether the page can be written. Raises LookonceError."""
    from lookonce import files
    from lookonce.evaluate.mapping import read_groups

    if asked.report is not None:
        for name in ("jinja2", "matplotlib", "hotcoco"):
            if importlib.util.find_spec(name) is None:
                raise EngineError(f"--report needs {name}: `pip install {name}` brings it")
        files.make_folder(asked.report)
        page = asked.report / PAGE
        if files.exists(page) and not (page.is_file() and OURS in page.read_bytes()[:2000]):
            raise DataError(f"{page}: is there already and is no page of ours: name another folder with --report")
    if asked.against is not None:
        exam.check_comparable()
    return Beside(
        read_groups(asked.similar, exam.names) if asked.similar is not None else None,
        exam.read(asked.against) if asked.against is not None else None,
    )


def say_shared(exam: Exam, reporter: Reporter) -> None:
    """What is judged, and what is not."""
    shared = exam.shared
    reporter.say(
        f"{exam.dataset.path}: {len(exam.pictures):,} pictures, {len(exam.objects.label):,} objects of "
        f"{len(exam.names)} classes, judged by {exam.protocol}"
    )
    for whose, rest in (("the data's", shared.only_ours), ("the model's", shared.only_theirs)):
        if rest:
            some = ", ".join(rest[:5]) + (", ..." if len(rest) > 5 else "")
            reporter.say(f"not judged: {len(rest)} of {whose} classes ({some})")


def conclude(
    exam: Exam, answers: Answers, about: list[tuple[str, Any]], asked: Asked, beside: Beside, reporter: Reporter
) -> ExitCode:
    """Print the figures, write the page, compare, and say whether they are good enough."""
    from lookonce.exam import kinds_of_errors

    judgement = exam.judge(answers)
    shares = kinds_of_errors(exam, answers, beside.groups)[1] if asked.errors else ()
    compared = exam.compare(answers, beside.other) if beside.other is not None else None
    if asked.as_json:
        document: dict[str, Any] = {**dict(about), **exam.facts()}
        document["figures"] = {figure.name: figure.value for figure in judgement.figures}
        rows = judgement.classes
        document["by class"] = {row.name: {"objects": row.objects, "AP": row.ap, **row.more} for row in rows}
        if shares:
            document["errors"] = {each.name: dict(zip(_parts(), each.parts, strict=True)) for each in shares}
        if compared is not None:
            document["against"] = {"file": str(asked.against), **compared._asdict()}
        print(json.dumps(finite(document), ensure_ascii=False, indent=1))
    else:
        _print(judgement, shares)
        if compared is not None:
            print(
                f"\nagainst {asked.against}: {compared.b:.4f} -> {compared.a:.4f}, {compared.difference:+.4f}, "
                f"95 % of {compared.resamples:,} resamples from {compared.low:+.4f} to {compared.high:+.4f}"
            )
    if asked.report is not None:
        _write_page(exam, answers, judgement, about, beside.groups, compared, asked, reporter)
    if asked.least is not None and not judgement.main >= asked.least:
        reporter.complain(f"{judgement.figures[0].name} {judgement.main:.4f} is less than the {asked.least:g} wanted")
        return ExitCode.CHECK_FAILED
    return ExitCode.OK


def finite(value: Any) -> Any:
    """The same with None for what is not defined: JSON has no NaN."""
    if isinstance(value, dict):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and value != value else value


def _write_page(
    exam: Exam, answers: Answers, judgement: Judgement, about: list[tuple[str, Any]], groups: Any, compared: Any,
    asked: Asked, reporter: Reporter,
) -> None:  # fmt: skip
    from lookonce.exam import reported
    from lookonce.report import page, plots
    from lookonce.report.contents import Compared, Comparison, Fact

    assert asked.report is not None
    comparison = None
    if compared is not None:
        figure = judgement.figures[0].name
        row = Compared(figure, compared.b, compared.a, compared.difference, compared.low, compared.high)
        comparison = Comparison(str(asked.against), about[0][1], (row,))
    facts = [Fact(key, str(value)) for key, value in (*about, *exam.facts().items())]
    title = f"{about[0][1]} on {exam.dataset.path.name}"
    report = reported(exam, answers, judgement, facts, title=title, groups=groups, comparison=comparison)
    size = page.write(report, asked.report / PAGE)
    plots.error_pies(report.errors or (), asked.report / "errors.png")
    plots.curves(report.curves, report.overall, asked.report / "curves.png")
    reporter.say(f"{asked.report / PAGE}: {size / 1e6:.1f} MB, opens from disk; errors.png and curves.png beside it")


def _print(judgement: Judgement, shares: Any) -> None:
    width = max(13, *(len(figure.name) for figure in judgement.figures))
    for figure in judgement.figures:
        print(f"{figure.name:<{width}} {_number(figure.value)}  {figure.meaning}")
    width = max(len(shown(row.name)) for row in judgement.classes)
    more = list(judgement.classes[0].more)
    print(f"\n{'class':<{width}}  objects      AP  " + "  ".join(f"{name:>6}" for name in more))
    for row in judgement.classes:
        cells = "  ".join(_number(row.more[name]) for name in more)
        print(f"{shown(row.name):<{width}}  {row.objects:>7,}  {_number(row.ap)}  {cells}")
    if shares:
        print("\nof each class's top N answers, N its objects, in %:")
        print(f"{'class':<{width}}  " + "  ".join(_parts()))
        for each in shares:
            cells = "  ".join(f"{_percent(part):>{len(name)}}" for part, name in zip(each.parts, _parts(), strict=True))
            print(f"{shown(each.name):<{width}}  {cells}")


def _parts() -> tuple[str, ...]:
    from lookonce.report.contents import PARTS

    return PARTS


def _number(value: Any) -> str:
    return f"{value:6.4f}" if isinstance(value, float) and value == value else "     -"


def _percent(part: float) -> str:
    return f"{100 * part:.1f}" if part == part else "-"
