"""A sweep from its cells to its files: cells are grouped into units of work, done by workers, and kept as they finish.

A unit holds cells that share decisions and bounds, as far as all workers are kept busy. Units that need the same
predictions share them through a directory. Each finished unit is one Parquet file, written atomically.

OUT/parts/<hash>.parquet       rows of a unit; the name is the hash of their content
OUT/parts/predictions/         predictions, shared by all units
OUT/sweep.parquet, sweep.json  the finished sweep, which replaces all of the above
"""

import hashlib
import json
import math
import shutil
import time
from collections.abc import Callable, Generator, Hashable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from specmoe import __version__
from specmoe.errors import InputError, SpecmoeError
from specmoe.files import alone_in, directory_for, replacing
from specmoe.sim.config import RunConfig, is_of_policy
from specmoe.sim.long_run import long_scenario, row_of_run, tally_of
from specmoe.sim.routing import Routing
from specmoe.sim.speculate.predictors import FREE
from specmoe.sim.sweep.evaluate import evaluate, failed_row, grouped, varied
from specmoe.sim.sweep.grid import Contents, policy_of
from specmoe.sim.sweep.retiming import compiled
from specmoe.sim.sweep.summary import fastest_shares_of
from specmoe.sim.sweep.workers import Workers
from specmoe.sim.tally import Tally
from specmoe.summary import FIGURES, KEYS, ORIGIN, Row
from specmoe.sweep_table import TABLE, SweepTable, load_sweep, save_sweep, to_arrow

OWN = (*KEYS, *FIGURES, *ORIGIN)


