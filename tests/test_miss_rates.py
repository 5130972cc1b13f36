"""Times of one expert for miss rules, from a machine's costs."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from specmoe.sim.config import Home, RunConfig
from specmoe.sim.decide.misses import MISSES, filled, make_miss
from specmoe.sim.decide.policy import policy, with_rates
from specmoe.sim.run import Scenario
from specmoe.sim.timing.durations import copy_ns, miss_rates


class Host(NamedTuple):
    """The numbers of `CpuExperts` that rates come from: 1000 ns an expert, or 100 ns a token."""

    slowed_by_copy: float
    slows_copy: float

    def expert_ns(self, tokens: int) -> int:
        return max(1000, 100 * tokens)


@pytest.fixture(scope="module")
def scenario() -> Scenario:
    return Scenario(RunConfig("switch-mini-128/encode/test", format="fp16", slots=60, steps=5, batch=2))


def test_rates_are_those_of_the_costs(scenario: Scenario) -> None:
    costs, host, home = scenario.costs, Host(0.0, 0.0), Home()
    alone: Any = host
    rates, copy = miss_rates(costs, alone, home), copy_ns(costs, home)
    assert (rates.copy_ns, rates.cpu_ns, rates.gpu_ns) == (copy, 1000, costs.use_ns(1))
    assert costs.most_tokens > 10 and rates.cpu_token_ns == 100
    assert rates.both_ns == pytest.approx(copy * 1000 / (copy + 1000))  # both rates add up


def test_where_link_and_cpu_slow_each_other_each_takes_longer(scenario: Scenario) -> None:
    slowed: Any = Host(0.5, 0.25)
    rates, copy = miss_rates(scenario.costs, slowed, Home()), copy_ns(scenario.costs, Home())
    assert 1 / rates.both_ns == pytest.approx(1 / (1.25 * copy) + 1 / 1500)
    assert (rates.copy_ns, rates.cpu_ns) == (copy, 1000)


@pytest.mark.parametrize("rule", [name for name in MISSES if name != "split"])
def test_every_rule_can_be_made_from_them(scenario: Scenario, rule: str) -> None:
    alone: Any = Host(0.1, 0.1)
    rates = miss_rates(scenario.costs, alone, Home())
    assert make_miss(rule, filled(rule, {}, rates), 128)
    assert scenario.routing.decide(with_rates(policy("law-split"), rates), 60).cpu_uses
