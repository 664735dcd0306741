"""The page of a run: one HTML file, written again now and then, that shows itself anew while the run lasts.

It opens from the disk, asks for nothing outside itself and needs no script. Style is allowed by its hash, pictures are
data URIs, every text is escaped. Curves are drawn from the rows of the log.
"""

from __future__ import annotations

import base64
import hashlib
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

from lookonce import files
from lookonce.data.batches import Batch
from lookonce.draw import colour_of
from lookonce.errors import EngineError, shown
from lookonce.report import page as report_page
from lookonce.report.contents import Box, Fact, Figure, GalleryPicture
from lookonce.report.page import number, percent
from lookonce.report.pictures import Shot, shoot
from lookonce.train import curves
from lookonce.train.curves import Plot, Points, plot
from lookonce.train.log import JudgedRow, NoteRow, Row, StepRow, mean

if TYPE_CHECKING:
    from jinja2 import Template

State = Literal["running", "finished", "stopped", "failed"]

HERE = Path(__file__).parent
LONGEST_TEXT = 1000
MOST_NOTES = 30
MOST_JUDGED = 20             # rows of the table
RECENT = 0.1                 # the share of the steps by which the time that is left is told
LAST = 10                    # rows whose mean is shown as what is now
MUCH_WAITING = 0.2
SIDE = 320                   # pixels of a sample's longer side


@dataclass(frozen=True)
class About:
    """What runs: its title, what it depends on, its state, how many steps it is to make (0 if nobody said).

    While it is running the page asks for itself again every `refresh` seconds.
    """

    title: str
    facts: tuple[Fact, ...] = ()
    state: State = "running"
    steps: int = 0
    refresh: int = 30


class Drawn(NamedTuple):
    """One box of a sample, in its pixels."""

    x: float
    y: float
    width: float
    height: float
    name: str
    colour: str


class Sample(NamedTuple):
    """A picture as the network learnt from it, with its truth, and what to write below it."""

    caption: str
    shot: Shot
    boxes: tuple[Drawn, ...]


def write_page(path: Path, rows: Sequence[Row], about: About, samples: Sequence[Sample] = ()) -> int:
    """Write the page whole, and return its length in bytes.

    `rows` are those of the log, by rising number. Raises EngineError if jinja2 is not installed, DataError if the page
    cannot be written.
    """
    data = _template().render(_context(rows, about, samples)).encode("utf-8", "replace")
    with files.telling_space(path, len(data)), files.write_atomically(path) as file:
        file.write(data)
    return len(data)


def samples_of(batch: Batch, names: Sequence[str], most: int = 8, side: int = SIDE) -> tuple[Sample, ...]:
    """The first pictures of a batch as samples, at most `side` pixels wide and high."""
    truth = batch.targets.map(np.asarray)
    picture, cxcywh, label = truth.picture, truth.cxcywh, truth.label
    found = []
    for place, planes in enumerate(batch.pictures[:most]):
        _, height, width = planes.shape
        own = picture == place
        half = cxcywh[own, 2:] / 2
        corners = np.hstack([cxcywh[own, :2] - half, cxcywh[own, :2] + half]) * ((width, height) * 2)      # (m, 4)
        labels = label[own].tolist()
        # The number of an object stands for its name, so that its class can be found again.
        boxes = tuple(Box(tuple(xyxy), str(row), None, "truth") for row, xyxy in enumerate(corners.tolist()))
        name = f"batch {batch.plan.number}, picture {batch.plan.indices[place]}"
        shot = shoot(GalleryPicture(name, Path(name), boxes, _bmp(planes)), side)
        drawn = []
        for box in shot.boxes:
            colour = "rgb({}, {}, {})".format(*colour_of(labels[int(box.name)]))
            drawn.append(Drawn(box.x, box.y, box.width, box.height, _name(names, labels[int(box.name)]), colour))
        whole = [_name(names, each) for each, xyxy in zip(labels, corners, strict=True) if np.isnan(xyxy).any()]
        objects = f"{len(labels) - len(whole)} objects" if len(labels) - len(whole) != 1 else "1 object"
        said = ", ".join(whole[:10]) if whole else objects
        found.append(Sample(f"{name}: {said}, {width} × {height}", shot, tuple(drawn)))
    return tuple(found)


def _name(names: Sequence[str], label: int) -> str:
    return names[label] if 0 <= label < len(names) else f"class {label}"


