"""Names, lists and file names that are wrong or made to harm: refused, warned of, or shown without effect."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
from conftest import Child
from corpus import Case, Stage, build_stage, check, run

LOW = ["--thresh", "0.01"]                      # both classes answer, many times


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return build_stage(tmp_path / "stage")


def with_names(stage: Stage, data: bytes | str, *more: str) -> tuple[Path, list[str]]:
    """A names file, and the command line that uses it."""
    path = stage.write(f"{len(list(stage.folder.iterdir()))}.names", data)
    return path, stage.detect(more=["--names", str(path), *more])


# ---------------------------------------------------------------------- names of classes
def test_names_that_are_not_one_a_class_are_refused(stage: Stage, tmp_path: Path, child: Child) -> None:
    """D1, and files that hold no names."""
    bad: dict[str, tuple[bytes | str, Sequence[str]]] = {
        "D1 fewer": ("cat\n", ["1 names", "2 classes"]),
        "D1 more": ("cat\ndog\nbird\n", ["3 names", "2 classes"]),
        "empty": ("", ["no name"]),
        "blanks": ("\n \n\t\n", ["no name"]),
        "NUL": ("cat\0\ndog\n", ["NUL"]),
        "UTF-16": ("cat\ndog\n".encode("utf-16"), ["NUL"]),
        "a million": ("x\n" * 1_000_000, ["1,000,000 names", "2 classes"]),
        "an HTML page": ("<html>\n<body>\n404\n</body>\n</html>\n", ["5 names", "2 classes"]),
    }
    cases = []
    for id, (data, words) in bad.items():
        path, argv = with_names(stage, data)
        cases.append(Case(id, argv, file=path, words=words))
    check(child, tmp_path, cases)


def test_names_that_may_not_be_meant_are_taken_with_a_warning(stage: Stage, tmp_path: Path, child: Child) -> None:
    """D2, D5."""
    blank, blank_argv = with_names(stage, "\ndog\n", *LOW)
    latin, latin_argv = with_names(stage, "K\xf6ter\nM\xe4use\n".encode("latin-1"), *LOW)
    ends = check(child, tmp_path, [
        Case("D2 blank line inside", blank_argv, "warned", blank, 1, ["blank line"]),
        Case("D5 Latin-1", latin_argv, "warned", latin, None, ["UTF-8", "Latin-1", "byte 1"]),
    ])  # fmt: skip
    assert "dog" in ends[0].out
    assert "Köter" in ends[1].out


def test_names_as_editors_write_them_are_taken_in_silence(stage: Stage, tmp_path: Path, child: Child) -> None:
    forms = ["cat\ndog\n", "cat\ndog", "cat\r\ndog\r\n", "cat\rdog", "\ufeffcat\ndog\n", " cat \n\tdog\n\n\n"]
    ends = check(child, tmp_path, [Case(repr(form), with_names(stage, form, *LOW)[1], "fine") for form in forms])
    assert {end.out for end in ends} == {ends[0].out}


EVIL = {
    "escape sequences": ("\x1b[2J\x1b]0;owned\x07", "\\x1b[2J\\x1b]0;owned\\x07"),
    "C1 control": ("a\x9b31mb", "a\\x9b31mb"),
    "back to the start of the line": ("a\rb".replace("\r", "\x08"), "a\\x08b"),
    "right to left": ("\u202egpj.exe\u202c", "\\u202egpj.exe\\u202c"),
    "line separator": ("a\u2028b\u0085c", "a\\u2028b\\x85c"),
    "100 KB": ("n" * 100_000, "nnnn"),
    "emoji": ("🐕‍🦺", "🐕"),
    "Hebrew": ("כלב", "כלב"),
    "HTML": ("<img src=x onerror=alert(1)>", "<img src=x onerror=alert(1)>"),
    "formula": ("=cmd|' /C calc'!A0", "=cmd|' /C calc'!A0"),
}


def test_a_class_name_stays_on_its_line_of_the_table_with_nothing_unescaped(
    stage: Stage, tmp_path: Path, child: Child
) -> None:
    """D3, D4."""
    plain = run(child, tmp_path, [Case("plain", with_names(stage, "cat\ndog\n", *LOW)[1])])[0]
    cases = [Case(id, with_names(stage, f"{name}\ndog\n", *LOW)[1], "fine") for id, (name, _) in EVIL.items()]
    for (id, (_, shown)), end in zip(EVIL.items(), check(child, tmp_path, cases), strict=True):
        assert end.out.replace("\n", "").isprintable(), id
        assert end.out.count("\n") == plain.out.count("\n"), id
        assert len(end.out.split("\n")) == len(end.out.splitlines()) + 1, id
        assert shown in end.out, id
        assert max(map(len, end.out.split("\n"))) < 400, id


def test_programs_get_a_class_name_as_it_is(stage: Stage, tmp_path: Path, child: Child) -> None:
    """JSON and CSV have rules of their own for what a terminal must not see; nothing is lost."""
    csv.field_size_limit(1 << 20)
    cases = [
        Case(f"{id}, {form}", with_names(stage, f"{name}\ndog\n", *LOW, "--format", form)[1], "fine")
        for id, (name, _) in EVIL.items()
        for form in ("json", "csv")
    ]
    ends = check(child, tmp_path, cases)
    for (id, (name, _)), whole, table in zip(EVIL.items(), ends[::2], ends[1::2], strict=True):
        assert {row["name"] for row in json.loads(whole.out)["pictures"][0]["detections"]} == {name, "dog"}, id
        assert {row["name"] for row in csv.DictReader(io.StringIO(table.out, newline=""))} == {name, "dog"}, id


PAIRS = [("a/b", "a_b"), ("../../up", "/etc/up"), ("x" * 200 + "1", "x" * 200 + "2"), (".", ".."), ("con", "con.txt")]


def test_files_that_are_named_by_class_stay_in_their_folder_and_keep_every_box(
    stage: Stage, tmp_path: Path, child: Child
) -> None:
    """The rows of VOC's files are as many as there are boxes, whatever the classes are called."""
    cases = []
    for number, pair in enumerate(PAIRS):
        names = "\n".join(pair) + "\n"
        voc = ["--format", "voc", "-o", str(tmp_path / "voc" / str(number))]
        cases.append(Case(f"{pair[0][:9]}, csv", with_names(stage, names, *LOW, "--format", "csv")[1], "fine"))
        cases.append(Case(f"{pair[0][:9]}, voc", with_names(stage, names, *LOW, *voc)[1], "fine"))
    boxes = [end.out.count("\n") - 1 for end in check(child, tmp_path, cases)[::2]]
    folders = [tmp_path / "voc" / str(number) for number in range(len(PAIRS))]
    rows = [sum(path.read_text().count("\n") for path in folder.iterdir()) for folder in folders]
    assert min(boxes) > 1
    assert not list(tmp_path.rglob("up*")), "a file left its folder"
    assert rows == boxes


