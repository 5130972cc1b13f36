"""Runs of one decision table in many scenarios, and their bounds, in one pass of the re-timer (FIFO links only).

`Draws` gives answers their spread: the same decisions timed on machines drawn out of the ranges of a profile. Each
quantity and each factor of a curve is drawn by itself, from the seed and its name, so a range more or less leaves the
others' draws as they are. Half of its draws lie below its value and half above, evenly by the logarithm on either side.
What has no range stays as it is.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from specmoe import uncertainty
from specmoe.errors import InputError, MissingExtraError
from specmoe.hwprofiles.costs import Costs
from specmoe.hwprofiles.kernels import RESIDENT
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.sim.claims import default_shape
from specmoe.sim.config import PREDICT_NS, RunConfig, is_of_policy
from specmoe.sim.decide.policy import Policy
from specmoe.sim.decide.program import groups_of
from specmoe.sim.decide.table import DecisionTable, First
from specmoe.sim.run import Run, Scenario, Yardsticks
from specmoe.sim.timing.bounds import Amounts, ceiling_of, link_bound_ns, since
from specmoe.sim.timing.durations import NO_CHARGE, Charge, Durations, charge, charged, copies_of_uses
from specmoe.sim.timing.retimer import Retimed, actions_of, timed
from specmoe.sim.timing.variants import Sample, Variants, sample_of
from specmoe.summary import BOUNDS, CPU_BOUNDS, Latencies, Row, Sums

SERIAL = frozenset(("ceiling_ns", "link_ns"))  # computed together
MOST_STEPS = 1 << 24  # of all variants that are timed together: their ends take 128 MiB


def timings(
    decisions: DecisionTable,
    scenarios: Sequence[Scenario],
    chosen: Policy | None = None,
    costs: Sequence[Costs] | None = None,
) -> Iterator["Timed"]:
    """Runs of decisions in scenarios that share routing, warm-up, slots, context and number of compressed slots.

    `chosen` is the policy whose predictions are charged. Default: none are. `costs` are those of each scenario, in
    styles that launch experts alike. Default: in the style of the policy. Raises InputError.
    """
    if costs is None:
        costs = [scenario.costs if chosen is None else scenario.costs_of(chosen) for scenario in scenarios]
    part, first = _sample(decisions, scenarios[0], costs[0]), decisions.first(scenarios[0].warm_up())
    copies = _Copies.of(decisions, part, first)
    many = max(1, MOST_STEPS // decisions.num_steps)
    for start in range(0, len(scenarios), many):
        some, theirs = scenarios[start : start + many], costs[start : start + many]
        paid = [_cost(scenario, part, chosen) for scenario in some]
        variants = part.variants(list(map(charged, durations_in(some, theirs, part), paid)))
        actions = actions_of(decisions, bool(variants.predict.values.any()), variants.launching)
        retimed = timed(actions, variants, first)
        for number, (scenario, cost) in enumerate(zip(some, paid, strict=True)):
            yield Timed(retimed, variants, number, first.step, scenario, cost, copies)


def compiled() -> bool:
    """Whether the re-timer can run here (numba is installed)."""
    return find_spec("numba") is not None


def durations_in(scenarios: Sequence[Scenario], costs: Sequence[Costs], part: Sample) -> list[Durations]:
    """Durations of the sample's rows in each scenario, without predictions."""
    content = part.content
    return [one.durations_of_sample(part, content, own) for one, own in zip(scenarios, costs, strict=True)]


def _sample(decisions: DecisionTable, scenario: Scenario, costs: Costs) -> Sample:
    workload, home = scenario.routed.workload, scenario.config.home
    differ = len(set(scenario.bytes_by_layer)) > 1
    return sample_of(workload, decisions, home, scenario.contexts, costs.style.launch, differ)


def _cost(scenario: Scenario, part: Sample, chosen: Policy | None) -> Charge:
    return (
        NO_CHARGE
        if chosen is None
        else charge(chosen, part.workload, scenario.costs, scenario.predict_ns, scenario.config.padded)
    )


class _Copies(NamedTuple):
    """Number of loads after the warm-up of each code: all, prefetches, and loads that nobody waited for or used."""

    all: np.ndarray
    prefetched: np.ndarray
    wasted: np.ndarray
    events: np.ndarray  # number of events of each code of predictions
    rows: DecisionTable  # one load of each code

    @classmethod
    def of(cls, decisions: DecisionTable, part: Sample, first: First) -> "_Copies":
        codes, loads = part.codes["copy"][first.load :], decisions.since(first.step).loads
        ahead, prefetch = ~loads.demand, loads.prefetch
        return cls(
            all=np.bincount(codes, minlength=len(part.table.loads.key)),
            prefetched=np.bincount(codes[prefetch], minlength=len(part.table.loads.key)),
            wasted=np.bincount(codes[ahead & ~loads.used], minlength=len(part.table.loads.key)),
            rows=part.table,
            events=np.bincount(part.codes["predict"][first.event :], minlength=part.workload.num_events),
        )


