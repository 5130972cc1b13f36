"""How many experts a batch wants, each counted once: what loading the batch's union saves over loading by token.

What loading a batch's experts once saves.
"""

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from specmoe.analysis.style import COLOURS, figure
from specmoe.analysis.trace.panels import cut, told
from specmoe.analysis.trace.routing import Floats, Ints, Routing, places, stream
from specmoe.analysis.trace.tables import Analysis
from specmoe.traces.summary import expert_counts
from specmoe.traces.workload import Workload

if TYPE_CHECKING:
    from matplotlib.figure import Figure

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


NOTE = (
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
    told(chart, analysis.facts, "Deduplication over a batch", NOTE + cut(seen, analysis.facts))
    return chart


def savings(table: pd.DataFrame) -> pd.DataFrame:
    """Saved loads in %, of the trace's tokens and of independent ones; columns demanded, independent."""
    uses = table["uses"].where(table["uses"] > 0)
    return pd.DataFrame({name: 100 * (1 - table[name] / uses) for name in ("demanded", "independent")})
