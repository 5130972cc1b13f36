"""What came out of a run: `results.summary`'s figures from sums that the re-timer gives, without a table of events.

A cell's row: what was asked, what came out, what it rests on (see `specmoe.sweep_table`).
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from specmoe.errors import SpecmoeError
from specmoe.sim.claims import is_yardstick
from specmoe.sim.decide.policy import Policy
from specmoe.sim.decide.table import DecisionTable
from specmoe.sim.run import SEMANTICS, Scenario
from specmoe.sim.sweep.cell import Cell
from specmoe.sim.timing.charge import Charge
from specmoe.sweep_table import FIGURES, KEYS, ORIGIN, SCALE, SET
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


Row = dict[str, Any]


class Job(NamedTuple):
    """A cell that can be run: its number in the order asked for, and what was prepared."""

    number: int
    cell: Cell
    key: str
    scenario: Scenario
    chosen: Policy


class Outcome(NamedTuple):
    """What came out of a job: figures of a run, what its predictions cost, what to know before believing it."""

    figures: dict[str, Any]
    cost: Charge
    warnings: tuple[str, ...]
    timed_by: Literal["engine", "re-timer"]


def good_row(job: Job, decisions: DecisionTable, bounds: dict[str, int], outcome: Outcome) -> Row:
    """Of a run."""
    scenario, meta = job.scenario, job.scenario.trace.meta
    row = {
        **_asked(job.cell),
        "profile": scenario.profile.name,
        "shape": scenario.shape.name,
        "format": scenario.format,
        "slots": decisions.slots,
        **outcome.figures,
        **bounds,
        "vram_peak_bytes": scenario.room.with_slots(decisions.slots),
        "expert_bytes": scenario.expert_bytes,
        "num_layers": meta.num_layers,
        "cliff_slots": decisions.cliff_slots,
        "yardstick": is_yardstick(job.chosen),
        "cell": job.key,
        "trace_kind": meta.kind,
        "phase": meta.phase,
        "semantics": SEMANTICS,
        "evidence": scenario.costs.evidence,
        "assumed": list(scenario.assumed(job.chosen, outcome.cost)),
        "warnings": list(outcome.warnings),
        "timed_by": outcome.timed_by,
        "error": "",
    }
    return {name: row[name] for name in (*KEYS, *FIGURES, *ORIGIN)} | varied(job.cell)


def failed_row(cell: Cell, key: str, error: Exception) -> Row:
    """Of a cell without figures."""
    nothing = dict.fromkeys((*KEYS, *FIGURES, *ORIGIN))
    origin = {"cell": key, "trace_kind": "", "phase": "", "semantics": SEMANTICS, "evidence": "", "timed_by": ""}
    return nothing | _asked(cell) | origin | {"assumed": [], "warnings": [], "error": _line(error)} | varied(cell)


def varied(cell: Cell) -> dict[str, Any]:
    """The columns of what is set and scaled."""
    return {f"{SET}{name}": value for name, value in cell.settings} | {f"{SCALE}{n}": f for n, f in cell.scales}


def _asked(cell: Cell) -> Row:
    """`KEYS` as far as the cell itself tells."""
    return {
        "trace": cell.trace,
        "policy": cell.policy,
        "profile": cell.profile,
        "shape": cell.shape,
        "format": cell.format or "",
        "slots": cell.slots,
        "batch": cell.batch,
        "link": cell.link,
        "host": cell.host_set,
        "tier": cell.home.tier,
        "home_format": cell.home.format or "",
        "compressed_slots": cell.home.compressed_slots,
    }


def _line(error: Exception) -> str:
    """One line, which names the kind of an error that nobody foresaw."""
    text = (str(error).splitlines() or [""])[0]
    return text if isinstance(error, SpecmoeError) else f"{type(error).__name__}: {text}"
