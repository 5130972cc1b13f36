"""The copy engine with three orders of copies: FIFO, priority and chunked.

A load may start when the host has issued it, the link is free, the expert is in host memory, the previous load into its
slot has landed, and the last kernel that reads the slot's former expert has ended: `reader` names that use, and
`use_end`, which the engine fills in, says when it ended. On a FIFO link a landing follows from the loads before it, so
no events are needed. In the other orders it depends on what is waiting when the link becomes free, so they are a SimPy
process.

While the CPU computes experts, copies take longer, and its experts take longer beside copies (`cpu_lane`). That counts
on a FIFO link, and there the copies that are known when the CPU begins: those up to the first whose slot is still to be
read. Later ones take longer too, but the CPU's experts do not take longer because of them.
"""

from collections import deque
from collections.abc import Generator, Sequence
from typing import Any

import simpy

from specmoe.sim.decide.table import column
from specmoe.sim.timing.cpu_lane import NO_CPU, Beside, CpuCosts, Interval

NOT_YET = -1


class FifoLink:
    """A link that copies in the order of issue. Experts on NVMe are read, in the same order, before they are copied.

    A load of no copy time finds its expert compressed in VRAM and only waits for its slot.
    """

    def __init__(
        self,
        env: simpy.Environment,
        copy: Sequence[int],
        read: int,
        previous: Sequence[int],
        reader: Sequence[int],
        use_end: Sequence[int],
        cpu: CpuCosts,
    ) -> None:
        loads = len(copy)
        self._env = env
        self._cpu, self._computing = cpu, Interval()
        self._previous = previous
        self.issued, self.fetched, self.started = column(loads), column(loads), column(loads)
        self.landed = column(loads, NOT_YET)
        self._copy = copy
        self._read = read
        self._reader = reader
        self._use_end = use_end
        self._queue: deque[int] = deque()
        self._copies: deque[int] = deque()  # settled, in order; `busy` and `compute` forget those that are past
        self._possible = column(loads)  # start of a settled copy, were the link free
        self._link_free = 0
        self._disk_free = 0

    def request(self, load: int, now: int) -> None:
        """The host issues a load."""
        self.issued[load] = now
        self._queue.append(load)

    def landing(self, load: int) -> int:
        """When a requested load lands; settles all before it."""
        landed = self.landed
        while landed[load] < 0:
            self._settle(self._queue.popleft())
        return landed[load]

    def busy(self, start: int, end: int) -> int:
        """Time of copying between two times, ns; calls must come in the order of time.

        Requested loads count, up to the first whose slot is still to be read.
        """
        queue, copies, started, landed = self._queue, self._copies, self.started, self.landed
        while queue and self._link_free < end and self._use_end[self._reader[queue[0]]] >= 0:
            self._settle(queue.popleft())
        while copies and landed[copies[0]] <= start:
            copies.popleft()
        return sum(max(0, min(end, landed[load]) - max(start, started[load])) for load in copies)

    def compute(self, ready: int, begin: int, works: Sequence[int]) -> list[int]:
        """Ends of experts that the CPU computes from `begin` on, each with `works` ns of work.

        Nothing is asked any more about the time before `ready`.
        """
        while self._queue and self._use_end[self._reader[self._queue[0]]] >= 0:
            self._settle(self._queue.popleft())
        experts, landed, free = Beside(begin, works, self._cpu), self.landed, begin
        while self._copies and landed[self._copies[0]] <= ready:
            self._copies.popleft()
        for load in self._copies:
            if landed[load] <= begin:
                continue
            if self.started[load] < begin:
                free = experts.copy(begin, landed[load] - begin)
            else:
                took = landed[load] - self.started[load]
                self.started[load] = max(self._possible[load], free)
                free = experts.copy(self.started[load], took)
            landed[load] = self._link_free = free
        ends = experts.ends()
        self._computing = Interval(begin, ends[-1])
        return ends

    def wait(self, load: int) -> simpy.Event:
        """Never called: a landing on this link is always known."""
        raise NotImplementedError

    def finish(self) -> Generator[Any, Any, None]:
        """Settle the loads whose landing was not needed."""
        yield self._env.timeout(0)
        if self._queue:
            self.landing(self._queue[-1])

    def _settle(self, load: int) -> None:
        fetched, before = self.issued[load], self._previous[load]
        free = max(self._use_end[self._reader[load]], self.landed[before] if before >= 0 else 0)
        if not self._copy[load]:  # it is in VRAM already, compressed: nothing crosses the link
            self.fetched[load], self.started[load] = fetched, max(fetched, free)
            self.landed[load] = self.started[load]
            return
        if self._read:
            self._disk_free = fetched = max(fetched, self._disk_free) + self._read
        self._possible[load] = max(fetched, free)
        start = max(self._possible[load], self._link_free)
        self.fetched[load] = fetched
        self.started[load] = start
        self._link_free = self.landed[load] = self._computing.landing(start, self._copy[load], self._cpu.slows_copy)
        self._copies.append(load)


