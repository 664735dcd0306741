"""The loss of [yolo] against Darknet's recorded deltas, and against its rules as loops over boxes and truths."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_overlap import balance, by_hand

from lookonce.errors import DataError
from lookonce.heads.yolo import Yolo
from lookonce.losses.terms import LossTerms, Moment
from lookonce.losses.yolo import yolo_loss
from lookonce.model import open_model
from lookonce.nn.network import TorchNetwork
from lookonce.truth import Targets

Row = tuple[float, float, float, float, int]             # centre, size, class
Deltas = dict[tuple[int, int, int, int, int], float]     # by picture, anchor of the mask, entry, row, column

ANCHORS = ((12.0, 10.0), (20.0, 36.0), (40.0, 24.0), (70.0, 60.0))
MASK, CLASSES, ROWS, COLUMNS = (3, 1), 3, 3, 4
INPUT = (128, 96)
MOMENT = Moment(INPUT, 4)


def head_with(**options: Any) -> Yolo:
    return Yolo(**{"classes": CLASSES, "mask": MASK, "anchors": ANCHORS, **options})


def sigma(x: float) -> float:
    return 1 / (1 + math.exp(-x))


# ---------------------------------------------------------------------- Darknet's rules, written out
class Darknet:
    """The deltas of one head for a batch, in the order in which Darknet writes them, with the options of the fork."""

    def __init__(self, head: Yolo, raw: np.ndarray, truths: Sequence[Sequence[Row]]) -> None:
        self.head = head
        self.grid = raw.reshape(len(raw), len(head.mask), 5 + head.classes, *raw.shape[2:])
        self.rows, self.columns = raw.shape[2:]
        self.delta: Deltas = {}
        for picture, rows in enumerate(truths):
            for anchor in range(len(head.mask)):
                for row in range(self.rows):
                    for column in range(self.columns):
                        self.background((picture, anchor, row, column), rows)
            for truth in rows:
                self.learn(picture, truth)

    def known(self, value: float) -> float:
        return value if self.head.new_coords else sigma(value)

    def box(self, at: tuple[int, int, int, int]) -> list[float]:
        """What a box of the grid is, as xyxy."""
        picture, anchor, row, column = at
        return decoded(self.head, self.grid[picture, anchor, :4, row, column].tolist(), anchor, row, column)

    def background(self, at: tuple[int, int, int, int], truths: Sequence[Row]) -> None:
        picture, anchor, row, column = at
        most, best = 0.0, None
        for truth in truths:
            overlap = by_hand("iou", self.box(at), corners(truth))
            if overlap > most:
                most, best = overlap, truth
        objectness = self.known(self.grid[picture, anchor, 4, row, column])
        self.delta[picture, anchor, 4, row, column] = self.head.obj_normalizer * (0 - objectness)
        if most > self.head.ignore_threshold:
            self.delta[picture, anchor, 4, row, column] = 0
        if most > self.head.truth_threshold:
            assert best is not None
            self.object(at, best)

    def learn(self, picture: int, truth: Row) -> None:
        column, row = min(int(truth[0] * self.columns), self.columns - 1), min(int(truth[1] * self.rows), self.rows - 1)
        fits = []
        for wide, high in self.head.anchors:
            wide, high = wide / INPUT[0], high / INPUT[1]
            fits.append(by_hand("iou", corners((0, 0, wide, high, 0)), corners((0, 0, *truth[2:]))))
        best = fits.index(max(fits))
        for number, anchor in enumerate(self.head.mask):
            if anchor == best or (self.head.iou_threshold < 1 and fits[anchor] > self.head.iou_threshold):
                self.object((picture, number, row, column), truth)

    def object(self, at: tuple[int, int, int, int], truth: Row) -> None:
        picture, anchor, row, column = at
        x, y, w, h, label = truth
        t = self.grid[picture, anchor, :, row, column]
        anchor_wide, anchor_high = self.head.anchors[self.head.mask[anchor]]
        scale = self.head.iou_normalizer * (2 - w * h)
        for entry, place, cell, cells, prior in (
            (0, x, column, self.columns, anchor_wide / INPUT[0]),
            (1, y, row, self.rows, anchor_high / INPUT[1]),
        ):
            if self.head.location == "anchor":
                away = (place - (cell + 0.5) / cells) / prior - t[entry]
            elif self.head.location == "linear":
                away = place * cells - cell - t[entry]
            else:
                s = self.head.scale_x_y
                away = place * cells - cell - (s * self.known(t[entry]) - (s - 1) / 2)
            self.delta[picture, anchor, entry, row, column] = scale * away
        for entry, size, whole in ((2, w * INPUT[0], anchor_wide), (3, h * INPUT[1], anchor_high)):
            wanted = math.sqrt(size / (4 * whole)) if self.head.new_coords else math.log(size / whole)
            self.delta[picture, anchor, entry, row, column] = scale * (wanted - t[entry])
        sure = by_hand("iou", self.box(at), corners(truth)) if self.head.rescore else 1.0
        self.delta[picture, anchor, 4, row, column] = self.head.obj_normalizer * (sure - self.known(t[4]))
        learnt = self.delta.get((picture, anchor, 5, row, column), 0) != 0
        for number in range(self.head.classes):
            if learnt and number != label:
                continue                 # a second truth of this box: it has this class too
            wanted = 1.0 if number == label else 0.0
            wanted = wanted * (1 - self.head.label_smooth) + 0.5 * self.head.label_smooth
            delta = self.head.cls_normalizer * (wanted - self.known(t[5 + number]))
            self.delta[picture, anchor, 5 + number, row, column] = delta

    def array(self) -> np.ndarray:
        """(B, C, H, W)."""
        array = np.zeros(self.grid.shape)
        for at, delta in self.delta.items():
            array[at] = delta
        return array.reshape(len(array), -1, self.rows, self.columns)


def corners(truth: Sequence[float]) -> list[float]:
    x, y, w, h = truth[:4]
    return [x - w / 2, y - h / 2, x + w / 2, y + h / 2]


def decoded(head: Yolo, t: Sequence[float], anchor: int, row: int, column: int) -> list[float]:
    """The box equations for the four numbers of one box, xyxy."""
    wide, high = (side / whole for side, whole in zip(head.anchors[head.mask[anchor]], INPUT, strict=True))
    if head.location == "anchor":
        x, y = (column + 0.5) / COLUMNS + t[0] * wide, (row + 0.5) / ROWS + t[1] * high
    else:
        s = head.scale_x_y
        x, y = t[:2] if head.new_coords or head.location == "linear" else (sigma(t[0]), sigma(t[1]))
        x, y = (column + s * x - (s - 1) / 2) / COLUMNS, (row + s * y - (s - 1) / 2) / ROWS
    w, h = ((2 * t[2]) ** 2, (2 * t[3]) ** 2) if head.new_coords else (math.exp(t[2]), math.exp(t[3]))
    return corners((x, y, w * wide, h * high))


# ---------------------------------------------------------------------- scenes
def scene(head: Yolo, seed: int, counts: Sequence[int]) -> tuple[np.ndarray, list[list[Row]]]:
    """Raw output (B, C, H, W) float64, and so many truths in each picture, of which some boxes know already.

    24 boxes a picture: where there are many truths, several share one.
    """
    rng = np.random.default_rng(seed)
    shape = len(counts), len(MASK), 5 + CLASSES, ROWS, COLUMNS
    raw = rng.uniform(0.05, 0.95, shape) if head.new_coords else rng.normal(0, 1, shape)
    truths: list[list[Row]] = []
    for picture, count in enumerate(counts):
        truths.append([])
        for _ in range(count):
            anchor, spread = ANCHORS[rng.integers(len(ANCHORS))], rng.uniform(0.6, 1.6, 2)
            wide, high = anchor[0] / INPUT[0] * spread[0], anchor[1] / INPUT[1] * spread[1]
            truths[-1].append((*rng.uniform(0, 1, 2), wide, high, int(rng.integers(CLASSES))))
            if not head.new_coords and head.location == "direct" and head.scale_x_y == 1 and rng.random() < 0.5:
                x, y, w, h, _ = truths[-1][-1]
                number = int(rng.integers(len(MASK)))
                prior = ANCHORS[MASK[number]]
                column, row = int(x * COLUMNS), int(y * ROWS)
                x, y = x * COLUMNS - column, y * ROWS - row
                t = [math.log(x / (1 - x)), math.log(y / (1 - y))]
                t += [math.log(w * INPUT[0] / prior[0]), math.log(h * INPUT[1] / prior[1])]
                raw[picture, number, :4, row, column] = t + rng.normal(0, 0.15, 4)
    return raw.reshape(len(counts), -1, ROWS, COLUMNS), truths


def targets_of(truths: Sequence[Sequence[Row]], dtype: type = np.float64) -> Targets:
    """Of float64, so that what is compared is not rounded."""
    rows = [row for picture in truths for row in picture]
    return Targets(
        np.repeat(np.arange(len(truths)), [len(picture) for picture in truths]),
        np.array([row[:4] for row in rows], dtype).reshape(-1, 4),
        np.array([row[4] for row in rows], np.int64),
        len(truths),
    )


def gradient(head: Yolo, raw: np.ndarray, targets: Targets, moment: Moment = MOMENT) -> tuple[LossTerms, np.ndarray]:
    """The terms, and minus their gradient by `raw`: the deltas."""
    x = torch.from_numpy(raw).requires_grad_()
    terms = yolo_loss(head, x, targets, moment)
    terms.total.backward()
    assert x.grad is not None
    return terms, -x.grad.numpy()


OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "voc": {"ignore_threshold": 0.5},
    "ignore nothing": {"ignore_threshold": 1.0},
    "dual": {"ignore_threshold": 0.3, "truth_threshold": 0.7},
    "dual, low": {"ignore_threshold": 0.1, "truth_threshold": 0.2},
    "normalizers": {"iou_normalizer": 0.75, "obj_normalizer": 0.4, "cls_normalizer": 0.5},
    "iou_thresh": {"iou_threshold": 0.213},
    "iou_thresh and dual": {"iou_threshold": 0.3, "truth_threshold": 0.6},
    "smooth": {"label_smooth": 0.1},
    "scale_x_y": {"scale_x_y": 1.2, "iou_normalizer": 0.5},
    "new_coords": {"new_coords": True, "scale_x_y": 2.0, "obj_normalizer": 0.4},
    "linear": {"location": "linear"},
    "anchor": {"location": "anchor"},
    "one anchor": {"mask": (2,)},
    "rescore": {"rescore": True},
    "rescore and dual": {"rescore": True, "ignore_threshold": 0.3, "truth_threshold": 0.6},
}
COUNTS = {"one": [1], "none": [0], "few": [3, 0, 2], "many": [90, 0, 5, 1], "all empty": [0, 0]}


@pytest.mark.parametrize("counts", COUNTS.values(), ids=COUNTS)
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_the_gradient_is_minus_darknets_delta(options: dict[str, Any], counts: list[int]) -> None:
    head = head_with(**{"ignore_threshold": 0.6, **options})
    for seed in range(2):
        raw, truths = scene(head_with(**{**options, "mask": MASK}), seed, counts)
        raw = raw[:, : len(head.mask) * (5 + CLASSES)]
        wanted = Darknet(head, raw, truths).array()
        terms, found = gradient(head, raw, targets_of(truths))
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12)
        assert terms.printed is not None
        assert terms.printed.item() == pytest.approx((wanted**2).sum(), rel=1e-9)


def test_the_scenes_hold_what_they_should() -> None:
    """Shared boxes, boxes that are ignored, and boxes above the truth threshold."""
    head = head_with(ignore_threshold=0.6)
    raw, truths = scene(head, 0, COUNTS["many"])
    deltas = Darknet(head, raw, truths).array().reshape(4, len(MASK), 5 + CLASSES, ROWS, COLUMNS)
    several = (deltas[:, :, 5:] > 0).sum(2)
    assert (several > 1).any()
    assert (several.sum((1, 2, 3)) == 0).tolist() == [False, True, False, True]
    assert (deltas[:, :, 4] == 0).any()
    low = Darknet(head_with(truth_threshold=0.7), raw, truths).array()
    assert (low.reshape(deltas.shape)[:, :, 4] > 0).sum() > (deltas[:, :, 4] > 0).sum()


# ---------------------------------------------------------------------- against the recording
def relative(found: np.ndarray, recording: np.ndarray) -> float:
    """The largest difference, relative to the recording's largest value."""
    return float(np.abs(found.ravel() - recording.ravel()).max() / np.abs(recording).max())


