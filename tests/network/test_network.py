from __future__ import annotations

import time
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import SHARED, model_of, network_of

from lookonce import zoo
from lookonce.darknet.cfg import Cfg
from lookonce.darknet.weights import expected_bytes
from lookonce.engines import open_engine
from lookonce.errors import CfgError, LookonceWarning
from lookonce.graph import build
from lookonce.model import Model, open_network
from lookonce.network import Network
from lookonce.summary import lines

NET = "[net]\nwidth=64\nheight=64\nchannels=3\n"
CONV = "[convolutional]\nfilters=8\nsize=3\nstride=2\npad=1\nactivation=leaky\n"
YOLO = "[convolutional]\nfilters=21\nsize=1\nactivation=linear\n[yolo]\nclasses=2\nnum=3\nanchors=1,2,3,4,5,6\n"
SECOND = "[route]\nlayers=0\n" + YOLO
FLAT = "[convolutional]\nfilters=14\nsize=1\nstride=64\n[detection]\nclasses=4\ncoords=4\nside=1\nnum=2\n"


def operations(name: str, size: int) -> float:
    """Billions of operations of a network of the zoo at an input size."""
    return open_network(name).resized(size, size).operations / 1e9


@pytest.mark.parametrize(
    ("name", "size", "billions"),
    [
        ("darknet19", 224, 5.58),
        ("darknet19", 256, 7.29),
        ("darknet53", 256, 18.57),
        ("extraction", 224, 8.52),
        ("yolov3", 416, 65.86),
        ("yolov3", 608, 140.69),
        ("resnet101", 256, 19.70),
        ("resnet152", 256, 29.39),
    ],
)
def test_operations_are_those_of_the_thesis_and_of_darknet(name: str, size: int, billions: float) -> None:
    assert operations(name, size) == pytest.approx(billions, abs=0.0051)


def test_vgg16s_convolutions_take_what_the_thesis_says() -> None:
    """30.69 billion counts the convolutions alone, at 224."""
    convolutions = [node for node in open_network("vgg16").nodes if node.layer.section == "convolutional"]
    assert len(convolutions) == 13
    assert sum(node.operations for node in convolutions) / 1e9 == pytest.approx(30.69, abs=0.0051)


def test_darknet53_takes_18_70_billion_with_its_last_convolution_before_the_mean() -> None:
    """Table 3.1 draws it so; the published cfg has the mean first, which is 0.13 billion cheaper."""
    path = zoo.cfg_path("darknet53")
    assert path is not None
    text = path.read_text()
    last = text[text.index("[avgpool]") :]
    convolution = last[last.index("[convolutional]") : last.index("[softmax]")]
    moved = text.replace(last, convolution + "[avgpool]\n[softmax]\n")
    assert network_of(moved).operations / 1e9 == pytest.approx(18.70, abs=0.0051)


@pytest.mark.parametrize(
    ("name", "layers", "length"),
    [
        ("yolov3", None, 248_007_048),
        ("yolov3-tiny", None, 35_434_956),
        ("darknet53", 74, 162_482_580),
        ("yolov4", None, 257_717_640),
        ("yolov4-tiny", None, 24_251_276),
        ("yolov4", 137, 170_038_676),
        ("yolov4-tiny", 29, 19_789_716),
    ],
)
def test_weights_are_as_long_as_the_published_files(name: str, layers: int | None, length: int) -> None:
    assert expected_bytes(open_network(name).entries(layers)) == length


@pytest.mark.parametrize(
    ("name", "layers", "length"),
    [("yolov2", None, 203_934_260), ("yolov2-voc", None, 202_704_260), ("darknet19", None, 83_427_120),
     ("extraction", None, 93_821_616), ("darknet19-448", 23, 79_327_120)],
)  # fmt: skip
def test_files_of_the_older_header_are_four_bytes_shorter(name: str, layers: int | None, length: int) -> None:
    assert expected_bytes(open_network(name).entries(layers)) - 4 == length


