"""The loss of [region]: YOLOv2's and YOLO9000's (thesis 2.2-2.4; region_layer.c and its kernels)."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor

from lookonce.boxes import iou
from lookonce.heads.head import FARTHEST, finite_exp
from lookonce.heads.region import Region
from lookonce.losses.assign import (
    ASSUMED_IOU,
    Slots,
    best_truths,
    cell_of,
    places,
    shape_iou,
    take,
    with_boxes,
    xyxy_of,
)
from lookonce.losses.classify import NOWHERE, Family, known_classes, ways
from lookonce.losses.terms import LossTerms, Moment, Term, half_square, logistic, softmax
from lookonce.truth import Targets

EARLY_PICTURES = 12_800         # for so many pictures boxes without a truth are drawn to their anchors
EARLY_SCALE = 0.01

Places = tuple[Tensor, Tensor, Tensor, Tensor]          # picture, anchor, row and column, (S,) each


class _Cells(NamedTuple):
    """What the network says, by place: `boxes` (B, A, H, W, coords + 1) to objectness, `classes` (B, A, H, W, K)."""

    boxes: Tensor
    classes: Tensor


class _Owned(NamedTuple):
    """The S places that learn a box: the last truth of each.

    `slots` says of all M truths which place they found. `inside` (S, 2) and `extent` (S, 2) are the truth as the
    network is to say it, `overlap` (S,) the IOU with what it says, `area` (S,) the share of the picture.
    """

    at: Places
    slots: Slots
    label: Tensor
    inside: Tensor
    extent: Tensor
    overlap: Tensor
    area: Tensor


class _Shown(NamedTuple):
    """The S places that learn what their picture shows, and of the M rows that say so the place and class."""

    at: Places
    slots: Slots
    label: Tensor


def region_loss(head: Region, raw: Tensor, targets: Targets, moment: Moment) -> LossTerms:
    """The terms of [region] for what flows into it, (B, C, H, W).

    x, y and objectness are squared errors through a sigmoid, w and h of their logarithms, classes are cross-entropy.
    A truth belongs to the anchor of its cell that is most like it in shape, or without `bias_match` to the box that is;
    of several at one place the last counts, but independent classes add up. Its box weighs coord_scale times 2 minus
    its share of the picture. With `rescore` objectness is drawn to the box's IOU, held fixed. Places that overlap some
    truth by more than `threshold` are not background.

    A picture with a row that has no box teaches its class only, to the place that is likeliest to show it, and that no
    other place holds an object. The objectness of the likeliest is drawn to .3 if it is less, as the thesis says; with
    `moment.compat` it is left alone, as Darknet's last version does. Values beside x, y, w, h learn nothing. Raises
    DataError for a class that the head does not have.
    """
    truths = known_classes(targets, raw, head.classes, "[region]")
    batch, _, rows, columns = raw.shape
    grid = raw.reshape(batch, len(head.anchors), head.entries, rows, columns).permute(0, 1, 3, 4, 2)
    cells = _Cells(*torch.split(grid, [head.coords + 1, head.classes], 4))
    boxed = with_boxes(truths)
    shows = torch.zeros(batch, dtype=torch.bool, device=raw.device)
    shows[truths.picture[~boxed]] = True
    placed = take(truths, boxed & (truths.cxcywh[:, 2:] > 0).all(1) & ~shows[truths.picture])
    own, shown = _assign(head, cells, placed), _likeliest(head, cells, take(truths, ~boxed))
    free = _free(head, cells, placed)
    free[own.at] = free[shown.at] = False
    said = cells.boxes[own.at]                                                         # (S, coords + 1)
    scale = (head.coord_scale * (2 - own.area))[:, None]
    objects, background = _objectness(head, cells, own, shown, free, moment)
    terms = {
        "centre": _centre(head, said, own.inside, scale),
        "extent": half_square(said[:, 2:4], own.extent, scale),
        "objects": objects,
        "background": background,
        "classes": _classes(head, cells, own, shown),
    }
    if moment.seen < EARLY_PICTURES:
        others = (~shows).to(raw.dtype)[:, None, None, None].expand(free.shape).clone()
        others[own.at] = 0
        terms["priors"] = _priors(head, cells.boxes, others[..., None])
    return LossTerms.of(**terms)


# ---------------------------------------------------------------------- terms
def _centre(head: Region, said: Tensor, inside: Tensor | float, scale: Tensor) -> Term:
    """Of boxes (..., coords + 1) whose x and y are to be `inside`."""
    return half_square(said[..., :2].sigmoid() if head.location == "direct" else said[..., :2], inside, scale)


def _priors(head: Region, boxes: Tensor, others: Tensor) -> Term:
    """Draws boxes to the middle of their cells and the size of their anchors."""
    middle = 0.0 if head.location == "anchor" else 0.5
    scale = EARLY_SCALE * others
    return _centre(head, boxes, middle, scale) + half_square(boxes[..., 2:4], 0.0, scale)


def _objectness(
    head: Region, cells: _Cells, own: _Owned, shown: _Shown, free: Tensor, moment: Moment
) -> tuple[Term, Term]:
    """Of places that hold an object, and of those that do not."""
    logits = cells.boxes[..., head.coords]                                             # (B, A, H, W)
    if head.background:
        # Darknet gives each logit its own part of the softmax's gradient, with its own scale.
        logits = logits - cells.classes.detach().logsumexp(-1)
        return logistic(logits[own.at], 0.0, head.object_scale), logistic(logits, 1.0, head.noobject_scale * free)
    said = logits.sigmoid()
    objects = half_square(said[own.at], own.overlap if head.rescore else 1.0, head.object_scale)
    if not moment.compat:
        likeliest = said[shown.at]
        objects += half_square(likeliest, ASSUMED_IOU, head.object_scale * (likeliest < ASSUMED_IOU))
    return objects, half_square(said, 0.0, head.noobject_scale * free)


def _classes(head: Region, cells: _Cells, own: _Owned, shown: _Shown) -> Term:
    """Cross-entropy where something is learnt: of a softmax, of those on the way down a tree, or of each class."""
    at: Places = tuple(torch.cat(pair) for pair in zip(own.at, shown.at, strict=True))  # type: ignore[assignment]
    label = torch.cat([own.label, shown.label])                                        # (M,)
    slot = torch.cat([own.slots.slot, shown.slots.slot + len(own.slots.last)])         # (M,) of S places
    last = torch.cat([own.slots.last, shown.slots.last + len(own.label)])              # (S,)
    if head.tree is not None:
        row, node = ways(head.tree, label)
        family = Family.of(head.tree, node)
        # Of two truths at one place the last counts in each set of siblings.
        kept = places(slot[row] * len(head.tree.starts) + family.group).last           # (N,)
        family = Family(*(part[kept] for part in family))
        where = tuple(part[slot[row[kept]], None] for part in at)
        logits = cells.classes[(*where, family.members)].masked_fill(~family.inside, NOWHERE)
        return softmax(logits, F.one_hot(family.place, logits.shape[1]).to(logits.dtype), head.class_scale)
    logits = cells.classes[at]                                                         # (S, K)
    truth = torch.zeros_like(logits)
    if head.background:
        truth[torch.arange(len(last), device=last.device), label[last]] = 1
        # The background's own logit learns from the term of objectness.
        nothing = cells.boxes[at][:, head.coords, None].detach()                       # (S, 1)
        scale = head.class_scale * F.pad(torch.ones_like(truth), (1, 0))
        return softmax(torch.cat([nothing, logits], 1), F.pad(truth, (1, 0)), scale)
    if not head.softmax:
        truth[slot, label] = 1
        return logistic(logits, truth, head.class_scale)
    truth[torch.arange(len(last), device=last.device), label[last]] = 1
    return _focal(logits, truth, head.class_scale) if head.focal else softmax(logits, truth, head.class_scale)


def _focal(logits: Tensor, truth: Tensor, scale: float) -> Term:
    """Σ scale·(1 - p)²/2·cross-entropy, p the probability of what is true, as the fork has it."""
    log = (truth * logits.log_softmax(-1)).sum(-1, keepdim=True)                       # (S, 1)
    p = log.exp()
    slope = ((1 - p) * (1 - p - 2 * p * log) / 2).detach()
    delta = scale * slope * (truth - logits.detach().softmax(-1))
    return Term(-(scale * (1 - p).square() / 2 * log).sum(), delta.square().sum())


# ---------------------------------------------------------------------- what is learnt where
def _decode(head: Region, said: Tensor, corner: Tensor, prior: Tensor, size: Tensor) -> Tensor:
    """Centre and size (..., 4), relative to the picture, of boxes (..., coords + 1)."""
    inside = said[..., :2].sigmoid() if head.location == "direct" else said[..., :2].clamp(-FARTHEST, FARTHEST)
    centre = head.centre(inside, corner, size, prior)
    return torch.cat([centre, finite_exp(said[..., 2:4]) * prior / size], -1)


@torch.no_grad()
def _assign(head: Region, cells: _Cells, truths: Targets) -> _Owned:
    """The place of each truth, and what the last truth of each place teaches."""
    _, anchors, rows, columns, _ = cells.boxes.shape
    priors, size = cells.boxes.new_tensor(head.anchors), cells.boxes.new_tensor([columns, rows])
    column, row = cell_of(truths, columns, rows)
    wanted = truths.cxcywh[:, 2:] * size                                               # (M, 2) in cells
    if head.bias_match:
        shapes = priors                                                                # (A, 2)
    else:
        shapes = finite_exp(cells.boxes[truths.picture, :, row, column, 2:4]) * priors  # (M, A, 2)
    anchor = shape_iou(wanted, shapes).argmax(1)                                       # (M,)
    slots = places(((truths.picture * anchors + anchor) * rows + row) * columns + column)
    last = slots.last
    at: Places = (truths.picture[last], anchor[last], row[last], column[last])
    corner, prior = torch.stack([column, row], 1)[last].to(size.dtype), priors[anchor[last]]
    box = truths.cxcywh[last]                                                          # (S, 4)
    inside = box[:, :2] * size - corner
    if head.location == "anchor":
        inside = (inside - 0.5) / prior
    found = _decode(head, cells.boxes[at], corner, prior, size)
    return _Owned(
        at, slots, truths.label, inside, (wanted[last] / prior).log(), iou(xyxy_of(found), xyxy_of(box)),
        box[:, 2:].prod(1),
    )  # fmt: skip


@torch.no_grad()
def _likeliest(head: Region, cells: _Cells, truths: Targets) -> _Shown:
    """For each class that a picture shows the place where objectness times its probability is highest."""
    shape = cells.boxes.shape[:4]
    best = [
        _log_chance(head, cells, picture, label).argmax()
        for picture, label in zip(truths.picture.tolist(), truths.label.tolist(), strict=True)
    ]
    inside = torch.stack(best) if best else truths.picture                             # (M,) within the picture
    place = truths.picture * shape[1:].numel() + inside
    slots = places(place)
    picture, anchor, row, column = torch.unravel_index(place[slots.last], shape)
    return _Shown((picture, anchor, row, column), slots, truths.label)


def _log_chance(head: Region, cells: _Cells, picture: int, label: int) -> Tensor:
    """The logarithm of objectness times the probability of a class, (A, H, W), for one picture."""
    objectness, classes = cells.boxes[picture, ..., head.coords], cells.classes[picture]
    if head.background:
        return torch.cat([objectness[..., None], classes], -1).log_softmax(-1)[..., 1 + label]
    chance = F.logsigmoid(objectness)
    if head.tree is not None:
        for node in head.tree.path(label):
            group = int(head.tree.starts.searchsorted(node, "right")) - 1
            start, size = int(head.tree.starts[group]), int(head.tree.sizes[group])
            chance = chance + classes[..., start : start + size].log_softmax(-1)[..., node - start]
        return chance
    return chance + (classes.log_softmax(-1)[..., label] if head.softmax else F.logsigmoid(classes[..., label]))


@torch.no_grad()
def _free(head: Region, cells: _Cells, truths: Targets) -> Tensor:
    """The places (B, A, H, W) bool whose box does not overlap any truth by more than the threshold."""
    batch, anchors, rows, columns, _ = cells.boxes.shape
    device, like = cells.boxes.device, cells.boxes
    row, column = torch.meshgrid(
        torch.arange(rows, device=device), torch.arange(columns, device=device), indexing="ij"
    )  # fmt: skip
    corner = torch.stack([column, row], -1).to(like.dtype)                             # (H, W, 2)
    priors = like.new_tensor(head.anchors)[:, None, None]                              # (A, 1, 1, 2)
    boxes = _decode(head, like, corner, priors, like.new_tensor([columns, rows]))      # (B, A, H, W, 4)
    best = best_truths(xyxy_of(boxes).reshape(batch, -1, 4), truths).iou
    return (best <= head.threshold).reshape(batch, anchors, rows, columns)
