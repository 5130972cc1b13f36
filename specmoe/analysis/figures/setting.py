"""Rows that may be drawn together: the same trace on the same machine with the same model; and slices through them.

A table may vary in more than a figure shows. Then the figure shows a slice: every column but those of its own axes is
held at its main value (see `slices`). Nothing is ever averaged over configurations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from specmoe.analysis.changes import known, shown
from specmoe.analysis.figures.slices import Cell, Value, distinct, held, main_value
from specmoe.analysis.lines import Looks, looks
from specmoe.analysis.point import point_of_row
from specmoe.errors import InputError
from specmoe.sweep_table import KEYS, SCALE, SET, SweepTable

SETTING = ("trace", "profile", "shape")  # rows that differ in one of these are never drawn as one line
CHOICES = ("slots", "format", "home_format", "compressed_slots")  # of whoever runs the model, on the same machine


@dataclass(frozen=True)
class Setting:
    """Cells that share `SETTING`, in the table's order; `name` says in what settings of a table differ."""

    name: str
    cells: Sequence[Cell]

    @cached_property
    def varying(self) -> list[str]:
        """Columns that take several values, in the order in which main values are chosen: those of hardware first."""
        columns = [name for name in reversed(list(self.cells[0].where)) if name not in SETTING]
        shared = [cell for cell in self.cells if not cell.point.all_resident] or self.cells  # of slots
        return [
            name for name in columns if len({c.where[name] for c in (shared if name == "slots" else self.cells)}) > 1
        ]

    @cached_property
    def main(self) -> dict[str, Value]:
        """The main value of each varying column."""
        chosen: dict[str, Value] = {}
        left: Sequence[Cell] = self.cells
        for column in self.varying:
            chosen[column] = main_value(column, left)
            left = held(left, column, chosen[column])
        return chosen

    @cached_property
    def looks(self) -> Looks:
        """How lines of policies look in every figure of the setting."""
        return looks([cell.point for cell in self.cells])

    def along(self, *free: str, **at: Value) -> list[Cell]:
        """One cell for each policy and values of the free columns, all others at their main value or the one told."""
        left: Sequence[Cell] = self.cells
        for column, value in (self.main | at).items():
            left = left if column in free else held(left, column, value)
        return distinct(left, [name for name in free if name in self.cells[0].where])

    def told(self, *free: str) -> str:
        """The slice in words: main values of the columns that are not free; empty where nothing else varies.

        What concerns some policies only is left out.
        """
        parts = [self.name] if self.name else []
        cells = [cell for cell in self.along(*free) if not cell.point.all_resident]
        shared = [name for name, value in self.main.items() if all(cell.where[name] == value for cell in cells)]
        held = {name: self.main[name] for name in shared if name not in free}
        return ", ".join(parts + [text for name, value in reversed(held.items()) if (text := told(name, value))])

    def columns(self, prefix: str) -> list[str]:
        """The varying columns of a prefix."""
        return sorted(name for name in self.varying if name.startswith(prefix))


def settings_of(table: SweepTable) -> list[Setting]:
    """In the table's order; raises InputError if no row has figures."""
    if not len(table.good):
        why = f": {table.rows['error'].iloc[0]}" if len(table.rows) else ""
        raise InputError(f"no cell of the sweep has figures{why}")
    columns = [name for name in (*KEYS, *table.varied) if name != "policy"]
    groups: dict[tuple[str, ...], list[Cell]] = {}
    for row in table.good.to_dict("records"):
        where = {name: _value(name, row[name]) for name in columns}
        cell = Cell(where, point_of_row({str(name): value for name, value in row.items()}))
        groups.setdefault(tuple(where[name] for name in SETTING), []).append(cell)
    differing = [place for place in range(len(SETTING)) if len({group[place] for group in groups}) > 1]
    return [Setting(", ".join(group[place] for place in differing), cells) for group, cells in groups.items()]


def told(column: str, value: Value) -> str:
    """A column's value in words; empty where nothing is changed."""
    if value is None or (column.startswith(SCALE) and value == 1) or value == "":
        return ""
    if column.startswith((SET, SCALE)):
        return shown(column, value)
    words = {"slots": "{} slots", "batch": "batch {}", "link": "{} link", "host": "host costs: {}"}
    words |= {"home_format": "at home in {}", "compressed_slots": "{} compressed slots"}
    return words.get(column, "{}").format(value)


def order(value: Value) -> tuple[bool, bool, Value]:
    """A key to sort values by: what is not set first, then numbers, then text."""
    return value is not None, isinstance(value, str), value or 0


def _value(column: str, value: Value) -> Value:
    found = known(value)
    return 1.0 if found is None and column.startswith(SCALE) else found
