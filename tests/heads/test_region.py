"""[region] against a loop over all cells, anchors and classes, and against a walk down the tree node by node."""

from __future__ import annotations

import math

import numpy as np
import pytest
from conftest import model_of, network_of, run_layers
from expected import Box, assert_same_rows, passing, sigma, softmax

from lookonce.darknet.cfg import Cfg, Place
from lookonce.engines import EngineKind, available_engines, open_engine
from lookonce.errors import CfgError
from lookonce.graph.decoded import build_decoded
from lookonce.heads.head import DecodeOptions
from lookonce.heads.region import Region
from lookonce.network import Network

ANCHORS = [(1.08, 1.19), (3.42, 4.41), (0.66, 0.71)]             # in cells
CLASSES, ROWS, COLUMNS = 5, 2, 3
STEP = 8                                                         # pixels of the input a cell
INPUT = (COLUMNS * STEP, ROWS * STEP)                            # width and height
KINDS = {
    "softmax": "softmax=1",
    "no softmax": "softmax=0",
    "background": "background=1\nsoftmax=1",
    "more coords": "coords=7\nsoftmax=1",
    "background and more coords": "background=1\nsoftmax=1\ncoords=6",
    "linear": "softmax=1\nlocation=linear",
    "anchor": "softmax=1\nlocation=anchor",
}


def coords_of(more: str) -> int:
    return next((int(line.removeprefix("coords=")) for line in more.split("\n") if line.startswith("coords=")), 4)


def cfg(more: str = "softmax=1", classes: int = CLASSES) -> str:
    """A network that hands every eighth pixel of its input to the head as it is."""
    anchors = ", ".join(f"{w},{h}" for w, h in ANCHORS)
    channels = len(ANCHORS) * (classes + coords_of(more) + 1)
    return (
        f"[net]\nchannels={channels}\nheight={INPUT[1]}\nwidth={INPUT[0]}\n[maxpool]\nsize=1\nstride={STEP}\n"
        f"[region]\nanchors={anchors}\nnum={len(ANCHORS)}\nclasses={classes}\n{more}\n"
    )


def head_of(more: str = "softmax=1", classes: int = CLASSES, tree: str = "") -> Region:
    place = Place(attached={"tree": tree})
    head = Network.build(Cfg.parse(cfg(more, classes), "test.cfg", place)).heads[0][1]
    assert isinstance(head, Region)
    return head


def picture(more: str = "softmax=1", batch: int = 2, classes: int = CLASSES) -> np.ndarray:
    shape = (batch, len(ANCHORS) * (classes + coords_of(more) + 1), INPUT[1], INPUT[0])
    return np.random.default_rng(batch).normal(0.3, 2, shape).astype(np.float32)


def every_cell(raw: np.ndarray, more: str) -> dict[tuple[int, int, int, int], tuple[list[float], list[float]]]:
    """By picture, anchor, row and column: the corners of the box, and what the cell holds from objectness on."""
    entries = raw.shape[1] // len(ANCHORS)
    cells = {}
    for one in range(len(raw)):
        for number, anchor in enumerate(ANCHORS):
            for row in range(ROWS):
                for column in range(COLUMNS):
                    cell = [float(v) for v in raw[one, number * entries : (number + 1) * entries, row, column]]
                    if "location=anchor" in more:
                        x, y = column + 0.5 + cell[0] * anchor[0], row + 0.5 + cell[1] * anchor[1]
                    elif "location=linear" in more:
                        x, y = column + cell[0], row + cell[1]
                    else:
                        x, y = column + sigma(cell[0]), row + sigma(cell[1])
                    x, y = x / COLUMNS, y / ROWS
                    wide, high = math.exp(cell[2]) * anchor[0] / COLUMNS, math.exp(cell[3]) * anchor[1] / ROWS
                    corners = [x - wide / 2, y - high / 2, x + wide / 2, y + high / 2]
                    cells[one, number, row, column] = (corners, cell[coords_of(more) :])
    return cells


def every_box(raw: np.ndarray, more: str) -> dict[tuple[int, int, int, int], Box]:
    boxes = {}
    for place, (corners, known) in every_cell(raw, more).items():
        if "background=1" in more:
            objectness, classes = 1.0, softmax(known)[1:]
        else:
            objectness = sigma(known[0])
            classes = softmax(known[1:]) if "softmax=1" in more else [sigma(value) for value in known[1:]]
        boxes[place] = (corners, objectness, [objectness * p for p in classes])
    return boxes


