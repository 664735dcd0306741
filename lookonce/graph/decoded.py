"""A detector as an ONNX graph for strangers: boxes, scores and NMS inside."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from lookonce.errors import CfgError
from lookonce.graph.build import Graph, finish, trace
from lookonce.graph.ops import GraphOps, Value
from lookonce.model import Model

LARGEST = 2**31 - 1


def build_decoded(model: Model) -> Graph:
    """The graph of a detector with plain per-class NMS at the model's own thresholds.

    Input `images` as of graph.build. Outputs: `boxes` (B, N, 4), every box as left, top, right, bottom relative to
    the network's input; `scores` (B, N, K), of every box and class; `detections` (M, 7), the boxes that NMS keeps:
    picture, left, top, right, bottom, score, class. A box whose objectness does not pass the threshold has no score
    that does, since a score is at most its objectness. Raises CfgError for a model without boxes, or with a tree, whose
    answers are no table of scores.
    """
    where = model.network.cfg.path
    if not model.network.heads:
        raise CfgError(f"{where}: has no boxes to decode; export it without --decoded")
    if model.tree is not None:
        raise CfgError(f"{where}: answers down a tree, which no ONNX operator walks; export it without --decoded")
    traced = trace(model)
    ops = traced.ops
    ops.scope = "decode/"
    size = (model.network.input.width, model.network.input.height)
    pairs = [head.dense(ops, traced.outputs[node.sources[0]], size) for node, head in model.network.heads]
    boxes = ops.concat([pair[0] for pair in pairs], 1)                      # (B, N, 4)
    scores = ops.concat([pair[1] for pair in pairs], 1)                     # (B, N, K)
    kept = _nms(ops, boxes, scores, model.thresholds.score, model.thresholds.nms)
    outputs = [("boxes", boxes), ("scores", scores), ("detections", kept)]
    return finish(traced, [(name, value, TensorProto.FLOAT) for name, value in outputs])


def _nms(ops: GraphOps, boxes: Value, scores: Value, threshold: float, overlap: float) -> Value:
    """The rows (M, 7) of `detections`."""
    by_class = ops.permute_dims(scores, (0, 2, 1))                          # (B, K, N)
    limits = [
        ops.constant(np.array([LARGEST], np.int64)),
        ops.constant(np.array([overlap], np.float32)),
        ops.constant(np.array([threshold], np.float32)),
    ]
    kept = ops.node("NonMaxSuppression", [boxes, by_class, *limits], (-1, 3))          # picture, class, box
    picture, label, box = (ops.reshape(ops.slice(kept, 1, i, i + 1), (-1, 1)) for i in range(3))
    where = ops.concat([picture, box], 1)                                   # (M, 2)
    corners = ops.node("GatherND", [boxes, where], (-1, 4))                 # (M, 4)
    score = ops.node("GatherND", [by_class, kept], (-1,))                   # (M,)
    columns = [
        ops.node("Cast", [picture], (-1, 1), to=TensorProto.FLOAT),
        corners,
        ops.reshape(score, (-1, 1)),
        ops.node("Cast", [label], (-1, 1), to=TensorProto.FLOAT),
    ]
    return ops.concat(columns, 1)
