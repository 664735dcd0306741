from __future__ import annotations

import builtins
import json
import statistics
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lookonce.data.dataset import Dataset, Item
from lookonce.data.opening import open_dataset
from lookonce.data.plots import plot_stats
from lookonce.data.stats import QUANTILES, stats
from lookonce.errors import EngineError
from lookonce.truth import Truth

NAMES = ("cat", "dog", "owl", "$e = mc^2")


def made(count: int = 40) -> Dataset:
    """Pictures of two sizes with 0 to 5 objects of the first two classes, one label of a whole picture, none read."""
    rng = np.random.default_rng(0)
    items = []
    for number in range(count):
        objects = int(rng.integers(0, 6))
        corner, side = rng.uniform(0, 50, (objects, 2)), rng.uniform(0.5, 150, (objects, 2))
        truth = Truth.of(
            rng.integers(0, 2, objects),
            xywh=np.concatenate([corner, side], axis=1),
            difficult=rng.random(objects) < 0.3,
            crowd=rng.random(objects) < 0.2,
            classes=(2,) if number == 7 else (),
        )
        items.append(Item(f"p{number}", Path(f"p{number}.jpg"), ((640, 480), (300, 200))[number % 2], truth))
    return Dataset("coco", Path("set.json"), NAMES, tuple(items))


def quantile(values: list[float], share: float) -> float:
    """Linear between the two values that the place lies between."""
    values = sorted(values)
    place = share * (len(values) - 1)
    low = int(place)
    return values[low] + (place - low) * (values[min(low + 1, len(values) - 1)] - values[low])


def test_the_figures_are_those_of_a_loop_over_all_objects() -> None:
    dataset = made()
    figures = stats(dataset)
    for label, one in enumerate(figures.classes[:2]):
        pictures, objects, difficult, crowd, widths, heights, aspects, areas = set(), 0, 0, 0, [], [], [], []
        for item in dataset.items:
            truth = item.truth
            assert item.size is not None
            for row in range(len(truth)):
                if truth.label[row] == label:
                    _, _, w, h = truth.xywh[row].tolist()
                    pictures.add(item.name)
                    objects += 1
                    difficult += bool(truth.difficult[row])
                    crowd += bool(truth.crowd[row])
                    widths.append(w / item.size[0])
                    heights.append(h / item.size[1])
                    aspects.append(w / h)
                    areas.append(w * h)
        assert (one.name, one.pictures, one.objects) == (NAMES[label], len(pictures), objects)
        assert (one.difficult, one.crowd) == (difficult, crowd)
        for found, values in ((one.width, widths), (one.height, heights), (one.aspect, aspects)):
            assert found == pytest.approx([quantile(values, share) for share in QUANTILES], abs=1e-5)
        small = sum(area < 1024 for area in areas) / objects
        large = sum(area >= 9216 for area in areas) / objects
        assert (one.small, one.large) == pytest.approx((small, large))
        assert one.medium == pytest.approx(1 - small - large)
    counts = [len(item.truth) for item in dataset.items]
    assert figures.per_picture.tolist() == counts
    assert figures.total.objects == sum(counts)
    assert figures.sizes() == [((300, 200), 20), ((640, 480), 20)]
    assert f"median {statistics.median(counts):g}, mean {statistics.mean(counts):.2f}" in "\n".join(figures.lines())


def test_a_class_of_whole_pictures_is_in_them_without_objects_and_one_without_anything_is_all_0() -> None:
    owl, formula = stats(made()).classes[2:]
    assert (owl.pictures, owl.objects, owl.width, owl.small) == (1, 0, (), 0)
    assert formula[1:] == (0, 0, 0, 0, (), (), (), 0, 0, 0)


def test_sizes_are_read_from_pictures_if_the_labels_do_not_say_them(tmp_path: Path) -> None:
    Image.new("RGB", (50, 40)).save(tmp_path / "p.png")
    truth = Truth.of(np.array([0]), xyxy=np.array([[0, 0, 25, 10]]))
    items = (Item("p", tmp_path / "p.png", None, truth), Item("gone", tmp_path / "gone.png", None, truth))
    figures = stats(Dataset("darknet", tmp_path, ("cat",), items))
    assert figures.size.tolist() == [[50, 40], [0, 0]]
    assert figures.classes[0].width == (0.5,) * 5
    assert np.isnan(figures.relative[1]).all()
    assert figures.json()["pictures_of_unknown_size"] == 1
    assert "2 pictures, 0 without objects, 1 of no known size" in figures.lines()


def test_a_dataset_of_nothing_has_figures_too() -> None:
    figures = stats(Dataset("coco", Path("set.json"), ("cat",), ()))
    assert figures.total.objects == 0
    assert figures.rows()[1] == ["cat", "0", "0", "0", "0", "-", "-", "-", "-", "-", "-"]
    assert figures.lines() == ["0 pictures, 0 without objects"]
    assert json.dumps(figures.json(), allow_nan=False)


def test_the_table_and_the_json_say_the_same() -> None:
    figures = stats(made())
    head, *rows = figures.rows()
    document = json.loads(json.dumps(figures.json(), allow_nan=False))
    assert len(rows) == len(NAMES) + 1
    assert {len(row) for row in rows} == {len(head)}
    for row, one in zip(rows, [*document["classes"], document["total"]], strict=True):
        assert row[0] == one["name"]
        assert [int(cell.replace(",", "")) for cell in row[1:5]] == [
            one["pictures"], one["objects"], one["difficult"], one["crowd"]
        ]  # fmt: skip
    assert sum(document["objects_a_picture"].values()) == document["pictures"] == 40


@pytest.mark.shared
def test_the_validation_pictures_of_coco_are_counted_as_their_json_says(shared: Path) -> None:
    path = shared / "data" / "coco-val128" / "instances.json"
    document = json.loads(path.read_text())
    name = {row["id"]: row["name"] for row in document["categories"]}
    figures = stats(open_dataset(path))
    for one in figures.classes:
        mine = [row for row in document["annotations"] if name[row["category_id"]] == one.name]
        assert (one.objects, one.pictures) == (len(mine), len({row["image_id"] for row in mine}))
        if mine:
            assert one.small == pytest.approx(sum(row["area"] < 1024 for row in mine) / len(mine))


# ---------------------------------------------------------------------- plots
def test_plots_are_png_files_that_show_something(tmp_path: Path) -> None:
    written = plot_stats(stats(made()), tmp_path / "plots")
    assert [path.name for path in written] == ["classes.png", "boxes.png", "pictures.png", "objects.png"]
    for path in written:
        with Image.open(path) as image:
            assert image.format == "PNG"
            assert np.unique(np.asarray(image.convert("L"))).size > 10


def test_a_dataset_of_nothing_can_be_plotted(tmp_path: Path) -> None:
    assert len(plot_stats(stats(Dataset("coco", Path("set.json"), (), ())), tmp_path)) == 4


def test_without_matplotlib_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *rest)

    figures = stats(made())
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(EngineError, match="pip install matplotlib"):
        plot_stats(figures, tmp_path)
    assert list(tmp_path.iterdir()) == []