def test_yolo_version_1_is_the_thesis_network() -> None:
    """24 convolutions, 2 connected layers, 7 x 7 x 30 values, 98 boxes."""
    network = open_network("yolov1")
    kinds = [node.layer.section for node in network.nodes]
    assert kinds.count("convolutional") == 24
    assert kinds.count("connected") == 2
    (_, head), = network.heads
    assert network.output.shape.size == 7 * 7 * 30
    assert head.side**2 * head.num == 98  # type: ignore[attr-defined]
    assert [node.layer.section for node in open_network("fast-yolo").nodes].count("convolutional") == 9


DARKNET_CFGS = sorted(path.stem for path in (SHARED / "data" / "darknet-cfg").glob("*.cfg"))


@pytest.mark.shared
def test_there_are_45_cfgs_of_the_original() -> None:
    assert len(DARKNET_CFGS) == 45


RECURRENT_CFGS = ("gru", "rnn", "rnn.train")


@pytest.mark.shared
@pytest.mark.parametrize("name", [name for name in DARKNET_CFGS if name not in RECURRENT_CFGS])
def test_every_cfg_of_the_original_runs(shared: Path, name: str) -> None:
    """On random weights, at its own size; what comes out is finite."""
    network = open_network(shared / "data" / "darknet-cfg" / f"{name}.cfg")
    picture = np.random.default_rng(0).random((1, *network.input), np.float32)
    outputs = open_engine(build(Model.random(network)))(picture)
    wanted = [node.given[0] for node, _ in network.heads] or [network.output.shape]
    assert [output.shape[1:] for output in outputs] == [tuple(shape) for shape in wanted]
    assert all(np.isfinite(output).all() for output in outputs)


@pytest.mark.shared
@pytest.mark.parametrize("name", RECURRENT_CFGS)
def test_three_cfgs_of_the_original_are_about_texts_and_say_so(shared: Path, name: str) -> None:
    with pytest.raises(CfgError, match=rf"{name}\.cfg:\d+: .*not a vision network"):
        open_network(shared / "data" / "darknet-cfg" / f"{name}.cfg")


@pytest.mark.shared
@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(name, name) for name in ("alexnet", "darknet19", "darknet53", "extraction", "resnet18", "resnet50", "resnet152",
                               "yolov2", "yolov2-voc", "yolov3", "yolov3-voc", "yolov3-openimages")]
    + [("yolov1-local", "yolov1"), ("vgg16", "vgg-16"), ("darknet19-448", "darknet19_448"),
       ("darknet53-448", "darknet53_448")],
)  # fmt: skip
def test_the_zoo_declares_what_published_weights_need(shared: Path, ours: str, theirs: str) -> None:
    network = open_network(ours)
    original = open_network(shared / "data" / "darknet-cfg" / f"{theirs}.cfg")
    original = original.resized(network.input.width, network.input.height)
    assert [(node.layer, node.sources, node.shape) for node in network.nodes] == [
        (node.layer, node.sources, node.shape) for node in original.nodes
    ]


@pytest.mark.shared
def test_three_networks_of_the_zoo_differ_where_they_mean_to(shared: Path) -> None:
    """yolov3-tiny has the anchors that its weights were trained with; yolo9000 and resnet101 drop what only trains."""
    folder = shared / "data" / "darknet-cfg"
    tiny, original = open_network("yolov3-tiny"), open_network(folder / "yolov3-tiny.cfg")
    pairs = zip(tiny.nodes, original.nodes, strict=True)
    assert [node.index for node, other in pairs if node.layer != other.layer] == [23]
    assert tiny.heads[1][1] == replace(original.heads[1][1], mask=(1, 2, 3))  # type: ignore[call-arg]
    deep, original = open_network("resnet101"), open_network(folder / "resnet101.cfg")
    assert [node.layer for node in deep.nodes] == [node.layer for node in original.nodes[:-1]]
    assert original.nodes[-1].layer.section == "cost"
    nine, original = open_network("yolo9000"), open_network(folder / "yolo9000.cfg")
    assert [node.layer for node in nine.nodes[:-1]] == [node.layer for node in original.nodes[:-1]]
    assert replace(nine.heads[0][1], tree=None) == replace(original.heads[0][1], tree=None)  # type: ignore[call-arg]


