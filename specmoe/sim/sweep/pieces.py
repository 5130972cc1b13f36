"""Cells whose trace is cut into pieces of whole sequences, which workers simulate apart and which are added up.

Each piece begins with empty slots, and its warm-up is left out; so figures differ from those of one run by what the
slots held at the cuts. A piece is simulated part by part (`sim.long_run`): no worker reads a trace whole.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from specmoe.sim.config import RunConfig
from specmoe.sim.long_run import long_scenario, row_of_run, tally_of
from specmoe.sim.sweep.evaluate import failed_row, varied
from specmoe.sim.sweep.grid import Contents
from specmoe.sim.sweep.workers import Workers
from specmoe.sim.tally import Tally
from specmoe.summary import FIGURES, KEYS, ORIGIN, Row


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
            yield cell, _row(cell, [there[cell][number] for number in range(cell.pieces)])


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


def _row(cell: RunConfig, pieces: Sequence[Piece]) -> Row:
    key = pieces[0].key
    tallies = [piece.found for piece in pieces if isinstance(piece.found, Tally)]
    for piece in pieces:
        if not isinstance(piece.found, Tally):
            return failed_row(cell, piece.key, piece.found)
    total = tallies[0]
    for tally in tallies[1:]:
        total.merge(tally)
    try:
        scenario = long_scenario(Contents().loaded(cell))
        row = row_of_run(scenario, cell.policy, total, (_note(cell, total),))
    except Exception as error:
        return failed_row(cell, key, error)
    return {name: row[name] for name in (*KEYS, *FIGURES, *ORIGIN)} | {"cell": key} | varied(cell)


def _note(cell: RunConfig, total: Tally) -> str:
    left_out = total.figures()[1].cold_steps
    return (
        f"run in {cell.pieces} pieces of whole sequences: each begins with empty slots, and the warm-ups of all "
        f"({left_out} steps) are left out"
    )
