"""Measured steps on disk: enough to judge another simulation, or to fit constants, without a device.

One Parquet file, a row for each cell, repeat and step; a row group for each cell. What the cells are, and what they are
for, is in the file's metadata, so that whoever fits constants reads the row groups of the cells to fit on and no other:
there are no statistics of held-out rows in the file either.

How cells came out, on disk: a Parquet file with a row for each, the errors worked out beside what they come from.

What a validation leaves behind, so that anybody can check its figures: three files in a directory.

<name>.json             the machine, the circumstances, the targets and what was reached
<name>.cells.parquet    how every cell came out
<name>.steps.parquet    every measured step: see `step_store`

The errors in the JSON are shares; its `files` are SHA-256 of the other two, so that files of different validations are
not taken for one.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from specmoe.errors import InputError
from specmoe.files import parsing, read_json, replacing, require_regular
from specmoe.validate.fidelity import PARTS, TARGETS, CellFidelity, Overall, Side, failed, overall
from specmoe.validate.grid import Cell, Role, group_of
from specmoe.validate.measured import Steps, StepTimes

METADATA_KEY = b"specmoe.validation"
TIMES = ("latency_ns", "compute_ns", "stall_ns")
SCHEMA = pa.schema(
    [("cell", pa.int16()), ("repeat", pa.int8()), ("step", pa.int32()), *((name, pa.int64()) for name in TIMES)]
)


def write_steps(path: Path, measured: Mapping[Cell, Steps]) -> None:
    """Write the file, whole or not at all."""
    cells = [
        {**cell_fields(cell), "repeats": len(steps.latency), "decisions": steps.decisions}
        for cell, steps in measured.items()
    ]
    schema = SCHEMA.with_metadata({METADATA_KEY: json.dumps(cells).encode()})
    delta = dict.fromkeys(TIMES, "DELTA_BINARY_PACKED")
    with (
        replacing(path) as fresh,
        pq.ParquetWriter(
            fresh, schema, compression="zstd", use_dictionary=False, column_encoding=delta, write_statistics=False
        ) as writer,
    ):
        for number, steps in enumerate(measured.values()):
            writer.write_table(_table(number, steps, schema), row_group_size=max(1, steps.latency.size))


def read_steps(path: Path, role: Role | None = None) -> dict[Cell, Steps]:
    """What `write_steps` wrote, of the cells of one role if told; no row of others is read.

    Raises InputError for anything else.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file: the *.steps.parquet of a `specmoe validate --out` expected")
    require_regular(path, "measured steps of specmoe")
    with parsing(path, "measured steps of specmoe"), pq.ParquetFile(path) as file:
        cells: list[dict[str, Any]] = json.loads((file.schema_arrow.metadata or {})[METADATA_KEY])
        if len(cells) != file.num_row_groups:
            raise ValueError("not a row group for each cell")
        chosen = [number for number, cell in enumerate(cells) if role in (None, cell["role"])]
        return {cell_from(cells[number]): _read(file, number, cells[number]) for number in chosen}


def cell_fields(cell: Cell) -> dict[str, str | int | None]:
    """A cell as one flat row."""
    config = cell.config
    model = {"shape": config.shape, "phase": cell.phase, "format": config.format, "home_format": config.home.format}
    return model | {name: getattr(config, name) for name in ("batch", "steps", "policy", "slots")} | {"role": cell.role}


def cell_from(fields: Mapping[str, Any]) -> Cell:
    """The cell of such a row, which may hold more; raises KeyError if something is missing."""
    group = group_of(*(fields[name] for name in ("shape", "phase", "format", "home_format", "batch", "steps")))
    return group.cell(fields["policy"], fields["slots"], fields["role"])


def _table(number: int, steps: Steps, schema: pa.Schema) -> pa.Table:
    repeats, length = steps.latency.shape
    cell, repeat = np.full(steps.latency.size, number), np.repeat(np.arange(repeats), length)
    times = [column.reshape(-1) for column in (steps.latency, steps.compute, steps.stall)]
    columns = [cell, repeat, np.tile(np.arange(length), repeats), *times]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)


