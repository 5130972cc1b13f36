"""Small traces for the studies of a trace."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
from random_traces import META, random_block

from specmoe.analysis.trace.routing import Routing
from specmoe.traces import Block, TraceMeta
from specmoe.traces.schema import no_lookahead

Rows = Sequence[Sequence[int | tuple[int, ...]]]


def routing_of(
    rows: Rows,
    sequence: Sequence[int] | None = None,
    source: Sequence[int] | None = None,
    token: Sequence[int] | None = None,
    **changes: Any,
) -> Routing:
    """Rows are tokens, columns layers; a tuple holds the experts of a top-k router."""
    used = np.array(rows, np.int16)
    used = used[:, :, None] if used.ndim == 2 else used
    n, layers, top_k = used.shape
    fields = {"num_experts": int(used.max()) + 1, "num_layers": layers, "top_k": top_k, "candidates": top_k}
    meta = dataclasses.replace(META, **{**fields, **changes})
    columns = ((sequence, np.int32), (source, np.int16), (token, np.int32))
    return Routing(meta, *(np.array([0] * n if values is None else values, kind) for values, kind in columns), used)


def block_of(routing: Routing) -> Block:
    """The same as rows of a trace, without look-ahead."""
    n = len(routing.sequence)
    probs = np.full(routing.used.shape, 0.5, np.float16)
    position = np.arange(n, dtype=np.int32)
    columns = (routing.sequence, position, routing.source, routing.token)
    return Block(*columns, routing.used, probs, no_lookahead(routing.used))


def random_routing(n: int, seed: int = 0, **changes: Any) -> Routing:
    """A random trace; every tenth (token, layer) dropped, so that all studies meet some."""
    meta = dataclasses.replace(META, **changes)
    block = random_block(n, meta, seed)
    used = block.experts[:, :, : meta.top_k].copy()
    used[np.random.default_rng(seed).random(used.shape[:2]) < 0.1] = -1
    return Routing(meta, block.sequence, block.source, block.token, used)


def random_trace(n: int, seed: int = 0, **changes: Any) -> tuple[TraceMeta, list[Block]]:
    """For `write_trace`."""
    meta = dataclasses.replace(META, **changes)
    return meta, [random_block(n, meta, seed)] if n else []
