"""Cells of a table, the main value of what varies among them, and those that are at a value.

The main value of a column is the one in most cells; of equals a factor's 1, the value that no row sets, the smallest
batch, the lower middle of other numbers, the text that comes first. What only some policies can be given, an assumed
precision say, is no reason to leave out the others; nor are slots one to leave out who holds every expert.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from statistics import median_low
from typing import Any, NamedTuple

from specmoe.analysis.changes import of_machine
from specmoe.analysis.point import Point
from specmoe.sweep_table import SCALE

Value = Any  # text, a number, or None: not set
Where = Mapping[str, Value]


class Cell(NamedTuple):
    """A row: where it lies in the table, by column, and what came out."""

    where: Where
    point: Point

    @property
    def policy(self) -> str:
        """Its policy's name."""
        return self.point.about.policy


def main_value(column: str, cells: Sequence[Cell]) -> Value:
    """The main value of a column among the cells, at least one."""
    sharing = [cell for cell in cells if not cell.point.all_resident] or cells
    found = Counter(cell.where[column] for cell in sharing)
    if column.startswith(SCALE) and 1.0 in found:
        return 1.0
    unset = {cell.policy for cell in sharing if cell.where[column] is None}
    if not of_machine(column) and len(found) > 1 and unset != {cell.policy for cell in sharing}:
        found.pop(None, None)  # a value of some policies' own: the others never set it
    most = [value for value, times in found.items() if times == max(found.values())]
    if None in most or isinstance(most[0], str):
        return None if None in most else most[0]
    return min(most) if column == "batch" else median_low(most)


def held(cells: Iterable[Cell], column: str, value: Value) -> list[Cell]:
    """Those at a value, and of policies that have none there those on which the column has no bearing."""
    cells = list(cells)
    there = {cell.policy for cell in cells if cell.where[column] == value}
    return [cell for cell in cells if cell.where[column] == value or _unmoved(cell, column, there)]


def _unmoved(cell: Cell, column: str, there: set[str]) -> bool:
    if column == "slots":
        return cell.point.all_resident
    return cell.where[column] is None and cell.policy not in there and not of_machine(column)


def distinct(cells: Iterable[Cell], free: Sequence[str]) -> list[Cell]:
    """The first cell of each policy at each value of the free columns."""
    found: dict[Any, Cell] = {}
    for cell in cells:
        found.setdefault((cell.policy, *(cell.where[name] for name in free)), cell)
    return list(found.values())
