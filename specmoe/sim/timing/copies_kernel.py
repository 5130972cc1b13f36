"""The re-timer's kernel: copies beside the GPU's kernels and the CPU's experts, compiled by numba.

Copies are remembered, in a ring for each lane, only where they slow the computing or the CPU computes experts: start,
landing, start if the link were free, and the clock of the slot. Import this module only where it is used,
since it needs numba.
"""

from typing import Any

import numpy as np

from specmoe.sim.kernels import inlined, jit
from specmoe.sim.timing import retimer as rows
from specmoe.sim.timing.cpu_lane import SHARE


@jit()
def load_beside(
    clocks: Any, costs: Any, copies: Any, numbers: Any, slot: int, decided: int, progress: int, cost: int
) -> None:
    """As `_load` and `remember`, where the CPU computes experts."""
    for lane in range(clocks.shape[1]):
        possible = max(clocks[decided, lane] + costs[progress, lane], clocks[slot, lane])
        start, ns = max(possible, clocks[rows.LINK, lane]), costs[cost, lane]
        landed = _landing(
            start, ns, clocks[rows.CPU_FROM, lane], clocks[rows.CPU_END, lane], costs[rows.SLOWS_COPY, lane]
        )
        clocks[rows.LINK, lane] = clocks[slot, lane] = landed
        place = numbers[1, lane] & (copies.shape[2] - 1)
        copies[0, lane, place], copies[1, lane, place] = start, landed
        copies[2, lane, place], copies[3, lane, place] = possible, slot
        numbers[1, lane] += 1


@jit()
def _landing(start: int, ns: int, begin: int, end: int, share: int) -> int:
    """End of a copy that takes longer by a share while the CPU computes, from `begin` to `end`."""
    full = min(ns, max(0, begin - start))  # at full speed, before that
    if full == ns or start >= end:
        return start + ns
    beside = _slowed(ns - full, share)
    inside = end - (start + full)
    if beside <= inside:
        return start + full + beside
    return end + ns - full - _done(inside, share)


@jit()
def compute_on_cpu(clocks: Any, costs: Any, copies: Any, numbers: Any) -> None:
    """Let the CPU compute an event's experts, and time the copies under way beside them anew."""
    last_place = copies.shape[2] - 1
    for lane in range(clocks.shape[1]):
        begin, left = clocks[rows.CPU_BEGIN, lane], clocks[rows.CPU_WORK, lane]
        by_copy, by_cpu = costs[rows.SLOWED_BY_COPY, lane], costs[rows.SLOWS_COPY, lane]
        now = free = begin
        while (
            numbers[0, lane] < numbers[1, lane]
            and copies[1, lane, numbers[0, lane] & last_place] <= clocks[rows.COMPUTE, lane]
        ):
            numbers[0, lane] += 1
        for number in range(numbers[0, lane], numbers[1, lane]):
            place = number & last_place
            started, landed = copies[0, lane, place], copies[1, lane, place]
            if landed <= begin:
                continue
            at, ns = begin, landed - begin
            if started >= begin:
                at, ns = max(copies[2, lane, place], free), landed - started
                copies[0, lane, place] = at
            if left <= at - now:
                now, left, free = now + left, 0, at + ns
            else:
                left -= at - now
                expert, copy = _slowed(left, by_copy), _slowed(ns, by_cpu)
                if copy <= expert:
                    now = free = at + copy
                    left -= _done(copy, by_copy)
                else:
                    now, left = at + expert, 0
                    free = now + ns - _done(expert, by_cpu)
            copies[1, lane, place] = free
            clocks[copies[3, lane, place], lane] = clocks[rows.LINK, lane] = free
        clocks[rows.CPU_FROM, lane], clocks[rows.CPU_END, lane] = begin, now + left
        clocks[rows.CPU, lane] += now + left - begin


@jit()
def _slowed(ns: int, share: int) -> int:
    """Least time in which `ns` of work is done at a rate lower by `share`."""
    return -(-ns * (SHARE + share) // SHARE)


@jit()
def _done(ns: int, share: int) -> int:
    """Work that is done in `ns` at a rate lower by `share`."""
    return ns * SHARE // (SHARE + share)


@inlined
def slow(clocks: Any, slows: Any, copies: Any, numbers: Any) -> None:
    """Prolong the last kernel by a share of the copying beside it."""
    for lane in range(len(slows)):
        if slows[lane] > 0 and clocks[rows.LINK, lane] > clocks[rows.START, lane]:
            busy = _busy(
                copies[0, lane], copies[1, lane], numbers[:, lane], clocks[rows.START, lane], clocks[rows.COMPUTE, lane]
            )
            longer = np.int64(np.rint(slows[lane] * busy))  # half to even, as Python rounds
            clocks[rows.SLOWED, lane] += longer
            clocks[rows.COMPUTE, lane] += longer


@inlined
def _busy(started: Any, landed: Any, numbers: Any, start: int, end: int) -> int:
    """Time of a lane's copying between two times, ns; calls must come in the order of time."""
    last_place = len(started) - 1
    while numbers[0] < numbers[1] and landed[numbers[0] & last_place] <= start:
        numbers[0] += 1
    busy = 0
    for number in range(numbers[0], numbers[1]):
        place = number & last_place
        if started[place] >= end:
            break
        busy += min(end, landed[place]) - max(start, started[place])
    return busy


@inlined
def remember(clocks: Any, costs: Any, copies: Any, numbers: Any, cost: int) -> None:
    """Remember the last copy of each lane in which it crossed the link."""
    for lane in range(clocks.shape[1]):
        if costs[cost, lane] > 0:
            place = numbers[1, lane] & (copies.shape[2] - 1)
            copies[0, lane, place] = clocks[rows.LINK, lane] - costs[cost, lane]
            copies[1, lane, place] = clocks[rows.LINK, lane]
            numbers[1, lane] += 1


@inlined
def with_room(copies: Any, numbers: Any) -> Any:
    """The rings with room for one more copy in each lane; copies `numbers[0]` to `numbers[1]` keep their numbers."""
    kinds, lanes, room = copies.shape
    if (numbers[1] - numbers[0]).max() < room:
        return copies
    larger = np.empty((kinds, lanes, 2 * room), np.int64)
    for lane in range(lanes):
        for number in range(numbers[0, lane], numbers[1, lane]):
            larger[:, lane, number & (2 * room - 1)] = copies[:, lane, number & (room - 1)]
    return larger