# ---------------------------------------------------------------------- names of files
ODD_NAMES = {
    "newline": "a\nlookonce: all is well\n.png",
    "shell": "a;touch x;$(touch y)`touch z`&|.png",
    "quotes": "'\"\\.png",
    "leading dash": "--save=here.png",
    "short option": "-v.png",
    "blank": " .png",
    "tilde": "~root.png",
    "pattern": "[a-z]*?.png",
    "at": "@list.png",
    "escape sequence": "\x1b[31m\x07.png",
    "right to left": "\u202egnp.png",
    "no UTF-8": os.fsdecode(b"\xff\xfe\x80.png"),
    "255 bytes": "x" * 251 + ".png",
    "percent": "%s%n%d.png",
    "braces": "{0.__class__}.png",
    "digits": "7.png",
}


def odd_pictures(stage: Stage) -> list[str]:
    """The stage's picture under every odd name, in a folder of its own."""
    folder = stage.folder / "odd"
    folder.mkdir()
    for name in ODD_NAMES.values():
        shutil.copyfile(stage.picture, folder / name)
    return list(ODD_NAMES.values())


def test_a_picture_may_have_any_name_and_the_table_keeps_one_line_for_it(
    stage: Stage, tmp_path: Path, child: Child
) -> None:
    """D9: as an argument behind `--`, from within its folder; and of the whole folder."""
    names = odd_pictures(stage)
    where = stage.folder / "odd"
    argv = ["detect", "-q", "-m", stage.cfg, "-w", stage.weights, "--thresh", "0.99"]
    cases = [Case(id, [*argv, "--", str(where / name)], "fine") for id, name in ODD_NAMES.items()]
    cases.append(Case("folder", [*argv, str(where)], "fine"))
    ends = check(child, tmp_path, cases)
    for (id, _), end in zip(ODD_NAMES.items(), ends, strict=False):
        assert end.out.count("\n") == 1, id
        assert end.out.endswith(": nothing found\n"), id
        assert end.out.rstrip("\n").isprintable(), id
    assert ends[-1].out.count("\n") == len(names)
    direct = child("-c", "from lookonce.cli.main import run; run()", *argv, "--", *names, cwd=where)
    assert (direct.code, direct.err, direct.out.count("\n")) == (0, "", len(names))
    assert sorted(path.name for path in where.iterdir()) == sorted(names), "nothing was made, by a shell or otherwise"


