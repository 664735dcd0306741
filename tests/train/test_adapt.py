from __future__ import annotations

import difflib
import itertools
import math
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from conftest import network_of

from lookonce import zoo
from lookonce.data import Dataset, Item
from lookonce.errors import CfgError, DataError, LookonceWarning
from lookonce.heads.detection import Detection
from lookonce.heads.region import Region
from lookonce.heads.yolo import Yolo
from lookonce.model import open_network
from lookonce.network import Network
from lookonce.train.adapt import adapt, schedule, with_classes
from lookonce.train.datasets import TrainingData
from lookonce.truth import Truth

DETECTORS = sorted(name for name in zoo.networks() if open_network(name).kind == "detector")
CLASSIFIERS = sorted(name for name in zoo.networks() if open_network(name).kind == "classifier")

# The shapes of all boxes of `boxes`, in pixels of a picture of 416 x 416, in order of area: as many as anchors.
SHAPES = ((13.0, 13), (26, 52), (60, 30), (52, 104), (130, 130), (208, 260), (260, 312), (300, 400), (400, 390))


def boxes(shapes: tuple[tuple[float, float], ...] = SHAPES, classes: int = 3, pictures: int = 90) -> TrainingData:
    """Pictures of 416 x 416 that are nowhere, with one box each; the shapes take turns."""
    items = []
    for number, (width, height) in zip(range(pictures), itertools.cycle(shapes), strict=False):
        truth = Truth.of(np.array([number % classes]), xywh=np.array([[5.0, 5, width, height]]))
        items.append(Item(str(number), Path(f"{number}.jpg"), (416, 416), truth))
    names = tuple(f"thing {number}" for number in range(classes))
    return TrainingData(Dataset("voc", Path("set"), names, tuple(items)), None, names)


def labels(classes: int = 3, pictures: int = 90) -> TrainingData:
    """Pictures that show one class each."""
    none = np.zeros(0, np.int64)
    items = tuple(
        Item(str(number), Path(f"{number}.jpg"), None, Truth.of(none, classes=(number % classes,)))
        for number in range(pictures)
    )
    names = tuple(f"thing {number}" for number in range(classes))
    return TrainingData(Dataset("folder", Path("set"), names, items), None, names)


def changed(before: str, after: str) -> tuple[set[str], set[str]]:
    """The lines that were there and are not, and the other way round."""
    lines = [line for line in difflib.ndiff(before.splitlines(), after.splitlines()) if line[0] in "+-"]
    return {line[2:] for line in lines if line[0] == "-"}, {line[2:] for line in lines if line[0] == "+"}


def options(text: str, section: str) -> list[dict[str, str]]:
    """The options of every section of a name, read without our reader."""
    found: list[dict[str, str]] = []
    for name, body in re.findall(r"^\[(\w+)\]\n((?:(?!\[).*\n?)*)", text, re.MULTILINE):
        rows = [line.split("=", 1) for line in body.splitlines() if "=" in line and not line.startswith("#")]
        found += [{key.strip(): value.strip() for key, value in rows}] if name == section else []
    return found


# ---------------------------------------------------------------------- classes
@pytest.mark.parametrize("classes", [3, 20, 200])
@pytest.mark.parametrize("name", DETECTORS)
def test_every_detector_of_the_zoo_takes_other_classes(name: str, classes: int) -> None:
    """What each head reads, by the formulas of Darknet's manuals."""
    network = Network.build(with_classes(open_network(name), classes))
    assert network.classes == classes
    for node, head in network.heads:
        read = network.nodes[node.sources[0]].shape
        match head:
            case Yolo():
                assert read.channels == len(head.mask) * (classes + 5)
            case Region():
                assert read.channels == len(head.anchors) * (classes + 5)
                assert head.tree is None
            case Detection():
                assert read.size == 7 * 7 * (5 * head.num + classes)


@pytest.mark.parametrize("classes", [3, 20, 200])
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_every_classifier_of_the_zoo_takes_other_classes(name: str, classes: int) -> None:
    network = Network.build(with_classes(open_network(name), classes))
    assert network.classes == classes
    assert network.output.shape.size == classes


