"""What the engine says of what the re-timer returns, and machines to time the same decisions on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st
from timing_cases import Case, Machine, machines

from specmoe.sim.decide.table import CPU, DecisionTable
from specmoe.sim.event_table import late_hits, summed
from specmoe.sim.timing.durations import Durations
from specmoe.sim.timing.engine import simulate
from specmoe.sim.timing.retimer import Retimed

Figures = dict[str, list[Any]]


def engines(table: DecisionTable, variants: Sequence[Durations]) -> Figures:
    """The columns of `Retimed`, a run of the engine for each variant."""
    rows = [engine(table, durations) for durations in variants]
    return {name: [row[name] for row in rows] for name in Retimed._fields}


def engine(table: DecisionTable, durations: Durations) -> dict[str, Any]:
    timing = simulate(table, durations)
    on_gpu = table.uses.where != CPU
    took = sum(durations.before) + int(np.array(durations.expert, np.int64)[on_gpu].sum()) + sum(durations.after)
    took += len(np.unique(table.uses.event[~on_gpu])) * durations.cpu.add_ns
    return {
        "step_end": timing.step_end.tolist(),
        "host": int(timing.host.sum()),
        "compute": took + int(timing.slowed.sum()),
        "stall": int(timing.stall.sum()),
        "slowed": int(timing.slowed.sum()),
        "link": int(summed(table.loads.event, np.array(durations.copy), len(timing.begin)).sum()),
        "late_hits": int(late_hits(table, timing.landed, timing.ready).sum()),
        "cpu": int(timing.cpu.sum()),
        "cpu_stall": int(timing.cpu_stall.sum()),
    }


def as_lists(retimed: Retimed) -> Figures:
    assert all(column.dtype == np.int64 for column in retimed)
    return {name: column.tolist() for name, column in retimed._asdict().items()}


class Draw:
    """Ways in which variants of one case differ."""

    shares = st.sampled_from([0.0, 0.0, 0.07, 0.5])
    in_vram = st.one_of(st.none(), st.integers(0, 10_000))  # None: nothing; else a seed for which loads
    variant = st.tuples(machines(), shares, in_vram)
    variants = st.lists(variant, min_size=1, max_size=4)


def durations_in(
    case: Case, policy: str, table: DecisionTable, variants: Sequence[tuple[Machine, float, int | None]]
) -> list[Durations]:
    """Of a case's decisions on other machines; some of them find some experts compressed in VRAM."""
    found = []
    for machine, interference, seed in variants:
        durations = case._replace(machine=machine, interference=interference).durations(policy, table)
        if seed is not None and not table.cpu_uses:
            crosses = np.random.default_rng(seed).random(len(durations.copy)) < 0.5
            durations = durations._replace(copy=(np.array(durations.copy, np.int64) * crosses).tolist())
        if not machine.predict:
            durations = durations._replace(predict=())
        found.append(durations)
    return found
