"""Where a token goes from an expert: heat maps between consecutive layers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from specmoe.analysis.trace.job import Analysis
from specmoe.analysis.trace.panels import grid, heat, left_out, matrix, some_of, told
from specmoe.analysis.trace.routing import Floats, Ints

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NOTE = (
    "Probability of the next layer's expert, given this layer's. The next layer's experts are sorted by the expert "
    "that leads\nto them most often: a visible diagonal is what a table of transitions can learn."
)


def transitions_figure(analysis: Analysis) -> Figure:
    """A panel for each of some pairs of layers."""
    table, experts = analysis.tables["transitions"], analysis.facts["trace"]["num_experts"]
    pairs = sorted(table["layer"].unique().tolist())
    chart, panels = grid(len(some_of(pairs)), 3, width=3.4, height=3.1)
    top = float(np.percentile(table["probability"], 99.5))
    image: Any = None
    for axes, layer in zip(panels, some_of(pairs), strict=True):
        part = table[table["layer"] == layer]
        probability = matrix(part["expert"], part["next_expert"], part["probability"], (experts, experts))
        image = heat(axes, probability[:, by_source(probability)], top, aspect="equal")
        axes.set_title(f"layer {layer} to {layer + 1}", fontsize=9, loc="left")
        axes.set(xticks=[], xlabel="next expert, sorted")
    panels[0].set_ylabel("expert")
    chart.colorbar(image, ax=panels, label="probability", extend="max", shrink=0.8)
    told(chart, analysis.facts, "Transitions between layers", NOTE + left_out(pairs))
    return chart


def by_source(probability: Floats) -> Ints:
    """The next experts in the order of the expert from which each is likeliest, then of their ids, [E]."""
    order: Ints = np.argsort(probability.argmax(axis=0), kind="stable")
    return order
