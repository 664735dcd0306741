"""Batch norm and binarization worked into the weights before a graph is written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from lookonce.layers.binary import Bits, encode
from lookonce.layers.convolution import Connected, Convolution, bits_of
from lookonce.layers.normalization import EPSILON, OUTER_EPSILON, BatchNorm
from lookonce.network import Node

Arrays = Mapping[str, np.ndarray]


def fold(node: Node, arrays: Arrays, compat: bool) -> tuple[Node, Arrays]:
    """The same layer without batch norm, its weights of single bits made so: one multiplication a weight less to run.

    With `compat` as Darknet's CPU code does it: the root of the variance plus 1e-6, and `binary=1` ignored. A
    [batchnorm] of its own stays, the epsilon worked into its variance.
    """
    layer = node.layer
    bits = bits_of(layer, compat=compat)
    if bits is not None:
        arrays = {**arrays, "weights": binarize(arrays["weights"], bits, arrays.get("alpha"))}
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


def binarize(weights: np.ndarray, bits: Bits | None = None, learned: np.ndarray | None = None) -> np.ndarray:
    """Each filter's weights in few bits, by default plus or minus their mean magnitude (thesis eq. 4.6).

    0 counts as negative. `learned` are the alphas (O,) of `alpha=learned`.
    """
    coded = encode(weights, bits or Bits(), learned)
    whole: np.ndarray = coded.codes * coded.alpha
    return whole.astype(np.float32)


def _deviation(variance: np.ndarray, compat: bool) -> np.ndarray:
    outer: np.ndarray = np.sqrt(variance) + np.float32(OUTER_EPSILON)
    inner: np.ndarray = np.sqrt(variance + np.float32(EPSILON))
    return outer if compat else inner
