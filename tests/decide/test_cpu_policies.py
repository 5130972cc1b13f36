"""Contract of the named policies that use the CPU, found from their table, on recorded and random routing."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cpu_machine import machine
from decide_cases import RATES

from specmoe.errors import InputError
from specmoe.sim.config import RunConfig
from specmoe.sim.decide.miss import Rates
from specmoe.sim.decide.misses import MISSES, filled, make_miss
from specmoe.sim.decide.placement import Model, placed
from specmoe.sim.decide.policy import POLICIES, policy, with_rates
from specmoe.sim.decide.table import CPU, DecisionTable
from specmoe.sim.run import Scenario, each_run

ON_CPU = [name for name, row in POLICIES.items() if row.uses_cpu]
every_policy = pytest.mark.parametrize("name", ON_CPU)
SETTINGS = [(1, 77), (1, 700), (4, 40), (16, 400)]  # batch and slots
settings = pytest.mark.parametrize(("batch", "slots"), SETTINGS)


@cache
def scenario(batch: int) -> Scenario:
    """On a machine whose CPU nobody measured."""
    run = RunConfig("switch-mini-128/decode/test", format="fp16", steps=30, batch=batch, slots=40)
    return Scenario(dataclasses.replace(run, profile="a100-sxm4-80gb"))


@cache
def with_cpu(batch: int) -> Scenario:
    return Scenario(dataclasses.replace(scenario(batch).config, profile=machine()))


def decided(name: str, batch: int, slots: int) -> DecisionTable:
    return scenario(batch).routing.decide(with_rates(policy(name), RATES), slots)


def same(one: DecisionTable, other: DecisionTable) -> bool:
    columns = zip((*one.uses, *one.loads), (*other.uses, *other.loads), strict=True)
    return all(np.array_equal(column, twin) for column, twin in columns)


@every_policy
@settings
def test_hits_loads_and_uses_on_the_cpu_are_all_demands(name: str, batch: int, slots: int) -> None:
    table = decided(name, batch, slots)
    assert table.hits + table.demand_loads + table.cpu_uses == len(table.uses.key)
    assert len(table.uses.key) == len(scenario(batch).routed.workload.experts)
    assert table.loads.slot.max(initial=-1) < slots and table.uses.slot.max(initial=-1) < slots


@every_policy
@settings
def test_what_a_row_says_of_loads(name: str, batch: int, slots: int) -> None:
    table, row = decided(name, batch, slots), POLICIES[name]
    if row.miss == "cpu" or row.placement.startswith("cpu-"):
        assert not len(table.loads.key)
    if row.miss != "load" and not MISSES[row.miss.split(":")[0]].loads:
        assert not table.demand_loads
    if row.placement.startswith("cpu-"):
        experts = table.num_experts
        in_ram = placed(row.placement, Model(table.num_layers, experts), slots, 0, lambda: None).in_ram
        on_cpu = table.uses.where == CPU
        assert np.array_equal(on_cpu, np.isin(table.uses.key // experts, list(in_ram)))


@every_policy
def test_routing_without_a_train_split_will_do(name: str, make_trace: Callable[..., Path]) -> None:
    alone = Scenario(RunConfig(str(make_trace()), slots=9))
    table = alone.routing.decide(with_rates(policy(name), RATES), 9)
    assert table.hits + table.demand_loads + table.cpu_uses + table.dropped_uses == len(table.uses.key)


@settings
def test_all_layers_in_ram_are_every_use_on_the_cpu(batch: int, slots: int) -> None:
    everything = decided("cpu-experts", batch, slots)
    assert everything.cpu_uses == len(everything.uses.key)
    layers = everything.num_layers
    for name in (f"n-cpu-moe:{layers}", f"llama-fit:{layers}", f"n-cpu-moe:{layers + 3}", "ktransformers:0"):
        assert same(decided(name, batch, slots), everything)


@settings
def test_always_loading_is_what_it_was_without_miss_rules(batch: int, slots: int) -> None:
    plain = decided("on-demand-lru", batch, slots)
    lru = dataclasses.replace(POLICIES["lru-cpu"], miss="cpu-below:0")
    assert same(scenario(batch).decide(lru, slots), plain)
    assert not plain.cpu_uses


@settings
def test_an_lru_that_computes_misses_hits_as_often_as_one_that_waits_where_slots_hold_an_event(
    batch: int, slots: int
) -> None:
    """The order of uses within an event differs, and so do a few victims."""
    one, other = decided("lru-cpu", batch, slots), decided("on-demand-lru", batch, slots)
    if slots >= 16:
        assert abs(one.hits - other.hits) <= 0.02 * len(one.uses.key)


def test_rates_are_asked_for_by_name() -> None:
    needs_rates = [name for name in ON_CPU if filled(POLICIES[name].miss, {}, RATES)]
    assert needs_rates == ["freetoken", "law-split", "hybrimoe"]
    for name in needs_rates:
        with pytest.raises(InputError, match=r"miss\.copy_ns, miss\.cpu_ns.*expected"):
            scenario(1).decide(policy(name), 40)


def test_a_policy_with_rates_decides_by_them() -> None:
    slow, fast = (Rates(copy_ns=400_000, cpu_ns=cpu_ns, both_ns=50_000) for cpu_ns in (300_000, 60_000))
    loads = [scenario(16).decide(with_rates(policy("law-split"), rates), 400).demand_loads for rates in (slow, fast)]
    assert loads[0] > loads[1] > 0


@every_policy
def test_a_run_with_experts_on_the_cpu_needs_the_numbers_of_a_cpu(name: str) -> None:
    decisions, told = decided(name, 4, 40), r"profile a100-sxm4-80gb: cpu: not measured: its numbers, or a --host"
    assert decisions.cpu_uses
    with pytest.raises(InputError, match=told):
        scenario(4).run(name, 40)
    with pytest.raises(InputError, match=told):
        scenario(4).run_decided(scenario(4).policy(name), decisions, 40)


def test_policies_of_the_cpu_are_named_among_those_that_cannot_run() -> None:
    found = {
        name: why for name, run, why in each_run(scenario(4), Scenario.run, ["on-demand-lru", *ON_CPU], lenient=True)
    }
    assert not found.pop("on-demand-lru")
    assert all("expected" in why for why in found.values())


def test_more_layers_than_there_are_is_said() -> None:
    routed = with_cpu(1)
    table = decided("n-cpu-moe:7", 1, 40)
    for name, said in (("n-cpu-moe:7", True), ("n-cpu-moe:6", False), ("llama-fit:99", True), ("cpu-experts", False)):
        found = [line for line in routed.warnings(policy(name), table.counted, 40, 0, 1) if "in RAM" in line]
        assert bool(found) == said
        if said:
            assert found == [
                f"{name}: the model has only 6 MoE layers: all their experts are in RAM, as under cpu-experts"
            ]


@pytest.mark.parametrize(("name", "warned"), [("on-demand-lru", True), ("lru-cpu", True), ("n-cpu-moe", False)])
def test_a_placement_has_no_cliff(name: str, warned: bool) -> None:
    table, chosen = decided(name, 16, 40), policy(name)
    assert any("its cliff" in line for line in with_cpu(16).warnings(chosen, table.counted, 40, 0, 1)) == warned


def test_no_rule_needs_more_than_its_keywords() -> None:
    assert all(make_miss(name, filled(name, {"table": "0"} if name == "split" else {}, RATES), 4) for name in MISSES)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"miss": 3}, r"--set miss=3: a name, or a name and a number \(cpu-below:10\) expected"),
        ({"miss.table": True}, "--set miss.table=True: loads of 1, 2, ... misses"),
        ({"miss.copy_ns": -1}, "--set miss.copy_ns=-1: a number, 0 or more expected"),
        ({"miss.copy": 1}, "did you mean 'miss.copy_ns'"),
        ({"placement": 1}, "--set placement=1: a name"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Scenario(RunConfig("switch-mini-128/decode/test", steps=2, slots=9, settings=tuple(settings.items())))


def test_settings_change_the_rule_and_the_placement() -> None:
    settings = (("miss", "split"), ("miss.table", 0), ("placement", "gpu-uniform:0.01"))
    changed = Scenario(RunConfig("switch-mini-128/decode/test", steps=2, slots=9, settings=settings))
    table = changed.decide(changed.policy("on-demand-lru"), 9)
    assert table.cpu_uses and not len(table.loads.key)


def test_a_placement_that_does_not_fit_names_the_policy() -> None:
    with pytest.raises(InputError, match=r"policy n-cpu-moe:3: .* need 384 slots: there are 40: 6 or more layers"):
        scenario(1).decide(policy("n-cpu-moe:3"), 40)
