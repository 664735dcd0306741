"""The losses of [softmax], flat and down a WordTree (thesis 2.3, 2.4), of [logistic] and of [cost]."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F  # noqa: N812 - its usual name
from torch import Tensor

from lookonce.errors import CfgError, DataError
from lookonce.heads.classify import Softmax
from lookonce.layers.activation import Logistic
from lookonce.layers.plain import Cost
from lookonce.losses.assign import as_tensors
from lookonce.losses.terms import LossTerms, Moment, logistic, softmax
from lookonce.truth import Targets
from lookonce.wordtree import WordTree

NOWHERE = -1e30             # the logit of a place in a row that no class has


def softmax_loss(layer: Softmax, raw: Tensor, targets: Targets, moment: Moment, smooth: float = 0.0) -> LossTerms:
    """The cross-entropy of [softmax] for what flows into it, (B, C, H, W).

    A picture with several classes shares its truth among them, one without any teaches nothing. `smooth` is label
    smoothing: that share of the truth goes to all classes alike. With a tree each set of siblings is a softmax of its
    own, and only the sets on the way to the class are learnt; so it is with a slice of `groups` that holds no class.
    With `moment.compat` the other sets of a picture are pushed down, as Darknet's CPU code does. Raises CfgError for
    `spatial`.

    Darknet does not divide the delta by the temperature, so the term is multiplied by it.
    """
    refuse_softmax(layer)
    logits = raw.flatten(1) / layer.temperature
    truths = known_classes(targets, logits, logits.shape[1], "[softmax]")
    if layer.tree is not None:
        rows = _tree_rows(layer.tree, logits, truths, moment.compat)
    else:
        rows = _group_rows(layer.groups, logits, _many_hot(truths, logits))
    count = rows.hot.sum(-1, keepdim=True)
    learnt = count > 0                                                                 # (..., 1)
    truth = rows.hot / count.clamp(min=1)
    truth = truth * (1 - smooth) + smooth * rows.inside / rows.inside.sum(-1, keepdim=True)
    term = softmax(rows.logits, truth, learnt.to(raw.dtype))
    value = term.value
    if moment.compat:
        value = value + (rows.logits.logsumexp(-1, keepdim=True) * ~learnt).sum()
    said = -rows.logits.detach().log_softmax(-1) * ((truth > 0) & learnt)
    return LossTerms(classes=layer.temperature * value, printed=said.sum())


def logistic_loss(layer: Logistic, raw: Tensor, targets: Targets, moment: Moment, smooth: float = 0.0) -> LossTerms:
    """The binary cross-entropy of [logistic] for what flows into it: a picture has any number of classes, or none."""
    logits = raw.flatten(1)
    truths = known_classes(targets, logits, logits.shape[1], "[logistic]")
    truth = _smoothed(_many_hot(truths, logits), smooth)
    value = logistic(logits, truth).value
    return LossTerms(classes=value, printed=value.detach())


def cost_loss(layer: Cost, raw: Tensor, truth: Targets | Tensor, moment: Moment, smooth: float = 0.0) -> LossTerms:
    """The loss of [cost] for what flows into it: `truth` is a vector a picture, (B, n), or its classes as ones.

    Half of Darknet's squares, whose delta is the plain difference. Raises CfgError for what needs more than that:
    types masked, seg and wgan, and the options ratio and thresh.
    """
    refuse_cost(layer)
    answer = raw.flatten(1)
    if isinstance(truth, Targets):
        wanted = _many_hot(known_classes(truth, answer, answer.shape[1], "[cost]"), answer)
    else:
        wanted = truth.to(answer).reshape(answer.shape)
    away = _smoothed(wanted, smooth) - answer
    if layer.type == "sse":
        value, printed = away.square().sum() / 2, away.square().sum()
    elif layer.type == "L1":
        value = printed = away.abs().sum()
    else:
        value = F.smooth_l1_loss(away, torch.zeros_like(away), reduction="sum")
        printed = 2 * value
    return LossTerms(classes=layer.scale * value, printed=printed.detach())


# ---------------------------------------------------------------------- what cannot be learnt
def refuse_softmax(layer: Softmax) -> None:
    """Raises CfgError for a [softmax] that pictures with labels cannot teach."""
    if layer.spatial:
        raise CfgError("[softmax] spatial=1 cannot be learnt: it wants a class for every place of a picture")


def refuse_cost(layer: Cost) -> None:
    """Raises CfgError for a [cost] that asks for more than is computed here."""
    if layer.type not in ("sse", "smooth", "L1"):
        raise CfgError(f"[cost] type={layer.type} cannot be learnt here; wanted sse, smooth or L1")
    for name, value in (("ratio", layer.ratio), ("thresh", layer.thresh)):
        if value:
            raise CfgError(f"[cost] {name}={value:g} cannot be learnt here; wanted 0, to learn from every difference")


# ---------------------------------------------------------------------- truths as vectors
def known_classes(targets: Targets, like: Tensor, classes: int, where: str) -> Targets:
    """The rows as tensors, like `like`. Raises DataError for a class that a layer with so many, `where`, has not."""
    truths = as_tensors(targets, like)
    if len(truths) and not 0 <= int(truths.label.min()) <= int(truths.label.max()) < classes:
        wrong = int(truths.label[(truths.label < 0) | (truths.label >= classes)][0])
        raise DataError(
            f"a truth is of class {wrong:,}, wanted 0 to {classes - 1:,}: {where} has {classes:,} classes. "
            "Are the dataset and the cfg of one another?"
        )
    return truths


def _many_hot(truths: Targets, like: Tensor) -> Tensor:
    """The classes of each picture as ones among zeros, shaped as `like` (B, n)."""
    hot = torch.zeros_like(like)
    hot[truths.picture, truths.label] = 1
    return hot


def _smoothed(truth: Tensor, smooth: float) -> Tensor:
    """(1 - s)·truth + s/n over the last axis, of n."""
    return truth * (1 - smooth) + smooth / truth.shape[-1] if smooth else truth


class Family(NamedTuple):
    """The siblings of each of N nodes of a tree, filled up to S.

    `members` (N, S) numbers them, 0 where `inside` (N, S) is false; `place` (N,) is the node's own among them; `group`
    (N,) numbers the set.
    """

    members: Tensor
    inside: Tensor
    place: Tensor
    group: Tensor

    @classmethod
    def of(cls, tree: WordTree, node: Tensor) -> Family:
        starts, sizes = (torch.from_numpy(array).to(node.device) for array in (tree.starts, tree.sizes))
        group = torch.searchsorted(starts, node, right=True) - 1
        start, slot = starts[group][:, None], torch.arange(int(tree.sizes.max()), device=node.device)
        inside = slot < sizes[group][:, None]
        return cls(torch.where(inside, start + slot, 0), inside, node - start[:, 0], group)


def ways(tree: WordTree, label: Tensor) -> tuple[Tensor, Tensor]:
    """Each of the M labels and all nodes above it, label by label: its row, and the node, (N,) each."""
    parent = torch.from_numpy(tree.parent).to(label.device)
    row, node = torch.arange(len(label), device=label.device), label
    rows, nodes = [row], [node]
    while len(node):
        above = parent[node]
        row, node = row[above >= 0], above[above >= 0]
        rows.append(row)
        nodes.append(node)
    order = torch.cat(rows).argsort(stable=True)
    return torch.cat(rows)[order], torch.cat(nodes)[order]


def reach(tree: WordTree, slot: Tensor, label: Tensor, hot: Tensor) -> Tensor:
    """Carry M labels up and find how far they reach, where nodes are learnt independently at S places.

    `slot` (M,) is the place of each label. In `hot` (S, K) the labels and all nodes above them are set to 1. Returns
    (S, K): 1 for the nodes that the labels say something of, 0 for those below a label, of which nothing is known (a
    dog is no cat, but may be a terrier).
    """
    row, node = ways(tree, label)
    hot[slot[row], node] = 1
    below = torch.zeros_like(hot, dtype=torch.bool)
    below[slot, label] = True
    parent = torch.from_numpy(tree.parent).to(label.device)
    for level in tree.levels[1:]:
        nodes = torch.from_numpy(level).to(label.device)
        below[:, nodes] |= below[:, parent[nodes]]
    return (~below | (hot > 0)).to(hot.dtype)


class _Rows(NamedTuple):
    """Softmaxes: `logits` (..., S), ones where a class is true, `hot`, and whether there is a class, `inside`."""

    logits: Tensor
    hot: Tensor
    inside: Tensor


def _group_rows(groups: int, logits: Tensor, hot: Tensor) -> _Rows:
    shape = (-1, groups, logits.shape[1] // groups)
    return _Rows(logits.reshape(shape), hot.reshape(shape), torch.ones_like(hot).reshape(shape))


def _tree_rows(tree: WordTree, logits: Tensor, truths: Targets, every: bool) -> _Rows:
    """The sets of siblings on the way to a picture's classes, or with `every` all of them: a row each."""
    row, node = ways(tree, truths.label)
    hot = torch.zeros_like(logits)
    hot[truths.picture[row], node] = 1
    starts = torch.from_numpy(tree.starts).to(logits.device)
    if every:
        keys = torch.arange(len(logits) * len(starts), device=logits.device)
    else:
        keys = torch.unique(truths.picture[row] * len(starts) + Family.of(tree, node).group)
    picture, family = keys[:, None] // len(starts), Family.of(tree, starts[keys % len(starts)])
    filled = logits[picture, family.members].masked_fill(~family.inside, NOWHERE)
    return _Rows(filled, hot[picture, family.members] * family.inside, family.inside.to(logits.dtype))
