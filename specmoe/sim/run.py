"""From a trace, a policy, a machine and a model's shape to a result: speculate, decide, time."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

import specmoe.traces
from specmoe.errors import InputError
from specmoe.hwprofiles.catalogue import load_profile, load_shape
from specmoe.hwprofiles.costs import Costs
from specmoe.hwprofiles.formats import bytes_of, compute_format
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.hwprofiles.shape import ModelShape
from specmoe.results import Manifest, RunResult
from specmoe.sim.caveats import about_link, about_memory, about_model, about_slots
from specmoe.sim.decide.director import decide
from specmoe.sim.decide.eviction import Context
from specmoe.sim.decide.policies import POLICIES, policy
from specmoe.sim.decide.policy import Policy
from specmoe.sim.decide.table import DecisionTable
from specmoe.sim.event_table import event_table
from specmoe.sim.overrides import sorted_overrides
from specmoe.sim.speculate.predictors import PREDICTORS, Routed, demands
from specmoe.sim.timing.bounds import ceiling_ns, link_bound_ns, mean_step_ns
from specmoe.sim.timing.durations import Durations, Home, contexts, copy_ns, durations_of
from specmoe.sim.timing.engine import Order, Timing, simulate
from specmoe.traces.store import Trace, library_versions
from specmoe.traces.workload import build

SEMANTICS = "event-atomic"
RESERVED_BYTES = 1 << 30  # of VRAM, for activations, caches and the runtime, unless told otherwise
CHUNKS = 4  # parts of a copy on a chunked link
AT_HOME = Home()  # pinned in the host's memory, in the format of the slots
CROSS_CONTEXT = 256  # encoder positions that a decoder attends to, which a decode trace does not tell


@dataclass(frozen=True)
class RunSpec:
    """What is simulated. `slots` or `vram` (bytes for all weights; the dense ones come first), else all there is.

    `overrides` change the policy or the profile by dotted name. `train` is the trace that popularity is learnt from.
    """

    trace: str
    profile: str = "rtx3090"
    shape: str = "switch-base-128"
    format: str | None = None
    slots: int | None = None
    vram: int | None = None
    batch: int = 1
    steps: int | None = None
    link: Order = "fifo"
    home: Home = AT_HOME
    host_set: str = "graph"
    train: str | None = None
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
        shipped = load_profile(spec.profile)
        self.policy_overrides, of_profile = sorted_overrides(spec.overrides, shipped)
        self.profile: HardwareProfile = shipped.with_overrides(of_profile)
        self.shape: ModelShape = load_shape(spec.shape)
        self.format: Any = spec.format or self.shape.format
        self.costs = self._costs()
        self.slots = self._slots()
        self._bounds: dict[int, dict[str, int]] = {}
        self.overridden = tuple(f"{name}={value}" for name, value in spec.overrides.items())

    def run(self, name: str, slots: int | None = None) -> Run:
        """Simulate one policy by its name, with other slots than the spec's if told."""
        chosen = self.policy(name)
        slots = self.slots if slots is None else slots
        decisions = self.decide(chosen, slots)
        durations = self.durations(decisions)
        timing = simulate(decisions, durations, self.spec.link, max(1, max(durations.copy, default=0) // CHUNKS))
        copied = self.shape.expert_bytes(self.spec.home.format or self.format)
        table = event_table(self.routed.workload, decisions, durations, timing, copied)
        found = (*self._warnings(chosen, decisions), *about_link(decisions, durations, timing))
        manifest = self._manifest(chosen, decisions.slots, self.bounds(slots), found)
        return Run(RunResult(table, manifest), decisions, durations, timing)

    def policy(self, name: str) -> Policy:
        """A named policy with what the spec overrides; raises InputError for an unknown name."""
        return policy(name, self.policy_overrides)

    def decide(self, chosen: Policy, slots: int) -> DecisionTable:
        """The decisions of a policy."""
        if chosen.predictor not in PREDICTORS:
            raise InputError(f"predictor {chosen.predictor!r}: one of {', '.join(PREDICTORS)} expected")
        predictor = PREDICTORS[chosen.predictor]()
        if self.train is not None:
            predictor.fit(self.train)
        context = Context(slots, self.routed.workload, self.popularity)
        return decide(self.routed.workload, predictor.predict(self.routed), chosen, slots, context)

    def durations(self, decisions: DecisionTable) -> Durations:
        """What everything in the decisions costs."""
        cross = CROSS_CONTEXT if self.attends_across else 1
        context = contexts(self.routed.workload, self.routed.block.position, cross)
        return durations_of(self.routed.workload, decisions, self.costs, self.spec.home, context)

    @property
    def attends_across(self) -> bool:
        """Whether there is cross-attention, to encoder positions that the trace does not tell."""
        return self.shape.encoder is not None and self.trace.meta.phase == "decode"

    @cached_property
    def train(self) -> Routed | None:
        """The train split, where the trace has one beside it or the spec names one."""
        name = self._train_name
        if name is None:
            return None
        train, meta = specmoe.traces.open(name), self.trace.meta
        for what in ("phase", "num_layers", "num_experts"):
            if getattr(train.meta, what) != getattr(meta, what):
                raise InputError(f"{name}: {what} {getattr(train.meta, what)}: {getattr(meta, what)} expected")
        return _routed(train, self.spec.batch, None)

    @property
    def _train_name(self) -> str | None:
        return self.spec.train or _train_beside(self.spec.trace)

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
        return self.shape.expert_bytes(self.format)

    @property
    def dense_bytes(self) -> int:
        """All weights that stay in VRAM under every policy."""
        return bytes_of(self.shape.resident_parameters, compute_format(self.format))

    def _slots(self) -> int:
        if self.spec.slots is not None and self.spec.vram is not None:
            raise InputError("either --slots or --vram expected, and not both")
        if self.spec.slots is not None:
            return min(self.spec.slots, self.num_keys)
        all_there_is = int(self.profile["device.vram"]) - RESERVED_BYTES
        budget = all_there_is if self.spec.vram is None else self.spec.vram
        always = self.dense_bytes + self._compressed_bytes()
        fitting = (budget - always) // self.expert_bytes
        if fitting < 1:
            need = always + self.expert_bytes
            raise InputError(f"{budget} bytes of VRAM hold no expert: with all that stays, one slot needs {need}")
        return min(int(fitting), self.num_keys)

    def _compressed_bytes(self) -> int:
        home = self.spec.home
        return 0 if home.format is None else home.compressed_slots * self.shape.expert_bytes(home.format)

    def _vram_bytes(self, slots: int) -> int:
        return self.dense_bytes + self._compressed_bytes() + slots * self.expert_bytes

    def _costs(self) -> Costs:
        home = self.spec.home
        moves: tuple[Any, ...] = ("host-pageable",) if home.tier == "host-pageable" else ("host-pinned",)
        if home.tier == "nvme":
            moves = (*moves, "nvme")
        most = int(self.routed.workload.tokens.max(initial=1))
        held = () if home.format is None else (home.format,)
        return Costs(self.profile, self.shape, self.format, self.spec.host_set, moves, held, most)  # type: ignore[arg-type]  # Costs checks the names itself

    def _manifest(self, chosen: Policy, slots: int, bounds: dict[str, int], warnings: tuple[str, ...]) -> Manifest:
        spec = self.spec
        home = {"tier": spec.home.tier, "home_format": spec.home.format, "compressed_slots": spec.home.compressed_slots}
        choices = {"link": spec.link, **home, "host": spec.host_set, "set": list(self.overridden)}
        unknown = (f"cross-attention to {CROSS_CONTEXT} positions",) if self.attends_across else ()
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
            vram_peak_bytes=self._vram_bytes(slots),
            evidence=self.costs.evidence,
            assumed=(*self.costs.assumed, *unknown),
            warnings=warnings,
            bounds=bounds,
            hashes=self._hashes,
            versions=library_versions("numpy", "simpy"),
        )

    @cached_property
    def _hashes(self) -> dict[str, str]:
        shape = json.dumps(dataclasses.asdict(self.shape), sort_keys=True)
        trace = self.trace.path.read_bytes()
        return {"trace": _hash(trace), "profile": self.profile.hash, "shape": _hash(shape.encode())}

    def _warnings(self, chosen: Policy, decisions: DecisionTable) -> Iterator[str]:
        yield from self.trace.meta.warnings
        yield from about_model(self.trace.meta, self.shape)
        if chosen.sharing != "all-resident":
            yield from about_slots(decisions)
        if self._train_name == self.spec.trace:
            yield "popularity is learnt from the very trace that is simulated"
        yield from about_memory(self._vram_bytes(decisions.slots), self.profile)
        yield from self.costs.warnings


def _routed(trace: Trace, batch: int, steps: int | None) -> Routed:
    block = trace.read()
    return Routed(build(block, trace.meta, batch, steps), block)


def _train_beside(trace: str) -> str | None:
    """The name of a bundled trace's train split."""
    parts = trace.split("/")
    return "/".join([*parts[:-1], "train"]) if len(parts) == 3 and not Path(trace).exists() else None


def _parameters(chosen: Policy) -> dict[str, Any]:
    return {name: value for name, value in dataclasses.asdict(chosen).items() if name not in ("name", "source")}


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]