@pytest.mark.shared
def test_a_networks_first_step_is_as_recorded(shared: Path) -> None:
    """Cost, deltas of both heads, and the gradients of all arrays."""
    folder = shared / "golden/train/yolo-v3"
    golden = np.load(folder / "golden.npz")
    model = open_model(folder / "net.cfg", folder / "net.weights")
    rows = golden["truth"].reshape(2, 90, 5)
    rows = [picture[: int(np.argmax(picture[:, 0] == 0))] for picture in rows]
    targets = Targets.of([(picture[:, :4], picture[:, 4].astype(np.int64)) for picture in rows])
    assert targets.label.tolist() == [1, 0, 3, 1, 1, 3]
    heads = [(node.index, node.sources[0], head) for node, head in model.network.heads if isinstance(head, Yolo)]
    names = {"weights": "weight", "biases": "bias", "scales": "scale"}

    network = TorchNetwork(model, compat=True).train()
    raw = network(torch.from_numpy(golden["input"]), [source for _, source, _ in heads])
    for output in raw.values():
        output.retain_grad()
    one, two = (yolo_loss(head, raw[source], targets, Moment((64, 64), 2)) for _, source, head in heads)
    (one + two).total.backward()
    assert one.printed is not None
    assert two.printed is not None
    # Darknet prints the mean over the layers that have a cost.
    assert (one.printed + two.printed).item() / 2 == pytest.approx(golden["cost"][0], rel=1e-5)
    for index, source, _ in heads:
        assert relative(-raw[source].grad.numpy(), golden[f"delta_{index:03d}"]) < 1e-5
    compared = 0
    for node in model.network.nodes:
        for name, array in network.arrays(node).items():
            if name in names:
                assert array.grad is not None
                recording = golden[f"{names[name]}_grad_{node.index:03d}"]
                assert relative(-array.grad.contiguous().numpy(), recording) < 1e-5, (node.index, name)
                compared += 1
    assert compared == 22


