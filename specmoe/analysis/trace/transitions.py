"""From which expert of one layer to which of the next: a token's way through the model."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from specmoe.analysis.trace.routing import Ints, Routing


def transition_counts(used: NDArray[np.int16], layer: int, experts: int) -> Ints:
    """How often a token that used expert a at `layer` used b at the next, [E, E], from uses [n, L, k].

    Of top-k routing all k * k pairs of a token count. A dropped token has none.
    """
    counts = np.zeros(experts * experts, np.int64)
    for a in used[:, layer].T:
        for b in used[:, layer + 1].T:
            there = (a >= 0) & (b >= 0)
            counts += np.bincount(a[there].astype(np.int64) * experts + b[there], minlength=experts * experts)
    return counts.reshape(experts, experts)


def transitions(routing: Routing) -> pd.DataFrame:
    """Columns layer, expert, next_expert, uses, probability (of the next, given the first), of pairs that occur."""
    frames = [_of_layer(routing, layer) for layer in range(routing.meta.num_layers - 1)]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _of_layer(routing: Routing, layer: int) -> pd.DataFrame:
    counts = transition_counts(routing.used, layer, routing.meta.num_experts)
    expert, following = np.nonzero(counts)
    uses, total = counts[expert, following], counts.sum(axis=1)[expert]
    columns = {"layer": layer, "expert": expert, "next_expert": following}
    return pd.DataFrame({**columns, "uses": uses, "probability": uses / total})
