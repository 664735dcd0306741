"""Steps: what they sum, what they refuse, and that they go on bit for bit."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from conftest import model_of

from lookonce.data.batches import Batch, Plan
from lookonce.errors import CfgError, DataError, LookonceError
from lookonce.losses.terms import LossTerms, Moment
from lookonce.losses.yolo import yolo_loss
from lookonce.model import Model
from lookonce.nn import TorchNetwork
from lookonce.train.distributed import World
from lookonce.train.learner import Learner, NonFiniteError, Options, Step, learn
from lookonce.truth import Targets

NET = "[net]\nwidth=24\nheight=16\nchannels=3\nlearning_rate=.01\n"
PLAIN = "[convolutional]\nfilters=8\nsize=3\nstride=2\npad=1\nactivation=leaky\n"
NORMED = "[convolutional]\nfilters=8\nsize=3\nstride=2\npad=1\nbatch_normalize=1\nactivation=leaky\n"
YOLO = "[convolutional]\nfilters=21\nsize=1\nactivation=linear\n[yolo]\nclasses=2\nnum=3\nanchors=4,4,8,6,12,9\n"
# Everything that is drawn by chance, and what the fork keeps beside: a moving average.
CHANCY = (
    "[net]\nwidth=12\nheight=12\nchannels=3\nbatch=8\nsubdivisions=2\nlearning_rate=.05\npolicy=random\nburn_in=4\n"
    "ema_alpha=.9\n[crop]\ncrop_width=8\ncrop_height=8\nflip=1\n" + NORMED + "[dropout]\nprobability=.5\n"
    "[connected]\noutput=5\nactivation=linear\n[softmax]\n"
)


def batch(number: int, pictures: int = 4, size: tuple[int, int] = (24, 16), truths: int = 2, seed: int = 0) -> Batch:
    """Random pictures with some boxes each, which depend on the number alone."""
    rng = np.random.default_rng((seed, number))
    rows = [
        (np.concatenate([rng.uniform(0.1, 0.9, (truths, 2)), rng.uniform(0.1, 0.5, (truths, 2))], 1),
         rng.integers(0, 2, truths))
        for _ in range(pictures)
    ]  # fmt: skip
    width, height = size
    indices = tuple(range(number * pictures, (number + 1) * pictures))
    return Batch(rng.random((pictures, 3, height, width), np.float32), Targets.of(rows), Plan(number, indices, *size))


def labelled(number: int) -> Batch:
    """For a classifier of 5: a picture shows one of them."""
    made = batch(number, size=(12, 12))
    labels = np.random.default_rng(number).integers(0, 5, 4)
    return made._replace(targets=Targets.of([(np.full((1, 4), np.nan), label[None]) for label in labels]))


def learner(layers: str, net: str = "batch=8\nsubdivisions=2\n", **options: Any) -> Learner:
    return Learner(model_of(NET + net + layers), Options(**options))


def kept(one: Learner) -> dict[str, bytes]:
    """All that a learner is, by name, bit for bit."""
    arrays, facts = one.state()
    return {**{name: array.tobytes() for name, array in arrays.items()}, "facts": str(facts).encode()}


def told(step: Step) -> tuple[Any, ...]:
    """A step without the time that it took."""
    return (step.number, step.seen, step.rate, dict(step.terms), step.printed, step.size)


# ---------------------------------------------------------------------- what a step sums
def test_a_step_goes_down_the_gradient_of_the_mean_loss() -> None:
    """Without momentum and decay: w - rate * d(loss / pictures)/dw, by autograd over the module and yolo_loss alone."""
    model = model_of(NET + "batch=4\nmomentum=0\ndecay=0\n" + PLAIN + YOLO)
    network, made = TorchNetwork(model).train(), batch(0)
    head = model.network.heads[0][1]
    terms = yolo_loss(head, network(torch.from_numpy(made.pictures), (1,))[1], made.targets, Moment((24, 16), 4))
    (terms.total / 4).backward()
    one = Learner(model)
    step = one.step([made])
    after = one.to_model()
    for node, arrays in zip(model.network.nodes, model.weights, strict=True):
        for name, array in arrays.items():
            gradient = network.arrays(node)[name].grad
            assert gradient is not None
            np.testing.assert_allclose(after.weights[node.index][name], array - 0.01 * gradient.numpy(), atol=1e-6)
    assert step.terms == {name: pytest.approx(value.item() / 4, rel=1e-5) for name, value in terms.named().items()}
    assert step.loss == pytest.approx(terms.total.item() / 4, rel=1e-5)
    assert terms.printed is not None
    assert step.printed == pytest.approx(terms.printed.item() / 4, rel=1e-5)
    assert (step.number, step.seen, step.rate, step.size) == (1, 4, 0.01, (24, 16))
    assert step.seconds > 0


def test_subdivisions_of_a_batch_learn_what_the_batch_learns() -> None:
    """Without batch norm, which goes by its mini-batch: 8 pictures at once, or 4 times 2. Three steps with momentum."""
    whole, parts = learner(PLAIN + YOLO, "batch=8\n"), learner(PLAIN + YOLO, "batch=8\nsubdivisions=4\n")
    for number in range(3):
        made = batch(number, pictures=8)
        rows = made.targets
        split = []
        for part in range(4):
            mine = rows.picture // 2 == part
            targets = Targets(rows.picture[mine] - 2 * part, rows.cxcywh[mine], rows.label[mine], 2)
            split.append(Batch(made.pictures[2 * part : 2 * part + 2], targets, made.plan))
        one, other = whole.step([made]), parts.step(split)
        assert one.loss == pytest.approx(other.loss, rel=1e-5)
        assert one.printed == pytest.approx(other.printed, rel=1e-5)
        assert one.seen == other.seen == 8 * (number + 1)
    for name, value in whole.network.state_dict().items():
        np.testing.assert_allclose(value, parts.network.state_dict()[name], rtol=1e-4, atol=1e-6, err_msg=name)


def test_rolling_statistics_take_in_every_mini_batch_in_order() -> None:
    model = model_of(NET + "batch=8\nsubdivisions=2\n" + NORMED + YOLO)
    batches = [batch(0), batch(1)]
    network = TorchNetwork(model).train()
    wanted = {name: model.weights[0][name].astype(np.float64) for name in ("mean", "variance")}
    for made in batches:
        network(torch.from_numpy(made.pictures), (0,))
        (seen,) = network.statistics
        wanted["mean"] = 0.99 * wanted["mean"] + 0.01 * seen.mean.numpy()
        wanted["variance"] = 0.99 * wanted["variance"] + 0.01 * seen.variance.numpy()
    one = Learner(model)
    one.step(batches)
    for name, value in wanted.items():
        np.testing.assert_allclose(one.to_model().weights[0][name], value, rtol=1e-5)


def test_sizes_may_change_from_step_to_step() -> None:
    one = learner(NORMED + YOLO, "batch=4\n")
    sizes = [one.step([batch(number, size=size)]).size for number, size in enumerate([(24, 16), (48, 32), (16, 40)])]
    assert sizes == [(24, 16), (48, 32), (16, 40)]


# ---------------------------------------------------------------------- pictures seen
def moments_of(one: Learner) -> list[Moment]:
    """The moments that a learner's loss is told, from now on."""
    said: list[Moment] = []

    class Spy:
        wanted = one.loss.wanted
        ask = one.loss

        def __call__(self, outputs: Mapping[int, torch.Tensor], targets: Targets, moment: Moment) -> LossTerms:
            said.append(moment)
            return self.ask(outputs, targets, moment)

    one.loss = Spy()  # type: ignore[assignment]
    return said


