"""lookonce val, judge, rescore: how good a model or a file of results is, and what it gets wrong."""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from lookonce.cli import options
from lookonce.cli.options import ANSWERS, MODEL, OUTPUT
from lookonce.cli.reporter import Reporter
from lookonce.cli.verdict import (
    JUDGING,
    Against,
    AsJson,
    Asked,
    Data,
    Errors,
    LeastMap,
    Map,
    ProtocolName,
    ReportFolder,
    Similar,
    conclude,
    finite,
    prepared,
    say_shared,
)
from lookonce.errors import CfgError, ExitCode, shown

if TYPE_CHECKING:
    from lookonce.classifier import Classifier
    from lookonce.data import Dataset
    from lookonce.detector import Detector
    from lookonce.exam import Exam

TheirNames = Annotated[
    str | None,
    typer.Option(
        help="The classes of the results: a file, coco, voc.", show_default="the data's", rich_help_panel=MODEL
    ),
]


def val(
    data: Data,
    model: options.ModelName = options.DEFAULT_MODEL,
    weights: options.Weights = None,
    names: options.Names = None,
    split: options.Split = None,
    format: options.DataFormat = None,
    protocol: ProtocolName = "auto",
    map_file: Map = None,
    size: options.Size = None,
    thresh: Annotated[
        float, typer.Option(min=0, max=1, help="Least score of an answer that counts.", rich_help_panel=ANSWERS)
    ] = 0.005,
    nms: options.Nms = None,
    hier: options.Hierarchy = None,
    resize: Annotated[
        Literal["auto", "letterbox", "stretch", "crop"],
        typer.Option(help="How pictures are fitted to the input; auto: as its makers did.", rich_help_panel=ANSWERS),
    ] = "auto",
    compat_darknet: options.DarknetCompat = False,
    engine: options.EngineName = "auto",
    precision: options.PrecisionName = "auto",
    threads: options.Threads = None,
    allow_nonfinite: options.AllowNonfinite = False,
    allow_paths: options.AllowPaths = False,
    strict: options.Strict = False,
    errors: Errors = False,
    similar: Similar = None,
    report: ReportFolder = None,
    against: Against = None,
    min_map: LeastMap = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="JSON file for all answers.", rich_help_panel=OUTPUT)
    ] = None,
    as_json: AsJson = False,
    quiet: options.Quiet = False,
) -> int:
    """How good a model is on a dataset, by the rules that are named, and what it gets wrong.

    Of a model with a tree the dataset's classes are judged, each as likely as all below it, and by whether they had
    boxes when it learnt; with --hier the node where each box's way down ends.

    lookonce val --data VOCdevkit/VOC2007 --split test -m my.cfg -w my.weights --names voc --protocol voc07

    lookonce val --data instances_val2017.json -m yolov3 --errors --report out -o answers.json
    """
    from lookonce.classifier import Classifier
    from lookonce.data import open_dataset
    from lookonce.detector import Detector
    from lookonce.exam import boxed_in, by_boxes, chosen_classes

    if out is not None:
        options.refuse_to_replace(out, [data, model, weights, names, against, map_file, similar])
        options.refuse_to_replace_others(out)
    dataset = open_dataset(data, split=split, format=format)
    opened = options.opened(model, weights, names, size, allow_paths, allow_nonfinite)
    compat: Literal["darknet"] | None = "darknet" if compat_darknet else None
    with Reporter(quiet) as reporter:
        if opened.network.kind == "classifier":
            classifier = Classifier(
                opened, engine=engine, precision=precision, threads=threads, resize=resize, compat=compat
            )
            reporter.say(str(classifier))
            asked_of_boxes = {
                "--protocol": protocol != "auto", "--map": map_file, "--errors": errors, "--similar": similar,
                "--report": report, "--against": against, "-o": out, "--nms": nms, "--hier": hier,
            }  # fmt: skip
            if refused := [name for name, given in asked_of_boxes.items() if given]:
                raise CfgError(f"{model}: is a classifier, for which there is no {', '.join(refused)}: leave it out")
            return _classifier(classifier, dataset, reporter, min_map, as_json)
        chosen, groups = None, None
        if opened.tree is not None and hier is None:
            chosen = chosen_classes(opened.tree, dataset.names, map_file)
            groups = by_boxes(opened.tree, chosen, boxed_in(opened.card))
            map_file = None
        detector = Detector(
            opened, engine=engine, precision=precision, threads=threads, threshold=thresh, nms=nms, hierarchy=hier,
            only=chosen, resize=resize, compat=compat,
        )  # fmt: skip
        reporter.say(str(detector))
        asked = Asked(errors, similar, report, against, min_map, as_json)
        return _detector(detector, opened.name, dataset, protocol, map_file, groups, out, asked, reporter)


