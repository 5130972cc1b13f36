"""How differently text domains use the experts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from specmoe.analysis.style import figure
from specmoe.analysis.trace.job import Analysis
from specmoe.analysis.trace.panels import heat, told
from specmoe.analysis.trace.routing import Floats

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 20  # domains in the figure
NOTE = "Total variation between two domains' use of experts, mean over layers, %: 0 alike, 100 no expert in common."


def domains_figure(analysis: Analysis) -> Figure:
    """A heat map of the domains with the most uses, each against each."""
    uses = analysis.tables["domains"].groupby("source")["uses"].sum().sort_values(ascending=False, kind="stable")
    names = sorted(map(str, uses.index[:MOST]))
    variation = 100 * between(analysis, names)
    chart, axes = figure(1, 1, width=2.6 + 0.38 * len(names), height=2.2 + 0.32 * len(names))
    image = heat(axes, variation, 100, origin="upper", aspect="equal")
    axes.set_xticks(range(len(names)), names, rotation=60, ha="right", fontsize=7)
    axes.set_yticks(range(len(names)), names, fontsize=7)
    for (row, column), value in np.ndenumerate(variation):
        if row != column:
            axes.text(column, row, f"{value:.0f}", ha="center", va="center", fontsize=6, color=_ink(value))
    chart.colorbar(image, ax=axes, label="total variation, %", shrink=0.8)
    chance = 100 * float(analysis.tables["domain-pairs"]["variation_by_chance"].mean())
    more = f" The {MOST} largest of {len(uses)} domains." if len(uses) > MOST else ""
    note = f"{NOTE}\nSamples of these sizes from one and the same use would differ by {chance:.0f} % on average.{more}"
    told(chart, analysis.facts, "Experts and text domains", note)
    return chart


def between(analysis: Analysis, names: list[str]) -> Floats:
    """Total variation between any two of the sources, [D, D]."""
    pairs, place = analysis.tables["domain-pairs"], {name: number for number, name in enumerate(names)}
    found = np.zeros((len(names), len(names)))
    for one, other, variation in zip(pairs["source"], pairs["other"], pairs["variation"], strict=True):
        if one in place and other in place:
            found[place[one], place[other]] = found[place[other], place[one]] = variation
    return found


def _ink(percent: float) -> str:
    return "white" if percent < 50 else "black"
