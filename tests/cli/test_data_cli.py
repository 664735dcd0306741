from __future__ import annotations

import json
import shlex
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lookonce.cli.main import main
from lookonce.data.opening import open_dataset

WIDE, HIGH = 64, 48
BOX = "<object><name>{}</name><bndbox><xmin>{}</xmin><ymin>7</ymin><xmax>{}</xmax><ymax>40</ymax></bndbox></object>"


@pytest.fixture
def voc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder voc/, in the current one, of twelve sound pictures, each with a cat and half of them with a dog."""
    folder = tmp_path / "voc"
    for below in ("Annotations", "JPEGImages"):
        (folder / below).mkdir(parents=True)
    for number in range(12):
        pixels = np.random.default_rng(number).integers(0, 256, (HIGH, WIDE, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "JPEGImages" / f"p{number}.jpg")
        objects = BOX.format("cat", 6, 20 + number) + BOX.format("dog", 2, 60) * (number % 2)
        size = f"<size><width>{WIDE}</width><height>{HIGH}</height></size>"
        (folder / "Annotations" / f"p{number}.xml").write_text(f"<annotation>{size}{objects}</annotation>")
    monkeypatch.chdir(tmp_path)
    return folder


def test_check_of_a_sound_dataset_says_so(voc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", "voc", "--strict"]) == 0
    assert capsys.readouterr().out == "0 errors and 0 warnings in 12 pictures with 18 objects\n"


def test_check_groups_what_it_finds_and_its_exit_code_says_whether_it_is_bad(
    voc: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (voc / "Annotations" / "p1.xml").write_text("<annotation>" + BOX.format("cat", 30, 90) + "</annotation>")
    assert main(["data", "check", "voc"]) == 0
    out = capsys.readouterr().out
    assert "warning: box over the edge, 1\n  voc/Annotations/p1.xml: object 1: cat 29 6 90 40 reaches over" in out
    assert out.endswith("0 errors and 2 warnings in 12 pictures with 17 objects\n")
    assert main(["data", "check", "voc", "--strict"]) == 3
    capsys.readouterr()
    (voc / "JPEGImages" / "p4.jpg").write_bytes(b"no picture")
    assert main(["data", "check", "voc"]) == 3
    out, err = capsys.readouterr()
    assert out.startswith("error: unreadable picture, 1\n  voc/JPEGImages/p4.jpg: ")
    assert err == ""


def test_all_parts_of_a_data_file_are_looked_at_unless_one_is_named(
    voc: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A list of four pictures to learn from and one of two: what is wrong with the first is found."""
    assert main(["data", "convert", "voc", "--to", "darknet", "-o", "other"]) == 0
    lines = Path("other/pictures.txt").read_text().splitlines(keepends=True)
    Path("other/train.txt").write_text("".join(lines[:4]))
    Path("other/val.txt").write_text("".join(lines[4:6]))
    said = Path("other/dataset.data").read_text().replace("train = pictures", "train = train")
    Path("other/dataset.data").write_text(said.replace("valid = pictures", "valid = val"))
    (Path("other") / lines[0].strip()).write_bytes(b"no picture")
    capsys.readouterr()
    assert main(["data", "check", "other/dataset.data"]) == 3
    assert " in 6 pictures" in capsys.readouterr().out
    assert main(["data", "check", "other/dataset.data", "--split", "valid"]) == 0
    assert " in 2 pictures" in capsys.readouterr().out


