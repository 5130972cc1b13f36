"""Durations in codes, of lists and of a sample that stands for a run."""

from __future__ import annotations

import dataclasses
from functools import cache
from typing import Any

import numpy as np
import pytest
from examples import examples
from hypothesis import given
from hypothesis import strategies as st
from retimer_cases import as_lists, engines
from timing_cases import RUNNABLE, Case, cases, durations_by_hand, table_of

from specmoe.hwprofiles.catalogue import load_profile, load_shape
from specmoe.hwprofiles.costs import Costs
from specmoe.sim.config import Home, RunConfig
from specmoe.sim.decide.policy import POLICIES
from specmoe.sim.run import Scenario
from specmoe.sim.sweep.retiming import bounds_of, timings
from specmoe.sim.timing.durations import Durations, charge, charged, durations_of
from specmoe.sim.timing.retimer import retime
from specmoe.sim.timing.variants import Variants, sample_of, variants_of
from specmoe.summary import summary

TIMED = ("before", "expert", "after", "copy", "predict")
lists = st.lists(st.integers(0, 3), min_size=5, max_size=5)


def expanded(variants: Variants, number: int) -> dict[str, list[int]]:
    """Every row of one variant."""
    columns = {name: getattr(variants, name) for name in TIMED}
    return {name: column.values[column.codes, number].tolist() for name, column in columns.items()}


@examples(100)
@given(copies=st.lists(lists, min_size=1, max_size=5))
def test_coded_lists_are_those_lists_in_as_few_codes_as_can_be(copies: list[list[int]]) -> None:
    plain = durations_by_hand(table_of([], [], 1, 1, 1))
    found = variants_of([plain._replace(copy=copy) for copy in copies])
    assert [expanded(found, number)["copy"] for number in range(len(copies))] == copies
    assert len(found.copy.values) == len(set(zip(*copies, strict=True)))
    assert found.copy.total.tolist() == [sum(copy) for copy in copies]


def test_by_hand_codes() -> None:
    plain = durations_by_hand(table_of([], [], 1, 1, 1))
    found = variants_of([plain._replace(copy=[7, 0, 7, 7]), plain._replace(copy=[9, 0, 9, 8], predict=[4])])
    assert expanded(found, 0)["copy"] == [7, 0, 7, 7]
    assert expanded(found, 1)["copy"] == [9, 0, 9, 8]
    assert sorted(found.copy.values.tolist()) == [[0, 0], [7, 8], [7, 9]]
    assert expanded(found, 0)["predict"] == [0]
    assert expanded(found, 1)["predict"] == [4]
    assert found.host[:, 0].tolist() == list(plain.host)


@cache
def costs_of(name: str, held: Any, more: tuple[Any, ...], tier: Any) -> Costs:
    moves = ("host-pinned", "nvme") if tier == "nvme" else (tier,)
    return Costs(load_profile(name), load_shape("switch-base-8"), held, moves=moves, also_held=more, most_tokens=99)


MACHINES = [("rtx3090", "fp16"), ("h100-sxm5-80gb", "fp16"), ("rtx3090", "int8")]
homes = st.sampled_from(
    [Home(), Home("nvme"), Home("host-pageable"), Home(format="int4"), Home("nvme", "int4", compressed_slots=3)]
)


@examples(60)
@given(case=cases(), policy=st.sampled_from(RUNNABLE), home=homes, pads=st.booleans(), seed=st.integers(0, 99))
def test_a_sample_gives_every_row_of_every_machine(case: Case, policy: str, home: Home, pads: bool, seed: int) -> None:
    workload, table, chosen = case.routed.workload, case.decide(policy), POLICIES[policy]
    context = np.random.default_rng(seed).integers(1, 100, workload.num_steps).tolist()
    part = sample_of(workload, table, home, context)
    small, whole = [], []
    for name, held in MACHINES:
        costs = costs_of(name, held, ("int4",) if home.format else (), home.tier)
        own = durations_of(part.workload, part.table, costs, home, part.context, pads)
        small.append(charged(own, charge(chosen, part.workload, costs)))
        full = durations_of(workload, table, costs, home, context, pads)
        whole.append(charged(full, charge(chosen, workload, costs)))
    found = part.variants(small)
    for number, durations in enumerate(whole):
        assert expanded(found, number) == rows(durations)
    expected = variants_of(whole)
    assert found.read.tolist() == expected.read.tolist()
    assert found.host.tolist() == expected.host.tolist()
    assert found.interference.tolist() == expected.interference.tolist()
    assert as_lists(retime(table, found)) == engines(table, whole)


