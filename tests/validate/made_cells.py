"""Cells and runs of made-up times, for the tests of comparisons."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from specmoe.results import COLUMNS, Manifest, RunResult
from specmoe.validate.grid import Cell, Group, group_of
from specmoe.validate.measured import Steps
from specmoe.validation_table import CellFidelity, Role, Side

GROUP = group_of("switch-base-128", "decode", "fp16", None, 1, 4)
LAYERS = 2


def cell(policy: str = "lookahead", slots: int = 154, role: Role = "held_out", group: Group = GROUP) -> Cell:
    return group.cell(policy, slots, role)


def run_of(latency: Sequence[int], compute: int = 30, stall: int = 20, **columns: Any) -> RunResult:
    """A run of two layers whose steps take so long, one right behind the other; compute and stall are of a layer."""
    ends, events = np.cumsum(latency), len(latency) * LAYERS
    begin = np.repeat(ends - latency, LAYERS)
    end = np.repeat(ends, LAYERS)
    middle = begin[::LAYERS] + 1
    begin[1::LAYERS], end[::LAYERS] = middle, middle
    known = {
        "step": np.repeat(np.arange(len(latency)), LAYERS),
        "layer": np.tile(np.arange(LAYERS), len(latency)),
        "begin_ns": begin,
        "end_ns": end,
        "compute_ns": np.full(events, compute),
        "stall_ns": np.full(events, stall),
    }
    table = {name: np.zeros(events, np.int64) for name in COLUMNS} | known | columns
    told: dict[str, Any] = dict.fromkeys(
        ("trace", "trace_kind", "phase", "policy", "profile", "shape", "format", "semantics", "evidence"), "x"
    )
    counted = dict.fromkeys(("slots", "batch", "expert_bytes", "vram_peak_bytes"), 1)
    return RunResult(table, Manifest(**told, **counted, parameters={}, num_layers=LAYERS, yardstick=False))


def steps(latency: Any, compute: Any = 60, stall: Any = 40, decisions: str = "same") -> Steps:
    """[repeats, steps] of latencies; compute and stall are of a step."""
    times = np.array(latency, np.int64)
    return Steps(times, np.broadcast_to(compute, times.shape), np.broadcast_to(stall, times.shape), decisions)


def judged(
    of: Cell, measured: float = 1000.0, error: float = 0.0, spread: float = 0.0, correlation: float | None = 1.0
) -> CellFidelity:
    """A cell that came out so; the error is the host's."""
    simulated = measured * (1 + error)
    sides = (Side(mean, mean, mean, 300.0, 200.0, mean - 500.0) for mean in (measured, simulated))
    return CellFidelity(of.key, 3, *sides, spread, 0.0, correlation)
