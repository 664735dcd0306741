"""Networks of single bits on the engine of bits, against the same networks as graphs of floats and as torch modules.

Each test runs with the compiled kernel, where it was built, and without it.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import DETECTOR, model_of, network_of, run_layers

import lookonce
from lookonce import benchmark
from lookonce.binary import kernel, pack, plan, prepare
from lookonce.engines import EngineKind, available_engines, available_precisions, engine_of, open_engine
from lookonce.errors import CfgError, EngineError
from lookonce.graph import build
from lookonce.layers.convolution import Convolution
from lookonce.model import Model, open_network
from lookonce.network import Network
from lookonce.nn.binary import in_few_bits
from lookonce.nn.ops import TorchOps

COMPILED, PROBLEM = kernel.compiled()
UNIT = np.float32(1) - np.float32(1e-5)             # the variance whose root with the inner epsilon is 1, exactly


@pytest.fixture(params=["compiled", "reference"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """With the compiled kernel, and as if it had not been built."""
    if request.param == "compiled" and COMPILED is None:
        pytest.skip(f"needs the compiled kernel: {PROBLEM} (native/CMakeLists.txt)")
    if request.param == "reference":
        monkeypatch.delenv(kernel.VARIABLE, raising=False)
        monkeypatch.setattr(kernel, "compiled", lambda: kernel.Compiled(None, "it was not built"))
    return str(request.param)


def exact_model(network: Network, seed: int = 0) -> Model:
    """Weights with which floats are exact: small multiples of powers of 2, batch norms that divide by 1.

    So sums hit thresholds exactly, and no order of additions moves a value across one. Batch norms rise and fall.
    """
    model = model_of(network.cfg.text, seed)
    rng = np.random.default_rng(seed)
    for node, arrays in zip(model.network.nodes, model.weights, strict=True):
        single = isinstance(node.layer, Convolution) and node.layer.xnor
        for name, array in arrays.items():
            if name == "weights":
                array[...] = rng.choice([-0.5, 0.5], array.shape) if single else rng.integers(-2, 3, array.shape) / 2
            elif name == "scales":
                array[...] = rng.choice([-2, -1, -0.5, 0.5, 1, 2], array.shape)
            elif name == "variance":
                array[...] = UNIT
            else:
                array[...] = rng.integers(-8, 9, array.shape) / 2
    return model


def exact_pictures(network: Network, batch: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(-8, 9, (batch, *network.input)).astype(np.float32) / 4


def assert_same(model: Model, pictures: np.ndarray, *, compat: bool = False) -> None:
    """The engine of bits puts out what ONNX Runtime makes of the graph of floats."""
    engines: tuple[EngineKind, ...] = ("binary", "onnxruntime")
    found, wanted = (engine_of(model, engine, threads=1, compat=compat)(pictures) for engine in engines)
    assert len(found) == len(wanted)
    for one, other in zip(found, wanted, strict=True):
        assert one.shape == other.shape
        most = np.abs(other).max()
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5 * most, err_msg=model.network.cfg.text)


# ---------------------------------------------------------------------- whole networks
def drawn(seed: int) -> Network:
    """A network with layers of single bits among all that may stand beside them."""
    rng = np.random.default_rng(seed)

    def one_of(*values: object) -> str:
        return str(values[int(rng.integers(len(values)))])

    text = f"[net]\nwidth={rng.integers(1, 13)}\nheight={rng.integers(1, 13)}\nchannels=3\nletter_box=1\n"
    if rng.random() < 0.7:
        text += f"[convolutional]\nfilters={one_of(8, 64, 70)}\nsize=3\npad=1\nactivation=relu\nbatch_normalize=1\n"
    count = 0
    while count < 9:
        single = (
            f"[convolutional]\nxnor=1\nfilters={one_of(5, 64, 64, 70)}\nsize={one_of(1, 2, 3, 3)}\n"
            + one_of("pad=1\n", "pad=1\n", "padding=2\n", "")
            + one_of("", "", "stride=2\n", "dilation=2\n", "stride_x=2\n")
            + one_of("", "batch_normalize=1\n")
            + f"activation={one_of('linear', 'linear', 'leaky', 'relu')}\n"
        )
        other = one_of(
            "[batchnorm]\n", "[batchnorm]\n", "[maxpool]\nsize=2\nstride=2\n", "[maxpool]\nsize=3\nstride=1\n",
            "[upsample]\nstride=2\n", "[shortcut]\nfrom=-2\nactivation=linear\n", "[route]\nlayers=-1,-2\n",
            "[route]\nlayers=-2\n", "[dropout]\n", "[route]\nlayers=-1\ngroups=2\ngroup_id=1\n",
            "[shortcut]\nfrom=-3\nactivation=leaky\n",
            "[convolutional]\nfilters=6\nsize=1\nactivation=linear\n",
            "[convolutional]\nxnor=1\ninput_bits=2\nfilters=6\nsize=1\nactivation=linear\n",
        )  # fmt: skip
        longer = text + one_of(single, single, other)
        try:
            network_of(longer)
        except CfgError:
            continue
        text, count = longer, count + 1
    return network_of(text)


@pytest.mark.parametrize("block", range(6))
def test_drawn_networks_put_out_what_their_graphs_do(block: int) -> None:
    """Sums and values hit thresholds exactly, batch norms fall, pictures have from 1 x 1 to 12 x 12 pixels."""
    tried = 0
    for seed in range(8 * block, 8 * block + 8):
        network = drawn(seed)
        if not plan_exists(network):
            continue
        tried += 1
        assert_same(exact_model(network, seed), exact_pictures(network, 1 + seed % 2, seed))
    assert tried >= 5


def plan_exists(network: Network) -> bool:
    try:
        plan(Model.random(network))
    except EngineError:
        return False
    return True


TRUNK = """[net]
width=24
height=16
channels=3
{dialect}[convolutional]
filters=70
size=3
pad=1
batch_normalize=1
activation=leaky
[maxpool]
size=2
stride=2
{middle}[convolutional]
filters=5
size=1
activation=linear
"""
SINGLE = "[convolutional]\nxnor=1\nfilters=70\nsize=3\npad=1\nactivation={}\n{}"
LINEAR, LEAKY = SINGLE.format("linear", ""), SINGLE.format("leaky", "batch_normalize=1\n")
SCALED = SINGLE.format("linear", "input_scale=1\n")
NORM, POOL, AGAIN = "[batchnorm]\n", "[maxpool]\nsize=3\nstride=2\n", "[maxpool]\nsize=2\nstride=1\npadding=1\n"
MIDDLES = {
    "blocks of batch norm, sign, convolution, pool": (NORM + LINEAR + POOL) * 2 + NORM + LEAKY,
    "two pools between": NORM + LINEAR + POOL + AGAIN + NORM + LINEAR,
    "a pool before and after a batch norm": LINEAR + POOL + NORM + AGAIN + LINEAR,
    "leaky before a falling batch norm": LEAKY + NORM + LINEAR + NORM + SINGLE.format("relu", "") + NORM + LINEAR,
    "residual": NORM + LINEAR + LINEAR + "[shortcut]\nfrom=-4\nactivation=linear\n" + NORM + LINEAR + LINEAR
    + "[shortcut]\nfrom=-4\nactivation=linear\n",
    "K": NORM + SCALED + NORM + SCALED + SCALED,
    "K of a pool": SCALED + POOL + NORM + SCALED,
    "K, strides and dilated": SCALED.replace("pad=1", "padding=2\nstride_x=2\ndilation=2") * 2,
    "connected": NORM + "[connected]\nxnor=1\ninput_scale=1\noutput=40\nactivation=relu\nbatch_normalize=1\n"
    + "[connected]\nxnor=1\noutput=30\nactivation=linear\n",
    "signs joined and repeated": LINEAR + "[convolutional]\nxnor=1\nfilters=64\nsize=1\nactivation=linear\n"
    + "[maxpool]\nsize=2\nstride=2\n[upsample]\nstride=2\n[route]\nlayers=-1,-4\n" + NORM + LINEAR,
    "learned magnitudes": LINEAR.replace("xnor=1", "xnor=1\nalpha=learned") + SINGLE.format("linear", "alpha=none\n"),
}  # fmt: skip


@pytest.mark.parametrize("dialect", ["", "letter_box=1\n"], ids=["original", "fork"])
@pytest.mark.parametrize("name", MIDDLES)
def test_what_stands_between_layers_of_single_bits_is_worked_into_them(name: str, dialect: str) -> None:
    network = network_of(TRUNK.format(dialect=dialect, middle=MIDDLES[name]))
    assert_same(exact_model(network), exact_pictures(network, 2))


def test_darknets_epsilon_is_used_on_demand() -> None:
    network = network_of(TRUNK.format(dialect="", middle=NORM + SCALED))
    model = model_of(network.cfg.text)
    for arrays in model.weights:
        if "variance" in arrays:
            arrays["variance"] *= 1e-6                  # so small that it matters where the epsilon stands
    pictures = np.random.default_rng(0).random((1, *network.input), np.float32)
    assert_same(model, pictures, compat=True)
    inner, outer = (engine_of(model, "binary", compat=compat)(pictures)[0] for compat in (False, True))
    assert np.abs(inner - outer).max() > 0.1 * np.abs(outer).max()


# ---------------------------------------------------------------------- layer by layer
@pytest.mark.parametrize(("name", "size"), [("resnet18-xnor", 64), ("yolov3-tiny-xnor", 96)])
def test_every_sum_is_that_of_the_torch_simulation(name: str, size: int) -> None:
    """Each layer of single bits, given what the graph's layers before it put out: torch's sums, as whole numbers."""
    network = open_network(name).resized(size, size)
    model = model_of(network.cfg.text)
    pictures = np.random.default_rng(0).random((1, *network.input), np.float32)
    outputs, layers = run_layers(model, pictures), 0
    for node in network.nodes:
        if not (isinstance(node.layer, Convolution) and node.layer.xnor):
            continue
        bare = replace(node.layer.bits, alpha="none", input_scale=False)
        simple = replace(node, layer=replace(node.layer, bits=bare, batch_normalize=False, activation="linear"))
        x, arrays = outputs[node.sources[0]], model.weights[node.index]
        tensors = {key: torch.from_numpy(arrays[key]) for key in ("weights", "biases")}
        tensors["biases"] = torch.zeros_like(tensors["biases"])
        wanted = simple.forward(TorchOps(), [torch.from_numpy(x)], in_few_bits(simple, tensors, False))
        rows = np.ascontiguousarray(x.transpose(0, 2, 3, 1))
        found = prepare(node, arrays).counts(pack(rows))
        assert np.array_equal(found.transpose(0, 3, 1, 2), wanted.numpy()), node
        layers += 1
    assert layers >= 10


@pytest.mark.parametrize(("name", "size"), [("resnet18-xnor", 64), ("yolov3-tiny-xnor", 96), ("alexnet-xnor", 99)])
def test_networks_of_the_zoo_put_out_nearly_what_their_graphs_do(name: str, size: int) -> None:
    """A value within rounding of 0 may have another sign here, and a few values after it are others then."""
    model = model_of(open_network(name).resized(size, size).cfg.text)
    pictures = np.random.default_rng(0).random((2, *model.network.input), np.float32)
    engines: tuple[EngineKind, ...] = ("binary", "onnxruntime")
    found, wanted = (engine_of(model, engine, threads=1)(pictures) for engine in engines)
    for one, other in zip(found, wanted, strict=True):
        apart = np.abs(one - other) > 1e-3 * np.abs(other).max()
        assert apart.mean() < 0.02, f"{apart.mean():.1%} are others"


# ---------------------------------------------------------------------- what is not a number
def test_the_sign_of_what_is_not_a_number_is_minus() -> None:
    text = "[net]\nwidth=6\nheight=6\nchannels=3\n" + LINEAR + NORM + LINEAR
    model = exact_model(network_of(text))
    pictures = exact_pictures(model.network, 2)
    holes = np.random.default_rng(1).random(pictures.shape) < 0.2
    run = engine_of(model, "binary")
    wanted = run(np.where(holes, np.float32(-1), pictures))[0].copy()
    np.testing.assert_array_equal(run(np.where(holes, np.float32(np.nan), pictures))[0], wanted)
    assert np.isfinite(wanted).all()


def test_k_of_what_is_not_a_number_is_none_for_the_windows_that_see_it() -> None:
    model = exact_model(network_of("[net]\nwidth=6\nheight=6\nchannels=3\n" + SCALED))
    pictures = exact_pictures(model.network, 1)
    pictures[0, 1, 0, 5] = np.nan
    found = engine_of(model, "binary")(pictures)[0]
    seen = np.zeros((6, 6), bool)
    seen[:2, 4:] = True
    np.testing.assert_array_equal(np.isnan(found), np.broadcast_to(seen, found.shape))


# ---------------------------------------------------------------------- as an engine
@pytest.mark.parametrize("batch", [1, 3])
def test_threads_do_not_disturb_each_other(batch: int) -> None:
    """Eight threads, one engine, different pictures: every answer is that of a call alone, bit for bit."""
    model = model_of(TRUNK.format(dialect="", middle=MIDDLES["residual"] + MIDDLES["K"]))
    run = engine_of(model, "binary")
    pictures = np.random.default_rng(0).random((8, batch, *model.network.input), np.float32)
    alone = [run(picture)[0].copy() for picture in pictures]
    wrong = []

    def work(number: int) -> None:
        for turn in range(10):
            which = (number + turn) % 8
            if not np.array_equal(run(pictures[which])[0], alone[which]):
                wrong.append(which)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_batches_may_change_from_call_to_call() -> None:
    network = network_of(TRUNK.format(dialect="", middle=MIDDLES["residual"]))
    run = engine_of(exact_model(network), "binary", threads=2)
    pictures = exact_pictures(network, 5)
    whole = run(pictures)[0].copy()
    for first, end in ((0, 1), (1, 4), (4, 5), (0, 5)):
        np.testing.assert_array_equal(run(pictures[first:end])[0], whole[first:end])


def test_it_says_how_it_computes(way: str) -> None:
    model = model_of(TRUNK.format(dialect="", middle=LINEAR))
    run = engine_of(model, "binary", threads=1)
    assert (run.name, run.precision) == ("binary", "f32")
    beside = open_engine(build(model))
    slow = "by the reference in NumPy, slowly (the compiled kernel is missing: it was not built),"
    how = slow if way == "reference" else kernel.choose().path
    assert run.version == f"{how} beside {beside.name} {beside.version}"


def test_onnx_runtime_runs_what_is_real_where_openvino_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lookonce.engines.engine.available_engines", lambda: ("onnxruntime",))
    network = network_of(TRUNK.format(dialect="", middle=MIDDLES["residual"]))
    model = exact_model(network)
    assert "beside onnxruntime" in engine_of(model, "binary").version
    assert_same(model, exact_pictures(network, 2))


def test_detectors_and_classifiers_run_on_it(tmp_path: Path) -> None:
    text = TRUNK.format(dialect="", middle=NORM + LINEAR).replace("filters=5", "filters=21")
    head = "[yolo]\nclasses=2\nnum=3\nanchors=8,8,16,24,40,30\n"
    for name, end in (("detector", head), ("classifier", "[avgpool]\n[softmax]\n")):
        path = tmp_path / f"{name}.cfg"
        path.write_text(text + end)
        answers = []
        for engine in ("binary", "openvino"):
            run = lookonce.load(path, "random", engine=engine)  # type: ignore[arg-type]
            answers.append(run.runner([np.full((30, 40, 3), 99, np.uint8)]).outputs[0].copy())
            assert f", {engine} " in str(run.runner)
        np.testing.assert_allclose(*answers, rtol=1e-3, atol=1e-3)


def test_it_is_measured_like_the_others(way: str) -> None:
    assert available_precisions("binary") == ("f32",)
    model = model_of(TRUNK.format(dialect="", middle=LINEAR))
    figures = benchmark.measure(model, engines=["binary", "onnxruntime"], precisions=["f32"], threads=1, seconds=0.01)
    assert [figure.engine for figure in figures] == ["binary", "onnxruntime"]
    floats = available_engines()
    assert available_engines(model) == ((*floats, "binary") if way == "compiled" else floats)
    assert available_engines(model_of(DETECTOR)) == floats


def test_what_cannot_be_done_is_said() -> None:
    single = model_of(TRUNK.format(dialect="", middle=LINEAR))
    with pytest.raises(EngineError, match=r"^test.cfg: has no layer .* single bits \(xnor=1\); wanted engine openv"):
        engine_of(model_of(DETECTOR), "binary")
    with pytest.raises(EngineError, match="^engine binary has no bf16, which turns signs round; wanted precision f32"):
        engine_of(single, "binary", "bf16")
    with pytest.raises(EngineError, match="^threads=0: wanted a whole number"):
        engine_of(single, "binary", threads=0)
    with pytest.raises(EngineError, match="^engine binary runs a model, not its graph"):
        open_engine(build(single), "binary")
    single.weights[2]["biases"][3] = np.inf
    with pytest.raises(EngineError, match=r"^layer 2 \[convolutional\]: shift is not finite for filter 3$"):
        engine_of(single, "binary")
