"""Layers of few bits as they run: alphas, levels and K against loops, and the options that say so."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
from conftest import model_of, network_of, run_layers

from lookonce.engines import EngineKind, available_engines
from lookonce.errors import CfgError
from lookonce.layers.binary import Bits, encode, quantize
from lookonce.layers.convolution import Connected, Convolution, bits_of

CONV = "[convolutional] filters=4 size=3 pad=1 activation=linear"
CONNECTED = "[connected] output=5 activation=linear"


def net(section: str, shape: tuple[int, ...]) -> str:
    """A cfg of one layer for an input of (channels, height, width)."""
    channels, height, width = shape[-3:]
    return f"[net]\nchannels={channels}\nheight={height}\nwidth={width}\n" + section.replace(" ", "\n") + "\n"


def picture(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, shape).astype(np.float32)


def close(found: np.ndarray, wanted: np.ndarray) -> None:
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-5 * np.abs(wanted).max())


# ---------------------------------------------------------------------- the loops
def nearest_level(value: float, bits: int) -> float:
    """Of the 2^k levels from -1 to 1 the nearest, the lower of two that are as near."""
    levels = [-1 + 2 * step / (2**bits - 1) for step in range(2**bits)]
    best = levels[0]
    for level in levels:
        if abs(value - level) < abs(value - best) - 1e-7:
            best = level
    return best


def by_filter(weights: np.ndarray, bits: int, alpha: str) -> np.ndarray:
    """Each filter's weights in few bits, in float64, number by number; `alpha` is mean or none."""
    out = np.zeros(weights.shape)
    for number, one in enumerate(weights.astype(np.float64)):
        reach = max(abs(value) for value in one.flat) if bits > 1 and alpha == "mean" else 1.0
        for place, value in np.ndenumerate(one):
            sign = 1.0 if value > 0 else -1.0
            out[number][place] = sign if bits == 1 else nearest_level(float(value) / reach, bits)
        if alpha == "mean":                                      # eq. 4.5, of which eq. 4.6 is the case of one bit
            product = sum(value * code for value, code in zip(one.flat, out[number].flat, strict=True))
            out[number] *= product / sum(code * code for code in out[number].flat)
    return out


