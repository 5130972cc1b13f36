"""The director's kernel: its loop compiled by numba, with the eviction policies that it knows.

Read it beside `director.py` and `evictions/`: names and the order of steps are theirs. A row of `of` is a key, or the
head of a list of keys: a dict that Python reads oldest first is a ring of rows. Policies that rank keys by numbers keep
them in a heap; its order is total, so that the lowest is the one that Python finds.

Everything is compiled as one function at its first call and cached beside this file until the file changes. Import this
module only where it is used, since it needs numba.
"""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar, cast

from numba import njit

from specmoe.sim.decide import miss_kernel as misses
from specmoe.sim.decide.miss import COMPUTE_AND_LOAD, LOAD
from specmoe.sim.decide.table import CPU, GPU

# Columns of `of`. A head counts the keys of its list in COUNT; FIXED is 1 of keys that never leave.
SLOT, LOADED, UNUSED, PINNED, OLDER, YOUNGER, LIST, COUNT, TIE, PLACE, FIXED = range(11)
# Columns of a pool's row; its heap and its free slots begin at START.
CAPACITY, FREE, RANKED, ROOM, GHOSTS, CLOCK, B1_BEFORE, B2_BEFORE, GIVEN_UP, HEAD, START, WIDTH = range(12)
LOADS, WAITING, PINS, FIRST = range(4)  # of the last row, the totals; FIRST is the first load of the call
RANK, KNOWN, REAL = range(3)  # columns of `real`
SHARE = RANK  # of T1, in a pool's row (arc)
HALF_LIFE, BASE = range(2)  # in the last row: events, and 2, the base of weights (lfu-decayed)
LRU, FIFO, SLRU, ARC, SIEVE, S3FIFO, LFRU, LEAST_STALE = range(8)
LFU, LFU_PERFECT, LFU_DECAYED, STATIC, BELADY, BELADY_BYPASS = range(8, 14)
FIRST_RANKED = LFU
MOST_USES = 3  # of S3-FIFO
NONE = -1


Function = TypeVar("Function", bound=Callable[..., Any])


class Decorator(Protocol):
    """Of a function."""

    def __call__(self, function: Function) -> Function:
        """A function of the same type."""


jit = cast(Callable[..., Decorator], njit)
kernel = jit(cache=True, nogil=True, _nrt=False)  # arrays are not counted, as that costs more than anything else here
helper = jit(no_cpython_wrapper=True, no_cfunc_wrapper=True, _nrt=False)
inlined = jit(inline="always")


class Books(NamedTuple):
    """What the director and its evictions keep: rows for keys, heads, pools, arrivals and the totals, in this order.

    KNOWN of a key is its next use (belady), the logarithm of its weight (lfu-decayed) or its popularity (static).
    Where experts are given up, arrivals are the resident keys of each layer: row `arrivals + key`, then the heads.
    """

    eviction: int
    layers: int
    experts: int
    per_layer: int  # 1 if each layer has its own pool, else 0
    first_pool: int
    arrivals: int
    of: Any  # [rows, WIDTH]
    real: Any  # [rows, REAL]
    heap: Any  # [slots], ranked keys
    free: Any  # [slots], free slots


class Routing(NamedTuple):
    """Demand and proposals of the events from `begins` on.

    `window` is the number of keys that the oracle proposes, 0 for predictions.
    """

    begins: int
    offsets: Any
    keys: Any
    tokens: Any
    next_use: Any
    proposed: Any
    proposed_offsets: Any
    window: int
    backlog: int
    keep: bool


