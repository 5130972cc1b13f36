"""From what is predicted for each token to what is predicted for an event: tokens of a batch share their experts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from specmoe.traces.workload import Workload

Candidates = tuple[NDArray[np.int16], NDArray[np.float32]]


def pool(workload: Workload, experts: NDArray[np.int16], confidence: NDArray[np.floating[Any]]) -> Candidates:
    """Candidates [n, L, D, C] of the workload's rows to candidates [events, D, W] of its events, best first.

    An expert that tokens want independently with probabilities p is demanded with probability 1 - prod(1 - p). Ties go
    to the lower id. Candidates of -1 count for nothing. W is as wide as the most that an event could have.
    """
    most = min(workload.meta.num_experts, experts.shape[3] * int(workload.step_tokens.max()))
    depths = [_pool(workload, experts[:, :, d], confidence[:, :, d], most) for d in range(experts.shape[2])]
    best, sure = zip(*depths, strict=True)
    return np.stack(best, axis=1), np.stack(sure, axis=1)


def _pool(
    workload: Workload, experts: NDArray[np.int16], confidence: NDArray[np.floating[Any]], width: int
) -> Candidates:
    """One depth, [n, L, C] to [events, width]."""
    layers, count = workload.meta.num_layers, workload.meta.num_experts
    event = workload.step_of_row[:, None, None] * layers + np.arange(layers)[:, None]
    there = experts >= 0
    key = (event * count + experts)[there]
    doubt = np.log1p(-np.minimum(confidence[there].astype(np.float64), 1 - 1e-9))
    distinct, place = np.unique(key, return_inverse=True)
    sure = -np.expm1(np.bincount(place, doubt, minlength=len(distinct)))
    return _widen(distinct, sure, workload.num_events, count, width)


def _widen(keys: NDArray[np.int64], confidence: NDArray[np.float64], events: int, count: int, width: int) -> Candidates:
    """Sorted keys `event * count + expert` to the best `width` of each event."""
    order = np.lexsort((keys, -confidence, keys // count))
    event = keys[order] // count
    rank = np.arange(len(order)) - np.searchsorted(event, event)
    kept = rank < width
    experts = np.full((events, width), -1, np.int16)
    sure = np.zeros((events, width), np.float32)
    experts[event[kept], rank[kept]] = keys[order][kept] % count
    sure[event[kept], rank[kept]] = confidence[order][kept]
    return experts, sure
