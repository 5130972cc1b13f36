"""The director on traces worked out on paper, whole tables asserted. Four experts a layer: key = 4 * layer + expert."""

from __future__ import annotations

import pytest
from decide_cases import (
    DEMAND,
    HIT,
    MISS,
    PREFETCH,
    USED,
    WASTED,
    certain,
    decisions,
    loads_of,
    policy_of,
    predictions_of,
    uses_of,
    workload_of,
)

from specmoe.errors import InputError, SpecmoeError
from specmoe.sim.decide.director import decide
from specmoe.sim.decide.evictions import EVICTIONS
from specmoe.sim.decide.evictions.lru import Lru
from specmoe.sim.decide.policy import Prefetch
from specmoe.sim.speculate.predictor import no_predictions

# Demand only


def test_two_layers_share_two_slots() -> None:
    table = decisions([[[0], [1]], [[0], [2]], [[0], [1]]], slots=2)
    assert uses_of(table) == [
        # event, key, tokens, slot, load, hit, wave
        (0, 0, 1, 0, 0, MISS, 0),
        (1, 5, 1, 1, 1, MISS, 0),
        (2, 0, 1, 0, 0, HIT, 0),
        (3, 6, 1, 1, 2, MISS, 0),  # 5 is older than 0
        (4, 0, 1, 0, 0, HIT, 0),
        (5, 5, 1, 1, 3, MISS, 0),
    ]
    assert loads_of(table) == [
        # event, key, slot, evicted, demand, used, wave
        (0, 0, 0, -1, DEMAND, USED, 0),
        (1, 5, 1, -1, DEMAND, USED, 0),
        (3, 6, 1, 5, DEMAND, USED, 0),
        (5, 5, 1, 6, DEMAND, USED, 0),
    ]
    assert (table.num_steps, table.num_layers, table.num_experts, table.slots) == (3, 2, 4, 2)
    assert (table.hits, table.demand_loads, table.prefetch_loads, table.prefetch_useful) == (2, 4, 0, 0)


def test_tokens_of_a_batch_share_their_experts() -> None:
    table = decisions([[[3, 1, 3]], [[1, 1]], [[]], [[1, 3]]], slots=2)
    assert uses_of(table) == [
        (0, 1, 1, 0, 0, MISS, 0),
        (0, 3, 2, 1, 1, MISS, 0),
        (1, 1, 2, 0, 0, HIT, 0),
        (3, 1, 1, 0, 0, HIT, 0),  # event 2 dropped its tokens
        (3, 3, 1, 1, 1, HIT, 0),
    ]
    assert table.num_steps == 4


def test_no_expert_of_an_event_evicts_another() -> None:
    table = decisions([[[0, 1]], [[0, 2]]], slots=2)
    assert uses_of(table)[2:] == [(1, 0, 1, 0, 0, HIT, 0), (1, 2, 1, 1, 2, MISS, 0)]
    assert loads_of(table)[2] == (1, 2, 1, 1, DEMAND, USED, 0)  # 1 leaves, though 0 is as old and comes first


def test_demand_larger_than_the_slots_is_served_in_waves() -> None:
    table = decisions([[[0, 1, 2]], [[0, 1, 2]]], slots=2)
    assert uses_of(table) == [
        (0, 0, 1, 0, 0, MISS, 0),
        (0, 1, 1, 1, 1, MISS, 0),
        (0, 2, 1, 0, 2, MISS, 1),
        (1, 1, 1, 1, 1, HIT, 0),  # the resident ones first
        (1, 2, 1, 0, 2, HIT, 0),
        (1, 0, 1, 1, 3, MISS, 1),
    ]
    assert loads_of(table) == [
        (0, 0, 0, -1, DEMAND, USED, 0),
        (0, 1, 1, -1, DEMAND, USED, 0),
        (0, 2, 0, 0, DEMAND, USED, 1),
        (1, 0, 1, 1, DEMAND, USED, 1),
    ]


def test_one_slot_serves_anything() -> None:
    table = decisions([[[0, 1, 2, 3]]], slots=1)
    assert uses_of(table) == [(0, key, 1, 0, key, MISS, key) for key in range(4)]
    assert [row[3] for row in loads_of(table)] == [-1, 0, 1, 2]


def test_slots_of_each_layer() -> None:
    table = decisions([[[0], [0]], [[1], [1]], [[0], [0]]], slots=3, sharing="per-layer")
    assert uses_of(table) == [
        (0, 0, 1, 0, 0, MISS, 0),  # slot 0 is layer 0's, slots 1 and 2 are layer 1's
        (1, 4, 1, 1, 1, MISS, 0),
        (2, 1, 1, 0, 2, MISS, 0),
        (3, 5, 1, 2, 3, MISS, 0),
        (4, 0, 1, 0, 4, MISS, 0),
        (5, 4, 1, 1, 1, HIT, 0),
    ]


