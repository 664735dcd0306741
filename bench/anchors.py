"""The thesis's table 2.1 and figure 2.2 on the VOC 2007 pictures at hand: python bench/anchors.py [FIGURE.png]

Reads ../shared: data/voc2007, whose train split is part of VOC's test set, shrunk; difficult boxes count. The thesis's
figures are of other pictures, so they stand beside ours and are not to be met.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

from lookonce.data.anchors import curve, region_line, shapes_of
from lookonce.data.opening import open_dataset

VOC = Path(__file__).parents[2] / "shared" / "data" / "voc2007"
INPUT = 416, 416
THESIS = {("SSE", 5): 58.7, ("IOU", 5): 61.0, ("IOU", 9): 67.2}


def main() -> None:
    """Print both tables, and draw the figure if a file is named."""
    dataset = open_dataset(VOC, split="train")
    for fit in ("stretch", "letterbox"):
        shapes = shapes_of(dataset, INPUT, fit)
        started = time.perf_counter()
        rows = curve(shapes)
        seconds = time.perf_counter() - started
        print(f"{len(shapes):,} boxes of {len(dataset):,} pictures, {fit} to {INPUT[0]} x {INPUT[1]}, {seconds:.1f} s")
        print(f"{'':6}{'k':>3} {'mean IOU':>9} {'thesis':>7}")
        for name, k in (("SSE", 5), ("IOU", 5), ("SSE", 9), ("IOU", 9)):
            row = next(row for row in rows if row.k == k)
            found = row.iou if name == "IOU" else row.sse
            print(f"{name:6}{k:>3} {100 * found.mean_iou:>9.1f} {THESIS.get((name, k), '-'):>7}")
        print("k       " + " ".join(f"{row.k:>5}" for row in rows))
        print("by IOU  " + " ".join(f"{100 * row.iou.mean_iou:>5.1f}" for row in rows))
        print("by SSE  " + " ".join(f"{100 * row.sse.mean_iou:>5.1f}" for row in rows))
        print(f"[region] {region_line(rows[4].iou.shapes, INPUT)}\n")
        if len(sys.argv) > 1 and fit == "letterbox":
            from lookonce.data.plots import plot_anchors

            print(plot_anchors(rows, rows[4].iou, Path(sys.argv[1])))


if __name__ == "__main__":
    main()
