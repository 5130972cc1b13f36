"""From what is predicted for each token to what is predicted for an event: tokens of a batch share their experts."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from specmoe.traces.workload import Workload


def pool(
    workload: Workload, experts: NDArray[np.int16], confidence: NDArray[np.floating[Any]], width: int
) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
    """Candidates [n, L, C] of the workload's rows to candidates [events, width] of its events, best first.

    An expert that tokens want independently with probabilities p is demanded with probability 1 - prod(1 - p). Ties go
    to the lower id. Candidates of -1 count for nothing.
    """
    layers, count = workload.meta.num_layers, workload.meta.num_experts
    event = workload.step_of_row[:, None, None] * layers + np.arange(layers)[:, None]
    there = experts >= 0
    key = (event * count + experts)[there]
    doubt = np.log1p(-np.minimum(confidence[there].astype(np.float64), 1 - 1e-9))
    distinct, place = np.unique(key, return_inverse=True)
    sure = -np.expm1(np.bincount(place, doubt, minlength=len(distinct)))
    return _widen(distinct, sure, workload.num_events, count, width)


def _widen(
    keys: NDArray[np.int64], confidence: NDArray[np.float64], events: int, count: int, width: int
) -> tuple[NDArray[np.int16], NDArray[np.float32]]:
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
