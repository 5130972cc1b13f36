"""A validation as it lies on disk: how far simulated steps are from measured ones. What made it is not asked."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow.parquet as pq

from specmoe.errors import InputError
from specmoe.files import parsing

CELLS = ".cells.parquet"
TOLD = (
    "name",
    "device",
    "profile",
    "evidence",
    "semantics",
    "versions",
    "held_out",
    "targets",
    "failed",
    "files",
)
PARTS = ("mean_ns", "compute_ns", "stall_ns", "host_ns")


class Group(NamedTuple):
    """Cells that differ in policy and slots only."""

    name: str


class Cell(NamedTuple):
    """What was run."""

    group: Group
    policy: str
    slots: int
    role: str


class Side(NamedTuple):
    """Mean of a step and its parts, ns."""

    mean_ns: float
    compute_ns: float
    stall_ns: float
    host_ns: float


class Judged(NamedTuple):
    """A cell and how it came out; what `analysis.fidelity.Judged` asks for."""

    cell: Cell
    repeats: int
    measured: Side
    simulated: Side
    error: float
    spread: float


@dataclass(frozen=True)
class Validation:
    """What its JSON tells, and its cells."""

    told: Mapping[str, Any]
    cells: tuple[Judged, ...]

    @property
    def name(self) -> str:
        """Of its files."""
        return str(self.told["name"])

    @property
    def device(self) -> str:
        """The machine's."""
        return str(self.told["device"].get("device", "unknown device"))

    @property
    def worst(self) -> float:
        """The largest error of a mean step, as a share, of any sign."""
        return max((abs(cell.error) for cell in self.cells), default=0.0)


def is_validation(told: Any) -> bool:
    """Whether a JSON value is one's."""
    return isinstance(told, dict) and told.keys() >= set(TOLD)


def read_validation(path: Path, told: Mapping[str, Any]) -> Validation:
    """The one of this JSON; raises InputError unless the cells beside it are its own."""
    cells = path.with_name(f"{path.stem}{CELLS}")
    with parsing(path, "a validation of specmoe"):
        expected = told["files"].get(cells.name)
        str(told["device"].get("device"))
    if not cells.is_file() or hashlib.sha256(cells.read_bytes()).hexdigest() != expected:
        raise InputError(f"{cells}: missing, or not the one that {path.name} belongs to")
    with parsing(cells, "judged cells of specmoe"):
        return Validation(told, tuple(map(_judged, pq.read_table(cells).to_pylist())))


def _judged(row: Mapping[str, Any]) -> Judged:
    held = f"{row['home_format']}>{row['format']}" if row["home_format"] else row["format"]
    group = Group(f"{row['shape']}/{row['phase']}/{held}/b{row['batch']}")
    measured, simulated = (Side(*(row[f"{side}_{part}"] for part in PARTS)) for side in ("measured", "simulated"))
    cell = Cell(group, row["policy"], row["slots"], row["role"])
    return Judged(cell, row["repeats"], measured, simulated, row["error"], row["spread"])
