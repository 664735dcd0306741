"""What a detection costs beside the network's forward: python bench/overhead.py PICTURE.jpg

Everything in one run, medians of many, batch 1, two threads:
- fit (letterbox), head decode and NMS against the f32 forward of yolov3-tiny at 416, on a picture of 768 x 576;
- JPEG decode against OpenCV's, when OpenCV is installed;
- NMS of 8,000 candidates in 80 classes, spread in three ways;
- our engine against bare OpenVINO on the same graph, at f32 and bf16.

Random weights answer with every box, which no trained network does: their biases are lowered so far that some fifty
cells pass.
"""

from __future__ import annotations

import statistics
import sys
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from lookonce import boxes, pictures
from lookonce.detector import Detector
from lookonce.engines import open_engine
from lookonce.engines.openvino import import_openvino
from lookonce.graph import build
from lookonce.model import Model, open_model
from lookonce.runner import Raw

THREADS = 2
CELLS = 50                             # that pass, as in a picture with a handful of objects


def in_turn(calls: dict[str, Callable[[], Any]], rounds: int = 15, each: int = 8) -> dict[str, float]:
    """Median milliseconds of each call: blocks in turn, with a rest before each for others' threads to stop."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            time.sleep(0.03)
            call()
            for _ in range(each):
                start = time.perf_counter()
                call()
                times[name].append(1e3 * (time.perf_counter() - start))
    return {name: statistics.median(taken) for name, taken in times.items()}


def quiet(model: Model, picture: np.ndarray) -> None:
    """Lower the biases before the heads until CELLS cells of `picture` pass .25, with a few classes each."""
    detector = Detector(model, threads=THREADS, precision="f32")
    raw = detector.runner([picture]).outputs
    grids = [output.reshape(1, len(head.mask), -1, *output.shape[2:])  # type: ignore[attr-defined]
             for output, (_, head) in zip(raw, model.network.heads, strict=True)]  # fmt: skip
    every = np.sort(np.concatenate([grid[:, :, 4].reshape(-1) for grid in grids]))
    for grid, (node, _) in zip(grids, model.network.heads, strict=True):
        biases = model.weights[node.index - 1]["biases"].reshape(grid.shape[1:3])
        biases[:, 4] -= every[-CELLS] + 1.1                                 # sigmoid(-1.1) is .25
        biases[:, 5:] -= 3


def around_the_forward(model: Model, picture: np.ndarray) -> None:
    quiet(model, picture)
    detector = Detector(model, threads=THREADS, precision="f32")
    canvas = np.empty((1, *model.network.input), np.float32)
    taken: dict[str, list[float]] = {"fit": [], "forward": [], "decode and NMS": []}
    for turn in range(150):
        marks = [time.perf_counter()]
        placed = pictures.fit(picture, canvas[0], "letterbox")
        marks.append(time.perf_counter())
        raw = detector.runner.engine(canvas)
        marks.append(time.perf_counter())
        found = detector.answer(Raw(raw, [placed]))[0]
        marks.append(time.perf_counter())
        if turn >= 30:
            for name, start, end in zip(taken, marks, marks[1:], strict=False):
                taken[name].append(1e3 * (end - start))
    medians = {name: statistics.median(values) for name, values in taken.items()}
    share = (medians["fit"] + medians["decode and NMS"]) / medians["forward"]
    parts = ", ".join(f"{name} {value:.2f} ms" for name, value in medians.items())
    print(f"{model.name} on {picture.shape[1]} x {picture.shape[0]}, {len(found)} boxes: {parts}; overhead {share:.1%}")


def jpeg(data: bytes) -> None:
    calls: dict[str, Callable[[], Any]] = {"ours": lambda: pictures.decode(data)}
    try:
        import cv2

        encoded = np.frombuffer(data, np.uint8)
        calls["OpenCV"] = lambda: cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    except ImportError:
        print("OpenCV is not installed: nothing to compare JPEG decoding with")
    medians = in_turn(calls)
    ratio = f"; {medians['ours'] / medians['OpenCV']:.2f} of OpenCV's" if "OpenCV" in medians else ""
    print("JPEG decode: " + ", ".join(f"{name} {value:.2f} ms" for name, value in medians.items()) + ratio)


def candidates(kind: str, count: int = 8000) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes, scores and labels: spread evenly, in 40 clusters, or half of them of one class."""
    rng = np.random.default_rng(0)
    label = rng.integers(0, 80, count)
    if kind == "even":
        centre, extent = rng.random((count, 2)), rng.random((count, 2)) * 0.3
    else:
        which = rng.integers(0, 40 if kind == "clustered" else 200, count)
        centre = rng.random((200, 2))[which] + rng.normal(0, 0.02, (count, 2))
        extent = (rng.random((200, 2)) * 0.3 + 0.02)[which] * np.exp(rng.normal(0, 0.15, (count, 2)))
        label = np.where(rng.random(count) < 0.5, 0, label) if kind == "half of one class" else label
    box = np.concatenate([centre - extent / 2, centre + extent / 2], axis=1).astype(np.float32)
    return box, rng.random(count).astype(np.float32), label


def suppression() -> None:
    for kind in ("even", "clustered", "half of one class"):
        box, score, label = candidates(kind)
        calls: dict[str, Callable[[], Any]] = {
            "plain": lambda box=box, score=score, label=label: boxes.nms(box, score, label, 0.45),
            "DIoU": lambda box=box, score=score, label=label: boxes.nms(
                box, score, label, 0.45, boxes.nms_kind("diounms", 0.6)
            ),
        }
        medians = in_turn(calls, rounds=8, each=3)
        kept = len(boxes.nms(box, score, label, 0.45))
        said = ", ".join(f"{name} {value:.1f} ms" for name, value in medians.items())
        print(f"NMS of 8,000 candidates in 80 classes, {kind}: {said}, {kept:,} kept")


def against_bare_openvino(model: Model) -> None:
    ov = import_openvino()
    graph = build(model)
    core = ov.Core()
    picture = np.random.default_rng(0).random((1, *model.network.input), np.float32)
    for precision in ("f32", "bf16"):
        if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            print("bf16: this processor has none")
            continue
        bare_model = core.read_model(graph.proto().SerializeToString())
        bare_model.reshape([1, *model.network.input])
        options = {"PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": precision,
                   "INFERENCE_NUM_THREADS": THREADS}  # fmt: skip
        request = core.compile_model(bare_model, "CPU", options).create_infer_request()
        request.set_input_tensor(ov.Tensor(picture, shared_memory=True))
        ours = open_engine(graph, "openvino", precision, THREADS)  # type: ignore[arg-type]
        medians = in_turn({"bare": request.infer, "ours": lambda ours=ours: ours(picture)}, rounds=25)
        print(
            f"{model.name} {precision}: bare OpenVINO {medians['bare']:.2f} ms, ours {medians['ours']:.2f} ms, "
            f"{medians['bare'] / medians['ours']:.3f} of its speed"
        )


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit("wanted a JPEG file, best one of 768 x 576: python bench/overhead.py PICTURE.jpg")
    warnings.simplefilter("ignore")
    path = Path(sys.argv[1])
    picture = pictures.read(path)
    tiny = open_model("yolov3-tiny", "random")
    around_the_forward(tiny, picture)
    jpeg(path.read_bytes())
    suppression()
    against_bare_openvino(tiny)


if __name__ == "__main__":
    main()
