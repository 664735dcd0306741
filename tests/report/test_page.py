"""A report becomes one file that asks for nothing, shows every value, and runs no text that it was given."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import math
import re
import sys
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lookonce.errors import DataError, EngineError
from lookonce.report import page, plots
from lookonce.report.contents import (
    KINDS,
    PARTS,
    Bin,
    Box,
    ClassRow,
    Compared,
    Comparison,
    Confusion,
    Curve,
    Fact,
    Figure,
    GalleryPicture,
    Report,
    Shares,
    WorstEntry,
    WorstList,
    average,
    largest_confusions,
)
from lookonce.report.pictures import MOST_BOXES, placed, shoot

NAN, INF = math.nan, math.inf
VOID = {"meta", "link", "img", "input", "br", "hr"}
HOSTILE = (
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "\" onfocus='alert(1)' x=\"",
    "犬 🐕 ñ & <b>",
    "{{ 7 * 7 }} {% raw %}",
    "javascript:alert(1)//${1}`",
    "two\nlines\t\0\x1b[2J",
    "\u202eright to left \udcff",
    "]]><!-- -->",
    "",
)


class Parsed(HTMLParser):
    """What a page holds: its elements with their attributes, its text, and what each script and style says."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.inside: dict[str, list[str]] = {"script": [], "style": []}
        self._open: list[str] = []
        self.feed(path.read_text("utf-8"))
        self.close()
        assert self._open == [], "elements that nobody closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"<{tag}> has an attribute twice: {names}"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
        if tag in self.inside:
            self.inside[tag].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open, f"</{tag}> closes nothing"
        assert self._open[-1] == tag, f"</{tag}> closes <{self._open[-1]}>"
        self._open.pop()

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] in self.inside:
            self.inside[self._open[-1]][-1] += data
        else:
            self.text += data

    def all(self, tag: str, **attributes: str) -> list[dict[str, str | None]]:
        """The attributes of every element of a kind that has these."""
        return [of for name, of in self.elements if name == tag and attributes.items() <= of.items()]


def saved(folder: Path, name: str = "a.png", size: tuple[int, int] = (64, 48), colour: str = "red") -> Path:
    path = folder / name
    Image.new("RGB", size, colour).save(path)
    return path


def curve(name: str, points: int = 5) -> Curve:
    recall = np.linspace(0, 0.8, points)
    return Curve(name, recall, 1 - recall**2, np.linspace(1, 0, points))


def full(folder: Path, names: tuple[str, ...]) -> Report:
    """A report with everything in it, and with values that are not known wherever there may be such."""
    count = len(names)
    picture = saved(folder)
    boxes = tuple(
        Box((5.0 * i, 4.0, 5.0 * i + 20, 30.0), names[i % count], None if kind in ("truth", "missed") else 0.5, kind)
        for i, kind in enumerate(KINDS)
    )
    odd = (Box((NAN, 0, 1, 1), names[0], NAN, "other"), Box((-INF, -5, INF, 9e9), names[-1], NAN, "background"))
    return Report(
        title=f"of {names[0]}",
        about=tuple(Fact(name, name) for name in names),
        figures=(*(Figure(name, 0.5, name) for name in names), Figure("AP small", NAN), Figure("speed", INF)),
        classes=tuple(
            ClassRow(name, i, NAN if i == 1 else i / count, {names[0]: NAN, "x": 1.5}) for i, name in enumerate(names)
        ),
        curves=(*(curve(name) for name in names[1:]), Curve(names[0], np.zeros(0), np.zeros(0))),
        overall=Curve("all", np.array([0, 0.5, NAN]), np.array([1, NAN, 0.5])),
        confusion=Confusion(names, np.arange((count + 1) ** 2, dtype=np.float64).reshape(count + 1, count + 1)),
        errors=tuple(Shares(name, (0.5, 0.2, 0.1, 0.1, 0.1, 0.0) if i else (NAN,) * 6) for i, name in enumerate(names)),
        tide=tuple(Figure(name, 0.01, name) for name in names),
        calibration=(Bin(0.1, 0.2, 10), Bin(0.5, NAN, 0), Bin(NAN, NAN, 0)),
        comparison=Comparison(names[0], names[-1], (Compared(names[0], 0.1, 0.2, 0.1, 0.05, 0.15),
                                                    Compared("AP", NAN, 0.2, NAN, NAN, NAN))),
        pictures=(
            *(GalleryPicture(name, picture, boxes + odd) for name in names),
            GalleryPicture("not there", folder / (names[0].replace("/", "") + ".jpg"), boxes),
        ),
        worst=(WorstList(names[0], names[0], tuple(WorstEntry(name, name) for name in (*names, "elsewhere"))),),
    )  # fmt: skip


