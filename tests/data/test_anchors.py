from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lookonce.darknet.cfg import Cfg
from lookonce.data.anchors import Row, cluster, curve, mean_iou, overlaps, region_line, shapes_of, yolo_line
from lookonce.data.dataset import Dataset, Item
from lookonce.data.opening import open_dataset
from lookonce.data.plots import plot_anchors
from lookonce.errors import DataError
from lookonce.truth import Truth


def dataset(*items: Item) -> Dataset:
    return Dataset("coco", Path("set.json"), ("cat",), items)


def item(
    size: tuple[int, int] | None, sides: list[tuple[float, float]], path: Path = Path("p.jpg"), crowd: object = None
) -> Item:
    boxes = np.array([(3, 4, *side) for side in sides], np.float64)
    marked = None if crowd is None else np.array(crowd)
    return Item("p", path, size, Truth.of(np.zeros(len(sides)), xywh=boxes, crowd=marked))


def blobs(count: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Shapes that lie closely around three."""
    centres = np.array([[0.05, 0.1], [0.3, 0.2], [0.7, 0.9]])
    rng = np.random.default_rng(0)
    return np.concatenate([centre * rng.uniform(0.97, 1.03, (count, 2)) for centre in centres]), centres


def spread(count: int = 3000) -> np.ndarray:
    """Shapes as those of photographs: most small, a few that fill the picture."""
    rng = np.random.default_rng(1)
    return np.clip(np.exp(rng.normal(-1.7, 0.9, (count, 1)) + rng.normal(0, 0.35, (count, 2))), 0.005, 1)


# ---------------------------------------------------------------------- boxes
def test_the_overlap_of_shapes_is_that_of_rectangles_with_one_corner_in_common() -> None:
    shapes, anchors = spread(30), spread(7)[::-1]
    found = overlaps(shapes, anchors)
    for i, (w, h) in enumerate(shapes.tolist()):
        for j, (a, b) in enumerate(anchors.tolist()):
            both = min(w, a) * min(h, b)
            assert found[i, j] == pytest.approx(both / (w * h + a * b - both))
    assert mean_iou(shapes, anchors) == pytest.approx(np.mean([max(row) for row in found.tolist()]))


def test_letterboxed_boxes_shrink_with_the_picture_and_stretched_ones_do_not() -> None:
    """400 x 200 in 100 x 100 is 100 x 50: half as high, relative to the input."""
    rows = dataset(item((400, 200), [(100, 100)]))
    assert shapes_of(rows, (100, 100), "stretch").tolist() == [[0.25, 0.5]]
    assert shapes_of(rows, (100, 100), "letterbox").tolist() == [[0.25, 0.25]]


def test_crowds_and_boxes_without_area_do_not_count_but_difficult_ones_do(tmp_path: Path) -> None:
    Image.new("RGB", (100, 50)).save(tmp_path / "p.png")
    rows = dataset(
        item((100, 100), [(10, 10), (20, 20), (0, 5)], crowd=[False, True, False]),
        item(None, [(50, 25)], tmp_path / "p.png"),
    )
    truth = Truth.of(np.zeros(1), xywh=np.array([[0, 0, 30, 30]]), difficult=np.array([True]))
    rows = dataset(*rows.items, Item("q", Path("q.jpg"), (100, 100), truth))
    assert shapes_of(rows, (64, 64), "stretch").tolist() == [[0.1, 0.1], [0.5, 0.5], [0.3, 0.3]]
    with pytest.raises(DataError, match="holds no box with an area"):
        shapes_of(dataset(item((10, 10), [(0, 3)])), (64, 64))


# ---------------------------------------------------------------------- k-means
@pytest.mark.parametrize("distance", ["iou", "sse"])
def test_shapes_around_three_give_these_three(distance: str) -> None:
    shapes, centres = blobs()
    found = cluster(shapes, 3, distance=distance)                        # type: ignore[arg-type]
    assert found.shapes == pytest.approx(centres, rel=0.01)
    assert found.mean_iou > 0.95


def test_one_anchor_is_the_mean_under_squares() -> None:
    shapes = spread()
    assert cluster(shapes, 1, distance="sse").shapes[0] == pytest.approx(shapes.mean(axis=0))


def test_squares_are_no_worse_than_those_of_a_plain_loop() -> None:
    """Lloyd's steps over every box, begun at the centres that our walk rests at: they move no further."""
    shapes = spread(300)
    centres = cluster(shapes, 4, distance="sse").shapes
    for _ in range(3):
        members: list[list[np.ndarray]] = [[] for _ in centres]
        for shape in shapes:
            members[int(np.argmin([((shape - centre) ** 2).sum() for centre in centres]))].append(shape)
        moved = np.array([np.mean(each, axis=0) for each in members])
        assert moved == pytest.approx(centres, abs=1e-9)
        centres = moved


def test_the_distance_of_the_thesis_gives_a_higher_overlap_than_squares_do() -> None:
    shapes = spread()
    for k in (3, 5, 9):
        assert cluster(shapes, k).mean_iou > cluster(shapes, k, distance="sse").mean_iou


def test_more_anchors_never_fit_worse() -> None:
    """With one restart each and no start from the k before, one of these 27 does."""
    rows = curve(spread(200), range(1, 28), restarts=1)
    found = [row.iou.mean_iou for row in rows]
    assert found == sorted(found)
    assert [len(row.iou.shapes) for row in rows] == list(range(1, 28))
    alone = [cluster(spread(200), k, restarts=1).mean_iou for k in range(1, 28)]
    assert alone != sorted(alone)


def test_the_curve_ends_where_there_are_no_more_different_shapes() -> None:
    shapes = np.array([[0.1, 0.1], [0.2, 0.4], [0.1, 0.1], [0.9, 0.3]])
    assert [row.k for row in curve(shapes)] == [1, 2, 3]


def test_the_same_seed_gives_the_same_anchors_smallest_first() -> None:
    shapes = spread()
    first, again, other = cluster(shapes, 6, seed=3), cluster(shapes, 6, seed=3), cluster(shapes, 6, seed=4, restarts=1)
    assert np.array_equal(first.shapes, again.shapes)
    assert not np.array_equal(first.shapes, other.shapes)
    assert np.all(np.diff(first.shapes.prod(axis=1)) >= 0)


def test_as_many_anchors_as_shapes_fit_exactly_and_more_are_refused() -> None:
    shapes = np.array([[0.1, 0.1], [0.2, 0.4], [0.1, 0.1], [0.9, 0.3]])
    assert cluster(shapes, 3).mean_iou == pytest.approx(1)
    with pytest.raises(DataError, match="4 anchors from boxes of 3 different shapes: wanted 1 to 3"):
        cluster(shapes, 4)


@pytest.mark.shared
def test_on_voc_the_mean_overlap_is_about_that_of_the_thesis(shared: Path) -> None:
    """Table 2.1 has 61.0 for 5 and 67.2 for 9, of other pictures of VOC 2007: two points are left for that."""
    shapes = shapes_of(open_dataset(shared / "data" / "voc2007", split="train"), (416, 416), "stretch")
    five, nine = (cluster(shapes, k, restarts=3) for k in (5, 9))
    assert 100 * five.mean_iou == pytest.approx(61.0, abs=2)
    assert 100 * nine.mean_iou == pytest.approx(67.2, abs=2)
    assert cluster(shapes, 5, distance="sse", restarts=3).mean_iou < five.mean_iou < nine.mean_iou


# ---------------------------------------------------------------------- for a cfg
def test_the_lines_can_be_pasted_into_a_cfg() -> None:
    anchors = np.array([[0.1, 0.2], [0.5, 0.75]])
    for section, line, wanted in (
        ("yolo", yolo_line(anchors, (416, 608)), [41.6, 121.6, 208, 456]),
        ("region", region_line(anchors, (416, 608)), [1.3, 3.8, 6.5, 14.25]),
    ):
        cfg = Cfg.parse(f"[net]\nwidth=416\nheight=608\nchannels=3\n[{section}]\n{line}\nnum=2\n", "test.cfg")
        assert cfg.sections[-1].name == section
        assert cfg.sections[-1].numbers("anchors") == pytest.approx(wanted)


def test_the_figure_is_a_png_of_both_halves(tmp_path: Path) -> None:
    shapes = spread(200)
    rows: list[Row] = curve(shapes, range(1, 4), restarts=1)
    path = plot_anchors(rows, cluster(shapes, 3), tmp_path / "figure.png")
    with Image.open(path) as image:
        assert image.format == "PNG"
        assert image.width > 1.5 * image.height
