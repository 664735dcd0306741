"""Model -> ONNX: one graph with raw heads, for our engines; any layer can be tapped."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import onnx
from onnx import TensorProto, helper

from lookonce.graph.fold import fold
from lookonce.graph.ops import BATCH, OPSET, GraphOps, Value, tensor
from lookonce.model import Model
from lookonce.network import PICTURES, Node

IR_VERSION = 9                  # of the time of opset 18: runtimes of 2023 and later read it
INPUT = "images"


@dataclass(frozen=True)
class Graph:
    """An ONNX graph whose weights are kept apart, as numpy arrays by name, so that an engine need not copy them.

    `nodes` is the model without weights: they are inputs beside those that flow in. `proto` is the usual ONNX model.
    """

    nodes: onnx.ModelProto
    weights: Mapping[str, np.ndarray]

    def proto(self) -> onnx.ModelProto:
        """The whole as one ONNX model."""
        whole = onnx.ModelProto()
        whole.CopyFrom(self.nodes)
        given = [value for value in whole.graph.input if value.name not in self.weights]
        del whole.graph.input[:]
        whole.graph.input.extend(given)
        for name, value in self.weights.items():
            whole.graph.initializer.append(tensor(name, value))
        return whole


class Traced(NamedTuple):
    """A network written as nodes: the edges that enter, and the edge that leaves each layer."""

    ops: GraphOps
    inputs: list[Value]
    outputs: dict[int, Value]


def build(model: Model, *, compat: bool = False, taps: Collection[int] = ()) -> Graph:
    """The graph of a model.

    Input `images`: (B, C, H, W) float32 in [0, 1], B free. Outputs: what flows into each head, `head_N` for the head
    that is layer N, since heads are decoded outside, where only a few cells matter; for a network without heads what
    its last layer puts out, `output`. Then, for each layer N of `taps`, `layer_N`: what Darknet's layer N puts out.
    With `compat` the arithmetic is that of Darknet's CPU code (graph.fold).
    """
    heads = [node for node, _ in model.network.heads]
    wanted = [(f"head_{node.index}", node.sources[0]) for node in heads]
    wanted = wanted or [("output", model.network.output.index)]
    wanted += [(f"layer_{index}", index) for index in taps]
    traced = trace(model, compat=compat, last=max(index for _, index in wanted))
    return finish(traced, [(name, traced.outputs[index], TensorProto.FLOAT) for name, index in wanted])


def trace(model: Model, *, compat: bool = False, last: int | None = None) -> Traced:
    """The layers of a model up to number `last` as nodes, batch norm folded."""
    ops = GraphOps()
    images = Value(ops, INPUT, (BATCH, *model.network.input))
    nodes = [node for node in model.network.nodes if last is None or node.index <= last]
    return Traced(ops, [images], _written(ops, model, nodes, {PICTURES: images}, compat))


def _written(
    ops: GraphOps, model: Model, nodes: Iterable[Node], before: Mapping[int, Value], compat: bool
) -> dict[int, Value]:
    """These layers as nodes: the edges by layer, with those `before` them."""
    compat = compat and not model.network.cfg.fork          # the fork has neither accident of graph.fold
    outputs = dict(before)
    for node in nodes:
        node, arrays = fold(node, model.weights[node.index], compat)
        ops.scope = f"{node.index:03d}_{node.layer.section}/"
        weights = {name: ops.parameter(f"{ops.scope}{name}", array) for name, array in arrays.items()}
        outputs[node.index] = node.forward(ops, [outputs[source] for source in node.sources], weights)
    return outputs


def build_segment(
    model: Model,
    layers: Iterable[Node],
    *,
    pictures: bool,
    entering: Sequence[int],
    leaving: Sequence[int],
    outputs: Sequence[int],
    compat: bool = False,
) -> Graph:
    """Some layers of a model, in order, with sources among themselves or what enters.

    Inputs: `images` as of `build` if `pictures`; for each layer N of `entering`, `layer_N` (B, H, W, C). Outputs: for
    each of `leaving` what it puts out, (B, H, W, C), then for each of `outputs` the same as (B, C, H, W). Layer -1 is
    what the network is given.
    """
    ops, inputs, before = GraphOps(), [], {}
    if pictures:
        inputs.append(Value(ops, INPUT, (BATCH, *model.network.input)))
        before[PICTURES] = inputs[0]
    for index in entering:
        channels, height, width = model.network.nodes[index].shape
        inputs.append(Value(ops, f"layer_{index}", (BATCH, height, width, channels)))
        before[index] = ops.permute_dims(inputs[-1], (0, 3, 1, 2))
    found = _written(ops, model, layers, before, compat)
    wanted = [(f"rows_{index}", ops.permute_dims(found[index], (0, 2, 3, 1))) for index in leaving]
    wanted += [(f"output_{index}", found[index]) for index in outputs]
    return finish(Traced(ops, inputs, found), [(name, value, TensorProto.FLOAT) for name, value in wanted])


def finish(traced: Traced, outputs: Sequence[tuple[str, Value, int]]) -> Graph:
    """The graph of a traced network with the given outputs: name, edge, element type.

    Only what an output needs is in it: nobody reads what heads make of the values that flow into them.
    """
    ops = traced.ops
    nodes, named = list(ops.nodes), []
    for name, value, kind in outputs:
        nodes.append(helper.make_node("Identity", [value.name], [name], name=name))
        named.append(helper.make_tensor_value_info(name, kind, [_length(length) for length in value.shape]))
    needed, kept = {name for name, _, _ in outputs}, []
    for node in reversed(nodes):                            # every node stands after those that it reads
        if not needed.isdisjoint(node.output):
            needed.update(node.input)
            kept.append(node)
    weights = {name: value for name, value in ops.weights.items() if name in needed}
    given = [
        helper.make_tensor_value_info(value.name, TensorProto.FLOAT, [_length(length) for length in value.shape])
        for value in traced.inputs
    ]
    given += [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in weights.items()
    ]
    graph = helper.make_graph(kept[::-1], "lookonce", given, named)
    graph.initializer.extend(constant for constant in ops.constants if constant.name in needed)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], producer_name="lookonce")
    model.ir_version = IR_VERSION
    return Graph(model, weights)


def _length(length: int) -> int | str:
    return "batch" if length == BATCH else length