# ---------------------------------------------------------------------- the file
def reports(folder: Path) -> dict[str, Report]:
    return {
        "full": full(folder, ("dog", "cat", "bird")),
        "hostile": full(folder, HOSTILE),
        "eighty": full(folder, tuple(f"class {i}" for i in range(80))),
        "empty": Report(""),
        "one of each is empty": Report("x", errors=(), tide=(), calibration=(), comparison=Comparison("", "", ()),
                                       confusion=Confusion((), np.zeros((0, 0)))),
    }  # fmt: skip


@pytest.mark.parametrize("which", ["full", "hostile", "eighty", "empty", "one of each is empty"])
def test_a_page_is_well_formed_and_asks_for_nothing_outside(which: str, tmp_path: Path) -> None:
    out = tmp_path / "out.html"
    length = page.write(reports(tmp_path)[which], out)
    assert length == out.stat().st_size
    parsed = Parsed(out)
    ids = [of["id"] for _, of in parsed.elements if "id" in of]
    assert len(ids) == len(set(ids))
    for tag, of in parsed.elements:
        assert tag not in ("iframe", "object", "embed", "base"), tag
        assert not [name for name in of if name.startswith("on") or name == "style"], of
        for name in ("src", "href", "xlink:href", "action", "srcset"):
            assert (of.get(name) or "data:").startswith(("data:", "#")), of
    linked = {(of["href"] or "")[1:] for of in parsed.all("a")} - {""}
    assert {link for link in linked if not link.startswith("class=")} <= set(ids)
    labelled = {of.get("aria-labelledby") for _, of in parsed.elements} - {None}
    assert labelled <= set(ids)
    assert not re.search(r"url\(|@import|https?:", parsed.inside["style"][0])


@pytest.mark.parametrize("which", ["hostile", "empty"])
def test_the_policy_allows_this_script_and_style_and_nothing_else(which: str, tmp_path: Path) -> None:
    page.write(reports(tmp_path)[which], tmp_path / "out.html")
    parsed = Parsed(tmp_path / "out.html")
    (meta,) = parsed.all("meta", **{"http-equiv": "Content-Security-Policy"})
    policy = dict(part.strip().split(" ", 1) for part in (meta["content"] or "").split(";"))
    assert [of.get("type") for of in parsed.all("script")] == ["application/json", None]

    def digest(text: str) -> str:
        return "'sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() + "'"

    assert policy == {
        "default-src": "'none'",
        "img-src": "data:",
        "style-src": digest(parsed.inside["style"][0]),
        "script-src": digest(parsed.inside["script"][1]),
        "base-uri": "'none'",
        "form-action": "'none'",
    }


def test_names_are_text_wherever_they_stand(tmp_path: Path) -> None:
    """As often as they are given, in the table of classes and elsewhere, and as they were in the script's data."""
    page.write(full(tmp_path, HOSTILE), tmp_path / "out.html")
    parsed = Parsed(tmp_path / "out.html")
    for name in HOSTILE[:6]:
        assert parsed.text.count(name) >= 10, name
        assert name in [of.get("data-value") for of in parsed.all("th")]
    assert "two\\nlines\\t\\x00\\x1b[2J" in parsed.text
    assert "\\u202eright to left \\udcff" in parsed.text
    data = json.loads(parsed.inside["script"][0])
    assert set(HOSTILE[:6]) <= set(data["names"])
    assert "<" not in parsed.inside["script"][0]


