"""SIEVE: a FIFO queue with a hand that spares what was used again."""

from collections.abc import Container
from itertools import chain, takewhile

from specmoe.sim.decide.eviction import Context, Eviction, first_unpinned


class Sieve(Eviction):
    """Evicts the first expert from the hand on that was not used again since the hand last passed.

    The hand moves from the oldest key to the newest and begins anew; new keys join behind the newest. Its walk is
    worked out when a key leaves: then it has reached that key, and passed all before it. A pinned key is passed over
    as if it had been used.
    """

    source = "SIEVE, Zhang et al., NSDI 2024"

    def __init__(self, context: Context, capacity: int) -> None:
        self._passed: dict[int, None] = {}  # oldest first
        self._ahead: dict[int, None] = {}  # younger than all passed; the hand is at the first
        self._visited: set[int] = set()

    def insert(self, key: int, event: int) -> None:
        """Newest."""
        self._ahead[key] = None

    def use(self, key: int, event: int, again: bool) -> None:
        """Spare it once, if it was used before."""
        if again:
            self._visited.add(key)

    def remove(self, key: int) -> None:
        """Move the hand past it."""
        if key in self._visited:  # all were, and the hand went round once
            self._visited.clear()
        if key in self._passed:
            self._visited.difference_update(self._ahead)
            self._ahead, self._passed = self._passed | self._ahead, {}
        for spared in list(takewhile(key.__ne__, self._ahead)):
            self._visited.discard(spared)
            del self._ahead[spared]
            self._passed[spared] = None
        del self._ahead[key]
        if not self._ahead:
            self._ahead, self._passed = self._passed, {}

    def victim(self, key: int, pinned: Container[int], event: int) -> int | None:
        """The first not visited from the hand on; if all are, the first."""
        round_trip = list(chain(self._ahead, self._passed))
        unvisited = (other for other in round_trip if other not in self._visited)
        return first_unpinned(chain(unvisited, round_trip), pinned)
