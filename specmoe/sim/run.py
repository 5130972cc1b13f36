"""From a trace, a policy, a machine and a model's shape to a result: speculate, decide, time."""

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from specmoe.errors import InputError, MissingExtraError
from specmoe.hwprofiles.catalogue import load_profile, load_shape
from specmoe.hwprofiles.costs import Costs
from specmoe.hwprofiles.cpu import CpuExperts
from specmoe.hwprofiles.curves import Range
from specmoe.hwprofiles.expected_error import Expected, expected_error, ratio_error
from specmoe.hwprofiles.kernels import Steps
from specmoe.hwprofiles.launches import padded, whole_context
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.hwprofiles.shape import Format, ModelShape, compute_format, require_can_fill
from specmoe.hwprofiles.shares import Size
from specmoe.hwprofiles.style import RESIDENT, Style, require_expandable, words_of
from specmoe.hwprofiles.what_if import scaled, with_values
from specmoe.provenance import library_versions
from specmoe.results import Manifest, RunResult
from specmoe.sim.break_even import BreakEven, Sweep, break_even, sweep
from specmoe.sim.budget import CROSS_CONTEXT, Ask, Budget, Room, budget, lines, longest_context, slots_of_layers
from specmoe.sim.claims import (
    about_changes,
    about_link,
    about_memory,
    about_model,
    about_order,
    about_placement,
    about_sizes,
    about_slots,
    about_training,
    about_warm_up,
    default_shape,
    is_yardstick,
    plugin_versions,
)
from specmoe.sim.config import RunConfig
from specmoe.sim.decide.policy import POLICIES, Policy, policy, with_rates
from specmoe.sim.decide.program import groups_of
from specmoe.sim.decide.sizes import Sizes
from specmoe.sim.decide.table import Counted, DecisionTable, all_on_cpu
from specmoe.sim.event_table import Column, event_table
from specmoe.sim.overrides import pair_of, sorted_overrides
from specmoe.sim.routing import Predictions, Routing, assumptions, hash_of_bytes, hash_of_file
from specmoe.sim.speculate.predictor import Routed
from specmoe.sim.timing.bounds import at_most, ceiling_ns, link_and_cpu_bound_ns, link_bound_ns, mean_step_ns, since
from specmoe.sim.timing.durations import (
    Charge,
    Durations,
    charge,
    charged,
    copies_ns,
    copies_of_uses,
    durations_of,
    miss_rates,
)
from specmoe.sim.timing.engine import Timing, simulate
from specmoe.summary import LINES
from specmoe.traces.store import Trace
from specmoe.traces.workload import WarmUp

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


