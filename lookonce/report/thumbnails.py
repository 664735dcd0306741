"""A page of thumbnails with the truth drawn over them: one HTML file that asks for nothing outside itself."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from lookonce import files
from lookonce.draw import colour_of
from lookonce.errors import EngineError, shown
from lookonce.report.contents import Box, GalleryPicture
from lookonce.report.pictures import Shot, shoot
from lookonce.truth import Truth

if TYPE_CHECKING:
    from jinja2 import Template

SIDE = 320                   # pixels of a thumbnail's longer side
LONGEST_TEXT = 300

STYLE = """
body { margin: 1rem; font: 14px/1.4 system-ui, sans-serif; background: #fff; color: #222; }
ul { display: flex; flex-wrap: wrap; gap: 1rem; padding: 0; list-style: none; }
li { max-width: 320px; }
svg { display: block; max-width: 100%; height: auto; }
rect { fill: none; stroke-width: 2; }
rect.difficult { stroke-dasharray: 6 4; }
text { font: bold 11px system-ui, sans-serif; stroke: #fff; stroke-width: 3; paint-order: stroke; }
p { margin: .2rem 0 0; overflow-wrap: anywhere; }
.problem { width: 300px; padding: 1rem; background: #fdd; }
@media (prefers-color-scheme: dark) { body { background: #181818; color: #ddd; } .problem { background: #622; } }
"""

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; img-src data:; style-src '{{ style_hash | ours }}'">
<meta name="viewport" content="width=device-width">
<title>{{ title }}</title>
<style>{{ style | ours }}</style>
</head>
<body>
<h1>{{ title }}</h1>
<p>{{ about }} A dashed box is marked difficult, or holds a crowd.</p>
<ul>
{% for tile in tiles %}
<li>
{% if tile.shot.uri %}
<svg viewBox="0 0 {{ tile.shot.width }} {{ tile.shot.height }}" width="{{ tile.shot.width }}"
 height="{{ tile.shot.height }}" role="img" aria-label="{{ tile.caption }}">
<image href="{{ tile.shot.uri | ours }}" width="{{ tile.shot.width }}" height="{{ tile.shot.height }}"/>
{% for box in tile.boxes %}
<g><title>{{ box.name }}</title>
<rect x="{{ box.x }}" y="{{ box.y }}" width="{{ box.width }}" height="{{ box.height }}" stroke="{{ box.colour }}"
 {%- if box.dashed %} class="difficult"{% endif %}/>
<text x="{{ box.x + 2 }}" y="{{ box.y + 12 }}" fill="{{ box.colour }}">{{ box.name }}</text></g>
{% endfor %}
</svg>
{% else %}
<p class="problem">{{ tile.shot.problem }}</p>
{% endif %}
<p>{{ tile.caption }}</p>
{% if tile.shot.left_out %}<p>{{ tile.shot.left_out }} more objects are not drawn</p>{% endif %}
</li>
{% endfor %}
</ul>
</body>
</html>
"""


class Thumbnail(NamedTuple):
    """One picture to show: its name, where it lies, its truth; `data` is the encoded file if `path` is an archive."""

    name: str
    path: Path
    truth: Truth
    data: bytes | None = None


class _Drawn(NamedTuple):
    """One box in pixels of its thumbnail."""

    x: float
    y: float
    width: float
    height: float
    name: str
    colour: str
    dashed: bool


class _Tile(NamedTuple):
    caption: str
    shot: Shot
    boxes: list[_Drawn]


def write(
    thumbnails: Iterable[Thumbnail], names: Sequence[str], path: Path, *, title: str, about: str = "", side: int = SIDE
) -> list[str]:
    """Write the page; returns what was wrong with pictures that cannot be read, whose places say so.

    Raises EngineError if jinja2 is not installed, DataError if no file can be written.
    """
    template = _template()
    tiles = [_tile(each, names, side) for each in thumbnails]
    digest = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()
    page = template.render(title=title, about=about, tiles=tiles, style=STYLE, style_hash=f"sha256-{digest}")
    with files.write_atomically(path) as file:
        file.write(page.encode())
    return [tile.shot.problem for tile in tiles if tile.shot.problem]


def _template() -> Template:
    try:
        from jinja2 import Environment, StrictUndefined
        from markupsafe import Markup
    except ImportError:
        raise EngineError("the page of pictures needs jinja2: `pip install jinja2` brings it") from None

    def one_line(value: Any) -> Any:
        return shown(value, LONGEST_TEXT) if isinstance(value, str) and not isinstance(value, Markup) else value

    environment = Environment(autoescape=True, finalize=one_line, undefined=StrictUndefined, trim_blocks=True)
    environment.filters["ours"] = Markup                     # the style and the pictures, which nobody else wrote
    return environment.from_string(PAGE)


def _tile(thumbnail: Thumbnail, names: Sequence[str], side: int) -> _Tile:
    truth = thumbnail.truth
    # The number of an object stands for its name, so that what is known of it can be found again.
    boxes = tuple(Box(tuple(corners), str(row), None, "truth") for row, corners in enumerate(truth.xyxy.tolist()))
    shot = shoot(GalleryPicture(thumbnail.name, thumbnail.path, boxes, thumbnail.data), side)
    drawn = []
    for box in shot.boxes:
        row = int(box.name)
        label = int(truth.label[row])
        red, green, blue = colour_of(label)
        dashed = bool(truth.difficult[row] or truth.crowd[row])
        colour = f"rgb({red}, {green}, {blue})"
        drawn.append(_Drawn(box.x, box.y, box.width, box.height, _name(names, label), colour, dashed))
    whole = "".join(f", {_name(names, label)}" for label in truth.classes)
    objects = f"{len(truth)} object{'s' * (len(truth) != 1)}"
    return _Tile(f"{thumbnail.name}: {objects}{whole}", shot, drawn)


def _name(names: Sequence[str], label: int) -> str:
    return names[label] if 0 <= label < len(names) else f"class {label}"
