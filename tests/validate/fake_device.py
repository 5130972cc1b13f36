"""What lay in every slot while an expert ran from it: the check that no slot is overwritten while it is read.

A device without a GPU: virtual clocks of a host thread and two streams, and what its slots hold when.

Every stream does what it is given in order. Anything on it begins when the stream is free, some time has passed since
the host's call, and the events that it waits for have happened: a copy waits for the last kernel that reads its slot, a
kernel for its load, and for the hand-over from one stream to the other.

The time for bookkeeping is spent right after the host has looked at the clock to see when the router's result came:
`Device` has no call for it, as on a real device it is the time that the replayer's own code takes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from specmoe.hwprofiles.costs import HostCosts
from specmoe.sim.decide.table import CPU, DecisionTable, uses_on_cpu
from specmoe.sim.timing.cpu_lane import NO_CPU, CpuCosts
from specmoe.validate.replayer import DeviceTimes, Times, Work

Ints = NDArray[np.int64]
NOBODY = -1  # what a slot holds before its first load


class Contents:
    """The slots of a run whose loads started and landed at these times, [loads]; copies are never two at a time."""

    def __init__(self, table: DecisionTable, started: Times, landed: Times) -> None:
        self._table = table
        self._first = _resident(table)
        self._copies: dict[int, list[tuple[int, int, int]]] = {}  # of each slot: start, end, key
        for load in np.argsort(started, kind="stable").tolist():
            copy = (int(started[load]), int(landed[load]), int(table.loads.key[load]))
            self._copies.setdefault(int(table.loads.slot[load]), []).append(copy)

    def during(self, slot: int, start: int, end: int) -> tuple[int, ...]:
        """The keys of which a slot held bytes from `start` to `end`, in their order: one, if all is well."""
        whole = self._first.get(slot, NOBODY)
        torn = []
        for began, landed, key in self._copies.get(slot, ()):
            if landed <= start:
                whole = key
            elif began < end:
                torn.append(key)
        return (whole, *torn)

    def outputs(self, start: Times, end: Times) -> Ints:
        """What experts compute that run at these times, [uses]."""
        uses = self._table.uses
        rows = zip(uses.slot.tolist(), uses.tokens.tolist(), start.tolist(), end.tolist(), strict=True)
        found = np.array([checksum(tokens, *self.during(slot, *span)) for slot, tokens, *span in rows], np.int64)
        return np.where(uses.where == CPU, truth(self._table), found)  # the CPU reads experts at home


def checksum(tokens: int, *keys: int) -> int:
    """Stands for the output of an expert on so many tokens, out of a slot that held bytes of these keys."""
    return crc32(np.array([tokens, *keys], np.int64).tobytes())


def truth(table: DecisionTable) -> Ints:
    """What every use must compute wherever its expert is, [uses]."""
    rows: Any = zip(table.uses.tokens.tolist(), table.uses.key.tolist(), strict=True)
    return np.array([checksum(*row) for row in rows], np.int64)


def _resident(table: DecisionTable) -> dict[int, int]:
    """The key in each slot from the start, as far as uses tell."""
    rows = np.flatnonzero(table.uses.load < 0).tolist()
    return {int(table.uses.slot[row]): int(table.uses.key[row]) for row in rows}


Vary = Callable[[int], int]


class FakeCosts(NamedTuple):
    """What everything in a `Work` takes, ns."""

    host: HostCosts
    dense: Sequence[int]  # [events], up to the router's result
    expert: Sequence[int]  # [uses]
    head: Sequence[int]  # [steps]
    copy: Sequence[int]  # [loads]
    cpu: CpuCosts = NO_CPU
    to_host: Sequence[int] = ()  # [steps], a hidden state
    to_device: Sequence[int] = ()  # [steps], the CPU's result


def exact(ns: int) -> int:
    """No noise."""
    return ns


def noisy(spread: float, rng: np.random.Generator) -> Vary:
    """Every cost varies by a lognormal factor of median 1; `spread` is the standard deviation of its logarithm."""
    return lambda ns: round(ns * math.exp(spread * rng.standard_normal()))


class FakeDevice:
    """`Device` with made-up costs: `costs_of` tells those of a work, and `vary` what each takes when it happens."""

    def __init__(self, costs_of: Callable[[Work], FakeCosts], vary: Vary = exact) -> None:
        self._costs_of, self._vary = costs_of, vary

    def prepare(self, work: Work) -> None:
        """Ask for the costs of this work."""
        self._work, self._costs = work, self._costs_of(work)
        self._on_cpu = uses_on_cpu(work.table)
        self._members: dict[int, list[int]] = {}
        for use, last in enumerate(work.program.last):
            self._members.setdefault(last, []).append(use)

    def begin(self, traced: bool) -> None:
        """Set all clocks to 0."""
        table = self._work.table
        self._traced = traced
        self._host = self._compute = self._copy = self._bookkeeping = 0
        self._read: dict[int, int] = {}  # when the last kernel that reads a slot ends
        events, uses, loads = table.num_steps * table.num_layers, len(table.uses.key), len(table.loads.key)
        sizes = (events, events, uses, uses, loads, loads, table.num_steps, table.num_steps, events, events)
        self._computed = 0  # when the CPU's last expert ends
        self._times = DeviceTimes(*(np.full(size, -1, np.int64) for size in sizes))

    def now(self) -> int:
        """The host's clock."""
        now = self._host
        self._host += self._bookkeeping
        self._bookkeeping = 0
        return now

    def launch_dense(self, event: int) -> None:
        """Launch everything up to the router of an event."""
        called = self._call(self._costs.host.launch_dense_ns, self._costs.host.begin_ns)
        self._times.dense_start[event], self._times.dense_end[event] = self._run(called, self._costs.dense[event])

    def wait_for_router(self, event: int) -> None:
        """Wait until its result is in host memory."""
        self._wait()
        self._ready = self._host
        self._bookkeeping = self._vary(self._costs.host.bookkeeping_ns)

    def fetch(self, event: int) -> None:
        """Takes the host no time."""

    def hand_over(self, event: int) -> None:
        """The CPU computes its experts one after the other."""
        self._host += self._vary(self._costs.cpu.start_ns)
        step = event // self._work.table.num_layers
        now = max(self._host, self._ready + self._vary(self._costs.to_host[step]))
        for use in self._on_cpu[event]:
            self._times.use_start[use], now = now, now + self._vary(self._costs.expert[use])
            self._times.use_end[use] = self._computed = now

    def join(self, event: int) -> None:
        """The host waits for the CPU."""
        host, step = self._costs.host, event // self._work.table.num_layers
        self._host = max(self._host, self._computed)
        issued = self._call(self._costs.cpu.join_ns, host.begin_copy_ns)
        copied = issued + self._vary(self._costs.to_device[step]) + self._vary(host.event_ns)
        self._times.copied[event] = copied
        _, self._times.added[event] = self._run(copied, self._costs.cpu.add_ns)

    def think(self, ns: int) -> None:
        """The host works so long."""
        self._host += self._vary(ns)

    def issue(self, load: int) -> None:
        """Issue a copy into its slot."""
        host, slot = self._costs.host, int(self._work.table.loads.slot[load])
        start = max(self._call(host.issue_ns, host.begin_copy_ns), self._copy, self._free(slot))
        self._copy = start + self._vary(self._costs.copy[load])
        self._times.started[load], self._times.landed[load] = start, self._copy

    def launch(self, use: int) -> None:
        """Launch the group of experts that ends with `use`; it waits for the loads of all of them."""
        host, uses = self._costs.host, self._work.table.uses
        called, members = self._call(host.launch_ns, host.begin_ns), self._members[use]
        landed = [int(self._times.landed[load]) for load in uses.load[members].tolist() if load >= 0]
        if landed:
            called = max(called, max(landed) + self._vary(host.event_ns))
        self._times.use_start[members], self._times.use_end[members] = self._run(called, self._costs.expert[use])
        for slot in uses.slot[members].tolist():
            self._read[slot] = self._compute

    def launch_head(self, step: int) -> None:
        """Launch what is behind the last MoE layer."""
        called = self._call(self._costs.host.launch_dense_ns, self._costs.host.begin_ns)
        self._times.head_start[step], self._times.head_end[step] = self._run(called, self._costs.head[step])

    def end_step(self, step: int) -> None:
        """Wait for everything that was launched."""
        self._wait()

    def end(self) -> DeviceTimes:
        """The run has ended."""
        if self._traced:
            return self._times
        starts = ("dense_start", "started", "head_start")
        on_cpu = self._work.table.uses.where == CPU
        used = np.where(on_cpu, self._times.use_start, -1)
        return self._times._replace(use_start=used, **{name: _unknown(getattr(self._times, name)) for name in starts})

    def outputs(self) -> Ints:
        """What every expert of the last run computed, [uses]: a checksum of its tokens and of the keys in its slot."""
        return Contents(self._work.table, self._times.started, self._times.landed).outputs(
            self._times.use_start, self._times.use_end
        )

    def truth(self) -> Ints:
        """What they should have computed."""
        return truth(self._work.table)

    def errors(self) -> NDArray[np.float64]:
        """1 for each event whose experts on the CPU were not all added before the next dense part, else 0, [events]."""
        found = np.zeros(len(self._times.added))
        next_dense = np.append(self._times.dense_start[1:], self._compute)
        for event, uses in self._on_cpu.items():
            computed, added = int(self._times.use_end[uses].max()), int(self._times.added[event])
            found[event] = not 0 <= computed <= added <= next_dense[event]
        return found

    def _free(self, slot: int) -> int:
        """When a slot may be overwritten: the one owner of the rule of slot reuse."""
        return self._read.get(slot, 0)

    def _call(self, ns: int, begin: int) -> int:
        """The host calls for so long; when what it asks for may begin."""
        self._host += self._vary(ns)
        return self._host + self._vary(begin)

    def _run(self, may_start: int, ns: int) -> tuple[int, int]:
        """Something on the compute stream; its start and end."""
        start = max(self._compute, may_start)
        self._compute = start + self._vary(ns)
        return start, self._compute

    def _wait(self) -> None:
        """The host waits for the compute stream."""
        self._host = max(self._host, self._compute + self._vary(self._costs.host.sync_ns))


def _unknown(times: Times) -> Times:
    return np.full_like(times, -1)
