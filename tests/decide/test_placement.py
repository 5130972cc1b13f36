"""Placements: which experts hold slots throughout, and which layers stay in RAM."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from decide_cases import DEMAND, HIT, MISS, USED, decisions, loads_of, policy_of, uses_of, workload_of

from specmoe.errors import InputError
from specmoe.sim.decide.director import decide
from specmoe.sim.decide.eviction import Context
from specmoe.sim.decide.placement import Model, layers_in_ram, placed
from specmoe.sim.decide.policy import POLICIES, policy
from specmoe.sim.decide.program import program_of
from specmoe.sim.decide.table import DecisionTable
from specmoe.sim.speculate.predictor import no_predictions

MODEL = Model(layers=3, experts=4)
POPULAR = np.array([5, 0, 1, 2, 9, 3, 0, 0, 5, 7, 0, 1])


def resident(text: str, slots: int = 12, reserve: int = 0) -> list[int]:
    return placed(text, MODEL, slots, reserve, lambda: POPULAR).resident


def test_without_a_placement_no_expert_holds_a_slot() -> None:
    assert placed("", MODEL, 5, 1, lambda: None) == ([], frozenset(), ())


@pytest.mark.parametrize(
    ("text", "in_ram", "keys"),
    [
        ("cpu-all", {0, 1, 2}, []),
        ("cpu-first:1", {0}, list(range(4, 12))),
        ("cpu-last:1", {2}, list(range(8))),
        ("cpu-first:0", set(), list(range(12))),
        ("cpu-last:3", {0, 1, 2}, []),
        ("cpu-first:99", {0, 1, 2}, []),
    ],
)
def test_layers_in_ram(text: str, in_ram: set[int], keys: list[int]) -> None:
    assert placed(text, MODEL, 12, 0, lambda: None) == (keys, frozenset(in_ram), ())


@pytest.mark.parametrize(("slots", "layers"), [(1, 3), (3, 3), (4, 2), (7, 2), (8, 1), (11, 1), (12, 0), (99, 0)])
def test_as_few_layers_as_let_the_others_fit_stay_in_ram(slots: int, layers: int) -> None:
    for name in ("cpu-first", "cpu-last"):
        assert layers_in_ram(name, MODEL, slots) == layers
        found = placed(name, MODEL, slots, 0, lambda: None)
        assert len(found.in_ram) == layers and len(found.resident) == 4 * (3 - layers) <= slots


def test_experts_of_each_layer_alike() -> None:
    assert resident("gpu-uniform:0.5") == [0, 4, 8, 1, 5, 9]
    assert resident("gpu-uniform", slots=5) == [0, 4, 8, 1, 5]
    assert resident("gpu-uniform", slots=5, reserve=2) == [0, 4, 8]
    assert sorted(resident("gpu-uniform", slots=50)) == list(range(12))


def test_the_most_popular_experts_and_of_equals_the_lowest_keys() -> None:
    assert resident("gpu-popular", slots=4) == [4, 9, 0, 8]
    assert resident("gpu-popular:0.25") == [4, 9, 0]
    assert placed("gpu-popular", MODEL, 2, 0, lambda: None).resident == [0, 1]  # nothing is known


@pytest.mark.parametrize(
    ("text", "slots", "message"),
    [
        ("cpu-frist", 12, "did you mean 'cpu-first'"),
        ("cpu-all:3", 12, "placement 'cpu-all:3'"),
        ("popular-first:3", 12, "placement 'popular-first:3'"),
        ("cpu-first:x", 12, "a whole number from 0"),
        ("cpu-first:-1", 12, "a whole number from 0"),
        ("cpu-first:1", 7, "the experts of 2 layers need 8 slots: there are 7: 2 or more layers in RAM expected"),
        ("gpu-uniform:2", 12, "a share of all experts, 0 to 1"),
        ("gpu-uniform:x", 12, "a share of all experts, 0 to 1"),
        ("gpu-popular:0.5", 5, "6 experts need as many slots: there are 5: a share of at most 0.416 expected"),
    ],
)
def test_wrong_placements_are_named(text: str, slots: int, message: str) -> None:
    with pytest.raises(InputError, match=message):
        placed(text, MODEL, slots, 0, lambda: None)


def preloaded(slots: int, demand: list[list[list[int]]], popularity: list[int], **fields: Any) -> DecisionTable:
    workload = workload_of(demand)
    context = Context(slots, workload, lambda: np.array(popularity))
    chosen = policy_of(eviction="static", placement="popular-first", **fields)
    return decide(workload, no_predictions(workload.num_events), chosen, slots, context)


def test_the_most_popular_experts_are_there_at_first_and_may_leave() -> None:
    """Keys 3 and 1 fill slots 0 and 1 before the first step; key 0 takes that of 1, then 1 that of 0."""
    table = preloaded(2, [[[3]], [[0]], [[1]], [[3]]], [1, 2, 0, 9])
    assert uses_of(table) == [
        (0, 3, 1, 0, -1, HIT, 0),
        (1, 0, 1, 1, 0, MISS, 0),
        (2, 1, 1, 1, 1, MISS, 0),
        (3, 3, 1, 0, -1, HIT, 0),
    ]
    assert loads_of(table) == [(1, 0, 1, 1, DEMAND, USED, 0), (2, 1, 1, 0, DEMAND, USED, 0)]


def test_each_pool_of_slots_holds_the_most_popular_of_its_layers() -> None:
    table = preloaded(2, [[[0], [2]], [[1], [2]]], [5, 9, 0, 0, 1, 2, 3, 0], sharing="per-layer")
    assert [(row[1], row[4], row[5]) for row in uses_of(table)] == [
        (0, 0, MISS),
        (6, -1, HIT),
        (1, 1, MISS),
        (6, -1, HIT),
    ]


def test_without_a_train_split_no_expert_is_there_at_first() -> None:
    assert placed("popular-first", MODEL, 12, 1, lambda: None) == ([], frozenset(), ())
    assert placed("popular-first", MODEL, 12, 1, lambda: POPULAR).at_first[:4] == (4, 9, 0, 8)


def test_a_load_waits_for_the_last_use_of_what_was_there_at_first() -> None:
    program = program_of(preloaded(2, [[[3]], [[1]], [[0]]], [0, 2, 0, 9]))
    assert (program.previous.tolist(), program.reader.tolist()) == ([-1], [1])


def test_every_expert_resident_leaves_nothing_to_place() -> None:
    with pytest.raises(InputError, match="none expected"):
        decisions([[[0]]], 4, sharing="all-resident", placement="cpu-all")


def test_copies_beside_a_placement_share_its_last_slot_and_are_given_up() -> None:
    """Fiddler by hand: keys 0 and 1 stay; an expert of two tokens is copied, and copied again the next time."""
    fields = {"placement": "gpu-popular", "miss": "cpu-below:2", "keep": False}
    table = decisions([[[0, 2, 2, 3]], [[1, 2, 2, 3, 3]]], 3, **fields)
    assert table.uses.where.tolist() == [1, 0, 0, 0, 0, 0]
    assert table.uses.key.tolist() == [3, 0, 2, 1, 2, 3]
    assert table.uses.load.tolist() == [-1, -1, 0, -1, 1, 2]
    assert (table.loads.slot == 2).all() and table.loads.evicted.tolist() == [-1, -1, 2]
    assert table.uses.wave.tolist() == [0, 0, 0, 0, 0, 1]


def test_a_number_behind_a_name_is_that_of_its_placement_or_rule() -> None:
    assert policy("n-cpu-moe:20").placement == "cpu-first:20"
    assert policy("llama-fit:3").placement == "cpu-last:3"
    assert policy("ktransformers:0.3").placement == "gpu-uniform:0.3"
    assert policy("fiddler:4").miss == "cpu-below:4"
    assert policy("n-cpu-moe:20").name == "n-cpu-moe:20"
    assert policy("n-cpu-moe", {"placement": "cpu-first:4"}).placement == "cpu-first:4"
    assert POLICIES["n-cpu-moe"].placement == "cpu-first"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("on-demand-lru:3", "on-demand-lru takes no number: on-demand-lru expected"),
        ("n-cpu-mo:3", "did you mean 'n-cpu-moe'"),
    ],
)
def test_a_number_behind_other_names_is_an_error(name: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        policy(name)


def test_each_pool_needs_a_slot_whatever_it_holds_at_first() -> None:
    for placement in ("", "popular-first"):
        with pytest.raises(InputError, match="1 slots: at least 2 expected, one for each pool of slots"):
            decisions([[[0], [1]]], 1, placement=placement, sharing="per-layer")
    assert decisions([[[0], [1]]], 1, placement="cpu-all", sharing="per-layer").cpu_uses == 2
