"""Random but valid blocks of traces."""

from __future__ import annotations

from typing import Any

import numpy as np

from specmoe.traces import Block, TraceMeta

META = TraceMeta(
    phase="decode",
    kind="random",
    origin="teacher-forced",
    model="tiny",
    num_experts=16,
    num_layers=3,
    top_k=2,
    candidates=4,
    sources=("code", "prose"),
    corpus="made up",
    date="2025-01-01",
)


def random_block(n: int, meta: TraceMeta, seed: int = 0, start: int = 0, mean_length: int = 10) -> Block:
    """A valid block of n tokens in sequences of random length, the first of them numbered `start`."""
    rng = np.random.default_rng(seed)
    position = _positions(n, mean_length, rng)
    sequence = (np.cumsum(position == 0) - 1 + start).astype(np.int32)
    shape = (n, meta.num_layers, meta.num_experts)
    probs = np.sort(rng.random(shape), axis=-1)[..., : -meta.candidates - 1 : -1].astype(np.float16)
    scores = rng.random((n, meta.num_layers, meta.lookahead_depth, meta.num_experts))
    lookahead = scores.argsort(axis=-1)[..., : meta.candidates].astype(np.int16)
    for depth in range(1, meta.lookahead_depth + 1):
        lookahead[:, max(0, meta.num_layers - depth) :, depth - 1] = -1
    return Block(
        sequence=sequence,
        position=position,
        source=rng.integers(len(meta.sources), size=sequence.max(initial=0) + 1, dtype=np.int16)[sequence],
        token=rng.integers(8192, size=n, dtype=np.int32),
        experts=rng.random(shape).argsort(axis=-1)[..., : meta.candidates].astype(np.int16),
        probs=probs if meta.has_probs else np.full_like(probs, np.nan),
        lookahead=lookahead if meta.has_lookahead else np.full_like(lookahead, -1),
    )


def _positions(n: int, mean_length: int, rng: np.random.Generator) -> Any:
    starts = rng.random(n) < 1 / mean_length
    starts[:1] = True
    rows = np.arange(n, dtype=np.int32)
    return rows - np.maximum.accumulate(np.where(starts, rows, 0), dtype=np.int32)
