"""Misses against slots: an LRU's, and the fewest possible."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from specmoe.analysis.style import COLOURS, MARKERS, figure
from specmoe.analysis.trace.job import Analysis
from specmoe.analysis.trace.panels import cut, told

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NOTE = (
    "Misses among an event's distinct experts; one pool of slots for all layers, nothing prefetched. Belady: the "
    "fewest\npossible, at the marks. A curve begins at what the largest event demands. Crosses: an LRU's cliff, "
    "the demand of\nall layers of a mean step but one layer's."
)


def miss_ratio_figure(analysis: Analysis) -> Figure:
    """An LRU's curve, the optimum's and the cliff for each batch."""
    chart, axes = figure(1, 1, width=7.4, height=4.6)
    for place, study in enumerate(analysis.facts["reuse"]):
        _curves(axes, analysis, study, place)
    every = int(analysis.tables["miss-ratio"]["slots"].max())
    axes.set(xlabel="slots, experts of all layers", ylabel="miss ratio, %", ylim=(0, 103), xlim=(0, 1.02 * every))
    share = axes.secondary_xaxis("top", functions=(lambda slots: 100 * slots / every, lambda part: part * every / 100))
    share.set_xlabel("share of all experts, %")
    axes.grid(color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.legend(frameon=False, ncols=2)
    seen = min(study["tokens"] for study in analysis.facts["reuse"])
    told(chart, analysis.facts, "Miss ratio against slots", NOTE + cut(seen, analysis.facts))
    return chart


def _curves(axes: Any, analysis: Analysis, study: dict[str, Any], place: int) -> None:
    table = analysis.tables["miss-ratio"]
    curve = table[table["batch"] == study["batch"]]
    known = curve[curve["belady_hits"].notna()]
    colour = COLOURS[place % len(COLOURS)]
    mark: Any = {"marker": MARKERS[place % len(MARKERS)], "markersize": 4}
    axes.plot(curve["slots"], 100 * curve["lru_miss_ratio"], color=colour, label=f"LRU, batch {study['batch']}")
    best = f"Belady, batch {study['batch']}"
    axes.plot(known["slots"], 100 * known["belady_miss_ratio"], "--", color=colour, label=best, **mark)
    axes.plot([study["cliff_slots"]], [100], "x", color=colour, markersize=8, markeredgewidth=2, clip_on=False)
