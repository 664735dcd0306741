"""What the README and the tour say, tried: every command of theirs is run, in order, and every link leads somewhere."""

from __future__ import annotations

import json
import re
import shlex
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import DETECTOR, ROOT
from PIL import Image

import lookonce
from lookonce import zoo
from lookonce.cli.main import main
from lookonce.model import Model, open_network
from lookonce.video.writing import VideoWriter

sys.path.insert(0, str(ROOT / "tests" / "data"))
from smallsets import voc_root, voc_xml

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)
COMMANDS = [line.partition(" #")[0].strip() for kind, block in BLOCKS if not kind for line in block.splitlines()
            if line.startswith("lookonce ")]  # fmt: skip
OTHERS = {"make demo", "make test", "pip install '.[video]'", "pip install '.[train]'"}
NAMES = ("cat", "dog")
CFG = DETECTOR.replace("[net]\n", "[net]\nbatch=2\nsubdivisions=1\nlearning_rate=.001\nmax_batches=4\n", 1)
# What cannot be done here, and what is then said.
ELSEWHERE = {"lookonce model pull yolov3-tiny": "a connection", "lookonce detect 0": "camera 0: cannot be opened"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds what the README's commands name, small: pictures, datasets, a network, pulled weights."""
    folder = tmp_path_factory.mktemp("reader")
    rng = np.random.default_rng(0)

    def picture(name: str) -> None:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (60, 80, 3), np.uint8)).save(path)

    for name in ("photo.jpg", "dog.jpg", "photos/a.jpg", "photos/b.png", "more/deep/c.png"):
        picture(name)
    (folder / "list.txt").write_text("photo.jpg\ndog.jpg\n")
    writer = VideoWriter(folder / "clip.mp4", 10.0)
    for _ in range(3):
        writer.add(rng.integers(0, 256, (48, 64, 3), np.uint8))
    writer.close()
    ids = [f"{number:06}" for number in range(6)]
    boxes = {id: [(NAMES[0], (2, 2, 20 + n, 25 - n)), (NAMES[1], (10 + n, 5, 38, 20 + n))] for n, id in enumerate(ids)}
    labels = {id: voc_xml(rows) for id, rows in boxes.items()}
    voc_root(folder / "VOC2007", labels, {"train": ids[:4], "val": ids[4:]})
    _darknet_data(folder, picture)
    _coco(folder, picture)
    _results(folder, ids[4:])
    with zipfile.ZipFile(folder / "flowers.zip", "w") as archive:
        for name in NAMES:
            for number in range(2):
                archive.write(folder / "photo.jpg", f"{name}/{number}.jpg")
    with zipfile.ZipFile(folder / "pets.zip", "w") as archive:
        for name in ("pug", "poodle"):
            for number in range(2):
                archive.write(folder / "photo.jpg", f"{name}/{number}.jpg")
    for number in range(4):
        picture(f"cifar10/train/{NAMES[number % 2]}/{number}.png")
    (folder / "recipes").symlink_to(ROOT / "recipes")
    (folder / "names.txt").write_text("pug\npoodle\n")
    (folder / "parents.csv").write_text("pug,dog\npoodle,dog\ndog,animal\ncat,animal\n")
    (folder / "words.txt").write_text("pug\npoodle\ncat\n")
    (folder / "my.cfg").write_text(CFG)
    model = Model.random(open_network(folder / "my.cfg"))
    model.write_weights(folder / "my.weights")
    home = folder / "home"
    home.mkdir()
    for network in ("yolov3-tiny", "darknet19"):
        Model.random(open_network(network)).write_weights(home / f"{network}.weights")
    return folder