def test_check_writes_its_findings_as_json(voc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (voc / "JPEGImages" / "p4.jpg").unlink()
    assert main(["data", "check", "voc", "--json", "found.json"]) == 3
    capsys.readouterr()
    assert main(["data", "check", "voc", "--json", "-"]) == 3
    document = json.loads(capsys.readouterr().out)
    assert document == json.loads(Path("found.json").read_text())
    assert (document["errors"], document["problems"][0]["file"]) == (1, "voc/JPEGImages/p4.jpg")


def test_what_is_no_dataset_is_one_line_and_exit_code_2(voc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for verb in (["check"], ["stats"], ["anchors"], ["show", "-o", "x.html"], ["convert", "--to", "coco", "-o", "x"]):
        assert main(["data", *verb, "nowhere"]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err == "lookonce: nowhere: no such file or folder\n"


def test_check_never_writes_over_what_it_reads(voc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "check", "voc", "--json", "voc/JPEGImages/p1.jpg"]) == 2
    assert "is what a picture, video or model is called" in capsys.readouterr().err
    with Image.open(voc / "JPEGImages" / "p1.jpg") as image:
        assert image.size == (WIDE, HIGH)


@pytest.mark.parametrize(
    ("arguments", "name", "said"),
    [
        (["anchors", "--plot"], "voc/JPEGImages/p1.jpg", "ends in .png"),
        (["anchors", "--plot"], "plot.svg", "ends in .png"),
        (["anchors", "--plot"], "voc/JPEGImages/extra.png", "is a file of the dataset"),
        (["anchors", "--plot"], "link.png", "is a file of the dataset"),
        (["show", "-o"], "voc/Annotations/p1.xml", "is what labels or a list are called"),
        (["show", "-o"], "voc/ImageSets/Main/all.txt", "is what labels or a list are called"),
        (["show", "-o"], "voc/JPEGImages/p1.jpg", "is what a picture, video or model is called"),
        (["check", "--json"], "voc/Annotations/p1.xml", "is what labels or a list are called"),
        (["check", "--json"], "voc/ImageSets/Main/all.txt", "is what labels or a list are called"),
    ],
)
def test_no_verb_writes_over_what_it_reads(
    voc: Path, arguments: list[str], name: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A picture by its own name and by a link's, labels, a list."""
    (voc / "ImageSets" / "Main").mkdir(parents=True)
    (voc / "ImageSets" / "Main" / "all.txt").write_text("".join(f"{path.stem}\n" for path in _labels(voc)))
    Image.new("RGB", (WIDE, HIGH)).save(voc / "JPEGImages" / "extra.png")
    (voc / "Annotations" / "extra.xml").write_text((voc / "Annotations" / "p1.xml").read_text())
    Path("link.png").symlink_to(voc / "JPEGImages" / "extra.png")
    before = {path: path.read_bytes() for path in voc.rglob("*") if path.is_file()}
    verb, option = arguments
    assert main(["data", verb, "voc", option, name]) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert said in err
    assert {path: path.read_bytes() for path in voc.rglob("*") if path.is_file()} == before


def _labels(voc: Path) -> list[Path]:
    return sorted((voc / "Annotations").iterdir())


def test_a_file_of_instances_is_never_replaced_but_older_answers_are(
    voc: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "convert", "voc", "--to", "coco", "-o", "other"]) == 0
    source = Path("other/instances.json").rename("other/mine.json")
    Path("other/instances_val.json").write_text("{}")
    before = source.read_bytes()
    for name in ("other/mine.json", "other/../other/mine.json", "other/instances_val.json"):
        for arguments in (["check", "--json", name], ["show", "-o", name]):
            assert main(["data", *arguments, str(source)]) == 2
    assert (source.read_bytes(), Path("other/instances_val.json").read_text()) == (before, "{}")
    for _ in range(2):
        assert main(["data", "check", str(source), "--json", "found.json"]) == 0
        assert main(["data", "show", str(source), "-o", "page.html"]) == 0
        assert main(["data", "anchors", str(source), "-k", "1", "--plot", "curve.png"]) == 0


@pytest.mark.parametrize("name", ["voc/JPEGImages", "voc/Annotations/../JPEGImages", "link"])
def test_plots_do_not_go_among_the_pictures(voc: Path, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("link").symlink_to(voc / "JPEGImages")
    before = sorted(path.name for path in (voc / "JPEGImages").iterdir())
    assert main(["data", "stats", "voc", "--plots", name]) == 2
    said = f"--plots {name}: holds pictures of the dataset; wanted another folder"
    assert capsys.readouterr().err == f"lookonce: {said}\n"
    assert sorted(path.name for path in (voc / "JPEGImages").iterdir()) == before


def test_a_folder_without_anything_is_one_line(voc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("empty").mkdir()
    for format in ("voc", "coco", "darknet", "folder", "openimages", "cvat", "labelstudio"):
        assert main(["data", "check", "empty", "--format", format]) == 2
        assert capsys.readouterr().err.count("\n") == 1


def test_stats_prints_a_row_a_class_and_plots(voc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "stats", "voc", "--plots", "plots"]) == 0
    out, err = capsys.readouterr()
    rows = {line.split()[0]: line.split()[1:] for line in out.splitlines()}
    assert rows["cat"][:4] == ["12", "12", "0", "0"]
    assert rows["dog"][:4] == ["6", "6", "0", "0"]
    assert rows["all"][:2] == ["12", "18"]
    assert "most often 64 x 48 (12)" in out
    assert err.count("drawn: plots/") == 4
    assert {path.suffix for path in Path("plots").iterdir()} == {".png"}


def test_stats_as_json_is_one_document(voc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "stats", "voc", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert {one["name"]: one["objects"] for one in document["classes"] if one["objects"]} == {"cat": 12, "dog": 6}


@pytest.mark.parametrize("format", ["coco", "darknet"])
def test_convert_keeps_pictures_and_objects(voc: Path, format: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "convert", "voc", "--to", format, "-o", "other", "--copy", "copy"]) == 0
    assert capsys.readouterr().err == f"other: 12 pictures and 18 objects as {format}\n"
    before, after = open_dataset("voc"), open_dataset("other")
    assert after.format == format
    assert sum(len(item.truth) for item in after.items) == sum(len(item.truth) for item in before.items) == 18


def test_split_writes_lists_that_open_as_parts(voc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "split", "voc", "-o", "lists", "--shares", "train=.5,val=.5", "--seed", "3"]) == 0
    out = capsys.readouterr().out
    assert "train: 6 pictures, 9 objects  lists/ImageSets/Main/train.txt" in out
    assert "  --data voc --split lists/ImageSets/Main/val.txt\n" in out
    assert len(open_dataset("voc", split="lists/ImageSets/Main/val.txt")) == 6
    parts = [Path(f"lists/ImageSets/Main/{name}.txt").read_text().split() for name in ("train", "val")]
    assert sorted(parts[0] + parts[1]) == sorted(f"p{number}" for number in range(12))
    assert main(["data", "split", "voc", "-o", "lists", "--shares", "train=.5,val=.5"]) == 2
    assert "is there already" in capsys.readouterr().err


def test_lists_of_darknet_open_by_themselves(voc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "convert", "voc", "--to", "darknet", "-o", "other"]) == 0
    assert main(["data", "split", "other", "-o", "lists"]) == 0
    assert main(["data", "check", "lists/train.txt", "--names", "other/dataset.names"]) == 0
    out = capsys.readouterr().out
    assert "0 errors" in out.splitlines()[-1]


def test_anchors_prints_lines_for_a_cfg(voc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "anchors", "voc", "-k", "3", "--size", "64x48", "--plot", "curve.png"]) == 0
    out, err = capsys.readouterr()
    head, figures, yolo, region = out.splitlines()
    assert head == "3 anchors of 18 boxes, letterbox to 64 x 48"
    assert figures.startswith("mean IOU to the closest: ")
    pixels, cells = ([float(x) for x in line.split("anchors = ")[1].split(",")] for line in (yolo, region))
    assert len(pixels) == len(cells) == 6
    assert np.array(pixels) / 32 == pytest.approx(np.array(cells), abs=0.01)
    assert pixels[-2:] == pytest.approx([59, 34], abs=0.1)                # the dogs, all alike
    assert err == "drawn: curve.png\n"


