"""How many different experts are needed: in windows of tokens, by whole sequences, and by the sequences of a batch."""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from specmoe.analysis.style import COLOURS, figure
from specmoe.analysis.trace.reuse import previous_use
from specmoe.analysis.trace.routing import Floats, Ints, Routing, places, source_of_sequence, stream
from specmoe.analysis.trace.tables import Analysis, cut, told
from specmoe.traces.summary import expert_counts
from specmoe.traces.workload import Workload

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
    chose independently of each other. `advance` is called for each batch size.
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
    """Mean number of distinct experts that `tokens` [T] tokens use if each uses expert e with probability shares[e]."""
    missed = np.power(1 - np.minimum(shares, 1)[None, :], tokens[:, None])
    union: Floats = (1 - missed).sum(axis=1)
    return union


SHARED_NOTE = (
    "Left: different experts that a layer wants in a mean step. Right: what loading each of them once saves over "
    "loading for\neach token by itself. Mean over layers, in the band least to most. Dashed: if tokens chose "
    "independently of each other."
)


def deduplication_figure(analysis: Analysis) -> "Figure":
    """The batch's union and what it saves against batch, beside what independent tokens would want."""
    chart, (left, right) = figure(1, 2, width=4.4, height=3.6)
    table, experts = analysis.tables["deduplication"], analysis.facts["trace"]["num_experts"]
    for axes, values in ((left, table[["demanded", "independent"]]), (right, savings(table))):
        layers = values.groupby(table["batch"])
        mean, low, high = layers.mean(), layers.min(), layers.max()
        ours, alone = values.columns
        axes.plot(mean.index, mean[ours], "o-", color=COLOURS[0], markersize=5, label="this trace")
        axes.fill_between(mean.index, low[ours], high[ours], color=COLOURS[0], alpha=0.2, linewidth=0)
        axes.plot(mean.index, mean[alone], "s--", color=COLOURS[1], markersize=4, label="independent tokens")
        axes.set_xscale("log", base=2)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set(xlabel="batch, sequences", xticks=mean.index.to_list())
        axes.grid(axis="y", color="0.9", linewidth=0.8)
    left.axhline(experts, color="black", linestyle=":", linewidth=1, label=f"all {experts} experts")
    left.set(ylabel="experts of a layer and step", ylim=(0, 1.05 * experts))
    right.set(ylabel="saved loads, %", ylim=(0, 103))
    left.legend(frameon=False)
    seen = round((table["events"] * table["tokens"]).min())
    told(chart, analysis.facts, "Deduplication over a batch", SHARED_NOTE + cut(seen, analysis.facts))
    return chart


def savings(table: pd.DataFrame) -> pd.DataFrame:
    """Saved loads in %, of the trace's tokens and of independent ones; columns demanded, independent."""
    uses = table["uses"].where(table["uses"] > 0)
    return pd.DataFrame({name: 100 * (1 - table[name] / uses) for name in ("demanded", "independent")})