def _walk(sources: tuple[float, ...]) -> Any:
    """The loop. Its cache knows this file only, so `sources` says what it was made from."""

    @kernel
    def walk(
        books: Any, routing: Any, rule: Any, first_event: int, last_event: int, scratch: Any, uses: Any, loads: Any
    ) -> None:
        """Make the decisions of some events; fill in `uses`, [8, uses], and the loads of this call, [7, rows]."""
        sources  # noqa: B018
        members, counts, future, seen, choices = scratch[0], scratch[1], scratch[2], scratch[3], scratch[4]
        totals = books.of[-1]
        totals[FIRST] = totals[LOADS]
        for event in range(first_event, last_event):
            layer, at = event % books.layers, event - routing.begins
            first, end = routing.offsets[at], routing.offsets[at + 1]
            proposed = routing.proposed[routing.proposed_offsets[at] : routing.proposed_offsets[at + 1]]
            if routing.window > 0:
                proposed = future[: _needed_next(routing, end, seen, event, future)]
            if books.eviction >= BELADY:
                for place in range(first, end):
                    books.real[routing.keys[place], KNOWN] = routing.next_use[place]
            pool, keys, tokens = _pool(books, layer), routing.keys[first:end], routing.tokens[first:end]
            if rule.shares:
                misses.choose(rule, layer, keys, tokens, books.of[:, SLOT], choices, members)
                first = _use_elsewhere(event, keys, tokens, choices, uses, first)
            shared, count = rule.shares, end - first
            first_wave = _in_waves(books, pool, keys, tokens, choices, shared, count, members, counts)
            _use(books, routing, pool, event, members[:count], first_wave, counts, loads, uses, first)
            if shared or len(proposed):
                _load_ahead(books, routing, rule.in_ram, event, keys, choices, shared, proposed, loads)
            if not routing.keep:
                _give_up(books, layer, proposed)

    return walk


walk = _walk((Path(misses.__file__).stat().st_mtime,))


@kernel
def fill(books: Any, residents: Any, keep: bool) -> None:
    """Take note of what is resident from the start."""
    for key in residents:
        _insert(books, key, -1)
        if not keep:
            _arrive(books, key)


@inlined
def _needed_next(routing: Any, place: int, seen: Any, event: int, future: Any) -> int:
    """The next distinct keys from a place in the demand on, in the order in which they are needed."""
    found = 0
    while found < routing.window and place < len(routing.keys) and found < len(future):
        key = routing.keys[place]
        place += 1
        if seen[key] != event:
            seen[key] = event
            future[found] = key
            found += 1
    return found


@inlined
def _use_elsewhere(event: int, keys: Any, tokens: Any, choices: Any, uses: Any, row: int) -> int:
    """Write down the uses that no slot serves; returns the row of the next use."""
    for place in range(len(keys)):
        if choices[place] != LOAD:
            uses[0, row], uses[1, row], uses[2, row], uses[3, row] = event, keys[place], tokens[place], NONE
            uses[4, row], uses[5, row], uses[6, row], uses[7, row] = NONE, False, 0, CPU
            row += 1
    return row


@inlined
def _in_waves(
    books: Any, pool: int, keys: Any, tokens: Any, choices: Any, shared: bool, count: int, members: Any, counts: Any
) -> Any:
    """The demand of slots in the order of its waves: if it does not fit, keys that never leave, then resident ones.

    Returns the size of the first wave.
    """
    place, first_wave, fits = 0, books.of[pool, CAPACITY], count <= books.of[pool, CAPACITY]
    for turn in range(1 if fits else 3):
        for number in range(len(keys)):
            key = keys[number]
            late = 2 if books.of[key, SLOT] == NONE else 1 - books.of[key, FIXED]
            if (fits or late == turn) and not (shared and choices[number] != LOAD):
                members[place], counts[place] = key, tokens[number]
                place += 1
        if turn == 0 and not fits:
            first_wave += place
    return first_wave


