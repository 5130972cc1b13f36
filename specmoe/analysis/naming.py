"""Names beside points, where nothing else is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from specmoe.analysis.labels import Box, place

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

GAP = 5.0  # points between a point and a label
LEADER = {"arrowstyle": "-", "color": "0.4", "linewidth": 0.7, "shrinkA": 0, "shrinkB": 3}
BACKING = {"facecolor": "white", "edgecolor": "none", "pad": 0.4, "alpha": 0.8}
XY = tuple[float, float]


def name_points(
    chart: Figure, axes: Axes, names: Sequence[str], at: Sequence[XY], unnamed: Sequence[XY] = (), **look: Any
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
    chart.draw_without_rendering()
    scale = 72 / chart.dpi  # points of a pixel

    def on_paper(points: Sequence[XY]) -> list[XY]:
        return [(scale * x, scale * y) for x, y in axes.transData.transform(points)] if points else []

    anchors = on_paper(at)
    extents = [Text.get_window_extent(text) for text in texts]
    sizes = [(scale * extent.width, scale * extent.height) for extent in extents]
    page = Box(*(scale * edge for edge in axes.bbox.extents))
    for text, (x, y), box in zip(texts, anchors, place(anchors, sizes, GAP, page, on_paper(unnamed)), strict=True):
        text.set_position((box.left - x, box.bottom - y))
