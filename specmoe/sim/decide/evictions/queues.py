"""Evictions that keep experts in queues, by their order of arrival, by uses, or by layer."""

from collections.abc import Container
from itertools import chain, takewhile

from specmoe.errors import InputError
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


class LeastStale(Eviction):
    """Evicts a stale expert, one not used in this forward pass, before any other; the layer furthest ahead first.

    Within a layer the first loaded goes first. The same order holds for experts used in this pass, once none is stale.
    A layer that has just run is the furthest ahead. An LRU evicts, of the last pass, what the next layers need first.
    A prefetched expert is stale only after the pass that it is for.

    Built from the published description (stale experts before those of the current pass; order by the layer's
    position, then first in, first out), without the authors' code. It may differ from that in what order of layers
    is meant, and in that layers share one pool of slots. There is no number to choose.
    """

    source = "Least-Stale, SpecMD, Hoang et al. 2026 (arXiv 2602.03921)"

    def __init__(self, context: Context, capacity: int) -> None:
        meta = context.workload.meta
        self._layers, self._experts = meta.num_layers, meta.num_experts
        self._passes: list[dict[int, int]] = [{} for _ in range(meta.num_layers)]  # by layer, first loaded first

    def insert(self, key: int, event: int) -> None:
        """Last of its layer, for the pass in which the layer comes next."""
        step, layer = divmod(event, self._layers)
        self._layer_of(key)[key] = step + (key // self._experts < layer)

    def use(self, key: int, event: int, again: bool) -> None:
        """Of this pass."""
        self._layer_of(key)[key] = event // self._layers

    def remove(self, key: int) -> None:
        """Forget it."""
        del self._layer_of(key)[key]

    def victim(self, key: int, pinned: Container[int], event: int) -> int | None:
        """The first stale one, else the first."""
        step, layer = divmod(event, self._layers)
        passes = self._passes[layer::-1] + self._passes[:layer:-1]
        stale = (other for queue in passes for other, last in queue.items() if last < step)
        return first_unpinned(chain(stale, *passes), pinned)

    def _layer_of(self, key: int) -> dict[int, int]:
        return self._passes[key // self._experts]
