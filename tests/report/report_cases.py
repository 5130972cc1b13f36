"""Directories to report on, and a page taken apart."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

import pyarrow as pa
from comparison_points import manifest, result
from sweep_rows import grid

from specmoe.analysis.report import read_inputs, write_report
from specmoe.analysis.report.html import VOID
from specmoe.hwprofiles import Format
from specmoe.summary import FIGURES
from specmoe.sweep_table import SweepTable, save_sweep
from specmoe.timeline import Span, write_spans
from specmoe.validation_table import (
    CellFidelity,
    CellKey,
    Circumstances,
    Overall,
    Role,
    Side,
    Verdict,
    sha256,
    write_cells,
    write_description,
)

COMMAND = ["specmoe", "report", "somewhere"]
VERSION = "0.1.0"


def sweep_dir(place: Path, made: SweepTable | None = None, **told: Any) -> Path:
    """A sweep; `grid` if none is given."""
    place.mkdir(parents=True, exist_ok=True)
    table = made or grid()
    whole = [name for name, kind in FIGURES.items() if kind == pa.int64()]
    rows = table.rows.assign(**{name: table.rows[name].astype(float).round() for name in whole})
    save_sweep(SweepTable(rows, table.manifest | {"version": VERSION} | told), place)
    return place


def runs_dir(place: Path, *policies: str, version: str = VERSION, **changes: Any) -> Path:
    """Results of runs of three steps of one layer, each policy 1 ms slower than the one before it."""
    place.mkdir(parents=True, exist_ok=True)
    for slower, policy in enumerate(policies, 2):
        told = manifest(policy, num_layers=1, versions={"specmoe": version}, **changes)
        begins = [step * slower * 10**6 for step in range(3)]
        ends = [begin + slower * 10**6 for begin in begins]
        columns = {"step": [0, 1, 2], "tokens": [1] * 3, "demands": [1] * 3, "begin_ns": begins, "end_ns": ends}
        result(told, **columns, compute_ns=[10**6] * 3, hits=[1, 0, 1], demand_loads=[0, 1, 0]).save(
            place / f"{len(policies)}-{slower}.parquet"
        )
    return place


def validation_dir(place: Path, name: str = "box", missed: tuple[str, ...] = (), version: str = VERSION) -> Path:
    """A validation of two cells, one of them held out, 1 % and 3 % off."""
    place.mkdir(parents=True, exist_ok=True)
    roles: list[tuple[Role, float, Format | None]] = [("held_out", 0.01, None), ("fit", -0.03, "int8")]
    cells = [
        CellFidelity(
            CellKey("model", "decode", "fp16", home, 1, 10, "lookahead", 64, role),
            *(7, Side(*[1e6] * 6), Side(*[1e6 * (1 + error)] * 6), 0.01, 0.0, None),
        )
        for role, error, home in roles
    ]
    path = place / f"{name}.cells.parquet"
    write_cells(path, cells)
    overall = Overall(1, 0.01, 0.01, 0.01, cells[0].cell.name, 0.0, 0.0, 0.01, None, 0, None, 0)
    circumstances = Circumstances(
        name, {"device": "A Card"}, "box", "ab12", "fitted", {}, {"specmoe": version}, "2026-01-02", 1.0
    )
    verdict = dataclasses.asdict(Verdict(overall, None, None, {}, missed))
    write_description(place / f"{name}.json", circumstances, verdict, {path.name: sha256(path)})
    return place


def timeline_dir(place: Path, name: str = "timeline.json") -> Path:
    place.mkdir(parents=True, exist_ok=True)
    write_spans(place / name, {"specmoe": [Span("host", "launch", 0, 10, {})]})
    return place


def reported(out: Path, *directories: Path) -> str:
    """The page on these directories."""
    write_report(read_inputs(directories), out, COMMAND)
    return out.read_text()


class _Tree(HTMLParser):
    """Builds elements; raises AssertionError where tags do not match."""

    def __init__(self) -> None:
        super().__init__()
        self.root = Element("page")
        self.open = [self.root]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        element = Element(tag, {name: value or "" for name, value in attrs})
        self.open[-1].append(element)
        if tag not in VOID:
            self.open.append(element)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.open[-1].append(Element(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop().tag == tag, f"</{tag}> closes another element"

    def handle_data(self, data: str) -> None:
        last = self.open[-1]
        if len(last):
            last[-1].tail = (last[-1].tail or "") + data
        else:
            last.text = (last.text or "") + data


def parsed(page: str) -> Element:
    """The page as a tree."""
    tree = _Tree()
    tree.feed(page)
    tree.close()
    assert tree.open == [tree.root], "an element is not closed"
    return tree.root


def text(element: Element) -> str:
    return " ".join("".join(element.itertext()).split())


def of_class(element: Element, name: str) -> list[Element]:
    return [each for each in element.iter() if name in each.get("class", "").split()]


def rows_of(table: Element) -> Iterator[list[str]]:
    """Texts of a table's cells, its header first."""
    for row in table.iter("tr"):
        yield [text(cell) for cell in row]
