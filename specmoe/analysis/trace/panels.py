"""What the figures of a trace share: what is said below them, which layers are shown, and how panels are laid out."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from specmoe.analysis.style import describe, figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN = 6  # layers that a figure of panels holds
COLOURS = "cividis"  # of heat maps: read alike by the colour-blind, and in grey
Facts = dict[str, Any]


def told(chart: "Figure", facts: Facts, title: str, note: str) -> None:
    """Title and caption: the note, the trace and its kind, the semantics, and that no hardware is involved."""
    trace = facts["trace"]
    routing = f"Routing: {trace['name']} ({trace['kind']}), {trace['phase']}, {facts['tokens']:,} tokens of "
    routing += f"{facts['sequences']} sequences; top-{trace['top_k']} of {trace['num_experts']} experts."
    origin = f"Semantics: {facts['semantics']}. Counted from the trace; no hardware profile enters."
    describe(chart, title, f"{note}\n{routing}\n{origin}")


def some_of(values: Sequence[int], most: int = SHOWN) -> list[int]:
    """All values; of more than `most`, `most` of them at equal distances, with both ends."""
    places = np.linspace(0, len(values) - 1, min(len(values), most)).round().astype(int)
    return [values[place] for place in places]


def ticks(layers: int, most: int = 12) -> range:
    """Places of at most `most` labels on an axis of layers, at equal distances from 0 on."""
    return range(0, layers, -(-layers // most))


def left_out(values: Sequence[int], most: int = SHOWN) -> str:
    """A sentence on what `some_of` leaves out; empty if nothing."""
    return f" {most} of {len(values)} panels are shown." if len(values) > most else ""


def cut(tokens: float, facts: Facts) -> str:
    """A sentence for streams that are the first part of a long trace; empty if they are all of it."""
    return f" Of the first {tokens:,.0f} tokens." if tokens < facts["tokens"] else ""


def grid(count: int, columns: int, width: float, height: float) -> "tuple[Figure, list[Any]]":
    """A figure of `count` panels in rows of at most `columns`; the last row's empty places stay blank."""
    across = min(count, columns)
    chart, axes = figure(-(-count // across), across, width=width, height=height)
    flat = list(np.atleast_1d(axes).reshape(-1))
    for blank in flat[count:]:
        blank.set_visible(False)
    return chart, flat[:count]


def matrix(
    rows: "pd.Series[Any]", columns: "pd.Series[Any]", values: "pd.Series[Any]", shape: Any
) -> NDArray[np.float64]:
    """A dense matrix from its cells; 0 where there is none."""
    dense = np.zeros(shape)
    dense[rows.to_numpy(), columns.to_numpy()] = values.to_numpy()
    return dense


def heat(axes: Any, values: NDArray[np.float64], top: float, **look: Any) -> Any:
    """A heat map from 0 to `top`, row 0 at the bottom, cells as they are."""
    look = {"origin": "lower", "aspect": "auto", "interpolation": "nearest", "cmap": COLOURS} | look
    return axes.imshow(values, vmin=0, vmax=top, **look)
