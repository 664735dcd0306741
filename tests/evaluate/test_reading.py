from __future__ import annotations

import csv
import io
import json
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

from lookonce import results, zoo
from lookonce.detections import Detections
from lookonce.errors import DataError, LookonceWarning
from lookonce.evaluate.reading import names_in, read_results

PICTURES = ("000007", "000012", "photo")
NAMES = ("cat", "dog", "tv/monitor")
ROW = {"image_id": 12, "category_id": 2, "bbox": [10.0, 20.0, 5.0, 6.0], "score": 0.5}


def put(folder: Path, text: str, name: str = "results.json") -> Path:
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text, newline="")
    return path


def detections(names: tuple[str, ...] = NAMES) -> list[Detections]:
    """Three pictures: two boxes, none, one that reaches over the edge."""
    sizes = (100, 80)
    two = Detections(
        np.array([[10.25, 20.5, 30, 40], [0, 0, 5, 5.75]], np.float32), np.array([0.875, 0.25], np.float32),
        np.array([2, 0]), names, sizes,
    )  # fmt: skip
    one = Detections(np.array([[-3, 4, 99, 90]], np.float32), np.array([0.5], np.float32), np.array([1]), names, sizes)
    return [two, Detections.none(names, sizes), one]


WHOLE = [(0, 2, 0.875, [10.25, 20.5, 30, 40]), (0, 0, 0.25, [0, 0, 5, 5.75]), (2, 1, 0.5, [-3, 4, 99, 90])]
CUT = [*WHOLE[:2], (2, 1, 0.5, [0, 4, 99, 80])]


def rows(found) -> list[tuple]:
    """The rows in one order, whatever the file's."""
    columns = (found.picture, found.label, found.score, found.xyxy)
    return sorted(tuple(row) for row in zip(*(column.tolist() for column in columns), strict=True))


@pytest.mark.parametrize("format", ["json", "jsonl", "csv", "coco"])
def test_what_our_writers_write_is_read_back(tmp_path, format):
    """COCO's form is cut at the edge; `photo` ends in no number and keeps its name as its id."""
    path = tmp_path / "out"
    with results.open_writer(format, path, io.StringIO(), {"model": "m"}) as writer:
        for name, found in zip(PICTURES, detections(), strict=True):
            writer.add(f"some/folder/{name}.jpg", found)
    got = read_results(path, PICTURES, NAMES)
    assert rows(got) == sorted(CUT if format == "coco" else WHOLE)
    assert np.allclose(got.xywh[:, 2:], got.xyxy[:, 2:] - got.xyxy[:, :2])


def test_vocs_files_are_read_as_the_devkit_measures_them(tmp_path):
    """The writer adds 1 to all corners and cuts at the edge; the devkit's box of x1 to x2 is x2 - x1 + 1 wide."""
    with results.open_writer("voc", tmp_path / "out", io.StringIO(), {}) as writer:
        for name, found in zip(PICTURES, detections(), strict=True):
            writer.add(f"{name}.jpg", found)
    wanted = [
        (0, 2, 0.875, [10.25, 20.5, 31, 41]),
        (0, 0, 0.25, [0, 0, 6, 6.75]),
        (2, 1, 0.5, [0, 4, 100, 80]),
    ]
    assert rows(read_results(tmp_path / "out", PICTURES, NAMES)) == sorted(wanted)
    one = read_results(tmp_path / "out" / "comp4_det_test_tv_monitor.txt", PICTURES, NAMES)
    assert rows(one) == wanted[:1]


def test_corners_of_voc_are_kept_exact(tmp_path):
    path = put(tmp_path, "photo 0.9 1 1 1 1\r\n000007 0.25 12.5 3 40 60\r\n\r\n", "comp3_det_val_cat.txt")
    got = read_results(path, PICTURES, NAMES)
    assert rows(got) == [(0, 0, 0.25, [11.5, 2, 40, 60]), (2, 0, 0.9, [0, 0, 1, 1])]
    assert got.xywh.tolist() == [[0, 0, 1, 1], [11.5, 2, 28.5, 58]]


