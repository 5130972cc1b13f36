"""Decisions and their times as the columns of `specmoe.results`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from specmoe.sim.decide.table import DecisionTable
from specmoe.sim.timing.durations import Durations
from specmoe.sim.timing.engine import Timing
from specmoe.traces.workload import Workload


def event_table(
    workload: Workload, decisions: DecisionTable, durations: Durations, timing: Timing, copied: int
) -> dict[str, NDArray[np.int64]]:
    """The columns of `specmoe.results`, a row per event; `copied` is the bytes of an expert on the link."""
    uses, loads, events = decisions.uses, decisions.loads, workload.num_events
    layers = decisions.num_layers

    def count(column: NDArray[Any], weights: NDArray[Any] | None = None) -> NDArray[np.int64]:
        return np.bincount(column, weights, minlength=events).astype(np.int64)

    landed = np.append(timing.landed, -1)[uses.load]  # -1, the last, for what was there from the start
    late = uses.hit & (landed > timing.ready[uses.event])
    prefetched, copies = ~loads.demand, np.array(durations.copy, np.int64)
    compute = np.array(durations.before, np.int64) + count(uses.event, np.array(durations.expert, np.int64))
    compute[layers - 1 :: layers] += np.array(durations.after, np.int64)
    ends = np.append(timing.begin[1:], 0)
    ends[layers - 1 :: layers] = timing.step_end
    return {
        "step": np.repeat(np.arange(workload.num_steps), layers),
        "layer": np.tile(np.arange(layers), workload.num_steps),
        "tokens": np.repeat(workload.step_tokens, layers),
        "demands": np.diff(workload.offsets),
        "hits": count(uses.event, uses.hit),
        "demand_loads": count(loads.event, loads.demand),
        "prefetch_loads": count(loads.event, prefetched),
        "prefetch_useful": count(loads.event, prefetched & loads.used),
        "prefetch_wasted": count(loads.event, prefetched & ~loads.used),
        "late_hits": count(uses.event, late),
        "bytes_loaded": count(loads.event, copies > 0) * copied,
        "bytes_wasted": count(loads.event, (copies > 0) & prefetched & ~loads.used) * copied,
        "begin_ns": timing.begin,
        "end_ns": ends,
        "host_ns": timing.host,
        "compute_ns": compute,
        "stall_ns": timing.stall,
        "link_ns": count(loads.event, copies),
    }