# ---------------------------------------------------------------------- decode
@pytest.mark.parametrize("threshold", [0.0, 0.05, 0.3, 0.6])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch", [1, 3])
def test_decode_gives_each_class_of_each_box_that_passes(kind: str, threshold: float, batch: int) -> None:
    raw = picture(KINDS[kind], batch)[:, :, ::STEP, ::STEP]
    found = head_of(KINDS[kind]).decode(raw, DecodeOptions(INPUT, threshold))
    assert_same_rows(found, passing(every_box(raw, KINDS[kind]), threshold))
    assert threshold or len(found.score) == batch * len(ANCHORS) * ROWS * COLUMNS * CLASSES


@pytest.mark.parametrize("more", ["softmax=1", "softmax=0", "background=1\nsoftmax=1"])
def test_a_score_equal_to_the_threshold_does_not_pass(more: str) -> None:
    """One class: its softmax is 1, as is sigma(60); with a background of the same logit it is one half."""
    raw = np.full((1, len(ANCHORS) * 6, ROWS, COLUMNS), -60, np.float32)
    raw[:, 5::6] = -60 if "background" not in more else -1e4                 # no class anywhere but in one cell
    raw[0, 4, 1, 2], raw[0, 5, 1, 2] = (0, 60) if "background" not in more else (0, 0)
    head = head_of(more, classes=1)
    assert len(head.decode(raw, DecodeOptions(INPUT, 0.5)).score) == 0
    assert head.decode(raw, DecodeOptions(INPUT, 0.49999)).score.tolist() == [0.5]


@pytest.mark.parametrize("more", list(KINDS.values()))
def test_nothing_found_is_empty_arrays_of_the_usual_kinds(more: str) -> None:
    found = head_of(more).decode(picture(more)[:, :, ::STEP, ::STEP], DecodeOptions(INPUT, 1.0))
    assert found.xyxy.shape == (0, 4)
    for name, kind in [("picture", "i"), ("box", "i"), ("label", "i"), ("score", "f"), ("objectness", "f")]:
        column = getattr(found, name)
        assert column.shape == (0,)
        assert column.dtype.kind == kind
    assert found.xyxy.dtype == found.score.dtype == np.float32


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("value", [90.0, 1e4, 3e38, math.inf, -3e38, -math.inf])
def test_huge_logits_give_finite_boxes_and_scores(kind: str, value: float) -> None:
    """Equal class logits, however large, share out what there is."""
    coords = coords_of(KINDS[kind])
    raw = np.full((1, len(ANCHORS), coords + 1 + CLASSES, ROWS, COLUMNS), value, np.float32)
    raw[:, :, coords:] = min(abs(value), 3e38)
    found = head_of(KINDS[kind]).decode(raw.reshape(1, -1, ROWS, COLUMNS), DecodeOptions(INPUT, 0.0))
    share = {"background": 1 / 6, "no softmax": 1.0}.get(kind.removesuffix(" and more coords"), 1 / 5)
    assert found.score == pytest.approx([share] * (len(ANCHORS) * ROWS * COLUMNS * CLASSES))
    assert np.isfinite(found.xyxy).all()


