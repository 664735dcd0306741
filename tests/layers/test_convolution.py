"""[convolutional], [connected] and [local] against loops over windows, batch norm and single bits included."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import model_of, network_of, run_layers

from lookonce.darknet.cfg import Cfg
from lookonce.engines import EngineKind, available_engines
from lookonce.errors import CfgError
from lookonce.model import Model
from lookonce.network import Network


def net(section: str, shape: tuple[int, ...]) -> str:
    """A cfg of one layer for an input of (channels, height, width)."""
    channels, height, width = shape[-3:]
    return f"[net]\nchannels={channels}\nheight={height}\nwidth={width}\n" + section.replace(" ", "\n")


def picture(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)


def run(section: str, x: np.ndarray, engine: EngineKind = "onnxruntime") -> tuple[dict[str, np.ndarray], np.ndarray]:
    """The layer's random weights, and its output."""
    model = model_of(net(section, x.shape))
    return dict(model.weights[0]), run_layers(model, x, engine=engine)[0]


def close(found: np.ndarray, wanted: np.ndarray) -> None:
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max())


def convolved(
    x: np.ndarray,
    weights: np.ndarray,
    stride: tuple[int, int] = (1, 1),
    padding: int = 0,
    dilation: int = 1,
    groups: int = 1,
) -> np.ndarray:
    """Filter by filter and window by window, in float64; each filter sees the channels of its group only."""
    filters, channels, size, _ = weights.shape
    padded = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (padding, padding), (padding, padding)))
    reach = dilation * (size - 1) + 1
    rows = (padded.shape[2] - reach) // stride[0] + 1
    columns = (padded.shape[3] - reach) // stride[1] + 1
    out = np.zeros((len(x), filters, rows, columns))
    for number in range(filters):
        first = number // (filters // groups) * channels
        for row in range(rows):
            for column in range(columns):
                top, left = row * stride[0], column * stride[1]
                window = padded[:, first : first + channels, top : top + reach, left : left + reach]
                window = window[:, :, ::dilation, ::dilation]
                out[:, number, row, column] = (window * weights[number]).sum(axis=(1, 2, 3))
    return out


def per_channel(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float64).reshape(1, -1, 1, 1)


# ---------------------------------------------------------------------- [convolutional]
CONVOLUTIONS = [
    ("size=1", {}),
    ("size=3", {}),
    ("size=3 pad=1", {"padding": 1}),
    ("size=5 pad=1", {"padding": 2}),
    ("size=4 pad=1", {"padding": 2}),
    ("size=3 padding=2", {"padding": 2}),
    ("size=3 pad=1 padding=2", {"padding": 1}),                  # pad=1 overrides pixels
    ("size=1 pad=1", {}),
    ("size=3 stride=2 pad=1", {"stride": (2, 2), "padding": 1}),
    ("size=2 stride=3", {"stride": (3, 3)}),
    ("size=3 stride_x=2 pad=1", {"stride": (1, 2), "padding": 1}),
    ("size=3 stride=3 stride_y=1", {"stride": (1, 3)}),
    ("size=3 stride_x=1 stride_y=2 pad=1", {"stride": (2, 1), "padding": 1}),
    ("size=3 groups=2 pad=1", {"groups": 2, "padding": 1}),
    ("size=3 groups=4 stride=2", {"groups": 4, "stride": (2, 2)}),
    ("size=1 groups=4", {"groups": 4}),
    ("size=3 dilation=2", {"dilation": 2}),
    ("size=3 dilation=2 pad=1", {"dilation": 2, "padding": 2}),  # the fork pads by pad times dilation
    ("size=2 dilation=3 stride=2", {"dilation": 3, "stride": (2, 2)}),
    ("size=1 dilation=4 padding=1", {"padding": 1}),             # one pixel cannot be dilated
    ("size=3 dilation=2 groups=2 pad=1", {"dilation": 2, "padding": 2, "groups": 2}),
]


@pytest.mark.parametrize("engine", available_engines())
@pytest.mark.parametrize(("options", "meaning"), CONVOLUTIONS, ids=[options for options, _ in CONVOLUTIONS])
def test_a_convolution_equals_a_loop_over_its_windows(
    options: str, meaning: dict[str, Any], engine: EngineKind
) -> None:
    x = picture(2, 4, 9, 7)
    weights, out = run(f"[convolutional] filters=8 activation=linear {options}", x, engine)
    close(out, convolved(x, weights["weights"], **meaning) + per_channel(weights["biases"]))


