"""What holds for every eviction policy, way of sharing slots, prefetch rule and demand."""

from __future__ import annotations

import dataclasses
from collections import Counter
from typing import Any

import numpy as np
from decide_cases import Case, cases, loads_of, uses_of
from examples import examples, for_each
from hypothesis import given
from hypothesis import strategies as st

from specmoe.sim.decide.evictions import EVICTIONS
from specmoe.sim.decide.table import DecisionTable


class Replay:
    """Executes a table row by row and refuses what no machine could do."""

    def __init__(self, case: Case, table: DecisionTable) -> None:
        self.table = table
        self.keeps = case.fields["keep"] or case.fields["sharing"] == "all-resident"
        self.backlog = case.fields["prefetch"].backlog if case.fields["prefetch"] else 0
        self.content: dict[int, tuple[int, int]] = {}  # by slot: key and row of its load
        self.waiting: set[int] = set()  # keys prefetched and not used
        if case.fields["sharing"] == "all-resident":
            self.content = {key: (key, -1) for key in range(table.slots)}

    @property
    def resident(self) -> set[int]:
        return {key for key, _ in self.content.values()}

    def load(self, row: int, needed: set[int]) -> None:
        """A load into a slot that is free or holds what is said to be evicted, and is not needed."""
        _, key, slot, evicted, demanded, _, _ = loads_of(self.table)[row]
        assert 0 <= slot < self.table.slots
        assert key not in self.resident
        assert self.content.get(slot, (-1, -1))[0] == evicted
        assert evicted not in needed
        self.waiting.discard(evicted)
        if not demanded:
            assert len(self.waiting - {key}) < self.backlog
            self.waiting.add(key)
        self.content[slot] = (key, row)

    def use(self, row: int) -> None:
        """A use of what is where it is said to be."""
        _, key, _, slot, load, _, _ = uses_of(self.table)[row]
        assert self.content[slot] == (key, load)
        self.waiting.discard(key)

    def end(self, event: int, proposed: set[int]) -> None:
        """What a policy without a cache gives up."""
        layer = event % self.table.num_layers
        for slot, (key, _) in list(self.content.items()):
            if not self.keeps and key // self.table.num_experts == layer and key not in proposed:
                del self.content[slot]
                self.waiting.discard(key)


def proposed_at(case: Case, event: int) -> set[int]:
    """Every key that the rule may prefetch at an event, by another road than the director's."""
    rule, workload = case.fields["prefetch"], case.workload
    if rule is None:
        return set()
    if case.fields["predictor"] == "oracle":
        later = workload.keys[workload.offsets[event + 1] :].tolist()
        return set(list(dict.fromkeys(later))[: rule.limit])
    layers = workload.meta.num_layers
    return {
        (event + depth) % layers * case.experts + expert
        for depth, candidates in enumerate(case.guesses.get(event, ())[: rule.depth], start=1)
        for expert, sure in candidates[: rule.limit]
        if sure >= rule.threshold and event + depth < workload.num_events
    }


