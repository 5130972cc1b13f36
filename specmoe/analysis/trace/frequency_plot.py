"""How often each expert is used: by rank in each layer, and layer by expert."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from specmoe.analysis.style import COLOURS, figure
from specmoe.analysis.trace.job import Analysis
from specmoe.analysis.trace.panels import grid, heat, left_out, matrix, some_of, ticks, told
from specmoe.analysis.trace.routing import Floats

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROW = 0.22  # inches a layer


def relative_use(analysis: Analysis) -> Floats:
    """Uses over those of an expert if all were used alike, [L, E]; 0 in a layer without uses."""
    usage, trace = analysis.tables["usage"], analysis.facts["trace"]
    uses = matrix(usage["layer"], usage["expert"], usage["uses"], (trace["num_layers"], trace["num_experts"]))
    even: Floats = uses / np.maximum(uses.mean(axis=1, keepdims=True), 1e-300)
    return even


def frequency_figure(analysis: Analysis) -> Figure:
    """A panel for each of some layers: experts by rank of use."""
    use = relative_use(analysis)
    layers = range(len(use))
    chart, panels = grid(len(some_of(layers)), 3, width=3.4, height=2.5)
    for axes, layer in zip(panels, some_of(layers), strict=True):
        axes.bar(range(use.shape[1]), np.sort(use[layer])[::-1], width=1.0, color=COLOURS[0])
        axes.axhline(1, color="black", linestyle=":", linewidth=1, label="even use")
        row = analysis.facts["layers"][layer]
        told_beside = f"layer {layer}: {row['entropy_bits']:.2f} bits, {row['active']} of {use.shape[1]} active"
        axes.set_title(told_beside, fontsize=9, loc="left")
        axes.set(xlabel="expert, by rank", ylim=(0, 1.05 * use.max()), xlim=(-0.5, use.shape[1] - 0.5))
    panels[0].set_ylabel("uses / even use")
    panels[0].legend(frameon=False)
    note = f"Experts of a layer from the most to the least used.{left_out(layers)}"
    told(chart, analysis.facts, "How often experts are used", note)
    return chart


def usage_figure(analysis: Analysis) -> Figure:
    """A heat map of layers by experts."""
    use = relative_use(analysis)
    chart, axes = figure(1, 1, width=9.0, height=2.0 + ROW * len(use))
    image = heat(axes, use, use.max())
    axes.set(xlabel="expert", ylabel="layer", yticks=ticks(len(use)))
    chart.colorbar(image, ax=axes, label="uses / even use", pad=0.01)
    told(
        chart, analysis.facts, "Use of experts by layer", "1: as often as if all experts of the layer were used alike."
    )
    return chart