def test_a_convolution_of_one_pixel_high_pictures() -> None:
    x = picture(1, 3, 1, 6)
    weights, out = run("[convolutional] filters=2 size=3 pad=1 activation=linear", x)
    close(out, convolved(x, weights["weights"], padding=1) + per_channel(weights["biases"]))


def test_a_convolution_without_options_is_one_filter_of_one_pixel_through_a_logistic() -> None:
    x = picture(1, 3, 4, 5)
    weights, out = run("[convolutional]", x)
    assert weights["weights"].shape == (1, 3, 1, 1)
    close(out, 1 / (1 + np.exp(-convolved(x, weights["weights"]) - per_channel(weights["biases"]))))


def with_statistics(section: str, x: np.ndarray) -> Model:
    """Variances from 0 over 1e-8 to 1: small ones tell the two epsilons apart."""
    model = model_of(net(section, x.shape))
    model.weights[0]["variance"][...] = [0, 1e-8, 1e-4, 1]
    return model


@pytest.mark.parametrize("compat", [False, True])
@pytest.mark.parametrize("section", ["[convolutional] filters=4 size=3 pad=1", "[connected] output=4"])
def test_batch_norm_comes_before_the_activation_with_its_epsilon_inside_or_outside_the_root(
    section: str, compat: bool
) -> None:
    """1e-5 inside the root; Darknet's CPU code adds 1e-6 outside."""
    x = picture(2, 3, 5, 4)
    model = with_statistics(f"{section} batch_normalize=1 activation=leaky", x)
    weights = model.weights[0]
    if section.startswith("[conv"):
        plain = convolved(x, weights["weights"], padding=1)
    else:
        plain = (x.reshape(2, -1).astype(np.float64) @ weights["weights"].T.astype(np.float64)).reshape(2, 4, 1, 1)
    variance = per_channel(weights["variance"])
    deviation = np.sqrt(variance) + 1e-6 if compat else np.sqrt(variance + 1e-5)
    normal = (plain - per_channel(weights["mean"])) / deviation
    wanted = normal * per_channel(weights["scales"]) + per_channel(weights["biases"])
    found = run_layers(model, x, compat=compat)[0]
    for channel in range(4):                                     # each of its own magnitude, from 1 to 1e6
        close(found[:, channel], np.where(wanted > 0, wanted, 0.1 * wanted)[:, channel])


# ---------------------------------------------------------------------- single bits
def by_bits(weights: np.ndarray) -> np.ndarray:
    """Each filter's weights as plus or minus their mean magnitude, 0 as minus."""
    out = np.zeros(weights.shape)
    for number, one in enumerate(weights.astype(np.float64)):
        mean = sum(abs(value) for value in one.flat) / one.size
        for place, value in np.ndenumerate(one):
            out[number][place] = mean if value > 0 else -mean
    return out


def bits_model(options: str, x: np.ndarray) -> Model:
    model = model_of(net(f"[convolutional] filters=4 size=3 pad=1 activation=linear {options}", x.shape))
    model.weights[0]["weights"][:, 0, 1, :2] = 0
    model.weights[0]["weights"][0, 0, 0, 0] = -0.0
    return model


@pytest.mark.parametrize("options", ["binary=1", "binary=1 groups=2", "binary=1 stride=2"])
def test_binary_weights_are_plus_or_minus_the_mean_magnitude_of_their_filter(options: str) -> None:
    x = picture(2, 4, 5, 6)
    model = bits_model(options, x)
    weights = model.weights[0]
    groups, stride = (2 if "groups" in options else 1), ((2, 2) if "stride" in options else (1, 1))
    wanted = convolved(x, by_bits(weights["weights"]), stride, 1, groups=groups) + per_channel(weights["biases"])
    close(run_layers(model, x)[0], wanted)


def test_darknets_cpu_ignores_binary_and_so_does_compat() -> None:
    x = picture(2, 4, 5, 6)
    model = bits_model("binary=1", x)
    weights = model.weights[0]
    wanted = convolved(x, weights["weights"], padding=1) + per_channel(weights["biases"])
    close(run_layers(model, x, compat=True)[0], wanted)


