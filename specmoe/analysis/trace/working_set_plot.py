"""Working sets: of windows of tokens, and of whole sequences."""

from __future__ import annotations

from typing import TYPE_CHECKING

from specmoe.analysis.style import COLOURS, figure
from specmoe.analysis.trace.job import Analysis
from specmoe.analysis.trace.panels import told

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NOTE = "Distinct experts of all layers. Windows lie one after the other in a sequence; band: 10th to 90th percentile."


def working_set_figure(analysis: Analysis) -> Figure:
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