def test_programs_get_every_file_name_apart(stage: Stage, tmp_path: Path, child: Child) -> None:
    """D9. A name that is no UTF-8 keeps its bytes as escapes."""
    names = odd_pictures(stage)
    out = tmp_path / "answers"
    out.mkdir()
    check(child, tmp_path, [
        Case(form, stage.detect(stage.folder / "odd", more=[*LOW, "--format", form, "-o", str(out / form)]), "fine")
        for form in ("json", "jsonl", "csv", "coco", "darknet")
    ])  # fmt: skip
    with (out / "csv").open(newline="") as file:
        found = {Path(row["file"]).name for row in csv.DictReader(file)}
    assert {name.replace("\\udcff\\udcfe\\udc80", "\udcff\udcfe\udc80") for name in found} == set(names)
    assert {Path(picture["file"]).name for picture in json.loads((out / "json").read_text())["pictures"]} == set(names)
    lines = (out / "jsonl").read_text().split("\n")
    assert {Path(json.loads(line)["file"]).name for line in lines if line} == set(names)
    assert len({row["image_id"] for row in json.loads((out / "coco").read_text())}) == len(names)
    assert {path.name.removesuffix(".txt") for path in (out / "darknet").iterdir()} == {Path(n).stem for n in names}


VOC_ROW = re.compile(rb".+ 0\.\d{6}( \d+\.\d{6}){4}")


def test_voc_rows_stay_rows_whatever_a_picture_is_called(stage: Stage, tmp_path: Path, child: Child) -> None:
    """D9. A name of two lines would add a row; one that is no UTF-8 must not lose all others."""
    odd_pictures(stage)
    out = tmp_path / "voc"
    check(child, tmp_path, [
        Case("voc", stage.detect(stage.folder / "odd", more=[*LOW, "--format", "voc", "-o", str(out)]), "fine")
    ])  # fmt: skip
    rows = [row for path in out.iterdir() for row in path.read_bytes().removesuffix(b"\n").split(b"\n")]
    assert len(rows) % len(ODD_NAMES) == 0, "all are the same picture"
    assert [row for row in rows if VOC_ROW.fullmatch(row) is None] == []


def test_a_bad_file_name_is_refused_in_one_line_and_the_others_are_read(
    stage: Stage, tmp_path: Path, child: Child
) -> None:
    """D9, 4,096 bytes; and names of what is no picture file."""
    os.mkfifo(stage.folder / "pipe.png")
    (stage.folder / "loop.png").symlink_to("loop.png")
    (stage.folder / "empty").mkdir()
    bad = [
        "x" * 4096, "x" * 300 + ".png", "/".join(["y" * 100] * 60) + ".png", "absent.png", "absent\n.png", "/dev/zero",
        "/dev/stdin/x.png", str(stage.folder / "pipe.png"), str(stage.folder / "loop.png"), str(stage.folder / "empty"),
        f"{stage.picture}/inside.png", "*.nothing", "[", "@absent.txt", "@", "", "x" * 4096 + ".mp4", "absent.mp4",
        "file:///etc/passwd", "data:image/png;base64,AAAA", "x" * 4096 + "*", "@" + "x" * 4096,
    ]  # fmt: skip
    alone = [Case(repr(name[:20]), stage.detect(name)) for name in bad]
    with_another = [Case(repr(name[:20]), stage.detect(name, stage.picture), 1) for name in bad]
    ends = check(child, tmp_path, [*alone, *with_another], videos=True)
    assert all(len(end.err) < 4500 for end in ends)
    for name, end in zip(bad, ends[len(bad) :], strict=True):
        assert end.lines[0].startswith("lookonce: "), name[:20]
        assert len(end.lines) == 1, name[:20]
        assert "picture.png: " in end.out, name[:20]


