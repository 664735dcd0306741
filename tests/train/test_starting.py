"""From what a user asks to a run that can begin: the few lines of Python that it takes, and what is refused first."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from smallrun import CFG, CLASSIFIER, FORK, REGION, cfg_with, class_folders, make_data

from lookonce.darknet.weights import Header
from lookonce.errors import CfgError, DataError, LookonceError, WeightsError
from lookonce.model import Model, open_model
from lookonce.train import checkpoint, starting
from lookonce.train.datasets import TrainingData
from lookonce.train.folder import RunFolder
from lookonce.train.log import JudgedRow, StepRow
from lookonce.train.settings import Settings, fingerprint
from lookonce.train.starting import (
    Adaptation,
    as_it_stands,
    data_of,
    fitted,
    go_on,
    lasting,
    ready,
    recorded,
    space_of,
    start,
)  # fmt: skip


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a dataset in set/ and a network for it in my.cfg."""
    folder = tmp_path_factory.mktemp("starting")
    make_data(folder / "set")
    cfg_with(folder / "my.cfg", max_batches=6)
    return folder


@pytest.fixture(scope="module")
def settings(place: Path) -> Settings:
    return Settings(str(place / "set/my.data"), val_split="none", order="drawn")


@pytest.fixture(scope="module")
def data(settings: Settings) -> TrainingData:
    return data_of(settings)


# ---------------------------------------------------------------------- from Python
def test_a_few_lines_of_python_learn(place: Path, tmp_path: Path) -> None:
    """Those of the module's own words."""
    settings = Settings(str(place / "set/my.data"))
    data = data_of(settings)
    network = fitted(place / "my.cfg", data, Adaptation(epochs=1, batch=2, anchors="keep"))
    model = ready(settings, data, network)
    with RunFolder(tmp_path / "run") as folder:
        rows = list(start(folder, settings, data, model).rows())
    assert [row.number for row in rows if isinstance(row, StepRow)] == [1, 2, 3, 4, 5]      # 10 pictures by 2
    assert isinstance(rows[-1], JudgedRow)
    assert open_model(str(folder.best)).names == ("dark", "bright")


def test_a_run_goes_on_in_python_too(place: Path, settings: Settings, data: TrainingData, tmp_path: Path) -> None:
    """Left in the middle of a loop, it goes on at the last checkpoint: here after the second step."""
    model = ready(settings, data, as_it_stands(place / "my.cfg", len(data.train)))
    quick = dataclasses.replace(settings, save_seconds=0)
    with RunFolder(tmp_path / "run") as folder:
        for row in start(folder, quick, data, model, board="off").rows():
            if row.number == 3:
                break
    with RunFolder(tmp_path / "run", resume=True) as folder:
        found, _ = recorded(folder)
        assert found == quick
        run, said = go_on(folder, found, board="off")
        assert (said, run.learner.number, run.finished) == ([], 2, False)
        assert [row.number for row in run.rows()] == [3, 4, 5, 6]
        again, _ = go_on(folder, found, board="off")
        assert again.finished


# ---------------------------------------------------------------------- a cfg as it stands
def test_a_cfg_as_it_stands_is_changed_only_where_asked(place: Path) -> None:
    """12 pictures in batches of 4: 2.5 epochs are 7.5 steps, so 8."""
    cfg = place / "my.cfg"
    assert as_it_stands(cfg, 12).cfg.text == cfg.read_text()
    network = as_it_stands(cfg, 12, epochs=2.5, size=(96, 64), subdivisions=4)
    assert (network.options.max_batches, network.options.subdivisions) == (8, 4)
    assert (network.input.width, network.input.height) == (96, 64)
    changed = set(network.cfg.text.splitlines()) - set(cfg.read_text().splitlines())
    assert changed == {"max_batches=8", "width=96", "subdivisions=4"}


@pytest.mark.parametrize("epochs", [0, -1, float("nan"), float("inf")])
def test_a_number_of_epochs_must_be_one(place: Path, epochs: float) -> None:
    with pytest.raises(CfgError, match=r"epochs=.*wanted a number above 0"):
        as_it_stands(place / "my.cfg", 12, epochs=epochs)


def test_a_size_must_suit_the_grid(place: Path) -> None:
    with pytest.raises(CfgError, match=r"size 333 x 333: .* wants multiples of 4, such as 332 or 336"):
        as_it_stands(place / "my.cfg", 12, size=333)


