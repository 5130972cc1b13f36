"""Demand streams of a trace at any batch size, of a length that fits in memory."""

from __future__ import annotations

import numpy as np

from specmoe.analysis.trace.routing import Routing, as_block, places
from specmoe.traces.workload import Workload, build

MOST_USES = (
    2_500_000  # of experts by tokens, that a stream looks at: 400 MB for its intervals, 150 MB for its reuse distances
)


def stream(routing: Routing, batch: int, most: int = MOST_USES) -> Workload:
    """The demand of at least one token, in steps of `batch` sequences; of a long trace, its first steps only.

    A stream has all steps if the trace has at most `most` uses (tokens * layers * top_k), else about so many.
    """
    return build(as_block(routing), routing.meta, batch, _steps(routing, batch, most))


def _steps(routing: Routing, batch: int, most: int) -> int | None:
    if routing.used.size <= most:
        return None
    number, _ = places(routing.sequence)
    per_step = batch if routing.meta.phase == "decode" else batch * len(number) / (int(number[-1]) + 1)
    return max(1, int(most / (per_step * np.prod(routing.used.shape[1:]))))
