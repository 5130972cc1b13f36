"""How sure an accuracy is: tokens of a text are alike, so sequences are resampled and not tokens."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 1000
LEVEL = 0.95


def interval(
    hits: NDArray[np.int64], targets: NDArray[np.int64], rng: np.random.Generator, resamples: int = RESAMPLES
) -> list[float] | None:
    """95 % percentile interval of sum(hits) / sum(targets), both [S] by sequence (Efron 1979); None without targets.

    Generators in the same state resample the same sequences: intervals of different predictors are paired so.
    """
    if not targets.sum():
        return None
    sequences = len(targets)
    weights = rng.multinomial(sequences, np.full(sequences, 1 / sequences), size=resamples)
    drawn = weights @ targets
    shares = (weights @ hits)[drawn > 0] / drawn[drawn > 0]
    low, high = np.quantile(shares, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return [float(low), float(high)]
