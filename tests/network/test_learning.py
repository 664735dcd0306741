"""What every section of a cfg may say of how it learns."""

from __future__ import annotations

import pytest
from conftest import network_of

from lookonce.errors import CfgError, LookonceWarning
from lookonce.network.learning import LayerLearning, learning_of, warn_of_ignored

NET = "[net]\nwidth=8\nheight=8\nchannels=3\n"
CONV = "[convolutional]\nfilters=4\nsize=1\nactivation=linear\n"


def said(options: str, net: str = "") -> LayerLearning:
    """What the first layer is told by its own options and by [net]'s."""
    return learning_of(network_of(NET + net + CONV + options + CONV))[0]


def test_without_options_a_layer_learns_at_the_networks_rate() -> None:
    assert said("") == LayerLearning(
        rate=1.0, stop=False, frozen=False, only_batch_norm=False, clip=0.0, smooth=0.0
    )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "name", "value"),
    [
        ("learning_rate=.1\n", "rate", 0.1),
        ("learning_rate=0\n", "rate", 0.0),
        ("stopbackward=1\n", "stop", True),
        ("dont_update=1\n", "frozen", True),
        ("train_only_bn=1\n", "only_batch_norm", True),
        ("clip=2.5\n", "clip", 2.5),
        ("smooth=.1\n", "smooth", 0.1),
    ],
)
def test_each_option_means_one_thing_and_only_to_its_layer(options: str, name: str, value: object) -> None:
    first, second = learning_of(network_of(NET + CONV + options + CONV))
    assert first == LayerLearning(**{name: value})  # type: ignore[arg-type]
    assert second == LayerLearning()


def test_the_clip_of_net_holds_where_a_layer_says_none() -> None:
    assert said("", net="clip=3\n").clip == 3
    assert said("clip=1\n", net="clip=3\n").clip == 1
    assert said("clip=0\n", net="clip=3\n").clip == 0


def test_every_layer_may_say_it_whatever_its_kind() -> None:
    """One entry a layer, in their order, of layers without weights too."""
    network = network_of(NET + CONV + "[maxpool]\nsize=2\nstopbackward=1\n[softmax]\nsmooth=.2\n[cost]\n")
    learning = learning_of(network)
    assert len(learning) == len(network.nodes) == 4
    assert [each.stop for each in learning] == [False, True, False, False]
    assert learning[2].smooth == 0.2


@pytest.mark.parametrize("option", ["truth=1", "onlyforward=1", "burnin_update=100"])
def test_what_would_learn_otherwise_is_refused(option: str) -> None:
    network = network_of(NET + CONV + option + "\n")
    with pytest.raises(CfgError, match=rf"test.cfg:9: .*{option.partition('=')[0]}"):
        learning_of(network)
    assert learning_of(network_of(NET + CONV + option.partition("=")[0] + "=0\n")) == (LayerLearning(),)


@pytest.mark.parametrize(("option", "place"), [("learning_rate=-1", 9), ("clip=-1", 9), ("smooth=1.5", 9)])
def test_numbers_out_of_range_are_refused_with_their_line(option: str, place: int) -> None:
    with pytest.raises(CfgError, match=rf"test.cfg:{place}: "):
        learning_of(network_of(NET + CONV + option + "\n"))


def test_smoothing_may_be_all() -> None:
    assert said("smooth=1\n").smooth == 1


def test_options_that_learning_does_not_obey_are_named() -> None:
    """Those that are set to what they are unset say nothing."""
    text = NET + "mixup=1\ncenter=0\n[crop]\ncrop_width=4\ncrop_height=4\nangle=7\nexposure=1.0\n"
    network = network_of(text + "[avgpool]\n[softmax]\n")
    with pytest.warns(LookonceWarning) as said:
        warn_of_ignored(network)
    found = [str(each.message).partition(": ")[2].partition(" is not obeyed")[0] for each in said]
    assert found == ["[net] mixup=1", "[crop] angle=7"]
