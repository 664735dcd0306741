"""`lookonce model pack`: what it says and writes, that a packed file is a model, and what it refuses."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors
from conftest import DETECTOR, ROOT, model_of
from PIL import Image

from lookonce.cli.main import main
from lookonce.model import open_model

sys.path.insert(0, str(ROOT / "tests" / "data"))
from smallsets import voc_root, voc_xml

BITS = "[convolutional]\nfilters=16\nsize=3\npad=1\nxnor=1\nbatch_normalize=1\nactivation=leaky\n"
HEAD = "[convolutional]\nfilters=21"
CFG = DETECTOR.replace(HEAD, BITS + HEAD)
CLASSIFIER = CFG[: CFG.index(HEAD)] + "[avgpool]\n[softmax]\n"
FLOATS = 4 * 16 * 16 * 9
PACKED = 16 * (16 * 9 // 8 + 4)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder: a detector, net, and a classifier, c, that have a layer of single bits; a picture."""
    for name, cfg in (("net", CFG), ("c", CLASSIFIER)):
        (tmp_path / f"{name}.cfg").write_text(cfg)
        model_of(cfg).write_weights(tmp_path / f"{name}.weights")
    (tmp_path / "net.names").write_text("cat\ndog\n")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 80, 3), np.uint8)).save(tmp_path / "photo.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def arrays(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    with safetensors.safe_open(path, framework="numpy") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118 - no mapping


def pack(name: str, *more: str) -> int:
    return main(["model", "pack", f"{name}.cfg", "-w", f"{name}.weights", "-o", f"{name}.safetensors", *more])


def test_it_says_what_is_saved_layer_by_layer_and_in_all(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pack("net") == 0
    out, err = capsys.readouterr()
    assert err == ""
    whole, size = 4 * sum(array.size for layer in model_of(CFG).weights for array in layer.values()), Path(
        "net.safetensors"
    ).stat().st_size
    assert [line.split() for line in out.splitlines()] == [
        ["layer", "weights", "bytes", "as", "floats", "packed", "times", "smaller"],
        ["layer", "1", "[convolutional]", "16", "x", "16", "x", "3", "x", "3", f"{FLOATS:,}", f"{PACKED:,}",
         f"{FLOATS / PACKED:.1f}"],
        ["weights", "of", "single", "bits", f"{FLOATS:,}", f"{PACKED:,}", f"{FLOATS / PACKED:.1f}"],
        ["the", "whole", "model", f"{whole:,}", f"{size:,}", f"{whole / size:.1f}"],
    ]  # fmt: skip
    assert pack("net", "--half") == 0
    # 16 filters of the first layer, 21 of the last, and four more numbers for each of the 32 with batch norm:
    floats = 16 * 27 + 21 * 16 + 21 + 4 * 32
    assert Path("net.safetensors").stat().st_size - (size - 2 * floats) in range(-16, 17)    # the header's padding


def test_a_packed_file_is_taken_wherever_a_model_is(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each verb says of it what it says of the cfg and the weights, to the digits that it prints."""
    assert pack("net", "--names", "net.names") == 0
    assert pack("c") == 0
    voc_root(folder / "VOC2007", {"000001": voc_xml([("cat", (2, 2, 20, 25))])}, {"val": ["000001"]})
    capsys.readouterr()
    given = ["-w", "net.weights", "--names", "net.names"]
    for verb, cfg, packed in (
        (["detect", "photo.png", "--thresh", ".3", "-q"], ["-m", "net.cfg", *given], ["-m", "net.safetensors"]),
        (["classify", "photo.png", "-q"], ["-m", "c.cfg", "-w", "c.weights"], ["-m", "c.safetensors"]),
        (["model", "show"], ["net.cfg"], ["net.safetensors"]),
        (["val", "--data", "VOC2007", "--split", "val", "-q"], ["-m", "net.cfg", *given], ["-m", "net.safetensors"]),
    ):
        said = []
        for model in (cfg, packed):
            assert main([*verb, *model]) == 0
            said.append(capsys.readouterr().out)
        assert said[0] == said[1] != ""


def test_it_goes_back_to_weights_and_to_bits_again(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pack("net") == 0
    assert main(["model", "convert", "net.safetensors", "-o", "back/net.weights"]) == 0
    assert Path("back/net.cfg").read_text() == CFG
    before, after = open_model("net.cfg", "net.weights"), open_model("back/net.cfg", "back/net.weights")
    for layer, (ours, theirs) in enumerate(zip(before.weights, after.weights, strict=True)):
        for name, array in ours.items():
            if (layer, name) != (1, "weights"):
                np.testing.assert_array_equal(theirs[name], array)
                continue
            np.testing.assert_array_equal(theirs[name] > 0, array > 0)
            mean = np.abs(array.astype(np.float64)).mean((1, 2, 3), keepdims=True)
            np.testing.assert_allclose(np.abs(theirs[name]), np.broadcast_to(mean, array.shape), rtol=1e-6)
    assert main(["model", "pack", "net.safetensors", "-o", "again.safetensors"]) == 0
    (once, about), (twice, told) = (arrays(Path(f"{name}.safetensors")) for name in ("net", "again"))
    assert (told, twice.keys()) == (about, once.keys())
    for name, array in once.items():
        np.testing.assert_array_equal(twice[name], array)


def test_what_cannot_be_packed_is_refused_in_a_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "real.cfg").write_text(DETECTOR)
    model_of(DETECTOR).write_weights(folder / "real.weights")
    assert main(["model", "convert", "net.cfg", "-w", "net.weights", "-o", "one.safetensors"]) == 0
    one = Path("one.safetensors").read_bytes()
    capsys.readouterr()
    for arguments, says in (
        (["real.cfg", "-w", "real.weights", "-o", "x.safetensors"], "no layer of real.cfg has weights of single bits"),
        (["net.cfg", "-w", "net.weights", "-o", "x.weights"], "x.weights: wanted a name that ends in .safetensors"),
        (["net.cfg", "-o", "x.safetensors"], "net.cfg: needs its weights"),
        (["one.safetensors", "-o", "one.safetensors"], "holds the weights that are packed, which would be lost"),
    ):
        assert main(["model", "pack", *arguments]) == 2
        out, err = capsys.readouterr()
        assert (out, len(err.splitlines())) == ("", 1), err
        assert says in err
    assert Path("one.safetensors").read_bytes() == one
    assert not list(folder.glob("x.*"))


def test_its_help_has_two_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["model", "pack", "--help"]) == 0
    assert capsys.readouterr().out.count("lookonce model pack ") >= 3           # how it is used, and twice how
