"""Answers with their spread: the same decisions timed on machines drawn out of the ranges of a profile.

Each quantity and each factor of a curve is drawn by itself, from the seed and its name, so a range more or less leaves
the others' draws as they are. Half of its draws lie below its value and half above,
evenly by the logarithm on either side. What has no range stays as it is.
"""

import dataclasses
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from specmoe import uncertainty
from specmoe.errors import InputError, MissingExtraError
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.sim.claims import default_shape
from specmoe.sim.config import RunConfig
from specmoe.sim.decide.policy import Policy
from specmoe.sim.decide.table import DecisionTable
from specmoe.sim.overrides import PREDICT_NS, is_of_policy
from specmoe.sim.run import Run, Scenario
from specmoe.sim.sweep.retiming import Timed, compiled, timings
from specmoe.summary import Row

DRAWS = 200
FEWEST = 20  # with fewer, nothing is said of percentiles unless it was asked for
KEPT = 8  # machines whose draws are kept
Shares = dict[str, NDArray[np.float64]]


def shares_of(profile: HardwareProfile, draws: int, seed: int) -> Shares:
    """Shares of the distribution of each number with a range, drawn evenly, [draws]; raises InputError below 1."""
    if draws < 1:
        raise InputError(f"draws: {draws}: 1 or more expected")
    return {name: np.random.default_rng([seed, *name.encode()]).random(draws) for name in profile.ranges}


def machines(profile: HardwareProfile, draws: int = DRAWS, seed: int = 0) -> list[HardwareProfile]:
    """Machines out of a profile's ranges; raises InputError if it has none, or for fewer than one draw."""
    shares = shares_of(profile, draws, seed)
    if not shares:
        raise InputError(f"profile {profile.name}: no number has a range: there is nothing to draw from")
    rows = zip(*(values.tolist() for values in shares.values()), strict=True)
    return [profile.with_values(_drawn(profile, dict(zip(shares, row, strict=True)))) for row in rows]


def _drawn(profile: HardwareProfile, shares: Mapping[str, float]) -> dict[str, float]:
    """Values of numbers at these shares of their distributions; factors of curves are about 1."""
    ranges, numbers = profile.ranges, profile.quantities
    return {
        name: _between(*ranges[name], numbers[name].value if name in numbers else 1.0, share)
        for name, share in shares.items()
    }


def _between(low: float, high: float, value: float, share: float) -> float:
    """The quantile `share` of a number's distribution; a range from 0 is drawn evenly."""
    start, end, part = (low, value, 2 * share) if share < 0.5 else (value, high, 2 * share - 1)
    return start * (end / start) ** part if start > 0 else start + (end - start) * part


def require_drawable(scenario: Scenario) -> None:
    """Raise InputError for a link that is not FIFO or a profile without ranges, MissingExtraError without numba."""
    config = scenario.config
    if config.link != "fifo":
        raise InputError(f"draws: link order {config.link}: fifo expected")
    if not compiled():
        raise MissingExtraError("numba", "fast")
    if not scenario.loaded.ranges:
        raise InputError(f"profile {scenario.profile.name}: no number has a range: there is nothing to draw from")


def usual_draws(config: RunConfig) -> int:
    """How many machines are drawn unless a number is given: none without numba, nor of a what-if.

    A what-if is a machine with a number set or scaled: it is taken as it is.
    """
    whole = not config.scales and all(map(is_of_policy, dict(config.settings)))
    return DRAWS if whole and compiled() else 0


def can_draw(config: RunConfig, profile: HardwareProfile) -> bool:
    """Whether something of the machine is unknown, and the re-timer can time draws of it."""
    return config.draws > 0 and config.link == "fifo" and compiled() and bool(profile.ranges)


class _Drawn(NamedTuple):
    scenarios: list[Scenario]
    shares: Shares


class Draws:
    """Times decisions on the machines that scenarios ask for (`RunConfig.draws`, `.seed`); each is drawn once."""

    def __init__(self) -> None:
        self._drawn: dict[RunConfig, _Drawn] = {}

    def spread(self, scenario: Scenario, chosen: Policy, decisions: DecisionTable) -> Row:
        """`uncertainty.columns` of a policy's decisions; `uncertainty.EMPTY` where nothing is drawn."""
        if not can_draw(scenario.config, scenario.loaded):
            return uncertainty.EMPTY
        return self.timed(scenario, chosen, decisions)[1]

    def timed(self, scenario: Scenario, chosen: Policy, decisions: DecisionTable) -> tuple[Timed, Row]:
        """A policy's decisions on the scenario's own machine, and their `spread` on drawn ones, timed together."""
        if not can_draw(scenario.config, scenario.loaded):
            (own,) = timings(decisions, [scenario], chosen)
            return own, uncertainty.EMPTY
        drawn, first = self._machines(scenario), scenario.warm_up()
        own, *others = timings(decisions, [scenario, *drawn.scenarios], chosen)  # the first says what the warm-up is
        counted = decisions.num_steps - first
        steps = np.array([run.run_ns for run in others]) / counted
        tokens = scenario.routed.workload.kept_since(first) / counted
        known = dict(scenario.config.settings)
        uses = {name for name in scenario.costs_of(chosen).uses if name not in known}
        shares = {name: values for name, values in drawn.shares.items() if name in uses}
        return own, uncertainty.columns(steps, tokens, shares, scenario.config.seed)

    def run(self, scenario: Scenario, name: str) -> Run:
        """The engine's run of a policy, with its spread in the manifest of its result."""
        run = scenario.run(name)
        spread_of = self.spread(scenario, scenario.policy(name), run.decisions)
        manifest = dataclasses.replace(run.result.manifest, spread=spread_of)
        return run._replace(result=dataclasses.replace(run.result, manifest=manifest))

    def _machines(self, scenario: Scenario) -> _Drawn:
        """Scenarios of the drawn machines, whatever policy and slots they are timed with."""
        profile, shape = scenario.loaded, scenario.config.shape or default_shape(scenario.trace.meta)
        own = scenario.config.having(policy="", slots=1, vram=None, cache_bytes=None, profile=profile.hash, shape=shape)
        of_run = tuple(pair for pair in own.settings if pair[0] == PREDICT_NS or not is_of_policy(pair[0]))
        own = dataclasses.replace(own, settings=of_run)
        if own not in self._drawn:
            if len(self._drawn) >= KEPT:
                del self._drawn[next(iter(self._drawn))]
            each = (dataclasses.replace(own, profile=one) for one in machines(profile, own.draws, own.seed))
            scenarios = [Scenario(one, routing=scenario.routing) for one in each]
            self._drawn[own] = _Drawn(scenarios, shares_of(profile, own.draws, own.seed))
        return self._drawn[own]
