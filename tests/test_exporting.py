from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from conftest import model_of

from lookonce import exporting
from lookonce.boxes import nms
from lookonce.darknet.cfg import Cfg, Place
from lookonce.errors import CfgError, CheckError, DataError
from lookonce.exporting import convert, write_onnx
from lookonce.graph import decoded
from lookonce.model import Model, Thresholds, open_model
from lookonce.network import Network

NET = "[net]\nwidth=64\nheight=32\nchannels=3\n"
CONV = "[convolutional]\nfilters=8\nsize=3\nstride=4\npad=1\nactivation=leaky\n"
HEADS = {
    "yolo": CONV + "[convolutional]\nfilters=16\nsize=1\nactivation=linear\n"
            "[yolo]\nclasses=3\nmask=1,2\nnum=3\nanchors=4,6,9,9,20,12\n",
    "fork": CONV + "[convolutional]\nfilters=16\nsize=1\nactivation=logistic\n"
            "[yolo]\nclasses=3\nmask=1,2\nnum=3\nanchors=4,6,9,9,20,12\nnew_coords=1\nscale_x_y=2\nnms_kind=greedynms\n",
    "region": CONV + "[convolutional]\nfilters=16\nsize=1\nactivation=linear\n"
              "[region]\nclasses=3\nnum=2\nanchors=1,1.5,3,2\nsoftmax=1\n",
    "detection": CONV + "[connected]\noutput=152\nactivation=linear\n"
                 "[detection]\nclasses=9\ncoords=4\nside=2\nnum=5\nsqrt=1\nsoftmax=0\n",
}  # fmt: skip
TREE = ["a -1", "b -1 bee", "c 0"]
HEADS["detection"] = HEADS["detection"].replace("output=152", f"output={4 * (5 * 5 + 9)}")


def detector(kind: str) -> Model:
    model = model_of(NET + HEADS[kind])
    return replace(model, names=tuple(f"n{i}" for i in range(model.network.classes)), thresholds=Thresholds(0.2, 0.4))


@pytest.mark.parametrize("kind", HEADS)
def test_boxes_scores_and_nms_are_inside_and_equal_ours(kind: str, tmp_path: Path) -> None:
    """A stranger's view: ONNX Runtime alone, on the file alone; then NMS by our own boxes.nms on what it says."""
    path = tmp_path / "net.onnx"
    model = detector(kind)
    said = write_onnx(path, model, decoded=True)
    assert "within" in said
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    pictures = np.random.default_rng(0).random((2, 3, 32, 64), np.float32)
    boxes, scores, detections = session.run(None, {"images": pictures})
    assert boxes.shape[::2] == (2, 4)
    assert scores.shape == (*boxes.shape[:2], model.network.classes)
    for number in range(2):
        row, label = np.nonzero(scores[number] > 0.2)
        kept = nms(boxes[number][row], scores[number][row, label], label, 0.4)
        mine = detections[detections[:, 0] == number]
        assert len(mine) == len(kept) > 0
        np.testing.assert_allclose(np.sort(mine[:, 5]), np.sort(scores[number][row, label][kept]), rtol=1e-5)


