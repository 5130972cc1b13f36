"""Use of experts over time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from specmoe.analysis.trace.job import Analysis
from specmoe.analysis.trace.panels import grid, heat, left_out, matrix, some_of, told
from specmoe.analysis.trace.routing import Floats

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def timeline_figure(analysis: Analysis) -> Figure:
    """A panel for each of some layers: experts against the trace's tokens in their order."""
    layers = range(analysis.facts["trace"]["num_layers"])
    chart, panels = grid(len(some_of(layers)), 3, width=3.6, height=2.6)
    use = {layer: over_time(analysis, layer) for layer in some_of(layers)}
    top = float(np.percentile(np.stack(list(use.values())), 99))
    tokens, experts = analysis.facts["tokens"], analysis.facts["trace"]["num_experts"]
    image: Any = None
    for axes, (layer, values) in zip(panels, use.items(), strict=True):
        image = heat(axes, values, top, extent=(0, tokens, -0.5, experts - 0.5))
        axes.set_title(f"layer {layer}", fontsize=9, loc="left")
        axes.set(xlabel="token of the trace", xticks=np.linspace(0, tokens, 3).round())
        axes.xaxis.set_major_formatter("{x:,.0f}")
    panels[0].set_ylabel("expert")
    chart.colorbar(image, ax=panels, label="uses / even use", extend="max", shrink=0.8)
    note = f"The trace's tokens in their order, in {values.shape[1]} slices: 1 is as often as if all were used alike."
    told(chart, analysis.facts, "Use of experts over time", note + left_out(layers))
    return chart


def over_time(analysis: Analysis, layer: int) -> Floats:
    """Uses of a layer's experts over even use, by slice, [E, slices]; slices are nearly equally long."""
    table = analysis.tables["timeline"]
    part = table[table["layer"] == layer]
    shape = (analysis.facts["trace"]["num_experts"], int(table["slice"].max()) + 1)
    uses = matrix(part["expert"], part["slice"], part["uses"], shape)
    even: Floats = uses / np.maximum(uses.mean(axis=0), 1e-300)
    return even