# ---------------------------------------------------------------------- single rules
def one_box(factor: float, objectness: float = 0.3, classes: int = CLASSES) -> np.ndarray:
    """A grid of one cell whose first anchor, 40 x 40 of 100, says a box in the middle, `factor` of that in length."""
    raw = np.zeros((1, 2 * (5 + classes), 1, 1))
    raw[0, 2:4], raw[0, 4] = math.log(factor), objectness
    raw[0, 5 + classes + 2 : 5 + classes + 4] = -5                        # the second one is tiny
    return raw


@pytest.mark.parametrize(
    ("factor", "objects", "background"),
    [(0.5, False, True), (0.6, False, False), (0.8, False, False), (0.9, True, False)],
)
def test_dual_thresholds_learn_above_one_forget_below_the_other(factor: float, objects: bool, background: bool) -> None:
    """Thesis 3.4, .3 and .7: IOUs of .25, .36, .64 and .81. The truth's best anchor is another head's."""
    anchors = ((40.0, 40.0), (1.0, 1.0), (40.1, 40.1))
    head = head_with(mask=(0, 1), anchors=anchors, ignore_threshold=0.3, truth_threshold=0.7)
    truth = (0.5, 0.5, 0.401, 0.401, 1)
    terms, delta = gradient(head, one_box(factor), targets_of([[truth]]), Moment((100, 100), 1))
    assert (delta[0, 4, 0, 0] > 0) == objects
    assert (delta[0, 4, 0, 0] < 0) == background
    assert (terms.objects.item() > 0) == objects                          # type: ignore[union-attr]
    assert bool(delta[0, 2:4].any()) == bool(delta[0, 5:8].any()) == objects
    if objects:
        assert delta[0, 2, 0, 0] == pytest.approx((2 - 0.401**2) * math.log(0.401 / 0.4 / factor))
        assert delta[0, 5:8, 0, 0].tolist() == pytest.approx([-0.5, 0.5, -0.5])
    assert delta[0, 8 + 4, 0, 0] == pytest.approx(-0.5)                   # the second anchor is background


