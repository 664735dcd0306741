"""Each format is read back by a strict reader: whole, after an interruption, whatever files and classes are called."""

from __future__ import annotations

import csv
import functools
import io
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lookonce import zoo
from lookonce.detections import Detection, Detections
from lookonce.errors import DataError
from lookonce.results import TO_FOLDER, TO_STREAM, open_writer

NAMES = ("cat", "dog")
ABOUT = {"model": "tiny", "input": [416, 416], "threshold": 0.25}
A = [Detection(1, "dog", 0.875, (10.0, 20.0, 30.0, 40.5)), Detection(0, "cat", 0.25, (-5.25, -1.0, 250.0, 130.0))]
B = [Detection(1, "dog", 0.5, (0.0, 0.0, 200.0, 100.0))]


def detections(
    rows: list[Detection], names: tuple[str, ...] = NAMES, size: tuple[int, int] = (200, 100)
) -> Detections:
    return Detections(
        xyxy=np.array([row.xyxy for row in rows], np.float32).reshape(-1, 4),
        score=np.array([row.score for row in rows], np.float32),
        label=np.array([row.label for row in rows], np.int64),
        names=names,
        size=size,
    )


Answer = tuple[str, Detections, int | None]
ANSWERS: list[Answer] = [
    ("in/a.jpg", detections(A), None), ("b.png", detections([]), None), ("clip.mp4", detections(B), 7),
]  # fmt: skip


def write(format: str, answers: list[Answer] = ANSWERS, about: dict[str, Any] = ABOUT) -> str:
    """What a run over `answers` prints."""
    out = io.StringIO(newline="")
    with open_writer(format, None, out, about) as writer:
        for answer in answers:
            writer.add(*answer)
    return out.getvalue()


def write_into(format: str, folder: Path, answers: list[Answer] = ANSWERS) -> dict[str, str]:
    """The files that a run over `answers` leaves, by name."""
    with open_writer(format, folder, io.StringIO(), ABOUT) as writer:
        for answer in answers:
            writer.add(*answer)
    return {path.name: path.read_bytes().decode() for path in folder.iterdir()}


