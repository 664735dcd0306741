"""Every layer and box of the recorded networks, and how the defaults depart from the recordings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import SHARED, run_layers

from lookonce.detector import Detector
from lookonce.engines import EngineKind, available_engines
from lookonce.model import Model, open_model
from lookonce.pictures import place
from lookonce.runner import Compat, Raw

pytestmark = pytest.mark.shared

FOLDERS = sorted(path.name for path in (SHARED / "golden/infer").glob("*") if path.is_dir())
LARGEST_DIFFERENCE = 1e-4            # of the largest value of an array
ROUNDING = 3e-6                      # what sums in another order may differ by; a wrong epsilon moves more than that


def recorded(folder: Path) -> tuple[Model, np.ndarray, list[np.ndarray]]:
    """A recorded network, its input, and what each of its layers put out."""
    golden = np.load(folder / "golden.npz")
    model = open_model(folder / "net.cfg", folder / "net.weights")
    outputs = [golden[f"output_{number:03d}"] for number in range(len(model.network.nodes))]
    return model, golden["input"], outputs


def difference(output: np.ndarray, recording: np.ndarray) -> float:
    """The largest difference, relative to the recording's largest value. Flat arrays are (B, N) or (B, N, 1, 1)."""
    assert output.size == recording.size
    assert output.shape[: recording.ndim] == recording.shape
    return float(np.abs(output.reshape(recording.shape) - recording).max() / np.abs(recording).max())


def first_batch_norm(model: Model) -> int | None:
    """The first layer with batch norm."""
    return next((number for number, arrays in enumerate(model.weights) if "variance" in arrays), None)


def test_all_recordings_are_looked_at(shared: Path) -> None:
    """The folders are listed while tests are collected: an empty list would let everything below pass unseen."""
    assert len(FOLDERS) == len(list((shared / "golden/infer").iterdir())) > 0


@pytest.mark.parametrize("engine", available_engines())
@pytest.mark.parametrize("name", FOLDERS)
def test_each_layer_puts_out_what_darknet_recorded(shared: Path, name: str, engine: EngineKind) -> None:
    model, x, outputs = recorded(shared / "golden/infer" / name)
    ours = run_layers(model, x, compat=True, engine=engine)
    for node, output, recording in zip(model.network.nodes, ours, outputs, strict=True):
        assert difference(output, recording) <= LARGEST_DIFFERENCE, str(node)


@pytest.mark.parametrize("name", [name for name in FOLDERS if name != "binary-darknet"])
def test_by_default_only_batch_norm_departs_from_darknet_and_hardly(shared: Path, name: str) -> None:
    """1e-5 inside the root, against 1e-6 outside, moves a channel of variance v by about 5e-6 / v, here v > .3."""
    model, x, outputs = recorded(shared / "golden/infer" / name)
    ours, compat = run_layers(model, x), run_layers(model, x, compat=True)
    assert all(difference(output, recording) < 1e-3 for output, recording in zip(ours, outputs, strict=True))
    first = first_batch_norm(model)
    if first is None:
        assert all(np.array_equal(a, b) for a, b in zip(ours, compat, strict=True))
        return
    assert all(np.array_equal(ours[number], compat[number]) for number in range(first))
    assert difference(compat[first], outputs[first]) < ROUNDING < difference(ours[first], outputs[first])


def test_by_default_binary_weights_are_binarized_where_darknets_cpu_ignores_it(shared: Path) -> None:
    """Layer 0 has real weights, layer 1 says binary=1."""
    model, x, outputs = recorded(shared / "golden/infer/binary-darknet")
    ours = run_layers(model, x)
    assert difference(ours[0], outputs[0]) < 1e-3
    assert difference(ours[1], outputs[1]) > 0.1


# ---------------------------------------------------------------------- boxes
WITH_BOXES = ["detection-v1", "region-tree", "region-v2", "yolo-v3"]


def found_boxes(folder: Path, compat: Compat, engine: EngineKind = "onnxruntime") -> np.ndarray:
    """Rows of class, score, cx, cy, w, h, as the recording has them: in pixels for v1, else relative to the picture."""
    golden = np.load(folder / "golden.npz")
    threshold, hierarchy, nms, width, height = golden["box_args"].tolist()
    model = open_model(folder / "net.cfg", folder / "net.weights")
    detector = Detector(model, engine=engine, threshold=threshold, nms=nms, hierarchy=hierarchy, compat=compat)
    runner, size = detector.runner, (int(width), int(height))
    assert runner.resize == ("stretch" if "v1" in folder.name else "letterbox")
    placed = place(size, (runner.width, runner.height), runner.resize)
    [found] = detector.answer(Raw(runner.engine(golden["input"]), [placed]))
    corners = found.xyxy.astype(np.float64)
    boxes = np.hstack([(corners[:, :2] + corners[:, 2:]) / 2, corners[:, 2:] - corners[:, :2]])
    boxes = boxes if "v1" in folder.name else boxes / [*size, *size]
    return np.column_stack([found.label, found.score, boxes])


def without_match(wanted: np.ndarray, found: np.ndarray) -> list[np.ndarray]:
    """The rows of `wanted` that have no row of their own in `found`, of the same class and within 1e-4."""
    free = list(range(len(found)))
    missed = []
    for row in wanted:
        same = (at for at in free if found[at, 0] == row[0] and np.allclose(found[at, 1:], row[1:], rtol=1e-4, atol=0))
        match = next(same, None)
        if match is None:
            missed.append(row)
        else:
            free.remove(match)
    return missed


@pytest.mark.parametrize("engine", available_engines())
@pytest.mark.parametrize("name", WITH_BOXES)
def test_the_boxes_are_those_that_darknet_recorded(shared: Path, name: str, engine: EngineKind) -> None:
    wanted = np.load(shared / "golden/infer" / name / "golden.npz")["boxes"][:, [0, 1, 3, 4, 5, 6]]
    found = found_boxes(shared / "golden/infer" / name, "darknet", engine)
    assert len(found) == len(wanted) > 20
    assert without_match(wanted, found) == []


def test_by_default_boxes_are_led_back_by_the_margin_that_was_there(shared: Path) -> None:
    """150 x 80 fits into 96 x 64 as 96 x 51; of the margin of 13 rows 6 are above, where Darknet reckons with 6.5."""
    folder = shared / "golden/infer/yolo-v3"
    wanted, found = found_boxes(folder, "darknet"), found_boxes(folder, None)
    wanted[:, 3] += 0.5 / 51
    assert len(found) == len(wanted)
    np.testing.assert_allclose(found[:, 3], wanted[:, 3], atol=1e-3)
    np.testing.assert_allclose(found[:, [0, 1, 2, 4, 5]], wanted[:, [0, 1, 2, 4, 5]], rtol=5e-4, atol=1e-5)


def test_by_default_a_tree_is_descended_further_than_darknet_does(shared: Path) -> None:
    """Darknet compares a product of nodes' own probabilities, which is smaller than the last node's own."""
    folder = shared / "golden/infer/region-tree"
    tree = open_model(folder / "net.cfg", folder / "net.weights").tree
    assert tree is not None
    darknet, ours = (tree.depth[found_boxes(folder, compat)[:, 0].astype(int)] for compat in ("darknet", None))
    assert ours.mean() > darknet.mean()
