"""Speed-up over a plain cache against the link's bandwidth."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from specmoe.analysis.figures.setting import Cell, Drawn, Setting, times, titled
from specmoe.analysis.point import FAR, caption, three_digits, unit_of
from specmoe.analysis.style import Line, baseline, draw, figure, finish, legend_beside, logarithmic, panel, scale
from specmoe.summary import SCALE, SET

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ENDING = ".bandwidth"
FIRST = "host_to_device.pinned.bandwidth"


def of_link(setting: Setting) -> Drawn | None:
    """A line for each real policy; None unless a bandwidth varies and there is a policy to compare with."""
    column = link_column(setting)
    if column is None:
        return None
    cells = [cell for cell in setting.along(column) if cell.where[column] is not None]
    compared = baseline([cell.point for cell in cells])
    if compared is None or len({cell.where[column] for cell in cells}) < 2:
        return None
    lines = speed_ups(cells, column, compared)
    if len({value for line in lines[:-1] for value in line.x}) < 2:
        return None
    title = titled(_headline(lines[:-1], compared, column), setting.told(column))
    return Drawn("link", title, _reading(lines[:-1], compared, column), _figure(setting, cells, lines, column, title))


def link_column(setting: Setting) -> str | None:
    """The column that says how fast the link is, `set` before `scale`, the pinned link's before others'."""
    alone = SCALE if len(setting.columns(SCALE)) == 1 else SET  # of numbers changed one at a time a tornado tells more
    found = [name for name in setting.varying if name.endswith(ENDING) and name.startswith((SET, alone))]
    return min(found, key=lambda name: (FIRST not in name, name.startswith(SCALE), name), default=None)


def speed_ups(cells: Sequence[Cell], column: str, compared: str) -> list[Line]:
    """Mean step of the policy compared with over each real policy's, by bandwidth; the oracle's line is the last."""
    size = unit_of(column.removeprefix(SET))[1]
    base = {cell.where[column]: cell.point for cell in cells if cell.policy == compared}
    names = sorted({cell.policy for cell in cells if not cell.point.yardstick and cell.policy != compared})
    lines = []
    for name in names:
        own = sorted(
            (c.where[column], c.point.latency_ns) for c in cells if c.policy == name and c.where[column] in base
        )
        ratios = [base[value].latency_ns / latency for value, latency in own]
        lines.append(Line(name, [value / size for value, _ in own], ratios))
    order = sorted(base)
    oracle = [base[value].latency_ns / base[value].bound_ns("oracle") for value in order]
    return [*(line for line in lines if line.x), Line("oracle", [value / size for value in order], oracle)]


def _headline(lines: Sequence[Line], compared: str, column: str) -> str:
    """Where a policy gains most over the baseline."""
    ratio, at, name = max((y, x, line.name) for line in lines for x, y in zip(line.x, line.y, strict=True))
    if ratio <= 1:
        return f"No policy is faster than {compared} on any link"
    return f"{name} gains most over {compared}: {times(ratio)} as fast {_told(at, column)}"


def _reading(lines: Sequence[Line], compared: str, column: str) -> str:
    """Which is best on the slowest and on the fastest link."""
    ends = sorted({value for line in lines for value in line.x})
    said = [f"{_told(end, column)} {_best(lines, end, compared)}" for end in (ends[0], ends[-1])]
    return f"{said[0][0].upper()}{said[0][1:]}; {said[1]}."


def _best(lines: Sequence[Line], at: float, compared: str) -> str:
    found = [(line.y[line.x.index(at)], line.name) for line in lines if at in line.x]
    ratio, name = max(found)
    return f"nothing beats {compared}" if ratio <= 1 else f"{name} is fastest, {times(ratio)} as fast as {compared}"


def _told(value: float, column: str) -> str:
    return f"at {value:.4g} times the link's own bandwidth" if column.startswith(SCALE) else f"at {value:.4g} GB/s"


def _figure(setting: Setting, cells: Sequence[Cell], lines: Sequence[Line], column: str, title: str) -> "Figure":
    slow = [line for line in lines if max(line.y) < 1 / FAR]
    told = "; ".join(f"{line.name}, at most {three_digits(max(line.y))} times as fast" for line in slow)
    note = f"\nToo slow to draw: {told}." if slow else ""
    chart, axes = figure(1, 1, width=8.2, height=4.6)
    draw_speed_up(setting, cells, lines, column, axes)
    finish(chart, title, caption([cell.point for cell in cells]) + note)
    return chart


def draw_speed_up(
    setting: Setting, cells: Sequence[Cell], lines: Sequence[Line], column: str, ax: "Axes | None" = None
) -> "Axes":
    """The lines of `speed_ups` on Axes, without title and caption; on new Axes by default."""
    slow = [line for line in lines if max(line.y) < 1 / FAR]
    axes = panel(ax, 8.2, 4.6)
    axes.grid(color="0.93")
    axes.set_axisbelow(True)
    draw(axes, [line for line in lines[:-1] if line not in slow], setting.looks)
    axes.plot(lines[-1].x, lines[-1].y, color="black", linestyle="--", linewidth=1, label="oracle", zorder=1)
    compared = baseline([cell.point for cell in cells])
    axes.axhline(1, color="black", linewidth=0.8, label=compared, zorder=1)
    scale(axes)
    logarithmic(axes, "x")
    name = column.removeprefix(SET).removeprefix(SCALE)
    unit = "times the profile's own" if column.startswith(SCALE) else "GB/s"
    axes.set(xlabel=f"{name}, {unit}", ylabel=f"speed-up over {compared}")
    ticks = sorted({value for line in lines for value in line.x})
    axes.set_xticks(ticks if len(ticks) <= 9 else ticks[:: len(ticks) // 8], minor=False)
    axes.set_xticklabels([f"{tick:.4g}" for tick in axes.get_xticks()])
    legend_beside(axes)
    return cast("Axes", axes)
