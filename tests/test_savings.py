"""What single bits save: bytes counted by hand, a table and a figure of what was measured, and the verb."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import safetensors
from conftest import model_of, network_of

from lookonce import savings
from lookonce.binary import kernel
from lookonce.cli.main import main
from lookonce.model import onefile
from lookonce.savings import KERNEL, NUMPY, Choice, Memory, Savings, Speed

NET = "[net]\nwidth=8\nheight=8\nchannels=3\n"
MIDDLE = "[convolutional]\nfilters=6\nsize=3\npad=1\nactivation=linear\n{}[connected]\noutput=7\nactivation=linear\n{}"
THREE = NET + "[convolutional]\nfilters=4\nsize=3\npad=1\nactivation=leaky\n" + MIDDLE
LAST = "[connected]\noutput=5\nactivation=linear\n"


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two convolutions of little work, and one small network."""
    monkeypatch.setattr(savings, "CHANNELS", (16, 64))
    monkeypatch.setattr(savings, "WINDOWS", (1,))
    monkeypatch.setattr(savings, "USUAL", (16, 3))
    monkeypatch.setattr(savings, "NETWORKS", ("resnet18",))


def test_the_bytes_of_layers_between_the_first_and_the_last() -> None:
    """6 filters of 4 x 3 x 3 = 36 weights are 5 bytes each, 7 rows of 6 x 8 x 8 = 384 are 48, and 4 for the mean."""
    network = network_of(THREE.format("", "") + LAST)
    assert savings.packed_bytes(network) == (4 * (6 * 36 + 7 * 384), 6 * (5 + 4) + 7 * (48 + 4))


def test_a_packed_file_holds_as_many_bytes(tmp_path: Path) -> None:
    """The same network, with single bits in just these layers."""
    model = model_of(THREE.format("xnor=1\n", "xnor=1\n") + LAST)
    onefile.write(tmp_path / "small.safetensors", model, pack=True)
    with safetensors.safe_open(tmp_path / "small.safetensors", "numpy") as file:
        names = [name for name in file.keys() if name.endswith((".bits", ".magnitude"))]                # noqa: SIM118
        stored = sum(file.get_tensor(name).nbytes for name in names)
    assert stored == savings.packed_bytes(model.network)[1]


@pytest.mark.parametrize(("name", "millions"), [("alexnet", 62.4), ("vgg19", 143.7), ("resnet18", 11.5)])
def test_the_networks_of_the_figure_are_as_large_as_published(name: str, millions: float) -> None:
    """Parameters of the papers' networks, in millions; Darknet's ResNet-18 has no projections (torchvision's: 11.7)."""
    assert savings.memory(name).floats / 4e6 == pytest.approx(millions, abs=0.1)


def test_single_bits_are_nearly_32_times_smaller_where_they_are() -> None:
    """32 bits become 1, and 32 more a filter: at 4,608 weights a filter 31.8 times, at 576 30.3."""
    assert all(30 < savings.memory(name).layers < 32 for name in savings.NETWORKS)


@pytest.mark.parametrize("window", [1, 3, 5])
def test_im2col_and_a_product_are_a_convolution(window: int) -> None:
    rng = np.random.default_rng(window)
    x, weights = rng.standard_normal((2, 4, 5)), rng.standard_normal((3, 2, window, window))
    wanted = np.zeros((3, 4, 5))
    for o, h, w, c, i, j in np.ndindex(3, 4, 5, 2, window, window):
        row, column = h + i - window // 2, w + j - window // 2
        if 0 <= row < 4 and 0 <= column < 5:
            wanted[o, h, w] += weights[o, c, i, j] * x[c, row, column]
    columns = np.empty((2, window, window, 4, 5))
    assert savings.im2col_product(x, weights, columns) == pytest.approx(wanted)


def test_times_are_of_the_kernel() -> None:
    speed = Speed(256, 3, {KERNEL: 50.0, "other": 200.0}, {KERNEL: 40.0, "other": 120.0})
    assert speed.times == {"other": (4.0, 3.0)}


def measured(path: str) -> Savings:
    speed = Speed(256, 3, {KERNEL: 50.0, "<other>": 200.0}, {KERNEL: 40.0, "<other>": 120.0})
    return Savings(Choice(path, ""), (Memory("vgg19", 64_000_000, 2_500_000, 31.5),), (speed,), (speed,))


def test_the_table_says_who_ran_it() -> None:
    lines = "\n".join(savings.lines(measured("avx2")))
    assert "kernel (avx2)" in lines
    assert "reference (NumPy)" in "\n".join(savings.lines(measured("reference")))
    assert "vgg19                         64.0          2.50    25.6                   31.5" in lines
    assert "window 3               50.0 (40.0)          4.0 (3.0)" in lines


def test_the_figure_is_a_picture_or_a_page(tmp_path: Path) -> None:
    savings.draw(measured("avx2"), tmp_path / "figure.png")
    savings.draw(measured("avx2"), tmp_path / "figure.html")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "figure.html").read_text()
    assert 'src="data:image/png;base64,iVBOR' in page
    assert "&lt;other&gt;" in page
    assert "<other>" not in page


@pytest.mark.usefixtures("small")
def test_the_verb_measures_everyone(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    out = tmp_path / "figure.png"
    assert main(["bench", "binary", "--seconds", ".01", "--format", "json", "-o", str(out)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(row["channels"], row["window"]) for row in found["by channels"]] == [(16, 3), (64, 3)]
    assert [(row["channels"], row["window"]) for row in found["by window"]] == [(16, 1)]
    for row in found["by channels"]:
        assert {KERNEL, NUMPY, "openvino f32", "onnxruntime f32"} <= row["median"].keys()
        assert all(0 < row["fastest"][name] <= row["median"][name] for name in row["median"])
    assert out.stat().st_size > 10_000


@pytest.mark.usefixtures("small")
def test_without_the_kernel_it_says_that_nothing_was_measured_of_it(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(kernel.VARIABLE, raising=False)
    monkeypatch.setattr(kernel, "compiled", lambda: (None, "it was not built"))
    assert main(["bench", "binary", "--seconds", ".01"]) == 0
    said = capsys.readouterr()
    assert "it was not built; its reference in NumPy is measured, which is no measure of the kernel" in said.err
    assert "reference (NumPy)" in said.out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["binary", "-o", "figure.txt"], "-o figure.txt: wanted a name that ends in .png or .html"),
        (["binary", "--baseline", "none.so"], "none.so: cannot be loaded as im2col and gemm"),
        (["--json", "binary"], "--json stands before binary, which does not have it; leave it out"),
        (["-m", "yolov3", "binary"], "--model stands before binary, which does not have it; leave it out"),
        (["--seconds", "1", "binary"], "--seconds stands before binary; wanted it after binary"),
        (["--strict", "binary"], "--strict stands before binary; wanted it after binary"),
    ],
)
def test_what_is_asked_for_and_cannot_be_is_one_line(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", *words]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert said in error
