"""The look that all figures share: colours of policies, titles, captions, scales, PNG files.

The colours are those of Okabe and Ito (2008) and safe for colour-blind readers. Titles and captions are broken into
lines as wide as the figure. Of many lines only `TOLD_APART` have a colour: the others are thin and grey, under one
name, because nobody can follow more. Labels beside points are placed so that none covers a point or another label;
equal inputs give equal places. No display is needed.
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


class Box(NamedTuple):
    """A rectangle, in any unit."""

    left: float
    bottom: float
    right: float
    top: float

    def overlaps(self, other: "Box") -> bool:
        """Whether they share more than an edge."""
        beside = self.right <= other.left or other.right <= self.left
        return not (beside or self.top <= other.bottom or other.top <= self.bottom)

    def within(self, other: "Box") -> bool:
        """Whether no part is outside the other."""
        return self.left >= other.left and self.right <= other.right and self._rows_within(other)

    def _rows_within(self, other: "Box") -> bool:
        return self.bottom >= other.bottom and self.top <= other.top


def place(
    anchors: Sequence[tuple[float, float]],
    sizes: Sequence[tuple[float, float]],
    gap: float,
    page: Box,
    others: Sequence[tuple[float, float]] = (),
) -> list[Box]:
    """A box of the given (width, height) for each anchor (x, y), `gap` away from every anchor and the other points.

    Anchors are served in their order, each with the nearest free place on the page: level with its anchor, then a
    step higher, a step lower, two steps higher and so on; at the right, then at the left. Where no place is free the
    last one is taken.
    """
    points = [Box(x - gap, y - gap, x + gap, y + gap) for x, y in (*anchors, *others)]
    placed: list[Box] = []
    for anchor, size in zip(anchors, sizes, strict=True):
        box = Box(0, 0, 0, 0)
        for box in _candidates(anchor, size, gap, page):
            if box.within(page) and not any(box.overlaps(other) for other in (*points, *placed)):
                break
        placed.append(box)
    return placed


def _candidates(anchor: tuple[float, float], size: tuple[float, float], gap: float, page: Box) -> Iterator[Box]:
    (x, y), (width, height) = anchor, size
    rows = int((page.top - page.bottom) / height * 2) + 1
    for row in range(2 * rows + 1):
        middle = y + (row + 1) // 2 * (1 if row % 2 else -1) * height / 2
        for left in (x + gap, x - gap - width):
            yield Box(left, middle - height / 2, left + width, middle + height / 2)


GAP = 5.0  # points between a point and a label
LEADER = {"arrowstyle": "-", "color": "0.4", "linewidth": 0.7, "shrinkA": 0, "shrinkB": 3}
BACKING = {"facecolor": "white", "edgecolor": "none", "pad": 0.4, "alpha": 0.8}
XY = tuple[float, float]


def name_points(
    chart: "Figure", axes: "Axes", names: Sequence[str], at: Sequence[XY], unnamed: Sequence[XY] = (), **look: Any
) -> None:
    """Name each point where nothing else is, the `unnamed` points neither; a short line leads there.

    Called when all else is drawn: sizes are those of the finished layout. `look` is that of the text.
    """
    from matplotlib.text import Text

    how: Any = {
        "fontsize": 8,
        "va": "bottom",
        "textcoords": "offset points",
        "arrowprops": LEADER,
        "bbox": BACKING,
    } | look
    texts = [axes.annotate(name, xy, (0, 0), **how) for name, xy in zip(names, at, strict=True)]
    for text in texts:
        text.set_in_layout(False)
    lay_out(chart)
    scale = 72 / chart.dpi  # points of a pixel

    def on_paper(points: Sequence[XY]) -> list[XY]:
        return [(scale * x, scale * y) for x, y in axes.transData.transform(points)] if points else []

    anchors = on_paper(at)
    extents = [Text.get_window_extent(text) for text in texts]
    sizes = [(scale * extent.width, scale * extent.height) for extent in extents]
    page = Box(*(scale * edge for edge in axes.bbox.extents))
    for text, (x, y), box in zip(texts, anchors, place(anchors, sizes, GAP, page, on_paper(unnamed)), strict=True):
        text.set_position((box.left - x, box.bottom - y))
