"""[crop], and the layers that do nothing unless a network learns: [dropout] and [cost]."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import model_of, network_of, run_layers

from lookonce.engines import EngineKind, available_engines
from lookonce.errors import CfgError
from lookonce.layers.plain import Dropout


def net(section: str, shape: tuple[int, ...], more: str = "") -> str:
    """A cfg of two layers for an input of (channels, height, width), the first of which does nothing."""
    channels, height, width = shape[-3:]
    head = f"[net]\nchannels={channels}\nheight={height}\nwidth={width}\n{more}\n[activation]\n"
    return head + section.replace(" ", "\n")


def picture(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 1, shape).astype(np.float32)


@pytest.mark.parametrize("engine", available_engines())
@pytest.mark.parametrize(("height", "width"), [(9, 8), (8, 7), (7, 6), (3, 8), (1, 1)])
@pytest.mark.parametrize("noadjust", [0, 1])
def test_crop_takes_the_middle_and_stretches_its_values_unless_told_not_to(
    height: int, width: int, noadjust: int, engine: EngineKind
) -> None:
    """Where the margin is odd the smaller half is above and to the left."""
    x = picture(2, 3, 9, 8)
    section = f"[crop] crop_height={height} crop_width={width} noadjust={noadjust} flip=1 angle=7 saturation=1.5"
    found = run_layers(model_of(net(section, x.shape)), x, engine=engine)[1]
    assert found.shape == (2, 3, height, width)
    for one, channel, row, column in np.ndindex(found.shape):
        value = float(x[one, channel, (9 - height) // 2 + row, (8 - width) // 2 + column])
        assert found[one, channel, row, column] == pytest.approx(value if noadjust else 2 * value - 1, abs=1e-6)


@pytest.mark.parametrize("engine", available_engines())
@pytest.mark.parametrize("section", [
    "[dropout]", "[dropout] probability=.9", "[dropout] dropblock=1 dropblock_size_abs=7",
    "[cost]", "[cost] type=masked scale=3", "[cost] type=smooth",
])  # fmt: skip
def test_dropout_and_cost_leave_what_flows_alone(section: str, engine: EngineKind) -> None:
    x = picture(2, 3, 4, 5)
    found = run_layers(model_of(net(section, x.shape)), x, engine=engine)[1]
    assert np.array_equal(found, x)


def test_the_output_of_a_network_is_that_before_its_costs() -> None:
    network = network_of(net("[cost] type=sse [cost]", (3, 4, 5)))
    assert network.output.index == 0


def test_the_fork_drops_less_where_the_cfg_does_not_say() -> None:
    for dialect, probability in (("", 0.5), ("letter_box=0", 0.2)):
        layer = network_of(net("[dropout]", (3, 4, 5), dialect)).nodes[1].layer
        assert isinstance(layer, Dropout)
        assert layer.probability == probability


@pytest.mark.parametrize(
    ("section", "message"),
    [
        ("[crop] crop_height=5 crop_width=5", r"crops 5 x 5 out of 5 x 4 x 3, which is smaller"),
        ("[crop] crop_height=4 crop_width=6", r"crops 6 x 4 out of 5 x 4 x 3"),
        ("[crop] crop_height=0", "crop_height=0 .* at least 1"),
        ("[dropout] probability=1", "probability=1 .* 0 to "),
        ("[dropout] probability=-.1", "probability=-.1 .* 0 to "),
        ("[cost] type=see", "type=see is not known, did you mean sse"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_numbers(section: str, message: str) -> None:
    with pytest.raises(CfgError, match=message):
        network_of(net(section, (3, 4, 5)))


@pytest.mark.parametrize("section", ["[crop]", "[dropout]", "[cost]"])
def test_plain_layers_own_nothing_and_are_not_counted(section: str) -> None:
    network = network_of(net(section, (3, 4, 5)))
    assert network.entries() == []
    assert network.operations == 0