def test_darknets_files_are_read(tmp_path):
    """`detector valid` writes its -out before the class; names with spaces are split from the right."""
    put(tmp_path / "voc", "my photo 0.5 1 2 3 4\n", "mineracecar.txt")
    put(tmp_path / "voc", "", "minecar.txt")
    assert rows(read_results(tmp_path / "voc", ["my photo"], ["car", "racecar"])) == [(0, 1, 0.5, [0, 1, 3, 4])]
    text = (
        '[\n{"image_id":12, "category_id":3, "bbox":[1.000000, 2.000000, 3.000000, 4.000000], "score":0.500000},\n'
        '{"image_id":7, "category_id":1, "bbox":[1.000000, 2.000000, 0.000000, 4.000000], "score":0.250000}\n]\n'
    )
    got = read_results(put(tmp_path, text, "coco_results.json"), PICTURES, NAMES)
    assert rows(got) == [(0, 0, 0.25, [1, 2, 1, 6]), (1, 2, 0.5, [1, 2, 4, 6])]
    with pytest.raises(DataError, match="holds no box at all"):        # Darknet's own, where nothing is detected
        read_results(put(tmp_path, "\n]\n", "coco_results.json"), PICTURES, NAMES)


@pytest.mark.parametrize("score_first", [True, False])
def test_labels_with_a_score_are_read_where_only_one_column_can_be_it(tmp_path, score_first):
    """A small box in a corner with a large score: taken for a side, the score would lead out of the picture."""
    place, score = "0.9 0.875 0.125 0.25", "0.95"
    line = f"1 {score} {place}" if score_first else f"1 {place} {score}"
    put(tmp_path / "labels", f"{line}\n", "photo.txt")
    put(tmp_path / "labels", "", "000007.txt")
    got = read_results(tmp_path / "labels", PICTURES, NAMES, sizes=[None, None, (200, 100)])
    assert rows(got) == [(2, 1, 0.95, [167.5, 75, 192.5, 100])]
    with pytest.raises(DataError, match=r"photo\.txt:1: is relative to its picture, whose size is not known"):
        read_results(tmp_path / "labels", PICTURES, NAMES)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("1 0.5 0.5 0.5 0.5 0.5", "is the score the second column or the last?"),
        ("1 0.5 0.5 0.1 0.1", "photo.txt:1: has 5 columns, wanted 6"),
        ("3 0.9 0.9 0.1 0.1 0.95", "photo.txt:1: class 3, wanted 0 to 2"),
        ("1.5 0.9 0.9 0.1 0.1 0.95", "photo.txt:1: class 1.5, wanted 0 to 2"),
        ("cat 0.9 0.9 0.1 0.1 0.95", "photo.txt:1: number: found 'cat', wanted a finite number"),
    ],
)
def test_labels_that_could_be_anything_are_refused(tmp_path, line, message):
    put(tmp_path / "labels", line, "photo.txt")
    with pytest.raises(DataError) as caught:
        read_results(tmp_path / "labels", PICTURES, NAMES, sizes=[(9, 9)] * 3)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("pictures", "image"),
    [
        (["139", "285"], 139),
        (["139", "285"], "139"),
        (["139", "285"], "000000000139"),
        (["139", "285"], "COCO_val2014_000000000139"),
        (["000000000139", "285"], 139),
        (["COCO_val2014_000000000139", "COCO_val2014_000000000285"], 139),
        (["a139", "139"], 139),
    ],
)
def test_a_picture_is_known_by_name_and_by_number(tmp_path, pictures, image):
    path = put(tmp_path, json.dumps([{**ROW, "image_id": image}]))
    found = pictures[read_results(path, pictures, NAMES).picture[0]]
    assert found.endswith("139")
    assert found != "a139"


