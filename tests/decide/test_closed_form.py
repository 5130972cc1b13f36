"""Hits and loads that theory gives exactly.

The LRU cliff, for one sequence through L layers of top k that share their slots: between two uses of an expert the
other layers use (L - 1) * k experts at least. So

1. with (L - 1) * k slots or fewer there is no hit at all, whatever is routed;
2. with L * k slots a demand that repeats at every step hits always but for the first time.
"""

from __future__ import annotations

import numpy as np
import pytest
from decide_cases import certain, decisions, hits_of, loads_of, policy_of
from hypothesis import given
from hypothesis import strategies as st

from specmoe import traces
from specmoe.sim.decide.director import decide
from specmoe.sim.decide.evictions import EVICTIONS
from specmoe.sim.decide.policy import Prefetch
from specmoe.sim.speculate.predictor import no_predictions
from specmoe.traces.workload import build

SHAPES = [(1, 1), (2, 1), (3, 1), (2, 2), (3, 2), (6, 1), (3, 4)]  # L, k
STEPS = 10


def routed_at_random(layers: int, k: int, experts: int, seed: int) -> list[list[list[int]]]:
    rng = np.random.default_rng(seed)
    return [[sorted(rng.permutation(experts)[:k].tolist()) for _ in range(layers)] for _ in range(STEPS)]


@pytest.mark.parametrize(("layers", "k"), [shape for shape in SHAPES if shape[0] > 1])
@given(seed=st.integers(0, 1000))
def test_below_the_cliff_lru_never_hits(layers: int, k: int, seed: int) -> None:
    for slots in {1, (layers - 1) * k // 2 + 1, (layers - 1) * k}:
        assert decisions(routed_at_random(layers, k, 4, seed), slots).hits == 0


@pytest.mark.parametrize(("layers", "k"), SHAPES)
def test_above_the_cliff_lru_misses_once_each(layers: int, k: int) -> None:
    demand = [[list(range(k))] * layers] * STEPS
    table = decisions(demand, layers * k)
    assert (table.demand_loads, table.hits) == (layers * k, (STEPS - 1) * layers * k)


def test_the_cliff_is_where_it_is_said_to_be() -> None:
    demand = [[[0]] * 6] * STEPS
    assert [decisions(demand, slots).hits for slots in (4, 5, 6, 7)] == [0, 0, 54, 54]


def test_the_cliff_is_there_in_a_real_trace() -> None:
    trace = traces.open("switch-mini-128/decode/test")
    workload = build(trace.read(), trace.meta, steps=300)
    hits = [decide(workload, no_predictions(workload.num_events), policy_of(), slots).hits for slots in (5, 6)]
    assert (trace.meta.num_layers, trace.meta.top_k) == (6, 1)
    assert hits[0] == 0 < hits[1]


@pytest.mark.parametrize("eviction", EVICTIONS)
def test_slots_for_all_leave_the_compulsory_misses(eviction: str) -> None:
    demand = routed_at_random(3, 2, 4, seed=1)
    distinct = {(layer, expert) for step in demand for layer, wanted in enumerate(step) for expert in wanted}
    assert decisions(demand, 12, eviction=eviction).demand_loads == len(distinct)


@pytest.mark.parametrize("eviction", EVICTIONS)
def test_one_expert_in_one_slot(eviction: str) -> None:
    assert hits_of([0] * STEPS, 1, eviction) == [False] + [True] * (STEPS - 1)


@pytest.mark.parametrize("eviction", EVICTIONS)
def test_keys_that_never_return_always_miss(eviction: str) -> None:
    assert not any(hits_of(list(range(STEPS)), 3, eviction))


@pytest.mark.parametrize("eviction", EVICTIONS)
@pytest.mark.parametrize("keep", [True, False])
def test_perfect_prediction_misses_only_at_the_start(eviction: str, keep: bool) -> None:
    demand = routed_at_random(3, 2, 4, seed=2)
    flat = [wanted for step in demand for wanted in step]
    guesses = {event: certain(*wanted) for event, wanted in enumerate(flat[1:])}
    table = decisions(demand, 4, guesses, prefetch=Prefetch(limit=2), eviction=eviction, keep=keep)
    assert (table.demand_loads, table.hits) == (2, 3 * 2 * STEPS - 2)
    assert table.prefetch_useful == table.prefetch_loads
    if not keep:
        assert table.prefetch_loads == table.hits


def test_prefetching_all_of_the_next_layer_wastes_the_rest() -> None:
    demand = routed_at_random(3, 1, 4, seed=3)
    guesses = {event: certain(0, 1, 2, 3) for event in range(3 * STEPS)}
    table = decisions(demand, 8, guesses, prefetch=Prefetch(limit=4), keep=False)
    events = 3 * STEPS
    assert (table.hits, table.prefetch_loads, table.prefetch_useful) == (events - 1, 4 * (events - 1), events - 1)
    assert {row[3] for row in loads_of(table)} == {-1}


@given(accesses=st.lists(st.integers(0, 6), min_size=1, max_size=40), slots=st.integers(1, 6))
@pytest.mark.parametrize("eviction", ["lru", "static", "belady"])
def test_stack_policies_keep_with_more_slots_what_they_kept_with_fewer(
    eviction: str, accesses: list[int], slots: int
) -> None:
    few, more = (hits_of(accesses, n, eviction) for n in (slots, slots + 1))
    assert all(hit_too or not hit for hit, hit_too in zip(few, more, strict=True))
