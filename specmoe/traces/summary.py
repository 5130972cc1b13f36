"""What a trace looks like: its summary, and its tokens as tables for people and for other tools."""

from collections.abc import Callable
from dataclasses import dataclass
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


@dataclass(frozen=True)
class LayerUse:
    """Expert usage of one MoE layer; each of a token's `top_k` experts counts once."""

    entropy_bits: float  # of the experts' shares of uses; log2(num_experts) if all are equal
    active_experts: int  # used at least once
    top_share: float  # share of the most used expert


@dataclass(frozen=True)
class Summary:
    """Summary statistics of a trace."""

    tokens: int
    sequences: int
    tokens_by_source: dict[str, int]
    file_bytes: int
    dropped: int  # (token, layer)s that no expert served
    layers: tuple[LayerUse, ...]


def summarize(trace: Trace, advance: Callable[[int], object] = lambda rows: None) -> Summary:
    """Summarize a trace in one pass; `advance` is called with the number of tokens of each block."""
    meta = trace.meta
    counts = np.zeros((meta.num_layers, meta.num_experts), np.int64)
    tokens_by_source = np.zeros(len(meta.sources), np.int64)
    dropped = 0
    for block in trace.blocks(["source", "experts"]):
        used = block.experts[..., : meta.top_k]
        counts += expert_counts(used, meta.num_experts)
        dropped += int((used[..., 0] == -1).sum())
        tokens_by_source += np.bincount(block.source, minlength=len(meta.sources))
        advance(len(block.source))
    return Summary(
        tokens=trace.num_tokens,
        sequences=count_sequences(trace),
        tokens_by_source=dict(zip(meta.sources, tokens_by_source.tolist(), strict=True)),
        file_bytes=trace.path.stat().st_size,
        dropped=dropped,
        layers=tuple(layer_use(layer) for layer in counts),
    )


def overview(trace: Trace, name: str) -> dict[str, str | int]:
    """One table row about a trace under `name`; reads only the metadata and the sequence numbers."""
    meta = trace.meta
    return {
        "name": name,
        "phase": meta.phase,
        "kind": meta.kind,
        "tokens": trace.num_tokens,
        "sequences": count_sequences(trace),
        "layers": meta.num_layers,
        "experts": meta.num_experts,
        "bytes": trace.path.stat().st_size,
    }


def count_sequences(trace: Trace) -> int:
    """Number of sequences in a trace."""
    return len(np.unique(trace.sequence))


def expert_counts(used: NDArray[np.int16], num_experts: int) -> NDArray[np.int64]:
    """Uses of each expert, [L, num_experts], from ids [n, L, k]; -1 (a dropped token) is not counted."""
    layer = np.arange(used.shape[1])[:, None]
    flat = np.where(used >= 0, used + layer * num_experts, used.shape[1] * num_experts)
    counts = np.bincount(flat.reshape(-1), minlength=used.shape[1] * num_experts + 1)
    return counts[:-1].reshape(-1, num_experts)


def layer_use(counts: NDArray[np.int64]) -> LayerUse:
    """Statistics of one layer's uses [num_experts]; all zero for an unused layer."""
    shares = counts[counts > 0] / max(counts.sum(), 1)
    return LayerUse(
        entropy_bits=float(-(shares * np.log2(shares)).sum()) + 0.0,
        active_experts=len(shares),
        top_share=float(shares.max(initial=0)),
    )


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
