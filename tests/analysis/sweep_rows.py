"""Tables of sweeps made by hand, for the tests of what reads them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pandas as pd

from specmoe.summary import FIGURES, KEYS, ORIGIN, SCALE, SET
from specmoe.sweep_table import SweepTable, load_sweep, save_sweep
from specmoe.uncertainty import EMPTY

STEPS = 100
MS = 10**6
LINK = f"{SET}host_to_device.pinned.bandwidth"


def row(policy: str = "on-demand-lru", ms: float = 4.0, **changes: Any) -> dict[str, Any]:
    """A step of `ms`, of which the compute stream works 1 ms and waits for the host 1 ms; 10 MB a step."""
    values: dict[str, Any] = {
        **dict.fromkeys((*KEYS, *ORIGIN), ""),
        **dict.fromkeys(FIGURES, 0),
        **EMPTY,
        "trace": "a/decode/test",
        "trace_kind": "trained-here",
        "phase": "decode",
        "policy": policy,
        "profile": "box",
        "shape": "model",
        "format": "fp16",
        "slots": 64,
        "batch": 1,
        "link": "fifo",
        "host_set": "graph",
        "tier": "host-pinned",
        **dict.fromkeys(("compressed_slots", "context", "threads"), 0),
        "kv_format": "f16",
        "steps": STEPS,
        "tokens": STEPS,
        "warm_up_steps": 0,
        "cold_step_ns": math.nan,
        "latency_mean_ns": ms * MS,
        "latency_p50_ns": ms * MS,
        "latency_p95_ns": 1.5 * ms * MS,
        "latency_p99_ns": 2 * ms * MS,
        "latency_max_ns": 3 * ms * MS,
        "tokens_per_second": 1000 / ms,
        "demands": 600,
        "hits": 300,
        "misses": 300,
        "hit_rate": 0.5,
        "demand_loads": 300,
        "bytes_loaded": STEPS * 10**7,
        "precision": math.nan,
        "recall": 0.0,
        "compute_ns": STEPS * MS,
        "stall_ns": STEPS * (ms - 2) * MS,
        "floor_ns": MS,
        "oracle_ns": 2 * MS,
        "ceiling_ns": 8 * MS,
        "vram_peak_bytes": 2**30,
        "expert_bytes": 2**24,  # 64 slots are 1 GiB
        "num_layers": 6,
        "cliff_slots": 5,
        "latency_sem_ns": 0,
        **dict.fromkeys(("yardstick", "fits"), False),
        **dict.fromkeys(("expected_error", "ratio_error"), math.nan),
        "validated": False,
        "semantics": "event-atomic",
        "evidence": "assumed",
        "staggered": True,
        "domains": [],
        "assumed": [],
        "warnings": [],
        "timed_by": "re-timer",
    }
    return values | changes


def guess(policy: str, ms: float, precision: float = 0.5, **changes: Any) -> dict[str, Any]:
    """One that prefetches."""
    return row(policy, ms, prefetch_loads=100, prefetch_useful=50, prefetch_wasted=50, precision=precision, **changes)


def resident(ms: float = 1.0, **changes: Any) -> dict[str, Any]:
    """Every expert in VRAM."""
    return row("gpu-only", ms, yardstick=True, bytes_loaded=0, demand_loads=0, hit_rate=1.0, slots=768, **changes)


def oracle(ms: float = 2.0, **changes: Any) -> dict[str, Any]:
    return row("oracle", ms, yardstick=True, **changes)


def failed(policy: str, error: str = "no room", **changes: Any) -> dict[str, Any]:
    empty = dict.fromkeys(FIGURES) | {"trace_kind": None, "phase": None, "semantics": None, "evidence": None}
    return row(policy) | empty | {"error": error} | changes


def table(*rows: dict[str, Any]) -> SweepTable:
    """As the sweep would write it; columns `set.*` and `scale.*` that a row does not tell are empty in it."""
    varied = sorted({name for values in rows for name in values if name.startswith((SET, SCALE))})
    frame = pd.DataFrame([dict.fromkeys(varied, math.nan) | values for values in rows])
    return SweepTable(frame, {"command": "specmoe sweep made.toml", "version": "0"})


def stored(directory: Path, made: SweepTable) -> SweepTable:
    """Through the files: types are those that a reader gets."""
    save_sweep(made, directory)
    return load_sweep(directory)


def grid() -> SweepTable:
    """Three policies, two of them real, on three sizes and two links; one cell failed."""
    rows = [
        values
        for slots in (64, 128, 256)
        for link, slow in ((1e10, 1.0), (2e10, 0.5))
        for values in (
            row("on-demand-lru", 2 + 4 * slow * 64 / slots, **{LINK: link, "slots": slots}),
            guess("lookahead", 2 + 3 * slow * 64 / slots, **{LINK: link, "slots": slots}, hit_rate=0.7),
            oracle(2.0, **{LINK: link, "slots": slots}),
            resident(**{LINK: link}),
        )
    ]
    sized = [values | {"vram_peak_bytes": values["slots"] * 2**24} for values in rows]
    return table(*sized, failed("moe-infinity", "moe-infinity: no train split", **{LINK: 1e10}))


def crowd() -> SweepTable:
    """28 policies with long names on three sizes, one of them 100 times slower."""
    names = [f"a-rather-long-name-{n:02}" for n in range(25)]
    rows: list[dict[str, Any]] = []
    for slots in (64, 128, 256):
        at: dict[str, Any] = {"slots": slots, "vram_peak_bytes": slots * 2**24}
        faster = 64 / slots
        rows += [
            resident(),
            oracle(2.0, **at),
            row("on-demand-lru", 4 + faster, **at),
            guess("prefetch-all", 400, **at),
        ]
        for n, name in enumerate(names):
            moved = {"bytes_loaded": STEPS * (10**7 + n % 5 * 10**6), "hit_rate": 0.4 + n / 100}
            rows.append(guess(name, 3 + n / 20 + faster, n / 25, **at, **moved))
    return table(*rows)
