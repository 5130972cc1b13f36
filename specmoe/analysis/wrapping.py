"""Titles and captions of any length, broken into lines that the figure is wide enough for."""

from __future__ import annotations

import re
from textwrap import wrap
from typing import TYPE_CHECKING

from specmoe.analysis.style import describe

if TYPE_CHECKING:
    from matplotlib.figure import Figure

KEPT = "\N{NO-BREAK SPACE}"
CAPTION, TITLE = 17.5, 10.5  # characters an inch, of the widths that `describe` writes in


def finish(chart: Figure, title: str, caption: str) -> None:
    """`describe` with both texts broken to the figure's width; line breaks that are there stay."""
    inches = float(chart.get_figwidth())
    describe(chart, broken(title, int(TITLE * inches)), broken(caption, int(CAPTION * inches)))


def broken(text: str, width: int) -> str:
    """The text in lines of at most so many characters, between words; a longer word stays whole.

    A number stays with its unit.
    """
    kept = re.sub(r"(?<=\d) (?=[A-Za-z%])", KEPT, text)
    lines = [wrap(line, width, break_long_words=False, break_on_hyphens=False) or [""] for line in kept.split("\n")]
    return "\n".join(line for part in lines for line in part).replace(KEPT, " ")