def test_values_that_are_not_known_are_a_dash(tmp_path: Path) -> None:
    report = full(tmp_path, ("dog", "cat", "bird"))
    page.write(report, tmp_path / "out.html")
    parsed = Parsed(tmp_path / "out.html")
    words = re.split(r"[\s(]+", parsed.text)
    assert not {"nan", "NaN", "inf", "None"} & set(words)
    assert "–" in words
    assert json.loads(parsed.inside["script"][0])["overall"]["recall"] == [0]


def test_what_is_not_there_has_no_section(tmp_path: Path) -> None:
    page.write(Report("x", figures=(Figure("AP", 0.25, "the mean"),)), tmp_path / "out.html")
    parsed = Parsed(tmp_path / "out.html")
    assert [of["id"] for of in parsed.all("section")] == ["figures"]
    assert "0.250" in parsed.text
    assert "the mean" in parsed.text


def test_a_failed_page_leaves_the_old_one(tmp_path: Path) -> None:
    out = tmp_path / "out.html"
    out.write_text("older")
    with pytest.raises(ValueError, match="shares"):
        page.write(Report("x", errors=(Shares("dog", (1.0,)),)), out)
    assert out.read_text() == "older"
    with pytest.raises(DataError, match="is a folder"):
        page.write(Report("x"), tmp_path)


def test_a_missing_library_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("jinja2", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(EngineError, match="needs jinja2: `pip install jinja2`"):
        page.write(Report("x"), tmp_path / "a.html")
    with pytest.raises(EngineError, match="need matplotlib: `pip install matplotlib`"):
        plots.error_pies((), tmp_path / "a.png")
    with pytest.raises(EngineError, match="need matplotlib"):
        plots.curves((), None, tmp_path / "a.png")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.65432, "0.654"), (1, "1"), (1.0, "1.000"), (0.0, "0.000"), (12.34, "12.3"), (12345.6, "12,346"),
        (1234567, "1,234,567"), (np.int64(5), "5"), (np.float32(0.5), "0.500"), (-0.25, "−0.250"), (0.00123, "0.0012"),
        (NAN, "–"), (None, "–"), ("", "–"), (INF, "∞"), (-INF, "−∞"), ("0.5 of it", "0.5 of it"),
    ],
)  # fmt: skip
def test_numbers_are_written_for_people(value: object, text: str) -> None:
    assert page.number(value) == text


# ---------------------------------------------------------------------- what is computed for it
def test_a_long_curve_is_thinned_to_points_of_itself() -> None:
    """20,000 points, most of them at low recall; a gap in recall is at most twice what 200 even steps have."""
    rng = np.random.default_rng(0)
    recall = np.sort(rng.uniform(0, 1, 20_000) ** 2 * 0.9)
    long = Curve("dog", recall, rng.uniform(0, 1, 20_000), np.linspace(1, 0, 20_000))
    thin = page.thinned(long)
    known = set(zip(recall.round(4).tolist(), long.precision.round(4).tolist(), strict=True))
    kept = list(zip(thin["recall"], thin["precision"], strict=True))
    assert 100 < len(kept) <= page.MOST_POINTS + 2
    assert set(kept) <= known
    assert kept[0] == (round(recall[0], 4), round(long.precision[0], 4))
    assert kept[-1] == (round(recall[-1], 4), round(long.precision[-1], 4))
    assert max(np.diff(thin["recall"])) < 2 * 0.9 / page.MOST_POINTS
    assert len(thin["score"]) == len(kept)