def test_seen_goes_on_from_the_weights_and_counts_this_mini_batch_too() -> None:
    """As Darknet's: weights that saw 1,000 pictures, then batches of 2 times 4. The rate follows: batch 126 is the
    first, (1,000 + 8) / 8."""
    model = model_of(NET + "batch=8\nsubdivisions=2\npolicy=steps\nsteps=126,127\nscales=.1,.1\n" + PLAIN + YOLO)
    model = replace(model, header=replace(model.header, seen=1000))
    one = Learner(model)
    said = moments_of(one)
    steps = [one.step([batch(2 * turn), batch(2 * turn + 1)]) for turn in range(2)]
    assert [moment.seen for moment in said] == [1004, 1008, 1012, 1016]
    assert {moment.input for moment in said} == {(24, 16)}
    assert [step.seen for step in steps] == [1008, 1016]
    assert [step.number for step in steps] == [1, 2]
    assert [step.rate for step in steps] == [pytest.approx(0.001), pytest.approx(0.0001)]
    assert one.to_model().header.seen == 1016


@pytest.mark.parametrize(("rank", "seen"), [(0, [4, 12]), (1, [8, 16])])
def test_of_several_processes_each_mini_batch_has_its_own_place(rank: int, seen: list[int]) -> None:
    """Process 1 of 2 has the second and the fourth of a batch of 16."""

    class Alone(World):
        """A process with no other to hear of."""

        def sum(self, tensors: Any) -> None: ...

        def gather(self, statistics: Any) -> Any:
            return [each for seen in statistics for each in seen]

    one = Learner(model_of(NET + "batch=16\nsubdivisions=4\n" + PLAIN + YOLO), world=Alone(rank, 2))
    said = moments_of(one)
    assert one.step([batch(rank), batch(2 + rank)]).seen == 16
    assert [moment.seen for moment in said] == seen


