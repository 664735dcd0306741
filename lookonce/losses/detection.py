"""The loss of [detection]: YOLO's sum of squares (eq. 1.3; detection_layer.c)."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lookonce.boxes import iou
from lookonce.heads.detection import Detection
from lookonce.losses.assign import cell_of, take, with_boxes, xyxy_of
from lookonce.losses.classify import known_classes
from lookonce.losses.terms import LossTerms, Moment, half_square, softmax
from lookonce.truth import Targets

RANDOM_PICTURES = 64_000        # for so many pictures `random` chooses boxes by chance
SMALL = 0.1                     # `forced`: a smaller share of the picture is for the second box


class _Grid(NamedTuple):
    """What the network says, by cell: `classes` (B, S², K), `confidence` (B, S², n), `boxes` (B, S², n, 4)."""

    classes: Tensor
    confidence: Tensor
    boxes: Tensor


class _Owned(NamedTuple):
    """The M truths that are learnt, one a cell, and the box of the cell that is responsible.

    `picture`, `cell`, `box` and `label` (M,) number them; `wanted` (M, 4) is the truth as the network is to say it;
    `overlap` (M,) the IOU of the two.
    """

    picture: Tensor
    cell: Tensor
    box: Tensor
    label: Tensor
    wanted: Tensor
    overlap: Tensor


def detection_loss(head: Detection, raw: Tensor, targets: Targets, moment: Moment) -> LossTerms:
    """The terms of [detection] for what flows into it, (B, C, H, W).

    A cell learns one truth, the first of those whose centre lies in it. Confidence is drawn to 1, or with `rescore` to
    the box's IOU, which is held fixed. A row of the targets that has no box teaches nothing, and nothing in its picture
    is background, for the object may be anywhere. Raises DataError for a class that the head does not have.
    """
    truths = known_classes(targets, raw, head.classes, "[detection]")
    grid, boxed = _split(head, raw), with_boxes(truths)
    own = _assign(head, grid, take(truths, boxed & (truths.cxcywh[:, 2:] > 0).all(1)), moment)
    free = torch.ones_like(grid.confidence)
    free[truths.picture[~boxed]] = 0
    free[own.picture, own.cell, own.box] = 0
    boxes = grid.boxes[own.picture, own.cell, own.box]                                 # (M, 4)
    confidence = grid.confidence[own.picture, own.cell, own.box]                       # (M,)
    classes = grid.classes[own.picture, own.cell]                                      # (M, K)
    one_hot = torch.zeros_like(classes).scatter_(1, own.label[:, None], 1)
    classify = softmax if head.softmax else half_square
    return LossTerms.of(
        centre=half_square(boxes[:, :2], own.wanted[:, :2], head.coord_scale),
        extent=half_square(boxes[:, 2:], own.wanted[:, 2:], head.coord_scale),
        objects=half_square(confidence, own.overlap if head.rescore else 1.0, head.object_scale),
        background=half_square(grid.confidence, 0.0, head.noobject_scale * free),
        classes=classify(classes, one_hot, head.class_scale),
    )


def _split(head: Detection, raw: Tensor) -> _Grid:
    cells, k, n = head.side**2, head.classes, head.num
    classes, confidence, boxes = torch.split(raw.flatten(1), [cells * k, cells * n, cells * n * 4], 1)
    return _Grid(classes.reshape(-1, cells, k), confidence.reshape(-1, cells, n), boxes.reshape(-1, cells, n, 4))


@torch.no_grad()
def _assign(head: Detection, grid: _Grid, truths: Targets, moment: Moment) -> _Owned:
    """The first truth of each cell, and the responsible box there."""
    column, row = cell_of(truths, head.side, head.side)
    place = (truths.picture * head.side + row) * head.side + column                   # (M,)
    order = torch.arange(len(truths), device=place.device)
    first = order.new_full((grid.confidence[..., 0].numel(),), len(truths))
    first.scatter_reduce_(0, place, order, "amin")
    learnt = first[place] == order
    truths, column, row = take(truths, learnt), column[learnt], row[learnt]
    cell, corner = row * head.side + column, torch.stack([column, row], 1)
    centre = truths.cxcywh[:, :2] * head.side - corner                                 # (M, 2)
    extent = truths.cxcywh[:, 2:]
    said = grid.boxes[truths.picture, cell]                                            # (M, n, 4)
    # Relative to the picture, but from the cell's corner.
    found = torch.cat([said[..., :2] / head.side, said[..., 2:] ** 2 if head.sqrt else said[..., 2:]], 2)
    truth = torch.cat([centre / head.side, extent], 1)[:, None]                        # (M, 1, 4)
    overlap = iou(xyxy_of(found), xyxy_of(truth))                                      # (M, n)
    box = _responsible(head, overlap, (found - truth).square().sum(2), extent.prod(1), moment)
    wanted = torch.cat([centre, extent.sqrt() if head.sqrt else extent], 1)
    return _Owned(truths.picture, cell, box, truths.label, wanted, overlap.gather(1, box[:, None])[:, 0])


def _responsible(head: Detection, overlap: Tensor, distance: Tensor, area: Tensor, moment: Moment) -> Tensor:
    """Which of a cell's n boxes learns, (M,): the one of most overlap; if none overlaps, the nearest by its squares.

    `overlap` and `distance` are (M, n), `area` (M,). With `forced` the size of the truth decides, and with `random`
    chance, until 64,000 pictures have been seen.
    """
    if head.random and moment.seen < RANDOM_PICTURES:
        return torch.randint(head.num, (len(area),), device=area.device)
    if head.forced:
        return ((area < SMALL) & (head.num > 1)).long()
    return torch.where((overlap > 0).any(1), overlap.argmax(1), distance.argmin(1))
