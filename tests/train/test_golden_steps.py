"""Several steps of learning as Darknet recorded them: costs, rates, and every float of the weights file afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from lookonce.darknet.cfg import Cfg
from lookonce.data.batches import Batch, Plan
from lookonce.losses.classify import cost_loss
from lookonce.losses.terms import Moment
from lookonce.model import Model
from lookonce.network import Network
from lookonce.nn import TorchNetwork
from lookonce.nn.batchnorm import roll
from lookonce.train.learner import Learner, Options
from lookonce.train.optimizer import Optimizer
from lookonce.train.schedule import learning_rate
from lookonce.truth import Targets


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """As in Darknet's CPU build.

    In the third step of yolo-v3 something lies so near its switching point that the rounding of sums in another order
    puts it on the other side, and the costs from there on are others by 4e-4.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def opened(folder: Path) -> tuple[Model, np.lib.npyio.NpzFile]:
    network = Network.build(Cfg.read(folder / "net.cfg"))
    return Model.read(network, folder / "net.weights"), np.load(folder / "golden.npz")


def truths(name: str, golden: np.lib.npyio.NpzFile) -> Targets:
    """The recording's truth, which Darknet lays out by head, as rows."""
    rows = golden["truth"]
    if name == "yolo-v3":                                   # (B, 90 x [x, y, w, h, class]), ended by x = 0
        boxes = [row.reshape(-1, 5)[row.reshape(-1, 5)[:, 0] > 0] for row in rows]
        return Targets.of([(box[:, :4], box[:, 4]) for box in boxes])
    if name == "detection-v1":                              # (B, 3 x 3 x [object, 3 classes, x, y, w, h])
        found = []
        for row in rows.reshape(-1, 9, 8):
            (cells,) = np.nonzero(row[:, 0])
            x, y = (row[cells, 4] + cells % 3) / 3, (row[cells, 5] + cells // 3) / 3
            found.append((np.stack([x, y, *row[cells, 6:8].T], axis=1), row[cells, 1:4].argmax(axis=1)))
        return Targets.of(found)
    lowest = [int(np.flatnonzero(row > 0).max()) for row in rows]       # of a tree the deepest: parents stand before
    return Targets.of([(np.full((1, 4), np.nan), np.array([label])) for label in lowest])


def relative(found: np.ndarray, recording: np.ndarray) -> float:
    assert found.size == recording.size
    return float(np.abs(found - recording).max() / np.abs(recording).max())


def floats(model: Model) -> np.ndarray:
    """All floats of the weights file, in its order."""
    return np.concatenate([model.weights[entry.layer][entry.name].reshape(-1) for entry in model.network.entries()])


@pytest.mark.shared
@pytest.mark.parametrize("name", ["yolo-v3", "detection-v1", "softmax", "softmax-tree", "residual-pool-bn"])
def test_steps_are_those_of_darknet(name: str, shared: Path) -> None:
    """The learner as users run it, with the accidents of the CPU build: everything within 1e-4."""
    model, golden = opened(shared / "golden" / "train" / name)
    learner = Learner(model, Options(compat=True))
    batch = Batch(golden["input"], truths(name, golden), Plan(0, (), *golden["input"].shape[:1:-1]))
    steps = [learner.step([batch]) for _ in range(int(golden["steps"]))]
    costs = np.array([step.printed for step in steps]) * len(golden["input"])
    assert relative(costs, golden["cost"]) < 1e-4
    assert np.allclose([step.rate for step in steps], golden["learning_rate"], rtol=1e-6, atol=0)
    assert relative(floats(learner.to_model()), golden["weights_after"]) < 1e-4


@pytest.mark.shared
def test_steps_towards_a_dense_truth_are_those_of_darknet(shared: Path) -> None:
    """A [cost] whose truth is a vector, which no dataset here has: the parts of the learner put together by hand."""
    model, golden = opened(shared / "golden" / "train" / "connected-sse")
    network, options = TorchNetwork(model, compat=True).train(), model.network.options
    optimizer = Optimizer(network, options)
    cost = model.network.nodes[3]
    for step in range(int(golden["steps"])):
        outputs = network(torch.from_numpy(golden["input"]), (2,))
        terms = cost_loss(cost.layer, outputs[2], torch.from_numpy(golden["truth"]), Moment((4, 4), compat=True))
        (terms.total / len(golden["input"])).backward()
        rate = learning_rate(options, step + 1)
        optimizer.step(rate)
        roll(network.statistics)
        assert float(terms.printed) == pytest.approx(golden["cost"][step], rel=1e-4)
        assert rate == pytest.approx(golden["learning_rate"][step], rel=1e-6)
    assert relative(floats(network.to_model(model)), golden["weights_after"]) < 1e-4
