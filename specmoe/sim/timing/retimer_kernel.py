"""The re-timer's kernel: the engine's loop compiled by numba, with a lane for each machine.

All clocks are rows of one array, [clocks, lanes], and all costs are rows of another, [costs, lanes]; numbers of rows
say what happens when. Events follow each other in the engine's order and with its names, and the loops over lanes
become vector instructions. Copies are remembered, in a ring for each lane, only where they slow the computing or
the CPU computes experts: start, landing, start if the link were free, and the clock of the slot.
Everything is compiled as one function at its first call and cached beside this file until the file changes. Import this
module only where it is used, since it needs numba.
"""

from typing import Any

import numpy as np
from numba import njit

from specmoe.sim.timing.actions import CPU_USE, FIRST_HIT, LAST_CPU_USE, LOAD, RELEASE, USE
from specmoe.sim.timing.cpu_lane import SHARE
from specmoe.sim.timing.retimer import (
    BOOKKEEPING,
    COMPUTE,
    CPU,
    CPU_ADD,
    CPU_BEGIN,
    CPU_END,
    CPU_FROM,
    CPU_JOIN,
    CPU_STALL,
    CPU_START,
    CPU_WORK,
    DECIDED,
    DENSE,
    DISK,
    HANDOVER,
    HOST,
    LATE,
    LAUNCH_DENSE,
    LINK,
    PREDICTED,
    READ,
    READY,
    RESULT,
    SLOWED,
    SLOWED_BY_COPY,
    SLOWS_COPY,
    STALL,
    START,
    SYNC,
    SYNC_EACH_LAYER,
)


@njit(cache=True, nogil=True)
def walk(
    actions: Any,
    ends: Any,
    events: Any,
    heads: Any,
    clocks: Any,
    costs: Any,
    slows: Any,
    step_end: Any,
    warm_up: int,
    runs_ahead: bool,
    on_cpu: Any,
    copies: Any,
    numbers: Any,
) -> Any:
    """Run a `Script` on clocks, [clocks, lanes], that stand at 0 or where the last script left them.

    Fill in `step_end`, [lanes, steps]; sums begin anew after `warm_up` steps. `costs` are [costs, lanes]; `slows` is
    each lane's share by which copies slow the computing; `runs_ahead` says that the host does not wait for the router,
    `on_cpu` in which events the CPU computes. `copies` are the rings, [4, lanes, room], of which those with `numbers`,
    [2, lanes], are in use; the rings to go on with are returned.
    """
    layers = len(events) // len(heads)
    any_slows = slows.max() > 0
    any_cpu = on_cpu.any()
    action = 0
    for event in range(len(events)):
        dense, predicting, launched, to_host, to_device = events[event]
        _dense(clocks, costs, dense)
        if any_slows:
            _slow(clocks, slows, copies, numbers)
        if runs_ahead:
            _go_on(clocks, costs, predicting)
        else:
            _decide(clocks, costs, predicting)
        if on_cpu[event]:
            _hand_over(clocks, costs, to_host)
        while action < ends[event]:
            kind, slot, decided, progress, cost = actions[action]
            action += 1
            if kind == RELEASE:
                _release(clocks, slot)
                continue
            if kind in (CPU_USE, LAST_CPU_USE):
                clocks[CPU_WORK] += costs[cost]
                if kind == LAST_CPU_USE:
                    _compute_on_cpu(clocks, costs, copies, numbers)
                continue
            if kind == LOAD and any_cpu:
                copies = _with_room(copies, numbers)
                _load_beside(clocks, costs, copies, numbers, slot, decided, progress, cost)
                continue
            if kind == LOAD:
                _load(clocks, costs, slot, decided, progress, cost)
                if any_slows:
                    copies = _with_room(copies, numbers)
                    _remember(clocks, costs, copies, numbers, cost)
                continue
            if kind == USE:
                _use(clocks, costs, decided, progress, cost)
            else:
                _first_use(clocks, costs, slot, decided, progress, cost, kind == FIRST_HIT)
            if any_slows:
                _slow(clocks, slows, copies, numbers)
            _release(clocks, slot)
        _launched(clocks, costs, launched)
        if on_cpu[event]:
            _join(clocks, costs, to_device)
            if any_slows:
                _slow(clocks, slows, copies, numbers)
        _wait_for_layer(clocks, costs)
        if (event + 1) % layers == 0:
            step = event // layers
            _dense(clocks, costs, heads[step])
            if any_slows:
                _slow(clocks, slows, copies, numbers)
            _end_step(clocks, costs, step, step_end)
            if step + 1 == warm_up:
                clocks[STALL] = clocks[SLOWED] = clocks[LATE] = clocks[CPU] = clocks[CPU_STALL] = 0
    return copies


