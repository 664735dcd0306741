"""Which truth belongs to which box: what the losses of [yolo] and [region] have in common.

Nothing here has a gradient: a loss holds its assignment fixed.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lookonce.truth import Targets

ASSUMED_IOU = 0.3           # of the likeliest box of a picture of which only the class is known (thesis 2.4.3)
BLOCK = 1 << 20             # pairs of a box and a truth that are compared at once


class Best(NamedTuple):
    """For each of N boxes of B pictures the truth of its picture that it overlaps most, and by how much.

    `iou` (B, N); `row` (B, N) int64 numbers the rows of the targets, the first of equals, -1 where none overlaps.
    """

    iou: Tensor
    row: Tensor


class Slots(NamedTuple):
    """M truths that found S different places: `slot` (M,) says which, `last` (S,) is the last truth of each place."""

    slot: Tensor
    last: Tensor


def as_tensors(targets: Targets, like: Tensor) -> Targets:
    """The same rows as tensors on the device of `like`, and of its floating type."""
    return Targets(
        torch.as_tensor(targets.picture, dtype=torch.int64, device=like.device),
        torch.as_tensor(targets.cxcywh, device=like.device).to(like.dtype),
        torch.as_tensor(targets.label, dtype=torch.int64, device=like.device),
        targets.pictures,
    )


def with_boxes(targets: Targets) -> Tensor:
    """Which rows (M,) say where their object is; the others have NaN, and say what the picture shows."""
    return torch.isfinite(targets.cxcywh).all(1)


def take(targets: Targets, rows: Tensor) -> Targets:
    """Some rows: `rows` is their numbers, or (M,) bool."""
    return Targets(targets.picture[rows], targets.cxcywh[rows], targets.label[rows], targets.pictures)


def xyxy_of(cxcywh: Tensor) -> Tensor:
    """Left, top, right, bottom of boxes (..., 4) given as centre and size."""
    centre, half = cxcywh[..., :2], cxcywh[..., 2:] / 2
    return torch.cat([centre - half, centre + half], -1)


def cell_of(targets: Targets, columns: int, rows: int) -> tuple[Tensor, Tensor]:
    """The column and row (M,) int64 of the cell that each truth's centre is in.

    A centre on the right or lower edge of the picture, or beyond, belongs to the last cell (Darknet writes outside).
    """
    column = (targets.cxcywh[:, 0] * columns).long().clamp(0, columns - 1)
    row = (targets.cxcywh[:, 1] * rows).long().clamp(0, rows - 1)
    return column, row


def shape_iou(sizes: Tensor, shapes: Tensor) -> Tensor:
    """Intersection over union (M, A) of `sizes` (M, 2) with `shapes` (A, 2), or (M, A, 2), at a common centre."""
    a = sizes[:, None]                                                    # (M, 1, 2)
    both = torch.minimum(a, shapes).prod(-1)                              # (M, A)
    union = a.prod(-1) + shapes.prod(-1) - both
    return both / torch.where(union > 0, union, 1)


@torch.no_grad()
def best_truths(boxes: Tensor, targets: Targets) -> Best:
    """For each box (B, N, 4), xyxy, the truth of its picture with the greatest intersection over union.

    `targets` are tensors (`as_tensors`) with a box in each row, in rising order of picture. Memory is that of the boxes
    and a few arrays of BLOCK numbers, however many truths there are.
    """
    pictures, count, _ = boxes.shape
    best = boxes.new_zeros(pictures, count)
    owner = torch.full((pictures, count), -1, dtype=torch.int64, device=boxes.device)
    of_picture = torch.bincount(targets.picture, minlength=pictures)      # (B,)
    most = int(of_picture.max()) if len(targets) else 0
    rows = torch.arange(len(targets), device=boxes.device)
    place = rows - (of_picture.cumsum(0) - of_picture)[targets.picture]   # (M,) the how-manieth of its picture
    # A box without size overlaps nothing, so that pictures with fewer truths are filled up with such.
    truths = boxes.new_zeros(pictures, most, 4)
    truths[targets.picture, place] = xyxy_of(targets.cxcywh)
    numbers = rows.new_full((pictures, most), -1)
    numbers[targets.picture, place] = rows
    sides = _Sides.of(boxes)
    step = max(1, BLOCK // max(1, pictures * count))
    for start in range(0, most, step):
        some = slice(start, start + step)
        iou, slot = _iou(sides, _Sides.of(truths[:, some])).max(1)        # (B, N) each
        better = iou > best
        best = torch.where(better, iou, best)
        owner = torch.where(better, numbers[:, some].gather(1, slot), owner)
    return Best(best, owner)


def places(place: Tensor) -> Slots:
    """Truths that share a place, `place` (M,) int64 in the order of the truths: the same answer on every device."""
    found, slot = torch.unique(place, return_inverse=True)                # (S,), (M,)
    order = torch.arange(len(place), device=place.device)
    last = torch.zeros_like(found).scatter_reduce_(0, slot, order, "amax", include_self=False)
    return Slots(slot, last)


class _Sides(NamedTuple):
    """Boxes as columns, each (B, N)."""

    left: Tensor
    top: Tensor
    right: Tensor
    bottom: Tensor
    area: Tensor

    @classmethod
    def of(cls, xyxy: Tensor) -> _Sides:
        left, top, right, bottom = (side.contiguous() for side in xyxy.unbind(-1))
        return cls(left, top, right, bottom, (right - left) * (bottom - top))


def _iou(boxes: _Sides, truths: _Sides) -> Tensor:
    """(B, T, N) of boxes (B, N) and truths (B, T)."""
    a = _Sides(*(side[:, None] for side in boxes))
    b = _Sides(*(side[:, :, None] for side in truths))
    both = (torch.minimum(a.right, b.right) - torch.maximum(a.left, b.left)).clamp_(min=0)
    both *= (torch.minimum(a.bottom, b.bottom) - torch.maximum(a.top, b.top)).clamp_(min=0)
    union = a.area + b.area - both
    return both.div_(union.clamp_(min=torch.finfo(union.dtype).tiny))
