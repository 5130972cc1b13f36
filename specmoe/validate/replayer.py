"""Execution of a `DecisionTable` on a device: the twin of `specmoe.sim.timing.engine`, in the same order and words.

The host launches the dense part with the router and waits for the router's result. It looks up the decisions, issues
the loads, predicts, and launches the experts, one or a group at a time, without waiting for any of them. At the end of
a step it waits for the compute stream.

Experts on the CPU are handed over before anything is issued. Once everything is launched the host waits for them, and
has their result added.

`Device` is what a device must do for this; `cuda` does it on a GPU. `Work` is a policy's decisions with the sizes of
their kernels.
"""

from array import array
from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from specmoe.errors import InputError
from specmoe.hwprofiles.kernels import USUAL
from specmoe.hwprofiles.launches import padded, whole_context
from specmoe.hwprofiles.shape import PACKED, is_compressed, require_kernels
from specmoe.sim.decide.policy import Policy
from specmoe.sim.decide.program import Program, program_of
from specmoe.sim.decide.table import DecisionTable, column, unpacked, uses_on_cpu
from specmoe.sim.run import Scenario
from specmoe.sim.speculate.predictors import ON_THE_DEVICE

Times = NDArray[np.int64]


class Dense(NamedTuple):
    """Dense part up to the router's result of a MoE layer; `routers` above 1 includes those of look-ahead."""

    layer: int
    tokens: int
    context: int
    routers: int = 1


class Work(NamedTuple):
    """Decisions in order of execution, with the sizes of their kernels."""

    table: DecisionTable
    program: Program
    dense: Sequence[Dense]  # [events]
    heads: Sequence[int]  # [steps], tokens
    tokens: Sequence[int]  # [uses], tokens of the expert's kernel
    expands: Sequence[bool]  # [uses], the first use of a load whose format is not the slot's
    predict: Sequence[int] = ()  # [events], ns of the host thread; empty: none
    runs_ahead: bool = False  # routing stays on the device: the host waits at the end of a step only


class DeviceTimes(NamedTuple):
    """Times on the device, ns on the clock of `Device.now`; starts are -1 unless the run is traced.

    Those of uses on the CPU are the CPU's, always with starts.
    """

    dense_start: Times  # [events]
    dense_end: Times  # [events], the router's result is known on the device
    use_start: Times  # [uses]
    use_end: Times  # [uses]
    started: Times  # [loads]
    landed: Times  # [loads]
    head_start: Times  # [steps]
    head_end: Times  # [steps]
    copied: Times  # [events], the CPU's result is on the device; -1 where it computes none
    added: Times  # [events], and has been added


class Device(Protocol):
    """A host thread's view of the CPU's threads, and of a device with a stream that computes and one that copies.

    Only `wait_for_router`, `join`, `end_step` and `think` block. The device enforces the rule of slot reuse: a copy
    into a slot begins after the last kernel that reads the slot's former expert has ended.
    """

    def prepare(self, work: Work) -> None:
        """Prepare everything that a run of this work launches."""

    def begin(self, traced: bool) -> None:
        """Start a run; `traced` also records all start times, which takes time."""

    def now(self) -> int:
        """The host's clock, ns."""

    def launch_dense(self, event: int) -> None:
        """Launch everything up to the router of an event."""

    def wait_for_router(self, event: int) -> None:
        """Wait until the router's result of an event is in host memory."""

    def fetch(self, event: int) -> None:
        """Issue the copy of an event's hidden state into host memory, for the CPU."""

    def hand_over(self, event: int) -> None:
        """Have the CPU compute its experts of an event, as soon as the hidden state is there."""

    def join(self, event: int) -> None:
        """Wait for the CPU's experts, and issue the copy of their result and its addition."""

    def think(self, ns: int) -> None:
        """Keep the host thread busy for `ns`, in place of a prediction."""

    def issue(self, load: int) -> None:
        """Issue a load's copy into its slot."""

    def launch(self, use: int) -> None:
        """Launch the group of experts that ends with `use`; it waits for the loads of all of them."""

    def launch_head(self, step: int) -> None:
        """Launch everything after the last MoE layer of a step."""

    def end_step(self, step: int) -> None:
        """Wait for everything launched in a step."""

    def end(self) -> DeviceTimes:
        """End the run and return the times on the device."""


class Recording(NamedTuple):
    """Times of a replay, ns, with the names of the engine's `Timing`."""

    begin: Times  # [events]
    dense_launched: Times  # [events], the host's call has returned
    ready: Times  # [events]
    decided: Times  # [events], the decisions have been looked up
    handed: Times  # [events], the CPU's experts have been handed over
    launched: Times  # [events], the host has launched and issued everything
    joined: Times  # [events], and the addition of the CPU's result
    head_launched: Times  # [steps], likewise everything after the last MoE layer
    step_end: Times  # [steps]
    called: Times  # [uses], the launch of its group has returned
    issued: Times  # [loads], likewise
    order: Times  # [loads], the event in which the load was issued
    device: DeviceTimes


