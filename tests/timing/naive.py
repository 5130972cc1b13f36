"""The clocks once more, as straightforwardly as possible and by other means than the engine.

No table of what comes before what: slots are walked as they go. The link is not a process that runs beside the host but
is asked to work on until a certain load has landed.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import numpy as np

from specmoe.sim.decide.table import DecisionTable
from specmoe.sim.timing.cpu_lane import SHARE
from specmoe.sim.timing.durations import Durations

UNKNOWN = 10**18
PREDICT = -1
COLUMNS = ("begin", "ready", "host", "stall", "slowed", "cpu", "cpu_stall", "end", "step_end")


class Fifo:
    """Copies in the order of requests; a request's landing is known when everything before it is."""

    def __init__(self, table: DecisionTable, durations: Durations, end: dict[int, int]) -> None:
        self.durations, self.end = durations, end
        self.waiting: list[tuple[int, int, int]] = []
        self.issued: dict[int, int] = {}
        self.fetched: dict[int, int] = {}
        self.started: dict[int, int] = {}
        self.landed: dict[int, int] = {}
        self.possible: dict[int, int] = {}
        self.computing = (0, 0)
        self.disk = self.link = 0

    def request(self, load: int, now: int, reader: int) -> None:
        self.issued[load] = now
        self.waiting.append((load, now, reader))

    def until(self, wanted: int | None) -> None:
        """Work until a load has landed, or all have."""
        while self.waiting if wanted is None else wanted not in self.landed:
            load, issued, reader = self.waiting.pop(0)
            fetched = issued
            if self.durations.read:
                self.disk = fetched = max(issued, self.disk) + self.durations.read
            self.fetched[load] = fetched
            self.possible[load] = max(fetched, self.end.get(reader, 0))
            self.started[load] = max(self.possible[load], self.link)
            self.link = self.landed[load] = self.copied(self.started[load], self.durations.copy[load])

    def copied(self, now: int, left: int) -> int:
        """End of a copy, slower while the CPU computes."""
        begin, end = self.computing
        while left and now < begin:
            now, left = now + 1, left - 1
        beside = 0
        while now + beside < end and worked(beside, self.durations.cpu.slows_copy) < left:
            beside += 1
        return now + beside + left - worked(beside, self.durations.cpu.slows_copy)

    def compute(self, begin: int, works: list[int]) -> list[int]:
        """Ends of the CPU's experts; copies that are known by now are timed anew from then on."""
        self.known()
        later = [load for load in self.landed if self.landed[load] > begin]
        left = [self.landed[load] - max(begin, self.started[load]) for load in later]
        begun = {load for load in later if self.started[load] < begin}
        now, ends = begin, list[int]()
        while later or len(ends) < len(works):
            copying = bool(later) and (later[0] in begun or self.possible[later[0]] <= now)
            computing = len(ends) < len(works)
            by_cpu = self.durations.cpu.slows_copy if computing else 0
            by_copy = self.durations.cpu.slowed_by_copy if copying else 0
            if copying and later[0] not in begun:
                self.started[later[0]] = now
                begun.add(later[0])
            changes = [takes(left[0], by_cpu)] if copying else [self.possible[load] - now for load in later[:1]]
            if computing:
                changes.append(takes(sum(works) - self.done, by_copy))
            passes = min(changes)
            while len(ends) < len(works) and sum(works[: len(ends) + 1]) <= self.done + worked(passes, by_copy):
                ends.append(now + takes(sum(works[: len(ends) + 1]) - self.done, by_copy))
            self.done += worked(passes, by_copy) if computing else 0
            now += passes
            if copying:
                left[0] -= worked(passes, by_cpu)
                if not left[0]:
                    self.link = self.landed[later.pop(0)] = now
                    left.pop(0)
        self.done, self.computing = 0, (begin, ends[-1])
        return ends

    done = 0  # of the CPU's work

    def known(self) -> list[tuple[int, int]]:
        """Start and end of all copies that can be told by now."""
        while self.waiting and (self.waiting[0][2] < 0 or self.waiting[0][2] in self.end):
            self.until(self.waiting[0][0])
        return [(self.started[load], end) for load, end in self.landed.items()]