def test_a_number_that_two_pictures_end_in_is_refused(tmp_path):
    path = put(tmp_path, json.dumps([{**ROW, "image_id": 7}]))
    with pytest.raises(DataError, match=r"\[0\]: picture 7 is several of this dataset"):
        read_results(path, ["a_7", "b_7"], NAMES)


def test_classes_are_numbered_as_the_dataset_says(tmp_path):
    path = put(tmp_path, json.dumps([{**ROW, "category_id": 90}]))
    assert read_results(path, PICTURES, NAMES, {3: 0, 90: 1, 4: 2}).label.tolist() == [1]
    coco = zoo.name_lists()["coco"]
    assert read_results(path, PICTURES, coco).label.tolist() == [79]
    assert read_results(path, PICTURES, coco[::-1]).label.tolist() == [0]
    other = [str(n) for n in range(80)]
    with pytest.raises(DataError, match="class 90 is none of"):
        read_results(path, PICTURES, other)
    path = put(tmp_path, json.dumps([{**ROW, "category_id": 80}]))
    assert read_results(path, PICTURES, other).label.tolist() == [79]


def own(*files: str, name: str = "cat") -> str:
    """Our JSON: in each picture one box, whose score tells which picture it was."""
    rows = [{"name": name, "score": (at + 1) / 8, "xyxy": [1, 2, 3, 4]} for at in range(len(files))]
    return json.dumps({"pictures": [{"file": f, "detections": [row]} for f, row in zip(files, rows, strict=True)]})


def test_our_forms_go_by_file_and_cocos_by_id(tmp_path):
    """Ids 1 and 2 in files 000002 and 000001, and one whose id says nothing of its file."""
    ids, files = ["1", "2", "3"], ["some/000002.jpg", "some/000001.jpg", "some/dog.jpg"]
    path = put(tmp_path, own("000001.jpg", "/else/000002.png", "dog.jpg"))
    assert read_results(path, ids, NAMES, files=files).picture.tolist() == [1, 0, 2]
    path = put(tmp_path, json.dumps([{**ROW, "image_id": id} for id in (1, "2", "dog")]))
    assert read_results(path, ids, NAMES, files=files).picture.tolist() == [0, 1, 2]
    with pytest.raises(DataError, match=r"pictures\[0\]: detections\[0\]: picture '1.jpg' is none of the 3"):
        read_results(put(tmp_path, own("1.jpg")), ids, NAMES, files=files)
    voc = put(tmp_path, "000001 0.5 1 2 3 4\n", "comp4_det_test_cat.txt")
    assert read_results(voc, ids, NAMES, files=files).picture.tolist() == [1]


def test_files_of_one_name_are_told_apart_by_their_folders(tmp_path):
    files = ["set/a/x.jpg", "set/b/x.jpg", "set/b/x.png"]
    path = put(tmp_path, own("/at/home/b/x.jpg", "a\\x.jpg", "b/x.png"))
    assert read_results(path, ["x", "x", "x"], NAMES, files=files).picture.tolist() == [1, 0, 2]
    for name in ("x.jpg", "c/x.jpg", "b/x"):
        with pytest.raises(DataError, match=r"is several of this dataset \(set/.*\): give it with its folder"):
            read_results(put(tmp_path, own(name)), ["x", "x", "x"], NAMES, files=files)
    with pytest.raises(DataError, match="picture 'x' is several|picture x is several"):
        read_results(put(tmp_path, json.dumps([{**ROW, "image_id": "x"}])), ["x", "x", "x"], NAMES, files=files)
    with pytest.raises(DataError, match=r"picture d/x.jpg is y, as c/x.jpg is, wanted one"):
        read_results(put(tmp_path, own("c/x.jpg", "d/x.jpg")), ["y"], NAMES, files=["x.jpg"])