def replay(work: Work, device: Device, traced: bool = False) -> Recording:
    """Execute all steps once on a device that was prepared for this work."""
    rounds, loads, load_offsets, uses, use_offsets, _, _, opens, last = work.program
    layers, predict = work.table.num_layers, work.predict
    now, launch, issue = device.now, device.launch, device.issue
    events, steps, on_cpu = array("q"), array("q"), uses_on_cpu(work.table)
    called, issued, order = column(len(uses)), column(len(loads)), column(len(loads), -1)
    device.begin(traced)
    for event in range(work.table.num_steps * layers):
        begin = now()
        device.launch_dense(event)
        dense_launched, computes = now(), event in on_cpu
        if computes:
            device.fetch(event)
        if not work.runs_ahead:
            device.wait_for_router(event)
        ready = now()
        first, end = rounds[event], rounds[event + 1]
        decided = now()
        if computes:
            device.hand_over(event)
        handed = now()
        for round_ in range(first, end):
            if predict and round_ == end - 1:
                device.think(predict[event])
            for load in loads[load_offsets[round_] : load_offsets[round_ + 1]]:
                issue(load)
                issued[load] = now()
                order[load] = event
            for use in uses[use_offsets[round_] : use_offsets[round_ + 1]]:
                if opens[use]:
                    launch(last[use])
                called[use] = now()
        launched = now()
        if computes:
            device.join(event)
        events.extend((begin, dense_launched, ready, decided, handed, launched, now()))
        if (event + 1) % layers == 0:
            device.launch_head(event // layers)
            head_launched = now()
            device.end_step(event // layers)
            steps.extend((head_launched, now()))
    times = device.end()
    begins, denses, readies, decisions, hands, launches, joins = unpacked(events).reshape(-1, 7).T.copy()
    heads, ends = unpacked(steps).reshape(-1, 2).T.copy()
    of_uses, of_loads, in_event = map(unpacked, (called, issued, order))
    of_events = (begins, denses, readies, decisions, hands, launches, joins)
    return Recording(*of_events, heads, ends, of_uses, of_loads, in_event, times)


def latencies(recording: Recording) -> Times:
    """Latency of every step, ns, [steps]."""
    layers = len(recording.begin) // len(recording.step_end)
    return np.asarray(recording.step_end - recording.begin[::layers])


def work_of(scenario: Scenario, policy: Policy, table: DecisionTable) -> Work:
    """Work of a replay of `table`; raises InputError if it cannot be replayed."""
    require_replayable(scenario)
    if table.cpu_uses:
        require_cpu(scenario)
    workload, cost = scenario.routed.workload, scenario.charge(policy)
    if cost.on == "gpu" and policy.predictor not in ON_THE_DEVICE:
        raise InputError(f"{policy.name}: a network on the device is not replayed: predictor.device=cpu expected")
    predict = cost.ns if cost.on == "host" else []
    depth = policy.prefetch.depth if policy.prefetch and cost.on == "gpu" else 0
    layers = table.num_layers
    tokens = padded(workload.step_tokens).tolist()
    attended, last = scenario.shape.attended, scenario.shape.stack(workload.meta.phase).moe_layers - 1
    dense = [
        Dense(
            layer, count, attended(phase, whole_context(context), min(layer, last)), 1 + min(depth, layers - 1 - layer)
        )
        for phase, count, context in zip(workload.phases, tokens, scenario.contexts, strict=True)
        for layer in range(layers)
    ]
    home = scenario.config.home.format
    expands = first_uses(table) if home not in (None, scenario.format) else np.zeros(len(table.uses.key), np.bool_)
    uses = padded(table.uses.tokens).tolist()
    style = scenario.costs_of(policy).style
    program = program_of(table, any(predict), style.launch)
    runs_ahead = table.all_resident and style.launch != "separate"
    return Work(table, program, dense, tokens, uses, expands.tolist(), predict, runs_ahead)


def first_uses(table: DecisionTable) -> NDArray[np.bool_]:
    """Mask of the uses that are the first of their load, [uses]."""
    loads, rows = np.unique(table.uses.load, return_index=True)
    first = np.zeros(len(table.uses.load), np.bool_)
    first[rows[loads >= 0]] = True
    return first


def require_cpu(scenario: Scenario) -> None:
    """Raise InputError for configurations in which the replayer cannot compute experts on the CPU."""
    style, held = scenario.config.style or USUAL, scenario.config.home.format or scenario.format
    if style.launch != "separate":
        raise InputError(f"experts on the CPU cannot be replayed in style {style}: separate expected")
    if is_compressed(held) or held != scenario.format:
        raise InputError(
            f"experts on the CPU cannot be replayed in {held}: slots and home in fp32, fp16 or bf16 expected"
        )


def require_replayable(scenario: Scenario) -> None:
    """Raise InputError for configurations that the replayer does not support."""
    spec = scenario.config
    if scenario.format != PACKED:
        require_kernels(scenario.format, "replayed")
    style = scenario.config.style or USUAL
    if scenario.format == PACKED and style != USUAL:
        raise InputError(
            f"{PACKED} in style {style} cannot be replayed, only by torch's product: fused/separate expected"
        )
    if style.launch != "separate" and spec.home.format not in (None, scenario.format):
        raise InputError(f"groups of experts that are {spec.home.format} at home cannot be replayed: separate expected")
    if spec.link != "fifo":
        raise InputError(f"link order {spec.link} cannot be replayed: fifo expected")
    if spec.home.tier != "host-pinned":
        raise InputError(f"experts in {spec.home.tier} cannot be replayed: host-pinned expected")
    if spec.home.compressed_slots:
        raise InputError("compressed slots in VRAM cannot be replayed: --compressed-slots 0 expected")
    if spec.host_set != "graph":
        raise InputError(f"host costs {spec.host_set} cannot be replayed: the replayer captures graphs: graph expected")
