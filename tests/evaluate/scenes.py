"""Small scenes of objects and answers, and matching as two loops: what the tests of this room share."""

from __future__ import annotations

import numpy as np

from lookonce.evaluate.columns import Answers, Objects

K = 4                                # classes of a scene


def objects_of(rows: list[tuple], crowd: tuple[int, ...] = (), difficult: tuple[int, ...] = ()) -> Objects:
    """Objects from (picture, label, box)."""
    box = np.array([row[2] for row in rows], float).reshape(-1, 4)
    numbers = np.arange(len(rows))
    xywh = np.column_stack([box[:, :2], box[:, 2:] - box[:, :2]])
    return Objects(
        np.array([row[0] for row in rows], np.int64),
        np.array([row[1] for row in rows], np.int64),
        box,
        xywh,
        np.isin(numbers, difficult),
        np.isin(numbers, crowd),
        xywh[:, 2] * xywh[:, 3],
    )


def answers_of(rows: list[tuple]) -> Answers:
    """Answers from (picture, label, box, score)."""
    box = np.array([row[2] for row in rows], float).reshape(-1, 4)
    return Answers(
        np.array([row[0] for row in rows], np.int64),
        np.array([row[1] for row in rows], np.int64),
        box,
        np.column_stack([box[:, :2], box[:, 2:] - box[:, :2]]),
        np.array([row[3] for row in rows], float),
    )


def scene(seed: int, pictures: int = 12, objects: int = 60, answers: int = 300) -> tuple[Objects, Answers]:
    """Small whole boxes, so that many overlap and many scores and overlaps are equal; some difficult, some crowds."""
    rng = np.random.default_rng(seed)

    def boxes(count: int) -> np.ndarray:
        corner = rng.integers(0, 12, (count, 2))
        return np.concatenate([corner, corner + rng.integers(1, 12, (count, 2))], axis=1).astype(float)

    truth = objects_of(
        list(zip(rng.integers(0, pictures, objects), rng.integers(0, K, objects), boxes(objects), strict=True))
    )
    kind = rng.integers(0, 8, objects)
    truth = truth._replace(difficult=kind == 0, crowd=kind == 1)
    place = boxes(answers)
    for row in range(0, answers, 2):                      # every second one near an object
        place[row] = truth.xyxy[rng.integers(objects)] + rng.integers(0, 2, 4)
    score = rng.integers(0, 20, answers) / 20
    return truth, answers_of(
        list(zip(rng.integers(0, pictures, answers), rng.integers(0, K, answers), place, score, strict=True))
    )


def overlap(box: np.ndarray, other: np.ndarray, crowd: bool = False) -> float:
    width = min(box[2], other[2]) - max(box[0], other[0])
    height = min(box[3], other[3]) - max(box[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    own = (box[2] - box[0]) * (box[3] - box[1])
    whole = own if crowd else own + (other[2] - other[0]) * (other[3] - other[1]) - width * height
    return width * height / whole


def matched(truth: Objects, given: Answers, rule: str, by_class: bool = True) -> tuple[list[int], list[bool]]:
    """One answer after the other, as the judges' own programs go."""
    found, ignored = [-1] * len(given.score), [False] * len(given.score)
    taken: set[int] = set()
    for row in sorted(range(len(given.score)), key=lambda row: (-given.score[row], row)):
        near = [
            (number, overlap(given.xyxy[row], truth.xyxy[number], truth.crowd[number]))
            for number in range(len(truth.label))
            if truth.picture[number] == given.picture[row]
            and (truth.label[number] == given.label[row] or not by_class)
        ]
        near = [(number, share) for number, share in near if share >= 0.5]
        spared = truth.difficult | truth.crowd
        if rule == "voc":
            first = [pair for pair in near if not truth.crowd[pair[0]]] or near
            best = max(first, key=lambda pair: pair[1], default=None)
            if best and spared[best[0]]:
                ignored[row] = True
            elif best and best[0] not in taken:
                found[row] = best[0]
        else:
            free = [pair for pair in near if not spared[pair[0]] and pair[0] not in taken]
            if free:
                found[row] = max(free, key=lambda pair: (pair[1], pair[0]))[0]
            else:
                ignored[row] = any(spared[number] for number, _ in near)
        if found[row] >= 0:
            taken.add(found[row])
    return found, ignored
