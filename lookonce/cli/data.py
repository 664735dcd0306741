"""lookonce data: look at datasets, check, convert and split them, and find anchors for them."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lookonce.cli import options
from lookonce.cli.options import DATASET, OUTPUT, RUNNING
from lookonce.cli.reporter import Reporter
from lookonce.errors import DataError, ExitCode, InputError, nearest, shown

if TYPE_CHECKING:
    from lookonce.data.dataset import Dataset, Item
    from lookonce.report.thumbnails import Thumbnail

app = typer.Typer(name="data", help="Check, count, convert, split and show datasets.", no_args_is_help=True)

# What files of a dataset are called that no picture's entry names.
LABELS = (".txt", ".list", ".xml", ".csv", ".zip", ".tar", ".gz", ".tgz", "hierarchy.json")

PathArgument = Annotated[
    Path, typer.Argument(help="A folder, a .data, .json, .csv or list file, or a .zip.", metavar="PATH")
]
NamesOption = Annotated[Path | None, typer.Option("--names", help="File of class names.", rich_help_panel=DATASET)]
Seed = Annotated[int, typer.Option("--seed", min=0, help="Another one draws anew.", rich_help_panel=RUNNING)]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON document.", rich_help_panel=OUTPUT)]


@app.command("check")
def check(
    path: PathArgument,
    split: options.Split = None,
    format: options.DataFormat = None,
    names: NamesOption = None,
    report: Annotated[
        Path | None, typer.Option("--json", help="File for the findings as JSON; - prints it.", rich_help_panel=OUTPUT)
    ] = None,
    strict: options.Strict = False,
    quiet: options.Quiet = False,
) -> int:
    """Open every picture and look at every label. Exit code 3 if there are errors, under --strict also for warnings.

    lookonce data check VOCdevkit/VOC2007 --split trainval

    lookonce data check my.data --strict --json findings.json
    """
    from lookonce.data.check import check as find

    out = None if report == Path("-") else report
    if out is not None:
        options.refuse_to_replace(out, [path, names], "--json")
    dataset = _opened(path, split, format, names, lenient=True)
    _refuse_to_replace_data(out, dataset, names)
    with Reporter(quiet) as reporter:
        found = find(dataset, _progress(reporter, "pictures"))
    if report == Path("-"):
        print(json.dumps(found.json(), indent=1))
    else:
        if report is not None:
            _write_json(found.json(), report)
        for kind, count in found.counts().items():
            mine = [problem for problem in found.problems if problem.kind == kind]
            print(f"{'error' if mine[0].is_error else 'warning'}: {kind}, {count:,}")
            for problem in mine:
                print(f"  {shown(str(problem), 2000)}")
        what = f"with {found.objects:,} objects"
        if found.classes and not found.objects:
            what = f"of {found.classes:,} classes"
        print(f"{found.errors:,} errors and {found.warnings:,} warnings in {found.pictures:,} pictures {what}")
    return ExitCode.CHECK_FAILED if found.errors or (strict and found.warnings) else ExitCode.OK


@app.command("stats")
def stats(
    path: PathArgument,
    split: options.Split = None,
    format: options.DataFormat = None,
    names: NamesOption = None,
    plots: Annotated[Path | None, typer.Option(help="Folder for plots as PNG.", rich_help_panel=OUTPUT)] = None,
    as_json: AsJson = False,
    strict: options.Strict = False,
    quiet: options.Quiet = False,
) -> int:
    """Objects of each class, how large and long they are, and pictures' sizes.

    lookonce data stats VOCdevkit/VOC2007 --split trainval

    lookonce data stats my.data --plots figures --json
    """
    from lookonce.data.stats import stats as count

    dataset = _opened(path, split, format, names)
    if plots is not None:
        _refuse_folder_of_pictures(plots, dataset)
    with Reporter(quiet) as reporter:
        figures = count(dataset, _progress(reporter, "pictures"))
        if plots is not None:
            from lookonce.data.plots import plot_stats

            for written in plot_stats(figures, plots):
                reporter.say(f"drawn: {written}")
    if as_json:
        print(json.dumps(figures.json(), indent=1))
        return ExitCode.OK
    _print_table(figures.rows())
    if not figures.is_of_pictures:
        print("width and height relative to the picture, aspect: median (5 % to 95 %)", end="; ")
        print("S, M, L: area below 32², 96², above")
    for line in figures.lines():
        print(line)
    return ExitCode.OK


@app.command("convert")
def convert(
    path: PathArgument,
    to: Annotated[str, typer.Option("--to", help="The form wanted: voc, coco, darknet, ...", rich_help_panel=OUTPUT)],
    out: Annotated[Path, typer.Option("-o", "--out", help="A new folder.", rich_help_panel=OUTPUT)],
    copy: Annotated[
        Literal["link", "copy", "none"],
        typer.Option(help="What becomes of pictures: linked, copied, or left alone.", rich_help_panel=OUTPUT),
    ] = "link",
    split: options.Split = None,
    format: options.DataFormat = None,
    names: NamesOption = None,
    strict: options.Strict = False,
    quiet: options.Quiet = False,
) -> int:
    """The same pictures and objects in another form.

    lookonce data convert VOCdevkit/VOC2007 --split trainval --to darknet -o voc-darknet

    lookonce data convert instances_val2017.json --to voc -o coco-voc --copy copy
    """
    from lookonce.data.writing import write_dataset

    dataset = _opened(path, split, format, names)
    write_dataset(dataset, out, to, copy=copy)
    Reporter(quiet).say(f"{out}: {_contents(dataset, ' and ')} as {to}")
    return ExitCode.OK


@app.command("split")
def split(
    path: PathArgument,
    out: Annotated[Path, typer.Option("-o", "--out", help="A new folder for the lists.", rich_help_panel=OUTPUT)],
    shares: Annotated[
        str, typer.Option(help="The parts and their shares: train=.8,val=.2", rich_help_panel=OUTPUT)
    ] = "train=.8,val=.2",
    seed: Seed = 0,
    part: Annotated[
        str | None, typer.Option("--split", help="The part to share out.", rich_help_panel=DATASET)
    ] = None,
    format: options.DataFormat = None,
    names: NamesOption = None,
    strict: options.Strict = False,
    quiet: options.Quiet = False,
) -> int:
    """Share a dataset out: each class alike, equal pictures together. Pictures stay where they are.

    Written are a list of each part and what opens it; the words for `lookonce val` are printed.

    lookonce data split photos.data -o lists --shares train=.8,val=.2

    lookonce data split VOCdevkit/VOC2007 --split trainval -o mine --shares train=.7,val=.2,test=.1 --seed 1
    """
    from lookonce.data.split import parse_shares, write_parts
    from lookonce.data.split import split as share_out

    wanted = parse_shares(shares)
    dataset = _opened(path, part, format, names)
    with Reporter(quiet) as reporter:
        parts = share_out(dataset, wanted, seed, _progress(reporter, "pictures"))
    for written, (name, each) in zip(write_parts(parts, out), parts.items(), strict=True):
        print(f"{name}: {_contents(each, ', ')}  {written.list}")
        if written.opened is None:
            print("  for other programs: by itself no part of an archive's split can be opened here")
            continue
        words = ["--data", str(written.opened)]
        if written.split is not None:
            words += ["--split", str(written.split), *(["--format", format] if format is not None else [])]
        print(f"  {shlex.join(words)}")
    return ExitCode.OK


@app.command("anchors")
def anchors(
    path: PathArgument,
    k: Annotated[int, typer.Option("-k", min=1, max=100, help="How many anchors.")] = 9,
    size: Annotated[str, typer.Option(help="The network's input, N or WIDTHxHEIGHT pixels.")] = "416",
    resize: Annotated[
        Literal["letterbox", "stretch"], typer.Option(help="How pictures are fitted to the input.")
    ] = "letterbox",
    seed: Seed = 0,
    plot: Annotated[
        Path | None,
        typer.Option(help="PNG of mean IOU for 1 to 15 anchors, and of these anchors.", rich_help_panel=OUTPUT),
    ] = None,
    split: options.Split = None,
    format: options.DataFormat = None,
    names: NamesOption = None,
    strict: options.Strict = False,
    quiet: options.Quiet = False,
) -> int:
    """The widths and heights that fit the boxes best, by k-means under 1 - IOU, as a cfg's line.

    lookonce data anchors VOCdevkit/VOC2007 --split trainval -k 5

    lookonce data anchors my.data -k 9 --size 608 --plot anchors.png
    """
    from lookonce.data.anchors import cluster, curve, region_line, shapes_of, yolo_line

    side = options.parse_size(size)
    assert side is not None                                  # it has a default
    input = (side, side) if isinstance(side, int) else side
    if plot is not None and plot.suffix.lower() != ".png":
        raise DataError(f"--plot {plot}: wanted a name that ends in .png")
    dataset = _opened(path, split, format, names)
    _refuse_to_replace_data(plot, dataset, names)
    with Reporter(quiet) as reporter:
        shapes = shapes_of(dataset, input, resize, _progress(reporter, "pictures"))
        found = cluster(shapes, k, seed=seed)
        plain = cluster(shapes, k, distance="sse", seed=seed)
        if plot is not None:
            from lookonce.data.plots import plot_anchors

            rows = curve(shapes, seed=seed, progress=_progress(reporter, "values of k"))
            reporter.say(f"drawn: {plot_anchors(rows, found, plot)}")
    print(f"{k} anchors of {len(shapes):,} boxes, {resize} to {input[0]} x {input[1]}")
    print(f"mean IOU to the closest: {found.mean_iou:.1%} by 1 - IOU, {plain.mean_iou:.1%} by squares")
    print(f"[yolo]    {yolo_line(found.shapes, input)}")
    print(f"[region]  {region_line(found.shapes, input)}")
    return ExitCode.OK


@app.command("show")
def show(
    path: PathArgument,
    out: Annotated[Path, typer.Option("-o", "--out", help="The page, PAGE.html.", rich_help_panel=OUTPUT)],
    name: Annotated[
        str | None, typer.Option("--class", help="Only pictures with this class.", rich_help_panel=OUTPUT)
    ] = None,
    count: Annotated[
        int, typer.Option(min=1, max=1000, help="How many pictures, evenly over all.", rich_help_panel=OUTPUT)
    ] = 48,
    split: options.Split = None,
    format: options.DataFormat = None,
    names: NamesOption = None,
    strict: options.Strict = False,
    quiet: options.Quiet = False,
) -> int:
    """A page of thumbnails with the truth drawn: one HTML file that needs no other.

    lookonce data show VOCdevkit/VOC2007 --split val -o val.html

    lookonce data show my.data -o dogs.html --class dog --count 100
    """
    from lookonce.report import thumbnails

    options.refuse_to_replace(out, [path, names])
    dataset = _opened(path, split, format, names)
    _refuse_to_replace_data(out, dataset, names)
    items = _holding(dataset, name)
    chosen = [items[place * len(items) // min(count, len(items))] for place in range(min(count, len(items)))]
    what = f" with {name}" if name is not None else ""
    with Reporter(quiet) as reporter:
        problems = thumbnails.write(
            (_thumbnail(item) for item in chosen), dataset.names, out, title=dataset.path.name,
            about=f"{len(chosen):,} of {len(items):,} pictures{what}.",
        )  # fmt: skip
        for problem in problems:
            reporter.complain(problem)
        reporter.say(f"{out}: {len(chosen):,} of {len(items):,} pictures{what}")
    return ExitCode.SOME_FAILED if problems else ExitCode.OK


# ---------------------------------------------------------------------- what verbs share
def _opened(
    path: Path, split: str | None, format: str | None, names: Path | None, *, lenient: bool = False
) -> Dataset:
    from lookonce.darknet.lists import read_names
    from lookonce.data.darknet import parts_of
    from lookonce.data.opening import open_dataset

    known = None if names is None else read_names(names)
    if split is None and format in (None, "darknet"):        # which alone would be its part to judge by
        split = parts_of(path)
    return open_dataset(path, split=split, format=format, names=known, lenient=lenient)


def _progress(reporter: Reporter, what: str) -> Callable[[int, int], None]:
    return lambda done, count: reporter.progress(f"{done:,} of {count:,} {what}")


def _contents(dataset: Dataset, between: str) -> str:
    """`12 pictures and 18 objects`, or if there are no boxes `12 pictures of 2 classes`."""
    objects = sum(len(item.truth) for item in dataset.items)
    classes = len({label for item in dataset.items for label in item.truth.classes})
    if classes and not objects:
        return f"{len(dataset):,} pictures of {classes:,} classes"
    return f"{len(dataset):,} pictures{between}{objects:,} objects"


def _holding(dataset: Dataset, name: str | None) -> Sequence[Item]:
    """The pictures with a class. Raises DataError if there is no such class, or no picture."""
    if name is not None and name not in dataset.names:
        raise DataError(f"{dataset.path}: has no class {shown(name)}{nearest(name, dataset.names)}")
    label = None if name is None else dataset.names.index(name)
    items = [
        item for item in dataset.items if label is None or label in item.truth.label or label in item.truth.classes
    ]
    if not items:
        raise DataError(f"{dataset.path}: no picture{'' if name is None else f' with {shown(name)}'} to show")
    return items


def _thumbnail(item: Item) -> Thumbnail:
    from lookonce.data.views import bytes_of, where
    from lookonce.report.thumbnails import Thumbnail

    data: bytes | None
    try:
        data = bytes_of(item)
    except InputError:                                       # the page says it again, in the picture's place
        data = None if item.member is None else b""
    return Thumbnail(where(item) if item.member else item.path.name, item.path, item.truth, data)


def _refuse_folder_of_pictures(plots: Path, dataset: Dataset) -> None:
    """Raise DataError if pictures of the dataset lie in the folder: a plot might replace one, or be taken for one."""
    folders = {item.path.parent for item in dataset.items if item.member is None}
    if any(folder.resolve() == plots.resolve() for folder in folders):
        raise DataError(f"--plots {plots}: holds pictures of the dataset; wanted another folder")


def _refuse_to_replace_data(out: Path | None, dataset: Dataset, names: Path | None) -> None:
    """Raise DataError if `out` is a file of the dataset: a picture, labels, or what looks like a list or table."""
    from lookonce.data.coco import FILE

    if out is None or not out.is_file():
        return
    if out.name.lower().endswith(LABELS) or FILE.fullmatch(out.name):
        raise DataError(f"{out}: is there already, and is what labels or a list are called; wanted another name")
    there = {path for item in dataset.items for path in (item.path, item.labels)} | {dataset.path, names}
    for path in there:
        if path is not None and path.is_file() and path.samefile(out):
            raise DataError(f"{out}: is a file of the dataset, which is read; wanted another name")


def _write_json(document: object, path: Path) -> None:
    from lookonce import files

    with files.write_atomically(path) as file:
        file.write(json.dumps(document, indent=1).encode())
    print(f"written: {path}", file=sys.stderr)


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    """Columns as wide as they need, the first one's text to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(f"{text:<{width}}" if place == 0 else f"{text:>{width}}"
                        for place, (text, width) in enumerate(zip(row, widths, strict=True))).rstrip())  # fmt: skip
