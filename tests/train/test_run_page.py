"""The page of a run: what it says, that it is one file and no danger, and how it looks in a browser."""

from __future__ import annotations

import base64
import builtins
import hashlib
import io
import math
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lookonce import pictures
from lookonce.data.batches import Batch, Plan
from lookonce.errors import DataError, EngineError
from lookonce.report.contents import Fact
from lookonce.train import page
from lookonce.train.log import JudgedRow, NoteRow, Row, StepRow
from lookonce.train.page import About, Sample, duration, samples_of, time_left, write_page
from lookonce.truth import Targets

NASTY = "</title></style><script>alert(1)</script>\"'&<img src=//x>"
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Page(HTMLParser):
    """The elements of a page with their attributes and the text in each kind of them."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self._open: list[str] = []
        self.feed(path.read_text("utf-8"))
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in ("meta", "link"):
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append((self._open[-1] if self._open else "", data.strip()))

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]

    @property
    def text(self) -> str:
        return " ".join(text for tag, text in self.texts if tag != "style")


def step(number: int, **changes: Any) -> StepRow:
    usual: dict[str, Any] = {
        "number": number, "seen": 64 * number, "epoch": number / 8, "rate": 1e-3,
        "terms": {"centre": 1 / number, "classes": 2 / number}, "total": 3 / number, "printed": 1.5, "average": 1.25,
        "speed": 40.5, "waiting": 0.125, "memory": 3 << 30, "seconds": 2.0 * number,
    }  # fmt: skip
    return StepRow(**usual | changes)


ROWS: list[Row] = [
    NoteRow(0, "begins"), *map(step, range(1, 101)),
    JudgedRow(40, 5.0, {"mAP": 0.5, "AP": 0.25}, 80.0, "2026-03-01T09:30:00+01:00"),
    JudgedRow(80, 10.0, {"mAP": 0.625, "AP": 0.125}, 160.0, "2026-03-01T09:32:00+01:00"),
    NoteRow(99, "step 99: the loss is not finite"),
]  # fmt: skip


def written(folder: Path, rows: list[Row] = ROWS, about: About | None = None, samples: tuple[Sample, ...] = ()) -> Page:
    length = write_page(folder / "run.html", rows, about or About("tiny on dogs", steps=400), samples)
    assert length == (folder / "run.html").stat().st_size
    return Page(folder / "run.html")


def batch_of(planes: np.ndarray, truths: list[tuple[Any, Any]]) -> Batch:
    """A batch of pictures (B, C, H, W), whose indices in the dataset are 70, 71, ..."""
    count, _, height, width = planes.shape
    plan = Plan(5, tuple(range(70, 70 + count)), width, height)
    targets = Targets.of([(np.array(boxes), np.array(labels)) for boxes, labels in truths])
    return Batch(planes.astype(np.float32), targets, plan)


# ---------------------------------------------------------------------- one file, no danger
@pytest.mark.parametrize("state", ["running", "finished", "stopped", "failed"])
def test_only_a_page_of_a_run_that_lasts_shows_itself_anew(tmp_path: Path, state: Any) -> None:
    found = written(tmp_path, about=About("tiny", state=state, refresh=7))
    refresh = [meta["content"] for meta in found.of("meta") if meta.get("http-equiv") == "refresh"]
    assert refresh == (["7"] if state == "running" else [])
    assert ("span", state) in found.texts


def test_the_page_asks_for_nothing_outside_itself(tmp_path: Path) -> None:
    """No script; the style is the one whose hash the policy allows, none stands at an element; pictures are data."""
    planes = np.zeros((1, 3, 8, 8))
    samples = samples_of(batch_of(planes, [([[0.5, 0.5, 0.5, 0.5]], [0])]), ["dog"])
    found = written(tmp_path, samples=samples)
    tags = {tag for tag, _ in found.elements}
    assert not tags & {"script", "iframe", "object", "embed", "form", "a", "img"}
    for _, attributes in found.elements:
        assert "style" not in attributes
        assert not [key for key in attributes if key.startswith("on")]
        for key in ("href", "src"):
            assert (attributes.get(key) or "data:").startswith("data:")
    (policy,) = [meta["content"] for meta in found.of("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    (style,) = re.findall("<style>(.*?)</style>", (tmp_path / "run.html").read_text("utf-8"), re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert policy == (
        f"default-src 'none'; img-src data:; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    )
    assert not re.search(r"url\(|@import", style)


def test_texts_are_shown_as_texts(tmp_path: Path) -> None:
    rows: list[Row] = [
        step(1, terms={NASTY: 1.0}), step(2, terms={NASTY: 2.0}), JudgedRow(2, 1.0, {NASTY: 0.5}, 1.0, NASTY),
        NoteRow(2, NASTY + "\x1b[31m\ud800" + "x" * 5000),
    ]  # fmt: skip
    samples = samples_of(batch_of(np.zeros((1, 3, 8, 8)), [([[0.5, 0.5, 0.5, 0.5]], [0])]), [NASTY])
    plain = written(tmp_path, rows, About("tiny", (Fact("a", "b"),)), samples)
    found = written(tmp_path, rows, About(NASTY, (Fact(NASTY, NASTY),)), samples)
    assert [tag for tag, _ in found.elements] == [tag for tag, _ in plain.elements]
    assert not found.of("script")
    assert found.text.count("alert(1)") >= 8
    assert "\\x1b[31m" in found.text
    assert "x" * 2000 not in found.text


def test_a_run_without_anything_yet_has_a_page(tmp_path: Path) -> None:
    found = written(tmp_path, [], About("", steps=0))
    assert "No step was made yet." in found.text
    assert "step 0" in found.text


def test_rows_of_which_nothing_is_finite_have_a_page(tmp_path: Path) -> None:
    odd = {"rate": math.nan, "total": math.inf, "printed": math.nan, "average": math.nan, "speed": math.nan,
           "waiting": math.nan, "epoch": math.nan, "terms": {"centre": math.nan}}                   # fmt: skip
    rows: list[Row] = [step(1, **odd), step(2, **odd), JudgedRow(2, math.nan, {"mAP": math.nan})]
    found = written(tmp_path, rows)
    assert not re.search(r"\bnan\b|\binf\b", found.text)
    assert not found.of("path")


def test_a_page_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "run.html").mkdir()
    with pytest.raises(DataError, match=r"run\.html: is a folder"):
        write_page(tmp_path / "run.html", ROWS, About("tiny"))


def test_without_jinja2_one_line_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def refuse(name: str, *arguments: Any, **more: Any) -> Any:
        if name == "jinja2":
            raise ImportError(name)
        return real(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(EngineError, match="`pip install jinja2`"):
        write_page(tmp_path / "run.html", ROWS, About("tiny"))


# ---------------------------------------------------------------------- what it says
def test_it_says_where_the_run_is(tmp_path: Path) -> None:
    """100 of 400 steps at 2 seconds each: 200 seconds so far, 600 left."""
    found = written(tmp_path)
    assert "step 100 of 400" in re.sub(r"\s+", " ", found.text)
    assert "3 min so far, about 10 min left" in found.text
    (label,) = [svg["aria-label"] for svg in found.of("svg") if svg.get("class") == "progress"]
    assert label == "25 % of the steps are done"
    html = (tmp_path / "run.html").read_text("utf-8")
    figures = dict(re.findall(r"<dt>(.*?)</dt><dd class=\"value\">(.*?)</dd>", html))
    assert figures == {
        "mAP": "0.625", "AP": "0.125", "loss": page.number(3 * sum(1 / n for n in range(91, 101)) / 10),
        "printed loss": "1.250", "epoch": "12.5", "learning rate": "0.001", "pictures a second": "40.5",
        "waiting": "12 %", "memory": "3.00 GiB",
    }  # fmt: skip
    assert "the best was 0.250" in found.text
    assert "the best so far" in found.text
    assert "more workers" not in found.text
    assert "more workers" in written(tmp_path, [step(1, waiting=0.5)]).text


def test_the_best_of_each_figure_is_marked_and_the_newest_comes_first(tmp_path: Path) -> None:
    written(tmp_path)
    table = re.findall("<tbody>(.*?)</tbody>", (tmp_path / "run.html").read_text("utf-8"), re.DOTALL)[0]
    rows = [re.sub("<.*?>", " ", row).split() for row in re.findall("<tr>(.*?)</tr>", table, re.DOTALL)]
    assert rows == [
        ["80", "10.0", "0.625", "best", "0.125", "2026-03-01", "09:32"],
        ["40", "5.000", "0.500", "0.250", "best", "2026-03-01", "09:30"],
    ]


def test_the_newest_note_comes_first_and_old_ones_fall_off(tmp_path: Path) -> None:
    rows: list[Row] = [NoteRow(number, f"note {number}.") for number in range(100)]
    found = re.findall(r"note (\d+)\.", written(tmp_path, rows).text)
    assert found == [str(number) for number in range(99, 99 - page.MOST_NOTES, -1)]


def test_there_is_a_curve_for_each_thing_that_is_measured(tmp_path: Path) -> None:
    found = written(tmp_path)
    labels = [svg["aria-label"] or "" for svg in found.of("svg") if svg.get("class") == "plot"]
    assert [label.split(" over ")[0] for label in labels] == [
        "Judged", "Loss", "Its terms", "As Darknet prints it", "Learning rate", "Pictures a second",
    ]  # fmt: skip
    assert labels[0] == "Judged over epoch: mAP ends at 0.625, AP ends at 0.125"
    assert labels[2] == "Its terms over step: centre ends at 0.010, classes ends at 0.020"
    paths = [path["d"] or "" for path in found.of("path")]
    assert len(paths) == 2 + 1 + 2 + 2 + 1 + 1
    # Each of the 100 steps is a point.
    assert [len(re.findall("[ML]", path)) for path in paths] == [2, 2, *[100] * 7]


def test_a_long_run_makes_no_long_page(tmp_path: Path) -> None:
    """1,000 rows of 7 terms, as many as a log holds, and 5,000 judgements."""
    rows: list[Row] = [step(n, terms={f"term {i}": math.sin(n * i) + 2 for i in range(7)}) for n in range(1, 1001)]
    rows += [JudgedRow(n, n / 8, {"mAP": n / 5000}) for n in range(5000)]
    written(tmp_path, rows)
    assert (tmp_path / "run.html").stat().st_size < 200_000


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"), (99.4, "99 s"), (99.6, "2 min"), (3569, "59 min"), (3571, "1 h 00 min"), (11_100, "3 h 05 min"),
        (172_800, "2 d 0 h"), (187_200, "2 d 4 h"), (math.nan, "–"), (None, "–"),
    ],
)  # fmt: skip
def test_lengths_of_time_are_for_people(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_the_time_that_is_left_is_told_by_the_last_tenth() -> None:
    """Slow at 10 seconds a step for 90 steps, then quick at 1: 300 steps more last 300 seconds."""
    rows = [step(n, seconds=10.0 * n if n <= 90 else 900.0 + (n - 90)) for n in range(1, 101)]
    assert time_left(rows, 400) == pytest.approx(300)
    assert time_left(rows, 100) is None
    assert time_left(rows[:1], 400) is None
    assert time_left([], 400) is None
    assert time_left([step(1, seconds=1.0), step(1, seconds=1.0)], 400) is None
    assert time_left([step(1, seconds=1.0), step(3, seconds=7.0)], 5) == pytest.approx(6)


# ---------------------------------------------------------------------- samples
def pixels_of(sample: Sample) -> np.ndarray:
    assert sample.shot.uri is not None
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(sample.shot.uri.removeprefix("data:image/jpeg;base64,")))))


def test_a_sample_is_the_picture_with_its_boxes(tmp_path: Path) -> None:
    """80 x 40, red above and blue below; the box has its centre at (.25, .5) and is a quarter wide and half high."""
    planes = np.zeros((2, 3, 40, 80))
    planes[0, 0, :20] = planes[0, 2, 20:] = 1
    truths = [([[0.25, 0.5, 0.25, 0.5], [0.9, 0.5, 0.4, 0.2]], [1, 7]), ([], [])]
    first, second = samples_of(batch_of(planes, truths), ["cat", "dog"])
    picture = pixels_of(first)
    assert picture.shape == (40, 80, 3)
    assert np.abs(picture[:16].mean(axis=(0, 1)) - (255, 0, 0)).max() < 10
    assert np.abs(picture[24:].mean(axis=(0, 1)) - (0, 0, 255)).max() < 10
    boxes = {box.name: (box.x, box.y, box.width, box.height) for box in first.boxes}
    assert boxes == {"dog": (10, 10, 20, 20), "class 7": (56, 16, 24, 8)}
    assert first.caption == "batch 5, picture 70: 2 objects, 80 × 40"
    assert second.caption == "batch 5, picture 71: 0 objects, 80 × 40"
    assert second.boxes == ()
    found = written(tmp_path, samples=(first, second))
    assert len(found.of("image")) == 2
    assert len([rect for rect in found.of("rect") if "stroke" in rect]) == 2
    assert "dog" in found.text


def test_a_large_sample_is_made_small_and_its_boxes_with_it() -> None:
    (sample,) = samples_of(batch_of(np.full((1, 3, 300, 600), 0.5), [([[0.5, 0.5, 0.5, 0.5]], [0])]), ["a"], side=200)
    assert pixels_of(sample).shape == (100, 200, 3)
    assert [box[:4] for box in sample.boxes] == [(50, 25, 100, 50)]


def test_a_label_of_the_whole_picture_is_written_below_it() -> None:
    """As those of classifiers, whose four numbers are NaN."""
    (sample,) = samples_of(batch_of(np.zeros((1, 3, 8, 8)), [([[np.nan] * 4], [1])]), ["cat", "dog"])
    assert sample.boxes == ()
    assert sample.caption == "batch 5, picture 70: dog, 8 × 8"


def test_as_many_samples_as_wanted_and_of_any_kind_of_network() -> None:
    """One channel is grey, of more than three the first three are shown; NaN is black, and what is beyond is cut."""
    assert len(samples_of(batch_of(np.zeros((5, 3, 8, 8)), [([], [])] * 5), [], most=3)) == 3
    (grey,) = samples_of(batch_of(np.full((1, 1, 8, 8), 0.5), [([], [])]), [])
    assert np.abs(pixels_of(grey).astype(int) - 128).max() <= 2
    many = np.zeros((1, 5, 8, 8))
    many[0, 1] = 7.0
    many[0, 0] = np.nan
    (green,) = samples_of(batch_of(many, [([], [])]), [])
    assert np.abs(pixels_of(green).mean(axis=(0, 1)) - (0, 255, 0)).max() < 5


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5])
def test_pixels_come_through_the_picture_format_unchanged(width: int) -> None:
    """A BMP's rows end at multiples of four bytes: widths with and without such ends."""
    pixels = np.random.default_rng(width).integers(0, 256, (3, width, 3), np.uint8)
    planes = pixels.transpose(2, 0, 1).astype(np.float32) / 255
    assert np.array_equal(pictures.decode(page._bmp(planes)), pixels)