# ---------------------------------------------------------------------- as primitives
@pytest.mark.parametrize("engine", available_engines())
@pytest.mark.parametrize("kind", KINDS)
def test_dense_is_the_table_of_every_box_and_class(kind: str, engine: EngineKind) -> None:
    x = picture(KINDS[kind])
    boxes, scores, _ = open_engine(build_decoded(model_of(cfg(KINDS[kind]))), engine)(x)
    wanted = list(every_box(x[:, :, ::STEP, ::STEP], KINDS[kind]).values())   # in the order of the table
    np.testing.assert_allclose(boxes.reshape(-1, 4), [corners for corners, _, _ in wanted], rtol=2e-5, atol=2e-5)
    np.testing.assert_allclose(scores.reshape(-1, CLASSES), [each for _, _, each in wanted], rtol=2e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_dense_is_decode_without_a_threshold(kind: str) -> None:
    x = picture(KINDS[kind])
    boxes, scores, _ = open_engine(build_decoded(model_of(cfg(KINDS[kind]))), "onnxruntime")(x)
    found = head_of(KINDS[kind]).decode(x[:, :, ::STEP, ::STEP], DecodeOptions(INPUT, 0.0))
    assert len(found.score) == scores.size
    place = found.box % boxes.shape[1]
    np.testing.assert_allclose(boxes[found.picture, place], found.xyxy, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(scores[found.picture, place, found.label], found.score, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("engine", available_engines())
@pytest.mark.parametrize("kind", ["softmax", "linear", "anchor"])
def test_huge_logits_give_finite_boxes_in_the_table_too(kind: str, engine: EngineKind) -> None:
    x = np.full(picture().shape, 95 if kind == "softmax" else 3e38, np.float32)
    boxes, scores, _ = open_engine(build_decoded(model_of(cfg(KINDS[kind]))), engine)(x)
    assert np.isfinite(boxes).all()
    assert scores == pytest.approx(1 / CLASSES)


@pytest.mark.parametrize("engine", available_engines())
@pytest.mark.parametrize("kind", KINDS)
def test_the_layer_itself_activates_all_but_sizes_and_masks(kind: str, engine: EngineKind) -> None:
    x = picture(KINDS[kind])
    given, found = run_layers(model_of(cfg(KINDS[kind])), x, engine=engine)
    entries, coords = given.shape[1] // len(ANCHORS), coords_of(KINDS[kind])
    for one, number, row, column in np.ndindex(2, len(ANCHORS), ROWS, COLUMNS):
        at = (one, slice(number * entries, (number + 1) * entries), row, column)
        cell = [float(value) for value in given[at]]
        free = "location" in KINDS[kind]                                     # of any sigmoid
        wanted = [*(cell[:2] if free else [sigma(cell[0]), sigma(cell[1])]), *cell[2:coords]]
        if "background" in kind:
            wanted += softmax(cell[coords:])
        else:
            known = cell[coords + 1 :]
            wanted += [sigma(cell[coords]), *([sigma(v) for v in known] if kind == "no softmax" else softmax(known))]
        np.testing.assert_allclose(found[at], wanted, rtol=1e-5, atol=1e-6)


# ---------------------------------------------------------------------- down a tree
# animal (dog (poodle, beagle), cat, bird), vehicle (car (taxi), bus): two roots, and a node with one child
PARENTS = [-1, -1, 0, 0, 0, 1, 1, 2, 2, 5]
TREE = "\n".join(f"n{number} {parent}" for number, parent in enumerate(PARENTS))


def walk(logits: list[float], threshold: float, compat: bool) -> int:
    """The node where a walk from the roots ends, always to the likeliest child while it is likely enough."""
    siblings = [number for number, parent in enumerate(PARENTS) if parent == -1]
    stands, own, product = -1, 1.0, 1.0
    while siblings:
        chances = softmax([logits[number] for number in siblings])
        best = max(range(len(siblings)), key=lambda at: chances[at])
        own *= chances[best]                                     # the node's own probability
        product *= own                                           # what Darknet compares
        if not (product if compat else own) > threshold:
            return siblings[best] if stands < 0 else stands
        stands = siblings[best]
        siblings = [number for number, parent in enumerate(PARENTS) if parent == stands]
    return stands


@pytest.mark.parametrize("compat", [False, True])
@pytest.mark.parametrize("hierarchy", [0.0, 0.2, 0.5, 0.8, 0.999])
@pytest.mark.parametrize("threshold", [0.1, 0.6])
def test_each_box_answers_with_the_node_where_its_walk_ends_and_its_objectness(
    threshold: float, hierarchy: float, compat: bool
) -> None:
    more = "softmax=1\ntree=toy.tree"
    raw = picture(more, 3, len(PARENTS))[:, :, ::STEP, ::STEP]
    wanted = []
    for (one, *_), (corners, known) in every_cell(raw, more).items():
        if sigma(known[0]) > threshold:
            label = walk(known[1:], hierarchy, compat)
            wanted.append([one, label, sigma(known[0]), sigma(known[0]), *corners])
    found = head_of(more, len(PARENTS), TREE).decode(raw, DecodeOptions(INPUT, threshold, hierarchy, compat))
    assert_same_rows(found, wanted)
    assert found.box.tolist() == list(range(len(found.box)))
    if hierarchy == 0.2:
        assert len(np.unique(found.label)) > 4


def test_darknets_walk_stops_earlier() -> None:
    """Animal a half, dog the same, poodle a quarter: what Darknet compares is .5 x .5 x .25, a sixteenth."""
    more = "softmax=1\ntree=toy.tree"
    raw = np.zeros((1, len(ANCHORS) * (5 + len(PARENTS)), ROWS, COLUMNS), np.float32)
    cell = raw.reshape(len(ANCHORS), 5 + len(PARENTS), ROWS, COLUMNS)
    cell[:, 4] = 5
    cell[:, 5 + 0], cell[:, 5 + 2] = 0.01, 20                    # animal, just; dog, surely
    cell[:, 5 + 7] = 0.01                                        # poodle, just
    head = head_of(more, len(PARENTS), TREE)
    for compat, labels in ((False, {7}), (True, {2})):
        found = head.decode(raw, DecodeOptions(INPUT, 0.5, 0.2, compat))
        assert set(found.label.tolist()) == labels


def test_an_objectness_equal_to_the_threshold_does_not_enter_the_tree() -> None:
    """sigma(0) is exactly one half."""
    more = "softmax=1\ntree=toy.tree"
    raw = np.zeros((1, len(ANCHORS) * (5 + len(PARENTS)), ROWS, COLUMNS), np.float32)
    head = head_of(more, len(PARENTS), TREE)
    assert len(head.decode(raw, DecodeOptions(INPUT, 0.5)).score) == 0
    assert len(head.decode(raw, DecodeOptions(INPUT, 0.49999)).score) == len(ANCHORS) * ROWS * COLUMNS


def test_no_box_down_a_tree_is_empty_arrays() -> None:
    more = "softmax=1\ntree=toy.tree"
    raw = picture(more, 2, len(PARENTS))[:, :, ::STEP, ::STEP]
    found = head_of(more, len(PARENTS), TREE).decode(raw, DecodeOptions(INPUT, 1.0))
    assert found.xyxy.shape == (0, 4)
    assert found.label.shape == found.score.shape == found.picture.shape == found.box.shape == (0,)
    assert found.label.dtype.kind == found.box.dtype.kind == "i"


# ---------------------------------------------------------------------- options and refusals
def test_without_a_location_centres_are_direct_to_the_bit() -> None:
    raw = picture()[:, :, ::STEP, ::STEP]
    options = DecodeOptions(INPUT, 0.0)
    plain, named = head_of().decode(raw, options), head_of("softmax=1\nlocation=direct").decode(raw, options)
    assert np.array_equal(plain.xyxy, named.xyxy)
    assert (head_of().location, head_of().focal) == ("direct", False)
    assert head_of("softmax=1\nfocal_loss=1").focal


def test_without_options_anchors_are_half_a_cell_and_classes_twenty() -> None:
    head = network_of("[net]\nchannels=25\nheight=4\nwidth=4\n[region]").heads[0][1]
    assert isinstance(head, Region)
    assert (head.classes, head.coords, head.anchors) == (20, 4, ((0.5, 0.5),))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("channels=30", "channels=425", r"filters=30 .* \(3 anchors x \(5 classes \+ 4 coords \+ 1\)\); it has 425"),
        ("classes=5", "classes=80", "wants filters=255 .* it has 30"),
        ("softmax=1", "coords=8", "wants filters=42 .* it has 30"),
        ("num=3", "num=5", "has 6 values; num=5 wants 10"),
        ("anchors=1.08", "anchors=-1.08", "not above 0"),
        ("softmax=1", "coords=3", "coords=3 .* 4 to"),
        ("softmax=1", "location=liner", "location=liner is not known, did you mean linear"),
        ("softmax=1", "tree=toy.tree", "tree=toy.tree has 10 nodes for classes=5"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_the_right_number(old: str, new: str, message: str) -> None:
    assert old in cfg()
    with pytest.raises(CfgError, match=message):
        Network.build(Cfg.parse(cfg().replace(old, new), "test.cfg", Place(attached={"tree": TREE})))
