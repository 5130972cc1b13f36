"""The table of a run: its decisions and times as the columns of `specmoe.results`, one row per event."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from specmoe.sim.decide.table import CPU, DEFERRED, DROPPED, EXACT, LOW, DecisionTable
from specmoe.sim.timing.durations import Durations
from specmoe.sim.timing.engine import Timing
from specmoe.traces.workload import Workload

Column = NDArray[np.int64]


def event_table(
    workload: Workload, decisions: DecisionTable, durations: Durations, timing: Timing, copied: int
) -> dict[str, Column]:
    """The columns of `specmoe.results`, [events] each; `copied` is the size of an expert on the link, bytes."""
    uses, loads, layers = decisions.uses, decisions.loads, decisions.num_layers
    copies = np.array(durations.copy, np.int64)
    compute = np.array(durations.before, np.int64)
    on_cpu = uses.where == CPU
    compute += timing.slowed + summed(uses.event, np.array(durations.expert, np.int64) * ~on_cpu, len(compute))
    compute[np.unique(uses.event[on_cpu])] += durations.cpu.add_ns
    compute[layers - 1 :: layers] += np.array(durations.after, np.int64)
    return {
        **decision_columns(workload, decisions),
        **byte_columns(decisions, copies > 0, copied),
        "late_hits": late_hits(decisions, timing.landed, timing.ready),
        "begin_ns": timing.begin,
        "end_ns": ends(timing.begin, timing.step_end),
        "host_ns": timing.host,
        "compute_ns": compute,
        "stall_ns": timing.stall,
        "link_ns": summed(loads.event, copies, len(compute)),
        "cpu_ns": timing.cpu,
        "cpu_stall_ns": timing.cpu_stall,
    }


def decision_columns(workload: Workload, decisions: DecisionTable) -> dict[str, Column]:
    """The columns `DECISIONS` of `specmoe.results`, [events] each."""
    uses, loads, events = decisions.uses, decisions.loads, workload.num_events
    layers, prefetched, on_cpu = decisions.num_layers, loads.prefetch, uses.where == CPU
    return {
        "step": np.repeat(np.arange(workload.num_steps), layers),
        "layer": np.tile(np.arange(layers), workload.num_steps),
        "tokens": np.repeat(workload.step_tokens, layers),
        "demands": np.diff(workload.offsets),
        "hits": summed(uses.event, uses.hit, events),
        "demand_loads": summed(loads.event, loads.demand, events),
        "prefetch_loads": summed(loads.event, prefetched, events),
        "prefetch_useful": summed(loads.event, prefetched & loads.used, events),
        "prefetch_wasted": summed(loads.event, prefetched & ~loads.used, events),
        "cpu_uses": summed(uses.event, on_cpu, events),
        "cpu_tokens": summed(uses.event, on_cpu * uses.tokens, events),
        "later_loads": summed(loads.event, loads.later, events),
        "later_useful": summed(loads.event, loads.later & loads.used, events),
        "dropped_uses": summed(uses.event, decisions.changed(DROPPED), events),
        "low_uses": summed(uses.event, decisions.changed(LOW), events),
        "deferred_uses": summed(uses.event, decisions.changed(DEFERRED), events),
        "changed_mass": changed_mass(decisions, events),
    }


def changed_mass(decisions: DecisionTable, events: int) -> Column:
    """Router weight of the uses that an approximate policy changes, millionths of a token, [events]."""
    if decisions.changes is None:
        return np.zeros(events, np.int64)
    kind, mass = decisions.changes
    return summed(decisions.uses.event, mass * (kind != EXACT), events)


def byte_columns(decisions: DecisionTable, crosses: NDArray[np.bool_], copied: int) -> dict[str, Column]:
    """Bytes of the loads that cross the link, and of those that nobody waited for or used; `crosses` is [loads]."""
    loads, events = decisions.loads, decisions.num_steps * decisions.num_layers
    return {
        "bytes_loaded": summed(loads.event, crosses, events) * copied,
        "bytes_wasted": summed(loads.event, crosses & ~loads.demand & ~loads.used, events) * copied,
    }


def late_hits(decisions: DecisionTable, landed: Column, ready: Column) -> Column:
    """Number of resident experts that had not landed when the router's result was known, [events]."""
    uses = decisions.uses
    landing = np.append(landed, -1)[uses.load]  # -1, the last, for what was resident from the start
    return summed(uses.event, uses.hit & (landing > ready[uses.event]), len(ready))


def ends(begin: Column, step_end: Column) -> Column:
    """Time at which the next event begins or the step ends, ns, [events]."""
    layers = len(begin) // len(step_end)
    end = np.append(begin[1:], 0)
    end[layers - 1 :: layers] = step_end
    return end


def summed(event: NDArray[Any], weights: NDArray[Any], events: int) -> Column:
    """Sum of the weights of each event, [events]."""
    return np.bincount(event, weights, minlength=events).astype(np.int64)
