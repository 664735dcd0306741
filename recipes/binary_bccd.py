"""Learns blood cells with single bits and without: python recipes/binary_bccd.py BCCD [OUT [NAME ...]]

Three detectors by one recipe, seed and number of epochs: `bits`, yolov3-small-xnor of the zoo; `twin`, the same layers
with real weights, and leaky after each convolution that had a sign before it; `slim`, real too, yolov3-small with half
the filters, which is about as fast as `bits` is on packed bits. OUT, `runs/binary-bccd` if it is not given, takes a cfg
and a folder of each, and results.json. The runs are seeded and keep checkpoints: started again, this goes on where it
was stopped.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

from runs import learn, write_results

from lookonce import zoo

EPOCHS = 15
SIZE = "256x192"


def of_zoo(name: str) -> str:
    path = zoo.cfg_path(name)
    assert path is not None, name
    return path.read_text()


def bits() -> str:
    return of_zoo("yolov3-small-xnor")


def twin() -> str:
    """The layers of `bits`, real."""
    return re.sub(r"xnor=1\ngradient=thesis\n((?:.+\n)*?)activation=linear", r"\1activation=leaky", bits())


def slim() -> str:
    """yolov3-small with half the filters, by the optimizer and the rate of `bits`."""
    text = re.sub(r"filters=(\d+)", lambda found: f"filters={int(found[1]) // 2}", of_zoo("yolov3-small"))
    text = text.replace("filters=12\n", "filters=25\n")
    return text.replace("momentum=.9\ndecay=.0005\n", "adam=1\ndecay=0\n").replace("=.001\n", "=.002\n")


NETWORKS: dict[str, Callable[[], str]] = {"bits": bits, "twin": twin, "slim": slim}


def main(data: str, out: str = "runs/binary-bccd", *names: str) -> None:
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or NETWORKS:
        cfg = folder / f"{name}.cfg"
        cfg.write_text(NETWORKS[name]())
        learn(
            folder / name, "--data", data, "--split", "trainval", "--val-split", "test", "-m", str(cfg), "--size", SIZE,
            "--epochs", str(EPOCHS), "--batch", "8", "--protocol", "coco", "--judge-every", "5", "--precision", "f32",
            "--threads", "1",
        )  # fmt: skip
        write_results(folder, NETWORKS)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(*sys.argv[1:])
