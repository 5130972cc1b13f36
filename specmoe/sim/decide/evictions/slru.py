"""Segmented LRU: what was used once cannot displace what was used twice."""

from collections.abc import Container
from itertools import chain

from specmoe.errors import InputError
from specmoe.sim.decide.eviction import Context, Eviction, first_unpinned


class Slru(Eviction):
    """Evicts the least recently used expert of the probationary segment, then of the protected one.

    A key is protected when it is used again. The protected segment holds `protected` of the slots; what it pushes out
    goes back on probation, as the newest there.
    """

    source = "segmented LRU, Karedla, Love & Wherry 1994"

    def __init__(self, context: Context, capacity: int, protected: float = 0.8) -> None:
        if not 0 <= protected <= 1:
            raise InputError(f"protected {protected}: a share between 0 and 1 expected")
        self.room = int(protected * capacity)
        self._probation: dict[int, None] = {}  # oldest first
        self._protected: dict[int, None] = {}

    def insert(self, key: int, event: int) -> None:
        """Newest on probation."""
        self._probation[key] = None

    def use(self, key: int, event: int, again: bool) -> None:
        """Newest of its segment; protected from the second use on."""
        self.remove(key)
        if not again:
            self._probation[key] = None
            return
        self._protected[key] = None
        if len(self._protected) > self.room:
            oldest = next(iter(self._protected))
            del self._protected[oldest]
            self._probation[oldest] = None

    def remove(self, key: int) -> None:
        """Forget it."""
        del (self._probation if key in self._probation else self._protected)[key]

    def victim(self, key: int, pinned: Container[int], event: int) -> int | None:
        """The oldest on probation, else the oldest protected."""
        return first_unpinned(chain(self._probation, self._protected), pinned)
