"""HTML of the report: text that cannot become markup, tables that sort, the table of a study, and the page."""

import base64
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from importlib.resources import files
from typing import Any, NamedTuple

import pandas as pd

from specmoe.analysis.point import known, shown, unit_of
from specmoe.errors import visible
from specmoe.summary import KEYS, SCALE, SET
from specmoe.sweep_table import SweepTable

VOID = frozenset(("col", "input", "link", "meta", "br", "wbr"))


class Html(str):
    """Text that is HTML already. Only `tag`, `join` and the figures construct it; text from a file is never one."""

    __slots__ = ()


def html(value: object) -> Html:
    """A value as HTML: `Html` stays as it is, other text is escaped, None is empty."""
    if isinstance(value, Html):
        return value
    return Html("" if value is None else escape(visible(str(value))))


def join(parts: Iterable[object]) -> Html:
    """The parts concatenated."""
    return Html("".join(map(html, parts)))


def breakable(text: str) -> Html:
    """A text as HTML in which a line may break after the dots of a dotted name."""
    return Html("<wbr>".join(html(part) for part in re.split(r"(?<=[a-z]\.)(?=[a-z])", text)))


def tag(element: str, /, *children: object, **attributes: object) -> Html:
    """An element. `class_` means `class`, `data_x` means `data-x`; True is an attribute without value, None is none."""
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
    """A column of a table: its title, the title's meaning, and whether cells are numbers."""

    title: str
    meaning: str = ""
    number: bool = False


class Row(NamedTuple):
    """A row of a table: one text per column, and the row's class in the style sheet."""

    cells: Sequence[object]
    look: str | None = None


def plain_table(caption: str, columns: Sequence[Column], rows: Iterable[Row], **attributes: object) -> Html:
    """A table that scrolls if it is wider than the page; the first cell of a row is its header."""
    head = tag("thead", tag("tr", *(_header(column) for column in columns)))
    body = tag("tbody", *(_row(row, columns) for row in rows))
    table = tag("table", tag("caption", caption), head, body, **attributes)
    return tag("div", table, class_="scroll", tabindex="0", role="region", aria_label=caption.split(".")[0])


def sortable_table(key: str, caption: str, columns: Sequence[Column], rows: Sequence[Row], first: int) -> Html:
    """A table that readers can sort and filter; initially its rows ascend by column `first`."""
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
    """The whole page. Each part is (id, name in the list of parts, section)."""
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
    """The text of a file in this directory: the page's style sheet or script."""
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


MOST = 2000  # rows that a page shows
NONE = "\N{EN DASH}"
ALWAYS = ("policy",)
MANY = 3  # columns `set.*` and `scale.*` that a table shows one by one
CHANGED = "changed"  # the column that stands for more of them


class Figure(NamedTuple):
    """A column whose cells are computed from a row of the sweep's table."""

    column: Column
    value: Callable[[Mapping[str, Any]], float | None]
    digits: int


def _step_share(name: str) -> Callable[[Mapping[str, Any]], float]:
    return lambda row: 100 * row[name] / (row["latency_mean_ns"] * row["steps"])


def _scaled(name: str, size: float) -> Callable[[Mapping[str, Any]], float | None]:
    return lambda row: None if known(row[name]) is None else row[name] / size


DRAWN = (  # of a table with drawn machines
    Figure(Column("fastest, ms", "mean step that 5 of 100 drawn machines beat", True), _scaled("step_p5_ns", 1e6), 3),
    Figure(Column("slowest, ms", "mean step that 95 of 100 drawn machines beat", True), _scaled("step_p95_ns", 1e6), 3),
    Figure(Column("fastest on, %", "of the drawn machines, of all policies", True), _scaled("fastest_share", 0.01), 0),
)
FIGURES = (
    Figure(Column("step, ms", "mean time of a step", True), _scaled("latency_mean_ns", 1e6), 3),
    Figure(Column("p99, ms", "time that 99 of 100 steps take at most", True), _scaled("latency_p99_ns", 1e6), 3),
    Figure(Column("tokens/s", "tokens of all sequences", True), _scaled("tokens_per_second", 1), 1),
    Figure(
        Column("\N{MULTIPLICATION SIGN} oracle", "mean step over the oracle's on the same slots", True),
        lambda row: row["latency_mean_ns"] / row["oracle_ns"],
        2,
    ),
    Figure(Column("hits, %", "demands that were resident, landed or not", True), _scaled("hit_rate", 0.01), 1),
    Figure(Column("used, %", "of the prefetched experts", True), _scaled("precision", 0.01), 1),
    Figure(Column("stall, %", "of the time: the compute stream waits for loads", True), _step_share("stall_ns"), 1),
    Figure(
        Column("MB/step", "copied over the link in a step", True),
        lambda row: row["bytes_loaded"] / row["steps"] / 1e6,
        1,
    ),
    Figure(Column("VRAM, GiB", "for all weights", True), _scaled("vram_peak_bytes", 2**30), 2),
)