class Timed(NamedTuple):
    """A run of decisions in one scenario, number `number` of those that were timed together."""

    retimed: Retimed
    variants: Variants
    number: int
    warm_up: int
    scenario: Scenario
    cost: Charge  # of the sample's events, not of every event
    copies: _Copies

    @property
    def run_ns(self) -> int:
        """Time of all steps after the warm-up."""
        return since(self.retimed.step_end[self.number], self.warm_up)

    @property
    def prefetching_ns(self) -> int:
        """Copies of prefetches after the warm-up."""
        return int(self.copies.prefetched @ self.variants.copy.values[:, self.number])

    @property
    def sums(self) -> Sums:
        """Figures without the warm-up."""
        retimed, number, copies = self.retimed, self.number, self.copies
        sizes = (self.variants.copy.values[:, number] > 0) * self.scenario.bytes_of_loads(copies.rows)
        cold, latencies = np.split(np.diff(retimed.step_end[number], prepend=0), [self.warm_up])
        return Sums(
            cold_steps=len(cold),
            cold_ns=int(cold.sum()),
            latencies=Latencies.of(latencies),
            late_hits=int(retimed.late_hits[number]),
            bytes_loaded=int(copies.all @ sizes),
            bytes_wasted=int(copies.wasted @ sizes),
            predict_ns=_mean(self.cost, copies.events),
            compute_ns=int(retimed.compute[number]),
            stall_ns=int(retimed.stall[number]),
            host_ns=int(retimed.host[number]),
            link_busy_ns=int(retimed.link[number]),
            cpu_ns=int(retimed.cpu[number]),
            cpu_stall_ns=int(retimed.cpu_stall[number]),
        )


def _mean(cost: Charge, events: np.ndarray) -> int:
    """Mean time of an event's predictions, ns; `events` says how many events each event of the sample stands for."""
    return round(float(events @ np.array(cost.ns, np.int64)) / int(events.sum())) if cost.ns else 0


def bounds_of(scenarios: Sequence[Scenario], slots: int, wanted: Sequence[str] = BOUNDS) -> list[dict[str, int]]:
    """`Scenario.bounds` of scenarios that share routing, warm-up, slots, context, number of compressed slots, and how
    experts are launched; only the wanted ones.

    The engine computes them, and always all, where the re-timer cannot run.
    """
    yardsticks = scenarios[0].yardsticks(slots)
    if not compiled():
        return [scenario.bounds_from(yardsticks, slots) for scenario in scenarios]
    columns: dict[str, list[int]] = {}
    if "floor_ns" in wanted:
        columns["floor_ns"] = _floors(scenarios)
    if "oracle_ns" in wanted:
        columns["oracle_ns"] = _means(yardsticks.oracle, scenarios)
    if not SERIAL.isdisjoint(wanted):
        serial = zip(*_serial(scenarios, yardsticks), strict=True)
        columns |= zip(("ceiling_ns", "link_ns"), map(list, serial), strict=True)
    rows = [{name: values[number] for name, values in columns.items()} for number in range(len(scenarios))]
    if not set(CPU_BOUNDS).isdisjoint(wanted):
        for row, on_cpu in zip(rows, _cpu_bounds(scenarios, yardsticks, slots), strict=True):
            row |= on_cpu
    return rows


def _cpu_bounds(scenarios: Sequence[Scenario], yardsticks: Yardsticks, slots: int) -> Iterator[dict[str, int]]:
    """`Scenario.cpu_bounds` of each scenario; empty where no CPU could compute the experts."""
    having = [scenario for scenario in scenarios if scenario.has_cpu]
    costs = [scenario.costs_on_cpu for scenario in having]
    means = iter(_means(yardsticks.all_on_cpu, having, costs) if having else [])
    for scenario in scenarios:
        yield scenario.cpu_bounds(yardsticks, slots, next(means)) if scenario.has_cpu else {}


def _floors(scenarios: Sequence[Scenario]) -> list[int]:
    """The floor of each scenario, ns."""
    decisions = scenarios[0].routing.all_resident
    usual = [scenario.costs_in(RESIDENT) for scenario in scenarios]
    return list(map(min, _means(decisions, scenarios), _means(decisions, scenarios, usual)))


def _means(decisions: DecisionTable, scenarios: Sequence[Scenario], costs: Sequence[Costs] | None = None) -> list[int]:
    steps = decisions.num_steps - scenarios[0].warm_up()
    return [round(run.run_ns / steps) for run in timings(decisions, scenarios, costs=costs)]


def _serial(scenarios: Sequence[Scenario], yardsticks: Yardsticks) -> list[tuple[int, int]]:
    """The ceiling and the link's bound of each scenario, ns."""
    table, scenario = yardsticks.every_miss, scenarios[0]
    part = _sample(table, scenario, scenario.costs_of_ceiling)
    paid = durations_in(scenarios, [scenario.costs_of_ceiling for scenario in scenarios], part)
    variants = part.variants(paid)
    first, warm = table.first(scenario.warm_up()), table.since(scenario.warm_up())
    compute = variants.before.since(first.event) + variants.expert.since(first.use) + variants.after.since(first.step)
    work = compute.tolist()
    launches = groups_of(table, scenario.costs_of_ceiling.style.launch).launches_since(first.use)
    steps, counts = warm.num_steps, (warm.num_steps, warm.num_steps * warm.num_layers, len(warm.uses.key), launches)
    bounds = []
    for scenario, each, total in zip(scenarios, paid, work, strict=True):
        copies = copies_of_uses(table, first, scenario.costs, scenario.config.home)
        link = link_bound_ns(yardsticks.fewest, scenario.copies, each.read, steps)
        bounds.append((ceiling_of(Amounts(total, *counts, copies), each), link))
    return bounds


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
