"""Use of experts over time: the trace's tokens in their order, cut into slices of equal length.

Use of experts over time.
"""

from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from specmoe.analysis.trace.panels import grid, heat, left_out, matrix, some_of, told
from specmoe.analysis.trace.routing import Floats, Routing
from specmoe.analysis.trace.tables import Analysis
from specmoe.traces.summary import expert_counts

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SLICES = 48  # at most, and so few
USES = 10  # of a mean expert in a slice, at least: with fewer there would be little but noise


def timeline(routing: Routing) -> pd.DataFrame:
    """Columns slice, begin (its first token's row), tokens, layer, expert, uses, of the experts used in the slice."""
    edges = np.linspace(0, len(routing.sequence), slices(routing) + 1).astype(np.int64)
    frames = [_slice(routing, number, *ends) for number, ends in enumerate(pairwise(edges.tolist()))]
    names = ["slice", "begin", "tokens", "layer", "expert", "uses"]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=names, dtype=np.int64)


def slices(routing: Routing) -> int:
    """How many; 0 for an empty trace."""
    tokens, top_k = len(routing.sequence), routing.meta.top_k
    return min(SLICES, tokens, max(1, tokens * top_k // (USES * routing.meta.num_experts)))


def _slice(routing: Routing, number: int, begin: int, end: int) -> pd.DataFrame:
    uses = expert_counts(routing.used[begin:end], routing.meta.num_experts)
    layer, expert = np.nonzero(uses)
    same = {"slice": number, "begin": begin, "tokens": end - begin}
    return pd.DataFrame({**same, "layer": layer, "expert": expert, "uses": uses[layer, expert]})


def timeline_figure(analysis: Analysis) -> "Figure":
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
