"""The most hits that any policy without prefetching can have (Belady 1966), by scheduling intervals.

To hit a use is to keep its expert since the use before: an interval of the stream in which the expert holds a slot.
While an event runs, its demand holds slots too, so of the intervals that span it at most `slots - demand` can be kept.
Which ones is decided best, as for any such choice of the most intervals, by giving up those that end last.
"""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from specmoe.analysis.trace.reuse import previous_use
from specmoe.traces.workload import Workload


class Stays(NamedTuple):
    """The intervals of a demand stream by the numbers of its uses, [U] each, and its `offsets` [events + 1]."""

    last: list[int]  # the use before of the same expert; -1 for a first use
    following: list[int]  # the use after; 0, which follows nothing, for a last one
    offsets: list[int]


def stays_of(workload: Workload) -> Stays:
    """The intervals of a workload's demand."""
    last = previous_use(workload.keys)
    following = np.zeros_like(last)
    following[last[last >= 0]] = np.flatnonzero(last >= 0)
    return Stays(last.tolist(), following.tolist(), workload.offsets.tolist())


def belady_hits(stays: Stays, slots: int) -> int:
    """Demanded experts that are resident when asked for, with so many slots for all layers; O(U log U).

    Demands are event-atomic. Raises ValueError if an event demands more than there are slots.

    An interval goes by the number of the use that ends it. The heap keeps intervals that have ended; they end before
    all others, so none is taken for an open one.
    """
    last, following, offsets = stays
    given_up = bytearray(len(last))
    ends: list[int] = []  # negated: the last end first
    hits = kept = 0
    for start, stop in pairwise(offsets):
        if stop - start > slots:
            raise ValueError(f"{slots} slots hold less than the {stop - start} experts that an event demands")
        for use in range(start, stop):
            if last[use] >= 0 and not given_up[use]:
                hits += 1
                kept -= 1
        while kept > slots - (stop - start):
            given_up[-heappop(ends)] = True
            kept -= 1
        for use in range(start, stop):
            if following[use]:
                heappush(ends, -following[use])
                kept += 1
    return hits
