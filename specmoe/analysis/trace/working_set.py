"""How many different experts a sequence wants, and a run of consecutive tokens of one (Denning's working set)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from specmoe.analysis.trace.coactivation import windows
from specmoe.analysis.trace.reuse import previous_use
from specmoe.analysis.trace.routing import Ints, Routing, places, source_of_sequence

LONGEST = 4096  # tokens of a window
QUANTILES = {"p10": 10, "median": 50, "p90": 90}


class Uses(NamedTuple):
    """The uses of one layer, [u] each."""

    row: NDArray[np.int32]  # of the trace
    before: NDArray[
        np.int32
    ]  # place in the sequence of the last token before that used the same expert; -1 if there is none


def sequence_sets(routing: Routing) -> pd.DataFrame:
    """Columns sequence, source, tokens, experts: distinct experts of all layers that the sequence uses."""
    name, source, tokens = source_of_sequence(routing)
    number = places(routing.sequence)[0]
    experts = np.zeros(len(name), np.int64)
    for uses in by_layer(routing):
        experts += np.bincount(number[uses.row[uses.before < 0]], minlength=len(name))
    sources = np.array(routing.meta.sources, object)[source]
    return pd.DataFrame({"sequence": name, "source": sources, "tokens": tokens, "experts": experts})


def window_sets(routing: Routing) -> pd.DataFrame:
    """Distinct experts of all layers in windows of 1, 2, 4, ... tokens of a sequence.

    Columns tokens (of a window), windows, mean, p10, median, p90. Windows lie one after the other from a sequence's
    first token on; what does not fill the last is left out.
    """
    layers, rows = list(by_layer(routing)), []
    longest = int(source_of_sequence(routing)[2].max(initial=0))
    for size in (1 << power for power in range(min(longest, LONGEST).bit_length())):
        sets = _sets(routing, layers, size)
        quantiles = np.percentile(sets, list(QUANTILES.values())).tolist()
        rows.append((size, len(sets), sets.mean(), *quantiles))
    return pd.DataFrame(rows, columns=["tokens", "windows", "mean", *QUANTILES])


def _sets(routing: Routing, layers: list[Uses], size: int) -> Ints:
    """Distinct experts in each window: uses that are their window's first of the expert."""
    window, within = windows(routing.sequence, size), places(routing.sequence)[1]
    begin = within - within % size
    total = np.zeros(int(window.max()) + 1, np.int64)
    for row, before in layers:
        new = row[(before < begin[row]) & (window[row] >= 0)]
        total += np.bincount(window[new], minlength=len(total))
    return total


def by_layer(routing: Routing) -> Iterator[Uses]:
    """The uses of each layer, in the trace's order."""
    number, within = places(routing.sequence)
    for layer in range(routing.meta.num_layers):
        used = routing.used[:, layer]
        row = np.nonzero(used >= 0)[0]
        last = previous_use(number[row] * routing.meta.num_experts + used[used >= 0])
        before = np.where(last >= 0, within[row[last]], -1)
        yield Uses(row.astype(np.int32), before.astype(np.int32))
