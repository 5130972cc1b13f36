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
from numpy.typing import NDArray

import specmoe.traces
from specmoe.hwprofiles.catalogue import load_profile, load_shape
from specmoe.hwprofiles.costs import Costs
from specmoe.hwprofiles.curves import Range
from specmoe.hwprofiles.dense import Steps
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.hwprofiles.shape import ModelShape
from specmoe.results import Manifest, RunResult
from specmoe.sim.break_even import BreakEven, Sweep, break_even, sweep
from specmoe.sim.caveats import about_link, about_memory, about_model, about_order, about_slots
from specmoe.sim.decide.director import decide
from specmoe.sim.decide.eviction import Context
from specmoe.sim.decide.policies import POLICIES, policy
from specmoe.sim.decide.policy import Policy
from specmoe.sim.decide.table import DecisionTable
from specmoe.sim.event_table import event_table
from specmoe.sim.memory import Room, slots_for
from specmoe.sim.overrides import sorted_overrides
from specmoe.sim.padding import padded, whole_context
from specmoe.sim.predictions import Predictions, assumptions, hash_of_bytes
from specmoe.sim.speculate.demands import demands
from specmoe.sim.speculate.predictor import Routed
from specmoe.sim.speculate.train_split import open_train, train_beside
from specmoe.sim.timing.bounds import ceiling_ns, link_bound_ns, mean_step_ns
from specmoe.sim.timing.durations import Durations, Home, contexts, copy_ns, durations_of
from specmoe.sim.timing.engine import Order, Timing, simulate
from specmoe.sim.timing.prediction import Charge, charge, charged
from specmoe.traces.store import Trace, library_versions
from specmoe.traces.workload import build

SEMANTICS = "event-atomic"
CHUNKS = 4  # parts of a copy on a chunked link
AT_HOME = Home()  # pinned in the host's memory, in the format of the slots
CROSS_CONTEXT = 256  # encoder positions that a decoder attends to, which a decode trace does not tell