class Priority:
    """Two queues in one list; looks for what may start at each instant that the link is free."""

    def __init__(self, table: DecisionTable, durations: Durations, end: dict[int, int], chunk: int | None) -> None:
        self.table, self.durations, self.end, self.chunk = table, durations, end, chunk
        self.waiting: list[int] = []
        self.reader: dict[int, int] = {}
        self.left = dict(enumerate(durations.copy))
        self.issued: dict[int, int] = {}
        self.started: dict[int, int] = {}
        self.landed: dict[int, int] = {}
        self.now = 0

    @property
    def fetched(self) -> dict[int, int]:
        return self.issued

    def request(self, load: int, now: int, reader: int) -> None:
        self.issued[load], self.reader[load] = now, reader
        self.waiting.append(load)

    def until(self, wanted: int | None) -> None:
        while self.waiting if wanted is None else wanted not in self.landed:
            self.work()

    def work(self) -> None:
        """Copy one load, or one chunk of it, or let time pass until one may start."""
        heads = [head for demand in (True, False) for head in self.heads(demand)]
        ready = [load for time, load in heads if time <= self.now]
        if not ready:
            self.now = min(time for time, _ in heads)
            return
        load, demand = ready[0], bool(self.table.loads.demand[ready[0]])
        self.started.setdefault(load, self.now)
        part = self.left[load] if demand or self.chunk is None else min(self.chunk, self.left[load])
        self.now += part
        self.left[load] -= part
        if self.left[load] == 0:
            self.landed[load] = self.now
            self.waiting.remove(load)

    def heads(self, demand: bool) -> Iterator[tuple[int, int]]:
        """The first of a kind, or what is in its way: the first of either kind that goes into the same slot."""
        slots = self.table.loads.slot
        for first in [load for load in self.waiting if self.table.loads.demand[load] == demand][:1]:
            load = next(load for load in self.waiting if slots[load] == slots[first])
            reader = self.reader[load]
            yield max(self.issued[first], 0 if reader < 0 else self.end.get(reader, UNKNOWN)), load


def worked(ns: int, share: int) -> int:
    """Work that is done in a time, slower by a share."""
    return ns * SHARE // (SHARE + share)


def takes(work: int, share: int) -> int:
    """Time until a work is done."""
    return next(ns for ns in count() if worked(ns, share) >= work)


def rounds(table: DecisionTable, event: int, launching: str) -> Iterator[tuple[list[int], list[list[int]], list[int]]]:
    """Of each round of an event: loads before the launches, the uses of each, loads after; prefetches behind a
    `PREDICT`.
    """
    loads, uses = table.loads, table.uses
    mine = [use for use in range(len(uses.event)) if uses.event[use] == event]
    issued = [load for load in range(len(loads.event)) if loads.event[load] == event]
    last = max((int(uses.wave[use]) for use in mine), default=0)
    for wave in range(last + 1):
        now = [load for load in issued if loads.demand[load] and loads.wave[load] == wave]
        ahead = [PREDICT, *(load for load in issued if not loads.demand[load])] if wave == last else []
        before, behind = ([], ahead) if table.after_launch else (ahead, [])
        here = [use for use in mine if uses.wave[use] == wave and not uses.where[use]]
        hits = sorted((use for use in here if uses.hit[use]), key=lambda use: -int(uses.tokens[use]))
        misses = [use for use in here if not uses.hit[use]]
        together = {"separate": [[use] for use in hits + misses], "grouped": [hits, misses]}
        launches = together.get(launching, [hits + misses])
        yield now + before, [launch for launch in launches if launch], behind


def longer_by(durations: Durations, link: Any, start: int, end: int) -> tuple[int, int]:
    """When something ends that would end at `end` but for the copies under way, and by how much later."""
    if not durations.interference:
        return end, 0
    longer = round(durations.interference * sum(len(range(max(s, start), min(e, end))) for s, e in link.known()))
    return end + longer, longer