@njit(inline="always")
def _dense(clocks: Any, costs: Any, cost: int) -> None:
    for lane in range(clocks.shape[1]):
        start = max(clocks[COMPUTE, lane], clocks[HOST, lane] + costs[DENSE, lane])
        clocks[START, lane] = start
        clocks[COMPUTE, lane] = start + costs[cost, lane]


@njit(inline="always")
def _decide(clocks: Any, costs: Any, predicting: int) -> None:
    for lane in range(clocks.shape[1]):
        ready = clocks[COMPUTE, lane] + costs[SYNC, lane]
        decided = ready + costs[BOOKKEEPING, lane]
        clocks[READY, lane] = ready
        clocks[DECIDED, lane] = decided
        clocks[PREDICTED, lane] = decided + costs[predicting, lane]


@njit(inline="always")
def _go_on(clocks: Any, costs: Any, predicting: int) -> None:
    """As `_decide`, where the host does not wait for the router."""
    for lane in range(clocks.shape[1]):
        decided = clocks[HOST, lane] + costs[LAUNCH_DENSE, lane]
        clocks[READY, lane] = clocks[COMPUTE, lane]
        clocks[DECIDED, lane] = decided
        clocks[PREDICTED, lane] = decided + costs[predicting, lane]


@njit(inline="always")
def _load(clocks: Any, costs: Any, slot: int, decided: int, progress: int, cost: int) -> None:
    for lane in range(clocks.shape[1]):
        issued = clocks[decided, lane] + costs[progress, lane]
        copy, read = costs[cost, lane], costs[READ, lane]
        link, disk = clocks[LINK, lane], clocks[DISK, lane]
        crosses = copy > 0  # else it is in VRAM already, compressed
        reads = crosses and read > 0
        fetched = max(issued, disk) + read if reads else issued
        start = max(fetched, clocks[slot, lane])
        start = max(start, link) if crosses else start
        clocks[DISK, lane] = fetched if reads else disk
        clocks[LINK, lane] = start + copy if crosses else link
        clocks[slot, lane] = start + copy


@njit(inline="always")
def _use(clocks: Any, costs: Any, decided: int, progress: int, cost: int) -> None:
    for lane in range(clocks.shape[1]):
        start = max(clocks[COMPUTE, lane], clocks[decided, lane] + costs[progress, lane])
        clocks[START, lane] = start
        clocks[COMPUTE, lane] = start + costs[cost, lane]


@njit(inline="always")
def _first_use(clocks: Any, costs: Any, slot: int, decided: int, progress: int, cost: int, hit: bool) -> None:
    for lane in range(clocks.shape[1]):
        free = max(clocks[COMPUTE, lane], clocks[decided, lane] + costs[progress, lane])
        landed = clocks[slot, lane]
        start = max(free, landed + costs[HANDOVER, lane])
        clocks[LATE, lane] += hit and landed > clocks[READY, lane]
        clocks[STALL, lane] += start - free
        clocks[START, lane] = start
        clocks[COMPUTE, lane] = start + costs[cost, lane]


@njit(inline="always")
def _release(clocks: Any, slot: int) -> None:
    for lane in range(clocks.shape[1]):
        clocks[slot, lane] = clocks[COMPUTE, lane]


@njit(inline="always")
def _launched(clocks: Any, costs: Any, launched: int) -> None:
    for lane in range(clocks.shape[1]):
        clocks[HOST, lane] = clocks[PREDICTED, lane] + costs[launched, lane]


@njit(inline="always")
def _wait_for_layer(clocks: Any, costs: Any) -> None:
    for lane in range(clocks.shape[1]):
        if costs[SYNC_EACH_LAYER, lane]:
            clocks[HOST, lane] = max(clocks[HOST, lane], clocks[COMPUTE, lane] + costs[SYNC, lane])


@njit(inline="always")
def _hand_over(clocks: Any, costs: Any, to_host: int) -> None:
    for lane in range(clocks.shape[1]):
        clocks[DECIDED, lane] += costs[CPU_START, lane]
        clocks[PREDICTED, lane] += costs[CPU_START, lane]
        clocks[CPU_BEGIN, lane] = max(clocks[DECIDED, lane], clocks[READY, lane] + costs[to_host, lane])
        clocks[CPU_WORK, lane] = 0


@njit(inline="always")
def _join(clocks: Any, costs: Any, to_device: int) -> None:
    for lane in range(clocks.shape[1]):
        host = max(clocks[HOST, lane], clocks[CPU_END, lane]) + costs[CPU_JOIN, lane]
        start = max(clocks[COMPUTE, lane], host + costs[to_device, lane] + costs[RESULT, lane])
        clocks[HOST, lane] = host
        clocks[CPU_STALL, lane] += start - clocks[COMPUTE, lane]
        clocks[START, lane] = start
        clocks[COMPUTE, lane] = start + costs[CPU_ADD, lane]