def test_a_centre_at_the_far_corner_belongs_to_the_last_cell() -> None:
    truth = (1.0, 1.0, 70 / 128, 60 / 96, 0)
    terms, delta = gradient(head_with(), np.zeros((1, 16, ROWS, COLUMNS)), targets_of([[truth]]))
    assert np.argwhere(delta[0, 4] > 0).tolist() == [[ROWS - 1, COLUMNS - 1]]
    assert delta[0, 0, -1, -1] == pytest.approx((2 - truth[2] * truth[3]) * 0.5)
    assert terms.total.isfinite()


def test_a_truth_of_another_heads_anchor_is_not_this_heads() -> None:
    for anchor, mine in enumerate([False, True, False, True]):
        size = ANCHORS[anchor][0] / INPUT[0], ANCHORS[anchor][1] / INPUT[1]
        raw = np.full((1, 16, ROWS, COLUMNS), -1.0)
        terms, delta = gradient(head_with(), raw, targets_of([[(0.4, 0.4, *size, 1)]]))
        assert (terms.objects.item() > 0) == mine                         # type: ignore[union-attr]
        assert bool((delta[0, [4, 12]] > 0).any()) == mine


def test_the_last_of_two_truths_draws_the_box_which_has_the_classes_of_both() -> None:
    first, last = (0.4, 0.4, 0.5, 0.6, 0), (0.41, 0.42, 0.6, 0.55, 2)
    raw = np.zeros((1, 16, ROWS, COLUMNS))
    _, both = gradient(head_with(), raw, targets_of([[first, last]]))
    _, alone = gradient(head_with(), raw, targets_of([[last]]))
    row, column = int(0.42 * ROWS), int(0.41 * COLUMNS)
    assert both[0, :5, row, column].tolist() == alone[0, :5, row, column].tolist()
    assert both[0, 5:8, row, column].tolist() == [0.5, -0.5, 0.5]
    assert alone[0, 5:8, row, column].tolist() == [-0.5, -0.5, 0.5]