# ---------------------------------------------------------------------- a network that is fitted
@pytest.mark.parametrize(("several", "text"), [(True, CFG), (False, FORK), (True, REGION), (False, REGION)])
def test_several_sizes_are_learnt_only_when_asked(place: Path, data: TrainingData, several: bool, text: str) -> None:
    """Whatever random= of the cfg says."""
    cfg = cfg_with(place / "sizes.cfg", text)
    network = fitted(cfg, data, Adaptation(anchors="keep", batch=4, multi_scale=several))
    assert [section.options["random"].value for section in network.cfg.sections if "random" in section.options] == (
        [str(int(several))]
    )
    assert float(network.heads[-1][1].random) == several                # type: ignore[attr-defined]


@pytest.mark.parametrize(("batch", "processes", "parts"), [(8, 1, 1), (8, 2, 2), (6, 3, 3), (5, 2, 1)])
def test_mini_batches_are_a_multiple_of_the_processes_if_the_batch_can_be(
    place: Path, data: TrainingData, batch: int, processes: int, parts: int
) -> None:
    """Five pictures cannot be shared out between two: that is refused later."""
    how = Adaptation(anchors="keep", batch=batch, processes=processes)
    assert fitted(place / "my.cfg", data, how).options.subdivisions == parts


def test_a_network_with_weights_of_one_size_learns_at_no_other(place: Path, data: TrainingData) -> None:
    head = "[connected]\noutput=192\n[detection]\nclasses=2\ncoords=4\nside=4\nnum=2\n"      # 4·4·(2·5 + 2)
    cfg = place / "one.cfg"
    cfg.write_text(CFG[: CFG.index("[convolutional]\nfilters=21")] + head)
    with pytest.raises(CfgError, match=r"one\.cfg: has a \[connected\] or \[local\] layer, .* cannot learn at several"):
        fitted(cfg, data, Adaptation(anchors="keep", batch=4, multi_scale=True))


@pytest.mark.parametrize("rate", [0.0, float("nan"), float("inf"), -0.1])
def test_a_learning_rate_must_be_one(place: Path, data: TrainingData, rate: float) -> None:
    with pytest.raises(CfgError, match=r"learning rate .*: wanted a number above 0"):
        fitted(place / "my.cfg", data, Adaptation(learning_rate=rate))


