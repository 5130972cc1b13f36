"""How well a table of contexts predicts text it has not seen: interpolated back-off (Witten and Bell 1991)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Probabilities = NDArray[np.float64]  # [n, E], of each expert for each held-out row


def uniform(rows: int, experts: int) -> Probabilities:
    """The end of every back-off."""
    return np.full((rows, experts), 1 / experts)


def refine(lower: Probabilities, context: NDArray[Any], value: NDArray[Any], asked: NDArray[Any]) -> Probabilities:
    """P(value | context), from `lower` where a context is rare: (n(c, x) + T(c) lower(x)) / (n(c) + T(c)).

    `context` and `value` [m] are codes of the train split, `asked` [n] are the held-out rows' contexts; T(c) is the
    number of distinct values that followed c. In a context never seen, `lower` is all there is.
    """
    distinct, row = np.unique(asked, return_inverse=True)
    place = np.minimum(np.searchsorted(distinct, context), len(distinct) - 1)
    seen = distinct[place] == context
    flat = np.bincount(place[seen] * lower.shape[1] + value[seen], minlength=len(distinct) * lower.shape[1])
    counts = flat.reshape(len(distinct), -1)
    total, kinds = counts.sum(axis=1), (counts > 0).sum(axis=1)
    known = np.maximum(total + kinds, 1)
    refined: Probabilities = (counts / known[:, None])[row] + (kinds / known)[row, None] * lower
    refined[(total == 0)[row]] = lower[(total == 0)[row]]
    return refined


def cross_entropy(probabilities: Probabilities, value: NDArray[Any]) -> float:
    """Mean surprise at the held-out values [n], in bits."""
    return float(-np.log2(probabilities[np.arange(len(value)), value]).mean())


def share_right(probabilities: Probabilities, value: NDArray[Any]) -> float:
    """How often the most probable expert, of equals the lowest, is the one."""
    return float((probabilities.argmax(axis=1) == value).mean())
