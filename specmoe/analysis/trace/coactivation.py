"""Which experts of a layer are wanted together.

Together means: by the same token, where top_k > 1; of top-1 routing, by the same window of WINDOW consecutive tokens
of a sequence (whole windows, one after the other). Their lift is how much more often than by chance: P(a and b) over
P(a) P(b), probabilities being shares of the tokens or windows.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from specmoe.analysis.trace.routing import Ints, Routing, places

WINDOW = 8  # tokens
ROWS = 16_384  # tokens or windows multiplied at once


def coactivation(routing: Routing) -> pd.DataFrame:
    """Columns layer, expert, other (the higher id), together, lift, of all pairs that come together at all."""
    units = unit_of_token(routing)
    frames = [_of_layer(routing, layer, units) for layer in range(routing.meta.num_layers)]
    return pd.concat(frames, ignore_index=True)


def unit_of_token(routing: Routing) -> Ints:
    """The token's own number, or that of its window, [n]; -1 in a window that the sequence does not fill."""
    if routing.meta.top_k > 1:
        return np.arange(len(routing.sequence))
    return windows(routing.sequence, WINDOW)


def windows(sequence: NDArray[np.int32], size: int) -> Ints:
    """Number, from 0 on, of each token's window of `size` consecutive tokens of its sequence, -1 in a part of one."""
    number, within = places(sequence)
    starts = within % size == 0
    window = np.cumsum(starts) - 1
    whole = np.bincount(window, minlength=1) == size
    renumbered = np.where(whole, np.cumsum(whole) - 1, -1)
    return renumbered[window] if len(sequence) else number


def _of_layer(routing: Routing, layer: int, units: Ints) -> pd.DataFrame:
    experts = routing.meta.num_experts
    pairs = np.zeros((experts, experts))
    total = int(units.max(initial=-1)) + 1
    order = np.flatnonzero(units >= 0)
    for start in range(0, total, ROWS):
        rows = order[slice(*np.searchsorted(units[order], [start, start + ROWS]))]
        present = np.zeros((min(ROWS, total - start), experts), np.float32)
        for ids in routing.used[rows, layer].T:
            present[units[rows][ids >= 0] - start, ids[ids >= 0]] = 1
        pairs += present.T @ present
    alone = np.diag(pairs)
    first, second = np.nonzero(np.triu(pairs, 1))
    together = pairs[first, second]
    lift = together * total / (alone[first] * alone[second])
    columns = {"layer": layer, "expert": first, "other": second, "together": together.astype(np.int64), "lift": lift}
    return pd.DataFrame(columns)
