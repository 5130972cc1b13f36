"""The precision from which prefetching pays: against the link's bandwidth, and from a sweep of the noisy oracle."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from specmoe.analysis.figures.link import link_column
from specmoe.analysis.figures.setting import Cell, Drawn, Setting, order, titled
from specmoe.analysis.point import Point, caption, ranked, shown
from specmoe.analysis.style import (
    COLOURS,
    LOOKS,
    Line,
    describe,
    figure,
    finish,
    legend_beside,
    name_points,
    panel,
    save,
)
from specmoe.summary import SET

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GB = 1e9
PRECISION = "precision: used share of prefetched experts, %"
MARKS = 8  # policies named at most; more would not be legible
APART = 4.0  # % between two names
TICKS = (1, 2, 3, 5, 7, 10, 15, 20, 30, 50, 70, 100, 150, 200, 300, 500, 1000)  # GB/s

CurvePoints = Sequence[tuple[float, float | None]]
Summaries = Sequence[dict[str, Any]]


def plot_break_even(points: CurvePoints, own: float | None, summaries: Summaries, png: Path) -> None:
    """Write `break_even_figure` as a PNG."""
    save(break_even_figure(points, own, summaries), png)


def break_even_figure(points: CurvePoints, own: float | None, summaries: Summaries) -> "Figure":
    """Break-even precision over the link's bandwidth, B/s; `points` are evenly spaced around the machine's own.

    `own` is that of the machine. Horizontal marks are the precisions that policies reached, of `summaries`. Where
    prefetching pays at any precision or at none, the line ends.
    """
    chart, axes = figure(1, 1, width=7.4, height=4.4)
    draw_break_even(points, own, summaries, axes)
    slots = min(int(row["slots"]) for row in summaries)
    profile = summaries[0]["profile"]
    where = "at any precision or at none" if own is None else f"above {100 * own:.0f} % precision"
    describe(chart, f"Prefetching pays {where} on {profile}", _caption(summaries[0], slots))
    return chart


def draw_break_even(points: CurvePoints, own: float | None, summaries: Summaries, ax: "Axes | None" = None) -> "Axes":
    """The curve of `break_even_figure` on Axes, without title and caption; on new Axes by default."""
    middle = points[len(points) // 2][0] / GB
    ends = points[0][0] / GB, points[-1][0] / GB
    known = [(bandwidth / GB, 100 * precision) for bandwidth, precision in points if precision is not None]
    axes = panel(ax, 7.4, 4.4)
    axes.set(xscale="log", xlim=ends, ylim=(0, 100), xlabel="bandwidth of the link, GB/s")
    axes.set_ylabel(PRECISION)
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
    return cast("Axes", axes)


def marks(summaries: Summaries) -> list[tuple[str, float]]:
    """Name and precision, %, of the fastest policies that prefetch, yardsticks aside; best precision first."""
    real = [row for row in summaries if row["precision"] is not None and not row["yardstick"]]
    fastest = sorted(real, key=lambda row: (row["latency_mean_ns"], row["policy"]))[:MARKS]
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
        "Line: with this precision, prefetching one expert ahead is as fast as loading on demand with an LRU cache.\n"
        "Dashed: precision that each policy reached. Routing: "
        f"{row['trace']} ({row['trace_kind']}), {row['phase']}, {row['steps']} steps of batch {row['batch']}.\n"
        f"Timing: {row['shape']} in {row['format']}, {slots} slots, on {row['profile']} with other links "
        f"(evidence: {row['evidence']})."
    )


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
    title = titled(_reading(lines).removesuffix("."), setting.told(*free))
    return Drawn("precision", title, _reading(lines), _figure(setting, lines, column, here[0], title))


def spread_out(lines: Sequence[Line], most: int) -> list[Line]:
    """At most `most` of the lines, evenly spread, with the first and the last."""
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


def _figure(setting: Setting, lines: Sequence[Line], column: str | None, base: Point, title: str) -> "Figure":
    drawn = min(len(lines), len(LOOKS))
    note = "\nLines: prefetches of an assumed precision, one expert ahead, in the same LRU slots. Rings: break-even."
    note += f" Shown: {drawn} of {len(lines)} links." * (drawn < len(lines))
    used = [
        cell.point for cell in setting.along(ASSUMED, *filter(None, [column])) if cell.policy in (COMPARED, GUESSING)
    ]
    chart, axes = figure(1, 1, width=7.4, height=4.6)
    name_marks = _gains(setting, lines, column, base, axes)
    finish(chart, title, caption(used) + note)
    name_marks()
    return chart


def draw_precision(
    setting: Setting, lines: Sequence[Line], column: str | None, base: Point, ax: "Axes | None" = None
) -> "Axes":
    """Speed-up over `base` against precision, a line for each link, without title and caption; on new Axes by
    default."""
    axes = panel(ax, 7.4, 4.6)
    _gains(setting, lines, column, base, axes)()
    return cast("Axes", axes)


def _gains(setting: Setting, lines: Sequence[Line], column: str | None, base: Point, axes: Any) -> Callable[[], None]:
    """Draw all but names; the result writes those, and is called once title and caption are written."""
    cells, chosen = _policies(setting), spread_out(lines, len(LOOKS))
    for line, look in zip(chosen, LOOKS, strict=False):
        axes.plot(line.x, line.y, label=line.name, **look)
    axes.axhline(0, color="black", linewidth=0.8)
    axes.grid(color="0.93")
    axes.set_axisbelow(True)
    at = [(100 * (c.point.precision or 0), 100 * (base.latency_ns / c.point.latency_ns - 1)) for c in cells]
    if at:
        name = "policies" if column is None else f"policies ({_link(column, setting.main[column])})"
        axes.plot(*zip(*at, strict=True), linestyle="", marker="D", color="black", markersize=4, label=name)
    axes.set(xlim=(-3, 103), xlabel=PRECISION, ylabel=f"speed-up over {COMPARED}, %")
    crossed = [(found, 0.0) for line in chosen if (found := crossing(line)) is not None]
    for x, _ in crossed:
        axes.plot(x, 0, marker="o", markersize=9, markerfacecolor="none", color="black")
    legend_beside(axes)
    drawn = [point for line in chosen for point in zip(line.x, line.y, strict=True)]
    names = [f"{x:.0f} %" for x, _ in crossed] + [cell.policy for cell in cells]
    return lambda: name_points(axes.figure, axes, names, [*crossed, *at], drawn)


def _policies(setting: Setting) -> list[Cell]:
    """The fastest that prefetch, yardsticks aside."""
    cells = [c for c in setting.along() if c.point.precision is not None and not c.point.yardstick]
    fastest = [id(point) for point in ranked([cell.point for cell in cells])[:MARKS]]
    return [cell for cell in cells if id(cell.point) in fastest]
