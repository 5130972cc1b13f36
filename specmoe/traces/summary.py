"""Summary statistics of a trace: tokens, sequences, and how evenly each layer uses its experts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
