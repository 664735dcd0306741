"""lookonce tree: build trees of classes, check, show, ask and merge them, and join datasets to them."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from lookonce.cli import options
from lookonce.cli.options import DATASET, OUTPUT, RUNNING
from lookonce.cli.reporter import Reporter
from lookonce.errors import DataError, ExitCode, shown

if TYPE_CHECKING:
    from lookonce.trees import Concepts, Joined, Lexicon
    from lookonce.wordtree import WordTree

app = typer.Typer(name="tree", help="Trees of classes: build, check, show, ask, map and merge.", no_args_is_help=True)

SOURCE = "Where it comes from"

TreeArgument = Annotated[
    Path, typer.Argument(help="A tree file, `id parent` a line; names may stand in FILE.names.", metavar="FILE")
]
OutTree = Annotated[Path, typer.Option("-o", "--out", help="The tree, OUT.tree.", rich_help_panel=OUTPUT)]
WordNet = Annotated[
    Path | None, typer.Option(help="Folder of WordNet's data.noun and index.noun.", rich_help_panel=SOURCE)
]
Choices = Annotated[
    Path | None,
    typer.Option(help="File of lines `name = id`; what is left to choose is added to it.", rich_help_panel=RUNNING),
]
WithNames = Annotated[
    bool, typer.Option("--with-names", help="Display names as a third column.", rich_help_panel=OUTPUT)
]


@app.command("build")
def build(
    out: OutTree,
    words: Annotated[
        str | None,
        typer.Option(help="Ids or names, one a line, or a dataset.", show_default="all", rich_help_panel=SOURCE),
    ] = None,
    wordnet: WordNet = None,
    pairs: Annotated[
        Path | None, typer.Option("--csv", help="Table of child,parent or child,parent,name.", rich_help_panel=SOURCE)
    ] = None,
    openimages: Annotated[
        Path | None, typer.Option(help="Open Images' hierarchy, JSON.", rich_help_panel=SOURCE)
    ] = None,
    descriptions: Annotated[
        Path | None, typer.Option(help="Open Images' table of labels and names.", rich_help_panel=SOURCE)
    ] = None,
    commonest: Annotated[
        bool, typer.Option("--commonest", help="Of a name's several senses take the first.", rich_help_panel=RUNNING)
    ] = False,
    choices: Choices = None,
    whole: Annotated[
        bool, typer.Option("--whole", help="Keep nodes with one child, and a single root.", rich_help_panel=RUNNING)
    ] = False,
    named: WithNames = False,
    map: Annotated[
        Path | None, typer.Option("--map", help="File for the node of each word.", rich_help_panel=OUTPUT)
    ] = None,
    strict: options.Strict = False,
    quiet: options.Quiet = False,
) -> int:
    """A tree of words and what is above them, by the thesis's rule: of several paths that which adds the least.

    Its names go into OUT.names. Exit code 3, and nothing is written, if a word is missing or has several senses.

    lookonce tree build --wordnet /usr/share/wordnet --words imagenet.labels -o imagenet.tree

    lookonce tree build --csv kinds.csv -o my.tree --with-names
    """
    from lookonce import trees

    inputs = [None if words is None else Path(words), pairs, openimages, descriptions, choices]
    options.refuse_to_replace(out, inputs)
    if map is not None:
        options.refuse_to_replace(map, [*inputs, out], "--map")
    concepts = _concepts(wordnet, pairs, openimages, descriptions)
    numbers, joined = list(range(len(concepts))), None
    if words is not None:
        lexicon = trees.Lexicon.of_concepts(concepts)
        joined = trees.join(_names(words), lexicon, _chosen(choices), commonest=commonest)
        if not joined.is_whole:
            return _ask(joined, lexicon, choices, out, quiet)
        numbers = list(dict.fromkeys(joined.numbers))
    built = trees.build(concepts, numbers, whole=whole)
    names = trees.write_tree(built.tree, out, named=named, inputs=inputs)
    if map is not None:
        node_of = dict(zip(numbers, built.nodes, strict=True))
        trees.write_map([node_of[number] for number in (numbers if joined is None else joined.numbers)], map)
    groups, leaves = len(built.tree.starts), int(built.tree.leaf.sum())
    Reporter(quiet).say(
        f"{out}: {len(built.tree):,} nodes for {len(numbers):,} words, {groups:,} groups, {leaves:,} leaves; "
        f"names in {names}"
    )
    return ExitCode.OK


@app.command("check")
def check(
    path: TreeArgument,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.", rich_help_panel=OUTPUT)] = False,
) -> int:
    """Count a tree's nodes and name every fault with its line. Exit code 3 if there is one.

    lookonce tree check 9k.tree

    lookonce tree check my.tree --json
    """
    from lookonce import trees

    found = trees.check(_file(path))
    if as_json:
        faults = [fault._asdict() for fault in found.faults]
        print(json.dumps({**found._asdict(), "faults": faults}, indent=1))
    else:
        for line, text in found.faults:
            print(f"{path}:{line}: {shown(text, 2000)}")
        print(
            f"{found.nodes:,} nodes, {found.groups:,} groups, {found.leaves:,} leaves, {found.roots:,} roots, "
            f"depth {found.depth:,}, {len(found.faults):,} faults"
        )
    return ExitCode.CHECK_FAILED if found.faults else ExitCode.OK


@app.command("show")
def show(
    path: TreeArgument,
    node: Annotated[str | None, typer.Argument(help="An id, a name, or a node's number.", show_default="all")] = None,
    depth: Annotated[int | None, typer.Option(min=0, help="How many steps down.", rich_help_panel=OUTPUT)] = None,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="A page, PAGE.html, in place of text.", rich_help_panel=OUTPUT)
    ] = None,
    quiet: options.Quiet = False,
) -> int:
    """A tree or a part of it, as text or as one HTML page that is opened, closed and searched.

    lookonce tree show 9k.tree dog --depth 2

    lookonce tree show 9k.tree -o 9k.html
    """
    from lookonce import trees

    tree = _tree(path)
    if out is not None:
        options.refuse_to_replace(out, [path])
    nodes = (-1,) if node is None else trees.find(tree, node, path)
    if out is None:
        for each in nodes:
            for line in trees.show(tree, each, depth):
                print(line)
        return ExitCode.OK
    if len(nodes) > 1:
        which = shown(", ".join(tree.ids[each] for each in nodes), 300)
        raise DataError(f"{path}: {len(nodes)} nodes are called {shown(str(node))}: give an id, one of {which}")
    title = path.name if nodes[0] < 0 else f"{tree.names[nodes[0]]} in {path.name}"
    count = trees.write_page(tree, out, nodes[0], depth, title=title)
    Reporter(quiet).say(f"{out}: {count:,} nodes")
    return ExitCode.OK


@app.command("query")
def query(
    path: TreeArgument,
    names: Annotated[list[str], typer.Argument(help="Ids, names, or numbers of nodes.", metavar="NAME...")],
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.", rich_help_panel=OUTPUT)] = False,
) -> int:
    """What is known of a node: its number, its path from the root, its depth, siblings and children.

    A name that several nodes have gives them all. Exit code 1 if some names are not there, 2 if none is.

    lookonce tree query 9k.tree 'Norfolk terrier'

    lookonce tree query 9k.tree n02084071 crane --json
    """
    from lookonce import trees

    tree = _tree(path)
    found: list[int] = []
    missed: list[DataError] = []
    for name in names:
        try:
            found += trees.find(tree, name, path)
        except DataError as problem:
            missed.append(problem)
    if not found:
        raise missed[0]
    entries = [trees.entry(tree, node) for node in dict.fromkeys(found)]
    if as_json:
        print(json.dumps([trees.as_json(tree, each) for each in entries], indent=1))
    else:
        for each in entries:
            print("\n".join(trees.described(tree, each)))
    for miss in missed:
        Reporter(quiet=False).complain(str(miss))
    return ExitCode.SOME_FAILED if missed else ExitCode.OK


@app.command("map")
def map_(
    path: TreeArgument,
    data: Annotated[
        str, typer.Option(help="A file of class names, a dataset, or coco, voc, ...", rich_help_panel=DATASET)
    ],
    out: Annotated[Path, typer.Option("-o", "--out", help="The map, OUT.map.", rich_help_panel=OUTPUT)],
    wordnet: WordNet = None,
    choices: Choices = None,
    strict: options.Strict = False,
    quiet: options.Quiet = False,
) -> int:
    """Join the classes of a dataset to nodes: by id, by name, by WordNet's other words, at last but for the plural.

    Exit code 3, and nothing is written but the choices, if a class is missing or may be several nodes.

    lookonce tree map 9k.tree --data coco.names -o coco9k.map --choices coco.choices

    lookonce tree map 9k.tree --data tiny-imagenet/val.zip -o tiny.map
    """
    from lookonce import trees

    options.refuse_to_replace(out, [path, data, choices])
    concepts = None if wordnet is None else trees.read_wordnet(wordnet)
    lexicon = trees.Lexicon.of_tree(_tree(path), concepts)
    joined = trees.join(_names(data), lexicon, _chosen(choices))
    for name, number, how in zip(joined.names, joined.numbers, joined.how, strict=True):
        if how in ("word", "nearly"):
            print(f"{how}: {shown(name)} is {shown(lexicon.described(number), 200)}")
    if not joined.is_whole:
        return _ask(joined, lexicon, choices, out, quiet)
    trees.write_map(joined.numbers, out)
    by = ", ".join(f"{count:,} by {how}" for how, count in Counter(joined.how).items())
    Reporter(quiet).say(f"{out}: {len(joined.names):,} classes: {by}")
    return ExitCode.OK


@app.command("merge")
def merge(
    out: OutTree,
    paths: Annotated[list[Path] | None, typer.Argument(help="Tree files.", metavar="A.tree B.tree ...")] = None,
    lists: Annotated[
        list[str] | None,
        typer.Option("--names", help="File of class names; may be given several times.", rich_help_panel=SOURCE),
    ] = None,
    prefer: Annotated[
        Literal["first"] | None, typer.Option(help="Whose parent holds in a conflict.", rich_help_panel=RUNNING)
    ] = None,
    named: WithNames = False,
    strict: options.Strict = False,
    quiet: options.Quiet = False,
) -> int:
    """One tree of several, by ids, and of lists of names, whose new names become roots. Each source gets a map.

    The maps are OUT.SOURCE.map. Where trees disagree about a parent the lower one holds; otherwise it is a conflict.

    lookonce tree merge animals.tree vehicles.tree -o both.tree

    lookonce tree merge 9k.tree --names my.names -o 9k-and-mine.tree --prefer first
    """
    from lookonce import trees

    sources = [*map(str, paths or ()), *(lists or ())]
    if len(sources) < 2:
        raise DataError("merge: wanted at least two trees or lists of names")
    inputs = [Path(source) for source in sources]
    options.refuse_to_replace(out, inputs)
    places = trees.map_names(out, sources)
    for place in places:
        options.refuse_to_replace(place, inputs)
    by_source = {str(path): _tree(path) for path in paths or ()}
    merged = trees.merge(by_source, {each: _names(each) for each in lists or ()}, prefer_first=prefer == "first")
    names = trees.write_tree(merged.tree, out, named=named, inputs=inputs)
    for nodes, place in zip(merged.maps, places, strict=True):
        trees.write_map(nodes, place)
    reporter = Reporter(quiet)
    reporter.say(f"{out}: {len(merged.tree):,} nodes; names in {names}, maps in {', '.join(map(str, places))}")
    return ExitCode.OK


# ---------------------------------------------------------------------- what verbs share
def _file(path: Path) -> Path:
    """The file of a tree: YOLO9000's comes with the program, unless there is one of that name."""
    from lookonce import files, zoo

    return zoo.bundled_files().get(str(path), path) if not files.exists(path) else path


