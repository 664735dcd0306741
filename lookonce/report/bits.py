"""Figure 4.4 of the thesis, what single bits save, as a PNG or as one HTML page with its table."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from lookonce import files
from lookonce.report.plots import empty, png

Bars = Sequence[tuple[str, float, float]]                       # name, bytes as floats, bytes as bits
Points = Sequence[tuple[float, float]]
PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<title>What single bits save</title>
<style>body {{ font: 16px/1.4 sans-serif; margin: 2em auto; max-width: 75em; padding: 0 1em }}
img {{ max-width: 100% }} pre {{ overflow-x: auto }}</style>
<h1>What single bits save</h1>
<img alt="Memory of networks, speed against channels and against the window" src="data:image/png;base64,{image}">
<pre>{table}</pre>
</html>
"""


def draw(
    path: Path, memory: Bars, channels: Mapping[str, Points], windows: Mapping[str, Points], runner: str, table: str
) -> None:
    """Write the figure: memory as bars, and how many times faster `runner` is than others, by their names, as lines.

    For a name that ends in .html as a page with `table`, else as a PNG. Raises EngineError if matplotlib is not
    installed, DataError if the file cannot be written.
    """
    figure = empty(14, 4.2)
    left, middle, right = figure.subplots(1, 3)
    names, floats, bits = zip(*memory, strict=True)
    for offset, sizes, label in ((-0.2, floats, "32 bits"), (0.2, bits, "single bits")):
        places = [place + offset for place in range(len(names))]
        bars = left.bar(places, [size / 1e6 for size in sizes], 0.4, label=label)
        left.bar_label(bars, fmt="{:.1f}", fontsize=8)
    left.set(yscale="log", ylabel="MB of weights", xticks=range(len(names)), xticklabels=names, title="memory")
    left.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1.06), ncols=2, fontsize=8)
    left.yaxis.set_major_formatter("{x:g}")                     # powers are set as mathematics, which names are not
    for axes, lines, label in ((middle, channels, "channels"), (right, windows, "side of the window")):
        for name, points in lines.items():
            axes.plot([x for x, _ in points], [y for _, y in points], "o-", label=f"than {name}")
        axes.axhline(1, color="grey", linewidth=0.8)
        axes.set(yscale="log", xlabel=label, ylabel=f"times faster: {runner}", title=f"speed against {label}")
        axes.grid(alpha=0.3)
    middle.set_xscale("log", base=2)
    for axis in (middle.xaxis, middle.yaxis, right.yaxis):
        axis.set_major_formatter("{x:g}")
    right.legend(fontsize=8)
    data = png(figure)
    if path.suffix.lower() == ".html":
        data = PAGE.format(image=base64.b64encode(data).decode(), table=escape(table)).encode()
    with files.write_atomically(path) as file:
        file.write(data)
