from __future__ import annotations

import numpy as np
import onnx
import pytest
from conftest import model_of, run_layers

from lookonce.engines import open_engine
from lookonce.graph import build, build_segment
from lookonce.graph.decoded import build_decoded
from lookonce.graph.fold import binarize, fold

NET = "[net]\nwidth=16\nheight=12\nchannels=3\n"
CONV = "[convolutional]\nfilters=8\nsize=3\nstride=2\npad=1\nbatch_normalize=1\nactivation=leaky\n"
YOLO = "[convolutional]\nfilters=21\nsize=1\nactivation=linear\n[yolo]\nclasses=2\nnum=3\nanchors=1,2,3,4,5,6\n"
ENGINES = ["openvino", "onnxruntime"]


def test_the_outputs_are_what_flows_into_the_heads() -> None:
    graph = build(model_of(NET + CONV + YOLO + "[route]\nlayers=0\n" + YOLO))
    outputs = {output.name: [d.dim_value or d.dim_param for d in output.type.tensor_type.shape.dim]
               for output in graph.proto().graph.output}  # fmt: skip
    assert outputs == {"head_2": ["batch", 21, 6, 8], "head_5": ["batch", 21, 6, 8]}


def test_a_network_without_heads_puts_out_its_last_layer_but_no_cost() -> None:
    graph = build(model_of(NET + CONV + "[avgpool]\n[softmax]\n[cost]\n"))
    assert [output.name for output in graph.proto().graph.output] == ["output"]
    assert open_engine(graph)(np.zeros((1, 3, 12, 16), np.float32))[0].sum() == pytest.approx(1)


def test_the_whole_is_a_valid_onnx_model_with_its_weights_inside() -> None:
    graph = build(model_of(NET + CONV + YOLO))
    proto = graph.proto()
    onnx.checker.check_model(proto, full_check=True)
    assert [value.name for value in proto.graph.input] == ["images"]
    assert {value.name for value in graph.nodes.graph.input} == {"images", *graph.weights}
    assert sum(weights.size for weights in graph.weights.values()) == 8 * 27 + 8 + 21 * 8 + 21


def test_nothing_is_in_a_graph_that_no_output_needs() -> None:
    """Heads are decoded outside, so what they would put out themselves is not computed; a tap asks for it."""
    model = model_of(NET + CONV + YOLO + "[route]\nlayers=0\n" + YOLO)
    for graph in (build(model), build(model, taps=[2]), build_decoded(model)):
        proto = graph.proto().graph
        read = {name for node in proto.node for name in node.input} | {output.name for output in proto.output}
        assert all(read & set(node.output) for node in proto.node)
        assert {constant.name for constant in proto.initializer} <= read
    kinds = [node.op_type for node in build(model).nodes.graph.node]
    assert "Sigmoid" not in kinds
    assert "Sigmoid" in [node.op_type for node in build(model, taps=[2]).nodes.graph.node]


def test_weights_that_no_output_needs_are_left_out() -> None:
    """Layer 1 is read by nobody."""
    graph = build(model_of(NET + CONV + CONV + "[route]\nlayers=0\n" + YOLO))
    assert {name.split("_")[0] for name in graph.weights} == {"000", "003"}
    assert {value.name for value in graph.nodes.graph.input} == {"images", *graph.weights}
    assert open_engine(graph)(np.zeros((1, 3, 12, 16), np.float32))[0].shape == (1, 21, 6, 8)


def test_batch_norm_is_folded_away() -> None:
    kinds = [node.op_type for node in build(model_of(NET + CONV + YOLO)).nodes.graph.node]
    assert "BatchNormalization" not in kinds


