"""Long tables, CSV, JSONL or Parquet: a row per (token, layer), under the names that people give such columns.

`experts` and `weights` hold a list: "3 5", "3;5", "[3, 5]" or a JSON list. A file without a column for positions may
call them `token`. Rows of another phase than the one asked for are left out where a column tells.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from specmoe.errors import InputError
from specmoe.files import parsing, require_shallow
from specmoe.traces.importers.common import Imported, Options, pack

NAMES: Mapping[str, tuple[str, ...]] = {
    "sequence": ("sequence", "sequence_id", "seq", "request_id", "prompt_id"),
    "position": ("position", "pos", "token_idx", "token_index"),
    "token": ("token", "token_id"),
    "layer": ("layer", "layer_idx", "layer_id"),
    "experts": ("experts", "expert_ids", "selected_experts", "expert"),
    "weights": ("weights", "probs", "router_scores", "weight"),
    "source": ("source", "domain", "domain_tag"),
    "phase": ("phase",),
}

SUFFIXES = (".csv", ".jsonl", ".json", ".parquet")


def read(path: Path, options: Options) -> Imported:
    """Read a file of the form above; the number of experts must be given."""
    return pack(path, renamed(read_table(path), NAMES), options.experts_of(path), options.phase)


def read_table(path: Path, skip_lines: int = 0) -> pa.Table:
    """A table by the file's suffix: .csv, .jsonl or .parquet; `skip_lines` of JSONL are left out."""
    if path.suffix not in SUFFIXES:
        raise InputError(f"{path}: suffix {path.suffix!r}: .csv, .jsonl or .parquet expected")
    with parsing(path, f"a whole {path.suffix} file"):
        if path.suffix == ".parquet":
            return pq.read_table(path)
        if path.suffix == ".csv":
            text = dict.fromkeys((*NAMES["experts"], *NAMES["weights"]), pa.string())
            return pyarrow.csv.read_csv(path, convert_options=pyarrow.csv.ConvertOptions(column_types=text))
        with path.open("rb") as lines:
            require_shallow(lines)
            lines.seek(0)
            for _ in range(skip_lines):
                lines.readline()
            return pyarrow.json.read_json(lines, pyarrow.json.ReadOptions(block_size=8 << 20))


def renamed(table: pa.Table, names: Mapping[str, tuple[str, ...]]) -> pa.Table:
    """Columns under their canonical names; others, and empty ones, are left out."""
    columns = {}
    for name, aliases in names.items():
        found = [alias for alias in aliases if alias in table.column_names]
        if found and table[found[0]].null_count < max(table.num_rows, 1):
            columns[name] = table[found[0]]
    if "position" not in columns and "token" in columns:
        columns["position"] = columns.pop("token")
    return pa.table(columns)
