"""The CPU's lane: an event's experts one after the other, while copies read the same memory.

    begin   the host has handed the experts over, and the hidden state is in its memory
    end     the last expert has ended; the host, which waits for it, then copies the result back and adds it

While a copy is under way an expert takes longer by one share, and the copy takes longer by another (`CpuCosts`). A
share belongs to the time of both together: work of `ns` takes `slowed(ns, share)`, and in `ns` of such a time
`done(ns, share)` of work is done. Both are whole numbers, so two implementations agree to the nanosecond.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

SHARE = 1_000_000  # of which shares are whole parts


class CpuCosts(NamedTuple):
    """Costs of an event in which the CPU computes experts, besides their own times: ns, and parts of `SHARE`."""

    start_ns: int = 0  # of the host thread: handing the experts to the CPU's threads
    join_ns: int = 0  # of the host thread: from their end until it has issued the result's copy and addition
    add_ns: int = 0  # of the compute stream: the addition
    slowed_by_copy: int = 0  # share by which an expert takes longer while a copy is under way
    slows_copy: int = 0  # share by which a copy takes longer while the CPU computes


NO_CPU = CpuCosts()


def slowed(ns: int, share: int) -> int:
    """Least time in which `ns` of work is done at a rate lower by `share`."""
    return -(-ns * (SHARE + share) // SHARE)


def done(ns: int, share: int) -> int:
    """Work that is done in `ns` at a rate lower by `share`."""
    return ns * SHARE // (SHARE + share)


class Interval(NamedTuple):
    """Time in which the CPU computes experts, ns from the start of the run."""

    begin: int = 0
    end: int = 0

    def landing(self, start: int, ns: int, share: int) -> int:
        """End of a copy of `ns` that starts at `start` and takes longer by `share` inside this time."""
        alone = min(ns, max(0, self.begin - start))
        at, rest = start + alone, ns - alone
        if not rest or at >= self.end:
            return at + rest
        takes = slowed(rest, share)
        return at + takes if at + takes <= self.end else self.end + rest - done(self.end - at, share)


class Beside:
    """Experts of an event on the CPU, beside copies that are given in the order of time."""

    def __init__(self, begin: int, works: Sequence[int], costs: CpuCosts) -> None:
        self._marks = list(accumulate(works))
        self._left = self._marks[-1]
        self._costs = costs
        self._now = begin
        self._pieces = [(begin, 0, 0)]  # time, work done before it, share from there on

    def copy(self, start: int, ns: int) -> int:
        """End of a copy of which `ns` are left at `start`, which is not before the end of the copy before it."""
        alone = min(self._left, start - self._now)
        self._advance(self._now + alone, alone)
        if not self._left:
            return start + ns
        _, _, _, by_copy, by_cpu = self._costs
        takes, expert = slowed(ns, by_cpu), slowed(self._left, by_copy)
        self._pieces.append((start, self._marks[-1] - self._left, by_copy))
        if takes > expert:
            rest = ns - done(expert, by_cpu)
            self._advance(start + expert, self._left)
            return self._now + rest
        self._advance(start + takes, done(takes, by_copy))
        self._pieces.append((self._now, self._marks[-1] - self._left, 0))
        return self._now

    def ends(self) -> list[int]:
        """End of each expert, once all copies are given."""
        return [self._end(work) for work in self._marks]

    def _advance(self, time: int, work: int) -> None:
        self._now, self._left = time, self._left - work

    def _end(self, work: int) -> int:
        pieces = [piece for piece in self._pieces if piece[1] < work] or self._pieces[:1]
        time, before, share = pieces[-1]
        return time + slowed(work - before, share)
