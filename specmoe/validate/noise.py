"""Which differences between steps are real, and how alike they are in two runs."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from numpy.typing import NDArray

NORMAL = 1.4826  # standard deviations in a median absolute deviation, where things vary normally


def noise_of(latency: NDArray[np.int64]) -> float:
    """Standard deviation, ns, by which one step differs between repeats; `latency` is [repeats, steps], two or more.

    From the differences of every two repeats, by their median absolute deviation: neither a repeat that was slower
    throughout (that is `spread`) nor a few interrupted steps make noise of what is none.
    """
    differences = np.stack([one - other for one, other in combinations(latency, 2)])
    deviations = np.abs(differences - np.median(differences, axis=1, keepdims=True))
    return float(NORMAL * np.median(deviations) / np.sqrt(2))


def correlation_of(simulated: NDArray[np.float64], measured: NDArray[np.float64], noise_ns: float) -> float | None:
    """Pearson's, of the steps' latencies, [steps] each.

    None if the standard deviation of the simulated steps is no more than the noise: where every step does the same,
    what differs between real ones is chance. 0 if the simulated steps differ and the real ones do not.
    """
    if simulated.std() <= noise_ns:
        return None
    if not measured.std():
        return 0.0
    return float(np.corrcoef(simulated, measured)[0, 1])