@dataclass(frozen=True)
class RunSpec:
    """What is simulated. `profile` is a name, a path or a profile at hand.

    `slots` or `vram` (bytes for all weights; the dense ones come first), else all there is. `padded`: kernels exist for
    powers of two of tokens only, as captured graphs do. `overrides` change the policy or the profile by dotted name.
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


class Scenario:
    """All but the policy: trace, workload, machine and model are prepared once and policies run on them."""

    def __init__(self, spec: RunSpec) -> None:
        self.spec = spec
        self.trace: Trace = specmoe.traces.open(spec.trace)
        self.routed = _routed(self.trace, spec.batch, spec.steps)
        shipped = load_profile(spec.profile) if isinstance(spec.profile, str) else spec.profile
        self.policy_overrides, of_profile, self.predict_ns = sorted_overrides(spec.overrides, shipped)
        self.profile: HardwareProfile = shipped.with_overrides(of_profile)
        self.shape: ModelShape = load_shape(spec.shape)
        self.format: Any = spec.format or self.shape.format
        self.costs = self._costs()
        self.room = Room(self.shape, self.format, spec.home)
        self.slots = slots_for(self.room, spec.slots, spec.vram, int(self.profile["device.vram"]), self.num_keys)
        self._bounds: dict[int, dict[str, int]] = {}
        self._sweeps: dict[int, Sweep] = {}
        self._break_even: dict[int, BreakEven] = {}
        self.overridden = tuple(f"{name}={value}" for name, value in spec.overrides.items())

    def run(self, name: str, slots: int | None = None) -> Run:
        """Simulate one policy by its name, with other slots than the spec's if told."""
        chosen = self.policy(name)
        slots = self.slots if slots is None else slots
        decisions = self.decide(chosen, slots)
        cost = self.charge(chosen)
        durations = charged(self.durations(decisions), cost)
        timing = self.time(decisions, durations)
        copied = self.shape.expert_bytes(self.spec.home.format or self.format)
        table = event_table(self.routed.workload, decisions, durations, timing, copied)
        found = (*self._warnings(chosen, decisions), *about_link(decisions, durations, timing))
        manifest = self._manifest(chosen, cost, decisions.slots, self.bounds(slots), found)
        return Run(RunResult(table, manifest), decisions, durations, timing)

    def policy(self, name: str) -> Policy:
        """A named policy with what the spec overrides; raises InputError for an unknown name."""
        return policy(name, self.policy_overrides)

    def decide(self, chosen: Policy, slots: int) -> DecisionTable:
        """The decisions of a policy."""
        context = Context(slots, self.routed.workload, self.popularity)
        return decide(self.routed.workload, self.predictions.of(chosen), chosen, slots, context)

    def charge(self, chosen: Policy) -> Charge:
        """What a policy's predictions cost."""
        return charge(chosen, self.routed.workload, self.costs, self.predict_ns, self.spec.padded)

    def durations(self, decisions: DecisionTable, costs: Costs | None = None) -> Durations:
        """What everything in the decisions costs, predictions aside; with other costs than the scenario's if told."""
        workload, home = self.routed.workload, self.spec.home
        return durations_of(workload, decisions, costs or self.costs, home, self.contexts, self.spec.padded)

    @cached_property
    def contexts(self) -> list[int]:
        """Positions that the tokens of each step attend to."""
        cross = CROSS_CONTEXT if self.attends_across else 1
        return contexts(self.routed.workload, self.routed.block.position, cross)

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

    @cached_property
    def predictions(self) -> Predictions:
        """What predictors say of the workload."""
        batching = (self.spec.batch, self.spec.steps)
        return Predictions(self.trace.path, self.routed, batching, lambda: self._train, self.spec.predictions)

    @property
    def train(self) -> Routed | None:
        """The train split, where the trace has one beside it or the spec names one."""
        return None if self._train is None else self._train[0]

    @cached_property
    def _train(self) -> tuple[Routed, Path] | None:
        name = self._train_name
        if name is None:
            return None
        train = open_train(name, self.trace.meta)
        return _routed(train, self.spec.batch, None), train.path

    @property
    def _train_name(self) -> str | None:
        return self.spec.train or train_beside(self.spec.trace)

    @cached_property
    def popularity(self) -> NDArray[np.int64] | None:
        """Demands of each key in the train split."""
        if self.train is None:
            return None
        counts: NDArray[np.int64] = sum(part.sum(axis=0) for part in demands(self.train.workload)).reshape(-1)
        return counts

    @cached_property
    def floor_ns(self) -> int:
        """Mean step with every expert resident."""
        decisions = self.decide(POLICIES["gpu-only"], self.num_keys)
        return mean_step_ns(decisions, self.durations(decisions))

    def bounds(self, slots: int) -> dict[str, int]:
        """Mean steps, ns: every expert resident; perfect knowledge; nothing overlapped; the link alone."""
        if slots not in self._bounds:
            self._bounds[slots] = self._compute_bounds(slots)
        return self._bounds[slots]

    def _compute_bounds(self, slots: int) -> dict[str, int]:
        oracle = self.decide(POLICIES["oracle"], slots)
        fewest = self.decide(POLICIES["belady"], slots + self.spec.home.compressed_slots)
        every_miss = self.decide(POLICIES["on-demand"], slots)
        durations = self.durations(oracle)
        copy = copy_ns(self.costs, self.spec.home)
        return {
            "floor_ns": self.floor_ns,
            "oracle_ns": mean_step_ns(oracle, durations),
            "ceiling_ns": ceiling_ns(every_miss, self.durations(every_miss), copy),
            "link_ns": link_bound_ns(fewest.demand_loads, copy, durations.read, fewest.num_steps),
        }

    @property
    def num_keys(self) -> int:
        """Experts of all layers."""
        return self.trace.meta.num_layers * self.trace.meta.num_experts

    @property
    def expert_bytes(self) -> int:
        """One expert in its format."""
        return self.room.expert_bytes

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
        unknown = [f"cross-attention to {CROSS_CONTEXT} positions"] if self.attends_across else []
        unknown += [cost.assumed] if cost.assumed else []
        unknown += assumptions(chosen)
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
            assumed=(*self.costs.assumed, *unknown),
            warnings=warnings,
            bounds=bounds,
            break_even_precision=self.break_even().precision if spec.break_even else None,
            hashes=self._hashes,
            versions=library_versions("numpy", "simpy"),
        )

    @cached_property
    def _hashes(self) -> dict[str, str]:
        shape = json.dumps(dataclasses.asdict(self.shape), sort_keys=True)
        trace = self.trace.path.read_bytes()
        return {"trace": hash_of_bytes(trace), "profile": self.profile.hash, "shape": hash_of_bytes(shape.encode())}

    def _warnings(self, chosen: Policy, decisions: DecisionTable) -> Iterator[str]:
        yield from self.trace.meta.warnings
        yield from about_model(self.trace.meta, self.shape)
        if chosen.sharing != "all-resident":
            yield from about_slots(decisions)
        if self._train_name == self.spec.trace:
            yield "popularity is learnt from the very trace that is simulated"
        yield from about_order(self.spec.link, self.profile)
        yield from about_memory(self.room.with_slots(decisions.slots), self.profile)
        yield from self.costs.warnings


def _routed(trace: Trace, batch: int, steps: int | None) -> Routed:
    block = trace.read()
    return Routed(build(block, trace.meta, batch, steps), block)


def _parameters(chosen: Policy) -> dict[str, Any]:
    return {name: value for name, value in dataclasses.asdict(chosen).items() if name not in ("name", "source")}
