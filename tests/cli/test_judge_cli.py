"""val, judge and rescore as a user calls them, against pycocotools and against each other."""

from __future__ import annotations

import contextlib
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import DETECTOR, model_of
from PIL import Image

from lookonce.cli.main import main
from lookonce.detections import Detections
from lookonce.detector import Detector

CLASSES = ("cat", "dog", "owl")
SIZE = (96, 80)
CLASSIFIER = DETECTOR[: DETECTOR.index("[convolutional]\nfilters=21")] + "[avgpool]\n[softmax]\n"


def boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    """(count, 4) left, top, width, height, inside the picture."""
    corner = rng.uniform(0, 50, (count, 2))
    return np.round(np.hstack([corner, rng.uniform(5, 30, (count, 2))]), 2)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: a COCO set of 12 pictures in set/, and results that are mostly near its objects."""
    rng = np.random.default_rng(3)
    (tmp_path / "set" / "images").mkdir(parents=True)
    images, annotations, results = [], [], []
    for number in range(1, 13):
        name = f"{number:012d}.png"
        Image.fromarray(rng.integers(0, 256, (SIZE[1], SIZE[0], 3), np.uint8)).save(tmp_path / "set" / "images" / name)
        images.append({"id": number, "file_name": name, "width": SIZE[0], "height": SIZE[1]})
        for box in boxes(rng, 4).tolist():
            label = int(rng.integers(1, 4))
            annotations.append(
                {"id": len(annotations) + 1, "image_id": number, "category_id": label, "bbox": box, "iscrowd": 0,
                 "area": box[2] * box[3]}
            )  # fmt: skip
            near = [round(x + y, 2) for x, y in zip(box, rng.normal(0, 2, 4).tolist(), strict=True)]
            near[2:] = [max(1.0, side) for side in near[2:]]
            results.append({"image_id": number, "category_id": label, "bbox": near, "score": float(rng.random())})
        for box in boxes(rng, 3).tolist():
            row = {"image_id": number, "category_id": 1, "bbox": box, "score": float(rng.random() / 2)}
            results.append(row)
    categories = [{"id": number, "name": name} for number, name in enumerate(CLASSES, start=1)]
    truth = {"images": images, "annotations": annotations, "categories": categories}
    (tmp_path / "set" / "instances.json").write_text(json.dumps(truth))
    (tmp_path / "results.json").write_text(json.dumps(results))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def judged(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, Any]:
    """The JSON that a verb prints."""
    assert main([*arguments, "--json", "-q"]) == 0
    document: dict[str, Any] = json.loads(capsys.readouterr().out)
    return document


def pycocotools(truth: Path, results: Path) -> list[float]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        dataset = COCO(str(truth))
        judge = COCOeval(dataset, dataset.loadRes(str(results)), "bbox")
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
    return [float(value) for value in judge.stats]


def test_anybodys_results_get_the_figures_of_pycocotools(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = judged(capsys, "judge", "results.json", "--data", "set")["figures"]
    wanted = pycocotools(Path("set/instances.json"), Path("results.json"))
    found = [-1 if value is None else value for value in list(figures.values())[:12]]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12)
    assert 0.2 < wanted[1] < 0.95


def test_the_same_set_in_other_forms_has_the_same_figure(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = judged(capsys, "judge", "results.json", "--data", "set", "--protocol", "voc12")["figures"]["mAP"]
    for form in ("voc", "darknet"):
        assert main(["data", "convert", "set", "--to", form, "-o", form]) == 0
        capsys.readouterr()
        data = next(Path("darknet").glob("*.data"), Path("darknet")) if form == "darknet" else Path(form)
        rows = json.loads(Path("results.json").read_text())
        Path(f"{form}.json").write_text(json.dumps([{**row, "image_id": f"{row['image_id']:012d}"} for row in rows]))
        arguments = ["judge", f"{form}.json", "--data", str(data), "--protocol", "voc12"]
        assert judged(capsys, *arguments)["figures"]["mAP"] == pytest.approx(whole, abs=1e-3)


def test_errors_sum_up_to_all_objects(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    document = judged(capsys, "judge", "results.json", "--data", "set", "--errors")
    assert document["errors"].keys() == set(CLASSES)
    for name, shares in document["errors"].items():
        assert sum(shares.values()) == pytest.approx(1)
        assert shares["correct"] > 0, name


def test_a_figure_that_is_too_low_is_exit_code_3(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["judge", "results.json", "--data", "set", "-q", "--min-map"]
    assert main([*arguments, "0.01"]) == 0
    capsys.readouterr()
    assert main([*arguments, "0.99"]) == 3
    assert "is less than the 0.99 wanted" in capsys.readouterr().err


def test_two_runs_are_compared(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = json.loads(Path("results.json").read_text())
    rng = np.random.default_rng(0)
    worse = [{**row, "score": float(rng.random())} for row in rows]
    Path("worse.json").write_text(json.dumps(worse))
    for protocol in ("coco", "voc07"):
        arguments = ["judge", "results.json", "--data", "set", "--against", "worse.json", "--protocol", protocol]
        against = judged(capsys, *arguments)["against"]
        own = judged(capsys, "judge", "results.json", "--data", "set", "--protocol", protocol)["figures"]
        assert against["a"] == pytest.approx(next(iter(own.values())), abs=1e-12)
        assert against["difference"] == pytest.approx(against["a"] - against["b"])
        assert against["low"] <= against["high"]


def test_the_report_is_one_page(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["judge", "results.json", "--data", "set", "--report", "out", "--against", "results.json"]) == 0
    assert "out/report.html: " in capsys.readouterr().err
    page = Path("out/report.html").read_text()
    for word in (*CLASSES, "AP50", "results.json", "localization", "000000000001"[-1:]):
        assert word in page
    assert "src=\"http" not in page
    assert sorted(path.name for path in Path("out").iterdir()) == ["curves.png", "errors.png", "report.html"]
    assert main(["judge", "results.json", "--data", "set", "--report", "out", "-q"]) == 0      # ours is replaced
    capsys.readouterr()
    Path("out/report.html").write_text("<html>my own</html>")
    assert main(["judge", "results.json", "--data", "set", "--report", "out", "-q"]) == 2
    assert "out/report.html: is there already and is no page of ours" in capsys.readouterr().err
    assert Path("out/report.html").read_text() == "<html>my own</html>"


def test_rescoring_by_the_truth_makes_it_better(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    truth = json.loads(Path("set/instances.json").read_text())
    sure = [{**{key: row[key] for key in ("image_id", "category_id", "bbox")}, "score": 1.0}
            for row in truth["annotations"]]  # fmt: skip
    Path("sure.json").write_text(json.dumps(sure))
    arguments = ["results.json", "--with", "sure.json", "--data", "set", "--protocol", "voc12", "-o", "both.json"]
    assert main(["rescore", *arguments]) == 0
    before, with_, after = (float(line.split()[1]) for line in capsys.readouterr().out.splitlines())
    assert before < after <= with_ == 1
    again = judged(capsys, "judge", "both.json", "--data", "set", "--protocol", "voc12")["figures"]["mAP"]
    assert again == pytest.approx(after, abs=1e-4)
    places = [[row["bbox"] for row in json.loads(Path(name).read_text())] for name in ("results.json", "both.json")]
    np.testing.assert_allclose(places[0], places[1])


def test_what_is_strange_about_results_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [row for row in json.loads(Path("results.json").read_text()) if row["image_id"] > 5]
    rows[0]["bbox"][0] += 1000
    rows[1]["score"] = 95
    rows[2]["bbox"] = [-9, 5, 20, 20]
    Path("odd.json").write_text(json.dumps(rows))
    assert main(["judge", "odd.json", "--data", "set"]) == 0
    err = capsys.readouterr().err
    for text in ("5 of 12 pictures have no answer", "1 of 49 boxes lie outside", "1 of 49 scores are above 1"):
        assert text in err
    assert "boxes reach over their picture's edge" in err


# ---------------------------------------------------------------------- bad input
def changed(name: str, rows: list[dict[str, Any]]) -> Any:
    """Results with one thing wrong."""
    bad = {
        "picture": {"image_id": 99},
        "class": {"category_id": 7},
        "nan": {"score": float("nan")},
        "infinite": {"bbox": [1, 1, float("inf"), 2]},
        "width": {"bbox": [5, 5, -3, 4]},
    }
    return [*rows[:4], {**rows[4], **bad[name]}, *rows[5:]]


@pytest.mark.parametrize(
    ("name", "says"),
    [("picture", "99"), ("class", "7"), ("nan", "score"), ("infinite", "finite"), ("width", "width or height below 0")],
)
def test_bad_results_are_refused_in_one_line(
    name: str, says: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = json.loads(Path("results.json").read_text())
    Path("bad.json").write_text(json.dumps(changed(name, rows)))
    assert main(["judge", "bad.json", "--data", "set", "-q"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert len(err.splitlines()) == 1
    assert err.startswith("lookonce: bad.json: ")
    assert says in err


def test_no_results_and_no_data_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("none.json").write_text("[]")
    truth = json.loads(Path("set/instances.json").read_text())
    empty = {**truth, "images": [], "annotations": []}
    Path("set/empty.json").write_text(json.dumps(empty))
    twice = {**truth, "annotations": [*truth["annotations"], truth["annotations"][0]]}
    Path("set/twice.json").write_text(json.dumps(twice))
    cases = {
        ("none.json", "set"): "none.json: holds no box at all",
        ("results.json", "set/empty.json"): "set/empty.json: ",
        ("results.json", "set/twice.json"): "set/twice.json: annotations[48]: ",
        ("results.json", "nowhere"): "nowhere",
        ("nowhere.json", "set"): "nowhere.json: no such file",
    }
    for (results, data), says in cases.items():
        assert main(["judge", results, "--data", data, "-q"]) == 2
        out, err = capsys.readouterr()
        assert (out, len(err.splitlines())) == ("", 1), err
        assert says in err


# ---------------------------------------------------------------------- models
def write_model(name: str, cfg: str, classes: tuple[str, ...]) -> list[str]:
    Path(f"{name}.cfg").write_text(cfg)
    Path(f"{name}.names").write_text("".join(f"{each}\n" for each in classes))
    model_of(cfg).write_weights(Path(f"{name}.weights"))
    return ["-m", f"{name}.cfg", "-w", f"{name}.weights", "--names", f"{name}.names"]


def test_a_models_answers_are_judged_as_their_file_is(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Also where the model has other classes than the data."""
    model = write_model("net", DETECTOR, ("owl", "fox"))
    document = judged(capsys, "val", "--data", "set", *model, "-o", "answers.json", "--thresh", ".05")
    assert (document["by class"].keys(), document["protocol"], document["pictures"]) == ({"owl"}, "coco", 12)
    again = judged(capsys, "judge", "answers.json", "--data", "set", "--names", "net.names")
    for name, value in document["figures"].items():
        assert again["figures"][name] == pytest.approx(value, abs=2e-3), name
    document = judged(capsys, "judge", "answers.json", "--data", "set")
    assert (document["by class"].keys(), document["figures"]) == ({"owl"}, again["figures"])
    assert main(["rescore", "answers.json", "--with", "answers.json", "--data", "set"]) == 0
    assert "not judged: 1 of the model's classes (fox)" in capsys.readouterr().err
    assert main(["val", "--data", "set", *model, "--thresh", ".05"]) == 0
    assert "not judged: 2 of the data's classes (cat, dog)" in capsys.readouterr().err


