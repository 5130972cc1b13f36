"""Routing that is drawn for a model of which there is no trace.

A token uses each expert of the token before again with an assumed probability, and else experts drawn alike and without
replacement. Real models differ: beyond chance, tokens of gpt-oss-20b use 36 % of the last token's experts again, those
of switch-mini-128 4 %; so an answer is given for `LIKELY` and told for both ends of `RANGE`. Layers know nothing of
each other, so no predictor can be judged on such routing.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from specmoe.hwprofiles.shape import ModelShape
from specmoe.traces.schema import Block, TraceMeta, no_lookahead
from specmoe.traces.store import library_versions, today, write_trace

LIKELY, RANGE = 0.2, (0.0, 0.4)  # assumed stickiness
SEED = 0
DRAWS = 20_000_000  # random numbers for a trace
SEQUENCES, MOST_SEQUENCES = 32, 64  # enough for a batch of four times the question's
LENGTHS = (32, 128)  # tokens of a sequence


def draw(shape: ModelShape, assumed_stickiness: float, batch: int, directory: Path) -> Path:
    """Write a `decode` trace with enough sequences for a batch; its notes say what is assumed."""
    layers, experts = shape.decoder.moe_layers, shape.experts
    sequences = max(SEQUENCES, min(MOST_SEQUENCES, 16 * batch), batch)
    least, most = LENGTHS
    length = max(least, min(most, DRAWS // (sequences * layers * experts.number)))
    size = (length, sequences, layers, experts.number)
    used = routed(size, experts.top_k, assumed_stickiness, np.random.default_rng(SEED))
    meta = TraceMeta(
        phase="decode",
        kind="synthetic",
        origin="synthetic",
        model="none",
        num_experts=experts.number,
        num_layers=layers,
        top_k=experts.top_k,
        candidates=experts.top_k,
        sources=("synthetic",),
        corpus="none",
        seed=SEED,
        has_probs=False,
        has_lookahead=False,
        date=today(),
        versions=library_versions("numpy", "pyarrow"),
        notes=(f"assumed_stickiness = {assumed_stickiness}", "experts are drawn alike"),
    )
    path = directory / f"drawn-{assumed_stickiness}.parquet"
    write_trace(path, meta, [_block(used)])
    return path


def routed(
    size: tuple[int, int, int, int], top_k: int, stickiness: float, rng: np.random.Generator
) -> NDArray[np.int16]:
    """Experts [sequences, tokens, layers, top_k], from the sizes [tokens, sequences, layers, experts]."""
    tokens, *rest = size
    used = np.empty((tokens, *rest[:2], top_k), np.int16)
    for token in range(tokens):
        scores = rng.random(rest, np.float32)
        if token:
            kept = rng.random(used[0].shape, np.float32) < stickiness
            before = np.where(kept, 2.0, 0.0) + np.take_along_axis(scores, used[token - 1].astype(np.intp), -1)
            np.put_along_axis(scores, used[token - 1].astype(np.intp), before.astype(np.float32), -1)
        used[token] = np.argpartition(-scores, top_k - 1, -1)[..., :top_k]
    return used.swapaxes(0, 1)


def _block(used: NDArray[np.int16]) -> Block:
    sequences, length = used.shape[:2]
    experts = used.reshape(-1, *used.shape[2:])
    return Block(
        sequence=np.repeat(np.arange(sequences, dtype=np.int32), length),
        position=np.tile(np.arange(length, dtype=np.int32), sequences),
        source=np.zeros(len(experts), np.int16),
        token=np.full(len(experts), -1, np.int32),
        experts=experts,
        probs=np.full(experts.shape, np.nan, np.float16),
        lookahead=no_lookahead(experts),
    )
