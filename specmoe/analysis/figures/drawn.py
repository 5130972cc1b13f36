"""A figure with what it says."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class Drawn(NamedTuple):
    """One figure of a sweep: `name` is good for a file's name, `reading` is one sentence computed from the data."""

    name: str
    title: str
    reading: str
    figure: Figure
