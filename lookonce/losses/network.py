"""Which layer of a network has which loss, and their sum."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Literal

import torch
from torch import Tensor

from lookonce.errors import CfgError
from lookonce.heads.classify import Softmax
from lookonce.heads.detection import Detection
from lookonce.heads.region import Region
from lookonce.heads.yolo import Yolo
from lookonce.layers.activation import Logistic
from lookonce.layers.plain import Cost
from lookonce.losses.assign import as_tensors, take, with_boxes
from lookonce.losses.classify import cost_loss, logistic_loss, refuse_cost, refuse_softmax, softmax_loss
from lookonce.losses.detection import detection_loss
from lookonce.losses.region import region_loss
from lookonce.losses.terms import Loss, LossTerms, Moment
from lookonce.losses.yolo import head_grid, likeliest, yolo_loss
from lookonce.network import Network, Node
from lookonce.network.learning import learning_of
from lookonce.truth import Targets

LOW = (torch.float16, torch.bfloat16)


class NetworkLoss:
    """The losses of a network's heads and of its [softmax], [logistic] and [cost].

    `wanted` are the layers whose outputs feed them, -1 for the batch itself. A [cost] right after a layer with a loss
    of its own, as some of Darknet's cfgs still have it, is none. Raises CfgError, also if nothing is left to learn
    from.
    """

    def __init__(self, network: Network) -> None:
        self.kind: Literal["detector", "classifier", "other"] = network.kind
        self._losses: list[tuple[int, Loss]] = []
        self._yolos: dict[int, Yolo] = {}
        smooth = [each.smooth for each in learning_of(network)]
        others = network.options.label_smooth_eps
        own: set[int] = set()
        for node in network.nodes:
            if isinstance(node.layer, Cost) and node.sources[0] in own:
                continue
            try:
                loss = _loss_of(node, smooth[node.index], others)
            except CfgError as problem:
                raise CfgError(f"{network.cfg.path}:{node.line}: {problem}") from None
            if loss is not None:
                own.add(node.index)
                if isinstance(node.layer, Yolo):
                    self._yolos[len(self._losses)] = node.layer
                self._losses.append((node.sources[0], loss))
        if not self._losses:
            raise CfgError(
                f"{network.cfg.path}: has nothing to learn from; wanted a [yolo], [region] or [detection] head, or a "
                "[softmax], [logistic] or [cost] layer at its end"
            )
        self.wanted: tuple[int, ...] = tuple(dict.fromkeys(source for source, _ in self._losses))

    def __call__(self, outputs: Mapping[int, Tensor], targets: Targets, moment: Moment) -> LossTerms:
        """The sum of all losses, in float32 at least; `printed` is Darknet's, their mean."""
        total = LossTerms()
        raw = {source: each.float() if each.dtype in LOW else each for source, each in outputs.items()}
        mine = self._shared_out(raw, targets)
        for number, (source, loss) in enumerate(self._losses):
            more = {"mine": mine[number]} if number in mine else {}
            total = total + loss(raw[source], targets, moment, **more)
        assert total.printed is not None
        return replace(total, printed=total.printed / len(self._losses))

    @torch.no_grad()
    def _shared_out(self, raw: Mapping[int, Tensor], targets: Targets) -> dict[int, Tensor]:
        """Of several [yolo], by number, the rows (M,) without a box that are each's: the likeliest box is among its."""
        if len(self._yolos) < 2:
            return {}
        found: list[Tensor] = []
        for number, head in self._yolos.items():
            said = raw[self._losses[number][0]]
            rows = as_tensors(targets, said)
            boxed = with_boxes(rows)
            if bool(boxed.all()):
                return {}
            best = said.new_full((len(rows),), -1)
            best[~boxed] = likeliest(head, head_grid(head, said), take(rows, ~boxed))[0]
            found.append(best)
        winner = torch.stack(found).argmax(0)                             # (M,)
        return {number: winner == place for place, number in enumerate(self._yolos)}


def _loss_of(node: Node, smooth: float, others: float) -> Loss | None:
    """The loss that a layer is, or None. Raises CfgError if it is one that cannot be learnt here.

    `smooth` is the layer's label smoothing. Where a classifier has none, [net] may say by `others` what the other
    classes share of the truth, as the fork does.
    """
    match node.layer:
        case Yolo() as head:
            return partial(yolo_loss, head)
        case Region() as head:
            return partial(region_loss, head)
        case Detection() as head:
            return partial(detection_loss, head)
        case Softmax(noloss=False) as layer:
            refuse_softmax(layer)
            count = node.given[0].size
            smooth = smooth or min(1.0, others * count / max(1, count - 1))
            return partial(softmax_loss, layer, smooth=smooth)
        case Logistic() as layer:
            return partial(logistic_loss, layer, smooth=smooth)
        case Cost() as layer:
            refuse_cost(layer)
            return partial(cost_loss, layer, smooth=smooth)
    return None
