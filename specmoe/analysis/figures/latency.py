"""Latency by policy: mean steps beside the bounds, slow steps (p95, p99), and copies that hits cost."""

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from specmoe.analysis import point as measures
from specmoe.analysis.figures.setting import NO_POLICY, Drawn, Setting, ms, percent, times, titled
from specmoe.analysis.style import COLOURS, figure, finish, legend_below, name_points, panel, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ROW = 0.27  # inches a bar
PARTS: dict[str, dict[str, Any]] = {  # dark, hatched, light: they differ in grey too
    "compute": {"color": COLOURS[0]},
    "stall": {"color": COLOURS[1], "hatch": "////"},
    "host": {"color": "0.8"},
}
NOTE = "Stall: the GPU waits for expert loads. Host: the GPU waits for the host thread."
YARDSTICKS = " Italics: yardsticks, which hold every expert, need a pre-gated model or know the future."
BACKING = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
LINES: dict[str, dict[str, Any]] = {  # the side of the line that its label stands on, and the label's row
    "floor": {"linestyle": ":", "ha": "right", "row": 0},
    "oracle": {"linestyle": "--", "ha": "left", "row": 0},
    "ceiling": {"linestyle": "-.", "ha": "right", "row": 1},
}


def plot_latency(points: Sequence[measures.Point], png: Path, title: str) -> None:
    """Write `latency_figure` as a PNG."""
    save(latency_figure(points, title), png)


def latency_figure(points: Sequence[measures.Point], title: str) -> "Figure":
    """A bar for each policy, fastest first: compute, stall and host, beside the bounds.

    Bars of policies much slower than the rest (`visible_limit`) are cut; the numbers at their ends are not.
    """
    order = measures.ranked(points)
    yardsticks = YARDSTICKS * any(point.yardstick for point in order)
    described = f"{measures.caption(order)}{measures.whiskers(order)}\n{NOTE}{yardsticks}"
    chart, axes = figure(1, 1, width=7.4, height=1.9 + ROW * len(order))
    draw_latency(order, axes)
    legend_below(axes)
    finish(chart, title, described)
    return chart


def draw_latency(points: Sequence[measures.Point], ax: "Axes | None" = None) -> "Axes":
    """The bars and bounds of `latency_figure` on Axes, without title and caption; on new Axes by default."""
    order = measures.ranked(points)
    bounds = measures.bounds_of(order)
    limit = 1.05 * measures.visible_limit([*(point.range_ns[1] for point in order), *bounds.values()])
    axes = panel(ax, 7.4, 1.9 + ROW * len(order))
    axes.set(xlim=(0, 1.12 * limit / measures.MS), ylim=(len(order) - 0.4, -0.6), xlabel="mean time per step, ms")
    _bars(axes, order, limit)
    name_rows(axes, order, measures.winner(order))
    for row, point in enumerate(order):
        _whisker(axes, row, point, limit)
        _number(axes, row, point, limit, point is measures.winner(order))
    for name, value in bounds.items():
        if not math.isnan(value):
            _bound(axes, name, value, limit)
    return cast("Axes", axes)


def _bars(axes: Any, order: Sequence[measures.Point], limit: float) -> None:
    """One container of bars for each of `PARTS`."""
    lefts = [0.0] * len(order)
    for column, (part, look) in enumerate(PARTS.items()):
        widths = [measures.parts_within(point, limit)[column] / measures.MS for point in order]
        axes.barh(range(len(order)), widths, left=lefts, height=0.72, label=part, edgecolor="white", **look)
        lefts = [left + width for left, width in zip(lefts, widths, strict=True)]


def name_rows(axes: Any, order: Sequence[measures.Point], best: measures.Point | None) -> None:
    """Policies at the rows: the best in bold, yardsticks in italics."""
    axes.set_yticks(range(len(order)), [point.about.policy for point in order])
    axes.tick_params(axis="y", length=0)
    for label, point in zip(axes.get_yticklabels(), order, strict=True):
        label.set(weight="bold" if point is best else "normal", style="italic" if point.yardstick else "normal")


