"""Probabilities from counts of rare contexts: what a context has not shown is filled in from a wider one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def interpolate(counts: NDArray[Any], wider: NDArray[Any], top_k: int) -> NDArray[Any]:
    """Probability that each expert is used, [..., E], from the uses in a context [..., E] and a wider one's estimate.

    Witten & Bell (1991): a context that has shown many different experts in few visits is likely to show a new one. A
    visit uses `top_k` experts. A context never seen says what the wider one says.
    """
    kinds = np.maximum(np.count_nonzero(counts, axis=-1, keepdims=True), 1).astype(counts.dtype)
    visits = counts.sum(axis=-1, keepdims=True) / counts.dtype.type(top_k)
    return np.asarray((counts + kinds * wider) / (visits + kinds))


def grown(rows: NDArray[Any], needed: int) -> NDArray[Any]:
    """The same array with room for so many rows at least, new ones zero; doubles, so that growing stays cheap."""
    if needed <= len(rows):
        return rows
    larger = np.zeros((max(needed, 2 * len(rows)), *rows.shape[1:]), rows.dtype)
    larger[: len(rows)] = rows
    return larger
