from __future__ import annotations

import base64
import builtins
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lookonce.errors import EngineError
from lookonce.report.thumbnails import Thumbnail, write
from lookonce.truth import Truth

NASTY = "</title><script>alert(1)</script>\"'&"


class Page(HTMLParser):
    """The elements of a page with their attributes, and its text."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def thumbnail(path: Path, **marks: Any) -> Thumbnail:
    """A picture of 640 x 320, its left half white, with a box around that half."""
    pixels = np.zeros((320, 640, 3), np.uint8)
    pixels[:, :320] = 255
    Image.fromarray(pixels).save(path)
    return Thumbnail(path.name, path, Truth.of(np.array([0]), xyxy=np.array([[0, 0, 320, 320]]), **marks))


def test_a_picture_is_shown_small_with_its_boxes_where_they_are(tmp_path: Path) -> None:
    assert write([thumbnail(tmp_path / "p.png")], ["cat"], tmp_path / "page.html", title="mine", side=160) == []
    page = Page(tmp_path / "page.html")
    (image,) = page.of("image")
    head, _, data = (image["href"] or "").partition(",")
    assert head == "data:image/jpeg;base64"
    with Image.open(io.BytesIO(base64.b64decode(data))) as small:
        assert (small.format, small.size) == ("JPEG", (160, 80))
        grey = np.asarray(small.convert("L"))
    (box,) = page.of("rect")
    x, y, width, height = (float(box[key] or "") for key in ("x", "y", "width", "height"))
    assert (x, y, width, height) == (0, 0, 80, 80)
    assert grey[:, : int(width) - 4].min() > 200
    assert grey[:, int(width) + 4 :].max() < 50
    assert "p.png: 1 object" in page.text
    assert "class" not in box


@pytest.mark.parametrize("mark", ["difficult", "crowd"])
def test_difficult_objects_and_crowds_are_dashed(tmp_path: Path, mark: str) -> None:
    one = thumbnail(tmp_path / "p.png", **{mark: np.array([True])})
    write([one], ["cat"], tmp_path / "page.html", title="mine")
    assert Page(tmp_path / "page.html").of("rect")[0]["class"] == "difficult"


def test_the_page_asks_for_nothing_outside_itself_and_runs_nothing(tmp_path: Path) -> None:
    write([thumbnail(tmp_path / "p.png")], ["cat"], tmp_path / "page.html", title="mine")
    page = Page(tmp_path / "page.html")
    assert not {tag for tag, _ in page.elements} & {"script", "link", "iframe", "img", "object"}
    for _, attributes in page.elements:
        assert not any(name.startswith("on") for name in attributes)
        assert all((attributes.get(name) or "data:").startswith("data:") for name in ("href", "src"))
    (policy,) = [each["content"] for each in page.of("meta") if "content" in each and "http-equiv" in each]
    assert (policy or "").startswith("default-src 'none'; img-src data:; style-src 'sha256-")


def test_names_from_files_cannot_become_elements(tmp_path: Path) -> None:
    one = thumbnail(tmp_path / "p.png")._replace(name=NASTY)
    write([one], [NASTY], tmp_path / "page.html", title=NASTY, about=NASTY)
    page = Page(tmp_path / "page.html")
    assert page.of("script") == []
    assert page.text.count(NASTY) == 6                       # title, heading, about, tooltip, name of the box, caption


def test_control_characters_and_broken_text_are_shown_escaped(tmp_path: Path) -> None:
    one = thumbnail(tmp_path / "p.png")._replace(name="a\nb\udc80\x1b[31m")
    write([one], ["cat"], tmp_path / "page.html", title="mine")
    assert r"a\nb\udc80\x1b[31m: 1 object" in Page(tmp_path / "page.html").text


def test_a_picture_that_cannot_be_read_leaves_its_place_and_the_reason(tmp_path: Path) -> None:
    gone = Thumbnail("gone.jpg", tmp_path / "gone.jpg", Truth.of(np.zeros(0)))
    problems = write([gone, thumbnail(tmp_path / "p.png")], ["cat"], tmp_path / "page.html", title="mine")
    assert problems == [f"{tmp_path / 'gone.jpg'}: no such file"]
    page = Page(tmp_path / "page.html")
    assert len(page.of("image")) == 1
    assert problems[0] in page.text


def test_bytes_stand_for_a_picture_in_an_archive_and_labels_of_it_are_named(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (20, 10)).save(buffer, "PNG")
    one = Thumbnail("z/a.png", tmp_path / "set.zip", Truth.of(np.zeros(0), classes=(1, 7)), buffer.getvalue())
    assert write([one], ["cat", "dog"], tmp_path / "page.html", title="mine") == []
    page = Page(tmp_path / "page.html")
    assert "z/a.png: 0 objects, dog, class 7" in page.text
    assert re.match(r"data:image/jpeg;base64,", page.of("image")[0]["href"] or "")


def test_without_jinja2_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "jinja2":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(EngineError, match="pip install jinja2"):
        write([], [], tmp_path / "page.html", title="mine")