def _whisker(axes: Any, row: int, point: measures.Point, limit: float) -> None:
    """A line from the faster to the slower end of the drawn machines, as far as it is seen."""
    low, high = (min(end, limit) / measures.MS for end in point.range_ns)
    if low < high:
        axes.plot([low, high], [row, row], color="black", marker="|", markersize=7, linewidth=1.2, label="_")


def _number(axes: Any, row: int, point: measures.Point, limit: float, best: bool) -> None:
    """What `end_text` says at the bar's end, and a mark where the bar is cut."""
    look: Any = {"textcoords": "offset points", "va": "center", "fontsize": 9, "bbox": BACKING}
    end = min(max(point.latency_ns, point.range_ns[1]), limit) / measures.MS
    axes.annotate(end_text(point, limit, best), (end, row), (4, 0), weight="bold" if best else "normal", **look)
    if point.latency_ns > limit:
        axes.annotate("//", (end, row), (-16, 0), **look)


def end_text(point: measures.Point, limit: float, best: bool) -> str:
    """The latency; the winner's also in units of the oracle's, and of a cut bar what cannot be seen."""
    text = f"{measures.three_digits(point.latency_ns / measures.MS)} ms"
    ratio = point.latency_ns / point.bound_ns("oracle")
    if best and not math.isnan(ratio):
        text += f", {measures.three_digits(ratio)} x the oracle"
    if point.latency_ns > limit:
        text += f" ({100 * point.stall_ns / point.latency_ns:.0f} % stall)"
    return text


def _bound(axes: Any, name: str, value: float, limit: float) -> None:
    """A labelled vertical line, or at the edge a label alone if the line is beyond it."""
    look = LINES[name]
    text = f" {name} {measures.three_digits(value / measures.MS)} "
    if value <= limit:
        axes.axvline(value / measures.MS, linestyle=look["linestyle"], color="black", linewidth=1)
    else:
        text += "\N{RIGHTWARDS ARROW} "
    place = (min(value, limit) / measures.MS, 1)
    offset = (-2 if look["ha"] == "right" else 2, 2 + 11 * look["row"])  # of close lines the labels stay apart
    axes.annotate(text, place, offset, axes.get_xaxis_transform(), "offset points", ha=look["ha"], fontsize=8)


COPIES_NOTE = "Yardsticks hold every expert, need a pre-gated model or know the future."
KINDS: dict[str, dict[str, Any]] = {
    "prefetches": {"marker": "o", "color": COLOURS[0], "markeredgecolor": "white"},
    "loads on demand only": {"marker": "s", "color": COLOURS[1], "markeredgecolor": "white"},
    "yardstick": {"marker": "D", "color": "black", "markerfacecolor": "white"},
}


def plot_bandwidth(points: Sequence[measures.Point], png: Path, title: str) -> None:
    """Write `bandwidth_figure` as a PNG."""
    save(bandwidth_figure(points, title), png)


def bandwidth_figure(points: Sequence[measures.Point], title: str) -> "Figure":
    """A labelled point for each policy: its hits against the share of the loaded bytes that served a demand.

    Low at the right, a policy waits for its loads; high at the left, it pays for its hits with wasted copies.
    """
    described = f"{measures.caption(points)}\n{COPIES_NOTE * any(point.yardstick for point in points)}".strip()
    chart, axes = figure(1, 1, width=7.4, height=4.8)
    _copies(points, axes)
    finish(chart, title, described)
    _name_policies(points, axes)
    return chart


def draw_copies(points: Sequence[measures.Point], ax: "Axes | None" = None) -> "Axes":
    """The labelled points of `bandwidth_figure` on Axes, without title and caption; on new Axes by default."""
    axes = panel(ax, 7.4, 4.8)
    _copies(points, axes)
    _name_policies(points, axes)
    return cast("Axes", axes)


