"""[route], [shortcut], [scale_channels] and [sam], against loops over what their sources put out."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import pytest
from conftest import model_of, network_of, run_layers

from lookonce.engines import EngineKind, available_engines
from lookonce.errors import CfgError
from lookonce.model import Model

SHAPE = (4, 8, 12)                                       # channels, height, width of every input here

# Sections that make another shape of what they are given.
FEWER = "[route] layers=-1 groups=2 group_id=1"
MORE = "[route] layers=-1,-1"
HALF = "[maxpool] size=1 stride=2"
DOUBLE = "[upsample]"
TRIPLE = "[upsample] stride=3"
CUT = "[crop] crop_height=7 crop_width=11 noadjust=1"    # 8 / 7 and 12 / 11 are 1 in whole numbers
LESS = "[crop] crop_height=3 crop_width=5 noadjust=1"    # 8 / 3 and 12 / 5 are 2


class Joined(NamedTuple):
    """What went into the last layer of a network, and what came out."""

    model: Model
    here: np.ndarray                     # of the layer before it
    there: np.ndarray                    # of the layer that it names
    out: np.ndarray


def net(*sections: str) -> str:
    channels, height, width = SHAPE
    first = f"[net]\nchannels={channels}\nheight={height}\nwidth={width}"
    return "\n".join([first, *(section.replace(" ", "\n") for section in sections)])


def picture(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, (2, *SHAPE)).astype(np.float32)


def join(last: str, here: str = "", there: str = "", engine: EngineKind = "onnxruntime") -> Joined:
    """A network whose last layer joins two ways of reshaping the input: of `there` it names the last layer."""
    beside = [section for section in there.split(";") if section]
    before = [section for section in here.split(";") if section]
    sections = ["[activation]", *beside, "[route] layers=0", "[activation] activation=tanh", *before]
    named = len(beside)
    model = model_of(net(*sections, f"{last} from={named}"))
    outputs = run_layers(model, picture(), engine=engine)
    return Joined(model, outputs[-2], outputs[named], outputs[-1])


def added(here: np.ndarray, there: np.ndarray, alpha: float = 1.0, beta: float = 1.0) -> np.ndarray:
    """What [shortcut] puts out without activation, step by step as the specification says."""
    out = here.astype(np.float64)
    thin = [max(1, b // a) for a, b in zip(here.shape[2:], there.shape[2:], strict=True)]
    spread = [max(1, a // b) for a, b in zip(here.shape[2:], there.shape[2:], strict=True)]
    channels, rows, columns = (min(a, b) for a, b in zip(here.shape[1:], there.shape[1:], strict=True))
    for k in range(channels):
        for j in range(rows):
            for i in range(columns):
                at = (slice(None), k, j * spread[0], i * spread[1])
                out[at] = alpha * out[at] + beta * there[:, k, j * thin[0], i * thin[1]]
    return out


def close(found: np.ndarray, wanted: np.ndarray, relative: float = 1e-6) -> None:
    assert found.shape == wanted.shape
    np.testing.assert_allclose(found, wanted, rtol=relative, atol=relative)


# ---------------------------------------------------------------------- [route]
@pytest.mark.parametrize("engine", available_engines())
@pytest.mark.parametrize(("options", "which"), [
    ("layers=0", [(0, 0, 4)]),
    ("layers=-1", [(2, 0, 8)]),
    ("layers=1,-1,0", [(1, 0, 8), (2, 0, 8), (0, 0, 4)]),
    ("layers=0,0", [(0, 0, 4), (0, 0, 4)]),
    ("layers = -3, -2,", [(0, 0, 4), (1, 0, 8)]),
    ("layers=1\ngroups=2", [(1, 0, 4)]),
    ("layers=2,0\ngroups=2\ngroup_id=1", [(2, 4, 8), (0, 2, 4)]),
    ("layers=1\ngroups=4\ngroup_id=2", [(1, 4, 6)]),
])  # fmt: skip
def test_route_lays_the_channels_of_its_layers_one_after_the_other(
    options: str, which: list[tuple[int, int, int]], engine: EngineKind
) -> None:
    """Each triple: a layer, and its channels from the second number up to the third."""
    text = net("[activation]", MORE, "[activation] activation=tanh", "[route]")
    outputs = run_layers(model_of(f"{text}\n{options}"), picture(), engine=engine)
    wanted = np.concatenate([outputs[layer][:, first:last] for layer, first, last in which], axis=1)
    assert np.array_equal(outputs[3], wanted)


# ---------------------------------------------------------------------- [shortcut]
MISMATCHES = {
    "equal": ("", ""),
    "fewer channels": ("", FEWER),
    "more channels": (FEWER, ""),
    "larger plane": (HALF, ""),
    "much larger plane": (HALF, DOUBLE),
    "smaller plane": ("", HALF),
    "much smaller plane": (TRIPLE, ""),
    "slightly larger plane": (CUT, ""),
    "slightly smaller plane": ("", CUT),
    "larger plane, no multiple": (LESS, ""),
    "smaller plane, no multiple": ("", LESS),
    "fewer channels, larger plane": (HALF, FEWER),
    "more channels, larger plane": (HALF, MORE),
    "fewer channels, smaller plane": ("", f"{HALF};{FEWER}"),
    "more channels, smaller plane, no multiple": ("", f"{LESS};{MORE}"),
}


@pytest.mark.parametrize("engine", available_engines())
@pytest.mark.parametrize("kind", MISMATCHES)
def test_shortcut_adds_where_two_layers_meet(kind: str, engine: EngineKind) -> None:
    here, there = MISMATCHES[kind]
    joined = join("[shortcut]", here, there, engine)
    close(joined.out, added(joined.here, joined.there))
    assert (joined.here.shape == joined.there.shape) == (kind == "equal")


@pytest.mark.parametrize("kind", MISMATCHES)
def test_alpha_and_beta_count_only_where_two_layers_meet(kind: str) -> None:
    joined = join("[shortcut] alpha=.5 beta=-3", *MISMATCHES[kind])
    close(joined.out, added(joined.here, joined.there, 0.5, -3))


def test_the_activation_comes_after_the_sum() -> None:
    joined = join("[shortcut] activation=leaky", "", FEWER)
    total = added(joined.here, joined.there)
    close(joined.out, np.where(total > 0, total, 0.1 * total))


def test_shortcut_adds_several_layers_each_with_the_channels_it_has() -> None:
    sections = ["[activation]", FEWER, "[route] layers=0,0", "[route] layers=0", "[activation] activation=tanh"]
    outputs = run_layers(model_of(net(*sections, "[shortcut] from=-4,2,0")), picture())
    wanted = outputs[4]
    for number in (1, 2, 0):
        wanted = added(wanted, outputs[number])
    close(outputs[5], wanted)


def shares(weights: np.ndarray, kind: str) -> np.ndarray:
    """The weights of (sources, 1 or C) as the fork shares them out (network.c, fuse_conv_batchnorm).

    Its "relu" leaves .001 where a weight is less, and either sum is .0001 more than it is.
    """
    out = np.zeros(weights.shape)
    for column in range(weights.shape[1]):
        values = [float(value) for value in weights[:, column]]
        if kind == "relu":
            values = [max(value, 0.001) for value in values]
        elif kind == "softmax":
            values = [math.exp(value - max(values)) for value in values]
        total = sum(values) + 1e-4 if kind != "none" else 1
        out[:, column] = [value / total for value in values]
    return out


@pytest.mark.parametrize("engine", available_engines())
@pytest.mark.parametrize("normalization", ["none", "relu", "softmax"])
@pytest.mark.parametrize(("weights_type", "each"), [("per_feature", 1), ("per_channel", 4)])
def test_weighted_shortcuts_share_out_their_sources(
    weights_type: str, each: int, normalization: str, engine: EngineKind
) -> None:
    """Layer 1 has half of the channels and layer 2 twice as many: only those that are there count."""
    sections = ["[activation]", FEWER, "[route] layers=0,0", "[route] layers=0", "[activation] activation=tanh"]
    last = f"[shortcut] from=1,2,0 weights_type={weights_type} weights_normalization={normalization} activation=relu"
    model = model_of(net(*sections, last))
    weights = model.weights[5]["weights"]
    assert weights.shape == (4, each)
    weights[...] = np.random.default_rng(3).normal(0.3, 1, weights.shape)
    assert (weights < 0).any()
    outputs = run_layers(model, picture(), engine=engine)
    share = np.broadcast_to(shares(weights, normalization), (4, 4)).reshape(4, 1, 4, 1, 1)
    wanted = outputs[4] * share[0]
    wanted[:, :2] += outputs[1] * share[1][:, :2]
    wanted += outputs[2][:, :4] * share[2]
    wanted += outputs[0] * share[3]
    close(outputs[5], np.maximum(wanted, 0), 5e-6)


def test_the_forks_other_words_for_weighted_shortcuts_mean_the_same() -> None:
    first = join("[shortcut] weights_type=per_feature weights_normalization=relu")
    second = join("[shortcut] weights_type=per_layer weights_normalization=avg_relu")
    assert np.array_equal(first.out, second.out)


def test_a_weighted_shortcut_starts_as_a_plain_sum() -> None:
    joined = join("[shortcut] weights_type=per_channel")
    assert [(entry.name, entry.shape) for entry in joined.model.network.entries()] == [("weights", (2, 4))]
    close(joined.out, added(joined.here, joined.there))


# ---------------------------------------------------------------------- [scale_channels] and [sam]
@pytest.mark.parametrize("engine", available_engines())
def test_scale_channels_multiplies_each_channel_by_one_value(engine: EngineKind) -> None:
    joined = join("[scale_channels] activation=leaky", "[avgpool]", DOUBLE, engine)
    wanted = np.zeros(joined.there.shape)
    for place in np.ndindex(wanted.shape):
        product = float(joined.there[place]) * float(joined.here[place[0], place[1], 0, 0])
        wanted[place] = product if product > 0 else 0.1 * product
    close(joined.out, wanted)


@pytest.mark.parametrize("engine", available_engines())
def test_scale_channels_by_pixels_multiplies_each_pixel_by_one_value(engine: EngineKind) -> None:
    joined = join("[scale_channels] scale_wh=1", "[route] layers=-1 groups=4 group_id=2", "", engine)
    wanted = np.zeros(joined.there.shape)
    for place in np.ndindex(wanted.shape):
        wanted[place] = float(joined.there[place]) * float(joined.here[place[0], 0, place[2], place[3]])
    close(joined.out, wanted)


@pytest.mark.parametrize("engine", available_engines())
def test_sam_multiplies_element_by_element(engine: EngineKind) -> None:
    joined = join("[sam] activation=relu", "", "", engine)
    wanted = [max(0.0, float(a) * float(b)) for a, b in zip(joined.here.flat, joined.there.flat, strict=True)]
    close(joined.out, np.reshape(wanted, joined.here.shape))


# ---------------------------------------------------------------------- refusals
@pytest.mark.parametrize(
    ("sections", "message"),
    [
        (["[activation]", HALF, "[route] layers=0,1"], r"layer 0 of 12 x 8 x 4 with layer 1 of 6 x 4 x 4"),
        (["[activation]", "[route] layers=0 groups=3"], r"groups=3 does not divide layer 0's 4 channels"),
        (["[activation]", "[route] layers=0 groups=2 group_id=2"], "group_id=2 .* 0 to 1"),
        (["[activation]", "[route] layers=1"], r"layers=1 means layer 1, .* before this layer 1; wanted .* 0 to 0"),
        (["[activation]", "[route] layers=-2"], r"layers=-2 means layer -1"),
        (["[route] layers=-1"], "layers=-1 .* there is none"),
        (["[activation]", "[route] layers=0,,0"], "empty item"),
        (["[activation]", "[route]"], "needs layers="),
        (["[activation]", "[route] layers=" + ",".join("0" * 65)], "names 65 layers, wanted at most 64"),
        (["[activation]", "[sam] from=0,0"], "names 2 layers, wanted at most 1"),
        (["[shortcut] from=-1"], "from=-1 .* there is none"),
        (["[activation]", "[shortcut] from=4"], "from=4 means layer 4"),
        (["[activation]", "[upsample]", "[crop] crop_height=8 crop_width=24", "[shortcut] from=0"],
         r"layer 0 of 12 x 8 x 4 to 24 x 8 x 4; wanted one ratio"),
        (["[activation]", HALF, "[shortcut] from=0 weights_type=per_feature"],
         r"layer 0 of 12 x 8 x 4 beside 6 x 4 x 4"),
        (["[activation]", "[shortcut] from=0 weights_type=per_pixel"], "weights_type=per_pixel is not known"),
        (["[activation]", "[scale_channels] from=0"], r"12 x 8 x 4 by 12 x 8 x 4; wanted 1 x 1 x 4"),
        (["[activation]", "[avgpool]", "[scale_channels] from=0 scale_wh=1"], r"by 1 x 1 x 4; wanted 12 x 8 x 1"),
        (["[activation]", FEWER, "[sam] from=0"], r"12 x 8 x 2 with layer 0 of 12 x 8 x 4"),
    ],
)  # fmt: skip
def test_what_cannot_be_joined_is_refused_with_its_numbers(sections: list[str], message: str) -> None:
    with pytest.raises(CfgError, match=message):
        network_of(net(*sections))


def test_a_refusal_names_the_line_of_its_section() -> None:
    with pytest.raises(CfgError, match=r"test.cfg:9: \[route\]"):
        network_of(net("[activation]", HALF, "[route] layers=0,1"))


@pytest.mark.parametrize("section", ["[route] layers=0,-1", "[shortcut] from=0", "[sam] from=0"])
def test_joining_owns_nothing_and_is_not_counted(section: str) -> None:
    network = network_of(net("[activation]", "[activation]", section))
    assert network.entries() == []
    assert network.operations == 0
