"""Labels beside points, placed so that none covers a point or another label; equal inputs give equal places."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from specmoe.analysis.style import lay_out

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


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
