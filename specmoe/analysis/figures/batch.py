"""Throughput and latency against batch size."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from specmoe.analysis.figures.setting import Cell, Drawn, Setting, times, titled
from specmoe.analysis.point import MS, Point, caption, three_digits, whiskers, winner
from specmoe.analysis.style import Line, draw, figure, finish, logarithmic, panel, scale, split_far

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def of_batch(setting: Setting) -> Drawn | None:
    """Two panels; None unless real policies were run with several batch sizes."""
    cells = [cell for cell in setting.along("batch") if not cell.point.yardstick]
    sizes = sorted({cell.where["batch"] for cell in cells})
    if len(sizes) < 2:
        return None
    title = titled(_headline(cells, sizes[0], sizes[-1]), setting.told("batch"))
    return Drawn("batch", title, _reading(cells, sizes[0], sizes[-1]), _figure(setting, cells, title))


def _headline(cells: Sequence[Cell], small: int, large: int) -> str:
    first, last = _ends(cells, small, large)
    ratio = times(last.tokens_per_second / first.tokens_per_second)
    return f"{last.about.policy} is fastest at batch {large}: {ratio} the throughput of batch {small}"


def _ends(cells: Sequence[Cell], small: int, large: int) -> list[Point]:
    """The fastest policy at the smallest and at the largest batch."""
    at = {size: [cell.point for cell in cells if cell.where["batch"] == size] for size in (small, large)}
    return [best for size in (small, large) if (best := winner(at[size])) is not None]


def _reading(cells: Sequence[Cell], small: int, large: int) -> str:
    """What the largest batch gives and costs, with the policy that is best there."""
    first, last = _ends(cells, small, large)
    rates = [point.tokens_per_second for point in (first, last)]
    return (
        f"Batch {large} gives {times(rates[1] / rates[0])} the throughput of batch {small}, each with its best policy: "
        f"{three_digits(rates[1])} tokens/s ({last.about.policy}) and {three_digits(rates[0])} ({first.about.policy}); "
        f"a step takes {times(last.latency_ns / first.latency_ns)} as long."
    )


def _figure(setting: Setting, cells: Sequence[Cell], title: str) -> "Figure":
    near, far = split_far([_line(cells, name, by_time=True) for name in sorted({cell.policy for cell in cells})])
    told = "; ".join(f"{line.name}, {three_digits(min(line.y))} ms and more" for line in far)
    note = f"\nToo slow to draw: {told}." if far else ""
    chart, panels = figure(1, 2, width=4.6, height=4.2)
    names = [line.name for line in near]
    for axes, by_time in zip(panels, (False, True), strict=True):
        draw_batch(setting, [cell for cell in cells if cell.policy in names], by_time, axes)
    panels[1].legend(frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8)
    points = [cell.point for cell in cells]
    finish(chart, title, caption(points, ("batch",)) + whiskers(points) + note)
    return chart


def draw_batch(setting: Setting, cells: Sequence[Cell], by_time: bool, ax: "Axes | None" = None) -> "Axes":
    """Throughput, or the time per step, of each policy against the batch; on new Axes by default."""
    axes = panel(ax, 4.6, 4.2)
    names = sorted({cell.policy for cell in cells})
    draw(axes, [_line(cells, name, by_time) for name in names], setting.looks)
    at = {cell.where["batch"]: cell.point for cell in cells}
    sizes = sorted(at)
    for bound, style in (("floor", ":"), ("oracle", "--")):
        ns = [at[size].bound_ns(bound) for size in sizes]
        rates = [at[size].tokens_per_second * at[size].latency_ns / t for size, t in zip(sizes, ns, strict=True)]
        axes.plot(sizes, [t / MS for t in ns] if by_time else rates, color="black", linestyle=style, label=bound)
    axes.grid(color="0.93")
    axes.set_axisbelow(True)
    scale(axes)
    logarithmic(axes, "x")
    axes.set_xticks(sizes, map(str, sizes))
    axes.set(xlabel="batch, sequences", ylabel="mean time per step, ms" if by_time else "throughput, tokens/s")
    return cast("Axes", axes)


def _line(cells: Sequence[Cell], name: str, by_time: bool) -> Line:
    own = sorted((cell for cell in cells if cell.policy == name), key=lambda cell: int(cell.where["batch"]))
    values = [cell.point.latency_ns / MS if by_time else cell.point.tokens_per_second for cell in own]
    ranges = [[ns / MS if by_time else c.point.rate_at(ns) for ns in c.point.range_ns] for c in own]
    return Line(name, [cell.where["batch"] for cell in own], values, [(min(ends), max(ends)) for ends in ranges])
