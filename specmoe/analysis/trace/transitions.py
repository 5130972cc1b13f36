"""From which expert of one layer to which of the next: a token's way through the model.

Where a token goes from an expert: heat maps between consecutive layers.

The ways of a few tokens through the layers, to be looked at.

The ways of a few tokens through the layers.
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from specmoe.analysis.trace.routing import Floats, Ints, Routing, places, source_of_sequence
from specmoe.analysis.trace.tables import COLOURS, Analysis, grid, heat, left_out, matrix, some_of, ticks, told

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def transition_counts(used: NDArray[np.int16], layer: int, experts: int) -> Ints:
    """How often a token that used expert a at `layer` used b at the next, [E, E], from uses [n, L, k].

    Of top-k routing all k * k pairs of a token count. A dropped token has none.
    """
    counts = np.zeros(experts * experts, np.int64)
    for a in used[:, layer].T:
        for b in used[:, layer + 1].T:
            there = (a >= 0) & (b >= 0)
            counts += np.bincount(a[there].astype(np.int64) * experts + b[there], minlength=experts * experts)
    return counts.reshape(experts, experts)


def transitions(routing: Routing) -> pd.DataFrame:
    """Columns layer, expert, next_expert, uses, probability (of the next, given the first), of pairs that occur."""
    frames = [_of_layer(routing, layer) for layer in range(routing.meta.num_layers - 1)]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()


def _of_layer(routing: Routing, layer: int) -> pd.DataFrame:
    counts = transition_counts(routing.used, layer, routing.meta.num_experts)
    expert, following = np.nonzero(counts)
    uses, total = counts[expert, following], counts.sum(axis=1)[expert]
    columns = {"layer": layer, "expert": expert, "next_expert": following}
    return pd.DataFrame({**columns, "uses": uses, "probability": uses / total})


NOTE = (
    "Probability of the next layer's expert, given this layer's. The next layer's experts are sorted by the expert "
    "that leads\nto them most often: a visible diagonal is what a table of transitions can learn."
)


def transitions_figure(analysis: Analysis) -> "Figure":
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


PATHS_NOTE = "First-choice experts of the first tokens of a few sequences; a gap: the token was dropped."


def paths_figure(analysis: Analysis) -> "Figure":
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
    told(chart, analysis.facts, "Sample paths", PATHS_NOTE)
    return chart
