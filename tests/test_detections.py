"""Detections as a container, against plain lists; and that detecting stays on this computer."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from conftest import Child, model_of

from lookonce.detections import Detection, Detections, summary
from lookonce.engines import available_engines

NAMES = ("cat", "dog", "tree")
ROWS = [
    Detection(1, "dog", 0.875, (10.0, 20.0, 30.0, 40.0)),
    Detection(0, "cat", 0.75, (-5.5, -1.0, 250.0, 130.25)),
    Detection(1, "dog", 0.5, (0.0, 0.0, 200.0, 100.0)),
    Detection(2, "tree", 0.25, (199.0, 99.0, 320.0, 240.0)),
]


def detections(rows: list[Detection] = ROWS) -> Detections:
    return Detections(
        xyxy=np.array([row.xyxy for row in rows], np.float32).reshape(-1, 4),
        score=np.array([row.score for row in rows], np.float32),
        label=np.array([row.label for row in rows], np.int64),
        names=NAMES,
        size=(200, 100),
    )


def test_iterating_gives_one_detection_a_box() -> None:
    assert list(detections()) == ROWS
    assert len(detections()) == len(ROWS)
    assert all(type(number) is float for one in detections() for number in (one.score, *one.xyxy))


def test_iterating_twice_gives_the_same() -> None:
    found = detections()
    assert list(found) == list(found)


@pytest.mark.parametrize("index", [0, 3, -1, -4])
def test_a_number_picks_one_box_and_keeps_it_a_detections(index: int) -> None:
    one = detections()[index]
    assert list(one) == [ROWS[index]]
    assert (one.names, one.size) == (NAMES, (200, 100))


@pytest.mark.parametrize("index", [4, -5])
def test_a_number_beyond_the_last_box_is_an_index_error(index: int) -> None:
    with pytest.raises(IndexError):
        detections()[index]


@pytest.mark.parametrize("part", [slice(2), slice(1, None), slice(None, None, -1), slice(0, 0), slice(9, 12)])
def test_a_slice_picks_as_from_a_list(part: slice) -> None:
    assert list(detections()[part]) == ROWS[part]


def test_numbers_pick_in_their_order() -> None:
    assert list(detections()[np.array([2, 0, 2])]) == [ROWS[2], ROWS[0], ROWS[2]]
    assert list(detections()[np.array([], np.int64)]) == []


def test_a_condition_picks_those_that_meet_it() -> None:
    found = detections()
    assert list(found[found.score > 0.5]) == ROWS[:2]
    assert list(found[found.label == 1]) == [ROWS[0], ROWS[2]]
    assert list(found[found.score > 1]) == []


def test_only_the_named_classes_are_left() -> None:
    assert list(detections().only({"dog", "tree"})) == [ROWS[0], ROWS[2], ROWS[3]]
    assert list(detections().only(["cat"])) == [ROWS[1]]
    assert list(detections().only(["unicorn"])) == []
    assert list(detections().only([])) == []


def test_classes_of_one_name_are_named_together() -> None:
    found = Detections(np.zeros((2, 4), np.float32), np.ones(2, np.float32), np.array([0, 1]), ("dog", "dog"), (9, 9))
    assert len(found.only(["dog"])) == 2


def test_clipping_cuts_at_the_edge_of_the_picture_and_changes_nothing_else() -> None:
    found = detections()
    assert [one.xyxy for one in found.clipped()] == [
        (10, 20, 30, 40), (0, 0, 200, 100), (0, 0, 200, 100), (199, 99, 200, 100),
    ]  # fmt: skip
    assert list(found) == ROWS
    assert [one[:3] for one in found.clipped()] == [one[:3] for one in ROWS]


def test_a_box_outside_the_picture_is_cut_to_nothing() -> None:
    (one,) = detections([Detection(0, "cat", 0.5, (-30.0, 300.0, -10.0, 400.0))]).clipped()
    assert one.xyxy == (0, 100, 0, 100)


def test_rows_are_what_json_holds_rounded() -> None:
    exact = 1 / 3
    (row,) = detections([Detection(2, "tree", exact, (exact, 10 * exact, 100 * exact, 1000 * exact))]).rows()
    assert row == {"label": 2, "name": "tree", "score": 0.333333, "xyxy": [0.33, 3.33, 33.33, 333.33]}
    assert [type(row[key]) for key in row] == [int, str, float, list]


def test_none_is_no_box() -> None:
    none = Detections.none(NAMES, (200, 100))
    assert (len(none), list(none), none.rows()) == (0, [], [])
    assert (none.names, none.size) == (NAMES, (200, 100))
    assert list(none.clipped()) == list(none.only(NAMES)) == list(none[:3]) == []


@pytest.mark.parametrize(("part", "shape"), [("xyxy", (3, 4)), ("xyxy", (4, 3)), ("score", (4, 1)), ("label", (5,))])
def test_arrays_that_do_not_belong_together_are_refused(part: str, shape: tuple[int, ...]) -> None:
    """While tests run, each call's shapes are checked before; a program that only runs has no other check than this."""
    kinds = {"xyxy": np.float32, "score": np.float32, "label": np.int64}
    shapes = {"xyxy": (4, 4), "score": (4,), "label": (4,), part: shape}
    arrays = {name: np.zeros(shapes[name], kind) for name, kind in kinds.items()}
    unchecked = SimpleNamespace(**arrays, names=NAMES, size=(200, 100))
    with pytest.raises(ValueError, match=r"has shape .*, wanted \("):
        Detections.__post_init__(unchecked)                       # type: ignore[arg-type]


