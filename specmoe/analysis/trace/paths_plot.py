"""The ways of a few tokens through the layers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from specmoe.analysis.trace.job import Analysis
from specmoe.analysis.trace.panels import COLOURS, grid, ticks, told

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NOTE = "First-choice experts of the first tokens of a few sequences; a gap: the token was dropped."


def paths_figure(analysis: Analysis) -> Figure:
    """A panel for each sequence, a line for each token, the later the lighter."""
    import matplotlib as mpl

    table, trace = analysis.tables["paths"], analysis.facts["trace"]
    sequences = list(table.groupby("sequence", sort=False))
    chart, panels = grid(len(sequences), 2, width=4.6, height=2.7)
    colours = mpl.colormaps[COLOURS].resampled(int(table["place"].max()) + 2)
    for axes, (sequence, tokens) in zip(panels, sequences, strict=True):
        for place, path in tokens.groupby("place"):
            seen = path["expert"].where(path["expert"] >= 0)
            axes.plot(path["layer"], seen, "o-", color=colours(int(str(place))), linewidth=1, markersize=3, alpha=0.85)
        axes.set_title(f"sequence {sequence}: {tokens['source'].iloc[0]}", fontsize=9, loc="left")
        axes.set(ylim=(-1, trace["num_experts"]), xticks=ticks(trace["num_layers"]))
        axes.set(xlabel="layer", ylabel="expert")
    shades = mpl.cm.ScalarMappable(mpl.colors.Normalize(0, int(table["place"].max()) + 1), colours)
    chart.colorbar(shades, ax=panels, label="token of the sequence", shrink=0.8)
    told(chart, analysis.facts, "Sample paths", NOTE)
    return chart
