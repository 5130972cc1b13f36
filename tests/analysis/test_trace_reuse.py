"""Reuse distances and miss ratios: by hand, against brute force, and against the decisions of the simulator."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from decide_cases import Case, accesses_of, cases, workload_of
from examples import examples
from hypothesis import given
from hypothesis import strategies as st
from random_traces import META, random_block
from trace_cases import random_routing

import specmoe.traces
from specmoe.analysis.trace.reuse import (
    BELADY_POINTS,
    FIRST,
    belady_hits,
    belady_slots,
    cliff_of,
    earlier_and_smaller,
    joined,
    least_slots,
    lru_hits,
    previous_use,
    reuse_distances,
    stays_of,
    study_reuse,
)
from specmoe.analysis.trace.routing import stream
from specmoe.sim.decide.director import decide
from specmoe.sim.decide.policy import POLICIES
from specmoe.sim.speculate.predictor import no_predictions
from specmoe.traces.workload import Workload, build


def decided_hits(workload: Workload, policy: str, slots: int) -> int:
    """What the simulator's director makes of it."""
    return decide(workload, no_predictions(workload.num_events), POLICIES[policy], slots).hits


def keys_by_event(workload: Workload) -> list[list[int]]:
    return [part.tolist() for part in np.split(workload.keys, workload.offsets[1:-1])]


def brute_force_distances(workload: Workload) -> list[int]:
    """An LRU stack, searched."""
    stack: list[int] = []  # newest first
    found = []
    for keys in keys_by_event(workload):
        found += [stack.index(key) if key in stack else FIRST for key in keys]
        for key in keys:
            if key in stack:
                stack.remove(key)
            stack.insert(0, key)
    return found


@given(st.lists(st.integers(0, 40), max_size=80))
def test_earlier_and_smaller(values: list[int]) -> None:
    found = earlier_and_smaller(np.array(values, np.int64)).tolist()
    assert found == [sum(other < value for other in values[:place]) for place, value in enumerate(values)]


def test_by_hand_previous_use() -> None:
    assert previous_use(np.array([3, 5, 3, 3, 5], np.int32)).tolist() == [-1, -1, 0, 2, 1]
    assert previous_use(np.array([], np.int32)).tolist() == []


def test_by_hand_distances_of_a_cache() -> None:
    # a b c b a: between the two a there are b and c, between the two b there is c.
    assert reuse_distances(accesses_of([0, 1, 2, 1, 0])).tolist() == [FIRST, FIRST, FIRST, 1, 2]


def test_by_hand_distances_are_event_atomic() -> None:
    # {0, 1}, {2}, {0, 1}: since 0 there came 1, of the same event, and 2; since 1 only 2. That 0 is asked for again
    # in the event of the second 1 does not count.
    workload = workload_of([[[0, 1]], [[2]], [[0, 1]]])
    assert reuse_distances(workload).tolist() == [FIRST, FIRST, FIRST, 2, 1]


def test_by_hand_lru_hits() -> None:
    distances = np.array([FIRST, 0, 2, 2, 9, FIRST])
    assert lru_hits(distances, 4).tolist() == [0, 1, 1, 3, 3]
    assert lru_hits(np.array([], np.int64), 2).tolist() == [0, 0, 0]


@given(cases())
def test_differential_distances(case: Case) -> None:
    assert reuse_distances(case.workload).tolist() == brute_force_distances(case.workload)


@given(cases(), st.integers(0, 15))
@examples(200)
def test_differential_lru_and_belady_are_what_is_decided(case: Case, more: int) -> None:
    workload = case.workload
    slots = least_slots(workload) + more
    assert lru_hits(reuse_distances(workload), slots)[slots] == decided_hits(workload, "on-demand-lru", slots)
    assert belady_hits(stays_of(workload), slots) == decided_hits(workload, "belady", slots)


@pytest.mark.parametrize("phase", ["encode", "decode"])
@pytest.mark.parametrize("batch", [1, 3, 8])
@pytest.mark.parametrize("top_k", [1, 2])
def test_differential_curves_of_random_traces(phase: str, batch: int, top_k: int) -> None:
    """All marks of the optimum and the LRU's hits beside them, dropped tokens and all."""
    workload = stream(random_routing(150, seed=batch, phase=phase, top_k=top_k, num_experts=12), batch)
    curve = study_reuse(workload).curve.set_index("slots")
    known = curve[curve["belady_hits"].notna()]
    assert len(known) > 5
    for slots in known.index:
        assert known["lru_hits"][slots] == decided_hits(workload, "on-demand-lru", int(slots))
        assert known["belady_hits"][slots] == decided_hits(workload, "belady", int(slots))


