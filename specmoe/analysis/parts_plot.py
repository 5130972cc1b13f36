"""Where the time of a step goes, measured and simulated."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from specmoe.analysis.fidelity import About, Judged, SideLike, caption, laid_out
from specmoe.analysis.fidelity_plot import rows_figure
from specmoe.analysis.latency_plot import NOTE, PARTS
from specmoe.analysis.style import describe, legend_below, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HEIGHT = 0.34  # of a bar, in rows


def plot_parts(cells: Sequence[Judged], png: Path, title: str, about: About) -> None:
    """Write `parts_figure` as a PNG."""
    save(parts_figure(cells, title, about), png)


def parts_figure(cells: Sequence[Judged], title: str, about: About) -> Figure:
    """Two bars for each cell, the measured one above the simulated, as shares of the measured mean step."""
    described = f"{caption(cells, about)}\nOf two bars the upper is measured, the lower simulated. {NOTE}"
    chart, axes = rows_figure(cells)
    rows = [(row, cell) for row, _, cell in laid_out(cells) if cell is not None]
    bars = [
        (row + shift * HEIGHT / 2, side, cell.measured.mean_ns)
        for row, cell in rows
        for shift, side in ((-1, cell.measured), (1, cell.simulated))
    ]
    lefts = [0.0] * len(bars)
    for part, look in PARTS.items():
        widths = [100 * _part(side, part) / whole for _, side, whole in bars]
        _bars(axes, [at for at, _, _ in bars], widths, lefts, {**look, "label": part})
        lefts = [left + width for left, width in zip(lefts, widths, strict=True)]
    axes.axvline(100, color="black", linewidth=0.7)
    axes.set(xlim=(0, max(105, 1.02 * max(lefts))), xlabel="share of the measured mean time of a step, %")
    legend_below(axes)
    describe(chart, title, described)
    return chart


def _part(side: SideLike, part: str) -> float:
    """Not below 0, as what is left for the host may be where little is."""
    value: float = getattr(side, f"{part}_ns")
    return max(0.0, value)


def _bars(axes: Any, at: list[float], widths: list[float], lefts: list[float], look: dict[str, Any]) -> None:
    axes.barh(at, widths, left=lefts, height=HEIGHT, edgecolor="white", linewidth=0.3, **look)