def test_a_short_curve_is_kept_and_a_class_without_objects_has_no_point() -> None:
    assert page.thinned(curve("dog", 3)) == {
        "name": "dog", "recall": [0, 0.4, 0.8], "precision": [1, 0.84, 0.36], "score": [1, 0.5, 0],
    }  # fmt: skip
    nothing = page.thinned(Curve("cat", np.full(3, NAN), np.full(3, NAN)))
    assert (nothing["recall"], nothing["precision"], nothing["score"]) == ([], [], None)


@pytest.mark.parametrize("background", [False, True])
def test_the_largest_confusions_are_those_of_a_plain_search(background: bool) -> None:
    rng = np.random.default_rng(1)
    names = tuple("abcdefg")
    matrix = rng.permutation(64).reshape(8, 8)[: 7 + background, : 7 + background]
    pairs = [
        (names[i], names[j], matrix[i][j], matrix[i][j] / sum(matrix[i]))
        for i in range(7)
        for j in range(7)
        if i != j and matrix[i][j] > 0
    ]
    expected = sorted(pairs, key=lambda pair: -pair[2])[:5]
    found = largest_confusions(Confusion(names, matrix), 5)
    assert [pair[:3] for pair in found] == [pair[:3] for pair in expected]
    assert [pair[3] for pair in found] == pytest.approx([pair[3] for pair in expected])


def test_what_was_never_confused_is_not_listed() -> None:
    assert largest_confusions(Confusion(("a", "b"), np.diag([3, 4]))) == []
    assert largest_confusions(Confusion((), np.zeros((1, 1)))) == []


def test_the_mean_pie_leaves_out_classes_without_objects() -> None:
    rows = (Shares("a", (1.0, 0, 0, 0, 0, 0)), Shares("b", (NAN,) * 6), Shares("c", (0.5, 0.25, 0, 0, 0.25, 0)))
    mean = average(rows)
    assert mean is not None
    assert mean.parts == (0.75, 0.125, 0, 0, 0.125, 0)
    assert average(rows[1:2]) is None
    assert average(()) is None


FIGURE = (0.655, 0.19, 0.0675, 0.04, 0.0475, 0.0)           # 1.4 of the thesis


@pytest.mark.parametrize("parts", [FIGURE, (1.0, 0, 0, 0, 0, 0), (0.25, 0, 0, 0, 0, 0.75)])
def test_a_slice_of_a_pie_has_the_angle_of_its_share(parts: tuple[float, ...], tmp_path: Path) -> None:
    """Each slice begins where the one before it ends, the first at the top."""
    page.write(Report("x", errors=(Shares("dog", parts),)), tmp_path / "out.html")
    outlines = [of for of in Parsed(tmp_path / "out.html").all("path") if of["class"] in PARTS]
    shown = [(PARTS[i], share) for i, share in enumerate(parts) if share > 0] * 2            # the mean, then the class
    assert [of["class"] for of in outlines] == [part for part, _ in shown]
    ends = [0.0]
    for of, (_, share) in zip(outlines, shown, strict=True):
        numbers = [float(x) for x in re.findall(r"-?[\d.]+", of["d"] or "")]
        start, middle, end = numbers[2:4], numbers[9:11], numbers[16:18]
        angles = [math.atan2(x, -y) % (2 * math.pi) for x, y in (start, middle, end)]
        # Two arcs, each less than all the way round, so the sum of their angles is known.
        turn = (angles[1] - angles[0]) % (2 * math.pi) + (angles[2] - angles[1]) % (2 * math.pi)
        assert turn / (2 * math.pi) == pytest.approx(share, abs=0.001)
        assert math.cos(angles[0] - ends[-1]) == pytest.approx(1, abs=1e-6)
        ends.append(angles[2])


