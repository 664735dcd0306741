"""The page of a tree: read by a parser of HTML, and where there is one by a browser."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest

from lookonce.errors import DataError
from lookonce.trees import write_page
from lookonce.trees.page import DEEPEST
from lookonce.wordtree import WordTree

TREE = WordTree.parse(
    ["root -1", "rock -1", "n1 0 animal", "plant 0", "n4 2 dog", "cat 2", "pebble 1", "n7 4 <b>pug</b> & \x1b\"x\""]
)
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
VOID = ("meta", "input")


class Reader(HTMLParser):
    """The tree that the nested lists show: each label with its steps from the top. Every element must be closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.rows: list[tuple[int, str]] = []
        self.used: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.used += [(name, value) for name, value in attrs if name in ("src", "href", "action", "style", "onclick")]
        if tag not in VOID:
            self.open.append(tag)
        if tag == "li":
            self.rows.append((self.open.count("li") - 1, ""))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "li" in self.open and data.strip():
            steps, text = self.rows[-1]
            self.rows[-1] = (steps, f"{text} {data.strip()}".strip())


def read(path: Path) -> Reader:
    reader = Reader()
    reader.feed(path.read_text())
    reader.close()
    assert reader.open == []
    return reader


def test_the_page_holds_the_tree_and_nothing_that_a_name_could_do(tmp_path: Path) -> None:
    assert write_page(TREE, tmp_path / "t.html", title="my <tree>") == 8
    reader = read(tmp_path / "t.html")
    assert reader.rows == [
        (0, "root 5 below"),
        (1, "animal n1 3 below"),
        (2, "dog n4 1 below"),
        (3, '<b>pug</b> & \\x1b"x" n7'),
        (2, "cat"),
        (1, "plant"),
        (0, "rock 1 below"),
        (1, "pebble"),
    ]
    assert reader.used == []
    assert "<title>my &lt;tree&gt;</title>" in (tmp_path / "t.html").read_text()


def test_style_and_script_are_allowed_by_their_hashes_and_nothing_else_is(tmp_path: Path) -> None:
    write_page(TREE, tmp_path / "t.html", title="t")
    text = (tmp_path / "t.html").read_text()
    for tag, rule in (("style", "style-src"), ("script", "script-src")):
        (inside,) = re.findall(f"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{rule} 'sha256-{digest}'" in text
    assert "default-src 'none'" in text
    assert not re.search(r"https?:|//\w", text)
    assert "light dark" in text


def test_a_part_as_deep_as_asked_is_on_the_page(tmp_path: Path) -> None:
    assert write_page(TREE, tmp_path / "t.html", 2, 1, title="t") == 3
    assert read(tmp_path / "t.html").rows == [(0, "animal n1 3 below"), (1, "dog n4 1 below"), (1, "cat")]
    assert "3 nodes in 2 levels, of a tree of 8" in (tmp_path / "t.html").read_text()


def test_what_no_browser_bears_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    wide = WordTree.parse([f"n{node} -1" for node in range(200_001)])
    deep = WordTree.parse([f"n{node} {node - 1}" for node in range(DEEPEST + 2)])
    for tree in (wide, deep):
        with pytest.raises(DataError, match="more than a browser bears .* --depth"):
            write_page(tree, tmp_path / "t.html", title="t")
    assert not (tmp_path / "t.html").exists()
    assert write_page(deep, tmp_path / "t.html", depth=5, title="t") == 6


# What a person does, by events; what is seen is left in the page as JSON.
ACTS = """
<script>
const seen = [], visible = () => items.filter((item) => item.checkVisibility()).map((item) =>
  item.querySelector("b").textContent + (item.classList.contains("match") ? "*" : ""));
const press = () => document.querySelector("form").requestSubmit();
const type = (word) => { box.value = word; box.dispatchEvent(new Event("input")); search(); };
const say = () => seen.push([visible(), document.querySelector("output").textContent]);
say(); type("DOG"); say(); press(); say(); type("n"); press(); press(); say(); type("zzz"); press(); say();
type(""); say(); document.getElementById("open").click(); say(); document.getElementById("close").click(); say();
const done = document.createElement("pre"); done.id = "seen"; done.textContent = JSON.stringify(seen);
document.body.append(done);
</script>
"""


@pytest.mark.skipif(BROWSER is None, reason="needs chromium, which is not installed")
def test_the_page_is_searched_opened_and_closed_in_a_browser(tmp_path: Path) -> None:
    write_page(TREE, tmp_path / "t.html", title="t")
    text = (tmp_path / "t.html").read_text().replace("</body>", ACTS + "</body>")
    acts = ACTS.partition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(acts.encode()).digest()).decode()
    (tmp_path / "acted.html").write_text(text.replace("; form-action", f" 'sha256-{digest}'; form-action"))
    done = subprocess.run(
        [
            str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--enable-logging=stderr", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom",
            (tmp_path / "acted.html").as_uri(),
        ],
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert "CONSOLE" not in done.stderr
    (said,) = re.findall(r'<pre id="seen">(.*?)</pre>', done.stdout, re.DOTALL)
    seen = json.loads(said.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"))
    pug = '<b>pug</b> & \\x1b"x"'
    begun = ["root", "animal", "plant", "rock", "pebble"]
    assert seen[0] == [begun, ""]
    assert seen[1] == [["root", "animal", "dog*"], "1 found"]
    assert seen[2] == [["root", "animal", "dog*"], "1 of 1: dog"]
    assert seen[3] == [["root", "animal*", "dog*", f"{pug}*", "cat", "plant*"], "2 of 4: dog"]
    assert seen[4] == [[], "0 found"]
    assert seen[5] == [begun, ""]
    assert seen[6][0] == ["root", "animal", "dog", pug, "cat", "plant", "rock", "pebble"]
    assert seen[7][0] == ["root", "rock"]
