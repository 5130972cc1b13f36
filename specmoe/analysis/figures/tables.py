"""A sweep's cells as people read them: what varies and what came out, in units that are read at a glance.

What is the same in all cells is told once, in `constants`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from specmoe.analysis.changes import known, unit_of
from specmoe.analysis.comparison import three_digits
from specmoe.sweep_table import KEYS, SCALE, SET, SweepTable

GIB, GB, MS = 2**30, 1e9, 1e6
Cell = str | float | int | None  # None: not known, or does not apply
Row = Mapping[str, Any]


class Column(NamedTuple):
    """A column of the table: `explained` is a sentence for a tooltip or a glossary."""

    name: str
    heading: str
    explained: str
    digits: bool = False  # whether a number is shown to three digits; else as it is

    def show(self, value: Cell) -> str:
        """A value as it is printed; empty where there is none."""
        if value is None:
            return ""
        if isinstance(value, str):
            return value
        return three_digits(value) if self.digits and value >= 0 else f"{value:.6g}"


@dataclass(frozen=True)
class Cells:
    """Rows in the table's order, values by the column's name; what all rows share, by its heading."""

    columns: tuple[Column, ...]
    rows: tuple[dict[str, Cell], ...]
    constants: dict[str, str]


HEADINGS = {
    "home_format": "home format",
    "compressed_slots": "compressed slots",
    "trace_kind": "trace kind",
    "phase": "phase",
    "semantics": "semantics",
    "evidence": "evidence",
}
CHOSEN = (*KEYS, "trace_kind", "phase", "semantics", "evidence", "steps")
FIGURES: tuple[tuple[Column, Callable[[Row], float | None]], ...] = (
    (Column("step_ms", "step, ms", "mean time of a step", True), lambda row: row["latency_mean_ns"] / MS),
    (Column("p99_ms", "p99, ms", "99th percentile of a step's time", True), lambda row: row["latency_p99_ns"] / MS),
    (Column("tokens_per_second", "tokens/s", "tokens a second", True), lambda row: row["tokens_per_second"]),
    (
        Column("x_oracle", "x oracle", "mean step over that of perfect knowledge in the same slots", True),
        lambda row: row["latency_mean_ns"] / row["oracle_ns"],
    ),
    (
        Column("x_floor", "x floor", "mean step over that with every expert resident", True),
        lambda row: row["latency_mean_ns"] / row["floor_ns"],
    ),
    (
        Column("hits_percent", "hits, %", "demands whose expert was resident, landed or not, of all demands", True),
        lambda row: 100 * row["hit_rate"],
    ),
    (
        Column("used_percent", "used, %", "prefetched experts that were used, of all that were prefetched", True),
        lambda row: 100 * row["precision"],
    ),
    (
        Column("stall_ms", "stall, ms", "time of a step that the compute stream waits for loads", True),
        lambda row: row["stall_ns"] / row["steps"] / MS,
    ),
    (
        Column("moved_gb", "moved, GB/step", "bytes that a step copies over the link", True),
        lambda row: row["bytes_loaded"] / row["steps"] / GB,
    ),
    (
        Column("wasted_gb", "wasted, GB/step", "bytes of prefetches that nobody used", True),
        lambda row: row["bytes_wasted"] / row["steps"] / GB,
    ),
    (Column("vram_gib", "VRAM, GiB", "VRAM for all weights", True), lambda row: row["vram_peak_bytes"] / GIB),
)
YARDSTICK = Column(
    "yardstick", "yardstick", "no runtime could do this: it peeks, holds all, or needs a pre-gated model"
)
ERROR = Column("error", "error", "why the cell has no figures")


def cells_of(table: SweepTable) -> Cells:
    """Every row of the table, failed ones too: those have an error and no figures."""
    rows = [{str(name): value for name, value in row.items()} for row in table.rows.to_dict("records")]
    asked = [*CHOSEN, *table.varied]
    good = [row for row in rows if row["error"] == ""]
    varying = [name for name in asked if len({known(row[name]) for row in good or rows}) > 1 or name == "policy"]
    columns = [_column(name) for name in varying] + [column for column, _ in FIGURES] + [YARDSTICK]
    failed = len(good) < len(rows)
    made = tuple(_row(row, varying, failed) for row in rows)
    shared = {name: _chosen(name, good[0][name]) for name in asked if good and name not in varying}
    constants = {_column(name).heading: _column(name).show(value) for name, value in shared.items()}
    kept = {heading: value for heading, value in constants.items() if value}
    return Cells((*columns, ERROR) if failed else tuple(columns), made, kept)


def _column(name: str) -> Column:
    """Of a value that was asked for."""
    if name.startswith(SCALE):
        plain = name.removeprefix(SCALE)
        return Column(name, f"{plain}, x", f"factor of {plain}")
    if name.startswith(SET):
        plain = name.removeprefix(SET)
        unit = unit_of(plain)[0]
        return Column(name, f"{plain}{unit and f', {unit}'}", f"{plain}, where it was set")
    return Column(name, HEADINGS.get(name, name), name.replace("_", " "))


def _row(row: Row, varying: list[str], failed: bool) -> dict[str, Cell]:
    made: dict[str, Cell] = {name: _chosen(name, row[name]) for name in varying}
    bad = row["error"] != ""
    made |= {column.name: None if bad else _number(value(row)) for column, value in FIGURES}
    made |= {"yardstick": None if bad else "yes" if row["yardstick"] else "no"}
    return made | ({"error": str(row["error"])} if failed else {})


def _chosen(name: str, value: Any) -> Cell:
    found: Cell = known(value)
    if isinstance(found, float) and name in (*KEYS, "steps"):
        return int(found)  # a column with empty cells is read as one of floats
    if isinstance(found, float) and name.startswith(SET):
        return found / unit_of(name.removeprefix(SET))[1]
    return found if found is None or isinstance(found, str) else found * 1


def _number(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else float(value)