def test_a_comparison_says_only_what_its_intervals_say(tmp_path: Path) -> None:
    rows = [Compared(f"f{i}", 0.1, 0.2, (low + high) / 2, low, high)
            for i, (low, high) in enumerate([(0.01, 0.2), (-0.2, -0.01), (-0.1, 0.1), (0.0, 0.2), (NAN, NAN)])]
    page.write(Report("x", comparison=Comparison("one", "two", tuple(rows), 0.9)), tmp_path / "out.html")  # fmt: skip
    text = Parsed(tmp_path / "out.html").text
    assert "90 %" in text
    said = re.findall(r"(B is higher|B is lower|not told apart|not known)\n", text)
    assert said == ["B is higher", "B is lower", "not told apart", "not told apart", "not known"]


# ---------------------------------------------------------------------- pictures
def test_a_picture_is_made_small_and_its_boxes_with_it(tmp_path: Path) -> None:
    """960 x 400 at most 480 wide: half as large. The right half is blue."""
    image = Image.new("RGB", (960, 400), "white")
    image.paste("blue", (480, 0, 960, 400))
    image.save(tmp_path / "a.png")
    boxes = (Box((100, 50, 300, 250), "dog", 0.75, "correct"), Box((900, 390, 1200, 600), "cat", None, "missed"))
    shot = shoot(GalleryPicture("a", tmp_path / "a.png", boxes), 480)
    assert (shot.width, shot.height, shot.problem, shot.left_out) == (480, 200, "", 0)
    assert [(box.x, box.y, box.width, box.height) for box in shot.boxes] == [(50, 25, 100, 100), (450, 195, 30, 5)]
    assert [box.label for box in shot.boxes] == ["dog 0.75", "cat"]
    assert shot.summary == "a: 1 correct, 1 missed"
    assert shot.uri is not None
    with Image.open(io.BytesIO(base64.b64decode(shot.uri.removeprefix("data:image/jpeg;base64,")))) as small:
        assert (small.format, small.size) == ("JPEG", (480, 200))
        assert small.getpixel((100, 100))[1] > 245                                          # type: ignore[index]
        assert small.getpixel((400, 100))[1] < 10                                           # type: ignore[index]


@pytest.mark.parametrize("size", [(1, 1), (3000, 1), (1, 3000), (100, 80)])
def test_a_picture_is_never_made_larger_and_never_empty(size: tuple[int, int], tmp_path: Path) -> None:
    shot = shoot(GalleryPicture("a", saved(tmp_path, size=size), ()), 480)
    assert shot.uri is not None
    assert 1 <= shot.width <= min(480, size[0])
    assert 1 <= shot.height <= min(480, size[1])


def test_the_bytes_of_a_picture_do_for_its_path(tmp_path: Path) -> None:
    data = saved(tmp_path).read_bytes()
    by_path = shoot(GalleryPicture("a", tmp_path / "a.png", ()), 480)
    assert shoot(GalleryPicture("a", Path("train.tar/a.png"), (), data), 480) == by_path
    assert "train.tar/a.png" in shoot(GalleryPicture("a", Path("train.tar/a.png"), (), data[:60]), 480).problem


def test_a_picture_that_cannot_be_read_keeps_its_place(tmp_path: Path) -> None:
    (tmp_path / "b.jpg").write_bytes(b"<html>")
    boxes = (Box((0, 0, 1, 1), "dog", 0.5, "other"),)
    bad = GalleryPicture("b", tmp_path / "b.jpg", boxes)
    report = Report("x", pictures=(GalleryPicture("a", saved(tmp_path), boxes), bad))
    page.write(report, tmp_path / "out.html")
    parsed = Parsed(tmp_path / "out.html")
    assert len(parsed.all("figure")) == 2
    assert len(parsed.all("img")) == 1
    assert f"{tmp_path / 'b.jpg'}: is an HTML or XML page" in parsed.text


