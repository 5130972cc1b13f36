"""The summary of a run: one row, under one set of names.

`simulate --json`, a sweep's Parquet columns, reports and DataFrames all hold these rows. A row says what was asked
(`KEYS`, and a column `set.NAME` or `scale.NAME` for each value that was changed by dotted name), what came out
(`FIGURES`), and how good the evidence is (`ORIGIN`). Units stand in the names: `_ns` nanoseconds, `_bytes` bytes; times
of parts (`compute_ns`, `stall_ns`, ...) are sums over all steps. "All steps" are those after the warm-up, whose mean
is a figure of its own.
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from specmoe.hwprofiles.quantity import QUANTITIES
from specmoe.results import OF_CPU, OF_MISSES, Manifest, RunResult, latencies
from specmoe.uncertainty import EMPTY
from specmoe.units import quantity

Row = dict[str, Any]
LINES = ("vram_bytes", "dense_bytes", "kv_bytes", "assumed_reserve_bytes", "slot_bytes", "free_bytes")
SET, SCALE = "set.", "scale."  # the value a dotted name was set to, in base units; the factor it was multiplied by

KEYS: dict[str, pa.DataType] = {
    "trace": pa.string(),
    "source": pa.string(),  # text domains that were asked for, with commas; empty: all of the trace
    "train_source": pa.string(),  # likewise those that were learnt from; empty: the same; all: every one
    "policy": pa.string(),
    "profile": pa.string(),
    "shape": pa.string(),
    "format": pa.string(),
    "style": pa.string(),  # how experts are multiplied and launched
    "dense_format": pa.string(),  # of the weights that are no experts
    "slots": pa.int64(),
    "context": pa.int64(),  # tokens of a sequence that VRAM keeps; 0: the longest of the trace
    "kv_format": pa.string(),  # of their keys and values
    "batch": pa.int64(),
    "threads": pa.int64(),  # that compute experts on the CPU; 0: the profile's
    "link": pa.string(),
    "host_set": pa.string(),
    "tier": pa.string(),
    "home_format": pa.string(),  # empty where it is the slots'
    "compressed_slots": pa.int64(),
}
SPREAD: dict[str, pa.DataType] = {  # of the mean step over drawn machines; empty where there were none
    **dict.fromkeys(("draws", "seed", "step_p5_ns", "step_p50_ns", "step_p95_ns"), pa.int64()),
    **dict.fromkeys(("tokens_per_second_p5", "tokens_per_second_p95"), pa.float64()),
    "fastest_share": pa.float64(),  # of the machines; empty of a yardstick, and of a single result
    "drawn_step_ns": pa.list_(pa.int64()),  # on each machine
    "unknown": pa.list_(pa.string()),  # numbers with a range that the run depends on, the one that matters most first
    "unknown_effect": pa.list_(pa.float64()),  # change of the step from the number's low to its high end, a share
}
FIGURES: dict[str, pa.DataType] = {
    **dict.fromkeys(("steps", "tokens", "warm_up_steps", "cold_step_ns"), pa.int64()),  # the last empty without warm-up
    **dict.fromkeys(("latency_mean_ns", "latency_p50_ns", "latency_p95_ns", "latency_p99_ns"), pa.int64()),
    **dict.fromkeys(("latency_max_ns", "latency_sem_ns", "moe_layer_ns"), pa.int64()),  # sem: empty of a single step
    "tokens_per_second": pa.float64(),
    "first_token_ns": pa.int64(),  # mean prefill, and
    "decode_tokens_per_second": pa.float64(),  # of the other steps; both empty unless the run is sessions
    **dict.fromkeys(("demands", "hits", "late_hits", "misses", "demand_loads", "prefetch_loads"), pa.int64()),
    **dict.fromkeys(("prefetch_useful", "prefetch_wasted", "bytes_loaded", "bytes_wasted"), pa.int64()),
    **dict.fromkeys(OF_MISSES, pa.int64()),
    **dict.fromkeys(("cpu_share", "changed_share"), pa.float64()),  # of demanded experts
    "changed_mass_share": pa.float64(),  # of all router weight
    **dict.fromkeys(
        ("hit_rate", "precision", "recall", "break_even_precision"), pa.float64()
    ),  # the latter empty where there were none
    **dict.fromkeys(("predict_ns", "compute_ns", "stall_ns", "host_ns", "link_busy_ns", *OF_CPU), pa.int64()),
    **dict.fromkeys(("floor_ns", "oracle_ns", "ceiling_ns", "link_ns"), pa.int64()),
    **dict.fromkeys(("cpu_only_ns", "link_and_cpu_ns"), pa.int64()),  # bounds of a mean step
    **dict.fromkeys(("vram_peak_bytes", "expert_bytes", "num_layers", "cliff_slots"), pa.int64()),
    **dict.fromkeys(LINES, pa.int64()),  # of the budget of VRAM; empty of a file of version 0.1.0
    "yardstick": pa.bool_(),  # no runtime could do this: it peeks, needs a pre-gated model, or holds what does not fit
    "fits": pa.bool_(),  # every expert has a slot: there is nothing to offload
    **SPREAD,
}
ORIGIN: dict[str, pa.DataType] = {
    "cell": pa.string(),  # SHA-256 of all that the row depends on
    **dict.fromkeys(("trace_kind", "phase", "semantics", "evidence"), pa.string()),
    "expected_error": pa.float64(),  # of the mean step, a share: an upper bound for most runs if `validated`
    "validated": pa.bool_(),
    "error_basis": pa.string(),
    "domains": pa.list_(pa.string()),  # text domains whose tokens ran
    "ratio_error": pa.float64(),  # expected, of the ratio of two policies' mean steps, a share
    "staggered": pa.bool_(),  # a batch of decode sequences started at spread positions
    "assumed": pa.list_(pa.string()),
    "warnings": pa.list_(pa.string()),
    "timed_by": pa.string(),  # engine or re-timer: equal integers
    "error": pa.string(),  # empty in a row with figures
}
CHOICES: Row = {
    "context": 0,
    "kv_format": "f16",
    "source": "",
    "train_source": "",
    "link": "fifo",
    "host_set": "graph",
    "tier": "host-pinned",
    "home_format": "",
    "compressed_slots": 0,
}
CPU_BOUNDS = ("cpu_only_ns", "link_and_cpu_ns")  # None where the profile has no CPU for the experts
BOUNDS = ("floor_ns", "oracle_ns", "ceiling_ns", "link_ns", *CPU_BOUNDS)


NO_SESSIONS: Row = {"first_token_ns": None, "decode_tokens_per_second": None}


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
    cpu_uses: int
    cpu_tokens: int
    later_loads: int
    later_useful: int
    dropped_uses: int
    low_uses: int
    deferred_uses: int
    changed_mass: int


class Latencies(NamedTuple):
    """Of steps, ns."""

    steps: int
    total: int
    p50: int
    p95: int
    p99: int
    longest: int
    deviation: float  # of a sample

    @classmethod
    def of(cls, steps: NDArray[np.int64]) -> "Latencies":
        """Of the latency of each step, [steps]."""
        p50, p95, p99 = (int(value) for value in np.percentile(steps, (50, 95, 99)))
        deviation = float(steps.std(ddof=1)) if len(steps) > 1 else 0.0
        return cls(len(steps), int(steps.sum()), p50, p95, p99, int(steps.max()), deviation)


class Sums(NamedTuple):
    """Of the steps after the warm-up, but for `cold`: times in ns."""

    cold_steps: int  # of the warm-up
    cold_ns: int  # that they take together
    latencies: Latencies
    late_hits: int
    bytes_loaded: int
    bytes_wasted: int
    predict_ns: int  # a mean of (step, layer)s
    compute_ns: int
    stall_ns: int
    host_ns: int
    link_busy_ns: int
    cpu_ns: int
    cpu_stall_ns: int


def figures(counts: Counts, sums: Sums) -> dict[str, Any]:
    """The figures that follow from counts and sums alone."""
    steps = sums.latencies
    useful, fetched, needed = counts.prefetch_useful, counts.prefetch_loads, counts.demand_loads
    return {
        "steps": counts.steps,
        "tokens": counts.tokens,
        "warm_up_steps": sums.cold_steps,
        "cold_step_ns": round(sums.cold_ns / sums.cold_steps) if sums.cold_steps else None,
        "latency_mean_ns": round(steps.total / steps.steps),
        "latency_p50_ns": steps.p50,
        "latency_p95_ns": steps.p95,
        "latency_p99_ns": steps.p99,
        "latency_max_ns": steps.longest,
        "latency_sem_ns": round(steps.deviation / steps.steps**0.5) if steps.steps > 1 else None,
        "moe_layer_ns": round(steps.total / counts.events),
        "tokens_per_second": counts.tokens / (steps.total / 1e9),
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
        **{name: getattr(counts, name) for name in OF_MISSES},
        "cpu_share": counts.cpu_uses / max(1, counts.demands),
        "changed_share": (counts.dropped_uses + counts.low_uses + counts.deferred_uses) / max(1, counts.demands),
        "changed_mass_share": counts.changed_mass / (1e6 * max(1, counts.tokens) * (counts.events // counts.steps)),
        "hit_rate": counts.hits / counts.demands if counts.demands else 1.0,
        "precision": useful / fetched if fetched else None,
        "recall": useful / (useful + needed) if useful + needed else None,
        "predict_ns": sums.predict_ns,
        "compute_ns": sums.compute_ns,
        "stall_ns": sums.stall_ns,
        "host_ns": sums.host_ns,
        "link_busy_ns": sums.link_busy_ns,
        **{name: getattr(sums, name) for name in OF_CPU},
    }


def summary(result: RunResult) -> Row:
    """The row of a single run; `cell` is empty, as it is no sweep's, and `parameters` are all of the policy's fields.

    `precision` is the share of prefetched experts that were used before they were evicted, and `recall` the share of
    needed loads that were prefetched; None where there were none. `predict_ns` is a mean over (step, layer) events.
    """
    manifest, warm_up = result.manifest, result.manifest.warm_up_steps
    layers, chosen = manifest.num_layers, manifest.parameters
    table = {name: column[warm_up * layers :] for name, column in result.table.items()}
    total = {name: int(column.sum()) for name, column in table.items()}
    cold, steps = np.split(latencies(result), [warm_up])
    counts = Counts(
        steps=len(steps),
        events=len(table["step"]),
        tokens=int(table["tokens"][::layers].sum()) if manifest.kept_tokens is None else manifest.kept_tokens,
        **{name: total[name] for name in ("demands", "hits", "demand_loads", "prefetch_loads", "prefetch_useful")},
        **{name: total[name] for name in OF_MISSES},
    )
    sums = Sums(
        cold_steps=len(cold),
        cold_ns=int(cold.sum()),
        latencies=Latencies.of(steps),
        predict_ns=int(chosen.get("predict_ns", 0)),
        link_busy_ns=total["link_ns"],
        **{name: total[name] for name in ("late_hits", "bytes_loaded", "bytes_wasted")},
        **{name: total[name] for name in ("compute_ns", "stall_ns", "host_ns", *OF_CPU)},
    )
    return row_of(
        manifest, counts, sums, _of_sessions(manifest.prefill_steps, warm_up, steps, table["tokens"][::layers])
    )


def row_of(
    manifest: Manifest, counts: Counts, sums: Sums, of_sessions: Row = NO_SESSIONS, timed_by: str = "engine"
) -> Row:
    """The row of a run from its counts and sums; `of_sessions` are figures of prefill and decode apart."""
    chosen = manifest.parameters
    named = ("trace", "policy", "profile", "shape", "format", "style", "dense_format", "slots", "batch")
    sizes = ("vram_peak_bytes", "expert_bytes")
    origin = ("trace_kind", "phase", "semantics", "evidence", "staggered", "num_layers", "break_even_precision")
    judged = ("yardstick", "fits", "expected_error", "validated", "error_basis", "ratio_error")
    row = {name: getattr(manifest, name) for name in (*named, *sizes, *origin, *judged)}
    row |= {name: chosen.get(name) or usual for name, usual in CHOICES.items()}
    row |= {"threads": chosen.get("threads_asked") or 0}
    row |= of_sessions
    row |= {name: manifest.budget.get(name) for name in LINES}
    row |= figures(counts, sums) | {name: manifest.bounds.get(name) for name in BOUNDS}
    row |= {"cliff_slots": cliff_slots(counts.demands, counts.steps, manifest.num_layers)}
    row |= {name: list(getattr(manifest, name)) for name in ("domains", "assumed", "warnings")}
    row |= EMPTY | manifest.spread
    row |= {"cell": "", "timed_by": timed_by, "error": ""}
    row = {name: row[name] for name in (*KEYS, *FIGURES, *ORIGIN)} | dict(_changes(chosen.get("set", ())))
    return row | {"parameters": chosen}


def _of_sessions(
    prefills: tuple[int, ...] | None, warm_up: int, steps: NDArray[np.int64], tokens: NDArray[np.int64]
) -> Row:
    """Figures of prefill and decode apart, from the latency and the tokens of each step after the warm-up."""
    is_prefill = np.isin(np.arange(warm_up, warm_up + len(steps)), prefills or ())
    first, others = steps[is_prefill], steps[~is_prefill]
    has_first, has_others = prefills is not None and len(first), prefills is not None and len(others)
    return {
        "first_token_ns": round(first.mean()) if has_first else None,
        "decode_tokens_per_second": int(tokens[~is_prefill].sum()) / (int(others.sum()) / 1e9) if has_others else None,
    }


def _changes(pairs: Iterable[str]) -> Iterator[tuple[str, float | str]]:
    """A column for each value that was set: a number, in base units where it has a unit, or a word."""
    for name, _, value in (pair.partition("=") for pair in pairs):
        yield f"{SET}{name}", _number(name, value)


def _number(name: str, text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        dimension = QUANTITIES.get(name)
        return text if dimension is None else quantity(f"{name}={text}", name, text, dimension)


def cliff_slots(demands: int, steps: int, layers: int) -> int:
    """The most slots with which an LRU over all layers hits nothing: a mean step's demand but one layer's, floored.

    Between two demands of a layer lie those of all the others: (L - 1) * k experts where every event demands k.
    Where events demand unequally much, an LRU hits hardly anything up to there.
    """
    return demands * (layers - 1) // (max(1, steps) * layers)
