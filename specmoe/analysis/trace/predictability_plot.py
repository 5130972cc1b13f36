"""How many bits are left once something is known."""

from __future__ import annotations

from typing import TYPE_CHECKING

from specmoe.analysis.style import COLOURS, MARKERS, figure, legend_below
from specmoe.analysis.trace.job import Analysis
from specmoe.analysis.trace.panels import ticks, told

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NOTE = (
    "Entropy of a token's first-choice expert, plug-in with Miller and Madow's correction, on the trace itself:\nwhat "
    "is left is biased low, most of all where contexts are rare (token ids)."
)


def predictability_figure(analysis: Analysis) -> Figure:
    """Bits of surprise by layer: with nothing known, and given each context."""
    chart, axes = figure(1, 1, width=7.4, height=3.8)
    table = analysis.tables["predictability"]
    bits = table.groupby("layer")["bits"].max()
    axes.plot(bits.index, bits, "-", color="black", label="nothing known")
    for place, (context, rows) in enumerate(table.groupby("context")):
        look = {"color": COLOURS[place], "marker": MARKERS[place], "markersize": 5}
        axes.plot(rows["layer"], rows["left"], label=f"{context} known", **look)
    axes.set(xlabel="layer", ylabel="bits left", xticks=ticks(analysis.facts["trace"]["num_layers"]), ylim=(0, None))
    axes.grid(axis="y", color="0.9", linewidth=0.8)
    legend_below(axes)
    told(chart, analysis.facts, "How predictable experts are", NOTE)
    return chart
