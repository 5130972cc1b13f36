"""How many experts a batch wants, each counted once: what loading the batch's union saves over loading by token."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import pandas as pd

from specmoe.analysis.trace.routing import Floats, Ints, Routing, places
from specmoe.analysis.trace.streams import stream
from specmoe.traces.summary import expert_counts
from specmoe.traces.workload import Workload

MOST = 64  # sequences at once
COLUMNS = ["batch", "layer", "events", "tokens", "uses", "demanded", "saving", "independent"]


def batches(routing: Routing) -> list[int]:
    """1, 2, 4, ... up to MOST, and no more than there are sequences."""
    sequences = int(places(routing.sequence)[0][-1]) + 1 if len(routing.sequence) else 0
    return [1 << power for power in range(MOST.bit_length()) if 1 << power <= sequences]


def deduplication(routing: Routing, advance: Callable[[int], object] = lambda done: None) -> pd.DataFrame:
    """A row for each of `batches` and each layer, with means over the events of the demand stream.

    Columns batch, layer, events; and for a mean event tokens (that run), uses (experts wanted by tokens, each for
    itself), demanded (different ones), saving (1 - demanded / uses); independent: what would be demanded if tokens
    chose independently of each other. `advance` is told of each batch size.
    """
    shares = expert_counts(routing.used, routing.meta.num_experts) / max(1, len(routing.sequence))
    rows: list[tuple[float, ...]] = []
    for batch in batches(routing):
        rows += deduplicated(stream(routing, batch), shares)
        advance(1)
    return pd.DataFrame(rows, columns=COLUMNS)


def deduplicated(workload: Workload, shares: Floats) -> Iterator[tuple[float, ...]]:
    """One stream's rows; `shares` [L, E] is the share of tokens that use an expert."""
    layers, steps = workload.meta.num_layers, workload.num_steps
    demanded = np.diff(workload.offsets).reshape(steps, layers).sum(axis=0)
    uses = np.bincount(workload.events % layers, workload.tokens, layers)
    sizes, events = np.unique(workload.step_tokens, return_counts=True)
    for layer in range(layers):
        alone = float(independent_union(shares[layer], sizes) @ events) / steps
        saving = 1 - demanded[layer] / uses[layer] if uses[layer] else np.nan
        means = (len(workload.rows) / steps, uses[layer] / steps, demanded[layer] / steps)
        yield (workload.batch, layer, steps, *means, saving, alone)


def independent_union(shares: Floats, tokens: Ints) -> Floats:
    """Different experts that so many tokens [T] use on average if each uses expert e with probability shares[e]."""
    missed = np.power(1 - np.minimum(shares, 1)[None, :], tokens[:, None])
    union: Floats = (1 - missed).sum(axis=1)
    return union