def strict_json(text: str) -> Any:
    """JSON as RFC 8259 has it: no NaN, no Infinity, no key twice."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len(dict(pairs)) == len(pairs)
        return dict(pairs)

    def refuse(word: str) -> None:
        pytest.fail(f"{word} is no JSON")

    return json.loads(text, object_pairs_hook=once, parse_constant=refuse)


def strict_csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline=""), strict=True))


# ---------------------------------------------------------------------- JSON, JSON lines, CSV
PICTURES = [
    {"file": "in/a.jpg", "width": 200, "height": 100, "detections": [
        {"label": 1, "name": "dog", "score": 0.875, "xyxy": [10, 20, 30, 40.5]},
        {"label": 0, "name": "cat", "score": 0.25, "xyxy": [-5.25, -1, 250, 130]},
    ]},
    {"file": "b.png", "width": 200, "height": 100, "detections": []},
    {"file": "clip.mp4", "frame": 7, "width": 200, "height": 100, "detections": [
        {"label": 1, "name": "dog", "score": 0.5, "xyxy": [0, 0, 200, 100]},
    ]},
]  # fmt: skip


@pytest.mark.parametrize("about", [ABOUT, {}], ids=["settings", "no settings"])
def test_json_is_one_document_of_settings_and_pictures(about: dict[str, Any]) -> None:
    assert strict_json(write("json", about=about)) == {**about, "pictures": PICTURES}


def test_json_of_no_picture_is_a_document() -> None:
    assert strict_json(write("json", [])) == {**ABOUT, "pictures": []}


def test_json_lines_are_one_object_a_picture() -> None:
    text = write("jsonl")
    assert text.endswith("\n")
    assert [strict_json(line) for line in text.splitlines()] == PICTURES
    assert write("jsonl", []) == ""


def test_csv_is_one_row_a_box() -> None:
    head = ["file", "frame", "label", "name", "score", "left", "top", "right", "bottom"]
    expected = [
        ["in/a.jpg", "", "1", "dog", "0.875", "10.0", "20.0", "30.0", "40.5"],
        ["in/a.jpg", "", "0", "cat", "0.25", "-5.25", "-1.0", "250.0", "130.0"],
        ["clip.mp4", "7", "1", "dog", "0.5", "0.0", "0.0", "200.0", "100.0"],
    ]
    assert strict_csv(write("csv")) == [dict(zip(head, row, strict=True)) for row in expected]
    assert list(csv.reader(io.StringIO(write("csv", []), newline=""), strict=True)) == [head]


def test_scores_keep_six_places_and_pixels_two() -> None:
    third = detections([Detection(0, "cat", 1 / 3, (1 / 3, 10 / 3, 100 / 3, 1000 / 3))])
    (row,) = strict_json(write("jsonl", [("a.jpg", third, None)]))["detections"]
    assert (row["score"], row["xyxy"]) == (0.333333, [0.33, 3.33, 33.33, 333.33])


# ---------------------------------------------------------------------- COCO
COCO = [*range(1, 12), *range(13, 26), 27, 28, *range(31, 45), *range(46, 66), 67, 70, *range(72, 83), *range(84, 91)]


def test_coco_rows_have_the_corner_the_size_and_the_score_of_the_box_inside_the_picture() -> None:
    assert strict_json(write("coco", [("in/COCO_val2014_000000000042.jpg", detections(A), None)])) == [
        {"image_id": 42, "category_id": 2, "bbox": [10, 20, 20, 20.5], "score": 0.875},
        {"image_id": 42, "category_id": 1, "bbox": [0, 0, 200, 100], "score": 0.25},
    ]


def test_coco_numbers_its_80_classes_from_1_to_90_with_gaps() -> None:
    """As Darknet's coco_ids, and as in the annotations that pycocotools reads."""
    assert len(COCO) == 80
    coco, other = zoo.name_lists()["coco"], tuple(f"class {label}" for label in range(80))
    for names, numbers in ((coco, COCO), (coco[::-1], COCO[::-1]), (other, [*range(1, 81)])):
        rows = [Detection(label, names[label], 0.5, (1.0, 2.0, 3.0, 4.0)) for label in range(80)]
        found = strict_json(write("coco", [("1.jpg", detections(rows, names), None)]))
        assert [row["category_id"] for row in found] == numbers


IDS = {"000000581781.jpg": 581781, "COCO_val2014_000000000042.jpg": 42, "in_7/img-3.jpg": 3, "img3b.png": "img3b",
       "a.b.12.jpg": 12, "0.jpg": 0, "no number": "no number", "v1.5/photo.jpg": "photo"}  # fmt: skip


@pytest.mark.parametrize(("file", "image"), IDS.items())
def test_coco_takes_the_number_at_the_end_of_a_name_as_the_id(file: str, image: int | str) -> None:
    (row,) = strict_json(write("coco", [(file, detections(B), None)]))
    assert row["image_id"] == image


def test_coco_of_no_box_is_an_empty_list() -> None:
    """Darknet's own file is damaged there."""
    assert strict_json(write("coco", [])) == strict_json(write("coco", [("1.jpg", detections([]), None)])) == []


# ---------------------------------------------------------------------- VOC and Darknet's labels
def test_voc_has_a_file_a_class_that_counts_from_1_and_ends_at_the_edge(tmp_path: Path) -> None:
    """Darknet adds 1 to each corner and then cuts at 1 and at the picture's size (its detector valid)."""
    found = write_into("voc", tmp_path / "out")
    assert found == {
        "comp4_det_test_cat.txt": "a 0.250000 1.000000 1.000000 200.000000 100.000000\n",
        "comp4_det_test_dog.txt": "a 0.875000 11.000000 21.000000 31.000000 41.500000\n"
                                  "clip_7 0.500000 1.000000 1.000000 200.000000 100.000000\n",
    }  # fmt: skip


def test_voc_has_an_empty_file_for_a_class_that_was_not_found(tmp_path: Path) -> None:
    assert write_into("voc", tmp_path, [("a.jpg", detections(B), None)])["comp4_det_test_cat.txt"] == ""