def test_the_zoo_has_the_networks_that_this_is_for() -> None:
    assert {"yolov3-tiny", "yolov3", "yolov2-voc", "yolov2", "fast-yolo", "yolov1", "yolov4-tiny"} <= set(DETECTORS)
    assert {"darknet19", "resnet18", "darknet53", "extraction", "vgg16", "alexnet"} <= set(CLASSIFIERS)


def test_as_many_classes_as_before_change_nothing() -> None:
    for name in (*DETECTORS, *CLASSIFIERS):
        network = open_network(name)
        assert with_classes(network, network.classes).text == network.cfg.text, name


CLASSIFIER = "[net]\nwidth=32\nheight=32\nchannels=3\n[conv]\nfilters=4\nsize=1\n{}[softmax]\n{}"


def test_a_tree_of_other_classes_goes_and_one_of_as_many_stays(tmp_path: Path) -> None:
    (tmp_path / "own.tree").write_text("thing -1\nstuff -1\ncat 0\ndog 0\n")
    (tmp_path / "own.cfg").write_text(CLASSIFIER.format("[avg]\n[dropout]\n", "tree=own.tree\n# why not\ngroups=1\n"))
    network = open_network(tmp_path / "own.cfg")
    assert with_classes(network, 4).text == network.cfg.text
    other = with_classes(network, 7)
    assert changed(network.cfg.text, other.text) == ({"filters=4", "tree=own.tree"}, {"filters=7"})
    assert Network.build(other).classes == 7


def test_what_no_width_can_be_set_of_is_refused() -> None:
    residual = CLASSIFIER.format("[conv]\nfilters=4\nsize=1\n[shortcut]\nfrom=-2\nactivation=linear\n[avg]\n", "")
    with pytest.raises(CfgError, match=r"test.cfg:11: layer 2 \[shortcut\] feeds layer 4 \[softmax\] on line 15; want"):
        with_classes(network_of(residual), 3)
    with pytest.raises(CfgError, match=r"test.cfg: is neither a detector nor a classifier: it ends in layer 0"):
        with_classes(network_of("[net]\nwidth=8\nheight=8\nchannels=3\n[conv]\nfilters=4\nsize=1\n"), 3)


def test_a_convolution_may_feed_the_head_of_the_first_version() -> None:
    """2 x 2 cells of 1 box and 2 classes are 28 values: 7 filters at 4 places; with 5 classes 10 filters."""
    text = "[net]\nwidth=2\nheight=2\nchannels=3\n[conv]\nfilters=7\nsize=1\n[detection]\ncoords=4\nside=2\nclasses=2\n"
    assert "filters=10\n" in with_classes(network_of(text), 5).text


# ---------------------------------------------------------------------- text
def test_only_what_must_change_changes() -> None:
    network = open_network("yolov2-voc")
    data = boxes(SHAPES[:5])
    after = adapt(network, data, anchors="keep").text
    assert changed(network.cfg.text, after) == (
        {"filters=125", "classes=20"},
        {"filters=40", "classes=3",
         "# Adapted to 3 classes and 90 pictures of set; the comments below are of the original"},
    )  # fmt: skip
    assert after.startswith("# Adapted to ")


def test_what_was_adapted_can_be_adapted_again_and_says_the_last_only() -> None:
    once = adapt(open_network("yolov3-tiny"), boxes(SHAPES[:6]), epochs=7)
    again = adapt(Network.build(once), boxes(SHAPES[:6], classes=9), epochs=7)
    assert again.text.count("# Adapted to ") == 1
    assert "# Adapted to 9 classes" in again.text
    assert Network.build(again).classes == 9


# ---------------------------------------------------------------------- anchors
def read_pairs(line: str) -> list[tuple[float, float]]:
    values = [float(value) for value in line.split(",")]
    return list(zip(values[::2], values[1::2], strict=True))


@pytest.mark.parametrize(("name", "count"), [("yolov3-tiny", 6), ("yolov3", 9), ("yolov4-tiny", 6)])
def test_as_many_anchors_as_shapes_are_the_shapes_in_pixels_in_order_of_area(name: str, count: int) -> None:
    """At 832 a picture of 416 is doubled."""
    text = adapt(open_network(name), boxes(SHAPES[:count]), size=832).text
    found = [read_pairs(each["anchors"]) for each in options(text, "yolo")]
    wanted = [(2 * w, 2 * h) for w, h in SHAPES[:count]]
    assert all(np.array(pairs) == pytest.approx(np.array(wanted)) for pairs in found)


