"""Pictures of a dataset's figures, drawn by matplotlib without any screen."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from lookonce import files
from lookonce.data.anchors import Anchors, Row
from lookonce.data.stats import MEDIUM, SMALL, Stats
from lookonce.errors import EngineError, shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_BARS = 60                   # classes of one plot; more names cannot be read
DOTS = 120                       # to the inch


def plot_stats(stats: Stats, folder: Path) -> list[Path]:
    """Four PNG files into `folder`: objects of each class, boxes' sizes, pictures' sizes, objects a picture.

    Raises EngineError if matplotlib is not installed, DataError if no file can be written.
    """
    plots = {
        "classes": _classes(stats),
        "boxes": _boxes(stats),
        "pictures": _pictures(stats),
        "objects": _objects(stats),
    }
    return [_save(figure, folder / f"{name}.png") for name, figure in plots.items()]


def plot_anchors(rows: Sequence[Row], anchors: Anchors, path: Path) -> Path:
    """The thesis's figure 2.2 as a PNG: mean IOU against k, and the anchors as boxes around one centre.

    Raises as `plot_stats` does.
    """
    figure = _figure(9, 4)
    left, right = figure.subplots(1, 2)
    ks = [row.k for row in rows]
    left.plot(ks, [row.iou.mean_iou for row in rows], "o-", label="k-means under 1 − IOU")
    left.plot(ks, [row.sse.mean_iou for row in rows], "s--", label="k-means under squares")
    left.set(xlabel="number of anchors k", ylabel="mean IOU to the closest", ylim=(0, 1))
    left.legend(loc="lower right")
    left.grid(alpha=0.3)
    from matplotlib.patches import Rectangle

    for number, (width, height) in enumerate(anchors.shapes.tolist()):
        corner = (0.5 - width / 2, 0.5 - height / 2)
        right.add_patch(Rectangle(corner, width, height, fill=False, edgecolor=f"C{number % 10}", linewidth=1.5))
    right.set(title=f"k = {len(anchors.shapes)}, mean IOU {anchors.mean_iou:.1%}", aspect="equal")
    right.set(xlabel="width of the input", ylabel="height of the input")
    return _save(figure, path)


def _figure(width: int | float, height: int | float) -> Figure:
    """An empty figure of so many inches. Made by hand: pyplot would choose a window, and keep every figure."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError:
        raise EngineError("plots need matplotlib: `pip install matplotlib` brings it") from None
    figure = Figure(figsize=(width, height), dpi=DOTS, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: Path) -> Path:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    with files.write_atomically(path) as out:
        out.write(buffer.getbuffer())
    return path


def _classes(stats: Stats) -> Figure:
    """Objects of each class as bars, parted by how large they are."""
    most = sorted(stats.classes, key=lambda one: -one.objects)[:MOST_BARS]
    figure = _figure(8, max(2.5, 0.22 * len(most) + 1))
    axes = figure.subplots()
    before = np.zeros(len(most))
    for name in ("small", "medium", "large"):
        count = np.array([getattr(one, name) * one.objects for one in most])
        axes.barh(range(len(most)), count, left=before, label=name)
        before += count
    # A dollar sign would begin a formula.
    axes.set_yticks(range(len(most)), [shown(one.name).replace("$", r"\$") for one in most])
    axes.invert_yaxis()
    left_out = f", the {len(most)} largest of {len(stats.classes)} classes" if len(most) < len(stats.classes) else ""
    axes.set(xlabel=f"objects{left_out}")
    axes.legend(title=f"area below {SMALL**0.5:.0f}², {MEDIUM**0.5:.0f}², above", loc="lower right")
    return figure


def _boxes(stats: Stats) -> Figure:
    """How often boxes have which width and height, relative to the picture."""
    figure = _figure(6, 5)
    axes = figure.subplots()
    known = stats.relative[np.isfinite(stats.relative).all(axis=1)]
    counts, across, down = np.histogram2d(known[:, 0], known[:, 1], bins=50, range=((0, 1), (0, 1)))
    image = axes.pcolormesh(across, down, np.log10(counts.T + 1), cmap="viridis")
    figure.colorbar(image, label="log10 (boxes + 1)")
    axes.set(xlabel="width of the picture", ylabel="height of the picture", title="sizes of boxes", aspect="equal")
    return figure


def _pictures(stats: Stats) -> Figure:
    """Each size of a picture as a circle, as large as it is frequent."""
    figure = _figure(6, 5)
    axes = figure.subplots()
    sizes = stats.sizes()
    if sizes:
        places, counts = np.array([size for size, _ in sizes]), np.array([count for _, count in sizes])
        axes.scatter(places[:, 0], places[:, 1], s=10 + 300 * counts / counts.max(), alpha=0.4)
    axes.set(xlabel="width, pixels", ylabel="height, pixels", title="sizes of pictures")
    axes.grid(alpha=0.3)
    return figure


def _objects(stats: Stats) -> Figure:
    """How many pictures hold how many objects."""
    figure = _figure(6, 4)
    axes = figure.subplots()
    most = int(stats.per_picture.max(initial=0))
    axes.hist(stats.per_picture, bins=np.linspace(-0.5, most + 0.5, min(most + 1, 100) + 1).tolist())
    axes.set(xlabel="objects in a picture", ylabel="pictures")
    return figure
