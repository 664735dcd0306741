"""[softmax]: flat, in groups, over channels and down a tree, against exponentials one by one."""

from __future__ import annotations

import math

import numpy as np
import pytest
from conftest import run_layers

from lookonce.darknet.cfg import Cfg, Place
from lookonce.engines import EngineKind, available_engines
from lookonce.errors import CfgError, DataError
from lookonce.heads.classify import Softmax
from lookonce.model import Model
from lookonce.network import Network

# two roots, sets of one to three siblings
PARENTS = [-1, -1, 0, 0, 0, 1, 1, 2, 2, 5, 4, 4]
TREE = "\n".join(f"n{number} {parent}" for number, parent in enumerate(PARENTS))


def network(options: str, shape: tuple[int, ...], tree: str = TREE) -> Network:
    channels, height, width = shape[-3:]
    text = f"[net]\nchannels={channels}\nheight={height}\nwidth={width}\n[softmax]\n" + options.replace(" ", "\n")
    return Network.build(Cfg.parse(text, "test.cfg", Place(attached={"tree": tree})))


def run(options: str, x: np.ndarray, engine: EngineKind = "onnxruntime") -> np.ndarray:
    return run_layers(Model.random(network(options, x.shape)), x, engine=engine)[0]


def values(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 3, shape).astype(np.float32)


def softmax(some: np.ndarray, temperature: float = 1.0) -> list[float]:
    top = max(float(value) for value in some)
    powers = [math.exp((float(value) - top) / temperature) for value in some]
    return [power / sum(powers) for power in powers]


@pytest.mark.parametrize("engine", available_engines())
@pytest.mark.parametrize("temperature", [1.0, 0.5, 7.0])
def test_softmax_shares_out_one_among_all_values(temperature: float, engine: EngineKind) -> None:
    x = values(2, 3, 2, 2)
    found = run(f"temperature={temperature}", x, engine)
    assert found.shape == (2, 12, 1, 1)
    for one in range(2):
        np.testing.assert_allclose(found[one, :, 0, 0], softmax(x[one].reshape(-1), temperature), rtol=1e-5)


@pytest.mark.parametrize("engine", available_engines())
@pytest.mark.parametrize("groups", [1, 2, 3, 12])
def test_groups_are_equal_slices_one_after_the_other(groups: int, engine: EngineKind) -> None:
    x = values(2, 12, 1, 1)
    found = run(f"groups={groups} temperature=2", x, engine)
    for one in range(2):
        wanted = [share for part in np.split(x[one].reshape(-1), groups) for share in softmax(part, 2)]
        np.testing.assert_allclose(found[one].reshape(-1), wanted, rtol=1e-5)


@pytest.mark.parametrize("engine", available_engines())
def test_spatial_softmax_is_over_the_channels_of_each_pixel(engine: EngineKind) -> None:
    x = values(2, 5, 2, 3)
    found = run("spatial=1", x, engine)
    assert found.shape == x.shape
    for one, row, column in np.ndindex(2, 2, 3):
        np.testing.assert_allclose(found[one, :, row, column], softmax(x[one, :, row, column]), rtol=1e-5)


@pytest.mark.parametrize("engine", available_engines())
@pytest.mark.parametrize("temperature", [1, 2])
def test_a_tree_has_a_softmax_over_each_set_of_siblings(temperature: int, engine: EngineKind) -> None:
    """Also where one set's values are far below another's: each set shares out a whole one."""
    x = values(3, len(PARENTS), 1, 1)
    x[1, 7:9], x[1, 2:5] = x[1, 7:9] - 300, x[1, 2:5] + 300
    found = run(f"tree=toy.tree temperature={temperature}", x, engine)
    for parent in set(PARENTS):
        siblings = [number for number, other in enumerate(PARENTS) if other == parent]
        for one in range(3):
            wanted = softmax(x[one, siblings, 0, 0], temperature)
            np.testing.assert_allclose(found[one, siblings, 0, 0], wanted, rtol=1e-5, atol=1e-30)


@pytest.mark.parametrize("options", ["", "groups=3", "spatial=1", "tree=toy.tree"])
@pytest.mark.parametrize("value", [1e4, 3e38, -1e4])
def test_huge_values_give_finite_shares(options: str, value: float) -> None:
    found = run(options, np.full((1, len(PARENTS), 1, 1), value, np.float32))
    sets = {"": 12, "groups=3": 4, "spatial=1": 12}
    wanted = [1 / sets.get(options, PARENTS.count(parent)) for parent in PARENTS]
    np.testing.assert_allclose(found[0, :, 0, 0], wanted, rtol=1e-6)


def test_a_classifier_has_a_class_a_value() -> None:
    flat, tree = network("", (5, 2, 2)), network("tree=toy.tree", (12, 1, 1))
    assert (flat.kind, flat.classes) == ("classifier", 20)
    assert (tree.kind, tree.classes) == ("classifier", 12)
    layer = tree.nodes[0].layer
    assert isinstance(layer, Softmax)
    assert layer.tree is not None
    assert layer.tree.parent.tolist() == PARENTS
    assert tree.entries() == []


@pytest.mark.parametrize(
    ("options", "shape", "message"),
    [
        ("groups=5", (12, 1, 1), "groups=5 does not divide its 12 values"),
        ("groups=0", (12, 1, 1), "groups=0 .* at least 1"),
        ("temperature=0", (12, 1, 1), "temperature=0 .* at least 1e-06"),
        ("tree=toy.tree", (12, 2, 1), "tree of 12 nodes for 24 values"),
        ("tree=toy.tree", (9418, 1, 1), "tree of 12 nodes for 9,418 values"),
    ],
)
def test_what_cannot_be_shared_out_is_refused_with_its_numbers(
    options: str, shape: tuple[int, ...], message: str
) -> None:
    with pytest.raises(CfgError, match=rf"test.cfg:\d: \[softmax\] .*{message}"):
        network(options, shape)


def test_a_damaged_tree_is_refused_with_its_line() -> None:
    with pytest.raises(DataError, match=r"tree\):2: parent 4 does not stand before its child 1"):
        network("tree=toy.tree", (2, 1, 1), "a -1\nb 4")