@pytest.mark.parametrize("names", [("a/b", "a_b"), ("é" * 200, "é" * 201), ("..", "/"), ("x\n", "x\0")])
def test_voc_writes_every_class_into_a_file_of_its_own_inside_the_folder(
    names: tuple[str, str], tmp_path: Path
) -> None:
    rows = [Detection(label, name, 0.5, (label + 1.0, 2.0, 3.0, 4.0)) for label, name in enumerate(names)]
    found = write_into("voc", tmp_path / "in" / "out", [("a.jpg", detections(rows, names), None)])
    lines = {"a 0.500000 2.000000 3.000000 4.000000 5.000000\n", "a 0.500000 3.000000 3.000000 4.000000 5.000000\n"}
    assert set(found.values()) == lines
    assert len(found) == 2
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["out"]


@pytest.mark.parametrize("file", ["\udcff.jpg", "a\nb 1 2 3 4 5.jpg", "\r.jpg"], ids=ascii)
def test_voc_lines_stay_lines_whatever_a_picture_is_called(file: str, tmp_path: Path) -> None:
    for text in write_into("voc", tmp_path, [(file, detections(A), None)]).values():
        assert len(text.splitlines()) == 1
        assert text.endswith("\n")


def test_darknet_labels_are_the_class_the_centre_and_the_size_and_nothing_that_darknet_would_misread(
    tmp_path: Path,
) -> None:
    """20 x 20.5 around (20, 30.25) of 200 x 100; one cut at the edge. A sixth column would be read as the next box."""
    assert write_into("darknet", tmp_path) == {
        "a.txt": "1 0.100000 0.302500 0.100000 0.205000\n0 0.500000 0.500000 1.000000 1.000000\n",
        "b.txt": "",
        "clip_7.txt": "1 0.500000 0.500000 1.000000 1.000000\n",
    }


def test_darknet_labels_of_two_pictures_of_one_name_do_not_replace_each_other(tmp_path: Path) -> None:
    answers: list[Answer] = [("one/a.jpg", detections(A), None), ("two/a.jpg", detections(B), None)]
    with pytest.raises(DataError, match=r"two/a\.jpg: .*one/a\.jpg"):
        write_into("darknet", tmp_path, answers)
    assert (tmp_path / "a.txt").read_text().startswith("1 0.100000")


@pytest.mark.parametrize("format", ["coco", "voc"])
@pytest.mark.parametrize("names", [("one/7.jpg", "two/7.jpg"), ("clip.mp4", "in/clip.avi")])
def test_two_pictures_are_never_judged_as_one(format: str, names: tuple[str, str], tmp_path: Path) -> None:
    frame = 3 if names[0] == "clip.mp4" else None
    answers: list[Answer] = [(name, detections(B), frame) for name in names]
    run = functools.partial(write_into, format, tmp_path) if format == "voc" else functools.partial(write, format)
    with pytest.raises(DataError, match=rf"{names[1]}: .*{names[0]}"):
        run(answers)


@pytest.mark.parametrize("format", TO_FOLDER)
def test_a_format_of_several_files_asks_for_a_folder(format: str) -> None:
    with pytest.raises(DataError, match=f"--format {format} .*-o FOLDER"):
        write(format)


# ---------------------------------------------------------------------- hostile names
HOSTILE = ["two\nlines", "\r\t\0", "\x1b[2J\x1b]0;x\x07", "\u202eright to left", "\u2028", '"quoted", {json}', "é犬😀",
           "\udcff", "<img src=x>", "=1+1", "x" * 10_000, ""]  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_a_table_has_one_line_a_box_whatever_files_and_classes_are_called(name: str) -> None:
    found = detections([Detection(0, name, 0.5, (1.0, 2.0, 3.0, 4.0))], (name,))
    text = write("table", [(name, found, None), (name, found, 3)])
    assert len(text.splitlines()) == 4
    assert all(line.isprintable() for line in text.split("\n"))
    assert all(len(line) < 5000 for line in text.splitlines())