def _copies(points: Sequence[measures.Point], axes: Any) -> None:
    axes.set(
        xlim=(-3, 124),
        ylim=(-5, 105),
        xticks=range(0, 101, 20),
        xlabel="share of the loaded bytes that were used, %",
        ylabel="hit rate, %",
    )
    axes.grid(color="0.92")
    axes.set_axisbelow(True)
    for kind, look in KINDS.items():
        group = [_percent(point) for point in _by_hits(points) if kind_of(point) == kind]
        if group:
            axes.plot(*zip(*group, strict=True), linestyle="", label=kind, **look)
    legend_below(axes)


def _by_hits(points: Sequence[measures.Point]) -> list[measures.Point]:
    return sorted(points, key=lambda point: (-point.hit_rate, point.useful_share, point.about.policy))


def _name_policies(points: Sequence[measures.Point], axes: Any) -> None:
    order = _by_hits(points)
    name_points(axes.figure, axes, [point.about.policy for point in order], list(map(_percent, order)))


def kind_of(point: measures.Point) -> str:
    """One of `KINDS`."""
    prefetching, demand_only, yardstick = KINDS
    if point.yardstick:
        return yardstick
    return prefetching if point.prefetches else demand_only


def _percent(point: measures.Point) -> tuple[float, float]:
    return 100 * point.useful_share, 100 * point.hit_rate


def of_latency(setting: Setting) -> Drawn | None:
    """Stacked bars of compute, stall and host; None of a single policy."""
    points = [cell.point for cell in setting.along()]
    if len(points) < 2:
        return None
    title = titled(headline(points), setting.told())
    return Drawn("latency", title, fastest(points), latency_figure(points, title))


def of_copies(setting: Setting) -> Drawn | None:
    """Hit rate against the useful share of the loaded bytes; None unless somebody prefetches."""
    points = [cell.point for cell in setting.along()]
    real = [point for point in points if point.prefetches and not point.yardstick]
    if not real:
        return None
    best = max(real, key=_by_use)
    reading = (
        f"Of the policies that prefetch, {best.about.policy} hits most ({percent(best.hit_rate)} of the demands), and "
        f"{percent(1 - best.useful_share)} of the bytes it copies are of no use."
    )
    title = titled(most_hits(points), setting.told())
    return Drawn("copies", title, reading, bandwidth_figure(points, title))


def most_hits(points: Sequence[measures.Point]) -> str:
    """Of the policies that prefetch, the one that hits most, and what it wastes, in a title."""
    real = [point for point in points if point.prefetches and not point.yardstick]
    best = max(real, key=_by_use)
    wasted = percent(1 - best.useful_share)
    return f"{best.about.policy} hits most of the policies that prefetch, and wastes {wasted} of its copies"


def _by_use(point: measures.Point) -> tuple[float, float, str]:
    return point.hit_rate, point.useful_share, point.about.policy


def headline(points: Sequence[measures.Point]) -> str:
    """The fastest policy and its lead in a title, e.g. lookahead is fastest: 2.51 ms per step, 8 % ahead of static."""
    found = measures.lead(points)
    if found is None:
        return NO_POLICY.removesuffix(".")
    text = f"{found.verdict}: {ms(found.best.mean_ns)} per step"
    if found.ahead is None or found.behind is None:
        return text
    return f"{text}, {percent(found.ahead)} ahead of {found.behind.policy}"


def fastest(points: list[measures.Point]) -> str:
    """Who wins, by how much, and how far from the best possible."""
    best = measures.winner(points)
    if best is None:
        return NO_POLICY
    found = measures.lead(points)
    assert found is not None, "there is a winner"
    text = f"{found.verdict}: {ms(best.latency_ns)} per step"
    if found.level:
        text += f", {found.why_level}"
    elif found.behind is not None and found.ahead is not None:
        text += f", {percent(found.ahead)} less than {found.behind.policy}"
    ratio = best.latency_ns / best.bound_ns("oracle")
    return f"{text}." if math.isnan(ratio) else f"{text}, and {times(ratio)} what the oracle needs."


