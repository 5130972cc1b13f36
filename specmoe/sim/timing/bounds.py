"""Bounds of any policy's mean step: the floor, the ceiling, the oracle, and what the link alone allows.

These are bounds of policies that load every miss. Where the CPU computes misses, `link_and_cpu_bound_ns` stands for
that of the link, and the time of a step with every expert on the CPU, a bound of its own, stands beside the ceiling.

All are over the steps after the warm-up, as the figures that they stand beside. `fewest_loads` bounds what any policy
loads.
"""

from collections.abc import Sequence
from heapq import heapify, heappop, heappush
from itertools import pairwise
from typing import NamedTuple

from specmoe.hwprofiles.kernels import Style
from specmoe.sim.decide.table import DecisionTable, First
from specmoe.sim.timing.durations import Durations
from specmoe.sim.timing.engine import Times, simulate
from specmoe.traces.workload import Workload

NONE = First()  # without a warm-up


def mean_step_ns(table: DecisionTable, durations: Durations, warm_up: int = 0) -> int:
    """Mean time of a step on a FIFO link, ns."""
    step_end = simulate(table, durations).step_end
    return round(since(step_end, warm_up) / (len(step_end) - warm_up))


def since(step_end: Times, warm_up: int) -> int:
    """Time from the end of the warm-up to that of the run, ns."""
    return int(step_end[-1]) - (int(step_end[warm_up - 1]) if warm_up else 0)


class Amounts(NamedTuple):
    """What the ceiling counts; all computing takes `work` ns."""

    work: int
    steps: int
    events: int
    uses: int
    launches: int
    copies: int  # ns, of every use's expert on the link


def at_most(style: Style) -> Style:
    """The style in which launches are counted for the ceiling.

    What is resident decides how `grouped` splits a round in two, so that the ceiling has a launch for each expert.
    """
    return style._replace(launch="separate") if style.launch == "grouped" else style


def ceiling_ns(durations: Durations, copies: int, launches: int | None = None, first: First = NONE) -> int:
    """Mean time of a step, ns, with every expert loaded on demand, one after the other, and nothing overlapped.

    `durations` are those of a policy that keeps nothing; `copies` is the time of all its uses' experts on the link.
    `launches` is the number of launches that serve its experts (default: one for each).
    """
    rows = (durations.before[first.event :], durations.expert[first.use :], durations.after[first.step :])
    events, uses, steps = map(len, rows)
    amounts = Amounts(sum(map(sum, rows)), steps, events, uses, uses if launches is None else launches, copies)
    return ceiling_of(amounts, durations)


def ceiling_of(amounts: Amounts, paid: Durations) -> int:
    """The ceiling of amounts; `paid` has the durations of host and disk."""
    costs = paid.host
    dense = costs.launch_dense_ns + costs.begin_ns + costs.sync_ns
    layer = dense + costs.sync_ns * paid.sync_each_layer + costs.bookkeeping_ns
    load = costs.issue_ns + costs.begin_copy_ns + paid.read + costs.event_ns
    launch = costs.launch_ns + costs.begin_ns
    waited = layer * amounts.events + load * amounts.uses + launch * amounts.launches + dense * amounts.steps
    return round((amounts.work + amounts.copies + waited) / amounts.steps)


def link_bound_ns(fewest: Sequence[int], copies: Sequence[int], read: int, steps: int) -> int:
    """Mean time, ns, that the slower of link and disk needs per step for the fewest loads (`fewest_loads`).

    `fewest` are the loads of each size of expert, and `copies` the time of one of each size on the link.
    """
    return round(sum(loads * max(copy, read) for loads, copy in zip(fewest, copies, strict=True)) / steps)


def link_and_cpu_bound_ns(fewest_misses: int, copy: int, expert: int, steps: int) -> int:
    """Mean time, ns, that link and CPU need per step if they share the fewest misses and do not slow each other.

    `copy` and `expert` are the times of one expert on either, the smallest of several sizes.
    """
    return round(fewest_misses * copy * expert / (copy + expert) / steps)


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
