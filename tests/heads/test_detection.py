"""[detection] against a loop over all cells, boxes and classes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from conftest import model_of, network_of, run_layers
from expected import Box, assert_same_rows, passing, softmax

from lookonce.engines import EngineKind, available_engines, open_engine
from lookonce.errors import CfgError
from lookonce.graph.decoded import build_decoded
from lookonce.heads.detection import Detection
from lookonce.heads.head import DecodeOptions

SIDE, BOXES, CLASSES = 3, 2, 4
CELLS = SIDE * SIDE
LENGTH = CELLS * (CLASSES + 5 * BOXES)
INPUT = (448, 448)                   # of no effect: everything is relative to the picture
KINDS = {"plain": "", "sqrt": "sqrt=1", "softmax": "softmax=1", "sqrt and softmax": "sqrt=1\nsoftmax=1"}


def cfg(more: str = "", shape: tuple[int, int, int] = (LENGTH, 1, 1)) -> str:
    channels, height, width = shape
    return (
        f"[net]\nchannels={channels}\nheight={height}\nwidth={width}\n[activation]\n"
        f"[detection]\nclasses={CLASSES}\ncoords=4\nside={SIDE}\nnum={BOXES}\n{more}\n"
    )


def head_of(more: str = "") -> Detection:
    head = network_of(cfg(more)).heads[0][1]
    assert isinstance(head, Detection)
    return head


def vector(batch: int = 2) -> np.ndarray:
    """Values around a half, some of them below 0: nothing keeps a linear layer from that."""
    rng = np.random.default_rng(batch)
    return rng.normal(0.5, 0.9, (batch, LENGTH, 1, 1)).astype(np.float32)


def classes_of(values: list[float], more: str) -> list[float]:
    return softmax(values) if "softmax=1" in more else values


def every_box(raw: np.ndarray, more: str) -> dict[tuple[int, int, int], Box]:
    """By picture, cell and number: the three parts of the vector are classes, confidences and boxes of all cells."""
    boxes = {}
    for one in range(len(raw)):
        flat = [float(value) for value in raw[one].reshape(-1)]
        for cell in range(CELLS):
            classes = classes_of(flat[cell * CLASSES : (cell + 1) * CLASSES], more)
            for number in range(BOXES):
                confidence = flat[CELLS * CLASSES + cell * BOXES + number]
                first = CELLS * (CLASSES + BOXES) + 4 * (cell * BOXES + number)
                x, y, wide, high = flat[first : first + 4]
                x, y = (x + cell % SIDE) / SIDE, (y + cell // SIDE) / SIDE
                if "sqrt=1" in more:
                    wide, high = wide**2, high**2
                corners = [x - wide / 2, y - high / 2, x + wide / 2, y + high / 2]
                boxes[one, cell, number] = (corners, confidence, [confidence * p for p in classes])
    return boxes


# ---------------------------------------------------------------------- decode
@pytest.mark.parametrize("threshold", [0.0, 0.1, 0.25, 0.6])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch", [1, 2, 3])
def test_decode_gives_each_class_of_each_box_that_passes(kind: str, threshold: float, batch: int) -> None:
    raw = vector(batch)
    wanted = passing(every_box(raw, KINDS[kind]), threshold, least=-math.inf)        # confidence alone bars nothing
    assert_same_rows(head_of(KINDS[kind]).decode(raw, DecodeOptions(INPUT, threshold)), wanted, tolerance=1e-5)


def test_a_score_equal_to_the_threshold_does_not_pass() -> None:
    raw = np.zeros((1, LENGTH, 1, 1), np.float32)
    raw[0, 5 * CLASSES + 2], raw[0, CELLS * CLASSES + 5 * BOXES] = 1, 0.5      # cell 5, class 2, its first box
    assert len(head_of().decode(raw, DecodeOptions(INPUT, 0.5)).score) == 0
    found = head_of().decode(raw, DecodeOptions(INPUT, 0.49999))
    assert (found.score.tolist(), found.label.tolist()) == ([0.5], [2])


@pytest.mark.parametrize("more", list(KINDS.values()))
def test_nothing_found_is_empty_arrays_of_the_usual_kinds(more: str) -> None:
    found = head_of(more).decode(np.zeros((2, LENGTH, 1, 1), np.float32), DecodeOptions(INPUT, 0.0))
    assert found.xyxy.shape == (0, 4)
    for name, kind in [("picture", "i"), ("box", "i"), ("label", "i"), ("score", "f"), ("objectness", "f")]:
        column = getattr(found, name)
        assert column.shape == (0,)
        assert column.dtype.kind == kind
    assert found.xyxy.dtype == found.score.dtype == np.float32


def test_huge_class_logits_give_finite_probabilities() -> None:
    raw = np.ones((1, LENGTH, 1, 1), np.float32)
    raw[0, : CELLS * CLASSES] = 3e38
    found = head_of("softmax=1").decode(raw, DecodeOptions(INPUT, 0.0))
    assert len(found.score) == CELLS * BOXES * CLASSES
    assert found.score == pytest.approx(1 / CLASSES)


# ---------------------------------------------------------------------- as primitives
@pytest.mark.parametrize("engine", available_engines())
@pytest.mark.parametrize("kind", KINDS)
def test_dense_is_the_table_of_every_box_and_class(kind: str, engine: EngineKind) -> None:
    raw = vector()
    boxes, scores, _ = open_engine(build_decoded(model_of(cfg(KINDS[kind]))), engine)(raw)
    assert boxes.shape == (2, CELLS * BOXES, 4)
    assert scores.shape == (2, CELLS * BOXES, CLASSES)
    wanted = list(every_box(raw, KINDS[kind]).values())                       # in the order of the table
    np.testing.assert_allclose(boxes.reshape(-1, 4), [corners for corners, _, _ in wanted], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(scores.reshape(-1, CLASSES), [each for _, _, each in wanted], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_dense_is_decode_without_a_threshold(kind: str) -> None:
    """Of the values above 0: a linear layer also gives others, and those never pass."""
    raw = vector()
    boxes, scores, _ = open_engine(build_decoded(model_of(cfg(KINDS[kind]))), "onnxruntime")(raw)
    found = head_of(KINDS[kind]).decode(raw, DecodeOptions(INPUT, 0.0))
    assert len(found.score) == (scores > 0).sum()
    place = found.box % boxes.shape[1]
    np.testing.assert_allclose(boxes[found.picture, place], found.xyxy, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(scores[found.picture, place, found.label], found.score, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("engine", available_engines())
@pytest.mark.parametrize("kind", KINDS)
def test_the_layer_itself_only_applies_a_softmax_if_told_to(kind: str, engine: EngineKind) -> None:
    raw = vector()
    found = run_layers(model_of(cfg(KINDS[kind])), raw, engine=engine)[1]
    wanted = raw.copy()
    for one in range(2):
        for cell in range(CELLS):
            at = slice(cell * CLASSES, (cell + 1) * CLASSES)
            wanted[one, at, 0, 0] = classes_of([float(value) for value in raw[one, at, 0, 0]], KINDS[kind])
    np.testing.assert_allclose(found, wanted, rtol=1e-5, atol=1e-7)


def test_a_picture_is_read_as_the_same_flat_vector() -> None:
    """The head follows a [connected] layer as a rule, but takes any layer of the right size."""
    raw = vector()
    shape = (14, 3, 3)
    flat = run_layers(model_of(cfg("softmax=1")), raw)[1]
    found = run_layers(model_of(cfg("softmax=1", shape)), raw.reshape(2, *shape))[1]
    assert np.array_equal(found, flat)


# ---------------------------------------------------------------------- refusals
@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("channels=126", "channels=125", r"wants 126 .* \(3 x 3 cells x \(2 boxes x 5 \+ 4 classes\)\); it has 125"),
        ("classes=4", "classes=20", "wants 270 values .* it has 126"),
        ("side=3", "side=7", "wants 686 values .* it has 126"),
        ("num=2", "num=3", "wants 171 values .* it has 126"),
        ("coords=4", "coords=5", "coords=5 wanted coords=4"),
        ("coords=4\n", "", "coords wanted coords=4"),
        ("side=3", "side=0", "side=0 .* 1 to"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_the_right_number(old: str, new: str, message: str) -> None:
    assert old in cfg()
    with pytest.raises(CfgError, match=message):
        network_of(cfg().replace(old, new))
