"""The part of a sweep's table that one figure shows, and the wording that figures share.

A `Setting` holds the rows of one trace on one machine with one model. If more varies than a figure shows, the figure
shows a slice: each column that is not on its axes keeps its main value. Nothing is averaged over configurations.

The main value is what was asked for: of slots the largest number, of a number of the machine the profile's own or else
the nearest to it (by ratio; of two, the lower). Of another column it is the value in most cells. Ties go to the factor
1, to the value that no row sets, to the smallest batch, to the lower median of other numbers, to the first text by
alphabet. A parameter that only some policies
have (e.g. assumed precision) does not exclude the other policies. The slot count and the style do not exclude policies
that hold every expert.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median_low
from typing import TYPE_CHECKING, Any, NamedTuple

from specmoe.analysis.point import MS, Point, known, of_machine, point_of_row, shown, three_digits
from specmoe.analysis.style import Looks, looks
from specmoe.errors import InputError
from specmoe.hwprofiles.catalogue import load_profile
from specmoe.summary import KEYS, SCALE, SET
from specmoe.sweep_table import SweepTable

if TYPE_CHECKING:
    from matplotlib.figure import Figure


NO_POLICY = "The results hold only yardsticks, which no runtime could build."


class Drawn(NamedTuple):
    """One figure of a sweep: `name` is good for a file's name, `reading` is one sentence computed from the data."""

    name: str
    title: str
    reading: str
    figure: "Figure"


def ms(nanoseconds: float) -> str:
    """2.50 ms."""
    return f"{three_digits(nanoseconds / MS)} ms"


def times(ratio: float) -> str:
    """1.47 times."""
    return f"{three_digits(ratio)} times"


def percent(share: float) -> str:
    """A share of either sign: 12 %, 3.4 %, 0.21 %."""
    number = round(abs(100 * share), 6)
    decimals = 0 if number >= 10 or number == 0 else 1 if number >= 1 else 2
    return f"{100 * share:.{decimals}f} %"


def titled(what: str, slice_told: str) -> str:
    """A title, with the slice in brackets if the table has several."""
    return f"{what} ({slice_told})" if slice_told else what


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
    apart = [c for c in cells if not (c.point.holds_all if column == "style" else c.point.all_resident)]
    sharing = apart or cells
    found = Counter(cell.where[column] for cell in sharing)
    if column.startswith(SCALE) and 1.0 in found:
        return 1.0
    if column == "slots":
        return max(found)
    if of_machine(column) and (nearest := _nearest(column, found, cells[0])) is not None:
        return nearest if nearest in found else None
    unset = {cell.policy for cell in sharing if cell.where[column] is None}
    if not of_machine(column) and len(found) > 1 and unset != {cell.policy for cell in sharing}:
        found.pop(None, None)  # a value of some policies' own: the others never set it
    most = [value for value, times in found.items() if times == max(found.values())]
    if None in most or isinstance(most[0], str):
        return None if None in most else most[0]
    return min(most) if column == "batch" else median_low(most)


def _nearest(column: str, values: Iterable[Value], cell: Cell) -> Value:
    """Of a number of the machine, the value nearest to the profile's own; None where that is not known.

    A value that is not among those given stands for cells that leave the profile's own.
    """
    name = column.removeprefix(SET)
    numbers = [value for value in values if isinstance(value, float | int) and value > 0]
    try:
        profile = load_profile(cell.where["profile"])
        own = float(profile[name] if name in profile else profile.plateau(name.removesuffix(".bandwidth")))
    except (InputError, KeyError):
        return None
    if None in values or own <= 0 or not numbers:
        return own if None in values else None
    return min(sorted(numbers), key=lambda value: abs(math.log(value / own)))


def held(cells: Iterable[Cell], column: str, value: Value) -> list[Cell]:
    """Those at a value, and of policies that have none there those on which the column has no bearing."""
    cells = list(cells)
    there = {cell.policy for cell in cells if cell.where[column] == value and not cell.point.all_resident}
    return [
        cell
        for cell in cells
        if _unmoved(cell, column, there)
        or (cell.where[column] == value and not (cell.point.all_resident and cell.policy in there))
    ]


def _unmoved(cell: Cell, column: str, there: set[str]) -> bool:
    if column == "slots":
        return cell.point.all_resident and cell.policy not in there
    if column == "style" and cell.point.holds_all:
        return cell.policy not in there
    return cell.where[column] is None and cell.policy not in there and not of_machine(column)


def distinct(cells: Iterable[Cell], free: Sequence[str]) -> list[Cell]:
    """The first cell of each policy at each value of the free columns; of one that holds all, the first that fits."""
    found: dict[Any, Cell] = {}
    for cell in cells:
        key = (cell.policy, *(cell.where[name] for name in free))
        if key not in found or (found[key].point.all_resident and not cell.point.yardstick):
            found[key] = cell
    return list(found.values())


SETTING = ("trace", "source", "profile", "shape")  # rows that differ in one of these are never drawn as one line
CHOICES = (
    "slots",
    "format",
    "style",
    "dense_format",
    "home_format",
    "compressed_slots",
)  # of whoever runs the model, on the same machine


@dataclass(frozen=True)
class Setting:
    """Cells that share `SETTING`, in the table's order; `name` says in what settings of a table differ."""

    name: str
    cells: Sequence[Cell]

    @cached_property
    def varying(self) -> list[str]:
        """Columns that take several values, in the order in which main values are chosen: those of hardware first."""
        columns = [name for name in reversed(list(self.cells[0].where)) if name not in (*SETTING, "slots")]
        apart = {  # policies that hold every expert have their own
            "slots": [cell for cell in self.cells if not cell.point.all_resident] or self.cells,
            "style": [cell for cell in self.cells if not cell.point.holds_all] or self.cells,
        }
        return [name for name in (*columns, "slots") if len({c.where[name] for c in apart.get(name, self.cells)}) > 1]

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
        """One cell for each policy and values of the free columns, all others at their main value or the one given."""
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
    named = {group: ", ".join(group[place] or "all text domains" for place in differing) for group in groups}
    return [Setting(named[group], cells) for group, cells in groups.items()]


def told(column: str, value: Value) -> str:
    """A column's value in words; empty where nothing is changed."""
    if value is None or (column.startswith(SCALE) and value == 1) or value == "":
        return ""
    if column.startswith((SET, SCALE)):
        return shown(column, value)
    words = {"slots": "{} slots", "batch": "batch {}", "link": "{} link", "host_set": "host costs: {}"}
    words |= {"home_format": "at home in {}", "compressed_slots": "{} compressed slots"}
    words |= {"source": "text: {}", "train_source": "learnt from text: {}"}
    words |= {"style": "{} experts", "dense_format": "dense weights in {}"}
    return words.get(column, "{}").format(value)


def order(value: Value) -> tuple[bool, bool, Value]:
    """A key to sort values by: what is not set first, then numbers, then text."""
    return value is not None, isinstance(value, str), value or 0


def _value(column: str, value: Value) -> Value:
    found = known(value)
    return 1.0 if found is None and column.startswith(SCALE) else found
