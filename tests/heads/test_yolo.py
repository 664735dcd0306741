"""[yolo] against a loop over all cells, anchors and classes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from conftest import model_of, network_of, run_layers
from expected import Box, assert_same_rows, passing, sigma

from lookonce.detector import Detector
from lookonce.engines import EngineKind, available_engines, open_engine
from lookonce.errors import CfgError
from lookonce.graph.decoded import build_decoded
from lookonce.heads.head import Candidates, DecodeOptions
from lookonce.heads.yolo import Yolo
from lookonce.pictures import place
from lookonce.runner import Raw

ANCHORS = [(10, 14), (23, 27), (37, 58), (81, 82), (135, 169)]
MASK = [3, 1, 4]                                     # in no order
CLASSES, ROWS, COLUMNS = 3, 2, 4
STEP = 8                                             # pixels of the input a cell
INPUT = (COLUMNS * STEP, ROWS * STEP)                # width and height
KINDS = {
    "plain": "",
    "scale_x_y": "scale_x_y=1.2",
    "new_coords": "new_coords=1",
    "new_coords and scale_x_y": "new_coords=1\nscale_x_y=2",
    "linear": "location=linear",
    "anchor": "location=anchor",
}


def cfg(more: str = "", classes: int = CLASSES) -> str:
    """A network that hands every eighth pixel of its input to the head as it is."""
    anchors = ", ".join(f"{w},{h}" for w, h in ANCHORS)
    return (
        f"[net]\nchannels={len(MASK) * (classes + 5)}\nheight={INPUT[1]}\nwidth={INPUT[0]}\n"
        f"[maxpool]\nsize=1\nstride={STEP}\n"
        f"[yolo]\nmask={','.join(map(str, MASK))}\nanchors={anchors}\nnum={len(ANCHORS)}\nclasses={classes}\n{more}\n"
    )


def head_of(more: str = "", classes: int = CLASSES) -> Yolo:
    head = network_of(cfg(more, classes)).heads[0][1]
    assert isinstance(head, Yolo)
    return head


def picture(kind: str = "", batch: int = 2) -> np.ndarray:
    """The network's input. With new_coords its values are probabilities already."""
    rng = np.random.default_rng(batch)
    shape = (batch, len(MASK) * (CLASSES + 5), INPUT[1], INPUT[0])
    x = rng.uniform(0, 1, shape) ** 0.5 if "new_coords" in kind else rng.normal(0.5, 2.5, shape)
    return x.astype(np.float32)


def every_box(raw: np.ndarray, kind: str) -> dict[tuple[int, int, int, int], Box]:
    """By picture, anchor, row and column: all boxes, nothing left out."""
    boxes = {}
    scale = {"scale_x_y": 1.2, "new_coords and scale_x_y": 2.0}.get(kind, 1.0)
    for one in range(len(raw)):
        for number, anchor in enumerate(MASK):
            for row in range(ROWS):
                for column in range(COLUMNS):
                    first = number * (CLASSES + 5)
                    x, y, w, h, *known = (float(v) for v in raw[one, first : first + 5 + CLASSES, row, column])
                    if "new_coords" in kind:
                        wide, high = (2 * w) ** 2, (2 * h) ** 2
                    else:
                        if kind not in ("linear", "anchor"):
                            x, y = sigma(x), sigma(y)
                        known = [sigma(v) for v in known]
                        wide, high = math.exp(w), math.exp(h)
                    prior_wide, prior_high = ANCHORS[anchor][0] / INPUT[0], ANCHORS[anchor][1] / INPUT[1]
                    if kind == "anchor":
                        x, y = (column + 0.5) / COLUMNS + x * prior_wide, (row + 0.5) / ROWS + y * prior_high
                    else:
                        x, y = scale * x - (scale - 1) / 2, scale * y - (scale - 1) / 2
                        x, y = (column + x) / COLUMNS, (row + y) / ROWS
                    wide, high = wide * prior_wide, high * prior_high
                    corners = [x - wide / 2, y - high / 2, x + wide / 2, y + high / 2]
                    boxes[one, number, row, column] = (corners, known[0], [known[0] * p for p in known[1:]])
    return boxes


