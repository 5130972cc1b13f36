"""The director's compiled twin: the same decisions, where it knows the eviction and what a miss gets.

Its loop is in `director_kernel.py`. Everything else, and all short runs, are decided in Python by `director.py`, which
is the reference.
"""

import sys
from collections.abc import Callable, Collection, Sequence
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from specmoe.sim.decide import misses as rules
from specmoe.sim.decide.eviction import NEVER, Eviction, FromPredictions, FromTheFuture, Proposals
from specmoe.sim.decide.evictions import EVICTIONS
from specmoe.sim.decide.evictions.counts import LfuDecayed, Static
from specmoe.sim.decide.miss import COMPUTE, COMPUTE_AND_LOAD, LOAD, Miss
from specmoe.sim.decide.table import DecisionTable, Loads, Uses
from specmoe.traces.workload import Workload

BUILT_IN = (
    *("lru", "fifo", "slru", "arc", "sieve", "s3fifo", "lfru", "least-stale"),
    *("lfu", "lfu-perfect", "lfu-decayed", "static", "belady", "belady-bypass"),
)
CODES = {EVICTIONS[name]: code for code, name in enumerate(BUILT_IN)}  # numbers of the kernel
RULES: dict[type[Miss] | None, int] = {  # numbers of the kernel
    **dict.fromkeys((None, rules.Cpu, rules.CpuAndLoad), 0),
    **dict.fromkeys((rules.CpuBelow, rules.CpuIfFaster), 1),
    **dict.fromkeys((rules.Split, rules.LawSplit, rules.FreeToken), 2),
    rules.AdmitAfter: 3,
    rules.Greedy: 4,
}
AT_ONCE = 1 << 16  # events of a call
KERNEL = "specmoe.sim.decide.director_kernel"
FEWEST_USES = 20_000  # of a run that is decided here: loading the kernel takes as long as these in Python
FEWEST_ONCE_LOADED = 500


class Start(NamedTuple):
    """What decisions start from: pools of slots with what is free in each, and what is resident."""

    workload: Workload
    evictions: Sequence[Eviction]  # of each pool
    free: Sequence[list[int]]  # of each pool
    capacity: Sequence[int]  # of each pool
    resident: dict[int, int]  # slot of each key, oldest first
    slots: int
    keep: bool
    proposals: Proposals
    miss: Miss | None = None
    fixed: Sequence[int] = ()  # resident keys that never leave
    in_ram: Collection[int] = ()  # layers whose experts the CPU computes


def takes(start: Start) -> bool:
    """Whether the twin makes these decisions."""
    fewest = min(FEWEST_USES, FEWEST_ONCE_LOADED) if KERNEL in sys.modules else FEWEST_USES
    return len(start.workload.experts) >= fewest and knows(start)


def load() -> None:
    """Load the kernel where it can be, which pays before many short runs."""
    if find_spec("numba") is not None:
        import_module(KERNEL)


def knows(start: Start) -> bool:
    """Whether the twin can make these decisions."""
    known = all(type(eviction) in CODES for eviction in start.evictions) and _rule_of(start.miss) in RULES
    return known and find_spec("numba") is not None


def decided(start: Start) -> DecisionTable:
    """The decisions."""
    meta, peeks = start.workload.meta, start.evictions[0].peeks
    twin = Twin(start, first_events(start.workload) if peeks else None)
    following = next_uses(start.workload) if peeks else None
    uses, loads = twin.decided(start.workload, start.proposals, following)
    return DecisionTable(uses, loads, start.workload.num_steps, meta.num_layers, meta.num_experts, start.slots)


