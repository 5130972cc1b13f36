"""From a trace, a policy, a machine and a model's shape to a result: speculate, decide, time."""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from specmoe.errors import InputError, MissingExtraError
from specmoe.files import library_versions
from specmoe.hwprofiles.costs import Costs
from specmoe.hwprofiles.kernels import words_of
from specmoe.results import Manifest, RunResult
from specmoe.sim import claims
from specmoe.sim.break_even import BreakEven, Sweep, break_even, sweep
from specmoe.sim.budget import CROSS_CONTEXT
from specmoe.sim.config import RunConfig
from specmoe.sim.decide.policy import POLICIES, Policy, policy, with_rates
from specmoe.sim.decide.program import groups_of
from specmoe.sim.decide.table import Counted, DecisionTable, all_on_cpu
from specmoe.sim.event_table import event_table
from specmoe.sim.routing import Routing, assumptions
from specmoe.sim.setting import Setting
from specmoe.sim.timing.bounds import at_most, ceiling_ns, link_and_cpu_bound_ns, link_bound_ns, mean_step_ns, since
from specmoe.sim.timing.durations import Charge, Durations, charge, charged, copies_of_uses, miss_rates
from specmoe.sim.timing.engine import Timing, simulate

SEMANTICS = "event-atomic"
CHUNKS = 4  # parts of a copy on a chunked link


Ran = TypeVar("Ran")


class Run(NamedTuple):
    """A result with the decisions, durations and times that it was computed from."""

    result: RunResult
    decisions: DecisionTable
    durations: Durations
    timing: Timing


@dataclasses.dataclass(frozen=True)
class Yardsticks:
    """What bounds for `slots` slots are computed from, each once; it does not depend on the machine."""

    scenario: "Scenario"
    slots: int

    @cached_property
    def oracle(self) -> DecisionTable:
        """Decisions of perfect knowledge."""
        return self.scenario.decide(POLICIES["oracle"], self.slots)

    @cached_property
    def fewest(self) -> list[int]:
        """The fewest loads of any policy after the warm-up: of each size of expert."""
        scenario, compressed = self.scenario, self.scenario.config.home.compressed_slots
        return scenario.routing.fewest_loads(self.slots, scenario.warm_up(self.slots), scenario.sizes, compressed)

    @cached_property
    def all_on_cpu(self) -> DecisionTable:
        """Every expert computed on the CPU."""
        return all_on_cpu(self.scenario.routing.all_resident)

    @cached_property
    def every_miss(self) -> DecisionTable:
        """Decisions by which every expert is a miss."""
        return self.scenario.decide(POLICIES["on-demand"], self.slots)


