"""Which experts are used when: by text domain, and over the tokens of a trace in slices of equal length."""

from itertools import combinations, pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from specmoe.analysis.style import figure
from specmoe.analysis.trace.routing import Floats, Ints, Routing, entropy, mutual_information
from specmoe.analysis.trace.tables import Analysis, grid, heat, left_out, matrix, some_of, told
from specmoe.traces.summary import expert_counts

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def domain_information(source: NDArray[np.int16], first: NDArray[np.int16], num_experts: int) -> Floats:
    """Mutual information in bits between a token's source [n] and its first-choice expert [n, L], by layer, [L].

    Bias corrected after Miller and Madow (1955): independent variables give 0 on average. At most the entropy of the
    sources.
    """
    joints = uses_by_source(source, first[:, :, None], num_experts)
    return np.array([mutual_information(joint) for joint in joints])


def uses_by_source(source: NDArray[np.int16], used: NDArray[np.int16], num_experts: int) -> Ints:
    """Uses of each layer's experts by source, [L, D, E], from uses [n, L, k]."""
    sources = int(source.max(initial=0)) + 1
    counts = np.zeros((used.shape[1], sources * num_experts), np.int64)
    for layer, total in enumerate(counts):
        for ids in used[:, layer].T:
            there = ids >= 0
            total += np.bincount(source[there].astype(np.int64) * num_experts + ids[there], minlength=len(total))
    return counts.reshape(used.shape[1], sources, num_experts)


def total_variation(a: NDArray[np.int64], b: NDArray[np.int64]) -> float:
    """Half the sum of the differences of shares: 0 for equal use, 1 for no expert in common; counts [E] each."""
    return float(np.abs(a / a.sum() - b / b.sum()).sum() / 2)


def variation_by_chance(a: NDArray[np.int64], b: NDArray[np.int64]) -> float:
    """What `total_variation` is on average of two samples of these sizes with equal probabilities, approximately.

    The difference of two shares is taken as normal, with the standard deviation of their pooled probability. Tokens
    of one text resemble each other, so of texts in one domain it is more.
    """
    p = (a + b) / (a.sum() + b.sum())
    deviation = np.sqrt(p * (1 - p) * (1 / a.sum() + 1 / b.sum()))
    return float(deviation.sum() / np.sqrt(2 * np.pi))


class Evenness(NamedTuple):
    """How evenly one layer's experts are used, of counts [E] that are not all 0."""

    uses: int
    active: int  # experts used at least once
    entropy_bits: float
    corrected_bits: float  # with Miller and Madow's correction
    cv: float  # population standard deviation / mean
    top_share: float  # of the most used expert


def evenness(counts: Ints) -> Evenness:
    """Evenness of the uses of one layer's experts, [E]."""
    uses = int(counts.sum())
    return Evenness(
        uses=uses,
        active=int(np.count_nonzero(counts)),
        entropy_bits=entropy(counts, corrected=False),
        corrected_bits=entropy(counts),
        cv=float(counts.std() / counts.mean()),
        top_share=int(counts.max()) / uses,
    )


def cv_of_sample(counts: Ints, uses: int) -> float:
    """CV of a sample of so few uses, drawn independently with the shares of counts [E]: root of the mean square."""
    squares = float(((counts / counts.sum()) ** 2).sum())
    return float(np.sqrt(len(counts) * (squares + (1 - squares) / uses) - 1))


def domains(routing: Routing) -> pd.DataFrame:
    """Of each source at each layer, against all other sources together.

    Columns layer, source, those of `Evenness`, variation, variation_by_chance; the last two are nan for the only
    source. Sources without uses have no rows.
    """
    rows = []
    for layer, counts in enumerate(uses_by_source(routing.source, routing.used, routing.meta.num_experts)):
        for code in np.flatnonzero(counts.sum(axis=1)):
            rest = counts.sum(axis=0) - counts[code]
            rows.append((layer, routing.meta.sources[code], *evenness(counts[code]), *_compared(counts[code], rest)))
    names = ["layer", "source", *Evenness._fields, "variation", "variation_by_chance"]
    return pd.DataFrame(rows, columns=names)


def domain_pairs(routing: Routing) -> pd.DataFrame:
    """Of each two sources: columns source, other, variation, variation_by_chance, each a mean over layers."""
    counts = uses_by_source(routing.source, routing.used, routing.meta.num_experts)
    known = np.flatnonzero(counts.sum(axis=2).all(axis=0))
    rows = []
    for one, other in combinations(known.tolist(), 2):
        figures = np.mean([_compared(layer[one], layer[other]) for layer in counts], axis=0)
        rows.append((routing.meta.sources[one], routing.meta.sources[other], *figures.tolist()))
    return pd.DataFrame(rows, columns=["source", "other", "variation", "variation_by_chance"])


def _compared(a: Ints, b: Ints) -> tuple[float, float]:
    if not (a.any() and b.any()):
        return np.nan, np.nan
    return total_variation(a, b), variation_by_chance(a, b)


MOST = 20  # domains in the figure
NOTE = "Total variation between two domains' use of experts, mean over layers, %: 0 alike, 100 no expert in common."


def domains_figure(analysis: Analysis) -> "Figure":
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