def _darknet_data(folder: Path, picture: Callable[[str], None]) -> None:
    """my.data: four pictures to learn and two to judge, with Darknet's label files."""
    for part, numbers in (("train", range(4)), ("val", range(4, 6))):
        paths = [f"set/images/{number}.jpg" for number in numbers]
        for path in paths:
            picture(path)
            label = folder / path.replace("images", "labels").replace(".jpg", ".txt")
            label.parent.mkdir(parents=True, exist_ok=True)
            label.write_text("0 .3 .4 .3 .4\n1 .6 .5 .5 .6\n")
        (folder / f"{part}.txt").write_text("\n".join(str(folder / path) for path in paths) + "\n")
    (folder / "my.names").write_text("\n".join(NAMES) + "\n")
    (folder / "my.data").write_text("classes=2\ntrain=train.txt\nvalid=val.txt\nnames=my.names\nbackup=backup\n")


def _coco(folder: Path, picture: Callable[[str], None]) -> None:
    """instances.json beside two pictures."""
    images = []
    for number in (1, 2):
        picture(f"images/{number:06}.jpg")
        images.append({"id": number, "file_name": f"{number:06}.jpg", "width": 80, "height": 60})
    box = {"bbox": [4, 5, 30, 40], "area": 1200, "iscrowd": 0}
    boxes = [{"id": number, "image_id": number, "category_id": number, **box} for number in (1, 2)]
    categories = [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}]
    (folder / "instances.json").write_text(
        json.dumps({"images": images, "annotations": boxes, "categories": categories})
    )


def _results(folder: Path, ids: list[str]) -> None:
    """theirs.json: what another detector says of the pictures that judge, in COCO's form."""
    rows = [{"image_id": int(id), "category_id": 1, "bbox": [2, 2, 28, 23], "score": 0.8} for id in ids]
    (folder / "theirs.json").write_text(json.dumps(rows))


@pytest.fixture
def inside(world: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The reader's folder as the current one; what a verb sets for the whole process is set back."""
    monkeypatch.chdir(world)
    monkeypatch.setenv("LOOKONCE_HOME", str(world / "home"))
    mode, threads = torch.get_deterministic_debug_mode(), torch.get_num_threads()
    yield world
    torch.set_deterministic_debug_mode(mode)
    torch.set_num_threads(threads)


def test_every_command_does_what_it_says(inside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """One after the other, as they stand: later ones read what earlier ones wrote."""
    assert len(COMMANDS) > 30
    for command in COMMANDS:
        if command in ELSEWHERE:
            continue
        code = main(shlex.split(command)[1:])
        out, err = capsys.readouterr()
        assert code == 0, f"{command}\n{out[-500:]}\n{err[-1000:]}"
    made = ("drawn/clip.mp4", "boxes.json", "predictions.png", "my.onnx", "answers.json", "page.html", "both.json")
    for name in made:
        assert (inside / name).stat().st_size > 0, name
    assert (inside / "back.weights").read_bytes() == (inside / "my.weights").read_bytes()


def test_what_cannot_be_done_here_is_said_in_a_line(inside: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if Path("/dev/video0").exists():
        pytest.skip("there is a camera here")
    assert main(["detect", "0"]) == 2
    assert "camera 0: cannot be opened" in capsys.readouterr().err
    assert "lookonce detect 0" in COMMANDS


def test_what_is_no_command_of_ours_is_known(inside: Path) -> None:
    lines = {line.partition(" #")[0].strip() for kind, block in BLOCKS if not kind for line in block.splitlines()}
    assert {line for line in lines if line.startswith(("make", "pip"))} == OTHERS


def test_the_python_of_the_readme_runs(inside: Path) -> None:
    (code,) = [block for kind, block in BLOCKS if kind == "python"]
    assert len(code.splitlines()) <= 16
    names: dict[str, object] = {}
    exec(compile(code, "README.md", "exec"), names)
    assert isinstance(names["found"], lookonce.Detections)


@pytest.mark.parametrize("page", ["README.md", "docs/tour.md", "recipes/README.md", "CHANGELOG.md"])
def test_every_link_leads_somewhere(page: str) -> None:
    path = ROOT / page
    links = [link for link in re.findall(r"\]\(([^)#]+)", path.read_text()) if "://" not in link]
    assert [link for link in links if not (path.parent / link).exists()] == []


def test_the_readme_counts_the_zoo() -> None:
    (said,) = re.findall(r"the zoo: (\d+) networks", README)
    assert int(said) == len(zoo.networks())
