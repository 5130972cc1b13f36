"""Prediction tables on disk: Parquet, one row per event, each depth's candidates one after the other in its lists.

A file says of which trace and by which predictor it is; it is read for no other.
"""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from specmoe.errors import InputError
from specmoe.files import make_directory, parsing, replacing, require_regular
from specmoe.sim.speculate.predictor import PredictionTable

METADATA_KEY = b"specmoe-predictions"
FORMAT = 1  # to be raised when what predictors say of the same input changes, or how it is kept
COLUMNS = {"experts": np.int16, "confidence": np.float32}


def hash_of(described: Any) -> str:
    """A short name for anything that JSON can tell."""
    return hashlib.sha256(json.dumps([FORMAT, described], sort_keys=True).encode()).hexdigest()[:16]


def save(table: PredictionTable, path: Path, trace_hash: str, predictor_hash: str, described: dict[str, Any]) -> None:
    """Write one file, whole or not at all; `described` is what the predictor's hash stands for, for people."""
    events, depth, width = table.experts.shape
    about = {
        "format": FORMAT,
        "trace": trace_hash,
        "predictor": predictor_hash,
        "events": events,
        "depth": depth,
        "width": width,
        "peeks": table.peeks,
        "described": described,
    }
    columns = {name: _lists(getattr(table, name)) for name in COLUMNS} if width else {}
    metadata = {METADATA_KEY: json.dumps(about, sort_keys=True).encode()}
    with replacing(path) as fresh:
        pq.write_table(pa.table(columns).replace_schema_metadata(metadata), fresh, compression="zstd")


def load(path: Path, trace_hash: str, predictor_hash: str | None = None) -> PredictionTable:
    """Read what `save` wrote; raises InputError for any other file, trace or (if given) predictor."""
    require_regular(path, "a table of predictions")
    with parsing(path, "a table of predictions"):
        raw = pq.read_table(path)
        about: dict[str, Any] = json.loads((raw.schema.metadata or {})[METADATA_KEY])
        shape = (about["events"], about["depth"], about["width"])
        experts, confidence = (_array(raw, name, dtype, shape) for name, dtype in COLUMNS.items())
        table = PredictionTable(experts, confidence, peeks=bool(about["peeks"]))
        expected = {"format": FORMAT, "trace": trace_hash}
        expected |= {} if predictor_hash is None else {"predictor": predictor_hash}
        found = {name: about[name] for name in expected}
    for name, value in expected.items():
        if found[name] != value:
            raise InputError(f"{path}: predictions of another {name}: {name} {value} expected, not {found[name]}")
    return table


def cached(
    directory: Path, trace_hash: str, described: dict[str, Any], compute: Callable[[], PredictionTable]
) -> PredictionTable:
    """The predictions described, from their file in a directory, or computed and put there."""
    predictor_hash = hash_of(described)
    path = directory / f"{described['predictor']}-{trace_hash}-{predictor_hash}.parquet"
    if path.exists():
        return load(path, trace_hash, predictor_hash)
    make_directory(directory)
    table = compute()
    save(table, path, trace_hash, predictor_hash, described)
    return table


def _lists(values: NDArray[Any]) -> pa.FixedSizeListArray:
    _, depth, width = values.shape
    return pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(values).reshape(-1)), depth * width)


def _array(table: pa.Table, name: str, dtype: Any, shape: tuple[int, int, int]) -> NDArray[Any]:
    if not shape[2]:
        return np.zeros(shape, dtype)
    column = table[name].combine_chunks()
    if column.null_count or not pa.types.is_fixed_size_list(column.type):
        raise ValueError(f"{name}: lists of one size expected")
    values = column.flatten().to_numpy(zero_copy_only=False)
    if values.dtype != dtype:
        raise ValueError(f"{name}: {values.dtype}: {np.dtype(dtype)} expected")
    return np.ascontiguousarray(values).reshape(shape)
