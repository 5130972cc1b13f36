"""Sensitivity to the machine: what its numbers are worth.

`of_tornado` changes one number of the profile at a time, all by the same factors. `of_unknown` shows what is unknown
of the machine: each number from its low to its high end, by the draws of `specmoe.sim.sweep.retiming`.
"""

import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from specmoe.analysis.figures.setting import Drawn, Setting, percent, titled
from specmoe.analysis.point import Point, caption, ranked
from specmoe.analysis.style import COLOURS, baseline, figure, finish, panel
from specmoe.summary import SCALE
from specmoe.uncertainty import LEAST_EFFECT, ends, first_to_measure, machines_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANELS = 3  # policies at most
BARS = 12  # numbers at most
LESS: dict[str, Any] = {"color": COLOURS[5], "hatch": "////"}
MORE: dict[str, Any] = {"color": COLOURS[1]}


class Swing(NamedTuple):
    """How the mean step changes, as a share, with a number at the smaller and at the larger factor or end."""

    name: str
    less: float
    more: float

    @property
    def width(self) -> float:
        """What the number is worth."""
        return max(abs(self.less), abs(self.more))


def of_tornado(setting: Setting) -> Drawn | None:
    """A panel for each of the fastest policies and the baseline; None unless two numbers were changed one at a time."""
    factors = _factors(setting)
    if factors is None:
        return None
    swings = {policy: swings_of(setting, policy, factors) for policy in policies(setting)}
    swings = {policy: found for policy, found in swings.items() if len(found) > 1}
    if not swings:
        return None
    title = titled(_headline(swings, factors), setting.told(*setting.columns(SCALE)))
    note = f"Bars: change of the mean time per step with one number of the profile changed by {_told(factors)}."
    sides = f"x {factors[0]:.4g}", f"x {factors[1]:.4g}"
    return Drawn("tornado", title, _reading(setting, swings, factors), _figure(setting, swings, sides, title, note))


def of_unknown(setting: Setting) -> Drawn | None:
    """A panel for each of the fastest policies and the baseline; None unless a number's range moves the fastest."""
    points = {cell.policy: cell.point for cell in setting.along()}
    chosen = [points[name] for name in policies(setting) if points[name].drawn]
    swings = {point.about.policy: found for point in chosen if (found := swings_of_draws(point))}
    if not chosen or not first_to_measure(chosen[0].drawn):
        return None
    best, found = chosen[0].drawn, swings[chosen[0].about.policy]
    first = first_to_measure(best)
    title = titled(f"{best['policy']}: {first}", setting.told())
    reading = (
        f"{best['policy']}: {first}; of {len(best['unknown'])} numbers with a range that it depends on, {len(found)} "
        f"move its step by {percent(LEAST_EFFECT)} or more, and all together change it by {ends(best)}."
    )
    note = (
        f"Bars: change of the mean time per step with one number at either end of its range, the others in the middle "
        f"of theirs, fitted to {machines_of(best)}."
    )
    return Drawn("unknown", title, reading, _figure(setting, swings, ("low end", "high end"), title, note))


def swings_of_draws(point: Point) -> list[Swing]:
    """Of every number that moves a step by `LEAST_EFFECT` or more from its low to its high end, the largest first.

    Both ends are equally far from the middle by the logarithm.
    """
    effects = zip(point.drawn["unknown"], point.drawn["unknown_effect"], strict=True)
    halves = [(str(name), math.log1p(effect) / 2) for name, effect in effects if abs(effect) >= LEAST_EFFECT]
    return [Swing(name, math.expm1(-half), math.expm1(half)) for name, half in halves]


def policies(setting: Setting) -> list[str]:
    """The fastest real ones, and the one they are compared with; fastest first."""
    points = [cell.point for cell in setting.along() if not cell.point.yardstick]
    compared, order = baseline(points), [point.about.policy for point in ranked(points)]
    chosen = [name for name in order if name != compared][: PANELS - (compared is not None)]
    return [name for name in order if name in chosen or name == compared]


def swings_of(setting: Setting, policy: str, factors: tuple[float, float]) -> list[Swing]:
    """Of every number that was changed by both factors; the one that matters most first, ties by name."""
    (base,) = (cell.point.latency_ns for cell in setting.along() if cell.policy == policy)
    found = []
    for column in setting.columns(SCALE):
        at = {c.where[column]: c.point.latency_ns for c in setting.along(column) if c.policy == policy}
        if all(factor in at for factor in factors):
            found.append(Swing(column.removeprefix(SCALE), *(at[factor] / base - 1 for factor in factors)))
    return sorted(found, key=lambda swing: (-swing.width, swing.name))


def _factors(setting: Setting) -> tuple[float, float] | None:
    """The commonest factor below 1 and the commonest above it; None unless two numbers are scaled."""
    columns = setting.columns(SCALE)
    found = [{cell.where[column] for cell in setting.cells} for column in columns]
    below, above = (Counter(f for values in found for f in values if sign * (f - 1) > 0) for sign in (-1, 1))
    if len(columns) < 2 or not below or not above:
        return None
    return max(below, key=lambda f: (below[f], f)), min(above, key=lambda f: (-above[f], f))