@njit(cache=True)
def _load_beside(
    clocks: Any, costs: Any, copies: Any, numbers: Any, slot: int, decided: int, progress: int, cost: int
) -> None:
    """As `_load` and `_remember`, where the CPU computes experts."""
    for lane in range(clocks.shape[1]):
        possible = max(clocks[decided, lane] + costs[progress, lane], clocks[slot, lane])
        start, ns = max(possible, clocks[LINK, lane]), costs[cost, lane]
        landed = _landing(start, ns, clocks[CPU_FROM, lane], clocks[CPU_END, lane], costs[SLOWS_COPY, lane])
        clocks[LINK, lane] = clocks[slot, lane] = landed
        place = numbers[1, lane] & (copies.shape[2] - 1)
        copies[0, lane, place], copies[1, lane, place] = start, landed
        copies[2, lane, place], copies[3, lane, place] = possible, slot
        numbers[1, lane] += 1


@njit(cache=True)
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


@njit(cache=True)
def _compute_on_cpu(clocks: Any, costs: Any, copies: Any, numbers: Any) -> None:
    """Let the CPU compute an event's experts, and time the copies under way beside them anew."""
    last_place = copies.shape[2] - 1
    for lane in range(clocks.shape[1]):
        begin, left = clocks[CPU_BEGIN, lane], clocks[CPU_WORK, lane]
        by_copy, by_cpu = costs[SLOWED_BY_COPY, lane], costs[SLOWS_COPY, lane]
        now = free = begin
        while (
            numbers[0, lane] < numbers[1, lane]
            and copies[1, lane, numbers[0, lane] & last_place] <= clocks[COMPUTE, lane]
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
            clocks[copies[3, lane, place], lane] = clocks[LINK, lane] = free
        clocks[CPU_FROM, lane], clocks[CPU_END, lane] = begin, now + left
        clocks[CPU, lane] += now + left - begin


@njit(cache=True)
def _slowed(ns: int, share: int) -> int:
    """Least time in which `ns` of work is done at a rate lower by `share`."""
    return -(-ns * (SHARE + share) // SHARE)


@njit(cache=True)
def _done(ns: int, share: int) -> int:
    """Work that is done in `ns` at a rate lower by `share`."""
    return ns * SHARE // (SHARE + share)


@njit(inline="always")
def _end_step(clocks: Any, costs: Any, step: int, step_end: Any) -> None:
    for lane in range(clocks.shape[1]):
        clocks[HOST, lane] = clocks[COMPUTE, lane] + costs[SYNC, lane]
        step_end[lane, step] = clocks[HOST, lane]


@njit(inline="always")
def _slow(clocks: Any, slows: Any, copies: Any, numbers: Any) -> None:
    """Prolong the last kernel by a share of the copying beside it."""
    for lane in range(len(slows)):
        if slows[lane] > 0 and clocks[LINK, lane] > clocks[START, lane]:
            busy = _busy(copies[0, lane], copies[1, lane], numbers[:, lane], clocks[START, lane], clocks[COMPUTE, lane])
            longer = np.int64(np.rint(slows[lane] * busy))  # half to even, as Python rounds
            clocks[SLOWED, lane] += longer
            clocks[COMPUTE, lane] += longer


@njit(inline="always")
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


@njit(inline="always")
def _remember(clocks: Any, costs: Any, copies: Any, numbers: Any, cost: int) -> None:
    """Remember the last copy of each lane in which it crossed the link."""
    for lane in range(clocks.shape[1]):
        if costs[cost, lane] > 0:
            place = numbers[1, lane] & (copies.shape[2] - 1)
            copies[0, lane, place] = clocks[LINK, lane] - costs[cost, lane]
            copies[1, lane, place] = clocks[LINK, lane]
            numbers[1, lane] += 1


@njit(inline="always")
def _with_room(copies: Any, numbers: Any) -> Any:
    """The rings with room for one more copy in each lane; copies `numbers[0]` to `numbers[1]` keep their numbers."""
    rows, lanes, room = copies.shape
    if (numbers[1] - numbers[0]).max() < room:
        return copies
    larger = np.empty((rows, lanes, 2 * room), np.int64)
    for lane in range(lanes):
        for number in range(numbers[0, lane], numbers[1, lane]):
            larger[:, lane, number & (2 * room - 1)] = copies[:, lane, number & (room - 1)]
    return larger