def _read(file: pq.ParquetFile, number: int, cell: Mapping[str, Any]) -> Steps:
    table = file.read_row_group(number, columns=list(TIMES))
    latency, compute, stall = (_times(table, name, cell["repeats"]) for name in TIMES)
    return Steps(latency, compute, stall, cell["decisions"])


def _times(table: pa.Table, name: str, repeats: int) -> StepTimes:
    times: StepTimes = table[name].to_numpy().astype(np.int64, casting="safe").reshape(repeats, -1)
    return times


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


CELLS, STEPS = ".cells.parquet", ".steps.parquet"


@dataclass(frozen=True)
class Circumstances:
    """What a validation depends on besides its cells."""

    name: str  # of the files: the profile's, and more where there are several validations of one
    device: Mapping[str, Any]
    profile: str
    profile_hash: str
    evidence: str  # the weakest of the simulated results
    traces: Mapping[str, str]  # the beginning of their SHA-256, by name
    versions: Mapping[str, str]
    date: str
    seconds: float
    semantics: str = "event-atomic"
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Evidence:
    """A validation as it was saved; its steps are read by `read_steps`."""

    circumstances: Circumstances
    cells: tuple[CellFidelity, ...]
    steps: Path


def save(
    directory: Path, circumstances: Circumstances, cells: Sequence[CellFidelity], measured: Mapping[Cell, Steps]
) -> list[Path]:
    """Write the files into a directory that is there, all of them or none; their paths, the JSON first."""
    if not cells or [cell.cell for cell in cells] != list(measured):
        raise InputError("a validation to save has one cell or more, and the steps of each in the same order")
    paths = paths_of(directory, circumstances.name)
    with ExitStack() as stack:  # left in reverse order: the JSON, by which the others are known, comes last
        fresh_json, fresh_cells, fresh_steps = (stack.enter_context(replacing(path)) for path in paths)
        write_cells(fresh_cells, cells)
        write_steps(fresh_steps, measured)
        hashes = {path.name: _hash(fresh) for path, fresh in ((paths[1], fresh_cells), (paths[2], fresh_steps))}
        described = dataclasses.asdict(circumstances) | verdict(cells) | {"files": hashes}
        fresh_json.write_text(json.dumps(described, indent=1, allow_nan=False) + "\n")
    return paths


def load(path: Path) -> Evidence:
    """A validation by its JSON; raises InputError if that, or a file beside it, is not what `save` wrote."""
    with parsing(path, "a validation of specmoe"):
        raw: dict[str, Any] = read_json(path, "a validation of specmoe")
        told = {field.name: raw[field.name] for field in dataclasses.fields(Circumstances)}
        circumstances = Circumstances(**told | {"notes": tuple(raw["notes"])})
        hashes: dict[str, str] = dict(raw["files"])
        _, cells, steps = paths_of(path.parent, circumstances.name)
        expected = {file: hashes[file.name] for file in (cells, steps)}
    for file, known in expected.items():
        if not file.is_file() or _hash(file) != known:
            raise InputError(f"{file}: missing, or not the one that {path.name} belongs to")
    return Evidence(circumstances, read_cells(cells), steps)


def verdict(cells: Sequence[CellFidelity]) -> dict[str, Any]:
    """`held_out`, `fit` and `all` as objects of `Overall`'s fields, None without cells; the targets; those missed."""
    by_role = {role: _judged([cell for cell in cells if cell.cell.role == role]) for role in ("held_out", "fit")}
    found = {**by_role, "all": _judged(cells)}
    objects = {name: each and dataclasses.asdict(each) for name, each in found.items()}
    return {**objects, "targets": TARGETS, "failed": list(failed(found["held_out"]))}


def paths_of(directory: Path, name: str) -> list[Path]:
    """The three files of a validation, the JSON first; raises InputError for a name that is none."""
    if not name or Path(name).name != name:
        raise InputError(f"{name!r}: a name without directories expected")
    return [directory / f"{name}{ending}" for ending in (".json", CELLS, STEPS)]


def _judged(cells: Sequence[CellFidelity]) -> Overall | None:
    return overall(cells) if cells else None


def _hash(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
