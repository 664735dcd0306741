"""Boxes as arrays: overlap and non-maximum suppression, over the array API (numpy or torch).

A box is xyxy: left, top, right, bottom, in any unit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from lookonce.arrays import namespace

Array = Any

FEW_CLASSES = 4              # so many and fewer are settled one after the other
BLOCK = 64                   # boxes of one class that are settled at once


class NmsKind(NamedTuple):
    """When one box suppresses another: if overlap - distance^`beta` > threshold.

    The distance is that of the centres, squared, over the diagonal of the box around both, squared (DIoU). Without
    `beta` it does not count: the plain rule of the original Darknet.
    """

    beta: float | None = None
    across_classes: bool = False


PLAIN = NmsKind()

# The fork's words (box.c, diounms_sort), given its beta_nms: greedynms has a fixed exponent, diounms the cfg's.
NMS_KINDS: Mapping[str, Callable[[float], NmsKind]] = {
    "default": lambda beta: PLAIN,
    "greedynms": lambda beta: NmsKind(0.6),
    "diounms": NmsKind,
}


def nms_kind(name: str, beta: float) -> NmsKind:
    """What a word of NMS_KINDS means."""
    return NMS_KINDS[name](beta)


def to_xywh(xyxy: Array) -> Array:
    """Left, top, width, height of boxes (..., 4) given as left, top, right, bottom."""
    return namespace(xyxy).concat([xyxy[..., :2], xyxy[..., 2:] - xyxy[..., :2]], axis=-1)


def to_xyxy(xywh: Array) -> Array:
    """Left, top, right, bottom of boxes (..., 4) given as left, top, width, height."""
    return namespace(xywh).concat([xywh[..., :2], xywh[..., :2] + xywh[..., 2:]], axis=-1)


def area(box: Array) -> Array:
    """Areas (...,) of boxes (..., 4)."""
    return (box[..., 2] - box[..., 0]) * (box[..., 3] - box[..., 1])


def iou(a: Array, b: Array) -> Array:
    """Intersection over union (...,) of boxes (..., 4), broadcast. 0 where both are empty (Darknet: NaN)."""
    xp = namespace(a)
    corner = xp.minimum(a[..., 2:4], b[..., 2:4]) - xp.maximum(a[..., 0:2], b[..., 0:2])
    corner = xp.where(corner > 0, corner, 0 * corner)
    both = corner[..., 0] * corner[..., 1]
    union = area(a) + area(b) - both
    return both / xp.where(union > 0, union, 0 * union + 1)


def nms(box: Array, score: Array, label: Array, threshold: float, kind: NmsKind = PLAIN) -> Array:
    """The rows to keep, as numbers (M,) in falling order of score.

    `box` (N, 4), `score` (N,), `label` (N,). Greedy, as Darknet's do_nms_sort: in each class the best box stays and
    every later one that it suppresses goes, then the best of those left, and so on; over all classes together if the
    kind says so. Among equal scores the first row comes first.

    While there are many classes their best boxes are settled in one step, so the number of steps is that of the
    largest class; when only a few are left each is settled in blocks.
    """
    xp = namespace(box)
    order = xp.argsort(-score, stable=True)
    group = (0 * label if kind.across_classes else label)[order]
    if order.shape[0] <= BLOCK:
        strikes = _each_on_each(xp, _Sides.of(box[order]), threshold, kind)
        return order[_greedy(xp, strikes & (group[:, None] == group))]
    by_class = xp.argsort(group, stable=True)                             # and by score within
    order, group = order[by_class], group[by_class]
    sides = _Sides.of(box[order])
    kept = []
    while order.shape[0]:
        first = xp.concat([xp.ones_like(group[:1], dtype=xp.bool), group[1:] != group[:-1]])
        (start,) = xp.nonzero(first)                                      # (C,) the best row of each class
        end = xp.concat([start[1:], 0 * start[:1] + group.shape[0]])
        if start.shape[0] <= FEW_CLASSES:
            spans = [slice(int(a), int(b)) for a, b in zip(start, end, strict=True)]
            kept += [order[span][_settle(xp, sides.at(span), threshold, kind)] for span in spans]
            break
        kept.append(order[start])
        rival = _Sides(*(xp.repeat(side[start], end - start) for side in sides))          # (N,) each row's best
        (alive,) = xp.nonzero(~(first | _suppresses(xp, rival, sides, threshold, kind)))
        order, group, sides = order[alive], group[alive], sides.at(alive)
    rows = xp.sort(xp.concat(kept))
    return rows[xp.argsort(-score[rows], stable=True)]


class _Sides(NamedTuple):
    """Boxes as columns, which is how they are compared: each (N,) or broadcast."""

    left: Array
    top: Array
    right: Array
    bottom: Array
    area: Array

    @classmethod
    def of(cls, box: Array) -> _Sides:
        return cls(box[:, 0] + 0, box[:, 1] + 0, box[:, 2] + 0, box[:, 3] + 0, area(box))

    def at(self, rows: Any) -> _Sides:
        return _Sides(*(side[rows] for side in self))


def _settle(xp: Any, sides: _Sides, threshold: float, kind: NmsKind) -> Array:
    """The rows (M,) of one class that stay; `sides` (N,) in falling order of score."""
    rows = xp.arange(sides.left.shape[0], device=sides.left.device)
    kept = []
    while rows.shape[0]:
        strikes = _each_on_each(xp, sides, threshold, kind)               # (b, N)
        count = strikes.shape[0]
        stays = _greedy(xp, strikes[:, :count])
        kept.append(rows[:count][stays])
        struck = xp.any(strikes[stays], axis=0)
        (alive,) = xp.nonzero(~struck[count:])
        alive = alive + count
        rows, sides = rows[alive], sides.at(alive)
    return xp.concat(kept)


def _each_on_each(xp: Any, sides: _Sides, threshold: float, kind: NmsKind) -> Array:
    """Whether each of the first boxes (at most BLOCK) suppresses each box (N,): (b, N)."""
    best = _Sides(*(side[:, None] for side in sides.at(slice(BLOCK))))
    return _suppresses(xp, best, sides, threshold, kind)


def _greedy(xp: Any, strikes: Array) -> Array:
    """Which boxes (b,) stay, of some in falling order of score, when each strikes (b, b) as given.

    A box goes if one before it that stays strikes it. There is one such answer, and from "all stay" it is reached in as
    many steps as the longest chain of boxes that save each other.
    """
    later = xp.triu(strikes, k=1)
    stays = ~xp.any(later, axis=0)
    while True:
        settled = ~xp.any(later & stays[:, None], axis=0)
        if xp.all(settled == stays):
            return stays
        stays = settled


def _suppresses(xp: Any, rival: _Sides, sides: _Sides, threshold: float, kind: NmsKind) -> Array:
    """Whether each rival, (N,) or (b, 1), suppresses each box (N,): (N,) or (b, N).

    Two empty boxes do not suppress each other, as Darknet's NaN does not.
    """
    strikes = _overlap(xp, rival, sides, threshold)
    if kind.beta is not None:
        where = xp.nonzero(strikes)           # the distance only ever spares a box, so few pairs need it
        near = _Sides(*(xp.reshape(side, (-1,))[where[0]] for side in rival))
        far = sides.at(where[-1])
        strikes[where] = _overlap(xp, near, far, threshold + _distance(xp, near, far) ** kind.beta)
    return strikes


def _overlap(xp: Any, a: _Sides, b: _Sides, threshold: Any) -> Array:
    """Whether intersection over union exceeds the threshold: I > t·U needs no division."""
    wide = xp.minimum(a.right, b.right) - xp.maximum(a.left, b.left)
    both = xp.minimum(a.bottom, b.bottom) - xp.maximum(a.top, b.top)
    both *= wide                                                          # the intersection, if `wide` is positive
    union = a.area + b.area
    union -= both
    union *= threshold
    return (both > union) & (wide > 0)


def _distance(xp: Any, rival: _Sides, sides: _Sides) -> Array:
    """Centre distance squared over the diagonal squared of the box around both, 0 to 1."""
    across = rival.left + rival.right - sides.left - sides.right          # twice the distance
    down = rival.top + rival.bottom - sides.top - sides.bottom
    width = xp.maximum(rival.right, sides.right) - xp.minimum(rival.left, sides.left)
    height = xp.maximum(rival.bottom, sides.bottom) - xp.minimum(rival.top, sides.top)
    diagonal = width**2 + height**2
    return (across**2 + down**2) / 4 / xp.where(diagonal > 0, diagonal, 0 * diagonal + 1)
