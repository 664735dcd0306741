from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from lookonce.cli import tree
from lookonce.errors import LookonceError

Run = Callable[..., int]

TREE = ["root -1", "rock -1", "n1 0 animal", "plant 0", "n4 2 dog", "cat 2", "pebble 1", "n7 6 crane", "n8 4 crane"]
CSV = "child,parent\ndog,canine\nwolf,canine\ncanine,animal\ndog,pet\npet,animal\ncat,animal\n"


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs `lookonce tree` in an empty folder with my.tree in it; an error is its one line on stdout and its code."""
    monkeypatch.chdir(tmp_path)
    Path("my.tree").write_text("".join(f"{line}\n" for line in TREE))
    command = typer.main.get_command(tree.app)

    def call(*arguments: str) -> int:
        try:
            return int(command.main(list(arguments), prog_name="tree", standalone_mode=False) or 0)
        except LookonceError as problem:
            print(f"error: {problem}")
            return int(problem.exit_code)

    return call


# ---------------------------------------------------------------------- build
def test_build_writes_a_tree_its_names_and_the_map_of_its_words(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    Path("kinds.csv").write_text(CSV)
    Path("mine.txt").write_text("wolf\nCat\nDogs\n")
    assert run("build", "--csv", "kinds.csv", "--words", "mine.txt", "-o", "out.tree", "--map", "out.map") == 0
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "out.tree: 4 nodes for 3 words, 2 groups, 3 leaves; names in out.names\n"
    assert Path("out.tree").read_text() == "canine -1\ncat -1\ndog 0\nwolf 0\n"
    assert Path("out.names").read_text() == "canine\ncat\ndog\nwolf\n"
    assert Path("out.map").read_text() == "3\n1\n2\n"
    assert run("build", "--csv", "kinds.csv", "--words", "mine.txt", "-o", "out.tree", "--whole", "-q") == 0
    assert Path("out.tree").read_text() == "animal -1\ncanine 0\ncat 0\ndog 1\nwolf 1\n"
    assert capsys.readouterr().err == ""


def test_build_without_words_takes_everything(run: Run) -> None:
    Path("kinds.csv").write_text(CSV + "red fox,canine\n")
    assert run("build", "--csv", "kinds.csv", "-o", "all.tree", "--with-names", "--map", "all.map") == 0
    lines = Path("all.tree").read_text().splitlines()
    assert len(lines) == 7
    assert "red_fox 1 red fox" in lines
    assert len(Path("all.map").read_text().splitlines()) == 7


def test_build_asks_about_what_it_does_not_know(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Two concepts are called bank. What is chosen in the file counts the next time, or the first with --commonest."""
    Path("kinds.csv").write_text("b1,money,bank\nb2,river,bank\nmoney,\nriver,\n")
    Path("w.txt").write_text("bank\nmony\n")
    words = ["build", "--csv", "kinds.csv", "--words", "w.txt", "-o", "w.tree", "--choices", "w.choices"]
    assert run(*words) == 3
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "missing: mony, did you mean money?",
        "ambiguous: bank may be",
        "  b1 bank, a kind of money",
        "  b2 bank, a kind of river",
    ]
    assert err.splitlines()[-1] == "lookonce: w.tree: not written: of 2 names 1 are missing and 1 ambiguous"
    assert not Path("w.tree").exists()
    text = Path("w.choices").read_text()
    Path("w.choices").write_text(text.replace("# bank = b2", "bank = b2") + "mony = money\n")
    assert run(*words) == 0
    assert Path("w.tree").read_text().splitlines() == ["money -1", "b2 -1"]
    Path("w.txt").write_text("bank\nmoney\n")
    assert run("build", "--csv", "kinds.csv", "--words", "w.txt", "-o", "w.tree", "--commonest") == 0
    assert Path("w.tree").read_text().splitlines() == ["money -1", "b1 0"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-o", "x.tree"], "wanted one of --wordnet FOLDER, --csv FILE and --openimages FILE"),
        (["-o", "x.tree", "--csv", "a.csv", "--wordnet", "b"], "wanted one of"),
        (["-o", "x.tree", "--csv", "nowhere.csv"], "nowhere.csv: no such file"),
        (["-o", "x.tree", "--wordnet", "nowhere"], "data.noun: no such file"),
        (["-o", "x.tree", "--openimages", "my.tree"], "is no JSON"),
        (["-o", "x.names", "--csv", "my.tree"], "is what a picture, video or model is called"),
        (["-o", "my.tree", "--csv", "my.tree"], "would replace my.tree"),
        (["-o", "x.tree", "--csv", "my.tree"], "my.tree:1: root -1 is not child,parent"),
    ],
)
def test_build_says_in_one_line_what_it_cannot_do(
    run: Run, capsys: pytest.CaptureFixture[str], arguments: list[str], said: str
) -> None:
    assert run("build", *arguments) == 2
    out = capsys.readouterr().out
    assert said in out
    assert out.count("\n") == 1
    assert Path("my.tree").read_text().splitlines() == TREE


