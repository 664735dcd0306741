"""Learning rates against arithmetic by hand."""

from __future__ import annotations

import itertools
import math

import pytest
from conftest import network_of

from lookonce.network import NetOptions
from lookonce.train.schedule import learning_rate


def options(text: str) -> NetOptions:
    net = "[net]\nwidth=8\nheight=8\nchannels=3\nlearning_rate=.5\n"
    return network_of(net + text.replace(" ", "\n") + "\n[avgpool]\n").options


@pytest.mark.parametrize(
    ("text", "batch", "rate"),
    [
        ("policy=constant", 1, 0.5),
        ("policy=constant", 10**9, 0.5),
        # .5 * .1^floor(b / 100)
        ("policy=step step=100 scale=.1", 99, 0.5),
        ("policy=step step=100 scale=.1", 100, 0.05),
        ("policy=step step=100 scale=.1", 299, 0.005),
        # a step is reached by the batch of its number
        ("policy=steps steps=100,200 scales=.1,.5", 99, 0.5),
        ("policy=steps steps=100,200 scales=.1,.5", 100, 0.05),
        ("policy=steps steps=100,200 scales=.1,.5", 199, 0.05),
        ("policy=steps steps=100,200 scales=.1,.5", 200, 0.025),
        # as in Darknet's old cfgs: -1 is reached before the first batch
        ("policy=steps steps=-1,100,20000 scales=.1,10,.1", 1, 0.05),
        ("policy=steps steps=-1,100,20000 scales=.1,10,.1", 100, 0.5),
        ("policy=steps steps=-1,100,20000 scales=.1,10,.1", 20000, 0.05),
        # it looks no further than the first that is not reached
        ("policy=steps steps=100,50,200 scales=.1,.5,10", 60, 0.5),
        ("policy=steps steps=100,50,200 scales=.1,.5,10", 100, 0.025),
        # .5 * .9^b
        ("policy=exp gamma=.9", 2, 0.405),
        # .5 * (1 - b / 400)^2
        ("policy=poly max_batches=400 power=2", 100, 0.28125),
        ("policy=poly max_batches=400 power=2", 400, 0.0),
        ("policy=poly max_batches=400 power=2", 500, 0.0),
        ("policy=poly max_batches=400", 200, 0.03125),          # power is 4
        # .5 / (1 + e^(.02 (b - 50)))
        ("policy=sigmoid gamma=.02 step=50", 50, 0.25),
        ("policy=sigmoid gamma=.02 step=50", 100, 0.5 / (1 + math.e)),
        ("policy=sig gamma=.02 step=50", 1, 0.5 / (1 + math.exp(-0.98))),
        ("policy=sigmoid gamma=100 step=50", 10**6, 0.0),       # e^(10^8) is no number
        # half a cosine from .5 to .1
        ("policy=sgdr learning_rate_min=.1 sgdr_cycle=100", 50, 0.3),
        ("policy=sgdr learning_rate_min=.1 sgdr_cycle=100", 100, 0.1),
        # the second cycle begins after batch 100 and is twice as long: 200 is its middle; the third is 4 times
        ("policy=sgdr learning_rate_min=.1 sgdr_cycle=100", 200, 0.3),
        ("policy=sgdr learning_rate_min=.1 sgdr_cycle=100", 300, 0.1),
        ("policy=sgdr learning_rate_min=.1 sgdr_cycle=100", 400, 0.1 + 0.2 * (1 + math.cos(math.pi / 4))),
        ("policy=sgdr learning_rate_min=.1 sgdr_cycle=100", 500, 0.3),
        ("policy=sgdr learning_rate_min=.1 sgdr_cycle=100 sgdr_mult=1", 150, 0.3),
        ("policy=sgdr learning_rate_min=.1 sgdr_cycle=100 sgdr_mult=1", 101, 0.3 + 0.2 * math.cos(0.01 * math.pi)),
        # one cycle for all, and its least is 1e-5, where the cfg says nothing
        ("policy=sgdr max_batches=600", 300, 1e-5 + 0.5 * (0.5 - 1e-5)),
        ("policy=sgdr max_batches=600", 600, 1e-5),
    ],
)  # fmt: skip
def test_each_policy_is_its_formula(text: str, batch: int, rate: float) -> None:
    assert learning_rate(options(text), batch) == pytest.approx(rate, rel=1e-12, abs=1e-300)


@pytest.mark.parametrize("policy", ["constant", "step", "exp", "poly max_batches=400", "sigmoid", "random", "sgdr"])
def test_while_it_burns_in_every_policy_is_the_same(policy: str) -> None:
    """.5 (b / 10)^3; batch 10 is the first that is not of it."""
    found = options(f"policy={policy} burn_in=10 power=3")
    for batch in range(1, 10):
        assert learning_rate(found, batch) == pytest.approx(0.5 * (batch / 10) ** 3, rel=1e-12)
    without = options(f"policy={policy} power=3")
    assert learning_rate(found, 10) == learning_rate(without, 10)


def test_the_rate_of_darknets_own_cfgs_through_a_run() -> None:
    """yolov3: .001, 1,000 batches of burn-in with the default power of 4, a tenth at 400,000 and 450,000."""
    found = options("burn_in=1000 max_batches=500200 policy=steps steps=400000,450000 scales=.1,.1")
    rates = {1: 0.5e-12, 500: 0.5 / 16, 999: 0.5 * 0.999**4, 1000: 0.5, 399999: 0.5, 400000: 0.05, 450000: 0.005}
    assert {batch: learning_rate(found, batch) for batch in rates} == {
        batch: pytest.approx(rate, rel=1e-12) for batch, rate in rates.items()
    }


def test_random_rates_follow_from_the_seed_and_the_number() -> None:
    """.5 U^4: of 2,000 about half are below .5 / 16, the median's; none depends on which were asked for before."""
    found = options("policy=random")
    rates = [learning_rate(found, batch, seed=1) for batch in range(2000)]
    assert rates[7] == learning_rate(found, 7, seed=1)
    assert rates[7] != learning_rate(found, 7, seed=2)
    assert all(0 <= rate <= 0.5 for rate in rates)
    assert sum(rate < 0.5 / 16 for rate in rates) / 2000 == pytest.approx(0.5, abs=0.05)


def test_rates_do_not_rise_after_the_burn_in_where_they_should_fall() -> None:
    falling = ("poly max_batches=100", "sgdr max_batches=100", "exp gamma=.9", "step step=7 scale=.5")
    for policy in falling:
        rates = [learning_rate(options(f"policy={policy}"), batch) for batch in range(1, 101)]
        assert all(later <= earlier for earlier, later in itertools.pairwise(rates))
