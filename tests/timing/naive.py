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


def naive(table: DecisionTable, durations: Durations, order: str = "fifo", chunk: int = 1) -> dict[str, list[int]]:
    """The columns of `Timing`."""
    end: dict[int, int] = {}
    link: Any = Fifo(table, durations, end)
    if order != "fifo":
        link = Priority(table, durations, end, chunk if order == "chunked" else None)
    host_costs, cpu = durations.host, durations.cpu
    reads: dict[int, int] = {}  # the last use launched of each slot
    out: dict[str, list[int]] = {name: [] for name in COLUMNS}
    start: dict[int, int] = {}
    host = gpu = 0
    for event in range(table.num_steps * table.num_layers):
        out["begin"].append(host)
        begins = max(gpu, host + host_costs.launch_dense_ns + host_costs.begin_ns)
        gpu, longer = longer_by(durations, link, begins, begins + durations.before[event])
        if durations.runs_ahead:
            out["ready"].append(gpu)
            host = ready = host + host_costs.launch_dense_ns
        else:
            ready = gpu + host_costs.sync_ns
            out["ready"].append(ready)
            host = ready + host_costs.bookkeeping_ns
        launched = []
        on_cpu = [
            use for use in range(len(table.uses.event)) if table.uses.event[use] == event and table.uses.where[use]
        ]
        host += cpu.start_ns if on_cpu else 0
        computes = max(host, ready + durations.to_host[event // table.num_layers]) if on_cpu else 0

        def issue(loads: list[int], host: int, event: int = event) -> int:
            for load in loads:
                if load == PREDICT:
                    host += durations.predict[event] if durations.predict else 0
                    continue
                host += host_costs.issue_ns
                link.request(load, host + host_costs.begin_copy_ns, reads.pop(int(table.loads.slot[load]), -1))
            return host

        for loads, launches, behind in rounds(table, event, durations.launching):
            host = issue(loads, host)
            for launch in launches:
                host += host_costs.launch_ns
                launched.append((launch, host))
                for use in launch:
                    reads[int(table.uses.slot[use])] = use
            host = issue(behind, host)
        work, stall = host_costs.launch_dense_ns + host - ready, 0
        computed = link.compute(computes, [durations.expert[use] for use in on_cpu]) if on_cpu else [0]
        for launch, at in launched:
            free = begins = max(gpu, at + host_costs.begin_ns)
            for load in (int(table.uses.load[use]) for use in launch):
                if load >= 0:
                    link.until(load)
                    begins = max(begins, link.landed[load] + host_costs.event_ns)
            stall += begins - free
            gpu, more = longer_by(durations, link, begins, begins + sum(durations.expert[use] for use in launch))
            longer += more
            start |= dict.fromkeys(launch, begins)
            end |= dict.fromkeys(launch, gpu)
        waited = 0
        if on_cpu:
            start |= dict(zip(on_cpu, [computes, *computed], strict=False))
            end |= dict(zip(on_cpu, computed, strict=True))
            host = max(host, computed[-1]) + cpu.join_ns
            back = durations.to_device[event // table.num_layers] + host_costs.begin_copy_ns + host_costs.event_ns
            waited = max(0, host + back - gpu)
            gpu, more = longer_by(durations, link, gpu + waited, gpu + waited + cpu.add_ns)
            longer, work = longer + more, work + cpu.join_ns
        out["cpu"].append(computed[-1] - computes)
        out["cpu_stall"].append(waited)
        out["stall"].append(stall)
        out["slowed"].append(longer)
        out["end"].append(gpu)
        if durations.sync_each_layer:
            host = max(host, gpu + host_costs.sync_ns)
        if event % table.num_layers == table.num_layers - 1:
            work += host_costs.launch_dense_ns
            gpu = max(gpu, host + host_costs.launch_dense_ns + host_costs.begin_ns)
            gpu, more = longer_by(durations, link, gpu, gpu + durations.after[event // table.num_layers])
            out["slowed"][-1] += more
            host = gpu + host_costs.sync_ns
            out["step_end"].append(host)
        out["host"].append(work)
    link.until(None)
    number_of_loads, number_of_uses = len(table.loads.key), len(table.uses.key)
    for name in ("issued", "fetched", "started", "landed"):
        out[name] = [getattr(link, name)[load] for load in range(number_of_loads)]
    out["use_start"] = [start[use] for use in range(number_of_uses)]
    out["use_end"] = [end[use] for use in range(number_of_uses)]
    return out


def as_lists(timing: Any) -> dict[str, list[int]]:
    """The columns of a `Timing`, to be compared with `naive`'s."""
    return {name: np.asarray(column).tolist() for name, column in timing._asdict().items()}