def test_every_network_of_the_zoo_has_a_name_for_every_class() -> None:
    for name in zoo.networks():
        network = open_network(name)
        names = zoo.class_names(name)
        assert len(names) == network.classes or (name == "yolo9000" and not names)


@pytest.mark.parametrize(
    ("cfg", "kind", "resize"),
    [
        (NET + CONV + YOLO, "detector", "letterbox"),
        (NET + CONV + YOLO + "scale_x_y=1.1\n", "detector", "stretch"),                        # a word of the fork
        (NET + "letter_box=1\n" + CONV + YOLO, "detector", "letterbox"),
        (NET + "[connected]\noutput=12\n[detection]\nclasses=2\ncoords=4\nside=1\nnum=2\n", "detector", "stretch"),
        (NET + CONV + "[avgpool]\n[softmax]\n[cost]\n", "classifier", "letterbox"),
        (NET + CONV, "other", "letterbox"),
    ],
)
def test_a_network_knows_its_kind_and_how_its_makers_fit_pictures(cfg: str, kind: str, resize: str) -> None:
    network = network_of(cfg)
    assert (network.kind, network.resize) == (kind, resize)


@pytest.mark.parametrize(
    ("cfg", "says"),
    [
        (NET + "[yolov3]\n", r"test.cfg:5: \[yolov3\].*did you mean yolo"),
        (NET + "[lstm]\noutput=3\n", r"test.cfg:5: \[lstm\].*not a vision network"),
        (NET + "[deconvolutional]\n", r"test.cfg:5:.*not supported"),
        (NET, "holds no layer"),
        (NET + "[cost]\n", "holds no layer"),
        (NET + CONV + NET + CONV, r"test.cfg:11: \[net\] stands a second time"),
        (NET.replace("width=64", "width=0") + CONV, r"test.cfg:2: \[net\] width=0 is out of range"),
        (NET.replace("width=64\n", "") + CONV, r"test.cfg:1: \[net\] needs width="),
        ("[net]\ninputs=256\n" + CONV, r"test.cfg:2: \[net\] inputs=256.*not a vision network"),
        (NET + CONV.replace("leaky", "leeky"), r"test.cfg:10: \[convolutional\] activation=leeky.*did you mean leaky"),
        (NET + CONV + YOLO.replace("=21", "=20"), r"test.cfg:15: \[yolo\] wants filters=21.*has 20.*line 11"),
        (NET + CONV + "[route]\nlayers=-3\n", r"test.cfg:12: \[route\] layers=-3 means layer -2"),
        (NET + CONV + CONV + "[route]\nlayers=0,1\n", r"test.cfg:17: \[route\] joins layer 0 of 32 x 32 x 8"),
        (NET + CONV + "antialiasing=1\n", r"test.cfg:11: \[convolutional\] antialiasing=1 is not supported"),
        (NET + CONV + "dontload=1\n", r"test.cfg:11: \[convolutional\] dontload=1 is not supported"),
        (NET + "steps=1.5,2\n" + CONV, r"test.cfg:5: \[net\] steps=1.5,2 has an item that is not a whole number"),
        (NET + "policy=steps\nsteps=1,2,3\nscales=.1,.1\n" + CONV, r"test.cfg:7: \[net\] scales=.1,.1 has 2 values"),
        (NET + CONV + YOLO + SECOND.replace("=21", "=24").replace("classes=2", "classes=3"),
         r"test.cfg:26: \[yolo\] classes=3 means 3 classes, but layer 2 \[yolo\] on line 15 has 2; give all heads the"),
        (NET + CONV + YOLO + SECOND.replace("=21", "=75").replace("classes=2\n", ""),
         r"test.cfg:25: \[yolo\] classes means 20 classes, but layer 2 \[yolo\] on line 15 has 2"),
    ],
)
def test_a_cfg_that_declares_no_network_is_refused_with_its_line(cfg: str, says: str) -> None:
    with pytest.raises(CfgError, match=says) as caught:
        network_of(cfg)
    assert "\n" not in str(caught.value)


