"""S3-FIFO: a small queue on trial, a main queue with second chances, and a memory of what failed the trial."""

from collections.abc import Container
from itertools import chain, takewhile

from specmoe.errors import InputError
from specmoe.sim.decide.eviction import Context, Eviction, first_unpinned

MOST_USES = 3  # a two-bit counter


class S3Fifo(Eviction):
    """Evicts the oldest expert of a small queue not used twice again, or of the main queue not used again.

    `small` is the small queue's share of the slots; the ghost queue remembers as many keys as the rest. Algorithm 1 of
    the paper, one eviction at a time; its walks along the queues are worked out when a key leaves: then they have
    reached that key, and passed all before it. A pinned key is passed over as if it had been used.
    """

    source = "S3-FIFO, Yang et al., SOSP 2023"

    def __init__(self, context: Context, capacity: int, small: float = 0.1) -> None:
        if not 0 < small < 1:
            raise InputError(f"small {small}: a share between 0 and 1 expected")
        self.room = max(1, int(small * capacity))
        self.ghost_room = capacity - self.room
        self._small: dict[int, int] = {}  # oldest first, with the uses that count
        self._main: dict[int, int] = {}
        self._ghost: dict[int, None] = {}

    def insert(self, key: int, event: int) -> None:
        """Into the main queue if it failed a trial of late, else on trial."""
        remembered = key in self._ghost
        self._ghost.pop(key, None)
        (self._main if remembered else self._small)[key] = 0

    def use(self, key: int, event: int, again: bool) -> None:
        """Count it."""
        queue = self._small if key in self._small else self._main
        queue[key] = min(queue[key] + again, MOST_USES)

    def remove(self, key: int) -> None:
        """Move on to it: what passed its trial is promoted, what was used again in the main queue begins anew."""
        if self._trial_is_over():
            self._promote_until(key)
        if key in self._small:
            del self._small[key]
            self._remember(key)
        else:
            self._turn_to(key)
            del self._main[key]

    def victim(self, key: int, pinned: Container[int], event: int) -> int | None:
        """The first that failed its trial if the small queue is full, else the main queue's next."""
        failed, main = list[int](), self._main
        if self._trial_is_over():
            failed = [other for other, uses in self._small.items() if uses < 2]
            main = main | {other: 0 for other, uses in self._small.items() if uses > 1}
        laps = (other for lap in range(MOST_USES + 1) for other, uses in main.items() if uses == lap)
        return first_unpinned(chain(failed, laps, self._small), pinned)

    def _trial_is_over(self) -> bool:
        return len(self._small) >= self.room

    def _promote_until(self, key: int) -> None:
        for other, uses in list(self._small.items()):
            if other == key and uses < 2:
                return
            if uses > 1:
                del self._small[other]
                self._main[other] = 0

    def _turn_to(self, key: int) -> None:
        """Take one use from each key before it, and as many from all as full turns it took to find it unused."""
        turns = self._main[key]
        before = list(takewhile(key.__ne__, self._main))
        if turns:
            self._main = {other: max(0, uses - turns) for other, uses in self._main.items()}
        for other in before:
            self._main[other] = max(0, self._main.pop(other) - 1)

    def _remember(self, key: int) -> None:
        self._ghost[key] = None
        if len(self._ghost) > self.ghost_room:
            del self._ghost[next(iter(self._ghost))]
