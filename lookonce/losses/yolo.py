"""The loss of [yolo]: YOLOv3 (thesis 3.1-3.4), as Darknet's deltas are, with what the fork and others add."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lookonce.errors import DataError
from lookonce.heads.head import FARTHEST, cell_corners, finite_exp, sigmoid
from lookonce.heads.yolo import Yolo
from lookonce.losses import assign
from lookonce.losses.classify import reach
from lookonce.losses.overlap import limited, overlap, overlaps
from lookonce.losses.terms import LossTerms, Moment, Term, half_square, logistic
from lookonce.truth import Targets


class Assignment(NamedTuple):
    """Which S boxes of a head learn to be an object, and which are background.

    `picture`, `anchor`, `row` and `column` (S,) say which boxes; `truth` (S, 4), cxcywh, is what each is drawn to;
    `overlap` (S,) is their IOU as the box is now; `classes` (S, K) is 1 for each class of its truths, else 0, and
    `learnt` (S, K) 1 where these say something. `free` (B, A, H, W) is 1 for background, else 0.
    """

    picture: Tensor
    anchor: Tensor
    row: Tensor
    column: Tensor
    truth: Tensor
    overlap: Tensor
    classes: Tensor
    learnt: Tensor
    free: Tensor


class Shown(NamedTuple):
    """Which S boxes learn what their pictures show: `place` (S,) in (B, A, H, W), `classes` and `learnt` (S, K)."""

    place: Tensor
    classes: Tensor
    learnt: Tensor


def yolo_loss(
    head: Yolo, raw: Tensor, targets: Targets, moment: Moment, mine: Tensor | None = None
) -> LossTerms:
    """The terms of one head for what flows into it, `raw` (B, C, H, W), as Darknet's (yolo_layer.c).

    A truth belongs to the cell of its centre and to the anchor whose shape fits it best among all of the network; if
    that anchor is not of this head, the truth is another head's. Its box is drawn to it, by (2 - w·h) more the smaller
    it is; objectness to 1 and classes to what it is. Of truths that share a box the last one draws it, and it has the
    classes of all. Other boxes are background, unless one overlaps a truth by more than `ignore_threshold`; by more
    than `truth_threshold` it learns that truth too.

    A row that says what a picture shows and not where is ours, after the thesis's joint training (2.4.3): the box that
    is likeliest to show it learns its class, and its objectness is drawn to .3 if it is less. In such a picture nothing
    is background, for it may show other things too. Of several heads only one has that box: `mine` (M,) says of which
    rows it is this one, of all if it is None. With a `tree` a label holds for all nodes above it, is a no to all that
    lie elsewhere, and says nothing of those below.

    With `rescore`, our own here and as in [region] and [detection], objectness is drawn to the IOU of the box as
    it is now instead of 1: who is sure of the object and not of its place gets a lower score.

    Of the fork: `iou_threshold`, `label_smooth` and the normalizers. `cls_normalizer` counts always (in the fork only
    beside counters_per_class). `focal` multiplies the cross-entropy of a box's classes by g(p)/2,
    g = (1 - p)(1 - p - 2p·ln p) with p the probability of its true class, held fixed: the gradient is the fork's, which
    is of no other function. Truths that share a box do not add up as there, and background does not ask for classes.

    With an `iou_loss` the terms of the box are one, `overlap`, without the factor for small boxes. Its gradient goes
    all the way to `raw`. The fork's stops at the box: it lacks the slope of the sigmoid and 1 / grid at x and y, and
    the anchor's size at w and h, and so is many times as large; its iou_normalizer and max_delta are made for that.
    With `compat` the gradient is the fork's way.

    Sums over the batch. Raises DataError for a class that the head does not have.
    """
    raw = raw.float() if raw.dtype in (torch.float16, torch.bfloat16) else raw
    grid = head_grid(head, raw)
    own = assign_truths(head, grid, targets, moment)
    box = grid[own.picture, own.anchor, :, own.row, own.column]           # (S, 5+K)
    # With new_coords the layer before has put everything through a sigmoid: its slope comes after these deltas.
    toward = half_square if head.new_coords else logistic
    objects = toward(box[:, 4], own.overlap if head.rescore else 1.0, head.obj_normalizer)
    hot, learnt, says = own.classes, own.learnt, box[:, 5:]
    shown = find_shown(head, grid, targets, mine)
    if len(shown.place):
        likely = grid.permute(0, 1, 3, 4, 2).flatten(0, 3)[shown.place]   # (S', 5+K)
        known = likely[:, 4].detach() if head.new_coords else likely[:, 4].detach().sigmoid()
        objects += toward(likely[:, 4], assign.ASSUMED_IOU, head.obj_normalizer * (known < assign.ASSUMED_IOU))
        hot, learnt = torch.cat([hot, shown.classes]), torch.cat([learnt, shown.learnt])
        says = torch.cat([says, likely[:, 5:]])
    classes = hot * (1 - head.label_smooth) + head.label_smooth / 2
    weight = learnt * head.cls_normalizer
    return LossTerms.of(
        **_box_terms(head, box[:, :4], own, moment),
        objects=objects,
        background=toward(grid[:, :, 4], 0.0, head.obj_normalizer * own.free),
        classes=toward(says, classes, _focal(head, says, hot) * weight if head.focal else weight),
    )


def head_grid(head: Yolo, raw: Tensor) -> Tensor:
    """What flows into a head, (B, C, H, W), by anchor: (B, A, 5+K, H, W)."""
    batch, _, rows, columns = raw.shape
    return raw.reshape(batch, len(head.mask), 5 + head.classes, rows, columns)


@torch.no_grad()
def assign_truths(head: Yolo, grid: Tensor, targets: Targets, moment: Moment) -> Assignment:
    """Which boxes of `grid` (B, A, 5+K, H, W) learn which truth. Raises DataError for a class that there is not."""
    batch, anchors, _, rows, columns = grid.shape
    rows_of_truth = assign.as_tensors(targets, grid)
    _check_classes(head, rows_of_truth)
    known = assign.with_boxes(rows_of_truth)
    truth = assign.take(rows_of_truth, known & (rows_of_truth.cxcywh[:, 2:] > 0).all(1))

    boxes = _all_boxes(head, grid, moment)                                # (B, A·H·W, 4)
    best = assign.best_truths(boxes, truth)
    free = best.iou <= head.ignore_threshold                              # (B, A·H·W)
    free[rows_of_truth.picture[~known]] = False

    # Each claim is a box, by its place in (B, A, H, W), and a row of the truth; a later claim wins.
    number, anchor = _anchors_of(head, truth, moment)                     # (P,)
    column, row = (cell[number] for cell in assign.cell_of(truth, columns, rows))
    place = ((truth.picture[number] * anchors + anchor) * rows + row) * columns + column
    if head.truth_threshold < 1:
        (near,) = torch.nonzero(best.iou.flatten() > head.truth_threshold, as_tuple=True)
        place, number = torch.cat([near, place]), torch.cat([best.row.flatten()[near], number])
    slots = assign.places(place)
    place = place[slots.last]                                             # (S,)
    free.view(-1)[place] = False
    classes, learnt = _taught(head, slots, truth.label[number], grid)
    wanted = truth.cxcywh[number[slots.last]]
    return Assignment(
        picture=place // (anchors * rows * columns),
        anchor=place // (rows * columns) % anchors,
        row=place // columns % rows,
        column=place % columns,
        truth=wanted,
        overlap=overlaps(boxes.flatten(0, 1)[place], assign.xyxy_of(wanted)),
        classes=classes,
        learnt=learnt,
        free=free.view(batch, anchors, rows, columns).to(grid.dtype),
    )


@torch.no_grad()
def find_shown(head: Yolo, grid: Tensor, targets: Targets, mine: Tensor | None = None) -> Shown:
    """The boxes of `grid` (B, A, 5+K, H, W) that are likeliest to show what pictures are only said to show."""
    rows = assign.as_tensors(targets, grid)
    wanted = ~assign.with_boxes(rows)
    rows = assign.take(rows, wanted if mine is None else wanted & mine)
    place = rows.picture * grid[0, :, 0].numel() + likeliest(head, grid, rows)[1]
    slots = assign.places(place)
    return Shown(place[slots.last], *_taught(head, slots, rows.label, grid))


@torch.no_grad()
def likeliest(head: Yolo, grid: Tensor, rows: Targets) -> tuple[Tensor, Tensor]:
    """For each class that a picture shows the highest objectness times probability, (M,), and its place (M,) in A·H·W.

    `rows` are tensors.
    """
    best = [
        _chance(head, grid[picture], label).flatten().max(0)
        for picture, label in zip(rows.picture.tolist(), rows.label.tolist(), strict=True)
    ]
    none = grid.new_zeros(0), rows.picture[:0]
    values = torch.stack([each.values for each in best]) if best else none[0]
    return values, torch.stack([each.indices for each in best]) if best else none[1]


# ---------------------------------------------------------------------- assignment
def _taught(head: Yolo, slots: assign.Slots, label: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """What labels (M,) teach the boxes that they found, (S, K) each: their classes, and where they say something."""
    classes = like.new_zeros(len(slots.last), head.classes)
    classes[slots.slot, label] = 1
    if head.tree is None:
        return classes, torch.ones_like(classes)
    return classes, reach(head.tree, slots.slot, label, classes)


def _chance(head: Yolo, cells: Tensor, label: int) -> Tensor:
    """Objectness times the probability of a class, (A, H, W), for one picture (A, 5+K, H, W)."""
    way = [label] if head.tree is None else head.tree.path(label)
    said = cells[:, [4, *(5 + node for node in way)]]                     # (A, 1+P, H, W)
    known = said if head.new_coords else said.sigmoid()
    return known[:, 0] * known[:, 1:].amin(1)


def _all_boxes(head: Yolo, grid: Tensor, moment: Moment) -> Tensor:
    """Every box of the grid, (B, A·H·W, 4) xyxy relative to the picture."""
    _, _, _, rows, columns = grid.shape
    corner = torch.as_tensor(cell_corners(rows, columns), dtype=grid.dtype, device=grid.device)[None]
    size = grid.new_tensor([columns, rows]).view(2, 1, 1)
    prior = _priors(head, grid, moment)[:, :, None, None]                 # (A, 2, 1, 1)
    centre = head.centre(_inside(head, grid[:, :, :2]), corner, size, prior)                # (B, A, 2, H, W)
    half = head.extent(finite_exp, grid[:, :, 2:4], prior) / 2
    return torch.cat([centre - half, centre + half], 2).permute(0, 1, 3, 4, 2).flatten(1, 3)


def _anchors_of(head: Yolo, truth: Targets, moment: Moment) -> tuple[Tensor, Tensor]:
    """Which truths (P,) are this head's, in their order, and which anchor of its mask (P,) each is for."""
    every = truth.cxcywh.new_tensor(head.anchors) / truth.cxcywh.new_tensor(moment.input)   # (num, 2)
    mask = torch.tensor(head.mask, device=every.device)                   # (A,)
    fit = assign.shape_iou(truth.cxcywh[:, 2:], every)                    # (M, num)
    mine = fit.argmax(1)[:, None] == mask                                 # (M, A)
    if head.iou_threshold < 1:
        mine |= fit[:, mask] > head.iou_threshold
    number, anchor = torch.nonzero(mine, as_tuple=True)
    return number, anchor


