"""What came out of a run: `results.summary`'s figures from sums that the re-timer gives, without a table of events."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from specmoe.sim.decide.table import DecisionTable
from specmoe.sweep_table import FIGURES
from specmoe.traces.workload import Workload

BOUNDS = ("floor_ns", "oracle_ns", "ceiling_ns", "link_ns")
APART = (*BOUNDS, "vram_peak_bytes", "expert_bytes", "num_layers", "cliff_slots", "yardstick")  # no run's


class Counts(NamedTuple):
    """Of decisions, which no machine changes."""

    steps: int
    events: int
    tokens: int
    demands: int
    hits: int
    demand_loads: int
    prefetch_loads: int
    prefetch_useful: int


class Sums(NamedTuple):
    """Of a run: times in ns."""

    latencies: NDArray[np.int64]  # [steps]
    late_hits: int
    bytes_loaded: int
    bytes_wasted: int
    predict_ns: int  # a mean of (step, layer)s
    compute_ns: int
    stall_ns: int
    host_ns: int
    link_busy_ns: int


def counts_of(workload: Workload, decisions: DecisionTable) -> Counts:
    """The counts of decisions on a workload."""
    return Counts(
        steps=workload.num_steps,
        events=workload.num_events,
        tokens=int(workload.step_tokens.sum()),
        demands=len(workload.experts),
        hits=decisions.hits,
        demand_loads=decisions.demand_loads,
        prefetch_loads=decisions.prefetch_loads,
        prefetch_useful=decisions.prefetch_useful,
    )


def cliff_of(decisions: DecisionTable) -> int:
    """Slots up to which an LRU over all layers hits nothing: those that all layers' demand but one's takes."""
    layers = decisions.num_layers
    return len(decisions.uses.key) * (layers - 1) // (decisions.num_steps * layers)


def figures(counts: Counts, sums: Sums) -> dict[str, Any]:
    """Under the names of `sweep_table.FIGURES`, but for `APART`."""
    steps, total = sums.latencies, int(sums.latencies.sum())
    p50, p95, p99 = (int(value) for value in np.percentile(steps, (50, 95, 99)))
    useful, fetched, needed = counts.prefetch_useful, counts.prefetch_loads, counts.demand_loads
    return {
        "steps": counts.steps,
        "tokens": counts.tokens,
        "latency_mean_ns": round(steps.mean()),
        "latency_p50_ns": p50,
        "latency_p95_ns": p95,
        "latency_p99_ns": p99,
        "latency_max_ns": int(steps.max()),
        "moe_layer_ns": round(total / counts.events),
        "tokens_per_second": counts.tokens / (total / 1e9),
        "demands": counts.demands,
        "hits": counts.hits,
        "late_hits": sums.late_hits,
        "misses": counts.demands - counts.hits,
        "demand_loads": needed,
        "prefetch_loads": fetched,
        "prefetch_useful": useful,
        "prefetch_wasted": fetched - useful,
        "bytes_loaded": sums.bytes_loaded,
        "bytes_wasted": sums.bytes_wasted,
        "hit_rate": counts.hits / counts.demands if counts.demands else 1.0,
        "precision": useful / fetched if fetched else None,
        "recall": useful / (useful + needed) if useful + needed else None,
        "predict_ns": sums.predict_ns,
        "compute_ns": sums.compute_ns,
        "stall_ns": sums.stall_ns,
        "host_ns": sums.host_ns,
        "link_busy_ns": sums.link_busy_ns,
    }


def of_summary(summary: dict[str, Any]) -> dict[str, Any]:
    """The same from what `results.summary` gives of a run."""
    latency = {f"latency_{name}_ns": value for name, value in summary["latency_ns"].items()}
    return {name: (summary | latency)[name] for name in FIGURES if name not in APART}
