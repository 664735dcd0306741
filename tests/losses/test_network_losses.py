"""Which layers of a network have a loss; and whole networks against recordings of Darknet's training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import SHARED, network_of

from lookonce.errors import CfgError, DataError
from lookonce.heads.detection import Detection
from lookonce.heads.head import Head
from lookonce.heads.region import Region
from lookonce.losses.classify import cost_loss, softmax_loss
from lookonce.losses.network import NetworkLoss
from lookonce.losses.terms import LossTerms, Moment
from lookonce.model import Model, open_model
from lookonce.network import Network, Node
from lookonce.nn import TorchNetwork
from lookonce.truth import Targets

LARGEST_DIFFERENCE = 1e-4            # of the largest value of an array
FOLDERS = sorted(path.name for path in (SHARED / "golden/train").glob("*") if path.is_dir())


# ---------------------------------------------------------------------- recordings
def targets_of(network: Network, truth: np.ndarray) -> Targets:
    """Darknet's rows of truth, one a picture, as each kind of layer lays them out."""
    head = network.heads[0][1] if network.heads else None
    if isinstance(head, Detection):                      # a row a cell: any object, classes, x and y in the cell, w, h
        found = []
        for picture in truth.reshape(len(truth), -1, 5 + head.classes):
            cells = [cell for cell in range(len(picture)) if picture[cell, 0]]
            places = [[cell % head.side, cell // head.side] for cell in cells]
            boxes = picture[cells, -4:] + np.pad(np.array(places).reshape(-1, 2), ((0, 0), (0, 2)))
            boxes[:, :2] /= head.side
            found.append((boxes, picture[cells, 1:-4].argmax(1)))
        return Targets.of(found)
    if isinstance(head, Head):                           # rows of x, y, w, h, class, until x is 0; 999999: only a class
        found = []
        for picture in truth.reshape(len(truth), -1, 5):
            rows = picture[: int((picture[:, 0] == 0).argmax())]
            found.append((np.where(rows[:, :4] > 1e5, np.nan, rows[:, :4]), rows[:, 4].astype(int)))
        return Targets.of(found)
    tree = network.output.layer.tree if network.kind == "classifier" else None
    labels = [[int(at) for at in np.flatnonzero(row)] for row in truth]
    if tree is not None:                                 # a class and all above it: the last one is the class
        labels = [row[-1:] for row in labels]
    return Targets.of([(np.full((len(row), 4), np.nan), np.array(row)) for row in labels])


def learn_once(model: Model, golden: np.lib.npyio.NpzFile) -> tuple[LossTerms, dict[int, torch.Tensor], TorchNetwork]:
    """The terms of the recording's first step, what feeds each loss, with its gradient, and the network with its."""
    network = TorchNetwork(model, compat=True).train()
    loss = NetworkLoss(model.network)
    outputs = network(torch.from_numpy(golden["input"]), loss.wanted)
    for output in outputs.values():
        output.retain_grad()
    _, height, width = model.network.input
    moment = Moment((width, height), int(golden["seen_before"]) + len(golden["input"]), compat=True)
    if model.network.kind == "other":                    # its truth is no class
        (node,) = (node for node in model.network.nodes if node.layer.section == "cost")
        terms = cost_loss(node.layer, outputs[node.sources[0]], torch.from_numpy(golden["truth"]), moment)
    else:
        terms = loss(outputs, targets_of(model.network, golden["truth"]), moment)
    terms.total.backward()
    return terms, outputs, network


def relative(found: np.ndarray, recording: np.ndarray) -> float:
    assert found.size == recording.size
    assert np.abs(recording).max() > 0
    return float(np.abs(found.reshape(-1) - recording.reshape(-1)).max() / np.abs(recording).max())


def delta_of(node: Node, raw: torch.Tensor) -> np.ndarray:
    """Minus the gradient, as the CPU build records it: of [region] x, y and objectness before the sigmoid's slope."""
    delta = -raw.grad.numpy()
    if isinstance(node.layer, Region):
        delta = delta.reshape(len(delta), len(node.layer.anchors), node.layer.entries, *delta.shape[2:]).copy()
        said = 1 / (1 + np.exp(-raw.detach().numpy().reshape(delta.shape)))
        slope = (said * (1 - said))[:, :, [0, 1, 4]]
        delta[:, :, [0, 1, 4]] /= slope
    return delta


def test_all_recordings_of_training_are_looked_at() -> None:
    if SHARED.is_dir():
        assert len(FOLDERS) == len(list((SHARED / "golden/train").iterdir())) >= 9


@pytest.mark.shared
@pytest.mark.parametrize("name", FOLDERS)
def test_the_cost_deltas_and_gradients_of_the_first_step_are_darknets(shared: Path, name: str) -> None:
    """Weights are compared where Darknet's CPU build sends the gradient on: not from [region]."""
    folder = shared / "golden/train" / name
    golden = np.load(folder / "golden.npz")
    model = open_model(folder / "net.cfg", folder / "net.weights")
    terms, outputs, network = learn_once(model, golden)
    assert terms.printed.item() == pytest.approx(float(golden["cost"][0]), rel=LARGEST_DIFFERENCE)
    compared = 0
    for node in model.network.nodes:
        if f"delta_{node.index:03d}" in golden:
            found = delta_of(node, outputs[node.sources[0]])
            assert relative(found, golden[f"delta_{node.index:03d}"]) < LARGEST_DIFFERENCE, str(node)
            compared += 1
        for array, recorded in (("weights", "weight"), ("biases", "bias"), ("scales", "scale")):
            key = f"{recorded}_grad_{node.index:03d}"
            if key in golden:
                gradient = getattr(network, f"{node.index:03d}_{array}").grad.contiguous().numpy()
                assert relative(-gradient, golden[key]) < LARGEST_DIFFERENCE, f"{node} {array}"
                compared += 1
    assert compared == sum(key.startswith("delta_") or "_grad_" in key for key in golden) > 0


@pytest.mark.shared
def test_the_tree_recording_holds_sets_that_only_compat_pushes_down(shared: Path) -> None:
    folder = shared / "golden/train/softmax-tree"
    golden = np.load(folder / "golden.npz")
    model = open_model(folder / "net.cfg", folder / "net.weights")
    loss, targets = NetworkLoss(model.network), targets_of(model.network, golden["truth"])
    raw = torch.from_numpy(golden["output_001"]).requires_grad_()
    loss({1: raw}, targets, Moment((6, 6))).total.backward()
    ours, theirs = -raw.grad.numpy().reshape(3, 12), golden["delta_002"]
    # animal vehicle plant | cat dog bird | car bus | hound terrier | norfolk yorkshire
    on_the_way = np.array([[1] * 3 + [1] * 3 + [0] * 2 + [1] * 2 + [1] * 2,      # norfolk-terrier
                           [1] * 3 + [1] * 3 + [0] * 6,                          # dog
                           [1] * 3 + [0] * 3 + [1] * 2 + [0] * 4], bool)         # bus
    np.testing.assert_allclose(ours[on_the_way], theirs[on_the_way], atol=1e-5)
    assert (ours[~on_the_way] == 0).all()
    assert (theirs[~on_the_way] < 0).all()


# ---------------------------------------------------------------------- which layer has which loss
NET = "[net]\nwidth=8\nheight=8\nchannels=3\n"
CONVOLUTION = "[convolutional]\nfilters={}\nsize=1\nactivation=linear\n"
HEADS = {
    "yolo": CONVOLUTION.format(21) + "[yolo]\nclasses=2\nnum=3\nanchors=1,1,2,2,3,3\n",
    "region": CONVOLUTION.format(21) + "[region]\nclasses=2\nnum=3\nanchors=1,1,2,2,3,3\n",
    "detection": "[connected]\noutput=28\nactivation=linear\n[detection]\nclasses=2\ncoords=4\nside=2\nnum=1\n",
}
CLASSIFIER = CONVOLUTION.format(5) + "[avgpool]\n"
MOMENT = Moment((8, 8), seen=20_000)


def shows(*labels: int) -> Targets:
    return Targets.of([(np.full((1, 4), np.nan), np.array([label])) for label in labels])


def loss_of(text: str) -> NetworkLoss:
    return NetworkLoss(network_of(NET + text))


@pytest.mark.parametrize("name", HEADS)
def test_a_head_learns_from_what_feeds_it(name: str) -> None:
    network = network_of(NET + HEADS[name])
    loss = NetworkLoss(network)
    assert (loss.wanted, loss.kind) == ((0,), "detector")
    node = network.nodes[0]
    raw = torch.randn(2, *node.shape, requires_grad=True)
    boxes = np.array([[0.5, 0.5, 0.3, 0.3]])
    terms = loss({0: raw}, Targets.of([(boxes, np.array([1])), (boxes[:0], np.array([], int))]), MOMENT)
    terms.total.backward()
    assert {"centre", "extent", "objects", "background", "classes"} == terms.named().keys()
    assert all(float(term) > 0 for term in terms.detached().named().values())
    assert (raw.grad[0] != 0).any()


@pytest.mark.parametrize(
    ("text", "wanted", "kind"),
    [
        (CLASSIFIER + "[softmax]\n", (1,), "classifier"),
        (CLASSIFIER + "[softmax]\n[cost]\n", (1,), "classifier"),
        (CLASSIFIER + "[softmax]\nnoloss=1\n[cost]\n", (2,), "classifier"),
        (CLASSIFIER + "[logistic]\n", (1,), "other"),
        (CLASSIFIER + "[logistic]\n[cost]\n", (1,), "other"),
        (CLASSIFIER + "[cost]\n", (1,), "other"),
        (CLASSIFIER + "[softmax]\n[route]\nlayers=-2\n[softmax]\n", (1, 3), "classifier"),
        (HEADS["yolo"] + "[route]\nlayers=0\n[yolo]\nclasses=2\nnum=3\nanchors=4,4,5,5,6,6\n", (0, 2), "detector"),
        ("[softmax]\n", (-1,), "classifier"),
    ],
)
def test_the_layers_that_are_wanted(text: str, wanted: tuple[int, ...], kind: str) -> None:
    loss = loss_of(text)
    assert (loss.wanted, loss.kind) == (wanted, kind)


def test_losses_add_up_and_what_is_printed_is_their_mean() -> None:
    """Two softmaxes on the same five numbers."""
    loss = loss_of(CLASSIFIER + "[softmax]\n[route]\nlayers=-2\n[softmax]\n")
    raw = torch.randn(2, 5, 1, 1)
    one = softmax_loss(network_of(NET + CLASSIFIER + "[softmax]\n").output.layer, raw, shows(1, 4), MOMENT)
    both = loss({1: raw, 3: raw}, shows(1, 4), MOMENT)
    assert both.total.item() == pytest.approx(2 * one.total.item())
    assert both.printed.item() == pytest.approx(one.printed.item())


@pytest.mark.parametrize("layer", ["softmax", "logistic", "cost"])
def test_the_option_smooth_of_a_layer_is_label_smoothing(layer: str) -> None:
    raw = torch.randn(2, 5, 1, 1)
    given = [loss_of(f"{CLASSIFIER}[{layer}]\n{more}")({1: raw}, shows(1, 4), MOMENT) for more in ("", "smooth=.2\n")]
    logit = raw.reshape(2, 5)
    if layer == "softmax":
        # The cross-entropy is linear in the truth: a fifth goes to the mean over classes.
        uniform = -logit.log_softmax(1).mean(1).sum()
        assert given[1].total.item() == pytest.approx((0.8 * given[0].total + 0.2 * uniform).item())
    elif layer == "cost":
        truth = 0.8 * torch.nn.functional.one_hot(torch.tensor([1, 4]), 5) + 0.04
        assert given[1].total.item() == pytest.approx(((truth - logit).square().sum() / 2).item())
    assert given[1].total.item() != given[0].total.item()


def test_label_smooth_eps_of_the_fork_is_what_a_classifiers_other_classes_share() -> None:
    """.1 of the truth for the four others; but a layer that says smooth= itself has its own."""
    raw, net = torch.randn(2, 5, 1, 1), NET + "label_smooth_eps=.1\n"
    truth = 0.9 * torch.nn.functional.one_hot(torch.tensor([1, 4]), 5)
    truth = torch.where(truth > 0, truth, 0.1 / 4)
    found = NetworkLoss(network_of(net + CLASSIFIER + "[softmax]\n"))({1: raw}, shows(1, 4), MOMENT)
    assert found.total.item() == pytest.approx(-(truth * raw.reshape(2, 5).log_softmax(1)).sum().item())
    text = CLASSIFIER + "[softmax]\nsmooth=.2\n"
    own = NetworkLoss(network_of(net + text))({1: raw}, shows(1, 4), MOMENT)
    assert own.total.item() == loss_of(text)({1: raw}, shows(1, 4), MOMENT).total.item()


@pytest.mark.parametrize("kind", [torch.float16, torch.bfloat16])
def test_low_precision_is_computed_in_float32(kind: torch.dtype) -> None:
    loss = loss_of(HEADS["region"])
    raw = torch.randn(1, 21, 8, 8).to(kind)
    targets = Targets.of([(np.array([[0.5, 0.5, 0.3, 0.3]]), np.array([1]))])
    low, full = loss({0: raw}, targets, MOMENT), loss({0: raw.float()}, targets, MOMENT)
    assert low.total.dtype == torch.float32
    assert low.total.item() == full.total.item()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (CONVOLUTION.format(5), r"^test.cfg: has nothing to learn from; wanted a \[yolo\], .* at its end$"),
        (CLASSIFIER + "[softmax]\nnoloss=1\n", "^test.cfg: has nothing to learn from"),
        (CLASSIFIER + "[softmax]\nspatial=1\n", r"^test.cfg:10: \[softmax\] spatial=1 cannot be learnt"),
        (CLASSIFIER + "[cost]\ntype=seg\n", r"^test.cfg:10: \[cost\] type=seg cannot be learnt here; wanted sse"),
        (CLASSIFIER + "[cost]\nratio=.1\n", r"^test.cfg:10: \[cost\] ratio=0.1 cannot be learnt here; wanted 0"),
        (CLASSIFIER + "[softmax]\ntruth=1\n", r"^test.cfg:11: \[softmax\] truth=1 is not supported"),
    ],
)
def test_a_network_that_cannot_learn_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(CfgError, match=message) as caught:
        loss_of(text)
    assert "\n" not in str(caught.value)


def test_a_class_beyond_the_networks_is_refused() -> None:
    with pytest.raises(DataError, match="of class 5, wanted 0 to 4"):
        loss_of(CLASSIFIER + "[softmax]\n")({1: torch.randn(2, 5, 1, 1)}, shows(0, 5), MOMENT)
