"""How cells came out, on disk: a Parquet file with a row for each, the errors worked out beside what they come from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from specmoe.files import parsing, replacing, require_regular
from specmoe.validate.fidelity import PARTS, CellFidelity, Side
from specmoe.validate.step_store import cell_fields, cell_from

Row = dict[str, Any]
INTEGERS = ("batch", "steps", "slots", "repeats")
TEXTS = ("shape", "phase", "format", "home_format", "policy", "role")


def write_cells(path: Path, cells: Sequence[CellFidelity]) -> None:
    """Write the file, whole or not at all."""
    rows = [_row(cell) for cell in cells]
    columns = {name: pa.array([row[name] for row in rows], _type(name)) for name in (rows[0] if rows else ())}
    with replacing(path) as fresh:
        pq.write_table(pa.table(columns), fresh, compression="zstd")


def read_cells(path: Path) -> tuple[CellFidelity, ...]:
    """What `write_cells` wrote; raises InputError for anything else."""
    require_regular(path, "judged cells of specmoe")
    with parsing(path, "judged cells of specmoe"):
        return tuple(_cell(row) for row in pq.read_table(path).to_pylist())


def _row(cell: CellFidelity) -> Row:
    sides = {"measured": cell.measured, "simulated": cell.simulated}
    errors = {"error": cell.error, "p50_error": cell.p50_error, "p95_error": cell.p95_error}
    return {
        **cell_fields(cell.cell),
        "repeats": cell.repeats,
        **{f"{side}_{name}": value for side, times in sides.items() for name, value in times._asdict().items()},
        **errors,
        **{f"{part}_error": cell.part_error(part) for part in PARTS},
        "spread": cell.spread,
        "noise_ns": cell.noise_ns,
        "step_correlation": cell.step_correlation,
    }


def _cell(row: Mapping[str, Any]) -> CellFidelity:
    measured, simulated = (
        Side(*(row[f"{side}_{name}"] for name in Side._fields)) for side in ("measured", "simulated")
    )
    told = (row["spread"], row["noise_ns"], row["step_correlation"])
    return CellFidelity(cell_from(row), row["repeats"], measured, simulated, *told)


def _type(name: str) -> pa.DataType:
    if name in INTEGERS:
        return pa.int32()
    return pa.string() if name in TEXTS else pa.float64()
