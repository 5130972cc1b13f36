"""Least frequently used, with counts that outlive eviction."""

from collections import Counter
from itertools import count

from specmoe.sim.decide.eviction import Context, Ranked


class LfuPerfect(Ranked):
    """Evicts the expert with the fewest uses so far; among equals the least recently used.

    An evicted expert keeps its count. Web caches forget it to save memory (In-Cache-LFU, here `lfu`); a model has few
    experts, so MoE runtimes count all of them. An expert that was prefetched and never used has no uses.
    """

    source = "Perfect-LFU, Breslau et al., INFOCOM 1999"

    def __init__(self, context: Context, capacity: int) -> None:
        super().__init__(context, capacity)
        self._uses = Counter[int]()
        self._clock = count()

    def insert(self, key: int, event: int) -> None:
        """Where its earlier uses put it."""
        self.place(key, self._uses[key], next(self._clock))

    def use(self, key: int, event: int, again: bool) -> None:
        """Count it."""
        self._uses[key] += 1
        self.place(key, self._uses[key], next(self._clock))