def test_an_unknown_option_is_named_with_its_line_and_the_nearest_known_one() -> None:
    with pytest.warns(LookonceWarning, match=r"test.cfg:11: .* no option batch_normalise, .* batch_normalize"):
        network_of(NET + CONV + "batch_normalise=1\n")


def test_an_option_that_is_misspelt_in_many_layers_is_named_once() -> None:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        network_of(NET + (CONV + "activaton=leaky\n") * 6)
    (one,) = said
    line = str(one.message)
    assert line.startswith("test.cfg:11: [convolutional] has no option activaton, did you mean activation?")
    assert line.endswith(", as in 5 more such sections, lines 18, 25, 32, ...")


def test_a_memory_below_a_gigabyte_is_told_in_megabytes() -> None:
    """640 x 640 x 3 floats and 320 x 320 x 8 of them are 4.9 and 3.3 MB, the filters' weights the hundredth of one."""
    with pytest.raises(CfgError, match=r"to 8\.2 MB, more than the limit of 6\.0 MB"):
        Network.build(Cfg.parse(NET.replace("64", "640") + CONV, "test.cfg"), 6_000_000)


def test_what_scripts_write_for_learning_does_not_stop_running() -> None:
    """Python's 0.8 * max_batches is 9600.0; the fork corrects a batch smaller than its subdivisions."""
    options = network_of(NET + "policy=steps\nsteps=9600.0,10800\nscales=.1,.1\nmax_batches=12000.0\n" + CONV).options
    assert (options.steps, options.max_batches) == ((9600, 10800), 12000)
    with pytest.warns(LookonceWarning, match="subdivisions=4 is more than batch=2"):
        network_of(NET + "batch=2\nsubdivisions=4\n" + CONV)


@pytest.mark.parametrize("word", [
    "[net]\nmosaic=1\n", CONV.replace("leaky", "mish"), CONV + "[route]\nlayers=0\ngroups=2\n",
    CONV * 3 + "[shortcut]\nfrom=-2,-3\n", "[net]\npolicy=sgdr\n",
])  # fmt: skip
def test_a_word_or_value_of_the_fork_marks_its_dialect(word: str) -> None:
    if word.startswith("[net]"):
        cfg = NET + word.removeprefix("[net]\n") + CONV
    else:
        cfg = NET + word
    assert network_of(cfg).cfg.fork
    assert not network_of(NET + CONV * 3 + "[shortcut]\nfrom=-2\n").cfg.fork


def test_an_input_that_the_grid_does_not_divide_is_worth_a_warning() -> None:
    with pytest.warns(LookonceWarning, match=r"65 x 64 is not a multiple of 2: .*\[yolo\], 33 x 32, covers 66 x 64"):
        network_of((NET + CONV + YOLO).replace("width=64", "width=65"))
    with pytest.warns(LookonceWarning, match="64 x 65 is not a multiple"):
        network_of(NET + CONV + YOLO).resized(64, 65)


def test_a_size_may_fit_a_grid_by_chance() -> None:
    """403 is 13 x 31, and yolov3's coarsest grid at 403 is 13; its cells are of 32 pixels."""
    with pytest.warns(LookonceWarning, match="403 x 403 is not a multiple of 32: .* 13 x 13, covers 416 x 416"):
        network_of(NET + CONV * 5 + YOLO).resized(403, 403)


def test_a_stride_need_not_be_a_power_of_two(recwarn: pytest.WarningsRecorder) -> None:
    network_of((NET + CONV + YOLO).replace("stride=2", "stride=3").replace("=64", "=96"))
    assert not recwarn.list


