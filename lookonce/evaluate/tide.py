"""What each kind of error costs in AP: TIDE's decomposition (Bolya et al., ECCV 2020), computed by hotcoco."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from lookonce.errors import EngineError
from lookonce.evaluate.columns import Answers, Objects
from lookonce.evaluate.diagnose import FOUND, TOUCHED

KINDS = {
    "Cls": "class",
    "Loc": "localization",
    "Both": "both",
    "Dupe": "duplicate",
    "Bkg": "background",
    "Miss": "missed",
    "FP": "false positives",
    "FN": "false negatives",
}


class Tide(NamedTuple):
    """AP at one overlap, how much it would gain (`gain`, by kind) without each kind of error, and how many there are.

    The gains do not sum up to what is missing: each is that of mending this kind alone. `counts` has no false
    positives and negatives, which are the sums over several kinds. AP from 0 to 1.
    """

    ap: float
    gain: Mapping[str, float]
    counts: Mapping[str, int]


def tide(
    objects: Objects,
    answers: Answers,
    pictures: int,
    classes: int,
    *,
    threshold: float = FOUND,
    touched: float = TOUCHED,
) -> Tide:
    """TIDE's figures of a detector, from AP at an overlap of `threshold`; below `touched` is background.

    Difficult objects are judged as crowds, which are not counted. Raises EngineError if hotcoco is not installed.
    """
    try:
        from hotcoco import COCO, COCOeval
    except ImportError:
        raise EngineError("TIDE needs hotcoco, which is not installed: pip install 'lookonce[judge]'") from None
    spared = objects.difficult | objects.crowd
    truth = COCO(
        {
            "images": [{"id": number, "width": 1, "height": 1} for number in range(1, pictures + 1)],
            "categories": [{"id": number, "name": str(number)} for number in range(1, classes + 1)],
            "annotations": [
                {"id": number, "image_id": picture, "category_id": label, "bbox": box, "area": area, "iscrowd": crowd}
                for number, (picture, label, box, area, crowd) in enumerate(
                    zip(
                        (objects.picture + 1).tolist(),
                        (objects.label + 1).tolist(),
                        objects.xywh.tolist(),
                        objects.area.tolist(),
                        spared.astype(int).tolist(),
                        strict=True,
                    ),
                    start=1,
                )
            ],
        }
    )
    rows = np.column_stack([answers.picture + 1, answers.xywh, answers.score, answers.label + 1])     # (N, 7)
    judge = COCOeval(truth, truth.loadRes(rows.reshape(-1, 7)), "bbox")
    judge.params.iouThrs = [threshold]
    judge.evaluate()
    found = judge.tide_errors(pos_thr=threshold, bg_thr=touched)
    return Tide(
        found["ap_base"],
        {name: found["delta_ap"][key] for key, name in KINDS.items()},
        {name: found["counts"][key] for key, name in KINDS.items() if key in found["counts"]},
    )