def test_an_export_that_differs_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The anchors of the exported graph are doubled behind its back."""
    real = decoded.build_decoded

    def wrong(model: Model) -> object:
        head = model.network.heads[0][1]
        twice = replace(head, anchors=tuple((2 * w, 2 * h) for w, h in head.anchors))  # type: ignore[attr-defined,call-arg]
        nodes = tuple(replace(node, layer=twice) if node.layer is head else node for node in model.network.nodes)
        return real(replace(model, network=replace(model.network, nodes=nodes)))

    monkeypatch.setattr(exporting, "build_decoded", wrong)
    with pytest.raises(CheckError, match="not written: its boxes differ"):
        write_onnx(tmp_path / "net.onnx", detector("yolo"), decoded=True)
    assert list(tmp_path.iterdir()) == []


def test_what_belongs_to_a_model_goes_along_as_metadata(tmp_path: Path) -> None:
    model = replace(detector("yolo"), card={"data": "none"})
    write_onnx(tmp_path / "net.onnx", model)
    metadata = {entry.key: entry.value for entry in onnx.load(tmp_path / "net.onnx").metadata_props}
    assert metadata["cfg"] == model.network.cfg.text
    assert json.loads(metadata["names"]) == ["n0", "n1", "n2"]
    assert json.loads(metadata["card"]) == {"data": "none"}
    assert metadata["resize"] == "letterbox"


def test_trees_and_classifiers_have_no_boxes_to_decode(tmp_path: Path) -> None:
    classifier = model_of(NET + CONV + "[avgpool]\n[softmax]\n")
    with pytest.raises(CfgError, match="no boxes to decode"):
        write_onnx(tmp_path / "a.onnx", classifier, decoded=True)
    (tmp_path / "toy.tree").write_text("\n".join(TREE))
    (tmp_path / "toy.cfg").write_text(NET + HEADS["region"] + "tree=toy.tree\n")
    with pytest.raises(CfgError, match="down a tree"):
        write_onnx(tmp_path / "a.onnx", open_model(tmp_path / "toy.cfg", "random"), decoded=True)


def test_the_suffix_says_what_is_written(tmp_path: Path) -> None:
    model = detector("yolo")
    for name in ("a.safetensors", "a.onnx", "a.weights"):
        assert convert(model, tmp_path / name)
    assert {path.name for path in tmp_path.iterdir()} == {"a.safetensors", "a.onnx", "a.weights", "a.cfg", "a.names"}
    assert (tmp_path / "a.names").read_text() == "n0\nn1\nn2\n"
    assert (tmp_path / "a.cfg").read_text() == model.network.cfg.text
    with pytest.raises(DataError, match="wanted a name that ends in"):
        convert(model, tmp_path / "a.pt")
    with pytest.raises(DataError, match="--decoded is for .onnx"):
        convert(model, tmp_path / "a.safetensors", decoded=True)


def test_converting_beside_a_cfg_does_not_replace_it(tmp_path: Path) -> None:
    (tmp_path / "net.cfg").write_text(NET + HEADS["yolo"])
    with pytest.raises(DataError, match="would replace"):
        convert(open_model(tmp_path / "net.cfg", "random"), tmp_path / "net.weights")


# ---------------------------------------------------------------------- Darknet's files
def with_tree(folder: Path, named: str = "toy.tree") -> Model:
    """A detector whose cfg names a tree, opened from files."""
    (folder / named).parent.mkdir(parents=True, exist_ok=True)
    (folder / named).write_bytes("\r\n".join(TREE).encode())
    (folder / "toy.cfg").write_text(NET + HEADS["region"] + f"tree = {named}\n")
    return open_model(folder / "toy.cfg", "random")


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("named", ["toy.tree", "data/toy.tree"])
def test_a_tree_lies_beside_its_cfg(named: str, tmp_path: Path) -> None:
    """From files to one file to files to files; the cfg is another only where it names a folder that is not there."""
    model = with_tree(tmp_path / "own", named)
    convert(model, tmp_path / "one.safetensors")
    said = convert(open_model(tmp_path / "one.safetensors"), tmp_path / "back" / "net.weights")
    assert said == [str(tmp_path / "back" / name) for name in ("net.weights", "net.cfg", "toy.tree")]
    first = content(tmp_path / "back")
    assert (first["net.cfg"] == (tmp_path / "own" / "toy.cfg").read_bytes()) == (named == "toy.tree")
    assert b"data" not in first["net.cfg"]
    back = open_model(tmp_path / "back" / "net.cfg", tmp_path / "back" / "net.weights")
    assert back.tree is not None
    assert back.tree.to_lines() == TREE
    assert back.label_names() == ("a", "bee", "c")
    convert(back, tmp_path / "again" / "net.weights")
    assert content(tmp_path / "again") == first


@pytest.mark.parametrize("named", ["../.bashrc", "/etc/cron.d/x", "a.names", "a.weights", "..", "a\\b.tree", ".tree",
                                   "x" * 300 + ".tree"])  # fmt: skip
def test_the_name_of_a_tree_inside_a_model_chooses_no_file(named: str, tmp_path: Path) -> None:
    """A model may come from anywhere, and a line of a tree may hold what a shell would run."""
    cfg = Cfg.parse(NET + HEADS["region"] + f"tree={named}\n", "a.cfg", Place(attached={"tree": "\n".join(TREE)}))
    model = Model.random(Network.build(cfg))
    convert(model, tmp_path / "deep" / "a.weights")
    assert content(tmp_path).keys() == {"a.weights", "a.cfg", "classes.tree"}
    back = open_model(tmp_path / "deep" / "a.cfg", tmp_path / "deep" / "a.weights").tree
    assert back is not None
    assert back.to_lines() == TREE


def test_a_tree_goes_along_as_metadata(tmp_path: Path) -> None:
    write_onnx(tmp_path / "net.onnx", with_tree(tmp_path))
    metadata = {entry.key: entry.value for entry in onnx.load(tmp_path / "net.onnx").metadata_props}
    assert metadata["tree"].splitlines() == TREE


def test_a_cfg_that_is_no_utf8_goes_along_to_the_byte(tmp_path: Path) -> None:
    (tmp_path / "a.cfg").write_bytes(b"# caf\xe9\n" + (NET + CONV).encode())
    write_onnx(tmp_path / "a.onnx", open_model(tmp_path / "a.cfg", "random"))
    metadata = {entry.key: entry.value for entry in onnx.load(tmp_path / "a.onnx").metadata_props}
    assert metadata["cfg"].encode(metadata["encoding"]) == (tmp_path / "a.cfg").read_bytes()


@pytest.mark.parametrize("name", ["net.cfg", "net.names", "toy.tree"])
def test_a_users_file_is_not_replaced_by_one_beside_the_weights(name: str, tmp_path: Path) -> None:
    model = replace(with_tree(tmp_path / "own"), names=("a", "b", "c"))
    out = tmp_path / "out" / "net.weights"
    out.parent.mkdir()
    (out.parent / name).write_text("mine\n")
    with pytest.raises(DataError, match=rf"{out}: .*{name} is there already, with other content") as caught:
        convert(model, out)
    assert "\n" not in str(caught.value)
    assert content(out.parent) == {name: b"mine\n"}
    (out.parent / name).unlink()
    (out.parent / name).mkdir()
    with pytest.raises(DataError, match="is there already"):
        convert(model, out)


def test_what_is_there_already_with_the_same_lines_stays(tmp_path: Path) -> None:
    model = replace(detector("yolo"), names=("a", "b", "c"))
    (tmp_path / "net.names").write_bytes(b"a\r\nb\r\nc")
    convert(model, tmp_path / "net.weights")
    convert(model, tmp_path / "net.weights")
    assert (tmp_path / "net.names").read_bytes() == b"a\r\nb\r\nc"


def test_names_that_fit_no_file_leave_nothing_behind(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not fit on a line"):
        convert(replace(detector("yolo"), names=("a\nb", "c", "d")), tmp_path / "net.weights")
    assert content(tmp_path) == {}
