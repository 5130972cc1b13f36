"""What a replay prepares on a CUDA device: slots, kernels, captured graphs, and the calls of every event.

The wait of a copy, set up in `_prepare_loads`, alone enforces the rule of slot reuse. Experts on the CPU are computed
by a `CpuLane`; their small copies go over the compute stream.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.cuda import CUDAGraph, Event, Stream

from specmoe.errors import InputError
from specmoe.hwprofiles.kernels import Style
from specmoe.hwprofiles.measure.cuda import captured
from specmoe.hwprofiles.measure.layers import ExpertKernel, PackedKernel, Run, Stand, expand
from specmoe.hwprofiles.shape import PACKED, Format, ModelShape, Phase, compute_format, is_expandable
from specmoe.sim.decide.table import GPU, uses_on_cpu
from specmoe.validate.on_cpu import CpuLane
from specmoe.validate.replayer import Dense, Work
from specmoe.validate.slots import Arena, CopyStream, Pool, enough_vram

if TYPE_CHECKING:
    from specmoe.hwprofiles.measure.fused import FusedKernel

GROUP = "group"  # first part of the key of a group's graph


class Copy(NamedTuple):
    """A load: the event it waits for, target, source, and the events of its start and end."""

    wait: Event
    target: Tensor
    source: Tensor
    start: Event
    end: Event


class Launch(NamedTuple):
    """A graph: the event it waits for, and the events of its start and end."""

    wait: Event
    graph: CUDAGraph
    start: Event
    end: Event


class Join(NamedTuple):
    """An event's experts on the CPU: hidden state on the device and on the host, the result likewise, and their sum."""

    hidden: Tensor
    at_host: Tensor
    result: Tensor
    sent: Tensor
    total: Tensor
    fetched: Event
    copied: Event
    added: Event


class Model(NamedTuple):
    """A model in one phase, with the formats of its experts in slots and at home."""

    shape: ModelShape
    phase: Phase
    format: Format
    home: Format
    style: Style = Style("expand")

    @property
    def expands_on_arrival(self) -> bool:
        """Whether experts are expanded on arrival, because slots have another format than home."""
        return self.home != self.format

    @property
    def reads_slots(self) -> bool:
        """Whether experts are computed by the fused kernel, in groups of one or more."""
        return self.style.launch != "separate" or (self.style.multiply == "fused" and is_expandable(self.format))