def test_empty_pictures_have_only_background() -> None:
    raw, _ = scene(head_with(), 0, [0, 0])
    terms, _ = gradient(head_with(), raw, Targets.of([(np.zeros((0, 4)), np.zeros(0))] * 2))
    assert {name: value.item() for name, value in terms.named().items() if name != "background"} == {
        "centre": 0, "extent": 0, "objects": 0, "classes": 0,
    }  # fmt: skip
    logits = raw.reshape(2, 2, 8, ROWS, COLUMNS)[:, :, 4]
    assert terms.named()["background"].item() == pytest.approx(-np.log(1 - 1 / (1 + np.exp(-logits))).sum())


def test_a_picture_with_an_object_at_no_known_place_has_no_background() -> None:
    """Picture 0 has only such a row, picture 1 one beside a box, picture 2 none.

    What the row teaches is in test_yolo_joint.
    """
    box, nowhere = (0.4, 0.4, 70 / 128, 60 / 96, 1), (math.nan, math.nan, math.nan, math.nan, 2)
    raw, _ = scene(head_with(), 5, [0, 0, 0])
    terms, delta = gradient(head_with(), raw, targets_of([[nowhere], [box, nowhere], [box]]))
    assert delta[0, [4, 12]].min() == 0
    assert delta[1, [4, 12]].min() == 0
    assert delta[2, [4, 12]].min() < 0
    _, beside = gradient(head_with(), raw[1:2], targets_of([[box]]))
    places = [0, 1, 2, 3, 8, 9, 10, 11]
    np.testing.assert_array_equal(delta[1, places], beside[0, places])
    assert terms.total.isfinite()