@pytest.mark.parametrize("engine", available_engines())
@pytest.mark.parametrize("compat", [False, True])
def test_xnor_takes_the_signs_of_its_input_with_zero_as_minus_and_padding_as_nothing(
    compat: bool, engine: EngineKind
) -> None:
    x = picture(2, 4, 5, 6)
    x[:, :, 2] = 0
    x[0, 0, 3] = -0.0
    model = bits_model("xnor=1", x)
    weights = model.weights[0]
    signs = np.where(x > 0, 1.0, -1.0)
    wanted = convolved(signs, by_bits(weights["weights"]), padding=1) + per_channel(weights["biases"])
    close(run_layers(model, x, compat=compat, engine=engine)[0], wanted)


@pytest.mark.parametrize("options", ["batch_normalize=1", "binary=1"])
def test_the_fork_has_neither_accident_of_darknets_cpu(options: str) -> None:
    """dilation=1 says nothing, but only the fork knows the word."""
    x = picture(2, 4, 5, 6)
    original, fork = bits_model(options, x), bits_model(f"{options} dilation=1", x)
    for model in (original, fork):
        model.weights[0].get("variance", np.ones(4))[...] = 1e-4
    assert not np.allclose(run_layers(original, x, compat=True)[0], run_layers(original, x)[0])
    assert np.array_equal(run_layers(fork, x, compat=True)[0], run_layers(original, x)[0])


def test_xnor_is_followed_by_batch_norm_then_the_activation() -> None:
    x = picture(2, 4, 5, 6)
    model = bits_model("batch_normalize=1 xnor=1", x)
    weights = model.weights[0]
    plain = convolved(np.where(x > 0, 1.0, -1.0), by_bits(weights["weights"]), padding=1)
    normal = (plain - per_channel(weights["mean"])) / np.sqrt(per_channel(weights["variance"]) + 1e-5)
    close(run_layers(model, x)[0], normal * per_channel(weights["scales"]) + per_channel(weights["biases"]))


# ---------------------------------------------------------------------- [connected] and [local]
def test_a_connected_layer_is_a_matrix_times_the_picture_read_by_channel_row_and_column() -> None:
    x = picture(2, 3, 2, 4)
    weights, out = run("[connected] output=5 activation=linear", x)
    wanted = np.zeros((2, 5, 1, 1))
    for number, one in enumerate(x):
        flat = [float(one[c, y, i]) for c in range(3) for y in range(2) for i in range(4)]
        for output in range(5):
            products = [float(weight) * value for weight, value in zip(weights["weights"][output], flat, strict=True)]
            wanted[number, output] = float(weights["biases"][output]) + sum(products)
    close(out, wanted)


@pytest.mark.parametrize("engine", available_engines())
@pytest.mark.parametrize("size", [1, 2, 3, 5])
@pytest.mark.parametrize("pad", [0, 1])
@pytest.mark.parametrize("stride", [1, 2])
def test_a_local_layer_has_weights_of_its_own_at_every_position(
    size: int, pad: int, stride: int, engine: EngineKind
) -> None:
    """Its windows begin `pad` pixels outside; with pad=1 there are as many as windows of one pixel would give."""
    x = picture(2, 2, 7, 6)
    weights, out = run(f"[local] filters=3 size={size} pad={pad} stride={stride} activation=linear", x, engine)
    window = 1 if pad else size
    rows, columns = (7 - window) // stride + 1, (6 - window) // stride + 1
    wide = np.pad(x.astype(np.float64), ((0, 0), (0, 0), (pad, size), (pad, size)))
    wanted = np.zeros((2, 3, rows, columns))
    for row in range(rows):
        for column in range(columns):
            seen = wide[:, :, row * stride : row * stride + size, column * stride : column * stride + size]
            own = weights["weights"][row * columns + column]                 # (filters, channels, size, size)
            for number in range(3):
                total = (seen * own[number]).sum(axis=(1, 2, 3))
                wanted[:, number, row, column] = total + float(weights["biases"][number, row, column])
    close(out, wanted)


# ---------------------------------------------------------------------- what they own and cost
def names(section: str) -> list[tuple[str, tuple[int, ...]]]:
    return [(parameter.name, parameter.shape) for parameter in network_of(net(section, (4, 6, 5))).nodes[0].parameters]


def test_a_convolutions_file_order_is_biases_batch_norm_weights() -> None:
    kernel = ("weights", (8, 2, 3, 3))
    assert names("[convolutional] filters=8 size=3 groups=2") == [("biases", (8,)), kernel]
    norm = [("scales", (8,)), ("mean", (8,)), ("variance", (8,))]
    section = "[convolutional] filters=8 size=3 groups=2 batch_normalize=1"
    assert names(section) == [("biases", (8,)), *norm, kernel]


