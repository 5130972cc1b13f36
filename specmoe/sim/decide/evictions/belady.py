"""Belady's optimum: the fewest loads without prefetching."""

from __future__ import annotations

from specmoe.sim.decide.eviction import Context
from specmoe.sim.decide.evictions.ranked import Ranked


class Belady(Ranked):
    """The key whose next use is furthest away; among equals the lowest key. Peeks (Belady, IBM Systems Journal 1966).

    A demand is always admitted: an expert needs a slot to compute in. A prefetch is admitted only if it is needed
    before what it replaces.
    """

    peeks = True

    def __init__(self, context: Context, capacity: int) -> None:
        super().__init__(context, capacity)
        self._next_use = context.future.next_use

    def insert(self, key: int, event: int) -> None:
        """Look ahead."""
        self.place(key, -self._next_use(key, event))

    def use(self, key: int, event: int, again: bool) -> None:
        """Look ahead anew."""
        self.place(key, -self._next_use(key, event))

    def may_replace(self, victim: int, key: int, event: int) -> bool:
        """Whether the victim is needed later than the key."""
        return self._next_use(victim, event) > self._next_use(key, event)