def test_a_box_without_area_teaches_nothing() -> None:
    """No anchor fits it better than another, so that the first one would be its own."""
    head = head_with(mask=(0, 1))
    raw, _ = scene(head, 6, [0])
    _, none = gradient(head, raw, targets_of([[]]))
    _, delta = gradient(head, raw, targets_of([[(0.4, 0.4, 0.0, 0.3, 1), (0.4, 0.4, 0.3, 0.0, 1)]]))
    np.testing.assert_array_equal(delta, none)


@pytest.mark.parametrize("label", [3, -1])
def test_a_class_that_the_head_does_not_have_is_refused(label: int) -> None:
    raw = torch.zeros(1, 16, ROWS, COLUMNS)
    with pytest.raises(DataError, match=rf"class {label}, wanted 0 to 2: \[yolo\] has classes=3"):
        yolo_loss(head_with(), raw, targets_of([[(0.4, 0.4, 0.5, 0.5, 0), (0.4, 0.4, 0.5, 0.5, label)]]), MOMENT)


@pytest.mark.parametrize(("dtype", "most"), [(torch.float32, 1e-5), (torch.float16, 2e-3), (torch.bfloat16, 2e-2)])
def test_shorter_numbers_give_the_same_terms(dtype: torch.dtype, most: float) -> None:
    """Raw output of half precision is reckoned with in float32; its own rounding remains."""
    raw, truths = scene(head_with(), 1, [3, 2])
    x = torch.from_numpy(raw).to(dtype).requires_grad_()
    terms = yolo_loss(head_with(), x, targets_of(truths, np.float32), MOMENT)
    terms.total.backward()
    assert terms.total.dtype == torch.float32
    assert x.grad is not None
    assert x.grad.dtype == dtype
    wanted, delta = gradient(head_with(), x.detach().double().numpy(), targets_of(truths))
    assert terms.total.item() == pytest.approx(wanted.total.item(), rel=1e-4)
    assert np.abs(-x.grad.double().numpy() - delta).max() < most * np.abs(delta).max()


def test_memory_format_and_repetition_change_nothing() -> None:
    raw, truths = scene(head_with(), 2, [90, 90, 3])
    first = gradient(head_with(), raw, targets_of(truths))[1]
    for _ in range(3):
        x = torch.from_numpy(raw).contiguous(memory_format=torch.channels_last).requires_grad_()
        yolo_loss(head_with(), x, targets_of(truths), MOMENT).total.backward()
        assert x.grad is not None
        np.testing.assert_array_equal(-x.grad.numpy(), first)


# ---------------------------------------------------------------------- gradients by differences
GRADCHECKED: dict[str, dict[str, Any]] = {
    "plain": {},
    "dual": {"ignore_threshold": 0.3, "truth_threshold": 0.7},
    "smooth": {"label_smooth": 0.1, "cls_normalizer": 0.5},
    "scale_x_y": {"scale_x_y": 1.1},
    "new_coords": {"new_coords": True, "scale_x_y": 2.0},
    "linear": {"location": "linear"},
    "anchor": {"location": "anchor"},
    "iou": {"iou_loss": "iou", "iou_normalizer": 0.07},
    "giou": {"iou_loss": "giou"},
    "diou": {"iou_loss": "diou"},
    "diou, new_coords": {"iou_loss": "diou", "new_coords": True, "scale_x_y": 2.0},
    "diou, linear": {"iou_loss": "diou", "location": "linear"},
    "diou, anchor": {"iou_loss": "diou", "location": "anchor"},
    "diou, scale_x_y": {"iou_loss": "diou", "scale_x_y": 1.2, "iou_threshold": 0.3},
}


