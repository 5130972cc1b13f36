"""Importer of long tables, CSV, JSONL or Parquet, with one row per (token, layer) and common column names.

`experts` and `weights` hold lists: "3 5", "3;5", "[3, 5]" or a JSON list. If there is no column for positions, the
column `token` holds them. If there is a column `phase`, only rows of the requested phase are read.
"""

from collections.abc import Iterable, Mapping
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
    """Read a long table; `options` must give the number of experts."""
    return pack(path, renamed(read_table(path), NAMES), options.experts_of(path), options.phase)


def read_table(path: Path, skip_lines: int = 0) -> pa.Table:
    """Read a table by the file's suffix, .csv, .jsonl or .parquet, skipping the first `skip_lines` lines of JSONL."""
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
            require_objects(lines)
            lines.seek(0)
            for _ in range(skip_lines):
                lines.readline()
            return pyarrow.json.read_json(lines, pyarrow.json.ReadOptions(block_size=8 << 20))


def require_objects(lines: Iterable[bytes]) -> None:
    """Raise ValueError for a line that begins with null: pyarrow's parser crashes if a block does."""
    if any(line.lstrip().startswith(b"null") for line in lines):
        raise ValueError("a line is null and no JSON object")


def renamed(table: pa.Table, names: Mapping[str, tuple[str, ...]]) -> pa.Table:
    """Table with columns under their canonical names; unknown and empty columns are dropped."""
    columns = {}
    for name, aliases in names.items():
        present = [alias for alias in aliases if alias in table.column_names]
        if present and table[present[0]].null_count < max(table.num_rows, 1):
            columns[name] = table[present[0]]
    if "position" not in columns and "token" in columns:
        columns["position"] = columns.pop("token")
    return pa.table(columns)
