"""One HTML file that shows a report: it opens from the disk and asks for nothing outside itself.

Style and script are in the page, allowed by their hashes and nothing else; pictures are data URIs. Every text is
escaped, and what no line of text may hold (control characters, lone surrogates) is shown as an escape sequence.
A part of the address after # chooses what is shown: `#class=dog&kind=background,missed&score=0.5`.
"""

from __future__ import annotations

import base64
import hashlib
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from lookonce import files
from lookonce.errors import EngineError, shown
from lookonce.report.contents import KINDS, PARTS, Bin, Compared, Confusion, Curve, Report, average, largest_confusions
from lookonce.report.pictures import Shot, shoot

if TYPE_CHECKING:
    from jinja2 import Template

MOST_PICTURES = 60
SIDE = 480                   # pixels of a gallery picture's longer side
MOST_POINTS = 200            # of a curve: more cannot be told apart on a screen
LONGEST_TEXT = 1000
STEPS = 9                    # colours of the heat map
HERE = Path(__file__).parent


class Plot(NamedTuple):
    """Where the unit square lies in an SVG of `wide` x `high` units, y upwards."""

    wide: int = 480
    high: int = 340
    left: int = 52
    top: int = 12
    width: int = 416
    height: int = 276

    def x(self, value: float) -> float:
        """From 0 to 1 along the x axis."""
        return round(self.left + value * self.width, 1)

    def y(self, value: float) -> float:
        """From 0 to 1 along the y axis."""
        return round(self.top + (1 - value) * self.height, 1)


def write(report: Report, path: Path, *, most: int = MOST_PICTURES, side: int = SIDE) -> int:
    """Write the page and return its length in bytes.

    At most `most` pictures of the gallery, the first ones, are in it, at most `side` pixels wide and high. A picture
    that cannot be read leaves its place in the gallery and the reason. Raises EngineError if jinja2 is not installed,
    DataError if no file can be written.
    """
    template = _template()
    data = template.render(_context(report, most, side)).encode()
    with files.write_atomically(path) as file:
        file.write(data)
    return len(data)


def number(value: Any) -> str:
    """A value for people: three places below 10, thousands apart, a dash for what is not known."""
    if value is None or isinstance(value, str):
        return value or "–"
    if not math.isfinite(value):
        return "–" if math.isnan(value) else "∞" if value > 0 else "−∞"
    if isinstance(value, int | np.integer) or (abs(value) >= 1000):
        text = f"{value:,.0f}"
    elif 0 < abs(value) < 0.01:
        text = f"{value:.2g}"
    else:
        text = f"{value:.3f}" if abs(value) < 10 else f"{value:.1f}"
    return text.replace("-", "−")


def count(value: float) -> str:
    """A number of things. It may be a share of one, as a soft count is."""
    return number(int(value)) if math.isfinite(value) and value == int(value) else number(value)


def signed(value: float) -> str:
    """A difference, with its sign."""
    return ("+" if value > 0 else "") + number(value)


def percent(value: float) -> str:
    """A share in percent, a dash if it is not known."""
    return f"{100 * value:.0f} %" if math.isfinite(value) else "–"


def thinned(curve: Curve) -> dict[str, Any]:
    """A curve with at most MOST_POINTS points about evenly apart in recall, the first and last among them."""
    known = np.isfinite(curve.recall) & np.isfinite(curve.precision)
    recall, precision = curve.recall[known], curve.precision[known]
    rows = np.arange(len(recall))
    if len(rows) > MOST_POINTS:
        wanted = np.linspace(recall[0], recall[-1], MOST_POINTS)
        rows = np.unique(np.r_[0, np.searchsorted(recall, wanted).clip(0, len(recall) - 1), len(recall) - 1])
    score = None if curve.score is None else _plain(curve.score[known][rows])
    columns = {"recall": _plain(recall[rows]), "precision": _plain(precision[rows]), "score": score}
    return {"name": _text(curve.name), **columns}


def _template() -> Template:
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ImportError:
        raise EngineError("the report page needs jinja2: `pip install jinja2` brings it") from None

    def one_line(value: Any) -> Any:
        return _text(value) if isinstance(value, str) and not hasattr(value, "__html__") else value

    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        finalize=one_line,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=number, count=count, percent=percent, signed=signed, line=_text)
    return environment.get_template("page.html")


def _context(report: Report, most: int, side: int) -> dict[str, Any]:
    """Everything that the template asks for."""
    shots = [shoot(picture, side) for picture in report.pictures[:most]]
    names = _names(report, shots)
    style, script = (_inline(f"page.{kind}") for kind in ("css", "js"))
    curves = [thinned(curve) for curve in report.curves]
    overall = None if report.overall is None else thinned(report.overall)
    plot = Plot()
    data = {"names": [_text(name) for name in names], "curves": curves, "overall": overall, "plot": plot._asdict()}
    errors = report.errors or ()
    return {
        "report": report,
        "columns": list(dict.fromkeys(column for row in report.classes for column in row.more)),
        "shots": shots,
        "place": {shot.name: number for number, shot in reversed(list(enumerate(shots)))},
        "names": names,
        "label": {name: number for number, name in enumerate(names)},
        "kinds": [kind for kind in KINDS if kind != "truth"],
        "parts": PARTS,
        "pies": [(shares, _slices(shares.parts)) for shares in errors],
        "mean": average(errors),
        "slices": _slices,
        "heat": None if report.confusion is None else _heat(report.confusion),
        "confusions": [] if report.confusion is None else largest_confusions(report.confusion),
        "dots": _dots(report.calibration or (), plot),
        "whiskers": [] if report.comparison is None else _whiskers(report.comparison.rows),
        "plot": plot,
        "ticks": [0, 0.2, 0.4, 0.6, 0.8, 1],
        "has_curves": bool(curves or overall),
        "trace": "" if overall is None else _trace(overall, plot),
        "style": style,
        "script": script,
        "style_hash": _hash(style),
        "script_hash": _hash(script),
        "data": _json(data),
    }