@pytest.mark.parametrize("options", GRADCHECKED.values(), ids=GRADCHECKED)
def test_each_term_has_the_gradient_of_its_value(options: dict[str, Any]) -> None:
    """In a scene where no box lies so near a threshold that a step of 1e-6 takes it across, in a chosen direction."""
    head = head_with(**options)
    raw, truths = scene(head, 3, [2, 0])
    x, targets = torch.from_numpy(raw).requires_grad_(), targets_of(truths)
    names = list(yolo_loss(head, x, targets, MOMENT).named())
    assert names[-3:] == ["objects", "background", "classes"]
    assert names[:-3] == (["centre", "extent"] if head.iou_loss == "mse" else ["overlap"])

    def values(raw: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(yolo_loss(head, raw, targets, MOMENT).named().values())

    assert all(value.item() != 0 for value in values(x))
    assert torch.autograd.gradcheck(values, x, fast_mode=True)


@pytest.mark.parametrize("compat", [False, True])
@pytest.mark.parametrize("extra", [{}, {"new_coords": True, "scale_x_y": 2.0}, {"scale_x_y": 1.2}], ids=str)
@pytest.mark.parametrize("kind", ["iou", "giou", "diou", "ciou"])
def test_an_iou_loss_pulls_each_box_by_its_slope(kind: str, extra: dict[str, Any], compat: bool) -> None:
    """By differences of the pair written out, CIoU's weight of the angles fixed.

    In the fork's way the slope by x and y is handed on as it is, and that by w and h times e^t, or as it is with
    new_coords: not times what a step of t moves the box by.
    """
    head = head_with(iou_loss=kind, iou_normalizer=0.07, **extra)
    raw, truths = scene(head, 4, [1, 1])
    terms, delta = gradient(head, raw, targets_of(truths), Moment(INPUT, 2, compat))
    grid, found = (array.reshape(2, len(MASK), 8, ROWS, COLUMNS) for array in (raw, delta))
    total, seen, step = 0.0, 0, 1e-6
    for picture, anchor, row, column in np.argwhere(found[:, :, 4] > 0):
        seen += 1
        t, truth = grid[picture, anchor, :4, row, column].tolist(), corners(truths[picture][0])
        box = decoded(head, t, anchor, row, column)
        fixed = balance(box, truth)
        total += 0.07 * (1 - by_hand(kind, box, truth))
        centred = [(box[0] + box[2]) / 2, (box[1] + box[3]) / 2, box[2] - box[0], box[3] - box[1]]
        for entry in range(4):
            values = []
            for sign in (1, -1):
                if compat:
                    moved = list(centred)
                    moved[entry] += sign * step
                    values.append(by_hand(kind, corners(moved), truth, fixed))
                else:
                    moved = list(t)
                    moved[entry] += sign * step
                    values.append(by_hand(kind, decoded(head, moved, anchor, row, column), truth, fixed))
            slope = 0.07 * (values[0] - values[1]) / (2 * step)
            slope *= math.exp(t[entry]) if compat and entry > 1 and not head.new_coords else 1
            assert found[picture, anchor, entry, row, column] == pytest.approx(slope, rel=1e-5, abs=1e-8)
    assert seen > 0
    assert terms.named()["overlap"].item() == pytest.approx(total)


def test_max_delta_holds_the_slopes_of_an_iou_loss_and_nothing_else() -> None:
    head = {"iou_loss": "giou", "iou_normalizer": 2.0}
    raw, truths = scene(head_with(), 4, [2, 1])
    terms, free = gradient(head_with(**head), raw, targets_of(truths))
    limited, held = gradient(head_with(**head, max_delta=0.05), raw, targets_of(truths))
    free, held = (array.reshape(2, len(MASK), 8, ROWS, COLUMNS) for array in (free, held))
    assert np.abs(free[:, :, :4]).max() > 0.05
    np.testing.assert_allclose(held[:, :, :4], free[:, :, :4].clip(-0.05, 0.05), rtol=1e-12)
    np.testing.assert_array_equal(held[:, :, 4:], free[:, :, 4:])
    assert limited.total.item() == terms.total.item()


@pytest.mark.parametrize("options", [{}, {"iou_loss": "ciou", "max_delta": 5.0}], ids=str)
@pytest.mark.parametrize("counts", [[3, 1], [0, 0]])
def test_without_gradients_the_values_are_the_same(counts: list[int], options: dict[str, Any]) -> None:
    """As when a held-out set is looked at."""
    head = head_with(**options)
    raw, truths = scene(head, 8, counts)
    terms, _ = gradient(head, raw, targets_of(truths))
    with torch.no_grad():
        quiet = yolo_loss(head, torch.from_numpy(raw), targets_of(truths), MOMENT)
    assert {name: value.item() for name, value in quiet.named().items()} == {
        name: value.item() for name, value in terms.named().items()
    }
    assert quiet.printed is not None
    assert terms.printed is not None
    assert quiet.printed.item() == terms.printed.item()


# ---------------------------------------------------------------------- focal loss
def test_focal_loss_weighs_the_deltas_of_classes_as_the_fork_does() -> None:
    head = head_with(focal=True)
    raw, truths = scene(head, 7, [1, 1, 1, 1])
    plain, without = gradient(head_with(), raw, targets_of(truths))
    terms, found = gradient(head, raw, targets_of(truths))
    grid, wanted, found = (array.reshape(4, len(MASK), 8, ROWS, COLUMNS) for array in (raw, without, found))
    seen = 0
    for picture, anchor, row, column in np.argwhere(wanted[:, :, 4] > 0):
        label = truths[picture][0][4]
        p = sigma(grid[picture, anchor, 5 + label, row, column]) + 1e-15
        weight = 0.5 * -(1 - p) * (2 * p * math.log(p) + p - 1)
        wanted[picture, anchor, 5:, row, column] *= weight
        seen += 1
    assert seen > 0
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12)
    assert 0 < terms.named()["classes"].item() < plain.named()["classes"].item()
    assert terms.named()["objects"].item() == plain.named()["objects"].item()


