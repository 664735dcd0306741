"""What bf16 costs: AP on 128 pictures of COCO, and how far scores drift: python bench/precision.py

Reads ../shared: its YOLO-Fastest-1.1-xl and the first 128 pictures of COCO's validation set. Needs pycocotools.
"""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from lookonce.boxes import iou
from lookonce.detections import COCO_NUMBERS, Detections
from lookonce.detector import Detector
from lookonce.model import open_model

SHARED = Path(__file__).parents[2] / "shared"
SEEN = 0.05                              # boxes of at least this score count for the drift


def judge(detector: Detector, folder: Path) -> tuple[list[float], list[Detections]]:
    """The twelve COCO figures of a detector on a folder with images/ and instances.json, and all it found."""
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(folder / "instances.json"))
        rows, every = [], []
        for number, image in sorted(truth.imgs.items()):
            found = detector(folder / "images" / image["file_name"])
            every.append(found)
            for label, _, score, (left, top, right, bottom) in found.clipped():
                box = [left, top, right - left, bottom - top]
                rows.append({"image_id": number, "category_id": COCO_NUMBERS[label], "bbox": box, "score": score})
        judgement = COCOeval(truth, truth.loadRes(rows), "bbox")
        judgement.evaluate()
        judgement.accumulate()
        judgement.summarize()
    return [float(value) for value in judgement.stats], every


def drift(exact: list[Detections], rough: list[Detections]) -> tuple[float, float, float]:
    """Median and 99th percentile of how far scores move, and the share of boxes that cross .25."""
    moved: list[float] = []
    crossed = total = 0
    for one, other in zip(exact, rough, strict=True):
        seen = one[one.score >= SEEN]
        if not len(seen) or not len(other):
            continue
        overlap = iou(seen.xyxy[:, None], other.xyxy[None])
        overlap[seen.label[:, None] != other.label[None]] = 0
        match, same = overlap.argmax(axis=1), overlap.max(axis=1) > 0.5
        here, there = seen.score[same], other.score[match[same]]
        moved += np.abs(here - there).tolist()
        crossed += int(((here >= 0.25) != (there >= 0.25)).sum())
        total += int(((here >= 0.25) | (there >= 0.25)).sum())
    return float(np.median(moved)), float(np.percentile(moved, 99)), crossed / total


def main() -> None:
    models = SHARED / "models"
    model = open_model(models / "yolo-fastest-1.1-xl.cfg", models / "yolo-fastest-1.1-xl.weights", "coco")
    answers = {}
    for precision in ("f32", "bf16"):
        detector = Detector(model, threshold=0.005, nms=0.45, resize="stretch", precision=precision)  # type: ignore[arg-type]
        figures, answers[precision] = judge(detector, SHARED / "data" / "coco-val128")
        print(f"{precision}: AP {figures[0]:.4f}, AP50 {figures[1]:.4f}, AP75 {figures[2]:.4f}")
    median, high, crossing = drift(answers["f32"], answers["bf16"])
    print(f"score drift of bf16: median {median:.4f}, 99th percentile {high:.4f}; {crossing:.1%} of boxes cross .25")


if __name__ == "__main__":
    main()
