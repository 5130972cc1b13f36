"""Use of experts over time: the trace's tokens in their order, cut into slices of equal length."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pandas as pd

from specmoe.analysis.trace.routing import Routing
from specmoe.traces.summary import expert_counts

SLICES = 48  # at most, and so few
USES = 10  # of a mean expert in a slice, at least: with fewer there would be little but noise


def timeline(routing: Routing) -> pd.DataFrame:
    """Columns slice, begin (its first token's row), tokens, layer, expert, uses, of the experts used in the slice."""
    edges = np.linspace(0, len(routing.sequence), slices(routing) + 1).astype(np.int64)
    frames = [_slice(routing, number, *ends) for number, ends in enumerate(pairwise(edges.tolist()))]
    names = ["slice", "begin", "tokens", "layer", "expert", "uses"]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=names, dtype=np.int64)


def slices(routing: Routing) -> int:
    """How many; 0 for an empty trace."""
    tokens, top_k = len(routing.sequence), routing.meta.top_k
    return min(SLICES, tokens, max(1, tokens * top_k // (USES * routing.meta.num_experts)))


def _slice(routing: Routing, number: int, begin: int, end: int) -> pd.DataFrame:
    uses = expert_counts(routing.used[begin:end], routing.meta.num_experts)
    layer, expert = np.nonzero(uses)
    same = {"slice": number, "begin": begin, "tokens": end - begin}
    return pd.DataFrame({**same, "layer": layer, "expert": expert, "uses": uses[layer, expert]})