def test_a_class_is_known_by_its_other_names(tmp_path):
    """Darknet says aeroplane, COCO airplane; a name that is another class's is that class."""
    names = ("airplane", "couch", "sofa")
    for name, label in (("aeroplane", 0), ("Air-Plane", 0), ("sofa", 2), ("couch", 1)):
        assert read_results(put(tmp_path, own("photo.jpg", name=name)), PICTURES, names).label.tolist() == [label]
    voc = put(tmp_path, "photo 0.5 1 2 3 4\n", "comp4_det_test_aeroplane.txt")
    assert read_results(voc, PICTURES, names).label.tolist() == [0]


def test_frames_of_a_video_are_pictures_of_their_own(tmp_path):
    for format in ("json", "jsonl", "csv"):
        path = tmp_path / format
        with results.open_writer(format, path, io.StringIO(), {}) as writer:
            writer.add("a.b.mp4", detections()[0], 3)
            writer.add("a.b.mp4", detections()[2], 4)
        assert read_results(path, ["a.b_4", "a.b_3"], NAMES).picture.tolist() == [1, 1, 0]


def coco(**change: object) -> str:
    return json.dumps([ROW, {**ROW, **change}])


def without(key: str) -> str:
    return json.dumps([ROW, {name: value for name, value in ROW.items() if name != key}])


BAD = [
    ("", "holds no box at all"),
    ("[]", "holds no box at all"),
    ('{"pictures": []}', "holds no box at all"),
    ("[", ":1: not JSON: "),
    ("[\n{]", ":2: not JSON: "),
    ("[" * 100_000, "no JSON that can be read"),
    ("hello", "begins with 'hello', wanted COCO's results"),
    ("[1]", "[0]: found 1, wanted an object"),
    ("[[1]]", "[0]: found [1], wanted an object"),
    ('{"annotations": [], "images": []}', "is a dataset"),
    ('{"a": 1}', "has the keys a, wanted pictures"),
    ('{"pictures": [{"file": "photo"}]}', "pictures[0]: wanted an object with a file and a list of detections"),
    (without("bbox"), "[1]: has no bbox"),
    (without("score"), "[1]: has no score: are these truths, not results?"),
    (coco(image_id=13), "[1]: picture 13 is none of the 3 pictures that are judged (000007, 000012, photo, ...)"),
    (coco(image_id="phot"), "[1]: picture 'phot' is none of the 3 pictures"),
    (coco(image_id="phot"), "did you mean photo?"),
    (coco(image_id=None), "[1]: picture None is none of"),
    (coco(image_id=[1]), "[1]: picture [1] is none of"),
    (coco(category_id=4), "[1]: class 4 is none of the 3 classes that are judged (1, 2, 3, ...)"),
    (coco(category_id=0), "[1]: class 0 is none of"),
    (coco(category_id=True), "[1]: class True is none of"),
    (coco(category_id="dog"), "[1]: class 'dog' is none of"),
    (coco(score=float("nan")), "[1]: score: found 'nan', wanted a finite number"),
    (coco(score="0.5"), "[1]: score: found '0.5', wanted a finite number"),
    (coco(score=True), "[1]: score: found 'True', wanted a finite number"),
    (coco(score=10**400), "[1]: score: found '1000"),
    (coco(bbox=[0, 0, float("inf"), 1]), "[1]: box: found 'inf', wanted a finite number"),
    (coco(bbox=[0, 0, 1]), "[1]: found the box [0, 0, 1], wanted four numbers"),
    (coco(bbox="abcd"), "[1]: found the box 'abcd', wanted four numbers"),
    (coco(bbox=7), "[1]: found the box 7, wanted four numbers"),
    (coco(bbox=[0, 0, -1, 1]), "[1]: the box [0.0, 0.0, -1.0, 1.0] has a width or height below 0"),
]