def test_all_resident() -> None:
    table = decisions([[[0, 3], [1]]], slots=1, sharing="all-resident", keep=False)
    assert uses_of(table) == [(0, 0, 1, 0, -1, HIT, 0), (0, 3, 1, 3, -1, HIT, 0), (1, 5, 1, 5, -1, HIT, 0)]
    assert loads_of(table) == []
    assert table.slots == 8  # what it takes, not what was asked for


# Prefetch


def test_prefetches_useful_and_wasted() -> None:
    guesses = {0: certain(1), 1: certain(3), 2: certain(3), 3: certain(2)}
    table = decisions([[[0], [1]], [[0], [2]]], 3, guesses, prefetch=Prefetch())
    assert uses_of(table) == [
        (0, 0, 1, 0, 0, MISS, 0),
        (1, 5, 1, 1, 1, HIT, 0),
        (2, 0, 1, 0, 0, HIT, 0),
        (3, 6, 1, 2, 4, MISS, 0),
    ]
    assert loads_of(table) == [
        (0, 0, 0, -1, DEMAND, USED, 0),
        (0, 5, 1, -1, PREFETCH, USED, 0),
        (1, 3, 2, -1, PREFETCH, WASTED, 0),
        (2, 7, 1, 5, PREFETCH, WASTED, 0),
        (3, 6, 2, 3, DEMAND, USED, 0),  # the last event predicts for a step that does not come
    ]
    assert (table.prefetch_loads, table.prefetch_useful) == (3, 1)


def test_a_prefetch_never_evicts_what_the_event_needs() -> None:
    table = decisions([[[0], [1]]], 1, {0: certain(1)}, prefetch=Prefetch())
    assert [row[4] for row in loads_of(table)] == [DEMAND, DEMAND]


def test_a_prefetch_never_evicts_another_of_the_same_event() -> None:
    table = decisions([[[0], [1, 2, 3]]], 2, {0: certain(3, 2, 1)}, prefetch=Prefetch(limit=3))
    assert loads_of(table)[:2] == [(0, 0, 0, -1, DEMAND, USED, 0), (0, 7, 1, -1, PREFETCH, USED, 0)]


def test_the_nearest_layer_and_the_best_candidate_come_first() -> None:
    guesses = {0: [[(2, 0.9), (1, 0.5), (3, 0.4)], [(3, 0.8)], [(1, 0.9)]]}
    rule = Prefetch(limit=3, threshold=0.5, depth=2)
    table = decisions([[[0], [], []], [[], [], []]], 9, guesses, depth=3, prefetch=rule)
    assert [row[1] for row in loads_of(table)] == [0, 4 + 2, 4 + 1, 8 + 3]


def test_what_is_resident_is_not_loaded_again() -> None:
    table = decisions([[[0], [1]], [[0], [1]]], 4, {0: certain(1), 1: certain(0), 2: certain(1)}, prefetch=Prefetch())
    assert [row[:2] for row in loads_of(table)] == [(0, 0), (0, 5)]


@pytest.mark.parametrize("sharing", ["shared", "per-layer"])
def test_no_prefetch_while_others_wait(sharing: str) -> None:
    guesses = {0: [[(1, 1.0)], [(2, 1.0)]], 1: [[(3, 1.0)]], 2: [[(1, 1.0)]]}
    table = decisions(
        [[[0], [0]], [[0], [1]]], 8, guesses, depth=2, prefetch=Prefetch(depth=2, backlog=1), sharing=sharing
    )
    prefetched = [row[:2] for row in loads_of(table) if row[4] == PREFETCH]
    assert prefetched == [(0, 5)]  # it waits for event 3, in whichever layer's slots


def test_the_oracle_loads_what_is_needed_next_for_what_is_needed_last() -> None:
    demand = [[[0]], [[1]], [[0]], [[2]], [[1]], [[3]]]
    table = decisions(demand, 3, eviction="belady", predictor="oracle", prefetch=Prefetch(limit=2))
    assert loads_of(table) == [
        (0, 0, 0, -1, DEMAND, USED, 0),
        (0, 1, 1, -1, PREFETCH, USED, 0),
        (1, 2, 2, -1, PREFETCH, USED, 0),  # not at event 0: the next two were 1 and 0
        (3, 3, 0, 0, PREFETCH, USED, 0),
    ]
    assert table.hits == 5


