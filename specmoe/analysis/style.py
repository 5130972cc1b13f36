"""One look for every figure: colour-blind-safe (Okabe and Ito 2008), readable in print, no display needed.

Titles and captions of any length, broken into lines that the figure is wide enough for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from specmoe.files import replacing

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^v<>PX*hp"


@contextmanager
def plain_text() -> Iterator[None]:
    """A $ in a name is a $, not the begin of a formula, in all that is drawn inside the block."""
    import matplotlib as mpl

    with mpl.rc_context({"text.parse_math": False}):
        yield


def figure(rows: int, columns: int, width: float = 5.0, height: float = 3.4) -> tuple[Figure, Any]:
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


def describe(chart: Figure, title: str, caption: str) -> None:
    """A title above all panels, and below them in small print what was measured and how."""
    chart.suptitle(title, fontsize=11, weight="bold")
    chart.supxlabel(caption, fontsize=7, color="0.35", linespacing=1.4)


def legend_below(axes: Any, inches: float = 0.42) -> None:
    """A legend in one row, so far below the axes' lower edge."""
    from matplotlib.transforms import ScaledTranslation

    moved = axes.transAxes + ScaledTranslation(0, -inches, axes.figure.dpi_scale_trans)
    below: Any = {"loc": "upper center", "bbox_to_anchor": (0.5, 0), "bbox_transform": moved}
    axes.legend(frameon=False, ncols=5, fontsize=9, **below)


def save(chart: Figure, png: Path) -> None:
    """Write a PNG of fixed resolution; only a complete file ever bears the name."""
    with replacing(png) as fresh:
        chart.savefig(fresh, format="png", dpi=120)


KEPT = "\N{NO-BREAK SPACE}"
CAPTION, TITLE = 17.5, 10.5  # characters an inch, of the widths that `describe` writes in


def finish(chart: Figure, title: str, caption: str) -> None:
    """`describe` with both texts broken to the figure's width; line breaks that are there stay."""
    inches = float(chart.get_figwidth())
    describe(chart, broken(title, int(TITLE * inches)), broken(caption, int(CAPTION * inches)))


def broken(text: str, width: int) -> str:
    """The text in lines of at most so many characters, between words; a longer word stays whole.

    A number stays with its unit.
    """
    kept = re.sub(r"(?<=\d) (?=[A-Za-z%])", KEPT, text)
    lines = [wrap(line, width, break_long_words=False, break_on_hyphens=False) or [""] for line in kept.split("\n")]
    return "\n".join(line for part in lines for line in part).replace(KEPT, " ")
