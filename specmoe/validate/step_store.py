"""Measured steps on disk: enough to judge another simulation, or to fit constants, without a device.

One Parquet file, a row for each cell, repeat and step; a row group for each cell. What the cells are, and what they are
for, is in the file's metadata, so that whoever fits constants reads the row groups of the cells to fit on and no other:
there are no statistics of held-out rows in the file either.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from specmoe.files import parsing, replacing, require_regular
from specmoe.validate.cells import Cell, Group, Role
from specmoe.validate.steps import Steps, Times

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
    require_regular(path, "measured steps of specmoe")
    with parsing(path, "measured steps of specmoe"), pq.ParquetFile(path) as file:
        cells: list[dict[str, Any]] = json.loads((file.schema_arrow.metadata or {})[METADATA_KEY])
        if len(cells) != file.num_row_groups:
            raise ValueError("not a row group for each cell")
        chosen = [number for number, cell in enumerate(cells) if role in (None, cell["role"])]
        return {cell_from(cells[number]): _read(file, number, cells[number]) for number in chosen}


def cell_fields(cell: Cell) -> dict[str, str | int | None]:
    """A cell as one flat row."""
    return {**dataclasses.asdict(cell.group), "policy": cell.policy, "slots": cell.slots, "role": cell.role}


def cell_from(fields: Mapping[str, Any]) -> Cell:
    """The cell of such a row, which may hold more; raises KeyError if something is missing."""
    group = Group(**{field.name: fields[field.name] for field in dataclasses.fields(Group)})
    return Cell(group, fields["policy"], fields["slots"], fields["role"])


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


def _times(table: pa.Table, name: str, repeats: int) -> Times:
    times: Times = table[name].to_numpy().astype(np.int64, casting="safe").reshape(repeats, -1)
    return times
