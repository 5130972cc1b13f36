"""Figures without a warm-up: engine and re-timer alike, bounds over the same steps, and nothing left out with 0."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from specmoe.errors import InputError
from specmoe.results import latencies
from specmoe.sim.config import Home, RunConfig
from specmoe.sim.run import Scenario
from specmoe.sim.sweep.evaluate import evaluate
from specmoe.summary import summary

BASE = RunConfig("switch-mini-128/decode/test", "on-demand-lru", "rtx3090", format="fp16", slots=60, steps=40)
UNLIKE = ("cell", "timed_by")
POLICIES = ("on-demand-lru", "lookahead", "oracle", "gpu-only", "transition")


def simulated(cell: RunConfig) -> dict[str, Any]:
    return summary(Scenario(replace(cell, policy="")).run(cell.policy).result)


@pytest.mark.parametrize("batch", [1, 5])
@pytest.mark.parametrize("warm_up", [None, 0, 7, 39])
def test_engine_and_retimer_leave_out_the_same(warm_up: int | None, batch: int) -> None:
    cells = [replace(BASE, policy=policy, batch=batch, warm_up=warm_up) for policy in POLICIES]
    cells += [replace(cells[1], home=Home(format="int4", compressed_slots=8)), replace(cells[1], slots=3)]
    for cell, row in zip(cells, evaluate(cells), strict=True):
        found = simulated(cell)
        assert row["timed_by"] == "re-timer"
        assert {name: found[name] for name in row if name not in UNLIKE} == {n: row[n] for n in row if n not in UNLIKE}


@pytest.mark.parametrize("policy", POLICIES)
def test_figures_are_the_differences_of_whole_runs(policy: str) -> None:
    """Sums over the steps after the warm-up and over those before it make the whole run."""
    cell = replace(BASE, policy=policy)
    scenario = Scenario(replace(cell, policy="", warm_up=0))
    whole, warm = scenario.run(policy).result, simulated(replace(cell, warm_up=13))
    rows = 13 * whole.manifest.num_layers
    for name in ("hits", "demand_loads", "prefetch_useful", "stall_ns", "compute_ns", "host_ns", "bytes_loaded"):
        assert warm[name] == whole.table[name][rows:].sum(), name
    times = latencies(whole)
    assert (warm["steps"], warm["warm_up_steps"]) == (27, 13)
    assert (warm["latency_mean_ns"], warm["cold_step_ns"]) == (round(times[13:].mean()), round(times[:13].mean()))
    assert warm["latency_p95_ns"] == int(np.percentile(times[13:], 95))


@pytest.mark.parametrize("warm_up", [None, 0, 5, 30])
def test_bounds_are_over_the_same_steps(warm_up: int | None) -> None:
    scenario = Scenario(replace(BASE, policy="", warm_up=warm_up))
    rows = {policy: summary(scenario.run(policy).result) for policy in (*POLICIES, "belady", "prefetch-all")}
    first = rows["oracle"]
    assert first["floor_ns"] <= rows["gpu-only"]["latency_mean_ns"]
    assert first["oracle_ns"] == rows["oracle"]["latency_mean_ns"]
    for row in rows.values():
        assert max(row["floor_ns"], 0 if row["policy"] == "gpu-only" else row["link_ns"]) <= row["latency_mean_ns"]
        assert row["warm_up_steps"] == first["warm_up_steps"]
        assert row["prefetch_loads"] or row["latency_mean_ns"] <= row["ceiling_ns"]


def test_a_warm_up_of_the_whole_run_is_refused() -> None:
    with pytest.raises(InputError, match=r"warm-up of 40 steps: the run has 40: 0 to 39 expected"):
        Scenario(replace(BASE, policy="", warm_up=40)).run("on-demand-lru")


def test_slots_that_are_never_filled_are_told() -> None:
    (warning,) = [w for w in simulated(replace(BASE, slots=700))["warnings"] if "warm-up" in w]
    assert warning.startswith("the 700 slots are not all filled in the warm-up: its 20 steps demand ")
    assert not [w for w in simulated(BASE)["warnings"] if "warm-up" in w]


def test_a_batch_does_not_start_at_one_position() -> None:
    spread, aligned = (Scenario(replace(BASE, policy="", batch=6, staggered=staggered)) for staggered in (True, False))
    first = [scenario.routed.block.position[scenario.routed.workload.rows[:6]] for scenario in (spread, aligned)]
    assert len(set(first[0].tolist())) == 6
    assert first[1].tolist() == [0] * 6
    assert Scenario(replace(BASE, policy="", staggered=False)).contexts == Scenario(replace(BASE, policy="")).contexts


def test_a_deeper_model_runs_all_of_its_layers() -> None:
    shallow, deep = simulated(BASE), simulated(replace(BASE, shape="switch-large-128"))
    assert (shallow["num_layers"], deep["num_layers"]) == (6, 12)
    assert deep["demands"] / deep["steps"] == 2 * shallow["demands"] / shallow["steps"]
    assert "layers 6..11 are layers 0..5 with experts permuted" in deep["assumed"]
    assert not [line for line in shallow["assumed"] if "permuted" in line]


def test_a_trace_of_a_deeper_model_is_refused(tmp_path: Any, make_trace: Any) -> None:
    path = str(make_trace(20, num_layers=7))
    with pytest.raises(
        InputError, match="7 layers: switch-base-128 has only 6 MoE layers in its decode phase: the shape"
    ):
        Scenario(replace(BASE, policy="", shape="switch-base-128", trace=path))


def test_a_batch_of_more_sequences_than_there_are_is_refused() -> None:
    with pytest.raises(InputError, match="batch 241: switch-mini-128/decode/test has only 240 sequences: at most 240"):
        Scenario(replace(BASE, policy="", batch=241))
