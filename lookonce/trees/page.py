"""A tree as one HTML file: it opens and closes, is searched, works with the keyboard, and asks for nothing outside."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from html import escape
from pathlib import Path

from lookonce import files
from lookonce.errors import DataError, shown
from lookonce.trees.showing import below, children_of
from lookonce.wordtree import WordTree

MOST_NODES = 200_000
DEEPEST = 150  # browsers put what is nested deeper side by side
LONGEST_NAME = 300
HERE = Path(__file__).parent

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy"
 content="default-src 'none'; style-src '{style_hash}'; script-src '{script_hash}'; form-action 'none'">
<meta name="viewport" content="width=device-width">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<h1>{title}</h1>
<p>{about}</p>
<form role="search" hidden>
<label for="wanted">Name or id</label>
<input id="wanted" type="search" autocomplete="off" spellcheck="false">
<button>Next</button>
<button type="button" id="open">Open all</button>
<button type="button" id="close">Close all</button>
<output for="wanted" aria-live="polite"></output>
</form>
<main>
"""


def write_page(tree: WordTree, path: Path, node: int = -1, depth: int | None = None, *, title: str) -> int:
    """Write the page of what is below a node, itself first; of -1 of the whole tree. `depth` is how many steps down.

    Returns how many nodes are on it. Raises DataError if it would have more nodes than a browser bears, or lie deeper,
    or if no file can be written.
    """
    counts = below(tree)
    roots = list(children_of(tree, -1)) if node < 0 else [node]
    total, deepest = _extent(tree, roots, depth)
    if total > MOST_NODES or deepest > DEEPEST:
        what = f"{total:,} nodes, {deepest:,} deep"
        raise DataError(
            f"{path}: a page of {what} is more than a browser bears ({MOST_NODES:,}, {DEEPEST}): "
            "name a node, or give --depth"
        )
    style, script = ((HERE / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    about = f"{total:,} nodes in {deepest + 1:,} levels, of a tree of {len(tree):,}."
    head = PAGE.format(title=_text(title), about=about, style=style, style_hash=_hash(style), script_hash=_hash(script))
    with files.write_atomically(path) as file:
        file.write(head.encode())
        for piece in _items(tree, roots, depth, counts):
            file.write(piece.encode())
        file.write(f"</main>\n<script>{script}</script>\n</body>\n</html>\n".encode())
    return total


def _extent(tree: WordTree, roots: list[int], depth: int | None) -> tuple[int, int]:
    """How many nodes there are below the roots, themselves included, and how many steps down the deepest is."""
    level, total, steps = roots, 0, -1
    while level:
        total += len(level)
        steps += 1
        level = [] if steps == depth else [child for each in level for child in children_of(tree, each)]
    return total, steps


def _items(tree: WordTree, roots: list[int], depth: int | None, counts: list[int]) -> Iterator[str]:
    """The nested lists, piece by piece."""
    waiting: list[tuple[int, int] | str] = ["</ul>\n", *((root, 0) for root in reversed(roots))]
    yield "<ul>\n"
    while waiting:
        piece = waiting.pop()
        if isinstance(piece, str):
            yield piece
            continue
        node, steps = piece
        name, id = tree.names[node], tree.ids[node]
        label = f"<b>{_text(name)}</b>" + (f" <code>{_text(id)}</code>" if id != name else "")
        if counts[node]:
            label += f" <small>{counts[node]:,} below</small>"
        if not counts[node] or steps == depth:
            yield f"<li><span>{label}</span></li>\n"
            continue
        is_open = " open" if steps == 0 and len(roots) <= 8 else ""
        yield f"<li><details{is_open}><summary>{label}</summary><ul>\n"
        waiting.append("</ul></details></li>\n")
        waiting += [(child, steps + 1) for child in reversed(children_of(tree, node))]


def _text(text: str) -> str:
    return escape(shown(text, LONGEST_NAME))


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
