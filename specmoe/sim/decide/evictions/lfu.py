"""Least frequently used."""

from itertools import count

from specmoe.sim.decide.eviction import Context, Ranked


class Lfu(Ranked):
    """Evicts the expert with the fewest uses since its load; among equals the least recently used.

    It forgets the count of an expert at its eviction; `lfu-perfect` does not.
    """

    source = "textbook (In-Cache-LFU)"

    def __init__(self, context: Context, capacity: int) -> None:
        super().__init__(context, capacity)
        self._uses: dict[int, int] = {}
        self._clock = count()

    def insert(self, key: int, event: int) -> None:
        """Count from one."""
        self._uses[key] = 1
        self.place(key, 1, next(self._clock))

    def use(self, key: int, event: int, again: bool) -> None:
        """Count it."""
        self._uses[key] += again
        self.place(key, self._uses[key], next(self._clock))
