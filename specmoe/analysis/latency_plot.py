"""Which policy is fastest, by how much, where its time goes, and how far it is from the best possible."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from specmoe.analysis.comparison import (
    MS,
    bounds_of,
    caption,
    parts_within,
    ranked,
    three_digits,
    visible_limit,
    winner,
)
from specmoe.analysis.point import Point
from specmoe.analysis.style import COLOURS, figure, legend_below, save
from specmoe.analysis.wrapping import finish

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROW = 0.27  # inches a bar
PARTS: dict[str, dict[str, Any]] = {  # dark, hatched, light: they differ in grey too
    "compute": {"color": COLOURS[0]},
    "stall": {"color": COLOURS[1], "hatch": "////"},
    "host": {"color": "0.8"},
}
NOTE = "Stall: the compute stream waits for loads; host: it waits for the host thread."
YARDSTICKS = " In italics: yardsticks (all resident, pre-gated, or they peek)."
BACKING = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
LINES: dict[str, dict[str, Any]] = {  # the side of the line that its label stands on, and the label's row
    "floor": {"linestyle": ":", "ha": "right", "row": 0},
    "oracle": {"linestyle": "--", "ha": "left", "row": 0},
    "ceiling": {"linestyle": "-.", "ha": "right", "row": 1},
}


def plot_latency(points: Sequence[Point], png: Path, title: str) -> None:
    """Write `latency_figure` as a PNG."""
    save(latency_figure(points, title), png)


def latency_figure(points: Sequence[Point], title: str) -> Figure:
    """A bar for each policy, fastest first: compute, stall and host, beside the bounds.

    Bars of policies much slower than the rest (`visible_limit`) are cut; the numbers at their ends are not.
    """
    order = ranked(points)
    described = f"{caption(order)}\n{NOTE}{YARDSTICKS * any(point.yardstick for point in order)}"
    bounds = bounds_of(order)
    limit = 1.05 * visible_limit([*(point.latency_ns for point in order), *bounds.values()])
    chart, axes = figure(1, 1, width=7.4, height=1.9 + ROW * len(order))
    axes.set(xlim=(0, 1.12 * limit / MS), ylim=(len(order) - 0.4, -0.6), xlabel="mean time of a step, ms")
    _bars(axes, order, limit)
    name_rows(axes, order, winner(order))
    for row, point in enumerate(order):
        _number(axes, row, point, limit, point is winner(order))
    for name, value in bounds.items():
        if not math.isnan(value):
            _bound(axes, name, value, limit)
    legend_below(axes)
    finish(chart, title, described)
    return chart


def _bars(axes: Any, order: Sequence[Point], limit: float) -> None:
    """One container of bars for each of `PARTS`."""
    lefts = [0.0] * len(order)
    for column, (part, look) in enumerate(PARTS.items()):
        widths = [parts_within(point, limit)[column] / MS for point in order]
        axes.barh(range(len(order)), widths, left=lefts, height=0.72, label=part, edgecolor="white", **look)
        lefts = [left + width for left, width in zip(lefts, widths, strict=True)]


def name_rows(axes: Any, order: Sequence[Point], best: Point | None) -> None:
    """Policies at the rows: the best in bold, yardsticks in italics."""
    axes.set_yticks(range(len(order)), [point.about.policy for point in order])
    axes.tick_params(axis="y", length=0)
    for label, point in zip(axes.get_yticklabels(), order, strict=True):
        label.set(weight="bold" if point is best else "normal", style="italic" if point.yardstick else "normal")


def _number(axes: Any, row: int, point: Point, limit: float, best: bool) -> None:
    """What `end_text` says at the bar's end, and a mark where the bar is cut."""
    look: Any = {"textcoords": "offset points", "va": "center", "fontsize": 9, "bbox": BACKING}
    end = min(point.latency_ns, limit) / MS
    axes.annotate(end_text(point, limit, best), (end, row), (4, 0), weight="bold" if best else "normal", **look)
    if point.latency_ns > limit:
        axes.annotate("//", (end, row), (-16, 0), **look)


def end_text(point: Point, limit: float, best: bool) -> str:
    """The latency; the winner's also in units of the oracle's, and of a cut bar what cannot be seen."""
    text = f"{three_digits(point.latency_ns / MS)} ms"
    ratio = point.latency_ns / point.bound_ns("oracle")
    if best and not math.isnan(ratio):
        text += f", fastest: {three_digits(ratio)} x the oracle"
    if point.latency_ns > limit:
        text += f" ({100 * point.stall_ns / point.latency_ns:.0f} % stall)"
    return text


def _bound(axes: Any, name: str, value: float, limit: float) -> None:
    """A labelled vertical line, or at the edge a label alone if the line is beyond it."""
    look = LINES[name]
    text = f" {name} {three_digits(value / MS)} "
    if value <= limit:
        axes.axvline(value / MS, linestyle=look["linestyle"], color="black", linewidth=1)
    else:
        text += "\N{RIGHTWARDS ARROW} "
    place = (min(value, limit) / MS, 1)
    offset = (0, 2 + 11 * look["row"])
    axes.annotate(text, place, offset, axes.get_xaxis_transform(), "offset points", ha=look["ha"], fontsize=8)