def test_what_is_shown_is_short() -> None:
    assert repr(detections()) == "<4 detections: dog 0.88, cat 0.75, dog 0.50, tree 0.25>"
    many = repr(detections(ROWS * 100))
    assert many.startswith("<400 detections: dog 0.88")
    assert many.endswith(", ...>")
    assert len(many) < 120
    assert repr(Detections.none(NAMES, (1, 1))) == "<0 detections: >"


def test_a_summary_counts_the_commonest_first() -> None:
    assert summary(detections()) == "2 dog, 1 cat, 1 tree"
    assert summary(detections([])) == "nothing found"


def test_a_summary_is_one_line_whatever_a_class_is_called() -> None:
    one, names = detections(ROWS[1:2]), ("a\nb\x1b[2J\u202ec", "dog", "tree")
    assert summary(Detections(one.xyxy, one.score, one.label, names, one.size)).isprintable()


# ---------------------------------------------------------------------- nothing leaves this computer
CFG = (
    "[net]\nwidth=32\nheight=32\nchannels=3\n"
    "[convolutional]\nfilters=12\nsize=3\nstride=2\npad=1\nactivation=leaky\n"
    "[convolutional]\nfilters=12\nsize=1\nstride=1\nactivation=linear\n"
    "[yolo]\nmask=0,1\nanchors=8,8, 16,16\nclasses=1\nnum=2\n"
)
GUARDED = """
import sys

def guard(event, arguments):
    if event.startswith(("socket.", "urllib.", "subprocess.", "os.fork", "os.posix_spawn", "os.system")):
        raise RuntimeError(event)

sys.addaudithook(guard)
import socket
try:
    socket.socket()
except RuntimeError:
    print("guarded")
import numpy, lookonce
detect = lookonce.load("net.cfg", "net.weights", engine=sys.argv[1], threshold=0.01, threads=1)
print(len(detect(numpy.zeros((48, 64, 3), numpy.uint8))), "found by", detect.settings()["engine"])
"""


@pytest.mark.parametrize("engine", available_engines())
def test_detecting_opens_no_connection_and_writes_nothing_into_the_home_folder(
    engine: str, child: Child, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both engines come with a telemetry that would write an identifier there; only under CI it keeps quiet."""
    for name in os.environ:
        if "TELEMETRY" in name or name in ("CI", "ORT_RUNNING_UNIT_TESTS", "GITHUB_ACTIONS"):
            monkeypatch.delenv(name)
    home, work = tmp_path / "home", tmp_path / "work"
    home.mkdir()
    work.mkdir()
    (work / "net.cfg").write_text(CFG)
    model_of(CFG).write_weights(work / "net.weights")
    folders = ("HOME", "USERPROFILE", "XDG_CACHE_HOME", "XDG_CONFIG_HOME", "XDG_DATA_HOME", "LOOKONCE_HOME")
    environment = dict.fromkeys(folders, str(home))
    done = child("-c", GUARDED, engine, memory=8 << 30, timeout=60, cwd=work, **environment)
    assert done.code == 0, done.err
    guarded, found = done.out.splitlines()
    assert guarded == "guarded"
    assert f"found by {engine} " in found
    assert int(found.split()[0]) > 0
    assert list(home.rglob("*")) == []