class Twin:
    """Decides a run, whole or in parts that follow each other.

    `first` is the event of each key's first use, [keys], for evictions that peek.
    """

    def __init__(self, start: Start, first: NDArray[np.int64] | None = None) -> None:
        from specmoe.sim.decide import books_kernel, director_kernel, miss_kernel

        self._kernel, self._columns, self._keep, self._events = director_kernel, books_kernel, start.keep, 0
        self._books = _books(books_kernel, start, first)
        self._rule = _rule(miss_kernel, start)
        self._scratch = np.full((5, len(self._books.of)), -1)
        self._later = np.zeros(len(self._books.of), np.int32)  # whether each key's last load was for later events
        resident = np.array(list(start.resident), np.int64)
        director_kernel.fill(self._books, resident[self._books.of[resident, books_kernel.FIXED] == 0], start.keep)

    def decided(
        self,
        workload: Workload,
        proposals: Proposals,
        next_use: NDArray[np.int64] | None = None,
        later: NDArray[np.int32] | None = None,
    ) -> tuple[Uses, Loads]:
        """The decisions of a workload, or of its next part, whose events and loads are numbered from 0.

        Its first loads are those of earlier parts that nobody has used: their event is -1. `next_use` is the event in
        the run of the next use of each use's key, for evictions that peek; `later` are the keys that are demanded
        behind the part, for prefetches that do.
        """
        kernel, books, carried = self._kernel, self._books, self._carried()
        routing = _routing(kernel.Routing, workload, proposals, next_use, later, self._events, self._keep)
        used = np.empty((8, len(workload.experts)), np.int32)
        most = workload.offsets + routing.proposed_offsets + routing.window * np.arange(workload.num_events + 1)
        parts = [carried]
        for first in range(0, workload.num_events, AT_ONCE):
            last, before = min(first + AT_ONCE, workload.num_events), int(books.of[-1, self._columns.LOADS])
            rows = np.empty((7, most[last] - most[first]), np.int32)
            events = self._events + first, self._events + last
            kernel.walk(books, routing, self._rule, *events, self._scratch, used, rows)
            rows[0] -= self._events
            parts.append(rows[:, : int(books.of[-1, self._columns.LOADS]) - before].copy())
        used[0] -= self._events
        self._events += workload.num_events
        rows = np.concatenate(parts, axis=1)
        self._later[rows[1]] = rows[6]  # of several, the last one stays
        return _tables(used, rows)

    def _carried(self) -> NDArray[np.int32]:
        """Rows of the loads that nobody has used yet, which become the first; other loads lose their numbers."""
        kernel, of = self._columns, self._books.of
        keys = of[: self._books.layers * self._books.experts]
        waiting = np.flatnonzero(keys[:, kernel.UNUSED] > 0)
        waiting = waiting[np.argsort(keys[waiting, kernel.LOADED])]
        keys[:, kernel.LOADED] = kernel.NONE
        keys[waiting, kernel.LOADED] = np.arange(len(waiting))
        of[-1, kernel.LOADS] = len(waiting)
        none, zero = np.full(len(waiting), -1), np.zeros(len(waiting))
        slots, later = keys[waiting, kernel.SLOT], self._later[waiting]
        return np.stack([none, waiting, slots, none, zero, zero, later]).astype(np.int32)


def _tables(used: NDArray[np.int32], rows: NDArray[np.int32]) -> tuple[Uses, Loads]:
    event, key, tokens, slot, load, hit, wave, where = used
    uses = Uses(event, key, tokens, slot, load, hit.astype(np.bool_), wave, where.astype(np.int8))
    event, key, slot, evicted, demand, wave, later = rows
    useful = np.zeros(len(event), np.bool_)
    useful[load[load >= 0]] = True
    return uses, Loads(event, key, slot, evicted, demand.astype(np.bool_), useful, wave, later.astype(np.bool_))


def _books(kernel: Any, start: Start, first_use: NDArray[np.int64] | None) -> Any:
    meta, count, lists = start.workload.meta, len(start.evictions), max(4, start.workload.meta.num_layers)
    keys = meta.num_layers * meta.num_experts
    first_pool = keys + count * lists
    of = _rows(kernel, first_pool + count + (0 if start.keep else keys + meta.num_layers) + 1)
    edges = np.cumsum([0, *start.capacity])
    free = np.zeros(edges[-1], np.int64)
    for number, (eviction, slots) in enumerate(zip(start.evictions, start.free, strict=True)):
        free[edges[number] : edges[number] + len(slots)] = slots
        pool = of[first_pool + number]
        pool[:] = 0
        pool[[kernel.CAPACITY, kernel.FREE, kernel.START]] = start.capacity[number], len(slots), edges[number]
        pool[[kernel.ROOM, kernel.GHOSTS]] = getattr(eviction, "room", 0), getattr(eviction, "ghost_room", 0)
        pool[[kernel.HEAD, kernel.GIVEN_UP]] = keys + lists * number, kernel.NONE
    of[list(start.resident), kernel.SLOT] = list(start.resident.values())
    of[:keys, kernel.FIXED] = np.isin(np.arange(keys), start.fixed)
    of[-1] = 0
    first = start.evictions[0]
    real = np.zeros((len(of), kernel.REAL))
    real[:keys, kernel.KNOWN] = _known(start.workload, first, first_use)
    real[-1] = getattr(first, "half_life", 1.0), 2.0
    return kernel.Books(
        eviction=CODES[type(first)],
        layers=meta.num_layers,
        experts=meta.num_experts,
        per_layer=int(count > 1),
        first_pool=first_pool,
        arrivals=first_pool + count,
        of=of,
        real=real,
        heap=np.zeros(edges[-1], np.int64),
        free=free,
    )


