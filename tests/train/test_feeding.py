"""How cfgs want their pictures, against what Darknet's loaders do (darknet.md, 6)."""

from __future__ import annotations

import pytest
from conftest import network_of

from lookonce.data.batches import Augmentation
from lookonce.model import open_network
from lookonce.network import Network
from lookonce.train.feeding import augmentation_of, sampler_of, sizes_of

NET = "[net]\nwidth=64\nheight=96\nchannels=3\nbatch=8\nsubdivisions=2\n"
CONV = "[convolutional]\nfilters=21\nsize=1\nstride=32\nactivation=linear\n"
YOLO = CONV + "[yolo]\nclasses=2\nnum=3\nanchors=1,2,3,4,5,6\n"
REGION = CONV + "[region]\nclasses=2\nnum=3\nanchors=1,2,3,4,5,6\n"
FLAT = "[connected]\noutput=12\nactivation=linear\n[detection]\nclasses=2\ncoords=4\nside=1\nnum=2\n"
CLASSES = "[convolutional]\nfilters=4\nsize=1\nactivation=linear\n[avgpool]\n[softmax]\n"
FORK = "letter_box=0\n"


def made(layers: str, net: str = "") -> Network:
    return network_of(NET + net + layers)


# ---------------------------------------------------------------------- what is done to pictures
def test_yolov3_shows_pictures_whole_at_a_random_place() -> None:
    colours = "hue=.1\nsaturation=1.5\nexposure=1.4\nangle=5\naspect=.75\n"
    assert augmentation_of(made(YOLO + "jitter=.3\n", colours)) == Augmentation(
        placing="place", resize="letterbox", jitter=0.3, flip=True, hue=0.1, saturation=1.5, exposure=1.4,
        angle=0.0, aspect=1.0, least=0, most=0, base=0, mosaic=0.0, smallest=0.001,
    )  # fmt: skip


def test_version_1_cuts_them_and_drops_larger_boxes() -> None:
    found = augmentation_of(made(FLAT + "jitter=.2\n"))
    assert (found.placing, found.resize, found.jitter, found.smallest) == ("crop", "stretch", 0.2, 0.005)


def test_the_fork_cuts_them_unless_it_letterboxes_and_may_make_mosaics() -> None:
    found = augmentation_of(made(YOLO + "jitter=.3\n", "letter_box=0\nmosaic=1\nflip=0\n"))
    assert (found.placing, found.resize, found.mosaic, found.flip) == ("crop", "stretch", 0.5, False)
    found = augmentation_of(made(YOLO, "letter_box=1\n"))
    assert (found.placing, found.resize, found.mosaic, found.flip) == ("place", "letterbox", 0, True)


def test_the_last_tenth_of_a_run_has_no_mosaics() -> None:
    """90 of 100 batches, in two mini-batches each."""
    found = augmentation_of(made(YOLO, "mosaic=1\nmax_batches=100\nbatch=4\nsubdivisions=2\n"))
    assert found.mosaic_until == 180
    assert augmentation_of(made(YOLO)).mosaic_until is None


def test_classifiers_turn_scale_and_cut_them() -> None:
    net = "angle=7\naspect=.75\nmin_crop=70\nmax_crop=90\nhue=.1\nsaturation=.75\nexposure=.75\n"
    assert augmentation_of(made(CLASSES, net)) == Augmentation(
        placing="rotate", resize="letterbox", jitter=0.0, flip=True, hue=0.1, saturation=0.75, exposure=0.75,
        angle=7.0, aspect=0.75, least=70, most=90, base=64, mosaic=0.0,
    )  # fmt: skip


def test_classifiers_without_limits_scale_to_once_to_twice_their_width() -> None:
    """min_crop and max_crop are width and twice that, as parser.c has it."""
    found = augmentation_of(made(CLASSES))
    assert (found.least, found.most, found.base) == (64, 128, 64)


@pytest.mark.parametrize(
    ("name", "placing", "jitter", "hue"),
    [
        ("yolov1", "crop", 0.2, 0.0),
        ("yolov2", "place", 0.3, 0.1),
        ("yolov3", "place", 0.3, 0.1),
        ("yolov4", "crop", 0.3, 0.1),
        ("darknet53", "rotate", 0.0, 0.1),
    ],
)
def test_the_zoos_own_networks(name: str, placing: str, jitter: float, hue: float) -> None:
    found = augmentation_of(open_network(name))
    assert (found.placing, found.jitter, found.hue) == (placing, jitter, hue)


# ---------------------------------------------------------------------- sizes
def test_without_random_there_is_one_size() -> None:
    """(width, height), as the cfg has it."""
    for layers in (YOLO, REGION, FLAT, CLASSES):
        assert sizes_of(made(layers)) == ((64, 96),)