def _check_classes(head: Yolo, truth: Targets) -> None:
    if len(truth) and not 0 <= int(truth.label.min()) <= int(truth.label.max()) < head.classes:
        wrong = truth.label[(truth.label < 0) | (truth.label >= head.classes)][0]
        raise DataError(
            f"a truth is of class {int(wrong)}, wanted 0 to {head.classes - 1}: [yolo] has classes={head.classes}. "
            f"Are the dataset and the cfg of one another?"
        )


# ---------------------------------------------------------------------- terms
def _box_terms(head: Yolo, t: Tensor, own: Assignment, moment: Moment) -> dict[str, Term]:
    """What draws boxes, `t` (S, 4) as they come from the network, to their truths."""
    corner = torch.stack([own.column, own.row], 1).to(t.dtype)            # (S, 2)
    size = t.new_tensor([[own.free.shape[3], own.free.shape[2]]])         # (1, 2)
    prior = _priors(head, t, moment)[own.anchor]                          # (S, 2)
    if head.iou_loss != "mse":
        return {"overlap": _overlap(head, t, own, corner, size, prior, compat=moment.compat)}
    centre, extent = own.truth[:, :2], own.truth[:, 2:]
    scale = head.iou_normalizer * (2 - extent.prod(1, keepdim=True))      # (S, 1)
    wanted = (extent / prior / 4).sqrt() if head.new_coords else (extent / prior).log()
    size_term = half_square(t[:, 2:], wanted, scale)
    if head.location == "anchor":
        away = (centre - (corner + 0.5) / size) / prior
        return {"centre": half_square(t[:, :2], away, scale), "extent": size_term}
    inside = centre * size - corner                                       # (S, 2), in cells
    if head.location == "linear":
        return {"centre": half_square(t[:, :2], inside, scale), "extent": size_term}
    # Darknet's delta is that of s·σ - (s-1)/2 toward `inside`: of σ toward this, s times.
    stretch = head.scale_x_y
    inside = (inside + (stretch - 1) / 2) / stretch
    toward = half_square if head.new_coords else logistic
    return {"centre": toward(t[:, :2], inside, scale * stretch), "extent": size_term}


