"""The compiled twin of the director against the director: every row equal."""

import dataclasses
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from decide_cases import policy_of
from random_traces import META

from specmoe.sim.decide import compiled
from specmoe.sim.decide.director import Director, decide
from specmoe.sim.decide.eviction import Context
from specmoe.sim.decide.evictions import EVICTIONS
from specmoe.sim.decide.miss import Rates
from specmoe.sim.decide.policy import POLICIES, Policy, Prefetch, with_rates
from specmoe.sim.decide.table import DecisionTable
from specmoe.sim.speculate.predictor import PredictionTable, no_predictions
from specmoe.traces.workload import Workload

pytest.importorskip("numba")
RULES = [None, Prefetch(1), Prefetch(3, threshold=0.4, depth=2, backlog=4, after_launch=True)]
SETTINGS: list[dict[str, Any]] = [
    {"sharing": "shared"},
    {"sharing": "shared", "keep": False},
    {"sharing": "per-layer"},
    {"sharing": "per-layer", "placement": "popular-first"},
    {"sharing": "shared", "placement": "popular-first", "predictor": "oracle"},
    {"sharing": "all-resident"},
]
RATES = Rates(copy_ns=90.0, cpu_ns=40.0, both_ns=30.0, cpu_token_ns=15.0, gpu_ns=7.0)
SHARED: list[dict[str, Any]] = [
    {"miss": "cpu"},
    {"miss": "cpu", "placement": "popular-first", "sharing": "per-layer"},
    {"miss": "cpu-and-load"},
    {"miss": "cpu-and-load", "keep": False},
    {"miss": "cpu-below:4"},
    {"miss": "cpu-below:4", "placement": "cpu-first:2"},
    {"miss": "cpu-if-faster", "sharing": "per-layer"},
    {"miss": "split", "miss_parameters": {"table": "0/1/1/2"}},
    {"miss": "law-split", "miss_parameters": {"copy_wait_ns": 5.0, "handoff_ns": 10.0}},
    {"miss": "freetoken", "placement": "gpu-popular:0.25"},
    {"miss": "admit-after:3"},
    {"miss": "greedy", "placement": "gpu-uniform:0.2", "sharing": "per-layer"},
    {"miss": "greedy"},
    {"placement": "cpu-all"},
    {"placement": "cpu-last"},
    {"placement": "gpu-uniform:0.3"},
    {"placement": "gpu-uniform"},
]


def workload_of(rng: np.random.Generator, layers: int, experts: int, steps: int, most: int) -> Workload:
    """Demands of up to `most` experts, some far more popular than others; now and then none."""
    events = steps * layers
    scores = rng.random((events, experts)) ** (1 + np.arange(experts) % 7)
    sizes = rng.integers(0, most + 1, events)
    chosen = [np.sort(np.argsort(-row, kind="stable")[:size]) for row, size in zip(scores, sizes, strict=True)]
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    meta = dataclasses.replace(META, num_experts=experts, num_layers=layers, top_k=1, candidates=1)
    tokens = rng.integers(1, 9, offsets[-1]).astype(np.int32)
    return Workload(
        meta, np.arange(steps), np.arange(steps + 1), offsets, np.concatenate(chosen).astype(np.int32), tokens, 1
    )


def predictions_of(rng: np.random.Generator, workload: Workload) -> PredictionTable:
    shape = (workload.num_events, 2, 3)
    experts = rng.integers(-1, workload.meta.num_experts, shape).astype(np.int16)
    return PredictionTable(experts, rng.random(shape).astype(np.float32))


def cases(eviction: str) -> Iterator[tuple[Workload, PredictionTable, Policy, int, Context]]:
    """Every setting and prefetch rule with slots enough and too few."""
    rng = np.random.default_rng(7)
    for number, fields in enumerate(SETTINGS):
        layers, experts = (3, 12) if number % 2 else (4, 9)
        workload = workload_of(rng, layers, experts, 60, 6)
        predictions = predictions_of(rng, workload)
        popularity = rng.integers(0, 5, layers * experts)
        for slots, rule in zip((5, 13, 22), RULES, strict=True):
            context = Context(slots, workload, lambda popularity=popularity: popularity, predictions)
            yield workload, predictions, policy_of(eviction=eviction, prefetch=rule, **fields), slots, context


def assert_same(table: DecisionTable, expected: DecisionTable) -> None:
    assert table[2:] == expected[2:]
    for rows, wanted in ((table.uses, expected.uses), (table.loads, expected.loads)):
        for name, column, other in zip(rows._fields, rows, wanted, strict=True):
            np.testing.assert_array_equal(column, other, name)
            assert column.dtype == other.dtype, name


def shared_cases() -> Iterator[tuple[Workload, PredictionTable, Policy, int, Context]]:
    """Every miss rule and placement, each with several evictions, prefetch rules and numbers of slots."""
    rng = np.random.default_rng(11)
    evictions = itertools.cycle(name for name, made in EVICTIONS.items() if made in compiled.CODES)
    for fields in SHARED:
        workload = workload_of(rng, 3, 9, 60, 7)
        predictions = predictions_of(rng, workload)
        popularity = rng.integers(0, 5, 27)
        for rule, slots, eviction in zip(RULES, (18, 10, 27), evictions, strict=False):
            context = Context(slots, workload, lambda popularity=popularity: popularity, predictions)
            chosen = with_rates(policy_of(eviction=eviction, prefetch=rule, **fields), RATES)
            yield workload, predictions, chosen, slots, context


def test_the_twin_shares_demand_with_the_cpu_as_the_director(monkeypatch: pytest.MonkeyPatch) -> None:
    """Miss rules, layers whose experts stay in RAM, experts that never leave, and slots that all of these fill."""
    monkeypatch.setattr(compiled, "FEWEST_USES", 0)
    for workload, predictions, policy, slots, context in shared_cases():
        director = Director(workload, predictions, policy, slots, context)
        assert compiled.takes(director.start())
        assert_same(decide(workload, predictions, policy, slots, context), director.run())


@pytest.mark.parametrize("eviction", [name for name, made in EVICTIONS.items() if made in compiled.CODES])
def test_the_twin_decides_as_the_director(eviction: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Waves, backlogs, sharings, experts given up, experts there from the start."""
    monkeypatch.setattr(compiled, "FEWEST_USES", 0)
    for workload, predictions, policy, slots, context in cases(eviction):
        expected = Director(workload, predictions, policy, slots, context).run()
        assert_same(decide(workload, predictions, policy, slots, context), expected)


def test_short_runs_are_decided_by_the_twin_once_its_kernel_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    workload = workload_of(np.random.default_rng(2), 3, 9, 100, 6)
    predictions = no_predictions(workload.num_events)
    start = Director(workload, predictions, policy_of(), 9, Context(9, workload)).start()
    assert start is not None and compiled.FEWEST_ONCE_LOADED <= len(workload.experts) < compiled.FEWEST_USES
    with monkeypatch.context() as patch:
        patch.setattr(compiled, "KERNEL", "not loaded")
        assert not compiled.takes(start)
    compiled.load()
    assert compiled.takes(start)


def test_the_twin_takes_every_named_policy_that_changes_no_result(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiled, "FEWEST_USES", 0)
    rng = np.random.default_rng(1)
    workload = workload_of(rng, 3, 8, 4, 4)
    predictions = predictions_of(rng, workload)
    for policy in POLICIES.values():
        if not policy.approximate:
            start = Director(workload, predictions, with_rates(policy, RATES), 9, Context(9, workload)).start()
            assert compiled.takes(start), policy.name