def test_anchors_of_a_region_are_in_cells() -> None:
    """13 cells of 32 pixels at 416."""
    text = adapt(open_network("yolov2-voc"), boxes(SHAPES[:5])).text
    (found,) = options(text, "region")
    assert np.array(read_pairs(found["anchors"])) == pytest.approx(np.array(SHAPES[:5]) / 32, abs=1e-4)


@pytest.mark.parametrize(("name", "height"), [("yolov3-tiny", 26), ("yolov4-tiny", 52)])
def test_anchors_are_of_pictures_as_the_network_fits_them(name: str, height: float) -> None:
    """A picture of 832 x 416 in 416 x 416: letterboxed it is halved, stretched only its width is."""
    data = boxes(((52, 52), (60, 90), (100, 100), (200, 200), (300, 150), (300, 300)))
    items = tuple(item._replace(size=(832, 416)) for item in data.train.items)
    train = Dataset("voc", Path("set"), data.names, items)
    (first, *_), *_ = [
        read_pairs(each["anchors"])
        for each in options(adapt(open_network(name), TrainingData(train, None, data.names)).text, "yolo")
    ]
    assert first == (26, height)


def test_no_anchor_is_left_to_no_head() -> None:
    """yolov3-tiny was published without anchor 0; the coarse grid comes first in the file and keeps the large ones."""
    network = open_network("yolov3-tiny")
    assert [each["mask"] for each in options(network.cfg.text, "yolo")] == ["3,4,5", "1,2,3"]
    for size in (None, 320):
        text = adapt(network, boxes(SHAPES[:6]), size=size).text
        assert [each["mask"] for each in options(text, "yolo")] == ["3,4,5", "0,1,2"]
    full = adapt(open_network("yolov3"), boxes()).text
    assert [each["mask"] for each in options(full, "yolo")] == ["6,7,8", "3,4,5", "0,1,2"]


def test_kept_anchors_are_kept_and_the_one_that_no_head_has_is_named() -> None:
    """A box in six is of 13 x 13, which 10 x 14 fits best."""
    network = open_network("yolov3-tiny")
    with pytest.warns(LookonceWarning, match=r"no mask= has the anchor of 10 x 14: 17% of the boxes fit it best and"):
        text = adapt(network, boxes(SHAPES[:6]), anchors="keep").text
    for key in ("anchors", "mask"):
        assert [each[key] for each in options(text, "yolo")] == [e[key] for e in options(network.cfg.text, "yolo")]


def test_anchors_that_are_small_for_their_grid_are_named() -> None:
    """All boxes are tiny, so the grid of one cell in 32 pixels gets anchors of 8 to 13 pixels."""
    tiny = tuple((float(side), float(side)) for side in (3, 4, 6, 8, 11, 13))
    with pytest.warns(LookonceWarning, match=r"anchors of 8 x 8, 11 x 11, 13 x 13 pixels .* cell in 32; 50% of the"):
        adapt(open_network("yolov3-tiny"), boxes(tiny))


def test_fewer_shapes_than_anchors_keep_those_of_the_cfg() -> None:
    network = open_network("yolov2-voc")
    with pytest.warns(LookonceWarning, match="5 anchors from boxes of 2 different shapes.*are kept"):
        text = adapt(network, boxes(SHAPES[:2])).text
    assert options(text, "region")[0]["anchors"] == options(network.cfg.text, "region")[0]["anchors"]


# ---------------------------------------------------------------------- size, batch
def test_another_size_takes_along_what_is_in_pixels_of_it() -> None:
    darknet = adapt(open_network("darknet19"), labels(), size=64)
    (net,) = options(darknet.text, "net")
    assert (net["width"], net["height"], net["min_crop"], net["max_crop"]) == ("64", "64", "37", "128")
    vgg = adapt(open_network("vgg16"), labels(), size=128)
    (crop,) = options(vgg.text, "crop")
    assert (crop["crop_width"], crop["crop_height"]) == ("112", "112")
    assert Network.build(vgg).output.shape.size == 3


