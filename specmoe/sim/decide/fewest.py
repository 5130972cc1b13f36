"""The fewest loads that serve a workload, whatever the policy, its prefetches and the order within an event."""

from heapq import heapify, heappop, heappush
from itertools import pairwise

from specmoe.traces.workload import Workload


def fewest_loads(workload: Workload, slots: int) -> int:
    """A lower bound on the loads of every policy on `slots` slots, whatever experts they hold at first.

    A use needs no load only if its expert stays resident from its last use on or, a first use, from the start on. Such
    intervals are limited twice: `slots` of them cross from one event to the next, and one less spans an event with a
    demand, since an expert that runs needs a slot. Nothing else is required: experts of an event may leave as soon as
    they have run, be served one by one in any order, and be prefetched at any time. The most intervals that fit are
    chosen from left to right: where there are too many, the one that ends last is dropped, which leaves the most room
    for the others.
    With one expert an event this is Belady's optimum (1966) on slots that hold the best experts at first.
    """
    keys, edges = workload.keys.tolist(), workload.offsets.tolist()
    end_of, first_use = _uses(keys, edges)
    last = {key: -1 - key for key in first_use}  # number of the interval that each key began last
    dropped, saved = set[int](), 0
    kept = [(-event, last[key]) for key, event in first_use.items()]  # intervals by their ends, the last one first
    heapify(kept)
    held = _drop(kept, dropped, len(kept), slots)
    for start, stop in pairwise(edges):
        demanded = keys[start:stop]
        ending = [last[key] for key in demanded if last[key] not in dropped]
        saved, held = saved + len(ending), held - len(ending)
        held = _drop(kept, dropped, held, slots - 1) if demanded else held
        for place, key in enumerate(demanded, start):
            last[key] = place
            if end_of[place] >= 0:
                heappush(kept, (-end_of[place], place))
                held += 1
        held = _drop(kept, dropped, held, slots)
    return len(keys) - saved


def _drop(kept: list[tuple[int, int]], dropped: set[int], held: int, room: int) -> int:
    """Drop intervals that end last until those held fit; how many are held then."""
    while held > room:
        dropped.add(heappop(kept)[1])
        held -= 1
    return held


def _uses(keys: list[int], edges: list[int]) -> tuple[list[int], dict[int, int]]:
    """The event of each use's next use of the same key, -1 if there is none; and that of each key's first use."""
    later: dict[int, int] = {}
    ends = [-1] * len(keys)
    for event in range(len(edges) - 2, -1, -1):
        for place in range(edges[event], edges[event + 1]):
            ends[place] = later.get(keys[place], -1)
        later.update(dict.fromkeys(keys[edges[event] : edges[event + 1]], event))
    return ends, later
