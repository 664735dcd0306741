"""Learns the detector in the box again: python recipes/lookonce_voc.py VOC2007 TINY_IMAGENET TEACHER [OUT]

Four runs, each from the weights of the one before:

    backbone    the 200 classes of Tiny-ImageNet, at 96 x 96
    detector    VOC's 20 classes at 320 x 320, from the split train, judged on val
    taught      what TEACHER, the cfg of a public detector with its weights beside it, says of the same pictures, at
                256 x 256 and without their labels (recipes/taught.py)
    again       VOC's 20 classes once more, as the detector

All are seeded and keep checkpoints: started again, this goes on where it was stopped. OUT, `runs` if it is not given,
takes them, and lookonce-voc.safetensors: weights of 16 bits with their card. The last digits depend on the processor
and the number of threads.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import taught

from lookonce.cli.main import main
from lookonce.model import onefile, open_model

BACKBONE = Path(__file__).with_name("lookonce-voc-backbone.cfg")
LAYERS = 29                         # of the backbone, those before its classes
SIDE = 288                          # pixels at which it is to run: of 256 to 384 the best on val, mAP .432 and not .419
PROTOCOLS = ("voc07", "voc12")
TERMS = {
    "data": "VOC 2007, 3,952 pictures of 320 pixels from its test set, learnt; 500 others judge. Before that the "
    "backbone: Tiny-ImageNet, 16,000 pictures of 200 classes at 64 pixels. In between the soft answers of "
    "YOLO-Fastest 1.1-xl, a public detector of COCO's 80 classes, on the same 3,952 pictures; none of its weights.",
    "terms": "The weights are lookonce's, MIT. The pictures are Flickr's and ImageNet's, for research.",
    "not for": "Decisions about people, safety, surveillance. It was judged on 500 pictures from Flickr of 2007, "
    "misses much of what a person sees, small and covered objects first, and knows 20 classes only.",
}


def learn(folder: Path, *arguments: str) -> Path:
    """Learn in `folder`, or go on there; the best weights. Ends the program if that fails."""
    begun = (folder / "run.json").exists()
    told = ["--resume", str(folder)] if begun else [*arguments, "--precision", "bf16", "--seed", "0", "-o", str(folder)]
    if code := main(["train", *told]):
        sys.exit(code)
    return folder / "best.weights"


def judged(model: Path, voc: Path) -> dict[str, Any]:
    """What `val` says of a model on the split val, by protocol."""
    found = {}
    for protocol in PROTOCOLS:
        said = io.StringIO()
        with contextlib.redirect_stdout(said):
            arguments = ["--data", str(voc), "--split", "val", "--protocol", protocol, "--errors", "--json", "-q"]
            if code := main(["val", "-m", str(model), *arguments]):
                sys.exit(code)
        found[protocol] = json.loads(said.getvalue())
    return found


def card(found: dict[str, Any]) -> dict[str, Any]:
    """What goes along with the weights: the data, their terms, figures by class and errors by kind."""
    area = found["voc12"]
    errors = {name: {kind: round(share, 3) for kind, share in row.items()} for name, row in area["errors"].items()}
    return {
        **TERMS,
        "mAP": {protocol: round(found[protocol]["figures"]["mAP"], 4) for protocol in PROTOCOLS},
        "AP by class": {name: round(row["AP"], 3) for name, row in area["by class"].items()},
        "errors": errors,
    }


def run(arguments: Sequence[str]) -> None:
    voc, tiny, teacher, *rest = (Path(argument) for argument in arguments)
    out = rest[0] if rest else Path("runs")
    backbone = learn(out / "backbone", "--data", str(tiny), "-m", str(BACKBONE), "--epochs", "24", "--batch", "128")
    detector = ("--data", str(voc), "--split", "train", "--val-split", "val", "-m", "lookonce-voc",
                "--batch", "16", "--protocol", "voc12")  # fmt: skip
    learn(out / "detector", *detector, "--pretrained", f"{backbone}:{LAYERS}", "--epochs", "67")
    taught.run([str(path) for path in (out / "detector" / "best.safetensors", teacher, voc, out / "taught")])
    learned = out / "taught" / taught.MODEL
    learn(out / "again", *detector, "--pretrained", str(learned), "--anchors", "keep", "--epochs", "18")
    best = open_model(out / "again" / "best.safetensors", size=(SIDE, SIDE))
    path = out / "lookonce-voc.safetensors"
    onefile.write(path, best, half=True)
    onefile.write(path, replace(best, card={**best.card, **card(judged(path, voc))}), half=True)
    print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    run(sys.argv[1:])