def test_a_size_may_have_two_sides() -> None:
    (net,) = options(adapt(open_network("yolov3-tiny"), boxes(SHAPES[:6]), size=(320, 192)).text, "net")
    assert (net["width"], net["height"]) == ("320", "192")


def test_a_size_that_does_not_suit_the_stride_is_refused() -> None:
    with pytest.raises(CfgError, match=r"size 400 x 400: .*yolov3-tiny.cfg wants multiples of 32, such as 384 or 416$"):
        adapt(open_network("yolov3-tiny"), boxes(SHAPES[:6]), size=400)
    with pytest.raises(CfgError, match="at least 1 pixel"):
        adapt(open_network("yolov3-tiny"), boxes(SHAPES[:6]), size=0)


@pytest.mark.parametrize(
    ("batch", "subdivisions", "found"),
    [(None, None, ("64", "2")), (16, None, ("16", "2")), (3, None, ("3", "1")), (None, 8, ("64", "8")),
     (8, 4, ("8", "4"))],
)
def test_batch_and_subdivisions(batch: int | None, subdivisions: int | None, found: tuple[str, str]) -> None:
    text = adapt(open_network("yolov3-tiny"), boxes(SHAPES[:6]), batch=batch, subdivisions=subdivisions).text
    (net,) = options(text, "net")
    assert (net["batch"], net["subdivisions"]) == found


def test_subdivisions_that_do_not_divide_are_refused() -> None:
    with pytest.raises(CfgError, match="batch=64, subdivisions=3: wanted a batch that its subdivisions divide"):
        adapt(open_network("yolov3-tiny"), boxes(SHAPES[:6]), subdivisions=3)


# ---------------------------------------------------------------------- schedule
def test_the_schedule_is_as_long_as_the_epochs() -> None:
    """90 pictures, batches of 8: 100 epochs are 1,125 batches, of which 80 % are 900 and 90 % 1,012."""
    text = adapt(open_network("yolov3-tiny"), boxes(SHAPES[:6]), epochs=100, batch=8).text
    (net,) = options(text, "net")
    assert net["max_batches"] == "1125"
    assert net["steps"] == "900,1012"
    assert [float(scale) for scale in net["scales"].split(",")] == [0.1, 0.1]
    assert net["burn_in"] == "45"
    assert net["policy"] == "steps"
    assert net["learning_rate"] == ".001"


def test_a_part_of_a_batch_is_one() -> None:
    """90 pictures in batches of 64: 3 epochs are 4.2 batches."""
    assert "max_batches=5\n" in adapt(open_network("yolov3-tiny"), boxes(SHAPES[:6]), epochs=3).text


def test_burn_in_is_never_longer_than_darknets() -> None:
    assert schedule(open_network("yolov3-tiny"), 500_200)["burn_in"] == 1000
    assert schedule(open_network("yolov3-tiny"), 500_200)["steps"] == "400160,450180"
    assert "burn_in" not in schedule(open_network("yolov1"), 10_000)


def test_steps_that_raise_the_rate_keep_their_share_of_the_run() -> None:
    """YOLO: ten times the rate from batch 1,000 of 34,830 on; of 3,483 that is batch 100."""
    found = schedule(open_network("yolov1"), 3_483)
    assert (found["steps"], found["scales"]) == ("100,2786,3135", "10,0.1,0.1")


def test_other_policies_go_by_max_batches_alone() -> None:
    assert schedule(open_network("darknet19"), 500) == {"max_batches": 500, "burn_in": 20}
    assert schedule(open_network("alexnet"), 500) == {"max_batches": 500}


def test_epochs_must_be_some() -> None:
    for epochs in (0, -1, math.nan, math.inf):
        with pytest.raises(CfgError, match="wanted a number above 0"):
            adapt(open_network("darknet19"), labels(), epochs=epochs)


def test_a_rate_can_be_given() -> None:
    for recipe in ("thesis", "modern"):
        cfg = adapt(open_network("yolov3-tiny"), boxes(SHAPES[:6]), learning_rate=0.02, recipe=recipe, epochs=9)
        assert Network.build(cfg).options.learning_rate == 0.02


