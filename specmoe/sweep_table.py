"""The table of a sweep: one row of `specmoe.summary` for each cell, and a manifest beside it.

A cell is a configuration that was simulated. A cell that failed is a row too: its `error` says why, and its figures are
empty.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from specmoe.errors import InputError
from specmoe.files import parsing, read_json, replacing, require_regular
from specmoe.summary import FIGURES, KEYS, ORIGIN, SCALE, SET

TABLE, MANIFEST = "sweep.parquet", "sweep.json"  # names of the two files in a sweep's directory
SCHEMA = 8  # of both; one of another version is refused


@dataclass(frozen=True)
class SweepTable:
    """The rows and what the sweep was."""

    rows: pd.DataFrame
    manifest: dict[str, Any]

    @property
    def good(self) -> pd.DataFrame:
        """Rows that have figures."""
        return self.rows[self.rows["error"] == ""]

    @property
    def varied(self) -> list[str]:
        """Names of the columns `set.*` and `scale.*`."""
        return [name for name in self.rows.columns if name.startswith((SET, SCALE))]


def schema_of(varied: dict[str, pa.DataType]) -> pa.Schema:
    """Of a table that has these columns `set.*` and `scale.*`, numbers or words or empty, besides the others."""
    return pa.schema(list({**KEYS, **varied, **FIGURES, **ORIGIN}.items()))


def to_arrow(rows: pd.DataFrame) -> pa.Table:
    """Rows in their schema; where a varied column holds a word, all its values are words."""
    varied = {name: rows[name] for name in rows.columns if name.startswith((SET, SCALE))}
    words = {name: _words(column) for name, column in varied.items() if column.map(_is_word).any()}
    types = {name: pa.string() if name in words else pa.float64() for name in varied}
    numbers = {name: column.map(_number) for name, column in varied.items() if name not in words}
    table = pa.Table.from_pandas(rows.assign(**words, **numbers), schema_of(types), preserve_index=False)
    return table.replace_schema_metadata(None)


def _number(value: Any) -> float | None:
    return None if pd.isna(value) else float(value)


def _is_word(value: Any) -> bool:
    return isinstance(value, str | bool)


def _words(column: "pd.Series[Any]") -> "pd.Series[Any]":
    """As the command line has them; nothing stays nothing."""
    return column.map(
        lambda value: None if pd.isna(value) else str(value).lower() if value in (True, False) else str(value)
    )


def save_sweep(table: SweepTable, directory: Path) -> None:
    """Write both files, each whole or not at all, the manifest last."""
    with replacing(directory / TABLE) as fresh:
        pq.write_table(to_arrow(table.rows), fresh, compression="zstd")
    with replacing(directory / MANIFEST) as fresh:
        fresh.write_text(json.dumps({"schema": SCHEMA, **table.manifest}, indent=2, sort_keys=True) + "\n")


def load_sweep(directory: Path) -> SweepTable:
    """Read what `save_sweep` wrote; raises InputError for anything else, and for another version's."""
    manifest: dict[str, Any] = read_json(directory / MANIFEST, "a sweep of specmoe")
    require_regular(directory / TABLE, "a sweep of specmoe")
    with parsing(directory, "a sweep of specmoe"):
        found = manifest.pop("schema")
        if found != SCHEMA:
            raise InputError(f"{directory / MANIFEST}: schema {found}: {SCHEMA} expected; run the sweep again")
        frame = pq.read_table(directory / TABLE)
        types = {name: frame.schema.field(name).type for name in frame.column_names if name.startswith((SET, SCALE))}
        return SweepTable(frame.select(schema_of(types).names).cast(schema_of(types)).to_pandas(), manifest)