def test_what_was_there_from_the_start_is_not_expanded_in_a_sample_either() -> None:
    scenario = Scenario(RunConfig("switch-mini-128/decode/test", format="fp16", steps=2, home=Home(format="int4")))
    table = scenario.decide(POLICIES["gpu-only"], scenario.num_keys)
    part = sample_of(scenario.routed.workload, table, scenario.config.home, scenario.contexts)
    small = durations_of(part.workload, part.table, scenario.costs, scenario.config.home, part.context)
    assert expanded(part.variants([small]), 0) == rows(scenario.durations(table))


def rows(durations: Durations) -> dict[str, list[int]]:
    found = {name: list(getattr(durations, name)) for name in TIMED}
    return found if found["predict"] else {**found, "predict": [0] * len(found["before"])}


@pytest.mark.parametrize("policy", ["on-demand-lru", "transition"])
def test_padded_sizes_are_retimed_as_they_are_simulated(policy: str) -> None:
    spec = RunConfig("switch-mini-128/decode/test", slots=60, steps=20, batch=3, format="fp16")
    padded = Scenario(dataclasses.replace(spec, padded=True))
    expected = summary(padded.run(policy).result)
    assert expected["latency_mean_ns"] != summary(Scenario(spec).run(policy).result)["latency_mean_ns"]
    (one,) = timings(padded.decide(padded.policy(policy), 60), [padded], padded.policy(policy))
    assert round(one.sums.latencies.total / one.sums.latencies.steps) == expected["latency_mean_ns"]
    assert one.sums.host_ns == expected["host_ns"]
    (bounds,) = bounds_of([padded], 60)
    assert bounds == padded.bounds(60)


def test_a_sample_is_small() -> None:
    scenario = Scenario(RunConfig("switch-mini-128/decode/test", slots=60, steps=300))
    table = scenario.decide(POLICIES["lookahead"], 60)
    part = sample_of(scenario.routed.workload, table, Home(), scenario.contexts)
    assert part.workload.num_steps <= len(set(scenario.contexts))
    assert len(part.table.uses.load) == 2  # one token each, with and without a load of its own
    assert len(part.table.loads.key) == 2


def test_a_sample_of_no_variants() -> None:
    scenario = Scenario(RunConfig("switch-mini-128/decode/test", slots=60, steps=3))
    table = scenario.decide(POLICIES["lookahead"], 60)
    found = sample_of(scenario.routed.workload, table, Home(), scenario.contexts).variants([])
    assert retime(table, found).step_end.shape == (0, 3)


@pytest.mark.parametrize("policy", ["on-demand-lru", "lookahead", "transition", "oracle"])
@pytest.mark.parametrize("phase", ["decode", "encode"])
def test_summaries_of_a_bundled_trace(policy: str, phase: str) -> None:
    spec = RunConfig(f"switch-mini-128/{phase}/test", "h100-sxm5-80gb", slots=120, steps=40, batch=2, warm_up=0)
    scenario = Scenario(spec)
    run = scenario.run(policy)
    told, found = summary(run.result), retime(run.decisions, [run.durations])
    assert found.latencies.sum() == round(run.result.table["end_ns"].max())
    names = {"host": "host_ns", "compute": "compute_ns", "stall": "stall_ns", "link": "link_busy_ns"}
    assert {name: getattr(found, ours)[0] for ours, name in names.items()} == {n: told[n] for n in names.values()}
    assert found.late_hits[0] == told["late_hits"]
    p50, p95, p99 = np.percentile(found.latencies[0], (50, 95, 99))
    assert [int(p50), int(p95), int(p99)] == [told[f"latency_{name}_ns"] for name in ("p50", "p95", "p99")]
