"""A layer of a network with single-bit weights and inputs, made ready for the kernel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import get_args

import numpy as np

from lookonce.binary import reference
from lookonce.binary.kernel import BinaryConvolution
from lookonce.binary.reference import Activation
from lookonce.errors import EngineError
from lookonce.layers.binary import encode
from lookonce.layers.convolution import Connected, Convolution
from lookonce.layers.normalization import EPSILON, OUTER_EPSILON
from lookonce.network import Node


def prepare(
    node: Node, arrays: Mapping[str, np.ndarray], *, compat: bool = False, path: str | None = None
) -> BinaryConvolution:
    """The kernel of a layer with `xnor=1` and its arrays; alpha, bias and batch norm become one scale and one shift.

    A [connected] layer is the convolution whose window is the whole picture: it takes pictures too, not flat vectors.
    With `compat` batch norm has Darknet's outer epsilon. Raises EngineError for what the kernel does not do.
    """
    layer, activation = _accepted(node)
    source = node.given[0]
    weights = arrays["weights"]                                                         # (O, C, kh, kw)
    if isinstance(layer, Connected):
        weights = weights.reshape(-1, *source)
    alpha = encode(weights, layer.bits, arrays.get("alpha")).alpha
    scale = np.broadcast_to(np.asarray(alpha, np.float32).reshape(-1), len(weights))
    shift = arrays["biases"]
    if layer.batch_normalize:
        variance = arrays["variance"]
        root = np.sqrt(variance) + np.float32(OUTER_EPSILON) if compat else np.sqrt(variance + np.float32(EPSILON))
        factor = arrays["scales"] / root
        scale, shift = scale * factor, shift - arrays["mean"] * factor
    bits = reference.pack(np.moveaxis(weights, 1, -1))                                  # (O, kh, kw, words)
    stride, dilation, padding = (1, 1), 1, 0
    if isinstance(layer, Convolution):
        stride, dilation, padding = layer.stride, layer.dilation, layer.padding * layer.dilation
    try:
        return BinaryConvolution(
            bits, source.channels, stride=stride, padding=padding, dilation=dilation, scale=scale.astype(np.float32),
            shift=shift.astype(np.float32), activation=activation, path=path,
        )  # fmt: skip
    except ValueError as problem:
        raise EngineError(f"{node}: {problem}") from None


def _accepted(node: Node) -> tuple[Convolution | Connected, Activation]:
    """A layer that can be run on single bits, and its activation. Raises EngineError for any other."""
    layer = node.layer
    refused = f"{node}: the kernel of single bits does not run it:"
    if not isinstance(layer, Convolution | Connected) or not layer.xnor:
        raise EngineError(f"{refused} its inputs are real; wanted xnor=1")
    if layer.bits.weights > 1 or layer.bits.inputs > 1:
        found = f"weight_bits={layer.bits.weights} and input_bits={layer.bits.inputs}"
        raise EngineError(f"{refused} {found}, wanted 1 and 1")
    if layer.bits.input_scale:
        raise EngineError(f"{refused} input_scale=1 multiplies each place by a number of its own")
    if isinstance(layer, Convolution) and layer.groups > 1:
        raise EngineError(f"{refused} groups={layer.groups}, wanted 1")
    for activation in get_args(Activation):
        if activation == layer.activation:
            return layer, activation
    raise EngineError(f"{refused} activation={layer.activation}, wanted linear, leaky or relu")
