"""Two detectors together (thesis 1.4.3) on VOC: python bench/rescore.py VOC_ROOT SPLIT THEIRS OURS [NAMES]

THEIRS and OURS are models without suffix (NAME.cfg and NAME.weights), NAMES their classes (the zoo's `coco`). The mean
AP of VOC 2007 (11 points) and of the area under the curve, of each alone and of theirs boosted by ours, by the classes
that model and dataset share; and whether the gain is more than chance, by the paired bootstrap over pictures. The
detections are kept in a file of the system's temporary folder, so that a second run only judges.
"""

from __future__ import annotations

import hashlib
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

import lookonce
from lookonce.data.opening import open_dataset
from lookonce.evaluate.columns import Answers, Objects
from lookonce.evaluate.compare import AveragePrecision, compare
from lookonce.evaluate.mapping import shared_names
from lookonce.evaluate.overall import relabelled
from lookonce.evaluate.rescore import boost, rescore
from lookonce.evaluate.voc import voc

WEIGHTS = (0.25, 0.5, 1.0, 2.0, 4.0)
POINTS: tuple[Literal[11] | None, ...] = (11, None)


def detected(model: str, names: str, paths: list[Path], classes: tuple[str, ...]) -> Answers:
    """A model's answers by the dataset's classes, from a former run if there was one on the same pictures."""
    key = hashlib.sha256("\n".join([str(Path(model).resolve()), names, *map(str, paths)]).encode()).hexdigest()[:16]
    kept = Path(tempfile.gettempdir()) / f"lookonce-rescore-{key}.npz"
    if not kept.exists():
        detect = lookonce.load(f"{model}.cfg", f"{model}.weights", names, threshold=0.005, resize="stretch")
        start = time.perf_counter()
        answers = Answers.of([detect(path) for path in paths])
        print(f"{model}: {len(answers.score):,} boxes in {time.perf_counter() - start:.0f} s")
        to = shared_names(detect.names, classes).to
        np.savez(kept, **relabelled(answers, to)._asdict())
    with np.load(kept) as file:
        return Answers(*(file[name] for name in Answers._fields))


def main(root: str, split: str, theirs: str, ours: str, names: str = "coco") -> None:
    data = open_dataset(Path(root), split=split)
    objects = Objects.of([item.truth for item in data.items])
    paths = [item.path for item in data.items]
    both = [detected(model, names, paths, data.names) for model in (theirs, ours)]

    def judged(points: Literal[11] | None, answers: Answers) -> float:
        return voc(objects, answers, data.names, points=points).mean

    def fast(answers: Answers) -> AveragePrecision:
        count = len(data.names)
        return AveragePrecision(objects, answers, len(data), count, thresholds=(0.5,), rule="voc", points=11, most=None)

    print(f"{len(data)} pictures, {(~objects.difficult).sum()} objects that count")
    for direction, (a, b) in (("theirs + ours", both), ("ours + theirs", both[::-1])):
        for points in POINTS:
            for weight in WEIGHTS:
                got = boost(a, b, partial(judged, points), weight)
                print(
                    f"{direction}, {'11 points' if points else 'area'}, weight {weight:4}: alone {got.alone:.4f}, "
                    f"the other {got.ours:.4f}, combined {got.combined:.4f}, {got.combined - got.alone:+.4f}"
                )
        start = time.perf_counter()
        found = compare(fast(rescore(a, b)), fast(a), len(data))
        print(
            f"{direction}: {found.difference:+.4f}, 95 % from {found.low:+.4f} to {found.high:+.4f}, better in "
            f"{found.better:.1%} of {found.resamples} resamples ({time.perf_counter() - start:.1f} s)"
        )


if __name__ == "__main__":
    main(*sys.argv[1:])
