from __future__ import annotations

import io
import json
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from conftest import DETECTOR, ROOT, model_of
from PIL import Image

from lookonce import pictures
from lookonce.boxes import iou
from lookonce.detections import Detections
from lookonce.detector import Detector
from lookonce.errors import CfgError, InputError
from lookonce.model import Model, open_model

REAL = ["yolo-fastest-1.1", "yolo-fastest-1.1-xl"]


def noise(seed: int, height: int = 50, width: int = 80) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def real_model(shared: Path, name: str) -> Model:
    folder = shared / "models"
    return open_model(folder / f"{name}.cfg", folder / f"{name}.weights", folder / "coco.names")


# ---------------------------------------------------------------------- against what others recorded
@pytest.mark.shared
@pytest.mark.parametrize("name", REAL)
def test_real_networks_find_on_photographs_what_the_fork_found(shared: Path, name: str) -> None:
    """Every box of score .25 and more, matched one to one with IoU >= .98 and score within .01, and none besides."""
    recorded = json.loads((shared / "golden" / "real" / f"{name}.json").read_text())
    detect = Detector(real_model(shared, name), resize="stretch", precision="f32")
    assert len(recorded["pictures"]) == 6
    for picture, rows in recorded["pictures"].items():
        found = detect(shared / "pictures" / picture)
        wanted = np.array([row for row in rows if row[1] >= 0.25]).reshape(-1, 6)
        assert len(found) == len(wanted)
        centre, extent = wanted[:, 2:4], wanted[:, 4:6]
        boxes = np.concatenate([centre - extent / 2, centre + extent / 2], axis=1) * np.array(found.size * 2)
        overlap = iou(boxes[:, None], found.xyxy[None].astype(np.float64))
        overlap[wanted[:, :1] != found.label[None]] = 0
        match = overlap.argmax(axis=1)
        assert sorted(match) == list(range(len(found)))
        assert overlap.max(axis=1).min() >= 0.98
        assert np.abs(found.score[match] - wanted[:, 1]).max() <= 0.01


@pytest.mark.shared
def test_ap50_on_coco_pictures_is_the_recorded_one_and_bf16_costs_little(shared: Path) -> None:
    """Recorded: AP50 .4429, by pycocotools. What bf16 does to scores bench/precision.py prints."""
    sys.path.insert(0, str(ROOT / "bench"))
    from precision import judge

    model, folder = real_model(shared, "yolo-fastest-1.1-xl"), shared / "data" / "coco-val128"
    f32 = Detector(model, threshold=0.005, nms=0.45, resize="stretch", precision="f32")
    exact, _ = judge(f32, folder)
    assert exact[1] == pytest.approx(0.4429, abs=0.005)
    if not has_bf16():
        pytest.skip("this processor has no bf16; f32 was checked")
    bf16 = Detector(model, threshold=0.005, nms=0.45, resize="stretch", precision="bf16")
    rough, _ = judge(bf16, folder)
    assert rough[0] == pytest.approx(exact[0], abs=0.005)


def has_bf16() -> bool:
    from lookonce.engines.openvino import import_openvino

    return "BF16" in import_openvino().Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


@pytest.mark.shared
def test_eight_threads_on_400_pictures_give_the_answers_of_one(shared: Path) -> None:
    """One Detector, real weights, 50 pictures a thread: bit for bit."""
    folder = shared / "data" / "coco-val128" / "images"
    decoded = [pictures.read(path) for path in sorted(folder.iterdir())[:100]]
    detect = Detector(real_model(shared, "yolo-fastest-1.1"), threshold=0.05)
    alone = [detect(picture) for picture in decoded]
    answers: list[list[Detections]] = [[] for _ in range(8)]

    def work(number: int) -> None:
        for turn in range(50):
            answers[number].append(detect(decoded[(number * 37 + turn) % 100]))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number, found in enumerate(answers):
        assert len(found) == 50
        for turn, one in enumerate(found):
            expected = alone[(number * 37 + turn) % 100]
            for name in ("xyxy", "score", "label"):
                np.testing.assert_array_equal(getattr(one, name), getattr(expected, name))