@pytest.mark.parametrize("name", HOSTILE, ids=range(len(HOSTILE)))
def test_other_formats_give_names_back_as_they_were(name: str, tmp_path: Path) -> None:
    """Also from a file, which must be UTF-8: there JSON escapes a byte that is none."""
    answers: list[Answer] = [(name, detections([Detection(0, name, 0.5, (1.0, 2.0, 3.0, 4.0))], (name,)), None)]
    texts = {}
    for format in ("json", "jsonl", "csv"):
        with open_writer(format, tmp_path / "out", io.StringIO(), ABOUT) as writer:
            writer.add(*answers[0])
        texts[format] = (tmp_path / "out").read_bytes().decode("utf-8")
    (picture,) = strict_json(texts["json"])["pictures"]
    assert (picture["file"], picture["detections"][0]["name"]) == (name, name)
    assert strict_json(texts["jsonl"]) == picture
    assert texts["jsonl"].count("\n") == 1
    (row,) = strict_csv(texts["csv"])
    escaped = name.encode("utf-8", "backslashreplace").decode()
    assert (row["file"], row["name"]) == (escaped, escaped)


def test_a_table_lines_its_columns_up() -> None:
    assert write("table").splitlines() == [
        "in/a.jpg: 1 dog, 1 cat",
        "  dog  0.88     10    20    30    40",
        "  cat  0.25     -5    -1   250   130",
        "b.png: nothing found",
        "clip.mp4 frame 7: 1 dog",
        "  dog  0.50      0     0   200   100",
    ]


# ---------------------------------------------------------------------- interrupted runs, and files
READERS = {
    "json": lambda text: [picture["file"] for picture in strict_json(text)["pictures"]],
    "jsonl": lambda text: [strict_json(line)["file"] for line in text.splitlines()],
    "csv": lambda text: list(dict.fromkeys(row["file"] for row in strict_csv(text))),
    "coco": lambda text: list(dict.fromkeys(row["image_id"] for row in strict_json(text))),
    "table": lambda text: [line.split(":")[0] for line in text.splitlines() if line[0] != " "],
}
FILES: list[Answer] = [("a", detections(A), None), ("b", detections(B), None), ("c", detections(A), None)]


def run(format: str, out: Path | None, stdout: io.StringIO, end: BaseException | None, answers: list[Answer]) -> None:
    with open_writer(format, out, stdout, ABOUT) as writer:
        for answer in answers:
            writer.add(*answer)
        if end is not None:
            raise end


def test_every_format_is_tested_here() -> None:
    assert READERS.keys() == TO_STREAM.keys()


@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.parametrize("format", READERS)
def test_an_interrupted_run_leaves_a_whole_document_of_what_was_known(format: str, count: int, tmp_path: Path) -> None:
    stdout, out = io.StringIO(newline=""), tmp_path / "out"
    for where in (None, out):
        with pytest.raises(KeyboardInterrupt):
            run(format, where, stdout, KeyboardInterrupt(), FILES[:count])
    assert READERS[format](stdout.getvalue()) == ["a", "b"][:count]
    assert list(tmp_path.iterdir()) == ([out] if count else [])             # nothing known: no file
    if count:
        assert READERS[format](out.read_bytes().decode()) == ["a", "b"][:count]


class Interrupted(Detections):
    """An answer during whose writing the user presses Ctrl-C."""

    def rows(self) -> list[dict[str, Any]]:
        raise KeyboardInterrupt

    def clipped(self) -> Detections:
        raise KeyboardInterrupt


@pytest.mark.parametrize("format", ["json", "jsonl", "csv", "coco"])
@pytest.mark.parametrize("count", [0, 2])
def test_an_interruption_while_an_answer_is_written_leaves_a_whole_document(format: str, count: int) -> None:
    found = detections(A)
    last = Interrupted(found.xyxy, found.score, found.label, found.names, found.size)
    stdout = io.StringIO(newline="")
    with pytest.raises(KeyboardInterrupt):
        run(format, None, stdout, None, [*FILES[:count], ("c", last, None)])
    assert READERS[format](stdout.getvalue()) == ["a", "b"][:count]


