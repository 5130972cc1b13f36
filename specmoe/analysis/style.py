"""The look that all figures share: colours of policies, titles, captions, scales, PNG files.

The colours are those of Okabe and Ito (2008) and safe for colour-blind readers. Titles and captions are broken into
lines as wide as the figure. Of many lines only `TOLD_APART` have a colour: the others are thin and grey, under one
name, because nobody can follow more. No display is needed.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from specmoe.analysis.point import Point, visible_limit
from specmoe.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = "osD^v<>PX*hp"


@contextmanager
def plain_text() -> Iterator[None]:
    """Figures drawn in this block show a $ in a name as it is, not as the start of a formula."""
    import matplotlib as mpl

    with mpl.rc_context({"text.parse_math": False}):
        yield


def figure(rows: int, columns: int, width: float = 5.0, height: float = 3.4) -> "tuple[Figure, Any]":
    """A figure of `rows` by `columns` panels, each `width` by `height` inches with its axes, as `subplots`."""
    import matplotlib as mpl
    from cycler import cycler
    from matplotlib.figure import Figure

    look: Any = {
        "axes.prop_cycle": cycler(color=COLOURS),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "font.size": 9,
    }
    with mpl.rc_context(look):
        chart = Figure(figsize=(width * columns, height * rows), layout="constrained")
        return chart, chart.subplots(rows, columns)


def panel(ax: "Axes | None", width: float, height: float) -> Any:
    """The Axes to draw on. Default: those of a new figure, in inches.

    The result is typed Any, since matplotlib's types lack some methods of Axes.
    """
    return figure(1, 1, width, height)[1] if ax is None else ax


def describe(chart: "Figure", title: str, caption: str) -> None:
    """Write a title above all panels and a caption in small print below them."""
    chart.suptitle(title, fontsize=11, weight="bold")
    chart.supxlabel(caption, fontsize=7, color="0.35", linespacing=1.4)


def legend_below(axes: Any, inches: float = 0.42) -> None:
    """Place a legend in one row, some inches below the axes' lower edge."""
    from matplotlib.transforms import ScaledTranslation

    moved = axes.transAxes + ScaledTranslation(0, -inches, axes.figure.dpi_scale_trans)
    below: Any = {"loc": "upper center", "bbox_to_anchor": (0.5, 0), "bbox_transform": moved}
    axes.legend(frameon=False, ncols=5, fontsize=9, **below)


def save(chart: "Figure", png: Path) -> None:
    """Write a PNG of 120 dpi, whole or not at all."""
    with replacing(png) as fresh:
        write(chart, fresh, "png", 120)


def lay_out(chart: "Figure") -> Any:
    """Place the panels of a figure as drawing would, by its layout engine if it has one; that engine."""
    engine = chart.get_layout_engine()
    if engine is not None:
        engine.execute(chart)
    return engine


def write(chart: "Figure", to: Any, kind: Literal["png", "svg"], dpi: int) -> None:
    """Write a figure. Its panels are placed beforehand, since it would otherwise be drawn twice."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    canvas = FigureCanvasSVG(chart) if kind == "svg" else FigureCanvasAgg(chart)
    chart.set_dpi(dpi)
    engine = lay_out(chart)
    chart.set_layout_engine(None)
    canvas.print_figure(to, format=kind, dpi=dpi)
    chart.set_layout_engine(engine)


KEPT = "\N{NO-BREAK SPACE}"
CAPTION, TITLE = 17.5, 10.5  # characters an inch, of the widths that `describe` writes in


def finish(chart: "Figure", title: str, caption: str) -> None:
    """`describe` with both texts broken to the figure's width; their own line breaks stay."""
    inches = float(chart.get_figwidth())
    describe(chart, broken(title, int(TITLE * inches)), broken(caption, int(CAPTION * inches)))


def broken(text: str, width: int) -> str:
    """The text in lines of at most `width` characters, broken between words, never between a number and its unit."""
    kept = re.sub(r"(?<=\d) (?=[A-Za-z%])", KEPT, text)
    lines = [wrap(line, width, break_long_words=False, break_on_hyphens=False) or [""] for line in kept.split("\n")]
    return "\n".join(line for part in lines for line in part).replace(KEPT, " ")


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
    ends: Sequence[tuple[float, float]] = ()  # low and high of each y where machines were drawn


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
            _whiskers(axes, line, told_apart[line.name]["color"])
    for number, line in enumerate(others):
        name = line.name if len(others) == 1 else f"{len(others)} others"
        axes.plot(line.x, line.y, label="_" if number else name, **OTHER)


def _whiskers(axes: Any, line: Line, colour: str) -> None:
    """From the low to the high end of each value that has two."""
    wide = [(x, *ends) for x, ends in zip(line.x, line.ends, strict=False) if ends[0] < ends[1]]
    if wide:
        axes.vlines(*zip(*wide, strict=True), color=colour, linewidth=3.5, alpha=0.3, zorder=1)


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