def _rule_of(miss: Miss | None) -> type[Miss] | None:
    return None if miss is None else type(miss)


def _rule(kernel: Any, start: Start) -> Any:
    meta, miss, numbers = start.workload.meta, start.miss, [float(LOAD)]
    code, loads = RULES[_rule_of(miss)], np.zeros(meta.num_experts + 1, np.int64)
    if isinstance(miss, rules.CpuAndLoad):
        numbers = [float(COMPUTE_AND_LOAD)]
    elif isinstance(miss, rules.Cpu):
        numbers = [float(COMPUTE)]
    elif isinstance(miss, rules.CpuBelow):
        numbers = [miss.tokens]
    elif isinstance(miss, rules.AdmitAfter):
        numbers = [miss.uses]
    elif isinstance(miss, rules.Greedy):
        numbers = list(miss.times)
    elif isinstance(miss, rules.Split):
        loads[1:] = [miss.loads_of(misses) for misses in range(1, len(loads))]
    in_ram = np.isin(np.arange(meta.num_layers), list(start.in_ram))
    return kernel.Rule(
        code=code,
        shares=bool(miss is not None or in_ram.any()),
        in_ram=in_ram,
        numbers=np.array(numbers, np.float64),
        loads=loads,
        counts=np.zeros(meta.num_layers * meta.num_experts, np.int64),
    )


def _rows(kernel: Any, count: int) -> NDArray[np.int64]:
    """Keys without a list and lists without keys."""
    rows = np.full((count, kernel.WIDTH), -1)
    rows[:, [kernel.UNUSED, kernel.COUNT, kernel.TIE]] = 0
    rows[:, [kernel.OLDER, kernel.YOUNGER]] = np.arange(count)[:, None]
    return rows


def _known(workload: Workload, eviction: Eviction, first_use: NDArray[np.int64] | None) -> NDArray[np.float64]:
    """What the eviction knows of each key at first."""
    keys = workload.meta.num_layers * workload.meta.num_experts
    if isinstance(eviction, LfuDecayed):
        return np.full(keys, -np.inf)
    values = np.zeros(keys)
    if isinstance(eviction, Static):
        values[list(eviction.popularity)] = list(eviction.popularity.values())
    elif first_use is not None:
        values[:] = first_use
    return values


def first_events(workload: Workload) -> NDArray[np.int64]:
    """The event of each key's first use, [keys]; NEVER if there is none."""
    first = np.full(workload.meta.num_layers * workload.meta.num_experts, NEVER)
    first[workload.keys[::-1]] = workload.events[::-1]  # of several, the last one stays
    return first


def _routing(
    made: Callable[..., Any],
    workload: Workload,
    proposals: Proposals,
    next_use: NDArray[np.int64] | None,
    later: NDArray[np.int32] | None,
    begins: int,
    keep: bool,
) -> Any:
    window, keys, offsets = 0, np.zeros(0, np.int64), np.zeros(workload.num_events + 1, np.int64)
    if isinstance(proposals, FromTheFuture):
        window = proposals.window
    elif isinstance(proposals, FromPredictions):
        keys, offsets = (np.asarray(part).astype(np.int64) for part in (proposals.keys, proposals.offsets))
    return made(
        begins=begins,
        offsets=workload.offsets,
        keys=workload.keys if later is None else np.concatenate([workload.keys, later]),
        tokens=workload.tokens,
        next_use=np.zeros(0, np.int64) if next_use is None else next_use,
        proposed=keys,
        proposed_offsets=offsets,
        window=window,
        backlog=proposals.backlog,
        keep=keep,
    )


def next_uses(workload: Workload) -> NDArray[np.int64]:
    """Event of each use's next use of the same key; NEVER if there is none."""
    order = np.argsort(workload.keys, kind="stable")
    following = np.full(len(order), NEVER)
    same = workload.keys[order[1:]] == workload.keys[order[:-1]]
    following[order[:-1][same]] = workload.events[order[1:][same]]
    return following
