"""The page itself: one file, which asks the network for nothing."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files

from specmoe.analysis.report.markup import Html, join, tag

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