@pytest.mark.parametrize("end", [ValueError("a bug"), DataError("a user's mistake"), OSError("a full disk")], ids=repr)
@pytest.mark.parametrize("format", READERS)
def test_a_run_that_fails_leaves_what_was_known_and_without_anything_the_old_file(
    format: str, end: Exception, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    out.write_text("older")
    for answers in ([], FILES):
        with pytest.raises(type(end), match=str(end)):
            run(format, out, io.StringIO(), end, answers)
        if not answers:
            assert out.read_text() == "older"
    assert READERS[format](out.read_bytes().decode()) == ["a", "b", "c"]
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("format", READERS)
def test_half_an_answer_is_never_kept(format: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the disk is full in the middle of one."""
    out = tmp_path / "out"
    out.write_text("older")

    whole = TO_STREAM[format].add  # type: ignore[attr-defined]

    def half(self: Any, file: str, found: Detections, frame: int | None = None) -> None:
        if file == "b":
            self._out.write("[{")
            raise OSError("no space")
        whole(self, file, found, frame)

    monkeypatch.setattr(TO_STREAM[format], "add", half)
    with pytest.raises(OSError, match="no space"):
        run(format, out, io.StringIO(), None, FILES)
    assert out.read_text() == "older"


def test_a_table_is_cut_where_nobody_reads_on() -> None:
    many = detections(A)[np.zeros(1000, np.int64)]
    out = io.StringIO()
    run("table", None, out, None, [("a", many, None)])
    lines = out.getvalue().splitlines()
    assert (len(lines), lines[-1]) == (302, "  and 700 more: --format jsonl gives all, --thresh leaves out")


def test_a_label_file_of_other_contents_is_never_replaced(tmp_path: Path) -> None:
    """It may be the truth, beside its picture."""
    truth = tmp_path / "a.txt"
    truth.write_text("0 .5 .5 .1 .1\n")
    with pytest.raises(DataError, match=r"a\.txt: is there already with other contents"):
        run("darknet", tmp_path, io.StringIO(), None, FILES[:1])
    assert truth.read_text() == "0 .5 .5 .1 .1\n"
    for _ in range(2):                                       # the same again is no harm
        run("darknet", tmp_path / "new", io.StringIO(), None, FILES)


@pytest.mark.parametrize("format", READERS)
def test_a_file_appears_only_when_it_is_whole(format: str, tmp_path: Path) -> None:
    out, stdout = tmp_path / "new" / "out", io.StringIO()
    with open_writer(format, out, stdout, ABOUT) as writer:
        for answer in FILES:
            writer.add(*answer)
            assert not out.exists()
    assert READERS[format](out.read_bytes().decode()) == ["a", "b", "c"]
    assert stdout.getvalue() == ""


def test_a_pipe_or_device_that_is_named_as_the_file_is_written_to_and_stays(tmp_path: Path) -> None:
    """Root's `-o /dev/null` must not put a file in the place of the device."""
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    run("jsonl", pipe, io.StringIO(), None, FILES)
    assert pipe.is_fifo()
    assert READERS["jsonl"](os.read(reader, 1 << 16).decode()) == ["a", "b", "c"]
    os.close(reader)
    assert list(tmp_path.iterdir()) == [pipe]


@pytest.mark.parametrize("format", ["jsonl", "table"])
def test_lines_reach_standard_output_as_soon_as_they_are_known(format: str) -> None:
    class Slow(io.StringIO):
        flushed = ""

        def flush(self) -> None:
            self.flushed = self.getvalue()

    out = Slow()
    with open_writer(format, None, out, ABOUT) as writer:
        writer.add(*FILES[0])
        assert READERS[format](out.flushed) == ["a"]


@pytest.mark.parametrize("format", TO_FOLDER)
def test_an_interrupted_run_keeps_what_several_files_know(format: str, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(format, tmp_path / "out", io.StringIO(), KeyboardInterrupt(), FILES[:2])
    names = {"voc": ["comp4_det_test_cat.txt", "comp4_det_test_dog.txt"], "darknet": ["a.txt", "b.txt"]}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == names[format]
    assert all(path.read_text() for path in (tmp_path / "out").iterdir())