def _overlap(
    head: Yolo, t: Tensor, own: Assignment, corner: Tensor, size: Tensor, prior: Tensor, *, compat: bool
) -> Term:
    """The IOU loss of boxes `t` (S, 4) that lie in the cells `corner` and have the anchors `prior`."""
    centre = head.centre(_inside(head, t[:, :2]), corner, size, prior)
    extent = head.extent(finite_exp, t[:, 2:], prior)
    if compat:
        centre = _sloped(centre, t[:, :2])
        extent = _sloped(extent, t[:, 2:] if head.new_coords else finite_exp(t[:, 2:]))
    boxes = torch.cat([centre - extent / 2, centre + extent / 2], 1)
    term = overlap(boxes, assign.xyxy_of(own.truth), head.iou_loss, head.iou_normalizer)
    return term if math.isinf(head.max_delta) else Term(limited(term.value, t, head.max_delta), term.squares)


def _inside(head: Yolo, t: Tensor) -> Tensor:
    """x and y as `head.centre` takes them."""
    if head.location != "direct":
        return t.clamp(-FARTHEST, FARTHEST)
    return t if head.new_coords else sigmoid(t)


def _sloped(value: Tensor, slope: Tensor) -> Tensor:
    """`value` with the gradient of `slope`."""
    return value.detach() + (slope - slope.detach())


def _focal(head: Yolo, logits: Tensor, classes: Tensor) -> Tensor:
    """The weight (S, 1) of each box's classes, from the probability of its true class; the lowest where it has several.

    (1 - p)(1 - p - 2p·ln p)/2: about a half for a class not seen yet, 0 for one that is certain.
    """
    known = logits.detach() if head.new_coords else logits.detach().sigmoid()
    p = torch.where(classes > 0, known, 1.0).amin(1, keepdim=True).clamp(min=1e-15)
    return (1 - p) * (1 - p - 2 * p * p.log()) / 2


def _priors(head: Yolo, like: Tensor, moment: Moment) -> Tensor:
    """The anchors of the head's mask, (A, 2), relative to the network's input."""
    return torch.as_tensor(head.priors(moment.input), dtype=like.dtype, device=like.device)
