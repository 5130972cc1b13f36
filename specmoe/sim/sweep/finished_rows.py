"""Checkpoints of an unfinished sweep: each finished unit of work is one Parquet file, written atomically.

OUT/parts/<hash>.parquet       rows of a unit; the name is the hash of their content
OUT/parts/predictions/         predictions, shared by all units
OUT/sweep.parquet, sweep.json  the finished sweep, which replaces all of the above
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from specmoe.errors import InputError
from specmoe.files import alone_in, directory_for, replacing
from specmoe.summary import FIGURES, KEYS, ORIGIN, Row
from specmoe.sweep_table import TABLE, load_sweep, to_arrow

OWN = (*KEYS, *FIGURES, *ORIGIN)


class Parts:
    """The files of one sweep's directory."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._place = directory / "parts"

    @property
    def predictions(self) -> Path:
        """Directory that keeps predictions while the sweep runs."""
        return self._place / "predictions"

    @contextmanager
    def prepared(self) -> Iterator[None]:
        """Make the directories for the block; remove them if it raises and has written nothing.

        Raises InputError if they cannot be made, or if another sweep is running in the directory.
        """
        with directory_for(self.predictions), alone_in(self.directory, "another sweep"):
            yield

    def keep(self, rows: Sequence[Row]) -> None:
        """Write the rows of a unit; raises InputError if they cannot be written."""
        table = _table(rows)
        with replacing(self._place / f"{_hash(table)}.parquet") as fresh:
            pq.write_table(table, fresh)

    def kept(self) -> dict[str, Row]:
        """Rows with figures, by the key of their cell, of a stopped or finished sweep.

        The columns `set.*` and `scale.*` are left out, since the cell itself has them. Damaged files are ignored.
        """
        tables = [*self._finished(), *self._unfinished()]
        rows = [row for table in tables for row in table.select(list(OWN)).to_pylist()]
        return {row["cell"]: row for row in rows if not row["error"]}

    def clear(self) -> None:
        """Remove the checkpoints, which a finished sweep no longer needs."""
        shutil.rmtree(self._place, ignore_errors=True)

    def _finished(self) -> Iterator[pa.Table]:
        if (self.directory / TABLE).exists():
            try:
                load_sweep(self.directory)
                yield pq.read_table(self.directory / TABLE)
            except InputError:
                return

    def _unfinished(self) -> Iterator[pa.Table]:
        for path in sorted(self._place.glob("*.parquet")):
            try:
                table = pq.read_table(path)
            except (OSError, pa.ArrowException):
                continue
            if set(OWN) <= set(table.column_names) and _hash(table) == path.stem:
                yield table


def _table(rows: Sequence[Row]) -> pa.Table:
    return to_arrow(pd.DataFrame([{name: row[name] for name in OWN} for row in rows], dtype=object))


def _hash(table: pa.Table) -> str:
    rows: list[dict[str, Any]] = table.select(list(OWN)).to_pylist()
    return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()
