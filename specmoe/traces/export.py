"""Export of a trace as a long table, for pandas and DuckDB: one row per token and MoE layer.

    sequence  position  source  token  layer  expert_0 ..  prob_0 ..  lookahead_0 ..

If the look-ahead covers several layers, its columns are lookahead1_0 .. lookahead2_0 .., by depth and rank.
Probabilities are float32. The columns `prob_*` and `lookahead*` are absent if the trace has none.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
from numpy.typing import NDArray

from specmoe.errors import InputError
from specmoe.files import replacing
from specmoe.traces.schema import Block, TraceMeta, regroup
from specmoe.traces.store import Trace

_WRITERS: dict[str, Callable[[Path, pa.Schema], Any]] = {
    ".parquet": lambda path, schema: pq.ParquetWriter(path, schema, compression="zstd"),
    ".csv": pyarrow.csv.CSVWriter,
}


def export(trace: Trace, out: Path, advance: Callable[[int], object] = lambda rows: None) -> int:
    """Write the long table to `out`, .parquet or .csv, and return its number of rows.

    `advance` is called with the number of tokens of each block. Raises InputError for another suffix.
    """
    if out.suffix not in _WRITERS:
        raise InputError(f"{out}: suffix {out.suffix!r}: {' or '.join(_WRITERS)} expected")
    schema = long_table(next(trace.blocks(), _empty(trace.meta)), trace.meta).schema
    rows = 0
    with replacing(out) as temporary, _WRITERS[out.suffix](temporary, schema) as writer:
        for block in trace.blocks():
            table = long_table(block, trace.meta)
            writer.write_table(table)
            rows += table.num_rows
            advance(len(block.sequence))
    return rows


def long_table(block: Block, meta: TraceMeta) -> pa.Table:
    """Long table of a block [n, L, M]: n * L rows."""
    layers = meta.num_layers
    columns = {
        "sequence": np.repeat(block.sequence, layers),
        "position": np.repeat(block.position, layers),
        "source": pa.array(meta.sources, pa.string()).take(pa.array(np.repeat(block.source, layers))),
        "token": np.repeat(block.token, layers),
        "layer": np.tile(np.arange(layers, dtype=np.int16), len(block.sequence)),
        **_places("expert", block.experts),
    }
    if meta.has_probs:
        columns |= _places("prob", block.probs.astype(np.float32))
    if meta.has_lookahead:
        for depth in range(1, meta.lookahead_depth + 1):
            name = "lookahead" if meta.lookahead_depth == 1 else f"lookahead{depth}"
            columns |= _places(name, block.lookahead[:, :, depth - 1])
    return pa.table(columns)


def first_tokens(trace: Trace, n: int) -> list[dict[str, Any]]:
    """Long rows of the first n tokens, with the experts of a layer in lists.

    Keys: sequence, position, source, token, layer, used (`top_k` experts), others, probs, lookahead (a list per depth).
    """
    if n < 1:
        raise InputError(f"{n} tokens: at least one expected")
    top_k = trace.meta.top_k
    block = next(regroup(trace.blocks(), n), _empty(trace.meta))
    rows = []
    for token, layer in np.ndindex(min(n, len(block.sequence)), trace.meta.num_layers):
        experts = block.experts[token, layer].tolist()
        row = {
            "sequence": int(block.sequence[token]),
            "position": int(block.position[token]),
            "source": trace.meta.sources[block.source[token]],
            "token": int(block.token[token]),
            "layer": layer,
            "used": experts[:top_k],
            "others": experts[top_k:],
            "probs": block.probs[token, layer].tolist() if trace.meta.has_probs else [],
            "lookahead": block.lookahead[token, layer].tolist() if trace.meta.has_lookahead else [],
        }
        rows.append(row)
    return rows


def _places(name: str, values: NDArray[Any]) -> dict[str, NDArray[Any]]:
    return {f"{name}_{place}": values[..., place].reshape(-1) for place in range(values.shape[-1])}


def _empty(meta: TraceMeta) -> Block:
    none = np.empty(0, np.int32)
    experts, probs, lookahead = (np.empty((0, *shape), np.int16) for shape in meta.shapes.values())
    return Block(none, none, none.astype(np.int16), none, experts, probs.astype(np.float16), lookahead)
