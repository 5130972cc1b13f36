"""How good guesses must be for prefetching to pay, over the bandwidth of the link."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from specmoe.analysis.style import COLOURS, describe, figure, save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GB = 1e9
MARKS = 8  # policies named at most; more would not be legible
APART = 4.0  # % between two names
TICKS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 1000)  # GB/s

CurvePoints = Sequence[tuple[float, float | None]]
Summaries = Sequence[dict[str, Any]]


def plot_break_even(points: CurvePoints, own: float | None, summaries: Summaries, png: Path) -> None:
    """Write `break_even_figure` as a PNG."""
    save(break_even_figure(points, own, summaries), png)


def break_even_figure(points: CurvePoints, own: float | None, summaries: Summaries) -> Figure:
    """Break-even precision over the link's bandwidth, B/s; `points` are evenly spaced around the machine's own.

    `own` is that of the machine. Horizontal marks are the precisions that policies reached, of `summaries`. Where
    prefetching pays at any precision or at none, the line ends.
    """
    middle = points[len(points) // 2][0] / GB
    ends = points[0][0] / GB, points[-1][0] / GB
    known = [(bandwidth / GB, 100 * precision) for bandwidth, precision in points if precision is not None]
    chart, axes = figure(1, 1, width=7.4, height=4.4)
    axes.set(xscale="log", xlim=ends, ylim=(0, 100), xlabel="bandwidth of the link, GB/s")
    axes.set_ylabel("used of the prefetched experts, %")
    _ticks(axes, ends)
    axes.grid(color="0.92")
    axes.set_axisbelow(True)
    if known:
        x, y = zip(*known, strict=True)
        axes.fill_between(x, y, 100, color=COLOURS[2], alpha=0.10, linewidth=0)
        axes.fill_between(x, 0, y, color=COLOURS[1], alpha=0.10, linewidth=0)
        corner: Any = {"transform": axes.transAxes, "fontsize": 9, "style": "italic", "ha": "right"}
        axes.text(0.98, 0.93, "prefetching pays", color=COLOURS[2], **corner)
        axes.text(0.98, 0.03, "prefetching costs more than it saves", color=COLOURS[1], **corner)
        axes.plot(x, y, color=COLOURS[0], marker="o", markeredgecolor="white", linewidth=2, zorder=3, clip_on=False)
    axes.axvline(middle, color="0.35", linestyle=":", linewidth=1.2)
    _name_own(axes, str(summaries[0]["profile"]), middle, own)
    _mark(axes, summaries)
    slots = min(int(row["slots"]) for row in summaries)
    describe(chart, "How precise prefetching must be to pay", _caption(summaries[0], slots))
    return chart


def marks(summaries: Summaries) -> list[tuple[str, float]]:
    """Name and precision, %, of the fastest policies that prefetch, yardsticks aside; best precision first."""
    real = [row for row in summaries if row["precision"] is not None and not row["yardstick"]]
    fastest = sorted(real, key=lambda row: (row["latency_ns"]["mean"], row["policy"]))[:MARKS]
    named = [(str(row["policy"]), 100 * float(row["precision"])) for row in fastest]
    return sorted(named, key=lambda mark: (-mark[1], mark[0]))


def spread(heights: Sequence[float], apart: float = APART) -> list[float]:
    """Heights of names, highest first, moved as little down (and, at the floor, up) as keeps them apart."""
    placed: list[float] = []
    for height in heights:
        placed.append(min(height, placed[-1] - apart) if placed else height)
    floor = 0.0
    for place in reversed(range(len(placed))):
        placed[place] = max(placed[place], floor)
        floor = placed[place] + apart
    return placed


def _mark(axes: Any, summaries: Summaries) -> None:
    """A line at each precision, named outside at the right."""
    found = marks(summaries)
    for (name, precision), height in zip(found, spread([mark[1] for mark in found]), strict=True):
        axes.axhline(precision, color="0.55", linewidth=0.8, linestyle="--", zorder=1)
        look: Any = {"xycoords": axes.get_yaxis_transform(), "textcoords": axes.get_yaxis_transform()}
        line = {"arrowstyle": "-", "color": "0.55", "linewidth": 0.7, "shrinkA": 0, "shrinkB": 0}
        where: Any = {"fontsize": 8, "va": "center", "color": "0.25", "annotation_clip": False}
        axes.annotate(f"{name} {precision:.0f} %", (1, precision), (1.03, height), arrowprops=line, **look, **where)


def _name_own(axes: Any, profile: str, bandwidth: float, own: float | None) -> None:
    """The machine, at the top of its bandwidth's line; and its point of the curve."""
    note = f"{profile}\n{bandwidth:.3g} GB/s" + ("" if own is None else f": {100 * own:.0f} %")
    look: Any = {"textcoords": "offset points", "fontsize": 9, "weight": "bold", "color": COLOURS[0], "va": "top"}
    axes.annotate(note, (bandwidth, 100), (6, -6), **look)
    if own is not None:
        axes.plot(bandwidth, 100 * own, color=COLOURS[0], marker="o", markersize=9, markeredgecolor="white", zorder=4)


def _ticks(axes: Any, ends: tuple[float, float]) -> None:
    shown = [tick for tick in TICKS if ends[0] <= tick <= ends[1]]
    axes.set_xticks(shown, [str(tick) for tick in shown])
    axes.set_xticks([], minor=True)


def _caption(row: dict[str, Any], slots: int) -> str:
    return (
        "Line: guesses of this precision, one expert ahead, are as fast as an LRU that loads on demand; above it "
        "prefetching pays.\nDashed: what policies reached here. Routing: "
        f"{row['trace']} ({row['trace_kind']}), {row['phase']}, {row['steps']} steps of batch {row['batch']}.\n"
        f"Timing: {row['shape']} in {row['format']}, {slots} slots, on {row['profile']} with other links "
        f"(evidence: {row['evidence']})."
    )
