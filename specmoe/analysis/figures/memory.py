"""How much VRAM a policy needs: latency, hit rate and distance from the oracle against VRAM."""

from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from specmoe.analysis.figures.setting import Drawn, Setting, percent, times, titled
from specmoe.analysis.point import GIB, MS, Point, caption, three_digits, whiskers
from specmoe.analysis.style import (
    Line,
    Looks,
    baseline,
    draw,
    finish,
    legend_beside,
    looks,
    panel,
    save,
    scale,
    split_far,
)
from specmoe.errors import InputError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SlotsByFormat = Mapping[Any, Sequence[tuple[int, int]]]
BOUNDS = {"floor": ":", "oracle": "--"}


def plot_memory(points: Sequence[Point], png: Path, title: str, cliff_slots: int) -> None:
    """Write `memory_figure` as a PNG."""
    save(memory_figure(points, title, cliff_slots), png)


def memory_figure(points: Sequence[Point], title: str, cliff_slots: int, told_apart: Looks | None = None) -> "Figure":
    """A line for each policy that is no yardstick, in the legend slowest first at its least VRAM; floor and oracle.

    Up to `cliff_slots`, (layers - 1) * top_k * batch, an LRU over all layers hits nothing at batch 1, decoding, and
    little otherwise. Axes that span a decade are logarithmic. Policies always slower than `visible_limit` are named
    below instead, and what of the others is slower is cut off.
    """
    beyond = split_far(_latencies(points))[1]
    note = f"\nToo slow to draw: {'; '.join(map(_range, beyond))}." if beyond else ""
    return _finished(
        draw_memory(points, cliff_slots, told_apart=told_apart), title, caption(points) + whiskers(points) + note
    )


def draw_memory(
    points: Sequence[Point], cliff_slots: int, ax: "Axes | None" = None, told_apart: Looks | None = None
) -> "Axes":
    """The lines of `memory_figure` on Axes, without title and caption; on new Axes by default."""
    axes = _lines(points, split_far(_latencies(points))[0], told_apart, ax)
    for name, style in BOUNDS.items():
        bounds = sorted({(p.vram_gib, p.bound_ns(name) / MS) for p in points if not p.yardstick})
        axes.plot(*zip(*bounds, strict=True), linestyle=style, color="black", label=name, zorder=1)
    scale(axes)
    axes.set(ylabel="mean time per step, ms")
    return _labelled(axes, points, cliff_slots)


def plot_slots(by_format: SlotsByFormat, row: Mapping[str, Any], png: Path) -> None:
    """Write `draw_slots` as a PNG; `row` is the answer of `specmoe budget`."""
    chart: Any = draw_slots(by_format, row["experts"], row["context"]).figure
    vram = f"{row['vram_bytes'] / GIB:.3g} GiB of VRAM"
    title = f"{vram} hold {row['slots']:,} of {row['experts']:,} experts beside {row['context']:,} tokens"
    about = f"{row['model']}, experts in {row['format']}; sequences: {row['batch']}."
    finish(chart, title, f"{about} Dots: the longest context that leaves a slot. Dotted: the context asked for.")
    save(chart, png)


def draw_slots(by_format: SlotsByFormat, experts: int, context: int, ax: "Axes | None" = None) -> "Axes":
    """The slots that a context leaves, a line for each format of the KV cache, and the context that was asked for."""
    axes = panel(ax, 6, 3.6)
    for held, line in by_format.items():
        axes.plot(*zip(*line, strict=True), label=f"KV cache in {held}", marker="o", markevery=[-1], markersize=4)
    axes.axvline(context, color="0.6", linestyle=":", zorder=0)
    axes.set(xscale="log", xlabel="context of each sequence, tokens", ylabel="slots for experts")
    axes.axhline(experts, color="0.6", linewidth=0.8, zorder=0)
    axes.set_ylim(0, 1.1 * min(experts, max(slots for line in by_format.values() for _, slots in line)))
    axes.legend(frameon=False, fontsize=8)
    return cast("Axes", axes)