def _told(factors: tuple[float, float]) -> str:
    """±20 %, or what else the factors are."""
    less, more = (round(abs(factor - 1), 9) for factor in factors)
    return (
        f"\N{PLUS-MINUS SIGN}{100 * more:.4g} %" if less == more else f"a factor {factors[0]:.4g} or {factors[1]:.4g}"
    )


def _reading(setting: Setting, swings: dict[str, list[Swing]], factors: tuple[float, float]) -> str:
    policy, found = next(iter(swings.items()))
    first, second = found[:2]
    told = {SCALE + swing.name for swing in found}
    unknown = [name.removeprefix(SCALE) for name in setting.columns(SCALE) if name not in told]
    but = f"; not known of {', '.join(unknown)}" if unknown else ""
    return (
        f"With {_told(factors)}, {first.name} matters most to {policy} ({_signed(first.less)} to {_signed(first.more)} "
        f"of its mean step), then {second.name} ({_signed(second.less)} to {_signed(second.more)}){but}."
    )


def _headline(swings: dict[str, list[Swing]], factors: tuple[float, float]) -> str:
    policy, order = next(iter(swings.items()))
    return f"{order[0].name} matters most: {_told(factors)} changes {policy}'s step by up to {percent(order[0].width)}"


def _signed(share: float) -> str:
    return f"{'+' if share > 0 else ''}{percent(share)}"


def _figure(
    setting: Setting, swings: dict[str, list[Swing]], sides: tuple[str, str], title: str, note: str
) -> "Figure":
    names = _names(list(swings.values()))
    most = max(swing.width for found in swings.values() for swing in found)
    chart, panels = figure(1, len(swings), width=2.3 + 5.4 / len(swings), height=1.7 + 0.3 * len(names))
    for place, (policy, found) in enumerate(swings.items()):
        axes = panels[place] if len(swings) > 1 else panels
        draw_tornado(found, sides, axes, names=names, most=most)
        axes.set_title(policy, fontsize=9)
        if place:
            axes.set_yticklabels([""] * len(names))
    axes.legend(frameon=False, loc="lower right", fontsize=9)
    hidden = len({swing.name for found in swings.values() for swing in found}) - len(names)
    note += f" Not shown: {hidden} numbers that matter less." * (hidden > 0)
    points = [cell.point for cell in setting.along() if cell.policy in swings]
    finish(chart, title, f"{note}\n{caption(points)}")
    return chart


def draw_tornado(
    swings: Sequence[Swing],
    sides: tuple[str, str],
    ax: "Axes | None" = None,
    names: Sequence[str] | None = None,
    most: float | None = None,
) -> "Axes":
    """The swings of one policy, a row for each of `names`, up to a change of `most`; on new Axes by default.

    `sides` name the bars of the smaller and the larger value in the legend.
    Default: the names that matter most, and the largest change of the swings.
    """
    names = _names([swings]) if names is None else names
    most = max(swing.width for swing in swings) if most is None else most
    axes = panel(ax, 7.7, 1.7 + 0.3 * len(names))
    by_name = {swing.name: swing for swing in swings}
    drawn = [row for row, name in enumerate(names) if name in by_name]
    for row in drawn:
        _bars(axes, row, by_name[names[row]], sides, most, row == drawn[0])
    axes.axvline(0, color="black", linewidth=0.8)
    axes.set(
        xlim=(-135 * most, 135 * most), ylim=(len(names) - 0.4, -0.6), xlabel="change of the mean time per step, %"
    )
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", length=0)
    return cast("Axes", axes)


def _names(swings: Sequence[Sequence[Swing]]) -> list[str]:
    """The numbers that matter most to any of the policies, by that."""
    most: dict[str, float] = {}
    for swing in (swing for found in swings for swing in found):
        most[swing.name] = max(swing.width, most.get(swing.name, 0))
    return sorted(most, key=lambda name: (-most[name], name))[:BARS]


def _bars(axes: Any, row: int, swing: Swing, names: tuple[str, str], most: float, named: bool) -> None:
    """Both bars of a number; where they point the same way the shorter is in front. One row is named in the legend."""
    sides = [(swing.less, names[0], LESS), (swing.more, names[1], MORE)]
    for value, name, look in sorted(sides, key=lambda side: -abs(side[0])):
        axes.barh(row, 100 * value, height=0.66, label=name if named else "_", edgecolor="white", **look)
    low, high = min(0.0, swing.less, swing.more), max(0.0, swing.less, swing.more)
    for value, align, offset in ((low, "right", -3), (high, "left", 3)):
        if abs(value) >= most / 200:
            look = {"textcoords": "offset points", "fontsize": 7.5, "va": "center", "ha": align}
            axes.annotate(f"{100 * value:+.1f}", (100 * value, row), (offset, 0), **look)
