"""Bounds of any policy's mean step: the floor, the ceiling, the oracle, and what the link alone allows."""

from __future__ import annotations

from specmoe.sim.decide.table import DecisionTable
from specmoe.sim.timing.durations import Durations
from specmoe.sim.timing.engine import simulate


def mean_step_ns(table: DecisionTable, durations: Durations) -> int:
    """Mean time of a step on a FIFO link, ns."""
    step_end = simulate(table, durations).step_end
    return round(int(step_end[-1]) / len(step_end))


def ceiling_ns(durations: Durations, copy: int) -> int:
    """Mean time of a step, ns, with every expert loaded on demand, one after the other, and nothing overlapped.

    `durations` are those of a policy that keeps nothing; `copy` is the time of one expert on the link.
    """
    work = sum(durations.before) + sum(durations.expert) + sum(durations.after)
    return ceiling_of(work, len(durations.before), len(durations.expert), len(durations.after), copy, durations)


def ceiling_of(work: int, events: int, uses: int, steps: int, copy: int, paid: Durations) -> int:
    """The ceiling where all computing takes `work` ns in total; `paid` has the durations of host and disk."""
    costs = paid.host
    dense = costs.launch_dense_ns + costs.begin_ns + costs.sync_ns
    layer = dense + costs.sync_ns * paid.sync_each_layer + costs.bookkeeping_ns
    load = costs.issue_ns + costs.begin_copy_ns + copy + paid.read + costs.event_ns
    use = load + costs.launch_ns + costs.begin_ns
    return round((work + layer * events + use * uses + dense * steps) / steps)


def link_bound_ns(fewest_loads: int, copy: int, read: int, steps: int) -> int:
    """Mean time, ns, that the slower of link and disk needs per step for the fewest loads (Belady's, equal slots).

    Only a pool of slots that is too small for one event's demand may need fewer loads, since that is served in waves.
    """
    return round(fewest_loads * max(copy, read) / steps)
