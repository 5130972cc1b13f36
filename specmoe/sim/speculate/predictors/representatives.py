"""A few of many vectors that stand for them all."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

ROUNDS = 10


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    """Vectors along the last axis at length 1; zero ones stay so."""
    length = np.sqrt(np.einsum("...i,...i->...", vectors, vectors))[..., None]
    return np.divide(vectors, np.where(length > 0, length, 1), dtype=np.float32)


def representatives(vectors: NDArray[np.float32], count: int, seed: int) -> NDArray[np.int64]:
    """Indices, ascending, of at most `count` of the vectors [N, n]: the nearest to each centre of a spherical k-means.

    Deterministic: the seed chooses the first centres; a centre that loses all its vectors keeps its place.
    """
    if len(vectors) <= count:
        return np.arange(len(vectors))
    centres = vectors[np.random.default_rng(seed).choice(len(vectors), count, replace=False)]
    for _ in range(ROUNDS):
        owner = (vectors @ centres.T).argmax(axis=1)
        centres = _means(vectors, owner, centres)
    return np.unique((centres @ vectors.T).argmax(axis=1))


def _means(vectors: NDArray[np.float32], owner: NDArray[Any], centres: NDArray[np.float32]) -> NDArray[np.float32]:
    """Direction of the mean of each centre's vectors."""
    total = np.zeros_like(centres)
    np.add.at(total, owner, vectors)
    lonely = np.bincount(owner, minlength=len(centres)) == 0
    total[lonely] = centres[lonely]
    return unit(total)