def judge(
    results: Annotated[Path, typer.Argument(help="COCO, our JSON, JSON lines or CSV; a folder of VOC's comp4 files.")],
    data: Data,
    split: options.Split = None,
    format: options.DataFormat = None,
    protocol: ProtocolName = "auto",
    names: TheirNames = None,
    map_file: Map = None,
    strict: options.Strict = False,
    errors: Errors = False,
    similar: Similar = None,
    report: ReportFolder = None,
    against: Against = None,
    min_map: LeastMap = None,
    as_json: AsJson = False,
    quiet: options.Quiet = False,
) -> int:
    """How good anybody's results are on a dataset.

    lookonce judge detections.json --data instances_val2017.json

    lookonce judge results/ --data VOCdevkit/VOC2007 --split test --protocol voc07 --errors
    """
    from lookonce.data import open_dataset

    exam = _exam(open_dataset(data, split=split, format=format), protocol, names, map_file, results)
    with Reporter(quiet) as reporter:
        say_shared(exam, reporter)
        asked = Asked(errors, similar, report, against, min_map, as_json)
        beside = prepared(exam, asked)
        answers = exam.read(results)
        for oddity in exam.oddities(answers):
            reporter.say(f"{results}: {oddity}")
        return conclude(exam, answers, [("results", str(results))], asked, beside, reporter)


def rescore(
    theirs: Annotated[Path, typer.Argument(help="The results whose boxes are boosted.")],
    ours: Annotated[Path, typer.Option("--with", help="The results that boost them.", rich_help_panel=JUDGING)],
    data: Data,
    split: options.Split = None,
    format: options.DataFormat = None,
    protocol: ProtocolName = "auto",
    names: TheirNames = None,
    map_file: Map = None,
    weight: Annotated[float, typer.Option(min=0, help="How much is added.", rich_help_panel=ANSWERS)] = 1.0,
    least: Annotated[
        float, typer.Option(min=0, max=1, help="Least overlap of similar boxes.", rich_help_panel=ANSWERS)
    ] = 0.5,
    strict: options.Strict = False,
    out: Annotated[
        Path | None,
        typer.Option("-o", "--out", help="File for the boosted results, in COCO's form.", rich_help_panel=OUTPUT),
    ] = None,
) -> int:
    """Boost another detector's boxes where ours says the same (thesis 1.4.3): the figures before and after.

    lookonce rescore theirs.json --with ours.json --data VOCdevkit/VOC2007 --split test

    lookonce rescore theirs.json --with ours.json --data instances_val2017.json -o both.json
    """
    from lookonce import files
    from lookonce.data import open_dataset
    from lookonce.evaluate.rescore import rescore as boosted

    if out is not None:
        options.refuse_to_replace(out, [theirs, ours, data, names, map_file])
        options.refuse_to_replace_others(out)
    exam = _exam(open_dataset(data, split=split, format=format), protocol, names, map_file, theirs)
    say_shared(exam, Reporter(quiet=False))
    first, second = exam.read(theirs), exam.read(ours)
    both = boosted(first, second, weight, least)
    for who, answers in ((str(theirs), first), (str(ours), second), ("together", both)):
        judgement = exam.judge(answers)
        print(f"{judgement.figures[0].name} {judgement.main:.4f}  {shown(who, 200)}")
    if out is not None:
        with files.write_atomically(out) as file:
            file.write(json.dumps(exam.coco_rows(both)).encode())
    return ExitCode.OK