def test_classes_of_other_names_go_through_a_map(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = write_model("net", DETECTOR, ("hibou", "chat"))
    assert main(["val", "--data", "set", *model, "-q"]) == 2
    assert "no class of the model is one of the dataset" in capsys.readouterr().err
    Path("names.map").write_text("hibou = owl\nchat = cat\n")
    assert judged(capsys, "val", "--data", "set", *model, "--map", "names.map")["by class"].keys() == {"cat", "owl"}


def test_a_picture_that_cannot_be_read_is_told_and_its_objects_are_missed(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = write_model("net", DETECTOR, ("owl", "cat"))
    whole = judged(capsys, "val", "--data", "set", *model)
    Path("set/images/000000000003.png").write_bytes(b"nothing")
    assert main(["val", "--data", "set", *model, "--json", "-q"]) == 1
    out, err = capsys.readouterr()
    assert "000000000003.png" in err
    assert "it counts as answered wrongly" in err
    assert json.loads(out)["objects"] == whole["objects"]


def test_an_interrupted_run_keeps_its_answers(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = write_model("net", DETECTOR, ("owl", "cat"))
    asked = []

    def answer(self: Detector, picture: np.ndarray) -> Detections:
        asked.append(picture)
        if len(asked) == 5:
            raise KeyboardInterrupt
        return Detections.none(self.names, (96, 80))

    monkeypatch.setattr(Detector, "__call__", answer)
    assert main(["val", "--data", "set", *model, "-o", "answers.json"]) == 130
    assert "interrupted" in capsys.readouterr().err
    assert len(json.loads(Path("answers.json").read_text())["pictures"]) == 4


def test_the_wrong_kind_of_data_is_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    detector = write_model("net", DETECTOR, ("owl", "cat"))
    classifier = write_model("class", CLASSIFIER, tuple(f"c{number}" for number in range(16)))
    for kind in ("cat", "owl"):
        Path("whole", kind).mkdir(parents=True)
        Image.new("RGB", (8, 8)).save(f"whole/{kind}/1.png")
    assert main(["val", "--data", "set", *classifier, "-q"]) == 2
    assert "set/instances.json: has boxes; a classifier is judged by classes" in capsys.readouterr().err
    assert main(["val", "--data", "whole", *detector, "-q"]) == 2
    assert "whole: has classes of whole pictures and no box" in capsys.readouterr().err


def test_a_picture_of_another_size_than_its_labels_is_told(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = write_model("net", DETECTOR, ("owl", "cat"))
    path = Path("set/images/000000000003.png")
    with Image.open(path) as image:
        turned = image.transpose(Image.Transpose.ROTATE_90)
    turned.save(path)
    assert main(["val", "--data", "set", *model, "-q"]) == 1
    assert "is 80 x 96, its labels are for 96 x 80: its objects lie elsewhere" in capsys.readouterr().err


def test_a_classifier_is_judged_by_top_1_and_top_5(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Against one picture after the other, from an archive of folders."""
    from lookonce.classifier import Classifier

    classes = tuple(f"c{number}" for number in range(16))
    model = write_model("net", CLASSIFIER, classes)
    rng = np.random.default_rng(0)
    classifier = Classifier(model_of(CLASSIFIER))
    ranks = []
    with zipfile.ZipFile("set.zip", "w") as archive:
        for number in range(40):
            label = int(rng.integers(16))
            buffer = io.BytesIO()
            pixels = rng.integers(0, 256, (64, 64, 3)) * rng.random(3)
            Image.fromarray(pixels.astype(np.uint8)).save(buffer, "PNG")
            archive.writestr(f"c{label}/{number}.png", buffer.getvalue())
            order = [answer.label for answer in classifier(buffer.getvalue(), 16)]
            ranks.append(order.index(label))
        for label in range(16):                              # every class has a folder
            archive.writestr(f"c{label}/", b"")
    found = judged(capsys, "val", "--data", "set.zip", *model)
    assert found["pictures"] == 40
    assert found["top1"] == pytest.approx(np.mean([rank < 1 for rank in ranks]))
    assert found["top5"] == pytest.approx(np.mean([rank < 5 for rank in ranks]))
    assert main(["val", "--data", "set.zip", *model, "-q", "--min-map", "0.9"]) == 3
    assert "is less than the 0.9 wanted" in capsys.readouterr().err
    assert main(["val", "--data", "set.zip", *model, "-q", "--errors", "-o", "x.json"]) == 2
    assert "is a classifier, for which there is no --errors, -o" in capsys.readouterr().err


# ---------------------------------------------------------------------- real models on real data
REAL = "yolo-fastest-1.1-xl"


def real(shared: Path) -> list[str]:
    return ["-m", str(shared / "models" / f"{REAL}.cfg"), "-w", str(shared / "models" / f"{REAL}.weights"),
            "--names", "coco"]  # fmt: skip


@pytest.mark.shared
def test_coco_figures_of_a_real_model(shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = judged(capsys, "val", "--data", str(shared / "data" / "coco-val128"), *real(shared))["figures"]
    assert figures["AP50"] == pytest.approx(0.4429, abs=0.005)


@pytest.mark.shared
@pytest.mark.parametrize("name", ["yolo-fastest-1.1", "yolo-fastest-1.1-xl"])
def test_the_kinds_of_errors_of_a_real_model_sum_up_to_its_objects(
    name: str, shared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = [word.replace(REAL, name) for word in real(shared)]
    document = judged(capsys, "val", "--data", str(shared / "data" / "coco-val128"), *model, "--errors")
    for each, row in document["by class"].items():
        shares = document["errors"][each]
        if row["objects"]:
            parts = [value * row["objects"] for value in shares.values()]
            assert parts == pytest.approx([round(part) for part in parts])
            assert sum(parts) == pytest.approx(row["objects"])
        else:
            assert set(shares.values()) == {None}


@pytest.mark.shared
def test_a_coco_model_is_judged_on_voc_by_the_classes_they_share(
    shared: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["val", "--data", str(shared / "data" / "voc2007"), "--split", "val", *real(shared)]
    document = judged(capsys, *arguments, "--protocol", "voc07")
    assert (document["protocol"], document["pictures"], len(document["by class"])) == ("voc07", 500, 20)
    assert 0.5 < document["figures"]["mAP"] < 0.75
