"""How many bits of surprise a token's first-choice expert holds, and how many are left once something is known.

Contexts are the expert of the layer before, the expert of the sequence's token before at the same layer, and the token
id. Entropies are plug-in estimates with Miller and Madow's correction, from the trace itself: what is left is biased
low, and the more so the fewer uses there are to a context; the truth lies between it and `bits`. What predictors reach
on text that they have not seen is for `specmoe evaluate` to say.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from specmoe.analysis.trace.entropy import conditional_entropy
from specmoe.analysis.trace.routing import Ints, Routing

COLUMNS = ["layer", "context", "targets", "contexts", "bits", "left", "told"]


def predictability(routing: Routing) -> pd.DataFrame:
    """A row for each layer and context that it has.

    Columns layer, context, targets (tokens asked about: those with such a context whose expert ran), contexts
    (different ones), bits (entropy of their experts), left (given the context), told (bits - left).
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
