"""How many bits of surprise a token's first-choice expert holds, and how many are left once something is known.

Contexts are the expert of the layer before, the expert of the sequence's token before at the same layer, and the token
id. Entropies are plug-in estimates with Miller and Madow's correction, from the trace itself: what is left is biased
low, and the more so the fewer uses there are to a context; the truth lies between it and `bits`. What predictors reach
on text that they have not seen is for `specmoe evaluate` to say.

How many bits are left once something is known.

The simplest predictor there is: a table from what is known to the expert seen with it most often.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from specmoe.analysis.style import COLOURS, MARKERS, figure, legend_below
from specmoe.analysis.trace.routing import Floats, Ints, Routing, conditional_entropy
from specmoe.analysis.trace.tables import Analysis, ticks, told
from specmoe.traces.schema import Block

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = ["layer", "context", "targets", "contexts", "bits", "left", "told"]


def predictability(routing: Routing) -> pd.DataFrame:
    """A row for each layer and context that it has.

    Columns layer, context, targets (tokens asked about: those with such a context whose expert ran), contexts
    (different ones), bits (entropy of their experts), left (given the context), and the bits gained (bits - left).
    """
    rows = []
    for layer in range(routing.meta.num_layers):
        for name, value, context in _contexts(routing, layer):
            bits, left = conditional_entropy(value, np.zeros_like(value)), conditional_entropy(value, context)
            rows.append((layer, name, len(value), len(np.unique(context)), bits, left, bits - left))
    return pd.DataFrame(rows, columns=COLUMNS)


def _contexts(routing: Routing, layer: int) -> Iterator[tuple[str, NDArray[np.int16], Ints]]:
    """Name, experts and their context's codes; a dropped token's expert is a context too."""
    first = routing.first
    served = first[:, layer] >= 0
    if not served.any():
        return
    if layer:
        yield "layer before", first[served, layer], first[served, layer - 1].astype(np.int64) + 1
    following = np.zeros_like(served)
    following[1:] = routing.sequence[1:] == routing.sequence[:-1]
    before = np.flatnonzero(served & following) - 1
    if len(before):
        yield "token before", first[before + 1, layer], first[before, layer].astype(np.int64) + 1
    if np.ptp(routing.token):
        yield "token id", first[served, layer], routing.token[served].astype(np.int64)


NOTE = (
    "Entropy of a token's first-choice expert, plug-in with Miller and Madow's correction, on the trace itself:\nwhat "
    "is left is biased low, most of all where contexts are rare (token ids)."
)


def predictability_figure(analysis: Analysis) -> "Figure":
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


def table_accuracy(train: Block, test: Block, keys: Sequence[tuple[NDArray[np.int32], NDArray[np.int32]]]) -> Floats:
    """Top-1 accuracy on `test` of always naming the expert most often seen with a key in `train`, [L].

    `keys` holds, per layer, the keys [n] of both blocks. A key that `train` lacks gets the layer's favourite expert;
    ties go to the lower expert.
    """
    layers = zip(train.experts[:, :, 0].T, test.experts[:, :, 0].T, keys, strict=True)
    return np.array([(_lookup(known, seen, asked) == wanted).mean() for known, wanted, (seen, asked) in layers])


def _lookup(experts: NDArray[np.int16], seen: NDArray[np.int32], asked: NDArray[np.int32]) -> NDArray[np.int64]:
    size = int(max(seen.max(), asked.max())) + 1
    votes = np.zeros((size, int(experts.max()) + 1), np.int32)
    np.add.at(votes, (seen, experts), 1)
    favourite = int(votes.sum(axis=0).argmax())
    best = np.where(votes.any(axis=1), votes.argmax(axis=1), favourite)
    return best[asked]
