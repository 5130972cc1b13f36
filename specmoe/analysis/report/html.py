"""HTML in which text cannot become markup: whatever is not `Html` already is escaped.

Tables of a page. They are read without a script; with one they can be sorted and filtered.

The page itself: one file, which asks the network for nothing.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from typing import NamedTuple

from specmoe.text import visible

VOID = frozenset(("col", "input", "link", "meta", "br", "wbr"))


class Html(str):
    """Text that is HTML already; made by `tag`, `join` and what draws, never from what was read."""

    __slots__ = ()


def html(value: object) -> Html:
    """A value as HTML: escaped, unless it is that already; nothing for None."""
    if isinstance(value, Html):
        return value
    return Html("" if value is None else escape(visible(str(value))))


def join(parts: Iterable[object]) -> Html:
    """Parts, one after the other."""
    return Html("".join(map(html, parts)))


def breakable(text: str) -> Html:
    """A text with long dotted names, which may be broken after their dots."""
    return Html("<wbr>".join(html(part) for part in re.split(r"(?<=[a-z]\.)(?=[a-z])", text)))


def tag(element: str, /, *children: object, **attributes: object) -> Html:
    """An element. `class_` is `class`, `data_x` is `data-x`; True is an attribute without value, None no attribute."""
    opened = "".join(_attribute(key, value) for key, value in attributes.items())
    if element in VOID:
        return Html(f"<{element}{opened}>")
    return Html(f"<{element}{opened}>{join(children)}</{element}>")


def _attribute(key: str, value: object) -> str:
    if value is None:
        return ""
    name = key.rstrip("_").replace("_", "-")
    return f" {name}" if value is True else f' {name}="{escape(visible(str(value)))}"'


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


POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src '{}'; base-uri 'none'; form-action 'none'"
)


def document(title: str, opening: Html, parts: Sequence[tuple[str, str, Html]], footer: str) -> str:
    """The whole of it. A part is its id, its name in the list of parts, and its section."""
    script = asset("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=POLICY.format(f"sha256-{digest}")),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("link", rel="icon", href="data:,"),
        tag("style", Html(asset("page.css"))),
    )
    contents = tag("ul", *(tag("li", tag("a", name, href=f"#{key}")) for key, name, _ in parts))
    header = tag("header", opening, tag("nav", contents, aria_label="Parts of this page"))
    main = tag("main", join(part for _, _, part in parts))
    body = tag("body", header, main, tag("footer", footer), tag("script", Html(script)))
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def asset(name: str) -> str:
    """A file of the page's own."""
    return files(__package__).joinpath(name).read_text(encoding="utf-8")