def test_of_too_many_boxes_the_truth_and_the_surest_are_drawn_and_small_ones_last() -> None:
    truth = tuple(Box((0, 0, 50, 50), "dog", None, "truth") for _ in range(10))
    rest = tuple(Box((0, 0, i + 1, 1), "dog", i / 500, "background") for i in range(500))
    drawn = placed(rest + truth, (640, 480), (640, 480))
    assert len(drawn) == MOST_BOXES
    assert sum(box.score is None for box in drawn) == 10
    assert min(box.score for box in drawn if box.score is not None) == 410 / 500
    areas = [box.width * box.height for box in drawn]
    assert areas == sorted(areas, reverse=True)


def test_only_so_many_pictures_are_shown_and_the_page_says_so(tmp_path: Path) -> None:
    picture = saved(tmp_path)
    report = Report("x", pictures=tuple(GalleryPicture(f"p{i}", picture, ()) for i in range(30)))
    page.write(report, tmp_path / "out.html", most=7)
    parsed = Parsed(tmp_path / "out.html")
    assert len(parsed.all("figure")) == 7
    assert "The first 7 of 30." in parsed.text


@pytest.mark.shared
def test_sixty_photographs_weigh_less_than_four_megabytes(shared: Path, tmp_path: Path) -> None:
    """A mail takes that, and a browser opens it at once."""
    paths = sorted((shared / "data/coco-val128/images").iterdir())[:60]
    report = Report("x", pictures=tuple(GalleryPicture(path.name, path, ()) for path in paths))
    assert 1 << 20 < page.write(report, tmp_path / "a.html") < 4 << 20


# ---------------------------------------------------------------------- what is refused
def test_contents_that_do_not_fit_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match=r"curve 'dog'"):
        Curve("dog", np.zeros(3), np.zeros(2))
    with pytest.raises(ValueError, match=r"wanted \(2, 2\) or one more"):
        Confusion(("a", "b"), np.zeros((4, 4)))
    with pytest.raises(ValueError, match="of kind 'wrong'"):
        GalleryPicture("a", Path("a"), (Box((0, 0, 1, 1), "dog", 0.5, "wrong"),))           # type: ignore[arg-type]


# ---------------------------------------------------------------------- plots
def test_the_plotted_pies_have_the_colours_in_their_shares(tmp_path: Path) -> None:
    """Pixels of each colour, counted; the legend's patches are equal for all and small."""
    parts = (0.5, 0.2, 0.1, 0.1, 0.06, 0.04)
    length = plots.error_pies((Shares("dog", parts),), tmp_path / "a.png")
    assert length == (tmp_path / "a.png").stat().st_size
    with Image.open(tmp_path / "a.png") as image:
        assert image.format == "PNG"
        pixels = np.asarray(image.convert("RGB")).reshape(-1, 3)
    wanted = np.array([[int(colour[i : i + 2], 16) for i in (1, 3, 5)] for colour in plots.COLOURS])
    counts = np.array([(pixels == colour).all(axis=1).sum() for colour in wanted])
    assert counts / counts.sum() == pytest.approx(np.array(parts), abs=0.015)


@pytest.mark.parametrize("count", [0, 3, 25])
def test_plots_take_any_name_and_any_number_of_classes(count: int, tmp_path: Path) -> None:
    names = [*HOSTILE, "$x$", "$", "_hidden", "\\frac{"][:: 1 if count > 3 else 4]
    names = [f"{names[i % len(names)]}" for i in range(count)]
    shares = tuple(Shares(name, (0.5, 0.5, 0, 0, 0, 0) if i % 2 else (NAN,) * 6) for i, name in enumerate(names))
    lines = tuple(Curve(name, np.zeros(i % 3), np.zeros(i % 3)) for i, name in enumerate(names))
    assert plots.error_pies(shares, tmp_path / "pies.png") > 1000
    assert plots.curves(lines, curve("_all") if count else None, tmp_path / "curves.png") > 1000
    for name in ("pies.png", "curves.png"):
        with Image.open(tmp_path / name) as image:
            image.load()
