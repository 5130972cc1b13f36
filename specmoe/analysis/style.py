"""The look that all figures share: colours (Okabe and Ito 2008, colour-blind-safe), titles, captions, PNG files.

Titles and captions are broken into lines as wide as the figure. No display is needed.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from specmoe.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^v<>PX*hp"


@contextmanager
def plain_text() -> Iterator[None]:
    """Figures drawn in this block show a $ in a name as it is, not as the start of a formula."""
    import matplotlib as mpl

    with mpl.rc_context({"text.parse_math": False}):
        yield


def figure(rows: int, columns: int, width: float = 5.0, height: float = 3.4) -> "tuple[Figure, Any]":
    """A figure of `rows` by `columns` panels, each `width` by `height` inches with its axes, as `subplots`."""
    import matplotlib as mpl
    from cycler import cycler
    from matplotlib.figure import Figure

    look: Any = {
        "axes.prop_cycle": cycler(color=COLOURS),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "font.size": 9,
    }
    with mpl.rc_context(look):
        chart = Figure(figsize=(width * columns, height * rows), layout="constrained")
        return chart, chart.subplots(rows, columns)


def panel(ax: "Axes | None", width: float, height: float) -> Any:
    """The Axes to draw on. Default: those of a new figure, in inches.

    The result is typed Any, since matplotlib's types lack some methods of Axes.
    """
    return figure(1, 1, width, height)[1] if ax is None else ax


def describe(chart: "Figure", title: str, caption: str) -> None:
    """Write a title above all panels and a caption in small print below them."""
    chart.suptitle(title, fontsize=11, weight="bold")
    chart.supxlabel(caption, fontsize=7, color="0.35", linespacing=1.4)


def legend_below(axes: Any, inches: float = 0.42) -> None:
    """Place a legend in one row, some inches below the axes' lower edge."""
    from matplotlib.transforms import ScaledTranslation

    moved = axes.transAxes + ScaledTranslation(0, -inches, axes.figure.dpi_scale_trans)
    below: Any = {"loc": "upper center", "bbox_to_anchor": (0.5, 0), "bbox_transform": moved}
    axes.legend(frameon=False, ncols=5, fontsize=9, **below)


def save(chart: "Figure", png: Path) -> None:
    """Write a PNG of 120 dpi, whole or not at all."""
    with replacing(png) as fresh:
        chart.savefig(fresh, format="png", dpi=120)


KEPT = "\N{NO-BREAK SPACE}"
CAPTION, TITLE = 17.5, 10.5  # characters an inch, of the widths that `describe` writes in


def finish(chart: "Figure", title: str, caption: str) -> None:
    """`describe` with both texts broken to the figure's width; their own line breaks stay."""
    inches = float(chart.get_figwidth())
    describe(chart, broken(title, int(TITLE * inches)), broken(caption, int(CAPTION * inches)))


def broken(text: str, width: int) -> str:
    """The text in lines of at most `width` characters, broken between words, never between a number and its unit."""
    kept = re.sub(r"(?<=\d) (?=[A-Za-z%])", KEPT, text)
    lines = [wrap(line, width, break_long_words=False, break_on_hyphens=False) or [""] for line in kept.split("\n")]
    return "\n".join(line for part in lines for line in part).replace(KEPT, " ")
