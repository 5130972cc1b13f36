"""Pareto fronts: configurations that no other beats in both latency and VRAM, or latency and bytes moved."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, cast

from specmoe.analysis.figures.setting import CHOICES, Cell, Drawn, Setting, ms, percent, titled, told
from specmoe.analysis.point import MS, caption, three_digits, visible_limit
from specmoe.analysis.style import COLOURS, XY, figure, finish, legend_below, name_points, panel, scale

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

MB = 1e6
Cost = Callable[[Cell], float]
DOT: dict[str, Any] = {"marker": "o", "markersize": 5, "markeredgecolor": "white", "zorder": 3}
GROUPS: dict[str, dict[str, Any]] = {
    "Pareto front": DOT | {"color": COLOURS[0], "drawstyle": "steps-post", "linewidth": 1},
    "dominated": DOT | {"color": "0.65", "linestyle": "", "zorder": 2},
    "yardstick": DOT | {"marker": "D", "color": "white", "markeredgecolor": "black", "linestyle": ""},
}


def of_pareto_vram(setting: Setting) -> Drawn | None:
    """All that one may choose on a machine, by the VRAM it takes; None unless that varies."""
    cells = [cell for cell in setting.along(*CHOICES) if not cell.point.yardstick]
    if len({cell.point.about.vram_peak_bytes for cell in cells}) < 2:
        return None
    chosen = front(cells, _vram)
    ends = [f"{c.policy} ({three_digits(_vram(c))} GiB, {ms(c.point.latency_ns)})" for c in (chosen[0], chosen[-1])]
    reading = f"{len(chosen)} of {len(cells)} configurations are on the Pareto front: from {ends[0]} to {ends[1]}."
    answer = f"{len(chosen)} of {len(cells)} configurations are on the Pareto front of latency and VRAM"
    title = titled(answer, setting.told(*CHOICES))
    return Drawn("pareto-vram", title, reading, _figure(setting, cells, _vram, "VRAM for all weights, GiB", title))


def of_pareto_bytes(setting: Setting) -> Drawn | None:
    """Policies in the same slots, by the bytes that a step moves; None unless several move some."""
    cells = [cell for cell in setting.along() if cell.point.bytes_loaded > 0]
    if sum(not cell.point.yardstick for cell in cells) < 3:
        return None
    chosen = front(cells, _moved)
    least, fastest = chosen[0], chosen[-1]
    reading = f"{least.policy} moves least ({three_digits(_moved(least))} MB per step)"
    if least is fastest:
        reading += " and is fastest, too."
    else:
        more = percent(_moved(fastest) / _moved(least) - 1)
        less = percent(1 - fastest.point.latency_ns / least.point.latency_ns)
        reading += f"; {fastest.policy} moves {more} more and takes {less} less time."
    answer = f"{least.policy} moves least, {fastest.policy} is fastest"
    if least is fastest:
        answer = f"{least.policy} moves least and is fastest"
    title = titled(answer, setting.told())
    return Drawn("pareto-bytes", title, reading, _figure(setting, cells, _moved, "bytes moved per step, MB", title))


def front(cells: Sequence[Cell], cost: Cost) -> list[Cell]:
    """The Pareto front in cost and latency of all cells that are no yardsticks; cheapest first, ties by name."""
    real = [cell for cell in cells if not cell.point.yardstick]
    order = sorted(real, key=lambda cell: (cost(cell), cell.point.latency_ns, cell.policy))
    chosen: list[Cell] = []
    for cell in order:
        if not chosen or cell.point.latency_ns < chosen[-1].point.latency_ns:
            chosen.append(cell)
    return chosen


def labels(chosen: Sequence[Cell]) -> list[str]:
    """What each cell is: its policy and those choices that vary among the cells, slots aside."""
    columns = [name for name in CHOICES[1:] if len({cell.where[name] for cell in chosen}) > 1]
    return [", ".join(filter(None, [c.policy, *(told(name, c.where[name]) for name in columns)])) for c in chosen]


def _vram(cell: Cell) -> float:
    return cell.point.peak_gib


def _moved(cell: Cell) -> float:
    return cell.point.bytes_loaded / MB


def _figure(setting: Setting, cells: Sequence[Cell], cost: Cost, label: str, title: str) -> "Figure":
    """The front as steps, named; the rest as dots and yardsticks as diamonds, those that are too slow left out."""
    limit, groups = _visible(cells, cost)
    hidden = len(cells) - sum(map(len, groups.values()))
    note = f"\nNot shown: configurations slower than {ms(limit)} ({hidden})." * (hidden > 0)
    chart, axes = figure(1, 1, width=7.4, height=4.8)
    at = _dots(groups, cost, label, axes)
    finish(chart, title, caption([cell.point for cell in cells], ("format",)) + note)
    _name(axes, setting, groups, at)
    return chart


def draw_pareto(setting: Setting, cells: Sequence[Cell], cost: Cost, label: str, ax: "Axes | None" = None) -> "Axes":
    """The front of cost and latency with the other cells, named, without title and caption; on new Axes by default.

    `label` is that of the horizontal axis, which shows the cost.
    """
    groups, axes = _visible(cells, cost)[1], panel(ax, 7.4, 4.8)
    _name(axes, setting, groups, _dots(groups, cost, label, axes))
    return cast("Axes", axes)


def _visible(cells: Sequence[Cell], cost: Cost) -> tuple[float, dict[str, list[Cell]]]:
    """The largest latency that is drawn, ns, and the cells up to it by `GROUPS`."""
    chosen = front(cells, cost)
    limit = max(visible_limit([cell.point.latency_ns for cell in cells]), chosen[0].point.latency_ns)
    return limit, _groups([cell for cell in cells if cell.point.latency_ns <= limit], chosen)


def _dots(groups: dict[str, list[Cell]], cost: Cost, label: str, axes: Any) -> dict[str, list[XY]]:
    at = {name: [(cost(cell), cell.point.latency_ns / MS) for cell in group] for name, group in groups.items()}
    for name, group in at.items():
        if group:
            axes.plot(*zip(*group, strict=True), label=name, **GROUPS[name])
    axes.grid(color="0.93")
    axes.set_axisbelow(True)
    axes.margins(0.08)
    scale(axes)
    axes.set(xlabel=label, ylabel="mean time per step, ms")
    legend_below(axes)
    return at


def _groups(cells: Sequence[Cell], chosen: Sequence[Cell]) -> dict[str, list[Cell]]:
    """By `GROUPS`."""
    front_name, beaten, yardstick = GROUPS
    groups: dict[str, list[Cell]] = {front_name: list(chosen), beaten: [], yardstick: []}
    for cell in (cell for cell in cells if cell not in chosen):
        groups[yardstick if cell.point.yardstick else beaten].append(cell)
    return groups


def _name(axes: Any, setting: Setting, groups: dict[str, list[Cell]], at: dict[str, list[XY]]) -> None:
    """Those of the front, where the next is another; yardsticks, and of the beaten those with a look elsewhere."""
    cells = [cell for group in groups.values() for cell in group]
    points = [point for group in at.values() for point in group]
    names = labels(cells)
    many = len(set(names)) < len(names)  # points of one name: sizes, which the axis shows
    length = len(groups[next(iter(groups))])
    named = [place for place in range(length) if not place or names[place] != names[place - 1]]
    if not many:
        known = [place for place, cell in enumerate(cells) if cell.point.yardstick or cell.policy in setting.looks]
        named += [place for place in known if place >= length]
    rest = [point for place, point in enumerate(points) if place not in named]
    name_points(axes.figure, axes, [names[place] for place in named], [points[place] for place in named], rest)
