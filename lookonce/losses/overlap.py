"""How well boxes lie on their truths, as losses of pairs: IoU, GIoU, DIoU and CIoU.

These are of the fork's dialect; Darknet draws each number of a box by itself.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lookonce.losses.terms import Term


def overlaps(boxes: Tensor, truths: Tensor, kind: str = "iou") -> Tensor:
    """How well each box (N, 4) lies on its truth (N, 4), xyxy: (N,), 1 where they are the same.

    `kind`:

        iou     intersection over union: 0, without a slope, where they are apart
        giou    minus the share that is neither in the smallest box around both: down to -1 (arXiv:1902.09630)
        diou    minus the distance of the centres over the diagonal of that box, both squared (arXiv:1911.08287)
        ciou    diou minus a·v, v the difference of the angles of the diagonals, squared, times 4/π², and
                a = v / (1 - iou + v), which is held fixed (the same)
    """
    both = _area(torch.maximum(boxes[:, :2], truths[:, :2]), torch.minimum(boxes[:, 2:], truths[:, 2:]))
    union = _area(boxes[:, :2], boxes[:, 2:]) + _area(truths[:, :2], truths[:, 2:]) - both
    least = torch.finfo(boxes.dtype).tiny
    iou = both / union.clamp(min=least)                                   # (N,)
    if kind == "iou":
        return iou
    first, last = torch.minimum(boxes[:, :2], truths[:, :2]), torch.maximum(boxes[:, 2:], truths[:, 2:])
    if kind == "giou":
        around = _area(first, last)
        return iou - (around - union) / around.clamp(min=least)
    distance = (boxes[:, :2] + boxes[:, 2:] - truths[:, :2] - truths[:, 2:]).square().sum(1) / 4
    diou = iou - distance / (last - first).square().sum(1).clamp(min=least)
    if kind == "diou":
        return diou
    assert kind == "ciou", kind
    v = (_angle(truths) - _angle(boxes)).square() * (4 / math.pi**2)
    return diou - (v / (1 - iou + v).clamp(min=least)).detach() * v


def overlap(boxes: Tensor, truths: Tensor, kind: str = "iou", scale: float = 1.0) -> Term:
    """Σ scale·(1 - overlap). It has no deltas whose squares could be printed; the sum itself is."""
    value = scale * (1 - overlaps(boxes, truths, kind)).sum()
    return Term(value, value.detach())


def limited(value: Tensor, answer: Tensor, most: float) -> Tensor:
    """`value` with a gradient by `answer` (of any shape) of at most `most` in each number, and 0 where it is NaN.

    The limit holds for the value as it is, whatever a caller multiplies it by afterwards.
    """
    if not value.requires_grad:
        return value
    (slope,) = torch.autograd.grad(value, answer, retain_graph=True)
    slope = slope.nan_to_num(0.0, math.inf, -math.inf).clamp(-most, most)
    return value.detach() + (slope * (answer - answer.detach())).sum()


def _area(first: Tensor, last: Tensor) -> Tensor:
    """Areas (N,) between corners (N, 2): 0 where they are not in order."""
    return (last - first).clamp(min=0).prod(1)


def _angle(boxes: Tensor) -> Tensor:
    """The angle of each box's diagonal, (N,), from upright."""
    sides = boxes[:, 2:] - boxes[:, :2]
    return torch.atan(sides[:, 0] / sides[:, 1].clamp(min=1e-9))