def test_show_writes_one_page(voc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "show", "voc", "-o", "page.html", "--class", "dog", "--count", "4"]) == 0
    assert capsys.readouterr().err == "page.html: 4 of 6 pictures with dog\n"
    text = Path("page.html").read_text()
    assert text.count("data:image/jpeg") == 4
    assert text.count("<rect") == 8


def test_show_of_a_picture_that_cannot_be_read_goes_on_and_says_so(
    voc: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (voc / "JPEGImages" / "p4.jpg").write_bytes(b"no picture")
    assert main(["data", "show", "voc", "-o", "page.html"]) == 1
    assert capsys.readouterr().err.startswith("lookonce: voc/JPEGImages/p4.jpg: ")
    assert Path("page.html").read_text().count("data:image/jpeg") == 11


def test_show_of_a_class_that_is_not_there_says_which_is_near(voc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "show", "voc", "-o", "page.html", "--class", "dgo"]) == 2
    assert "has no class dgo, did you mean dog?" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["check", "stats", "convert", "split", "anchors", "show"])
def test_every_verb_explains_itself_with_two_examples(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", verb, "--help"]) == 0
    assert capsys.readouterr().out.count(f"lookonce data {verb} ") >= 3      # usage and two examples


@pytest.mark.parametrize("format", ["coco", "darknet", "openimages", "cvat", "labelstudio"])
def test_the_words_that_split_prints_open_each_part(
    voc: Path, format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "convert", "voc", "--to", format, "-o", "my set"]) == 0
    assert main(["data", "split", "my set", "-o", "the parts", "--shares", "train=.5,val=.5"]) == 0
    out = capsys.readouterr().out
    words = [shlex.split(line) for line in out.splitlines() if line.startswith("  --data ")]
    names = []
    for data, path, *rest in words:
        assert data == "--data"
        assert main(["data", "check", path, *rest]) == 0
        part = open_dataset(path, split=rest[1] if rest else None)
        assert set(part.names) >= {"cat", "dog"}
        names.append({item.path.name for item in part.items})
    assert [len(each) for each in names] == [6, 6]
    assert names[0] | names[1] == {f"p{number}.jpg" for number in range(12)}


