"""Batch norm and binarization worked into the weights before a graph is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from lookonce.layers.convolution import Connected, Convolution
from lookonce.layers.normalization import EPSILON, OUTER_EPSILON, BatchNorm
from lookonce.network import Node

Arrays = Mapping[str, np.ndarray]


def fold(node: Node, arrays: Arrays, compat: bool) -> tuple[Node, Arrays]:
    """The same layer without batch norm, its weights of single bits made so: one multiplication a weight less to run.

    With `compat` as Darknet's CPU code does it: the root of the variance plus 1e-6, and `binary=1` ignored. A
    [batchnorm] of its own stays, the epsilon worked into its variance.
    """
    layer = node.layer
    if isinstance(layer, Convolution) and (layer.xnor or (layer.binary and not compat)):
        arrays = {**arrays, "weights": binarize(arrays["weights"])}
    if isinstance(layer, BatchNorm):
        return node, {**arrays, "variance": _deviation(arrays["variance"], compat) ** 2}
    if not (isinstance(layer, Convolution | Connected) and layer.batch_normalize):
        return node, arrays
    factor = arrays["scales"] / _deviation(arrays["variance"], compat)                      # (O,)
    weights = arrays["weights"]
    folded = {
        "weights": weights * factor.reshape(-1, *[1] * (weights.ndim - 1)),
        "biases": arrays["biases"] - arrays["mean"] * factor,
    }
    return replace(node, layer=replace(layer, batch_normalize=False)), folded


def binarize(weights: np.ndarray) -> np.ndarray:
    """Each filter's weights as plus or minus their mean magnitude (thesis eq. 4.6); 0 counts as negative."""
    mean = np.abs(weights).mean(axis=tuple(range(1, weights.ndim)), keepdims=True)
    signed: np.ndarray = np.where(weights > 0, mean, -mean)
    return signed.astype(np.float32)


def _deviation(variance: np.ndarray, compat: bool) -> np.ndarray:
    outer: np.ndarray = np.sqrt(variance) + np.float32(OUTER_EPSILON)
    inner: np.ndarray = np.sqrt(variance + np.float32(EPSILON))
    return outer if compat else inner