def test_mini_batches_are_taken_in_groups_of_a_batch() -> None:
    one = learner(PLAIN + YOLO, "batch=12\nsubdivisions=3\n")
    steps = list(learn(one, (batch(number) for number in range(8))))
    assert [step.seen for step in steps] == [12, 24]
    assert one.number == 2


# ---------------------------------------------------------------------- NaN and infinity
def spoilt(array: np.ndarray, value: float) -> np.ndarray:
    """With one value in its middle replaced."""
    found = array.copy()
    found.reshape(-1)[found.size // 2] = value
    return found


def bad_picture(made: Batch, value: float) -> Batch:
    return made._replace(pictures=spoilt(made.pictures, value))


def bad_truth(made: Batch, value: float) -> Batch:
    rows = made.targets
    return made._replace(targets=Targets(rows.picture, spoilt(rows.cxcywh, value), rows.label, rows.pictures))


def refused(one: Learner, batches: list[Batch], message: str) -> tuple[Plan, ...]:
    """A step that is refused with a message, and changes nothing; the plans that it names."""
    before = kept(one)
    with pytest.raises(NonFiniteError, match=message) as caught:
        one.step(batches)
    assert kept(one) == before
    assert all(value.grad is None for value in one.network.parameters())
    assert "nothing was learnt from it" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, LookonceError)
    return caught.value.plans


@pytest.mark.parametrize("spoil", [bad_picture, bad_truth])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_bad_picture_or_truth_is_refused_at_once_and_changes_nothing(
    spoil: Callable[[Batch, float], Batch], value: float
) -> None:
    """In the second of two mini-batches of the third step, so that there is momentum, an average, rolled statistics."""
    net = "batch=8\nsubdivisions=2\nema_alpha=.9\n"
    one, other = learner(NORMED + NORMED + YOLO, net), learner(NORMED + NORMED + YOLO, net)
    for each in (one, other):
        for turn in range(2):
            each.step([batch(2 * turn), batch(2 * turn + 1)])
    what = "pictures" if spoil is bad_picture else "truths"
    message = rf"^step 3: the loss is not finite \(.*printed\): its {what};"
    assert refused(one, [batch(4), spoil(batch(5), value)], message) == (batch(5).plan,)
    assert refused(one, [batch(4), spoil(batch(5), value)], message) == (batch(5).plan,)
    # It goes on as if it had never met it.
    assert told(one.step([batch(6), batch(7)])) == told(other.step([batch(6), batch(7)]))
    assert kept(one) == kept(other)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("part", ["now", "optimizer", "average"])
@pytest.mark.parametrize(
    "name", ["000_weights", "000_biases", "000_scales", "000_mean", "000_variance", "002_weights", "002_biases"]
)
def test_what_is_kept_is_looked_at_whether_or_not_the_batch_does(part: str, name: str, value: float) -> None:
    """Of layer 2 the last logit is spoilt: of a class and anchor that a batch without truths never reads."""
    one = learner(NORMED + NORMED + YOLO, "batch=8\nsubdivisions=2\nema_alpha=.9\n")
    one.step([batch(0), batch(1)])
    if part == "optimizer" and name in ("000_mean", "000_variance"):
        return  # no gradient, no memory
    tensors = {
        "now": one.network.state_dict(),
        "optimizer": {key.split("/")[1]: value for key, value in one.optimizer.arrays().items()},
        "average": one.average.values if one.average is not None else {},
    }[part]
    tensors[name][(-1,) * tensors[name].ndim] = value
    owner = {"now": "", "optimizer": "optimizer's memory of the ", "average": "average of the "}[part]
    cause = rf": the {owner}{name[4:]} of layer {int(name[:3])} \[convolutional\]; nothing"
    plans = refused(one, [batch(2, truths=0), batch(3, truths=0)], rf"^step 2: .* finite.*{cause}")
    assert set(plans) <= {batch(2).plan, batch(3).plan}
    assert plans