def test_convert_says_what_is_lost_and_under_strict_refuses(voc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = voc / "Annotations" / "p1.xml"
    path.write_text(path.read_text().replace("<name>dog</name>", "<name>dog</name><difficult>1</difficult>"))
    assert main(["data", "convert", "voc", "--to", "darknet", "-o", "one", "--strict"]) == 2
    assert "one: 1 difficult objects become objects like others" in capsys.readouterr().err
    assert not Path("one").exists()
    assert main(["data", "convert", "voc", "--to", "darknet", "-o", "one"]) == 0
    assert "one: 1 difficult objects become objects like others, and figures change" in capsys.readouterr().err
    assert main(["data", "convert", "voc", "--to", "cvat", "-o", "two", "--strict"]) == 0


def test_folders_of_classes_are_told_as_pictures_of_classes(voc: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for number, path in enumerate(sorted((voc / "JPEGImages").iterdir())):
        place = Path("set") / ("cat" if number < 8 else "dog") / path.name
        place.parent.mkdir(parents=True, exist_ok=True)
        path.rename(place)
    assert main(["data", "check", "set"]) == 0
    assert capsys.readouterr().out == "0 errors and 0 warnings in 12 pictures of 2 classes\n"
    assert main(["data", "stats", "set"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines[:4]] == [["class", "pictures"], ["cat", "8"], ["dog", "4"], ["all", "12"]]
    assert lines[4] == "12 pictures of 2 classes"
    assert not any("object" in line or "aspect" in line for line in lines)
    assert main(["data", "split", "set", "-o", "parts", "--shares", "train=.5,val=.5", "--format", "folder"]) == 0
    out = capsys.readouterr().out
    assert "train: 6 pictures of 2 classes  parts/train.txt\n" in out
    assert "  --data set --split parts/train.txt --format folder\n" in out