def _latencies(points: Sequence[Point]) -> list[Line]:
    lines = policy_lines(points, lambda point: point.latency_ns / MS)
    ranges = {(p.about.policy, p.vram_gib): (p.range_ns[0] / MS, p.range_ns[1] / MS) for p in points}
    return [line._replace(ends=[ranges[line.name, x] for x in line.x]) for line in lines]


def hit_rate_figure(points: Sequence[Point], title: str, cliff_slots: int, told_apart: Looks | None = None) -> "Figure":
    """The share of demands that found their expert resident, landed or not, over VRAM; a line for each real policy."""
    return _finished(draw_hit_rate(points, cliff_slots, told_apart=told_apart), title, caption(points))


def draw_hit_rate(
    points: Sequence[Point], cliff_slots: int, ax: "Axes | None" = None, told_apart: Looks | None = None
) -> "Axes":
    """The lines of `hit_rate_figure` on Axes, without title and caption; on new Axes by default."""
    axes = _lines(points, policy_lines(points, lambda point: 100 * point.hit_rate), told_apart, ax)
    scale(axes)
    axes.set(ylabel="hit rate, %", yscale="linear", ylim=(-2, 102))
    return _labelled(axes, points, cliff_slots)


def distance_figure(points: Sequence[Point], title: str, cliff_slots: int, told_apart: Looks | None = None) -> "Figure":
    """Mean step in units of the oracle's on the same slots, over VRAM; 1 is perfect knowledge."""
    beyond = split_far(_distances(points))[1]
    least = "; ".join(f"{line.name}, at least {three_digits(min(line.y))} times" for line in beyond)
    note = f"\nToo far to draw: {least}." if beyond else ""
    return _finished(draw_distance(points, cliff_slots, told_apart=told_apart), title, caption(points) + note)


def draw_distance(
    points: Sequence[Point], cliff_slots: int, ax: "Axes | None" = None, told_apart: Looks | None = None
) -> "Axes":
    """The lines of `distance_figure` on Axes, without title and caption; on new Axes by default."""
    axes = _lines(points, split_far(_distances(points))[0], told_apart, ax)
    axes.axhline(1, linestyle=BOUNDS["oracle"], color="black", label="oracle", zorder=1)
    scale(axes)
    axes.set(ylabel="mean time per step / the oracle's")
    return _labelled(axes, points, cliff_slots)


def _distances(points: Sequence[Point]) -> list[Line]:
    return policy_lines(points, lambda point: point.latency_ns / point.bound_ns("oracle"))


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


def _lines(points: Sequence[Point], lines: Sequence[Line], told_apart: Looks | None, ax: "Axes | None") -> Any:
    axes = panel(ax, 8.2, 4.6)
    axes.grid(color="0.93")
    axes.set_axisbelow(True)
    draw(axes, lines, looks(points) if told_apart is None else told_apart)
    return axes


def _labelled(axes: Any, points: Sequence[Point], cliff_slots: int) -> "Axes":
    axes.set(xlabel="VRAM for experts, GiB")
    _cliff(axes, cliff_slots, points[0].about.expert_bytes)
    legend_beside(axes)
    return cast("Axes", axes)


def _finished(axes: "Axes", title: str, described: str) -> "Figure":
    chart = cast("Figure", axes.figure)
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


Points = list[Point]
Draw = Callable[[Points, str, int, Looks], "Figure"]
NEAR = 0.1  # above the floor, as a share of it


def of_memory(setting: Setting) -> Drawn | None:
    """Mean step against VRAM."""
    return _drawn(setting, "memory", enough_in_short, enough, memory_figure)


def of_hit_rate(setting: Setting) -> Drawn | None:
    """Hit rate against VRAM."""
    return _drawn(setting, "hit-rate", _most_hits_in_short, most_hits, hit_rate_figure)


def of_distance(setting: Setting) -> Drawn | None:
    """Mean step in units of the oracle's against VRAM."""
    return _drawn(setting, "distance", _left_in_short, what_is_left, distance_figure)


