"""The primitives of layers.ops as ONNX nodes (opset 18)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from onnx import NodeProto, TensorProto, helper

from lookonce.layers.ops import Pair

OPSET = 18
BATCH = -1                      # the length of an axis that is not known before the graph runs

Shape = tuple[int, ...]


class Value:
    """An edge of the graph: a name and a shape, (BATCH, C, H, W) for what flows, plain for constants."""

    def __init__(self, ops: GraphOps, name: str, shape: Shape) -> None:
        self.ops = ops
        self.name = name
        self.shape = shape

    def __add__(self, other: Value | float) -> Value:
        return self.ops.binary("Add", self, other)

    def __sub__(self, other: Value | float) -> Value:
        return self.ops.binary("Sub", self, other)

    def __mul__(self, other: Value | float) -> Value:
        return self.ops.binary("Mul", self, other)

    def __truediv__(self, other: Value | float) -> Value:
        return self.ops.binary("Div", self, other)


class GraphOps:
    """Collects nodes and constants; every method appends a node and returns the edge that leaves it."""

    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []              # small ones, part of the graph's text
        self.weights: dict[str, np.ndarray] = {}
        self.scope = ""                 # a prefix for names: the layer that is being written
        self._known: dict[tuple[str, Shape, bytes], Value] = {}

    # ------------------------------------------------------------------ building
    def node(self, kind: str, inputs: Sequence[Value | None], shape: Shape, **attributes: Any) -> Value:
        """Append a node with one output of `shape`."""
        name = f"{self.scope}{kind.lower()}_{len(self.nodes)}"
        names = [value.name if value is not None else "" for value in inputs]
        self.nodes.append(helper.make_node(kind, names, [name], name=name, **attributes))
        return Value(self, name, shape)

    def constant(self, value: np.ndarray) -> Value:
        """A constant; equal small ones are kept once."""
        value = np.ascontiguousarray(value)
        key = (str(value.dtype), value.shape, value.tobytes()) if value.size <= 64 else None
        if key is not None and key in self._known:
            return self._known[key]
        name = f"{self.scope}constant_{len(self.constants)}"
        self.constants.append(tensor(name, value))
        result = Value(self, name, value.shape)
        if key is not None:
            self._known[key] = result
        return result

    def parameter(self, name: str, value: np.ndarray) -> Value:
        """One of a layer's arrays, under a name of its own."""
        self.weights[name] = value
        return Value(self, name, value.shape)

    def binary(self, kind: str, x: Value, y: Value | float) -> Value:
        """An elementwise node of two operands, broadcast."""
        if not isinstance(y, Value):
            y = self.constant(np.array(y, np.float32))
        return self.node(kind, [x, y], _broadcast(x.shape, y.shape))

    def _ints(self, *values: int) -> Value:
        return self.constant(np.array(values, np.int64))

    def _same(self, kind: str, x: Value, **attributes: Any) -> Value:
        return self.node(kind, [x], x.shape, **attributes)

    # ------------------------------------------------------------------ linear
    def conv(
        self,
        x: Value,
        weights: Value,
        bias: Value | None,
        stride: Pair,
        padding: Pair,
        dilation: int = 1,
        groups: int = 1,
        binary_gradient: bool = False,
    ) -> Value:
        size = [dilation * (side - 1) + 1 for side in weights.shape[2:]]
        plane = [(x.shape[2 + i] + 2 * padding[i] - size[i]) // stride[i] + 1 for i in (0, 1)]
        inputs = [x, weights] if bias is None else [x, weights, bias]
        return self.node(
            "Conv", inputs, (BATCH, weights.shape[0], *plane), strides=list(stride), pads=[*padding, *padding],
            dilations=[dilation, dilation], group=groups, kernel_shape=list(weights.shape[2:]),
        )  # fmt: skip

    def linear(self, x: Value, weights: Value, bias: Value | None, binary_gradient: bool = False) -> Value:
        inputs = [x, weights] if bias is None else [x, weights, bias]
        return self.node("Gemm", inputs, (BATCH, weights.shape[0]), transB=1)

    def matmul(self, a: Value, b: Value) -> Value:
        return self.node("MatMul", [a, b], (*a.shape[:-1], b.shape[-1]))

    def batch_norm(self, x: Value, scales: Value, biases: Value, mean: Value, variance: Value) -> Value:
        # graph.fold has worked the epsilon into the variance
        return self.node("BatchNormalization", [x, scales, biases, mean, variance], x.shape, epsilon=0.0)

    # ------------------------------------------------------------------ windows and planes
    def max_pool(self, x: Value, size: int, stride: Pair, before: int, after: Pair) -> Value:
        plane = [(x.shape[2 + i] + before + after[i] - size) // stride[i] + 1 for i in (0, 1)]
        return self.node(
            "MaxPool", [x], (*x.shape[:2], *plane), kernel_shape=[size, size], strides=list(stride),
            pads=[before, before, *after],
        )  # fmt: skip

    def mean_pool(self, x: Value) -> Value:
        return self.node("GlobalAveragePool", [x], (*x.shape[:2], 1, 1))

    def upsample(self, x: Value, factor: int) -> Value:
        scales = self.constant(np.array([1, 1, factor, factor], np.float32))
        batch, channels, height, width = x.shape
        return self.node(
            "Resize", [x, None, scales], (batch, channels, height * factor, width * factor), mode="nearest",
            coordinate_transformation_mode="asymmetric", nearest_mode="floor",
        )  # fmt: skip

    def pad(self, x: Value, top: int, left: int, bottom: int, right: int, value: float = 0.0) -> Value:
        if not any((top, left, bottom, right)):
            return x
        batch, channels, height, width = x.shape
        pads = self._ints(0, 0, top, left, 0, 0, bottom, right)
        fill = self.constant(np.array(value, np.float32))
        return self.node("Pad", [x, pads, fill], (batch, channels, height + top + bottom, width + left + right))

    # ------------------------------------------------------------------ axes
    def reshape(self, x: Value, shape: Sequence[int]) -> Value:
        if tuple(shape) == x.shape:
            return x
        return self.node("Reshape", [x, self._ints(*shape)], tuple(shape))

    def permute_dims(self, x: Value, axes: Sequence[int]) -> Value:
        return self.node("Transpose", [x], tuple(x.shape[axis] for axis in axes), perm=list(axes))

    def concat(self, xs: Sequence[Value], axis: int) -> Value:
        shape = list(xs[0].shape)
        shape[axis] = sum(x.shape[axis] for x in xs)
        return self.node("Concat", xs, tuple(shape), axis=axis)

    def slice(self, x: Value, axis: int, start: int, stop: int, step: int = 1) -> Value:
        if (start, step) == (0, 1) and stop == x.shape[axis]:
            return x
        shape = list(x.shape)
        shape[axis] = len(range(start, stop, step))
        bounds = [self._ints(bound) for bound in (start, stop, axis, step)]
        return self.node("Slice", [x, *bounds], tuple(shape))

    def take(self, x: Value, indices: np.ndarray, axis: int) -> Value:
        shape = (*x.shape[:axis], *indices.shape, *x.shape[axis + 1 :])
        return self.node("Gather", [x, self.constant(indices.astype(np.int64))], shape, axis=axis)

    def pad_axis(self, x: Value, axis: int, before: int, after: int, value: float = 0.0) -> Value:
        if not (before or after):
            return x
        rank = len(x.shape)
        pads = [0] * (2 * rank)
        pads[axis], pads[rank + axis] = before, after
        shape = list(x.shape)
        shape[axis] += before + after
        return self.node("Pad", [x, self._ints(*pads), self.constant(np.array(value, np.float32))], tuple(shape))

    # ------------------------------------------------------------------ elements
    def exp(self, x: Value) -> Value:
        return self._same("Exp", x)

    def log(self, x: Value) -> Value:
        return self._same("Log", x)

    def floor(self, x: Value) -> Value:
        return self._same("Floor", x)

    def tanh(self, x: Value) -> Value:
        return self._same("Tanh", x)

    def sigmoid(self, x: Value) -> Value:
        return self._same("Sigmoid", x)

    def softplus(self, x: Value) -> Value:
        return self._same("Softplus", x)

    def relu(self, x: Value) -> Value:
        return self._same("Relu", x)

    def leaky_relu(self, x: Value, slope: float) -> Value:
        return self._same("LeakyRelu", x, alpha=slope)

    def elu(self, x: Value) -> Value:
        return self._same("Elu", x)

    def clip(self, x: Value, least: float, most: float) -> Value:
        bounds = [self.constant(np.array(bound, np.float32)) for bound in (least, most)]
        return self.node("Clip", [x, *bounds], x.shape)

    def maximum(self, x: Value, y: Value) -> Value:
        return self.binary("Max", x, y)

    def minimum(self, x: Value, y: Value) -> Value:
        return self.binary("Min", x, y)

    def quantize(self, x: Value, bits: int = 1, gradient: str = "darknet") -> Value:
        if bits > 1:
            steps = (1 << bits) - 1
            place = (self.clip(x, -1.0, 1.0) + 1.0) * (steps / 2)
            return self.floor(place * -1.0 + 0.5) * (-2 / steps) - 1.0
        zero = self.constant(np.array(0, np.float32))
        positive = self.node("Greater", [x, zero], x.shape)
        one, minus = self.constant(np.array(1, np.float32)), self.constant(np.array(-1, np.float32))
        return self.node("Where", [positive, one, minus], x.shape)

    def softmax(self, x: Value, axis: int) -> Value:
        return self._same("Softmax", x, axis=axis)

    def sum(self, x: Value, axis: int) -> Value:
        shape = list(x.shape)
        shape[axis] = 1
        return self.node("ReduceSum", [x, self._ints(axis)], tuple(shape), keepdims=1)


def tensor(name: str, value: np.ndarray) -> TensorProto:
    """An array as ONNX keeps it."""
    kind = helper.np_dtype_to_tensor_dtype(value.dtype)
    return TensorProto(name=name, dims=value.shape, data_type=kind, raw_data=np.ascontiguousarray(value).tobytes())


def _broadcast(a: Shape, b: Shape) -> Shape:
    """The shape of an elementwise result; an unknown axis stays unknown."""
    rank = max(len(a), len(b))
    pairs = zip((1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b, strict=True)
    return tuple(BATCH if BATCH in pair else max(pair) for pair in pairs)