def demand_at(case: Case, event: int) -> Counter[int]:
    layers = len(case.demand[0])
    layer = event % layers
    return Counter(layer * case.experts + expert for expert in case.demand[event // layers][layer])


@examples(60)
@given(case=cases())
@for_each(EVICTIONS)
def test_a_machine_can_do_what_is_decided_counts_agree_and_all_comes_again(eviction: str, case: Case) -> None:
    table = case.decide(eviction=eviction)
    check_on_a_machine(case, table)
    check_counts(case, table)
    assert_equal(table, case.decide(eviction=eviction))


def check_on_a_machine(case: Case, table: DecisionTable) -> None:
    uses, loads = table.uses, table.loads
    replay = Replay(case, table)
    for event in range(table.num_steps * table.num_layers):
        demand, mine = demand_at(case, event), uses.event == event
        assert dict(zip(uses.key[mine].tolist(), uses.tokens[mine].tolist(), strict=True)) == demand
        assert set(uses.key[mine & uses.hit].tolist()) == demand.keys() & replay.resident
        for wave in range(uses.wave[mine].max(initial=-1) + 1):
            members = set(uses.key[mine & (uses.wave == wave)].tolist())
            for row in np.flatnonzero((loads.event == event) & loads.demand & (loads.wave == wave)):
                assert loads.key[row] in members
                replay.load(row, needed=members)
            for row in np.flatnonzero(mine & (uses.wave == wave)):
                replay.use(row)
        proposed = proposed_at(case, event)
        for row in np.flatnonzero((loads.event == event) & ~loads.demand):
            assert loads.key[row] in proposed
            replay.load(row, needed=demand.keys() | proposed)
        replay.end(event, proposed)


def check_counts(case: Case, table: DecisionTable) -> None:
    uses, loads = table.uses, table.loads
    assert len(uses.key) == len(case.workload.keys)
    assert table.hits + table.demand_loads == len(uses.key)
    assert table.prefetch_useful <= table.prefetch_loads
    assert loads.used[loads.demand].all()
    assert set(np.flatnonzero(loads.used)) == set(uses.load[uses.load >= 0])
    assert np.all(np.diff(uses.event) >= 0)
    assert np.all(np.diff(loads.event) >= 0)
    if case.fields["prefetch"] is None:
        assert table.prefetch_loads == 0
    if case.fields["sharing"] == "all-resident":
        assert len(loads.key) == 0


def assert_equal(one: DecisionTable, other: DecisionTable) -> None:
    assert uses_of(one) == uses_of(other)
    assert loads_of(one) == loads_of(other)


def past(table: DecisionTable, event: int) -> tuple[list[Any], list[Any]]:
    """What was decided before an event; whether a load will be used is not."""
    return (
        [row for row in uses_of(table) if row[0] < event],
        [(*row[:5], row[6]) for row in loads_of(table) if row[0] < event],
    )


@examples(50)
@given(case=cases(), step=st.integers(0, 8), shift=st.integers(1, 4))
@for_each(name for name, kind in EVICTIONS.items() if not kind.peeks)
def test_the_future_does_not_change_the_past(eviction: str, case: Case, step: int, shift: int) -> None:
    """From a step on, demand and guesses are of other experts."""
    case = dataclasses.replace(case, fields={**case.fields, "predictor": "none"})
    change = step * len(case.demand[0])
    other = dataclasses.replace(
        case,
        demand=case.demand[:step] + [[others(case, wanted, shift) for wanted in later] for later in case.demand[step:]],
        guesses={event: guess for event, guess in case.guesses.items() if event < change},
    )
    assert past(case.decide(eviction=eviction), change) == past(other.decide(eviction=eviction), change)


def others(case: Case, wanted: list[int], shift: int) -> list[int]:
    return sorted((expert + shift) % case.experts for expert in wanted)


@examples(60)
@given(case=cases(prefetch=False), sharing=st.sampled_from(["shared", "per-layer"]), keep=st.booleans())
@for_each(name for name in EVICTIONS if name != "belady")
def test_belady_misses_least_without_prefetching(eviction: str, case: Case, sharing: str, keep: bool) -> None:
    demand = [[wanted[:1] for wanted in step] for step in case.demand]
    layers = len(demand[0])
    alone = dataclasses.replace(case, demand=demand, slots=max(case.slots, layers))
    best = alone.decide(eviction="belady", sharing="shared", keep=True)
    assert best.demand_loads <= alone.decide(eviction=eviction, sharing=sharing, keep=keep).demand_loads


@examples(30)
@given(case=cases())
@for_each(EVICTIONS)
def test_a_prefetch_rule_without_predictions_does_nothing(eviction: str, case: Case) -> None:
    unguided = dataclasses.replace(case, guesses={}, fields={**case.fields, "predictor": "none"})
    assert_equal(unguided.decide(eviction=eviction), unguided.decide(eviction=eviction, prefetch=None))
