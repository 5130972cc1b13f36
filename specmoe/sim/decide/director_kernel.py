"""The director's kernel: its loop compiled by numba, with the evictions and miss rules that it knows.

Read it beside `director.py`: names and the order of steps are its. Everything is compiled as one function at its first
call and kept on disk until one of `SOURCES` changes. Import this module only where it is used, since it needs numba.
"""

from typing import Any, NamedTuple

from specmoe.sim.decide import books_kernel, miss, table
from specmoe.sim.decide import eviction_kernel as evictions
from specmoe.sim.decide import miss_kernel as misses
from specmoe.sim.decide.books_kernel import (
    CAPACITY,
    FIRST,
    FIXED,
    FREE,
    KNOWN,
    LOADED,
    LOADS,
    NONE,
    PINNED,
    PINS,
    SLOT,
    START,
    UNUSED,
    WAITING,
    YOUNGER,
    append,
    pool_of,
    unlink,
)
from specmoe.sim.decide.miss import COMPUTE_AND_LOAD, LOAD
from specmoe.sim.decide.table import CPU, GPU
from specmoe.sim.kernels import inlined, jit, version_of

SOURCES = (books_kernel, evictions, misses, miss, table)
# Arrays are not counted, as that costs more than anything else here.
kernel = jit(cache=True, nogil=True, _nrt=False)


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


def _walk(version: int) -> Any:
    @kernel
    def walk(
        books: Any, routing: Any, rule: Any, first_event: int, last_event: int, scratch: Any, uses: Any, loads: Any
    ) -> None:
        """Make the decisions of some events; fill in `uses`, [8, uses], and the loads of this call, [7, rows]."""
        version  # noqa: B018
        members, counts, future, seen, choices = scratch[0], scratch[1], scratch[2], scratch[3], scratch[4]
        totals = books.of[-1]
        totals[FIRST] = totals[LOADS]
        for event in range(first_event, last_event):
            layer, at = event % books.layers, event - routing.begins
            first, end = routing.offsets[at], routing.offsets[at + 1]
            proposed = routing.proposed[routing.proposed_offsets[at] : routing.proposed_offsets[at + 1]]
            if routing.window > 0:
                proposed = future[: _needed_next(routing, end, seen, event, future)]
            if books.eviction >= evictions.BELADY:
                for place in range(first, end):
                    books.real[routing.keys[place], KNOWN] = routing.next_use[place]
            pool, keys, tokens = pool_of(books, layer), routing.keys[first:end], routing.tokens[first:end]
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


def _fill(version: int) -> Any:
    @kernel
    def fill(books: Any, residents: Any, keep: bool) -> None:
        """Take note of what is resident from the start."""
        version  # noqa: B018
        for key in residents:
            evictions.insert(books, key, -1)
            if not keep:
                _arrive(books, key)

    return fill


walk, fill = _walk(version_of(SOURCES)), _fill(version_of(SOURCES))


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
                evictions.used(books, pool, key, event, of[key, UNUSED] == 0)
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
            pool = pool_of(books, key // books.experts)
            _bring(books, routing, pool, event, key, False, 0, place < asked, loads)


@inlined
def _bring(
    books: Any, routing: Any, pool: int, event: int, key: int, demand: bool, wave: int, later: bool, loads: Any
) -> None:
    """Load a key; one that nobody waits for is dropped if it may not take any slot."""
    of, totals = books.of, books.of[-1]
    evicted = NONE
    if not of[pool, FREE]:
        victim = evictions.victim(books, pool, key, event)
        if not demand and (victim == NONE or not evictions.may_replace(books, victim, key)):
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
    evictions.insert(books, key, event)
    if not routing.keep:
        _arrive(books, key)


@inlined
def _evict(books: Any, pool: int, key: int, keep: bool) -> None:
    of = books.of
    evictions.remove(books, pool, key)
    books.free[of[pool, START] + of[pool, FREE]] = of[key, SLOT]
    of[pool, FREE] += 1
    books.of[-1][WAITING] -= of[key, UNUSED]
    of[key, SLOT] = of[key, LOADED] = NONE
    of[key, UNUSED] = 0
    if not keep:
        unlink(of, books.arrivals + key)


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
            _evict(books, pool_of(books, layer), key, False)


@inlined
def _arrive(books: Any, key: int) -> None:
    keys = books.layers * books.experts
    append(books.of, books.arrivals + keys + key // books.experts, books.arrivals + key)
