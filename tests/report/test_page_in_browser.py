"""The page in a real browser, where one is installed: it filters, sorts, reads its curves, and says no error.

Chromium is driven over its DevTools protocol through two pipes: messages of JSON, each ended by a NUL.
"""

from __future__ import annotations

import base64
import contextlib
import dataclasses
import json
import math
import os
import select
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import lookonce
from lookonce.exam import reported
from lookonce.report import page
from lookonce.report.contents import (
    Bin,
    Box,
    ClassRow,
    Confusion,
    Curve,
    Figure,
    GalleryPicture,
    Report,
    Shares,
    WorstEntry,
    WorstList,
)

BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
SWITCHES = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-extensions", "--disable-dev-shm-usage",
    "--disable-background-networking", "--hide-scrollbars", "--remote-debugging-pipe",
)  # fmt: skip

# The browser reads commands from descriptor 3 and answers on 4.
LAUNCH = "import os, sys; a = sys.argv; os.dup2(int(a[1]), 3); os.dup2(int(a[2]), 4); os.execv(a[3], a[3:])"
PATIENCE = 60                # seconds for one answer
OURS = ("file:", "data:", "about:")

pytestmark = pytest.mark.skipif(BROWSER is None, reason="needs chromium, which is not installed")


class Tab:
    """One page of the browser. `said` holds what its console and its policy complained of."""

    def __init__(self, commands: int, answers: int) -> None:
        self._commands, self._answers = commands, answers
        self._number = 0
        self._rest = b""
        self._loaded: set[str] = set()
        self.said: list[str] = []
        target = self._send("Target.createTarget", {"url": "about:blank"})["targetId"]
        self._session = self._send("Target.attachToTarget", {"targetId": target, "flatten": True})["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.call("Page.setLifecycleEventsEnabled", enabled=True)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        return self._send(method, parameters, self._session)

    def open(self, address: str) -> None:
        """Go to an address and wait until its page is loaded. A new fragment alone would load nothing."""
        self.call("Page.navigate", url="about:blank")
        loader = self.call("Page.navigate", url=address)["loaderId"]
        while loader not in self._loaded:
            self._take()

    def run(self, script: str) -> Any:
        """The value of an expression, after the page has dealt with what is waiting."""
        wait = f"new Promise((done, fail) => setTimeout(() => {{ try {{ done({script}) }} catch (e) {{ fail(e) }} }}))"
        answer = self.call("Runtime.evaluate", expression=wait, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def press(self, key: str, code: int, text: str = "") -> None:
        for kind in ("keyDown", "keyUp"):
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code,
                      **({"text": text} if text and kind == "keyDown" else {}))                 # fmt: skip

    def look(self, width: int, height: int, scheme: str = "light") -> None:
        """Show the page in a window of this size, light or dark."""
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                  mobile=width < 600)                                                           # fmt: skip
        self.call("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}])

    def picture(self, path: Path) -> None:
        """Save what the window shows as a PNG."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def _send(self, method: str, parameters: dict[str, Any], session: str | None = None) -> dict[str, Any]:
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        data = json.dumps(message | ({"sessionId": session} if session else {})).encode() + b"\0"
        while data:
            data = data[os.write(self._commands, data) :]
        while True:
            answer = self._take()
            if answer.get("id") == message["id"]:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result

    def _take(self) -> dict[str, Any]:
        """The next message. Events are noted on the way."""
        while b"\0" not in self._rest:
            assert select.select([self._answers], [], [], PATIENCE)[0], "the browser says nothing"
            data = os.read(self._answers, 1 << 16)
            assert data, "the browser has ended"
            self._rest += data
        head, self._rest = self._rest.split(b"\0", 1)
        message: dict[str, Any] = json.loads(head)
        method, of = message.get("method"), message.get("params", {})
        if method == "Page.lifecycleEvent" and of["name"] == "load":
            self._loaded.add(of["loaderId"])
        elif method == "Runtime.exceptionThrown":
            self.said.append(json.dumps(of["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled":
            self.said.append(json.dumps(of["args"]))
        elif method == "Log.entryAdded":
            self.said.append(of["entry"]["text"])
        elif method == "Network.requestWillBeSent" and not of["request"]["url"].startswith(OURS):
            self.said.append(f"asked for {of['request']['url']}")
        return message


@contextlib.contextmanager
def browser(folder: Path) -> Iterator[Tab]:
    """A tab of a browser that keeps its files in `folder`."""
    assert BROWSER is not None
    (theirs_in, commands), (answers, theirs_out) = os.pipe(), os.pipe()
    launch = [sys.executable, "-c", LAUNCH, str(theirs_in), str(theirs_out)]
    nothing = subprocess.DEVNULL
    process = subprocess.Popen(
        [*launch, BROWSER, *SWITCHES, f"--user-data-dir={folder}"],
        pass_fds=(theirs_in, theirs_out), stdin=nothing, stdout=nothing, stderr=nothing,
    )  # fmt: skip
    os.close(theirs_in)
    os.close(theirs_out)
    try:
        yield Tab(commands, answers)
    finally:
        os.close(commands)                                  # the browser ends with its pipe
        try:
            process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        os.close(answers)


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with browser(tmp_path_factory.mktemp("browser")) as one:
        yield one


# ---------------------------------------------------------------------- a page to look at
NAMES = ("dog", "cat & mouse", "<b>犬</b>")
KINDS = ("correct", "background", "missed", "other", "truth")


def made_up(folder: Path, pictures: int = 12) -> Report:
    """Pictures with two or three boxes each, of classes and kinds that go round at different speeds."""
    Image.new("RGB", (320, 240), "teal").save(folder / "a.png")
    gallery = []
    for i in range(pictures):
        boxes = []
        for j in range(2 + i % 2):
            kind = KINDS[(i + 2 * j) % 5]
            score = None if kind in ("missed", "truth") else round((i * 7 + j * 3) % 20 / 20, 2)
            boxes.append(Box((10 + 60 * j, 20, 60 + 60 * j, 120), NAMES[(i + j) % 3], score, kind))     # type: ignore[arg-type]
        gallery.append(GalleryPicture(f"picture {i}", folder / "a.png", tuple(boxes)))
    recall = np.linspace(0, 0.8, 401)
    return Report(
        title="A report with a name that is long " + "and longer" * 20,
        figures=(Figure("AP", 0.5, "x" * 300), Figure("AP of what is not there", math.nan)),
        classes=tuple(ClassRow(name, 10 * i, (0.2, math.nan, 0.7)[i], {"AP50": 0.5}) for i, name in enumerate(NAMES)),
        curves=tuple(Curve(name, recall * (i + 1) / 3, 1 - recall**2, 1 - recall) for i, name in enumerate(NAMES)),
        overall=Curve("all classes", recall, 1 - recall / 2),
        confusion=Confusion(NAMES, np.arange(16).reshape(4, 4)),
        errors=tuple(Shares(name, (0.5, 0.2, 0.1, 0.1, 0.1, 0.0)) for name in NAMES),
        calibration=(Bin(0.1, 0.2, 10), Bin(0.5, 0.6, 4)),
        pictures=tuple(gallery),
        worst=(WorstList("worst", "", tuple(WorstEntry(f"picture {i}", "bad") for i in range(pictures))),),
    )


def expected(report: Report, name: str | None = None, kinds: tuple[str, ...] = (), score: float = 0) -> list[str]:
    """The pictures that a filter should leave: one of their boxes has the class, a kind, and the score."""
    left = []
    for picture in report.pictures:
        for box in picture.boxes:
            sure = box.score is not None and box.score >= score
            asked = box.kind == "missed" and "missed" in kinds
            if name in (None, box.name) and (not kinds or box.kind in kinds) and (score == 0 or sure or asked):
                left.append(picture.name)
                break
    return left


SHOWN = "[...document.querySelectorAll('.shot')].filter(s => s.offsetParent).map(s => s.querySelector('b').textContent)"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Report, str]:
    folder = tmp_path_factory.mktemp("page")
    report = made_up(folder)
    page.write(report, folder / "a report.html")
    return report, (folder / "a report.html").as_uri()


@pytest.fixture
def quiet(tab: Tab) -> Iterator[Tab]:
    """The tab, which must not have complained of anything by the end."""
    tab.look(1200, 900)
    tab.said.clear()
    yield tab
    assert tab.said == []


# ---------------------------------------------------------------------- tests
def test_the_browser_says_so_when_a_page_is_wrong(tab: Tab, made: tuple[Report, str], tmp_path: Path) -> None:
    """Otherwise the silence of the other tests would mean nothing."""
    text = page.HERE.joinpath("page.js").read_text()
    page.write(made[0], tmp_path / "a.html")
    whole = (tmp_path / "a.html").read_text()
    for number, (old, new) in enumerate([
        (text, text + "//"),                                            # not the script that the policy allows
        ('id="data">{', 'id="data">'),                                  # data that cannot be read
        ("data:image/jpeg", "https://example.org/"),                    # a picture from elsewhere
    ]):  # fmt: skip
        assert old in whole
        (tmp_path / f"{number}.html").write_text(whole.replace(old, new))
        tab.said.clear()
        tab.open((tmp_path / f"{number}.html").as_uri())
        tab.run("1")
        assert tab.said, new[-20:]


@pytest.mark.parametrize(
    ("fragment", "wanted"),
    [
        ("", {}),
        ("#class=dog", {"name": "dog"}),
        ("#class=cat%20%26%20mouse&kind=background", {"name": "cat & mouse", "kinds": ("background",)}),
        ("#class=%3Cb%3E%E7%8A%AC%3C%2Fb%3E&kind=other,missed", {"name": "<b>犬</b>", "kinds": ("other", "missed")}),
        ("#kind=correct,nonsense", {"kinds": ("correct",)}),
        ("#score=0.6", {"score": 0.6}),
        ("#kind=missed,background&score=0.9", {"kinds": ("missed", "background"), "score": 0.9}),
        ("#class=nobody&score=7", {}),
        ("#class=%E0%A4%A&kind=<script>", {}),
        ("#gallery", {}),
    ],
)
def test_an_address_chooses_pictures(
    fragment: str, wanted: dict[str, Any], quiet: Tab, made: tuple[Report, str]
) -> None:
    report, address = made
    quiet.open(address + fragment)
    pictures = expected(report, **wanted)
    assert quiet.run(SHOWN) == pictures
    count = f"{len(pictures)} of 12 pictures" if wanted else "12 pictures"
    assert quiet.run("document.getElementById('shown').textContent") == count


def test_the_filter_works_by_keys_and_the_address_follows(quiet: Tab, made: tuple[Report, str]) -> None:
    report, address = made
    quiet.open(address)
    quiet.run("document.querySelector('[value=background]').focus()")
    quiet.press(" ", 32, " ")
    assert quiet.run(SHOWN) == expected(report, kinds=("background",))
    quiet.run("document.getElementById('score').focus()")
    quiet.press("End", 35)
    quiet.press("ArrowLeft", 37)
    assert quiet.run("document.getElementById('score-value').textContent") == "0.99"
    assert quiet.run(SHOWN) == expected(report, kinds=("background",), score=0.99)
    assert quiet.run("location.hash") == "#kind=background&score=0.99"
    quiet.run("document.getElementById('clear').focus()")
    quiet.press("Enter", 13, "\r")
    assert quiet.run(SHOWN) == expected(report)
    quiet.run("document.getElementById('class').focus()")
    quiet.press("c", 67, "c")
    assert quiet.run(SHOWN) == expected(report, name="cat & mouse")
    there = quiet.run("location.href")
    quiet.open(there)
    assert quiet.run(SHOWN) == expected(report, name="cat & mouse")


def test_boxes_that_the_filter_leaves_out_are_not_drawn(quiet: Tab, made: tuple[Report, str]) -> None:
    report, address = made
    quiet.open(address + "#kind=background")
    wide = "g => g.getBoundingClientRect().width > 0"
    drawn = f"[...document.querySelectorAll('.shot g')].filter({wide}).map(g => g.dataset.kind)"
    kinds = quiet.run(drawn)
    boxes = [box for picture in report.pictures for box in picture.boxes]
    assert set(kinds) <= {"background", "truth"}
    assert kinds.count("background") == sum(box.kind == "background" for box in boxes)
    quiet.run("document.getElementById('truth').click()")
    assert set(quiet.run(drawn)) == {"background"}


def test_boxes_lie_on_the_picture_where_they_should(quiet: Tab, made: tuple[Report, str]) -> None:
    """One box in 320 x 240 pixels is 10 to 60 across and 20 to 120 down; the picture keeps its proportions."""
    quiet.open(made[1])
    picture, box = quiet.run(
        "['img', 'rect[x=\"10.0\"]'].map(s => document.querySelector('#picture-0 ' + s).getBoundingClientRect())"
        ".map(r => [r.left, r.top, r.width, r.height])"
    )
    scale = min(picture[2] / 320, picture[3] / 240)
    left = picture[0] + (picture[2] - 320 * scale) / 2
    top = picture[1] + (picture[3] - 240 * scale) / 2
    smallest = [left + 10 * scale, top + 20 * scale, 50 * scale, 100 * scale]
    assert box == pytest.approx(smallest, abs=4)                        # the stroke may count


def test_columns_sort_and_what_is_not_known_comes_last(quiet: Tab, made: tuple[Report, str]) -> None:
    quiet.open(made[1])
    press = "document.querySelectorAll('#table thead button')[{}].click()"
    order = "[...document.querySelectorAll('#table tbody th')].map(th => th.textContent)"
    sort = "[...document.querySelectorAll('#table thead th')].map(th => th.getAttribute('aria-sort'))"
    quiet.run(press.format(2))
    assert quiet.run(order) == ["<b>犬</b>", "dog", "cat & mouse"]
    assert quiet.run(sort) == ["none", "none", "descending", "none"]
    quiet.run(press.format(2))
    assert quiet.run(order) == ["dog", "<b>犬</b>", "cat & mouse"]
    assert quiet.run(sort) == ["none", "none", "ascending", "none"]
    quiet.run(press.format(1))
    assert quiet.run(order) == list(reversed(NAMES))
    quiet.run(press.format(0))
    assert quiet.run(order)[1:] == ["cat & mouse", "dog"]


def test_the_chosen_class_has_its_curve_read(quiet: Tab, made: tuple[Report, str]) -> None:
    """At recall .3 of the second class: two thirds of x, so x = .45 and precision 1 - .45²."""
    quiet.open(made[1] + "#class=cat%20%26%20mouse")
    quiet.run("(s => { s.value = .3; s.dispatchEvent(new Event('input')) })(document.getElementById('recall'))")
    reading = quiet.run("document.getElementById('reading').textContent")
    assert reading.startswith("cat & mouse: recall 0.")
    assert float(reading.split("recall ")[1][:5]) == pytest.approx(0.3, abs=0.005)
    assert float(reading.split("precision ")[1][:5]) == pytest.approx(1 - 0.45**2, abs=0.005)
    left, top, width, height = quiet.run(
        "(() => { const p = document.getElementById('plot'); p.scrollIntoView(); const r = p.getBoundingClientRect();"
        "return [r.left, r.top, r.width, r.height] })()"
    )
    plot = page.Plot()
    x, y = left + width * plot.x(0.1) / plot.wide, top + height / 2
    quiet.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    reading = quiet.run("document.getElementById('reading').textContent")
    assert float(reading.split("recall ")[1][:5]) == pytest.approx(0.1, abs=0.01)


def test_a_picture_opens_by_keys_and_gives_the_focus_back(quiet: Tab, made: tuple[Report, str]) -> None:
    report, address = made
    quiet.open(address + "#kind=other")
    names = expected(report, kinds=("other",))
    quiet.run("[...document.querySelectorAll('.shot')].find(s => !s.hidden).querySelector('.open').focus()")
    quiet.press("Enter", 13, "\r")
    title = "document.getElementById('large').open && document.getElementById('large-title').textContent"
    assert quiet.run(title) == names[0]
    quiet.press("ArrowRight", 39)
    assert quiet.run(title) == names[1]
    kinds = quiet.run("[...document.querySelectorAll('#large-boxes tr')].map(row => row.cells[0].textContent)")
    assert set(kinds) <= {"other", "truth"}
    quiet.press("ArrowLeft", 37)
    quiet.press("ArrowLeft", 37)
    assert quiet.run(title) == names[0]
    quiet.press("Escape", 27)
    assert quiet.run(title) is False
    assert quiet.run("document.activeElement.closest('figure').querySelector('b').textContent") == names[0]


def test_a_list_leads_to_a_picture_that_the_filter_hides(quiet: Tab, made: tuple[Report, str]) -> None:
    report, address = made
    quiet.open(address + "#kind=background")
    hidden = next(i for i in range(12) if f"picture {i}" not in expected(report, kinds=("background",)))
    quiet.run(f"document.querySelector('#worst a[href=\"#picture-{hidden}\"]').click()")
    quiet.run("new Promise(done => setTimeout(done, 50))")
    assert quiet.run("document.querySelector('.target b').textContent") == f"picture {hidden}"
    top, bottom = quiet.run("(r => [r.top, r.bottom])(document.querySelector('.target').getBoundingClientRect())")
    assert -1 <= top < bottom <= 901


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 768, 1600])
def test_no_page_is_wider_than_its_window(scheme: str, width: int, quiet: Tab, made: tuple[Report, str]) -> None:
    quiet.look(width, 800, scheme)
    quiet.open(made[1])
    assert quiet.run("document.documentElement.scrollWidth") <= width
    style = "getComputedStyle(document.querySelector('section'))"
    paper, ink = quiet.run(f"[{style}.backgroundColor, {style}.color]")
    light = [sum(int(x) for x in colour[4:-1].split(",")) for colour in (paper, ink)]
    assert (light[0] > light[1]) is (scheme == "light")


@pytest.mark.parametrize("which", ["nothing", "no picture", "only pictures"])
def test_a_page_of_few_things_has_no_error_either(which: str, quiet: Tab, tmp_path: Path) -> None:
    whole = made_up(tmp_path, 2)
    report = {
        "nothing": Report("x"),
        "no picture": dataclasses.replace(whole, pictures=(), worst=()),
        "only pictures": Report("x", pictures=whole.pictures),
    }[which]
    page.write(report, tmp_path / "a.html")
    quiet.open((tmp_path / "a.html").as_uri() + "#class=dog&score=0.3")
    quiet.run("1")


@pytest.mark.shared
def test_the_page_of_a_real_exam_filters_its_gallery(quiet: Tab, shared: Path, tmp_path: Path) -> None:
    models = shared / "models"
    detect = lookonce.load(
        models / "yolo-fastest-1.1-xl.cfg", models / "yolo-fastest-1.1-xl.weights", "coco", threshold=0.005
    )
    assert isinstance(detect, lookonce.Detector)
    exam = lookonce.Exam(lookonce.open_dataset(shared / "data" / "coco-val128"), "coco", detect.names)
    answers = exam.answers(list(exam.run(detect)))
    report = reported(exam, answers, exam.judge(answers), [], title="a real exam")
    size = page.write(report, tmp_path / "page.html")
    assert 500_000 < size < 5_000_000
    address = (tmp_path / "page.html").as_uri()
    quiet.open(address)
    assert quiet.run(SHOWN) == expected(report)
    quiet.open(f"{address}#class=person&kind=background")
    assert quiet.run(SHOWN) == expected(report, "person", ("background",))
    assert 0 < len(expected(report, "person", ("background",))) < len(report.pictures)
