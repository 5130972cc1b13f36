"""How much VRAM a policy needs to be fast."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from specmoe.analysis.comparison import GIB, MS, Point, caption, three_digits, visible_limit
from specmoe.analysis.style import COLOURS, MARKERS, describe, figure, save
from specmoe.errors import InputError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DECADE = 10
LOOKS = [(COLOURS[i % len(COLOURS)], MARKERS[i % len(MARKERS)]) for i in range(len(COLOURS) * len(MARKERS))]
BOUNDS = {"floor": ":", "oracle": "--"}


def plot_memory(points: Sequence[Point], png: Path, title: str, cliff_slots: int) -> None:
    """Write `memory_figure` as a PNG."""
    save(memory_figure(points, title, cliff_slots), png)


def memory_figure(points: Sequence[Point], title: str, cliff_slots: int) -> Figure:
    """A line for each policy that is no yardstick, in the legend slowest first at its least VRAM; floor and oracle.

    Up to `cliff_slots`, (layers - 1) * top_k * batch, an LRU over all layers hits nothing. Axes that span a decade are
    logarithmic. Policies always slower than `visible_limit` are named below instead.
    """
    lines, beyond = split_far(policy_lines(points))
    note = "".join(f"\nToo slow to draw: {_range(line)}." for line in beyond)
    described = caption(points) + note
    chart, axes = figure(1, 1, width=8.2, height=4.6)
    _curves(axes, lines)
    _scale(axes)
    _cliff(axes, cliff_slots, points[0].manifest.expert_bytes)
    axes.set(xlabel="VRAM for experts, GiB", ylabel="mean time of a step, ms")
    chart.legend(frameon=False, loc="outside right upper", fontsize=8)
    describe(chart, title, described)
    return chart


def _curves(axes: Any, lines: Sequence[list[Point]]) -> None:
    """A line for each policy, and those of floor and oracle through the same VRAM sizes."""
    for line, (colour, marker) in zip(lines, LOOKS, strict=False):
        curve = [point.vram_gib for point in line], [point.latency_ns / MS for point in line]
        name = line[0].manifest.policy
        axes.plot(*curve, color=colour, marker=marker, markersize=4, linewidth=1.2, label=name)
    for name, style in BOUNDS.items():
        bounds = sorted({(point.vram_gib, point.bound_ns(name) / MS) for line in lines for point in line})
        axes.plot(*zip(*bounds, strict=True), linestyle=style, color="black", label=name, zorder=1)


def policy_lines(points: Sequence[Point]) -> list[list[Point]]:
    """The points of each policy that is no yardstick, by VRAM; slowest at the start first, ties by name.

    Raises InputError if there is none.
    """
    names = sorted({point.manifest.policy for point in points if not point.yardstick})
    if not names:
        raise InputError("no results of policies other than yardsticks: there is nothing to draw")
    lines = [[point for point in points if point.manifest.policy == name] for name in names]
    by_memory = [sorted(line, key=lambda point: point.manifest.slots) for line in lines]
    return sorted(by_memory, key=lambda line: -line[0].latency_ns)


def split_far(lines: Sequence[list[Point]]) -> tuple[list[list[Point]], list[list[Point]]]:
    """The lines to draw, and those of policies that are too slow everywhere."""
    limit = visible_limit([point.latency_ns for line in lines for point in line])
    near = [line for line in lines if min(point.latency_ns for point in line) <= limit]
    return near, [line for line in lines if line not in near]


def _range(line: Sequence[Point]) -> str:
    ends = sorted(point.latency_ns / MS for point in line)
    return f"{line[0].manifest.policy}, {three_digits(ends[0])} to {three_digits(ends[-1])} ms"


def _scale(axes: Any) -> None:
    """Logarithmic where a decade or more is spanned, with plain numbers at the ticks."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    ends = axes.dataLim
    for axis, low, high in (("x", ends.x0, ends.x1), ("y", ends.y0, ends.y1)):
        if low > 0 and high / low >= DECADE:
            axes.set(**{f"{axis}scale": "log"})
            ticks = getattr(axes, f"{axis}axis")
            ticks.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ticks.set_minor_locator(NullLocator())
            ticks.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _cliff(axes: Any, slots: int, expert_bytes: int) -> None:
    """A line up to which an LRU hits nothing, or a note if that is left of all points."""
    cliff = slots * expert_bytes / GIB
    low, high = axes.get_xlim()
    text = f"LRU hits nothing up to {slots} slots ({three_digits(cliff)} GiB)"
    if cliff > high:
        return
    if cliff >= low:
        axes.axvline(cliff, color="0.5", linewidth=4, alpha=0.4)
    else:
        text = f"\N{LEFTWARDS ARROW} {text}"
    at = max(cliff, low)
    axes.annotate(text, (at, 1), (4, 3), axes.get_xaxis_transform(), "offset points", fontsize=8, color="0.3")