class Walk:
    """A run as it goes: when the host and the GPU are free, and what the columns say so far."""

    def __init__(self, table: DecisionTable, durations: Durations, order: str, chunk: int) -> None:
        self.table, self.durations = table, durations
        self.start: dict[int, int] = {}
        self.end: dict[int, int] = {}
        self.link: Any = Fifo(table, durations, self.end)
        if order != "fifo":
            self.link = Priority(table, durations, self.end, chunk if order == "chunked" else None)
        self.reads: dict[int, int] = {}  # the last use launched of each slot
        self.out: dict[str, list[int]] = {name: [] for name in COLUMNS}
        self.host = self.gpu = 0

    def kernel(self, begins: int, ns: int) -> int:
        """Run a kernel on the GPU; by how much longer it takes for copies beside it."""
        self.gpu, longer = longer_by(self.durations, self.link, begins, begins + ns)
        return longer

    def event(self, event: int) -> None:
        durations, costs, step = self.durations, self.durations.host, event // self.table.num_layers
        self.out["begin"].append(self.host)
        begins = max(self.gpu, self.host + costs.launch_dense_ns + costs.begin_ns)
        longer = self.kernel(begins, durations.before[event])
        if durations.runs_ahead:
            self.out["ready"].append(self.gpu)
            self.host = ready = self.host + costs.launch_dense_ns
        else:
            ready = self.gpu + costs.sync_ns
            self.out["ready"].append(ready)
            self.host = ready + costs.bookkeeping_ns
        uses = self.table.uses
        on_cpu = [use for use in range(len(uses.event)) if uses.event[use] == event and uses.where[use]]
        self.host += durations.cpu.start_ns if on_cpu else 0
        computes = max(self.host, ready + durations.to_host[step]) if on_cpu else 0
        launched = self.launches(event)
        work = costs.launch_dense_ns + self.host - ready
        computed = self.link.compute(computes, [durations.expert[use] for use in on_cpu]) if on_cpu else [0]
        longer += self.experts(launched)
        self.out["cpu"].append(computed[-1] - computes)
        self.out["cpu_stall"].append(0)
        if on_cpu:
            self.start |= dict(zip(on_cpu, [computes, *computed], strict=False))
            self.end |= dict(zip(on_cpu, computed, strict=True))
            longer += self.join(computed[-1], step)
            work += durations.cpu.join_ns
        self.out["slowed"].append(longer)
        self.out["end"].append(self.gpu)
        self.out["host"].append(work)
        if durations.sync_each_layer:
            self.host = max(self.host, self.gpu + costs.sync_ns)
        if event % self.table.num_layers == self.table.num_layers - 1:
            self.end_step(step)

    def launches(self, event: int) -> list[tuple[list[int], int]]:
        """Have the host issue copies and launch experts; each launch with the time of its call's end."""
        launched = []
        for loads, launches, behind in rounds(self.table, event, self.durations.launching):
            self.issue(loads, event)
            for launch in launches:
                self.host += self.durations.host.launch_ns
                launched.append((launch, self.host))
                for use in launch:
                    self.reads[int(self.table.uses.slot[use])] = use
            self.issue(behind, event)
        return launched

    def issue(self, loads: list[int], event: int) -> None:
        costs = self.durations.host
        for load in loads:
            if load == PREDICT:
                self.host += self.durations.predict[event] if self.durations.predict else 0
                continue
            self.host += costs.issue_ns
            reader = self.reads.pop(int(self.table.loads.slot[load]), -1)
            self.link.request(load, self.host + costs.begin_copy_ns, reader)

    def experts(self, launched: list[tuple[list[int], int]]) -> int:
        """Run the experts on the GPU as they land; by how much longer they take for copies beside them."""
        costs, stall, longer = self.durations.host, 0, 0
        for launch, at in launched:
            free = begins = max(self.gpu, at + costs.begin_ns)
            for load in (int(self.table.uses.load[use]) for use in launch):
                if load >= 0:
                    self.link.until(load)
                    begins = max(begins, self.link.landed[load] + costs.event_ns)
            stall += begins - free
            longer += self.kernel(begins, sum(self.durations.expert[use] for use in launch))
            self.start |= dict.fromkeys(launch, begins)
            self.end |= dict.fromkeys(launch, self.gpu)
        self.out["stall"].append(stall)
        return longer

    def join(self, computed: int, step: int) -> int:
        """Wait for the CPU and add its result; by how much longer that takes for copies beside it."""
        costs, cpu = self.durations.host, self.durations.cpu
        self.host = max(self.host, computed) + cpu.join_ns
        back = self.durations.to_device[step] + costs.begin_copy_ns + costs.event_ns
        self.out["cpu_stall"][-1] = waited = max(0, self.host + back - self.gpu)
        return self.kernel(self.gpu + waited, cpu.add_ns)

    def end_step(self, step: int) -> None:
        costs = self.durations.host
        self.out["host"][-1] += costs.launch_dense_ns
        begins = max(self.gpu, self.host + costs.launch_dense_ns + costs.begin_ns)
        self.out["slowed"][-1] += self.kernel(begins, self.durations.after[step])
        self.host = self.gpu + costs.sync_ns
        self.out["step_end"].append(self.host)


def naive(table: DecisionTable, durations: Durations, order: str = "fifo", chunk: int = 1) -> dict[str, list[int]]:
    """The columns of `Timing`."""
    walk = Walk(table, durations, order, chunk)
    for event in range(table.num_steps * table.num_layers):
        walk.event(event)
    walk.link.until(None)
    number_of_loads, number_of_uses = len(table.loads.key), len(table.uses.key)
    for name in ("issued", "fetched", "started", "landed"):
        walk.out[name] = [getattr(walk.link, name)[load] for load in range(number_of_loads)]
    walk.out["use_start"] = [walk.start[use] for use in range(number_of_uses)]
    walk.out["use_end"] = [walk.end[use] for use in range(number_of_uses)]
    return walk.out


def as_lists(timing: Any) -> dict[str, list[int]]:
    """The columns of a `Timing`, to be compared with `naive`'s."""
    return {name: np.asarray(column).tolist() for name, column in timing._asdict().items()}
