"""One look for every figure: colour-blind-safe (Okabe and Ito 2008), readable in print, no display needed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")


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


def save(chart: Figure, png: Path) -> None:
    """Write a PNG of fixed resolution; only a complete file ever bears the name."""
    fresh = png.with_name(f".{png.name}.new")
    chart.savefig(fresh, format="png", dpi=120)
    fresh.replace(png)
