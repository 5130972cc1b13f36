"""Lines of policies: which are distinguished, in which colour, on which scale, and which are too slow to draw.

More than `TOLD_APART` lines nobody can follow: the others are thin and grey, under one name.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from specmoe.analysis.point import Point, visible_limit
from specmoe.analysis.style import COLOURS, MARKERS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DECADE = 10
BASELINES = ("on-demand-lru", "on-demand")  # what a policy is compared with: the first that there is
LOOKS: list[dict[str, Any]] = [
    {"color": colour, "marker": marker, "markersize": 4, "linewidth": 1.3}
    for colour, marker in zip((*COLOURS[:-1], "0.35"), MARKERS, strict=False)  # black is the bounds'
]
TOLD_APART = len(LOOKS)
OTHER: dict[str, Any] = {"color": "0.78", "linewidth": 0.8, "marker": ".", "markersize": 3, "zorder": 1}

Looks = Mapping[str, Mapping[str, Any]]  # of the policies that are told apart


class Line(NamedTuple):
    """A policy's values, in the order of the horizontal axis."""

    name: str
    x: list[float]
    y: list[float]


def baseline(points: Sequence[Point]) -> str | None:
    """The policy that others are compared with."""
    names = {point.about.policy for point in points}
    return next((name for name in BASELINES if name in names), None)


def looks(points: Sequence[Point]) -> Looks:
    """A look for the policies that are the fastest somewhere or nearly so, and for the baseline; by their name.

    Somewhere: at the same slots and batch on the same machine, as far as points tell. Yardsticks have none.
    """
    best: dict[str, float] = {}
    groups: dict[Any, list[Point]] = {}
    for point in points:
        if not point.yardstick:
            about = point.about
            groups.setdefault((about.slots, about.batch, about.format, about.changed), []).append(point)
    for group in groups.values():
        fastest = min(point.latency_ns for point in group)
        for point in group:
            name, ratio = point.about.policy, point.latency_ns / fastest
            best[name] = min(ratio, best.get(name, ratio))
    compared = baseline(points)
    chosen = sorted(best, key=lambda name: (name != compared, best[name], name))[:TOLD_APART]
    return dict(zip(sorted(chosen), LOOKS, strict=False))


def draw(axes: "Axes", lines: Sequence[Line], told_apart: Looks) -> None:
    """Each line in its look; those without one in grey, under one entry of the legend, which is the last."""
    others = [line for line in lines if line.name not in told_apart]
    for line in lines:
        if line.name in told_apart:
            axes.plot(line.x, line.y, label=line.name, **told_apart[line.name])
    for number, line in enumerate(others):
        name = line.name if len(others) == 1 else f"{len(others)} others"
        axes.plot(line.x, line.y, label="_" if number else name, **OTHER)


def split_far(lines: Sequence[Line]) -> tuple[list[Line], list[Line]]:
    """The lines to draw, and those that are too high everywhere."""
    limit = visible_limit([value for line in lines for value in line.y])
    near = [line for line in lines if min(line.y) <= limit]
    return near, [line for line in lines if line not in near]


def legend_beside(axes: "Axes") -> None:
    """At the right of the axes, from their top."""
    axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.01, 1), borderaxespad=0, fontsize=8)


def scale(axes: "Axes") -> None:
    """Logarithmic where a decade or more is spanned, with plain numbers at the ticks."""
    ends = axes.dataLim
    for axis, low, high in (("x", ends.x0, ends.x1), ("y", ends.y0, ends.y1)):
        if low > 0 and high / low >= DECADE:
            logarithmic(axes, axis)


def logarithmic(axes: "Axes", axis: str) -> None:
    """1, 2, 5, 10, ... at the ticks of an axis, `x` or `y`."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set(**{f"{axis}scale": "log"})
    ticks = getattr(axes, f"{axis}axis")
    ticks.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ticks.set_minor_locator(NullLocator())
    ticks.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
