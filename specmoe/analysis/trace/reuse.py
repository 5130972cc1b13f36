"""Reuse distances: how many other experts were wanted since an expert was wanted last (Mattson et al. 1970).

Demands are event-atomic: all that one (step, layer) demands is asked for at once. The distance of a use is the number
of other experts, of all layers, that were used after its last use and before the event that asks for it again; within
the event of its last use, experts count in ascending order. An LRU over all layers holds the S experts used last, so
with S slots a use hits exactly if its distance is below S, as long as every event's demand fits the slots. (What does
not fit is served in waves, whose order depends on the number of slots, and no distance tells that.)

The most hits that any policy without prefetching can have (Belady 1966), by scheduling intervals.

To hit a use is to keep its expert since the use before: an interval of the stream in which the expert holds a slot.
While an event runs, its demand holds slots too, so of the intervals that span it at most `slots - demand` can be kept.
Which ones is decided best, as for any such choice of the most intervals, by giving up those that end last.
"""

from __future__ import annotations

from heapq import heappop, heappush
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from specmoe.analysis.trace.routing import Ints
from specmoe.traces.workload import Workload

FIRST = -1  # the distance of an expert's first use


def reuse_distances(workload: Workload) -> Ints:
    """Distance of every demanded expert, or FIRST, [U].

    With uses numbered in the stream's order and p the number of an expert's use before (-1 for a first use), a use i
    of an event that begins at s has the distance #{j < s: p(j) < p(i)} - p(i) - 1: of the s uses before the event,
    p(i) + 1 lie no later than the last use, all with p(j) < p(i); of those since, p(j) < p(i) are the first of an
    expert each. Sorted descending by p within the event, none of its uses has a smaller p before it, so `earlier and
    smaller` counts what is asked for. O(U log U) time, about 60 bytes a use.
    """
    last = previous_use(workload.keys)
    order = np.lexsort((-last, workload.events))
    counted = np.empty_like(last)
    counted[order] = earlier_and_smaller(last[order] + 1)
    return np.where(last >= 0, counted - last - 1, FIRST)


def previous_use(keys: NDArray[np.integer]) -> Ints:
    """Number of the use before of the same key, -1 for the first, [U]."""
    order = np.argsort(keys, kind="stable")
    same = keys[order][1:] == keys[order][:-1]
    last = np.full(len(keys), -1, np.int64)
    last[order[1:][same]] = order[:-1][same]
    return last


def earlier_and_smaller(values: Ints) -> Ints:
    """For each of the integers, 0 or more, how many smaller ones stand before it, [n].

    A wavelet tree, read as it is built: integers are sorted by one bit after the other, the highest first, stably.
    Those that agree in all higher bits stand together, and one with a 1 has as many smaller ones, so far undecided, as
    there are 0s before it among them.
    """
    count = np.zeros(len(values), np.int64)
    order = np.arange(len(values))
    places = np.arange(len(values))
    for bit in reversed(range(int(values.max(initial=0)).bit_length())):
        sorted_values = values[order]
        one = (sorted_values >> bit & 1).astype(np.bool_)
        begins = np.ones(len(values), np.bool_)
        begins[1:] = np.diff(sorted_values >> (bit + 1)) != 0
        group = np.flatnonzero(begins)[np.cumsum(begins) - 1]
        zeros: Ints = np.cumsum(~one) - ~one
        zeros -= zeros[group]
        count[order[one]] += zeros[one]
        sizes = np.add.reduceat(~one, np.flatnonzero(begins), dtype=np.int64)[np.cumsum(begins) - 1]
        moved = np.empty_like(order)
        moved[group + np.where(one, sizes + places - group - zeros, zeros)] = order
        order = moved
    return count


def lru_hits(distances: Ints, most: int) -> Ints:
    """Hits of an LRU with 0, 1, ..., `most` slots, [most + 1]; exact from the largest event's demand on."""
    near = distances[distances >= 0]
    return np.concatenate([[0], np.cumsum(np.bincount(near, minlength=most)[:most])])


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
    """Demanded experts that are resident when asked for, with `slots` slots for all layers; O(U log U).

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
