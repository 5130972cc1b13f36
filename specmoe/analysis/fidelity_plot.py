"""How far simulated cells are from measured ones."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from specmoe.analysis.comparison import MS
from specmoe.analysis.fidelity import About, Judged, caption, grouped, held, laid_out
from specmoe.analysis.style import COLOURS, MARKERS, describe, figure, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROW = 0.14  # inches a row
BAND = 4  # percent: what the worst cell may err by
LINES = {-BAND: "--", -1: ":", 0: "-", 1: ":", BAND: "--"}  # percent
FILLED = "Filled: held out; hollow: constants were fitted on it."


def plot_prediction(cells: Sequence[Judged], png: Path, title: str, about: About) -> None:
    """Write `prediction_figure` as a PNG."""
    save(prediction_figure(cells, title, about), png)


def plot_errors(cells: Sequence[Judged], png: Path, title: str, about: About) -> None:
    """Write `errors_figure` as a PNG."""
    save(errors_figure(cells, title, about), png)


def prediction_figure(cells: Sequence[Judged], title: str, about: About) -> Figure:
    """Simulated against measured mean step, a mark for each cell, colour and shape by group."""
    from matplotlib.ticker import LogLocator

    described = f"{caption(cells, about)}\nLine: as measured; band: within {BAND} %. {FILLED}"
    chart, axes = figure(1, 1, width=8.2, height=5.2)
    times = [side.mean_ns / MS for cell in cells for side in (cell.measured, cell.simulated)]
    ends = [min(times) / 1.3, max(times) * 1.3]
    band = ([end * (1 + sign * BAND / 100) for end in ends] for sign in (-1, 1))
    axes.fill_between(ends, *band, color="0.85", linewidth=0)
    axes.plot(ends, ends, color="black", linewidth=0.8)
    for name, look in _looks(cells).items():
        _marks(axes, [(c.measured.mean_ns / MS, c.simulated.mean_ns / MS, c) for c in grouped(cells)[name]], look, name)
    axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends, aspect="equal")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")
    axes.set(xlabel="measured mean time of a step, ms", ylabel="simulated, ms")
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.01, 0.5))
    describe(chart, title, described)
    return chart


def errors_figure(cells: Sequence[Judged], title: str, about: About) -> Figure:
    """The error of each cell, sorted within its group, with a bar as wide as the spread of its repeats."""
    described = f"{caption(cells, about)}\nBars: spread of the repeats. Dotted: 1 %, dashed: {BAND} %. {FILLED}"
    chart, axes = rows_figure(cells)
    looks = _looks(cells)
    for row, _, cell in laid_out(cells):
        if cell is not None:
            name, width = cell.cell.group.name, 50 * cell.spread
            axes.errorbar(100 * cell.error, row, xerr=width, color=looks[name]["color"], elinewidth=1)
            _marks(axes, [(100 * cell.error, row, cell)], looks[name], None)
    for percent, style in LINES.items():
        axes.axvline(percent, color="black", linestyle=style, linewidth=0.7, zorder=0)
    far = max(1.2 * BAND, *(100 * abs(cell.error) + 50 * cell.spread + 0.4 for cell in cells))
    axes.set(xlim=(-far, far), xlabel="error of the mean time of a step, % (right: simulated is slower)")
    describe(chart, title, described)
    return chart


def rows_figure(cells: Sequence[Judged]) -> tuple[Figure, Any]:
    """A figure whose rows are those of `laid_out`, with their names."""
    rows = list(laid_out(cells))
    chart, axes = figure(1, 1, width=7.4, height=1.6 + ROW * len(rows))
    axes.set_ylim(len(rows) - 0.3, -0.7)
    axes.set_yticks(range(len(rows)), [text for _, text, _ in rows], fontsize=7)
    axes.tick_params(axis="y", length=0)
    for tick, (_, _, cell) in zip(axes.get_yticklabels(), rows, strict=True):
        tick.set_weight("bold" if cell is None else "normal")
    return chart, axes


def _looks(cells: Sequence[Judged]) -> dict[str, dict[str, Any]]:
    """Colour and shape of each group; more groups than colours differ in shape."""
    return {
        name: {"color": COLOURS[place % len(COLOURS)], "marker": MARKERS[place % len(MARKERS)]}
        for place, name in enumerate(grouped(cells))
    }


def _marks(axes: Any, points: Sequence[tuple[float, float, Judged]], look: dict[str, Any], name: str | None) -> None:
    """Marks of a group, hollow where constants were fitted; the legend shows the filled one."""
    for x, y, cell in points:
        inside = look["color"] if held(cell) else "white"
        axes.plot(x, y, **look, linestyle="", markersize=5, markerfacecolor=inside, zorder=3)
    if name is not None:
        axes.plot([], [], **look, linestyle="", markersize=5, label=name)
