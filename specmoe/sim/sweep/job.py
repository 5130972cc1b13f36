"""A sweep from its cells to its files: units of work, done by workers, each kept as it is done."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from specmoe import __version__
from specmoe.errors import InputError, SpecmoeError
from specmoe.sim.sweep.cell import Cell
from specmoe.sim.sweep.contents import Contents
from specmoe.sim.sweep.parts import Parts
from specmoe.sim.sweep.rows import Row, varied
from specmoe.sim.sweep.units import Unit, units_of
from specmoe.sim.sweep.work import predict, rows_of, shared_predictions
from specmoe.sim.sweep.workers import Workers
from specmoe.sweep_table import SweepTable, load_sweep, save_sweep, to_arrow

Staff = Callable[[], AbstractContextManager[Workers]]
Told = Callable[[int, int], None]


class Asked(NamedTuple):
    """What is to be done, and what the manifest says of it."""

    cells: Sequence[Cell]
    question: dict[str, Any]
    command: str


class Done(NamedTuple):
    """A finished sweep; of its cells, how many were kept from before and how many were computed now."""

    table: SweepTable
    kept: int
    computed: int


def run_sweep(asked: Asked, out: Path, staff: Staff, on_cells: Told = lambda done, total: None) -> Done:
    """Compute what `out` has no rows of yet, and write its table and manifest.

    `staff` gives workers, and is not asked if there is nothing to do; `on_cells` is told how many cells are done, of
    how many. Whatever stops this, the rows of all units that were done are kept in `out`, and found the next time.
    Raises InputError if `out` cannot be written, if workers cannot be had, and if they read other files than this
    process does.
    """
    started, parts, contents = time.perf_counter(), Parts(out), Contents()
    with parts.prepared():
        keys = [_key(contents, cell) for cell in asked.cells]
        rows = _known(asked.cells, keys, parts.kept())
        missing = {cell: key for cell, key in zip(asked.cells, keys, strict=True) if cell not in rows}
        on_cells(len(rows), len(asked.cells))
        with closing(_work(list(missing), staff, parts.predictions)) as work:
            for unit, found in work:
                _require_same_files(found, [missing[cell] for cell in unit])
                parts.keep(found)
                rows |= zip(unit, found, strict=True)
                on_cells(len(rows), len(asked.cells))
        table = _table(asked, [rows[cell] for cell in asked.cells], contents, time.perf_counter() - started)
        there = None if missing else _finished(out, table)
        if there is None:
            save_sweep(table, out)
        parts.clear()
    return Done(there or table, len(rows) - len(missing), len(missing))


def _work(cells: Sequence[Cell], staff: Staff, predictions: Path) -> Generator[tuple[Unit, list[Row]], None, None]:
    """Every unit and its rows, as they are done; what several of them must know is predicted first."""
    if not cells:
        return
    with staff() as workers:
        units = units_of(cells, max(1, workers.number))
        for _ in workers.each(predict, shared_predictions(units), predictions):
            pass
        yield from workers.each(rows_of, units, predictions)


def _key(contents: Contents, cell: Cell) -> str:
    """None of a cell whose files cannot be read, which its row will say."""
    try:
        return contents.key(cell)
    except SpecmoeError:
        return ""


def _known(cells: Sequence[Cell], keys: Sequence[str], kept: dict[str, Row]) -> dict[Cell, Row]:
    found = zip(cells, keys, strict=True)
    return {cell: kept[key] | varied(cell) for cell, key in found if key in kept}


def _require_same_files(rows: Sequence[Row], expected: Sequence[str]) -> None:
    if [row["cell"] for row in rows] != list(expected):
        raise InputError(
            "a worker reads other traces, profiles or shapes, or another version of specmoe, than are here"
        )


def _table(asked: Asked, rows: Sequence[Row], contents: Contents, seconds: float) -> SweepTable:
    frame = to_arrow(pd.DataFrame(list(rows), dtype=object)).to_pandas()
    manifest = {
        "version": __version__,
        "command": asked.command,
        "question": asked.question,
        "hashes": contents.known,
        "cells": len(rows),
        "failed": sum(bool(row["error"]) for row in rows),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": round(seconds, 1),
    }
    return SweepTable(frame, manifest)


def _finished(out: Path, fresh: SweepTable) -> SweepTable | None:
    """The sweep that is there, if it is the same one."""
    try:
        there = load_sweep(out)
    except InputError:
        return None
    same = all(there.manifest.get(name) == fresh.manifest[name] for name in ("version", "question", "hashes", "cells"))
    rows = there.rows["cell"].tolist() == fresh.rows["cell"].tolist()  # unlike where only one of the files was written
    return there if same and rows else None