@pytest.mark.parametrize(("text", "message"), BAD)
def test_what_is_no_result_is_refused_in_one_line(tmp_path, text, message):
    path = put(tmp_path, text)
    with pytest.raises(DataError) as caught:
        read_results(path, PICTURES, NAMES)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def ours(**change: object) -> str:
    row = {"label": 0, "name": "cat", "score": 0.5, "xyxy": [1, 2, 3, 4], **change}
    good = {"label": 1, "name": "dog", "score": 0.5, "xyxy": [0, 0, 9, 9]}
    return json.dumps({"file": "photo.jpg", "detections": [good, row]})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ours(name="ca").replace("dog", "do"), ":2: detections[0]: class 'do' is none of the 3 classes that are"),
        (ours(name="ca").replace("dog", "do"), "did you mean dog?"),
        (ours(xyxy=[3, 0, 2, 1]), ":2: detections[1]: the box [3.0, 0.0, 2.0, 1.0] has a right or bottom before"),
        (ours(score=None), ":2: detections[1]: score: found 'None'"),
        ('{"file": "000007.jpg", "detections": []}', ":2: picture 000007.jpg is there for the second time"),
        ("{", ":2: not JSON"),
        ("[]", ":2: wanted an object with a file"),
    ],
)
def test_a_bad_line_of_json_lines_is_named(tmp_path, text, message):
    first = json.dumps({"file": "000007.jpg", "detections": []})
    with pytest.raises(DataError) as caught:
        read_results(put(tmp_path, f"{first}\n{text}\n"), PICTURES, NAMES)
    assert message in str(caught.value)


def test_boxes_of_classes_that_are_not_judged_are_left_out_and_it_is_said(tmp_path):
    """A model of more classes than the dataset: of the two boxes one is a dog's, which is judged."""
    with pytest.warns(LookonceWarning, match=r"detections\[1\]: class 'bench' is not judged: 1 of 2 boxes, of 1 such"):
        found = read_results(put(tmp_path, ours(name="bench")), PICTURES, NAMES)
    assert rows(found) == [(2, 1, 0.5, [0, 0, 9, 9])]


def test_the_head_of_our_json_says_all_classes_of_the_model(tmp_path):
    """Also those of which nothing was found; other files say none."""
    path = tmp_path / "out.json"
    with results.open_writer("json", path, io.StringIO(), {"model": "m", "names": NAMES}) as writer:
        writer.add("photo.jpg", detections()[1])
    assert names_in(path) == NAMES
    for text in ("", "[]", '{"pictures": []}', '{"names": [1], "pictures": [\n]}', "[" * 9999, ours()):
        assert names_in(put(tmp_path, text)) == ()
    assert names_in(tmp_path / "none.json") == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,score,name\n", ":1: has no column left"),
        ("{header}photo,,0,cat,0.5,1,2,3\n", ":2: has 8 columns, wanted 9"),
        ("{header}\nphoto,,0,cat,x,1,2,3,4\n", ":3: score: found 'x', wanted a finite number"),
        ("{header}photo,,0,cat,nan,1,2,3,4\n", ":2: score: found 'nan', wanted a finite number"),
        ("{header}photo,,0,cat,0.5,1,2,3,1e999\n", ":2: box: found '1e999', wanted a finite number"),
        ('{header}photo,,0,"cat,0.5,1,2,3,4\n', ":2: not CSV"),
        ("{header}", "holds no box at all"),
    ],
)
def test_a_bad_row_of_csv_is_named(tmp_path, text, message):
    header = "file,frame,label,name,score,left,top,right,bottom\n"
    with pytest.raises(DataError) as caught:
        read_results(put(tmp_path, text.replace("{header}", header), "out.csv"), PICTURES, NAMES)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "holds no .txt file"),
        ({"comp4_det_test_cat.txt": "", "comp4_det_test_dog.txt": ""}, "holds no box at all"),
        ({"comp4_det_test_cats.txt": ""}, "'cats' is none of the classes, did you mean cat?"),
        ({"readme.txt": ""}, "its name ends in none of the 3 classes"),
        ({"comp3_det_test_cat.txt": "", "comp4_det_test_cat.txt": ""}, "is of the same class as comp3_det_test_cat"),
        ({"comp4_det_test_cat.txt": "photo 1 2 3 4"}, "cat.txt:1: has 5 columns, wanted 6"),
        ({"comp4_det_test_cat.txt": "\nphoto 0.5 5 1 4 2"}, "cat.txt:2: the box [5.0, 1.0, 4.0, 2.0] has a right"),
        ({"comp4_det_test_cat.txt": "phot 0.5 1 1 4 2"}, "cat.txt:1: picture 'phot' is none of"),
        ({"comp4_det_test_cat.txt": "photo 0.5 1 1 x 2"}, "cat.txt:1: box: found 'x'"),
    ],
)
def test_a_bad_folder_is_refused(tmp_path, files, message):
    folder = tmp_path / "voc"
    folder.mkdir()
    for name, text in files.items():
        put(folder, text, name)
    with pytest.raises(DataError) as caught:
        read_results(folder, PICTURES, NAMES)
    assert message in str(caught.value)


