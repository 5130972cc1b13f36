"""A trace in a few numbers: how many tokens and sequences, and how evenly each layer uses its experts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from specmoe.traces.store import Trace


@dataclass(frozen=True)
class LayerUse:
    """Use of one MoE layer's experts, each use of the `top_k` of a token counted once."""

    entropy_bits: float  # of the experts' shares; log2(num_experts) if all are used alike
    active_experts: int  # used at least once
    top_share: float  # share of the most used expert


@dataclass(frozen=True)
class Summary:
    """What a trace holds."""

    tokens: int
    sequences: int
    tokens_by_source: dict[str, int]
    file_bytes: int
    dropped: int  # (token, layer)s that no expert served
    layers: tuple[LayerUse, ...]


def summarize(trace: Trace, advance: Callable[[int], object] = lambda rows: None) -> Summary:
    """Stream a trace once; `advance` is told of each block's tokens."""
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
    """One line about a trace, under `name`; reads its sequence numbers only."""
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
    """Number of different sequences."""
    return len(np.unique(trace.sequence))


def expert_counts(used: NDArray[np.int16], num_experts: int) -> NDArray[np.int64]:
    """Uses [L, num_experts] of each expert in ids [n, L, k]; -1, a dropped token, counts for none."""
    layer = np.arange(used.shape[1])[:, None]
    flat = np.where(used >= 0, used + layer * num_experts, used.shape[1] * num_experts)
    counts = np.bincount(flat.reshape(-1), minlength=used.shape[1] * num_experts + 1)
    return counts[:-1].reshape(-1, num_experts)


def layer_use(counts: NDArray[np.int64]) -> LayerUse:
    """Statistics of one layer's uses [num_experts]; all zero for a layer never used."""
    shares = counts[counts > 0] / max(counts.sum(), 1)
    return LayerUse(
        entropy_bits=float(-(shares * np.log2(shares)).sum()) + 0.0,
        active_experts=len(shares),
        top_share=float(shares.max(initial=0)),
    )