def test_an_overflow_is_named_by_the_first_layer_that_has_it() -> None:
    """Finite weights of 1e25: the second layer's values are too large for a float."""
    one = learner(PLAIN + PLAIN + YOLO, "batch=4\n")
    with torch.no_grad():
        for layer in (0, 1):
            one.network.arrays(one.model.network.nodes[layer])["weights"].fill_(1e25)
    message = r"^step 1: the loss is not finite \(.*\): what layer 1 \[convolutional\] puts out; nothing was learnt"
    assert refused(one, [batch(0)], message) == (batch(0).plan,)


def test_a_gradient_that_is_not_finite_is_refused_with_its_layer() -> None:
    """The loss is finite. What flows back comes to the later layer first."""
    one = learner(PLAIN + PLAIN + YOLO)
    one.step([batch(0), batch(1)])
    for layer in (0, 1):
        weights = one.network.arrays(one.model.network.nodes[layer])["weights"]
        weights.register_hook(lambda gradient: gradient * math.nan)
    message = r"^step 2: not everything is finite: the gradient of the weights of layer 1 \[convolutional\]; nothing"
    assert refused(one, [batch(2), batch(3)], message) == (batch(2).plan, batch(3).plan)


def test_a_variance_that_is_not_finite_is_refused_though_the_loss_is() -> None:
    """Values of 1e22 have a variance of 1e44, no float; normalized by it they are a harmless 0. That the weights are as
    large is no reason: they are floats."""
    one = learner(PLAIN + NORMED + YOLO, "batch=4\n")
    with torch.no_grad():
        one.network.arrays(one.model.network.nodes[1])["weights"].mul_(1e22)
    refused(
        one, [batch(0)], r"^step 1: not everything is finite: the variance of what layer 1 \[convolutional\] makes;"
    )


def test_large_numbers_are_no_mistake() -> None:
    """Weights of about 1e17, whose squares add up to no float: batch norm takes their size out again."""
    one = learner(PLAIN + NORMED.replace("filters=8", "filters=1024") + YOLO, "batch=4\n")
    weights = one.network.arrays(one.model.network.nodes[1])["weights"]
    with torch.no_grad():
        weights.mul_(5e17)
    assert weights.square().sum().item() == math.inf
    assert math.isfinite(one.step([batch(0)]).loss)


def test_a_truth_that_only_says_what_is_there_is_no_mistake() -> None:
    """NaN for all four numbers of a row."""
    one, made = learner(NORMED + YOLO, "batch=4\n"), batch(0)
    rows = made.targets
    boxes = rows.cxcywh.copy()
    boxes[1] = math.nan
    assert math.isfinite(one.step([made._replace(targets=Targets(rows.picture, boxes, rows.label, 4))]).loss)


def test_a_step_that_an_error_ends_leaves_nothing_behind() -> None:
    """A class that there is not, in the second mini-batch: the gradients of the first must not count later."""
    one, other = learner(NORMED + YOLO), learner(NORMED + YOLO)
    rows = batch(1).targets
    wrong = batch(1)._replace(targets=Targets(rows.picture, rows.cxcywh, rows.label + 2, rows.pictures))
    before = kept(one)
    with pytest.raises(DataError, match="class"):
        one.step([batch(0), wrong])
    assert kept(one) == before
    assert told(one.step([batch(2), batch(3)])) == told(other.step([batch(2), batch(3)]))
    assert kept(one) == kept(other)


def test_a_network_with_nothing_to_learn_is_refused() -> None:
    with pytest.raises(CfgError, match="no layer learns"):
        learner(PLAIN + YOLO.replace("activation", "stopbackward=1\nactivation"))


# ---------------------------------------------------------------------- going on
def test_a_learner_goes_on_bit_for_bit() -> None:
    """Ten steps with dropout, random crops and flips, random rates, momentum, batch norm and an average; or five, then
    five by a learner that began with other weights."""
    unbroken, first = (Learner(model_of(CHANCY), Options(seed=3)) for _ in range(2))
    steps = [[labelled(2 * turn), labelled(2 * turn + 1)] for turn in range(10)]
    wanted = [told(unbroken.step(each)) for each in steps]
    found = [told(first.step(each)) for each in steps[:5]]
    arrays, facts = first.state()
    first.step(steps[5])  # what was taken are copies
    second = Learner(model_of(CHANCY, seed=77), Options(seed=3))
    second.step(steps[9])
    second.load(arrays, facts)
    found += [told(second.step(each)) for each in steps[5:]]
    assert found == wanted
    assert kept(second) == kept(unbroken)
    assert {name.split("/")[0] for name in arrays} == {"now", "optimizer", "average"}
    assert facts == {"step": 5, "seen": 40, "averaged": 5}


