"""Least recently used."""

from collections.abc import Container

from specmoe.sim.decide.eviction import Context, Eviction, first_unpinned


class Lru(Eviction):
    """Evicts the expert whose last use (or load, if never used) is longest ago."""

    source = "textbook"

    def __init__(self, context: Context, capacity: int) -> None:
        self._order: dict[int, None] = {}  # oldest first

    def insert(self, key: int, event: int) -> None:
        """Newest."""
        self._order[key] = None

    def use(self, key: int, event: int, again: bool) -> None:
        """Newest again."""
        del self._order[key]
        self._order[key] = None

    def remove(self, key: int) -> None:
        """Forget it."""
        del self._order[key]

    def victim(self, key: int, pinned: Container[int], event: int) -> int | None:
        """The oldest."""
        return first_unpinned(self._order, pinned)