def _tree(path: Path) -> WordTree:
    from lookonce import trees

    return trees.read_tree(_file(path))


def _names(given: str) -> tuple[str, ...]:
    """The class names in a file, of a dataset, or of a list that comes with the program."""
    from lookonce import trees, zoo

    path = Path(given)
    return zoo.name_lists()[given] if given in zoo.name_lists() and not path.is_file() else trees.names_of(path)


def _chosen(choices: Path | None) -> dict[str, str]:
    from lookonce import trees

    return {} if choices is None else trees.read_choices(choices)


def _concepts(wordnet: Path | None, pairs: Path | None, openimages: Path | None, descriptions: Path | None) -> Concepts:
    from lookonce import trees

    if [wordnet, pairs, openimages].count(None) != 2:
        raise DataError("build: wanted one of --wordnet FOLDER, --csv FILE and --openimages FILE")
    if wordnet is not None:
        return trees.read_wordnet(wordnet)
    if pairs is not None:
        return trees.read_pairs(pairs)
    assert openimages is not None
    return trees.read_openimages(openimages, descriptions)


def _ask(joined: Joined, lexicon: Lexicon, choices: Path | None, out: Path, quiet: bool) -> int:
    """Say what is missing and what there is to choose from, and keep the latter."""
    from lookonce import trees

    for line in trees.complaints(joined, lexicon):
        print(line)
    reporter = Reporter(quiet)
    if choices is not None:
        added = trees.write_choices(choices, joined, lexicon)
        if added:
            reporter.say(f"{choices}: {added:,} names to choose for were added: take the # away before what is meant")
    hint = "" if choices is not None else ": --choices FILE keeps what you choose"
    reporter.complain(
        f"{out}: not written: of {len(joined.names):,} names {len(joined.missing):,} are missing and "
        f"{len(joined.open):,} ambiguous{hint}"
    )
    return ExitCode.CHECK_FAILED
