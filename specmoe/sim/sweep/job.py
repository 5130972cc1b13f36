"""What a worker is asked to do, in this process, in another one or on another machine.

Cells cut into units of work: what shares decisions and bounds stays together, as far as everybody is kept busy.

A sweep from its cells to its files: units of work, done by workers, each kept as it is done.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from specmoe import __version__
from specmoe.errors import InputError, SpecmoeError
from specmoe.sim.config import RunConfig
from specmoe.sim.overrides import is_of_policy
from specmoe.sim.routing import Routing
from specmoe.sim.speculate.running_time import FREE
from specmoe.sim.sweep.cell import Contents, policy_of
from specmoe.sim.sweep.evaluate import evaluate, grouped
from specmoe.sim.sweep.finished_rows import Parts
from specmoe.sim.sweep.retiming import compiled
from specmoe.sim.sweep.rows import varied
from specmoe.sim.sweep.workers import Workers
from specmoe.summary import Row
from specmoe.sweep_table import SweepTable, load_sweep, save_sweep, to_arrow

MOST = 2000  # cells of a unit that the re-timer times
MOST_ALONE = 16  # of one that the engine times, seconds each
EACH = 2  # units for each worker, at least, so that the last one does not keep all waiting
BOUNDS = 4  # policies that each unit decides besides its own
Unit = tuple[RunConfig, ...]
Staff = Callable[[], AbstractContextManager[Workers]]
Told = Callable[[int, int], None]


class Asked(NamedTuple):
    """What is to be done, and what the manifest says of it."""

    cells: Sequence[RunConfig]
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


def _work(cells: Sequence[RunConfig], staff: Staff, predictions: Path) -> Generator[tuple[Unit, list[Row]], None, None]:
    """Every unit and its rows, as they are done; what several of them must know is predicted first."""
    if not cells:
        return
    with staff() as workers:
        units = units_of(cells, max(1, workers.number))
        for _ in workers.each(predict, shared_predictions(units), predictions):
            pass
        yield from workers.each(rows_of, units, predictions)


def _key(contents: Contents, cell: RunConfig) -> str:
    """None of a cell whose files cannot be read, which its row will say."""
    try:
        return contents.key(cell)
    except SpecmoeError:
        return ""


def _known(cells: Sequence[RunConfig], keys: Sequence[str], kept: dict[str, Row]) -> dict[RunConfig, Row]:
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


def units_of(cells: Sequence[RunConfig], workers: int) -> list[Unit]:
    """Units, the largest first."""
    parts = [part for _, part in grouped(cells, _decided)]
    pieces = math.ceil(EACH * workers / len(parts)) if parts else 1
    units = [unit for part in parts for unit in _pieces(part, pieces)]
    return sorted(units, key=_weight, reverse=True)


def _decided(cell: RunConfig) -> Hashable:
    """What cells of one workload and one number of slots have in common; unlike links are timed apart."""
    room: Any = cell.slots
    if room is None:
        room = (cell.vram, cell.format, cell.shape, cell.home, cell.vram is None and (cell.profile, cell.scales))
    return cell.routing, room, cell.link == "fifo"


def _in_passes(cells: Sequence[RunConfig]) -> bool:
    """Whether the re-timer times them together; all of them have one kind of link."""
    return cells[0].link == "fifo" and compiled()


def _pieces(part: Sequence[RunConfig], pieces: int) -> Iterator[Unit]:
    """Cut by policies, so that each decision is made once; and where that is still too much, by number."""
    policies = [alike for _, alike in grouped(part, _policy)]
    most = MOST if _in_passes(part) else MOST_ALONE
    share = math.ceil(len(policies) / min(pieces, len(policies)))
    for start in range(0, len(policies), share):
        piece = [cell for alike in policies[start : start + share] for cell in alike]
        yield from (tuple(piece[first : first + most]) for first in range(0, len(piece), most))


def _policy(cell: RunConfig) -> Hashable:
    return cell.policy, tuple(pair for pair in cell.settings if is_of_policy(pair[0]))


def _weight(unit: Unit) -> int:
    """About how long a unit takes, in decisions."""
    decisions = len({_policy(cell) for cell in unit}) + BOUNDS
    return decisions if _in_passes(unit) else decisions + len(unit)


def rows_of(unit: Unit, predictions: Path) -> list[Row]:
    """The rows of a unit, with predictions from a directory, where this machine sees it."""
    return evaluate(unit, predictions if predictions.is_dir() else None)


def predict(cell: RunConfig, predictions: Path) -> None:
    """Leave what a cell's predictor says in a directory; whether it can say anything, its row tells."""
    if predictions.is_dir():
        with suppress(Exception):
            Routing(*cell.routing, predictions).predictions.of(policy_of(cell))


def shared_predictions(units: Sequence[Unit]) -> list[RunConfig]:
    """A cell for each predictor that several units ask the same."""
    asked = [(cell, number) for number, unit in enumerate(units) for cell in unit if _asks(cell)]
    alike = [part for _, part in grouped(asked, lambda pair: _predictor(pair[0]))]
    return [part[0][0] for part in alike if len({number for _, number in part}) > 1]


def _asks(cell: RunConfig) -> bool:
    """Whether it takes time to know what its predictor says."""
    try:
        return policy_of(cell).predictor not in FREE
    except SpecmoeError:
        return False  # which its row tells


def _predictor(cell: RunConfig) -> tuple[object, ...]:
    chosen = policy_of(cell)
    depth = chosen.prefetch.depth if chosen.prefetch else 1
    return cell.routing, chosen.predictor, repr(chosen.predictor_parameters), depth
