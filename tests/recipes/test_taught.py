"""A public detector teaches a small one: what is learnt, and that it goes on."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT

from lookonce.model import Model, open_model, open_network
from lookonce.train.pretrained import start_from

sys.path.insert(0, str(ROOT / "recipes"))
sys.path.insert(0, str(ROOT / "tests" / "data"))
import taught
from smallsets import voc_root, voc_xml


def cross_entropy(truth: float, p: float) -> float:
    return float(-truth * np.log(p) - (1 - truth) * np.log(1 - p))


def test_what_a_teacher_says_is_learnt_by_these_sums() -> None:
    """One place, one anchor, two classes: every term by hand. A place that shows nothing still says its classes."""
    wanted = [1.0, -1.0, 0.5, 0.25, 2.0, -2.0, 1.5]
    said = [0.5, 0.5, 0.0, 1.0, -1.0, 1.0, -1.0]
    terms = taught.soft(*(torch.tensor(values).reshape(1, 7, 1, 1) for values in (said, wanted)), anchors=1)
    s, t = (1 / (1 + np.exp(-np.array(values))) for values in (said, wanted))
    p = t[4]
    assert terms.objects == pytest.approx(cross_entropy(t[4], s[4]))
    assert terms.centre == pytest.approx(p * sum(cross_entropy(t[i], s[i]) for i in (0, 1)))
    assert terms.extent == pytest.approx(p * (0.5**2 + 0.75**2) / 2)
    assert terms.classes == pytest.approx((p + taught.FLOOR) * sum(cross_entropy(t[i], s[i]) for i in (5, 6)))


def test_a_student_that_says_the_same_learns_nothing() -> None:
    answers = torch.randn(2, 3 * 9, 4, 4, generator=torch.Generator().manual_seed(0))
    said = answers.clone().requires_grad_()
    taught.soft(said, answers, anchors=3).total.backward()  # type: ignore[no-untyped-call]
    assert said.grad is not None
    assert said.grad.abs().max() < 1e-6


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Two steps of two pictures of 64 pixels; threads as they were afterwards."""
    for name, value in (("SIDE", 64), ("EPOCHS", 1), ("BATCH", 2), ("SAVE_EVERY", 1)):
        monkeypatch.setattr(taught, name, value)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("small")
def test_a_taught_detector_goes_on_to_learn_labels(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """All layers but those that say the classes are taken over; a run that is done is not learnt again."""
    ids = [f"{number:06}" for number in range(4)]
    voc = voc_root(tmp_path / "voc", {id: voc_xml([("cat", (2, 2, 20, 25))]) for id in ids}, {"train": ids})
    teacher = tmp_path / "teacher.cfg"
    teacher.write_bytes(open_network("yolov3-tiny").cfg.to_bytes())
    Model.random(open_network(teacher)).write_weights(teacher.with_suffix(".weights"))
    student = ROOT / "lookonce/zoo/lookonce-voc.safetensors"
    arguments = [str(path) for path in (student, teacher, voc, tmp_path / "out")]
    taught.run(arguments)
    assert "step 2 of 2" in capsys.readouterr().out
    network = open_network("lookonce-voc")
    model = start_from(network, tmp_path / "out" / taught.MODEL)
    assert model.trained == len(network.nodes) - 3
    before = open_model(student)
    assert not np.array_equal(model.weights[0]["weights"], before.weights[0]["weights"])
    taught.run(arguments)
    assert "step" not in capsys.readouterr().out
