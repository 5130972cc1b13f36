"""ARC: balances recency and frequency by what was evicted too early."""

from collections.abc import Container
from itertools import chain

from specmoe.sim.decide.eviction import Context, Eviction, first_unpinned


def _drop_oldest(keys: dict[int, None]) -> None:
    del keys[next(iter(keys))]


class Arc(Eviction):
    """Evicts the oldest of T1 (used once) or of T2 (used again), whichever exceeds its adaptive share.

    B1 and B2 remember the keys that T1 and T2 evicted, as many as there are slots. A load of such a key shows that its
    list was too short, and moves `p`, the share of T1. As Fig. 4 of the paper, except that the list is chosen before it
    is shortened, which gives the same lists.
    """

    source = "ARC, Megiddo & Modha, FAST 2003"

    def __init__(self, context: Context, capacity: int) -> None:
        self._capacity = capacity
        self._p = 0.0
        self._t1: dict[int, None] = {}  # all oldest first
        self._t2: dict[int, None] = {}
        self._b1: dict[int, None] = {}
        self._b2: dict[int, None] = {}
        self._remembered = 0, 0  # lengths of B1 and B2 after the last load, before this one's victim joined them

    def insert(self, key: int, event: int) -> None:
        """Newest of T2 if it was remembered, else of T1."""
        self._p = self._adapted(key)
        remembered = key in self._b1 or key in self._b2
        (self._t2 if remembered else self._t1)[key] = None
        self._b1.pop(key, None)
        self._b2.pop(key, None)
        if len(self._t1) + len(self._b1) > self._capacity:
            _drop_oldest(self._b1)
        if len(self._t1) + len(self._t2) + len(self._b1) + len(self._b2) > 2 * self._capacity:
            _drop_oldest(self._b2)
        self._remembered = len(self._b1), len(self._b2)

    def use(self, key: int, event: int, again: bool) -> None:
        """Newest of T2 if it was used before; else newest where it is."""
        was = self._t1 if key in self._t1 else self._t2
        del was[key]
        (self._t2 if again else was)[key] = None

    def remove(self, key: int) -> None:
        """Remember it."""
        top, bottom = (self._t1, self._b1) if key in self._t1 else (self._t2, self._b2)
        del top[key]
        bottom[key] = None

    def victim(self, key: int, pinned: Container[int], event: int) -> int | None:
        """The oldest of T1 if that is longer than its share, as this load moves it; else of T2."""
        excess = len(self._t1) - self._adapted(key)
        first, second = self._t1, self._t2
        if excess < 0 or (excess == 0 and key not in self._b2):
            first, second = second, first
        return first_unpinned(chain(first, second), pinned)

    def _adapted(self, key: int) -> float:
        """The share of T1 that a load of this key leads to."""
        b1, b2 = self._remembered
        if key in self._b1:
            return min(self._capacity, self._p + max(1.0, b2 / max(1, b1)))
        if key in self._b2:
            return max(0.0, self._p - max(1.0, b1 / max(1, b2)))
        return self._p
