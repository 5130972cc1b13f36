"""How much VRAM a policy needs: to be fast, to hit, and to come near the oracle."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from specmoe.analysis.comparison import GIB, MS, caption, three_digits
from specmoe.analysis.lines import Line, Looks, draw, legend_beside, looks, scale, split_far
from specmoe.analysis.point import Point
from specmoe.analysis.style import figure, save
from specmoe.analysis.wrapping import finish
from specmoe.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BOUNDS = {"floor": ":", "oracle": "--"}


def plot_memory(points: Sequence[Point], png: Path, title: str, cliff_slots: int) -> None:
    """Write `memory_figure` as a PNG."""
    save(memory_figure(points, title, cliff_slots), png)


def memory_figure(points: Sequence[Point], title: str, cliff_slots: int, told_apart: Looks | None = None) -> Figure:
    """A line for each policy that is no yardstick, in the legend slowest first at its least VRAM; floor and oracle.

    Up to `cliff_slots`, (layers - 1) * top_k * batch, an LRU over all layers hits nothing at batch 1, decoding, and
    little otherwise. Axes that span a decade are logarithmic. Policies always slower than `visible_limit` are named
    below instead, and what of the others is slower is cut off.
    """
    found = policy_lines(points, lambda point: point.latency_ns / MS)
    lines, beyond = split_far(found)
    note = f"\nToo slow to draw: {'; '.join(map(_range, beyond))}." if beyond else ""
    chart, axes = _chart(points, lines, told_apart)
    for name, style in BOUNDS.items():
        bounds = sorted({(p.vram_gib, p.bound_ns(name) / MS) for p in points if not p.yardstick})
        axes.plot(*zip(*bounds, strict=True), linestyle=style, color="black", label=name, zorder=1)
    scale(axes)
    axes.set(ylabel="mean time of a step, ms")
    return _finished(chart, points, title, caption(points) + note, cliff_slots)


def hit_rate_figure(points: Sequence[Point], title: str, cliff_slots: int, told_apart: Looks | None = None) -> Figure:
    """The share of demands that found their expert resident, landed or not, over VRAM; a line for each real policy."""
    lines = policy_lines(points, lambda point: 100 * point.hit_rate)
    chart, axes = _chart(points, lines, told_apart)
    scale(axes)
    axes.set(ylabel="hit rate, %", yscale="linear", ylim=(-2, 102))
    return _finished(chart, points, title, caption(points), cliff_slots)


def distance_figure(points: Sequence[Point], title: str, cliff_slots: int, told_apart: Looks | None = None) -> Figure:
    """Mean step in units of the oracle's on the same slots, over VRAM; 1 is perfect knowledge."""
    found = policy_lines(points, lambda point: point.latency_ns / point.bound_ns("oracle"))
    lines, beyond = split_far(found)
    least = "; ".join(f"{line.name}, at least {three_digits(min(line.y))} times" for line in beyond)
    note = f"\nToo far to draw: {least}." if beyond else ""
    chart, axes = _chart(points, lines, told_apart)
    axes.axhline(1, linestyle=BOUNDS["oracle"], color="black", label="oracle", zorder=1)
    scale(axes)
    axes.set(ylabel="mean step, in units of the oracle's")
    return _finished(chart, points, title, caption(points) + note, cliff_slots)


def policy_lines(points: Sequence[Point], value: Callable[[Point], float]) -> list[Line]:
    """A value of each policy that is no yardstick, over VRAM; highest at the start first, ties by name.

    Raises InputError if there is none.
    """
    names = sorted({point.about.policy for point in points if not point.yardstick})
    if not names:
        raise InputError("no results of policies other than yardsticks: there is nothing to draw")
    lines = []
    for name in names:
        own = sorted((p for p in points if p.about.policy == name), key=lambda point: point.vram_gib)
        lines.append(Line(name, [point.vram_gib for point in own], list(map(value, own))))
    return sorted(lines, key=lambda line: -line.y[0])


def _chart(points: Sequence[Point], lines: Sequence[Line], told_apart: Looks | None) -> tuple[Figure, Any]:
    chart, axes = figure(1, 1, width=8.2, height=4.6)
    axes.grid(color="0.93")
    axes.set_axisbelow(True)
    draw(axes, lines, looks(points) if told_apart is None else told_apart)
    return chart, axes


def _finished(chart: Figure, points: Sequence[Point], title: str, described: str, cliff_slots: int) -> Figure:
    (axes,) = chart.axes
    axes.set(xlabel="VRAM for experts, GiB")
    _cliff(axes, cliff_slots, points[0].about.expert_bytes)
    legend_beside(axes)
    finish(chart, title, described)
    return chart


def _range(line: Line) -> str:
    ends = dict.fromkeys(three_digits(end(line.y)) for end in (min, max))
    return f"{line.name}, {' to '.join(ends)} ms"


def _cliff(axes: Any, slots: int, expert_bytes: int) -> None:
    """A line up to which an LRU hits hardly anything, or a note if that is left of all points."""
    cliff = slots * expert_bytes / GIB
    low, high = axes.get_xlim()
    text = f"an LRU's cliff: {slots} slots ({three_digits(cliff)} GiB)"
    if cliff > high:
        return
    if cliff >= low:
        axes.axvline(cliff, color="0.5", linewidth=4, alpha=0.4)
    else:
        text = f"\N{LEFTWARDS ARROW} {text}"
    at = max(cliff, low)
    axes.annotate(text, (at, 1), (4, 3), axes.get_xaxis_transform(), "offset points", fontsize=8, color="0.3")
