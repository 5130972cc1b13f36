"""Which experts each event demands, as a table of yes and no."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from specmoe.traces.workload import Workload

CELLS_AT_ONCE = 1 << 22  # of steps * layers * experts, so that blocks stay small whatever the model and the run


def demands(workload: Workload) -> Iterator[NDArray[np.int64]]:
    """Whether each event demands each expert, [s, L, E], in blocks of steps."""
    layers, count = workload.meta.num_layers, workload.meta.num_experts
    at_once = max(1, CELLS_AT_ONCE // (layers * count))
    for first in range(0, workload.num_steps, at_once):
        steps = min(at_once, workload.num_steps - first)
        edges = workload.offsets[first * layers : (first + steps) * layers + 1]
        event = np.repeat(np.arange(steps * layers), np.diff(edges))
        flat = np.zeros(steps * layers * count, np.int64)
        flat[event * count + workload.experts[edges[0] : edges[-1]]] = 1
        yield flat.reshape(steps, layers, count)
