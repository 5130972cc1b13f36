"""Throughput and latency against batch size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from specmoe.analysis.comparison import MS, caption, three_digits, winner
from specmoe.analysis.figures.setting import Cell, Drawn, Setting, times, titled
from specmoe.analysis.lines import Line, draw, logarithmic, scale, split_far
from specmoe.analysis.style import figure, finish

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def of_batch(setting: Setting) -> Drawn | None:
    """Two panels; None unless real policies were run with several batch sizes."""
    cells = [cell for cell in setting.along("batch") if not cell.point.yardstick]
    sizes = sorted({cell.where["batch"] for cell in cells})
    if len(sizes) < 2:
        return None
    title = titled("Batch scaling", setting.told("batch"))
    return Drawn("batch", title, _reading(cells, sizes[0], sizes[-1]), _figure(setting, cells, sizes, title))


def _reading(cells: Sequence[Cell], small: int, large: int) -> str:
    """What the largest batch gives and costs, with the policy that is best there."""
    at = {size: [cell.point for cell in cells if cell.where["batch"] == size] for size in (small, large)}
    first, last = (found for size in (small, large) if (found := winner(at[size])) is not None)
    rates = [point.tokens_per_second for point in (first, last)]
    return (
        f"Batch {large} gives {times(rates[1] / rates[0])} the throughput of batch {small}, each with its best policy: "
        f"{three_digits(rates[1])} tokens/s ({last.about.policy}) and {three_digits(rates[0])} ({first.about.policy}); "
        f"a step takes {times(last.latency_ns / first.latency_ns)} as long."
    )


def _figure(setting: Setting, cells: Sequence[Cell], sizes: Sequence[int], title: str) -> Figure:
    near, far = split_far([_line(cells, name, by_time=True) for name in sorted({cell.policy for cell in cells})])
    told = "; ".join(f"{line.name}, {three_digits(min(line.y))} ms and more" for line in far)
    note = f"\nToo slow to draw: {told}." if far else ""
    chart, panels = figure(1, 2, width=4.6, height=4.2)
    draw(panels[0], [_line(cells, line.name, by_time=False) for line in near], setting.looks)
    draw(panels[1], near, setting.looks)
    for bound, style in (("floor", ":"), ("oracle", "--")):
        found = {cell.where["batch"]: cell.point for cell in cells}
        ns = [found[size].bound_ns(bound) for size in sizes]
        rates = [found[size].tokens_per_second * found[size].latency_ns / t for size, t in zip(sizes, ns, strict=True)]
        panels[0].plot(sizes, rates, color="black", linestyle=style, label=bound)
        panels[1].plot(sizes, [t / MS for t in ns], color="black", linestyle=style, label=bound)
    for axes, label in zip(panels, ("tokens/s", "mean time of a step, ms"), strict=True):
        axes.grid(color="0.93")
        axes.set_axisbelow(True)
        scale(axes)
        logarithmic(axes, "x")
        axes.set_xticks(sizes, map(str, sizes))
        axes.set(xlabel="sequences at once", ylabel=label)
    panels[1].legend(frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8)
    finish(chart, title, caption([cell.point for cell in cells], ("batch",)) + note)
    return chart


def _line(cells: Sequence[Cell], name: str, by_time: bool) -> Line:
    own = sorted((cell for cell in cells if cell.policy == name), key=lambda cell: int(cell.where["batch"]))
    values = [cell.point.latency_ns / MS if by_time else cell.point.tokens_per_second for cell in own]
    return Line(name, [cell.where["batch"] for cell in own], values)
