"""Miss rules: by hand, equal to others where they must be, and what holds for all of them."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from decide_cases import (
    RATES,
    RULES,
    Case,
    certain,
    cpu_cases,
    decisions,
    loads_of,
    policy_of,
    predictions_of,
    uses_of,
    workload_of,
)
from examples import examples, for_each
from hypothesis import given
from hypothesis import strategies as st
from test_properties import Replay, assert_equal, demand_at, others, past, proposed_at

from specmoe.errors import InputError
from specmoe.sim.decide.director import decide
from specmoe.sim.decide.evictions import EVICTIONS
from specmoe.sim.decide.miss import COMPUTE, COMPUTE_AND_LOAD, EVERY, LOAD, Misses
from specmoe.sim.decide.misses import MISSES, faster_below, filled, freetoken_table, law_table, make_miss
from specmoe.sim.decide.placement import Model, placed
from specmoe.sim.decide.policy import Prefetch, policy, with_rates
from specmoe.sim.decide.table import CPU, DecisionTable


def choices(miss: str, of: list[int], hits: list[int] | None = None, **parameters: Any) -> list[int]:
    """What a rule gives to misses with these tokens, whose keys rise."""
    rule = make_miss(miss, parameters, 8)
    assert rule is not None
    return rule.choose(Misses(list(range(len(of))), of, hits or []))


def on_cpu(table: DecisionTable) -> list[int]:
    """Keys of the uses on the CPU."""
    keys: list[int] = table.uses.key[table.uses.where == CPU].tolist()
    return keys


def test_all_misses_on_the_cpu_and_nothing_is_loaded() -> None:
    table = decisions([[[0, 1]], [[1, 2, 2]]], 2, miss="cpu")
    assert on_cpu(table) == [0, 1, 1, 2]
    assert (table.cpu_uses, table.cpu_tokens, len(table.loads.key)) == (4, 5, 0)
    assert uses_of(table)[3] == (1, 2, 2, -1, -1, False, 0)


def test_misses_on_the_cpu_are_loaded_for_later_events() -> None:
    table = decisions([[[0]], [[0, 1]], [[1, 2]], [[2]]], 2, miss="cpu-and-load")
    assert uses_of(table) == [
        (0, 0, 1, -1, -1, False, 0),
        (1, 1, 1, -1, -1, False, 0),
        (1, 0, 1, 0, 0, True, 0),
        (2, 2, 1, -1, -1, False, 0),
        (2, 1, 1, 1, 1, True, 0),
        (3, 2, 1, 0, 2, True, 0),
    ]
    assert loads_of(table) == [
        (0, 0, 0, -1, False, True, 0),
        (1, 1, 1, -1, False, True, 0),
        (2, 2, 0, 0, False, True, 0),
    ]
    assert table.loads.later.all() and table.later_useful == 3 and not table.prefetch_loads


def test_a_load_for_later_evicts_no_expert_of_its_event() -> None:
    table = decisions([[[0]], [[0, 1]]], 1, miss="cpu-and-load")
    assert [row[1] for row in loads_of(table)] == [0]
    assert on_cpu(table) == [0, 1]


def test_experts_of_few_tokens_are_computed_on_the_cpu() -> None:
    assert choices("cpu-below:2", [1, 2, 3, 1]) == [COMPUTE, LOAD, LOAD, COMPUTE]
    assert choices("cpu-below", [9, 10]) == [COMPUTE, LOAD]
    assert choices("cpu-below", [9, 10], tokens=11) == [COMPUTE, COMPUTE]


def test_a_split_loads_the_misses_with_the_most_tokens_and_the_lowest_keys() -> None:
    assert choices("split", [1, 3, 2, 3], table="0/1/1/2") == [COMPUTE, LOAD, COMPUTE, LOAD]
    assert choices("split", [2, 2, 2], table=[0, 1, 1]) == [LOAD, COMPUTE, COMPUTE]
    assert choices("split", [1] * 4, table="0/1").count(LOAD) == 2  # half, as of two


def test_an_expert_is_loaded_for_later_at_its_nth_miss() -> None:
    table = decisions([[[0]], [[1]], [[0]], [[0]], [[1]]], 1, miss="admit-after:2")
    assert on_cpu(table) == [0, 1, 0, 1]
    assert [(row[0], row[1]) for row in loads_of(table)] == [(2, 0), (4, 1)]
    assert [row[5] for row in uses_of(table)] == [False, False, False, True, False]


def test_the_count_of_an_expert_begins_anew_when_it_is_loaded() -> None:
    rule = make_miss("admit-after:2", {}, 8)
    assert rule is not None
    found = [rule.choose(Misses([5], [1], []))[0] for _ in range(4)]
    assert found == [COMPUTE, COMPUTE_AND_LOAD, COMPUTE, COMPUTE_AND_LOAD]


def test_the_cpu_is_faster_than_a_copy_below_some_tokens() -> None:
    assert faster_below(copy_ns=100, cpu_ns=100, cpu_token_ns=0) == 0
    assert faster_below(copy_ns=100, cpu_ns=40, cpu_token_ns=0) == EVERY
    assert faster_below(copy_ns=100, cpu_ns=40, cpu_token_ns=25) == 4  # four tokens take 100
    assert faster_below(copy_ns=101, cpu_ns=40, cpu_token_ns=25) == 5
    assert choices("cpu-if-faster", [3, 4], copy_ns=100, cpu_ns=40, cpu_token_ns=25) == [COMPUTE, LOAD]


def test_the_table_of_the_law_by_hand() -> None:
    """An expert takes 100 over the link and 50 on the CPU; both at once take 40 for each."""
    assert law_table(4, 100, 50, 40, copy_wait_ns=10, handoff_ns=5) == [0, 0, 1, 1]
    # n = 3: F = 0 takes max(10, 155, 120); F = 1 max(110, 105, 120) = 120; n = 4: F = 1 takes 160, F = 2 210


def test_the_table_of_freetoken_by_hand() -> None:
    """The CPU is three times as fast as the link, whose share of both is 1/4.

    Of 3 misses 0 loads take max(0, 3/4) and 1 load max(3/4, 2/4): as long, so 0. Of 4, 1 takes 3/4 and 0 take 1.
    """
    assert freetoken_table(5, copy_ns=300, cpu_ns=100, ahead=2) == [0, 0, 0, 1, 1]
    assert freetoken_table(3, copy_ns=200, cpu_ns=100, ahead=2) == [1, 2, 3]  # not more than twice


@examples(100)
@given(most=st.integers(1, 12), times=st.tuples(*[st.integers(1, 300)] * 5))
def test_no_other_number_of_loads_is_faster_by_the_law(most: int, times: tuple[int, ...]) -> None:
    copy, cpu, both, wait, handoff = times
    for n, found in enumerate(law_table(most, copy, cpu, both, wait, handoff), 1):
        law = [max(f * copy + wait, handoff + (n - f) * cpu, n * both) for f in range(n + 1)]
        assert law[found] == min(law) and law.index(min(law)) == found


def test_gpu_and_cpu_take_misses_from_both_ends() -> None:
    times = {"copy_ns": 100, "gpu_ns": 10, "cpu_ns": 60}
    assert choices("greedy", [1, 5, 2], **times) == [COMPUTE, LOAD, COMPUTE]
    # the CPU ends key 0 at 60 < 110 and would end key 2 at 120: the GPU takes key 1 by 110; the CPU key 2 at 120 < 210
    assert choices("greedy", [1], **times) == [COMPUTE]
    assert choices("greedy", [9], cpu_token_ns=20, **times) == [LOAD]  # 180 on the CPU
    assert choices("greedy", [1], hits=[1] * 8, **{**times, "cpu_ns": 105}) == [COMPUTE]  # the copy ends at 110
    assert choices("greedy", [1], hits=[1] * 8, **{**times, "cpu_ns": 111}) == [LOAD]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"miss": "cpu-below:0"}, {"miss": "load"}),
        ({"miss": f"cpu-below:{EVERY}"}, {"miss": "cpu"}),
        ({"miss": "split", "miss_parameters": {"table": "1/2/3/4/5"}}, {"miss": "load"}),
        ({"miss": "split", "miss_parameters": {"table": "0"}}, {"miss": "cpu"}),
        ({"miss": "admit-after:1"}, {"miss": "cpu-and-load"}),
        ({"miss": "freetoken", "miss_parameters": {"copy_ns": 2, "cpu_ns": 1}}, {"miss": "load"}),
        ({"miss": "greedy", "miss_parameters": {"copy_ns": 1, "gpu_ns": 1, "cpu_ns": 1e9}}, {"miss": "load"}),
        ({"miss": "greedy", "miss_parameters": {"copy_ns": 1e9, "gpu_ns": 1, "cpu_ns": 1}}, {"miss": "cpu"}),
        ({"miss": "cpu-if-faster", "miss_parameters": {"copy_ns": 1, "cpu_ns": 2}}, {"miss": "load"}),
    ],
    ids=lambda fields: str(fields["miss"]),
)
@examples(30)
@given(case=cpu_cases())
def test_rules_that_must_agree(one: dict[str, Any], other: dict[str, Any], case: Case) -> None:
    plain = {**case.fields, "miss_parameters": {}}
    if case.fields["placement"].startswith("gpu-"):  # which leaves a slot to rules that load
        plain["placement"] = ""
    assert_same(*(dataclasses.replace(case, fields={**plain, **fields}).decide() for fields in (one, other)))


@examples(60)
@given(case=cpu_cases())
def test_no_layer_in_ram_is_no_placement_and_all_layers_is_every_use_on_the_cpu(case: Case) -> None:
    free = {"sharing": "shared", "miss": "load", "miss_parameters": {}}
    everything = dataclasses.replace(case, fields={**case.fields, **free, "placement": "cpu-all"}).decide()
    assert everything.uses.where.all() and not len(everything.loads.key)
    layers = len(case.demand[0])
    for name in ("cpu-first", "cpu-last"):
        for number in (layers, layers + 7):
            fields = {**case.fields, **free, "placement": f"{name}:{number}"}
            assert_same(dataclasses.replace(case, fields=fields).decide(), everything)
    roomy = dataclasses.replace(case, slots=layers * case.experts, fields={**case.fields, **free})
    none = roomy.decide(placement="cpu-first:0")
    assert none.hits == len(none.uses.key) and not len(none.loads.key)


def assert_same(one: DecisionTable, other: DecisionTable) -> None:
    for column, same in zip((*one.uses, *one.loads), (*other.uses, *other.loads), strict=True):
        assert column.tolist() == same.tolist()


@examples(60)
@given(case=cpu_cases())
@for_each(EVICTIONS)
def test_a_machine_can_do_what_is_decided(eviction: str, case: Case) -> None:
    table = case.decide(eviction=eviction)
    uses, loads, fixed = table.uses, table.loads, fixed_of(case, table.slots)
    replay = Replay(case, table)
    replay.content |= {slot: (key, -1) for slot, key in enumerate(fixed)}
    for event in range(table.num_steps * table.num_layers):
        demand, mine = demand_at(case, event), uses.event == event
        assert dict(zip(uses.key[mine].tolist(), uses.tokens[mine].tolist(), strict=True)) == demand
        assert set(uses.key[mine & uses.hit].tolist()) == demand.keys() & replay.resident
        for wave in range(uses.wave[mine].max(initial=-1) + 1):
            in_slots = mine & (uses.wave == wave) & (uses.where != CPU)
            members = set(uses.key[in_slots].tolist())
            for row in np.flatnonzero((loads.event == event) & loads.demand & (loads.wave == wave)):
                assert loads.key[row] in members
                replay.load(row, needed=members | set(fixed))
            for row in np.flatnonzero(in_slots):
                replay.use(row)
        computed = set(uses.key[mine & (uses.where == CPU)].tolist())
        replay.backlog, backlog = 1 << 30, replay.backlog
        for row in np.flatnonzero((loads.event == event) & loads.later):
            assert loads.key[row] in computed
            replay.load(row, needed=demand.keys() | set(fixed))
        replay.backlog, proposed = backlog, proposed_at(case, event)
        for row in np.flatnonzero((loads.event == event) & loads.prefetch):
            assert loads.key[row] in proposed
            replay.load(row, needed=demand.keys() | proposed | set(fixed))
        replay.end(event, proposed | set(fixed))


def fixed_of(case: Case, slots: int) -> list[int]:
    """Keys that hold slots throughout."""
    fields, model = case.fields, Model(len(case.demand[0]), case.experts)
    pools = model.layers if fields["sharing"] == "per-layer" else 1
    loads = fields["miss"] == "load" or MISSES[fields["miss"].split(":")[0]].loads
    return placed(fields["placement"], model, slots, pools if loads else 0, lambda: None).resident


@examples(40)
@given(case=cpu_cases())
@for_each(EVICTIONS)
def test_counts_agree(eviction: str, case: Case) -> None:
    table = case.decide(eviction=eviction)
    uses, cpu = table.uses, table.uses.where == CPU
    assert table.hits + table.demand_loads + table.cpu_uses == len(uses.key) == len(case.workload.keys)
    assert table.prefetch_loads + table.later_loads + table.demand_loads == len(table.loads.key)
    assert (uses.slot[cpu] == -1).all() and (uses.load[cpu] == -1).all()
    assert not uses.hit[cpu].any() and not uses.wave[cpu].any()
    assert (uses.slot[~cpu] >= 0).all()
    assert np.all(np.diff(uses.event) >= 0)
    assert np.all(np.diff(table.loads.event) >= 0)


@examples(100)
@given(case=cpu_cases())
def test_what_never_loads(case: Case) -> None:
    """No rule of the CPU alone loads on demand; no expert of a layer in RAM is ever loaded; CPU uses take one wave."""
    table = case.decide(miss="cpu", miss_parameters={})
    assert not table.demand_loads and not table.later_loads and not table.uses.wave.any()
    model = Model(len(case.demand[0]), case.experts)
    for name in ("cpu-first", "cpu-last") if case.fields["sharing"] != "all-resident" else ():
        in_ram = placed(name, model, case.slots, 0, lambda: None).in_ram
        keys = case.decide(placement=name).loads.key
        assert not in_ram & set((keys // case.experts).tolist())


@examples(50)
@given(case=cpu_cases(), step=st.integers(0, 8), shift=st.integers(1, 4))
@for_each(name for name, kind in EVICTIONS.items() if not kind.peeks)
def test_the_future_does_not_change_the_past(eviction: str, case: Case, step: int, shift: int) -> None:
    case = dataclasses.replace(case, fields={**case.fields, "predictor": "none"})
    change = step * len(case.demand[0])
    other = dataclasses.replace(
        case,
        demand=case.demand[:step] + [[others(case, wanted, shift) for wanted in later] for later in case.demand[step:]],
        guesses={event: guess for event, guess in case.guesses.items() if event < change},
    )
    assert past(case.decide(eviction=eviction), change) == past(other.decide(eviction=eviction), change)


@examples(20)
@given(case=cpu_cases())
@for_each(EVICTIONS)
def test_equal_input_gives_equal_decisions(eviction: str, case: Case) -> None:
    assert_equal(case.decide(eviction=eviction), case.decide(eviction=eviction))


def test_a_demand_larger_than_the_slots_needs_fewer_waves_with_the_cpu() -> None:
    demand = [[[0, 1, 2, 3, 3, 3]]]
    assert decisions(demand, 1).uses.wave.max() == 3
    assert decisions(demand, 1, miss="split", miss_parameters={"table": "0/0/0/2"}).uses.wave.max() == 1
    assert decisions(demand, 1, miss="cpu").uses.wave.max() == 0


def test_a_prefetched_expert_is_a_hit_where_misses_go_to_the_cpu() -> None:
    table = decisions([[[0], [1]]], 1, {0: certain(1)}, miss="cpu", prefetch=Prefetch())
    assert on_cpu(table) == [0]
    assert (table.hits, table.prefetch_loads, table.prefetch_useful) == (1, 1, 1)


def test_no_expert_of_a_layer_in_ram_is_prefetched() -> None:
    demand, guesses = [[[0], [1]]], {0: certain(1)}
    workload = workload_of(demand)
    of = policy_of(placement="cpu-last:1", prefetch=Prefetch())
    table = decide(workload, predictions_of(workload, guesses), of, 8)
    assert on_cpu(table) == [5] and not len(table.loads.key)


def test_rates_fill_what_a_policy_leaves_open() -> None:
    assert filled("freetoken", {}, RATES) == {"copy_ns": 100, "cpu_ns": 40}
    assert filled("freetoken", {"cpu_ns": 7, "ahead": 1}, RATES) == {"copy_ns": 100, "cpu_ns": 7, "ahead": 1}
    assert filled("load", {}, RATES) == filled("cpu-below:3", {}, RATES) == {}
    assert with_rates(policy("hybrimoe"), RATES).miss_parameters["gpu_ns"] == 3
    assert with_rates(policy("on-demand-lru"), RATES) == policy("on-demand-lru")


@pytest.mark.parametrize("rule", [rule["miss"] for rule in RULES if filled(rule["miss"], {}, RATES)])
def test_a_rule_without_its_rates_is_an_error_that_names_them(rule: str) -> None:
    with pytest.raises(InputError, match=f"miss {rule}: miss.copy_ns, miss.cpu_ns.* expected: ns of one expert"):
        make_miss(rule, {}, 4)


@pytest.mark.parametrize(
    ("miss", "parameters", "message"),
    [
        ("cpv", {}, "miss 'cpv': did you mean 'cpu'"),
        ("cpu:3", {}, "cpu takes no number: cpu expected"),
        ("cpu-below:x", {}, "a whole number from 0"),
        ("cpu-below:-1", {}, "a whole number from 0"),
        ("cpu", {"tokens": 3}, "no parameter 'tokens': it has none"),
        ("cpu-below", {"token": 3}, "did you mean 'tokens'"),
        ("load", {"tokens": 3}, "load has no number and no parameter"),
        ("split", {}, "miss.table expected"),
        ("split", {"table": "0/3"}, "miss.table=0/3"),
        ("split", {"table": "0/x"}, "miss.table=0/x"),
        ("freetoken", {"copy_ns": 0, "cpu_ns": 1}, "miss.copy_ns expected"),
    ],
)
def test_wrong_rules_are_named(miss: str, parameters: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        make_miss(miss, parameters, 4)