# ---------------------------------------------------------------------- refused before the first step
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"max_batches": 0}, r"max_batches=0: there is nothing to learn; set it, or give --epochs"),
        ({"batch": 16}, r"has 12 pictures to learn from, fewer than batch=16 of .*; wanted a batch of at most 12"),
        ({"subdivisions": 3}, r"subdivisions=3 does not divide batch=4; wanted parts of one size"),
        ({"width": 8192, "height": 8192, "batch": 12, "subdivisions": 1},
         r"12 pictures of 8192 x 8192 at once take .*, and .* may be taken on cpu: subdivisions=12 fits"),
        ({"learning_rate": "nan"}, r"\[net\] learning_rate=nan is not a finite number"),
    ],
)  # fmt: skip
def test_a_cfg_that_cannot_be_learnt_is_refused(
    place: Path, settings: Settings, data: TrainingData, changes: dict[str, object], words: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("lookonce.train.memory.free_bytes", lambda: 20 << 30)
    cfg = cfg_with(place / "odd.cfg", **changes)
    with pytest.raises(LookonceError, match=words):
        ready(settings, data, as_it_stands(cfg, len(data.train)))


def test_a_network_without_a_loss_is_refused(place: Path, settings: Settings, data: TrainingData) -> None:
    cfg = place / "none.cfg"
    cfg.write_text(CLASSIFIER.replace("[softmax]\n", ""))
    classes = data_of(Settings(str(class_folders(place / "classes")), val_split="none"))
    with pytest.raises(LookonceError, match=r"none\.cfg"):
        ready(settings, classes, as_it_stands(cfg, len(classes.train)))
    with pytest.raises(CfgError, match=r"none\.cfg: is neither a detector nor a classifier"):
        fitted(cfg, classes, Adaptation())


def test_batch_norm_of_a_single_value_is_refused(place: Path, settings: Settings, data: TrainingData) -> None:
    cfg = cfg_with(place / "single.cfg", CFG.replace("stride=4", "stride=64"), batch=2, subdivisions=2)
    with pytest.raises(CfgError, match=r"single\.cfg:\d+: layer 0 \[convolutional\]: batch norm of one"):
        ready(settings, data, as_it_stands(cfg, len(data.train)))


def test_data_of_the_other_kind_is_refused(place: Path, settings: Settings, data: TrainingData) -> None:
    classes = data_of(Settings(str(class_folders(place / "kinds")), val_split="none"))
    with pytest.raises(DataError, match=r"kinds: says what its pictures show, not where: .*my\.cfg is a detector"):
        ready(settings, classes, as_it_stands(place / "my.cfg", len(classes.train)))
    cfg = place / "classifier.cfg"
    cfg.write_text(CLASSIFIER)
    with pytest.raises(DataError, match=r"my\.data: says where things are, in boxes: .*\.cfg is a classifier"):
        ready(settings, data, as_it_stands(cfg, len(data.train)))


def test_data_that_cannot_judge_is_refused(place: Path, settings: Settings, data: TrainingData) -> None:
    """Its pictures have no object: that would show only after the first epoch."""
    empty = dataclasses.replace(
        data.train, items=tuple(item._replace(truth=item.truth.of(np.zeros(0, np.int64))) for item in data.train.items)
    )
    network = as_it_stands(place / "my.cfg", len(data.train))
    with pytest.raises(DataError, match="holds no object of the 2 classes that are judged"):
        ready(settings, dataclasses.replace(data, val=empty), network)


def test_weights_of_another_network_are_refused(place: Path, settings: Settings, data: TrainingData) -> None:
    network = as_it_stands(place / "my.cfg", len(data.train))
    other = as_it_stands(cfg_with(place / "other.cfg", CFG.replace("filters=8", "filters=9")), len(data.train))
    Model.random(other).write_weights(place / "other.weights")
    with pytest.raises(WeightsError, match=r"other\.weights: [\d,]+ bytes, as no weights of .*my\.cfg"):
        ready(settings, data, network, pretrained=str(place / "other.weights"))
    with pytest.raises(WeightsError, match=r"missing\.weights: no such file"):
        ready(settings, data, network, pretrained=str(place / "missing.weights"))


def test_weights_that_have_learnt_it_all_are_refused_unless_that_is_cleared(
    place: Path, settings: Settings, data: TrainingData
) -> None:
    network = as_it_stands(place / "my.cfg", len(data.train))
    path = place / "done.weights"
    dataclasses.replace(Model.random(network), header=Header(seen=24)).write_weights(path)
    with pytest.raises(CfgError, match=r"max_batches=6, and the weights have learnt 6 batches already; --clear"):
        ready(settings, data, network, pretrained=str(path), clear=False)
    assert ready(settings, data, network, pretrained=str(path), clear=True).header.seen == 0
    dataclasses.replace(Model.random(network), header=Header(seen=23)).write_weights(path)
    assert ready(settings, data, network, pretrained=str(path), clear=False).header.seen == 23


# ---------------------------------------------------------------------- the folder
def test_a_run_that_cannot_be_kept_leaves_nothing(
    place: Path, settings: Settings, data: TrainingData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ready(settings, data, as_it_stands(place / "my.cfg", len(data.train)))

    def full(*what: object) -> None:
        raise DataError("no room")

    monkeypatch.setattr(checkpoint, "keep", full)
    (tmp_path / "own").mkdir()
    for path in (tmp_path / "made", tmp_path / "own"):
        with pytest.raises(DataError, match="no room"), RunFolder(path) as folder:
            start(folder, settings, data, model, board="off")
    assert not (tmp_path / "made").exists()
    assert list((tmp_path / "own").iterdir()) == []                     # it was there before


def test_the_space_of_a_run_is_what_its_files_take(
    place: Path, settings: Settings, data: TrainingData, tmp_path: Path
) -> None:
    """Of a network of 200,000 floats, beside which headers are nothing: three checkpoints, five models."""
    cfg = cfg_with(place / "wide.cfg", CFG.replace("filters=8", "filters=4000"), max_batches=1, batch=2)
    model = ready(settings, data, as_it_stands(cfg, len(data.train)))
    with RunFolder(tmp_path / "run") as folder:
        list(start(folder, settings, data, model, board="off").rows())
    one, models = folder.checkpoint.stat().st_size, folder.last.stat().st_size
    assert space_of(model.network) == pytest.approx(3 * one + 5 * models, rel=0.05)


def test_what_is_recorded_holds_from_any_folder(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place / "set")
    listed = lasting(Settings("my.data", split="train.txt", val="my.data"))
    assert (listed.split, listed.val) == (str(place / "set/train.txt"), str(place / "set/my.data"))
    asked = Settings("my.data", names="my.names", split="train", val_split="none", format="darknet")
    found = lasting(asked)
    assert (found.data, found.names) == (str(place / "set/my.data"), str(place / "set/my.names"))
    assert (found.split, found.val_split, found.format) == ("train", "none", "darknet")
    assert fingerprint(data_of(found).train) == fingerprint(data_of(asked).train)


@pytest.fixture
def a_folder(
    place: Path, settings: Settings, data: TrainingData, tmp_path: Path
) -> Callable[[], RunFolder]:
    """A run's folder at its beginning, to be held again."""
    model = ready(settings, data, as_it_stands(place / "my.cfg", len(data.train)))
    with RunFolder(tmp_path / "run") as folder:
        start(folder, settings, data, model, board="off")
    return lambda: RunFolder(tmp_path / "run", resume=True)


def test_a_folder_that_holds_no_run_is_refused(a_folder: Callable[[], RunFolder], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no run\.json: wanted the folder of a run"):
        recorded(RunFolder(tmp_path, resume=True))
    with a_folder() as folder:
        found, _ = recorded(folder)
        facts = json.loads(folder.about.read_text())
        for odd in ({}, {"settings": []}, {"settings": {"split": "x"}}, {"settings": {"data": "x", "more": 1}}):
            folder.about.write_text(json.dumps(odd))
            with pytest.raises(DataError, match=r"run\.json"):
                recorded(folder)
        folder.about.write_text(json.dumps(facts))
        folder.checkpoint.unlink()
        with pytest.raises(WeightsError, match="checkpoint"):
            go_on(folder, found)


def test_a_run_whose_dataset_is_gone_says_so(a_folder: Callable[[], RunFolder], tmp_path: Path) -> None:
    with a_folder() as folder:
        found, _ = recorded(folder)
        with pytest.raises(DataError, match=r"gone/my\.data: no such file"):
            go_on(folder, dataclasses.replace(found, data=str(tmp_path / "gone/my.data")))


def test_a_run_goes_on_with_its_tree(data: TrainingData, settings: Settings, tmp_path: Path) -> None:
    """The cfg names the file of a tree; beside the cfg of the run it is not."""
    cfg = tmp_path / "tree.cfg"
    text = REGION.replace("random=1", "random=0\ntree=my.tree").replace("max_batches=150", "max_batches=2")
    cfg.write_text(text)
    (tmp_path / "my.tree").write_text("dark -1\nbright -1\n")
    model = ready(settings, data, as_it_stands(cfg, len(data.train)))
    assert model.tree is not None
    with RunFolder(tmp_path / "run") as folder:
        start(folder, settings, data, model, board="off")
    cfg.unlink()
    (tmp_path / "my.tree").unlink()
    with RunFolder(tmp_path / "run", resume=True) as folder:
        run, said = go_on(folder, settings, board="off")
        assert said == []
        list(run.rows())
    tree = open_model(str(folder.last)).tree
    assert tree is not None
    assert tree.to_lines() == model.tree.to_lines()


# ---------------------------------------------------------------------- memory of a GPU
def test_mini_batches_are_halved_until_they_fit(
    place: Path, settings: Settings, data: TrainingData, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a GPU that has room for two pictures of the largest size, 128 x 128."""
    asked = []

    def rehearse(learner: object, pictures: int, width: int, height: int) -> None:
        asked.append((pictures, width, height))
        if pictures > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("lookonce.train.learner.Learner.rehearse", rehearse)
    cfg = cfg_with(place / "fork.cfg", FORK, batch=8, subdivisions=1)
    model = ready(settings, data, as_it_stands(cfg, len(data.train)))
    fits = starting._that_fits(model, settings, 12, starting.World())
    assert fits.network.options.subdivisions == 4
    assert asked == [(8, 128, 128), (4, 128, 128), (2, 128, 128)]
    odd = cfg_with(place / "odd8.cfg", FORK, batch=3, subdivisions=1)
    model = ready(settings, data, as_it_stands(odd, len(data.train)))
    with pytest.raises(LookonceError, match=r"odd8\.cfg: .*does not fit into the GPU's memory"):
        starting._that_fits(model, settings, 12, starting.World())