class Scenario(Setting):
    """Everything but the policy: trace, workload, machine and model are prepared once, and policies run on them.

    `predictions` and `routing` are those of `Setting`. `with_break_even` adds the break-even precision to results.
    """

    def __init__(
        self,
        config: RunConfig,
        predictions: Path | None = None,
        routing: Routing | None = None,
        with_break_even: bool = False,
    ) -> None:
        super().__init__(config, predictions, routing)
        self._with_break_even = with_break_even
        self._floors: dict[int, int] = {}
        self._bounds: dict[int, dict[str, int]] = {}
        self._sweeps: dict[int, Sweep] = {}
        self._break_even: dict[int, BreakEven] = {}

    def run(self, name: str, slots: int | None = None) -> Run:
        """Simulate one policy by its name. `slots` default to the configuration's."""
        chosen = self.policy(name)
        self.costs_of(chosen)  # raises for a CPU that was not measured before a rule asks for its rates
        slots = self.slots if slots is None else slots
        return self.run_decided(chosen, self.decide(chosen, slots), slots)

    def run_decided(self, chosen: Policy, decisions: DecisionTable, slots: int) -> Run:
        """Simulate the decisions that a policy made on `slots` slots."""
        cost = self.charge(chosen)
        durations = charged(self.durations(decisions, self.costs_of(chosen)), cost)
        timing = self.time(decisions, durations)
        table = event_table(self.routed.workload, decisions, durations, timing, self.bytes_of_loads(decisions))
        warm, warm_up = decisions.since(self.warm_up(slots)), self.warm_up(slots)
        copies = np.array(durations.copy, np.int64)[len(durations.copy) - len(warm.loads.key) :]
        prefetching, run_ns = int(copies[warm.loads.prefetch].sum()), since(timing.step_end, warm_up)
        warnings = self.warnings(chosen, warm.counted, slots, prefetching, run_ns)
        predict_ns = cost.mean_since(warm_up * self.num_layers)
        manifest = self.manifest(chosen, cost, predict_ns, decisions.slots, slots, warnings)
        return Run(RunResult(table, manifest), decisions, durations, timing)

    def policy(self, name: str) -> Policy:
        """A named policy with the settings of the configuration; raises InputError for an unknown name.

        Its miss rule gets the times of this machine that it takes and that were not set.
        """
        return self.with_rates(policy(name, self.policy_overrides))

    def with_rates(self, chosen: Policy) -> Policy:
        """A policy whose miss rule has the times of this machine."""
        if not chosen.uses_cpu or not self.has_cpu:
            return chosen
        costs = self.costs_on_cpu
        return with_rates(chosen, miss_rates(costs, costs.cpu, self.config.home)) if costs.cpu else chosen

    def decide(self, chosen: Policy, slots: int) -> DecisionTable:
        """The decisions of a policy on `slots` slots; raises InputError if it changes uses: none are timed."""
        decisions = self.routing.decide(chosen, slots, self.sizes)
        for said in claims.about_changes(decisions):
            raise InputError(f"policy {chosen.name}: {said}: not timed yet: a policy that changes no result expected")
        return decisions

    def charge(self, chosen: Policy) -> Charge:
        """Time that a policy's predictions take."""
        return charge(chosen, self.routed.workload, self.costs, self.predict_ns, self.config.padded)

    def time(self, decisions: DecisionTable, durations: Durations) -> Timing:
        """Time everything, with the configuration's order of copies on the link."""
        return simulate(decisions, durations, self.config.link, max(1, max(durations.copy, default=0) // CHUNKS))

    def sweep(self, slots: int | None = None) -> Sweep:
        """Decisions for all assumed precisions; they do not depend on the machine."""
        slots = self.slots if slots is None else slots
        if slots not in self._sweeps:
            self._sweeps[slots] = sweep(self, slots)
        return self._sweeps[slots]

    def break_even(self, slots: int | None = None) -> BreakEven:
        """The precision above which prefetching one expert one layer ahead pays on this machine."""
        slots = self.slots if slots is None else slots
        if slots not in self._break_even:
            self._break_even[slots] = break_even(self, self.sweep(slots))
        return self._break_even[slots]

    def floor_ns(self, warm_up: int) -> int:
        """Mean time of a step after the warm-up with every expert resident, ns: in the run's style or the usual one."""
        if warm_up not in self._floors:
            decisions = self.routing.all_resident
            in_styles = [self.durations(decisions, costs) for costs in self.costs_of_floor]
            self._floors[warm_up] = min(mean_step_ns(decisions, each, warm_up) for each in in_styles)
        return self._floors[warm_up]

    @property
    def costs_of_ceiling(self) -> Costs:
        """Costs in the style in which the ceiling counts launches."""
        return self.costs_in(at_most(self.costs.style))

    def bounds(self, slots: int) -> dict[str, int]:
        """Bounds of the mean step, ns: every expert resident; perfect knowledge; nothing overlapped; the link alone."""
        if slots not in self._bounds:
            self._bounds[slots] = self.bounds_from(self.yardsticks(slots), slots)
        return self._bounds[slots]

    def set_bounds(self, slots: int, bounds: dict[str, int]) -> None:
        """Set the bounds for `slots` slots, where they were computed elsewhere."""
        self._bounds[slots] = bounds

    def yardsticks(self, slots: int) -> Yardsticks:
        """What the bounds for `slots` slots are computed from."""
        return Yardsticks(self, slots)

    def bounds_from(self, yardsticks: Yardsticks, slots: int) -> dict[str, int]:
        """Bounds of the mean step, ns, timed by the engine from the yardsticks' decisions."""
        durations, warm_up, most = self.durations(yardsticks.oracle), self.warm_up(slots), self.costs_of_ceiling
        steps = yardsticks.oracle.num_steps - warm_up
        every_miss, first = self.durations(yardsticks.every_miss, most), yardsticks.every_miss.first(warm_up)
        launches = groups_of(yardsticks.every_miss, most.style.launch).launches_since(first.use)
        copies = copies_of_uses(yardsticks.every_miss, first, self.costs, self.config.home)
        cpu = self.cpu_bounds(yardsticks, slots) if self.has_cpu else {}
        return cpu | {
            "floor_ns": self.floor_ns(warm_up),
            "oracle_ns": mean_step_ns(yardsticks.oracle, durations, warm_up),
            "ceiling_ns": ceiling_ns(every_miss, copies, launches, first),
            "link_ns": link_bound_ns(yardsticks.fewest, self.copies, durations.read, steps),
        }

    def cpu_bounds(self, yardsticks: Yardsticks, slots: int, cpu_only_ns: int | None = None) -> dict[str, int]:
        """Bounds where the CPU computes experts, ns; the first is timed by the engine unless it is given."""
        warm_up, table, costs = self.warm_up(slots), yardsticks.all_on_cpu, self.costs_on_cpu
        if cpu_only_ns is None:
            cpu_only_ns = mean_step_ns(table, self.durations(table, costs), warm_up)
        copy, expert, steps = min(self.copies), costs.cpu_ns(1), table.num_steps - warm_up
        shared = link_and_cpu_bound_ns(sum(yardsticks.fewest), copy, expert, steps)
        return {"cpu_only_ns": cpu_only_ns, "link_and_cpu_ns": shared}

    def manifest(
        self, chosen: Policy, cost: Charge, predict_ns: int, held: int, slots: int, warnings: tuple[str, ...]
    ) -> Manifest:
        """The manifest of a policy that holds `held` experts where others have `slots` slots.

        Its predictions take `predict_ns` an event.
        """
        config, warm_up = self.config, self.warm_up(slots)
        costs, expected, prefills = self.costs_of(chosen), self.expected(chosen), self.routed.workload.prefills
        return Manifest(
            trace=config.trace,
            trace_kind=self.trace.meta.kind,
            phase="session" if config.prefill else self.trace.meta.phase,
            policy=chosen.name,
            parameters=self._parameters(chosen, cost, predict_ns),
            profile=self.profile.name,
            host=self.profile.host or "",
            shape=self.shape.name,
            format=self.format,
            semantics=SEMANTICS,
            slots=held,
            batch=config.batch,
            num_layers=self.num_layers,
            expert_bytes=self.expert_bytes,
            vram_peak_bytes=self.room.with_slots(held),
            budget=self.budget_lines(slots),
            evidence=costs.evidence,
            yardstick=claims.is_yardstick(chosen, self.fits(slots)),
            assumed=self.assumed(chosen, cost),
            warnings=warnings,
            warm_up_steps=warm_up,
            staggered=config.staggered,
            bounds=self.bounds(slots),
            break_even_precision=self.break_even().precision if self._with_break_even else None,
            hashes=self.hashes,
            versions=library_versions("numpy", "simpy") | claims.plugin_versions(chosen),
            style=words_of(costs.style, self.format),
            dense_format=self.dense_format,
            fits=self.fits(slots),
            expected_error=expected.error,
            validated=expected.validated,
            error_basis=expected.basis,
            domains=self.routing.domains,
            ratio_error=self.ratio_error(chosen),
            prefill_steps=None if prefills is None else tuple(np.flatnonzero(prefills).tolist()),
            kept_tokens=self.routed.workload.kept_since(warm_up) if config.verify else None,
        )

    def _parameters(self, chosen: Policy, cost: Charge, predict_ns: int) -> dict[str, Any]:
        """Fields of a policy that runs, and the configuration beside them."""
        config, home, cpu = self.config, self.config.home, self.costs_of(chosen).cpu
        elsewhere = ("name", "source", "about", "number")
        own = {name: value for name, value in dataclasses.asdict(chosen).items() if name not in elsewhere}
        return own | {
            **({"threads": cpu.computing} if cpu else {}),
            "link": config.link,
            "threads_asked": config.threads,
            "context": config.context,
            "kv_format": config.kv_format,
            "tier": home.tier,
            "home_format": home.format,
            "compressed_slots": home.compressed_slots,
            "style": config.fields["style"],
            "dense_format": config.dense_format,
            **{name: config.fields[name] for name in ("source", "train_source")},
            **({name: getattr(config, name) for name in ("verify", "assumed_acceptance")} if config.verify else {}),
            **({"prefill": config.prefill} if config.prefill else {}),
            "host_set": config.host_set,
            "predict_ns": predict_ns,
            "predict_on": cost.on,
            "predict_ref": cost.ref,
            "set": list(self.overridden),
        }

    def assumed(self, chosen: Policy, cost: Charge) -> tuple[str, ...]:
        """Assumptions behind a run of a policy: values that were not measured, `cost` of predictions included."""
        unknown = [f"cross-attention to {CROSS_CONTEXT} positions"] if self.attends_across else []
        unknown += [cost.assumed] if cost.assumed else []
        unknown += ["an expert of any layer is computed in the time of one of the mean size"] if self.sizes else []
        return (*self.costs_of(chosen).assumed, *unknown, *assumptions(chosen), *self.routing.assumed)

    def warnings(self, chosen: Policy, warm: Counted, slots: int, prefetching_ns: int, run_ns: int) -> tuple[str, ...]:
        """Warnings about a run; `warm` are the decisions after the warm-up.

        They take `run_ns`, and their copies of prefetches `prefetching_ns`.
        """
        return (*self._warnings(chosen, warm, slots), *claims.about_link(warm, prefetching_ns, run_ns))

    def _warnings(self, chosen: Policy, decisions: Counted, slots: int) -> Iterator[str]:
        yield from self.trace.meta.warnings
        yield from claims.about_model(self.trace.meta, self.shape)
        yield from self.routing.assumed
        yield from claims.about_training(chosen, self.config.source + self.config.train_source)
        yield from claims.about_placement(chosen, self.num_layers)
        if chosen.sharing != "all-resident" and not chosen.placement:
            yield from claims.about_slots(decisions)
            yield from claims.about_warm_up(self._warm_up(slots), slots)
        if self.sizes:
            yield from claims.about_sizes(self.sizes.slots_of(slots))
        if self.routing.train_name == self.config.trace:
            yield "popularity is learnt from the very trace that is simulated"
        yield from claims.about_order(self.config.link, self.profile)
        yield from claims.about_memory(self.room.with_slots(decisions.slots), self.profile)
        yield from self.costs_of(chosen).warnings


def each_run(
    scenario: Scenario,
    run: Callable[[Scenario, str], Ran],
    names: Sequence[str],
    lenient: bool = False,
    on_policy: Callable[[str], object] | None = None,
) -> Iterator[tuple[str, Ran | None, str]]:
    """Yield each policy's name and what `run` gives of it, or None and the reason why it cannot run.

    Raises InputError or MissingExtraError for one that cannot run, unless `lenient` and another can. `on_policy` is
    called with each name before it runs.
    """
    for name in names:
        scenario.policy(name)  # a wrong name is found before the first run
    ran = False
    for name in names:
        if on_policy is not None:
            on_policy(name)
        try:
            found = run(scenario, name)
        except (InputError, MissingExtraError) as error:
            if not lenient or (name == names[-1] and not ran):
                raise
            yield name, None, str(error)
        else:
            ran = True
            yield name, found, ""