def by_window(
    x: np.ndarray, weights: np.ndarray, stride: int = 1, padding: int = 1, dilation: int = 1, groups: int = 1
) -> tuple[np.ndarray, np.ndarray]:
    """What each window sums of `x` as it is, (B, O, H', W'), and the mean magnitude of what it sees of its group, 0
    outside, (B, O, H', W'): K of the thesis, for each filter."""
    batch, channels, height, width = x.shape
    filters, each, size, _ = weights.shape
    reach = dilation * (size - 1) + 1
    rows, columns = ((side + 2 * padding - reach) // stride + 1 for side in (height, width))
    total, magnitude = np.zeros((batch, filters, rows, columns)), np.zeros((batch, filters, rows, columns))
    for b, o, row, column in itertools.product(range(batch), range(filters), range(rows), range(columns)):
        first = o // (filters // groups) * (channels // groups)
        for c, dy, dx in itertools.product(range(each), range(size), range(size)):
            y, z = row * stride - padding + dy * dilation, column * stride - padding + dx * dilation
            if 0 <= y < height and 0 <= z < width:
                total[b, o, row, column] += float(x[b, first + c, y, z]) * float(weights[o, c, dy, dx])
                magnitude[b, o, row, column] += abs(float(x[b, first + c, y, z])) / (each * size * size)
    return total, magnitude


def signs(x: np.ndarray) -> np.ndarray:
    return np.where(x > 0, 1.0, -1.0)


def per_channel(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float64).reshape(1, -1, 1, 1)


# ---------------------------------------------------------------------- levels
@pytest.mark.parametrize("bits", range(1, 9))
def test_k_bits_are_the_nearest_of_so_many_levels(bits: int) -> None:
    """A fine grid that goes beyond -1 and 1, where the outermost level holds; halfway the lower level."""
    x = np.concatenate([np.linspace(-1.5, 1.5, 401), np.array([-1.0, -0.0, 0.0, 1.0, 1e-30, -1e-30])])
    wanted = [nearest_level(float(value), bits) if bits > 1 else (1 if value > 0 else -1) for value in x]
    np.testing.assert_allclose(quantize(x, bits), wanted, atol=1e-12)
    assert len(set(np.round(quantize(np.linspace(-1, 1, 4001), bits), 9))) == 2**bits


@pytest.mark.parametrize("bits", range(1, 9))
def test_k_bits_are_the_formula_of_the_thesis(bits: int) -> None:
    """q_k(x) = 2 ([(2^k - 1)(x + 1) / 2] / (2^k - 1) - 1/2) for x from -1 to 1, none of them halfway."""
    for x in np.random.default_rng(bits).uniform(-1, 1, 200):
        wanted = 2 * (round((2**bits - 1) * (x + 1) / 2) / (2**bits - 1) - 1 / 2)
        assert quantize(np.array([x]), bits)[0] == pytest.approx(wanted, abs=1e-12)


def test_no_other_alpha_is_nearer_to_the_weights() -> None:
    """Eq. 4.2: J(alpha) = |W - alpha B|^2 grows to both sides of it, for every number of bits."""
    weights = picture(3, 4, 3, 3)
    for bits in range(1, 9):
        coded = encode(weights, Bits(weights=bits))
        apart = [((weights - coded.codes * (coded.alpha * share)) ** 2).sum((1, 2, 3)) for share in (0.99, 1, 1.01)]
        assert (apart[1] < apart[0]).all()
        assert (apart[1] < apart[2]).all()


def test_a_filter_of_zeros_stays_finite() -> None:
    for bits, alpha in itertools.product((1, 2, 8), ("mean", "none")):
        coded = encode(np.zeros((2, 3, 1, 1), np.float32), Bits(weights=bits, alpha=alpha))
        whole = coded.codes * coded.alpha
        assert np.isfinite(whole).all()
        assert (whole == 0).all() == (alpha == "mean")


# ---------------------------------------------------------------------- weights
@pytest.mark.parametrize("alpha", ["mean", "none"])
@pytest.mark.parametrize("bits", [1, 2, 3, 8])
@pytest.mark.parametrize("flag", ["binary", "xnor"])
def test_weights_are_levels_times_the_alpha_of_their_filter(flag: str, bits: int, alpha: str) -> None:
    x = picture(2, 3, 4, 5)
    model = model_of(net(f"{CONV} {flag}=1 weight_bits={bits} alpha={alpha}", x.shape))
    arrays = model.weights[0]
    arrays["weights"][0, 0, 0] = [0, -0.0, 1.5]
    total, _ = by_window(signs(x) if flag == "xnor" else x, by_filter(arrays["weights"], bits, alpha))
    close(run_layers(model, x)[0], total + per_channel(arrays["biases"]))


@pytest.mark.parametrize("section", [f"{CONV} groups=2", CONNECTED])
def test_a_learned_alpha_is_an_array_of_its_own_last_in_the_file(section: str) -> None:
    """It starts at the mean magnitude of random weights, so that an untrained layer is about that of eq. 4.6."""
    x = picture(2, 60, 4, 5)
    model = model_of(net(f"{section} binary=1 alpha=learned batch_normalize=1", x.shape))
    arrays = model.weights[0]
    assert list(arrays)[-1] == model.network.entries()[-1].name == "alpha"
    weights = arrays["weights"]
    np.testing.assert_allclose(arrays["alpha"], np.abs(weights).reshape(len(weights), -1).mean(1), rtol=0.15)
    arrays["alpha"][...] = np.linspace(-1, 2, len(weights))
    codes = signs(weights) * arrays["alpha"].reshape(-1, *[1] * (weights.ndim - 1))
    if section == CONNECTED:
        total = (x.reshape(2, -1).astype(np.float64) @ codes.T).reshape(2, -1, 1, 1)
    else:
        total, _ = by_window(x, codes, groups=2)
    normal = (total - per_channel(arrays["mean"])) / np.sqrt(per_channel(arrays["variance"]) + 1e-5)
    close(run_layers(model, x)[0], normal * per_channel(arrays["scales"]) + per_channel(arrays["biases"]))


def test_darknets_files_hold_nothing_new() -> None:
    """The arrays of plain binary=1 and xnor=1 are those of a real layer."""
    real = network_of(net(CONV, (3, 4, 5))).entries()
    for options in ("binary=1", "xnor=1", "xnor=1 alpha=none input_scale=1 weight_bits=4 gradient=thesis"):
        assert network_of(net(f"{CONV} {options}", (3, 4, 5))).entries() == real


# ---------------------------------------------------------------------- inputs
@pytest.mark.parametrize("engine", available_engines())
@pytest.mark.parametrize("bits", [1, 2, 5])
def test_inputs_are_levels_and_what_is_padded_is_0(bits: int, engine: EngineKind) -> None:
    """With an even number of levels no level is 0: at the border there are three values."""
    x = picture(2, 3, 4, 5)
    x[0, 0, 0] = [0, -0.0, 1, -1, 3]
    model = model_of(net(f"{CONV} xnor=1 input_bits={bits}", x.shape))
    arrays = model.weights[0]
    levels = signs(x) if bits == 1 else np.vectorize(lambda value: nearest_level(float(value), bits))(x)
    total, _ = by_window(levels, by_filter(arrays["weights"], 1, "mean"))
    close(run_layers(model, x, engine=engine)[0], total + per_channel(arrays["biases"]))


@pytest.mark.parametrize("engine", available_engines())
@pytest.mark.parametrize(
    "options",
    ["", "stride=2", "size=1", "padding=0 pad=0", "dilation=2", "groups=2", "groups=4", "size=4", "batch_normalize=1",
     "batch_normalize=1 groups=2"],
)  # fmt: skip
def test_k_is_the_mean_magnitude_of_what_each_window_sees(options: str, engine: EngineKind) -> None:
    """Eq. 4.11: (sign(I) * sign(W)) K alpha; the bias comes after. Zeros outside count among the w h of k."""
    x = picture(2, 4, 6, 5)
    words = dict(word.split("=") for word in f"filters=4 size=3 pad=1 {options} xnor=1 input_scale=1".split())
    section = "[convolutional] activation=linear " + " ".join(f"{key}={value}" for key, value in words.items())
    model = model_of(net(section, x.shape))
    arrays, size = model.weights[0], int(words["size"])
    dilation, groups, stride = (int(words.get(key, 1)) for key in ("dilation", "groups", "stride"))
    padding = size // 2 * dilation if words["pad"] == "1" else 0
    weights = by_filter(arrays["weights"], 1, "mean")
    total, _ = by_window(signs(x), weights, stride, padding, dilation, groups)
    _, k = by_window(x, weights, stride, padding, dilation, groups)
    wanted = total * k
    if "batch_normalize" in words:
        wanted = (wanted - per_channel(arrays["mean"])) / np.sqrt(per_channel(arrays["variance"]) + 1e-5)
        wanted *= per_channel(arrays["scales"])
    close(run_layers(model, x, engine=engine)[0], wanted + per_channel(arrays["biases"]))


@pytest.mark.parametrize("engine", available_engines())
@pytest.mark.parametrize("options", ["binary=1", "xnor=1", "xnor=1 input_scale=1", "xnor=1 input_bits=3 weight_bits=2"])
@pytest.mark.parametrize("norm", ["", "batch_normalize=1"])
def test_a_connected_layer_has_them_too(options: str, norm: str, engine: EngineKind) -> None:
    """Its one window sees the whole picture."""
    x = picture(2, 3, 2, 4)
    model = model_of(net(" ".join(f"{CONNECTED} {options} {norm}".split()), x.shape))
    arrays, flat = model.weights[0], x.reshape(2, -1)
    weights = by_filter(arrays["weights"], 2 if "weight_bits" in options else 1, "mean")
    seen = flat.astype(np.float64)
    if "input_bits" in options:
        seen = np.vectorize(lambda value: nearest_level(float(value), 3))(flat)
    elif "xnor" in options:
        seen = signs(flat)
    wanted = seen @ weights.T
    if "input_scale" in options:
        wanted = wanted * np.abs(flat.astype(np.float64)).mean(1, keepdims=True)
    if norm:
        wanted = (wanted - arrays["mean"]) / np.sqrt(arrays["variance"].astype(np.float64) + 1e-5) * arrays["scales"]
    close(run_layers(model, x, engine=engine)[0], (wanted + arrays["biases"]).reshape(2, 5, 1, 1))


# ---------------------------------------------------------------------- blocks
def test_a_block_of_batch_norm_sign_convolution_and_pool_runs_in_that_order() -> None:
    """B-A-C-P: [batchnorm], a convolution with xnor=1, [maxpool]. letter_box makes it the fork's: the shift is kept."""
    x = picture(2, 3, 4, 6)
    text = net("[batchnorm]", x.shape).replace("channels", "letter_box=0\nchannels")
    text += f"{CONV} xnor=1 [maxpool] size=2 stride=2".replace(" ", "\n") + "\n"
    model = model_of(text)
    norm, conv = model.weights[0], model.weights[1]
    normal = (x - per_channel(norm["mean"])) / np.sqrt(per_channel(norm["variance"]) + 1e-5)
    normal = normal * per_channel(norm["scales"]) + per_channel(norm["biases"])
    total, _ = by_window(signs(normal), by_filter(conv["weights"], 1, "mean"))
    total += per_channel(conv["biases"])
    close(run_layers(model, x)[2], total.reshape(2, 4, 2, 2, 3, 2).max((3, 5)))


def test_the_largest_of_signs_is_the_sign_of_the_largest() -> None:
    """So that a block may pool before the next layer's xnor=1, and is one of C-B-A-P all the same."""
    x = picture(2, 3, 4, 6)
    pooled = x.reshape(2, 3, 2, 2, 3, 2)
    np.testing.assert_array_equal(signs(pooled).max((3, 5)), signs(pooled.max((3, 5))))


# ---------------------------------------------------------------------- what a section may say
def test_by_default_bits_are_darknets() -> None:
    for section in (CONV, CONNECTED):
        layer = network_of(net(f"{section} xnor=1", (3, 4, 5))).nodes[0].layer
        assert isinstance(layer, Convolution | Connected)
        assert (layer.binary, layer.xnor, layer.bits) == (False, True, Bits())
        assert bits_of(layer) == bits_of(layer, compat=True) == Bits()
        layer = network_of(net(f"{section} binary=1", (3, 4, 5))).nodes[0].layer
        assert (bits_of(layer), bits_of(layer, compat=True)) == (Bits(), None)
        assert bits_of(network_of(net(section, (3, 4, 5))).nodes[0].layer) is None
    assert bits_of(network_of(net("[maxpool] size=2", (3, 4, 5))).nodes[0].layer) is None


@pytest.mark.parametrize("section", [CONV, CONNECTED])
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("binary=1 xnor=1", "xnor=1 stands beside binary=1"),
        ("alpha=none", "alpha=none stands without binary=1 or xnor=1"),
        ("weight_bits=2", "weight_bits=2 stands without"),
        ("gradient=thesis", "gradient=thesis stands without"),
        ("zero_mean=0", "zero_mean=0 stands without"),
        ("binary=1 input_bits=2", "input_bits=2 stands beside binary=1, whose inputs are real; wanted xnor=1"),
        ("binary=1 input_scale=1", "input_scale=1 stands beside binary=1"),
        ("xnor=1 input_bits=2 input_scale=1", "input_scale=1 stands beside input_bits=2"),
        ("xnor=1 weight_bits=9", "weight_bits=9 is out of range: wanted 1 to 8"),
        ("xnor=1 input_bits=0", "input_bits=0 is out of range: wanted 1 to 8"),
        ("xnor=1 alpha=max", "alpha=max is not known; there are learned, mean, none"),
        ("xnor=1 gradient=darkent", "gradient=darkent is not known, did you mean darknet.*allenai, darknet, printed"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused_with_its_line(section: str, options: str, message: str) -> None:
    with pytest.raises(CfgError, match=rf"^test.cfg:\d+: {re.escape(section.split()[0])} {message}"):
        network_of(net(f"{section} {options}", (3, 4, 5)))


def test_the_line_is_that_of_the_option() -> None:
    with pytest.raises(CfgError, match=r"^test.cfg:11: \[convolutional\] input_bits=12 "):
        network_of(net(f"{CONV} xnor=1 input_bits=12", (3, 4, 5)))


def test_weights_of_one_input_channel_have_no_mean_to_lose() -> None:
    for section, shape in ((f"{CONV} groups=4", (4, 4, 5)), (CONNECTED, (1, 1, 1))):
        with pytest.raises(CfgError, match=r"^test.cfg:5: .* zero_mean=1 and weights for one input channel"):
            network_of(net(f"{section} xnor=1 zero_mean=1", shape))
