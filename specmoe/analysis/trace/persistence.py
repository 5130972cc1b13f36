"""How often a token uses an expert that the token before it, in its sequence, used at the same layer."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from specmoe.analysis.trace.routing import Floats


def persistence(used: NDArray[np.int16], sequence: NDArray[np.int32]) -> Floats:
    """Share of the uses [n, L, k] that repeat one of the token before, [L]; nan where no token follows another.

    Of top-1 routing it is the share of neighbours with the same expert. Neighbours of which either was dropped are
    left out.
    """
    following = (sequence[1:] == sequence[:-1])[:, None] & (used[1:, :, 0] >= 0) & (used[:-1, :, 0] >= 0)
    again = np.zeros(following.shape, np.int64)
    for place in range(used.shape[2]):
        again += (used[1:, :, place, None] == used[:-1]).any(axis=2)
    return _over((again * following).sum(axis=0), used.shape[2] * following.sum(axis=0))


def by_chance(uses: NDArray[np.int64], top_k: int) -> Floats:
    """What `persistence` is of tokens that do not depend on each other, by layer, from uses [L, E]; nan without uses.

    An expert with a share s of the uses is used by a share k s of the tokens.
    """
    total = uses.sum(axis=1)
    return _over(top_k * (uses.astype(np.float64) ** 2).sum(axis=1), total.astype(np.float64) ** 2)


def _over(part: NDArray[np.number], whole: NDArray[np.number]) -> Floats:
    return np.where(whole > 0, part / np.maximum(whole, 1), np.nan)
