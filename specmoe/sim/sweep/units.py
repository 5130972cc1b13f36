"""Cells cut into units of work: what shares decisions and bounds stays together, as far as everybody is kept busy."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterator, Sequence
from typing import Any

from specmoe.sim.overrides import is_of_policy
from specmoe.sim.sweep.cell import Cell
from specmoe.sim.sweep.evaluate import grouped
from specmoe.sim.sweep.retiming import compiled

MOST = 2000  # cells of a unit that the re-timer times
MOST_ALONE = 16  # of one that the engine times, seconds each
EACH = 2  # units for each worker, at least, so that the last one does not keep all waiting
BOUNDS = 4  # policies that each unit decides besides its own

Unit = tuple[Cell, ...]


def units_of(cells: Sequence[Cell], workers: int) -> list[Unit]:
    """Units, the largest first."""
    parts = [part for _, part in grouped(cells, _decided)]
    pieces = math.ceil(EACH * workers / len(parts)) if parts else 1
    units = [unit for part in parts for unit in _pieces(part, pieces)]
    return sorted(units, key=_weight, reverse=True)


def _decided(cell: Cell) -> Hashable:
    """What cells of one workload and one number of slots have in common; unlike links are timed apart."""
    room: Any = cell.slots
    if room is None:
        room = (cell.vram, cell.format, cell.shape, cell.home, cell.vram is None and (cell.profile, cell.scales))
    return cell.routing, room, cell.link == "fifo"


def _in_passes(cells: Sequence[Cell]) -> bool:
    """Whether the re-timer times them together; all of them have one kind of link."""
    return cells[0].link == "fifo" and compiled()


def _pieces(part: Sequence[Cell], pieces: int) -> Iterator[Unit]:
    """Cut by policies, so that each decision is made once; and where that is still too much, by number."""
    policies = [alike for _, alike in grouped(part, _policy)]
    most = MOST if _in_passes(part) else MOST_ALONE
    share = math.ceil(len(policies) / min(pieces, len(policies)))
    for start in range(0, len(policies), share):
        piece = [cell for alike in policies[start : start + share] for cell in alike]
        yield from (tuple(piece[first : first + most]) for first in range(0, len(piece), most))


def _policy(cell: Cell) -> Hashable:
    return cell.policy, tuple(pair for pair in cell.settings if is_of_policy(pair[0]))


def _weight(unit: Unit) -> int:
    """About how long a unit takes, in decisions."""
    decisions = len({_policy(cell) for cell in unit}) + BOUNDS
    return decisions if _in_passes(unit) else decisions + len(unit)