@inlined
def _use(
    books: Any,
    routing: Any,
    pool: int,
    event: int,
    members: Any,
    first_wave: int,
    counts: Any,
    loads: Any,
    uses: Any,
    row: int,
) -> None:
    of, totals = books.of, books.of[-1]
    loads_before, start, wave = totals[LOADS], 0, 0
    while start < len(members):
        end = min(start + (max(1, of[pool, CAPACITY]) if wave else first_wave), len(members))
        missing = False
        for place in range(start, end):
            missing |= of[members[place], SLOT] == NONE
        if missing:
            totals[PINS] += 1
            for place in range(start, end):
                of[members[place], PINNED] = totals[PINS]
            for place in range(start, end):
                if of[members[place], SLOT] == NONE:
                    _bring(books, routing, pool, event, members[place], True, wave, False, loads)
        for place in range(start, end):
            key = members[place]
            if not of[key, FIXED]:
                _used(books, pool, key, event, of[key, UNUSED] == 0)
            totals[WAITING] -= of[key, UNUSED]
            of[key, UNUSED] = 0
            load = of[key, LOADED]
            uses[0, row], uses[1, row], uses[2, row], uses[3, row] = event, key, counts[place], of[key, SLOT]
            uses[4, row], uses[5, row], uses[6, row], uses[7, row] = load, load < loads_before, wave, GPU
            row += 1
        start, wave = end, wave + 1


