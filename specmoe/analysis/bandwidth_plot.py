"""Which policy pays for its hits with wasted copies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from specmoe.analysis.comparison import caption
from specmoe.analysis.naming import name_points
from specmoe.analysis.point import Point
from specmoe.analysis.style import COLOURS, figure, legend_below, save
from specmoe.analysis.wrapping import finish

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NOTE = "Yardsticks hold every expert, need a pre-gated model, or peek."
KINDS: dict[str, dict[str, Any]] = {
    "prefetches": {"marker": "o", "color": COLOURS[0], "markeredgecolor": "white"},
    "loads on demand only": {"marker": "s", "color": COLOURS[1], "markeredgecolor": "white"},
    "yardstick": {"marker": "D", "color": "black", "markerfacecolor": "white"},
}


def plot_bandwidth(points: Sequence[Point], png: Path, title: str) -> None:
    """Write `bandwidth_figure` as a PNG."""
    save(bandwidth_figure(points, title), png)


def bandwidth_figure(points: Sequence[Point], title: str) -> Figure:
    """A labelled point for each policy: its hits against the share of the loaded bytes that served a demand.

    Low at the right, a policy waits for its loads; high at the left, it pays for its hits with wasted copies.
    """
    described = f"{caption(points)}\n{NOTE * any(point.yardstick for point in points)}".strip()
    order = sorted(points, key=lambda point: (-point.hit_rate, point.useful_share, point.about.policy))
    chart, axes = figure(1, 1, width=7.4, height=4.8)
    axes.set(
        xlim=(-3, 124),
        ylim=(-5, 105),
        xticks=range(0, 101, 20),
        xlabel="useful bytes of all bytes loaded, %",
        ylabel="hit rate, %",
    )
    axes.grid(color="0.92")
    axes.set_axisbelow(True)
    for kind, look in KINDS.items():
        group = [_percent(point) for point in order if kind_of(point) == kind]
        if group:
            axes.plot(*zip(*group, strict=True), linestyle="", label=kind, **look)
    legend_below(axes)
    finish(chart, title, described)
    name_points(chart, axes, [point.about.policy for point in order], list(map(_percent, order)))
    return chart


def kind_of(point: Point) -> str:
    """One of `KINDS`."""
    prefetching, demand_only, yardstick = KINDS
    if point.yardstick:
        return yardstick
    return prefetching if point.prefetches else demand_only


def _percent(point: Point) -> tuple[float, float]:
    return 100 * point.useful_share, 100 * point.hit_rate
