"""HTML in which text cannot become markup: whatever is not `Html` already is escaped."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape

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