def test_build_never_writes_over_names_that_it_reads(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    Path("kinds.csv").write_text(CSV)
    Path("out.names").write_text("dog\n")
    assert run("build", "--csv", "kinds.csv", "--words", "out.names", "-o", "out.tree") == 2
    assert "out.names: would be replaced" in capsys.readouterr().out
    assert Path("out.names").read_text() == "dog\n"
    assert not Path("out.tree").exists()


@pytest.mark.shared
def test_build_from_open_images(run: Run, shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    hierarchy = shared / "data/lists/bbox_labels_600_hierarchy.json"
    assert run("build", "--openimages", str(hierarchy), "-o", "open.tree") == 0
    assert run("check", "open.tree") == 0
    lines = hierarchy.read_text().splitlines()
    deepest = max(len(line) - len(line.lstrip(" ")) for line in lines if "LabelName" in line)
    said = capsys.readouterr().out
    assert " 1 roots, " in said
    assert said.endswith(f"depth {(deepest - 4) // 8}, 0 faults\n")     # a step is indented by 8 in that file


@pytest.mark.shared
def test_build_from_wordnet_for_a_dataset(run: Run, shared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = Path(os.environ.get("WNSEARCHDIR", "/usr/share/wordnet"))
    if not (folder / "data.noun").is_file():
        pytest.skip(f"needs WordNet in {folder} (Debian's wordnet-base, or WNSEARCHDIR=FOLDER)")
    words = str(shared / "data/tiny-imagenet/val.zip")
    assert run("build", "--wordnet", str(folder), "--words", words, "-o", "tiny.tree", "--map", "tiny.map") == 0
    assert run("check", "tiny.tree") == 0
    assert " 200 leaves," in capsys.readouterr().out
    assert run("map", "tiny.tree", "--data", words, "-o", "again.map") == 0
    assert Path("again.map").read_text() == Path("tiny.map").read_text()


# ---------------------------------------------------------------------- check
def test_check_counts_and_names_faults_by_line(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", "my.tree") == 0
    assert capsys.readouterr().out == "9 nodes, 6 groups, 4 leaves, 2 roots, depth 3, 0 faults\n"
    Path("bad.tree").write_text("a -1\nb 7\na 0\n")
    assert run("check", "bad.tree") == 3
    assert capsys.readouterr().out.splitlines() == [
        "bad.tree:2: parent 7 is not there: the nodes are 0 to 2",
        "bad.tree:3: the id a stands at line 1 already",
        "3 nodes, 3 groups, 2 leaves, 1 roots, depth 1, 2 faults",
    ]
    assert run("check", "bad.tree", "--json") == 3
    document = json.loads(capsys.readouterr().out)
    assert (document["nodes"], document["faults"][1]["line"]) == (3, 3)
    assert run("check", "nowhere.tree") == 2


# ---------------------------------------------------------------------- show and query
def test_show_draws_a_part_as_text_or_as_a_page(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("show", "my.tree", "animal", "--depth", "1") == 0
    assert capsys.readouterr().out == "animal (n1, 3 below)\n├── dog (n4, 1 below)\n└── cat\n"
    assert run("show", "my.tree", "-o", "my.html") == 0
    out, err = capsys.readouterr()
    assert (out, err) == ("", "my.html: 9 nodes\n")
    assert "<title>my.tree</title>" in Path("my.html").read_text()
    assert run("show", "my.tree", "crane") == 0                 # both that are called so
    assert capsys.readouterr().out == "crane (n7)\ncrane (n8)\n"
    assert run("show", "my.tree", "crane", "-o", "my.html") == 2
    assert "2 nodes are called crane: give an id, one of n7, n8" in capsys.readouterr().out
    assert run("show", "my.tree", "anmal") == 2
    assert "my.tree: has no node anmal, did you mean animal?" in capsys.readouterr().out
    assert run("show", "my.tree", "-o", "my.jpg") == 2
    assert run("show", "my.tree", "-o", "my.tree") == 2


def test_show_takes_names_from_beside_the_tree(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    Path("bare.tree").write_text("n1 -1\nn2 0\n")
    Path("bare.names").write_text("animal\nred fox\n")
    assert run("show", "bare.tree", "Red Fox") == 0
    assert capsys.readouterr().out == "red fox (n2)\n"


def test_query_tells_what_is_around_nodes(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("query", "my.tree", "n4") == 0
    assert capsys.readouterr().out.splitlines() == [
        "dog: n4, node 4",
        "  path      root > animal > dog",
        "  depth     2 of 3",
        "  siblings  1: cat",
        "  children  1: crane",
        "  below     1 nodes",
    ]
    assert run("query", "my.tree", "crane", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [each["path"] for each in found] == [["rock", "pebble", "n7"], ["root", "n1", "n4", "n8"]]
    assert run("query", "my.tree", "dgo", "cat") == 1
    out, err = capsys.readouterr()
    assert out.startswith("cat: node 5\n")
    assert err == "lookonce: my.tree: has no node dgo, did you mean dog?\n"
    assert run("query", "my.tree", "dgo") == 2


# ---------------------------------------------------------------------- map
def test_map_joins_classes_and_keeps_what_was_chosen(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.names").write_text("dogs\ncrane\nn1\nCAT\n")
    words = ["map", "my.tree", "--data", "mine.names", "-o", "mine.map", "--choices", "mine.choices"]
    assert run(*words) == 3
    out, err = capsys.readouterr()
    assert out.splitlines() == [
        "nearly: dogs is n4 dog, a kind of animal",
        "ambiguous: crane may be",
        "  n7 crane, a kind of pebble",
        "  n8 crane, a kind of dog",
    ]
    assert "mine.choices: 1 names to choose for were added" in err
    assert not Path("mine.map").exists()
    Path("mine.choices").write_text("crane = n8\n")
    assert run(*words) == 0
    assert Path("mine.map").read_text() == "4\n8\n2\n5\n"
    assert capsys.readouterr().err == "mine.map: 4 classes: 1 by nearly, 1 by choice, 1 by id, 1 by name\n"


def test_map_knows_the_lists_that_come_with_the_program(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("map", "my.tree", "--data", "coco", "-o", "coco.map") == 3
    assert "of 80 names 78 are missing and 0 ambiguous: --choices FILE keeps what you choose" in capsys.readouterr().err
    assert run("map", "my.tree", "--data", "nowhere", "-o", "coco.map") == 2
    Path("a.names").write_text("dog\n")
    assert run("map", "my.tree", "--data", "a.names", "-o", "my.tree") == 2


# ---------------------------------------------------------------------- merge
def test_merge_writes_the_tree_names_and_a_map_of_each_source(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    Path("b.tree").write_text("rock -1\ngranite 0\n")
    Path("c.names").write_text("dog\ntraffic light\n")
    assert run("merge", "my.tree", "b.tree", "--names", "c.names", "-o", "all.tree", "--with-names") == 0
    assert capsys.readouterr().err == (
        "all.tree: 11 nodes; names in all.names, maps in all.my.map, all.b.map, all.c.map\n"
    )
    lines = Path("all.tree").read_text().splitlines()
    assert "traffic_light -1 traffic light" in lines
    assert run("check", "all.tree") == 0
    for source in ("my", "b"):
        ids = [line.split()[0] for line in Path(f"{source}.tree").read_text().splitlines()]
        nodes = [int(line) for line in Path(f"all.{source}.map").read_text().split()]
        assert [lines[node].split()[0] for node in nodes] == ids


def test_merge_names_a_conflict_and_may_prefer_the_first(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    Path("b.tree").write_text("pet -1\ncat 0\n")
    assert run("merge", "my.tree", "b.tree", "-o", "all.tree") == 2
    said = "error: cat is under n1 in my.tree and under pet in b.tree: --prefer first takes what the first tree says\n"
    assert capsys.readouterr().out == said
    assert not Path("all.tree").exists()
    assert run("merge", "my.tree", "b.tree", "-o", "all.tree", "--prefer", "first") == 0
    assert run("merge", "my.tree", "-o", "all.tree") == 2
    assert "wanted at least two" in capsys.readouterr().out
    assert run("merge", "my.tree", "b.tree", "-o", "my.tree") == 2
    assert Path("my.tree").read_text().splitlines() == TREE


def test_the_tree_of_9000_classes_comes_with_the_program(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("check", "9k.tree") == 0
    assert capsys.readouterr().out == "9,418 nodes, 1,846 groups, 7,573 leaves, 4 roots, depth 16, 0 faults\n"
    assert run("query", "9k.tree", "Norfolk terrier") == 0
    assert "> dog > hunting dog > terrier > Norfolk terrier\n" in capsys.readouterr().out
    Path("9k.tree").write_text("a -1\n")                        # one that is there goes first
    assert run("check", "9k.tree") == 0
    assert capsys.readouterr().out.startswith("1 nodes")


def test_every_verb_shows_two_examples(run: Run) -> None:
    for command in tree.app.registered_commands:
        text = command.callback.__doc__ if command.callback is not None else ""
        assert str(text).count("\n    lookonce tree ") == 2, command.name