def test_a_missing_or_binary_file_is_refused(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_results(tmp_path / "absent.json", PICTURES, NAMES)
    path = tmp_path / "results.json"
    path.write_bytes(b"\x89PNG\xff")
    with pytest.raises(DataError, match="byte 0 is no text"):
        read_results(path, PICTURES, NAMES)


def test_rows_that_are_there_twice_are_told(tmp_path):
    other = {**ROW, "score": 0.25}
    path = put(tmp_path, json.dumps([ROW, other, ROW, {**ROW, "image_id": 7}]))
    with pytest.warns(LookonceWarning, match="1 of 4 rows are there twice"):
        assert len(read_results(path, PICTURES, NAMES).score) == 4
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        read_results(put(tmp_path, json.dumps([ROW, other])), PICTURES, NAMES)


@pytest.mark.parametrize("format", ["coco", "csv", "voc"])
def test_many_rows_are_read_in_a_second(tmp_path, format):
    """Measured: 2.5 to 4 s for 500,000 on a core; the bound only tells a wrong order of growth."""
    rng = np.random.default_rng(0)
    count = 100_000
    pictures = [f"{n:06d}" for n in range(5000)]
    picture, score = rng.integers(0, 5000, count), rng.random(count)
    box = np.sort(rng.random((count, 2, 2)), axis=1).reshape(count, 4) * 400 + 1
    if format == "coco":
        path = put(tmp_path, json.dumps([
            {"image_id": p, "category_id": 1, "bbox": b, "score": s}
            for p, b, s in zip(picture.tolist(), box.tolist(), score.tolist(), strict=True)
        ]))  # fmt: skip
    elif format == "csv":
        out = io.StringIO()
        writer = csv.writer(out)
        writer.writerow(["file", "frame", "label", "name", "score", "left", "top", "right", "bottom"])
        columns = (picture.tolist(), score.tolist(), box.tolist())
        writer.writerows([f"{p:06d}.jpg", "", 0, "cat", s, *b] for p, s, b in zip(*columns, strict=True))
        path = put(tmp_path, out.getvalue(), "out.csv")
    else:
        columns = (picture.tolist(), score.tolist(), box.tolist())
        text = "".join(f"{p:06d} {s} {b[0]} {b[1]} {b[2]} {b[3]}\n" for p, s, b in zip(*columns, strict=True))
        path = put(tmp_path, text, "comp4_det_test_cat.txt")
    start = time.perf_counter()
    got = read_results(path, pictures, NAMES)
    taken = time.perf_counter() - start
    assert np.array_equal(got.picture, picture)
    assert np.array_equal(got.score, score)
    assert np.array_equal((got.xywh if format == "coco" else got.xyxy), box - ((1, 1, 0, 0) if format == "voc" else 0))
    assert taken < 10
