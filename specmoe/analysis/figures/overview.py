"""Policies side by side where something else than a number varies: machines, models, traces, formats, tiers, links."""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from specmoe.analysis.figures.precision import ASSUMED
from specmoe.analysis.figures.setting import NO_POLICY, Drawn, Setting, ms, titled, told
from specmoe.analysis.point import MS, Point, bounds_of, caption, of_machine, whiskers, winner
from specmoe.analysis.style import DECADE, Looks, figure, finish, legend_beside, logarithmic, looks
from specmoe.summary import SET

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROW = 0.5  # inches
SPREAD = 0.6  # of a row: marks of policies that are equally fast stay visible
WORDS = ("format", "style", "dense_format", "tier", "home_format", "compressed_slots", "host_set", "link")
BOUNDS: dict[str, Any] = {"floor": {"marker": "|", "markersize": 10}, "oracle": {"marker": "D", "markerfacecolor": "w"}}


class Row(NamedTuple):
    """One row of the figure and all policies there."""

    name: str
    points: list[Point]


def of_settings(settings: Sequence[Setting]) -> Drawn | None:
    """A row for each setting, at its own main values; None of a single one."""
    rows = [Row(setting.told(), [cell.point for cell in setting.along()]) for setting in settings]
    if len(rows) < 2:
        return None
    across = ("trace", "trace_kind", "phase", "profile", "shape", "format", "batch", "semantics", "num_layers")
    title = _headline(rows, "settings")
    return Drawn("settings", title, _reading(rows), _figure(rows, title, looks(_all(rows)), across))


def of_choices(setting: Setting) -> list[Drawn]:
    """A figure for each of `WORDS` and each parameter of policies that varies, with a row for each value.

    None where fewer than two of the values have a policy that could be built.
    """
    own = [name for name in setting.columns(SET) if not of_machine(name) and name != ASSUMED]
    found = []
    for column in (name for name in (*WORDS, *own) if name in setting.varying):
        rows: dict[Any, list[Point]] = {}
        for cell in setting.along(column):
            rows.setdefault(cell.where[column], []).append(cell.point)
        if sum(winner(points) is not None for points in rows.values()) > 1:
            found.append(_by_choice(setting, column, rows))
    return found


def _by_choice(setting: Setting, column: str, points: dict[Any, list[Point]]) -> Drawn:
    plain = column.removeprefix(SET).replace("_", " ")
    nothing = f"{plain}: the policy's own" if column.startswith(SET) else f"{plain}: none"
    rows = [Row(told(column, value) or nothing, found) for value, found in points.items()]
    title = titled(_headline(rows, f"values of {plain}"), setting.told(column))
    name = "by-" + plain.replace(" ", "-").replace(".", "-")  # another name than that of a number's figure
    return Drawn(name, title, _reading(rows), _figure(rows, title, setting.looks, (column,)))


def _all(rows: Sequence[Row]) -> list[Point]:
    return [point for row in rows for point in row.points]


def _headline(rows: Sequence[Row], what: str) -> str:
    """The policy that is fastest in most rows, which are `what`; ties by name."""
    best = Counter(found.about.policy for row in rows if (found := winner(row.points)))
    if not best:
        return NO_POLICY.removesuffix(".")
    name, count = min(best.items(), key=lambda item: (-item[1], item[0]))
    share = f"all {count}" if count == len(rows) else f"{count} of {len(rows)}"
    return f"{name} is fastest with {share} {what}"


def _reading(rows: Sequence[Row]) -> str:
    """The best of all rows and of the worst of them."""
    best = [(found.latency_ns, row.name, found.about.policy) for row in rows if (found := winner(row.points))]
    if not best:
        return NO_POLICY
    (least, name, policy), (most, other, theirs) = min(best), max(best)
    text = f"Fastest is {policy} with {name}, {ms(least)} a step; with {other} it is {theirs}, {ms(most)}"
    work = {(p.about.trace, p.about.phase, p.about.batch, p.about.shape) for p in _all(rows)}
    return f"{text}." if len(work) == 1 else f"{text}: steps of different work."


def _figure(rows: Sequence[Row], title: str, told_apart: Looks, across: Sequence[str]) -> "Figure":
    chart, axes = figure(1, 1, width=8.2, height=1.7 + ROW * len(rows))
    shown = [point for point in _all(rows) if not point.yardstick]
    for place, (name, look) in enumerate(told_apart.items()):
        aside = SPREAD * (place / len(told_apart) - 0.5)
        own = [(p, y + aside) for y, row in enumerate(rows) for p in row.points if p.about.policy == name]
        if own:
            at = [(point.latency_ns / MS, y) for point, y in own]
            axes.plot(*zip(*at, strict=True), label=name, **dict(look) | {"linestyle": "", "markersize": 6})
        for point, y in ((point, y) for point, y in own if point.drawn):
            axes.plot([end / MS for end in point.range_ns], [y, y], color=look["color"], linewidth=1.2, label="_")
    for name, look in BOUNDS.items():
        at = [(bounds_of(row.points)[name] / MS, y) for y, row in enumerate(rows)]
        axes.plot(*zip(*at, strict=True), linestyle="", color="black", label=name, zorder=1, **look)
    for y in range(len(rows)):
        axes.axhline(y, color="0.93", zorder=0)
    if axes.dataLim.x1 >= DECADE * axes.dataLim.x0:
        logarithmic(axes, "x")
    axes.set_yticks(range(len(rows)), [row.name for row in rows])
    axes.tick_params(axis="y", length=0)
    axes.set(ylim=(len(rows) - 0.4, -0.6), xlabel="mean time per step, ms")
    legend_beside(axes)
    hidden = len({point.about.policy for point in shown} - set(told_apart))
    note = f"\nNot shown: other policies ({hidden})." * (hidden > 0)
    finish(chart, title, caption(_all(rows), across) + whiskers(_all(rows)) + note)
    return chart
