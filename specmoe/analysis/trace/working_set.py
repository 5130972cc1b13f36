"""Which experts of a layer are wanted together.

Together means: by the same token, where top_k > 1; of top-1 routing, by the same window of WINDOW consecutive tokens
of a sequence (whole windows, one after the other). Their lift is how much more often than by chance: P(a and b) over
P(a) P(b), probabilities being shares of the tokens or windows.

How many different experts a sequence wants, and a run of consecutive tokens of one (Denning's working set).

Working sets: of windows of tokens, and of whole sequences.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from specmoe.analysis.style import COLOURS, figure
from specmoe.analysis.trace.panels import told
from specmoe.analysis.trace.reuse import previous_use
from specmoe.analysis.trace.routing import Ints, Routing, places, source_of_sequence
from specmoe.analysis.trace.tables import Analysis

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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


NOTE = "Distinct experts of all layers. Windows lie one after the other in a sequence; band: 10th to 90th percentile."


def working_set_figure(analysis: Analysis) -> "Figure":
    """Distinct experts against the window's tokens, and of each sequence against its length."""
    chart, (left, right) = figure(1, 2, width=4.4, height=3.6)
    sets, sequences = analysis.tables["working-set"], analysis.tables["sequences"]
    left.plot(sets["tokens"], sets["median"], "o-", color=COLOURS[0], markersize=4, label="median")
    left.fill_between(sets["tokens"], sets["p10"], sets["p90"], color=COLOURS[0], alpha=0.2, linewidth=0)
    left.set_xscale("log", base=2)
    left.xaxis.set_major_formatter("{x:g}")
    left.set(xlabel="window, tokens", ylabel="distinct experts", title="of a window")
    right.plot(sequences["tokens"], sequences["experts"], "o", color=COLOURS[1], markersize=3, alpha=0.6)
    right.set(xlabel="sequence, tokens", title="of a sequence", xlim=(0, 1.05 * sequences["tokens"].max()))
    most = max(sets["p90"].max(), sequences["experts"].max())
    for axes in (left, right):
        axes.set_ylim(0, 1.08 * most)
    left.legend(frameon=False)
    trace = analysis.facts["trace"]
    every = f" There are {trace['num_layers'] * trace['num_experts']} in all."
    told(chart, analysis.facts, "Working sets", NOTE + every)
    return chart