# ---------------------------------------------------------------------- by itself
def test_every_way_to_give_a_picture_gives_the_same_boxes(tmp_path: Path) -> None:
    detect = Detector(model_of(DETECTOR), threshold=0.1)
    array = noise(0)
    path = tmp_path / "noise.png"
    Image.fromarray(array).save(path)
    expected = detect(array)
    assert len(expected) > 3
    for source in (path, str(path), path.read_bytes(), Image.fromarray(array)):
        np.testing.assert_array_equal(detect(source).xyxy, expected.xyxy)


def test_a_batch_gives_what_its_pictures_give_alone() -> None:
    detect = Detector(model_of(DETECTOR), threshold=0.1)
    sources = [noise(1), noise(2, 90, 30), np.zeros((5, 5, 3), np.uint8)]
    together = detect.batch(sources)
    assert [found.size for found in together] == [(80, 50), (30, 90), (5, 5)]
    for source, found in zip(sources, together, strict=True):
        alone = detect(source)
        assert len(alone) == len(found)
        np.testing.assert_allclose(found.xyxy, alone.xyxy, rtol=1e-3, atol=1e-2)
    assert detect.batch([]) == []


def test_boxes_come_with_falling_score_and_in_pixels_of_the_picture() -> None:
    """Twice as large a picture has twice as large boxes, but for what resizing loses."""
    detect = Detector(model_of(DETECTOR), threshold=0.3, resize="stretch")
    small = np.repeat(np.repeat(noise(0, 8, 8), 8, axis=0), 8, axis=1)                     # 64 x 64
    found, larger = detect(small), detect(np.repeat(np.repeat(small, 2, axis=0), 2, axis=1))
    assert (np.diff(found.score) <= 0).all()
    assert len(found) > 0
    assert found.size == (64, 64)
    near = iou(2 * found.xyxy[:1, None], larger.xyxy[None])
    assert near.max() > 0.8


def test_thresholds_are_kept() -> None:
    model = model_of(DETECTOR)
    low, high = Detector(model, threshold=0.05), Detector(model, threshold=0.5)
    assert low(noise(0)).score.min() > 0.05
    assert high(noise(0)).score.min() > 0.5
    assert len(low(noise(0))) > len(high(noise(0))) > 0
    assert len(Detector(model, threshold=0.05, nms=0.01)(noise(0))) < len(low(noise(0)))
    assert len(Detector(model, threshold=1.0)(noise(0))) == 0


def test_across_classes_a_box_keeps_all_its_classes_but_no_rival() -> None:
    detect = Detector(model_of(DETECTOR), threshold=0.2, class_agnostic=True)
    found = detect(noise(0))
    overlap = iou(found.xyxy[:, None], found.xyxy[None])
    same = (found.xyxy[:, None] == found.xyxy[None]).all(axis=2)
    assert overlap[~same].max() <= 0.45
    assert len(found) > 1
    assert set(found.label) == {0, 1}


def test_resize_auto_is_what_the_makers_did() -> None:
    model = model_of(DETECTOR)
    assert Detector(model).runner.resize == "letterbox"
    assert Detector(model_of(DETECTOR + "scale_x_y=1.05\n")).runner.resize == "stretch"
    assert Detector(model, resize="stretch").runner.resize == "stretch"
    letterboxed, stretched = Detector(model)(noise(0)), Detector(model, resize="stretch")(noise(0))
    assert not np.array_equal(letterboxed.xyxy, stretched.xyxy)


