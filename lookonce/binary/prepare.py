"""A layer of a network with single-bit weights and inputs, made ready for the kernel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, get_args

import numpy as np

from lookonce.binary import reference
from lookonce.binary.kernel import BinaryConvolution
from lookonce.binary.reference import Activation
from lookonce.binary.thresholds import find_thresholds
from lookonce.errors import EngineError
from lookonce.layers.binary import encode
from lookonce.layers.convolution import Connected, Convolution
from lookonce.layers.normalization import EPSILON, OUTER_EPSILON
from lookonce.network import Node
from lookonce.shapes import Bool, Float32

Arrays = Mapping[str, np.ndarray]


class Affine(NamedTuple):
    """x * scale + shift, one each a channel: a batch norm at rest."""

    scale: Float32[np.ndarray, " C"]
    shift: Float32[np.ndarray, " C"]

    def __call__(self, x: Float32[np.ndarray, "*shape C"]) -> Float32[np.ndarray, "*shape C"]:
        value: np.ndarray = x * self.scale + self.shift
        return value

    def part(self, first: int, end: int) -> Affine:
        """That of the channels first .. end - 1."""
        return Affine(self.scale[first:end].copy(), self.shift[first:end].copy())


class Sign(NamedTuple):
    """The sign that is taken of a layer's result: of what `affine` makes of it, the other one where `inverted`."""

    affine: Affine | None
    inverted: Bool[np.ndarray, " O"]


def batch_norm(arrays: Arrays, *, compat: bool = False) -> Affine:
    """Batch norm as one scale and one shift; with `compat` it has Darknet's outer epsilon."""
    variance = arrays["variance"]
    root = np.sqrt(variance) + np.float32(OUTER_EPSILON) if compat else np.sqrt(variance + np.float32(EPSILON))
    scale = arrays["scales"] / root
    shift = arrays.get("biases", np.float32(0)) - arrays["mean"] * scale
    return Affine(scale.astype(np.float32), shift.astype(np.float32))


def prepare(
    node: Node,
    arrays: Arrays,
    *,
    compat: bool = False,
    flipped: Bool[np.ndarray, " C"] | None = None,
    sign: Sign | None = None,
    path: str | None = None,
) -> BinaryConvolution:
    """The kernel of a layer with `xnor=1` and its arrays; alpha, bias and batch norm become one scale and one shift.

    A [connected] layer is the convolution whose window is the whole picture: it takes pictures too, not flat vectors.
    With `input_scale=1` its results want K as their `factor`. `flipped` are the channels whose bits come in inverted,
    `sign` is what bits are taken of, if not of the results alone. With `compat` batch norm has Darknet's outer epsilon.
    Raises EngineError for what the kernel does not do.
    """
    layer, activation = accepted(node)
    source = node.given[0]
    weights = arrays["weights"]                                                         # (O, C, kh, kw)
    if isinstance(layer, Connected):
        weights = weights.reshape(-1, *source)
    alpha = encode(weights, layer.bits, arrays.get("alpha")).alpha
    scale = np.broadcast_to(np.asarray(alpha, np.float32).reshape(-1), len(weights))
    shift = arrays["biases"]
    if layer.batch_normalize:
        norm = batch_norm(arrays, compat=compat)
        scale, shift = scale * norm.scale, norm.shift
    scale, shift = scale.astype(np.float32), shift.astype(np.float32)
    bits = reference.pack(np.moveaxis(weights, 1, -1))                                  # (O, kh, kw, words)
    if flipped is not None:
        bits = bits ^ reference.pack(flipped.astype(np.float32))                        # a bit differs as before
    stride, dilation, padding = (1, 1), 1, 0
    if isinstance(layer, Convolution):
        stride, dilation, padding = layer.stride, layer.dilation, layer.padding * layer.dilation
    thresholds = None
    if sign is not None:

        def value(sums: np.ndarray) -> np.ndarray:
            result = reference.finish(sums, scale, shift, activation)
            return result if sign.affine is None else sign.affine(result)

        turns = scale < 0 if sign.affine is None else (scale < 0) != (sign.affine.scale < 0)
        thresholds = find_thresholds(weights[0].size, turns, value, sign.inverted)
    try:
        return BinaryConvolution(
            bits, source.channels, stride=stride, padding=padding, dilation=dilation, scale=scale, shift=shift,
            activation=activation, thresholds=thresholds, path=path,
        )  # fmt: skip
    except ValueError as problem:
        raise EngineError(f"{node}: {problem}") from None


def accepted(node: Node) -> tuple[Convolution | Connected, Activation]:
    """A layer that can be run on single bits, and its activation. Raises EngineError for any other."""
    layer = node.layer
    refused = f"{node}: the kernel of single bits does not run it:"
    if not isinstance(layer, Convolution | Connected) or not layer.xnor:
        raise EngineError(f"{refused} its inputs are real; wanted xnor=1")
    if layer.bits.weights > 1 or layer.bits.inputs > 1:
        found = f"weight_bits={layer.bits.weights} and input_bits={layer.bits.inputs}"
        raise EngineError(f"{refused} {found}, wanted 1 and 1")
    if isinstance(layer, Convolution) and layer.groups > 1:
        raise EngineError(f"{refused} groups={layer.groups}, wanted 1")
    for activation in get_args(Activation):
        if activation == layer.activation:
            return layer, activation
    raise EngineError(f"{refused} activation={layer.activation}, wanted linear, leaky or relu")


def is_accepted(node: Node) -> bool:
    """Whether a layer can be run on single bits."""
    try:
        accepted(node)
    except EngineError:
        return False
    return True
