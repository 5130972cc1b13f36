"""The copy engine, in three orders.

A load may start when the host has issued it, the link is free, the expert is in host memory, the last kernel that
reads the slot's former expert has ended (`slot_free`, which the engine keeps), and every earlier load into the slot has
landed. FIFO needs no events: who is asked when a load lands can tell from those before it. The other orders depend on
what is waiting when the link becomes free, so they are SimPy processes.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

import simpy

LANDED_NOT_YET = -1


class FifoLink:
    """Loads in the order of issue."""

    def __init__(
        self, env: simpy.Environment, slots: list[int], slot_free: list[int], copy: list[int], read: int
    ) -> None:
        loads = len(slots)
        self._env = env
        self.issued = [0] * loads
        self.started = [0] * loads
        self.landed = [LANDED_NOT_YET] * loads
        self._slots = slots
        self._slot_free = slot_free
        self._copy = copy
        self._read = read
        self._queue: list[int] = []
        self._next = 0  # in the queue
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
            self._settle(self._queue[self._next])
            self._next += 1
        return landed[load]

    def wait(self, load: int) -> simpy.Event:
        """Never needed: a landing is always known."""
        raise NotImplementedError

    def finish(self) -> Generator[Any, Any, None]:
        """Settle what nobody asked for."""
        yield self._env.timeout(0)
        if self._queue:
            self.landing(self._queue[-1])

    def _settle(self, load: int) -> None:
        start = self.issued[load]
        if self._read:
            self._disk_free = start = max(start, self._disk_free) + self._read
        start = max(start, self._link_free, self._slot_free[self._slots[load]])
        self.started[load] = start
        self._link_free = self.landed[load] = start + self._copy[load]


class PriorityLink:
    """Demand loads before prefetches; with `chunk` ns, a prefetch gives way after each chunk of its copy."""

    def __init__(
        self,
        env: simpy.Environment,
        slots: list[int],
        demand: list[bool],
        slot_free: list[int],
        copy: list[int],
        chunk: int | None = None,
    ) -> None:
        loads = len(slots)
        self.issued = [0] * loads
        self.started = [0] * loads
        self.landed = [LANDED_NOT_YET] * loads
        self._env = env
        self._slots = slots
        self._demand = demand
        self._slot_free = slot_free
        self._left = list(copy)
        self._copy = copy
        self._chunk = chunk
        self._waiting: list[int] = []  # in the order of issue
        self._landings = [env.event() for _ in range(loads)]
        self._wake = env.event()
        env.process(self._serve())

    def request(self, load: int, now: int) -> None:
        """The host issues a load, now or a little later than the simulation's clock."""
        self.issued[load] = now
        self._waiting.append(load)
        if not self._wake.triggered:
            self._wake.succeed()

    def landing(self, load: int) -> int:
        """When a load landed; LANDED_NOT_YET before."""
        return self.landed[load]

    def wait(self, load: int) -> simpy.Event:
        """Happens when the load has landed."""
        return self._landings[load]

    def finish(self) -> Generator[Any, Any, None]:
        """Serve what nobody waited for."""
        while self._waiting:
            yield self._landings[self._waiting[-1]]

    def _serve(self) -> Generator[Any, Any, None]:
        env = self._env
        while True:
            if not self._waiting:
                self._wake = env.event()
                yield self._wake
            load = self._choose()
            begin = max(int(env.now), self.issued[load], self._slot_free[self._slots[load]])
            if begin > env.now:
                yield env.timeout(begin - int(env.now))
                if self._choose() != load:
                    continue
            if self._left[load] == self._copy[load]:
                self.started[load] = int(env.now)
            part = self._left[load] if self._chunk is None or self._demand[load] else min(self._chunk, self._left[load])
            yield env.timeout(part)
            self._left[load] -= part
            if not self._left[load]:
                self._waiting.remove(load)
                self.landed[load] = int(env.now)
                self._landings[load].succeed()
                yield env.timeout(0)  # those who waited note what they read from slots before the next load may start

    def _choose(self) -> int:
        """The oldest demand that is issued by now, else the oldest prefetch; but first any older load into its slot."""
        issued = [load for load in self._waiting if self.issued[load] <= self._env.now]
        candidates = issued or self._waiting[:1]
        best = next((load for load in candidates if self._demand[load]), candidates[0])
        return next(load for load in self._waiting if self._slots[load] == self._slots[best])