@pytest.mark.parametrize("cfg", [
    NET + CONV.replace("filters=8", "filters=2147483647"),
    NET.replace("channels=3", "channels=46341") + CONV.replace("filters=8", "filters=46341"),
    NET.replace("=64", "=1000000") + CONV,
    NET + "[upsample]\nstride=64\n" * 6,
    NET + "[connected]\noutput=2147483647\n",
])  # fmt: skip
def test_a_cfg_that_asks_for_too_much_is_refused_at_once(cfg: str) -> None:
    start = time.perf_counter()
    with pytest.raises(CfgError, match=r"GB, more than the limit of 4\.3 GB"):
        network_of(cfg)
    assert time.perf_counter() - start < 0.1


def test_another_size_changes_the_cfg_and_nothing_else() -> None:
    network = network_of("# mine\n" + NET + CONV + YOLO)
    resized = network.resized(96, 32)
    assert resized.input == (3, 32, 96)
    assert resized.cfg.text == network.cfg.text.replace("width=64", "width=96").replace("height=64", "height=32")
    assert [node.layer for node in resized.nodes] == [node.layer for node in network.nodes]
    assert network.resized(64, 64) is network


def test_what_is_odd_in_a_cfg_is_said_once_also_for_another_size() -> None:
    """A key given twice, one that is not known, and more subdivisions than pictures."""
    odd = NET + "batch=2\nsubdivisions=4\n" + CONV + "stride=4\nstrides=4\n" + YOLO
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        network_of(odd).resized(32, 32)
    assert [str(one.message).split(":")[1] for one in said] == ["13", "1", "14"]


@pytest.mark.parametrize(
    ("cfg", "width", "height", "says"),
    [
        # Of 33 pixels convolutions make 17 and 9, and twice 9 is not 17.
        (NET + CONV + CONV + "[upsample]\n[route]\nlayers=-1,0\n", 33, 33,
         "test.cfg wants multiples of 4, such as 32 x 32 or 36 x 36"),
        (NET + CONV + CONV + "[upsample]\n[route]\nlayers=-1,0\n", 33, 64,
         "test.cfg wants multiples of 4, such as 32 x 64 or 36 x 64"),
        (NET + CONV + "[reorg]\nstride=2\n", 2, 2, "test.cfg wants multiples of 4, such as 4 x 4"),
        (NET + "[reorg3d]\nstride=2\n[maxpool]\nsize=2\nstride=2\n", 6, 5,
         "test.cfg wants multiples of 4, such as 4 x 4 or 8 x 8"),
        # 128 is a multiple of 64, and so is what lies beside 65: the stride is not to blame.
        (NET + FLAT, 128, 64, r"test.cfg: layer 1 \[detection\] wants 14 values"),
        (NET + FLAT, 65, 65, r"test.cfg: layer 1 \[detection\] wants 14 values"),
        (NET + "[crop]\ncrop_height=48\ncrop_width=48\n", 40, 40, r"test.cfg: layer 0 \[crop\] crops 48 x 48"),
        (NET + CONV, 100_000, 100_000, r"weights and activations of test.cfg would take 20\d\.\d GB, .*of 4\.3 GB"),
        (NET + CONV, 0, 64, "wanted 1 to 1,048,576 pixels a side"),
        (NET + CONV, 64, 2_000_000, "wanted 1 to 1,048,576 pixels a side"),
    ],
)  # fmt: skip
def test_a_size_that_a_network_cannot_take_is_named_with_what_it_wants(
    cfg: str, width: int, height: int, says: str
) -> None:
    """No line is to blame: the cfg was fine at its own size."""
    with pytest.raises(CfgError, match=rf"^size {width} x {height}: {says}") as caught:
        network_of(cfg).resized(width, height)
    assert "test.cfg:1" not in str(caught.value)


@pytest.mark.parametrize(("name", "stride"), [("yolov3", 32), ("yolov3-tiny", 32), ("yolov2", 32), ("yolov1", 64),
                                              ("darknet53", 32), ("yolov4", 32)])  # fmt: skip
