"""`Scenario.bounds` of many scenarios at once: floor, oracle, ceiling, link."""

from __future__ import annotations

from collections.abc import Sequence

from specmoe.sim.decide.table import DecisionTable
from specmoe.sim.run import Scenario, Yardsticks
from specmoe.sim.sweep.retiming import compiled, durations_in, timings
from specmoe.sim.timing.bounds import ceiling_of, link_bound_ns
from specmoe.sim.timing.durations import copy_ns
from specmoe.sim.timing.sample import sample_of


def bounds_of(scenarios: Sequence[Scenario], slots: int) -> list[dict[str, int]]:
    """Of scenarios of one routing, context and number of compressed slots, by the engine where nothing is compiled."""
    known = scenarios[0].yardsticks(slots)
    if not compiled():
        return [scenario.bounds_from(known) for scenario in scenarios]
    floor, oracle = (_means(table, scenarios) for table in (scenarios[0].routing.all_resident, known.oracle))
    return [
        {"floor_ns": floor_ns, "oracle_ns": oracle_ns, "ceiling_ns": ceiling, "link_ns": link}
        for floor_ns, oracle_ns, (ceiling, link) in zip(floor, oracle, _serial(scenarios, known), strict=True)
    ]


def _means(decisions: DecisionTable, scenarios: Sequence[Scenario]) -> list[int]:
    return [round(run.run_ns / decisions.num_steps) for run in timings(decisions, scenarios)]


def _serial(scenarios: Sequence[Scenario], known: Yardsticks) -> list[tuple[int, int]]:
    """The ceiling, and what the link allows, of each."""
    table, first = known.every_miss, scenarios[0]
    part = sample_of(first.routed.workload, table, first.spec.home, first.contexts)
    paid = [durations_in(scenario, part) for scenario in scenarios]
    variants = part.variants(paid)
    work = (variants.before.total + variants.expert.total + variants.after.total).tolist()
    steps, events, uses = table.num_steps, table.num_steps * table.num_layers, len(table.uses.key)
    found = []
    for scenario, each, total in zip(scenarios, paid, work, strict=True):
        copy = copy_ns(scenario.costs, scenario.spec.home)
        link = link_bound_ns(known.fewest.demand_loads, copy, each.read, steps)
        found.append((ceiling_of(total, events, uses, steps, copy, each), link))
    return found
