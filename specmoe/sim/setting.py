"""What runs share whatever their policies are: trace, workload, machine, model, what VRAM holds, and costs."""

import dataclasses
import json
from collections.abc import Hashable
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from specmoe.errors import InputError
from specmoe.files import hash_of_bytes, hash_of_file
from specmoe.hwprofiles.catalogue import load_profile, load_shape
from specmoe.hwprofiles.costs import Costs
from specmoe.hwprofiles.cpu import CpuExperts
from specmoe.hwprofiles.curves import Range
from specmoe.hwprofiles.expected_error import Expected, expected_error, ratio_error
from specmoe.hwprofiles.kernels import RESIDENT, Size, Steps, Style, require_expandable
from specmoe.hwprofiles.launches import padded, whole_context
from specmoe.hwprofiles.profile import HardwareProfile
from specmoe.hwprofiles.shape import Format, ModelShape, compute_format, require_can_fill
from specmoe.hwprofiles.what_if import scaled, with_values
from specmoe.sim.budget import CROSS_CONTEXT, Ask, Budget, Room, budget, lines, longest_context, slots_of_layers
from specmoe.sim.claims import default_shape
from specmoe.sim.config import RunConfig, pair_of, sorted_overrides
from specmoe.sim.decide.placement import Sizes
from specmoe.sim.decide.policy import Policy
from specmoe.sim.decide.table import DecisionTable
from specmoe.sim.event_table import Column
from specmoe.sim.routing import Routing
from specmoe.sim.speculate.predictor import Routed
from specmoe.sim.speculate.store import Predictions
from specmoe.sim.timing.durations import Durations, copies_ns, durations_of
from specmoe.sim.timing.variants import Sample
from specmoe.summary import LINES
from specmoe.traces.store import Trace
from specmoe.traces.workload import WarmUp

KEPT = 8  # samples whose durations are kept


class Setting:
    """Trace, workload, machine and model of runs, each prepared once.

    `predictions` is a directory in which predictions are kept from one run to the next. `routing` may be given where
    several settings share one: that of `config.routing`.
    """

    def __init__(self, config: RunConfig, predictions: Path | None = None, routing: Routing | None = None) -> None:
        self.config = config
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
        self._expected: dict[tuple[Style, bool], Expected] = {}
        self._of_samples: dict[Hashable, Durations] = {}
        self._styled: dict[Style, Costs] = {self.costs.style: self.costs}
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

    def durations_of_sample(self, part: Sample, content: Hashable, costs: Costs) -> Durations:
        """Durations of a sample's rows, which samples of equal content share; `costs` are the setting's in a style."""
        key = content, costs.style, costs.cpu is None
        if key not in self._of_samples:
            if len(self._of_samples) >= KEPT:
                del self._of_samples[next(iter(self._of_samples))]
            durations = durations_of(
                part.workload, part.table, costs, self.config.home, part.context, self.config.padded
            )
            self._of_samples[key] = durations
        return self._of_samples[key]

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

    @property
    def costs_of_floor(self) -> list[Costs]:
        """Costs in the styles of which the faster one gives the floor."""
        return [self.costs_in(style) for style in dict.fromkeys((self.costs.style, RESIDENT))]

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

    @property
    def dense_format(self) -> Format:
        """Format of the weights that are no experts."""
        return self.config.dense_format or compute_format(self.format)

    @cached_property
    def hashes(self) -> dict[str, str]:
        """SHA-256 of the trace, the profile, the shape and, of sessions, the prefill trace."""
        shape = json.dumps(dataclasses.asdict(self.shape), sort_keys=True)
        own = {"trace": self.routing.trace_hash, "profile": self.profile.hash, "shape": hash_of_bytes(shape.encode())}
        prefill = self.routing.prefill
        return own | ({} if prefill is None else {"prefill": hash_of_file(prefill.path)})


def _slots_in(room: int, sizes: Sizes) -> int:
    """The slots that `room` bytes hold; raises InputError for none."""
    slots = sizes.most(room)
    if not slots:
        raise InputError(f"--cache-bytes {room}: less than the {min(sizes.layers)} bytes of one expert")
    return slots
