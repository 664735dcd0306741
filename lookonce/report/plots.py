"""The pies of figure 1.4 and precision over recall as PNG files, for papers and slides."""

from __future__ import annotations

import io
import math
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lookonce import files
from lookonce.errors import EngineError, shown
from lookonce.report.contents import PARTS, Curve, Shares, average

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#009e73", "#e69f00", "#56b4e9", "#cc79a7", "#d5491b", "#9aa1ab")        # of PARTS
DPI = 150
COLUMNS = 5                  # of small pies
MOST_NAMED = 20              # curves that get a line in the legend
LONGEST_NAME = 30


def error_pies(errors: tuple[Shares, ...], path: Path) -> int:
    """Figure 1.4 as a PNG: the mean of the classes large, below it one small pie a class. Returns its bytes.

    Raises EngineError if matplotlib is not installed, DataError if no file can be written.
    """
    rows = math.ceil(len(errors) / COLUMNS)
    figure = empty(2 * COLUMNS, 4 + 2.2 * rows)
    upper, lower = figure.subfigures(2, 1, squeeze=False, height_ratios=(4, max(2.2 * rows, 0.1))).flat
    mean = average(errors)
    axes = upper.subplots()
    _pie(axes, mean)
    if mean is not None:
        lines = [f"{part} {share:.1%}" for part, share in zip(PARTS, mean.parts, strict=True)]
        axes.legend(axes.patches, lines, loc="center left", bbox_to_anchor=(1.05, 0.5), frameon=False)
    places = lower.subplots(rows, COLUMNS, squeeze=False).flat if rows else ()
    for number, axes in enumerate(places):
        if number < len(errors):
            _pie(axes, errors[number])
            axes.set_title(shown(errors[number].name, LONGEST_NAME), fontsize=9)
        else:
            axes.set_axis_off()
    return _save(figure, path)


def curves(each: tuple[Curve, ...], overall: Curve | None, path: Path) -> int:
    """Precision over recall as a PNG: the classes thin, `overall` thick. Returns its bytes.

    Above MOST_NAMED classes only `overall` is named. Raises EngineError if matplotlib is not installed, DataError if
    no file can be written.
    """
    figure = empty(8, 5)
    import matplotlib as mpl

    axes = figure.subplots()
    named = each if len(each) <= MOST_NAMED else ()
    axes.set_prop_cycle(color=[mpl.colormaps["tab20"](number) for number in range(MOST_NAMED)])
    alpha = 0.9 if named else 0.3
    lines = [axes.plot(curve.recall, curve.precision, linewidth=1, alpha=alpha)[0] for curve in each]
    handles = [(line, curve.name) for line, curve in zip(lines, named, strict=False)]
    if overall is not None:
        thick = axes.plot(overall.recall, overall.precision, linewidth=3, color="black")[0]
        handles.insert(0, (thick, overall.name))
    axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision")
    axes.grid(alpha=0.3)
    if handles:
        # A name that begins with an underscore would be left out.
        names = ["\u200b" + shown(name, LONGEST_NAME) if name.startswith("_") else shown(name, LONGEST_NAME)
                 for _, name in handles]                                                        # fmt: skip
        axes.legend([line for line, _ in handles], names, loc="center left", bbox_to_anchor=(1.02, 0.5), frameon=False,
                    fontsize=8)                                                                 # fmt: skip
    return _save(figure, path)


def _pie(axes: Axes, shares: Shares | None) -> None:
    """One pie, clockwise from the top; an empty circle where nothing is known."""
    known = shares is not None and all(math.isfinite(part) for part in shares.parts) and sum(shares.parts) > 0
    parts = [max(part, 0) for part in shares.parts] if shares is not None and known else [1.0]
    edge: dict[str, Any] = {"edgecolor": "white" if known else "grey", "linewidth": 0.5}
    axes.pie(parts, colors=COLOURS if known else ("white",), startangle=90, counterclock=False, wedgeprops=edge)


def empty(wide: float, high: float) -> Figure:
    """An empty figure in inches. It draws by itself: no window system is asked, and pyplot's state stays as it is."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise EngineError("plots need matplotlib: `pip install matplotlib` brings it") from None
    return Figure(figsize=(wide, high), dpi=DPI, layout="constrained")


def png(figure: Figure) -> bytes:
    """A figure as a PNG file."""
    import matplotlib as mpl
    from matplotlib.text import Text

    for text in figure.findobj(Text):
        assert isinstance(text, Text)
        text.set_parse_math(False)                          # a name may hold dollar signs
    buffer = io.BytesIO()
    with warnings.catch_warnings(), mpl.rc_context({"font.family": "sans-serif"}):
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)             # a box is drawn in its place
        figure.savefig(buffer, format="png", bbox_inches="tight")
    return buffer.getvalue()


def _save(figure: Figure, path: Path) -> int:
    data = png(figure)
    with files.write_atomically(path) as file:
        file.write(data)
    return len(data)