@pytest.mark.parametrize("layers", [YOLO, REGION])
def test_random_detectors_take_darknets_ten_squares(layers: str) -> None:
    """detector.c: (rand() % 10 + 10) * 32."""
    assert sizes_of(made(layers + "random=1\n")) == tuple((side, side) for side in range(320, 609, 32))


def test_random_classifiers_take_darknets_eleven_squares() -> None:
    """classifier.c: (rand() % 11 + 4) * 32."""
    assert sizes_of(made(CLASSES, "random=1\n")) == tuple((side, side) for side in range(128, 449, 32))


def test_random_networks_of_the_fork_stay_around_their_own_size() -> None:
    """Factors of up to 1.4 or its inverse; 96 * 1.4 / 32 + 1 = 5.2 steps of 32."""
    sizes = sizes_of(made(YOLO + "random=1\n", FORK))
    assert {side % 32 for size in sizes for side in size} == {0}
    assert max(height for _, height in sizes) == 160
    assert len(set(sizes)) > 2
    smaller = sizes_of(made(YOLO + "random=1.1\n", FORK))
    assert max(height for _, height in smaller) <= 160
    assert len(set(smaller)) < len(set(sizes))


def test_what_is_chance_among_boxes_to_version_1_is_no_chance_of_sizes() -> None:
    """random=1 means other things to [detection] than to [yolo] and [region]. A [local] or [connected] has weights
    for one size anyway."""
    flat = "[convolutional]\nfilters=12\nsize=1\nstride=96\nactivation=linear\n" + FLAT.partition("linear\n")[2]
    assert sizes_of(made(flat + "random=1\n")) == ((64, 96),)
    assert sizes_of(made(FLAT + "random=1\n")) == ((64, 96),)
    connected = "[connected]\noutput=4\nactivation=linear\n[softmax]\n"
    assert sizes_of(made(connected, "random=1\n")) == ((64, 96),)
    local = "[local]\nfilters=3\nsize=3\npad=1\nactivation=leaky\n" + YOLO + "random=1\n"
    assert sizes_of(made(local)) == ((64, 96),)


# ---------------------------------------------------------------------- mini-batches
def test_mini_batches_are_a_batchs_share() -> None:
    sampler = sampler_of(made(YOLO), 100, "epochs", 3)
    assert (sampler.count, sampler.batch, sampler.subdivisions, sampler.seed) == (100, 4, 2, 3)
    assert not sampler.replacement
    assert sampler_of(made(YOLO), 100, "epochs", 3, subdivisions=8).batch == 1
    assert sampler_of(made(YOLO), 100, "drawn", 3).replacement
    assert sampler.plan(7).width == 64
    assert sampler.plan(7).height == 96


def test_an_epoch_has_every_picture_once_and_drawing_has_not() -> None:
    for order, count in (("epochs", {1}), ("drawn", {0, 1, 2})):
        sampler = sampler_of(made(YOLO), 40, order, 0)  # type: ignore[arg-type]
        seen = [index for number in range(10) for index in sampler.plan(number).indices]
        assert {seen.count(index) for index in range(40)} >= count
        assert (len(set(seen)) == 40) == (order == "epochs")


def sizes_through(network: Network, batches: range) -> list[tuple[int, int]]:
    """The size of each optimizer batch; its mini-batches have one."""
    sampler = sampler_of(network, 100, "epochs", 0)
    parts = network.options.subdivisions
    for batch in batches:
        assert len({sampler.plan(parts * batch + part)[2:] for part in range(parts)}) == 1
    return [sampler.plan(parts * batch)[2:] for batch in batches]


def test_detectors_change_their_size_every_ten_batches_and_end_at_the_largest() -> None:
    network = made(YOLO + "random=1\n", "max_batches=1000\n")
    sizes = sizes_through(network, range(1000))
    assert all(len(set(sizes[first : first + 10])) == 1 for first in range(0, 800, 10))
    assert sizes[:10] == [(608, 608)] * 10  # so that a lack of memory shows at once
    assert sizes[800:] == [(608, 608)] * 200
    assert len(set(sizes)) == 10


def test_the_forks_detectors_end_at_its_largest_for_a_hundred_batches() -> None:
    """64 * 1.4 / 32 + 1 = 3.8 and 96 * 1.4 / 32 + 1 = 5.2 steps of 32, rounded."""
    sizes = sizes_through(made(YOLO + "random=1\n", FORK + "max_batches=1000\n"), range(1000))
    assert sizes[900:] == [(128, 160)] * 100
    assert len(set(sizes[800:900])) > 1


def test_classifiers_change_their_size_every_forty_batches() -> None:
    sizes = sizes_through(made(CLASSES, "random=1\nmax_batches=1000\n"), range(1000))
    assert all(len(set(sizes[first : first + 40])) == 1 for first in range(0, 1000, 40))
    assert len(set(sizes)) > 5