def test_belady_refuses_a_prefetch_that_is_needed_after_what_it_would_replace() -> None:
    demand = [[[0]], [[1]], [[0]], [[1]], [[2]]]
    table = decisions(demand, 2, {1: certain(2), 3: certain(2)}, eviction="belady", prefetch=Prefetch())
    assert loads_of(table)[2:] == [(3, 2, 0, 0, PREFETCH, USED, 0)]


# No cache


def test_a_double_buffer() -> None:
    guesses = {0: certain(1), 1: certain(2), 2: certain(1)}
    table = decisions([[[0], [1]], [[2], [1]]], 2, guesses, prefetch=Prefetch(), keep=False)
    assert uses_of(table) == [
        (0, 0, 1, 0, 0, MISS, 0),
        (1, 5, 1, 1, 1, HIT, 0),
        (2, 2, 1, 0, 2, HIT, 0),
        (3, 5, 1, 1, 3, HIT, 0),  # loaded again, for it was given up
    ]
    assert loads_of(table) == [
        (0, 0, 0, -1, DEMAND, USED, 0),
        (0, 5, 1, -1, PREFETCH, USED, 0),
        (1, 2, 0, -1, PREFETCH, USED, 0),
        (2, 5, 1, -1, PREFETCH, USED, 0),
    ]


def test_without_a_cache_a_wrong_guess_leaves_with_its_layer() -> None:
    table = decisions([[[0], [1]], [[0], [2]]], 8, {0: certain(2)}, prefetch=Prefetch(), keep=False)
    assert uses_of(table) == [
        (0, 0, 1, 0, 0, MISS, 0),
        (1, 5, 1, 0, 2, MISS, 0),
        (2, 0, 1, 0, 3, MISS, 0),
        (3, 6, 1, 0, 4, MISS, 0),  # guessed at event 0, gone after event 1
    ]
    assert loads_of(table)[1] == (0, 6, 1, -1, PREFETCH, WASTED, 0)


def test_without_a_cache_what_the_layer_wants_again_stays() -> None:
    table = decisions([[[0]], [[0]], [[1]], [[0]]], 2, {0: certain(0), 1: certain(0)}, prefetch=Prefetch(), keep=False)
    assert [row[5] for row in uses_of(table)] == [MISS, HIT, MISS, MISS]


def test_without_a_cache_and_predictions_everything_is_loaded() -> None:
    table = decisions([[[0, 1], [1]], [[0, 1], [1]]], 8, keep=False)
    assert table.hits == 0
    assert [row[3] for row in loads_of(table)] == [-1] * 6


# What is refused


@pytest.mark.parametrize(
    ("slots", "sharing", "message"),
    [(0, "shared", "0 slots: at least 1"), (-1, "shared", "-1 slots"), (1, "per-layer", "1 slots: at least 2")],
)
def test_too_few_slots(slots: int, sharing: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        decisions([[[0], [1]]], slots, sharing=sharing)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"eviction": "lruu"}, "eviction 'lruu': did you mean 'lru'\\?"),
        ({"eviction_parameters": {"half_life": 3}}, "eviction lru: no parameter 'half_life': it has none"),
        ({"eviction": "slru", "eviction_parameters": {"x": 3}}, "no parameter 'x': .*'?protected'?"),
        ({"eviction": "slru", "eviction_parameters": {"protected": 1.5}}, "protected 1.5: a share"),
        ({"eviction": "s3fifo", "eviction_parameters": {"small": 0.0}}, "small 0.0: a share"),
        (
            {"eviction": "lfu-decayed", "eviction_parameters": {"half_life": 0.0}},
            "half_life 0.0: at least 1 step",
        ),
    ],
)
def test_policies_that_do_not_exist(fields: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        decisions([[[0]]], 1, **fields)


def test_predictions_of_another_workload() -> None:
    with pytest.raises(InputError, match="predictions of 5 events: 1, as in the workload, expected"):
        decide(workload_of([[[0]]]), no_predictions(5), policy_of(), 1)


@pytest.mark.parametrize("victim", [None, 0, 77])
def test_an_eviction_policy_that_breaks_the_rules_is_named(monkeypatch: pytest.MonkeyPatch, victim: int | None) -> None:
    class Broken(Lru):
        def victim(self, *_: object) -> int | None:
            return victim

    monkeypatch.setitem(EVICTIONS, "broken", Broken)
    with pytest.raises(SpecmoeError, match=f"event 1: eviction broken returned {victim}"):
        decisions([[[0, 1]], [[0, 2]]], 2, eviction="broken")


def test_a_table_of_nothing() -> None:
    workload = workload_of([[[]]])
    table = decide(workload, predictions_of(workload, {}), policy_of(), 1)
    assert (uses_of(table), loads_of(table), table.hits) == ([], [], 0)