class Prepared:
    """The current CUDA device with `slots` slots, prepared for runs; `threads` of the CPU compute experts."""

    def __init__(self, model: Model, slots: int, pool: Pool, threads: int = 1) -> None:
        self.model, self.pool, self.threads = model, pool, threads
        self.device = torch.device("cuda", torch.cuda.current_device())
        self.compute = _stream(self.device)
        self.copy = CopyStream(self.device, self.compute)
        size = model.shape.expert_bytes(model.format)
        if model.expands_on_arrival:
            self.slots = Arena(slots, size, size, self.device)
            self.landing = Arena(slots, pool.size, pool.copied, self.device)
        else:
            self.slots = self.landing = Arena(slots, size, pool.copied, self.device)
        self.kernel = self._kernel()
        self._fused: FusedKernel | None = None
        self.in_groups = False
        self.stand = Stand(model.shape, model.phase, compute_format(model.format), self.device)
        self._graphs: dict[Any, CUDAGraph] = {}
        self._pool_of_graphs = torch.cuda.graph_pool_handle()
        self._events: list[Event] = []
        self._past = self._event()
        self._lane: CpuLane | None = None
        self.fill()

    def _kernel(self) -> ExpertKernel | PackedKernel:
        """Kernel of single experts."""
        if self.model.format == PACKED:
            return PackedKernel(self.model.shape, self.device)
        return ExpertKernel(self.model.shape, self.model.format, self.device)

    @property
    def groups(self) -> "FusedKernel":
        """Kernel of groups, made on first use; raises InputError without triton."""
        if self._fused is None:
            try:
                from specmoe.hwprofiles.measure.fused import FusedKernel
            except ModuleNotFoundError:
                raise InputError("kernels that read slots need triton, which is not installed") from None
            self._fused = FusedKernel(self.model.shape, self.model.format, self.slots.all)
        return self._fused

    def close(self) -> None:
        """End the thread that computes experts on the CPU."""
        if self._lane:
            self._lane.close()

    def fill(self) -> None:
        """Fill every slot: key k into slot k."""
        for slot in range(len(self.slots)):
            self.settle(slot, slot)

    def settle(self, slot: int, key: int) -> None:
        """Put an expert into a slot before a run, in the slot's format."""
        arrived = self.pool[key].to(self.device)
        if not self.model.expands_on_arrival:
            self.slots[slot].copy_(arrived)
        else:
            expand(arrived, self.model.home, self.model.shape.expert_parameters, self.slots[slot])

    def prepare(self, work: Work) -> None:
        """Capture missing graphs and prepare the calls of every event."""
        self.work = work
        self._taken = 0
        loads, uses, steps = len(work.table.loads.key), len(work.table.uses.key), work.table.num_steps
        on_gpu = np.flatnonzero(work.table.uses.where == GPU).tolist()
        ends = [self._next() for _ in range(uses)]
        self._loads = self._prepare_loads(work, ends)
        self.in_groups = self.model.reads_slots or not all(work.program.opens[use] for use in on_gpu)
        with enough_vram():
            self._uses = self._prepare_groups(work, ends) if self.in_groups else self._prepare_uses(work, ends)
            self._joins = self._prepare_joins(work)
            self._dense = [self._launch(self._before(dense), self._next()) for dense in work.dense]
            self._heads = [self._launch(self._head(tokens), self._next()) for tokens in work.heads]
        assert (len(self._loads), len(self._uses), len(self._heads)) == (loads, len(on_gpu), steps)
        torch.cuda.synchronize(self.device)

    def _prepare_loads(self, work: Work, ends: list[Event]) -> list[Copy]:
        """Prepare the loads; each waits for the last kernel that reads its slot's former expert."""
        table = work.table.loads
        rows = zip(table.slot.tolist(), table.key.tolist(), work.program.reader, strict=True)
        return [
            Copy(
                self._past if reader < 0 else ends[reader],
                self.landing.target(slot),
                self.pool.source(key),
                self._next(),
                self._next(),
            )
            for slot, key, reader in rows
        ]

    def _prepare_uses(self, work: Work, ends: list[Event]) -> dict[int, Launch]:
        """Prepare the experts by use; each waits for its load."""
        uses = work.table.uses
        rows = zip(uses.slot.tolist(), work.tokens, work.expands, uses.load.tolist(), uses.where.tolist(), strict=True)
        return {
            use: self._launch(
                self.expert(slot, tokens, expands), ends[use], self._loads[load].end if load >= 0 else None
            )
            for use, (slot, tokens, expands, load, where) in enumerate(rows)
            if where == GPU
        }

    def _prepare_joins(self, work: Work) -> dict[int, Join]:
        """Prepare the CPU's experts by event."""
        events = uses_on_cpu(work.table)
        if not events:
            return {}
        most, d_model = max(work.heads), self.model.shape.d_model
        if self._lane is None or len(self._lane.hidden) < most:
            self._lane = CpuLane(self.model.shape, self.pool, self.threads, most, pinned=True)
            self._sent = torch.zeros((most, d_model), dtype=self._lane.result.dtype, device=self.device)
            self._total = torch.zeros((most, d_model), device=self.device)
        self._lane.compute_with(self.threads)
        self._lane.prepare(work.table)
        return {event: self._join_of(work.heads[event // work.table.num_layers], most) for event in events}

    def _join_of(self, tokens: int, most: int) -> Join:
        assert isinstance(self.kernel, ExpertKernel) and self._lane
        parts = (self.kernel.input(most), self._lane.hidden, self._lane.result, self._sent, self._total)
        hidden, at_host, result, sent, total = (part[:tokens] for part in parts)
        return Join(hidden, at_host, result, sent, total, self._next(), self._next(), self._next())

    def _prepare_groups(self, work: Work, ends: list[Event]) -> dict[int, Launch]:
        """Prepare the groups by use: the launch of each use's group, which waits for the last of its loads."""
        members = members_of(work)
        slots, loads = work.table.uses.slot.tolist(), work.table.uses.load.tolist()
        launches = [[(slots[use], work.tokens[use]) for use in group] for group in members]
        if self.groups.prepare(launches):
            self._graphs = {key: graph for key, graph in self._graphs.items() if key[0] != GROUP}
        issued = {load: place for place, load in enumerate(work.program.loads)}
        found: dict[int, Launch] = {}
        for group, launch in zip(members, launches, strict=True):
            last = max((loads[use] for use in group if loads[use] >= 0), key=lambda load: issued[load], default=-1)
            wait = None if last < 0 else self._loads[last].end
            prepared = self._launch(self.group(launch), ends[group[-1]], wait)
            found |= dict.fromkeys(group, prepared)
        return found

    def group(self, launch: Sequence[tuple[int, int]], padded: int = 0) -> CUDAGraph:
        """Graph of a launch of (slot, tokens), computed for `padded` tokens (default: as many as the most need)."""
        from specmoe.hwprofiles.measure.fused import entries_of, padded_tokens

        entries, groups = entries_of(launch), self.groups
        size = padded or padded_tokens(max(entry.tokens for entry in entries))
        return self._graph((GROUP, len(entries), size), lambda: groups.run(len(entries), size))

    def _launch(self, graph: CUDAGraph, end: Event, wait: Event | None = None) -> Launch:
        return Launch(wait or self._past, graph, self._next(), end)

    def _before(self, dense: Dense) -> CUDAGraph:
        return self._graph(dense, lambda: self.stand.before(*dense)[0])

    def _head(self, tokens: int) -> CUDAGraph:
        return self._graph(("head", tokens), lambda: self.stand.head(tokens))

    def expert(self, slot: int, tokens: int, expands: bool) -> CUDAGraph:
        """Graph of an expert on `tokens` tokens; `expands` first expands it into its slot from the format at home."""
        return self._graph((slot, tokens, expands), lambda: self._expert_run(slot, tokens, expands))

    def _expert_run(self, slot: int, tokens: int, expands: bool) -> Run:
        run, _ = self.kernel.bind(self.slots[slot], tokens)
        if not expands:
            return run
        parameters, home = self.model.shape.expert_parameters, self.model.home

        def expand_and_run() -> None:
            expand(self.landing[slot], home, parameters, self.slots[slot])
            run()

        return expand_and_run

    def _graph(self, key: Any, make: Any) -> CUDAGraph:
        if key not in self._graphs:
            self._graphs[key] = captured(make(), self.compute, self._pool_of_graphs)
        return self._graphs[key]

    def _event(self) -> Event:
        event = timed()
        event.record(self.compute)  # an unrecorded event does not exist for the driver
        return event

    def _next(self) -> Event:
        """Next event of this work, reusing those of earlier works."""
        if self._taken == len(self._events):
            self._events.append(self._event())
        self._taken += 1
        return self._events[self._taken - 1]


def members_of(work: Work) -> list[list[int]]:
    """The uses of each launch, in order."""
    groups: list[list[int]] = []
    where = work.table.uses.where
    for use in (use for use in work.program.uses if where[use] == GPU):
        if work.program.opens[use]:
            groups.append([])
        groups[-1].append(use)
    return groups


def _stream(device: torch.device) -> Stream:
    return Stream(device)  # type: ignore[no-untyped-call]  # torch's own gap


def timed() -> Event:
    """A new event that records its time."""
    return Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch's own gap
