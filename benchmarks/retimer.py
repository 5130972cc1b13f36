"""How much faster decisions are re-timed than simulated, on one machine and on many: `python -m benchmarks.retimer`."""

from __future__ import annotations

import dataclasses
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any

import numpy as np

from specmoe.sim.break_even import link_name
from specmoe.sim.config import RunConfig
from specmoe.sim.decide.policy import POLICIES
from specmoe.sim.decide.table import DecisionTable
from specmoe.sim.run import Scenario
from specmoe.sim.timing.durations import Durations, charge, charged, durations_of
from specmoe.sim.timing.engine import simulate
from specmoe.sim.timing.retimer import Retimed, actions_of, timed
from specmoe.sim.timing.variants import Sample, sample_of, variants_of

SPEC = RunConfig("switch-mini-128/decode/test", slots=227, format="fp16", steps=10_000)
POLICY = "lookahead"
VARIANTS = 1000
INTERFERENCE = 0.05  # the profile has none
SAMPLES = 5  # runs of the engine; each also shows that the integers are equal


def main() -> None:
    """Print a table and one JSON line."""
    scenario = Scenario(SPEC)
    decisions = scenario.decide(POLICIES[POLICY], SPEC.slots or 0)
    rows = [preparation(scenario, decisions), *(compared(scenario, decisions, share) for share in (0, INTERFERENCE))]
    for row in rows:
        sys.stdout.write("  ".join(f"{name} {value}" for name, value in row.items()) + "\n")
    sys.stdout.write(json.dumps(rows) + "\n")


def preparation(scenario: Scenario, decisions: DecisionTable) -> dict[str, Any]:
    """What is done once, in s: for a process (compiled, or loaded if it was before), for decisions, for variants."""
    one = scenario.durations(decisions)
    first = clock(lambda: timed(actions_of(decisions), variants_of([one])))
    again = clock(lambda: timed(actions_of(decisions), variants_of([one])))
    part = sampled(scenario, decisions)
    machines = list(small_durations(scenario, part))
    return {
        "policy": POLICY,
        "events": decisions.num_steps * decisions.num_layers,
        "compile_or_load_s": round(first - again, 2),
        "actions_s": round(clock(lambda: actions_of(decisions)), 3),
        "sample_s": round(clock(lambda: sampled(scenario, decisions)), 3),
        "costs_of_variants_s": round(clock(lambda: list(small_durations(scenario, part))), 2),
        "codes_of_variants_s": round(clock(lambda: part.variants(machines)), 3),
    }


def compared(scenario: Scenario, decisions: DecisionTable, interference: float) -> dict[str, Any]:
    """One variant and many, beside the engine."""
    part, actions = sampled(scenario, decisions), actions_of(decisions)
    small = [each._replace(interference=interference) for each in small_durations(scenario, part)]
    one, many = part.variants(small[:1]), part.variants(small)
    engine_s = equal(scenario, decisions, small, timed(actions, many))
    one_s, many_s = median(lambda: timed(actions, one)), median(lambda: timed(actions, many))
    with_actions_s = median(lambda: timed(actions_of(decisions), one))
    return {
        "interference": interference,
        "variants": len(small),
        "simpy_run_s": round(engine_s, 3),
        "one_variant_s": round(one_s, 4),
        "one_variant_times_faster": round(engine_s / one_s),
        "with_its_actions_times_faster": round(engine_s / with_actions_s, 1),
        "all_variants_s": round(many_s, 2),
        "all_variants_by_simpy_s": round(engine_s * len(small)),
        "all_variants_times_faster": round(engine_s * len(small) / many_s),
    }


def equal(scenario: Scenario, decisions: DecisionTable, small: Sequence[Durations], retimed: Retimed) -> float:
    """The median time of a run of the engine, over a few variants, whose integers must be the re-timer's."""
    codes, seconds = sampled(scenario, decisions).codes, []
    for number in np.linspace(0, len(small) - 1, SAMPLES).astype(int).tolist():
        each = small[number]
        lists = {name: np.array(getattr(each, name))[codes[name]].tolist() for name in ("before", "expert", "after")}
        whole = each._replace(**lists, copy=np.array(each.copy)[codes["copy"]].tolist())
        started = time.perf_counter()
        timing = simulate(decisions, whole)
        seconds.append(time.perf_counter() - started)
        assert (timing.step_end == retimed.step_end[number]).all()
        assert timing.stall.sum() == retimed.stall[number]
    return float(np.median(seconds))


def sampled(scenario: Scenario, decisions: DecisionTable) -> Sample:
    """What stands for the run when durations are computed."""
    return sample_of(scenario.routed.workload, decisions, SPEC.home, scenario.contexts)


def small_durations(scenario: Scenario, part: Sample) -> Iterator[Durations]:
    """Of the sample, on links, hosts and devices of 10 speeds each."""
    link, speeds = link_name(scenario), np.geomspace(0.5, 2, round(VARIANTS ** (1 / 3)))
    shipped = scenario.profile
    for of_link, of_host, of_memory in product(speeds.tolist(), repeat=3):
        profile = shipped.with_plateau(link, shipped.plateau(link) * of_link).with_overrides(
            {
                "host.graph.sync": shipped.ns("host.graph.sync") / of_host,
                "device.memory_bandwidth": float(shipped["device.memory_bandwidth"]) * of_memory,
            }
        )
        costs = dataclasses.replace(scenario.costs, profile=profile)
        found = durations_of(part.workload, part.table, costs, SPEC.home, part.context)
        yield charged(found, charge(POLICIES[POLICY], part.workload, costs))


def clock(work: Callable[[], object]) -> float:
    """Seconds of one go."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def median(work: Callable[[], object]) -> float:
    """Seconds of the middle one of a few goes."""
    return float(np.median([clock(work) for _ in range(SAMPLES)]))


if __name__ == "__main__":
    main()