@pytest.mark.parametrize("engine", ENGINES)
def test_a_batch_gives_each_picture_its_own_answer(engine: str) -> None:
    """As many pictures as one likes, in one graph; each as if it were alone, to float rounding."""
    run = open_engine(build(model_of(NET + CONV + YOLO)), engine)  # type: ignore[arg-type]
    batch = np.random.default_rng(0).random((5, 3, 12, 16), np.float32)
    together = run(batch)[0].copy()
    for number, picture in enumerate(batch):
        np.testing.assert_allclose(run(picture[None])[0][0], together[number], rtol=1e-5, atol=1e-6)
    assert run(batch[:2])[0].shape == (2, 21, 6, 8)


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("engine", ENGINES)
def test_segments_one_after_the_other_are_the_whole(engine: str, batch: int) -> None:
    """Between them channels come last; the second reads two layers, and puts one out that the first has made."""
    model = model_of(NET + CONV + CONV + "[upsample]\nstride=2\n[route]\nlayers=-1,0\n" + CONV)
    nodes = model.network.nodes
    first = build_segment(model, nodes[:2], pictures=True, entering=(), leaving=(-1, 0, 1), outputs=())
    second = build_segment(model, nodes[2:], pictures=False, entering=(0, 1), leaving=(), outputs=(4, 0))
    x = np.random.default_rng(0).random((batch, 3, 12, 16), np.float32)
    rows = [value.copy() for value in open_engine(first, engine).run({"images": x})]  # type: ignore[arg-type]
    assert [value.shape[1:] for value in rows] == [(12, 16, 3), (6, 8, 8), (3, 4, 8)]
    np.testing.assert_array_equal(rows[0], x.transpose(0, 2, 3, 1))
    found = open_engine(second, engine).run({"layer_0": rows[1], "layer_1": rows[2]})  # type: ignore[arg-type]
    layers = run_layers(model, x, engine=engine)
    for value, wanted in zip(found, (layers[4], layers[0]), strict=True):
        np.testing.assert_allclose(value, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("engine", ENGINES)
def test_any_layer_can_be_tapped(engine: str) -> None:
    """Tap by tap the same as all at once; a head's own output is activated."""
    model = model_of(NET + CONV + YOLO)
    x = np.random.default_rng(0).random((2, 3, 12, 16), np.float32)
    layers = run_layers(model, x, engine=engine)
    for index, layer in enumerate(layers):
        tapped = open_engine(build(model, taps=[index]), engine)(x)[-1]  # type: ignore[arg-type]
        np.testing.assert_allclose(tapped, layer, rtol=1e-5, atol=1e-6)
    objectness = layers[2][:, [4, 11, 18]]
    np.testing.assert_allclose(objectness, 1 / (1 + np.exp(-layers[1][:, [4, 11, 18]])), rtol=1e-4)


def test_both_epsilons_are_where_they_should_be() -> None:
    """A variance near 1e-5 shows where the epsilon stands: inside the root, or outside as in Darknet's CPU code."""
    model = model_of(NET + CONV)
    arrays = {name: array.copy() for name, array in model.weights[0].items()}
    arrays["variance"][:] = 4e-6
    _, inside = fold(model.network.nodes[0], arrays, compat=False)
    _, outside = fold(model.network.nodes[0], arrays, compat=True)
    factor = arrays["scales"][:, None, None, None]
    np.testing.assert_allclose(inside["weights"], arrays["weights"] * factor / np.sqrt(4e-6 + 1e-5), rtol=1e-5)
    np.testing.assert_allclose(outside["weights"], arrays["weights"] * factor / (np.sqrt(4e-6) + 1e-6), rtol=1e-5)


def test_binarized_weights_are_their_mean_magnitude_with_their_sign() -> None:
    weights = np.array([[[[1.0, -3.0]]], [[[0.0, 2.0]]]], np.float32)
    np.testing.assert_array_equal(binarize(weights), [[[[2, -2]]], [[[-1, 1]]]])


def test_the_graph_of_a_model_is_always_the_same() -> None:
    model = model_of(NET + CONV + YOLO)
    assert build(model).proto().SerializeToString() == build(model).proto().SerializeToString()
