"""What loading a batch's experts once saves."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pandas as pd

from specmoe.analysis.style import COLOURS, figure
from specmoe.analysis.trace.job import Analysis
from specmoe.analysis.trace.panels import cut, told

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NOTE = (
    "Left: different experts that a layer wants in a mean step. Right: what loading each of them once saves over "
    "loading for\neach token by itself. Mean over layers, in the band least to most. Dashed: if tokens chose "
    "independently of each other."
)


def deduplication_figure(analysis: Analysis) -> Figure:
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