# ---------------------------------------------------------------------- decode
@pytest.mark.parametrize("threshold", [0.0, 0.05, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch", [1, 2, 3])
def test_decode_gives_each_class_of_each_box_that_passes(kind: str, threshold: float, batch: int) -> None:
    raw = picture(kind, batch)[:, :, ::STEP, ::STEP]
    found = head_of(KINDS[kind]).decode(raw, DecodeOptions(INPUT, threshold))
    assert_same_rows(found, passing(every_box(raw, kind), threshold))
    assert threshold or len(found.score) == batch * len(MASK) * ROWS * COLUMNS * CLASSES


def test_rows_of_one_box_have_its_number() -> None:
    raw = picture()[:, :, ::STEP, ::STEP]
    found = head_of().decode(raw, DecodeOptions(INPUT, 0.05))
    assert len(np.unique(found.box)) < len(found.box)
    for number in np.unique(found.box):
        rows = found.box == number
        assert len(np.unique(found.xyxy[rows], axis=0)) == len(np.unique(found.picture[rows])) == 1
        assert len(np.unique(found.label[rows])) == rows.sum()
    boxes = {(int(one), *box) for one, box in zip(found.picture, found.xyxy.tolist(), strict=True)}
    assert len(boxes) == len(np.unique(found.box))


@pytest.mark.parametrize("more", ["", "new_coords=1"])
def test_a_score_equal_to_the_threshold_does_not_pass(more: str) -> None:
    """An objectness of exactly one half, and a class that is certain: sigma(0), sigma(60), and their own values."""
    raw = np.full((1, len(MASK) * 6, ROWS, COLUMNS), -60, np.float32)
    raw[0, 4, 1, 2], raw[0, 5, 1, 2] = (0.5, 1) if more else (0, 60)
    head = head_of(more, classes=1)
    assert len(head.decode(raw, DecodeOptions(INPUT, 0.5)).score) == 0
    found = head.decode(raw, DecodeOptions(INPUT, 0.49999))
    assert found.score.tolist() == [0.5]
    assert found.objectness.tolist() == [0.5]


@pytest.mark.parametrize("more", ["", "new_coords=1"])
@pytest.mark.parametrize("threshold", [0.5, 1.0])
def test_nothing_found_is_empty_arrays_of_the_usual_kinds(more: str, threshold: float) -> None:
    raw = np.full((2, len(MASK) * (CLASSES + 5), ROWS, COLUMNS), -3, np.float32)
    found = head_of(more).decode(raw, DecodeOptions(INPUT, threshold))
    assert found.xyxy.shape == (0, 4)
    for name, kind in [("picture", "i"), ("box", "i"), ("label", "i"), ("score", "f"), ("objectness", "f")]:
        column = getattr(found, name)
        assert column.shape == (0,)
        assert column.dtype.kind == kind
    assert found.xyxy.dtype == found.score.dtype == np.float32


@pytest.mark.parametrize("location", ["direct", "linear", "anchor"])
@pytest.mark.parametrize("value", [90.0, 1e4, 3e38, math.inf, -3e38, -math.inf])
def test_huge_logits_give_finite_boxes(value: float, location: str) -> None:
    raw = np.full((1, len(MASK), CLASSES + 5, ROWS, COLUMNS), value, np.float32)
    raw[:, :, 4:] = abs(value)                       # objects of all classes everywhere
    head = head_of(f"location={location}")
    found = head.decode(raw.reshape(1, -1, ROWS, COLUMNS), DecodeOptions(INPUT, 0.0))
    assert found.score.tolist() == [1] * (len(MASK) * ROWS * COLUMNS * CLASSES)
    assert np.isfinite(found.xyxy).all()


@pytest.mark.parametrize("value", [-90.0, -1e4, -3e38, -math.inf])
def test_hugely_negative_logits_are_no_objects(value: float) -> None:
    raw = np.full((1, len(MASK) * (CLASSES + 5), ROWS, COLUMNS), value, np.float32)
    assert len(head_of().decode(raw, DecodeOptions(INPUT, 1e-6)).score) == 0


@pytest.mark.parametrize("value", [30.0, 60.0, 1e4])
def test_huge_boxes_of_one_anchor_suppress_each_other(value: float) -> None:
    """All cells of an anchor say the same box then. Of two anchors the smaller one has at most .29 of the larger.

    Widths whose product is no number any more would keep every box, with warnings of numpy on the way.
    """
    raw = np.full((1, len(MASK) * (CLASSES + 5), ROWS, COLUMNS), 30, np.float32)
    raw[:, 2 :: CLASSES + 5], raw[:, 3 :: CLASSES + 5] = value, value
    detector = Detector(model_of(cfg()), engine="onnxruntime", nms=0.45)
    [found] = detector.answer(Raw([raw], [place((640, 480), INPUT, "letterbox")]))
    assert len(found) == len(MASK) * CLASSES
    assert np.isfinite(found.xyxy).all()


def test_heads_together_number_their_boxes_anew() -> None:
    raw = picture()[:, :, ::STEP, ::STEP]
    one = head_of().decode(raw, DecodeOptions(INPUT, 0.3))
    none = head_of().decode(raw, DecodeOptions(INPUT, 1.0))
    both = Candidates.concat([one, none, one])
    assert len(both.score) == 2 * len(one.score)
    assert len(np.unique(both.box)) == 2 * len(np.unique(one.box))
    assert np.array_equal(both.score, np.tile(one.score, 2))
    assert np.array_equal(both.xyxy, np.tile(one.xyxy, (2, 1)))


# ---------------------------------------------------------------------- as primitives
@pytest.mark.parametrize("engine", available_engines())
@pytest.mark.parametrize("kind", KINDS)
def test_dense_is_the_table_of_every_box_and_class(kind: str, engine: EngineKind) -> None:
    x = picture(kind)
    boxes, scores, _ = open_engine(build_decoded(model_of(cfg(KINDS[kind]))), engine)(x)
    wanted = list(every_box(x[:, :, ::STEP, ::STEP], kind).values())          # in the order of the table
    np.testing.assert_allclose(boxes.reshape(-1, 4), [corners for corners, _, _ in wanted], rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(scores.reshape(-1, CLASSES), [each for _, _, each in wanted], rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_dense_is_decode_without_a_threshold(kind: str) -> None:
    x = picture(kind)
    boxes, scores, _ = open_engine(build_decoded(model_of(cfg(KINDS[kind]))), "onnxruntime")(x)
    found = head_of(KINDS[kind]).decode(x[:, :, ::STEP, ::STEP], DecodeOptions(INPUT, 0.0))
    assert len(found.score) == scores.size
    at = found.picture, found.box % boxes.shape[1]
    np.testing.assert_allclose(boxes[at], found.xyxy, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(scores[*at, found.label], found.score, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("engine", available_engines())
@pytest.mark.parametrize(("more", "value"), [("", 95), ("location=anchor", 95), ("location=anchor", 3e38)])
def test_huge_logits_give_finite_boxes_in_the_table_too(more: str, value: float, engine: EngineKind) -> None:
    x = np.full((1, len(MASK) * (CLASSES + 5), INPUT[1], INPUT[0]), value, np.float32)
    boxes, scores, _ = open_engine(build_decoded(model_of(cfg(more))), engine)(x)
    assert np.isfinite(boxes).all()
    assert (scores == 1).all()


@pytest.mark.parametrize("engine", available_engines())
@pytest.mark.parametrize("kind", KINDS)
def test_the_layer_itself_activates_everything_but_sizes_and_linear_centres(kind: str, engine: EngineKind) -> None:
    x = picture(kind)
    given, found = run_layers(model_of(cfg(KINDS[kind])), x, engine=engine)
    scale = {"scale_x_y": 1.2, "new_coords and scale_x_y": 2.0}.get(kind, 1.0)
    linear = (0, 1, 2, 3) if kind in ("linear", "anchor") else (2, 3)
    for at in np.ndindex(given.shape):
        value, entry = float(given[at]), at[1] % (CLASSES + 5)
        if entry not in linear and "new_coords" not in kind:
            value = sigma(value)
        if entry in (0, 1):
            value = scale * value - (scale - 1) / 2
        assert found[at] == pytest.approx(value, rel=1e-5, abs=1e-6)


# ---------------------------------------------------------------------- options and refusals
def test_without_options_there_is_one_anchor_of_half_a_pixel_and_twenty_classes() -> None:
    head = network_of("[net]\nchannels=25\nheight=4\nwidth=4\n[yolo]").heads[0][1]
    assert isinstance(head, Yolo)
    assert (head.classes, head.mask, head.anchors) == (20, (0,), ((0.5, 0.5),))


def test_without_options_a_head_learns_as_darknet_does() -> None:
    head = head_of()
    assert (head.location, head.iou_loss, head.iou_threshold, head.label_smooth, head.focal) == (
        "direct", "mse", 1, 0, False,
    )  # fmt: skip
    assert (head.iou_normalizer, head.obj_normalizer, head.cls_normalizer, head.max_delta) == (1, 1, 1, math.inf)
    assert (head.ignore_threshold, head.truth_threshold) == (0.5, 1)


def test_what_the_fork_says_of_learning_is_kept() -> None:
    said = "iou_loss=ciou\niou_normalizer=.07\nobj_normalizer=.4\ncls_normalizer=.5\niou_thresh=.213\n"
    head = head_of(said + "label_smooth_eps=.1\nfocal_loss=1\nmax_delta=5")
    assert (head.iou_loss, head.iou_normalizer, head.obj_normalizer, head.cls_normalizer) == ("ciou", 0.07, 0.4, 0.5)
    assert (head.iou_threshold, head.label_smooth, head.focal, head.max_delta) == (0.213, 0.1, True, 5)


def test_boxes_weigh_three_quarters_in_the_fork() -> None:
    """As soon as the cfg uses a word of its dialect, here or anywhere."""
    assert head_of("scale_x_y=1.05").iou_normalizer == 0.75
    assert head_of("location=linear").iou_normalizer == 1


def test_what_only_learning_reads_does_not_change_the_boxes() -> None:
    raw = picture()[:, :, ::STEP, ::STEP]
    said = "iou_loss=giou\niou_thresh=.2\nlabel_smooth_eps=.1\nfocal_loss=1\nmax_delta=5\nignore_thresh=.1"
    plain, found = (head_of(more).decode(raw, DecodeOptions(INPUT, 0.2)) for more in ("", said))
    for name in ("picture", "box", "xyxy", "objectness", "label", "score"):
        np.testing.assert_array_equal(getattr(found, name), getattr(plain, name))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("channels=24", "channels=255", r"wants filters=24 .* \(3 masks x \(3 classes \+ 5\)\); it has 255"),
        ("classes=3", "classes=80", r"wants filters=255 .* it has 24"),
        ("mask=3,1,4", "mask=3,1", r"wants filters=16 .* \(2 masks .* it has 24"),
        ("mask=3,1,4", "mask=3,1,5", "mask=3,1,5 .* 0 to 4"),
        ("mask=3,1,4", "mask=3,1,-1", "mask=3,1,-1 .* 0 to 4"),
        ("mask=3,1,4", "mask=3,1,1", "mask=3,1,1 .* different"),
        ("num=5", "num=6", "has 10 values; num=6 wants 12"),
        ("10,14, ", "", "has 8 values; num=5 wants 10"),
        ("10,14, ", "10, ", "has 9 values; num=5 wants 10"),
        ("anchors=10,14", "anchors=10,0", "not above 0"),
        ("classes=3", "classes=0", "classes=0 .* 1 to"),
        ("classes=3", "classes=3\niou_loss=eiou", "iou_loss=eiou is not known.* there are ciou, diou, giou, iou, mse"),
        ("classes=3", "classes=3\nlabel_smooth_eps=2", "label_smooth_eps=2 is out of range: wanted 0 to 1"),
        ("classes=3", "classes=3\niou_normalizer=-1", "iou_normalizer=-1 is out of range"),
        ("classes=3", "classes=3\nlocation=directly", "location=directly is not known, did you mean direct"),
        ("classes=3", "classes=3\nlocation=linear\nnew_coords=1", "location=linear stands beside .* new_coords="),
        ("classes=3", "classes=3\nlocation=anchor\nscale_x_y=1.2", "location=anchor stands beside scale_x_y="),
        ("classes=3", "classes=3\nnms_kind=cornersnms", "nms_kind=cornersnms is not known.* diounms, greedynms"),
    ],
)
def test_what_does_not_fit_is_refused_with_the_right_number(old: str, new: str, message: str) -> None:
    assert old in cfg()
    with pytest.raises(CfgError, match=message):
        network_of(cfg().replace(old, new))


def test_a_wrong_number_of_filters_names_the_layer_before() -> None:
    with pytest.raises(CfgError, match=r"test.cfg:8: \[yolo\] .*layer before: \[maxpool\], line 5"):
        network_of(cfg().replace("channels=24", "channels=255"))