class Scenario:
    """Everything but the policy: trace, workload, machine and model are prepared once, and policies run on them.

    `predictions` is a directory in which predictions are kept from one run to the next. `routing` may be given where
    several scenarios share one: that of `config.routing`. `with_break_even` adds the break-even precision to results.
    """

    def __init__(
        self,
        config: RunConfig,
        predictions: Path | None = None,
        routing: Routing | None = None,
        with_break_even: bool = False,
    ) -> None:
        self.config, self._with_break_even = config, with_break_even
        self.routing = routing or Routing(*config.routing, predictions)
        self.loaded = load_profile(config.profile) if isinstance(config.profile, str) else config.profile
        shipped = scaled(self.loaded, dict(config.scales))
        self.policy_overrides, of_profile, self.predict_ns = sorted_overrides(dict(config.settings), shipped)
        self.profile: HardwareProfile = with_values(shipped, of_profile)
        self.shape: ModelShape = load_shape(config.shape or default_shape(self.trace.meta))
        self.format: Any = config.format or self.shape.format
        require_can_fill(config.home.format, self.format)
        require_expandable(config.style, self.format)
        self.costs = self._costs()
        self.room = Room(self.shape, self.format, config.home, config.dense_format)
        own_sizes = Sizes(self._by_layer(self.format), self.trace.meta.num_experts)
        self.sizes = own_sizes if own_sizes.differ else None  # of experts in their slots, where they differ
        self._asked_slots = config.slots if config.cache_bytes is None else _slots_in(config.cache_bytes, own_sizes)
        self._require_sizes()
        self.slots = min(self._fitting if self._asked_slots is None else self._asked_slots, self.num_keys)
        self._warm_ups: dict[int, WarmUp] = {}
        self._floors: dict[int, int] = {}
        self._expected: dict[tuple[Style, bool], Expected] = {}
        self._styled: dict[Style, Costs] = {self.costs.style: self.costs}
        self._bounds: dict[int, dict[str, int]] = {}
        self._sweeps: dict[int, Sweep] = {}
        self._break_even: dict[int, BreakEven] = {}
        if config.threads is not None:
            self.costs_on_cpu  # noqa: B018  # raises for threads that the host lacks
        self.overridden = tuple(pair_of(name, value) for name, value in config.settings)

    @property
    def context(self) -> int:
        """Number of tokens of each sequence whose keys and values VRAM keeps."""
        return self.config.context or longest_context(self.shape, self.trace.meta.phase, self.routing.longest)

    def _require_sizes(self) -> None:
        """Raise InputError unless slots are given in one way, and the home can hold experts of several sizes."""
        config = self.config
        sizes = {"--slots": config.slots, "--vram": config.vram, "--cache-bytes": config.cache_bytes}
        given = [name for name, size in sizes.items() if size is not None]
        if len(given) > 1:
            raise InputError(f"either {given[0]} or {given[1]} expected, and not both")
        if self.sizes and config.home.tier == "nvme":
            raise InputError(f"tier nvme: {self.shape.name} has experts of several sizes: not simulated from a disk")

    @cached_property
    def budget(self) -> Budget:
        """What VRAM holds; with given slots, also what it cannot hold."""
        given = self._asked_slots is not None
        return lines(self.room, self._ask, self.slots) if given else budget(self.room, self._ask)

    @property
    def _fitting(self) -> int:
        """Number of slots that VRAM leaves for the stack that runs; raises InputError if it leaves none."""
        return slots_of_layers(self.shape, self.budget.slots, self.num_layers)

    @property
    def _ask(self) -> Ask:
        config = self.config
        vram = int(self.profile["device.vram"]) if config.vram is None else config.vram
        return Ask(vram, self.context, config.batch, config.kv_format, config.assumed_reserve)

    def run(self, name: str, slots: int | None = None) -> Run:
        """Simulate one policy by its name. `slots` default to the configuration's."""
        chosen = self.policy(name)
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
        for said in about_changes(decisions):
            raise InputError(f"policy {chosen.name}: {said}: not timed yet: a policy that changes no result expected")
        return decisions

    def charge(self, chosen: Policy) -> Charge:
        """Time that a policy's predictions take."""
        return charge(chosen, self.routed.workload, self.costs, self.predict_ns, self.config.padded)

    def costs_of(self, chosen: Policy) -> Costs:
        """Costs in the style of a policy, with those of the CPU if it may compute experts."""
        costs = self.costs_in(self.config.style_for(chosen.sharing == "all-resident"))
        return self.costs_on_cpu if chosen.uses_cpu else costs

    @cached_property
    def costs_on_cpu(self) -> Costs:
        """Costs where the CPU computes experts; raises InputError if the profile or the experts' home forbids that."""
        home, experts = self.config.home, self.shape.experts
        if home.tier == "nvme" or home.compressed_slots:
            what = "tier nvme" if home.tier == "nvme" else f"compressed slots {home.compressed_slots}"
            raise InputError(
                f"{what}: not simulated where the CPU computes experts: host-pinned or host-pageable expected"
            )
        size = Size(self.shape.d_model, experts.d_ff, experts.gated)
        held, threads = home.format or self.format, self.config.threads
        cpu = CpuExperts(self.profile, size, held, threads, self.costs.most_tokens)
        return dataclasses.replace(self.costs, cpu=cpu)

    @property
    def has_cpu(self) -> bool:
        """Whether the CPU could compute the experts."""
        home = self.config.home
        return "cpu.threads" in self.profile and home.tier != "nvme" and not home.compressed_slots

    def costs_in(self, style: Style) -> Costs:
        """Costs in a style."""
        if style not in self._styled:
            self._styled[style] = dataclasses.replace(self.costs, style=style)
        return self._styled[style]

    def durations(self, decisions: DecisionTable, costs: Costs | None = None) -> Durations:
        """Durations of everything in the decisions except predictions.

        `costs` default to those in the style of policies that load experts.
        """
        workload, home = self.routed.workload, self.config.home
        return durations_of(workload, decisions, costs or self.costs, home, self.contexts, self.config.padded)

    def warm_up(self, slots: int | None = None) -> int:
        """Number of first steps that figures leave out, the same for all policies on `slots` slots."""
        return self._warm_up(self.slots if slots is None else slots).steps

    def _warm_up(self, slots: int) -> WarmUp:
        if slots not in self._warm_ups:
            self._warm_ups[slots] = self.routing.warm_up(slots, self.config.warm_up)
        return self._warm_ups[slots]

    @property
    def contexts(self) -> list[int]:
        """Number of positions that the tokens of each step attend to, [steps]."""
        return self.routing.contexts(self.least_context)

    @property
    def least_context(self) -> int:
        """Number of positions that a decoded token attends to at least."""
        return max(CROSS_CONTEXT if self.attends_across else 1, self.config.context or 1)

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

    @property
    def attends_across(self) -> bool:
        """Whether the decoder attends to encoder positions, whose number a decode trace does not contain."""
        return self.shape.encoder is not None and self.trace.meta.phase == "decode"

    @property
    def trace(self) -> Trace:
        """The opened trace."""
        return self.routing.trace

    @property
    def routed(self) -> Routed:
        """The workload and the trace's rows."""
        return self.routing.routed

    @property
    def predictions(self) -> Predictions:
        """Predictions for the workload, by policy."""
        return self.routing.predictions

    @property
    def train(self) -> Routed | None:
        """The train split that the configuration names or that lies beside the trace; None if there is none."""
        return self.routing.train

    def floor_ns(self, warm_up: int) -> int:
        """Mean time of a step after the warm-up with every expert resident, ns: in the run's style or the usual one."""
        if warm_up not in self._floors:
            decisions = self.routing.all_resident
            in_styles = [self.durations(decisions, costs) for costs in self.costs_of_floor]
            self._floors[warm_up] = min(mean_step_ns(decisions, each, warm_up) for each in in_styles)
        return self._floors[warm_up]

    @property
    def costs_of_floor(self) -> list[Costs]:
        """Costs in the styles of which the faster one gives the floor."""
        return [self.costs_in(style) for style in dict.fromkeys((self.costs.style, RESIDENT))]

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

    def fits(self, slots: int) -> bool:
        """Whether `slots` slots hold every expert, and the machine's VRAM holds them: there is nothing to offload."""
        return slots >= self.num_keys and self.room.with_slots(slots) <= int(self.profile["device.vram"])

    def expected(self, chosen: Policy) -> Expected:
        """Expected error of a policy's mean step."""
        style, dense = self.costs_of(chosen).style, self.config.dense_format
        key = style, chosen.uses_cpu
        if key not in self._expected:
            self._expected[key] = expected_error(
                self.profile, self.shape, self.format, style=style, dense_format=dense, on_cpu=chosen.uses_cpu
            )
        return self._expected[key]

    def ratio_error(self, chosen: Policy) -> float:
        """Expected error of the ratio of a policy's mean step to another's."""
        return ratio_error(self.format, self.costs_of(chosen).style, self.expected(chosen).validated)

    def budget_lines(self, slots: int) -> dict[str, int]:
        """The lines of the budget that results list; of a run with other slots than the configuration's, with these."""
        found = self.budget if slots == self.slots else lines(self.room, self._ask, slots)
        every = found.as_dict()
        return {name: every[name] for name in LINES}

    @property
    def num_keys(self) -> int:
        """Number of experts of all layers."""
        return self.routing.num_keys

    @property
    def num_layers(self) -> int:
        """Number of MoE layers that run."""
        return self.routed.workload.meta.num_layers

    @property
    def expert_bytes(self) -> int:
        """Size of one expert in its slot, bytes."""
        return self.room.expert_bytes

    @property
    def bytes_by_layer(self) -> tuple[int, ...]:
        """Size of an expert of each layer on the link, bytes."""
        return self._by_layer(self.config.home.format or self.format)

    def _by_layer(self, held: Any) -> tuple[int, ...]:
        return tuple(self.shape.expert_bytes(held, layer) for layer in range(self.num_layers))

    @property
    def copied_bytes(self) -> int:
        """Size of one expert on the link, bytes: the mean of all layers."""
        return self.shape.expert_bytes(self.config.home.format or self.format)

    def bytes_of_loads(self, decisions: DecisionTable) -> Column:
        """Size of each load on the link, bytes, [loads]."""
        return np.array(self.bytes_by_layer, np.int64)[decisions.loads.key // decisions.num_experts]

    @property
    def copies(self) -> list[int]:
        """The shortest time on the link of an expert of each size of slots, ns."""
        times = copies_ns(self.costs, self.config.home, self.num_layers)
        return [int(times[layers].min()) for layers in (self.sizes.groups if self.sizes else [range(self.num_layers)])]

    @property
    def dense_bytes(self) -> int:
        """Size of the weights that stay in VRAM under every policy, bytes."""
        return self.room.dense_bytes

    def _costs(self) -> Costs:
        home = self.config.home
        moves: tuple[Any, ...] = ("host-pageable",) if home.tier == "host-pageable" else ("host-pinned",)
        if home.tier == "nvme":
            moves = (*moves, "nvme")
        most = int(self.routed.workload.tokens.max(initial=1))
        held = () if home.format is None else (home.format,)
        counts = self.routed.workload.step_tokens
        counts = padded(counts) if self.config.padded else counts
        tokens, context = Range(int(counts.min()), int(counts.max())), whole_context(max(self.contexts))
        steps = None if self.config.prefill else Steps(self.trace.meta.phase, tokens, context)
        style = self.config.style_for(all_resident=False)
        return Costs(
            self.profile,
            self.shape,
            self.format,
            self.config.host_set,  # type: ignore[arg-type]  # Costs checks the names itself
            moves,
            held,
            most,
            steps,
            style,
            self.config.dense_format,
            kv_format=self.config.kv_format,
        )

    def manifest(
        self, chosen: Policy, cost: Charge, predict_ns: int, held: int, slots: int, warnings: tuple[str, ...]
    ) -> Manifest:
        """The manifest of a policy that holds `held` experts where others have `slots` slots.

        Its predictions take `predict_ns` an event.
        """
        config, warm_up, layers = self.config, self.warm_up(slots), self.num_layers
        home = {
            "tier": config.home.tier,
            "home_format": config.home.format,
            "compressed_slots": config.home.compressed_slots,
        }
        predicting = {"predict_ns": predict_ns, "predict_on": cost.on, "predict_ref": cost.ref}
        asked = {"style": config.fields["style"], "dense_format": config.dense_format}
        costs, expected, prefills = self.costs_of(chosen), self.expected(chosen), self.routed.workload.prefills
        choices = {
            **({"threads": costs.cpu.computing} if costs.cpu else {}),
            "link": config.link,
            "threads_asked": config.threads,
            "context": config.context,
            "kv_format": config.kv_format,
            **home,
            **asked,
            **{name: config.fields[name] for name in ("source", "train_source")},
            **({name: getattr(config, name) for name in ("verify", "assumed_acceptance")} if config.verify else {}),
            **({"prefill": config.prefill} if config.prefill else {}),
            "host_set": config.host_set,
            **predicting,
            "set": list(self.overridden),
        }
        return Manifest(
            trace=config.trace,
            trace_kind=self.trace.meta.kind,
            phase="session" if config.prefill else self.trace.meta.phase,
            policy=chosen.name,
            parameters=_parameters(chosen) | choices,
            profile=self.profile.name,
            host=self.profile.host or "",
            shape=self.shape.name,
            format=self.format,
            semantics=SEMANTICS,
            slots=held,
            batch=config.batch,
            num_layers=layers,
            expert_bytes=self.expert_bytes,
            vram_peak_bytes=self.room.with_slots(held),
            budget=self.budget_lines(slots),
            evidence=costs.evidence,
            yardstick=is_yardstick(chosen, self.fits(slots)),
            assumed=self.assumed(chosen, cost),
            warnings=warnings,
            warm_up_steps=warm_up,
            staggered=config.staggered,
            bounds=self.bounds(slots),
            break_even_precision=self.break_even().precision if self._with_break_even else None,
            hashes=self._hashes,
            versions=library_versions("numpy", "simpy") | plugin_versions(chosen),
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

    @property
    def dense_format(self) -> Format:
        """Format of the weights that are no experts."""
        return self.config.dense_format or compute_format(self.format)

    @cached_property
    def _hashes(self) -> dict[str, str]:
        shape = json.dumps(dataclasses.asdict(self.shape), sort_keys=True)
        own = {"trace": self.routing.trace_hash, "profile": self.profile.hash, "shape": hash_of_bytes(shape.encode())}
        prefill = self.routing.prefill
        return own | ({} if prefill is None else {"prefill": hash_of_file(prefill.path)})

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
        return (*self._warnings(chosen, warm, slots), *about_link(warm, prefetching_ns, run_ns))

    def _warnings(self, chosen: Policy, decisions: Counted, slots: int) -> Iterator[str]:
        yield from self.trace.meta.warnings
        yield from about_model(self.trace.meta, self.shape)
        yield from self.routing.assumed
        yield from about_training(chosen, self.config.source + self.config.train_source)
        yield from about_placement(chosen, self.num_layers)
        if chosen.sharing != "all-resident" and not chosen.placement:
            yield from about_slots(decisions)
            yield from about_warm_up(self._warm_up(slots), slots)
        if self.sizes:
            yield from about_sizes(self.sizes.slots_of(slots))
        if self.routing.train_name == self.config.trace:
            yield "popularity is learnt from the very trace that is simulated"
        yield from about_order(self.config.link, self.profile)
        yield from about_memory(self.room.with_slots(decisions.slots), self.profile)
        yield from self.costs_of(chosen).warnings


def _slots_in(room: int, sizes: Sizes) -> int:
    """The slots that `room` bytes hold; raises InputError for none."""
    slots = sizes.most(room)
    if not slots:
        raise InputError(f"--cache-bytes {room}: less than the {min(sizes.layers)} bytes of one expert")
    return slots


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


def _parameters(chosen: Policy) -> dict[str, Any]:
    return {
        name: value
        for name, value in dataclasses.asdict(chosen).items()
        if name not in ("name", "source", "about", "number")
    }
