from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import DETECTOR, model_of, network_of

from lookonce.errors import CfgError, DataError, LookonceWarning, WeightsError
from lookonce.model import Model, open_model, open_network
from lookonce.model.opening import memory_limit, split_cut


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A folder with a small detector: net.cfg, net.weights, net.names."""
    (tmp_path / "net.cfg").write_text(DETECTOR)
    (tmp_path / "net.names").write_text("cat\ndog\n")
    model_of(DETECTOR).write_weights(tmp_path / "net.weights")
    return tmp_path


def test_weights_read_and_written_again_are_the_same_bytes(files: Path) -> None:
    model = open_model(files / "net.cfg", files / "net.weights")
    model.write_weights(files / "again.weights")
    assert (files / "again.weights").read_bytes() == (files / "net.weights").read_bytes()
    assert model.source == str(files / "net.weights")
    assert model.trained == len(model.network.nodes) == 3


def test_random_weights_have_darknets_deviation() -> None:
    """sqrt(2 / fan-in): of 3 x 3 x 3 = 27 inputs .272."""
    model = Model.random(network_of(DETECTOR.replace("filters=16", "filters=512")))
    assert model.weights[0]["weights"].std() == pytest.approx((2 / 27) ** 0.5, rel=0.03)
    assert (model.weights[0]["scales"] == 1).all()
    assert (model.weights[0]["biases"] == 0).all()
    again = Model.random(network_of(DETECTOR.replace("filters=16", "filters=512")))
    np.testing.assert_array_equal(model.weights[0]["weights"], again.weights[0]["weights"])


def test_the_first_layers_of_a_file_can_be_taken(files: Path) -> None:
    whole = open_model(files / "net.cfg", files / "net.weights")
    with pytest.warns(LookonceWarning, match="first 1 of 3 layers.*the rest are random"):
        part = open_model(files / "net.cfg", f"{files / 'net.weights'}:1")
    assert part.trained == 1
    np.testing.assert_array_equal(part.weights[0]["weights"], whole.weights[0]["weights"])
    assert (part.weights[1]["weights"] != whole.weights[1]["weights"]).any()


def test_a_cut_file_holds_the_first_layers_and_no_pictures_seen(files: Path) -> None:
    open_model(files / "net.cfg", files / "net.weights").write_weights(files / "net.conv.1", 1)
    floats = 16 * 27 + 4 * 16
    assert (files / "net.conv.1").stat().st_size == 20 + 4 * floats
    assert (files / "net.conv.1").read_bytes()[20:] == (files / "net.weights").read_bytes()[20 : 20 + 4 * floats]
    with pytest.raises(WeightsError, match=r"ends just before layer 1.*holds the first 1 layers"):
        open_model(files / "net.cfg", files / "net.conv.1")
    with pytest.warns(LookonceWarning, match="first 1 of 3"):
        assert open_model(files / "net.cfg", f"{files / 'net.conv.1'}:1").trained == 1


def test_a_file_whose_name_ends_like_a_cut_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "a:7").write_bytes(b"")
    assert split_cut(str(tmp_path / "a:7")) == (tmp_path / "a:7", None)
    assert split_cut(str(tmp_path / "b:7")) == (tmp_path / "b", 7)
    assert split_cut("C:weights") == (Path("C:weights"), None)


@pytest.mark.parametrize("cut", [0, 4, 99])
def test_a_cut_beyond_the_network_is_refused(files: Path, cut: int) -> None:
    with pytest.raises(WeightsError, match="3 layers; wanted a cut of 1 to 3"):
        open_model(files / "net.cfg", f"{files / 'net.weights'}:{cut}")


def test_names_come_from_a_file_a_list_of_the_zoo_or_a_sequence(files: Path) -> None:
    cfg, weights = files / "net.cfg", files / "net.weights"
    assert open_model(cfg, weights).label_names() == ("class 0", "class 1")
    assert open_model(cfg, weights, files / "net.names").label_names() == ("cat", "dog")
    assert open_model(cfg, weights, ["a", "b"]).label_names() == ("a", "b")
    with pytest.raises(DataError, match="80 names.*2 classes"):
        open_model(cfg, weights, "coco")
    with pytest.raises(DataError, match="1 names.*2 classes"):
        open_model(cfg, weights, ["a"])


def test_a_zoo_network_brings_its_names_and_wants_its_weights() -> None:
    with pytest.warns(LookonceWarning, match="random weights: what it says means nothing"):
        model = open_model("yolov3-tiny", "random")
    assert model.names[:3] == ("person", "bicycle", "car")
    with pytest.raises(WeightsError, match=r"lookonce model pull yolov3-tiny.*35 MB.*-w FILE.*-w random"):
        open_model("yolov3-tiny")
    with pytest.raises(WeightsError, match="no weights of it were published"):
        open_model("yolov1")


def test_pulled_weights_are_taken_by_themselves(own_cache: Path) -> None:
    with pytest.warns(LookonceWarning):
        open_model("yolov3-tiny", "random").write_weights(own_cache / "yolov3-tiny.weights")
    assert open_model("yolov3-tiny").source == str(own_cache / "yolov3-tiny.weights")


def test_an_unknown_model_gets_the_nearest_name() -> None:
    with pytest.raises(CfgError, match="yolov3-tinny.*did you mean yolov3-tiny"):
        open_model("yolov3-tinny", "random")
    with pytest.raises(CfgError, match=r"missing\.cfg: no such file"):
        open_model("missing.cfg", "random")


def test_yolo9000_brings_its_tree_also_for_a_cfg_that_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Darknet's own cfg says tree=data/9k.tree; whoever has only cfg and weights has no such file."""
    monkeypatch.chdir(tmp_path)
    cfg = DETECTOR[: DETECTOR.index("[yolo]")].replace("filters=21", "filters=9423")
    (tmp_path / "9k.cfg").write_text(cfg + "[region]\nclasses=9418\nnum=1\nsoftmax=1\ntree=data/9k.tree\n")
    with pytest.warns(LookonceWarning, match="data/9k.tree is not there; lookonce's own copy is taken"):
        model = open_model(tmp_path / "9k.cfg", "random")
    assert model.tree is not None
    assert model.label_names()[:2] == ("thing", "matter")


