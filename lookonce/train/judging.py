"""How good a model is in the middle of a run: the figures of a dataset's own protocol, and the one to compare by."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from lookonce.classifier import Classifier
from lookonce.data import Dataset
from lookonce.detector import Detector
from lookonce.errors import warn
from lookonce.exam import ClassExam, Exam, chosen_classes
from lookonce.exam.exam import LEAST, Protocol, usual_protocol
from lookonce.model import Model
from lookonce.wordtree import Subset

BESIDE = ("AP", "AP50", "AP75")          # of COCO's numbers


class Verdict(NamedTuple):
    """What an exam says: the figure by which models are compared, its name, and all figures by name."""

    main: float
    main_name: str
    figures: dict[str, float]


class GivenUpError(Exception):
    """Nobody waits for the verdict any more."""


def check_judged(
    model: Model, dataset: Dataset, protocol: Protocol | None = None, judged: Subset | None = None
) -> None:
    """Raise DataError, in one line, if `judge` could not judge by this dataset."""
    chosen = _chosen(model, dataset, judged)
    names = model.label_names() if chosen is None else chosen.names
    if model.network.kind == "classifier":
        ClassExam(dataset, names, chosen)
        return
    for each in {protocol or usual_protocol(dataset), "coco"}:
        Exam(dataset, each, names)


def _chosen(model: Model, dataset: Dataset, judged: Subset | None) -> Subset | None:
    """The classes that are judged of a model with a tree, None for one without."""
    return judged if judged is not None or model.tree is None else chosen_classes(model.tree, dataset.names)


def judge(
    model: Model,
    dataset: Dataset,
    protocol: Protocol | None = None,
    threads: int | None = None,
    given_up: Callable[[], bool] = lambda: False,
    judged: Subset | None = None,
) -> Verdict:
    """A detector by `protocol`, or that of the dataset's form, and by COCO's AP and AP50; a classifier by top-1.

    In float32, on the CPU. Pictures that cannot be read count as missed. After each picture it asks whether the verdict
    is `given_up`. Down a tree the dataset's classes compete, which are the nodes `judged` or those of their names.
    Raises DataError if nothing can be judged, GivenUpError.
    """
    chosen = _chosen(model, dataset, judged)

    def progress(done: int, total: int) -> None:
        if given_up():
            raise GivenUpError

    if model.network.kind == "classifier":
        classifier = Classifier(model, precision="f32", threads=threads)
        top, _ = ClassExam(dataset, model.label_names(), chosen).run(classifier, warn, progress)
        return Verdict(top.top1, "top-1", {"top-1": top.top1, "top-5": top.top5})
    detector = Detector(model, precision="f32", threads=threads, threshold=LEAST, only=chosen)
    exam = Exam(dataset, protocol or usual_protocol(dataset), detector.names)
    answers = exam.answers(list(exam.run(detector, warn, progress)))
    judgement = exam.judge(answers)
    main, found = judgement.figures[0].name, {judgement.figures[0].name: judgement.main}
    if exam.protocol != "coco":
        judgement = Exam(dataset, "coco", detector.names).judge(answers)
    found |= {figure.name: float(figure.value) for figure in judgement.figures if figure.name in BESIDE}
    return Verdict(found[main], main, found)