def _bmp(planes: np.ndarray) -> bytes:
    """A picture (C, H, W) in [0, 1] as the bytes of a BMP file: rows from the bottom, BGR, each of 4n bytes."""
    planes = planes[:3] if len(planes) >= 3 else planes[[0, 0, 0]]
    pixels = np.round(np.nan_to_num(planes).clip(0, 1) * 255).astype(np.uint8)[::-1, ::-1].transpose(1, 2, 0)
    height, width, _ = pixels.shape
    rows = np.zeros((height, (3 * width + 3) // 4 * 4), np.uint8)
    rows[:, : 3 * width] = pixels.reshape(height, -1)
    header = struct.pack("<2sIHHI", b"BM", 54 + rows.size, 0, 0, 54)
    return header + struct.pack("<IiiHHIIiiII", 40, width, height, 1, 24, 0, rows.size, 0, 0, 0, 0) + rows.tobytes()


# ---------------------------------------------------------------------- what it shows
def _context(rows: Sequence[Row], about: About, samples: Sequence[Sample]) -> dict[str, Any]:
    """Everything that the template asks for."""
    steps = [row for row in rows if isinstance(row, StepRow)]
    judged = [row for row in rows if isinstance(row, JudgedRow)]
    notes = [row for row in rows if isinstance(row, NoteRow)]
    columns = list(dict.fromkeys(name for row in judged for name in row.figures))
    done = max((row.number for row in rows), default=0)
    style = "".join((folder / "page.css").read_text("utf-8") for folder in (report_page.HERE, HERE))
    return {
        "about": about,
        "done": done,
        "share": min(done / about.steps, 1.0) if about.steps else None,
        "lasted": max((row.seconds for row in rows), default=0.0),
        "left": time_left(steps, about.steps) if about.state == "running" else None,
        "written": datetime.now().astimezone().strftime("%Y-%m-%d %H:%M:%S"),
        "figures": _figures(steps, judged),
        "plots": _plots(steps, judged),
        "judged": judged[: -MOST_JUDGED - 1 : -1],
        "columns": columns,
        "best": {name: _best(judged, name) for name in columns},
        "notes": notes[: -MOST_NOTES - 1 : -1],
        "samples": samples,
        "place": curves,
        "style": style,
        "style_hash": "sha256-" + base64.b64encode(hashlib.sha256(style.encode()).digest()).decode(),
    }


def time_left(steps: Sequence[StepRow], wanted: int) -> float | None:
    """How many seconds a run will last yet, at the speed of its last steps; None if that is not known."""
    if len(steps) < 2 or wanted <= steps[-1].number:
        return None
    first, last = steps[max(0, min(len(steps) - 2, int(len(steps) * (1 - RECENT))))], steps[-1]
    if last.number <= first.number or last.seconds <= first.seconds:
        return None
    return (wanted - last.number) * (last.seconds - first.seconds) / (last.number - first.number)


def duration(seconds: float | None) -> str:
    """A length of time for people: 45 s, 12 min, 3 h 05 min, 2 d 4 h."""
    if seconds is None or not math.isfinite(seconds):
        return "–"
    minutes = round(seconds / 60)
    if seconds < 99.5:
        return f"{seconds:.0f} s"
    if minutes < 60:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    return f"{minutes // 1440} d {minutes % 1440 // 60} h"


def _figures(steps: Sequence[StepRow], judged: Sequence[JudgedRow]) -> list[Figure]:
    """The newest numbers, largest first in what they say."""
    found = []
    for name in dict.fromkeys(name for row in judged[-1:] for name in row.figures):
        best = _best(judged, name)
        before = f"the best was {number(best.figures[name])}" if best is not None else ""
        found.append(Figure(name, judged[-1].figures[name], "the best so far" if best is judged[-1] else before))
    if steps:
        last = mean(steps[-LAST:])
        waits = "the network waits for pictures: more workers would help" if last.waiting > MUCH_WAITING else ""
        found += [
            Figure("loss", last.total, "per picture, what is made small"),
            Figure("printed loss", last.average, "its running mean, as Darknet prints it"),
            Figure("epoch", last.epoch, f"{last.seen:,} pictures seen"),
            Figure("learning rate", last.rate),
            Figure("pictures a second", last.speed),
            Figure("waiting", percent(last.waiting), waits or "of the time, for pictures"),
            Figure("memory", f"{last.memory / 2**30:.2f} GiB"),
        ]
    return found


def _best(judged: Sequence[JudgedRow], name: str) -> JudgedRow | None:
    """The row with the highest figure of a name, the first of equal ones."""
    known = [row for row in judged if math.isfinite(row.figures.get(name, math.nan))]
    return max(known, key=lambda row: row.figures[name], default=None)


def _plots(steps: Sequence[StepRow], judged: Sequence[JudgedRow]) -> list[Plot]:
    """The curves of a run, those with something in them."""
    names = dict.fromkeys(name for row in judged for name in row.figures)
    figures = {name: [(row.epoch, row.figures.get(name, math.nan)) for row in judged] for name in names}
    terms = {
        name: [(row.number, row.terms.get(name, math.nan)) for row in steps]
        for name in dict.fromkeys(name for row in steps for name in row.terms)
    }

    def over(*fields: str) -> dict[str, Points]:
        return {field: [(row.number, getattr(row, field)) for row in steps] for field in fields}

    drawn = (
        plot("Judged", "epoch", figures, zero=True),
        plot("Loss", "step", over("total"), note="per picture"),
        plot("Its terms", "step", terms, note="per picture"),
        plot("As Darknet prints it", "step", over("printed", "average")),
        plot("Learning rate", "step", over("rate"), zero=True),
        plot("Pictures a second", "step", over("speed"), zero=True),
    )
    return [each for each in drawn if each is not None]


def _template() -> Template:
    try:
        from jinja2 import Environment, FileSystemLoader, StrictUndefined
    except ImportError:
        raise EngineError("the page of a run needs jinja2: `pip install jinja2` brings it") from None

    def one_line(value: Any) -> Any:
        return shown(value, LONGEST_TEXT) if isinstance(value, str) and not hasattr(value, "__html__") else value

    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        finalize=one_line,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(number=number, percent=percent, duration=duration)
    return environment.get_template("page.html")
