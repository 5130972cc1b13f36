"""How much the text's domain decides which experts are used."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from specmoe.analysis.trace.entropy import entropy, mutual_information
from specmoe.analysis.trace.routing import Floats, Ints, Routing


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


def domains(routing: Routing) -> pd.DataFrame:
    """Of each source at each layer, against all other sources together.

    Columns layer, source, uses, active, entropy_bits, variation, variation_by_chance; the last two are nan for the only
    source. Sources without uses have no rows.
    """
    rows = []
    for layer, counts in enumerate(uses_by_source(routing.source, routing.used, routing.meta.num_experts)):
        for code in np.flatnonzero(counts.sum(axis=1)):
            rest = counts.sum(axis=0) - counts[code]
            rows.append((layer, routing.meta.sources[code], *_own(counts[code]), *_compared(counts[code], rest)))
    names = ["layer", "source", "uses", "active", "entropy_bits", "variation", "variation_by_chance"]
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


def _own(counts: Ints) -> tuple[int, int, float]:
    return int(counts.sum()), int(np.count_nonzero(counts)), entropy(counts, corrected=False)


def _compared(a: Ints, b: Ints) -> tuple[float, float]:
    if not (a.any() and b.any()):
        return np.nan, np.nan
    return total_variation(a, b), variation_by_chance(a, b)