# ---------------------------------------------------------------------- recipes
def test_the_modern_recipe_says_all_that_it_changes() -> None:
    """90 pictures in batches of 64, 800 epochs: 1,125 batches; the average is over a twentieth of them, 56.25."""
    network, data = open_network("yolov3-tiny"), boxes(SHAPES[:6])
    plain = adapt(network, data, epochs=800)
    modern = adapt(network, data, epochs=800, recipe="modern")
    gone, new = changed(plain.text, modern.text)
    assert gone == {"policy=steps", "steps=900,1012", "scales=0.1,0.1"}
    assert new == {"policy=sgdr", "learning_rate_min=1e-05", "ema_alpha=0.982222", "letter_box=1", "mosaic=1",
                   "iou_loss=ciou", "iou_normalizer=5", "rescore=1"}  # fmt: skip
    found = Network.build(modern).options
    assert found.policy == "sgdr"
    assert found.ema_alpha == pytest.approx(1 - 20 / 1125, abs=1e-6)
    assert (found.sgdr_cycle, found.max_batches, found.mosaic, found.letter_box) == (1125, 1125, True, True)


def test_a_long_run_averages_over_five_thousand_batches() -> None:
    cfg = adapt(open_network("darknet19"), labels(), epochs=100_000, batch=10, recipe="modern")
    assert Network.build(cfg).options.ema_alpha == pytest.approx(0.9998)


@pytest.mark.parametrize("name", [*DETECTORS, *CLASSIFIERS])
def test_no_recipe_changes_how_pictures_are_fitted(name: str) -> None:
    network = open_network(name)
    data = boxes() if network.heads else labels()
    modern = Network.build(adapt(network, data, epochs=10, recipe="modern"))
    assert modern.cfg.fork
    assert modern.resize == network.resize
    assert modern.options.mosaic == bool(network.heads)
    dropped = [node.layer for node in network.nodes if node.layer.section == "dropout"]
    assert [node.layer for node in modern.nodes if node.layer.section == "dropout"] == dropped


def test_the_default_of_dropout_is_written_out_since_the_fork_has_another() -> None:
    network = network_of(CLASSIFIER.format("[avg]\n[dropout]\n", ""))
    assert options(adapt(network, labels(), recipe="modern").text, "dropout") == [{"probability": "0.5"}]


def test_a_first_version_begins_its_cosine_where_its_steps_would_have_taken_it() -> None:
    found = Network.build(adapt(open_network("yolov1"), boxes(), epochs=10, recipe="modern")).options
    assert found.learning_rate == pytest.approx(0.01)
    assert found.learning_rate_min == pytest.approx(0.0001)
    assert found.letter_box is None


def test_an_iou_loss_of_the_cfgs_own_stays() -> None:
    text = open_network("yolov4-tiny").cfg.text.replace("iou_loss=ciou", "iou_loss=giou")
    modern = adapt(network_of(text), boxes(SHAPES[:6]), epochs=10, recipe="modern").text
    assert [each["iou_loss"] for each in options(modern, "yolo")] == ["giou", "giou"]


def test_words_that_are_none_are_refused() -> None:
    for words in ({"recipe": "old"}, {"anchors": "none"}):
        with pytest.raises(CfgError, match="wanted thesis or modern, kmeans or keep"):
            adapt(open_network("darknet19"), labels(), **words)  # type: ignore[arg-type]


def test_data_of_the_other_kind_are_refused_before_anything() -> None:
    with pytest.raises(DataError, match=r"yolov3-tiny.cfg is a detector and learns from boxes"):
        adapt(open_network("yolov3-tiny"), labels())
    with pytest.raises(DataError, match=r"darknet19.cfg is a classifier and learns one class a picture"):
        adapt(open_network("darknet19"), boxes())


def test_a_cfg_that_was_adapted_declares_no_oddity() -> None:
    """Every option that is written is one that somebody asks for."""
    for name in ("yolov3-tiny", "yolov2-voc", "fast-yolo"):
        cfg = adapt(open_network(name), boxes(), epochs=10, recipe="modern")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            Network.build(type(cfg).parse(cfg.text))