def test_a_model_runs_at_other_sizes_unless_its_weights_depend_on_them(files: Path) -> None:
    model = open_model(files / "net.cfg", files / "net.weights", size=32)
    assert model.network.input == (3, 32, 32)
    assert open_model(files / "net.cfg", files / "net.weights", size=(96, 32)).network.input == (3, 32, 96)
    flat = DETECTOR[: DETECTOR.index("[convolutional]\nfilters=21")] + "[connected]\noutput=5\n[softmax]\n"
    (files / "flat.cfg").write_text(flat)
    with pytest.raises(WeightsError, match=r"^size 32 x 32: layer 1 \[connected\] of .*at its own size only"):
        open_model(files / "flat.cfg", "random", size=32)


def test_the_memory_limit_can_be_set(monkeypatch: pytest.MonkeyPatch, files: Path) -> None:
    monkeypatch.setenv("LOOKONCE_MEMORY_LIMIT", "10000")
    with pytest.raises(CfgError, match="limit"):
        open_model(files / "net.cfg", files / "net.weights")
    monkeypatch.setenv("LOOKONCE_MEMORY_LIMIT", "200000")
    assert open_model(files / "net.cfg", files / "net.weights", size=32).network.input == (3, 32, 32)
    with pytest.raises(CfgError, match="^size 256 x 256: .*limit"):
        open_model(files / "net.cfg", "random", size=256)
    with pytest.raises(CfgError, match="^size 256 x 256: .*limit"):
        open_network(files / "net.cfg", size=256)
    monkeypatch.setenv("LOOKONCE_MEMORY_LIMIT", "lots")
    with pytest.raises(CfgError, match="LOOKONCE_MEMORY_LIMIT='lots'"):
        memory_limit()
