"""Timings as distributions: the first dropped, all others kept, a median and how far they spread."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

UNSTABLE = 0.1  # IQR / median from which on a timing is flagged
WARM_UPS = 2
REPEATS = 11


class Sample(NamedTuple):
    """Timings of one thing, ns, in the order in which they were taken."""

    raw: tuple[float, ...]

    @property
    def median(self) -> float:
        """The time that is reported."""
        return float(np.median(self.raw))

    @property
    def iqr(self) -> float:
        """Between the quartiles."""
        low, high = np.percentile(self.raw, (25, 75))
        return float(high - low)

    @property
    def spread(self) -> float:
        """IQR / median; 0 of what takes no time."""
        return self.iqr / self.median if self.median else 0.0

    @property
    def unstable(self) -> bool:
        """Whether it spreads too far to be relied on."""
        return self.spread > UNSTABLE


def sampled(once: Callable[[], float], repeats: int = REPEATS, warm_ups: int = WARM_UPS) -> Sample:
    """`once`, which gives ns, again and again; the first `warm_ups` do not count."""
    for _ in range(warm_ups):
        once()
    return Sample(tuple(once() for _ in range(repeats)))
