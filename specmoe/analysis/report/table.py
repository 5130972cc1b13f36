"""Tables of a page. They are read without a script; with one they can be sorted and filtered."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from specmoe.analysis.report.markup import Html, join, tag


class Column(NamedTuple):
    """A title, what it means, and whether its cells are numbers."""

    title: str
    meaning: str = ""
    number: bool = False


class Row(NamedTuple):
    """Texts of the cells, one for each column, and the row's class in the style sheet."""

    cells: Sequence[object]
    look: str | None = None


def plain_table(caption: str, columns: Sequence[Column], rows: Iterable[Row], **attributes: object) -> Html:
    """A table that scrolls by itself where it is too wide; the first cell of a row is its header."""
    head = tag("thead", tag("tr", *(_header(column) for column in columns)))
    body = tag("tbody", *(_row(row, columns) for row in rows))
    table = tag("table", tag("caption", caption), head, body, **attributes)
    return tag("div", table, class_="scroll", tabindex="0", role="region", aria_label=caption.split(".")[0])


def sortable_table(key: str, caption: str, columns: Sequence[Column], rows: Sequence[Row], first: int) -> Html:
    """One that a script lets readers sort and filter; the rows come sorted by column `first`, upwards."""
    field = tag("input", type="search", id=f"{key}-filter", autocomplete="off", spellcheck="false")
    label = tag("label", "Show rows with ", field, for_=f"{key}-filter")
    controls = tag("p", label, " ", tag("output", for_=f"{key}-filter"), class_="filter", hidden=True)
    return join((controls, plain_table(caption, columns, rows, id=key, class_="sortable", data_sorted=first)))


def _header(column: Column) -> Html:
    look = "number" if column.number else None
    return tag("th", column.title, scope="col", class_=look, title=column.meaning or None)


def _row(row: Row, columns: Sequence[Column]) -> Html:
    first, *others = zip(row.cells, columns, strict=True)
    cells = (tag("td", cell, class_="number" if column.number else None) for cell, column in others)
    return tag("tr", tag("th", first[0], scope="row"), *cells, class_=row.look)