def test_folders_called_images_and_labels_are_no_pattern(stage: Stage, tmp_path: Path, child: Child) -> None:
    """D10: Darknet replaces such words anywhere in a path. The picture that is named is the one that is read."""
    folder = stage.folder / "images" / "labels" / "JPEGImages" / "images.jpg"
    folder.mkdir(parents=True)
    picture = folder / "raw.jpg.png"
    shutil.copyfile(stage.picture, picture)
    out = tmp_path / "images" / "labels"
    check(child, tmp_path, [
        Case("D10", stage.detect(picture, more=["--format", "darknet", "-o", str(out)]), "fine"),
    ])  # fmt: skip
    assert [path.name for path in out.iterdir()] == ["raw.jpg.txt"]
    assert [path.name for path in folder.iterdir()] == ["raw.jpg.png"]


# ---------------------------------------------------------------------- lists and .data
def test_a_list_with_missing_pictures_names_each_and_reads_the_others(
    stage: Stage, tmp_path: Path, child: Child
) -> None:
    """D8."""
    good = Path(stage.picture).name
    listed = stage.write("some.txt", f"{stage.picture}\nabsent.png\n{good}\n{stage.folder}\n\n;rm -rf x\n")
    empty, blank, nul = stage.write("empty.txt", ""), stage.write("blank.txt", "\n\n"), stage.write("nul.txt", "a\0b\n")
    check(child, tmp_path, [
        Case("no line", stage.detect(f"@{empty}"), file=empty, words=["no path"]),
        Case("blank lines", stage.detect(f"@{blank}"), file=blank, words=["no path"]),
        Case("NUL", stage.detect(f"@{nul}"), file=nul, words=["NUL"]),
        Case("a picture", stage.detect(f"@{stage.picture}"), file=stage.picture, words=["NUL"]),
    ])  # fmt: skip
    (end,) = run(child, tmp_path, [Case("some", stage.detect(f"@{listed}"))])
    assert end.code == 1
    assert [line.startswith("lookonce: ") for line in end.lines] == [True] * 3
    assert ["absent.png" in end.lines[0], str(stage.folder) in end.lines[1], ";rm -rf x" in end.lines[2]] == [True] * 3
    assert end.out.count("picture.png: ") == 2


def test_a_list_on_standard_input_may_hold_anything(stage: Stage, tmp_path: Path, child: Child) -> None:
    text = f"\n{stage.picture}\na\0b.png\n\xff\xfe.png\n{'x' * 5000}\n-\n@{stage.picture}\n".encode("latin-1")
    listed = stage.write("stdin.txt", text)
    (end,) = run(child, tmp_path, [Case("stdin", stage.detect("-"), stdin=listed)])
    assert end.code == 1
    assert len(end.lines) == 5
    assert all(line.startswith("lookonce: ") for line in end.lines)
    assert "Traceback" not in end.err
    assert end.out.count("picture.png: ") == 1


def test_a_data_file_that_is_damaged_is_refused_with_its_line(stage: Stage, tmp_path: Path, child: Child) -> None:
    """Read by `lookonce darknet`, for its names. D6 as far as detecting asks for it."""
    bad: dict[str, tuple[bytes | str, int | None, Sequence[str]]] = {
        "empty": ("", None, ["key = value"]),
        "comments": ("# names\n", None, ["key = value"]),
        "no value": ("classes=2\nnames=\n", 2, ["names="]),
        "no key": ("=2\n", 1, ["=2"]),
        "a cfg": (Path(stage.cfg).read_text(), 1, ["swapped?"]),
        "NUL": ("names=a\0b\n", None, ["NUL"]),
        "names that are absent": ("names=absent.names\n", None, ["absent.names"]),
        "names out of the folder": ("names=../../../../../../etc/passwd\n", None, ["etc/passwd"]),
        "names absolute": ("names=/etc/passwd\n", None, ["/etc/passwd"]),
        "names of 100 KB": (f"names={'x' * 100_000}\n", None, ["xxx"]),
    }
    cases = []
    for number, (id, (data, line, words)) in enumerate(bad.items()):
        path = stage.write(f"bad{number}.data", data)
        argv = ["darknet", "detector", "test", str(path), stage.cfg, stage.weights, stage.picture]
        cases.append(Case(id, argv, file=path, line=line, words=words))
    check(child, tmp_path, cases)


