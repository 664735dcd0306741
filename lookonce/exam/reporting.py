"""An exam's outcome as a Report: figures, kinds of errors, calibration, and the pictures where it went worst."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lookonce.data.views import bytes_of
from lookonce.errors import InputError
from lookonce.evaluate.calibration import calibration
from lookonce.evaluate.columns import Answers
from lookonce.evaluate.diagnose import Diagnosis, Kind, Rule, breakdown, confusion, diagnose
from lookonce.evaluate.mapping import similar_classes
from lookonce.evaluate.tide import tide
from lookonce.evaluate.worst import most_false, most_missed, surest_false, tally
from lookonce.exam.exam import Exam
from lookonce.exam.judgement import Judgement
from lookonce.report.contents import (
    Bin,
    Box,
    Comparison,
    Confusion,
    Fact,
    Figure,
    GalleryPicture,
    Report,
    Shares,
    WorstEntry,
    WorstList,
)

SHOWN = 0.25                         # the score from which on an answer is drawn, counted and confused
LEAST_SURE = 0.05                    # and from which on its score should say how often it is right
WORST = 20                           # pictures in each list
KINDS = {
    Kind.CORRECT: "correct",
    Kind.LOCALIZATION: "localization",
    Kind.SIMILAR: "similar",
    Kind.OTHER: "other",
    Kind.BACKGROUND: "background",
}


def kinds_of_errors(
    exam: Exam, answers: Answers, groups: Sequence[Sequence[str]] | None = None
) -> tuple[Diagnosis, tuple[Shares, ...]]:
    """The kind of each answer, and each class's shares of its top N (thesis 1.4.2, figure 1.4)."""
    kinds = diagnose(exam.objects, answers, similar_classes(exam.names, groups), rule=_rule(exam))
    shares = breakdown(exam.objects, answers, kinds.kind, len(exam.names)).shares()
    return kinds, tuple(Shares(name, tuple(row)) for name, row in zip(exam.names, shares.tolist(), strict=True))


def reported(
    exam: Exam,
    answers: Answers,
    judgement: Judgement,
    about: Sequence[Fact],
    *,
    title: str,
    groups: Sequence[Sequence[str]] | None = None,
    comparison: Comparison | None = None,
) -> Report:
    """All that a page shows of one exam. Raises EngineError if what computes TIDE is not installed."""
    classes, rule = len(exam.names), _rule(exam)
    kinds, shares = kinds_of_errors(exam, answers, groups)
    together, each = calibration(exam.objects, answers, classes, score=LEAST_SURE, rule=rule)
    meaning = f"how far scores from {LEAST_SURE} on are from the share that is right"
    off = Figure("calibration error", together.error, meaning)
    cost = tide(exam.objects, answers, len(exam.pictures), classes)
    gains = [Figure(kind, gain, f"AP50 gained without this kind of error; {cost.counts.get(kind, '')}".rstrip("; "))
             for kind, gain in cost.gain.items()]  # fmt: skip
    lists, chosen = _worst(exam, answers, rule)
    return Report(
        title=title,
        about=tuple(about),
        figures=(*judgement.figures, off),
        classes=tuple(
            row._replace(more={**row.more, "calibration error": one.error})
            for row, one in zip(judgement.classes, each, strict=True)
        ),
        curves=judgement.curves,
        overall=judgement.overall,
        confusion=Confusion(exam.names, confusion(exam.objects, answers, classes, score=SHOWN)),
        errors=shares,
        tide=tuple(gains),
        calibration=tuple(
            Bin(float(score), float(precision), int(count))
            for score, precision, count in zip(together.score, together.precision, together.boxes, strict=True)
        ),
        comparison=comparison,
        pictures=tuple(_picture(exam, answers, kinds, number) for number in chosen),
        worst=lists,
    )


def _rule(exam: Exam) -> Rule:
    return "coco" if exam.protocol == "coco" else "voc"


def _worst(exam: Exam, answers: Answers, rule: Rule) -> tuple[tuple[WorstList, ...], list[int]]:
    """The three lists, and all pictures that are in one: in turn from each, so that the worst come first."""
    tallied = tally(exam.objects, answers, len(exam.pictures), score=SHOWN, rule=rule)
    surest, missed, false = (find(tallied, WORST).tolist() for find in (surest_false, most_missed, most_false))
    lists = (
        ("The surest mistakes", "pictures by the score of their surest wrong box", surest,
         [f"a wrong box with {tallied.surest_false[number]:.2f}" for number in surest]),
        ("Most missed", "pictures by the number of objects that no box found", missed,
         [f"{tallied.missed[number]} missed" for number in missed]),
        ("Most wrong boxes", f"pictures by the number of wrong boxes with a score of {SHOWN} or more", false,
         [f"{tallied.false[number]} wrong" for number in false]),
    )  # fmt: skip
    turns = [number for turn in range(WORST) for some in (surest, missed, false) for number in some[turn : turn + 1]]
    told = tuple(
        WorstList(title, meaning, tuple(map(WorstEntry, (exam.pictures[number] for number in numbers), texts)))
        for title, meaning, numbers, texts in lists
    )
    return told, list(dict.fromkeys(turns))


def _picture(exam: Exam, answers: Answers, kinds: Diagnosis, number: int) -> GalleryPicture:
    """One picture with its truth, found or missed, and its answers by kind."""
    item = exam.dataset.items[number]
    rows = np.flatnonzero((answers.picture == number) & (answers.score >= SHOWN) & (kinds.kind != Kind.IGNORED))
    found = set(kinds.object[rows[kinds.kind[rows] == Kind.CORRECT]].tolist())
    boxes = []
    for row in np.flatnonzero(exam.objects.picture == number).tolist():
        spared = bool(exam.objects.difficult[row] or exam.objects.crowd[row])
        name = exam.names[exam.objects.label[row]]
        boxes.append(Box(_corners(exam.objects.xyxy[row]), name, None, "truth" if spared or row in found else "missed"))
    for row in rows[np.argsort(-answers.score[rows], kind="stable")].tolist():
        kind = KINDS[Kind(int(kinds.kind[row]))]
        name = exam.names[answers.label[row]]
        boxes.append(Box(_corners(answers.xyxy[row]), name, float(answers.score[row]), kind))  # type: ignore[arg-type]
    data = None
    if item.member is not None:
        try:
            data = bytes_of(item)
        except InputError:                                  # the page says that it cannot be shown
            data = b""
    return GalleryPicture(item.name, item.path, tuple(boxes), data)


def _corners(box: np.ndarray) -> tuple[float, float, float, float]:
    left, top, right, bottom = box.tolist()
    return left, top, right, bottom
