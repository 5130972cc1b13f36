"""First in, first out."""

from collections.abc import Container

from specmoe.sim.decide.eviction import Context, Eviction, first_unpinned


class Fifo(Eviction):
    """Evicts the expert that was loaded first, used or not."""

    source = "textbook"

    def __init__(self, context: Context, capacity: int) -> None:
        self._order: dict[int, None] = {}  # oldest first

    def insert(self, key: int, event: int) -> None:
        """Last in the queue."""
        self._order[key] = None

    def use(self, key: int, event: int, again: bool) -> None:
        """Changes nothing."""

    def remove(self, key: int) -> None:
        """Forget it."""
        del self._order[key]

    def victim(self, key: int, pinned: Container[int], event: int) -> int | None:
        """The first in the queue."""
        return first_unpinned(self._order, pinned)
