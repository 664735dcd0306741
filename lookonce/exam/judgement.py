"""Judgement: the figures of one set of answers, whatever the protocol."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lookonce.evaluate.coco import IOUS, NUMBERS, RECALLS, coco
from lookonce.evaluate.columns import Answers, Objects
from lookonce.evaluate.openimages import Parents, open_images, to_ancestors, verified_with_ancestors
from lookonce.evaluate.overall import ap_per_image, global_ap
from lookonce.evaluate.voc import VocFigures, voc
from lookonce.report.contents import ClassRow, Curve, Figure

VOC_MEANINGS = {
    "voc07": "mean over the classes of the precision at eleven recalls, overlap .5 (VOC 2007 devkit)",
    "voc12": "mean over the classes of the area under the curve, overlap .5 (VOC devkit from 2010 on)",
}
COCO_MEANINGS = {
    "AP": "mean over classes and over the overlaps .50, .55, ... .95",
    "AP50": "at overlap .50",
    "AP75": "at overlap .75",
    "APs": "of objects smaller than 32 x 32",
    "APm": "of objects from 32 x 32 to 96 x 96",
    "APl": "of objects larger than 96 x 96",
    "AR1": "recall with 1 answer of a class in a picture",
    "AR10": "recall with 10 answers",
    "AR100": "recall with 100 answers",
    "ARs": "recall of small objects",
    "ARm": "recall of medium objects",
    "ARl": "recall of large objects",
}


@dataclass(frozen=True, eq=False)
class Judgement:
    """What a protocol says of one set of answers.

    `main` is the one figure by which detectors are compared (mAP; COCO's AP); `figures` are all, by name, with what
    they mean; `classes` one row a class; `curves` precision over recall of each class, `overall` of all answers at
    once. Figures without objects are NaN.
    """

    protocol: str
    main: float
    figures: tuple[Figure, ...]
    classes: tuple[ClassRow, ...]
    curves: tuple[Curve, ...]
    overall: Curve


def judge_voc(
    objects: Objects, answers: Answers, pictures: int, names: Sequence[str], protocol: str
) -> Judgement:
    """By VOC's devkit: 11 points for `voc07`, the area for `voc12`."""
    found = voc(objects, answers, names, points=11 if protocol == "voc07" else None)
    main = Figure("mAP", found.mean, VOC_MEANINGS[protocol])
    return _with_curves(protocol, main, found, objects, answers, pictures)


def judge_coco(objects: Objects, answers: Answers, pictures: int, names: Sequence[str]) -> Judgement:
    """By COCO's twelve numbers."""
    found = coco(objects, answers, pictures, names)
    numbers = [np.nan if value < 0 else float(value) for value in found.numbers]
    figures = [Figure(name, value, COCO_MEANINGS[name]) for name, value in zip(NUMBERS, numbers, strict=True)]

    def known(value: float) -> float:
        return np.nan if value < 0 else float(value)

    rows = [
        ClassRow(name, int(count), known(ap), {"AP50": known(ap50), "AP75": known(ap75)})
        for name, count, ap, ap50, ap75 in zip(names, found.objects, found.ap, found.ap50, found.ap75, strict=True)
    ]
    half = found.precision[IOUS == 0.5][0]                                # (R, K)
    curves = [Curve(name, RECALLS, half[:, number]) for number, name in enumerate(names) if half[0, number] >= 0]
    return _judgement("coco", numbers[0], figures, rows, curves, objects, answers, pictures)


def judge_openimages(
    objects: Objects,
    answers: Answers,
    pictures: int,
    names: Sequence[str],
    known: tuple[np.ndarray, np.ndarray],
    parents: Parents,
) -> Judgement:
    """By the rules of Open Images. `known` are picture and class (V, 2) of what was verified: present, and absent."""
    verified = verified_with_ancestors(*known, parents)
    objects, answers = to_ancestors(objects, parents), to_ancestors(answers, parents)
    found = open_images(objects, answers, verified, names)
    meaning = "mean over the classes of the area under the curve, overlap .5, where the class was verified"
    main = Figure("mAP", found.mean, meaning)
    return _with_curves("open-images", main, found, objects, answers, pictures)


def with_groups(judgement: Judgement, groups: Mapping[str, Sequence[str]]) -> Judgement:
    """With a figure for each group of classes: the mean AP of those that have objects."""
    main, figures = judgement.figures[0].name, list(judgement.figures)
    for group, names in groups.items():
        own = [row.ap for row in judgement.classes if row.name in names and row.ap == row.ap]
        if own:
            figures.append(Figure(f"{main}, {group}", float(np.mean(own)), f"over {len(own):,} classes"))
    return replace(judgement, figures=tuple(figures))


def _with_curves(
    protocol: str, main: Figure, found: VocFigures, objects: Objects, answers: Answers, pictures: int
) -> Judgement:
    rows = [
        ClassRow(name, int(count), float(ap), {"recall": float(curve.recall[-1]) if len(curve.recall) else 0.0})
        for name, count, ap, curve in zip(found.names, found.objects, found.ap, found.curves, strict=True)
    ]
    curves = [Curve(name, *curve) for name, curve in zip(found.names, found.curves, strict=True)]
    return _judgement(protocol, found.mean, (main,), rows, curves, objects, answers, pictures)


def _judgement(
    protocol: str,
    main: float,
    figures: Sequence[Figure],
    rows: Sequence[ClassRow],
    curves: Sequence[Curve],
    objects: Objects,
    answers: Answers,
    pictures: int,
) -> Judgement:
    """With what the thesis proposes beside, which every protocol can have."""
    overall = global_ap(objects, answers)
    single = ap_per_image(objects, answers, pictures)
    beside = (
        Figure("global AP", overall.ap, "one curve over the answers of all classes, overlap .5"),
        Figure("AP per image", single.mean, "within each picture over all its answers, averaged, overlap .5"),
    )
    curve = Curve("all classes", *overall.curve)
    return Judgement(protocol, main, (*figures, *beside), tuple(rows), tuple(curves), curve)
