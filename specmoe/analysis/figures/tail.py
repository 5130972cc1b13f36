"""How slow the slow steps are, by policy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from specmoe.analysis.comparison import MS, caption, ranked, three_digits, visible_limit, winner
from specmoe.analysis.figures.latency import YARDSTICKS, name_rows
from specmoe.analysis.figures.setting import NO_POLICY, Drawn, Setting, ms, times, titled
from specmoe.analysis.point import Point
from specmoe.analysis.style import COLOURS, figure, finish, legend_below, panel

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROW = 0.25  # inches a policy
MARKS: dict[str, dict[str, Any]] = {
    "p50": {"marker": "|", "color": "black", "markersize": 9, "markeredgewidth": 1.6},
    "p95": {"marker": "o", "color": COLOURS[0], "markersize": 5},
    "p99": {"marker": "D", "color": COLOURS[1], "markersize": 5},
    "max": {"marker": "x", "color": "0.35", "markersize": 5},
}


def of_tail(setting: Setting) -> Drawn | None:
    """A row for each policy, fastest on average first; None of a single policy."""
    points = ranked([cell.point for cell in setting.along()])
    if len(points) < 2:
        return None
    title = titled(_headline(points), setting.told())
    return Drawn("tail", title, _reading(points), _figure(points, title))


def _reading(points: Sequence[Point]) -> str:
    real = [point for point in points if not point.yardstick]
    best = winner(points)
    if best is None:
        return NO_POLICY
    steady = min(real, key=lambda point: (point.tail.p99, point.latency_ns, point.about.policy))
    text = (
        f"One step in a hundred of {best.about.policy}, the fastest on average, takes {ms(best.tail.p99)} or more, "
        f"{times(best.tail.p99 / best.tail.p50)} its median"
    )
    if steady is best:
        return f"{text}: no policy's 99th percentile is lower."
    return f"{text}; the lowest 99th percentile is that of {steady.about.policy}, {ms(steady.tail.p99)}."


def _headline(points: Sequence[Point]) -> str:
    real = [point for point in points if not point.yardstick]
    if not real:
        return NO_POLICY.removesuffix(".")
    steady = min(real, key=lambda point: (point.tail.p99, point.latency_ns, point.about.policy))
    return f"{steady.about.policy} has the lowest p99: {ms(steady.tail.p99)} per step"


def _figure(points: Sequence[Point], title: str) -> Figure:
    chart, axes = figure(1, 1, width=7.4, height=1.9 + ROW * len(points))
    draw_tail(points, axes)
    steps = min(point.steps for point in points)
    note = f"\np99 is decided by the slowest {max(1, round(steps / 100))} of {steps} steps."
    finish(chart, title, caption(points) + note + YARDSTICKS * any(point.yardstick for point in points))
    return chart


def draw_tail(points: Sequence[Point], ax: Axes | None = None) -> Axes:
    """Median, p95, p99 and maximum of each policy's steps, a row each, in the order of the points; on new Axes by
    default."""
    limit = 1.05 * visible_limit([point.tail.max for point in points]) / MS
    axes = panel(ax, 7.4, 1.9 + ROW * len(points))
    axes.set(xlim=(0, 1.12 * limit), ylim=(len(points) - 0.4, -0.6), xlabel="time per step, ms")
    axes.grid(axis="x", color="0.93")
    axes.set_axisbelow(True)
    for row, point in enumerate(points):
        _row(axes, row, point, limit)
    for name, look in MARKS.items():
        values = [getattr(point.tail, name) / MS for point in points]
        seen = [(value, row) for row, value in enumerate(values) if value <= limit]
        axes.plot(*zip(*seen, strict=True), linestyle="", label=name, **look)
    name_rows(axes, points, winner(points))
    legend_below(axes)
    return cast("Axes", axes)


def _row(axes: Any, row: int, point: Point, limit: float) -> None:
    """From the median to the slowest step; a value beyond the limit is written at the edge."""
    ends = point.tail.p50 / MS, point.tail.max / MS
    axes.plot([min(end, limit) for end in ends], [row, row], color="0.75", linewidth=1.4, zorder=1)
    if ends[1] > limit:
        hidden = [name for name in MARKS if getattr(point.tail, name) / MS > limit]
        told = ", ".join(f"{name} {three_digits(getattr(point.tail, name) / MS)}" for name in (hidden[0], hidden[-1]))
        text = f"{told if len(hidden) > 1 else told.split(', ')[0]} \N{RIGHTWARDS ARROW}"
        axes.annotate(text, (1.12 * limit, row), ha="right", va="center", fontsize=8, color="0.3")