class PriorityLink:
    """A link with two queues, each in the order of issue: a free link takes the first demand load that may start, else
    the first prefetch that may start.

    A prefetch that was evicted before it landed blocks the demand load that took its slot, so it is copied first. With
    `chunk` (ns), a prefetch gives way after each chunk of its copy.
    """

    def __init__(
        self,
        env: simpy.Environment,
        demand: list[bool],
        copy: Sequence[int],
        previous: Sequence[int],
        reader: Sequence[int],
        use_end: Sequence[int],
        chunk: int | None = None,
    ) -> None:
        loads = len(copy)
        self.issued = self.fetched = column(loads)
        self.started = column(loads)
        self.landed = column(loads, NOT_YET)
        self._env = env
        self._demand = demand
        self._left = list(copy)
        self._copy = copy
        self._previous = previous
        self._reader = reader
        self._use_end = use_end
        self._chunk = chunk
        self._demands: deque[int] = deque()
        self._prefetches: deque[int] = deque()
        self._awaited = NOT_YET
        self._landing = env.event()
        self._wake = env.event()
        env.process(self._serve())

    def request(self, load: int, now: int) -> None:
        """The host issues a load, now or a little later than the simulation's clock."""
        self.issued[load] = now
        (self._demands if self._demand[load] else self._prefetches).append(load)
        if not self._wake.triggered:
            self._wake.succeed()

    def landing(self, load: int) -> int:
        """When a load landed; NOT_YET before."""
        return self.landed[load]

    def busy(self, start: int, end: int) -> int:
        """Never called: copies on this link are not known beforehand."""
        raise NotImplementedError

    def compute(self, ready: int, begin: int, works: Sequence[int]) -> list[int]:
        """Ends of experts that the CPU computes from `begin` on, as if there were no copies."""
        return Beside(begin, works, NO_CPU).ends()

    def wait(self, load: int) -> simpy.Event:
        """An event that happens when the load has landed; only one load is awaited at a time."""
        self._awaited, self._landing = load, self._env.event()
        return self._landing

    def finish(self) -> Generator[Any, Any, None]:
        """Serve the loads that were not awaited."""
        for queue in (self._demands, self._prefetches):
            while (first := self._first(queue)) is not None:
                yield self.wait(first)

    def _serve(self) -> Generator[Any, Any, None]:
        env = self._env
        while True:
            yield env.timeout(0)  # what else happens at this instant (an expert ends, a load is issued) counts
            now = int(env.now)
            heads = self._heads()
            load = next((load for load, may_start in heads if may_start <= now), None)
            if load is not None:
                yield from self._copying(load, now)
                continue
            self._wake = env.event()
            starts = [may_start for _, may_start in heads if may_start < simpy.core.Infinity]
            yield self._wake | env.timeout(min(starts) - now) if starts else self._wake

    def _copying(self, load: int, now: int) -> Generator[Any, Any, None]:
        if self._left[load] == self._copy[load]:
            self.started[load] = now
        part = self._left[load] if self._chunk is None else min(self._chunk, self._left[load])
        yield self._env.timeout(part)
        self._left[load] -= part
        if not self._left[load]:
            self.landed[load] = now + part
            if load == self._awaited:
                self._landing.succeed()

    def _heads(self) -> list[tuple[int, float]]:
        """The next load of each queue, demand first, and when it may start."""
        firsts = [self._first(queue) for queue in (self._demands, self._prefetches)]
        return [self._next(first) for first in firsts if first is not None]

    def _first(self, queue: deque[int]) -> int | None:
        while queue and self.landed[queue[0]] >= 0:
            queue.popleft()
        return queue[0] if queue else None

    def _next(self, first: int) -> tuple[int, float]:
        """The oldest load into the same slot that has not landed, and when it may start: infinity if not yet known."""
        load = first
        while self._previous[load] >= 0 and self.landed[self._previous[load]] < 0:
            load = self._previous[load]
        read = self._use_end[self._reader[load]]
        return load, simpy.core.Infinity if read < 0 else max(self.issued[first], read)
