"""Break-even precision: prefetching with a lower precision makes a run slower than loading on demand.

The noisy oracle guesses one expert, one layer ahead, with several assumed precisions, on the same LRU slots as loading
on demand. What counts is the precision of the resulting prefetches, since a guess of a resident expert costs nothing.
Decisions do not depend on the machine, so each is made once and timed on every link.
"""

import dataclasses
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from specmoe.hwprofiles.basis import CURVE_OF
from specmoe.hwprofiles.costs import Costs
from specmoe.sim.decide.policy import POLICIES
from specmoe.sim.decide.table import DecisionTable
from specmoe.sim.timing.bounds import since
from specmoe.sim.timing.durations import NO_CHARGE, Charge, charged

if TYPE_CHECKING:
    from specmoe.sim.run import Scenario

ASSUMED = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
FACTORS = tuple(2 ** (exponent / 2) for exponent in range(-4, 5))  # of the link's bandwidth


class Trial(NamedTuple):
    """The decisions that follow from one assumed precision, and the precision of the resulting prefetches."""

    precision: float
    decisions: DecisionTable


class Sweep(NamedTuple):
    """Decisions of loading on demand, and of prefetching with increasing precision; `warm_up` steps do not count."""

    warm_up: int
    on_demand: DecisionTable
    trials: list[Trial]


class BreakEven(NamedTuple):
    """Share of the prefetched experts that must be used for prefetching to pay, or None with the reason."""

    precision: float | None
    reason: str


class CurvePoint(NamedTuple):
    """Break-even precision on a link of `bandwidth` bytes/s."""

    bandwidth: float
    at: BreakEven


def sweep(scenario: "Scenario", slots: int) -> Sweep:
    """Decide once for each assumed precision."""
    trials = []
    for assumed in ASSUMED:
        chosen = dataclasses.replace(POLICIES["noisy-oracle"], predictor_parameters={"assumed_precision": assumed})
        decisions = scenario.decide(chosen, slots)
        warm = decisions.since(scenario.warm_up(slots))
        if warm.prefetch_loads:
            trials.append(Trial(warm.prefetch_useful / warm.prefetch_loads, decisions))
    trials.sort(key=lambda trial: trial.precision)
    return Sweep(scenario.warm_up(slots), scenario.decide(POLICIES["on-demand-lru"], slots), trials)


def break_even(scenario: "Scenario", swept: Sweep, costs: Costs | None = None) -> BreakEven:
    """Time a sweep and find where it crosses loading on demand. `costs` default to the scenario's."""
    cost = scenario.charge(POLICIES["noisy-oracle"])
    plain = _mean_ns(scenario, swept, swept.on_demand, NO_CHARGE, costs)
    gains = [plain - _mean_ns(scenario, swept, trial.decisions, cost, costs) for trial in swept.trials]
    return crossing([trial.precision for trial in swept.trials], gains)


def curve(scenario: "Scenario", swept: Sweep, factors: Sequence[float] = FACTORS) -> list[CurvePoint]:
    """Break-even precision over the link's bandwidth; by default from a quarter to four times the machine's own."""
    copy = link_name(scenario)
    own = scenario.profile.plateau(copy)
    points = []
    for bandwidth in (own * factor for factor in factors):
        profile = scenario.profile.with_plateau(copy, bandwidth)
        costs = dataclasses.replace(scenario.costs, profile=profile)
        points.append(CurvePoint(bandwidth, break_even(scenario, swept, costs)))
    return points


def link_name(scenario: "Scenario") -> str:
    """Name of the profile's bandwidth curve of the copies that bring experts to the GPU."""
    tier = scenario.config.home.tier
    return CURVE_OF["host-pageable" if tier == "host-pageable" else "host-pinned"]


def crossing(precisions: Sequence[float], gains: Sequence[float]) -> BreakEven:
    """Precision from which the gain (ns) stays positive, interpolated linearly between the points."""
    if not gains:
        return BreakEven(None, "nothing is left to prefetch")
    losing = np.flatnonzero(np.array(gains) <= 0)
    if not len(losing):
        return BreakEven(None, "prefetching one expert ahead pays at any precision")
    last = int(losing[-1])
    if last == len(gains) - 1:
        return BreakEven(None, "prefetching one expert ahead does not pay even with perfect guesses")
    part = -gains[last] / (gains[last + 1] - gains[last])
    return BreakEven(float(precisions[last] + part * (precisions[last + 1] - precisions[last])), "")


def _mean_ns(scenario: "Scenario", swept: Sweep, decisions: DecisionTable, cost: Charge, costs: Costs | None) -> float:
    durations = charged(scenario.durations(decisions, costs), cost)
    return since(scenario.time(decisions, durations).step_end, swept.warm_up) / (decisions.num_steps - swept.warm_up)