def test_compat_changes_what_it_says_and_nothing_else() -> None:
    """With an odd margin every box moves by the same half pixel of the input; the network is the same."""
    text = DETECTOR.replace("batch_normalize=1\n", "")
    plain, compat = Detector(model_of(text), threshold=0.2), Detector(model_of(text), threshold=0.2, compat="darknet")
    picture = noise(0, 353, 500)
    ours, theirs = plain(picture), compat(picture)
    np.testing.assert_array_equal(ours.score, theirs.score)
    gap = ours.xyxy - theirs.xyxy
    inner = 353 * 64 // 500                                                     # 45 of 64: the margin is odd
    np.testing.assert_allclose(gap, np.tile([0, 0.5 * 353 / inner, 0, 0.5 * 353 / inner], (len(gap), 1)), atol=1e-2)


def test_compat_leaves_exif_alone() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    buffer = io.BytesIO()
    Image.fromarray(noise(0)).save(buffer, "JPEG", exif=exif)
    model = model_of(DETECTOR)
    assert Detector(model)(buffer.getvalue()).size == (50, 80)
    assert Detector(model, compat="darknet")(buffer.getvalue()).size == (80, 50)
    with Image.open(buffer) as image:
        assert Detector(model)(image).size == (50, 80)
        assert Detector(model, compat="darknet")(image).size == (80, 50)


def test_grey_networks_see_darknets_grey() -> None:
    detect = Detector(model_of(DETECTOR.replace("channels=3", "channels=1")), threshold=0.1)
    picture = noise(0)
    grey = np.rint(picture @ np.array([0.299, 0.587, 0.114], np.float32)).astype(np.uint8)
    np.testing.assert_array_equal(detect(picture).xyxy, detect(np.repeat(grey[:, :, None], 3, axis=2)).xyxy)
    five = Detector(model_of(DETECTOR.replace("channels=3", "channels=5")))
    with pytest.raises(InputError, match="wants 5 channels"):
        five(picture)


def test_a_classifier_is_no_detector() -> None:
    with pytest.raises(CfgError, match="no detection head; it classifies: use classify"):
        Detector(model_of(DETECTOR[: DETECTOR.index("[yolo]")] + "[avgpool]\n[softmax]\n"))
    with pytest.raises(CfgError, match="neither boxes nor classes"):
        Detector(model_of(DETECTOR[: DETECTOR.index("[yolo]")]))


def test_settings_name_all_that_answers_depend_on() -> None:
    detect = Detector(model_of(DETECTOR), threshold=0.3, nms=0.4)
    settings = detect.settings()
    assert settings["model"] == "test"
    assert settings["resize"] == "letterbox"
    assert settings["input"] == [64, 64]
    assert (settings["threshold"], settings["nms"], settings["precision"]) == (0.3, 0.4, "f32")
    assert (settings["nms_kind"], settings["class_agnostic"], settings["compat"]) == ("plain", False, None)
    assert "hierarchy" not in settings
    assert str(detect).startswith("test: 64 x 64, letterbox, openvino ")


def test_settings_name_what_departs_from_the_plain_way(tmp_path: Path) -> None:
    """greedynms has a fixed exponent, .6 (the fork's box.c); a step down a tree has a least probability."""
    changed = Detector(
        model_of(DETECTOR + "nms_kind=greedynms\n"), class_agnostic=True, compat="darknet"
    ).settings()
    assert (changed["nms_kind"], changed["class_agnostic"], changed["compat"]) == ("diou 0.6", True, "darknet")
    (tmp_path / "two.tree").write_text("animal -1\ncat 0\n")
    region = "[region]\nclasses=2\nnum=3\nanchors=1,1,2,2,3,3\nsoftmax=1\ntree=two.tree\n"
    (tmp_path / "two.cfg").write_text(DETECTOR[: DETECTOR.index("[yolo]")] + region)
    tree = Detector(open_model(tmp_path / "two.cfg", "random"), hierarchy=0.6).settings()
    assert tree["hierarchy"] == 0.6
    for settings in (changed, tree):
        assert json.loads(json.dumps(settings)) == settings