# ---------------------------------------------------------------------- in a browser
@pytest.mark.skipif(BROWSER is None, reason="needs chromium, which is not installed")
@pytest.mark.parametrize(("scheme", "ground"), [(1, (246, 247, 249)), (0, (20, 23, 28))])
def test_a_browser_shows_it_light_and_dark_without_a_complaint(
    tmp_path: Path, scheme: int, ground: tuple[int, int, int]
) -> None:
    """The corner has the colour of the ground, curves are in colour, and nothing broke the page's policy."""
    written(tmp_path, about=About("tiny", steps=400, state="finished"))
    done = subprocess.run(
        [
            str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1000,1500",
            "--enable-logging=stderr", f"--blink-settings=preferredColorScheme={scheme}",
            f"--user-data-dir={tmp_path / 'browser'}", f"--screenshot={tmp_path / 'page.png'}",
            (tmp_path / "run.html").as_uri(),
        ],
        capture_output=True, check=True, timeout=60,
    )  # fmt: skip
    assert b"CONSOLE" not in done.stderr
    shown = np.asarray(Image.open(tmp_path / "page.png").convert("RGB")).astype(int)
    assert tuple(shown[2, 2]) == ground
    blue = (shown[:, :, 2] - shown[:, :, 0] > 100).sum()
    assert blue > 3000
