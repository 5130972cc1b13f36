"""The re-timer's kernel: the engine's loop compiled by numba, with a lane for each machine.

All clocks are rows of one array, [clocks, lanes], and all costs are rows of another, [costs, lanes]; numbers of rows
say what happens when. Events follow each other in the engine's order and with its names, and the loops over lanes
become vector instructions. Everything is compiled as one function at its first call and kept on disk until one of
`SOURCES` changes. Import this module only where it is used, since it needs numba.
"""

from typing import Any

from specmoe.sim.kernels import inlined, jit, version_of
from specmoe.sim.timing import copies_kernel as rings
from specmoe.sim.timing import cpu_lane
from specmoe.sim.timing import retimer as rows

SOURCES = (rings, rows, cpu_lane)


def _walk(version: int) -> Any:
    @jit(cache=True, nogil=True)
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

        Fill in `step_end`, [lanes, steps]; sums begin anew after `warm_up` steps. `costs` are [costs, lanes]; `slows`
        is each lane's share by which copies slow the computing; `runs_ahead` says that the host does not wait for the
        router, `on_cpu` in which events the CPU computes. `copies` are the rings, [4, lanes, room], of which those with
        `numbers`, [2, lanes], are in use; the rings to go on with are returned.
        """
        version  # noqa: B018
        layers = len(events) // len(heads)
        any_slows = slows.max() > 0
        any_cpu = on_cpu.any()
        action = 0
        for event in range(len(events)):
            dense, predicting, launched, to_host, to_device = events[event]
            _dense(clocks, costs, dense)
            if any_slows:
                rings.slow(clocks, slows, copies, numbers)
            if runs_ahead:
                _go_on(clocks, costs, predicting)
            else:
                _decide(clocks, costs, predicting)
            if on_cpu[event]:
                _hand_over(clocks, costs, to_host)
            while action < ends[event]:
                kind, slot, decided, progress, cost = actions[action]
                action += 1
                if kind == rows.RELEASE:
                    _release(clocks, slot)
                    continue
                if kind in (rows.CPU_USE, rows.LAST_CPU_USE):
                    clocks[rows.CPU_WORK] += costs[cost]
                    if kind == rows.LAST_CPU_USE:
                        rings.compute_on_cpu(clocks, costs, copies, numbers)
                    continue
                if kind == rows.LOAD and any_cpu:
                    copies = rings.with_room(copies, numbers)
                    rings.load_beside(clocks, costs, copies, numbers, slot, decided, progress, cost)
                    continue
                if kind == rows.LOAD:
                    _load(clocks, costs, slot, decided, progress, cost)
                    if any_slows:
                        copies = rings.with_room(copies, numbers)
                        rings.remember(clocks, costs, copies, numbers, cost)
                    continue
                if kind == rows.USE:
                    _use(clocks, costs, decided, progress, cost)
                else:
                    _first_use(clocks, costs, slot, decided, progress, cost, kind == rows.FIRST_HIT)
                if any_slows:
                    rings.slow(clocks, slows, copies, numbers)
                _release(clocks, slot)
            _launched(clocks, costs, launched)
            if on_cpu[event]:
                _join(clocks, costs, to_device)
                if any_slows:
                    rings.slow(clocks, slows, copies, numbers)
            _wait_for_layer(clocks, costs)
            if (event + 1) % layers == 0:
                step = event // layers
                _dense(clocks, costs, heads[step])
                if any_slows:
                    rings.slow(clocks, slows, copies, numbers)
                _end_step(clocks, costs, step, step_end)
                if step + 1 == warm_up:
                    clocks[rows.STALL : rows.FREE] = 0
        return copies

    return walk


walk = _walk(version_of(SOURCES))


@inlined
def _dense(clocks: Any, costs: Any, cost: int) -> None:
    for lane in range(clocks.shape[1]):
        start = max(clocks[rows.COMPUTE, lane], clocks[rows.HOST, lane] + costs[rows.DENSE, lane])
        clocks[rows.START, lane] = start
        clocks[rows.COMPUTE, lane] = start + costs[cost, lane]


@inlined
def _decide(clocks: Any, costs: Any, predicting: int) -> None:
    for lane in range(clocks.shape[1]):
        ready = clocks[rows.COMPUTE, lane] + costs[rows.SYNC, lane]
        decided = ready + costs[rows.BOOKKEEPING, lane]
        clocks[rows.READY, lane] = ready
        clocks[rows.DECIDED, lane] = decided
        clocks[rows.PREDICTED, lane] = decided + costs[predicting, lane]


@inlined
def _go_on(clocks: Any, costs: Any, predicting: int) -> None:
    """As `_decide`, where the host does not wait for the router."""
    for lane in range(clocks.shape[1]):
        decided = clocks[rows.HOST, lane] + costs[rows.LAUNCH_DENSE, lane]
        clocks[rows.READY, lane] = clocks[rows.COMPUTE, lane]
        clocks[rows.DECIDED, lane] = decided
        clocks[rows.PREDICTED, lane] = decided + costs[predicting, lane]


@inlined
def _load(clocks: Any, costs: Any, slot: int, decided: int, progress: int, cost: int) -> None:
    for lane in range(clocks.shape[1]):
        issued = clocks[decided, lane] + costs[progress, lane]
        copy, read = costs[cost, lane], costs[rows.READ, lane]
        link, disk = clocks[rows.LINK, lane], clocks[rows.DISK, lane]
        crosses = copy > 0  # else it is in VRAM already, compressed
        reads = crosses and read > 0
        fetched = max(issued, disk) + read if reads else issued
        start = max(fetched, clocks[slot, lane])
        start = max(start, link) if crosses else start
        clocks[rows.DISK, lane] = fetched if reads else disk
        clocks[rows.LINK, lane] = start + copy if crosses else link
        clocks[slot, lane] = start + copy


@inlined
def _use(clocks: Any, costs: Any, decided: int, progress: int, cost: int) -> None:
    for lane in range(clocks.shape[1]):
        start = max(clocks[rows.COMPUTE, lane], clocks[decided, lane] + costs[progress, lane])
        clocks[rows.START, lane] = start
        clocks[rows.COMPUTE, lane] = start + costs[cost, lane]


@inlined
def _first_use(clocks: Any, costs: Any, slot: int, decided: int, progress: int, cost: int, hit: bool) -> None:
    for lane in range(clocks.shape[1]):
        free = max(clocks[rows.COMPUTE, lane], clocks[decided, lane] + costs[progress, lane])
        landed = clocks[slot, lane]
        start = max(free, landed + costs[rows.HANDOVER, lane])
        clocks[rows.LATE, lane] += hit and landed > clocks[rows.READY, lane]
        clocks[rows.STALL, lane] += start - free
        clocks[rows.START, lane] = start
        clocks[rows.COMPUTE, lane] = start + costs[cost, lane]


@inlined
def _release(clocks: Any, slot: int) -> None:
    for lane in range(clocks.shape[1]):
        clocks[slot, lane] = clocks[rows.COMPUTE, lane]


@inlined
def _launched(clocks: Any, costs: Any, launched: int) -> None:
    for lane in range(clocks.shape[1]):
        clocks[rows.HOST, lane] = clocks[rows.PREDICTED, lane] + costs[launched, lane]


@inlined
def _wait_for_layer(clocks: Any, costs: Any) -> None:
    for lane in range(clocks.shape[1]):
        if costs[rows.SYNC_EACH_LAYER, lane]:
            clocks[rows.HOST, lane] = max(clocks[rows.HOST, lane], clocks[rows.COMPUTE, lane] + costs[rows.SYNC, lane])


@inlined
def _hand_over(clocks: Any, costs: Any, to_host: int) -> None:
    for lane in range(clocks.shape[1]):
        clocks[rows.DECIDED, lane] += costs[rows.CPU_START, lane]
        clocks[rows.PREDICTED, lane] += costs[rows.CPU_START, lane]
        clocks[rows.CPU_BEGIN, lane] = max(clocks[rows.DECIDED, lane], clocks[rows.READY, lane] + costs[to_host, lane])
        clocks[rows.CPU_WORK, lane] = 0


@inlined
def _join(clocks: Any, costs: Any, to_device: int) -> None:
    for lane in range(clocks.shape[1]):
        host = max(clocks[rows.HOST, lane], clocks[rows.CPU_END, lane]) + costs[rows.CPU_JOIN, lane]
        start = max(clocks[rows.COMPUTE, lane], host + costs[to_device, lane] + costs[rows.RESULT, lane])
        clocks[rows.HOST, lane] = host
        clocks[rows.CPU_STALL, lane] += start - clocks[rows.COMPUTE, lane]
        clocks[rows.START, lane] = start
        clocks[rows.COMPUTE, lane] = start + costs[rows.CPU_ADD, lane]


@inlined
def _end_step(clocks: Any, costs: Any, step: int, step_end: Any) -> None:
    for lane in range(clocks.shape[1]):
        clocks[rows.HOST, lane] = clocks[rows.COMPUTE, lane] + costs[rows.SYNC, lane]
        step_end[lane, step] = clocks[rows.HOST, lane]