class Parts:
    """The files of one sweep's directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._place = directory / "parts"

    @property
    def predictions(self) -> Path:
        """Directory that keeps predictions while the sweep runs."""
        return self._place / "predictions"

    @contextmanager
    def prepared(self) -> Iterator[None]:
        """Make the directories for the block; remove them if it raises and has written nothing.

        Raises InputError if they cannot be made, or if another sweep is running in the directory.
        """
        with directory_for(self.predictions), alone_in(self.directory, "another sweep"):
            yield

    def keep(self, rows: Sequence[Row]) -> None:
        """Write the rows of a unit; raises InputError if they cannot be written."""
        table = _arrow(rows)
        with replacing(self._place / f"{_hash(table)}.parquet") as fresh:
            pq.write_table(table, fresh)

    def kept(self) -> dict[str, Row]:
        """Rows with figures, by the key of their cell, of a stopped or finished sweep.

        The columns `set.*` and `scale.*` are left out, since the cell itself has them. Damaged files are ignored.
        """
        tables = [*self._finished(), *self._unfinished()]
        rows = [row for table in tables for row in table.select(list(OWN)).to_pylist()]
        return {row["cell"]: row for row in rows if not row["error"]}

    def clear(self) -> None:
        """Remove the checkpoints, which a finished sweep no longer needs."""
        shutil.rmtree(self._place, ignore_errors=True)

    def _finished(self) -> Iterator[pa.Table]:
        if (self.directory / TABLE).exists():
            try:
                load_sweep(self.directory)
                yield pq.read_table(self.directory / TABLE)
            except InputError:
                return

    def _unfinished(self) -> Iterator[pa.Table]:
        for path in sorted(self._place.glob("*.parquet")):
            try:
                table = pq.read_table(path)
            except (OSError, pa.ArrowException):
                continue
            if set(OWN) <= set(table.column_names) and _hash(table) == path.stem:
                yield table


def _arrow(rows: Sequence[Row]) -> pa.Table:
    return to_arrow(pd.DataFrame([{name: row[name] for name in OWN} for row in rows], dtype=object))


def _hash(table: pa.Table) -> str:
    rows: list[dict[str, Any]] = table.select(list(OWN)).to_pylist()
    return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()


RETIMED_CELLS = 2000  # most cells of a unit that the re-timer times in one pass
ENGINE_CELLS = 16  # most cells of a unit that the engine times, each in seconds
UNITS_PER_WORKER = 2  # at least, so that no worker waits long for the last unit
BOUND_POLICIES = 4  # policies that each unit decides for its bounds, besides its own
Unit = tuple[RunConfig, ...]
Staff = Callable[[], AbstractContextManager[Workers]]
OnCells = Callable[[int, int], None]


class Asked(NamedTuple):
    """The cells of a sweep, with the question and command that the manifest records."""

    cells: Sequence[RunConfig]
    question: dict[str, Any]
    command: str


class Done(NamedTuple):
    """A finished sweep, with the number of cells kept from an earlier run and the number computed now."""

    table: SweepTable
    kept: int
    computed: int


def run_sweep(asked: Asked, out: Path, staff: Staff, on_cells: OnCells = lambda done, total: None) -> Done:
    """Compute the rows that `out` does not have yet, and write its table and manifest.

    `staff` starts the workers; it is not called if there is nothing to do. `on_cells` is called with the number of
    finished cells and of all cells. If the sweep is interrupted, the rows of finished units stay in `out` and are used
    by the next call. Raises InputError if `out` cannot be written, if workers cannot be started, and if they read other
    files than this process.
    """
    started, parts, contents = time.perf_counter(), Parts(out), Contents()
    with parts.prepared():
        keys = [_key(contents, cell) for cell in asked.cells]
        rows = _known(asked.cells, keys, parts.kept())
        missing = {cell: key for cell, key in zip(asked.cells, keys, strict=True) if cell not in rows}
        on_cells(len(rows), len(asked.cells))
        with closing(_work(list(missing), staff, parts.predictions)) as work:
            for unit, rows_of_unit in work:
                _require_same_files(rows_of_unit, [missing[cell] for cell in unit])
                parts.keep(rows_of_unit)
                rows |= zip(unit, rows_of_unit, strict=True)
                on_cells(len(rows), len(asked.cells))
        table = _table(asked, [rows[cell] for cell in asked.cells], contents, time.perf_counter() - started)
        earlier = None if missing else _finished(out, table)
        if earlier is None:
            save_sweep(table, out)
        parts.clear()
    return Done(earlier or table, len(rows) - len(missing), len(missing))


def _work(cells: Sequence[RunConfig], staff: Staff, predictions: Path) -> Generator[tuple[Unit, list[Row]], None, None]:
    """Yield every unit and its rows as they finish; predictions that several units need are made first."""
    if not cells:
        return
    with staff() as workers:
        for cell, row in rows_in_pieces(workers, [cell for cell in cells if cell.pieces]):
            yield (cell,), [row]
        units = units_of([cell for cell in cells if not cell.pieces], max(1, workers.number))
        for _ in workers.each(predict, shared_predictions(units), predictions):
            pass
        yield from workers.each(rows_of, units, predictions)


def _key(contents: Contents, cell: RunConfig) -> str:
    """The key of a cell; empty if its files cannot be read, which its row will say."""
    try:
        return contents.key(cell)
    except SpecmoeError:
        return ""


def _known(cells: Sequence[RunConfig], keys: Sequence[str], kept: dict[str, Row]) -> dict[RunConfig, Row]:
    return {cell: kept[key] | varied(cell) for cell, key in zip(cells, keys, strict=True) if key in kept}


def _require_same_files(rows: Sequence[Row], expected: Sequence[str]) -> None:
    if [row["cell"] for row in rows] != list(expected):
        raise InputError(
            "a worker reads other traces, profiles or shapes, or another version of specmoe, than this process: the "
            "same files and version expected on all machines"
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
    table = SweepTable(frame, manifest)
    return SweepTable(frame.assign(fastest_share=fastest_shares_of(table)), manifest)


def _finished(out: Path, fresh: SweepTable) -> SweepTable | None:
    """The finished sweep in a directory, if it is the same as the fresh one; else None."""
    try:
        earlier = load_sweep(out)
    except InputError:
        return None
    same = all(
        earlier.manifest.get(name) == fresh.manifest[name] for name in ("version", "question", "hashes", "cells")
    )
    rows = (
        earlier.rows["cell"].tolist() == fresh.rows["cell"].tolist()
    )  # unlike where only one of the files was written
    return earlier if same and rows else None


def units_of(cells: Sequence[RunConfig], workers: int) -> list[Unit]:
    """Units of work for a number of workers, the largest first."""
    parts = [part for _, part in grouped(cells, _decided)]
    pieces = math.ceil(UNITS_PER_WORKER * workers / len(parts)) if parts else 1
    units = [unit for part in parts for unit in _pieces(part, pieces)]
    return sorted(units, key=_weight, reverse=True)


def _decided(cell: RunConfig) -> Hashable:
    """What cells that share workload and slots have in common; FIFO and other links are timed separately."""
    room: Any = cell.slots
    if room is None:
        room = (cell.vram, cell.format, cell.shape, cell.home, cell.vram is None and (cell.profile, cell.scales))
    return cell.routing, room, cell.link == "fifo"


def _in_passes(cells: Sequence[RunConfig]) -> bool:
    """Whether the re-timer times the cells together; all of them have the same kind of link."""
    return cells[0].link == "fifo" and compiled()


def _pieces(part: Sequence[RunConfig], pieces: int) -> Iterator[Unit]:
    """Cut a group by policies, so that each decision is made once; cut pieces that are still too large by number."""
    policies = [alike for _, alike in grouped(part, _policy)]
    most = RETIMED_CELLS if _in_passes(part) else ENGINE_CELLS
    share = math.ceil(len(policies) / min(pieces, len(policies)))
    for start in range(0, len(policies), share):
        piece = [cell for alike in policies[start : start + share] for cell in alike]
        yield from (tuple(piece[first : first + most]) for first in range(0, len(piece), most))


def _policy(cell: RunConfig) -> Hashable:
    return cell.policy, tuple(pair for pair in cell.settings if is_of_policy(pair[0]))


def _weight(unit: Unit) -> int:
    """Approximate cost of a unit, in decisions."""
    decisions = len({_policy(cell) for cell in unit}) + BOUND_POLICIES
    return decisions if _in_passes(unit) else decisions + len(unit)


def rows_of(unit: Unit, predictions: Path) -> list[Row]:
    """The rows of a unit, with predictions from a directory if this machine sees it."""
    return evaluate(unit, predictions if predictions.is_dir() else None)


def predict(cell: RunConfig, predictions: Path) -> None:
    """Write a cell's predictions into a directory; an error is ignored here, since the cell's row will report it."""
    if predictions.is_dir():
        with suppress(Exception):
            Routing(*cell.routing, predictions).predictions.of(policy_of(cell))


def shared_predictions(units: Sequence[Unit]) -> list[RunConfig]:
    """One cell for each set of predictions that several units need."""
    pairs = [(cell, number) for number, unit in enumerate(units) for cell in unit if _asks(cell)]
    alike = [part for _, part in grouped(pairs, lambda pair: _predictor(pair[0]))]
    return [part[0][0] for part in alike if len({number for _, number in part}) > 1]


def _asks(cell: RunConfig) -> bool:
    """Whether the cell's predictor takes time to run."""
    try:
        return policy_of(cell).predictor not in FREE
    except SpecmoeError:
        return False  # the cell's row will report the error