def test_the_largest_stride_is_that_of_the_papers(name: str, stride: int) -> None:
    """416 pixels to 13 cells, and 448 to 7."""
    assert open_network(name).stride == stride


def test_yolov3_says_at_333_that_it_wants_multiples_of_32() -> None:
    with pytest.raises(CfgError, match=r"^size 333 x 333: .*yolov3\.cfg .* of 32, such as 320 x 320 or 352 x 352"):
        open_network("yolov3", size=333)


def test_another_size_obeys_the_limit_of_memory() -> None:
    """At 64 x 64 the activations are 12,288 and 8,192 floats, at 128 x 128 four times as many."""
    network = Network.build(Cfg.parse(NET + CONV, "test.cfg"), memory_limit=100_000)
    with pytest.raises(CfgError, match=r"^size 128 x 128: .*limit of 0\.1 MB"):
        network.resized(128, 128, memory_limit=100_000)
    assert network.resized(128, 128).input == (3, 128, 128)


def test_the_summary_adds_up() -> None:
    """3 x 3 x 3 x 8 weights and 8 biases; 8 x 21 and 21. One output pixel a product costs two operations."""
    said = list(lines(network_of(NET + CONV + YOLO)))
    first = f"0 convolutional 8 x 3x3/2 leaky 64 x 64 x 3 32 x 32 x 8 224 {2 * 32 * 32 * 8 * 27:,}"
    assert " ".join(said[1].split()) == first
    assert f"{224 + 189} parameters" in said[-1]
    assert f"{20 + 4 * (224 + 189):,} bytes" in said[-1]


def test_a_cfg_can_be_read_twice_and_gives_the_same_network(tmp_path: Path) -> None:
    path = tmp_path / "a.cfg"
    path.write_text(NET + CONV + YOLO)
    assert Network.build(Cfg.read(path)).nodes == Network.build(Cfg.read(path)).nodes
    assert model_of(NET + CONV).network.nodes == network_of(NET + CONV).nodes


# ---------------------------------------------------------------------- what learning reads of [net]
def test_what_is_not_given_is_as_in_darknet_and_the_fork() -> None:
    options = network_of(NET + CONV).options
    assert (options.b1, options.b2, options.eps) == (0.9, 0.999, 1e-7)
    assert (options.learning_rate_min, options.sgdr_cycle, options.sgdr_mult) == (1e-5, 0, 2)
    assert (options.ema_alpha, options.mosaic, options.flip) == (0.0, False, True)
    assert (options.label_smooth_eps, options.resize_step) == (0.0, 32)
    assert network_of(NET + "max_batches=500\n" + CONV).options.sgdr_cycle == 500


def test_what_learning_reads_is_read_without_a_warning() -> None:
    text = """B1=.8
B2=.99
eps=1e-6
policy=sgdr
max_batches=9000
learning_rate_min=.0001
sgdr_cycle=300
sgdr_mult=3
ema_alpha=.998
mosaic=1
flip=0
label_smooth_eps=.1
resize_step=16
mixup=0
"""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        options = network_of(NET + text + CONV).options
    assert (options.b1, options.b2, options.eps) == (0.8, 0.99, 1e-6)
    assert (options.learning_rate_min, options.sgdr_cycle, options.sgdr_mult) == (0.0001, 300, 3)
    assert (options.ema_alpha, options.mosaic, options.flip) == (0.998, True, False)
    assert (options.label_smooth_eps, options.resize_step) == (0.1, 16)


@pytest.mark.parametrize("line", ["ema_alpha=1.5", "B1=-1", "sgdr_mult=0", "resize_step=0", "mosaic=yes"])
def test_what_learning_cannot_use_is_refused_with_its_line(line: str) -> None:
    with pytest.raises(CfgError, match=rf"test.cfg:5: \[net\] {line}"):
        network_of(NET + line + "\n" + CONV)
