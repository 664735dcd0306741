"""Exam: a dataset, the classes on which it is judged, and the rules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from lookonce.data import Dataset
from lookonce.detections import Detections
from lookonce.detector import Detector
from lookonce.errors import DataError, warn
from lookonce.evaluate.columns import Answers, Objects
from lookonce.evaluate.compare import AveragePrecision, Comparison, Metric, compare, on_pictures
from lookonce.evaluate.mapping import SharedNames, shared_names
from lookonce.evaluate.overall import relabelled
from lookonce.evaluate.reading import read_results
from lookonce.evaluate.voc import voc
from lookonce.exam.judgement import Judgement, judge_coco, judge_openimages, judge_voc
from lookonce.exam.paper import Complain, Progress, read_all

Protocol = Literal["voc07", "voc12", "coco", "open-images"]
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)
LEAST = 0.005                        # Darknet's: the score from which on an answer counts in a curve


def usual_protocol(dataset: Dataset) -> Protocol:
    """The protocol of those who made a dataset's form; VOC's with the area under the curve where there is none."""
    usual: dict[str, Protocol] = {"coco": "coco", "openimages": "open-images"}
    return usual.get(dataset.format, "voc12")


class Exam:
    """A dataset, judged on the classes that it shares with whoever answers, by one protocol.

    `names` (K,) are the classes that are judged, in the dataset's words; `objects` those of its objects that are of
    these classes, numbered accordingly; `shared` what the two lists of names have in common. Raises DataError if there
    is no picture, no object, or no class in common.
    """

    def __init__(
        self, dataset: Dataset, protocol: Protocol, theirs: Sequence[str] = (), map_file: Path | None = None
    ) -> None:
        self.dataset = dataset
        self.protocol = protocol
        self.pictures = [item.name for item in dataset.items]
        self.theirs = tuple(theirs) or dataset.names
        self.shared: SharedNames = shared_names(self.theirs, dataset.names, map_file)
        self.names = self.shared.names
        order = {name: number for number, name in enumerate(self.names)}
        ours = np.array([order.get(name, -1) for name in dataset.names], np.int64)
        self._ours = ours
        self._theirs = np.where(self.shared.to >= 0, ours[self.shared.to], -1)
        if not dataset.items:
            raise DataError(f"{dataset.path}: holds no picture, so there is nothing to judge")
        whole = Objects.of([item.truth for item in dataset.items])
        self.objects: Objects = relabelled(whole, ours)
        if not len(self.objects.label):
            raise DataError(f"{dataset.path}: holds no object of the {len(self.names)} classes that are judged")

    # ------------------------------------------------------------------ answers
    def run(
        self, detector: Detector, complain: Complain = warn, progress: Progress = lambda done, total: None
    ) -> Iterator[Detections]:
        """What a detector says of each picture in turn, cut at the picture's edge as Darknet's judges get it.

        A picture that cannot be read is complained of, as a warning if nothing else is said, and its objects count as
        missed. `progress` is told how many of all are done.
        """
        paper = read_all(self.dataset, complain, progress, upright=not detector.runner.compat)
        for item, picture in zip(self.dataset.items, paper, strict=True):
            if picture is None:
                yield Detections.none(detector.names, item.size or (1, 1))
            else:
                yield detector(picture).clipped()

    def answers(self, found: Sequence[Detections]) -> Answers:
        """What was found in each picture as columns, in the classes that are judged; the others are left out."""
        return relabelled(Answers.of(found), self._theirs)

    def read(self, path: Path) -> Answers:
        """The answers in a file or folder of results, which names the dataset's classes or the model's.

        Raises DataError.
        """
        sizes = [item.size for item in self.dataset.items]
        same = self.theirs == self.dataset.names
        numbers = self.dataset.numbers if same else ()
        return relabelled(read_results(path, self.pictures, self.theirs, numbers, sizes), self._theirs)

    def coco_rows(self, answers: Answers) -> list[dict[str, Any]]:
        """Answers as rows of COCO's results: the image's id or name, the category, left, top, width, height, score."""
        numbers = self.dataset.numbers or tuple(range(1, len(self.dataset.names) + 1))
        ids = [int(name) if name.isascii() and name.isdigit() else name for name in self.pictures]
        category = {int(ours): numbers[label] for label, ours in enumerate(self._ours) if ours >= 0}
        columns = (answers.picture.tolist(), answers.label.tolist(), answers.xywh.tolist(), answers.score.tolist())
        return [
            {"image_id": ids[picture], "category_id": category[label], "bbox": box, "score": score}
            for picture, label, box, score in zip(*columns, strict=True)
        ]

    def facts(self) -> dict[str, Any]:
        """What the figures depend on beside who answers."""
        return {
            "data": str(self.dataset.path),
            "protocol": self.protocol,
            "pictures": len(self.pictures),
            "objects": len(self.objects.label),
            "classes": len(self.names),
        }

    # ------------------------------------------------------------------ judging
    def judge(self, answers: Answers) -> Judgement:
        """The figures of all answers."""
        if self.protocol == "coco":
            return judge_coco(self.objects, answers, len(self.pictures), self.names)
        if self.protocol == "open-images":
            known, parents = self._known(), self._parents()
            return judge_openimages(self.objects, answers, len(self.pictures), self.names, known, parents)
        return judge_voc(self.objects, answers, len(self.pictures), self.names, self.protocol)

    def compare(self, a: Answers, b: Answers, resamples: int = 1000) -> Comparison:
        """The difference of two sets of answers in the protocol's main figure, by the paired bootstrap.

        Raises DataError for Open Images, whose rules depend on what was verified in each picture.
        """
        if self.protocol == "open-images":
            raise DataError("two runs are compared by --protocol coco, voc07 or voc12, not by that of Open Images")
        pictures, classes = len(self.pictures), len(self.names)
        metrics: list[Metric] = []
        for answers in (a, b):
            if self.protocol == "coco":
                metrics.append(AveragePrecision(self.objects, answers, pictures, classes))
            else:
                metrics.append(on_pictures(self._mean_ap, self.objects, answers))
        return compare(metrics[0], metrics[1], pictures, resamples=resamples)

    def _mean_ap(self, objects: Objects, answers: Answers) -> float:
        return voc(objects, answers, self.names, points=11 if self.protocol == "voc07" else None).mean

    def _known(self) -> tuple[np.ndarray, np.ndarray]:
        """Picture and class of what was verified to be there and not to be there, (V, 2) each."""
        rows: tuple[list[tuple[int, int]], list[tuple[int, int]]] = ([], [])
        for number, item in enumerate(self.dataset.items):
            for known, classes in zip(rows, (item.truth.classes, item.absent), strict=True):
                known += [(number, label) for each in classes if (label := int(self._ours[each])) >= 0]
        present, absent = (np.array(known, np.int64).reshape(-1, 2) for known in rows)
        return present, absent

    def _parents(self) -> dict[int, list[int]]:
        """The judged classes above each judged class."""
        ours = self._ours
        return {
            int(ours[label]): [int(ours[each]) for each in above if ours[each] >= 0]
            for label, above in enumerate(self.dataset.above)
            if ours[label] >= 0
        }
