"""From a trace, a policy, a machine and a model's shape to a result: speculate, decide, time."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from specmoe.hwprofiles.catalogue import load_profile, load_shape
from specmoe.hwprofiles.costs import Costs
from specmoe.hwprofiles.curves import Range
from specmoe.hwprofiles.formats import require_home
from specmoe.hwprofiles.measured_curves import Steps
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.hwprofiles.shape import ModelShape
from specmoe.hwprofiles.what_if import with_values
from specmoe.provenance import library_versions
from specmoe.results import Manifest, RunResult
from specmoe.sim.break_even import BreakEven, Sweep, break_even, sweep
from specmoe.sim.claims import about_link, about_memory, about_model, about_order, about_slots, brought, is_yardstick
from specmoe.sim.decide.policy import POLICIES, Policy, policy
from specmoe.sim.decide.table import DecisionTable
from specmoe.sim.event_table import event_table
from specmoe.sim.memory import Room, slots_for
from specmoe.sim.overrides import pair_of, sorted_overrides
from specmoe.sim.padding import padded, whole_context
from specmoe.sim.routing import Predictions, Routing, assumptions, hash_of_bytes
from specmoe.sim.speculate.predictor import Routed
from specmoe.sim.timing.bounds import ceiling_ns, link_bound_ns, mean_step_ns
from specmoe.sim.timing.charge import Charge, charge, charged
from specmoe.sim.timing.durations import Durations, Home, copy_ns, durations_of
from specmoe.sim.timing.engine import Order, Timing, simulate
from specmoe.traces.store import Trace

SEMANTICS = "event-atomic"
CHUNKS = 4  # parts of a copy on a chunked link
AT_HOME = Home()  # pinned in the host's memory, in the format of the slots
CROSS_CONTEXT = 256  # encoder positions that a decoder attends to, which a decode trace does not tell


@dataclass(frozen=True)
class RunSpec:
    """What is simulated. `profile` is a name, a path or a profile at hand.

    `slots` or `vram` (bytes for all weights; the dense ones come first), else all there is. `padded`: kernels exist for
    powers of two of tokens only, as captured graphs do. `overrides` change the policy or the profile by dotted name:
    a profile's number is text with its unit (26.2GB/s), or a number in base units (bytes, bytes/s, ns, flop/s).
    `train` is the trace that popularity and predictors are learnt from; `predictions` a directory in which predictions
    are kept from one run to the next.
    """

    trace: str
    profile: str | HardwareProfile = "rtx3090"
    shape: str = "switch-base-128"
    format: str | None = None
    slots: int | None = None
    vram: int | None = None
    batch: int = 1
    steps: int | None = None
    link: Order = "fifo"
    home: Home = AT_HOME
    host_set: str = "graph"
    padded: bool = False
    train: str | None = None
    predictions: Path | None = None
    break_even: bool = False
    overrides: dict[str, Any] = field(default_factory=dict)


class Run(NamedTuple):
    """A result and what it was computed from."""

    result: RunResult
    decisions: DecisionTable
    durations: Durations
    timing: Timing


class Yardsticks(NamedTuple):
    """Decisions that bounds are made of: perfect knowledge, the fewest loads on demand, every expert a miss."""

    oracle: DecisionTable
    fewest: DecisionTable
    every_miss: DecisionTable


class Scenario:
    """All but the policy: trace, workload, machine and model are prepared once and policies run on them.

    `routing`, if told, is that of the spec's trace, batch, steps, train and predictions: many scenarios may share one.
    """

    def __init__(self, spec: RunSpec, routing: Routing | None = None) -> None:
        self.spec = spec
        self.routing = routing or Routing(spec.trace, spec.batch, spec.steps, spec.train, spec.predictions)
        shipped = load_profile(spec.profile) if isinstance(spec.profile, str) else spec.profile
        self.policy_overrides, of_profile, self.predict_ns = sorted_overrides(spec.overrides, shipped)
        self.profile: HardwareProfile = with_values(shipped, of_profile)
        self.shape: ModelShape = load_shape(spec.shape)
        self.format: Any = spec.format or self.shape.format
        self.room = Room(self.shape, self.format, spec.home)
        require_home(self.room.format, spec.home.format)
        self.costs = self._costs()
        self.slots = slots_for(self.room, spec.slots, spec.vram, int(self.profile["device.vram"]), self.num_keys)
        self._bounds: dict[int, dict[str, int]] = {}
        self._sweeps: dict[int, Sweep] = {}
        self._break_even: dict[int, BreakEven] = {}
        self.overridden = tuple(pair_of(name, value) for name, value in spec.overrides.items())

    def run(self, name: str, slots: int | None = None) -> Run:
        """Simulate one policy by its name, with other slots than the spec's if told."""
        chosen = self.policy(name)
        slots = self.slots if slots is None else slots
        return self.run_decided(chosen, self.decide(chosen, slots), slots)

    def run_decided(self, chosen: Policy, decisions: DecisionTable, slots: int) -> Run:
        """Simulate the decisions of a policy on so many slots."""
        cost = self.charge(chosen)
        durations = charged(self.durations(decisions), cost)
        timing = self.time(decisions, durations)
        table = event_table(self.routed.workload, decisions, durations, timing, self.copied_bytes)
        prefetching = int(np.array(durations.copy, np.int64)[~decisions.loads.demand].sum())
        found = self.warnings(chosen, decisions, prefetching, int(timing.step_end[-1]))
        manifest = self._manifest(chosen, cost, decisions.slots, self.bounds(slots), found)
        return Run(RunResult(table, manifest), decisions, durations, timing)

    def policy(self, name: str) -> Policy:
        """A named policy with what the spec overrides; raises InputError for an unknown name."""
        return policy(name, self.policy_overrides)

    def decide(self, chosen: Policy, slots: int) -> DecisionTable:
        """The decisions of a policy."""
        return self.routing.decide(chosen, slots)

    def charge(self, chosen: Policy) -> Charge:
        """What a policy's predictions cost."""
        return charge(chosen, self.routed.workload, self.costs, self.predict_ns, self.spec.padded)

    def durations(self, decisions: DecisionTable, costs: Costs | None = None) -> Durations:
        """What everything in the decisions costs, predictions aside; with other costs than the scenario's if told."""
        workload, home = self.routed.workload, self.spec.home
        return durations_of(workload, decisions, costs or self.costs, home, self.contexts, self.spec.padded)

    @property
    def contexts(self) -> list[int]:
        """Positions that the tokens of each step attend to."""
        return self.routing.contexts(CROSS_CONTEXT if self.attends_across else 1)

    def time(self, decisions: DecisionTable, durations: Durations) -> Timing:
        """When everything happens, on the spec's link."""
        return simulate(decisions, durations, self.spec.link, max(1, max(durations.copy, default=0) // CHUNKS))

    def sweep(self, slots: int | None = None) -> Sweep:
        """Decisions of guesses of all precisions; they do not depend on the machine."""
        slots = self.slots if slots is None else slots
        if slots not in self._sweeps:
            self._sweeps[slots] = sweep(self, slots)
        return self._sweeps[slots]

    def break_even(self, slots: int | None = None) -> BreakEven:
        """The precision from which prefetching one expert ahead pays on this machine."""
        slots = self.slots if slots is None else slots
        if slots not in self._break_even:
            self._break_even[slots] = break_even(self, self.sweep(slots))
        return self._break_even[slots]

    @property
    def attends_across(self) -> bool:
        """Whether there is cross-attention, to encoder positions that the trace does not tell."""
        return self.shape.encoder is not None and self.trace.meta.phase == "decode"

    @property
    def trace(self) -> Trace:
        """The trace, open."""
        return self.routing.trace

    @property
    def routed(self) -> Routed:
        """The workload and the trace's rows."""
        return self.routing.routed

    @property
    def predictions(self) -> Predictions:
        """What predictors say of the workload."""
        return self.routing.predictions

    @property
    def train(self) -> Routed | None:
        """The train split, where the trace has one beside it or the spec names one."""
        return self.routing.train

    @cached_property
    def floor_ns(self) -> int:
        """Mean step with every expert resident."""
        decisions = self.routing.all_resident
        return mean_step_ns(decisions, self.durations(decisions))

    def bounds(self, slots: int) -> dict[str, int]:
        """Mean steps, ns: every expert resident; perfect knowledge; nothing overlapped; the link alone."""
        if slots not in self._bounds:
            self._bounds[slots] = self.bounds_from(self.yardsticks(slots))
        return self._bounds[slots]

    def set_bounds(self, slots: int, bounds: dict[str, int]) -> None:
        """Where they were computed elsewhere."""
        self._bounds[slots] = bounds

    def yardsticks(self, slots: int) -> Yardsticks:
        """Decisions that bounds are made of; they do not depend on the machine."""
        return Yardsticks(
            oracle=self.decide(POLICIES["oracle"], slots),
            fewest=self.decide(POLICIES["belady"], slots + self.spec.home.compressed_slots),
            every_miss=self.decide(POLICIES["on-demand"], slots),
        )

    def bounds_from(self, known: Yardsticks) -> dict[str, int]:
        """Bounds by the engine, where `known` are the yardsticks of the slots."""
        durations = self.durations(known.oracle)
        copy = copy_ns(self.costs, self.spec.home)
        return {
            "floor_ns": self.floor_ns,
            "oracle_ns": mean_step_ns(known.oracle, durations),
            "ceiling_ns": ceiling_ns(self.durations(known.every_miss), copy),
            "link_ns": link_bound_ns(known.fewest.demand_loads, copy, durations.read, known.fewest.num_steps),
        }

    @property
    def num_keys(self) -> int:
        """Experts of all layers."""
        return self.routing.num_keys

    @property
    def expert_bytes(self) -> int:
        """One expert in its format."""
        return self.room.expert_bytes

    @property
    def copied_bytes(self) -> int:
        """One expert on the link."""
        return self.shape.expert_bytes(self.spec.home.format or self.format)

    @property
    def dense_bytes(self) -> int:
        """All weights that stay in VRAM under every policy."""
        return self.room.dense_bytes

    def _costs(self) -> Costs:
        home = self.spec.home
        moves: tuple[Any, ...] = ("host-pageable",) if home.tier == "host-pageable" else ("host-pinned",)
        if home.tier == "nvme":
            moves = (*moves, "nvme")
        most = int(self.routed.workload.tokens.max(initial=1))
        held = () if home.format is None else (home.format,)
        counts = self.routed.workload.step_tokens
        counts = padded(counts) if self.spec.padded else counts
        tokens, context = Range(int(counts.min()), int(counts.max())), whole_context(max(self.contexts))
        steps = Steps(self.trace.meta.phase, tokens, context)
        return Costs(self.profile, self.shape, self.format, self.spec.host_set, moves, held, most, steps)  # type: ignore[arg-type]  # Costs checks the names itself

    def _manifest(
        self, chosen: Policy, cost: Charge, slots: int, bounds: dict[str, int], warnings: tuple[str, ...]
    ) -> Manifest:
        spec = self.spec
        home = {"tier": spec.home.tier, "home_format": spec.home.format, "compressed_slots": spec.home.compressed_slots}
        predicting = {"predict_ns": cost.mean_ns, "predict_on": cost.on, "predict_ref": cost.ref}
        choices = {"link": spec.link, **home, "host": spec.host_set, **predicting, "set": list(self.overridden)}
        return Manifest(
            trace=spec.trace,
            trace_kind=self.trace.meta.kind,
            phase=self.trace.meta.phase,
            policy=chosen.name,
            parameters=_parameters(chosen) | choices,
            profile=self.profile.name,
            shape=self.shape.name,
            format=self.format,
            semantics=SEMANTICS,
            slots=slots,
            batch=spec.batch,
            num_layers=self.trace.meta.num_layers,
            expert_bytes=self.expert_bytes,
            vram_peak_bytes=self.room.with_slots(slots),
            evidence=self.costs.evidence,
            yardstick=is_yardstick(chosen),
            assumed=self.assumed(chosen, cost),
            warnings=warnings,
            bounds=bounds,
            break_even_precision=self.break_even().precision if spec.break_even else None,
            hashes=self._hashes,
            versions=library_versions("numpy", "simpy") | brought(chosen),
        )

    @cached_property
    def _hashes(self) -> dict[str, str]:
        shape = json.dumps(dataclasses.asdict(self.shape), sort_keys=True)
        return {"trace": self.routing.trace_hash, "profile": self.profile.hash, "shape": hash_of_bytes(shape.encode())}

    def assumed(self, chosen: Policy, cost: Charge) -> tuple[str, ...]:
        """What a run of a policy, whose predictions cost so much, rests on that nobody measured."""
        unknown = [f"cross-attention to {CROSS_CONTEXT} positions"] if self.attends_across else []
        unknown += [cost.assumed] if cost.assumed else []
        return (*self.costs.assumed, *unknown, *assumptions(chosen))

    def warnings(self, chosen: Policy, decisions: DecisionTable, prefetching_ns: int, run_ns: int) -> tuple[str, ...]:
        """What to know before believing a run that takes so long, as do the copies of its prefetches."""
        return (*self._warnings(chosen, decisions), *about_link(decisions, prefetching_ns, run_ns))

    def _warnings(self, chosen: Policy, decisions: DecisionTable) -> Iterator[str]:
        yield from self.trace.meta.warnings
        yield from about_model(self.trace.meta, self.shape)
        if chosen.sharing != "all-resident":
            yield from about_slots(decisions)
        if self.routing.train_name == self.spec.trace:
            yield "popularity is learnt from the very trace that is simulated"
        yield from about_order(self.spec.link, self.profile)
        yield from about_memory(self.room.with_slots(decisions.slots), self.profile)
        yield from self.costs.warnings


def _parameters(chosen: Policy) -> dict[str, Any]:
    return {name: value for name, value in dataclasses.asdict(chosen).items() if name not in ("name", "source")}