def study_table(key: str, table: SweepTable) -> Html:
    """What all cells share, then a table of at most `MOST` cells, fastest first and failed ones last."""
    keys = _together(varying(table.rows, [*KEYS, *table.varied]))
    good = table.good.sort_values(["latency_mean_ns", "policy"], kind="stable").to_dict("records")
    bad = table.rows[table.rows["error"] != ""].to_dict("records")
    noted = bool(bad) or any(row["yardstick"] for row in good)
    figures = [*FIGURES, *DRAWN] if table.good["draws"].notna().any() else FIGURES
    columns = [
        *(_key_column(name, table.rows) for name in keys),
        *(figure.column for figure in figures),
        *[Column("note")] * noted,
    ]
    rows = [_good_row(row, keys, figures, noted) for row in good]
    rows += [_bad_row(row, keys, figures) for row in bad]
    drawn = sortable_table(key, f"{len(rows[:MOST])} cells, fastest first", columns, rows[:MOST], first=len(keys))
    return join([tag("p", _remark(table, keys, len(rows)), class_="soft"), drawn])


def varying(rows: pd.DataFrame, names: Sequence[str]) -> list[str]:
    """Names of the columns whose values differ among the rows, the policy first."""
    differing = [name for name in names if name not in ALWAYS and rows[name].nunique(dropna=False) > 1]
    return [*ALWAYS, *differing]


def _together(keys: Sequence[str]) -> list[str]:
    """The names, with one column in place of those for settings if these are many."""
    varied = [name for name in keys if name.startswith((SET, SCALE))]
    return [*keys] if len(varied) <= MANY else [*(name for name in keys if name not in varied), CHANGED]


def shared(table: SweepTable) -> dict[str, str]:
    """Values that all rows have in common, by column, without empty ones."""
    keys = varying(table.rows, [*KEYS, *table.varied])
    first = table.rows.iloc[0].to_dict()
    same = {name: value_text(name, first[name]) for name in (*KEYS, *table.varied) if name not in keys}
    return {title(name): text for name, text in same.items() if text not in ("", NONE)}


TITLES = {"home_format": "format at home", "dense_format": "format of dense weights"}


def title(name: str) -> str:
    """A column's title, with its unit."""
    if name.startswith(SCALE):
        return f"{name.removeprefix(SCALE)}, \N{MULTIPLICATION SIGN}"
    plain = name.removeprefix(SET)
    unit, _ = unit_of(plain) if name.startswith(SET) else ("", 1)
    return f"{plain}, {unit}" if unit else TITLES.get(plain, plain.replace("_", " "))


def value_text(name: str, value: Any) -> str:
    """A cell's text for the value of a key column."""
    found = known(value)
    if found is None or (name in ("context", "threads") and not found):  # nothing was asked for
        return NONE
    if isinstance(found, str):
        return found
    if name.startswith((SET, SCALE)):
        return f"{found / unit_of(name.removeprefix(SET))[1]:.4g}"
    return str(int(found)) if isinstance(found, float) else str(found)  # whole numbers are floats beside empty cells


def _key_column(name: str, rows: pd.DataFrame) -> Column:
    if name == CHANGED:
        return Column(CHANGED, "values that are not the profile's or the policy's own")
    return Column(title(name), name, not rows[name].map(lambda value: isinstance(value, str)).any())


def _key_text(name: str, row: Mapping[Any, Any]) -> str:
    if name != CHANGED:
        return value_text(name, row[name])
    varied = [(key, known(value)) for key, value in row.items() if key.startswith((SET, SCALE))]
    told = [
        shown(key, value) for key, value in varied if value is not None and not (key.startswith(SCALE) and value == 1)
    ]
    return ", ".join(told) or NONE


def _good_row(row: Mapping[Any, Any], keys: Sequence[str], figures: Sequence[Figure], noted: bool) -> Row:
    cells = [_key_text(name, row) for name in keys]
    values = ((figure.value(row), figure.digits) for figure in figures)
    cells += [NONE if known(value) is None else f"{value:.{digits}f}" for value, digits in values]
    return Row([*cells, *["yardstick" if row["yardstick"] else ""] * noted], "yardstick" if row["yardstick"] else None)


def _bad_row(row: Mapping[Any, Any], keys: Sequence[str], figures: Sequence[Figure]) -> Row:
    return Row([*(_key_text(name, row) for name in keys), *[NONE] * len(figures), row["error"]], "failed")


def _remark(table: SweepTable, keys: Sequence[str], count: int) -> str:
    told = "; ".join(f"{name} {text}" for name, text in shared(table).items())
    cut = f" The fastest {MOST} of {count} cells are shown; sweep.parquet holds all." if count > MOST else ""
    yardsticks = " Yardsticks, in italics, are what no runtime could do with this model."
    return f"In all cells: {told}.{cut}{yardsticks if table.good['yardstick'].any() else ''}"