# ---------------------------------------------------------------------- who answers
def _exam(dataset: Dataset, protocol: str, names: str | None, map_file: Path | None, results: Path) -> Exam:
    """On the classes that the data share with those that are given, or else with those that the results say."""
    from lookonce import zoo
    from lookonce.darknet.lists import read_names
    from lookonce.evaluate.reading import names_in
    from lookonce.exam import Exam, usual_protocol

    theirs = names_in(results)
    if names is not None:
        options.check_names(names)
        known = zoo.name_lists()
        theirs = known[names] if names in known and not Path(names).is_file() else read_names(Path(names))
    chosen: Any = usual_protocol(dataset) if protocol == "auto" else protocol
    return Exam(dataset, chosen, theirs, map_file)


def _detector(
    detector: Detector, name: str, dataset: Dataset, protocol: str, map_file: Path | None,
    groups: Mapping[str, Sequence[str]] | None, out: Path | None, asked: Asked, reporter: Reporter,
) -> int:  # fmt: skip
    from lookonce.exam import Exam, usual_protocol
    from lookonce.results import open_writer

    chosen: Any = usual_protocol(dataset) if protocol == "auto" else protocol
    exam = Exam(dataset, chosen, detector.names, map_file, groups)
    say_shared(exam, reporter)
    beside = prepared(exam, asked)
    failed: list[str] = []

    def complain(message: str) -> None:
        failed.append(message)
        reporter.complain(message)

    found = []
    with contextlib.ExitStack() as stack:
        about_it = {**detector.settings(), "names": detector.names}
        writer = stack.enter_context(open_writer("json", out, sys.stdout, about_it)) if out else None
        answering = exam.run(detector, complain, lambda done, total: reporter.progress(f"{done:,} of {total:,}"))
        for item, each in zip(dataset.items, answering, strict=True):
            found.append(each)
            if writer is not None:                           # at once: an interruption keeps what is known
                writer.add(str(item.path) if item.member is None else f"{item.path}/{item.member}", each)
    about = [("model", name), *((key, value) for key, value in detector.settings().items() if key != "model")]
    code = conclude(exam, exam.answers(found), about, asked, beside, reporter)
    return code or (ExitCode.SOME_FAILED if failed else ExitCode.OK)


def _classifier(
    classifier: Classifier, dataset: Dataset, reporter: Reporter, least: float | None, as_json: bool
) -> int:
    from lookonce.exam import ClassExam, chosen_classes

    failed: list[str] = []

    def complain(message: str) -> None:
        failed.append(message)
        reporter.complain(message)

    chosen = None if classifier.tree is None else chosen_classes(classifier.tree, dataset.names)
    exam = ClassExam(dataset, classifier.names, chosen)
    reporter.say(f"{dataset.path}: {len(dataset):,} pictures of {len(dataset.names)} classes")
    figures, depths = exam.run(classifier, complain, lambda done, total: reporter.progress(f"{done:,} of {total:,}"))
    if as_json:
        document: dict[str, Any] = {"top1": figures.top1, "top5": figures.top5, "pictures": len(dataset)}
        if depths is not None:
            document["depth"] = depths.accuracy.tolist()
        print(json.dumps(finite(document)))
    else:
        print(f"top-1 {figures.top1:.2%}\ntop-5 {figures.top5:.2%}")
        for depth, accuracy in enumerate(() if depths is None else depths.accuracy.tolist(), start=1):
            print(f"right down to depth {depth}: {accuracy:.2%}")
    if least is not None and not figures.top1 >= least:
        reporter.complain(f"top-1 {figures.top1:.4f} is less than the {least:g} wanted")
        return ExitCode.CHECK_FAILED
    return ExitCode.SOME_FAILED if failed else ExitCode.OK