def _predictor(cell: RunConfig) -> tuple[object, ...]:
    chosen = policy_of(cell)
    depth = chosen.prefetch.depth if chosen.prefetch else 1
    return cell.routing, chosen.predictor, repr(chosen.predictor_parameters), depth


class Piece(NamedTuple):
    """The cell's key as a worker reads the files, and counts and sums of a piece, or why there are none."""

    key: str
    found: Tally | Exception


def rows_in_pieces(workers: Workers, cells: Sequence[RunConfig]) -> Iterator[tuple[RunConfig, Row]]:
    """Yield each cell and its row once all of its pieces are there."""
    items = [(cell, number) for cell in cells for number in range(cell.pieces)]
    there: dict[RunConfig, dict[int, Piece]] = {cell: {} for cell in cells}
    for (cell, number), piece in workers.each(run_piece, items):
        there[cell][number] = piece
        if len(there[cell]) == cell.pieces:
            yield cell, _row_of_pieces(cell, [there[cell][number] for number in range(cell.pieces)])


def run_piece(item: tuple[RunConfig, int]) -> Piece:
    """Simulate one piece of a cell."""
    (cell, number), contents = item, Contents()
    key = ""
    try:
        key = contents.key(cell)
        scenario = long_scenario(contents.loaded(cell), piece=(number, cell.pieces))
        return Piece(key, tally_of(scenario, cell.policy))
    except Exception as error:
        return Piece(key, error)


def _row_of_pieces(cell: RunConfig, pieces: Sequence[Piece]) -> Row:
    key, total = pieces[0].key, Tally()
    try:
        for piece in pieces:
            if isinstance(piece.found, Exception):
                raise piece.found
            total.merge(piece.found)
        note = f"run in {cell.pieces} pieces of whole sequences: each begins with empty slots, and the warm-ups of all "
        note += f"({total.figures()[1].cold_steps} steps) are left out"
        row = row_of_run(long_scenario(Contents().loaded(cell)), cell.policy, total, (note,))
    except Exception as error:
        return failed_row(cell, key, error)
    return {name: row[name] for name in (*KEYS, *FIGURES, *ORIGIN)} | {"cell": key} | varied(cell)