def test_adam_goes_on_bit_for_bit_too() -> None:
    first = learner(NORMED + YOLO, "batch=8\nsubdivisions=2\nadam=1\nlearning_rate=.001\n")
    second = learner(NORMED + YOLO, "batch=8\nsubdivisions=2\nadam=1\nlearning_rate=.001\n")
    steps = [[batch(2 * turn), batch(2 * turn + 1)] for turn in range(4)]
    for each in steps[:2]:
        first.step(each)
    second.load(*first.state())
    for each in steps[2:]:
        assert told(first.step(each)) == told(second.step(each))
    assert kept(first) == kept(second)


def test_chance_follows_from_the_seed_and_the_number_of_the_mini_batch() -> None:
    """Whatever else has drawn before."""

    def loss(seed: int, number: int) -> float:
        torch.rand(number + 5)
        made = labelled(0)
        plan = made.plan._replace(number=number)
        return Learner(model_of(CHANCY), Options(seed=seed)).step([made._replace(plan=plan)]).loss

    assert loss(1, 2) == loss(1, 2)
    assert len({loss(1, 2), loss(1, 3), loss(2, 2)}) == 3


def test_the_state_of_another_network_is_refused() -> None:
    one = learner(PLAIN + YOLO)
    arrays, facts = learner(NORMED + YOLO).state()
    with pytest.raises(LookonceError, match=r"^test.cfg: the checkpoint is of another network$"):
        one.load(arrays, facts)


def test_the_model_is_that_of_the_average_if_there_is_one() -> None:
    """After the first update the average keeps 2/11 of what it was."""
    model = model_of(NET + "batch=4\nema_alpha=.99\n" + NORMED + YOLO)
    one = Learner(model)
    one.step([batch(0)])
    averaged, now = one.to_model(), one.to_model(averaged=False)
    for layer, arrays in enumerate(model.weights):
        for name, start in arrays.items():
            wanted = 2 / 11 * start.astype(np.float64) + 9 / 11 * now.weights[layer][name]
            np.testing.assert_allclose(averaged.weights[layer][name], wanted, rtol=1e-5, atol=1e-7)
    assert averaged.header.seen == now.header.seen == 4
    assert not np.array_equal(averaged.weights[0]["mean"], now.weights[0]["mean"])
    without = Learner(model_of(NET + "batch=4\n" + NORMED + YOLO))
    assert without.average is None
    assert all(
        np.array_equal(array, model.weights[layer][name])
        for layer, arrays in enumerate(without.to_model().weights)
        for name, array in arrays.items()
    )


# ---------------------------------------------------------------------- other ways to compute
def test_bfloat16_learns_about_the_same_and_keeps_float32() -> None:
    layers = NORMED + NORMED + YOLO
    low, high = learner(layers, "batch=4\n", precision="bf16"), learner(layers, "batch=4\n")
    for number in range(3):
        made = batch(number)
        one, other = low.step([made]), high.step([made])
        assert one.loss == pytest.approx(other.loss, rel=0.03)
        assert one.loss != other.loss
    assert {value.dtype for value in low.network.state_dict().values()} == {torch.float32}
    assert {array.dtype for array in low.state()[0].values()} == {np.dtype(np.float32)}


def test_a_rehearsal_changes_nothing_at_any_size() -> None:
    one = learner(NORMED + YOLO, "batch=8\nsubdivisions=2\nema_alpha=.9\n")
    one.step([batch(0), batch(1)])
    before = kept(one)
    one.rehearse(4, 40, 32)
    assert kept(one) == before
    assert all(value.grad is None for value in one.network.parameters())


def test_it_learns() -> None:
    """One batch again and again: the loss falls to a fraction."""
    model: Model = model_of(NET + "batch=4\nlearning_rate=.02\n" + NORMED + NORMED + YOLO)
    one = Learner(model)
    losses = [one.step([batch(0)]).loss for _ in range(60)]
    assert losses[-1] < 0.2 * losses[0]