@inlined
def _load_ahead(
    books: Any, routing: Any, in_ram: Any, event: int, keys: Any, choices: Any, later: bool, proposed: Any, loads: Any
) -> None:
    """Load what the CPU computed and is kept (`later`), then prefetch."""
    of, totals = books.of, books.of[-1]
    totals[PINS] += 1
    for key in keys:
        of[key, PINNED] = totals[PINS]
    asked = len(keys) if later else 0
    for place in range(asked + len(proposed)):
        if place == asked:
            for key in proposed:
                of[key, PINNED] = totals[PINS]
        key = keys[place] if place < asked else proposed[place - asked]
        if place < asked:
            wanted = choices[place] == COMPUTE_AND_LOAD
        elif totals[WAITING] < routing.backlog:
            wanted = of[key, SLOT] == NONE and not in_ram[key // books.experts]
        else:
            return
        if wanted:
            pool = _pool(books, key // books.experts)
            _bring(books, routing, pool, event, key, False, 0, place < asked, loads)


@inlined
def _bring(
    books: Any, routing: Any, pool: int, event: int, key: int, demand: bool, wave: int, later: bool, loads: Any
) -> None:
    """Load a key; one that nobody waits for is dropped if it may not take any slot."""
    of, totals = books.of, books.of[-1]
    evicted = NONE
    if not of[pool, FREE]:
        victim = _victim(books, pool, key, event)
        if not demand and (victim == NONE or not _may_replace(books, victim, key)):
            return
        evicted = victim
        _evict(books, pool, victim, routing.keep)
    of[pool, FREE] -= 1
    slot = of[key, SLOT] = books.free[of[pool, START] + of[pool, FREE]]
    load = of[key, LOADED] = totals[LOADS]
    row = load - totals[FIRST]
    loads[0, row], loads[1, row], loads[2, row], loads[3, row] = event, key, slot, evicted
    loads[4, row], loads[5, row], loads[6, row] = demand, wave, later
    totals[LOADS] += 1
    of[key, UNUSED] = 1
    totals[WAITING] += 1
    _insert(books, key, event)
    if not routing.keep:
        _arrive(books, key)


@inlined
def _evict(books: Any, pool: int, key: int, keep: bool) -> None:
    of = books.of
    _remove(books, pool, key)
    books.free[of[pool, START] + of[pool, FREE]] = of[key, SLOT]
    of[pool, FREE] += 1
    books.of[-1][WAITING] -= of[key, UNUSED]
    of[key, SLOT] = of[key, LOADED] = NONE
    of[key, UNUSED] = 0
    if not keep:
        _unlink(of, books.arrivals + key)


@inlined
def _give_up(books: Any, layer: int, proposed: Any) -> None:
    """Empty the slots of a layer that has run, except those of proposed experts."""
    of, totals = books.of, books.of[-1]
    totals[PINS] += 1
    for key in proposed:
        of[key, PINNED] = totals[PINS]
    head = books.arrivals + books.layers * books.experts + layer
    row = of[head, YOUNGER]
    while row != head:
        key, row = row - books.arrivals, of[row, YOUNGER]
        if of[key, PINNED] != totals[PINS]:
            _evict(books, _pool(books, layer), key, False)


@inlined
def _arrive(books: Any, key: int) -> None:
    keys = books.layers * books.experts
    _append(books.of, books.arrivals + keys + key // books.experts, books.arrivals + key)


@inlined
def _pool(books: Any, layer: int) -> Any:
    return books.first_pool + books.per_layer * layer


# Evictions: each function is that method of all of them.


@helper
def _insert(books: Any, key: int, event: int) -> None:
    eviction, of, pool = books.eviction, books.of, _pool(books, key // books.experts)
    head = of[pool, HEAD]
    if eviction >= FIRST_RANKED:
        if eviction == LFU:
            of[key, COUNT] = 1
        _place(books, pool, key)
    elif eviction == ARC:
        books.real[pool, SHARE] = _adapted(books, pool, key)
        to = head if of[key, LIST] == NONE else head + 1
        if to != head:
            _unlink(of, key)
        _append(of, to, key)
        if of[head, COUNT] + of[head + 2, COUNT] > of[pool, CAPACITY]:
            _unlink(of, of[head + 2, YOUNGER])
        resident, remembered = of[head, COUNT] + of[head + 1, COUNT], of[head + 2, COUNT] + of[head + 3, COUNT]
        if resident + remembered > 2 * of[pool, CAPACITY]:
            _unlink(of, of[head + 3, YOUNGER])
        of[pool, B1_BEFORE], of[pool, B2_BEFORE] = of[head + 2, COUNT], of[head + 3, COUNT]
    elif eviction == S3FIFO:
        to = head if of[key, LIST] == NONE else head + 1
        if to != head:
            _unlink(of, key)
        _append(of, to, key)
        of[key, COUNT] = 0
    elif eviction == SIEVE:
        _append(of, head + 1, key)
    elif eviction == LEAST_STALE:
        _append(of, head + key // books.experts, key)
        of[key, COUNT] = event // books.layers + (key // books.experts < event % books.layers)
    else:
        _append(of, head, key)
        of[key, COUNT], of[key, TIE] = 1, event


@helper
def _used(books: Any, pool: int, key: int, event: int, again: bool) -> None:
    eviction, of = books.eviction, books.of
    head, inside = of[pool, HEAD], of[key, LIST]
    if eviction == LRU:
        _unlink(of, key)
        _append(of, head, key)
    elif eviction == LFRU:
        _unlink(of, key)
        _append(of, head, key)
        of[key, COUNT] += again
        of[key, TIE] = event
    elif eviction == SLRU:
        _unlink(of, key)
        _append(of, head + again, key)
        if of[head + 1, COUNT] > of[pool, ROOM]:
            oldest = of[head + 1, YOUNGER]
            _unlink(of, oldest)
            _append(of, head, oldest)
    elif eviction == ARC:
        _unlink(of, key)
        _append(of, head + 1 if again else inside, key)
    elif eviction == SIEVE:
        of[key, COUNT] |= again
    elif eviction == S3FIFO:
        of[key, COUNT] = min(of[key, COUNT] + again, MOST_USES)
    elif eviction == LEAST_STALE:
        of[key, COUNT] = event // books.layers
    elif eviction == LFU_DECAYED:
        now = event / books.real[-1, HALF_LIFE]
        books.real[key, KNOWN] = now + math.log2(1.0 + books.real[-1, BASE] ** (books.real[key, KNOWN] - now))
        _place(books, pool, key)
    elif eviction >= FIRST_RANKED and eviction != STATIC:
        of[key, COUNT] += again or eviction == LFU_PERFECT
        _place(books, pool, key)
        if eviction == BELADY_BYPASS:
            if of[pool, GIVEN_UP] == key:
                of[pool, GIVEN_UP] = NONE
            if of[pool, GIVEN_UP] == NONE and of[pool, RANKED] == of[pool, CAPACITY]:
                of[pool, GIVEN_UP] = books.heap[of[pool, START]]


@helper
def _remove(books: Any, pool: int, key: int) -> None:
    eviction, of = books.eviction, books.of
    head, inside = of[pool, HEAD], of[key, LIST]
    if eviction >= FIRST_RANKED:
        _drop(books, pool, key)
        if of[pool, GIVEN_UP] == key:
            of[pool, GIVEN_UP] = NONE
    elif eviction == ARC:
        _unlink(of, key)
        _append(of, inside + 2, key)
    elif eviction == SIEVE:
        _move_hand_past(of, head, key)
    elif eviction == S3FIFO:
        if of[head, COUNT] >= of[pool, ROOM]:
            _promote_until(of, head, key)
        if of[key, LIST] == head:
            _unlink(of, key)
            _append(of, head + 2, key)
            if of[head + 2, COUNT] > of[pool, GHOSTS]:
                _unlink(of, of[head + 2, YOUNGER])
        else:
            _turn_to(of, head + 1, key)
            _unlink(of, key)
    else:
        _unlink(of, key)


@helper
def _victim(books: Any, pool: int, key: int, event: int) -> int:
    """The resident key to evict first for `key` among those not pinned; NONE if all are pinned."""
    eviction, of, pins = books.eviction, books.of, books.of[-1, PINS]
    head = of[pool, HEAD]
    if eviction >= FIRST_RANKED:
        given_up = of[pool, GIVEN_UP]
        return given_up if given_up != NONE and of[given_up, PINNED] != pins else _lowest(books, pool, pins)
    if eviction == LFRU:
        return _smallest_ratio(of, head, pins, event + books.layers)
    if eviction == LEAST_STALE:
        return _first_stale(books, head, pins, event)
    if eviction == S3FIFO:
        return _first_on_trial(of, head, of[pool, ROOM], pins)
    if eviction == SIEVE:
        found = _first(of, head + 1, pins, 0, 0)
        found = _first(of, head, pins, 0, 0) if found == NONE else found
        found = _first(of, head + 1, pins, 0, 1) if found == NONE else found
        return _first(of, head, pins, 0, 1) if found == NONE else found
    first, second = head, head + 1
    if eviction == ARC:
        excess = of[head, COUNT] - _adapted(books, pool, key)
        if excess < 0 or (excess == 0 and of[key, LIST] != head + 3):
            first, second = second, first
    found = _first_unpinned(of, first, pins)
    return _first_unpinned(of, second, pins) if found == NONE and eviction in (SLRU, ARC) else found


@inlined
def _may_replace(books: Any, victim: int, key: int) -> Any:
    return books.eviction < BELADY or books.real[victim, KNOWN] > books.real[key, KNOWN]


@inlined
def _adapted(books: Any, pool: int, key: int) -> Any:
    """The share of T1 that a load of this key leads to (arc)."""
    head, p = books.of[pool, HEAD], books.real[pool, SHARE]
    b1, b2 = books.of[pool, B1_BEFORE], books.of[pool, B2_BEFORE]
    if books.of[key, LIST] == head + 2:
        return min(float(books.of[pool, CAPACITY]), p + max(1.0, b2 / max(1, b1)))
    if books.of[key, LIST] == head + 3:
        return max(0.0, p - max(1.0, b1 / max(1, b2)))
    return p


@inlined
def _move_hand_past(of: Any, passed: int, key: int) -> None:
    """Sieve: the keys before it are spared once."""
    ahead = passed + 1
    if of[key, COUNT]:  # all were visited, and the hand went round once
        _forget_visits(of, passed)
        _forget_visits(of, ahead)
    if of[key, LIST] == passed:
        _forget_visits(of, ahead)
        while of[ahead, COUNT]:
            _shift(of, ahead, passed)
        while of[passed, COUNT]:
            _shift(of, passed, ahead)
    while of[ahead, YOUNGER] != key:
        of[of[ahead, YOUNGER], COUNT] = 0
        _shift(of, ahead, passed)
    of[key, COUNT] = 0
    _unlink(of, key)
    if not of[ahead, COUNT]:
        while of[passed, COUNT]:
            _shift(of, passed, ahead)


@inlined
def _forget_visits(of: Any, head: int) -> None:
    key = of[head, YOUNGER]
    while key != head:
        of[key, COUNT] = 0
        key = of[key, YOUNGER]


@inlined
def _promote_until(of: Any, small: int, key: int) -> None:
    other = of[small, YOUNGER]
    while other != small:
        following = of[other, YOUNGER]
        if other == key and of[other, COUNT] < 2:
            return
        if of[other, COUNT] > 1:
            _unlink(of, other)
            _append(of, small + 1, other)
            of[other, COUNT] = 0
        other = following


@inlined
def _turn_to(of: Any, main: int, key: int) -> None:
    """Take one use from each key before it, and as many from all as full turns it took to find it unused."""
    turns = of[key, COUNT]
    other = of[main, YOUNGER]
    while turns and other != main:
        of[other, COUNT] = max(0, of[other, COUNT] - turns)
        other = of[other, YOUNGER]
    while of[main, YOUNGER] != key:
        other = of[main, YOUNGER]
        _shift(of, main, main)
        of[other, COUNT] = max(0, of[other, COUNT] - 1)


@inlined
def _first_on_trial(of: Any, small: int, room: int, pins: int) -> int:
    """S3-FIFO: the first that failed its trial if the small queue is full, else the main queue's next."""
    over = of[small, COUNT] >= room
    found = _first(of, small, pins, 0, 1) if over else NONE
    for uses in range(MOST_USES + 1):
        found = _first(of, small + 1, pins, uses, uses) if found == NONE else found
        if found == NONE and over and uses == 0:
            found = _first(of, small, pins, 2, MOST_USES)
    return _first_unpinned(of, small, pins) if found == NONE else found


@inlined
def _smallest_ratio(of: Any, head: int, pins: int, now: int) -> int:
    """LFRU: the fewest uses for its age."""
    found, least = NONE, math.inf
    key = of[head, YOUNGER]
    while key != head:
        if of[key, PINNED] != pins:
            ratio = of[key, COUNT] / (now - of[key, TIE])
            if ratio < least:
                found, least = key, ratio
        key = of[key, YOUNGER]
    return found


@inlined
def _first_stale(books: Any, head: int, pins: int, event: int) -> int:
    """Least-Stale: the layer furthest ahead first; this pass's only once none is stale."""
    step, layer = event // books.layers, event % books.layers
    for last in (step - 1, step + 1):
        for back in range(books.layers):
            found = _first(books.of, head + (layer - back) % books.layers, pins, -1, last)
            if found != NONE:
                return found
    return NONE


# Lists and heaps of keys


@helper
def _append(of: Any, head: int, key: int) -> None:
    newest = of[head, OLDER]
    of[newest, YOUNGER] = of[head, OLDER] = key
    of[key, OLDER], of[key, YOUNGER], of[key, LIST] = newest, head, head
    of[head, COUNT] += 1


@helper
def _unlink(of: Any, key: int) -> None:
    older, younger = of[key, OLDER], of[key, YOUNGER]
    of[older, YOUNGER], of[younger, OLDER] = younger, older
    of[of[key, LIST], COUNT] -= 1
    of[key, LIST] = NONE


@helper
def _shift(of: Any, head: int, to: int) -> None:
    """Move the oldest key of a list to the end of another."""
    key = of[head, YOUNGER]
    _unlink(of, key)
    _append(of, to, key)


@helper
def _first_unpinned(of: Any, head: int, pins: int) -> int:
    key = of[head, YOUNGER]
    while key != head and of[key, PINNED] == pins:
        key = of[key, YOUNGER]
    return NONE if key == head else key


@helper
def _first(of: Any, head: int, pins: int, least: int, most: int) -> int:
    """The first key that is not pinned and whose count is `least` to `most`."""
    key = of[head, YOUNGER]
    while key != head and (of[key, PINNED] == pins or not least <= of[key, COUNT] <= most):
        key = of[key, YOUNGER]
    return NONE if key == head else key


@helper
def _place(books: Any, pool: int, key: int) -> None:
    """Give a key its rank, be it new or resident."""
    eviction, of, heap = books.eviction, books.of, books.heap
    if eviction <= LFU_PERFECT:
        of[key, TIE] = of[pool, CLOCK]
        of[pool, CLOCK] += 1
    rank = -books.real[key, KNOWN] if eviction >= BELADY else books.real[key, KNOWN]
    books.real[key, RANK] = of[key, COUNT] if eviction <= LFU_PERFECT else rank
    if of[key, PLACE] == NONE:
        of[key, PLACE] = of[pool, RANKED]
        heap[of[pool, START] + of[pool, RANKED]] = key
        of[pool, RANKED] += 1
    _sift(books, pool, of[key, PLACE])


@helper
def _drop(books: Any, pool: int, key: int) -> None:
    of, heap, start = books.of, books.heap, books.of[pool, START]
    place = of[key, PLACE]
    of[key, PLACE] = NONE
    of[pool, RANKED] -= 1
    last = heap[start + of[pool, RANKED]]
    if last != key:
        heap[start + place] = last
        of[last, PLACE] = place
        _sift(books, pool, place)


@helper
def _lowest(books: Any, pool: int, pins: int) -> int:
    """The lowest key that is not pinned; pinned ones leave the heap and come back."""
    of, heap, start = books.of, books.heap, books.of[pool, START]
    everything = of[pool, RANKED]
    while of[pool, RANKED] and of[heap[start], PINNED] == pins:
        key = heap[start]
        _drop(books, pool, key)
        heap[start + of[pool, RANKED]] = key
    found = heap[start] if of[pool, RANKED] else NONE
    while of[pool, RANKED] < everything:
        place = of[pool, RANKED]
        of[heap[start + place], PLACE] = place
        of[pool, RANKED] += 1
        _sift(books, pool, place)
    return found


@helper
def _sift(books: Any, pool: int, place: int) -> None:
    """Move a key of the heap to where its rank belongs."""
    of, heap, start, count = books.of, books.heap, books.of[pool, START], books.of[pool, RANKED]
    key = heap[start + place]
    while place and _before(books, key, heap[start + (place - 1) // 2]):
        heap[start + place] = heap[start + (place - 1) // 2]
        of[heap[start + place], PLACE] = place
        place = (place - 1) // 2
    while 2 * place + 1 < count:
        child = 2 * place + 1
        if child + 1 < count and _before(books, heap[start + child + 1], heap[start + child]):
            child += 1
        if not _before(books, heap[start + child], key):
            break
        heap[start + place] = heap[start + child]
        of[heap[start + place], PLACE] = place
        place = child
    heap[start + place] = key
    of[key, PLACE] = place


@inlined
def _before(books: Any, key: int, other: int) -> bool:
    if books.real[key, RANK] != books.real[other, RANK]:
        return bool(books.real[key, RANK] < books.real[other, RANK])
    if books.of[key, TIE] != books.of[other, TIE]:
        return bool(books.of[key, TIE] < books.of[other, TIE])
    return key < other