@pytest.mark.parametrize(("logit", "weight"), [(-60, 0.5), (0, (0.5 - math.log(0.5)) / 2 * 0.5), (60, 0)])
def test_the_weight_of_a_class_falls_from_a_half_to_nothing(logit: float, weight: float) -> None:
    """At p = 1/2: half of (1 - p)(1 - p - 2p·ln p)."""
    raw = np.zeros((1, 16, ROWS, COLUMNS))
    raw[:, [5, 13]] = logit
    truth = (0.4, 0.4, 70 / 128, 60 / 96, 0)
    _, found = gradient(head_with(focal=True), raw, targets_of([[truth]]))
    at = 0, slice(5, 8), int(0.4 * ROWS), int(0.4 * COLUMNS)
    assert found[at].tolist() == pytest.approx([weight * (1 - sigma(logit)), -weight / 2, -weight / 2], abs=1e-12)


def test_of_several_classes_the_least_sure_one_weighs() -> None:
    raw = np.zeros((1, 16, ROWS, COLUMNS))
    raw[:, 5], raw[:, 6] = 60, -60
    truths = [(0.4, 0.4, 70 / 128, 60 / 96, 0), (0.4, 0.4, 70 / 128, 60 / 96, 1)]
    _, found = gradient(head_with(focal=True), raw, targets_of([truths]))
    at = 0, slice(5, 8), int(0.4 * ROWS), int(0.4 * COLUMNS)
    assert found[at].tolist() == pytest.approx([0, 0.5, -0.25], abs=1e-9)
