"""The ways of a few tokens through the layers, to be looked at."""

from __future__ import annotations

import numpy as np
import pandas as pd

from specmoe.analysis.trace.routing import Routing, places, source_of_sequence

SEQUENCES = 4
TOKENS = 12  # the first of each sequence


def sample_paths(routing: Routing) -> pd.DataFrame:
    """Columns sequence, source, place, layer, expert (first choice; -1 dropped) of the first tokens of a few sequences.

    The first sequence of each source, sources in the order in which they come, then the first of the others.
    """
    names, sources, _ = source_of_sequence(routing)
    number, within = places(routing.sequence)
    newest = np.unique(sources, return_index=True)[1]
    order = [*np.sort(newest).tolist(), *np.setdiff1d(np.arange(len(names)), newest).tolist()]
    frames = [pd.DataFrame({name: pd.Series(dtype=np.int64) for name in ("sequence", "place", "layer", "expert")})]
    for chosen in order[:SEQUENCES]:
        rows = np.flatnonzero((number == chosen) & (within < TOKENS))
        place, layer = np.indices((len(rows), routing.meta.num_layers)).reshape(2, -1)
        source = routing.meta.sources[sources[chosen]]
        same = {"sequence": names[chosen], "source": source}
        frames.append(pd.DataFrame({**same, "place": place, "layer": layer, "expert": routing.first[rows].reshape(-1)}))
    return pd.concat(frames, ignore_index=True)