@pytest.mark.parametrize("slots", [6, 77, 154, 384])
def test_differential_a_real_trace(slots: int) -> None:
    trace = specmoe.traces.open("switch-mini-128/decode/validation")
    workload = build(trace.read(), trace.meta, 4, 300)
    assert lru_hits(reuse_distances(workload), slots)[slots] == decided_hits(workload, "on-demand-lru", slots)
    assert belady_hits(stays_of(workload), slots) == decided_hits(workload, "belady", slots)


def test_too_few_slots_for_the_optimum() -> None:
    with pytest.raises(ValueError, match="1 slots hold less than the 2 experts"):
        belady_hits(stays_of(workload_of([[[0]], [[1, 2]]])), 1)


@given(cases())
def test_property_curves(case: Case) -> None:
    """Inclusion: more slots never hit less; nothing beats Belady; with room for all only first uses miss."""
    workload = case.workload
    study = study_reuse(workload)
    known = study.curve[study.curve["belady_hits"].notna()]
    assert study.curve["lru_hits"].is_monotonic_increasing
    assert known["belady_hits"].is_monotonic_increasing
    assert (known["belady_hits"] >= known["lru_hits"]).all()
    last = study.curve.iloc[-1]
    first_uses = len(np.unique(workload.keys))
    assert last["lru_hits"] == last["belady_hits"] == len(workload.keys) - first_uses
    assert study.facts[0]["first_uses"] == first_uses
    assert study.distances["uses"].sum() + first_uses == len(workload.keys)


@pytest.mark.parametrize(("layers", "top_k"), [(3, 1), (4, 2), (1, 1)])
def test_closed_form_cliff(layers: int, top_k: int) -> None:
    """One sequence, no drops: no hits up to (L - 1) * k slots."""
    meta = dataclasses.replace(META, num_layers=layers, top_k=top_k, num_experts=6, candidates=2)
    workload = build(random_block(400, meta), meta)
    cliff = (layers - 1) * top_k
    assert cliff_of(workload) == cliff
    assert study_reuse(workload).facts[0]["lru_hits_nothing_up_to"] >= cliff
    hits = lru_hits(reuse_distances(workload), layers * 6)
    assert hits[cliff] == 0
    assert hits[cliff + top_k] > 0


def test_belady_slots_cover_the_range_and_the_cliff() -> None:
    workload = stream(random_routing(200, num_experts=32), 1)
    slots = belady_slots(workload)
    assert (slots[0], slots[-1]) == (2, 96)
    assert cliff_of(workload) in slots
    assert slots == sorted(set(slots))


def test_the_work_is_told_in_full() -> None:
    told: list[int] = []
    study_reuse(stream(random_routing(50), 1), told.append)
    assert sum(told) == BELADY_POINTS + 1


def test_nothing_used_twice() -> None:
    study = study_reuse(accesses_of([0, 1, 2]))
    assert study.facts[0]["lru_hits_nothing_up_to"] is None
    assert study.facts[0]["median_distance"] is None
    assert study.curve["lru_miss_ratio"].tolist() == [1, 1, 1]


def test_joined_studies() -> None:
    one, two = (study_reuse(stream(random_routing(50), batch)) for batch in (1, 2))
    both = joined([one, two])
    assert [fact["batch"] for fact in both.facts] == [1, 2]
    assert len(both.curve) == len(one.curve) + len(two.curve)
    assert joined([]).curve.empty


@pytest.mark.parametrize("phase", ["encode", "decode"])
def test_a_long_trace_is_cut_to_its_first_steps(phase: str) -> None:
    routing = random_routing(300, phase=phase, top_k=1)
    whole, cut = stream(routing, 2), stream(routing, 2, most=300)
    assert 0 < cut.num_steps < whole.num_steps
    assert cut.keys.tolist() == whole.keys[: len(cut.keys)].tolist()
    assert 150 <= len(cut.rows) * 3 <= 450
    assert stream(routing, 2, most=1).num_steps == 1
