"""The base of eviction policies that rank a key by numbers."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Container

from specmoe.sim.decide.eviction import Context, Eviction


class Ranked(Eviction):
    """Gives up the key of the lowest rank; among equals the lowest key. Policies call `place` when a rank changes."""

    def __init__(self, context: Context, capacity: int) -> None:
        self._entry: dict[int, tuple[float, ...]] = {}  # rank and key
        self._order: list[tuple[float, ...]] = []  # ascending

    def place(self, key: int, *rank: float) -> None:
        """Give a key its rank, be it new or resident."""
        if key in self._entry:
            self._drop(key)
        entry = self._entry[key] = (*rank, key)
        insort(self._order, entry)

    def remove(self, key: int) -> None:
        """Forget it."""
        self._drop(key)

    def victim(self, key: int, pinned: Container[int], event: int) -> int | None:
        """The lowest."""
        return next((int(entry[-1]) for entry in self._order if entry[-1] not in pinned), None)

    def _drop(self, key: int) -> None:
        del self._order[bisect_left(self._order, self._entry.pop(key))]