def test_a_connected_layers_batch_norm_comes_after_its_weights() -> None:
    assert names("[connected] output=7") == [("biases", (7,)), ("weights", (7, 120))]
    norm = [("scales", (7,)), ("mean", (7,)), ("variance", (7,))]
    assert names("[connected] output=7 batch_normalize=1") == [("biases", (7,)), ("weights", (7, 120)), *norm]


def test_a_local_layer_has_a_bias_an_output_and_weights_by_position_first() -> None:
    assert names("[local] filters=3 size=3") == [("biases", (3, 4, 3)), ("weights", (12, 3, 4, 3, 3))]


@pytest.mark.parametrize(
    ("section", "operations"),
    [
        ("[convolutional] filters=8 size=3 pad=1", 2 * (8 * 6 * 5) * (4 * 9)),
        ("[convolutional] filters=8 size=3 pad=1 groups=2", 2 * (8 * 6 * 5) * (2 * 9)),
        ("[convolutional] filters=8 size=3 pad=1 stride=2", 2 * (8 * 3 * 3) * (4 * 9)),
        ("[connected] output=7", 2 * 7 * 120),
        ("[local] filters=3 size=3", 2 * (3 * 4 * 3) * (4 * 9)),
    ],
)
def test_operations_are_two_for_every_product(section: str, operations: int) -> None:
    assert network_of(net(section, (4, 6, 5))).operations == operations


@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "billions", "parameters", "statistics"),
    [
        ("darknet19", 7.291, 20_842_376, 14_400),
        ("darknet53", 18.570, 41_609_928, 35_712),
        ("resnext50", 10.110, 22_252_328, 60_544),
        ("vgg-16", 30.941, 138_357_544, 0),
        ("yolov2-voc", 29.360, 50_655_389, 20_672),
        ("yolov3", 140.692, 61_949_149, 52_608),
    ],
)
def test_whole_networks_cost_what_darknet_prints(
    shared: Path, name: str, billions: float, parameters: int, statistics: int
) -> None:
    """Rolling means and variances are counted apart."""
    network = Network.build(Cfg.read(shared / "data/darknet-cfg" / f"{name}.cfg"))
    assert network.operations / 1e9 == pytest.approx(billions, abs=5e-4)
    sizes = [(entry.name in ("mean", "variance"), entry.size) for entry in network.entries()]
    assert sum(size for rolling, size in sizes if not rolling) == parameters
    assert sum(size for rolling, size in sizes if rolling) == statistics


# ---------------------------------------------------------------------- refusals
@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("[convolutional] filters=8 groups=3", r"test.cfg:7: \[convolutional\] groups=3 .* 8 filters"),
        ("[convolutional] filters=9 groups=3", r"test.cfg:5: \[convolutional\] groups=3 .* 4 input channels"),
        ("[convolutional] size=8", r"window of 8 .* 5 x 6 x 4"),
        ("[convolutional] size=3 dilation=3", "window of 7"),
        ("[convolutional] size=9 padding=1", "window of 9 .* padding 1"),
        ("[convolutional] binary=1 xnor=1", "xnor=1 .* binary=1"),
        ("[convolutional] filters=0", "filters=0 .* at least 1"),
        ("[convolutional] stride=0", "stride=0 .* at least 1"),
        ("[convolutional] stride_x=-1", "stride_x=-1 .* at least 1"),
        ("[convolutional] flipped=1", "flipped=1 is not supported"),
        ("[convolutional] antialiasing=1", "antialiasing=1 is not supported"),
        ("[convolutional] activation=reul", "activation=reul .* did you mean relu"),
        ("[connected] output=0", "output=0 .* at least 1"),
        ("[local] size=6", r"window of 6 .* 5 x 6 x 4"),
    ],
)
def test_what_cannot_be_computed_is_refused_with_its_numbers(section: str, message: str) -> None:
    with pytest.raises(CfgError, match=message):
        network_of(net(section, (4, 6, 5)))


def test_a_window_that_just_fits_gives_one_value() -> None:
    x = picture(1, 4, 6, 5)
    weights, out = run("[convolutional] size=5 activation=linear", x)
    assert out.shape == (1, 1, 2, 1)
    weights, out = run("[convolutional] size=3 dilation=2 activation=linear", x)
    close(out, convolved(x, weights["weights"], dilation=2) + per_channel(weights["biases"]))