def enough(points: Points) -> str:
    """The least VRAM that brings a policy near the floor."""
    near = [p for p in points if p.latency_ns <= (1 + NEAR) * p.bound_ns("floor")]
    if near:
        best = min(near, key=lambda point: (point.vram_gib, point.latency_ns))
        return (
            f"{best.about.policy} needs {three_digits(best.vram_gib)} GiB for experts to come within "
            f"{percent(NEAR)} of the floor, the least of all."
        )
    best = min(points, key=lambda point: (point.latency_ns, point.vram_gib))
    return (
        f"No policy comes within {percent(NEAR)} of the floor: the nearest is {best.about.policy} with "
        f"{three_digits(best.vram_gib)} GiB, {times(best.latency_ns / best.bound_ns('floor'))} it."
    )


def most_hits(points: Points) -> str:
    """Where having a better policy gives most hits over the baseline, or where most is hit if it never does."""
    compared = baseline(points)
    pairs = []
    for group in _by_memory(points):
        best = max(group, key=lambda point: (point.hit_rate, point.about.policy))
        pairs += [(best, base) for base in group if base.about.policy == compared and best.hit_rate > base.hit_rate]
    if not pairs:
        best = max(points, key=lambda point: (point.hit_rate, -point.vram_gib))
        return f"{_hits(best)}, the most of all."
    best, base = max(pairs, key=lambda pair: pair[0].hit_rate - pair[1].hit_rate)
    return f"{_hits(best)} and {compared} {percent(base.hit_rate)}: the largest difference in the table."


def what_is_left(points: Points) -> str:
    """How far the best policy is from the oracle, where most and where least."""
    best = [min(group, key=lambda point: point.latency_ns) for group in _by_memory(points)]
    ratios = sorted((p.latency_ns / p.bound_ns("oracle"), p.vram_gib, p.about.policy) for p in best)
    (least, small, _), (most, large, name) = ratios[0], ratios[-1]
    if most <= 1:
        return "Perfect knowledge, as the oracle uses it, would gain nothing over the best policy with any VRAM."
    return (
        f"Perfect knowledge would gain most with {three_digits(large)} GiB for experts, where the best policy, {name}, "
        f"takes {times(most)} the oracle's time, and least with {three_digits(small)} GiB ({times(least)})."
    )


def enough_in_short(points: Points) -> str:
    """The same in a title."""
    near = [p for p in points if p.latency_ns <= (1 + NEAR) * p.bound_ns("floor")]
    if near:
        best = min(near, key=lambda point: (point.vram_gib, point.latency_ns))
        return f"{best.about.policy} is within {percent(NEAR)} of the floor from {three_digits(best.vram_gib)} GiB on"
    best = min(points, key=lambda point: (point.latency_ns, point.vram_gib))
    ratio = times(best.latency_ns / best.bound_ns("floor"))
    return f"No policy comes near the floor: {best.about.policy} takes {ratio} as long with {_gib(best)}"


def _most_hits_in_short(points: Points) -> str:
    return _hits(max(points, key=lambda point: (point.hit_rate, -point.vram_gib)))


def _left_in_short(points: Points) -> str:
    best = [min(group, key=lambda point: point.latency_ns) for group in _by_memory(points)]
    ratios = [point.latency_ns / point.bound_ns("oracle") for point in best]
    if max(ratios) <= 1:
        return "The best policy is as fast as the oracle with any VRAM"
    return f"The best policy takes {three_digits(min(ratios))} to {times(max(ratios))} as long as the oracle"


def _gib(point: Point) -> str:
    return f"{three_digits(point.vram_gib)} GiB"


def _drawn(
    setting: Setting, name: str, answer: Callable[[Points], str], reading: Callable[[Points], str], draw: Draw
) -> Drawn | None:
    points = [cell.point for cell in setting.along("slots")]
    real = [point for point in points if not point.yardstick]
    if len({point.about.slots for point in real}) < 2:
        return None
    title = titled(answer(real), setting.told("slots"))
    cliff = max(point.about.cliff_slots or 0 for point in real)
    return Drawn(name, title, reading(real), draw(points, title, cliff, setting.looks))


def _hits(point: Point) -> str:
    return f"With {three_digits(point.vram_gib)} GiB {point.about.policy} hits {percent(point.hit_rate)} of the demands"


def _by_memory(points: Points) -> list[Points]:
    order = sorted(points, key=lambda point: point.about.slots)
    return [list(group) for _, group in groupby(order, key=lambda point: point.about.slots)]