TAIL_ROW = 0.25  # inches a policy
MARKS: dict[str, dict[str, Any]] = {
    "p50": {"marker": "|", "color": "black", "markersize": 9, "markeredgewidth": 1.6},
    "p95": {"marker": "o", "color": COLOURS[0], "markersize": 5},
    "p99": {"marker": "D", "color": COLOURS[1], "markersize": 5},
    "max": {"marker": "x", "color": "0.35", "markersize": 5},
}


def of_tail(setting: Setting) -> Drawn | None:
    """A row for each policy, fastest on average first; None of a single policy."""
    points = measures.ranked([cell.point for cell in setting.along()])
    if len(points) < 2:
        return None
    title = titled(_headline(points), setting.told())
    return Drawn("tail", title, _reading(points), _figure(points, title))


def _reading(points: Sequence[measures.Point]) -> str:
    real = [point for point in points if not point.yardstick]
    best = measures.winner(points)
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


def _headline(points: Sequence[measures.Point]) -> str:
    real = [point for point in points if not point.yardstick]
    if not real:
        return NO_POLICY.removesuffix(".")
    steady = min(real, key=lambda point: (point.tail.p99, point.latency_ns, point.about.policy))
    return f"{steady.about.policy} has the lowest p99: {ms(steady.tail.p99)} per step"


def _figure(points: Sequence[measures.Point], title: str) -> "Figure":
    chart, axes = figure(1, 1, width=7.4, height=1.9 + TAIL_ROW * len(points))
    draw_tail(points, axes)
    steps = min(point.steps for point in points)
    note = f"\np99 is decided by the slowest {max(1, round(steps / 100))} of {steps} steps."
    finish(chart, title, measures.caption(points) + note + YARDSTICKS * any(point.yardstick for point in points))
    return chart


def draw_tail(points: Sequence[measures.Point], ax: "Axes | None" = None) -> "Axes":
    """Median, p95, p99 and maximum of each policy's steps, a row each, in the order of the points; on new Axes by
    default."""
    limit = 1.05 * measures.visible_limit([point.tail.max for point in points]) / measures.MS
    axes = panel(ax, 7.4, 1.9 + TAIL_ROW * len(points))
    axes.set(xlim=(0, 1.12 * limit), ylim=(len(points) - 0.4, -0.6), xlabel="time per step, ms")
    axes.grid(axis="x", color="0.93")
    axes.set_axisbelow(True)
    for row, point in enumerate(points):
        _row(axes, row, point, limit)
    for name, look in MARKS.items():
        values = [getattr(point.tail, name) / measures.MS for point in points]
        seen = [(value, row) for row, value in enumerate(values) if value <= limit]
        axes.plot(*zip(*seen, strict=True), linestyle="", label=name, **look)
    name_rows(axes, points, measures.winner(points))
    legend_below(axes)
    return cast("Axes", axes)


def _row(axes: Any, row: int, point: measures.Point, limit: float) -> None:
    """From the median to the slowest step; a value beyond the limit is written at the edge."""
    ends = point.tail.p50 / measures.MS, point.tail.max / measures.MS
    axes.plot([min(end, limit) for end in ends], [row, row], color="0.75", linewidth=1.4, zorder=1)
    if ends[1] > limit:
        hidden = [name for name in MARKS if getattr(point.tail, name) / measures.MS > limit]
        told = ", ".join(
            f"{name} {measures.three_digits(getattr(point.tail, name) / measures.MS)}"
            for name in (hidden[0], hidden[-1])
        )
        text = f"{told if len(hidden) > 1 else told.split(', ')[0]} \N{RIGHTWARDS ARROW}"
        axes.annotate(text, (1.12 * limit, row), ha="right", va="center", fontsize=8, color="0.3")
