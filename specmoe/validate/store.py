"""Saving a validation, and its measured steps on disk: enough to judge another simulation, or to fit constants.

The steps are one Parquet file, a row for each cell, repeat and step, and a row group for each cell. The file's metadata
describes the cells and their roles, so a fit of constants reads the row groups of its own cells and no others, and
no statistics of held-out rows are stored. The other files, cells and JSON, are those of `specmoe.validation_table`.
"""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from specmoe.errors import InputError
from specmoe.files import parsing, read_json, replacing, require_regular
from specmoe.validate.fidelity import TARGETS, failed, overall
from specmoe.validate.grid import Cell, cell_of
from specmoe.validate.measured import Steps, StepTimes
from specmoe.validation_table import (
    A_VALIDATION,
    CellFidelity,
    Circumstances,
    HostState,
    Overall,
    Role,
    Validation,
    Verdict,
    key_of,
    paths_of,
    read_validation,
    require_digest,
    sha256,
    write_cells,
    write_description,
)

METADATA_KEY = b"specmoe.validation"
MEASURED_STEPS = "measured steps of specmoe"
NO_THREADS = ("threads", None)  # as in files from before grids said threads
TIMES = ("latency_ns", "compute_ns", "stall_ns")
SCHEMA = pa.schema(
    [("cell", pa.int16()), ("repeat", pa.int8()), ("step", pa.int32()), *((name, pa.int64()) for name in TIMES)]
)


def save(
    directory: Path, circumstances: Circumstances, cells: Sequence[CellFidelity], measured: Mapping[Cell, Steps]
) -> list[Path]:
    """Write the three files into an existing directory, all of them or none; returns their paths, the JSON first."""
    if not cells or [cell.cell for cell in cells] != [cell.key for cell in measured]:
        raise InputError("a validation to save has one cell or more, and the steps of each in the same order")
    paths = paths_of(directory, circumstances.name)
    with ExitStack() as stack:  # left in reverse order: the JSON, which holds the others' hashes, comes last
        fresh_json, fresh_cells, fresh_steps = (stack.enter_context(replacing(path)) for path in paths)
        write_cells(fresh_cells, cells)
        write_steps(fresh_steps, measured)
        hashes = {path.name: sha256(fresh) for path, fresh in ((paths[1], fresh_cells), (paths[2], fresh_steps))}
        write_description(fresh_json, circumstances, verdict(cells), hashes)
    return paths


def load(path: Path) -> Validation:
    """The validation of a JSON file; raises InputError unless both files beside it are those that `save` wrote."""
    validation = read_validation(path)
    with parsing(path, A_VALIDATION):
        digest = read_json(path, A_VALIDATION)["files"][validation.steps.name]
    require_digest(path, validation.steps, digest)
    return validation


def verdict(cells: Sequence[CellFidelity]) -> dict[str, Any]:
    """The fields of `Verdict`: cells together, by role; the targets; and those that the held-out cells miss."""
    held_out, fit = (_together([cell for cell in cells if cell.cell.role == role]) for role in ("held_out", "fit"))
    fitted = {cell.cell.group for cell in cells if cell.cell.role == "fit"}
    held = [cell for cell in cells if cell.cell.held_out]
    groups = _together([cell for cell in held if cell.cell.group not in fitted])
    by_its_host = _together([cell.by_its_host for cell in held if cell.host])
    targets = TARGETS, list(failed(held_out))
    return dataclasses.asdict(Verdict(held_out, fit, _together(cells), *targets, groups, by_its_host))


def _together(cells: Sequence[CellFidelity]) -> Overall | None:
    return overall(cells) if cells else None


def write_steps(path: Path, measured: Mapping[Cell, Steps]) -> None:
    """Write the file, whole or not at all."""
    cells = [
        {
            **{name: value for name, value in dataclasses.asdict(cell.key).items() if (name, value) != NO_THREADS},
            "repeats": len(steps.latency),
            "decisions": steps.decisions,
            **({"host": steps.host} if steps.host else {}),
        }
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
    """The steps that `write_steps` wrote, of cells of `role`. Default: of all cells. Reads no rows of other cells.

    Raises InputError for any other file.
    """
    if not path.exists():
        raise InputError(f"{path}: no such file: the *.steps.parquet of a `specmoe validate --out` expected")
    require_regular(path, MEASURED_STEPS)
    with parsing(path, MEASURED_STEPS), pq.ParquetFile(path) as file:
        cells: list[dict[str, Any]] = json.loads((file.schema_arrow.metadata or {})[METADATA_KEY])
        if len(cells) != file.num_row_groups:
            raise ValueError("not a row group for each cell")
        numbers = [number for number, cell in enumerate(cells) if role in (None, cell["role"])]
        return {cell_of(key_of(cells[number])): _read(file, number, cells[number]) for number in numbers}


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
    return Steps(latency, compute, stall, cell["decisions"], HostState(*cell["host"]) if "host" in cell else None)


def _times(table: pa.Table, name: str, repeats: int) -> StepTimes:
    times: StepTimes = table[name].to_numpy().astype(np.int64, casting="safe").reshape(repeats, -1)
    return times
