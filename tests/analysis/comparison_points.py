"""Results and points made by hand, for the tests of the comparison."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np

from specmoe.analysis.point import About, Point
from specmoe.results import COLUMNS, Manifest, RunResult

BOUNDS = {"floor_ns": 1_000_000, "oracle_ns": 1_200_000, "ceiling_ns": 6_000_000}


def manifest(policy: str = "on-demand-lru", **changes: Any) -> Manifest:
    fields: dict[str, Any] = {
        "trace": "switch-mini-128/decode/test",
        "trace_kind": "trained-here",
        "phase": "decode",
        "policy": policy,
        "parameters": {"predictor": "none", "eviction": "lru", "sharing": "shared", "set": []},
        "profile": "rtx3090",
        "shape": "switch-base-128",
        "format": "fp16",
        "semantics": "event-atomic",
        "slots": 128,
        "batch": 1,
        "num_layers": 6,
        "expert_bytes": 2**23,
        "vram_peak_bytes": 2**31,
        "evidence": "assumed",
        "yardstick": False,
        "bounds": BOUNDS,
    }
    return Manifest(**(fields | changes))


def yardstick(policy: str, **chosen: str) -> Manifest:
    slots = 768 if chosen.get("sharing") == "all-resident" else 128
    parameters = {"sharing": "shared", "eviction": "lru", "set": []} | chosen
    return manifest(policy, slots=slots, parameters=parameters, yardstick=True)


def about_of(of: Manifest) -> About:
    """What a row of the manifest says."""
    same = {field.name: getattr(of, field.name) for field in dataclasses.fields(About) if hasattr(of, field.name)}
    resident = of.parameters.get("sharing") == "all-resident"
    return About(**same, all_resident=resident, changed=tuple(of.parameters.get("set", ())))


def made(
    of: Manifest, stall_ms: float = 1.0, hit_rate: float = 0.5, useful: float = 1.0, prefetches: bool = False
) -> Point:
    """0.6 ms of compute, 0.4 ms of host."""
    return Point(about_of(of), 100, 600_000, stall_ms * 1e6, 400_000, hit_rate, useful, prefetches)


def result(of: Manifest, **columns: list[int]) -> RunResult:
    """Columns not told are 0."""
    events = len(next(iter(columns.values())))
    return RunResult({name: np.array(columns.get(name, [0] * events), np.int64) for name in COLUMNS}, of)


def two_steps(of: Manifest) -> RunResult:
    """Two steps of two layers, 250 and 200 ns."""
    return result(
        dataclasses.replace(of, num_layers=2),
        begin_ns=[0, 100, 250, 300],
        end_ns=[100, 250, 300, 450],
        host_ns=[90, 140, 40, 130],  # mostly beside the compute stream's work
        compute_ns=[60, 80, 40, 50],
        stall_ns=[20, 40, 0, 10],
        tokens=[1, 1, 1, 1],
        demands=[1, 1, 1, 1],
        hits=[0, 1, 1, 1],
        demand_loads=[1, 0, 0, 0],
        prefetch_loads=[2, 1, 0, 0],
        prefetch_useful=[1, 1, 0, 0],
        prefetch_wasted=[1, 0, 0, 0],
        bytes_loaded=[3 << 30, 1 << 30, 0, 0],
        bytes_wasted=[1 << 30, 0, 0, 0],
    )


def policies() -> list[Point]:
    """Like the ones that `specmoe demo` gives; one is 50 times slower than most."""
    return [
        made(yardstick("gpu-only", sharing="all-resident"), 0, 1.0),
        made(yardstick("oracle", predictor="oracle", eviction="belady"), 0.2, 0.999, prefetches=True),
        made(yardstick("belady", eviction="belady"), 1.2, 0.58),
        made(manifest("pregated-lru"), 0.9, 0.907, 1.0, True),
        made(manifest("lookahead"), 1.5, 0.747, 0.77, True),
        made(manifest("on-demand-lru"), 2.0, 0.44),
        made(manifest("on-demand-lfu"), 1.9, 0.45),
        made(manifest("static"), 2.05, 0.43),
        made(manifest("frequency"), 2.0, 0.44, 0.97, True),
        made(manifest("on-demand"), 3.4, 0.0),
        made(manifest("prefetch-all"), 200.0, 0.833, 0.011, True),
    ]
