"""The director's compiled twin: the same decisions, where it knows the eviction and the CPU computes nothing.

Its loop is in `director_kernel.py`. Everything else, and all short runs, are decided in Python by `director.py`, which
is the reference.
"""

from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from specmoe.sim.decide import proposals as proposing
from specmoe.sim.decide.eviction import NEVER, Eviction
from specmoe.sim.decide.evictions import EVICTIONS
from specmoe.sim.decide.evictions.lfu_decayed import LfuDecayed
from specmoe.sim.decide.evictions.static import Static
from specmoe.sim.decide.table import DecisionTable, Loads, Uses
from specmoe.traces.workload import Workload

BUILT_IN = (
    *("lru", "fifo", "slru", "arc", "sieve", "s3fifo", "lfru", "least-stale"),
    *("lfu", "lfu-perfect", "lfu-decayed", "static", "belady", "belady-bypass"),
)
CODES = {EVICTIONS[name]: code for code, name in enumerate(BUILT_IN)}  # numbers of the kernel
AT_ONCE = 1 << 16  # events of a call
FEWEST_USES = 20_000  # of a run that is decided here: loading the kernel takes as long as these in Python


class Start(NamedTuple):
    """What decisions start from: pools of slots with what is free in each, and what is resident."""

    workload: Workload
    evictions: Sequence[Eviction]  # of each pool
    free: Sequence[list[int]]  # of each pool
    capacity: Sequence[int]  # of each pool
    resident: dict[int, int]  # slot of each key, oldest first
    slots: int
    keep: bool
    proposals: proposing.Proposals


def takes(start: Start) -> bool:
    """Whether the twin makes these decisions."""
    worthwhile = len(start.workload.experts) >= FEWEST_USES and find_spec("numba") is not None
    return worthwhile and all(type(eviction) in CODES for eviction in start.evictions) and min(start.capacity) > 0


def decided(start: Start) -> DecisionTable:
    """The decisions."""
    from specmoe.sim.decide import director_kernel as kernel

    workload, books = start.workload, _books(kernel, start)
    routing = _routing(kernel.Routing, start)
    used = np.empty((8, len(workload.experts)), np.int32)
    most = workload.offsets + routing.proposed_offsets + routing.window * np.arange(workload.num_events + 1)
    scratch = np.full((4, len(books.of)), -1)
    kernel.fill(books, np.array(list(start.resident), np.int64), start.keep)
    parts = []
    for first in range(0, workload.num_events, AT_ONCE):
        last, before = min(first + AT_ONCE, workload.num_events), int(books.of[-1, kernel.LOADS])
        rows = np.empty((6, most[last] - most[first]), np.int32)
        kernel.walk(books, routing, first, last, scratch, used, rows)
        parts.append(rows[:, : int(books.of[-1, kernel.LOADS]) - before].copy())
    rows = np.concatenate(parts, axis=1)
    event, key, tokens, slot, load, hit, wave, where = used
    uses = Uses(event, key, tokens, slot, load, hit.astype(np.bool_), wave, where.astype(np.int8))
    event, key, slot, evicted, demand, wave = rows
    useful = np.zeros(len(event), np.bool_)
    useful[load[load >= 0]] = True
    loads = Loads(event, key, slot, evicted, demand.astype(np.bool_), useful, wave, np.zeros_like(useful))
    meta = workload.meta
    return DecisionTable(uses, loads, workload.num_steps, meta.num_layers, meta.num_experts, start.slots)


def _books(kernel: Any, start: Start) -> Any:
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
    of[-1] = 0
    first = start.evictions[0]
    real = np.zeros((len(of), kernel.REAL))
    real[:keys, kernel.KNOWN] = _known(start, first)
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


def _rows(kernel: Any, count: int) -> NDArray[np.int64]:
    """Keys without a list and lists without keys."""
    rows = np.full((count, kernel.WIDTH), -1)
    rows[:, [kernel.UNUSED, kernel.COUNT, kernel.TIE]] = 0
    rows[:, [kernel.OLDER, kernel.YOUNGER]] = np.arange(count)[:, None]
    return rows


def _known(start: Start, eviction: Eviction) -> NDArray[np.float64]:
    """What the eviction knows of each key at first."""
    workload = start.workload
    keys = workload.meta.num_layers * workload.meta.num_experts
    if isinstance(eviction, LfuDecayed):
        return np.full(keys, -np.inf)
    values = np.zeros(keys)
    if isinstance(eviction, Static):
        values[list(eviction.popularity)] = list(eviction.popularity.values())
    elif eviction.peeks:
        values[:] = NEVER
        distinct, place = np.unique(workload.keys, return_index=True)
        values[distinct] = workload.events[place]
    return values


def _routing(made: Callable[..., Any], start: Start) -> Any:
    workload, proposals = start.workload, start.proposals
    window, keys, offsets = 0, np.zeros(0, np.int64), np.zeros(workload.num_events + 1, np.int64)
    if isinstance(proposals, proposing.FromTheFuture):
        window = proposals.window
    elif isinstance(proposals, proposing.FromPredictions):
        keys, offsets = (np.asarray(part).astype(np.int64) for part in (proposals.keys, proposals.offsets))
    return made(
        offsets=workload.offsets,
        keys=workload.keys,
        tokens=workload.tokens,
        next_use=_next_uses(workload) if start.evictions[0].peeks else np.zeros(0, np.int64),
        proposed=keys,
        proposed_offsets=offsets,
        window=window,
        backlog=proposals.backlog,
        keep=start.keep,
    )


def _next_uses(workload: Workload) -> NDArray[np.int64]:
    """Event of each use's next use of the same key; NEVER if there is none."""
    order = np.argsort(workload.keys, kind="stable")
    following = np.full(len(order), NEVER)
    same = workload.keys[order[1:]] == workload.keys[order[:-1]]
    following[order[:-1][same]] = workload.events[order[1:][same]]
    return following
