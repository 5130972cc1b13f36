"""How precise prefetching must be to pay: the noisy oracle with one assumed precision after the other."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from specmoe.analysis.break_even_plot import MARKS
from specmoe.analysis.changes import shown
from specmoe.analysis.comparison import caption, ranked
from specmoe.analysis.figures.drawn import Drawn
from specmoe.analysis.figures.link import link_column
from specmoe.analysis.figures.setting import Setting, order
from specmoe.analysis.figures.slices import Cell
from specmoe.analysis.figures.words import titled
from specmoe.analysis.lines import LOOKS, Line, legend_beside
from specmoe.analysis.naming import name_points
from specmoe.analysis.point import Point
from specmoe.analysis.style import figure
from specmoe.analysis.wrapping import finish
from specmoe.sweep_table import SET

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ASSUMED = f"{SET}predictor.assumed_precision"
GUESSING, COMPARED = "noisy-oracle", "on-demand-lru"  # the same slots, the same LRU: they differ in guesses alone


def of_precision(setting: Setting) -> Drawn | None:
    """A line for each link, the policies' own precisions beside; None unless an assumed precision varies."""
    here = [cell.point for cell in setting.along() if cell.policy == COMPARED]
    if ASSUMED not in setting.varying or not here:
        return None
    column = link_column(setting)
    links = [None] if column is None else sorted({cell.where[column] for cell in setting.cells}, key=order)
    lines = [line for value in links if len((line := _line(setting, column, value)).x) > 1]
    if not lines:
        return None
    free = (ASSUMED,) if column is None else (ASSUMED, column)
    title = titled("How precise prefetching must be to pay", setting.told(*free))
    return Drawn("precision", title, _reading(lines), _figure(setting, lines, column, here[0], title))


def spread_out(lines: Sequence[Line], most: int) -> list[Line]:
    """At most so many of the lines, the first and the last among them."""
    if len(lines) <= most:
        return list(lines)
    return [lines[round(place * (len(lines) - 1) / (most - 1))] for place in range(most)]


def crossing(line: Line) -> float | None:
    """Where the last gain above 0 begins, between points by a straight line; None if it does not or always does."""
    losing = [place for place, gain in enumerate(line.y) if gain <= 0]
    if not losing or losing[-1] == len(line.y) - 1:
        return None
    (x0, y0), (x1, y1) = list(pairwise(zip(line.x, line.y, strict=True)))[losing[-1]]
    return x0 + (x1 - x0) * -y0 / (y1 - y0)


def _line(setting: Setting, column: str | None, value: Any) -> Line:
    """Gain, %, over loading on demand, by the precision that the guesses' prefetches had, %."""
    at = {} if column is None else {column: value}
    cells = setting.along(ASSUMED, **at)
    base = [cell.point.latency_ns for cell in cells if cell.policy == COMPARED]
    found = sorted(
        (100 * cell.point.precision, 100 * (base[0] / cell.point.latency_ns - 1))
        for cell in cells
        if cell.policy == GUESSING and cell.point.precision is not None and base
    )
    return Line(
        "noisy oracle" if column is None else _link(column, value), [x for x, _ in found], [y for _, y in found]
    )


def _link(column: str, value: Any) -> str:
    """A link as the legend has it."""
    if value is None:
        return "the profile's own link"
    return shown(column, value).partition("=")[2] or f"link x {value:.4g}"


def _reading(lines: Sequence[Line]) -> str:
    said = []
    for line in lines:
        at = crossing(line)
        where = f" ({line.name})" if len(lines) > 1 else ""
        if at is not None:
            said.append(f"above {at:.0f} %{where}")
        else:
            said.append(f"{'at any precision' if line.y[-1] > 0 else 'at none'}{where}")
    return f"Prefetching one expert ahead pays {'; '.join(said)}."


def _figure(setting: Setting, lines: Sequence[Line], column: str | None, base: Point, title: str) -> Figure:
    cells = _policies(setting)
    chosen = spread_out(lines, len(LOOKS))
    chart, axes = figure(1, 1, width=7.4, height=4.6)
    for line, look in zip(chosen, LOOKS, strict=False):
        axes.plot(line.x, line.y, label=line.name, **look)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.grid(color="0.93")
    axes.set_axisbelow(True)
    at = [(100 * (c.point.precision or 0), 100 * (base.latency_ns / c.point.latency_ns - 1)) for c in cells]
    if at:
        name = "policies" if column is None else f"policies ({_link(column, setting.main[column])})"
        axes.plot(*zip(*at, strict=True), linestyle="", marker="D", color="black", markersize=4, label=name)
    axes.set(xlim=(-3, 103), xlabel="used of the prefetched experts, %", ylabel=f"speed-up over {COMPARED}, %")
    crossed = [(found, 0.0) for line in chosen if (found := crossing(line)) is not None]
    for x, _ in crossed:
        axes.plot(x, 0, marker="o", markersize=9, markerfacecolor="none", color="black")
    legend_beside(axes)
    note = "\nLines: guesses of an assumed precision, one expert ahead, in the same LRU slots; rings: break-even."
    note += f" Shown: {len(chosen)} of {len(lines)} links." * (len(chosen) < len(lines))
    used = [
        cell.point for cell in setting.along(ASSUMED, *filter(None, [column])) if cell.policy in (COMPARED, GUESSING)
    ]
    finish(chart, title, caption(used) + note)
    drawn = [point for line in chosen for point in zip(line.x, line.y, strict=True)]
    name_points(
        chart, axes, [f"{x:.0f} %" for x, _ in crossed] + [cell.policy for cell in cells], [*crossed, *at], drawn
    )
    return chart


def _policies(setting: Setting) -> list[Cell]:
    """The fastest that prefetch, yardsticks aside."""
    cells = [c for c in setting.along() if c.point.precision is not None and not c.point.yardstick]
    fastest = [id(point) for point in ranked([cell.point for cell in cells])[:MARKS]]
    return [cell for cell in cells if id(cell.point) in fastest]