def _text(text: str) -> str:
    return shown(text, LONGEST_TEXT)


def _inline(name: str) -> str:
    return "\n" + (HERE / name).read_text("utf-8")


def _hash(text: str) -> str:
    """What a content security policy calls a text."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


def _json(data: Any) -> str:
    """JSON that may stand inside a script element: no character of it begins a tag or a comment."""
    text = json.dumps(data, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _plain(values: np.ndarray) -> list[float | None]:
    """Values as JSON has them: four places, null for what is no number."""
    return [value if math.isfinite(value) else None for value in values.astype(np.float64).round(4).tolist()]


def _names(report: Report, shots: list[Shot]) -> list[str]:
    """The classes that can be chosen: those of the table, the curves and the boxes, in this order."""
    found = [row.name for row in report.classes] + [curve.name for curve in report.curves]
    return list(dict.fromkeys(found + [box.name for shot in shots for box in shot.boxes]))


def _slices(parts: tuple[float, ...]) -> list[tuple[str, str]]:
    """The slices of a pie of radius 1 around 0, clockwise from the top: the part and its outline; none if not known."""
    if not all(math.isfinite(part) for part in parts):
        return []
    shares = np.maximum(parts, 0)
    ends = 2 * np.pi * np.cumsum(shares) / max(float(shares.sum()), 1e-12)
    slices, start = [], 0.0
    for part, end in zip(PARTS, ends.tolist(), strict=True):
        # In two arcs, since one cannot go all the way round.
        middle = (start + end) / 2
        arcs = "".join(f"A1 1 0 0 1 {math.sin(a):.4f} {-math.cos(a):.4f}" for a in (middle, end))
        if end > start:
            slices.append((part, f"M0 0L{math.sin(start):.4f} {-math.cos(start):.4f}{arcs}Z"))
        start = end
    return slices


class _Cell(NamedTuple):
    """A cell of the heat map: its value, its share of the row, and its colour from 0 to STEPS."""

    value: float
    share: float
    step: int


def _heat(confusion: Confusion) -> list[tuple[str, list[_Cell]]]:
    """The rows of the confusion matrix, each with its name."""
    matrix = np.nan_to_num(confusion.matrix.astype(np.float64))
    share = matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1e-9)
    step = np.ceil(share.clip(0, 1) * STEPS).astype(int)
    values: list[list[float]] = confusion.matrix.tolist()
    names = [*confusion.names, "nothing there"]
    rows = zip(values, share.tolist(), step.tolist(), strict=True)
    cells = [[_Cell(*cell) for cell in zip(*row, strict=True)] for row in rows]
    return list(zip(names, cells, strict=False))


def _dots(bins: tuple[Bin, ...], plot: Plot) -> list[tuple[Bin, float, float, float]]:
    """The bins of a calibration plot: each with its place and its radius, whose square is as the count."""
    known = [each for each in bins if math.isfinite(each.score) and math.isfinite(each.precision) and each.answers > 0]
    most = max((each.answers for each in known), default=1)
    radius = [round(3 + 9 * math.sqrt(each.answers / most), 1) for each in known]
    return [(each, plot.x(each.score), plot.y(each.precision), r) for each, r in zip(known, radius, strict=True)]


def _whiskers(rows: tuple[Compared, ...]) -> list[tuple[Compared, tuple[float, float, float] | None, str]]:
    """The rows of a comparison: each with low, difference and high on one axis from -100 to 100, and what they say."""
    ends = np.array([(row.low, row.difference, row.high) for row in rows], np.float64).reshape(-1, 3)
    known = np.array([np.isfinite(row).all() for row in ends], bool)
    reach = max(float(np.abs(ends[known]).max(initial=0)), 1e-12)
    drawn: list[tuple[Compared, tuple[float, float, float] | None, str]] = []
    for row, is_known in zip(rows, known, strict=True):
        says = "B is higher" if row.low > 0 else "B is lower" if row.high < 0 else "not told apart"
        if not is_known:
            drawn.append((row, None, "not known"))
            continue
        low, middle, high = (round(100 * end / reach, 1) for end in (row.low, row.difference, row.high))
        drawn.append((row, (low, middle, high), says))
    return drawn


def _trace(curve: dict[str, Any], plot: Plot) -> str:
    """A curve as the points of an SVG polyline."""
    return " ".join(f"{plot.x(r)},{plot.y(p)}" for r, p in zip(curve["recall"], curve["precision"], strict=True))
