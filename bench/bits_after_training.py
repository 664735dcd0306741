"""What rounding weights after training costs a detector (thesis 5.2.2): bench/bits_after_training.py [VOC [COCO]]

Every filter W of a [convolutional] layer, also of the first and the last, becomes alpha q_k(W / max |W|), each weight
the nearest of 2^k even steps, with the alpha that is nearest to W (layers.binary). Biases and batch norm stay as they
are, and nothing learns afterwards. The detector in the box is judged on the split val of VOC 2007, YOLO-Fastest-1.1-xl
on 128 pictures of COCO's validation set. Model and pictures are in ../shared, unless other folders are given.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from lookonce.data import open_dataset
from lookonce.detector import Detector
from lookonce.exam import Exam
from lookonce.layers.binary import Bits, encode
from lookonce.layers.convolution import Convolution
from lookonce.model import Model, open_model

SHARED = Path(__file__).parents[2] / "shared"
BITS = (16, 8, 6, 5, 4, 3, 2)


def rounded(model: Model, bits: int) -> Model:
    """The model with so many bits a weight."""
    layers = []
    for node, arrays in zip(model.network.nodes, model.weights, strict=True):
        if isinstance(node.layer, Convolution):
            coded = encode(arrays["weights"].astype(np.float64), Bits(weights=bits))
            arrays = {**arrays, "weights": (coded.codes * coded.alpha).astype(np.float32)}
        layers.append(arrays)
    return replace(model, weights=tuple(layers))


def judge(exam: Exam, model: Model) -> str:
    detector = Detector(model, threshold=0.005, nms=0.45)
    judgement = exam.judge(exam.answers(list(exam.run(detector))))
    wanted = ("mAP", "AP", "AP50")
    return ", ".join(f"{each.name} {each.value:.4f}" for each in judgement.figures if each.name in wanted)


def main(voc: str = str(SHARED / "data" / "voc2007"), coco: str = str(SHARED / "data" / "coco-val128")) -> None:
    fastest = SHARED / "models" / "yolo-fastest-1.1-xl"
    xl = open_model(f"{fastest}.cfg", f"{fastest}.weights", "coco")
    ours = open_model("lookonce-voc")
    for model, exam in (
        (ours, Exam(open_dataset(Path(voc), split="val"), "voc12", ours.names)),
        (replace(xl, resize="stretch"), Exam(open_dataset(Path(coco)), "coco", xl.names)),
    ):
        print(f"{model.name}, {len(exam.pictures)} pictures\n  32 bits: {judge(exam, model)}", flush=True)
        for bits in BITS:
            print(f"  {bits:2} bits: {judge(exam, rounded(model, bits))}", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
