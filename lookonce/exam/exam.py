"""Exam: a dataset, the classes on which it is judged, and the rules."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from lookonce.data import Dataset
from lookonce.detections import Detections, coco_numbers
from lookonce.detector import Detector
from lookonce.errors import DataError, shown, warn
from lookonce.evaluate.columns import Answers, Objects
from lookonce.evaluate.compare import AveragePrecision, Comparison, compare
from lookonce.evaluate.mapping import SharedNames, shared_names
from lookonce.evaluate.overall import relabelled
from lookonce.evaluate.reading import read_results
from lookonce.evaluate.rows import whole_number
from lookonce.exam.judgement import Judgement, judge_coco, judge_openimages, judge_voc, with_groups
from lookonce.exam.paper import Complain, Progress, read_all

Protocol = Literal["voc07", "voc12", "coco", "open-images"]
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)
MOST_DIGITS = 18                     # of a picture's name that is a number in COCO's results
LEAST = 0.005                        # Darknet's: the score from which on an answer counts in a curve


def usual_protocol(dataset: Dataset) -> Protocol:
    """The protocol of those who made a dataset's form; VOC's with the area under the curve where there is none."""
    usual: dict[str, Protocol] = {"coco": "coco", "openimages": "open-images"}
    return usual.get(dataset.format, "voc12")


class Exam:
    """A dataset, judged on the classes that it shares with whoever answers, by one protocol.

    `names` (K,) are the classes that are judged, in the dataset's words; `objects` those of its objects that are of
    these classes, numbered accordingly; `shared` what the two lists of names have in common. Each of
    `groups` of classes has a figure of its own. Raises DataError if there is no picture, no object, or no class in
    common.
    """

    def __init__(
        self,
        dataset: Dataset,
        protocol: Protocol,
        theirs: Sequence[str] = (),
        map_file: Path | None = None,
        groups: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.groups = groups or {}
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
        truths = [item.truth for item in dataset.items]
        if not any(map(len, truths)) and any(truth.classes for truth in truths):
            raise DataError(f"{dataset.path}: has classes of whole pictures and no box; a detector is judged by boxes")
        whole = Objects.of([item.truth for item in dataset.items])
        self.objects: Objects = _as_seen(relabelled(whole, ours), protocol)
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
        """The answers in a file or folder of results.

        Pictures are called by their files, in COCO's results by their ids; classes by the dataset's names, or those
        that were given; in COCO's results by the dataset's numbers, or if it has none by the place among the names.
        Raises DataError.
        """
        items = self.dataset.items
        sizes = [item.size for item in items]
        files = [item.path.as_posix() + (f"/{item.member}" if item.member is not None else "") for item in items]
        beyond = {number: len(self.theirs) + label for number, label in self._categories().items()}
        found = read_results(path, self.pictures, self.theirs, beyond, sizes, files)
        return relabelled(found, np.concatenate([self._theirs, np.arange(len(self.names)), [-1]]))

    def coco_rows(self, answers: Answers) -> list[dict[str, Any]]:
        """Answers as rows of COCO's results: the image's id or name, the category, left, top, width, height, score.

        Raises DataError if two pictures are called the same.
        """
        ids = [name if (number := whole_number(name)) is None else number for name in self.pictures]
        if self.dataset.format != "coco":                   # no id, but a name of digits: as long as any reader takes
            ids = [id if len(name) <= MOST_DIGITS else name for id, name in zip(ids, self.pictures, strict=True)]
        if len(set(ids)) < len(ids):
            twice = next(name for name, count in Counter(self.pictures).items() if count > 1)
            raise DataError(f"{self.dataset.path}: several pictures are called {shown(twice)}, COCO's form wants one")
        category: dict[int, int] = {}
        for number, label in self._categories().items():
            category.setdefault(label, number)
        columns = (answers.picture.tolist(), answers.label.tolist(), answers.xywh.tolist(), answers.score.tolist())
        return [
            {"image_id": ids[picture], "category_id": category[label], "bbox": box, "score": score}
            for picture, label, box, score in zip(*columns, strict=True)
        ]

    def _categories(self) -> dict[int, int]:
        """What COCO's results call each class, and its number among the K that are judged; K if it is not judged.

        By the dataset's numbers; where it has none, as COCO's writer counts the names of whoever answers.
        """
        if self.dataset.numbers:
            pairs = [(number, self._ours[at]) for at, number in enumerate(self.dataset.numbers) if number >= 0]
        else:
            pairs = list(zip(coco_numbers(self.theirs), self._theirs, strict=True))
        return {number: int(label) if label >= 0 else len(self.names) for number, label in pairs}

    def oddities(self, answers: Answers) -> list[str]:
        """What is strange about answers, in a sentence each: pictures without any, boxes outside, scores above 1."""
        sizes = [item.size for item in self.dataset.items]
        known = np.array([size is not None for size in sizes], bool)[answers.picture]
        width, height = np.array([size or (0, 0) for size in sizes], float).reshape(-1, 2)[answers.picture].T
        left, top, right, bottom = answers.xyxy.T
        outside = known & ((right <= 0) | (bottom <= 0) | (left >= width) | (top >= height))
        over = known & ~outside & ((left < -1) | (top < -1) | (right > width + 1) | (bottom > height + 1))
        silent = len(self.pictures) - len(np.unique(answers.picture))
        counts = {
            f"of {len(self.pictures):,} pictures have no answer": silent,
            f"of {len(answers.score):,} boxes lie outside their picture": int(outside.sum()),
            f"of {len(answers.score):,} boxes reach over their picture's edge; `val` cuts them there": int(over.sum()),
            f"of {len(answers.score):,} scores are above 1": int((answers.score > 1).sum()),
        }
        return [f"{count:,} {text}" for text, count in counts.items() if count]

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
        return with_groups(self._judge(answers), self.groups)

    def _judge(self, answers: Answers) -> Judgement:
        if self.protocol == "coco":
            return judge_coco(self.objects, answers, len(self.pictures), self.names)
        if self.protocol == "open-images":
            known, parents = self._known(), self._parents()
            return judge_openimages(self.objects, answers, len(self.pictures), self.names, known, parents)
        return judge_voc(self.objects, answers, len(self.pictures), self.names, self.protocol)

    def check_comparable(self) -> None:
        """Raises DataError for Open Images, whose rules depend on what was verified in each picture."""
        if self.protocol == "open-images":
            raise DataError("two runs are compared by --protocol coco, voc07 or voc12, not by that of Open Images")

    def compare(self, a: Answers, b: Answers, resamples: int = 1000) -> Comparison:
        """The difference of two sets of answers in the protocol's main figure, by the paired bootstrap.

        Raises DataError as `check_comparable`.
        """
        self.check_comparable()
        pictures, classes = len(self.pictures), len(self.names)

        def metric(answers: Answers) -> AveragePrecision:
            if self.protocol == "coco":
                return AveragePrecision(self.objects, answers, pictures, classes)
            points = 11 if self.protocol == "voc07" else None
            return AveragePrecision(
                self.objects, answers, pictures, classes, thresholds=(0.5,), rule="voc", points=points, most=None
            )

        return compare(metric(a), metric(b), pictures, resamples=resamples)

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


def _as_seen(objects: Objects, protocol: Protocol) -> Objects:
    """Objects as a protocol knows them: COCO's has no difficult ones, VOC's takes crowds for these."""
    none = np.zeros(len(objects.label), bool)
    if protocol == "coco":
        return objects._replace(difficult=none)
    if protocol == "open-images":
        return objects
    return objects._replace(difficult=objects.difficult | objects.crowd, crowd=none)
